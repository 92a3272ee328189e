"""A transcript: what two said to each other, a line each as hex text, `< ` from the meter and `> ` from the reader.

    # a comment
    > 10 40 01 41 16
    < e5

Lines of the meter alone are what a listener hears; each begins after a silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LINE = re.compile(rb"([<>])[ \t]*((?:[0-9A-Fa-f]{2}[ \t]*)*)")
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
    for line in data.splitlines():
        if line.strip() and not line.startswith(b"#"):
            return re.match(rb"[<>][ \t]*[0-9A-Fa-f]{2}", line) is not None
    return False


def of_meter(data: bytes) -> tuple[bytes, list[int]]:
    """What the meter said, and the offsets before which nothing came for a while. Raises ValueError for a bad line."""
    said = bytearray()
    pauses = []
    for number, line in enumerate(data.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is no < or > with pairs of hex digits behind it")
        if found[1] == b"<":
            if said:
                pauses.append(len(said))
            said += bytes.fromhex(found[2].decode())
    return bytes(said), pauses


def parse(data: bytes) -> list[Burst]:
    """What both said, in order, whatever the bytes are; a bad line is told as such, and those behind it are read."""
    bursts = []
    for number, line in enumerate(data.splitlines(), 1):
        line = line.partition(b"#")[0].strip()
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found and found[2]:
            bursts.append(Burst(found[1] == b">", bytes.fromhex(found[2].decode())))
        else:  # its bytes may be a password
            bursts.append(Burst(False, b"", f"line {number} is no < or > with pairs of hex digits behind it"))
    return bursts


def is_conversation(bursts: Sequence[Burst]) -> bool:
    """Is the meter asked?"""
    return any(burst.to_meter for burst in bursts)
