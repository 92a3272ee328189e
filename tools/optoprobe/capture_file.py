"""A capture file: what came from a meter and when, as text that can be sent, read, replayed and masked. ASCII, lines:

    optoprobe capture 1
    # version 0.1.0, board Hichi IR WiFi v2, protocol sml       comments, anywhere; never a secret
    line 9600 8N1              settings of the UART from here on: "2400 8E1", "9600 7E1 inverted" (parity in bit 7)
    12 1b1b1b1b0101            ms since the begin, then the bytes that had come by then
    edges 28800 8N1            from here on the UART only samples light: the bytes tell how long it was on, in thirds of
    9003 fcfce0                the bit that is looked for
    light 9100 1               a change of the light noticed by polling, perhaps a while later: 1 light, 0 none
    end 30000                  missing where the file was cut off

The device writes the same. A meter that is asked and then changes its rate says its identification with one line and
its block with the next: these two make one Part, every other line's bytes are read apart.

How a file is masked: optoprobe.masking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.iec62056_21.data_block import identification_end
from metering.line import Line

from .virtual.uart import duration_ns

if TYPE_CHECKING:
    from .virtual.source import Transmission

MAX_FILE_BYTES = 64 * 1024  # what a device can hold and a broker passes on at once
MAX_S = 120
_LATEST_MS = (MAX_S + 5) * 1000  # a busy device's last look may be late
_MAX_SEGMENTS = 1000  # detection changes the settings a few times a second at the most
_BAUDS = range(50, 1_000_001)
_LINE_BYTES = 64  # of data a line of text, so that no mailer breaks it
_RESERVED_BYTES = 4096  # for comments and the end
_MAX_COMMENT = 200
_PAUSE_MS = 300  # what metering.dlms.push takes for a silence

_MAGIC = b"optoprobe capture "
_VERSION = 1
_LINE = re.compile(r"([0-9]{2,7}) ([78])([NEO])([12])( inverted)?")
_BYTES = re.compile(r"([0-9]{1,6}) ((?:[0-9A-Fa-f]{2})+)")
_LIGHT = re.compile(r"light ([0-9]{1,6}) ([01])")
_END = re.compile(r"end ([0-9]{1,6})")


def counted(n: int, thing: str) -> str:
    """ "1 byte", "1,234 bytes"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


class CaptureError(ValueError):
    """This is no capture file; the text is one sentence with the cure, without its full stop."""


@dataclass
class Segment:
    """What came with one setting of the UART: (ms, bytes) in order, and (ms, is there light)."""

    line: Line
    is_edges: bool = False
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    light: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.chunks)


@dataclass
class Part:
    """Bytes to be read in one go: of one segment, or of two where the first ends with an identification line."""

    segments: list[Segment]

    @property
    def data(self) -> bytes:
        return b"".join(segment.data for segment in self.segments)

    @property
    def line(self) -> Line:
        """Of the segment with the most bytes."""
        return max(self.segments, key=lambda segment: len(segment.data)).line

    @property
    def pauses(self) -> list[int]:
        """Before which bytes, counted from the first, nothing came for a while."""
        found = []
        n, last_ms = 0, None
        for segment in self.segments:
            for ms, data in segment.chunks:
                began_ms = ms - duration_ns(segment.line, len(data)) // 1_000_000
                if last_ms is not None and began_ms - last_ms > _PAUSE_MS:
                    found.append(n)
                n += len(data)
                last_ms = ms
        return found


