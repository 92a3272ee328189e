"""What a DLMS meter has answered, value by value: one telegram for each time it was asked. Its bytes alone say nothing,
as an answer does not repeat which register was asked for: metering.dlms.asked_registers knows, and notes them here.
"""

from metering.compat import ascii_text, hex_text, signed
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.reading import Reading

# How asking fails; metering.dlms.client_words has a sentence for each.
REASONS = (
    "no answer", "no identification", "no mode E", "bad read-out", "association refused", "password refused",
    "bad data", "nothing readable",
)  # fmt: skip

_PADDING = b"\x00 "


class AskedValues(Listener):
    """Takes no telegram from bytes. begin(), then note() each value, then offer() makes them the next telegram."""

    NAME = "dlms-client"
    LINES = (Line(9600),)
    SOURCE = "IEC 62056-46 (HDLC), IEC 62056-5-3 (services), IEC 62056-6-2 (objects)"

    def __init__(self, size=16):
        Listener.__init__(self, size)
        self._values = []
        self._is_offered = False
        self._id = ""
        self.clock = b""  # the meter's, 12 bytes (Green Book, 4.1.6.1), b"" for none

    def feed(self, data, start, end):
        self.skipped = (self.skipped + end - start) & 0x3FFFFFFF
        return end - start

    def begin(self, number, sealed=True):
        """A meter is asked that says of itself that it is `number`, bytes; b"": it does not say."""
        self._values = []
        self._is_offered = False
        self.sealed = sealed
        self.clock = b""
        number = number.strip(_PADDING)
        self._id = ascii_text(number) or hex_text(number)

    def note(self, reading):
        self._values.append(reading)

    def offer(self):
        """What was noted is the next telegram; False where that is nothing."""
        self._is_offered = bool(self._values)
        return self._is_offered

    def _judge(self):
        if not self._is_offered:
            return NOTHING
        self._is_offered = False
        self.n_values = len(self._values)
        return self._accept(0)

    def readings(self):
        yield from self._values

    def published_readings(self):
        yield from self._values
        clock = self.clock
        if clock:
            text = "%02d%02d%02d%02d%02d%02d" % (
                (clock[0] << 8 | clock[1]) % 100, clock[2], clock[3], clock[5], clock[6], clock[7]
            )  # fmt: skip
            yield Reading(b"\x00\x00\x01\x00\x00\xff", text)

    def date_time(self):
        """(year, month, day, hour, minute, second, deviation) of the meter's clock; None where it has told none.

        Local time; UTC is it plus the deviation in minutes (None: not sent).
        """
        clock = self.clock
        if not clock:
            return None
        deviation = signed(clock[9] << 8 | clock[10], 16)
        if deviation == -0x8000:
            deviation = None
        return clock[0] << 8 | clock[1], clock[2], clock[3], clock[5], clock[6], clock[7], deviation

    def meter_id(self):
        return self._id if self.n_values else ""


LISTENER = AskedValues
