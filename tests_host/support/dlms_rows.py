"""DLMS telegrams with what a listener has to make of them, and a listener driven over any stream.

A row is a telegram of the simulated meter with what it must give: (OBIS, decimal text, unit or None) a register.
"""

import functools
import json
from decimal import Decimal
from typing import NamedTuple

from support import corpus
from support import listener_harness as hearing
from support.listener_harness import in_pieces

from metering.dlms.axdr import MAX_DEPTH
from metering.dlms.push import BUFFER_SIZE, Dlms
from metering.obis import obis_text
from metering.register import unit_symbol
from optoprobe.virtual import dlms_encoder as enc
from optoprobe.virtual.dlms_meter import KINDS, SECURITY, DlmsMeter

MAX_APDU = 1536
TITLE = b"OPT\x67\x01\x02\x03\x04"
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))


# --- driving the listener --------------------------------------------------------------------------------------------


def triple(reading):
    return obis_text(reading.obis), reading.text(), unit_symbol(reading.unit) or None


def make(key=None, auth_key=None, size=BUFFER_SIZE):
    listener = Dlms(size)
    if key is not None:
        listener.set_keys(key, auth_key)
    return listener


class Heard(hearing.Heard):
    """What a listener, a new one unless given, made of a stream; `ids` and `authenticated` beside the telegrams."""

    def __init__(self, chunks, finish=False, listener=None):
        self.ids, self.names, self.authenticated = [], [], []
        hearing.Heard.__init__(self, listener or make(), chunks, triple, finish)

    def note(self):
        self.ids.append(self.listener.printed_id())
        self.names.append(self.listener.meter_id())
        self.authenticated.append(self.listener.authenticated)
        hearing.Heard.note(self)


def hear(data, step=None, finish=False, key=None, auth_key=None):
    return Heard(in_pieces(data, step), finish, make(key, auth_key))


# --- the rows --------------------------------------------------------------------------------------------------------


_LEARNT: dict = {}  # as Cosem.known_layouts


class Row(NamedTuple):
    name: str
    data: bytes
    expected: list
    meter: DlmsMeter

    def listener(self):
        """A new one that knows the layouts of those before it: loading their table takes longer than a telegram."""
        listener = make(self.meter.key, self.meter.auth_key) if self.meter.security else make()
        listener._cosem.known_layouts = _LEARNT
        return listener

    def hear(self, data, step=None, finish=False):
        return Heard(in_pieces(data, step), finish, self.listener())

    @property
    def has_check(self):
        return self.meter.framing in ("hdlc", "gbt", "mbus")


def expected_of(meter):
    """A P1 telegram pads its numbers with zeros: a Decimal has none."""
    return [(obis, str(Decimal(text)), unit or None) for obis, text, unit in meter.expected()]


def row(name, kind="hdlc", **options):
    meter = DlmsMeter(kind, seed=5, **options)
    data = meter.telegram(7)
    return Row(name, data, expected_of(meter), meter)


FRAMED = [
    ("hdlc", {"framing": "hdlc"}),
    ("hdlc segments", {"framing": "hdlc", "segment_bytes": 40}),
    ("gbt", {"framing": "gbt", "block_bytes": 40}),
    ("mbus", {"framing": "mbus"}),
    ("wrapper", {"framing": "wrapper"}),
    ("raw", {"framing": "raw"}),
]
MODES = [
    row(f"{name} {security:02x}", layout="wienernetze9", security=security, **options)
    for name, options in FRAMED
    for security in SECURITY
]
KIND_ROWS = [row(kind, kind) for kind in KINDS]
QUIRK_ROWS = [
    row("7E inside", "optical", quirks=["seven_e_inside"]),
    row("7E inside, segments", "optical", quirks=["seven_e_inside"], segment_bytes=31),
    row("idle flags", quirks=["idle_flags"], layout="aidon_list1"),
    row("shared flags", quirks=["shared_flag"], segment_bytes=50, layout="aidon_list2"),
    row("shared flags, blocks", "gbt", quirks=["shared_flag"]),
    row("UA first", quirks=["ua_frame"], layout="aidon_list1"),
    row("no date-time", quirks=["no_date_time"], layout="iskra4"),
    row("tagged date-time", quirks=["tagged_date_time"], layout="iskra4"),
    row("dedicated key", "optical", quirks=["ded"]),
    row("long length", "optical", quirks=["long_length"]),
    row("length modulo 256", "mbus", quirks=["mbus_257"], layout="am550"),
]
ROWS = KIND_ROWS + MODES + QUIRK_ROWS
CHECKED_ROWS = [one for one in ROWS if one.has_check]
PLAIN = row("plain", layout="aidon_list1")
NEXT = {"hdlc": PLAIN, "gbt": PLAIN, "mbus": row("next on M-Bus", "mbus", layout="kaifa1", security=0)}


