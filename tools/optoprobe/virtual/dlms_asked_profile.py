"""The load profile of the simulated DLMS meter: class 7, a row an hour, the times of most rows left out (null-data)."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

from . import dlms_encoder as enc

OBIS = "1-0:99.1.0*255"
N_ROWS = 48
_HOUR = timedelta(hours=1)
_DEVIATION = -60  # minutes from its time to UTC
_FROM, _TO = slice(24, 36), slice(38, 50)  # of a range_descriptor by the clock
_COLUMNS = ((8, "0-0:1.0.0*255", 2), (3, "1-0:1.8.0*255", 2), (3, "1-0:2.8.0*255", 2))


def rows(until: datetime) -> list[tuple[datetime, int, int]]:
    """Time, import and export in Wh of the hours up to `until`, the oldest first."""
    last = until.replace(minute=0, second=0)
    found = []
    for k in range(N_ROWS):
        hours = N_ROWS - 1 - k
        found.append((last - hours * _HOUR, 4_711_000 - 321 * hours, 12_000 - 7 * hours))
    return found


def _utc(octets: bytes) -> datetime:
    year, month, day, _, hour, minute, second, _, deviation = struct.unpack(">HBBBBBBBh", octets[:11])
    return datetime(year, month, day, hour, minute, second) + timedelta(minutes=deviation)


def attributes(until: datetime, selector: bytes) -> dict[int, bytes]:
    """Attribute -> its value. `selector`: what follows a GET's attribute, first whether there is one: entry_descriptor
    or range_descriptor (Blue Book 4.3.6), of the latter the first and last time."""
    shown = rows(until)
    if selector[:4] == b"\x01\x01\x02\x04" and len(selector) >= _TO.stop:
        first, last = _utc(selector[_FROM]), _utc(selector[_TO])
        shown = [row for row in shown if first <= row[0] + timedelta(minutes=_DEVIATION) <= last]
    if selector[:5] == b"\x01\x02\x02\x04\x06" and len(selector) >= 14:
        begin, end = int.from_bytes(selector[5:9], "big"), int.from_bytes(selector[10:14], "big")
        shown = shown[begin - 1 : end]
    listed = []
    for k, (at, bought, sold) in enumerate(shown):
        time = enc.octets(enc.date_time_octets(at, deviation=_DEVIATION)) if k % 8 == 0 else b"\x00"
        listed.append(enc.structure((time, enc.number(enc.UINT32, bought), enc.number(enc.UINT32, sold))))
    columns = [
        enc.structure(
            (
                enc.number(enc.UINT16, class_id),
                enc.octets(enc.obis_bytes(obis)),
                b"\x0f" + bytes((attribute,)),
                enc.number(enc.UINT16, 0),
            )
        )
        for class_id, obis, attribute in _COLUMNS
    ]
    return {
        2: enc.array(listed),
        3: enc.array(columns),
        4: enc.number(enc.UINT32, 3600),
        7: enc.number(enc.UINT32, N_ROWS),
        8: enc.number(enc.UINT32, N_ROWS),
    }
