"""A search's knock for a meter that speaks KMP: its type is asked, and its answer's CRC must hold."""

from metering.compat import const
from metering.kmp import kmp_frame
from metering.line import EXPECT, SEND

LINE = (1200, None, 2)
ON_BATTERY = True
WAKES = False
ADVICE = SIGN_ON = ""

_QUESTION = b"\x80\x3f\x01\x05\x8a\x0d"
_ANSWER_MS = const(550)
_GAP_MS = const(120)


def knock(asking):
    """Generator of line actions: does somebody answer? As metering.protocols says."""
    yield SEND, _QUESTION
    answer = yield EXPECT, kmp_frame.answer_end, _ANSWER_MS, _GAP_MS
    at = answer.find(b"\x40")
    plain = kmp_frame.unstuffed(answer, at + 1, len(answer) - 1)
    return at >= 0 and plain[:2] == _QUESTION[1:3] and len(plain) > 4 and not kmp_frame.crc16_xmodem(plain)
