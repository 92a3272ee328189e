"""What a DLMS meter holds beyond its registers of now is asked for here: single attributes, several, and long lists.

    list of objects     Association LN, 0.0.40.0.0.255, or SN's FA00: an entry is handed on as soon as it is whole

Reads alone, as metering.dlms.client does, whose ways in these are. A load profile: load_profile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from metering.binary_fraction import value_of
from metering.dlms.association import LN
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.client import Conversation
from metering.dlms.getter import LOST, OTHER
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.result_words import result_text
from metering.dlms.xdlms import (
    EXCEPTION,
    GET_RESPONSE,
    READ_RESPONSE,
    SERVICE_ERROR,
    Answer,
    get,
    get_next,
    result_at,
)
from metering.dlms.xdlms_read import read, read_next
from metering.on_computer.get_list import MAX_ITEMS, MULTIPLE_REFERENCES, get_list
from metering.reading import Reading

from ...decoding import obis_text, register_of

Actions = Generator[Any, Any, Any]

CLASSES = {
    1: "data",
    3: "register",
    4: "extended register",
    5: "demand register",
    6: "register activation",
    7: "profile generic",
    8: "clock",
    9: "script table",
    10: "schedule",
    11: "special days",
    12: "association SN",
    15: "association LN",
    17: "SAP assignment",
    18: "image transfer",
    19: "IEC local port",
    20: "activity calendar",
    21: "register monitor",
    22: "single action schedule",
    23: "IEC HDLC set-up",
    40: "push set-up",
    41: "TCP-UDP set-up",
    64: "security set-up",
    70: "disconnect control",
    71: "limiter",
}
_ASSOCIATION = bytes((0, 0, 40, 0, 0, 255))
_OBJECT_LIST = 0xFA08
_MOST_BLOCKS = 20_000
_MOST_ITEM = 8192  # bytes of one entry or row, or of a list of attributes
_MOST_DEPTH = 8

_INTEGERS = {0x05: 4, 0x0F: 1, 0x10: 2, 0x14: 8}
_UNSIGNED = {0x03: 1, 0x06: 4, 0x0D: 1, 0x11: 1, 0x12: 2, 0x15: 8, 0x16: 1}
_FRACTIONS = {0x17: 4, 0x18: 8}  # binary ones
_TIMES = {0x19: 12, 0x1A: 5, 0x1B: 4}


class Fraction(NamedTuple):
    """A binary fraction as an exact decimal (metering.binary_fraction); `value` None for what is no number."""

    value: int | None
    exponent: int

    def __repr__(self) -> str:  # in a list, which is shown as it is
        return "None" if self.value is None else format(Decimal(self.value).scaleb(self.exponent), "f")


class _More(Exception):
    """The value goes on in what has not come yet."""


def value_at(data: bytes | bytearray, at: int, depth: int = 0) -> tuple[Any, int]:
    """(the A-XDR value there, where it ends): int, bool, Fraction, bytes, list or None. Raises Malformed, _More."""
    tag = _piece(data, at, 1)[0]
    at += 1
    if tag in (0x00, 0xFF):
        return None, at
    if tag in (0x01, 0x02):
        if depth == _MOST_DEPTH:
            raise Malformed("its data lie too deep")
        n, at = _length(data, at)
        found = []
        for _ in range(n):
            value, at = value_at(data, at, depth + 1)
            found.append(value)
        return found, at
    if tag in _INTEGERS or tag in _UNSIGNED:
        n = _INTEGERS.get(tag) or _UNSIGNED[tag]
        value = int.from_bytes(_piece(data, at, n), "big", signed=tag in _INTEGERS)
        return (bool(value) if tag == 0x03 else value), at + n
    if tag in _FRACTIONS:
        n = _FRACTIONS[tag]
        number = value_of(int.from_bytes(_piece(data, at, n), "big"), 8 * n)
        return Fraction(*number) if number else Fraction(None, 0), at + n
    if tag in _TIMES:
        return _piece(data, at, _TIMES[tag]), at + _TIMES[tag]
    if tag in (0x04, 0x09, 0x0A, 0x0C):
        n, at = _length(data, at)
        n = (n + 7) >> 3 if tag == 0x04 else n
        return _piece(data, at, n), at + n
    raise Malformed(f"its data are of an odd type ({tag:02x})")


def _length(data: bytes | bytearray, at: int) -> tuple[int, int]:
    first = _piece(data, at, 1)[0]
    _piece(data, at, 1 + (first & 0x7F if first & 0x80 else 0))
    return ber_length(data, at, len(data))


def _piece(data: bytes | bytearray, at: int, n: int) -> bytes:
    if at + n > len(data):
        raise _More
    return bytes(data[at : at + n])


class Items:
    """The elements of one array that comes in pieces; of what has come only the element that is not whole is held."""

    def __init__(self) -> None:
        self.left = -1  # elements to come; -1: the array has not begun
        self._held = bytearray()

    def take(self, piece: bytes) -> Iterator[Any]:
        """The elements that are whole with `piece`. Raises Malformed."""
        self._held += piece
        at = 0
        try:
            if self.left < 0:
                if _piece(self._held, 0, 1) != b"\x01":
                    raise Malformed("its list is none")
                self.left, at = _length(self._held, 1)
            while self.left:
                value, at = value_at(self._held, at)
                self.left -= 1
                yield value
        except _More:
            if len(self._held) - at > _MOST_ITEM:
                raise Malformed("an entry of its list is too long") from None
        del self._held[:at]


@dataclass(frozen=True)
class Entry:
    """One object of a meter: `base_name` of short names, else None."""

    class_id: int
    version: int
    obis: bytes
    base_name: int | None

    def line(self) -> str:
        name = register_of(Reading(self.obis, 0), None).name
        code = obis_text(self.obis)
        base = f"  {self.base_name:04x}" if self.base_name is not None else ""
        kind = CLASSES.get(self.class_id, f"class {self.class_id}")
        return f"  {kind:22}  {code:17}{base}  {'' if name == code else name}".rstrip()

    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = {"class": self.class_id, "version": self.version, "obis": obis_text(self.obis)}
        return found if self.base_name is None else found | {"base_name": self.base_name}


class _Everything:
    def __contains__(self, _obis: object) -> bool:
        return True


class Asked(Conversation):
    """Conversation of metering.dlms.client that reads a list in place of the registers. `read_all(self)`, a generator
    of line actions, does so with attribute() and stream(), and may raise Malformed.
    """

    def __init__(self, read_all: Callable[[Asked], Actions], *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._read_list = read_all

    def take_options(self, text: str) -> None:
        super().take_options(text)
        if self.has_short_names:
            getter: Any = self._registers.getter
            getter.wanted = _Everything()

    @property
    def has_short_names(self) -> bool:
        return bool(self._way.context != LN)

    def base_name(self, obis: bytes) -> int:
        """The short name of what attribute() has read."""
        getter: Any = self._registers.getter
        return int(getter.names[obis][1])

    def _read_all(self) -> Actions:
        try:
            yield from self._read_list(self)
        except Malformed as error:
            self._detail = str(error)
            return "bad data"
        return ""

    def attribute(self, class_id: int, obis: bytes, attribute: int) -> Actions:
        """The value of one attribute, as value_at() has it; None where the meter refuses it. Raises Malformed."""
        result = yield from self._registers.getter.get(class_id, obis, attribute)
        if result == LOST:
            raise Malformed(self._link.why or "its answers fail to come")
        if result:
            return None
        getter = self._registers.getter
        try:
            return value_at(bytes(getter.data[getter.at : getter.end]), 0)[0]
        except _More:
            raise Malformed("an answer is cut off") from None

    def attributes(self, items: list[tuple[int, bytes, int]]) -> Actions:
        """The values of several, as attribute() has each: asked for in lists where the meter grants that."""
        values: list[Any] = []
        for at in range(0, len(items), MAX_ITEMS):
            some = items[at : at + MAX_ITEMS]
            found = None
            if len(some) > 1 and self.conformance & MULTIPLE_REFERENCES and not self.has_short_names:
                found = yield from self._list_of(some)
            if found is None:
                found = []
                for item in some:
                    found.append((yield from self.attribute(*item)))
            values += found
        return values

    def _list_of(self, items: list[tuple[int, bytes, int]]) -> Actions:
        """None where the answer is none to a list."""
        data = bytearray()

        def take(piece: bytes) -> None:
            if len(data) + len(piece) > _MOST_ITEM:
                raise Malformed("its list is too long")
            data.extend(piece)

        result = yield from self.stream(get_list(0xC1, items), take, of_list=True)
        if result or not data or data[0] != len(items):
            return None
        values: list[Any] = []
        at = 1
        try:
            while len(values) < len(items):
                result, at = result_at(data, at, len(data))
                value, at = (None, at) if result else value_at(data, at)
                values.append(value)
        except (_More, Malformed):
            return None
        return values if at == len(data) else None

    def stream(self, message: bytes, take: Callable[[bytes], None], of_list: bool = False) -> Actions:
        """Ask `message`, and hand each piece of the data on: 0, or a data-access-result. `of_list`: the data are the
        results, behind their number. Raises Malformed."""
        link, answer = self._link, Answer()
        wanted = READ_RESPONSE if self.has_short_names else GET_RESPONSE
        is_first = True
        for block in range(1, _MOST_BLOCKS):
            if not (yield from link.request(message)):
                raise Malformed(link.why or "its answers fail to come")
            at = len(ANSWER_LLC)
            if link.apdu[at] in (EXCEPTION, SERVICE_ERROR):
                return OTHER
            if link.apdu[at] != wanted:
                raise Malformed("its answer is of another service")
            answer.take(link.apdu, at, link.n)
            if answer.result:
                return answer.result
            at = answer.at
            if answer.block < 0 and of_list:
                at -= 1  # with their number
            elif answer.block < 0:
                result, at = result_at(link.apdu, at, answer.end)
                if result:
                    return result
            elif answer.block != block:
                raise Malformed("a block is missing")
            elif is_first and self.has_short_names:  # how many results, and that the first is good
                result, at = result_at(link.apdu, at + 1, answer.end)
                if result:
                    return result
            take(bytes(link.apdu[at : answer.end]))
            if answer.block < 0 or answer.is_last:
                return 0
            is_first = False
            message = read_next(block) if self.has_short_names else get_next(0xC1, block)
        raise Malformed("its list has no end")


def object_list(on_entry: Callable[[Entry], None]) -> Callable[[Asked], Actions]:
    """Reads the list of objects; each is handed on as it comes."""

    def read_all(asked: Asked) -> Actions:
        items = Items()

        def take(piece: bytes) -> None:
            for item in items.take(piece):
                on_entry(_entry(item, asked.has_short_names))

        message = read([_OBJECT_LIST]) if asked.has_short_names else get(0xC1, 15, _ASSOCIATION, 2)
        result = yield from asked.stream(message, take)
        if result:
            raise Malformed(f"it refuses its list of objects ({result_text(result)})")
        if items.left:
            raise Malformed("its list of objects is cut off")

    return read_all


def _entry(item: Any, has_short_names: bool) -> Entry:
    if isinstance(item, list) and len(item) == 4:
        base, class_id, version, obis = item if has_short_names else (0, *item[:3])
        if all(isinstance(number, int) for number in (base, class_id, version)) and isinstance(obis, bytes):
            if len(obis) == 6:
                return Entry(class_id, version, obis, base & 0xFFFF if has_short_names else None)
    raise Malformed("its list of objects has another form")
