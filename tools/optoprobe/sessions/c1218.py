"""A recorded conversation in ANSI C12.18, read from both sides: each session with values is a Telegram.

A table's bytes do not say which table they are of: the question does. What is damaged, refused or unasked is a
Rejected, and reading goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metering.c1218 import nes_tables
from metering.c1218.c1219_tables import C1219Tables
from metering.c1218.psem_frame import BEGIN, CRC_BYTES, FIRST, HEAD_BYTES, MOST_DATA, MULTI, found
from metering.c1218.psem_request import refusal, table_data
from metering.reading import Reading

from ..decoding import Rejected, Telegram, register_of, utc_text
from ..transcript import Burst

_NAME = "c1218"
_MOST_REPLY = 4096
_IDENT, _READ, _READ_PART = 0x20, 0x30, 0x3F
_REGISTERS = 23  # table
_UNKNOWN = b"\xff"  # a request that came damaged: its reply says nothing


def decode(
    bursts: Iterable[Burst],
    key: bytes | None = None,
    auth_key: bytes | None = None,
    short_names: Mapping[int, bytes] | None = None,
) -> Iterator[Telegram | Rejected]:
    """What a conversation gives; keys and names are other protocols'. Raises nothing."""
    session = _Session()
    offset = 0
    for burst in bursts:
        yield from session.take(burst, offset)
        offset += len(burst.data)
    yield from session.end()


class _Session:
    def __init__(self) -> None:
        self._offset = 0  # where the session began
        self._request = b""
        self._reply = b""
        self._due = 0  # packets of the reply that must follow
        self._marks: dict[bool, bytes] = {}  # by side: control and CRC of the packet before
        self._is_nes = False
        self._number = ""
        self._readings: list[Reading] = []
        self._tables: dict[int, tuple[int, bytes]] = {}  # of no NES meter: where its bytes begin, and these

    def take(self, burst: Burst, offset: int) -> Iterator[Telegram | Rejected]:
        if burst.damage:
            yield Rejected(offset, "bad line", burst.damage, protocol=_NAME)
        data, at = burst.data, 0
        while (at := data.find(bytes((BEGIN,)), at)) >= 0:
            length = int.from_bytes(data[at + 4 : at + HEAD_BYTES], "big")
            end = at + HEAD_BYTES + length + CRC_BYTES
            frame = data[at:end]
            if len(data) < at + HEAD_BYTES or not 0 < length <= MOST_DATA or end > len(data):
                yield Rejected(offset + at, "incomplete", f"{len(data) - at} bytes", protocol=_NAME)
                at += 1
                continue
            if not found(frame):
                yield Rejected(offset + at, "bad checksum", f"a packet of {length} bytes of data", protocol=_NAME)
                if burst.to_meter:
                    self._request, self._reply, self._due = _UNKNOWN, b"", 0
                elif nes_tables.is_nes(frame[HEAD_BYTES:-CRC_BYTES]):
                    self._is_nes = True  # its tables have checks of their own; its number is not believed
                at = end if end == len(data) else at + 1
                continue
            mark = frame[2:3] + frame[-CRC_BYTES:]
            if self._marks.get(burst.to_meter) != mark:
                self._marks[burst.to_meter] = mark
                if burst.to_meter:
                    yield from self._asked(frame[HEAD_BYTES:-CRC_BYTES], offset + at)
                else:
                    yield from self._said(frame, offset + at)
            at = end

    def _asked(self, request: bytes, offset: int) -> Iterator[Telegram | Rejected]:
        if request[0] == _IDENT:
            yield from self.end()
            self._offset = offset
        self._request, self._reply, self._due = request, b"", 0

    def _said(self, frame: bytes, offset: int) -> Iterator[Telegram | Rejected]:
        control, sequence = frame[2], frame[3]
        is_first = bool(control & FIRST) or not control & MULTI
        if not self._request or (not is_first and sequence != self._due - 1):
            yield Rejected(offset, "unasked", "no request before it, or not in order", protocol=_NAME)
            return
        self._reply = (b"" if is_first else self._reply) + frame[HEAD_BYTES:-CRC_BYTES]
        self._due = sequence
        if sequence or len(self._reply) > _MOST_REPLY:
            return
        request, self._request = self._request, b""
        why = refusal(self._reply[0])
        if why:
            yield Rejected(offset, "refused", f"service {request[0]:02x}: {why}", protocol=_NAME)
        elif request[0] == _IDENT:
            self._is_nes = nes_tables.is_nes(self._reply)
            self._number = nes_tables.number_of(self._reply)
        elif request[0] in (_READ, _READ_PART) and len(request) in (3, 8):
            data = table_data(self._reply)
            table = int.from_bytes(request[1:3], "big")
            if data is None:
                yield Rejected(offset, "bad checksum", f"of table {table}", protocol=_NAME)
            else:
                self._tell(table, int.from_bytes(request[3:6], "big"), data)

    def _tell(self, table: int, start: int, data: bytes) -> None:
        if not self._is_nes:
            begin, before = self._tables.get(table, (0, b""))
            is_next = before and start == begin + len(before)
            self._tables[table] = (begin, before + data) if is_next else (start, data)
        elif not start:
            wanted = [count for number, count in nes_tables.WANTED if number == table]
            if wanted and len(data) >= wanted[0]:
                self._readings += nes_tables.readings(table, data)

    def end(self) -> Iterator[Telegram | Rejected]:
        """The session is over."""
        clock = None
        if _REGISTERS in self._tables:
            tables = C1219Tables()
            while tables.table >= 0:
                begin, data = self._tables.get(tables.table, (0, None))
                if begin and tables.table != _REGISTERS:
                    data = None
                tables.take(data, begin, "not in this recording, or not from its begin on")
            self._readings, self._number = tables.readings, tables.number
            clock = utc_text(tables.clock)
            if tables.why:
                yield Rejected(self._offset, "left out", tables.why, protocol=_NAME)
        if self._readings:
            rows = tuple(register_of(reading, None) for reading in self._readings)
            yield Telegram(_NAME, self._offset, self._number or None, clock, rows)
        self._readings, self._tables = [], {}
        self._number, self._is_nes = "", False