@dataclass
class Capture:
    """A file taken apart. `end_ms` None: it was cut off. `comments` without their #."""

    comments: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    end_ms: int | None = None

    def readable_bytes(self) -> bytes:
        """All bytes but those of edges."""
        return b"".join(segment.data for segment in self.segments if not segment.is_edges)

    def parts(self) -> list[Part]:
        """What can be decoded, in order; together it is readable_bytes()."""
        found: list[Part] = []
        for segment in self.segments:
            if segment.is_edges or not segment.chunks:
                continue
            if found and _ends_with_identification(found[-1].data):
                found[-1].segments.append(segment)
            else:
                found.append(Part([segment]))
        return found

    def text(self) -> str:
        """The file."""
        writer = CaptureWriter(*self.comments)
        for segment in self.segments:
            writer.settings(segment.line, segment.is_edges)
            records: list[tuple[int, bytes | bool]] = [*segment.chunks, *segment.light]
            for ms, what in sorted(records, key=lambda record: record[0]):
                if isinstance(what, bool):
                    writer.light(ms, what)
                else:
                    writer.take(ms, what)
        if self.end_ms is not None:
            writer.end(self.end_ms)
        return writer.text()


def _ends_with_identification(data: bytes) -> bool:
    at = max(data.rfind(b"/"), data.rfind(b"\xaf"))
    end = identification_end(data, at, len(data)) if at >= 0 else 0
    return end > 0 and len(data) - end <= 8  # behind it the echo of our acknowledge, or what the change of rate left


