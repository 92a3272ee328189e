"""LIS-200: every value by its address but measurements, factors, the clock and the firmware's version; the BCC anew."""

from __future__ import annotations

import re
from collections.abc import Iterator

from metering.characters import with_parity
from metering.iec62056_21.lis200_answer import address_of_answer, refusal_of
from metering.iec62056_21.programming_answers import block_check

from .numbers import Numbers, Piece, blank

_FRAME = re.compile(rb"[\x01\x02][^\x01-\x04]*(?:\x02[^\x01-\x04]*)?[\x03\x04].", re.DOTALL)
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?\*[^*0-9][^*]{0,4}")  # with its unit
_STAY = ("5:310", "8:310", "1:400", "2:190")  # factors, clock, version
_NUMBERS = ("1:180",)


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
    said = data[start:end]
    plain = bytes(byte & 0x7F for byte in said)
    at = plain.find(b"\n") + 1 if plain[:1] == b"/" else 0
    pieces = [plain[:at]] if at else []  # who makes it, and its model
    for frame in _FRAME.findall(plain, at):
        body = frame[1:-2]
        value = re.search(rb"\(([^()]*)\)", body)
        if value and not refusal_of(body):
            fresh = body[: value.start(1)] + _masked(address_of_answer(body), value[1], numbers) + body[value.end(1) :]
            checked = fresh + frame[-2:-1]
            frame = frame[:1] + checked + bytes((block_check(checked),))
        pieces.append(frame)
    whole = b"".join(pieces)
    if said[0] & 0x80 or any(byte & 0x80 for byte in said):
        whole = with_parity(whole)
    yield Piece(start, end, whole)


def _masked(address: str, value: bytes, numbers: Numbers) -> bytes:
    if address in _STAY or _NUMBER.fullmatch(value):
        return numbers.hidden(value)
    if address in _NUMBERS:
        numbers.note(value)
    return blank(value)
