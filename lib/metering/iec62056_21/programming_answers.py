"""Messages of programming mode, to a meter that has signed on: a command, and the answer that holds its check.

Source: IEC 62056-21:2002, 6.4 (messages). Everything that yields is a generator of line actions (metering.line). No
write command exists here. Apart from metering.iec62056_21.exchange, as most meters are asked for their block alone.
"""

from metering.characters import without_parity
from metering.compat import const
from metering.iec62056_21.exchange import ANSWER_MS, GAP_MS, HEARD_OUT_MS
from metering.line import EXPECT, SEND

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.iec62056_21.exchange import Exchange

_SOH = const(0x01)
_STX = const(0x02)
_ETX = const(0x03)
_EOT = const(0x04)
_ACK = const(0x06)
_NAK = const(0x15)
_REPEATS = const(2)  # NAKs for one answer


def block_check(data):
    """BCC: the exclusive or of all bytes of `data`, which begins behind SOH or STX and ends with ETX or EOT."""
    bcc = 0
    for byte in data:
        bcc ^= byte
    return bcc


def command(code, operand):
    """The message SOH `code` STX `operand` ETX BCC; both are bytes."""
    body = code + b"\x02" + operand + b"\x03"
    return b"\x01" + body + bytes((block_check(body),))


def frame_end(buffer, n):
    """How many bytes an answer takes: ACK or NAK, or SOH or STX to the BCC; 0: not there yet. For EXPECT."""
    for i in range(n):
        first = buffer[i] & 0x7F
        if first in (_ACK, _NAK):
            return i + 1
        if first in (_SOH, _STX):
            for k in range(i + 1, n - 1):
                if buffer[k] & 0x7F in (_ETX, _EOT):
                    return k + 2
            return 0
    return 0


class Answers:
    """Hears a meter's answers over `exchange`. Of the last one: `heard`, has any byte come, `body` what it holds,
    `last` its last character, ETX or EOT.
    """

    def __init__(self, exchange: "Exchange"):
        self._exchange = exchange
        self.body = b""
        self.last = 0
        self.heard = False

    def answer(self):
        """Hear an answer; its first character (SOH, STX, ACK or NAK), 0 where there is none that holds its check."""
        answer = yield EXPECT, frame_end, ANSWER_MS, GAP_MS
        self.heard = bool(answer)
        end = frame_end(answer, len(answer))
        at = 0
        while at < end and answer[at] & 0x7F not in (_SOH, _STX, _ACK, _NAK):
            at += 1
        answer = answer[at:end]
        if self._exchange.parity:
            answer = without_parity(answer)
        if not answer or max(answer) > 0x7F:
            return 0
        self.body = b""
        if answer[0] in (_SOH, _STX):
            if block_check(answer[1:]):  # with its BCC in it, it is 0
                return 0
            self.body = answer[1:-2]
            self.last = answer[-2]
        return answer[0]

    def ask(self, message):
        """Send, and hear the answer; sent again where it came damaged, as a NAK may bring the answer before it.

        What comes late or twice is heard out: values without an address would be taken for the next register's.
        """
        exchange = self._exchange
        is_late = False  # was a question not answered in time?
        for _ in range(1 + _REPEATS):
            yield EXPECT, None, exchange.reaction_ms, exchange.reaction_ms
            yield SEND, message
            kind = yield from self.answer()
            if kind in (_STX, _SOH):
                if is_late:
                    yield EXPECT, None, ANSWER_MS + GAP_MS, HEARD_OUT_MS
                return kind
            is_late = is_late or not self.heard
            yield from exchange.hear_out()
        return 0

    def hear_answer(self):
        """As answer(); NAK brings it again where it was damaged."""
        for _ in range(_REPEATS):
            kind = yield from self.answer()
            if kind:
                return kind
            yield from self._exchange.say(b"\x15")
        return (yield from self.answer())
