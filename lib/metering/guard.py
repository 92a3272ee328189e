"""Between decoding and publishing: is this value possible? A 16-bit checksum lets one damaged telegram in 65,536 by.

A register's value passes at once when it is plausible. Otherwise it is held, counted and explained:

    first counter, in a telegram that no check vouches for               waits without a word for a second that agrees
    first counter, 0: the meter may be starting                          the same, and stands for _ZERO_STANDS_S
    counter rose more than can come since the last one                   held; passes when the next telegram agrees
    the same of m³, L or GJ                                              held; passes when it stands for TWO_HOURS_S
    counter rose more than can come in 15 minutes, after a silence       held; passes when the next telegram agrees
    counter became 10, 100 or 1000 times what it was                     held until it is as before; notice tells it
    counter below 0                                                      held
    power beyond what the connection can carry                           held; passes when the next is like it
    limits and thresholds (17.0.0, 31.4.0, 1-1:0.5.x)                    pass: they are no powers
    counter fell                                                         held, and the last value stands
    counter fell to the last value with fewer digits (the PIN is off)    nothing new: kept back without a word
    a text where a number was, another unit, or none where one was       held
    another meter id                                                     held; a new series when the next one agrees
    no meter id, or the end of the one followed                          that meter's: some send lists of several kinds

What can come: of energy the connection's `max_power_w`, of anything else _MOST_PER_HOUR. A meter on the M-Bus hands its
value once an hour, and a wrong one stands as long: so m³, L and GJ are not confirmed by the same value said again.

A counter that was seen only once and then stays below for TELEGRAMS_TO_CORRECT telegrams (m³, L, GJ: and TWO_HOURS_S)
was wrong that once: then, and only then, a lower value passes. Home Assistant books a fall as consumption, so this is
never done lightly, and to 0 only after TWO_HOURS_S: a meter that starts may say so.
"""

from metering.compat import const
from metering.register import CUMULATIVE, INSTANTANEOUS
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.middle_of_three import MiddleOfThree

MAX_REGISTERS = const(64)  # 22 is the longest list met; what comes beyond is not followed and not passed
TELEGRAMS_TO_CORRECT = const(10)
_LEAST_NAME = const(6)  # characters of a name that may stand for a longer one
_SLACK_S = const(60)  # meters refresh a register late, and clocks differ
_MOST_GAP_S = const(900)  # after a longer silence a larger rise is possible, but worth a second telegram
_SECONDS_PER_HOUR = const(3600)
_POWERS = (27, 28, 29)  # W, VA, var
_ENERGIES = (30, 31, 32)  # Wh, VAh, varh
_ZERO_STANDS_S = const(60)  # more than a meter takes to start; one that is asked seldom says it the next time
TWO_HOURS_S = const(7200)  # a value that is handed once an hour has come anew
_SCALES = (10, 100, 1000)  # by which operators and makers change what a digit is worth

# DLMS unit -> the most of it in an hour, beyond every house: a gas meter G25 of EN 1359 has 40 m³/h, as a water meter
# DN 50 of EN ISO 4064 (Q4) has; a house's station of district heat has 1 MW at the most; an hour has an hour.
_MOST_PER_HOUR = {13: 40, 19: 40000, 25: 3600000000, 5: 1, 6: 60, 7: 3600}
_HANDED_ON = (13, 19, 25)  # m³, L, J: may be another meter's, told once an hour

REASONS = ("went back", "jumped", "scale", "too much power", "no number", "unit", "other meter", "too many")


def _is_limit(reading):
    """Is this a threshold that somebody set? 17.0.0, 31.4.0 (DSMR P1) and 1-1:0.5.x (Landis+Gyr)."""
    address = reading.address
    if address is not None:
        code = address[address.find(":") + 1 :]
        return code.startswith("17.0.") or code.startswith("31.4.") or code.startswith("0.5.")
    obis = reading.obis
    return len(obis) == 6 and (obis[2], obis[3]) in ((17, 0), (31, 4), (0, 5))


def _is_in_unit_of(register, reading):
    if reading.unit is None and (reading.printed_unit or None) != register.printed_unit:
        return False
    return reading.unit == register.unit


def _code(reading):
    return reading.address or reading.obis


def _one_meter(followed, meter_id):
    """Can both be names of one meter: the same, none, or one the end of the other (ISK1020784605887 and 84605887)?"""
    if not followed or not meter_id or followed == meter_id:
        return True
    if min(len(followed), len(meter_id)) < _LEAST_NAME:
        return False
    return followed.endswith(meter_id) or meter_id.endswith(followed)


