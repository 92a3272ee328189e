"""The four parts of metering.pulses, whose docstring has the table they follow: each knows one thing about the flashes.

Time comes in as `gap_ms`, answers are small ints, and what an answer leaves more stands in the part's attributes.
Nothing is allocated but by the constructors, pace() and power_w().
"""

from metering.compat import const

RATES = (1200, 600, 300, 150, 110)  # baud; an ESP32 goes down to 77. Flashes of 0.5 to 80 ms have a width at one
ALIKE = const(3)
UNKNOWN = -2  # a width; far from 0
LONG = const(8)  # zeros of a byte of zeros
BURST_MS = const(100)  # what follows something odd so closely belongs to it
MS_LIMIT = const(0x1FFFFFFF)  # times stop there, at 6 days: two of them still are a small int
FLASH = const(1)  # SteadyLight: a long flash is over; 0: none is
TOO_LONG = const(2)  # SteadyLight: light that was too long for a flash is over
_IN_DOUBT = const(1)  # FlickerWindow: beside a lamp's window; 0: nothing against it
LAMP = const(2)  # FlickerWindow: more flashes than the connection can carry
MOST_PER_S = const(46)  # 16.5 kW at 10,000 pulses a kWh; lamps flicker at 100 or 120 a second, old ones at 50 or 60
STEADY_MS = const(1000)
_OTHERS = const(20)  # ghosts of one width in a row without a pulse: it is the meter's
MOST_FLASH_MS = const(250)  # no meter's is longer than 200
_NONE = const(-1)
_LEAST_MS = const(2000)  # of an interval that gives a power
_LATE = const(64)  # a look that is later than 1/64 of the interval says nothing about power
_WATT_MS = 3600000000  # of a kWh


def _agree(zeros, width):
    """Can both be one LED's, whose edges fall anywhere between two samples?"""
    return abs(zeros - width) <= 1


def _agreeing(seen, width):
    n = 0
    for zeros in range(max(width - 1, 0), min(width + 1, LONG) + 1):
        n += seen[zeros]
    return n


def _clear(seen):
    for zeros in range(LONG + 1):
        seen[zeros] = 0


class WidthLearner:
    """Finds the meter's width and the rate to listen at, from the flashes of two windows and of those before.

    `rate`: index in RATES; `width`: zeros, or UNKNOWN. close() leaves flashes in `rejected`, `confirmed`, `held`.
    """

    def __init__(self, rate, width):
        self.rate = rate
        self.width = width
        self.rejected = 0  # of another width
        self.confirmed = 0  # the meter's, to be counted now
        self.held = 0  # the meter's, of the window that has just ended
        self._seen = [0] * (LONG + 1)  # flashes of each width, while none is learned
        self._held_seen = [0] * (LONG + 1)  # of the window before
        self._new = [0] * (LONG + 1)  # of this window
        self._longer = 0  # that were too long for the rates before
        self._too_long = False  # they are for this one
        self._others = 0  # ghosts in a row of the width _other, once one is learned
        self._other = UNKNOWN

    def add(self, zeros):
        """A flash while the width is unknown."""
        if self._too_long and zeros >= LONG - 1:  # it is over, so nothing is lost by another rate now
            self._longer += 1
            self._too_long = False
            self.rate += 1
        else:
            self._new[zeros] += 1

    def take_back(self, zeros):
        """Was a flash of this width among those not yet learned from? It no longer is."""
        seen = self._new if self._new[zeros] else self._held_seen
        if not seen[zeros]:
            return False
        seen[zeros] -= 1
        return True

    def accepts(self, zeros):
        """Is a flash of this width the meter's, whose width is known?"""
        return _agree(zeros, self.width)

    def reject(self, zeros):
        """A ghost of another width: when nothing else comes, it was the meter's."""
        if not _agree(zeros, self._other):
            self._other = zeros
            self._others = 0
        self._others += 1
        if self._others >= _OTHERS:
            self.start_anew()

    def note_pulses(self):
        self._others = 0

    def start_anew(self):
        self.width = self._other = UNKNOWN
        self._others = 0

    def waiting(self):
        """Flashes of this window."""
        return sum(self._new)

    def drop(self, verdict):
        """The flashes of this window were no meter's; of a lamp's, those of the window before were none either."""
        _clear(self._new)
        if verdict == LAMP:
            _clear(self._held_seen)

    def close(self):
        """The window is over while the width is unknown; is it known now?"""
        for zeros in range(LONG + 1):
            self._seen[zeros] += self._held_seen[zeros]
            self._held_seen[zeros] = self._new[zeros]
            self._new[zeros] = 0
        return self._learn()

    def _learn(self):
        """Flashes that agree are the meter's, once there are enough; the others were ghosts."""
        seen = self._seen
        self.rejected = width = alike = total = 0
        for zeros in range(LONG + 1):
            total += seen[zeros]
            n = _agreeing(seen, zeros)
            if n > alike or n == alike and seen[zeros] > seen[width]:
                width, alike = zeros, n
        if alike < ALIKE:
            return False
        self.rejected = total - alike
        _clear(seen)
        self.held = _agreeing(self._held_seen, width)
        _clear(self._held_seen)
        if width >= LONG - 1 and self.rate + 1 < len(RATES):
            self._longer += alike + self.held
            self._too_long = True
            return False
        self.width = width
        self.confirmed = alike + self._longer
        self._longer = 0
        return True


