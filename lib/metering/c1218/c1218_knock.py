"""A search's knock for a meter that speaks ANSI C12.18: who are you? Its answer's CRC must hold; then it is let go."""

from metering.c1218 import psem_frame
from metering.compat import const
from metering.line import EXPECT, SEND, WAIT

LINE = (9600, None, 1)
ON_BATTERY = False
WAKES = False
ADVICE = (
    "it answers in ANSI C12.18, but %s. Your network operator gives user id and password (meter_address, "
    "meter_password)"
)
SIGN_ON = ""

_IDENT = b"\xee\x00\x00\x00\x00\x01\x20\x13\x10"
_TERMINATE = b"\xee\x00\x20\x00\x00\x01\x21\x0b\x61"  # a second IDENT would be the first one once more, to the meter
_ACK = b"\x06"
_LEAST_DATA = const(4)  # OK, standard, version, revision
_ANSWER_MS = const(550)
_GAP_MS = const(120)
_TURN_MS = const(25)


def knock(asking):
    """Generator of line actions: does somebody answer? As metering.protocols says."""
    answer = yield from _reply_to(_IDENT)
    least = psem_frame.HEAD_BYTES + _LEAST_DATA + psem_frame.CRC_BYTES
    if len(answer) < least or answer[psem_frame.HEAD_BYTES]:
        return False
    yield WAIT, _TURN_MS
    yield SEND, _ACK
    yield WAIT, _TURN_MS
    if (yield from _reply_to(_TERMINATE)):
        yield WAIT, _TURN_MS
        yield SEND, _ACK
    return True


def _reply_to(request):
    """Generator of line actions: the packet that comes, b"" for none."""
    yield SEND, request
    answer = yield EXPECT, psem_frame.answer_end, _ANSWER_MS, _GAP_MS
    if psem_frame.found(answer) == request:  # our own light, behind that of a 06
        answer = yield EXPECT, psem_frame.answer_end, _ANSWER_MS, _GAP_MS
    return psem_frame.found(answer)
