"""A link to one meter as line actions over TCP: the wrapper of IEC 62056-4-7, in place of HDLC.

    00 01 | from 2 | to 2 | length 2 | APDU        the ports are the client's address and the meter's logical one

TCP loses and doubles nothing: what is said is said once, and waited for. `apdu` begins with the LLC that an answer in
HDLC has, so that whoever takes it apart need not know which link it came by.
"""

from metering.dlms.association import release
from metering.dlms.hdlc_link import MAX_APDU
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.line import ANSWER_BYTES, EXPECT, MAX_SENT, SEND

_HEAD = 8
_GAP_MS = 1500  # between two pieces of an answer
_MOST_MESSAGES = 8  # heard for one that is due


def wrapped(source, destination, apdu):
    """`apdu` behind its head; ports 0 to 65535."""
    n = len(apdu)
    head = (0, 1, source >> 8, source & 0xFF, destination >> 8, destination & 0xFF, n >> 8, n & 0xFF)
    return bytes(head) + apdu


def _head_end(buffer, n):
    return _HEAD if n >= _HEAD else 0


def _rest_of(due):
    """For EXPECT: `due` bytes, or as many of them as it gathers."""
    return lambda buffer, n: due if n >= due else 0


class WrapperLink:
    """As metering.dlms.hdlc_link.HdlcLink; `meter` and `client` are numbers."""

    PUBLIC = 16

    def __init__(self, meter, client, timeout_ms, retries):
        self.meter = meter
        self.client = client
        self._timeout_ms = timeout_ms * (retries + 1)
        self.cipher = None
        self.apdu = bytearray(len(ANSWER_LLC) + MAX_APDU)
        self.apdu[: len(ANSWER_LLC)] = ANSWER_LLC
        self.n = 0
        self.is_up = False
        self.why = ""

    def farewell(self):
        """What releases the association."""
        return wrapped(self.client, self.meter, release())

    def connect(self):
        """Generator of line actions: nothing goes before the association."""
        self.why = ""
        self.is_up = False
        return True
        yield

    def disconnect(self):
        """Generator of line actions: the association is released, whatever state the meter is in."""
        if self.is_up:
            self.is_up = False
            why, self.why = self.why, ""
            yield SEND, self.farewell()
            yield from self._hear()
            self.why = why

    def request(self, apdu):
        """Generator of line actions: says `apdu`, and gathers the answer; True: it is in apdu[:n]."""
        if self.cipher:
            apdu = self.cipher.seal(apdu, self)
            if not apdu:
                return False
        is_first, self.is_up = not self.is_up, True
        message = wrapped(self.client, self.meter, apdu)
        for at in range(0, len(message), MAX_SENT):
            yield SEND, message[at : at + MAX_SENT]
        for _ in range(_MOST_MESSAGES):
            kind = yield from self._hear()
            if kind is None:
                if is_first and not self.why:
                    self.why = "it answers no association: it may want another client_address or logical_address"
                return False
            if kind:
                return self.cipher is None or self.cipher.open(self)
        self.why = "its answers are others'"
        return False

    def _hear(self):
        """One message into apdu[:n]: is it for us? None where none comes, or what comes is none."""
        head = yield EXPECT, _head_end, self._timeout_ms, _GAP_MS
        if len(head) < _HEAD:
            if head:
                self.why = "its answer is cut off"
            return None
        if head[0] or head[1] != 1:
            self.why = "its answer is in no wrapper: it may be one for mode=DLMS-HDLC"
            return None
        left = head[6] << 8 | head[7]
        n = len(ANSWER_LLC)
        if not 0 < left <= len(self.apdu) - n:
            self.why = "it sends more than was agreed" if left else "its answer is empty"
            return None
        while left:
            piece = yield EXPECT, _rest_of(min(left, ANSWER_BYTES)), self._timeout_ms, _GAP_MS
            if not piece:
                self.why = "its answer is cut off"
                return None
            self.apdu[n : n + len(piece)] = piece
            n += len(piece)
            left -= len(piece)
        self.n = n
        return (head[2] << 8 | head[3], head[4] << 8 | head[5]) == (self.meter, self.client)
