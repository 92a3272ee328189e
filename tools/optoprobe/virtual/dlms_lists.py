"""The lists that DLMS meters push: which values, in which order and shape, how encoded; data for the simulated meter.

Layouts and addresses are those of the captures in the corpus, texts and numbers our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import dlms_encoder as dlms
from .dlms_encoder import INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64

OCTETS, VISIBLE = 0x09, 0x0A
WH, W, VAR, VARH, A, V, HZ, NO_UNIT = 30, 27, 29, 32, 33, 35, 44, 255


@dataclass(frozen=True)
class Item:
    """One value of a layout: a register (obis alone), a text, a fixed number, a clock, or bytes nobody names.

    obis     "1-0:1.8.0*255"; "" where the layout does not say it and nobody knows
    tag      A-XDR type of the value
    scaler   power of ten of the number that is sent: 1 sends Wh / 10
    unit     unit code, None: none known
    text     template over {serial} {id} {ldn}; name is then its key among the texts (default: its OBIS, "-": none)
    number   a number that stays the same
    clock    the meter's time in 12 octets
    raw      encoded value that is no reading
    """

    obis: str = ""
    tag: int = UINT32
    scaler: int = 0
    unit: int | None = None
    text: str | None = None
    number: int | None = None
    clock: bool = False
    raw: bytes = b""
    name: str = ""
    class_id: int = 3


def _unit(c: int, d: int) -> int:
    """The unit of C.D.E: C modulo 20 is the quantity, whatever the phase."""
    if d == 8:
        return WH if c % 20 in (1, 2) else VARH
    return {1: W, 2: W, 3: VAR, 4: VAR, 11: A, 12: V, 13: NO_UNIT, 14: HZ, 16: W}[c % 20]


def _registers(codes: str, tag: int = UINT32, scaler: int = 0, channel: str = "1-0") -> tuple[Item, ...]:
    """Items of "1.8.0 2.8.0": E may be left out and is 0 then."""
    items = []
    for code in codes.split():
        c, d, *e = (int(part) for part in code.split("."))
        items.append(Item(f"{channel}:{c}.{d}.{e[0] if e else 0}*255", tag, scaler, _unit(c, d)))
    return tuple(items)


def _text(template: str, obis: str = "", tag: int = OCTETS, name: str = "") -> Item:
    return Item(obis, tag, text=template, name=name, class_id=1)


def _clock(obis: str = "") -> Item:
    return Item(obis, OCTETS, clock=True, class_id=8)


@dataclass(frozen=True)
class Layout:
    """What a maker sends, in which order, and the habits that go with it.

    shape        "positional": a structure of values. "triples": an array of structures obis, value, scaler-unit;
                 "compact": a compact array of them, values uint32. "flat": obis, value, scaler-unit in one structure,
                 items without OBIS stand alone; "pairs": the same without scaler-unit. "mixed": OBIS and clock, then
                 structures as in "triples". "objects": the push object list first, then the values. "egd": untagged
                 attribute descriptors. "p1": no DataNotification but a P1 telegram in ASCII, always ciphered
    meter_id     template of the id in the body, None where there is none
    invoke_id    None: runs along with the invocation counter
    destination, source, control    of its HDLC frames
    when         APDU date-time: None absent, "0c" or "090c"
    offset       clocks carry the deviation from UTC (Vienna in summer), else it is unspecified
    status       last byte of the clocks
    """

    shape: str
    items: tuple[Item, ...]
    meter_id: str | None = None
    invoke_id: int | None = None
    destination: bytes = b"\xce\xff"
    source: bytes = b"\x03"
    control: int = 0x13
    when: str | None = "0c"
    offset: bool = False
    status: int = 0x00
    push_setup: str = "0-8:25.9.0*255"


_V, _I = "32.7 52.7 72.7", "31.7 51.7 71.7"
_PQ = "1.7 2.7 3.7 4.7"
_PHASES_IN, _PHASES_OUT = "21.7 41.7 61.7", "22.7 42.7 62.7"
_ENERGIES = "1.8.0 2.8.0 3.8.0 4.8.0"
_r = _registers


def _kaifa_head(phases: int, energy_tag: int | None = None) -> tuple[Item, ...]:
    items = (
        _text("KFM_001", name="list_id"),
        _text("{id}", name="-"),
        _text("MA304H3E", "0-0:96.1.7*255"),
        *_r(_PQ),
        *_r("31.7" if phases == 1 else _I, UINT32, -3),
        *_r("32.7" if phases == 1 else _V, UINT32, -1),
    )
    return items if energy_tag is None else (*items, _clock(), *_r(_ENERGIES, energy_tag))


def _kaifa(items: tuple[Item, ...], meter_id: str | None = "{id}") -> Layout:
    return Layout(
        "positional", items, meter_id, 0x40000000, b"\x01", b"\x02\x01", 0x10, when="090c", push_setup="0-0:25.9.0*255"
    )


def _iskra(items: tuple[Item, ...], meter_id: str = "{ldn}") -> Layout:
    return Layout("positional", items, meter_id, None, b"\xcf", b"\x02\x23", offset=True, status=0x80)


_ISKRA_IDS = (_text("ISK1030{serial:09d}", "0-0:42.0.0*255"), _text("16820005", name="device_id"))
_AIDON_IDS = (
    _text("OPTO_V0001", "1-1:0.2.129*255", VISIBLE),
    _text("{id}", "0-0:96.1.0*255", VISIBLE),
    _text("6525", "0-0:96.1.7*255", VISIBLE),
)
_AIDON_NOW = (*_r(_PQ), *_r(_I, INT16, -1), *_r(_V, UINT16, -1))
_KAMSTRUP_IDS = (
    _text("Kamstrup_V0001", tag=VISIBLE, name="list_id"),
    _text("{id}", "1-1:0.0.5*255", VISIBLE),
    _text("6841131BN{serial:09d}", "1-1:96.1.1*255", VISIBLE),
)
_KAMSTRUP_NOW = (*_r(_PQ, channel="1-1"), *_r(_I, UINT32, -2, "1-1"), *_r(_V, UINT16, 0, "1-1"))


def _lg(items: tuple[Item, ...], meter_id: str, **habits: Any) -> Layout:
    return Layout("objects", items, meter_id, **habits)


def _kamstrup(items: tuple[Item, ...]) -> Layout:
    return Layout("pairs", items, "{id}", 0, b"\x2b", b"\x21")


def _aidon(items: tuple[Item, ...], meter_id: str | None = "{id}", shape: str = "triples") -> Layout:
    return Layout(shape, items, meter_id, 0x40000000, b"\x41", b"\x08\x83", when=None, status=0xFF)


def _arrays(n: int) -> tuple[Item, ...]:
    return tuple(Item(raw=dlms.array([dlms.number(UINT16, 9400)])) for _ in range(n))


LAYOUTS: dict[str, Layout] = {
    "p1": Layout("p1", _r("1.8.0 1.8.1 1.8.2 1.7 2.8.0 2.8.1 2.8.2 2.7 3.8.0 3.7 4.8.0 4.7"), when=None, status=0x80),
    "wienernetze9": Layout(
        "positional", (_clock(), *_r(_ENERGIES), *_r(_PQ)), None, None, b"\xcf", b"\x02\x23", offset=True, status=0x80
    ),
    "burgenland14": Layout(
        "positional",
        (
            *_r(_V, UINT16),
            *_r(_I, UINT16, -2),
            *_r("1.7 2.7 1.8.0 2.8.0"),
            *(Item(raw=dlms.number(UINT16, angle)) for angle in (400, 53, 295)),
            _text("{serial:08d}", name="-"),
        ),
        "{serial:08d}",
    ),
    "aidon": _aidon((*_AIDON_IDS, *_AIDON_NOW, _clock("0-0:1.0.0*255"), *_r(_ENERGIES, UINT32, 1))),
    "aidon_list1": _aidon(_r("1.7"), None),
    "compact": _aidon((*_r(_ENERGIES, UINT32, 1), *_r(_PQ), *_r(_V, UINT32, -1)), None, "compact"),
    "aidon_list2": _aidon((*_AIDON_IDS, *_AIDON_NOW)),
    "aidon_se": _aidon(
        (
            _clock("0-0:1.0.0*255"),
            *_AIDON_NOW,
            *_r("21.7 22.7 23.7 24.7 41.7 42.7 43.7 44.7 61.7 62.7 63.7 64.7"),
            *_r(_ENERGIES),
        ),
        None,
    ),
    "scaled": _aidon(
        (
            *_AIDON_IDS,
            *_r("16.7", INT32, -1),
            *_r("1.8.0 2.8.0", UINT64, -3),
            *_r("14.7", UINT16, -2),
            *_r("13.7", INT16, -3),
            *_r("1.8.1 1.8.2", INT64, 1),
        )
    ),
    "kamstrup": _kamstrup((*_KAMSTRUP_IDS, *_KAMSTRUP_NOW)),
    "kamstrup_hourly": _kamstrup(
        (*_KAMSTRUP_IDS, *_KAMSTRUP_NOW, _clock("0-1:1.0.0*255"), *_r(_ENERGIES, UINT32, 1, "1-1"))
    ),
    "kamstrup_1ph": _kamstrup(  # null-data where the other phases would be
        (*_KAMSTRUP_IDS, *_r(_PQ, channel="1-1"), *_r("31.7", UINT32, -2, "1-1"), Item(raw=dlms.NULL * 4))
        + (*_r("32.7", UINT16, 0, "1-1"), Item(raw=dlms.NULL * 4))
    ),
    "kaifa1": _kaifa(_r("1.7"), None),
    "kaifa9": _kaifa(_kaifa_head(1)),
    "kaifa13": _kaifa(_kaifa_head(3)),
    "kaifa14": _kaifa(_kaifa_head(1, UINT32)),
    "kaifa18": _kaifa(_kaifa_head(3, UINT32)),
    "kaifa18_u64": _kaifa(_kaifa_head(3, UINT64)),
    "kaifa_obis": Layout(
        "pairs",
        (
            _text("KFM_001", "1-0:0.2.129*255"),
            _text("{id}", "0-0:96.1.0*255"),
            _text("MA304H4", "0-0:96.1.7*255"),
            *_r(_PQ),
            *_r(_I, UINT32, -3),
            *_r(_V, UINT32, -1),
            _clock("0-0:1.0.0*255"),
            *_r(_ENERGIES),
        ),
        "{id}",
        0x40000000,
        b"\x01",
        b"\x00\x01",
        0x10,
        when=None,
        offset=True,
        status=0x80,
    ),
    "netznoe": Layout(
        "flat",
        (
            _clock(),
            *_r("1.8.0 2.8.0 1.7 2.7"),
            *_r(_V, UINT16, -1),
            *_r(_I, UINT16, -2),
            *_r("13.7", UINT16, -3),
            _text("1812{serial:08d}", name="-"),
        ),
        "1812{serial:08d}",
        offset=True,
        status=0x80,
    ),
    "salzburg": Layout(
        "mixed",
        (
            _clock("0-0:1.0.0*255"),
            _text("1OPT02{serial:08d}", "0-0:96.1.0*255"),
            _text("OPT12002{serial:08d}", "0-0:42.0.0*255"),
            *_r(_V, UINT16, -1),
            *_r(_I, UINT16, -2),
            *_r(_PQ),
            *_r(_ENERGIES),
        ),
        "1OPT02{serial:08d}",
        offset=True,
        status=0x80,
    ),
    "am550": Layout(
        "triples",
        (
            _text("{serial:08d}", "0-0:96.1.0*255"),
            _text("160456", "0-0:96.1.1*255"),  # six octets that are no OBIS
            *_r("1.7 2.7 1.8.0 2.8.0"),
            *_r(_V, UINT16, -1),
            *_r(_I, UINT16, -2),
            *_r("1.8.1 1.8.2 2.8.1 2.8.2"),
        ),
        "{serial:08d}",
        None,
        b"\xcf",
        b"\x02\x23",
        offset=True,
        status=0x80,
    ),
    "lg": _lg(
        (
            _text("{serial:08d}", "0-0:96.1.0*255"),
            *_r("1.7 2.7"),
            *_r("1.8.0 2.8.0 5.8.0 6.8.0 7.8.0 8.8.0", channel="1-1"),
            *_r(_I, UINT16, -2),
        ),
        "{serial:08d}",
    ),
    "lg_full": _lg(
        (
            _text("LGZ1030{serial:09d}", "0-0:42.0.0*255"),
            _text("1935912", "0-0:96.1.1*255"),
            _clock("0-0:1.0.0*255"),
            *_r(_PQ),
            *_r("1.8.0 2.8.0 5.8.0 6.8.0 7.8.0 8.8.0", channel="1-1"),
            *_r("13.7", UINT16, -3),
        ),
        "LGZ1030{serial:09d}",
    ),
    "lg_e360": _lg(
        (
            _text("LGZ1030{serial:09d}", "0-0:42.0.0*255"),
            *_r(_ENERGIES, channel="1-1"),
            *_r("1.7 2.7"),
            *_r("32.7 72.7 52.7", UINT16, -1),
            *_r(_I, UINT16, -2),
        ),
        "LGZ1030{serial:09d}",
        destination=b"\xcf",
        offset=True,
        status=0x80,
        push_setup="0-6:25.9.0*255",
    ),
    "lg_e570": _lg(
        (
            _text("LGZ1030{serial:09d}", "0-0:42.0.0*255"),
            *_r(_ENERGIES, UINT64, channel="1-1"),
            *_r("1.7 2.7", INT64),
            *_r(_V, INT64),
            *_r(_I, INT64),
        ),
        "LGZ1030{serial:09d}",
        destination=b"\xce\x95",
    ),
    "lg_flat": Layout(
        "pairs",
        (
            _clock(),
            *_r("1.8.0 1.8.1 1.8.2 1.7 2.8.0 2.8.1 2.8.2 2.7"),
            *_r("3.8.0 3.8.1 3.8.2 3.7 4.8.0 4.8.1 4.8.2 4.7"),
        ),
    ),
    "iskra4": _iskra(
        (_text("{serial:08d}", name="-"), Item(raw=dlms.number(UINT8, 0)), *_r("1.8.0 2.8.0")), "{serial:08d}"
    ),
    "iskra9": _iskra((*_ISKRA_IDS, *_r(_PQ), *_r("32.7", UINT16, -1), *_r("2.8.1 2.8.2"))),
    "iskra9e": _iskra((_ISKRA_IDS[0], *_r("1.7 2.7 1.8.0 1.8.1 1.8.2 2.8.0 2.8.1 2.8.2"))),
    "iskra10": _iskra((*_ISKRA_IDS, *_r(_PQ), *_r("32.7", UINT16, -1), *_r("31.7", UINT16, -2), *_r("21.7 22.7"))),
    "iskra12e": _iskra(
        (
            *_ISKRA_IDS,
            Item("0-0:96.3.10*255", dlms.ENUM, number=1),
            _text("\x00\x01", "0-0:96.14.0*255"),
            *_r("1.8.0 1.8.1 1.8.2 2.8.0 2.8.1 2.8.2 3.8.0 4.8.0"),
        )
    ),
    "iskra12b": _iskra(
        (
            *_ISKRA_IDS,
            Item(raw=dlms.boolean(True)),
            _text("\x00\x02", "0-0:96.14.0*255"),
            *_r("1.8.0 1.8.1 1.8.2 2.8.0 2.8.1 2.8.2 3.8.0 4.8.0"),
        )
    ),
    "iskra12p": _iskra((*_ISKRA_IDS, *_r(_V, UINT16, -1), *_r(_I, UINT16, -2), *_r(_PQ))),
    "iskra18": _iskra(
        (*_ISKRA_IDS, *_r(_PQ), *_r(_V, UINT16, -1), *_r(_I, UINT16, -2), *_r(_PHASES_IN), *_r(_PHASES_OUT))
    ),
    "iskra33": _iskra(
        (
            _text("{serial:08d}", name="-"),
            _text("\x0f\x35\x1e\x00", name="time"),
            Item(tag=OCTETS, raw=dlms.octets(bytes.fromhex("07ea051c04")), name="date"),
            *_r("1.8.0 1.8.1 1.8.2 2.8.0 2.8.1 2.8.2 5.8.0 6.8.0 7.8.0 8.8.0 1.7 2.7"),
            *_r("13.7", UINT16, -3),
            *_r(_PHASES_IN),
            *_r(_PHASES_OUT),
            *_r(_V, UINT16, -1),
            *_r(_I, UINT16, -2),
            Item(raw=dlms.number(UINT32, 17250)),
            *_arrays(3),
            Item(raw=dlms.boolean(True)),
        ),
        "{serial:08d}",
    ),
    "egd": Layout(
        "egd",
        (
            _text("EGD{serial:09d}", "0-0:42.0.0*255"),
            Item("0-8:25.9.0*255", OCTETS, raw=dlms.octets(dlms.obis_bytes("0-8:25.9.0*255")), class_id=40),
            _text("{id}", "0-0:96.1.0*255"),
            Item("0-0:96.3.10*255", dlms.ENUM, number=1, class_id=70),
            Item("0-0:17.0.0*255", UINT32, number=0, class_id=71),
            _text("T1", "0-0:96.14.0*255"),
            *_r("1.7 21.7 41.7 61.7 2.7 22.7 42.7 62.7 1.8.0 1.8.1 1.8.2 2.8.0"),
            _text("", "0-0:96.13.0*255"),
        ),
        "{id}",
        1,
        when=None,
    ),
}