class CaptureWriter:
    """Writes the file while it is recorded. `full`: it has reached its limit, what comes now is dropped."""

    def __init__(self, *comments: str) -> None:
        self.comments = list(comments)
        self.full = False
        self._lines: list[str] = []
        self._n = 0
        self._ended = False

    def settings(self, line: Line, is_edges: bool = False) -> None:
        """The UART's from here on."""
        self._add(f"{'edges' if is_edges else 'line'} {line!r}")

    def take(self, ms: int, data: bytes) -> None:
        """Bytes that have come by `ms` after the begin."""
        for at in range(0, len(data), _LINE_BYTES):
            self._add(f"{ms} {data[at : at + _LINE_BYTES].hex()}", ms)

    def light(self, ms: int, is_on: bool) -> None:
        self._add(f"light {ms} {int(is_on)}", ms)

    def end(self, ms: int) -> None:
        """The recording is over, and nothing of it missing."""
        if not self.full:
            self._lines.append(f"end {min(ms, _LATEST_MS)}")

    def _add(self, line: str, ms: int = 0) -> None:
        self._n += len(line) + 1
        self.full = self.full or self._n > MAX_FILE_BYTES - _RESERVED_BYTES or ms > _LATEST_MS
        if not self.full:
            self._lines.append(line)

    def text(self) -> str:
        head = [f"{_MAGIC.decode()}{_VERSION}"]
        for comment in self.comments[: _RESERVED_BYTES // (_MAX_COMMENT + 3)]:
            head.append("# " + "".join(c if " " <= c <= "~" else "?" for c in comment[:_MAX_COMMENT]))
        return "\n".join([*head, *self._lines, ""])


def is_capture(data: bytes) -> bool:
    """Does `data` begin like a capture file?"""
    return data.startswith(_MAGIC)


def parse(data: bytes) -> Capture:
    """Take a file apart. Raises CaptureError, and nothing else whatever the bytes are."""
    if not is_capture(data):
        raise CaptureError(f"it does not begin with {_MAGIC.decode().strip()}: name a file that optoprobe has written")
    if len(data) > MAX_FILE_BYTES:
        raise CaptureError(f"it has {len(data):,} bytes, more than {MAX_FILE_BYTES:,}: cut its end off behind a line")
    if not data.isascii():
        raise CaptureError("it holds what is not ASCII: have it sent again, as a file and not in the text of a message")
    first, *lines = data.decode("ascii").split("\n")
    version = first.removeprefix(_MAGIC.decode()).strip()
    if version != str(_VERSION):
        raise CaptureError(f"it is of version {version[:20]!r}, this reads {_VERSION}: update optoprobe")
    reader = _Reader()
    for number, line in enumerate(lines, 2):
        try:
            reader.take(line.strip(" \t\r"))
        except CaptureError as error:
            if number == len(lines) + 1 and reader.capture.end_ms is None:
                break  # cut off in the middle of a line
            raise CaptureError(f"line {number} {error}") from None
    return reader.capture


class _Reader:
    """Takes lines into `capture`, each whole or, with a CaptureError, not at all."""

    def __init__(self) -> None:
        self.capture = Capture()
        self._ms = 0
        self._light: list[tuple[int, bool]] = []  # of the segment that is being read, or of the first one

    def take(self, line: str) -> None:
        capture = self.capture
        if not line:
            return
        if line.startswith("#"):
            capture.comments.append(line[1:].strip())
            return
        if capture.end_ms is not None:
            raise CaptureError("stands behind the end: remove it")
        kind, _, settings = line.partition(" ")
        if kind in ("line", "edges"):
            if len(capture.segments) == _MAX_SEGMENTS:
                raise CaptureError(f"changes the line more than {_MAX_SEGMENTS:,} times: cut the file off before it")
            if capture.segments:
                self._light = []
            capture.segments.append(Segment(line_of(settings), kind == "edges", [], self._light))
        elif found := _END.fullmatch(line):
            capture.end_ms = self._next_time(found[1])
        elif found := _LIGHT.fullmatch(line):
            self._light.append((self._time(found[1]), found[2] == "1"))
        elif not (found := _BYTES.fullmatch(line)):
            raise CaptureError(f"is {line[:20]!r}, none of line, edges, light, end and bytes in hex: correct it")
        elif not capture.segments:
            raise CaptureError("comes before the line's settings: put such as line 9600 8N1 before it")
        else:
            capture.segments[-1].chunks.append((self._next_time(found[1]), bytes.fromhex(found[2])))

    @staticmethod
    def _time(digits: str) -> int:
        if int(digits) > _LATEST_MS:
            raise CaptureError(f"is of {digits} ms, later than {MAX_S} s: cut the file off before it")
        return int(digits)

    def _next_time(self, digits: str) -> int:
        ms = self._time(digits)
        if ms < self._ms:
            raise CaptureError(f"is of {ms} ms, after one of {self._ms} ms: put the lines in their order")
        self._ms = ms
        return ms


def line_of(text: str) -> Line:
    """Line settings as written in the file: "9600 8N1", "9600 7E1 inverted". Raises CaptureError."""
    found = _LINE.fullmatch(text)
    if not found or int(found[1]) not in _BAUDS:
        raise CaptureError(f"has no settings of a line ({text[:20]!r}): give such as 9600 8N1, or 2400 8E1 inverted")
    parity = None if found[3] == "N" else found[3]
    return Line(int(found[1]), int(found[2]), parity, int(found[4]), bool(found[5]))


class Replay:
    """A Source of the optical server: the bytes of `part` at its pace, again and again with `pause_s` in between.

    `line` is what it sends with. Characters of 7 bits with their parity bit are sent as 8 bits: the same light, and a
    wrong parity stays wrong. Where two segments are one part, all of it is sent with the line of the longer one.
    """

    def __init__(self, part: Part, pause_s: float = 1.0) -> None:
        from .virtual.source import Transmission

        line = part.line
        if line.bits == 7 and max(part.data) > 0x7F:
            line = Line(line.baud, 8, None, line.stop, line.invert)
        self.line = line
        self._transmission = Transmission
        self._pause_s = pause_s
        self._pieces = []
        for segment in part.segments:
            for ms, data in segment.chunks:
                self._pieces.append((ms / 1000 - duration_ns(line, len(data)) / 1e9, data))
        self._next = 0
        self._began_s: float | None = None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if self._next == len(self._pieces):
            self._next = 0
            self._began_s = free_s + self._pause_s
        if self._began_s is None:
            self._began_s = free_s
        from_s, data = self._pieces[self._next]
        at_s = max(free_s, self._began_s + from_s - self._pieces[0][0])
        if at_s > now_s:
            return None
        self._next += 1
        return self._transmission(at_s, data, None, self._next == len(self._pieces))
