"""Checksums over a part of a buffer, for blocks that are checked as they arrive. Allocates nothing on MicroPython."""

from array import array

from metering.checksum import crc16
from metering.compat import SLICES_ARE_CHEAP


def crc16_part(data, at, end, crc, table):
    """crc16() over data[at:end]. Allocates nothing on MicroPython either."""
    if SLICES_ARE_CHEAP:
        return _crc16_by_words(data[at:end], crc, table)
    for i in range(at, end):
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF]
    return crc


_word_tables = {}  # a table's identity -> it, and what 16 bits at once do


def _crc16_by_words(data, crc, table):
    """crc16() two bytes a step, on a computer, where time is dearer than a table of 128 KiB."""
    if id(table) not in _word_tables:
        words = array("H", [table[i & 0xFF] >> 8 ^ table[(table[i & 0xFF] ^ i >> 8) & 0xFF] for i in range(65536)])
        _word_tables[id(table)] = table, words
    words = _word_tables[id(table)][1]
    whole = len(data) & ~1
    pairs = array("H", bytes(data[:whole]))
    if array("H", b"\x01\x00")[0] != 1:  # a big-endian machine
        pairs.byteswap()
    for pair in pairs:
        crc = words[crc ^ pair]
    return crc16(data[whole:], crc, table)


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
