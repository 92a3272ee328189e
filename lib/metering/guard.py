"""Between decoding and publishing: is this value possible? A 16-bit checksum lets one damaged telegram in 65,536 by.

A register's value passes at once when it is plausible. Otherwise it is held, counted and explained:

    counter rose more than the connection can carry since the last one   held; passes when the next telegram agrees
    counter rose more than it can carry in 15 minutes, after a silence    held; passes when the next telegram agrees
    power beyond what the connection can carry                           held; passes when the next telegram agrees
    counter fell                                                         held, and the last value stands
    counter fell to the last value with fewer digits (the PIN is off)    nothing new: kept back without a word
    another meter id                                                     held; a new series when the next one agrees
    no meter id, or the end of the one followed                          that meter's: some send lists of several kinds

A counter that was seen only once and then stays below for TELEGRAMS_TO_CORRECT telegrams was wrong that once: then, and
only then, a lower value passes. Home Assistant books a fall as consumption, so this is never done lightly.
"""

from metering.compat import const
from metering.obis import obis_text
from metering.reading import decimal_text
from metering.registers import CUMULATIVE

MAX_REGISTERS = const(64)  # 22 is the longest list met; what comes beyond is not followed and not passed
TELEGRAMS_TO_CORRECT = const(10)
_LEAST_NAME = const(6)  # characters of a name that may stand for a longer one
_SLACK_S = const(60)  # meters refresh a register late, and clocks differ
_MOST_GAP_S = const(900)  # after a longer silence a larger rise is possible, but worth a second telegram
_SECONDS_PER_HOUR = const(3600)
_POWERS = (27, 28, 29)  # W, VA, var
_ENERGIES = (30, 31, 32)  # Wh, VAh, varh

REASONS = ("went back", "jumped", "too much power", "other meter", "too many")


def _one_meter(followed, meter_id):
    """Can both be names of one meter: the same, none, or one the end of the other (ISK1020784605887 and 84605887)?"""
    if not followed or not meter_id or followed == meter_id:
        return True
    if min(len(followed), len(meter_id)) < _LEAST_NAME:
        return False
    return followed.endswith(meter_id) or meter_id.endswith(followed)


class _Value:
    """What one register was at a time: value * 10**exponent at at_s."""

    def __init__(self, value, exponent, at_s):
        self.value = value
        self.exponent = exponent
        self.at_s = at_s
        self.agreed = 0  # how many later telegrams agreed with it

    def rise_of(self, later):
        """later - self as (integer, exponent), exact."""
        exponent = min(self.exponent, later.exponent)
        rise = later.value * 10 ** (later.exponent - exponent) - self.value * 10 ** (self.exponent - exponent)
        return rise, exponent


class Guard:
    """Follows one meter's registers. `max_power_w`: what its connection can carry at the most.

    `held` counts by reason; `explanation` says in one sentence what was held last and why, "" while nothing was.
    """

    def __init__(self, max_power_w):
        self._max_power_w = max_power_w
        self.meter_id = None  # whose registers these are, by its fullest name heard; None before the first telegram
        self.series = 0
        self._next_meter = None
        self._last = {}  # OBIS -> _Value that passed last
        self._waiting = {}  # OBIS -> _Value that the next telegram may confirm
        self.held = dict.fromkeys(REASONS, 0)
        self.explanation = ""

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
            self.series += 1
            return True
        self._next_meter = meter_id
        return self._hold("other meter", "meter %s instead of %s: waiting for it again" % (meter_id, followed))

    def admits(self, reading, register, now_s):
        """May this reading be published? `now_s`: any clock in whole seconds that never goes back.

        Integers only are judged; identifiers and texts pass.
        """
        if not isinstance(reading.value, int) or isinstance(reading.value, bool):
            return True
        new = _Value(reading.value, reading.exponent, now_s)
        if register.kind == CUMULATIVE:
            return self._admits_counter(reading, new)
        if reading.unit in _POWERS and self._power_w_exceeded(new):
            if self._waiting.get(reading.obis):
                return True
            self._waiting[reading.obis] = new
            return self._hold(
                "too much power",
                "%s: %s is beyond the connection's %d W" % (obis_text(reading.obis), reading.text(), self._max_power_w),
            )
        self._waiting.pop(reading.obis, None)
        return True

    def _admits_counter(self, reading, new):
        obis = reading.obis
        last = self._last.get(obis)
        if last is None:
            if len(self._last) >= MAX_REGISTERS:
                return self._hold("too many", "%s is past the %d counters followed" % (obis_text(obis), MAX_REGISTERS))
            return self._accept(obis, new)
        rise, exponent = last.rise_of(new)
        if rise < 0:
            return self._fell(reading, last, new, rise, exponent)
        if reading.unit not in _ENERGIES or self._can_carry(last, new):
            new.agreed = last.agreed + 1
            return self._accept(obis, new)
        waiting = self._waiting.get(obis)
        if waiting is not None and waiting.rise_of(new)[0] >= 0 and self._can_carry(waiting, new):
            new.agreed = 1
            return self._accept(obis, new)
        self._waiting[obis] = new
        return self._hold(
            "jumped",
            "%s rose by %s in %d s, more than %d W can bring: waiting for the next telegram"
            % (obis_text(obis), decimal_text(rise, exponent), new.at_s - last.at_s, self._max_power_w),
        )

    def _fell(self, reading, last, new, rise, exponent):
        if new.exponent > last.exponent and -rise < 10 ** (new.exponent - exponent):
            last.agreed += 1  # the same with fewer digits
            return False
        obis = reading.obis
        if not last.agreed:
            waiting = self._waiting.get(obis)
            if waiting is not None and waiting.rise_of(new)[0] >= 0 and self._can_carry(waiting, new):
                new.agreed = waiting.agreed + 1
                if new.agreed >= TELEGRAMS_TO_CORRECT:
                    return self._accept(obis, new)
            self._waiting[obis] = new
        return self._hold(
            "went back",
            "%s fell from %s to %s: the higher one stands; restart the probe if the meter was reset"
            % (obis_text(obis), decimal_text(last.value, last.exponent), reading.text()),
        )

    def _accept(self, obis, new):
        self._last[obis] = new
        self._waiting.pop(obis, None)
        return True

    def _hold(self, reason, explanation):
        self.held[reason] += 1
        self.explanation = explanation
        return False

    def _can_carry(self, old, new):
        """Can the connection bring the rise from old to new, with one step of the meter's resolution to spare?"""
        rise, exponent = old.rise_of(new)
        step = 10 ** (max(old.exponent, new.exponent) - exponent)  # whole kWh lag behind by up to one
        seconds = min(new.at_s - old.at_s, _MOST_GAP_S) + _SLACK_S
        allowed = self._max_power_w * seconds * 10 ** max(-exponent, 0)
        return (rise - step) * _SECONDS_PER_HOUR * 10 ** max(exponent, 0) <= allowed

    def _power_w_exceeded(self, new):
        most = self._max_power_w * 10 ** max(-new.exponent, 0)
        return abs(new.value) * 10 ** max(new.exponent, 0) > most
