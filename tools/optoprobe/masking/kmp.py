"""KMP: an answer with registers that are known to measure; a meter has others, with its number and its customer's."""

from __future__ import annotations

from collections.abc import Iterator

from metering.kmp.kmp_answer import WANTED
from metering.kmp.kmp_frame import unstuffed

from .numbers import Numbers, Piece, Unsure

_HEAD, _REGISTER, _CRC = 2, 5, 2  # bytes


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
    plain = unstuffed(data, start + 1, end - 1)
    at = _HEAD
    while at < len(plain) - _CRC:
        if plain[at] << 8 | plain[at + 1] not in WANTED:
            raise Unsure
        at += _REGISTER + plain[at + 3]
    yield Piece(start, end, data[start:end])
