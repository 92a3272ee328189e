"""Frames of Kamstrup's KMP, as heat, cooling and water meters speak it through their optical eye: 1200 8N2.

Source: the maker's text is under a non-disclosure agreement. What stands here is what PyKMP 0.0.2 (PyPI), an
implementation that quotes it (3.1 to 3.3), does; the suite holds both against each other.

    80 | 40    to the meter, from the meter
    address    3F, the meter itself
    command    01 type, 02 serial number, 10 registers: those that ask are all there are here
    ...        its data
    CRC        of all from the address on: polynomial 1021, begun with 0, high byte first
    0D

Between the first byte and the last 80, 40, 0D, 06 and 1B are sent as 1B and the byte turned over.
"""

from metering.compat import SLICES_ARE_CHEAP, const

FROM_METER = const(0x40)
END = const(0x0D)
METER = const(0x3F)
SERIAL_NUMBER = const(0x02)
REGISTERS = const(0x10)

_TO_METER = const(0x80)
_ESCAPE = const(0x1B)
_ESCAPED = b"\x80\x40\x0d\x06\x1b"
_POLYNOMIAL = const(0x1021)


def crc16_xmodem(data):
    """CRC-16/XMODEM of `data`: 0 where its own stands behind it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc <<= 1
            if crc & 0x10000:
                crc ^= 0x10000 | _POLYNOMIAL
    return crc


if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.library_crc import crc16_xmodem


def question(body):
    """The frame that asks the meter for `body`, its command and data."""
    body = bytes((METER,)) + body
    crc = crc16_xmodem(body)
    frame = bytearray((_TO_METER,))
    for byte in body + bytes((crc >> 8, crc & 0xFF)):
        if byte in _ESCAPED:
            frame.append(_ESCAPE)
            byte ^= 0xFF
        frame.append(byte)
    frame.append(END)
    return bytes(frame)


def unstuffed(data, start, end):
    """data[start:end] without escapes, as bytes; b"" where one of them stands for nothing."""
    plain = bytearray()
    i = start
    while i < end:
        byte = data[i]
        if byte == _ESCAPE:
            i += 1
            byte = data[i] ^ 0xFF if i < end else 0
            if byte not in _ESCAPED:
                return b""
        plain.append(byte)
        i += 1
    return bytes(plain)


def answer_end(buffer, n):
    """For metering.line.EXPECT: the end of the meter's frame in buffer[:n], 0 while there is none. An echo of our own
    question has no byte 40."""
    begun = False
    for i in range(n):
        if buffer[i] == FROM_METER:
            begun = True
        elif buffer[i] == END and begun:
            return i + 1
    return 0
