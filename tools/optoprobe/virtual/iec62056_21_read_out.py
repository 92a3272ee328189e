"""What the simulated meters of IEC 62056-21 print: a household's electricity, a heat meter's sets, a P1 port's lines.

Three classes of one shape: `rows(now_s)` is everything at that time, as printed, in order; `printed()` and `lines()`
make bytes of them. Time does not go back.
"""

from __future__ import annotations

import time
from typing import Any

from .household import DWMS_PER_WH, Counters, Household

Expected = list[tuple[str, str, str | None]]
Group = tuple[str, str | None]  # value and unit as printed
Row = tuple[str, tuple[Group, ...]]  # address as printed and its bracket groups

_MAXIMA = ("1.6.0", "1.6.1", "1.6.2", "1.6.3", "1.6.4", "2.6.0", "2.6.1")  # printed by meters with history
_MONTH_S = 2_629_800


def _kilo(thousandths: int, digits: int) -> str:
    """Thousandths with three decimals and leading zeros, `digits` before the point; a sign takes one of them."""
    sign = "-" if thousandths < 0 else ""
    whole, rest = divmod(abs(thousandths), 1000)
    return f"{sign}{whole:0{digits - len(sign)}d}.{rest:03d}"


def expected_of(rows: list[Row]) -> Expected:
    """(address, value, unit), one a bracket group."""
    return [(address, value, unit) for address, groups in rows for value, unit in groups]


def _one(address: str, value: str, unit: str | None = None) -> Row:
    return address, ((value, unit),)


def printed(row: Row, address: str | None = None) -> bytes:
    """The row as it stands in a block, under its own address or `address`."""
    groups = "".join(f"({value})" if unit is None else f"({value}*{unit})" for value, unit in row[1])
    return ((row[0] if address is None else address) + groups).encode()


def find(address: str, rows: list[Row]) -> Row | None:
    """The register that is asked for, whether printed in full or short."""

    def short(name: str) -> str:
        return name.partition(":")[2].removesuffix("*255") if ":" in name else name.removesuffix("*255")

    wanted = short(address)
    return next((row for row in rows if short(row[0]) == wanted), None)


