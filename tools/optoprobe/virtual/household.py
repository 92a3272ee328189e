"""What stands behind a simulated electricity meter: a household's power, and the counters that integrate it exactly.

Power is constant over each second. The same seed and times give the same; nothing looks at a clock.
"""

from __future__ import annotations

import random
from functools import lru_cache

DWMS_PER_WH = 10 * 3600 * 1000  # deciwatt milliseconds
_SECONDS_KEPT = 1 << 17  # a day and a half

_Phases = tuple[int, int, int]


@lru_cache(maxsize=16)
def _seconds_of(seed: int, start_s: int, pv_peak_w: int) -> dict[int, _Phases]:
    """What is known of the seconds of such households."""
    return {}


class Household:
    """Power of the three phases at any second, in deciwatts; below zero while photovoltaics give more than is used.

    `start_s` is the time of day at second 0, `pv_peak_w` the peak of the photovoltaics (0: none).
    """

    def __init__(self, seed: int = 1, *, start_s: int = 11 * 3600 + 30 * 60, pv_peak_w: int = 0) -> None:
        if pv_peak_w < 0:
            raise ValueError("pv_peak_w: 0 or more")
        self._seed = seed
        self._start_s = start_s
        self._pv_peak_dw = pv_peak_w * 10
        draw = random.Random(seed)
        self._base_dw = draw.randrange(1500, 4500)
        self._fridge_phase_s = draw.randrange(2700)
        self._kettles: dict[int, list[tuple[int, int]]] = {}
        self._seconds = _seconds_of(seed, start_s, pv_peak_w)

    def time_of_day_s(self, second: int) -> int:
        return (self._start_s + second) % 86400

    def _noise(self, second: int, salt: int) -> int:
        """0..255, the same for the same second."""
        x = (second * 0x9E3779B1 ^ self._seed * 0x85EBCA6B ^ salt * 0xC2B2AE35) & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x2C1B3C6D & 0xFFFFFFFF
        return x >> 13 & 0xFF

    def _kettle_on(self, second: int) -> bool:
        """Bursts of 80 to 200 s, two an hour at waking hours."""
        hour = second // 3600
        if hour not in self._kettles:
            if len(self._kettles) > 4:
                self._kettles.clear()
            draw = random.Random(self._seed * 1_000_003 + hour)
            starts = [draw.randrange(0, 1500), draw.randrange(1800, 3300)]
            self._kettles[hour] = [(start, start + draw.randrange(80, 200)) for start in starts]
        if not 6 * 3600 <= self.time_of_day_s(second) < 22 * 3600:
            return False
        return any(start <= second % 3600 < end for start, end in self._kettles[hour])

    def phases_dw(self, second: int) -> _Phases:
        """L1, L2, L3 in deciwatts during that second."""
        known = self._seconds.get(second)
        if known is None:
            if len(self._seconds) >= _SECONDS_KEPT:
                self._seconds.clear()
            known = self._seconds[second] = self._phases_dw(second)
        return known

    def _phases_dw(self, second: int) -> _Phases:
        day_s = self.time_of_day_s(second)
        l1 = self._base_dw // 2 + self._noise(second, 1) // 4
        l2 = self._base_dw // 3 + self._noise(second, 2) // 8
        l3 = self._base_dw // 6 + self._noise(second, 3) // 8
        fridge_s = (second + self._fridge_phase_s) % 2700
        if fridge_s < 900:
            l1 += 6000 if fridge_s < 2 else 850
        if self._kettle_on(second):
            l2 += 20350 + self._noise(second, 4)
        if 17 * 3600 + 1800 <= day_s < 18 * 3600 + 1800 and day_s % 100 < 60:
            l3 += 24100 + self._noise(second, 5)
        if self._pv_peak_dw and 6 * 3600 < day_s < 20 * 3600:
            x = day_s - 13 * 3600  # a parabola over 14 hours, and clouds that change every five minutes
            clear = self._pv_peak_dw * (25200**2 - x * x) // 25200**2
            before, after = self._noise(second // 300, 6), self._noise(second // 300 + 1, 6)
            cloud = (before * (300 - second % 300) + after * (second % 300)) // 300
            l3 -= clear * (640 - cloud) // 640
        return l1, l2, l3

    def voltage_dv(self, second: int, phase: int) -> int:
        """About 230 V, in decivolts; it wanders a little."""
        return 2290 + phase * 7 + self._noise(second // 7, 10 + phase) // 16 + self._noise(second, 20 + phase) // 64

    def frequency_chz(self, second: int) -> int:
        """About 50 Hz, in hundredths."""
        return 4998 + self._noise(second // 3, 30) // 64


class Counters:
    """Energy of a household in deciwatt milliseconds, from `energy_wh` and `export_wh` at 0 s on; never goes back.

    `imported`, `exported`, and `tariff`: the import by day (6 to 22 o'clock) and by night. `time_ms` is how far.
    """

    def __init__(self, household: Household, energy_wh: int, export_wh: int) -> None:
        self._household = household
        self.time_ms = 0
        self.imported = energy_wh * DWMS_PER_WH
        self.exported = export_wh * DWMS_PER_WH
        self.tariff = [self.imported - self.imported // 3, self.imported // 3]

    def advance(self, until_ms: int) -> None:
        """Count up to `until_ms`; what lies before is counted already."""
        at = self.time_ms
        while at < until_ms:
            second = at // 1000
            end = min(until_ms, (second + 1) * 1000)
            energy = sum(self._household.phases_dw(second)) * (end - at)
            if energy >= 0:
                self.imported += energy
                night = not 6 * 3600 <= self._household.time_of_day_s(second) < 22 * 3600
                self.tariff[night] += energy
            else:
                self.exported -= energy
            at = end
        self.time_ms = at
