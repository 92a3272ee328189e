"""Checksums over a part of a buffer, for blocks that are checked as they arrive. Allocates nothing on MicroPython."""

from metering.checksum import crc16
from metering.compat import SLICES_ARE_CHEAP


def crc16_part(data, at, end, crc, table):
    """crc16() over data[at:end]. Allocates nothing on MicroPython either."""
    if SLICES_ARE_CHEAP:
        return crc16(data[at:end], crc, table)
    for i in range(at, end):
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF]
    return crc


def xor_part(data, at, end, check):
    """`check` with every byte of data[at:end] xor-ed into it: the block check of IEC 62056-21. Allocates nothing."""
    if SLICES_ARE_CHEAP:  # in one number, folded in half until eight bits are left
        data = bytes(data[at:end])
        bits = 8
        while bits < 8 * len(data):
            bits *= 2
        number = int.from_bytes(data, "big")
        while bits > 8:
            bits //= 2
            number = number >> bits ^ number & (1 << bits) - 1
        return check ^ number
    for i in range(at, end):
        check ^= data[i]
    return check