class ReadOut:
    """The registers of a meter `serial` in `household`, its wall clock `epoch_s` at 0 s, in seconds since 1970.

    `energy_wh` and `export_wh` are its counters at 0 s; `newline` ends a line.
    """

    def __init__(
        self, serial: str, household: Household, energy_wh: int, export_wh: int, epoch_s: float, newline: bytes
    ) -> None:
        self.serial = serial
        self._household = household
        self._counters = Counters(household, energy_wh, export_wh)
        self._start_wh = (energy_wh, export_wh)
        self._epoch_s = epoch_s
        self._newline = newline

    def rows(self, now_s: float) -> list[Row]:
        """Every register of the read-out at `now_s`, as printed, in order; time does not go back."""
        self._counters.advance(round(now_s * 1000))
        return self._rows(self._counters.time_ms // 1000)

    def _rows(self, second: int) -> list[Row]:
        raise NotImplementedError

    def lines(self, rows: list[Row]) -> bytes:
        return b"".join(printed(row) + self._newline for row in rows)

    def _clock(self, pattern: str, seconds_ago: float = 0) -> str:
        return time.strftime(pattern, time.gmtime(self._epoch_s + self._counters.time_ms // 1000 - seconds_ago))


class Electricity(ReadOut):
    """The registers of an asked meter or of one with D0; `full` and `history` as IecMeter has them."""

    def __init__(self, *what: Any, full: bool, history: int) -> None:
        super().__init__(*what)
        self._full = full
        self._history = history

    def _address(self, code: str, value_group: str = "255", medium: str = "1-0") -> str:
        """A register's address as this meter prints it: "1.8.0" or "1-0:1.8.0*255", history always with its *."""
        if self._full:
            return f"{medium}:{code}*{value_group}"
        return code if value_group == "255" else f"{code}*{value_group}"

    def _energies_wh(self) -> list[tuple[str, int]]:
        total, export = self._counters.imported // DWMS_PER_WH, self._counters.exported // DWMS_PER_WH
        high, low = (tariff // DWMS_PER_WH for tariff in self._counters.tariff)
        rows = [("1.8.0", total), ("1.8.1", high), ("1.8.2", low)]
        rows += [("1.8.3", 0), ("1.8.4", 0)] if self._history else []
        rows += [("2.8.0", export)]
        return rows + ([("2.8.1", export), ("2.8.2", 0), ("2.8.3", 0), ("2.8.4", 0)] if self._history else [])

    def _rows(self, second: int) -> list[Row]:
        home = self._household
        phases = home.phases_dw(second)
        add = self._address
        rows = [
            _one(add("F.F", medium="0-0"), "00000000"),
            _one(add("C.1.0", medium="0-0"), self.serial),
            _one(add("0.0.0"), self.serial),
            _one(add("0.9.1"), self._clock("%H%M%S")),
            _one(add("0.9.2"), self._clock("%y%m%d")),
        ]
        rows += [_one(add(code), _kilo(wh, 7), "kWh") for code, wh in self._energies_wh()]
        rows.append(_one(add("16.7.0"), _kilo(sum(phases) // 10, 3), "kW"))
        for k, power_dw in enumerate(phases):
            voltage_dv = home.voltage_dv(second, k)
            current_ca = abs(power_dw) * 100 // voltage_dv
            rows.append(_one(add(f"{31 + 20 * k}.7.0"), f"{current_ca // 100:03d}.{current_ca % 100:02d}", "A"))
            rows.append(_one(add(f"{32 + 20 * k}.7.0"), f"{voltage_dv // 10:03d}.{voltage_dv % 10}", "V"))
        frequency = home.frequency_chz(second)
        rows.append(_one(add("14.7.0"), f"{frequency // 100}.{frequency % 100:02d}", "Hz"))
        return rows + self._history_rows()

    def _maximum_rows(self, month: int, value_group: str) -> list[Row]:
        """Highest demands of the month, `month` ago, each with its time in a second bracket group."""
        rows: list[Row] = []
        stamp = self._clock("%y%m%d%H%M", month * _MONTH_S + self._counters.time_ms // 1000)
        for code in _MAXIMA:
            watt = 2_000 + 37 * month * (7 + int(code[-1])) if code[0] == "1" else 0
            rows.append((self._address(code, value_group), ((_kilo(watt, 2), "kW"), (stamp, None))))
        return rows

    def _history_rows(self) -> list[Row]:
        rows = self._maximum_rows(0, "255") if self._history else []
        for month in range(1, self._history + 1):
            number = f"{month:02d}"
            for code, _ in self._energies_wh():
                wh = max(0, self._start_wh[code[0] == "2"] - month * 281_337 - 977 * month * month)
                share = {"0": 100, "1": 66, "2": 34}.get(code[-1], 0)
                rows.append(_one(self._address(code, number), _kilo(wh * share // 100, 7), "kWh"))
            rows += self._maximum_rows(month, number)
        return rows


class Heat(ReadOut):
    """The sets of a heat meter, several in a line."""

    def lines(self, rows: list[Row]) -> bytes:
        sets = [printed(row) for row in rows]
        return b"".join(b"".join(sets[k : k + 3]) + self._newline for k in range(0, len(sets), 3))

    def _rows(self, second: int) -> list[Row]:
        mwh = 326_062 + second // 600  # thousandths of a MWh
        flow = 840 if self._counters.time_ms // 600_000 % 2 else 315  # l/h
        return [
            _one("6.8", _kilo(mwh, 4), "MWh"),
            _one("6.26", f"{7939 + second // 3600:05d}.56", "m3"),
            _one("9.21", self.serial),
            _one("6.26*01", "07843.48", "m3"),
            _one("6.8*01", "0323.272", "MWh"),
            _one("F", "0"),
            _one("9.20", "66935074"),
            _one("6.35", "60", "m"),
            _one("6.6", "0028.0", "kW"),
            _one("6.6*01", "0028.0", "kW"),
            _one("6.33", "000.840", "m3ph"),
            _one("9.4", "108.5*C&088.1*C"),
            _one("6.4", f"{flow * 47 // 1000:04d}.{flow * 47 // 100 % 10}", "kW"),
            _one("6.27", _kilo(flow, 3), "m3ph"),
            _one("6.29", f"{61 + second // 60 % 5:03d}.4", "C"),
            _one("6.28", f"{38 + second // 90 % 3:03d}.9", "C"),
            _one("6.31", f"{88324 + second // 3600:07d}", "h"),
            _one("6.8.1", ""),
            _one("6.36", "01-01&00:00"),
            _one("9.36", self._clock("%Y-%m-%d&%H:%M:%S")),
            _one("9.31", f"{59615 + second // 3600:07d}", "h"),
        ]


class P1(ReadOut):
    """The lines of a P1 port, of a meter with gas on channel 1 and water on channel 2."""

    def _rows(self, second: int) -> list[Row]:
        home = self._household
        phases = home.phases_dw(second)
        power_w = sum(phases) // 10
        serial = self.serial.encode().hex().upper()
        stamp = self._clock("%y%m%d%H%M%S") + "S"
        hour = self._clock("%y%m%d%H0000") + "S"
        rows = [
            _one("1-3:0.2.8", "50"),
            _one("0-0:1.0.0", stamp),
            _one("0-0:96.1.1", serial),
            _one("1-0:1.8.1", _kilo(self._counters.tariff[1] // DWMS_PER_WH, 6), "kWh"),  # Dutch: 1 is the night's
            _one("1-0:1.8.2", _kilo(self._counters.tariff[0] // DWMS_PER_WH, 6), "kWh"),
            _one("1-0:2.8.1", "000000.000", "kWh"),
            _one("1-0:2.8.2", _kilo(self._counters.exported // DWMS_PER_WH, 6), "kWh"),
            _one("0-0:96.14.0", "0002" if 6 * 3600 <= home.time_of_day_s(second) < 22 * 3600 else "0001"),
            _one("1-0:1.7.0", _kilo(max(power_w, 0), 2), "kW"),
            _one("1-0:2.7.0", _kilo(max(-power_w, 0), 2), "kW"),
            _one("0-0:96.7.21", "00004"),
            _one("0-0:96.7.9", "00002"),
            ("1-0:99.97.0", (("1", None), ("0-0:96.7.19", None), ("240111093500W", None), ("0000000240", "s"))),
            _one("1-0:32.32.0", "00002"),
            _one("1-0:32.36.0", "00000"),
            _one("0-0:96.13.0", ""),
        ]
        for k, power_dw in enumerate(phases):
            voltage_dv = home.voltage_dv(second, k)
            rows.append(_one(f"1-0:{32 + 20 * k}.7.0", f"{voltage_dv // 10:03d}.{voltage_dv % 10}", "V"))
            rows.append(_one(f"1-0:{31 + 20 * k}.7.0", f"{abs(power_dw) // voltage_dv:03d}", "A"))
            rows.append(_one(f"1-0:{21 + 20 * k}.7.0", _kilo(max(power_dw // 10, 0), 2), "kW"))
            rows.append(_one(f"1-0:{22 + 20 * k}.7.0", _kilo(max(-power_dw // 10, 0), 2), "kW"))
        return [
            *rows,
            _one("0-1:24.1.0", "003"),
            _one("0-1:96.1.0", "37464C4F32313139303333373333"),
            ("0-1:24.2.1", ((hour, None), (f"{112 + second // 3600:05d}.384", "m3"))),
            _one("0-2:24.1.0", "007"),
            _one("0-2:96.1.0", "5741544552303030303037313533"),
            ("0-2:24.2.1", ((hour, None), (f"{871 + second // 7200:05d}.206", "m3"))),
        ]
