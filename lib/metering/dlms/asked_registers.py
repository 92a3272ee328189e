"""The registers of one DLMS meter, asked for round by round in an association that stands; what is known of each.

    GET 42.0.0, 96.1.0  who the meter is
    GET clock           and for each register: scaler and unit (attribute 3) once an hour, then its value (attribute 2)

    a register is refused                 not asked for again for a day; all of them: for an hour, it may be busy
    a register holds nothing now          asked for again the next time
    a count is ten times the last         its scale is asked for again at once: the meter may have been set anew
"""

from metering.compat import const, signed
from metering.dlms.association import LN, SN
from metering.dlms.getter import LOST, Getter
from metering.reading import Reading
from metering.unload import unload

_DATA = const(1)  # classes
_REGISTER = const(3)
_CLOCK = const(8)
_VALUE = const(2)  # attributes
_SCALE = const(3)

_LOGICAL_NAME = b"\x00\x00\x2a\x00\x00\xff"
_NUMBER = b"\x00\x00\x60\x01\x00\xff"
_TIME = b"\x00\x00\x01\x00\x00\xff"
# C, D and E of what residential meters have: energies by tariff, powers, voltages, currents, power factor, frequency
_USUAL = (
    b"\x01\x08\x00\x02\x08\x00\x01\x08\x01\x01\x08\x02\x01\x08\x03\x01\x08\x04\x02\x08\x01\x02\x08\x02\x03\x08\x00"
    b"\x04\x08\x00\x01\x07\x00\x02\x07\x00\x10\x07\x00\x03\x07\x00\x04\x07\x00\x15\x07\x00\x29\x07\x00\x3d\x07\x00"
    b"\x20\x07\x00\x34\x07\x00\x48\x07\x00\x1f\x07\x00\x33\x07\x00\x47\x07\x00\x0d\x07\x00\x0e\x07\x00"
)

_UNKNOWN = const(0)  # of a register, as metering.dlms.meter_memory has them
_SCALED = const(1)
_REFUSED = const(2)

_LATER = const(2)  # a data-access-result: temporary failure
_ODD = const(251)  # a data-access-result of our own: data of another type
_NO_UNIT = const(255)

_REFUSAL_S = const(86400)
_HOUR_S = const(3600)  # a meter may be set anew: what is no counter would be told ten times too high till then


