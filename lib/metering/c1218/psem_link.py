"""The link of ANSI C12.18: a request goes out in one packet, its reply comes back in one or several.

    EE ... request   -->
                     <--   06
                     <--   EE ... reply
    06               -->          or 15: damaged, send it again
"""

from metering.c1218.psem_frame import CRC_BYTES, FIRST, HEAD_BYTES, MULTI, NAK, TOGGLE, answer_end, found, packet
from metering.compat import const
from metering.line import EXPECT, SEND, WAIT

_ANSWER_MS = const(2000)  # C12.18-2006, 4.3.4
_GAP_MS = const(500)
_TURN_MS = const(25)  # before we speak behind the meter
_ATTEMPTS = const(3)
_MOST_PACKETS = const(16)  # of one reply
_MOST_HEARD = const(40)  # answers looked at for one request, whatever they are
_MOST_BYTES = const(1024)  # of one reply
_ACK = b"\x06"
_NAK = b"\x15"


class PsemLink:
    """request(data) is a generator of line actions: True with `reply`, else False with `why`."""

    def __init__(self):
        self.reply = b""
        self.why = ""
        self.answers = False  # has anything come that is a packet?
        # Any toggle may be the first. It goes on from session to session, so that no IDENT is taken for the one before.
        self._toggle = 0
        self.begin()

    def begin(self):
        """A session begins: the meter's next packet may have any toggle."""
        self._last = b""  # control and CRC of the packet taken last

    def request(self, data, attempts=_ATTEMPTS):
        frame = packet(data, self._toggle)
        self._toggle ^= TOGGLE
        self.reply = b""
        self.why = ""
        heard = 0
        for attempt in range(attempts):
            yield SEND, frame
            parts = bytearray()
            expected = -1  # sequence number of the next packet, -1: the first
            asked_again = 0
            while heard < _MOST_HEARD:
                heard += 1
                answer = yield EXPECT, answer_end, _ANSWER_MS, _GAP_MS
                got = found(answer)
                if got == frame:
                    continue  # our own light, behind that of a 06: no reply begins as a request does
                if not answer or not got and answer[-1] == NAK:
                    break  # nothing, or NAK: once more
                if not got:
                    self.why = "a packet came damaged"
                    if asked_again == _ATTEMPTS:
                        break
                    asked_again += 1
                    yield WAIT, _TURN_MS
                    yield SEND, _NAK
                    continue
                self.answers = True
                yield WAIT, _TURN_MS
                yield SEND, _ACK
                mark = got[2:3] + got[-CRC_BYTES:]
                if mark == self._last:
                    continue  # the same again: our 06 was lost
                self._last = mark
                if len(parts) + len(got) > _MOST_BYTES:
                    self.why = "its reply is too long"
                    return False
                if not _fits(got, expected):
                    self.why = "its packets are not in order"
                    return False
                expected = got[3] - 1
                parts.extend(got[HEAD_BYTES:-CRC_BYTES])
                if not got[3]:
                    self.reply = bytes(parts)
                    # Our own 06 comes back from a passive head: read now, it is taken out. Behind it our next request
                    # would be taken for the meter's, and that may be a password, which no capture may hold.
                    yield EXPECT, answer_end, _TURN_MS, _TURN_MS
                    if attempt:
                        yield from self._let_pass()
                    return True
        return False

    def _let_pass(self):
        """What was asked for twice may be answered twice, by a meter that takes the second question for another: that
        is no reply to the next one."""
        for _ in range(_ATTEMPTS):
            late = yield EXPECT, answer_end, _ANSWER_MS, _GAP_MS
            if not late:
                return
            if found(late):
                yield WAIT, _TURN_MS
                yield SEND, _ACK


def _fits(got, expected):
    """Is the packet the one that must come now?"""
    control, sequence = got[2], got[3]
    if expected < 0:
        if control & MULTI:
            return bool(control & FIRST) and 0 < sequence < _MOST_PACKETS
        return not sequence
    return control & (MULTI | FIRST) == MULTI and sequence == expected