def in_hdlc(apdu, **options):
    return enc.between_flags(enc.hdlc_segments(apdu, **options))


def notification(body, **options):
    return enc.data_notification(body, **options)


def energy_body(value=4711):
    return enc.array([enc.structure([enc.octets(enc.obis_bytes("1-0:1.8.0*255")), enc.number(enc.UINT32, value),
                                     enc.scaler_unit(0, 30)])])  # fmt: skip


def bombs():
    """Bodies that promise more than they hold."""
    yield b"\x02\x01" * 500
    yield b"\x01\x01" * (MAX_DEPTH + 1) + b"\x00"
    yield b"\x02\x01" * 10_000
    for tag in b"\x01\x02\x09\x0a\x0c\x04\x0d\x13":
        for length in (b"\x7f", b"\x81\xff", b"\x82\xff\xff", b"\x84" + b"\xff" * 4, b"\x84\x7f\xff\xff\xff", b"\xff"):
            yield bytes((tag,)) + length
            yield bytes((tag,)) + length + bytes(200)
            yield b"\x02\x02" + bytes((tag,)) + length + bytes(90)
    yield b"\x02\x82\x01\x90" + bytes(400)  # more elements than there is room for
    yield b"\x02\x81" + bytes((255,)) + bytes(255) * 1
    yield b"\x13" + b"\x02\xff" * 100
    yield b"\x13" + b"\x01\xff\xff" * 60 + b"\x06\x04"
    yield b"\x13\x02\x03\x13\x13\x13\x00"
    yield b"\x13\x06\x84\xff\xff\xff\xff" + bytes(50)
    yield b"\x02\x01\x63"
    yield b"\x02\x03\x01\x84\xff\xff\xff\xff"
    yield b""
    yield b"\x02\x02\x16\x01\x01\x7f" + b"\x02\x02\x00\x03\x01\x00\x01\x08\x00\xff\x02\x06" * 20  # EG.D's, cut
    yield b"\x02\x02\x16\x01\x01\x01" + b"\x02\x02\x00\x03\x01\x00\x01\x08\x00\xff\x02" + b"\x02\x01" * 100
    # object lists whose values are not there, or are codes
    entry = enc.structure([enc.number(enc.UINT16, 3), enc.octets(enc.obis_bytes("1-0:1.8.0*255")),
                           enc.number(enc.INT8, 2), enc.number(enc.UINT16, 0)])  # fmt: skip
    yield enc.structure([enc.array([entry] * 30)])
    yield enc.structure([enc.array([entry] * 30), enc.NULL])
    yield enc.structure([enc.array([entry, enc.structure([])]), enc.NULL, enc.NULL])
    code = enc.octets(enc.obis_bytes("1-0:1.8.0*255"))
    yield enc.structure([code] * 100)
    yield enc.structure([code, enc.number(enc.UINT8, 1)] * 120)  # more registers than there is room for
    yield functools.reduce(lambda inner, _: enc.structure([code, inner]), range(7), enc.structure([code, code]))
    yield enc.array([enc.structure([code])] * 50)


def captures():
    """(name, bytes, what is expected) of every file of the corpus; keys as bytes or None."""
    for path in corpus.recorded("dlms/*.hex"):
        content = json.loads(path.with_name(path.stem + ".expected.json").read_text())
        for name in ("key", "auth_key"):
            content[name] = bytes.fromhex(content[name]) if content.get(name) else None
        yield path.stem, bytes.fromhex("".join(path.read_text().split())), content


def is_read(content):
    return content["valid"] and not content["needs_key"]


def wanted_of(telegram):
    return [(r["obis"], Decimal(r["value"]), r.get("unit") or None) for r in telegram["readings"]]


def as_numbers(telegrams):
    return [[(obis, Decimal(text), unit) for obis, text, unit in telegram] for telegram in telegrams]
