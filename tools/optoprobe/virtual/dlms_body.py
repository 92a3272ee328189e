"""What a simulated meter that pushes DLMS says: one layout's list of values, encoded, and how it reads.

How it is notified, ciphered and framed: dlms_meter, dlms_framing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from . import dlms_encoder as dlms
from .dlms_encoder import INT8, UINT16, UINT32
from .dlms_lists import HZ, LAYOUTS, NO_UNIT, OCTETS, VAR, VARH, VISIBLE, WH, A, Item, V, W
from .iec62056_21_talk import crc16_arc
from .quadrant_counters import QuadrantCounters
from .sml_meter import Expected, decimal_text

_UNIT_TEXT = {WH: "Wh", W: "W", VAR: "var", VARH: "varh", A: "A", V: "V", HZ: "Hz", NO_UNIT: None}
_START_DAY = datetime(2026, 5, 28)  # local time at the start of day 0


class Body:
    """Of a meter that begins `start_s` seconds into day 0. `habits` are its layout's.

    After encoded(): `expected`, `texts` and `timestamp` as DlmsMeter has them.
    """

    def __init__(self, layout: str, counters: QuadrantCounters, serial: int, start_s: int) -> None:
        self.habits = LAYOUTS[layout]
        self._counters = counters
        self._names = {"serial": serial, "id": f"73599928{serial:08d}", "ldn": f"ISK1030{serial:09d}"}
        self._start = _START_DAY + timedelta(seconds=start_s)
        self.begin()

    def begin(self) -> None:
        """Nothing is said yet."""
        self.expected: Expected = []
        self.texts: dict[str, str] = {}
        self.timestamp: str | None = None

    @property
    def meter_id(self) -> str | None:
        """The id as it stands in the body; None where the layout has none."""
        template = self.habits.meter_id
        return None if template is None else template.format(**self._names)

    def _mantissa(self, item: Item) -> int:
        """The number that is sent for a register: its digits down to `scaler`, the rest cut off."""
        c, d, e = (int(part) for part in item.obis[4:].removesuffix("*255").split("."))
        mantissa, scaler = self._counters.quantity(c, d, e)
        shift = item.scaler - scaler
        if shift <= 0:
            return mantissa * 10**-shift
        return mantissa // 10**shift if mantissa >= 0 else -(-mantissa // 10**shift)

    def _when(self) -> datetime:
        return self._start + timedelta(seconds=self._counters.time_ms // 1000)

    def clock(self) -> bytes:
        habits = self.habits
        return dlms.date_time_octets(
            self._when(),
            deviation=-120 if habits.offset else None,
            status=habits.status,
            hundredths=0 if habits.offset else 0xFF,
        )

    def time_text(self) -> str:
        return self._when().isoformat() + ("+02:00" if self.habits.offset else "")

    def _value(self, item: Item) -> bytes:
        """The item's encoded value; what a reader should make of it is noted."""
        if item.raw:
            if item.name:
                self.texts[item.name] = item.raw[2:].hex()
            return item.raw
        if item.clock:
            self.timestamp = self.time_text()
            if item.obis:
                self.texts[item.obis] = self.timestamp
            return dlms.octets(self.clock())
        if item.text is not None:
            text = item.text.format(**self._names)
            name = item.name or item.obis
            if name != "-":
                printable = text.isprintable() or not text
                self.texts[name] = text if printable else text.encode("latin-1").hex()
            return dlms.visible(text) if item.tag == VISIBLE else dlms.octets(text.encode("latin-1"))
        number = self._mantissa(item) if item.number is None else item.number
        unit = None if item.unit is None else _UNIT_TEXT[item.unit]
        self.expected.append((item.obis, decimal_text(number, item.scaler), unit))
        return dlms.number(item.tag, number)

    def encoded(self) -> bytes:
        """The body of a DataNotification, or a P1 telegram."""
        shape, items = self.habits.shape, self.habits.items
        if shape == "p1":
            return self._p1()
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
        setup = self.habits.push_setup

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
        for item in self.habits.items:
            number = self._mantissa(item)
            unit = _UNIT_TEXT[item.unit or NO_UNIT]
            lines.append(f"{item.obis.removesuffix('*255')}({number:09d}*{unit})")
            self.expected.append((item.obis, decimal_text(number, item.scaler), unit))
        text = "\r\n".join((*lines, "!")).encode()
        return text + b"%04X\r\n" % crc16_arc(text)
