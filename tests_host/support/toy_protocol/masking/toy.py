"""Masking of the tests' protocol: zeros for the digits of the meter's number, and the sum anew."""

from optoprobe.masking.numbers import Piece


def mask(data, start, end, numbers):
    numbers.note(data[start + 2 : start + 10])
    masked = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in data[start + 2 : start + 10])
    masked += data[start + 10 : start + 14]
    yield Piece(start, end, data[start : start + 2] + masked + bytes([sum(masked) & 0xFF]))
