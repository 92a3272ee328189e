"""What the data of a conversation say: values, scales, clocks, and readings of both."""

from __future__ import annotations

from metering.binary_fraction import value_of
from metering.compat import ascii_text, signed
from metering.dlms.axdr import ENUM, INT8, OCTETS, STRUCTURE, Axdr, Malformed, integer, string_at
from metering.reading import Reading
from metering.register import unit_symbol

DATA = 1  # class whose values have no scale
_BOOLEAN, _FLOAT32, _FLOAT64, _DATE_TIME, _TWELVE = 0x03, 0x17, 0x18, 0x19, 12
_NO_UNIT = 255
_TOTAL = bytes((1, 0, 1, 8, 0, 255))

Value = int | bytes | str | bool
Scales = dict[bytes, tuple[int, int] | None]  # of codes; None: it was said in two ways


def value(data: bytes) -> tuple[Value, int]:
    """A value of one element, and a number's power of ten, else 0. Raises Malformed for any other."""
    if Axdr().parse(data, 0, len(data)) != len(data):
        raise Malformed("data of another length")
    number = integer(data, 0)
    if number is not None:
        return number, 0
    tag = data[0]
    if tag in (_FLOAT32, _FLOAT64):
        found = value_of(int.from_bytes(data[1:], "big"), 8 * len(data[1:]))
        if found is None:
            raise Malformed("a binary fraction that is no value")
        return found
    if tag == _BOOLEAN:
        return data[1] != 0, 0
    at, n = string_at(data, 0, len(data))
    if not at:
        raise Malformed(f"data of type 0x{tag:02X} are no reading" if tag else "no data")
    text = data[at : at + n]
    return text if tag == OCTETS else ascii_text(text) or text, 0


def is_scale(data: bytes) -> bool:
    return len(data) == 6 and data[0] == STRUCTURE and data[1] == 2 and data[2] == INT8 and data[4] == ENUM


def scale(data: bytes) -> tuple[int, int]:
    if not is_scale(data):
        raise Malformed("no scaler and unit")
    return signed(data[3], 8), data[5]


def note(scales: Scales, obis: bytes, data: bytes) -> None:
    """Take a scale down. Raises Malformed."""
    said = scale(data)
    scales[obis] = said if scales.get(obis, said) == said else None


def date_time(data: bytes) -> tuple[int, ...] | None:
    """The 12 bytes of a clock (Green Book, 4.1.6.1) as date_time_text() takes them, alone or, as Gurux's server in C
    sends them, twice and with two bytes behind each. Raises Malformed."""
    half = len(data) // 2
    if half > _TWELVE and data[:half] == data[half:]:
        data = data[: 2 + _TWELVE]
    if data[:2] == bytes((OCTETS, _TWELVE)):
        data = data[2:]
    elif data[:1] == bytes((_DATE_TIME,)):
        data = data[1:]
    if len(data) != _TWELVE:
        raise Malformed("no date and time of 12 bytes")
    deviation = signed(data[9] << 8 | data[10], 16)
    local = (data[0] << 8 | data[1], *data[2:4], *data[5:8])
    return (*local, None if deviation == -0x8000 else deviation)  # type: ignore[return-value]


def reading(class_id: int, obis: bytes, value: Value, exponent: int, scales: Scales) -> Reading | None:
    """The reading; None for the count of a register whose scale is not known."""
    unit = None
    if class_id != DATA and isinstance(value, int) and not isinstance(value, bool):
        known = scales.get(obis)
        if known is None:
            return None
        exponent, unit = exponent + known[0], known[1]
    reading = Reading(obis, value, exponent, None if unit == _NO_UNIT else unit)
    if not class_id:
        reading.address = short_name(obis)
        reading.printed_unit = unit_symbol(reading.unit)  # type: ignore[assignment]
    return reading


def take_for_total(reading: Reading) -> None:
    """Call a reading that has a short name alone the total, and say so in the name people see."""
    reading.printed_name = f"{reading.address}, taken for the total"  # type: ignore[attr-defined]
    reading.obis, reading.address = _TOTAL, None


def short_name(obis: bytes) -> str:
    return f"short name {obis[1] << 8 | obis[2]}"
