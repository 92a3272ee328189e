"""M-Bus: the header's number, texts, numbers that measure nothing, dates, the maker's bytes; the checksum anew."""

from __future__ import annotations

from collections.abc import Iterator

from metering.compat import hex_text
from metering.mbus.meter_reply import MeterReply
from metering.mbus.records import Record

from .. import decoding
from .numbers import Numbers, Piece, Unsure, blank

# Quantities without a unit that tell the meter's state or model, not which one it is
_STAY = ("error flags", "error mask", "digital input", "digital output", "medium", "hardware version")
_STAY += ("firmware version", "software version", "dimensionless", "relative humidity", "day of week", "week number")
_CI_AT = 6
_HIGH_FIRST = 0x76
_NUMBER = slice(7, 11)  # of the header, in the frame
_DAYS = {2: b"\x01\x01", 4: b"\x00\x00\x01\x01", 6: b"\x00\x00\x00\x01\x01\x00"}  # the 1st of January 2000
_NO_NUMBER = 0xFF  # neither in BCD nor as a real number: a value that is none stays none
_FIRST_NUMBER = 0xC0  # of a length that a record tells itself: below it is a text


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
    listener = MeterReply()
    if next(decoding.hear(listener, data[start:end]), None) is None or not listener.accepted:
        raise Unsure
    frame = bytearray(data[start:end])
    if frame[_CI_AT] == _HIGH_FIRST:  # what the listener says of places and letters is of the frame turned over
        raise Unsure
    if listener.number:
        numbers.note(listener.number.encode())
        frame[_NUMBER] = bytes(4)
    clock_seen = False
    for record in listener._records():
        if record.names_itself:  # who knows what the letters say
            raise Unsure
        is_text = isinstance(record.value, str) and record.date is None
        is_clock = record.name == "time" and record.date is not None and not clock_seen
        is_clock = is_clock and not (record.storage or record.function or record.qualified)
        clock_seen = clock_seen or is_clock
        stays = record.unit is not None or record.name in _STAY
        if not is_clock and (is_text or not stays) and record.end > record.at:
            frame[record.at : record.end] = _hidden(frame, record, numbers)
    frame[-2] = sum(frame[4:-2]) & 0xFF
    yield Piece(start, end, bytes(frame))


def _hidden(frame: bytes | bytearray, record: Record, numbers: Numbers) -> bytes:
    octets = bytes(frame[record.at : record.end])
    if record.date:
        return _DAYS[len(octets)]
    if record.is_tail or record.name == "?":
        return bytes(len(octets))
    if isinstance(record.value, str) and not (record.is_time and not record.is_variable):
        text = octets[::-1]
        numbers.note(text)
        return blank(text)[::-1]
    if record.is_time:  # of zeros there is no date
        return bytes(len(octets))
    if not isinstance(record.value, int):
        is_text = record.is_variable and frame[record.at - 1] < _FIRST_NUMBER
        return bytes(len(octets)) if is_text else bytes((_NO_NUMBER,)) * len(octets)
    numbers.note(b"%d" % abs(record.value))
    numbers.note(hex_text(octets[::-1]).encode())
    return bytes(len(octets))
