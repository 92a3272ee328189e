"""What a meter has told in ANSI C12.18: one telegram for each session. A table's bytes do not say which table they are
of: metering.c1218.c1218_poll knows, and puts the values in here.
"""

from metering.line import Line
from metering.listener import NOTHING, TIMESTAMP, Listener


class C1218Values(Listener):
    """Takes no telegram from bytes. begin(), then note() each value, then offer() makes them the next telegram."""

    NAME = "c1218"
    LINES = (Line(9600),)
    SOURCE = "ANSI C12.18-2006, ANSI C12.19-2008, a session of an NES 83334"

    def __init__(self, size=16):
        Listener.__init__(self, size)
        self._values = []
        self._is_offered = False
        self._id = ""
        self.clock = None  # of the meter, seconds since 1970 UTC

    def feed(self, data, start, end):
        self.skipped = (self.skipped + end - start) & 0x3FFFFFFF
        return end - start

    def begin(self, number):
        """A meter is asked that says of itself that it is `number`, "" where it does not say."""
        self._values = []
        self._is_offered = False
        self._id = number
        self.clock = None

    def name(self, number):
        """It says so in one of its tables, later than begin()."""
        self._id = number

    def note(self, reading):
        self._values.append(reading)

    def offer(self):
        """What was noted is the next telegram; False where that is nothing."""
        self._is_offered = bool(self._values)
        return self._is_offered

    def abandon(self):
        self.begin("")

    def _judge(self):
        if not self._is_offered:
            return NOTHING
        self._is_offered = False
        self.n_values = len(self._values)
        if self.clock is not None:
            self.time_kind, self.time_value = TIMESTAMP, self.clock
        return self._accept(0)

    def readings(self):
        yield from self._values

    def meter_id(self):
        return self._id if self.n_values else ""


LISTENER = C1218Values
