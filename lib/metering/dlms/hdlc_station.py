"""HDLC as a station of normal response mode (IEC 62056-46, 6.4): the client's frames, and what a frame says of itself.

    SNRM ->  UA <-      the link is up, with the parameters of both
    I ->     I <-       a segment each; N(S) counts it, N(R) tells which is due; one at a time (window 1)
    RR ->    I <-       of an APDU in several segments: the next one, please
    DISC ->  UA or DM <-

Of what a frame's check says: metering.dlms.hdlc. Building allocates a handful a frame.
"""

from metering.checksum import X25_INIT, crc16
from metering.compat import const
from metering.dlms.axdr import Malformed
from metering.dlms.hdlc import X25_TABLE

SNRM = const(0x93)  # kinds of frames, with the poll bit
DISC = const(0x53)
UA = const(0x73)
DM = const(0x1F)
INFORMATION = const(0x10)
READY = const(0x11)

REQUEST_LLC = b"\xe6\xe6\x00"
ANSWER_LLC = b"\xe6\xe7\x00"

MAX_INFORMATION = const(128)  # bytes a frame carries where the parameters say nothing else
_MAX_PARAMETER = const(2030)  # more has no room in a frame's length of 11 bits
_SERIAL_OFFSET = const(1000)
_SERIALS = const(10000)
_HIGHEST = const(0x3FFF)
_SEGMENTED = const(0xA8)
_WHOLE = const(0xA0)


def client_address(number):
    """The one byte of a client's address, 0 to 127. ValueError beyond."""
    if not 0 <= number <= 0x7F:
        raise ValueError("a client's address is 0 to 127")
    return bytes((number << 1 | 1,))


def server_address(logical, physical=0, size=0):
    """A meter's address in 1, 2 or 4 bytes; `size` 0: the shortest that holds it. ValueError where it does not fit."""
    if not (0 <= logical <= _HIGHEST and 0 <= physical <= _HIGHEST):
        raise ValueError("a meter's address is 0 to 16383")
    high = max(logical, physical)
    size = size or (4 if high > 0x7F else 2 if physical else 1)
    if size == 1 and not physical and logical <= 0x7F:
        return bytes((logical << 1 | 1,))
    if size == 2 and high <= 0x7F:
        return bytes((logical << 1, physical << 1 | 1))
    if size == 4:
        return bytes(
            (logical >> 6 & 0xFE, logical << 1 & 0xFE, physical >> 6 & 0xFE, physical << 1 & 0xFE | 1),
        )
    raise ValueError("a meter's address does not fit into %d bytes" % size)


def physical_of_serial(serial):
    """The physical address of a meter that is asked by its serial number; its logical one is 1, in 4 bytes."""
    return serial % _SERIALS + _SERIAL_OFFSET


def _checked(data):
    crc = crc16(data, X25_INIT, X25_TABLE) ^ 0xFFFF
    return data + bytes((crc & 0xFF, crc >> 8))


def frame(destination, source, control, information=b"", more=False):
    """A whole frame between its flags. ValueError where it is too long."""
    head = destination + source + bytes((control,))
    n = len(head) + 4 + (len(information) + 2 if information else 0)
    if len(information) > _MAX_PARAMETER:
        raise ValueError("a frame carries %d bytes at the most" % _MAX_PARAMETER)
    head = bytes(((_SEGMENTED if more else _WHOLE) | n >> 8, n & 0xFF)) + head
    if information:
        head = _checked(head) + information
    return b"\x7e" + _checked(head) + b"\x7e"


def information_control(sent, received):
    """Control of an I frame: N(S) `sent`, N(R) `received`, 0 to 7 each."""
    return received << 5 | INFORMATION | sent << 1


def ready_control(received):
    """Control of RR: the segment `received` is due."""
    return received << 5 | READY


def kind_of(control):
    """INFORMATION, READY, or the control byte itself with its poll bit."""
    if not control & 1:
        return INFORMATION
    return READY if control & 0x0F == 1 else control | INFORMATION


class Header:
    """Of a frame whose check has held: `destination`, `source` as sent, `kind`, `sent` N(S), `due` N(R)."""

    def __init__(self):
        self.destination = self.source = b""
        self.kind = self.sent = self.due = 0

    def take(self, buf, at):
        """Read the frame whose flag is buf[at]."""
        at += 3
        self.destination, at = self._address(buf, at)
        self.source, at = self._address(buf, at)
        control = buf[at]
        self.kind = kind_of(control)
        self.sent = control >> 1 & 7
        self.due = control >> 5

    def _address(self, buf, at):
        first = at
        while not buf[at] & 1:
            at += 1
        return bytes(buf[first : at + 1]), at + 1


def agreed_sizes(buf, at, end):
    """(bytes the sender of these parameters sends at the most in a frame, bytes it takes), of an SNRM or a UA.

    81 80 length | 05 n the most sent | 06 n the most taken | 07 n, 08 n windows; a value has 1 to 4 bytes. What is not
    said is 128. Raises Malformed.
    """
    most_sent = most_taken = MAX_INFORMATION
    if at == end:
        return most_sent, most_taken
    if end - at < 3 or buf[at] != 0x81 or buf[at + 1] != 0x80 or buf[at + 2] != end - at - 3:
        raise Malformed("HDLC parameters of another form")
    at += 3
    while at < end:
        if at + 2 > end or not 0 < buf[at + 1] <= 4 or at + 2 + buf[at + 1] > end:
            raise Malformed("HDLC parameter truncated")
        value = 0
        for i in range(at + 2, at + 2 + buf[at + 1]):
            value = value << 8 | buf[i]
        if buf[at] in b"\x05\x06" and not 0 < value <= _MAX_PARAMETER:
            raise Malformed("HDLC frames of %d bytes" % value)
        if buf[at] == 5:
            most_sent = value
        elif buf[at] == 6:
            most_taken = value
        at += 2 + buf[at + 1]
    return most_sent, most_taken
