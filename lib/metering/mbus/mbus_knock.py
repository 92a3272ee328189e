"""A search's knock for a meter that speaks M-Bus: SND_NKE, which it acknowledges, and a REQ_UD2, whose frame holds."""

from metering.compat import const
from metering.line import ANSWER_BYTES, EXPECT, SEND

LINE = (2400, "E", 1)
ON_BATTERY = True
WAKES = True
ADVICE = SIGN_ON = ""

_SND_NKE = b"\x10\x40\xfe\x3e\x16"
_REQ_UD2 = b"\x10\x7b\xfe\x79\x16"
_ACK = const(0xE5)
_LEAST_FRAME = const(9)
_ANSWER_MS = const(550)
_FRAME_MS = const(1200)  # meters have been seen to take a second
_GAP_MS = const(120)


def knock(asking):
    """Generator of line actions: does somebody answer? As metering.protocols says."""
    yield SEND, _SND_NKE
    answer = yield EXPECT, _ack_end, _ANSWER_MS, _GAP_MS
    if not _ack_end(answer, len(answer)):
        return False
    yield SEND, _REQ_UD2
    answer = yield EXPECT, None, _FRAME_MS, _GAP_MS
    return _has_frame(answer)


def _ack_end(buffer, n):
    """For EXPECT: behind an acknowledge."""
    for i in range(n):
        if buffer[i] == _ACK:
            return i + 1
    return 0


def _has_frame(answer):
    """Is there a long frame in it whose sum holds, as far as one answer can hold it?"""
    at = answer.find(b"\x68")
    while 0 <= at <= len(answer) - _LEAST_FRAME:
        end = at + 4 + answer[at + 1]
        if answer[at + 3] == 0x68 and answer[at + 1] == answer[at + 2] and answer[at + 1] > 2:
            if end + 2 > len(answer):
                return len(answer) == ANSWER_BYTES
            if sum(answer[at + 4 : end]) & 0xFF == answer[end] and answer[end + 1] == 0x16:
                return True
        at = answer.find(b"\x68", at + 1)
    return False
