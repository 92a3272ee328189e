"""Bytes of a capture in, telegrams out: the metering core as one call, for the command line and for other programs.

The core is driven exactly as on the device: fed in chunks, asked for events until there are none, told of the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from metering import protocols
from metering.detection.candidates import load_probes, signature
from metering.dlms.meter_key import KEY_DIGITS, key_bytes, key_digits
from metering.line import SWITCH, Line
from metering.listener import LOCAL_TIMESTAMP, NOTHING, SEC_INDEX, TELEGRAM, TIMESTAMP
from metering.obis import obis_text
from metering.register import medium, unit_symbol
from metering.registers import describe

AUTO = "auto"
PIN_NEEDED = "PIN needed: until it is entered at the meter, the meter sends only whole kWh and no power"

_CHUNK_BYTES = 4096
_WINDOW_BYTES = 128
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value of M-Bus belongs: `storage` 0 is now, others are history; `function` is instantaneous, maximum,
    minimum or error (measured while the meter had one)."""

    storage: int
    tariff: int
    subunit: int
    function: str


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a telegram. `obis` like "1-0:1.8.0*255"; `name` for people, the code itself where none is known.

    `value` is what was sent as an exact decimal ("14798112.9"), octets as lower-case hex, booleans as true or false;
    `unit` the symbol of the unit sent ("Wh") or None. `shown` and `shown_unit` are the same for display: energy in kWh
    by moving the decimal point, identifiers and texts in readable form. `place` is M-Bus's, None for others.
    """

    obis: str
    name: str
    value: str
    unit: str | None
    shown: str
    shown_unit: str | None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Identification:
    """An IEC 62056-21 identification line: the maker's `flag`, the `baud_char`, and the `id` behind it."""

    flag: str
    baud_char: str
    id: str


@dataclass(frozen=True, slots=True)
class Cipher:
    """How a DLMS telegram was ciphered: `system_title` in hex, `authenticated` where its tag has held."""

    system_title: str
    invocation_counter: int
    security_control: int
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Telegram:
    """A telegram whose checksum held, or that carries none (`checked` False) and is whole and clean. `offset` is where
    it begins in the data, in bytes.

    `meter_id` names the meter, None where it does not say. `timestamp` is the meter's clock as ISO 8601 UTC
    ("2026-05-28T20:26:40Z") where it has one; else None, and `seconds_index` its seconds of operation, if it sends
    these. `readings` are in the order sent. `notice` is a sentence for the owner ("PIN needed: ..."), mostly None.
    `ident` is IEC 62056-21's, `cipher` DLMS's where it is ciphered; `apdu` in hex where DLMS holds no register we know.
    """

    protocol: str
    offset: int
    meter_id: str | None
    timestamp: str | None
    readings: tuple[Register, ...]
    seconds_index: int | None = None
    notice: str | None = None
    ident: Identification | None = None
    checked: bool = True
    cipher: Cipher | None = None
    apdu: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """What began like a telegram at byte `offset` but is none: `reason` is one of a few, `detail` has the numbers.
    `protocol`: whose telegram it began like."""

    offset: int
    reason: str
    detail: str
    cipher: Cipher | None = None
    protocol: str = ""


def decode(
    data: bytes | bytearray | memoryview,
    protocol: str = AUTO,
    key: str | None = None,
    auth_key: str | None = None,
    pauses: Sequence[int] = (),
) -> Iterator[Telegram | Rejected]:
    """The telegrams in `data`, a Telegram or a Rejected each, in order of their offset.

    `protocol` is one of protocol_names(). `key` and `auth_key` are for encrypted telegrams, 32 hex digits each
    (blanks, 0x and case do not matter); SML has no use for them. `pauses`: the offsets, ascending, before which nothing
    came for a while: a DLMS telegram without a frame may begin there. Raises ValueError at once for a protocol or a key
    that cannot be; whatever the bytes are, nothing is raised later.
    """
    if protocol not in protocol_names():
        raise ValueError(f"there is no protocol {protocol}; choose {' or '.join(protocol_names())}")
    keys = clean_key("key", key), clean_key("auth_key", auth_key)
    whole = bytes(data)
    if protocol != AUTO:
        return _listen(protocol, whole, *keys, pauses)
    events = list(_listen_all(signatures(whole), whole, *keys, pauses))
    if any(isinstance(event, Telegram) for event in events):
        return iter(events)
    return _listen_all(protocols.searched(), whole, *keys, pauses)


def _listen_all(names: Collection[str], data: bytes, *others: Any) -> Iterator[Telegram | Rejected]:
    return heapq.merge(*(_listen(name, data, *others) for name in names), key=lambda event: event.offset)


def signatures(data: bytes) -> list[str]:
    """The protocols that pieces of `data` look like, by the code with which the device finds its meter's."""
    step = _WINDOW_BYTES // 2
    pieces = (data[at : at + _WINDOW_BYTES] for at in range(0, max(len(data) - step, 1), step))
    probes = load_probes()
    found = {signature(probes, piece, len(piece), k == 0) for k, piece in enumerate(pieces)}
    return [name for name in protocols.searched() if name in found]


def lines_to_hear(names: Iterable[str]) -> list[Line]:
    """The lines on which meters of the protocols `names` talk by themselves, as their listeners have them.

    7 bits with a parity bit are the same light as 8 bits, and heard so: of two such lines only the first is there.
    """
    found: dict[tuple[int, str | None, int], Line] = {}
    for name in names:
        for line in protocols.load(name).LINES:
            found.setdefault((line.baud, line.parity if line.bits == 8 else None, line.stop), line)
    return list(found.values())


