"""A transcript: what two said to each other, a line each as hex text, `< ` from the meter and `> ` from the reader.

    # a comment
    > 10 40 01 41 16
    < e5

Lines of the meter alone are what a listener hears; each begins after a silence. What programs log is read too: TX and
RX, Sent and Received for the marks, a time before or behind them, and bytes as 7E-A0, 7E:A0, 7E,A0 or 0x7E 0xA0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_BYTE = rb"(?:0x)?[0-9A-Fa-f]{2}"
_MARK = rb"(?:[^<>]{0,80}[ \t\]])?(?:(<|RX|Received)|>|TX|Sent)(?::|[ \t]|\b)[ \t]*(?:\d\d:\d\d:\d\d(?:\.\d+)?[ \t]+)?"
_START = re.compile(_MARK + _BYTE)
_LINE = re.compile(_MARK + rb"((?:" + _BYTE + rb"[ \t,;:.-]*)*)")
_MOST_BYTES = 4 * 1024 * 1024  # a file above this is raw bytes


@dataclass(frozen=True, slots=True)
class Burst:
    """What one said in one go; `damage` says what is wrong with a line that has no `data`."""

    to_meter: bool
    data: bytes
    damage: str = ""


def is_transcript(data: bytes) -> bool:
    """Does the first line that is no comment begin with a mark and then say hex digits?"""
    if len(data) > _MOST_BYTES:
        return False
    for _, line in _lines(data):
        return _START.match(line) is not None
    return False


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Its lines without comments and blanks around, and their numbers; empty ones are left out."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line := line.partition(b"#")[0].strip():
            yield number, line


def parse(data: bytes) -> list[Burst]:
    """What both said, in order, whatever the bytes are; a bad line is told as such, and those behind it are read."""
    bursts = []
    for number, line in _lines(data):
        found = _LINE.fullmatch(line)
        if found and found[2]:
            hex_digits = re.sub(rb"0x|[^0-9A-Fa-f]", b"", found[2])
            bursts.append(Burst(not found[1], bytes.fromhex(hex_digits.decode())))
        else:  # its bytes may be a password
            bursts.append(Burst(False, b"", f"line {number} is no < or > with pairs of hex digits behind it"))
    return bursts


def of_meter(data: bytes) -> tuple[bytes, list[int]]:
    """What the meter said, and the offsets before which nothing came for a while. Raises ValueError for a bad line."""
    said = bytearray()
    pauses = []
    for burst in parse(data):
        if burst.damage:
            raise ValueError(burst.damage)
        if not burst.to_meter:
            if said:
                pauses.append(len(said))
            said += burst.data
    return bytes(said), pauses


def is_conversation(bursts: Sequence[Burst]) -> bool:
    """Is the meter asked?"""
    return any(burst.to_meter for burst in bursts)
