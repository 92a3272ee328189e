"""Answers of M-Bus meters, made from the standard: EN 13757-2 (frame), EN 13757-3 (header and records).

frame(header(12345678, "ABC", medium=4) + record(0x0C, "06", bcd(27, 4)))
"""

from __future__ import annotations

import struct

RSP_UD = 0x08
HEAT, GAS, WARM_WATER, WATER = 4, 3, 6, 7


def frame(body: bytes, *, control: int = RSP_UD, address: int = 1) -> bytes:
    """A long frame around CI and what follows it, at most 253 bytes."""
    inner = bytes((control, address)) + body
    return bytes((0x68, len(inner), len(inner), 0x68)) + inner + bytes((sum(inner) & 0xFF, 0x16))


def header(
    number: int, maker: str, *, medium: int, version: int = 1, access: int = 7, status: int = 0, configuration: int = 0
) -> bytes:
    """CI 72 and the twelve bytes behind it; `maker` three capital letters."""
    code = 0
    for letter in maker:
        code = code << 5 | ord(letter) - 64
    return b"\x72" + bcd(number, 4) + struct.pack("<HBBBBH", code, version, medium, access, status, configuration)


def short_header(*, access: int = 7, status: int = 0, configuration: int = 0) -> bytes:
    return b"\x7a" + struct.pack("<BBH", access, status, configuration)


def fixed(number: int, counters: tuple[int, int], units: tuple[int, int], *, medium: int, status: int = 0) -> bytes:
    """CI 73, the fixed structure: two counters, in binary where bit 0 of `status` is set, with their units' codes."""
    binary = status & 1
    sent = b"".join(struct.pack("<i", value) if binary else bcd(value, 4) for value in counters)
    two = bytes((units[0] | (medium & 3) << 6, units[1] | (medium >> 2) << 6))
    return b"\x73" + bcd(number, 4) + bytes((7, status)) + two + sent


def record(dif: int, vif: str, data: bytes = b"", *, difes: str = "") -> bytes:
    """`vif` and `difes` in hex, as they stand on the line: VIF and VIFEs, DIFEs; `dif` without its extension bit."""
    return bytes((dif | (0x80 if difes else 0),)) + bytes.fromhex(difes) + bytes.fromhex(vif) + data


def bcd(value: int, n: int) -> bytes:
    """`n` bytes, the lowest first; F as the first digit of a negative one."""
    digits = f"{abs(value):0{2 * n}d}"
    return bytes.fromhex("f" + digits[1:] if value < 0 else digits)[::-1]


def real(value: float) -> bytes:
    return struct.pack("<f", value)


def text(letters: str) -> bytes:
    """A text of variable length, its last letter first."""
    return bytes((len(letters),)) + letters.encode("latin-1")[::-1]


def day(year: int, month: int, number: int) -> bytes:
    """Type G."""
    short = year % 100
    return bytes((number | (short & 7) << 5, month | (short & 0x78) << 1))


def minute(year: int, month: int, number: int, hour: int, minute_of: int, *, invalid: bool = False) -> bytes:
    """Type F."""
    return bytes((minute_of | (0x80 if invalid else 0), hour)) + day(year, month, number)


def second(year: int, month: int, number: int, hour: int, minute_of: int, second_of: int) -> bytes:
    """Type I."""
    return bytes((second_of, minute_of, hour)) + day(year, month, number) + b"\0"
