"""SML: server id, entries that are no measurement, public key and signatures; the CRC of each message anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from metering.checksum import CCITT, KERMIT_INIT, X25_INIT, crc16, crc_table

from .numbers import Numbers, Piece, Unsure, is_maker, names_meter, stays

CCITT_TABLE = crc_table(CCITT)

_START = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
_ESCAPE = b"\x1b\x1b\x1b\x1b"
_END = 0x1A
_OCTETS, _INTEGER, _UNSIGNED, _LIST = 0x00, 0x50, 0x60, 0x70
_MAX_DEPTH = 24  # a parameter tree nests some ten deep
_OPEN, _LIST_RESPONSE = 0x0101, 0x0701
_SERVER_AT = {_OPEN: 3, _LIST_RESPONSE: 1, 0x0301: 0, 0x0401: 0, 0x0501: 0, 0xFF01: 0}  # in the body, by its tag


class _Field(NamedTuple):
    """An element of SML: its type-length field at `first`, what it holds at..end."""

    kind: int
    first: int
    at: int
    end: int
    parts: list[_Field]


def _field(buf: bytearray, first: int, depth: int = 0) -> _Field:
    byte = buf[first]
    if not byte:  # the end of a message
        return _Field(_OCTETS, first, first + 1, first + 1, [])
    kind = byte & 0x70
    length = byte & 0x0F
    at = first + 1
    while byte & 0x80:
        byte = buf[at]
        length = length << 4 | byte & 0x0F
        at += 1
    if kind != _LIST:
        end = first + length
        if not at <= end <= len(buf):
            raise Unsure
        return _Field(kind, first, at, end, [])
    if depth == _MAX_DEPTH or length > len(buf):
        raise Unsure
    parts = []
    end = at
    for _ in range(length):
        parts.append(_field(buf, end, depth + 1))
        end = parts[-1].end
    return _Field(kind, first, at, end, parts)


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
    at = start + len(_START)
    while True:
        at = data.index(_ESCAPE, at)
        if data[at + 4] == _END:
            break
        at += 8
    sent = data[at + 6 : at + 8]
    kermit = _sml_crc(data[start : at + 6], True) == sent
    messages = bytearray(data[start + len(_START) : at].replace(_ESCAPE + _ESCAPE, _ESCAPE))
    found = []
    n = 0
    while n < len(messages):
        if not messages[n]:
            n += 1
            continue
        found.append(_field(messages, n))
        n = found[-1].end
    behind = found[-1].end
    before = len(messages)
    for message in reversed(found):  # a CRC may become longer
        _mask_message(messages, message, numbers)
    fill = messages[behind + len(messages) - before :]
    if len(messages) != before:
        del messages[len(messages) - len(fill) :]
        fill = bytes(-len(messages) % 4)
        messages += fill
        tail = bytes((_END, len(fill)))
    else:
        tail = data[at + 4 : at + 6]
    fresh = _START + bytes(messages).replace(_ESCAPE, _ESCAPE + _ESCAPE) + _ESCAPE + tail
    yield Piece(start, end, fresh + _sml_crc(fresh, kermit))


def _sml_crc(data: bytes | bytearray, kermit: bool) -> bytes:
    if kermit:
        return crc16(data, KERMIT_INIT, CCITT_TABLE).to_bytes(2, "big")
    return (crc16(data, X25_INIT, CCITT_TABLE) ^ 0xFFFF).to_bytes(2, "little")


def _mask_message(buf: bytearray, message: _Field, numbers: Numbers) -> None:
    body, crc = message.parts[3], message.parts[4]
    tag = int.from_bytes(buf[body.parts[0].at : body.parts[0].end], "big")
    sent = bytes(buf[crc.at : crc.end]).rjust(2, b"\0")
    right = [kermit for kermit in (False, True) if _sml_crc(buf[message.first : crc.first], kermit) == sent]

    fields = body.parts[1].parts
    if tag in _SERVER_AT:
        _mask_field(buf, fields[_SERVER_AT[tag]], numbers)
    if tag == _LIST_RESPONSE:
        _blank(buf, fields[5])
        for entry in fields[4].parts:
            if len(entry.parts) == 7:
                name = entry.parts[0]
                obis, value = bytes(buf[name.at : name.end]), entry.parts[5]
                if names_meter(obis) and obis[2:5] not in numbers.kept:
                    _mask_field(buf, value, numbers)
                elif not stays(obis, entry.parts[3].end > entry.parts[3].at, numbers.kept):
                    _mask_other(buf, value, numbers)
                _blank(buf, entry.parts[6])
    _hide_found(buf, message, numbers)

    if right:
        fresh = _sml_crc(buf[message.first : crc.first], right[0])
        n = crc.end - crc.at
        if n == 1 and fresh[0]:
            buf[crc.first : crc.end] = b"\x63" + fresh
        else:
            buf[crc.at : crc.end] = fresh.rjust(n, b"\0")[-n:]


def _mask_field(buf: bytearray, held: _Field, numbers: Numbers) -> None:
    if held.kind == _OCTETS and held.end > held.at:
        buf[held.at : held.end] = numbers.masked(bytes(buf[held.at : held.end]))
    elif held.kind in (_INTEGER, _UNSIGNED):
        numbers.note(b"%d" % int.from_bytes(buf[held.at : held.end], "big"))
        _blank(buf, held)


def _mask_other(buf: bytearray, held: _Field, numbers: Numbers) -> None:
    """What is no measurement and names no meter, as far as its code tells."""
    octets = bytes(buf[held.at : held.end])
    if held.kind == _OCTETS and octets and not is_maker(octets):
        buf[held.at : held.end] = numbers.masked(octets)
    elif held.kind in (_INTEGER, _UNSIGNED):
        _blank(buf, held)


def _blank(buf: bytearray, held: _Field) -> None:
    buf[held.at : held.end] = bytes(held.end - held.at)


def _hide_found(buf: bytearray, held: _Field, numbers: Numbers) -> None:
    for part in held.parts:
        _hide_found(buf, part, numbers)
    if held.kind == _OCTETS and held.end > held.at:
        buf[held.at : held.end] = numbers.masked_where_found(bytes(buf[held.at : held.end]))
