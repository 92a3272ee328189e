"""HDLC frames, type 3 (IEC 62056-46:2002, 6.4): what carries DLMS on most customer ports.

    7E | A0 + length, 2 bytes | destination 1-4 | source 1-4 | control | HCS 2 | information | FCS 2 | 7E
         bit 11: another segment follows; bits 10..0: bytes between the flags. HCS and FCS: CRC-16/X-25, low byte first

There is no byte stuffing: 7E occurs inside, the length rules. The flag that closes a frame may open the next one. A
frame without information has no HCS.
"""

from metering.checksum import CCITT, X25_INIT, crc16, crc_table
from metering.compat import SLICES_ARE_CHEAP, const

X25_TABLE = crc_table(CCITT)
_FLAG = const(0x7E)
_GOOD = const(0xF0B8)  # the CRC register over data and its own CRC
FCS = const(16)  # bits of a frame's own check
_LEAST = const(7)  # bytes between the flags: format, two addresses, control, FCS
_MAX_ADDRESS = const(4)

SHORT = const(0)  # answers of find(), as of mbus_frame's: more bytes are needed,
NONE = const(-1)  # there is no frame here,
WRONG_HEADER = const(-2)  # its HCS does not hold,
NO_FLAG = const(-3)  # no flag where the length says,
WRONG_CHECK = const(-4)  # its FCS does not hold


def _holds(buf, view, at, end, crc):
    """Is the end of buf[at:end] its CRC, begun at `crc`? `view` is the same. Allocates nothing on MicroPython."""
    table = X25_TABLE
    if SLICES_ARE_CHEAP:
        return crc16(view[at:end], crc, table) == _GOOD
    for i in range(at, end):
        crc = crc >> 8 ^ table[(crc ^ buf[i]) & 0xFF]
    return crc == _GOOD


class Frame:
    """Of the frame found last: `info_at`, `info_end` its information in the buffer, `more` another segment follows."""

    segment = -1  # they have no numbers

    def __init__(self):
        self.info_at = self.info_end = 0
        self.more = False

    def find(self, buf, view, at, n):
        """Judge the frame whose flag is buf[at], of n bytes held: bytes up to the flag that closes it, or an answer."""
        if n - at < 3:
            return SHORT
        if buf[at] != _FLAG or buf[at + 1] & 0xF0 != 0xA0:
            return NONE
        length = (buf[at + 1] & 0x07) << 8 | buf[at + 2]
        if length < _LEAST:
            return NONE
        i = at + 3
        for _ in range(2):
            first = i
            while True:
                if i >= n:
                    return SHORT
                i += 1
                if buf[i - 1] & 1:
                    break
                if i - first == _MAX_ADDRESS:
                    return NONE
        i += 1  # control
        end = at + 1 + length  # of the FCS, where the closing flag is
        if i + 2 > end:
            return NONE
        crc, crc_at = X25_INIT, at + 1
        if i + 2 == end:  # no information
            self.info_at = self.info_end = i
        else:
            if n < i + 2:
                return SHORT
            if not _holds(buf, view, crc_at, i + 2, crc):
                return WRONG_HEADER
            crc, crc_at = _GOOD, i + 2  # what the register holds behind it
            self.info_at = i + 2
            self.info_end = end - 2
            if self.info_end < self.info_at:
                return NONE
        if n <= end:
            return SHORT
        if buf[end] != _FLAG:
            return NO_FLAG
        if not _holds(buf, view, crc_at, end, crc):
            return WRONG_CHECK
        self.more = bool(buf[at + 1] & 0x08)
        return end - at
