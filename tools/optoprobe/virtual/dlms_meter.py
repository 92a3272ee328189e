"""A simulated household electricity meter that pushes DLMS/COSEM, in every framing, layout and security mode we read.

What it measures: `quadrant_counters`. The same seed, options and times give the same telegrams; time is an argument,
nothing looks at a clock.

`DlmsMeter.telegram(now_s)` is what the meter sends at that time, `DlmsMeter.expected()` what a faultless reader that
has the keys makes of it, computed from the simulation and not from the bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metering.line import Line

from . import dlms_encoder as dlms
from .dlms_encoder import INT8, UINT16, UINT32
from .dlms_lists import HZ, LAYOUTS, NO_UNIT, OCTETS, VAR, VARH, VISIBLE, WH, A, Item, V, W
from .household import Household
from .iec62056_21_talk import crc16_arc
from .quadrant_counters import QuadrantCounters
from .sml_meter import Expected, decimal_text

_UNIT_TEXT = {WH: "Wh", W: "W", VAR: "var", VARH: "varh", A: "A", V: "V", HZ: "Hz", NO_UNIT: None}
_START_DAY = datetime(2026, 5, 28)  # local time at the start of day 0
_JUNK = b"\x00\x55\xaa\xff\x16\x0f\xdb\xe6\xe7\x02\x09"
_EVERY = 5  # the telegram that a quirk befalls


@dataclass(frozen=True)
class Kind:
    """A usual combination: framing, layout, security control byte (0: plain), line settings, seconds a telegram."""

    framing: str
    layout: str
    security: int
    line: tuple[int, int, str | None]
    period_s: float


FRAMINGS = ("hdlc", "gbt", "mbus", "wrapper", "raw")
KINDS = {
    "optical": Kind("hdlc", "wienernetze9", 0x20, (9600, 8, None), 1),
    "hdlc": Kind("hdlc", "aidon", 0x00, (2400, 8, "E"), 10),
    "mbus": Kind("mbus", "netznoe", 0x20, (2400, 8, "E"), 5),
    "gbt": Kind("gbt", "lg", 0x30, (2400, 8, "E"), 5),
}
SECURITY = (0x00, 0x10, 0x20, 0x30, 0x21, 0x31)

QUIRKS = {
    "bad_fcs_once": "the first telegram's last frame has a wrong checksum",
    "replay": "every fifth telegram is the one before, byte by byte",
    "counter_reset": "every fifth telegram the invocation counter starts again from where it began",
    "tag_wrong": "every fifth telegram has a flipped bit in ciphertext or tag, link checksums right",
    "torn": "every fifth telegram breaks off in the middle",
    "seven_e_inside": "7E in title and invoke id, so inside every frame",
    "junk_between": "noise before every telegram, without bytes that could start a frame",
    "false_start": "the beginning of a frame that goes no further before every telegram",
    "idle_flags": "7E 7E 7E 7E before and after every telegram",
    "shared_flag": "one 7E closes a frame and opens the next",
    "ua_frame": "a frame without information field before every telegram",
    "no_date_time": "APDU date-time absent (00)",
    "tagged_date_time": "APDU date-time with its octet-string tag (09 0C)",
    "ded": "general-ded-ciphering, DC instead of DB",
    "long_length": "the BER length of the ciphered APDU in its four-byte form",
    "mbus_257": "an M-Bus frame of 257 bytes whose length says 1 (Sagemcom T210-D)",
    "lost_part": "every fifth telegram lacks its second frame (segment, block)",
    "repeated_part": "every fifth telegram sends its second frame (segment, block) twice",
    "aborted_run": "the first frame alone before every telegram (GBT: block 1 starts again)",
}
_OF_HDLC = frozenset(("idle_flags", "shared_flag", "ua_frame"))
_OF_A_CHECK = frozenset(("bad_fcs_once", "torn", "false_start", "junk_between"))
_OF_PARTS = frozenset(("lost_part", "repeated_part", "aborted_run"))
_OF_CIPHERS = frozenset(("tag_wrong", "ded", "long_length", "counter_reset"))


class DlmsMeter:
    """One meter that pushes by itself every `period_s` seconds. `line` is what it sends with.

    `kind` is a name of KINDS; `layout` (a name of LAYOUTS), `framing` (of FRAMINGS), `security` (0x00 plain, 0x10 tag
    only, 0x20 encrypted without a tag, 0x30 both, 0x21 as 0x20), `line` and `period_s` replace what the kind has.
    `key`, `auth_key`: 16 bytes, or None for keys made from the seed; they are the attributes `key` and `auth_key`.
    `quirks` are names of QUIRKS. `segment_bytes`: most bytes of information in an HDLC frame (0: no segmentation),
    `block_bytes`: bytes of an APDU in a GBT block. `counter`: first invocation counter.
    ValueError for what no meter is.

    After `telegram()`: `counter` and `invoke_id` of that telegram, `apdu` its plain DataNotification (or P1 telegram),
    `timestamp` and `texts` as a reader should show them, `stale` whether its counter is not above all sent before (a
    replay guard refuses it; `expected()` gives what it says all the same).
    """

    def __init__(
        self,
        kind: str = "optical",
        *,
        seed: int = 1,
        key: bytes | None = None,
        auth_key: bytes | None = None,
        security: int | None = None,
        layout: str | None = None,
        framing: str | None = None,
        quirks: Iterable[str] = (),
        line: Line | None = None,
        period_s: float | None = None,
        segment_bytes: int = 0,
        block_bytes: int = 122,
        counter: int | None = None,
        title: bytes | None = None,
        energy_wh: int = 14_798_112,
        export_wh: int = 0,
        pv_peak_w: int = 0,
        start_s: int = 11 * 3600 + 30 * 60,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"no such kind: {kind}; there are {', '.join(KINDS)}")
        usual = KINDS[kind]
        self.kind = kind
        self.layout = layout or usual.layout
        self.framing = framing or usual.framing
        self.security = usual.security if security is None else security
        if security is None and self.layout == "p1":
            self.security = self.security or 0x30
        self.period_s = usual.period_s if period_s is None else period_s
        if self.layout not in LAYOUTS:
            raise ValueError(f"no such layout: {self.layout}; there are {', '.join(LAYOUTS)}")
        if self.framing not in FRAMINGS or self.security not in SECURITY:
            raise ValueError(f"framing is one of {', '.join(FRAMINGS)}, security 0x00, 0x10, 0x20, 0x30, 0x21 or 0x31")
        draw = random.Random(seed ^ 0x0D1A5)
        self.key = draw.randbytes(16) if key is None else key
        self.auth_key = draw.randbytes(16) if auth_key is None else auth_key
        if len(self.key) != 16 or len(self.auth_key) != 16:
            raise ValueError("keys have 16 bytes")
        if self.layout == "p1" and not self.security:
            raise ValueError("a P1 telegram in the clear is an IecMeter's: give it a security")
        if self.period_s <= 0 or energy_wh < 0 or export_wh < 0 or block_bytes < 8 or segment_bytes < 0:
            raise ValueError("period_s above 0, energies 0 or more, blocks of 8 bytes or more")
        self.quirks = frozenset(quirks)
        self._check_quirks(segment_bytes)
        self.line = line or Line(*usual.line)
        self._counters = QuadrantCounters(Household(seed, start_s=start_s, pv_peak_w=pv_peak_w), energy_wh, export_wh)
        self.serial = draw.randrange(10_000_000, 40_000_000)
        if "seven_e_inside" in self.quirks:
            self.serial = 0x017E7E00 | self.serial & 0xFF
        self.title = title or b"OPT\x67" + self.serial.to_bytes(4, "big")
        self.first_counter = draw.randrange(1 << 16, 1 << 20) if counter is None else counter
        self.counter = self.first_counter - 1
        self.invoke_id = 0
        self.telegrams = 0
        self.apdu = b""
        self.stale = False
        self.timestamp: str | None = None
        self.texts: dict[str, str] = {}
        self._habits = LAYOUTS[self.layout]
        self._names = {
            "serial": self.serial,
            "id": f"73599928{self.serial:08d}",
            "ldn": f"ISK1030{self.serial:09d}",
        }
        self._segment_bytes = segment_bytes
        self._block_bytes = block_bytes
        self._highest = -1
        self._last = b""
        self._start = _START_DAY + timedelta(seconds=start_s)
        self._expected: Expected = []

    def _check_quirks(self, segment_bytes: int) -> None:
        unknown = sorted(self.quirks - QUIRKS.keys())
        if unknown:
            raise ValueError(f"no such quirk: {', '.join(unknown)}; there are {', '.join(QUIRKS)}")
        hdlc = self.framing in ("hdlc", "gbt")
        parts = self.framing in ("gbt", "mbus") or (self.framing == "hdlc" and segment_bytes > 0)
        cannot = set()
        cannot |= set() if hdlc else self.quirks & _OF_HDLC
        cannot |= set() if hdlc or self.framing == "mbus" else self.quirks & _OF_A_CHECK
        cannot |= set() if parts else self.quirks & _OF_PARTS
        cannot |= set() if self.security else self.quirks & _OF_CIPHERS
        cannot |= set() if self.framing == "mbus" else self.quirks & {"mbus_257"}
        cannot |= set() if self.security & dlms.AUTHENTICATED else self.quirks & {"tag_wrong"}
        if cannot:
            names = ", ".join(sorted(cannot))
            raise ValueError(f"a {self.framing} meter of security {self.security:#04x} has no {names}")

    def _has(self, quirk: str) -> bool:
        return quirk in self.quirks

    def _fifth(self, quirk: str) -> bool:
        return quirk in self.quirks and self.telegrams % _EVERY == 0

    @property
    def meter_id(self) -> str | None:
        """The id as it stands in the body; None where the layout has none."""
        template = self._habits.meter_id
        return None if template is None else template.format(**self._names)

    @property
    def authenticated(self) -> bool:
        """Telegrams carry a tag."""
        return bool(self.security & dlms.AUTHENTICATED)

    def _mantissa(self, item: Item) -> int:
        """The number that is sent for a register: its digits down to `scaler`, the rest cut off."""
        c, d, e = (int(part) for part in item.obis[4:].removesuffix("*255").split("."))
        mantissa, scaler = self._counters.quantity(c, d, e)
        shift = item.scaler - scaler
        if shift <= 0:
            return mantissa * 10**-shift
        return mantissa // 10**shift if mantissa >= 0 else -(-mantissa // 10**shift)

    # --- encoding ---

    def _when(self) -> datetime:
        return self._start + timedelta(seconds=self._counters.time_ms // 1000)

    def _clock(self) -> bytes:
        habits = self._habits
        return dlms.date_time_octets(
            self._when(),
            deviation=-120 if habits.offset else None,
            status=habits.status,
            hundredths=0 if habits.offset else 0xFF,
        )

    def _time_text(self) -> str:
        return self._when().isoformat() + ("+02:00" if self._habits.offset else "")

    def _value(self, item: Item) -> bytes:
        """The item's encoded value; what a reader should make of it is noted."""
        if item.raw:
            if item.name:
                self.texts[item.name] = item.raw[2:].hex()
            return item.raw
        if item.clock:
            self.timestamp = self._time_text()
            if item.obis:
                self.texts[item.obis] = self.timestamp
            return dlms.octets(self._clock())
        if item.text is not None:
            text = item.text.format(**self._names)
            name = item.name or item.obis
            if name != "-":
                printable = text.isprintable() or not text
                self.texts[name] = text if printable else text.encode("latin-1").hex()
            return dlms.visible(text) if item.tag == VISIBLE else dlms.octets(text.encode("latin-1"))
        number = self._mantissa(item) if item.number is None else item.number
        unit = None if item.unit is None else _UNIT_TEXT[item.unit]
        self._expected.append((item.obis, decimal_text(number, item.scaler), unit))
        return dlms.number(item.tag, number)

    def _body(self) -> bytes:
        shape, items = self._habits.shape, self._habits.items
        if shape == "positional":
            return dlms.structure([self._value(item) for item in items])
        if shape == "triples":
            return dlms.array([self._entry(item) for item in items])
        if shape == "mixed":
            first = (dlms.octets(dlms.obis_bytes(items[0].obis)), self._value(items[0]))
            return dlms.structure((*first, *(self._entry(item) for item in items[1:])))
        if shape == "compact":
            description = bytes((0x02, 3, OCTETS, UINT32, 0x02, 2, INT8, dlms.ENUM))
            return dlms.compact_array(description, [self._compact_entry(item) for item in items])
        if shape in ("flat", "pairs"):
            values: list[bytes] = []
            for item in items:
                if item.raw:  # null-data fields, each an element of its own
                    values += [item.raw[k : k + 1] for k in range(len(item.raw))]
                    continue
                if item.obis:
                    values.append(dlms.octets(dlms.obis_bytes(item.obis)))
                values.append(self._value(item))
                if shape == "flat" and item.unit is not None:
                    values.append(dlms.scaler_unit(item.scaler, item.unit))
            return dlms.structure(values)
        if shape == "objects":
            return self._objects(items)
        described = []
        for item in items:
            attribute = {40: 1, 70: 3, 71: 3}.get(item.class_id, 2)
            descriptor = item.class_id.to_bytes(2, "big") + dlms.obis_bytes(item.obis) + bytes((attribute,))
            described.append(b"\x02\x02" + descriptor + self._value(item))
        return dlms.structure((dlms.enum(1), dlms.array(described)))

    def _entry(self, item: Item) -> bytes:
        fields = [dlms.octets(dlms.obis_bytes(item.obis)), self._value(item)]
        if item.unit is not None:
            fields.append(dlms.scaler_unit(item.scaler, item.unit))
        return dlms.structure(fields)

    def _compact_entry(self, item: Item) -> bytes:
        """Obis, value and scaler-unit without their tags; the string keeps its length."""
        scaler_unit = (item.scaler & 0xFF, item.unit or NO_UNIT)
        return dlms.octets(dlms.obis_bytes(item.obis))[1:] + self._value(item)[1:] + bytes(scaler_unit)

    def _objects(self, items: Sequence[Item]) -> bytes:
        """Element 0 is the list of what follows: class, OBIS, attribute, data index; entry 0 is the list itself."""
        setup = self._habits.push_setup

        def entry(class_id: int, obis: str, attribute: int) -> bytes:
            return dlms.structure(
                (
                    dlms.number(UINT16, class_id),
                    dlms.octets(dlms.obis_bytes(obis)),
                    dlms.number(INT8, attribute),
                    dlms.number(UINT16, 0),
                )
            )

        entries = [entry(40, setup, 2), entry(40, setup, 1)]
        entries += [entry(item.class_id, item.obis, 2) for item in items]
        values = [dlms.octets(dlms.obis_bytes(setup)), *(self._value(item) for item in items)]
        return dlms.structure((dlms.array(entries), *values))

    def _p1(self) -> bytes:
        """A P1 telegram as the Sagemcom T210-D-r ciphers it: whole numbers of nine digits, CRC-16/ARC from / to !."""
        lines = ["/OPT5\\253710000_A", "", f"0-0:1.0.0({self._when():%y%m%d%H%M%S}S)"]
        for item in self._habits.items:
            number = self._mantissa(item)
            unit = _UNIT_TEXT[item.unit or NO_UNIT]
            lines.append(f"{item.obis.removesuffix('*255')}({number:09d}*{unit})")
            self._expected.append((item.obis, decimal_text(number, item.scaler), unit))
        text = "\r\n".join((*lines, "!")).encode()
        return text + b"%04X\r\n" % crc16_arc(text)

    def _plain(self) -> bytes:
        habits = self._habits
        if habits.shape == "p1":
            return self._p1()
        body = self._body()
        self.invoke_id = (self.counter + 1) & 0xFFFFFF if habits.invoke_id is None else habits.invoke_id
        if self._has("seven_e_inside"):
            self.invoke_id = 0x7E7E7E7E
        form = habits.when
        if self._has("no_date_time"):
            form = None
        elif self._has("tagged_date_time"):
            form = "090c"
        if form is None:
            return dlms.data_notification(body, invoke_id=self.invoke_id)
        self.timestamp = self.timestamp or self._time_text()
        return dlms.data_notification(body, invoke_id=self.invoke_id, when=self._clock(), when_form=form)

    def _ciphered(self, plain: bytes) -> bytes:
        if not self.security:
            return plain
        sealed = dlms.protect(plain, self.security, self.key, self.auth_key, self.title, self.counter)
        if self._fifth("tag_wrong"):
            at = 5 + self.telegrams % (len(sealed) - 5)
            sealed = sealed[:at] + bytes((sealed[at] ^ 1 << self.telegrams % 8,)) + sealed[at + 1 :]
        tag = dlms.GENERAL_DED if self._has("ded") else dlms.GENERAL_GLO
        return dlms.general_ciphering(sealed, self.title, tag=tag, least=4 if self._has("long_length") else 0)

    def _parts(self, apdu: bytes) -> list[bytes]:
        """The frames of a telegram, HDLC ones without their flags."""
        habits = self._habits
        if self.framing == "wrapper":
            return [dlms.wrapper(apdu)]
        if self.framing == "raw":
            return [apdu]
        if self.framing == "mbus":
            return dlms.mbus_frames(apdu, (252, 245) if self._has("mbus_257") else (245,))
        to, by, control = habits.destination, habits.source, habits.control
        if self.framing == "hdlc":
            return dlms.hdlc_segments(apdu, self._segment_bytes, destination=to, source=by, control=control)
        blocks = dlms.gbt_blocks(apdu, self._block_bytes, first_size=self._block_bytes - len(dlms.LLC_PUSH))
        blocks[0] = dlms.LLC_PUSH + blocks[0]
        return [dlms.hdlc_frame(block, destination=to, source=by, control=control) for block in blocks]

    def _on_the_line(self, parts: list[bytes]) -> bytes:
        """The frames one after the other, with what the quirks put round them. Clears what cannot be read."""
        hdlc = self.framing in ("hdlc", "gbt")
        whole = list(parts)
        if self._has("bad_fcs_once") and self.telegrams == 1:
            at = len(parts[-1]) - 1 if hdlc else len(parts[-1]) - 2
            parts[-1] = parts[-1][:at] + bytes((parts[-1][at] ^ 0x40,)) + parts[-1][at + 1 :]
            self._nothing()
        if self._fifth("lost_part") and len(parts) > 1:
            del parts[1]
            self._nothing()
        if self._fifth("repeated_part") and len(parts) > 1:
            if len(parts) > 2:  # else it is the last: the telegram was whole when it came again
                self._nothing()
            parts.insert(1, parts[1])
        if self._has("aborted_run") and len(parts) > 1:
            parts.insert(0, whole[0])
        if self._has("ua_frame"):
            parts.insert(0, dlms.hdlc_frame(b"", control=0x73))
        data = dlms.between_flags(parts, shared=self._has("shared_flag")) if hdlc else b"".join(parts)
        if self._fifth("torn"):
            data = data[: len(data) // 2]
            self._nothing()
        if self._has("idle_flags"):
            data = dlms.FLAG * 4 + data + dlms.FLAG * 4
        if self._has("junk_between"):
            draw = random.Random(self.telegrams)
            data = bytes(draw.choices(_JUNK, k=draw.randrange(1, 40))) + data
        if self._has("false_start"):
            data = (b"\x7e\xa1\x00\xce" if hdlc else b"\x68\xfa\xfa\x68\x53") + data
        return data

    def _nothing(self) -> None:
        """This telegram gives no reading."""
        self._expected = []

    # --- what is asked of it ---

    def telegram(self, now_s: float) -> bytes:
        """What the meter sends at `now_s` seconds after its start. ValueError when that lies before the last telegram.

        Costs about 4 us for every second since the last telegram.
        """
        now_ms = round(now_s * 1000)
        if now_ms < self._counters.time_ms:
            raise ValueError("a meter's time does not go back")
        self._counters.advance(now_ms)
        self.telegrams += 1
        if self._fifth("replay"):
            self.stale = bool(self.security)
            return self._last
        self.counter = self.first_counter if self._fifth("counter_reset") else self.counter + 1
        self.stale = bool(self.security) and self.counter <= self._highest
        self._highest = max(self._highest, self.counter)
        self._expected = []
        self.texts = {}
        self.timestamp = None
        self.apdu = self._plain()
        ciphered = self._ciphered(self.apdu)
        if self._fifth("tag_wrong"):
            self._nothing()
        self._last = self._on_the_line(self._parts(ciphered))
        return self._last

    def expected(self) -> Expected:
        """What the last telegram says: (OBIS "A-B:C.D.E*F", exact decimal, unit or None), numbers only, in order.

        The unit is None for a power factor and where none is known. Empty after a telegram that must be refused.
        """
        return list(self._expected)