class FlickerWindow:
    """Holds the flashes of a window until the next one is over: a lamp is known by then.

    `since_ms`: from the last flash that was counted, or the start, to the end of its window or a later one.
    close() leaves flashes in `confirmed` and `rejected`.
    """

    def __init__(self, pulses_per_kwh, max_power_w):
        self._per_s = min(MOST_PER_S, max_power_w * pulses_per_kwh // (_WATT_MS // 1000) + 1)
        self.since_ms = 0
        self.confirmed = 0
        self.rejected = 0
        self.ms = 0  # since it began
        self._pending = 0  # in this window
        self._held = 0  # of the window before
        self._flickered = False  # it was a lamp's
        self._burst = False  # more flashes came in BURST_MS of this window than the connection can carry
        self._burst_ms = 0  # since the count for that began
        self._burst_count = 0
        self._burst_gap_ms = 0
        self._tail_ms = _NONE  # since the last flash of this window
        self._held_ms = 0  # how long the window before was
        self._held_tail_ms = _NONE  # from its last flash to its end

    def pass_time(self, gap_ms):
        if self._tail_ms != _NONE:
            self._tail_ms += gap_ms
        self.ms = min(self.ms + gap_ms, MS_LIMIT)
        self._burst_ms += gap_ms
        if self._burst_ms >= BURST_MS:
            self._burst_ms = self._burst_count = 0

    def add(self, n, gap_ms):
        """A flash, up to `gap_ms` old; `n` is 1 where it is a pulse, 0 while the width is unknown."""
        self._pending += n
        self._tail_ms = 0
        if gap_ms < BURST_MS:
            self._burst_gap_ms = max(self._burst_gap_ms, gap_ms) if self._burst_count else gap_ms
            self._burst_count += 1
            if self._burst_count > self._per_s * (BURST_MS + self._burst_gap_ms) // 1000 + 2:
                self._burst = True

    def take_back(self):
        """Was there a pulse? The last is none."""
        if self._pending:
            self._pending -= 1
            if not self._pending:
                self._tail_ms = _NONE
        elif self._held:
            self._held -= 1
        else:
            return False
        return True

    def hold(self, n):
        """Pulses of the window that has just ended, known as such only now."""
        self._held += n

    def close(self, waiting):
        """The window is over, with `waiting` flashes of unknown width; returns 0, _IN_DOUBT or LAMP."""
        window_ms, tail_ms, pending = self.ms, self._tail_ms, self._pending
        self.ms = self._pending = self.rejected = verdict = 0
        self._tail_ms = _NONE
        n = pending + waiting
        flickers = self._burst or n > self._per_s * window_ms // 1000 + 1
        self._burst = False
        if flickers or self._flickered:  # a lamp goes on and off inside a window, so its neighbours are in doubt too
            verdict = _IN_DOUBT
            self.rejected = n
            pending = 0
            tail_ms = _NONE
        if flickers:
            verdict = LAMP
            self.rejected += self._held
            self._held = 0
            self._held_tail_ms = _NONE
        self._flickered = flickers
        self.confirmed = self._held
        self._held = pending
        if self._held_tail_ms == _NONE:
            self.since_ms = min(self.since_ms + self._held_ms, MS_LIMIT)
        else:
            self.since_ms = self._held_tail_ms
        self._held_ms, self._held_tail_ms = window_ms, tail_ms
        return verdict

    def age_ms(self):
        """Since the last flash that was counted, or the start; None after 6 days."""
        if self.since_ms == MS_LIMIT:
            return None
        return self.since_ms + self._held_ms + self.ms


class PulseInterval:
    """Time and pulses from one flash that was seen in time to another: `count` in `ms`, 0 in 0 before the first."""

    def __init__(self, pulses_per_kwh):
        self._pulses_per_kwh = pulses_per_kwh
        self.ms = 0
        self.count = 0
        self.held_ms = 0  # of the window before, with which it may prove a lamp's
        self.held_count = 0
        self._open = False
        self._span_ms = 0  # from the flash that opened the interval to now
        self._span_gap_ms = 0  # how late that may have been seen
        self._span_count = 0  # pulses since
        self._end_ms = 0  # to the last flash that was seen in time
        self._end_gap_ms = 0
        self._end_count = 0

    def pass_time(self, gap_ms):
        self._span_ms = min(self._span_ms + gap_ms, MS_LIMIT)

    def add(self, gap_ms):
        """A flash that is likely to count, up to `gap_ms` old."""
        if not self._open or gap_ms < self._span_gap_ms and self._span_gap_ms > _LEAST_MS // _LATE:
            self._open = True
            self._span_gap_ms = gap_ms
            self._span_ms = self._span_count = self._end_count = 0
            return
        self._span_count += 1
        if gap_ms * _LATE <= self._span_ms:
            self._end_ms, self._end_count, self._end_gap_ms = self._span_ms, self._span_count, gap_ms

    def break_off(self):
        """Ghosts may be in it: the next flash opens another."""
        self._open = False

    def drop_held(self):
        self.held_count = 0

    def close(self, known):
        """The window is over; is the width `known`?"""
        if self.held_count:
            self.ms, self.count = self.held_ms, self.held_count
        self.held_count = 0
        if not (known and self._open and self._end_count):
            return
        if self._end_ms >= max(_LEAST_MS, self._span_gap_ms * _LATE):
            self.held_ms, self.held_count = self._end_ms, self._end_count
            self._span_ms -= self._end_ms
            self._span_count -= self._end_count
            self._span_gap_ms = self._end_gap_ms
            self._end_count = 0

    def pace(self, since_ms):
        """(pulses, ms), (1, since_ms) where none has come for longer; None before two pulses."""
        if not self.count:
            return None
        if since_ms * self.count <= self.ms:
            return self.count, self.ms
        return 1, since_ms

    def power_w(self, pace):
        """Whole watts of what pace() has returned: rounded, or rounded up where no pulse has come for longer."""
        divisor = self._pulses_per_kwh * self.ms
        power = (self.count * _WATT_MS + divisor // 2) // divisor
        return min(max(power, 1), -(-pace[0] * _WATT_MS // (self._pulses_per_kwh * pace[1])))


class SteadyLight:
    """Tells light that stays on (`steady`) from a flash of more than a byte."""

    def __init__(self):
        self.steady = False
        self._open = False  # a byte of zeros was the last: the light may still be on
        self._open_ms = 0  # since it began, as far as looks came in time
        self._light_ms = 0  # that it has been on without a byte

    def look(self, light, gap_ms):
        """Returns 0, or FLASH or TOO_LONG where a long one is over."""
        gap_ms = min(gap_ms, BURST_MS)  # a look that is late has not seen what was in between
        if not light:
            self._light_ms = 0
        elif self._light_ms < STEADY_MS:
            self._light_ms += gap_ms
        self.steady = self._light_ms >= STEADY_MS
        if self._open:
            self._open_ms += gap_ms
            if self.steady:
                self._open = False
            elif not light:
                return self._end()
        return 0

    def begin(self, ms):
        """A byte of zeros has come: the light was on for `ms`."""
        self._open = True
        self._open_ms = ms

    def interrupt(self):
        """Another byte began, so the light was off; returns as look()."""
        self._light_ms = 0
        return self._end() if self._open else 0

    def _end(self):
        self._open = False
        return FLASH if self._open_ms <= MOST_FLASH_MS else TOO_LONG
