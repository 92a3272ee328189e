"""What a meter's energies count in where a rule says so and not the meter: held while that is in doubt.

Loaded for such meters only. Told by the owner (`energy_factor`), by scale.json, by the rule; in this order. The file is
written when a doubt begins or ends: 0 is a doubt, which outlasts a restart, so that none makes a wrong scale believed.
"""

from micropython import const

from firmware import store
from metering.reading import decimal_text
from metering.scale_watch import DOUBTED, FACTORS, PROVEN, ScaleWatch

_FILE = "scale.json"
_ENERGIES = (30, 31, 32)  # Wh, VAh, varh
_WATT = const(27)
_IMPORT = const(1)
_TOTAL = const(8)
_NOW = const(7)
_COARSE = const(20)  # a twentieth more: the sentence tells factors of ten


class EnergyScale:
    """Follows the meter `meter_id` before `listener`. `owners_factor` in Wh, 0: it is to be found out."""

    _power: "int | None"
    _counts: "int | None"

    def __init__(self, listener, meter_id, owners_factor):
        self._listener = listener
        self._meter_id = meter_id
        factor = self._remembered()
        if owners_factor and factor != owners_factor:
            factor = owners_factor
            self._remember(factor)
        listener.set_energy_factor(factor or 0)
        self._applied = listener.assumed_energy_factor()
        self._watch = ScaleWatch(self._applied if factor is None else factor)
        self._is_owners = bool(owners_factor)
        self._held_by_guard = False
        self._holds = self._none_published = factor == 0
        self._power = self._counts = None  # of this telegram
        self._shown = None  # counts of one that had any, told till they have grown: the hub keeps each new sentence
        self.notice = ""

    def _remembered(self):
        """The factor in the file, 0 for a doubt, None where there is none of this meter."""
        record = store.load(_FILE)
        if not isinstance(record, dict) or record.get("meter") != self._meter_id:
            return None
        factor = record.get("factor")
        return factor if type(factor) is int and (factor == 0 or factor in FACTORS) else None

    def _remember(self, factor):
        store.save(_FILE, {"meter": self._meter_id, "factor": factor})

    def holds(self, reading):
        """Is this reading an energy that is not to be published now? Call it with every one of a telegram."""
        obis, value = reading.obis, reading.value
        if not isinstance(value, int) or obis[0] != 1:
            return False
        if obis[2] == _IMPORT and not obis[4]:
            if obis[3] == _NOW and reading.unit == _WATT and reading.exponent <= 0:
                self._power = value // 10**-reading.exponent
            elif obis[3] == _TOTAL:
                self._counts = value
                if self._shown is None or value - self._shown > self._shown // _COARSE:
                    self._shown = value
        return self._holds and obis[3] == _TOTAL and reading.unit in _ENERGIES

    def end_telegram(self, now_s, is_scaled):
        """All readings have been seen. `is_scaled`: does the guard hold a counter whose scale has changed?"""
        if self._is_owners:
            return
        watch = self._watch
        if is_scaled != self._held_by_guard:
            self._held_by_guard = is_scaled
            if is_scaled and watch.factor:
                watch.doubt()
                self._remember(0)
            elif not is_scaled and not self._holds and not watch.factor:  # it is as it was before
                watch.factor = self._applied
                self._remember(self._applied)
        verdict = watch.note(self._power, self._counts, now_s)
        self._power = self._counts = None
        if verdict == DOUBTED:
            self._holds = True
            self._remember(0)
        elif verdict == PROVEN:
            self._settle(watch.proven)
        self.notice = self._sentence()

    def _settle(self, factor):
        self._remember(factor)
        if self._none_published and factor != self._applied:
            self._listener.set_energy_factor(factor)
            self._applied = factor
        if factor == self._applied and not self._held_by_guard:
            self._watch.factor = factor
            self._holds = False

    def _sentence(self):
        watch = self._watch
        if watch.factor:
            return ""
        if watch.proven:
            return (
                "energies count %d Wh, as power and time have proven, and are held: restart the probe, and Home "
                "Assistant books the difference to what was published"
            ) % watch.proven
        if self._shown is None:
            return "energies are held, as their scale is in doubt: compare the display and set energy_factor"
        return (
            "energies are held, as their scale is in doubt: set energy_factor to 1 if the display shows some %s kWh, "
            "to 10 if %s kWh, to 100 if %s kWh; else a day of power and time tells it"
        ) % tuple([decimal_text(self._shown, k - 3) for k in range(3)])
