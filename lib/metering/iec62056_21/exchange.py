"""Asking a meter for its data block: signing on, changing the rate, sending. What follows in programming mode is
metering.iec62056_21.programming_answers', for the few meters that are read so.

Source: IEC 62056-21:2002, 6.3 (modes, times t_r and t_a), 6.4 (messages), annex B (wake-up). Everything that yields is
a generator of line actions (metering.line). No write command exists here.
"""

from metering.compat import const
from metering.iec62056_21.data_block import identification_end
from metering.line import EXPECT, SEND, SWITCH, WAIT, Line

_STX = const(0x02)

BREAK = b"\x01B0\x03q"

SIGN_ON = Line(300, 7, "E")
RATES = (300, 600, 1200, 2400, 4800, 9600, 19200)  # by the baud character 0 to 6, or from A on (600)
_HIGHEST = const(6)

ANSWER_MS = const(2300)  # t_r is 1,500 at the most, and the first character takes 33 at 300 baud; USB adds some
GAP_MS = const(1700)  # t_a, between two characters: 1,500 at the most
HEARD_OUT_MS = const(500)  # no meter met pauses that long inside a block
_SLICE_MS = const(100)
_LONGEST_MS = const(400000)  # a block of 9.5 KB takes 320 s at 300 baud
_REACTION_MS = const(230)  # before we answer: 200, or 20 where the maker's third letter is small
_QUICK_REACTION_MS = const(40)
_WAKE_UP = bytes(36)  # twice: 2.4 s of NUL at 300 baud
_WAKE_UP_PAUSE_MS = const(1600)
_JUNK = const(16)  # bytes before an STX: what a change of rate may leave on the line


def _whatever(buffer, n):
    """For EXPECT: what is there."""
    return n


class RateLimit:
    """The rate that is not exceeded, by what came of the rates before: indices of RATES."""

    def __init__(self):
        self.highest = _HIGHEST
        self._was_silent = False  # did the meter send nothing at all at the rate before?

    def rate_for(self, offered):
        return min(offered, self.highest)

    def lower(self, rate):
        """Something was damaged at `rate`: the next attempt one rate lower; from the lowest to the highest again."""
        self.highest = rate - 1 if rate else _HIGHEST

    def hear_nothing(self, rate):
        """Not a byte came at `rate`: one rate lower, and at 300 baud when that was silent too."""
        if self._was_silent:
            self.highest = 0
        else:
            self.lower(rate)
        self._was_silent = not self._was_silent


class Exchange:
    """Talks to one meter for whoever wants something of it; `listener` gets what is fed.

    Of the last sign-on: `identification` as received, from the / on, `parity`, `stx` as it is received, `rate` an index
    of RATES, `reaction_ms` how long it is left before it is answered.
    """

    def __init__(self, listener, address, wake_up):
        while len(address) > 1 and address[:1] == "0":  # 6.3.2: leading zeros are not sent
            address = address[1:]
        self._listener = listener
        self._request = b"/?" + address.encode() + b"!\r\n"
        self._wake_up = wake_up
        self.reaction_ms = _REACTION_MS
        self.limit = RateLimit()
        self.identification = b""
        self.stx = _STX
        self.parity = False
        self.rate = 0
        self.answers = False  # has the meter identified itself, and not been mute since?
        self.outcome = ""  # of the sign-on: a reason of poll's, "" when it was good

    def say(self, message):
        """Send `message` when the meter can hear us."""
        yield WAIT, self.reaction_ms
        yield SEND, message

    def sign_on(self, answer=b""):
        """Up to the identification line, in `answer` if it has come; the baud character, or -1 when it failed:
        `outcome`.
        """
        self.rate = 0
        if not answer:
            if self._wake_up:
                yield SWITCH, SIGN_ON
                yield SEND, _WAKE_UP
                yield SEND, _WAKE_UP
                yield WAIT, _WAKE_UP_PAUSE_MS
            yield SWITCH, SIGN_ON
            yield SEND, self._request
            # the / may be held back, as an echo's, until the character behind it has come
            answer = yield EXPECT, _identification_end, ANSWER_MS + GAP_MS, GAP_MS
        end = _identification_end(answer, len(answer))
        if not end:
            self.outcome = "no identification" if answer else "no answer"
            return -1
        at = max(answer.rfind(b"/", 0, end), answer.rfind(b"\xaf", 0, end))
        self.outcome = ""
        self.answers = True
        self.identification = answer[at:end]
        self.parity = answer[at] == 0xAF
        self.stx = _STX | 0x80 if self.parity else _STX
        self.reaction_ms = _QUICK_REACTION_MS if answer[at + 3] & 0x20 else _REACTION_MS
        return answer[at + 4] & 0x7F

    def acknowledge(self, offered, purpose):
        """ACK 0 Z Y at the old rate, and the change to rate Z (0 to 6), no higher than the limit."""
        self.rate = self.limit.rate_for(offered)
        yield WAIT, self.reaction_ms
        yield SEND, b"\x060%d%d\r\n" % (self.rate, purpose)
        if self.rate:  # a late acknowledge may have met the block: nothing of it is dropped
            yield SWITCH, Line(RATES[self.rate], 7, "E")

    def hear_out(self):
        """Until the meter is silent, but no longer than the longest block takes: noise may have no end."""
        silent_ms = 0
        for _ in range(_LONGEST_MS // _SLICE_MS * RATES[0] // RATES[self.rate] + _JUNK):
            yield WAIT, _SLICE_MS
            silent_ms = 0 if (yield EXPECT, _whatever, 0, 0) else silent_ms + _SLICE_MS
            if silent_ms >= HEARD_OUT_MS:
                return

    def block_start(self):
        """Hear what comes up to an STX, or some bytes that hold none."""
        return (yield EXPECT, self._stx_end, ANSWER_MS, GAP_MS)

    def _stx_end(self, buffer, n):
        for i in range(n):
            if buffer[i] == self.stx:
                return i + 1
        return n if n >= _JUNK else 0

    def feed(self, data):
        """Give `data` to the listener."""
        at = 0
        while at < len(data):
            taken = self._listener.feed(data, at, len(data))
            if not taken:  # a line without an end: its listener will say so
                return
            at += taken


def _identification_end(buffer, n):
    """For EXPECT: where an identification line ends, 0 for none yet."""
    for i in range(n):
        if buffer[i] in b"/\xaf":
            end = identification_end(buffer, i, n)
            if end > 0:
                return end
    return 0
