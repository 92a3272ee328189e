"""By which powers of ten a meter counts that sends no scaler: a rule for each family, told by a name in the list.

A rule is data with its evidence in SCALES. What one telegram proves is decided at once. A scale that is neither sent
nor a rule's is not guessed: the value has no unit.
"""

from metering.compat import const
from metering.dlms.axdr import INT64, string_at, untagged

_KAMSTRUP_TYPE = const(18)  # characters, as 6841131BN243101040
_MOST_VOLTS = const(1000)  # more is no voltage of a household: it is counted in a smaller unit

# family -> powers of ten of voltage, current, power factor and energy; None: not known
SCALES = (
    ("kamstrup", 0, -2, -2, 1),
    ("kamstrup_ct", 0, -3, -2, 1),  # type 685, through current transformers
    ("kaifa", -1, -3, None, 0),
    ("iskra", -1, -2, -3, 0),
    ("burgenland", 0, -2, None, 0),
    ("lg", 0, -2, -3, 0),  # E450
    ("lg_tenths", -1, -2, -3, 0),  # E360: a voltage above 1,000 says so
    ("lg_unsure", None, -2, -3, 0),  # a voltage between the two
    ("lg_whole", 0, 0, -3, 0),  # E570: 64-bit currents say so
)


def family_of(buf, axdr, end):
    """The family by the name of the list, or of the meter, in the value taken apart; "" where none is named."""
    offsets = axdr.offsets
    family = ""
    for i in range(1, axdr.count):
        at = offsets[i]
        if not 0x09 <= buf[at] <= 0x0C or buf[at + 1] < 6:
            continue
        if buf[at + 1] == 6 and buf[at + 7] == 0xFF:
            continue
        at, n = string_at(buf, at, end)
        head = bytes(buf[at : at + 4])
        if family == "kamstrup":
            if n == _KAMSTRUP_TYPE and head[:3] == b"685":
                return "kamstrup_ct"
            continue
        if head == b"Kams":
            family = "kamstrup"
            continue  # its type says whether it measures through transformers
        if head == b"KFM_":
            return "kaifa"
        if head[:3] == b"ISK":
            return "iskra"
        if head[:3] == b"LGZ":
            return "lg"
    return family


class Scales:
    """The powers of ten of one telegram's values. begin() chooses them, of_code() tells them."""

    _voltage: "int | None"
    _current: "int | None"
    _factor: "int | None"

    def __init__(self):
        self._voltage = self._current = self._factor = None
        self._energy = self._power = 0
        self._kamstrup = None  # what its telegrams have shown, once one has come
        self._told_energy = None  # the power of ten of Kamstrup's energies as the owner or a proof tells it

    def begin(self, buf, entries, family):
        """Choose for the registers in `entries` (metering.dlms.cosem) of a list of `family`."""
        if family == "lg":
            family = _landis_gyr(buf, entries)
        self._voltage = self._current = self._factor = None
        self._energy = self._power = 0
        for row in SCALES:
            if row[0] == family:
                _, self._voltage, self._current, self._factor, self._energy = row
        if family.startswith("kamstrup"):
            if self._kamstrup is None:
                from metering.dlms.kamstrup import Kamstrup

                self._kamstrup = Kamstrup()
            self._kamstrup.weigh(buf, entries, self._current)
            self._voltage, self._power = self._kamstrup.voltage, self._kamstrup.power
            if self._told_energy is not None:
                self._energy = self._told_energy

    def set_energy_factor(self, factor):
        """A count of a Kamstrup's energy is worth `factor` Wh: 1, 10, 100 or 1000; 0: what the rule says."""
        self._told_energy = len(str(factor)) - 1 if factor else None

    def assumed_energy_factor(self, family):
        """Wh that a count of an energy is worth in a list of `family`, 0 where nobody doubts it."""
        return 10 ** (1 if self._told_energy is None else self._told_energy) if family.startswith("kamstrup") else 0

    def of_code(self, obis):
        """(unit, power of ten) of a register whose scale is not sent; (None, 0) where it is not known."""
        c, d = obis[2], obis[3]
        if obis[0] != 1 or not 0 < c <= 80:
            return None, 0
        quantity = (c - 1) % 20 + 1
        if d == 8 and quantity <= 10:
            return (30 if quantity < 3 else 32 if quantity < 9 else 31), self._energy
        if d != 7:
            return None, 0
        if quantity <= 10 or quantity == 16:
            return (27 if quantity < 3 or quantity == 16 else 29 if quantity < 9 else 28), self._power
        if quantity == 12 and self._voltage is not None:
            return 35, self._voltage
        if quantity == 11 and self._current is not None:
            return 33, self._current
        return (None, self._factor) if quantity == 13 and self._factor is not None else (None, 0)


def _landis_gyr(buf, entries):
    """Which of Landis+Gyr's: an E570 sends 64 bits and whole amperes, an E360 counts tenths of a volt."""
    most = 0  # of the phases: one of them may be dead
    for k in range(entries.n):
        at = entries.codes[k]
        quantity = (buf[at + 2] - 1) % 20 + 1
        if buf[at + 3] != 7:
            continue
        if quantity == 11 and entries.tags[k] == INT64:
            return "lg_whole"
        if quantity == 12:
            most = max(most, untagged(buf, entries.values[k], entries.tags[k]) or 0)
    return "lg_tenths" if most > _MOST_VOLTS else "lg_unsure" if 2 * most > _MOST_VOLTS else "lg"
