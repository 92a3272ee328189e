"""What stands behind a meter that counts reactive power too: a household's energies by direction, quadrant and tariff.

They are integrated in integer deciwatt milliseconds, so they are exact and never go back.
"""

from __future__ import annotations

from math import isqrt

from .household import Household

_DWMS_PER_MWH = 36_000  # deciwatt milliseconds in a thousandth of a Wh


def _reactive(power: int) -> int:
    """Deciwatts to reactive power in decivars: electronics below, motors and heaters' relays above."""
    return power // 6 - 420


def _quadrant(active: int, reactive: int) -> int:
    """5 to 8 for the quadrants I to IV."""
    if reactive >= 0:
        return 5 if active >= 0 else 6
    return 8 if active >= 0 else 7


class QuadrantCounters:
    """From `energy_wh` and `export_wh` at 0 s on; `time_ms` is how far. Tariff 1 is the day's, 6 to 22 o'clock."""

    def __init__(self, household: Household, energy_wh: int, export_wh: int) -> None:
        self._household = household
        self.time_ms = 0
        energies = {1: energy_wh, 2: export_wh}  # active by quantity, reactive by quadrant (5 to 8)
        for quadrant in (5, 6, 7, 8):
            share = (energy_wh + export_wh) // (3 * quadrant)
            energies[quadrant] = share if quadrant in (5, 8) or export_wh else 0
        mwh = 1000 * _DWMS_PER_MWH
        self._energy: dict[tuple[int, int], int] = {}  # (quantity, tariff): deciwatt milliseconds
        for quantity, wh in energies.items():
            self._energy[quantity, 1] = (wh - wh // 3) * mwh
            self._energy[quantity, 2] = wh // 3 * mwh

    def advance(self, until_ms: int) -> None:
        """Count up to `until_ms`; what lies before is counted already."""
        at = self.time_ms
        while at < until_ms:
            second = at // 1000
            end = min(until_ms, (second + 1) * 1000)
            phases = self._household.phases_dw(second)
            active = sum(phases)
            reactive = sum(_reactive(power) for power in phases)
            tariff = 1 if 6 * 3600 <= self._household.time_of_day_s(second) < 22 * 3600 else 2
            self._energy[1 if active >= 0 else 2, tariff] += abs(active) * (end - at)
            self._energy[_quadrant(active, reactive), tariff] += abs(reactive) * (end - at)
            at = end
        self.time_ms = at

    def quantity(self, c: int, d: int, e: int) -> tuple[int, int]:
        """(mantissa, scaler) of C.D.E now, with all the digits the simulation has."""
        phase, kind = (c // 20, c % 20) if c >= 20 else (0, c)
        if d == 8:
            kinds = {3: (5, 6), 4: (7, 8)}.get(kind, (kind,))
            tariffs = (e,) if e else (1, 2)
            return sum(self._energy[k, t] for k in kinds for t in tariffs) // _DWMS_PER_MWH, -3
        second = self.time_ms // 1000
        powers = self._household.phases_dw(second)
        chosen = powers[phase - 1 : phase] if phase else powers
        active = sum(chosen)
        reactive = sum(_reactive(power) for power in chosen)
        if kind == 12:
            return self._household.voltage_dv(second, phase - 1), -1
        apparent = isqrt(active * active + reactive * reactive)
        if kind == 11:
            return apparent * 1000 // self._household.voltage_dv(second, phase - 1), -3
        if kind == 13:
            return min(1000, abs(active) * 1000 // max(apparent, 1)), -3
        if kind == 14:
            return self._household.frequency_chz(second), -2
        signed = {1: active, 2: -active, 3: reactive, 4: -reactive, 16: active}[kind]
        return (signed if kind == 16 else max(signed, 0)), -1
