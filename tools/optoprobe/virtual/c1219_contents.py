"""What the standard tables of a simulated meter hold (ANSI C12.19), in either order of bytes.

They are encoded here by themselves; the decoder's code is not used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

WATT, VAR, VA, VOLT = 0, 1, 2, 8
Q1, Q2, Q3, Q4 = 1, 2, 4, 8
INT24, INT32, INT40, INT48, INT64 = 7, 8, 9, 10, 11
FLOAT64, FLOAT32, CHAR12, INT32_4 = 0, 1, 2, 4
BCD6, BCD4, BCD8 = 5, 6, 12
_BYTES = {FLOAT64: 8, FLOAT32: 4, CHAR12: 12, INT32_4: 4, BCD6: 6, BCD4: 4, BCD8: 8}
_BYTES |= {INT24: 3, INT32: 4, INT40: 5, INT48: 6, INT64: 8}
_MULTIPLIERS = {0: 0, 2: 1, 3: 2, 6: 3, 9: 4, -2: 5, -3: 6, -6: 7}
_UNITS = {WATT: "Wh", VAR: "varh", VA: "VAh"}
_CLOCK_UTC = 1_780_000_000  # where the clock begins


class Source(NamedTuple):
    """What one summation counts: 10**`power` of `what`; `code` as a reader should name it, "" where it should not."""

    what: int
    quadrants: int
    code: str
    power: int = 0
    net: bool = False
    time_base: int = 0
    segment: int = 0
    link: int = 0x11  # of table 16: unit of measure, engineering units
    grows_by: int = 1  # a second
    begin: int = 1_234_567


USUAL = (
    Source(WATT, Q1 | Q4, "1-0:1.8.0*255"),
    Source(WATT, Q2 | Q3, "1-0:2.8.0*255", begin=45_678),
    Source(VAR, Q1 | Q2, "1-0:3.8.0*255", begin=3_333),
    Source(VOLT, 0, "", time_base=1, begin=2_301),
)


class C1219Contents:
    """`sources` in the order of table 16, all selected as summations, the last first; `form` of NI_FORMAT1.

    `parts`: may parts of tables be read? `bcd_id`: is the number in BCD? `clock`: TM_FORMAT, 0 for none.
    """

    ident = bytes.fromhex("0000010000")
    last_table = 23

    def __init__(
        self,
        sources: Sequence[Source] = USUAL,
        *,
        seed: int = 1,
        is_big: bool = False,
        form: int = INT32,
        parts: bool = True,
        bcd_id: bool = False,
        clock: int = 0,
        resets: bool = True,
        kind: int = 2,
    ) -> None:
        self.sources = tuple(sources)
        self.order = tuple(range(len(sources)))[::-1]
        self.number = str(81_000_000 + seed * 41_017)
        self._order = "big" if is_big else "little"
        self._form, self._parts, self._bcd_id, self._clock, self._resets = form, parts, bcd_id, clock, resets
        self._kind = kind
        if clock:
            self.last_table = 52

    def _int(self, value: int, size: int) -> bytes:
        return value.to_bytes(size, "big" if self._order == "big" else "little", signed=value < 0)

    def _number(self, value: int) -> bytes:
        if self._form in (BCD4, BCD6, BCD8):
            return bytes.fromhex(str(value).zfill(2 * _BYTES[self._form]))
        if self._form == CHAR12:
            return f"{Decimal(value).scaleb(-3):f}".rjust(12).encode()
        if self._form in (FLOAT32, FLOAT64):
            mark = (">" if self._order == "big" else "<") + "fd"[self._form == FLOAT64]
            return struct.pack(mark, float(Decimal(value).scaleb(-3)))
        return self._int(value, _BYTES[self._form])

    def _values(self, now_s: float) -> list[int]:
        return [source.begin + source.grows_by * int(now_s) for source in self.sources]

    def _id(self) -> bytes:
        return bytes.fromhex(self.number.zfill(16)) if self._bcd_id else self.number.encode().rjust(16)

    def _time(self, now_s: float) -> bytes:
        seconds = _CLOCK_UTC + int(now_s)
        if self._clock == 4:
            return self._int(seconds, 4) + b"\x10"
        if self._clock == 3:
            return self._int(seconds // 60, 4) + bytes((seconds % 60, 0x10))
        moment = datetime.fromtimestamp(seconds, UTC)
        parts = (moment.year - 2000, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        said = bytes.fromhex("".join(f"{part:02d}" for part in parts)) if self._clock == 1 else bytes(parts)
        return said + b"\x10"

    def tables(self, now_s: float) -> dict[int, bytes]:
        values = self._values(now_s)
        n = len(self.sources)
        config = bytes((0x02 | (self._order == "big"), self._clock | self._parts << 3 | self._bcd_id << 5, self._form))
        config += b"OPT " + bytes((self._kind, 0, 40, 255, 2, 0, 7, 0, 0, 0, 0, 0))
        units = b""
        for source in self.sources:
            if source.link & 1:
                bits = source.what | source.time_base << 8 | _MULTIPLIERS[source.power] << 11
                bits |= source.quadrants << 14 | source.net << 18 | source.segment << 19
                units += self._int(bits, 4)
        found = {
            0: config + bytes.fromhex("3b188070000010"),
            1: b"OPT " + b"SIM-1   " + bytes((1, 0, 2, 3)) + self._id(),
            5: self._id().rjust(10, b"\0")[:10] if self._bcd_id else self.number.encode().ljust(20),
            11: bytes((0, len(units) // 4, 0, 0, 0, 0, 0, n)),
            12: units,
            16: bytes(source.link for source in self.sources),
            21: bytes((4 if self._resets else 0, 0, 0, n, 0, 0, 0, 0, 0, 0)),
            22: bytes(self.order),
            23: b"\x05" * self._resets + b"".join(self._number(values[k]) for k in self.order),
        }
        if self._clock:
            found[52] = self._time(now_s)
        return found

    def expected(self, table: int, now_s: float) -> list[tuple[str, str, str]]:
        if table != 23:
            return []
        rows = []
        values = self._values(now_s)
        for k in self.order:
            source = self.sources[k]
            if source.code:
                digits = {CHAR12: -3, FLOAT32: -3, FLOAT64: -3, INT32_4: -4}.get(self._form, 0) + source.power
                value = Decimal(values[k]).scaleb(digits)
                rows.append((source.code, f"{value:f}", _UNITS[source.what]))
        return rows