class Wanted:
    """The registers that are read, the usual ones or those of `jobs`, and what is known of each. `memory`: where that
    lasts over restarts, as client's keep_by() has it, or None."""

    def __init__(self, jobs, memory=None):
        self.jobs = jobs
        self.memory = memory
        self.n = len(jobs) // 7 if jobs else len(_USUAL) // 3
        self.states = bytearray(self.n)
        self.exponents = bytearray(self.n)
        self.units = bytearray(self.n)
        self._heard = bytearray(self.n)  # how large the counts were, in bits
        self.kinds = bytearray(len(jobs) // 7)  # classes of the jobs, 0: not known
        self.has_clock = True  # that it tells
        self.is_kept = False  # over a restart, which of them are refused
        self.told = ""  # a sentence on the last that is not to be had, though it is wanted by name, or answers oddly
        self.refusal_s = _REFUSAL_S  # how long the refused ones rest yet,
        self._scales_s = _HOUR_S  # and how long the scales are believed

    def code(self, k):
        """The six bytes of register `k`."""
        if self.jobs:
            return self.jobs[7 * k : 7 * k + 6]
        return b"\x01\x00" + _USUAL[3 * k : 3 * k + 3] + b"\xff"

    def difference(self, k, count):
        """Is the `count` of register `k` so far from the last that the scale may be another? Tenfold always is."""
        last, self._heard[k] = self._heard[k], len(bin(abs(count)))
        return count and last and abs(self._heard[k] - last) > 2

    def rest(self, seconds):
        """So long nothing is asked."""
        self._scales_s -= seconds
        if self._scales_s <= 0:
            self._scales_s = _HOUR_S
            self.forget(_SCALED)
        self.refusal_s -= seconds
        if self.refusal_s <= 0:
            self.refusal_s = _REFUSAL_S
            self.has_clock = True
            self.is_kept = False
            self.told = ""
            self.forget(_REFUSED)

    def forget(self, state):
        """What is known to be _SCALED, or _REFUSED, is not any more."""
        if state == _SCALED:
            self.kinds = bytearray(len(self.kinds))
        for k in range(self.n):
            if self.states[k] == state:
                self.states[k] = _UNKNOWN


class AskedRegisters:
    """Reads the registers over `link`, for `listener`, an AskedValues. `jobs` and `memory` as Wanted has them."""

    def __init__(self, listener, link, context, jobs, memory):
        self._listener = listener
        self._context = context
        self._number = self._naming = b""  # of the meter whose registers are known, and the code that tells it
        self.wanted = wanted = Wanted(jobs, memory)
        self.detail = ""
        if context == LN:
            self.getter = Getter(link)
        else:
            from metering.dlms.short_names import ShortNameGetter

            codes = [wanted.code(k) for k in range(wanted.n)]
            self.getter = ShortNameGetter(link, codes + [_NUMBER, _LOGICAL_NAME, _TIME], memory)

    def read_all(self):
        """Generator of line actions. "" when what the meter has is noted, else the reason why not, with `detail`; None
        where the link is lost."""
        outcome = yield from self._ask_number()
        if outcome != "":
            return outcome
        self._listener.begin(self._number)
        n_read = yield from self._read_registers()
        if n_read is None:
            return None
        wanted = self.wanted
        if not n_read:
            wanted.refusal_s = min(wanted.refusal_s, _HOUR_S)
            return "nothing readable"
        if wanted.memory and not wanted.is_kept:
            from metering.dlms.meter_memory import keep_refused

            keep_refused(wanted.memory, wanted, self._number)
        return (yield from self._read_clock()) if wanted.has_clock else ""

    def _ask_number(self):
        """Of another meter than the last nothing is known."""
        getter, wanted = self.getter, self.wanted
        number = b""
        if not self._number:  # it may be another meter each time
            getter.forget()
            wanted.forget(_SCALED)
        naming, self._naming = self._naming, b""
        for code in (naming,) if naming else (_NUMBER, _LOGICAL_NAME):
            result = yield from getter.get(_DATA, code, _VALUE)
            if result == LOST:
                return None
            number = getter.text() if not result else b""
            if number:
                self._naming = code
                break
        if naming and not number:  # its values would be another meter's
            getter.forget()
            self.detail = "it does not tell its number"
            return "bad data"
        if self._number and number != self._number and self._context == SN:  # what is called so is told anew
            getter.forget()
            self._number = self._naming = b""
            self.detail = "another meter is there"
            return "bad data"
        if number != self._number:
            self._number = number
            self.wanted = wanted = Wanted(wanted.jobs, wanted.memory)
            if wanted.memory:
                from metering.dlms.meter_memory import recall_refused

                recall_refused(wanted.memory, wanted, number)
        return ""

    def _read_registers(self):
        """How many are noted, None where the link is lost."""
        wanted = self.wanted
        n_read = 0
        register_refusal = None
        for k in range(wanted.n):
            if wanted.states[k] == _REFUSED:
                continue
            result = yield from self._read_register(k)
            if result == LOST:
                return None
            if result == _LATER:
                continue
            if result:
                wanted.states[k] = _REFUSED
                wanted.is_kept = False
                if wanted.jobs or result == _ODD:
                    from metering.dlms.result_words import register_refusal

                    wanted.told = register_refusal(wanted.code(k), result)
            else:
                n_read += 1
        if register_refusal:
            register_refusal = None
            unload("metering.dlms.result_words")
        return n_read

    def _read_register(self, k):
        """Read register `k` and note its value; a data-access-result where there is none to be had."""
        wanted, getter = self.wanted, self.getter
        if wanted.jobs:
            from metering.dlms.job_register import read

            return (yield from read(getter, wanted, k, self._listener))
        code, value, power = wanted.code(k), None, 0
        while True:
            if wanted.states[k] == _UNKNOWN:
                result = yield from getter.get(_REGISTER, code, _SCALE)
                if result:
                    return result
                if not getter.take(wanted, k):
                    return _ODD
                wanted.states[k] = _SCALED
            if value is not None:
                break
            result = yield from getter.get(_REGISTER, code, _VALUE)
            if result:
                return result
            value, power = getter.value(), getter.exponent
            if value is None:
                return _LATER if getter.is_nothing() else _ODD
            if getter.is_nothing() or not wanted.difference(k, value):
                break
            wanted.states[k] = _UNKNOWN
        unit = wanted.units[k]
        power += signed(wanted.exponents[k], 8)
        self._listener.note(Reading(code, value, power, None if unit == _NO_UNIT else unit))
        return 0

    def _read_clock(self):
        getter, wanted = self.getter, self.wanted
        result = yield from getter.get(_CLOCK, _TIME, _VALUE)
        wanted.has_clock = result in (0, LOST, _LATER)
        if result == 0:
            clock = getter.text()
            if len(clock) == 12 and clock[0] != 0xFF and clock[2] <= 12 and clock[3] <= 31 and clock[5] < 24:
                self._listener.clock = clock
        return None if result == LOST else ""
