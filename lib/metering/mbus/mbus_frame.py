"""Wired M-Bus long frames (EN 13757-2:2018, 5.5.4), which carry DLMS in Austria (EN 13757-1: STSAP and DTSAP).

    68 | L | L | 68 | C | A | CI | STSAP | DTSAP | data | checksum | 16      checksum: sum of the L bytes behind 68
                         CI: bits 3..0 number of the segment, 10 the last one

Sagemcom's T210-D writes a length of 257 as 01: L + 256 is tried where L does not hold.
"""

from metering.compat import const

_START = const(0x68)
_STOP = const(0x16)
_HEAD = const(5)  # C, A, CI, STSAP, DTSAP
_LAST = const(0x10)

SHORT = const(0)  # answers of find(), as of hdlc's: more bytes are needed,
NONE = const(-1)  # there is no frame here,
NO_STOP = const(-3)  # no stop byte where the length says,
WRONG_CHECK = const(-4)  # its checksum does not hold


class Frame:
    """Of the frame found last: `info_at`, `info_end` its data in the buffer, `segment` its number, `more` to come."""

    def __init__(self):
        self.info_at = self.info_end = self.segment = 0
        self.more = False

    def find(self, buf, at, n, ended):
        """Judge the frame whose 68 is buf[at], of n bytes held: how many bytes it takes, or one of the answers.

        `ended`: no more bytes will come.
        """
        if n - at < 4:
            return SHORT
        announced = buf[at + 1]
        if buf[at] != _START or buf[at + 2] != announced or buf[at + 3] != _START:
            return NONE
        answer = NO_STOP
        for length in range(announced, announced + 257, 256):  # a tuple would be an allocation
            if length < _HEAD:
                continue
            end = at + 4 + length  # the checksum
            if n < end + 2:
                return answer if ended and length > announced else SHORT
            if buf[end + 1] != _STOP:
                continue
            total = 0
            for i in range(at + 4, end):
                total += buf[i]
            if total & 0xFF != buf[end]:
                answer = WRONG_CHECK
                continue
            self.segment = buf[at + 6] & 0x0F
            self.more = not buf[at + 6] & _LAST
            self.info_at = at + 4 + _HEAD
            self.info_end = end
            return end + 2 - at
        return answer