def line_to_ask(name: str) -> Line | None:
    """The line on which a meter of protocol `name` is asked, as its probe's question has it; None where none is."""
    question = protocols.load_probe(name).question if name in protocols.searched() else None
    if question is None:
        return None
    actions = question("")
    action = next(actions)
    actions.close()
    return action[1] if action[0] == SWITCH else None


def protocol_names() -> list[str]:
    """What `protocol` may be: auto (of those a search looks for), or a name of the registry."""
    return [AUTO, *protocols.names()]


def clean_key(name: str, key: str | None) -> bytes | None:
    """The 16 bytes of `key`, None for none. Raises ValueError, which never shows the key itself."""
    try:
        cleaned = None if key is None else key_bytes(key)
    except ValueError as error:
        raise ValueError(
            f"{name}: {error}; give {KEY_DIGITS} hexadecimal digits, as your network operator sent them"
        ) from None
    if key is not None and cleaned is None:
        raise ValueError(f"{name} is empty; give {KEY_DIGITS} hexadecimal digits, as your network operator sent them")
    return cleaned


def clean_long_key(name: str, key: str | None) -> bytes | None:
    """The 32 bytes of a `key` of AES-256, None for none. Raises ValueError, which never shows the key itself."""
    if key is None:
        return None
    try:
        cleaned = bytes.fromhex(key_digits(key))
    except ValueError:
        cleaned = b""
    if len(cleaned) != KEY_DIGITS:
        raise ValueError(f"{name}: give {2 * KEY_DIGITS} hexadecimal digits, as suite 2 has them")
    return cleaned


def _listen(
    name: str,
    data: bytes,
    key: bytes | None = None,
    auth_key: bytes | None = None,
    pauses: Sequence[int] = (),
) -> Iterator[Telegram | Rejected]:
    listener = new_listener(name)
    if key is not None and listener.takes_keys:
        listener.set_keys(key, auth_key)
    for event in hear(listener, data, pauses):
        if event == TELEGRAM:
            yield telegram(listener)
        else:
            yield Rejected(listener.offset, listener.reason, listener.detail, _cipher(listener), name)


def hear(listener: Any, data: bytes, pauses: Sequence[int] = ()) -> Iterator[int]:
    """The events of `listener` for the whole of `data`, to be dealt with one by one."""
    fed = 0
    for stop in (*pauses, len(data)):
        while fed < stop:
            fed += listener.feed(data, fed, min(fed + _CHUNK_BYTES, stop))
            while (event := listener.next_event()) != NOTHING:
                yield event
        if stop < len(data) and hasattr(listener, "on_idle"):
            listener.on_idle()
    listener.finish()
    while (event := listener.next_event()) != NOTHING:
        yield event


def events_of(listener: Any, data: bytes) -> Iterator[int]:
    """The events of `listener` for bytes that have just come, to be dealt with one by one."""
    at = 0
    while at < len(data):
        at += listener.feed(data, at, len(data))
        while (event := listener.next_event()) != NOTHING:
            yield event


def new_listener(protocol: str) -> Any:
    """A listener as a computer can afford it: its buffer holds any telegram, past billing periods are told too."""
    listener_class = protocols.load(protocol)
    listener = listener_class(listener_class.LARGE_BUFFER) if listener_class.LARGE_BUFFER else listener_class()
    listener.history = True
    return listener


def telegram(listener: Any) -> Telegram:
    """The telegram in the hand of `listener`."""
    kind, time = listener.time_kind, listener.time_value
    return Telegram(
        listener.NAME,
        listener.offset,
        listener.printed_id() or None,
        date_time_text(listener.date_time())
        if hasattr(listener, "date_time")
        else utc_text(time)
        if kind in (TIMESTAMP, LOCAL_TIMESTAMP)
        else None,
        tuple(_registers(listener)),
        time if kind == SEC_INDEX else None,
        PIN_NEEDED if listener.pin_needed else None,
        _identification(listener),
        getattr(listener, "checked", True),
        _cipher(listener),
        listener.raw().hex() if hasattr(listener, "raw") and not listener.n_values else None,
    )


def _cipher(listener: Any) -> Cipher | None:
    title = getattr(listener, "system_title", None)
    if title is None:
        return None
    return Cipher(title.hex(), listener.invocation_counter, listener.security_control, listener.authenticated)


def date_time_text(date: tuple[int, ...] | None) -> str | None:
    """A meter's date and time as ISO 8601: in UTC where it says how it deviates, else local time without a zone."""
    if date is None:
        return None
    *local, deviation = date
    try:
        moment = datetime(*local)  # type: ignore[arg-type]
        if deviation is None:
            return moment.isoformat()
        return (moment + timedelta(minutes=deviation)).isoformat() + "Z"
    except (ValueError, OverflowError):
        return None


def _identification(listener: Any) -> Identification | None:
    if not hasattr(listener, "ident_flag"):
        return None
    return Identification(listener.ident_flag, listener.ident_baud, listener.ident_id)


def _registers(listener: Any) -> Iterator[Register]:
    measured = {reading.obis[1]: medium(reading) for reading in listener.readings() if medium(reading)}
    for reading in listener.readings():
        yield register_of(reading, measured.get(reading.obis[1]))


def register_of(reading: Any, measures: str | None) -> Register:
    register = describe(reading, measures)
    return Register(
        reading.address or obis_text(reading.obis),
        getattr(reading, "printed_name", None) or register.name(),
        reading.text(),
        unit_symbol(reading.unit) if reading.address is None else reading.printed_unit,
        register.display(reading),
        register.symbol(),
        Place(reading.storage, reading.tariff, reading.subunit, reading.function)
        if hasattr(reading, "storage")
        else None,
    )


def utc_text(seconds: int | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; None where there are none or they are past the year 9999."""
    if seconds is None:
        return None
    try:
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        return None
