"""A transcript: what two said to each other, a line each as hex text, `< ` from the meter and `> ` from the reader.

    # a comment
    > 10 40 01 41 16
    < e5

Lines of the meter alone are what a listener hears; each begins after a silence. What programs log is read too: >>, ->,
TX, Sent and their like for the marks, alone in the line before or with a time before or behind them, and bytes as
7E-A0, 7E:A0, 7E,A0 or 0x7E 0xA0. Bytes without a mark go on with the line before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_BYTE = rb"(?:0x)?[0-9A-Fa-f]{2}"
_BYTES = rb"((?:" + _BYTE + rb"[ \t,;:.-]*)*)(?:\([^()]*\))?"  # and a remark
_MARK = rb"(?:[^<>]{0,80}[ \t\]])?(?:(<{1,3}[-=]?|R[Xx]|Received)|[-=]?>{1,3}|T[Xx]|Sent)"
_NAME = rb"(?:[ \t]+(?!0x)[A-Za-z0-9 /]{0,12}[G-Zg-z][A-Za-z0-9 /]{0,12}:)?"  # hex digits alone are bytes
_TIME = rb"(?:\d\d:\d\d:\d\d(?:\.\d+)?[ \t]+)?"
_MARKED = _MARK + _NAME + rb"(?:[ \t]*:|[ \t]|\b)[ \t]*" + _TIME
_START = re.compile(_MARKED + _BYTE)
_LINE = re.compile(_MARKED + _BYTES)
_MARK_ALONE = re.compile(_MARK + rb"[ \t]*[:-]?")
_UNMARKED = re.compile(_BYTES)
_RUN = re.compile(rb"(?:" + _BYTE + rb"[ \t,;:.-]*){4}")  # a line without one says no bytes
_LEAST_OF_LOG = 7  # bytes of a marked line in a log that begins with words,
_MOST_OF_LOG = 64 * 1024  # and bytes of text in which both sides must have said such a line
_MOST_BYTES = 4 * 1024 * 1024  # a file above this is raw bytes


@dataclass(frozen=True, slots=True)
class Burst:
    """What one said in one go; `damage` says what is wrong with a line that has no `data`: `is_words`, where it can not
    have been bytes; `more`, its bytes without a mark, which go on with those of the same side before."""

    to_meter: bool
    data: bytes
    damage: str = ""
    is_words: bool = False
    more: bytes = b""


def is_transcript(data: bytes) -> bool:
    """Does the first line that is no comment begin with a mark and then say hex digits, or do lines of both sides?"""
    if len(data) > _MOST_BYTES:
        return False
    first = next(_lines(data), (0, b""))[1]
    if _START.match(first):
        return True
    if b"\0" in data:
        return False
    said = [burst for burst in parse(data[:_MOST_OF_LOG]) if len(burst.data) >= _LEAST_OF_LOG]
    return len({burst.to_meter for burst in said}) == 2


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Its lines without comments and blanks around, and their numbers; empty ones are left out."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line := line.partition(b"#")[0].strip():
            yield number, line


def parse(data: bytes) -> list[Burst]:
    """What both said, in order, whatever the bytes are; a bad line is told as such, and those behind it are read."""
    bursts: list[Burst] = []
    side: bool | None = None  # of the line before, where bytes may go on with it
    alone = 0  # number of a line that is a mark alone, whose bytes are due
    for number, line in _lines(data):
        unmarked = _UNMARKED.fullmatch(line)
        if alone and side is not None and unmarked and unmarked[1]:
            alone = 0
            bursts.append(Burst(side, _bytes(unmarked[1])))
            continue
        if alone:
            bursts.append(_bad(alone))
            alone = 0
        if (found := _LINE.fullmatch(line)) and found[2]:
            side = not found[1]
            bursts.append(Burst(side, _bytes(found[2])))
        elif mark := _MARK_ALONE.fullmatch(line):
            side, alone = not mark[1], number
        elif unmarked and unmarked[1] and side is not None:
            bursts.append(replace(_bad(number), to_meter=side, more=_bytes(unmarked[1])))
        else:
            side = None
            bursts.append(replace(_bad(number), is_words=not re.match(_MARK, line) and not _RUN.search(line)))
    return [*bursts, _bad(alone)] if alone else bursts


def _bad(number: int) -> Burst:
    """A line that is told without what it says: that may be a password."""
    return Burst(False, b"", f"line {number} is no < or > with pairs of hex digits behind it")


def _bytes(digits: bytes) -> bytes:
    return bytes.fromhex(re.sub(rb"0x|[^0-9A-Fa-f]", b"", digits).decode())


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
