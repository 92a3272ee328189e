"""Packets of ANSI C12.18 (PSEM), as meters speak it through their optical port: 9600 8N1.

    EE        begin
    identity  0 on a line with one meter
    control   bit 7: one of several packets; bit 6: the first of them; bit 5: toggles from packet to packet
    sequence  of several packets: how many follow
    length    of the data, two bytes, high byte first
    data
    CRC       CRC-16/X-25 of all from EE on, low byte first

Each packet is acknowledged by 06, or asked for again by 15. Source: ANSI C12.18-2006, 4.3; a session of an NES 83334.
"""

from metering.checksum import CCITT, X25_INIT, crc16, crc_table
from metering.compat import const

BEGIN = const(0xEE)
ACK = const(0x06)
NAK = const(0x15)
MULTI = const(0x80)
FIRST = const(0x40)
TOGGLE = const(0x20)
HEAD_BYTES = const(6)
CRC_BYTES = const(2)
MOST_DATA = const(240)  # bytes of a packet; 56 where nothing else was agreed upon

_FOREIGN_BITS = const(0x1F)  # of control: reserved, and the data's format, which is 0 in C12.18
_TABLE = crc_table(CCITT)
_GOOD = const(0xF0B8)  # the CRC register over data and their own CRC


def packet(data, toggle):
    """The one packet that holds `data`, `toggle` 0 or TOGGLE."""
    frame = bytearray((BEGIN, 0, toggle, 0, len(data) >> 8, len(data) & 0xFF))
    frame.extend(data)
    crc = crc16(frame, X25_INIT, _TABLE) ^ 0xFFFF
    frame.append(crc & 0xFF)
    frame.append(crc >> 8)
    return bytes(frame)


def _starts(buffer, at, n):
    """May a packet begin at buffer[at]? What of its head has come must be that of one."""
    if buffer[at] != BEGIN:
        return False
    if at + 2 < n and buffer[at + 2] & _FOREIGN_BITS:
        return False
    if at + HEAD_BYTES > n:
        return True
    return 0 < (buffer[at + 4] << 8 | buffer[at + 5]) <= MOST_DATA


def answer_end(buffer, n):
    """For metering.line.EXPECT: the end of the first packet in buffer[:n], or of a NAK before any; 0 while there is
    none. An ACK before it is passed over."""
    for at in range(n):
        if _starts(buffer, at, n):
            end = at + HEAD_BYTES
            if end > n:
                return 0
            end += (buffer[at + 4] << 8 | buffer[at + 5]) + CRC_BYTES
            return end if end <= n else 0
        if buffer[at] == NAK:
            return at + 1
    return 0


def found(answer):
    """The packet of an answer that answer_end() has ended, b"" where it is damaged, cut off or none."""
    n = len(answer)
    for at in range(n):
        if _starts(answer, at, n):
            if at + HEAD_BYTES > n:
                return b""
            end = at + HEAD_BYTES + (answer[at + 4] << 8 | answer[at + 5]) + CRC_BYTES
            if end != n:
                return b""
            answer = answer[at:]
            return answer if crc16(answer, X25_INIT, _TABLE) == _GOOD else b""
    return b""
