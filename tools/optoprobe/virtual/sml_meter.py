"""A simulated household electricity meter that pushes SML, with an option for every quirk met in the field.

A household (base load, fridge, kettle, oven, photovoltaics if wanted) draws power that is constant over each second.
The meter integrates the balance of its three phases in integer deciwatt milliseconds, so its registers are exact and
never go back. The same seed, options and times give the same telegrams. Time is an argument; nothing looks at a clock.

`SmlMeter.telegram(now_s)` is what the meter sends at that time, `SmlMeter.expected()` what a faultless reader makes of
it, computed from the simulation and not from the bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from . import sml_encoder as sml
from .household import DWMS_PER_WH, Counters, Household
from .sml_encoder import Entry, SmlTime, Style

Expected = list[tuple[str, str, str | None]]

WH, W, A, V, HZ, DEG, DEG_C = 30, 27, 33, 35, 44, 8, 9  # unit codes, DLMS UA 1000-1, 4.3.2
_UNIT_TEXT = {0: None, WH: "Wh", W: "W", A: "A", V: "V", HZ: "Hz", DEG: "°", DEG_C: "°C"}

QUIRKS = {
    "kermit": "CRC-16/KERMIT, high byte first, in envelope and messages (old Holley DTZ541)",
    "bare_val_time": "valTime as a bare u32 without choice and list (Holley)",
    "u32_tag": "message tag as u32 (Holley, eBZ, Itron, EasyMeter)",
    "list_type_bits": "22 entries, type bits repeated in the list's second TL byte: F1 76 (Hager)",
    "long_list": "21 entries: F1 05 (Holley)",
    "wide_tl": "three TL bytes where one would do, for lists, octet strings and integers",
    "absent_value": "an entry 1-0:96.50.2*6 without a value (EMH eHZ-I)",
    "odd_widths": "energy in 40 bits, power in 24 (EMH, DWSB20)",
    "varying_width": "as few bytes as the value of the moment needs, of the message's CRC too (Iskra MT691)",
    "dzg_dvs74": "DZG DVS74 in the faulty serial range: positive power in 1 to 3 bytes, unsigned but marked signed",
    "dzg_sibling": "a DZG outside the faulty range: genuine negative power in 1 to 3 bytes",
    "no_pin": "PIN not entered: energy in whole kWh (scaler +3, unit Wh) and nothing else",
    "ascii_id_7": "server id of 7 ASCII digits (EMH eHZ361)",
    "ascii_id_8": "server id of 8 ASCII digits (EMH eHZ-G)",
    "attention": "every fifth telegram is an attention message (FF01) and holds no list",
    "proc_parameter": "every fifth telegram is a proc-parameter response (0501) and holds no list",
    "two_lists": "energy and power in two list responses of one file",
    "escape_in_key": "1b1b1b1b in the public key and the list's signature, at a place that moves",
    "two_tariffs": "1.8.1 from 6 to 22 o'clock, 1.8.2 at night, beside 1.8.0",
    "val_time_sec_index": "valTime in every measured entry as secIndex (EMH mME)",
    "val_time_timestamp": "valTime as timestamp",
    "val_time_local": "valTime as a local timestamp, a list of three (FROETEC Multiflex)",
    "sensor_timestamp": "actSensorTime as timestamp",
    "no_sensor_time": "actSensorTime absent (eHZ361, Holley ZDBA)",
    "temperature": "1-0:96.9.1*1, a temperature in deg C, unit 9 (Hager)",
    "boolean": "an entry that is a boolean",
    "key": "the maker's 48-byte public key, 129-129:199.130.5 (EMH, Iskra): a TL of two bytes",
    "phases": "power, voltage and current of each phase, and the frequency",
}

_LIST_TYPE_BITS_ENTRIES, _LONG_LIST_ENTRIES = 22, 21  # Hager: F1 76; Holley: F1 05
_EPOCH_S = 1_780_000_000  # wall time at now_s 0 for meters that have a clock: 2026-05-28
_STATUS = 0x001C0104  # FNN status word of a mME; bit 11 is set while exporting
_STATUS_EXPORT = 0x800


def decimal_text(mantissa: int, scaler: int) -> str:
    """mantissa x 10**scaler with every digit: (147, -1) is "14.7", (-5, -2) "-0.05", (16, 3) "16000"."""
    if scaler >= 0:
        return str(mantissa * 10**scaler)
    digits = str(abs(mantissa)).rjust(1 - scaler, "0")
    return ("-" if mantissa < 0 else "") + digits[:scaler] + "." + digits[scaler:]


class SmlMeter:
    """One meter, seen through its optical port. `line` is 9600 8N1 with every meter known.

    `quirks` are names of QUIRKS (ValueError for others). `period_s` is the pause between starts of telegrams that the
    caller should keep. `energy_wh`, `export_wh`: what the registers show at second 0. `maker`: three letters.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        quirks: Iterable[str] = (),
        period_s: float = 1.0,
        energy_wh: int = 14_798_112,
        export_wh: int = 612_345,
        pv_peak_w: int = 0,
        start_s: int = 11 * 3600 + 30 * 60,
        server_id: bytes | None = None,
        maker: bytes = b"OPT",
    ) -> None:
        self.quirks = frozenset(quirks)
        unknown = sorted(self.quirks - QUIRKS.keys())
        if unknown:
            raise ValueError(f"no such quirk: {', '.join(unknown)}; there are {', '.join(QUIRKS)}")
        if period_s <= 0 or energy_wh < 0 or export_wh < 0 or len(maker) != 3:
            raise ValueError("period_s above 0, energies 0 or more, maker of three letters")
        self.period_s = period_s
        self.household = Household(seed, start_s=start_s, pv_peak_w=pv_peak_w)
        self._counters = Counters(self.household, energy_wh, export_wh)
        self.maker = maker
        self.server_id = server_id or self._default_id(seed)
        self.telegrams = 0
        self._seconds_at_start = 106_267_790 + seed % 1000
        self._expected: Expected = []
        self._style = Style(
            crc="kermit" if self._has("kermit") else "x25",
            tag_bytes=4 if self._has("u32_tag") else 2,
            list_tl=3 if self._has("wide_tl") else 1,
            octet_tl=3 if self._has("wide_tl") else 1,
            int_tl=3 if self._has("wide_tl") else 1,
            tl_type_bits=self._has("list_type_bits"),
            bare_val_time=self._has("bare_val_time"),
            narrow_crc=self._has("varying_width"),
        )

    def _has(self, quirk: str) -> bool:
        return quirk in self.quirks

    def _default_id(self, seed: int) -> bytes:
        number = random.Random(seed).randrange(10_000_000, 40_000_000)
        if self._has("dzg_dvs74") or self._has("dzg_sibling"):
            self.maker = b"DZG"
            number = 42_082_910 if self._has("dzg_dvs74") else 50_000_123
        if self._has("ascii_id_7"):
            return b"%07d" % (number // 10)
        if self._has("ascii_id_8"):
            return b"%08d" % number
        return b"\x0a\x01" + self.maker + b"\x00" + number.to_bytes(4, "big")  # DIN 43863-5

    @property
    def meter_id(self) -> str:
        """The server id as lower-case hex."""
        return self.server_id.hex()

    # --- entries ---

    def _val_time(self) -> SmlTime | None:
        second = self._counters.time_ms // 1000
        if self._has("val_time_timestamp"):
            return sml.timestamp(_EPOCH_S + second)
        if self._has("val_time_local"):
            return sml.local_timestamp(_EPOCH_S + second, 60, 60)
        if self._has("val_time_sec_index") or self._has("bare_val_time"):
            return sml.sec_index(self._seconds_at_start + second)
        return None

    def _add(self, entries: list[Entry], entry: Entry, shown: str | None = None, *, void: bool = False) -> None:
        """Append an entry and what a reader should make of it (`shown` where that is not what stands in the entry)."""
        entries.append(entry)
        if void:
            return
        value = entry.value
        if shown is None:
            if isinstance(value, bool):
                shown = "true" if value else "false"
            elif isinstance(value, int):
                shown = decimal_text(value, entry.scaler or 0)
            else:
                shown = (value.encode() if isinstance(value, str) else value or b"").hex()
        code = sml.obis_bytes(entry.obis)
        name = f"{code[0]}-{code[1]}:{code[2]}.{code[3]}.{code[4]}*{code[5]}"
        self._expected.append((name, shown, None if entry.unit is None else _UNIT_TEXT[entry.unit]))

    def _width(self, usual: int, odd: int) -> int | None:
        """Bytes of a number: None is as few as hold it."""
        if self._has("varying_width"):
            return None
        return odd if self._has("odd_widths") else usual

    def _energy(self, obis: str, energy: int, exporting: bool | None = None) -> Entry:
        if self._has("no_pin"):
            mantissa, scaler = energy // (1000 * DWMS_PER_WH), 3
        else:
            mantissa, scaler = energy // (DWMS_PER_WH // 10), -1
        status = None if exporting is None else _STATUS | (_STATUS_EXPORT if exporting else 0)
        width = None if status is None else 4
        return Entry(obis, mantissa, self._width(8, 5), True, scaler, WH, status, width, self._val_time())

    def _power(self, obis: str, power_dw: int) -> tuple[Entry, str]:
        """Active power and its true text. The DZG's fault: an unsigned number of 1..3 bytes tagged as a signed one.

        356.24 W is 35624 = 8b28: sent 53 8b28, read -299.12 W. Negative power comes in 4 bytes and is right.
        """
        if not (self._has("dzg_dvs74") or self._has("dzg_sibling")):
            entry = Entry(obis, power_dw, self._width(4, 3), True, -1, W, val_time=self._val_time())
            return entry, decimal_text(power_dw, -1)
        mantissa = power_dw * 10
        shown = decimal_text(mantissa, -2)
        if self._has("dzg_sibling"):
            return Entry(obis, mantissa, None, True, -2, W), shown
        width = sml.min_width(mantissa, signed=False)
        if mantissa < 0 or width > 3:
            return Entry(obis, mantissa, 4, True, -2, W), shown
        as_signed = int.from_bytes(mantissa.to_bytes(width, "big"), "big", signed=True)
        return Entry(obis, as_signed, width, True, -2, W), shown

    def _energy_entries(self) -> list[Entry]:
        entries: list[Entry] = []
        exporting = sum(self.household.phases_dw(self._counters.time_ms // 1000)) < 0
        nothing: dict[str, Any] = {}
        if self._has("dzg_dvs74") or self._has("dzg_sibling"):  # they send 0 with texts where others send nothing
            nothing = {"unit": 0, "scaler": 0, "val_time": SmlTime(1, 0, width=1)}
        self._add(entries, Entry("1-0:96.50.1*1", self.maker, **nothing))
        self._add(entries, Entry("1-0:96.1.0*255", self.server_id, **nothing))
        self._add(entries, self._energy("1-0:1.8.0*255", self._counters.imported, exporting))
        if self._has("two_tariffs"):
            self._add(entries, self._energy("1-0:1.8.1*255", self._counters.tariff[0]))
            self._add(entries, self._energy("1-0:1.8.2*255", self._counters.tariff[1]))
        self._add(entries, self._energy("1-0:2.8.0*255", self._counters.exported))
        return entries

    def _measured_entries(self) -> list[Entry]:
        entries: list[Entry] = []
        second = self._counters.time_ms // 1000
        home = self.household
        phases = home.phases_dw(second)
        entry, shown = self._power("1-0:16.7.0*255", sum(phases))
        self._add(entries, entry, shown)
        if self._has("phases"):
            time = self._val_time()
            for k, power_dw in enumerate(phases):
                voltage_dv = home.voltage_dv(second, k)
                current_ca = abs(power_dw) * 100 // voltage_dv
                c = 20 * k
                add = self._add
                add(entries, Entry(f"1-0:{36 + c}.7.0*255", power_dw, self._width(4, 3), True, -1, W, val_time=time))
                add(entries, Entry(f"1-0:{32 + c}.7.0*255", voltage_dv, 2, False, -1, V, val_time=time))
                add(entries, Entry(f"1-0:{31 + c}.7.0*255", current_ca, 2, False, -2, A, val_time=time))
            self._add(entries, Entry("1-0:14.7.0*255", home.frequency_chz(second), 2, False, -2, HZ, val_time=time))
        if self._has("temperature"):
            self._add(entries, Entry("1-0:96.9.1*1", 215 + second // 600 % 40, 2, True, -1, DEG_C))
        if self._has("boolean"):
            self._add(entries, Entry("1-0:96.5.1*255", second % 2 == 0))
        if self._has("key") or self._has("escape_in_key"):
            self._add(entries, Entry("129-129:199.130.5*255", self._key()))
        if self._has("absent_value"):
            self._add(entries, Entry("1-0:96.50.2*6", None), void=True)
        return entries

    def _fill(self, entries: list[Entry], n: int) -> None:
        """Counters of no meaning up to `n` entries."""
        second = self._counters.time_ms // 1000
        for k in range(n - len(entries)):
            self._add(entries, Entry(f"1-0:96.50.3*{k + 1}", 1000 * k + second % 1000, None, False))

    def _key(self) -> bytes:
        """48 bytes; with "escape_in_key" 1b1b1b1b or a false start or end in it, at a place that moves."""
        key = bytes(0x40 + k for k in range(48))
        if not self._has("escape_in_key"):
            return key
        bait = (sml.ESCAPE, sml.START, sml.ESCAPE + b"\x1a\x00", sml.ESCAPE * 2, b"\x1b" * 5)[self.telegrams % 5]
        at = self.telegrams % (48 - len(bait))
        return key[:at] + bait + key[at + len(bait) :]

    # --- what is asked of it ---

    def telegram(self, now_s: float) -> bytes:
        """What the meter sends at `now_s` seconds after its start. ValueError when that lies before the last telegram.

        Costs about 3 us for every second since the last telegram.
        """
        now_ms = round(now_s * 1000)
        if now_ms < self._counters.time_ms:
            raise ValueError("a meter's time does not go back")
        self._counters.advance(now_ms)
        self.telegrams += 1
        self._expected = []
        style = self._style
        if self.telegrams % 5 == 0:
            if self._has("attention"):
                return self._file([(sml.ATTENTION_RESPONSE, sml.attention_response(self.server_id))])
            if self._has("proc_parameter"):
                body = sml.proc_parameter_response(self.server_id, "129-129:199.130.3*255", self.maker, style)
                return self._file([(sml.PROC_PARAMETER_RESPONSE, body)])
        lists = [self._energy_entries()]
        if not self._has("no_pin"):
            if self._has("two_lists"):
                lists.append(self._measured_entries())
            else:
                lists[0] += self._measured_entries()
        if self._has("list_type_bits"):
            self._fill(lists[-1], _LIST_TYPE_BITS_ENTRIES)
        elif self._has("long_list"):
            self._fill(lists[-1], _LONG_LIST_ENTRIES)
        second = now_ms // 1000
        if self._has("no_sensor_time"):
            sensor_time = None
        elif self._has("sensor_timestamp"):
            sensor_time = sml.timestamp(_EPOCH_S + second)
        else:
            sensor_time = sml.sec_index(self._seconds_at_start + second)
        signature = self._key() if self._has("escape_in_key") else None
        return self._file(
            [
                (
                    sml.LIST_RESPONSE,
                    sml.list_response(
                        entries, self.server_id, sensor_time=sensor_time, signature=signature, style=style
                    ),
                )
                for entries in lists
            ]
        )

    def _file(self, bodies: list[tuple[int, bytes]]) -> bytes:
        return sml.sml_file(bodies, self.server_id, counter=self.telegrams, style=self._style)

    def expected(self) -> Expected:
        """What the last telegram says: (OBIS "A-B:C.D.E*F", exact decimal, hex or true/false, unit or None), in order.

        Empty after an attention or proc-parameter telegram. An entry without a value is not in it.
        """
        return list(self._expected)
