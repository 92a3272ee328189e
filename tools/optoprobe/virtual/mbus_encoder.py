"""Answers of M-Bus meters, made from the standard: EN 13757-2 (frame), EN 13757-3 (header and records).

frame(header(12345678, "ABC", medium=4) + record(0x0C, "06", bcd(27, 4)))
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives import cmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

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


def encrypted5(body: bytes, key: bytes) -> bytes:
    """CI 72, header and records as header() makes them, encrypted in mode 5 (EN 13757-7, 7): from 2F 2F on."""
    plain = _padded(body[13:])
    configuration = struct.pack("<H", 5 << 8 | len(plain) // 16 << 4)
    iv = body[5:7] + body[1:5] + body[7:9] + body[9:10] * 8
    return body[:11] + configuration + _cbc(key, iv, plain)


def encrypted7(body: bytes, key: bytes, counter: int, *, mac_bytes: int = 8, with_length: bool = False) -> bytes:
    """The same in mode 7, behind a layer with the message counter and a MAC (EN 13757-7, 6)."""
    plain = _padded(body[13:])
    rest = struct.pack("<I", counter) + body[1:5] + bytes((7,)) * 7
    configuration = struct.pack("<HB", 7 << 8 | len(plain) // 16 << 4, 0x10)
    header = body[:11] + configuration + _cbc(_cmac(key, bytes((0,)) + rest), bytes(16), plain)
    control = bytes((0x20 | {0: 0, 2: 3, 4: 4, 8: 5, 12: 6, 16: 7}[mac_bytes],))
    length = struct.pack("<H", len(header)) if with_length else b""
    mac = _cmac(_cmac(key, bytes((1,)) + rest), control + rest[:4] + length + header)[:mac_bytes]
    flags = 0x28 | (0x04 if mac_bytes else 0) | (0x10 if with_length else 0)
    layer = bytes((0, flags)) + control + rest[:4] + mac + length
    return bytes((0x90, len(layer))) + layer + header


def _padded(records: bytes) -> bytes:
    return b"\x2f\x2f" + records + b"\x2f" * (-(2 + len(records)) % 16)


def _cbc(key: bytes, iv: bytes, plain: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor().update(plain)


def _cmac(key: bytes, data: bytes) -> bytes:
    made = cmac.CMAC(algorithms.AES(key))
    made.update(data)
    return made.finalize()


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