class _Value:
    """What one register was at a time: value * 10**exponent at at_s."""

    factor = 0  # 10, 100 or 1000 where its scale is another one than before; six attributes take 16 bytes less

    def __init__(self, value, exponent, at_s):
        self.value = value
        self.exponent = exponent
        self.at_s = at_s
        self.since_s = at_s  # when the first of those came that agreed, up to this one
        self.gap_s = 0  # from the one before to this
        self.agreed = 0  # how many later telegrams agreed with it

    def rise_of(self, later):
        """later - self as (integer, exponent), exact."""
        exponent = min(self.exponent, later.exponent)
        rise = later.value * 10 ** (later.exponent - exponent) - self.value * 10 ** (self.exponent - exponent)
        return rise, exponent

    def is_like(self, later):
        """Is the one no more than twice the other, of the same sign?"""
        exponent = min(self.exponent, later.exponent)
        a = self.value * 10 ** (self.exponent - exponent)
        b = later.value * 10 ** (later.exponent - exponent)
        return (a > 0) == (b > 0) and abs(a) <= 2 * abs(b) and abs(b) <= 2 * abs(a)


class Guard:
    """Follows one meter's registers. `max_power_w`: what its connection can carry at the most.

    `held` counts by reason.
    """

    def __init__(self, max_power_w):
        self._max_power_w = max_power_w
        self.meter_id = None  # whose registers these are, by its fullest name heard; None before the first telegram
        self.series = 0
        self._next_meter = None
        self._last = {}  # OBIS -> _Value that passed last
        self._waiting = {}  # OBIS -> _Value that the next telegram may confirm
        self.held = dict.fromkeys(REASONS, 0)
        self._held_last = None  # (reason, details)
        self.notice = ""  # what the owner must decide, "" for nothing
        self._scaled = None  # OBIS code of the register whose scale that is about
        self._middle: MiddleOfThree | None = None

    @property
    def explanation(self):
        """One sentence of what was held last and why, "" while nothing was."""
        if self._held_last is None:
            return ""
        from metering import verdicts

        sentence = verdicts.explanation_of(*self._held_last)
        verdicts = None
        unload("metering.verdicts")
        return sentence

    def admits_meter(self, meter_id):
        """Is this telegram of the meter that is followed? The first one is; another id must come twice in a row.

        `series` is another one whenever another meter is followed.
        """
        followed = self.meter_id
        if followed is not None and _one_meter(followed, meter_id):
            if len(meter_id) > len(followed):
                self.meter_id = meter_id
            self._next_meter = None
            return True
        if followed is None or meter_id == self._next_meter:
            self.meter_id = meter_id
            self._next_meter = None
            self._last = {}
            self._waiting = {}
            self._scaled = None
            self.notice = ""
            self.series += 1
            self._middle = None
            return True
        self._next_meter = meter_id
        return self._hold("other meter", meter_id, followed)

    def admits(self, reading, register, now_s, proven=True, sealed=True):
        """May this reading be published? `now_s`: any clock in whole seconds that never goes back. `proven`: has a
        check vouched for its telegram? `sealed`: as every listener tells; where it is False, the reading is given the
        value that its neighbours confirm.

        Integers only are judged; identifiers and texts pass where no number is expected.
        """
        is_number = isinstance(reading.value, int) and not isinstance(reading.value, bool)
        if is_number and not _is_in_unit_of(register, reading):  # in which it would be told
            return self._hold("unit", _code(reading))
        if not sealed:
            if self._middle is None:
                from metering.middle_of_three import MiddleOfThree

                self._middle = MiddleOfThree()
            if not self._middle.settle(reading, register.kind == CUMULATIVE):
                return False
        if not is_number:
            if register.kind not in (CUMULATIVE, INSTANTANEOUS):
                return True
            return self._hold("no number", _code(reading), reading.text())
        new = _Value(reading.value, reading.exponent, now_s)
        if register.kind == CUMULATIVE:
            return self._admits_counter(reading, new, proven)
        waiting = self._waiting.pop(reading.obis, None)
        if reading.unit in _POWERS and self._power_w_exceeded(new) and not _is_limit(reading):
            self._waiting[reading.obis] = new
            if waiting and waiting.is_like(new):
                return True
            return self._hold("too much power", _code(reading), new.value, new.exponent, self._max_power_w)
        return True

    def _admits_counter(self, reading, new, proven):
        obis, unit = reading.obis, reading.unit
        last = self._last.get(obis)
        waiting = self._waiting.get(obis)
        if new.value < 0:
            return self._hold("went back", _code(reading), 0, 0, new.value, new.exponent)
        agrees = False
        if waiting is not None and waiting.rise_of(new)[0] >= 0 and self._can_carry(waiting, new, unit, 1):
            agrees = True
            new.since_s = waiting.since_s
            new.agreed = waiting.agreed + 1
            new.gap_s = new.at_s - waiting.at_s
        if last is None:
            if obis not in self._waiting and len(self._last) + len(self._waiting) >= MAX_REGISTERS:
                return self._hold("too many", _code(reading), MAX_REGISTERS)
            if (agrees or proven) if new.value else agrees and new.at_s - new.since_s >= _ZERO_STANDS_S:
                return self._accept(obis, new)
            self._waiting[obis] = new
            return False
        rise, exponent = last.rise_of(new)
        if rise < 0:
            return self._fell(reading, last, new, rise, exponent, agrees)
        if self._can_carry(last, new, unit):
            new.gap_s = new.at_s - last.at_s
            new.since_s = last.since_s
            new.agreed = last.agreed
            if rise or unit not in _HANDED_ON:
                new.agreed += 1
            return self._accept(obis, new)
        factor = new.factor = waiting and waiting.factor or self._scale_of(last, new, unit)
        if not factor and agrees and (unit not in _HANDED_ON or new.at_s - new.since_s >= TWO_HOURS_S):
            return self._accept(obis, new)
        self._waiting[obis] = new
        if factor:
            if self._scaled is None:
                self._notice_scale(_code(reading), factor, new, last)
                self._scaled = obis
            return self._hold("scale", _code(reading), factor)
        most_w = self._max_power_w if unit in _ENERGIES else 0
        return self._hold("jumped", _code(reading), rise, exponent, new.at_s - last.at_s, most_w)

    def _notice_scale(self, code, factor, new, last):
        from metering import verdicts

        self.notice = verdicts.scale_notice(code, factor, new, last)
        verdicts = None
        unload("metering.verdicts")

    def _fell(self, reading, last, new, rise, exponent, agrees):
        if new.exponent > last.exponent and -rise < 10 ** (new.exponent - exponent):
            last.agreed += 1  # the same with fewer digits
            return False
        if not last.agreed:
            is_quick = new.value and reading.unit not in _HANDED_ON
            lasts = is_quick or new.at_s - new.since_s >= TWO_HOURS_S
            if agrees and lasts and new.agreed >= TELEGRAMS_TO_CORRECT:
                return self._accept(reading.obis, new)
            self._waiting[reading.obis] = new
        return self._hold("went back", _code(reading), last.value, last.exponent, new.value, new.exponent)

    def _accept(self, obis, new):
        self._last[obis] = new
        self._waiting.pop(obis, None)
        if obis == self._scaled:
            self._scaled = None
            self.notice = ""
        return True

    def _hold(self, reason, *details):
        """Always False; `details` are what metering.verdicts makes a sentence of."""
        self.held[reason] += 1
        self._held_last = reason, details
        return False

    def _can_carry(self, old, new, unit, times=0):
        """Can the rise from old to new come, with one step of the meter's resolution to spare? Of the time between no
        more than 15 minutes count, or what it was before. `times` 1 or more: all of it counts, and so many times.
        """
        rise, exponent = old.rise_of(new)
        step = 10 ** (max(old.exponent, new.exponent) - exponent)  # whole kWh lag behind by up to one
        per_hour = self._max_power_w if unit in _ENERGIES else _MOST_PER_HOUR.get(unit)
        if per_hour is None:
            return True
        seconds = new.at_s - old.at_s
        if not times:
            seconds = min(seconds, max(_MOST_GAP_S, old.gap_s))
        seconds += _SECONDS_PER_HOUR if unit in _HANDED_ON else _SLACK_S
        allowed = per_hour * seconds * (times or 1) * 10 ** max(-exponent, 0)
        return (rise - step) * _SECONDS_PER_HOUR * 10 ** max(exponent, 0) <= allowed

    def _scale_of(self, last, new, unit):
        """10, 100 or 1000 where the counter is so many times what it was and what can have come since; else 0."""
        if self._can_carry(_Value(0, last.exponent, last.at_s), last, unit):
            return 0  # too small to tell
        for factor in _SCALES:
            scaled = _Value(last.value * factor, last.exponent, last.at_s)
            before = _Value((last.value - 1) * factor, last.exponent, last.at_s)
            if before.rise_of(new)[0] >= 0 and self._can_carry(scaled, new, unit, factor):
                return factor
        return 0

    def _power_w_exceeded(self, new):
        most = self._max_power_w * 10 ** max(-new.exponent, 0)
        return abs(new.value) * 10 ** max(new.exponent, 0) > most
