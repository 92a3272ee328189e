"""The frame every listening protocol shares: bytes in, events out, one buffer made at start.

A listener hears a meter that talks by itself. Its driver does only this, whatever the protocol:

    taken = listener.feed(chunk, start, end)      # copies what there is room for, needs no memory
    while (event := listener.next_event()):       # NOTHING: feed on
        TELEGRAM -> walk listener.readings() before the next call
        REJECTED -> listener.reason, listener.detail, listener.offset say what and where

"Incomplete" is NOTHING and "wrong" is REJECTED: two different answers. One call of next_event() judges at most one
candidate, so that the driver can yield between two of them however many the noise pretends.
A protocol module names its class LISTENER, and sets NAME, LINES (the line settings meters use), SOURCE and REASONS.
"""

from metering.compat import const, copy_bytes
from metering.line import LISTEN, SWITCH

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from metering.line import Line
    from metering.reading import Reading

NOTHING = const(0)
TELEGRAM = const(1)
REJECTED = const(2)

SEC_INDEX = const(1)  # kinds of a telegram's time: seconds of operation,
TIMESTAMP = const(2)  # seconds since 1970 UTC,
LOCAL_TIMESTAMP = const(3)  # the same, sent with its offset from local time

_POSITION_MASK = const(0x3FFFFFFF)  # stream positions stay small ints; they wrap after 1 GiB, 12 days at 9600 baud


class Listener:
    """The buffer and the counters; a protocol adds `_judge`, `readings` and `meter_id`.

    Of the telegram in hand: `n_values` how many readings it has (0: an attention message), `time_kind` and `time_value`
    of the meter's clock or None, `pin_needed` True where the meter sends only whole kWh and no power, as many do until
    their PIN is entered.
    """

    NAME = ""
    LINES: tuple = ()
    SOURCE = ""
    REASONS: "tuple[str, ...]" = ()
    proven = True  # had the telegram in hand, or the one refused for want of a key, a check that held?
    vouched = True  # is there a check of all its values, or a telegram of the same form before it?
    sealed = True  # do a check of 16 bits, a tag, or a block check and parity cover the telegram in hand?
    names_model_only = False  # is meter_id() all meters' of this model, as no register tells a number?
    name_may_follow = False  # may a telegram without an id be followed by one of the same meter with it?
    takes_keys = False  # True: it has set_keys(key, auth_key), 16 bytes each or None
    keeps_counters = False  # True: and invocation counters that outlive a restart
    needs_check = False  # the driver sets True where a telegram without a check must be refused
    LARGE_BUFFER = 0  # bytes that hold the longest telegram with everything in it; 0: the usual buffer does

    def __init__(self, size):
        """Makes the one buffer of `size` bytes; nothing is allocated per byte afterwards."""
        self._buf = bytearray(size)
        self._view = memoryview(self._buf)
        self._n = 0  # bytes held
        self._used = 0  # bytes of the last event, given up at the next call
        self._position = 0  # of _buf[0] in the stream
        self._ended = False
        self.line = None  # the line to listen on, None: the first of LINES
        self.advice = ""  # a sentence for the owner about what was refused last, "" where there is nothing to do
        self.history = False  # are the values of past billing periods wanted too?
        self.values_dropped = 0  # values past what the buffer holds
        self.accepted = 0
        self.recognised = 0  # the same and what was recognised but cannot be read for want of a key
        self.rejected = dict.fromkeys(self.REASONS, 0)
        self.skipped = 0  # bytes outside any candidate, modulo 2**30
        self.reason = ""
        self.detail = ""
        self.offset = 0  # where the last telegram or the last rejected candidate began in the stream
        self._reset_telegram()

    def _reset_telegram(self):
        self.n_values = 0
        self.time_kind = self.time_value = None
        self.pin_needed = False

    def feed(self, data, start, end):
        """Take data[start:end], as much as there is room for; returns how many were taken. Needs no memory.

        After next_event() said NOTHING there is always room for at least one byte.
        """
        self._release()
        n = min(end - start, len(self._buf) - self._n)
        copy_bytes(self._buf, self._n, data, start, n)
        self._n += n
        return n

    def on_idle(self):
        """Nothing has come for a while, longer than the pauses inside a telegram."""

    def finish(self):
        """The stream has ended (a file, a lost line): what is still open is judged as cut off."""
        self._ended = True

    def next_event(self):
        """NOTHING, TELEGRAM or REJECTED. Call again until NOTHING. Never raises, whatever the bytes were."""
        self._release()
        return self._judge()

    def _judge(self) -> int:
        """Look at what is held: NOTHING, or the end of one candidate by _accept() or _reject()."""
        raise NotImplementedError

    def readings(self) -> "Iterator[Reading]":
        """Yields a Reading for each value of the telegram in hand, in the order sent, until the next feed or event."""
        raise NotImplementedError

    def published_readings(self) -> "Iterator[Reading]":
        """What readings() yields, and what follows from several of them where the meter sends no register for it."""
        return self.readings()

    def meter_id(self) -> str:
        """The text that names the meter of the telegram in hand, "" where it does not say."""
        raise NotImplementedError

    def printed_id(self) -> str:
        """The number printed on the meter, "" where the telegram in hand does not tell it."""
        return self.meter_id()

    def assumed_energy_factor(self) -> int:
        """Wh that a count of an energy is worth where a rule says so, which may be wrong; 0: the meter says so."""
        return 0

    def maker(self) -> str:
        """Who made the meter of the telegram in hand, "" where nothing but a register may say so."""
        return ""

    def model(self) -> str:
        """What its maker calls the meter, "" where it does not say."""
        return ""

    def abandon(self):
        """Forget the telegram that is being gathered: the driver knows that its rest will not come."""

    def identity_for_proof(self) -> object:
        """What names the meter of the event in hand, None where it says nothing. Where `proven` is False, the same
        identity twice in a row is what detection takes for a proof; it may be any value that compares by ==."""
        return self.meter_id() if self.n_values else None

    def is_reply(self, line):
        """Is the telegram in hand, received on `line` (metering.line.Line), an answer to another reader's question?"""
        return False

    def line_as_sent(self, line) -> "Line | None":
        """The Line that the meter sends with, where the telegram in hand was received on `line`. None: the listener
        cannot tell better than the line it was received on."""
        return None

    def run(self) -> "Generator[tuple, int | None, None]":
        """Generator of line actions (metering.line) for a meter that talks by itself."""
        yield SWITCH, self.line or self.LINES[0]
        while True:
            yield LISTEN, self, None, None

    def _release(self):
        if self._used:
            used = self._used
            self._used = 0
            self._drop(used)

    def _drop(self, n):
        """Give up the first n bytes held."""
        self._n -= n
        self._position = (self._position + n) & _POSITION_MASK
        copy_bytes(self._buf, 0, self._buf, n, self._n)

    def _skip_noise(self, n):
        """Give up n bytes that belong to no candidate."""
        self.skipped = (self.skipped + n) & _POSITION_MASK
        self._drop(n)

    def _reject(self, reason, detail, used):
        """Count a candidate that failed; its first `used` bytes are given up, the rest is looked at again."""
        self.reason = reason
        self.detail = detail
        self.offset = self._position
        self.rejected[reason] += 1
        self._used = used
        return REJECTED

    def _accept(self, used):
        self.offset = self._position
        self.accepted += 1
        self.recognised += 1
        self._used = used
        return TELEGRAM
