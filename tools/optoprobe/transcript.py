"""A transcript: what two said to each other, a line each as hex text, `< ` from the meter and `> ` from the reader.

    # a comment
    > 10 40 01 41 16
    < e5

Lines of the meter alone are what a listener hears; each begins after a silence.
"""

from __future__ import annotations

import re

_LINE = re.compile(rb"([<>])[ \t]*((?:[0-9A-Fa-f]{2}[ \t]*)*)")
_MOST_BYTES = 4 * 1024 * 1024  # a file above this is raw bytes


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
