"""The last rows of a DLMS meter's load profile (class 7, Blue Book 4.3.6).

Which columns (3), their scales once (in lists where the meter grants that), how many rows (7), then of the rows (2) the
last: by their numbers where the meter lets one choose, else all go by and the last are kept.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from metering.dlms.axdr import Malformed
from metering.dlms.getter import OTHER
from metering.dlms.result_words import result_text
from metering.dlms.xdlms import get
from metering.dlms.xdlms_read import read
from metering.reading import Reading

from ...decoding import date_time_text, obis_text, register_of
from .asked_lists import Actions, Asked, Fraction, Items

_SCALES = {3: 3, 4: 3, 5: 4}  # class -> attribute of scaler and unit
_PROFILE, _ROWS, _COLUMNS, _PERIOD, _IN_USE = 7, 2, 3, 4, 7
_MOST_COLUMNS = 64
_MOST_POWER = 9  # of a scaler
MOST_ROWS = 10_000


@dataclass(frozen=True)
class Column:
    class_id: int
    obis: bytes
    attribute: int
    exponent: int = 0
    unit: int | None = None
    is_scaled: bool = True  # else the meter has a scale of it, and does not tell it

    @property
    def is_clock(self) -> bool:
        return self.class_id == 8

    @property
    def scale(self) -> int:
        """The attribute that tells its scaler and unit, 0 for a column that has none."""
        scale = _SCALES.get(self.class_id, 0)
        return scale if self.attribute in (2, 3) and self.attribute != scale else 0

    def shown(self, value: Any) -> tuple[str | None, str | None]:
        """(value as an exact decimal or a text, unit) of what was sent; two None for what nobody can tell."""
        if value is None or isinstance(value, (int, Fraction)) and not self.is_scaled:
            return None, None
        if self.is_clock or isinstance(value, bytes) and len(value) == 12:
            text = time_text(value)
            if text is not None:
                return text, None
        if isinstance(value, list):
            return str(value), None
        exponent = self.exponent
        if isinstance(value, Fraction):
            if value.value is None:
                return None, None
            value, exponent = value.value, exponent + value.exponent
        register = register_of(Reading(self.obis, value, exponent, self.unit), None)
        return register.value, register.unit


def time_text(octets: Any) -> str | None:
    """A date-time of 12 bytes as ISO 8601, None for what is none."""
    if not isinstance(octets, bytes) or len(octets) != 12:
        return None
    year, month, day, _, hour, minute, second, _, deviation = struct.unpack(">HBBBBBBBh", octets[:11])
    second = 0 if second == 0xFF else second
    date: Any = year, month, day, hour, minute, second, None if deviation == -0x8000 else deviation
    return date_time_text(date)


def profile(
    obis: bytes, last: int, on_row: Callable[[list[Column], list[Any]], None]
) -> Callable[[Asked], Actions]:
    """Reads the last rows of the profile `obis`, the oldest of them first."""

    def read_all(asked: Asked) -> Actions:
        columns = yield from _columns(asked, obis)
        period_s = yield from asked.attribute(_PROFILE, obis, _PERIOD)
        rows = _Rows(columns, period_s, last)
        result: int = OTHER
        if not asked.has_short_names:
            in_use = yield from asked.attribute(_PROFILE, obis, _IN_USE)
            if isinstance(in_use, int) and last < in_use < 1 << 32:
                result = yield from _stream_rows(asked, _last_rows(obis, in_use - last + 1, in_use), rows)
        if result:
            short = asked.has_short_names
            message = read([asked.base_name(obis) + 8 & 0xFFFF]) if short else get(0xC1, _PROFILE, obis, _ROWS)
            rows = _Rows(columns, period_s, last)
            result = yield from _stream_rows(asked, message, rows)
        if result:
            raise Malformed(f"it refuses the rows of its profile ({result_text(result)})")
        for row in rows.last:
            on_row(columns, row)

    return read_all


class _Rows:
    """The `last` rows of those that come, what is left out filled in."""

    def __init__(self, columns: list[Column], period_s: Any, n: int) -> None:
        self._columns = columns
        self._period_s = period_s
        self.last: deque[list[Any]] = deque(maxlen=n)

    def take(self, row: Any) -> None:
        if not isinstance(row, list) or len(row) != len(self._columns):
            raise Malformed("a row of its profile has other columns")
        before = self.last[-1] if self.last else [None] * len(row)
        cells = zip(self._columns, row, before, strict=True)
        self.last.append([_filled(column, value, old, self._period_s) for column, value, old in cells])


def _stream_rows(asked: Asked, message: bytes, rows: _Rows) -> Actions:
    items = Items()

    def take(piece: bytes) -> None:
        for row in items.take(piece):
            rows.take(row)

    result = yield from asked.stream(message, take)
    if not result and items.left:
        raise Malformed("its profile is cut off")
    return result


def _last_rows(obis: bytes, first: int, last: int) -> bytes:
    """A GET of the rows `first` to `last`, all their columns (entry_descriptor, Blue Book 4.3.6)."""
    rows = b"\x06" + first.to_bytes(4, "big") + b"\x06" + last.to_bytes(4, "big")
    return get(0xC1, _PROFILE, obis, _ROWS)[:-1] + b"\x01\x02\x02\x04" + rows + b"\x12\x00\x01\x12\x00\x00"


def _columns(asked: Asked, obis: bytes) -> Actions:
    captured = yield from asked.attribute(_PROFILE, obis, _COLUMNS)
    if not captured:
        raise Malformed(f"it has no profile {obis_text(obis)} for this client: --objects shows which there are")
    columns: list[Column] = []
    if not isinstance(captured, list) or len(captured) > _MOST_COLUMNS:
        raise Malformed("the columns of its profile have another form")
    for item in captured:
        numbers = [item[0], item[2]] if isinstance(item, list) and len(item) == 4 else [None]
        if not all(isinstance(n, int) for n in numbers) or not isinstance(item[1], bytes) or len(item[1]) != 6:
            raise Malformed("the columns of its profile have another form")
        columns.append(Column(item[0], item[1], item[2]))
    scaled = [k for k, column in enumerate(columns) if column.scale]
    scales = yield from asked.attributes([(columns[k].class_id, columns[k].obis, columns[k].scale) for k in scaled])
    for k, found in zip(scaled, scales, strict=True):
        is_scale = isinstance(found, list) and len(found) == 2 and all(isinstance(part, int) for part in found)
        if is_scale and -_MOST_POWER <= found[0] <= _MOST_POWER:
            columns[k] = replace(columns[k], exponent=found[0], unit=None if found[1] == 255 else found[1])
        else:
            columns[k] = replace(columns[k], is_scaled=False)
    return columns


def _filled(column: Column, value: Any, before: Any, period_s: Any) -> Any:
    """A value that is left out is that of the row before; a time is later by the period."""
    if value is not None or before is None:
        return value
    if not column.is_clock or not isinstance(before, bytes) or len(before) != 12:
        return before
    year, month, day, _, hour, minute, second = struct.unpack(">HBBBBBB", before[:8])
    try:
        at = datetime(year, month, day, hour, minute, 0 if second == 0xFF else second)
        at += timedelta(seconds=period_s if isinstance(period_s, int) else 0)
    except (ValueError, OverflowError):
        return None
    head = struct.pack(">HBBBBBB", at.year, at.month, at.day, 0xFF, at.hour, at.minute, at.second)
    return head + before[8:]
