"""Blinking meters: flashes of an LED into energy and power, in integers throughout.

The light is recorded by a UART that listens at a low rate: a flash is a start bit, so each makes one byte, whose zeros
say how long it was. The receive buffer keeps the count through any stall of the program, on every chip.

    light of the flash     byte (lowest bit first)             meaning
    under half a bit       none                                too short to be seen
    k + 1 bits             k zeros, then ones: FF FE FC .. 80  a flash of that width
    over eight bits        00, and none till it ends           a long flash, steady light, or a rate that is too high
    more than one a byte   zeros and ones in turn              no meter's: a remote control, a lamp, the sun

The rate is found from the flashes: from 1200 baud downwards until they are shorter than a byte (RATES). All flashes of
a meter have one width, so the first ALIKE that agree set it, and what differs by more than one bit is a ghost. Where
there is nothing but ghosts of one other width, or nothing at a low rate for an hour, both are found anew.

    seen                                                  counted          power
    flash of the width, not faster than MOST_PER_S and    two seconds late with them: pulses over the time between first
    the connection allow                                                   and last, two seconds at the least
    the same, but faster: mains-powered lamps, and what   no, ghosts       as before
    comes in the second before and behind
    a flash of another width, or over _MOST_FLASH_MS      no, ghosts       as before
    several in a byte, and what is within 0.1 s of it     no, ghosts       as before
    none for longer than between the last two             -                what one pulse in that time would be, rounded
                                                                           up: it falls, and is never 0
    light on for longer than STEADY_MS                    no               0: no consumption, or export
    a look that came late                                 all of them      from flashes that were seen in time
    a ghost as long as the meter's flashes, by itself     yes              as if it were one: nobody can tell
"""

from metering.compat import const

RATES = (1200, 600, 300, 150, 110)  # baud; an ESP32 goes down to 77. Flashes of 0.5 to 80 ms have a width at one
ALIKE = const(3)
_OTHERS = const(20)  # ghosts of one width in a row without a pulse: it is the meter's
_FORGET_MS = const(3600000)
MOST_PER_S = const(46)  # 16.5 kW at 10,000 pulses a kWh; lamps flicker at 100 or 120 a second, old ones at 50 or 60
STEADY_MS = const(1000)
_MOST_FLASH_MS = const(250)  # no meter's is longer than 200
_LONG = const(8)  # zeros of a byte of zeros
_GHOST = const(-1)
UNKNOWN = -2  # a width; far from 0
_NONE = const(-1)
_WINDOW_MS = const(1000)  # flashes are counted when twice so much has passed: a lamp is known by then
_LEAST_MS = const(2000)  # of an interval that gives a power
_LATE = const(64)  # a look that is later than 1/64 of the interval says nothing about power
_BURST_MS = const(100)  # what follows something odd so closely belongs to it
_TICKS_HALF = const(0x1FFFFFFF)
_MS_LIMIT = const(0x1FFFFFFF)  # times stop there, at 6 days: two of them still are a small int
_WATT_MS = 3600000000  # of a kWh


def zeros_of(byte):
    """How many bits after the start bit were light: 0 to 8; _GHOST where it was more than one flash."""
    light = byte ^ 0xFF
    if light & (light + 1):
        return _GHOST
    zeros = 0
    while light:
        zeros += 1
        light >>= 1
    return zeros


def _agree(zeros, width):
    """Can both be one LED's, whose edges fall anywhere between two samples?"""
    return abs(zeros - width) <= 1


def _agreeing(seen, width):
    n = 0
    for zeros in range(max(width - 1, 0), min(width + 1, _LONG) + 1):
        n += seen[zeros]
    return n


def _clear(seen):
    for zeros in range(_LONG + 1):
        seen[zeros] = 0


class Pulses:
    """Counts one LED. At each look call tick(), after each read over() and feed(), and take changes of `rate`.

    `count` pulses since made, exact; `ghosts` by reason; `rate` the index in RATES to listen at; `width` zeros of the
    meter's flashes, UNKNOWN until learned; `power_w` the last interval's, None before the first; `steady` True while
    the light stays on. Nothing is allocated per flash.
    """

    REASONS = ("shape", "width", "flicker")

    def __init__(self, pulses_per_kwh, max_power_w, rate=0, width=UNKNOWN):
        """`rate` and `width` as learned before, so that nothing need be learned again."""
        self._pulses_per_kwh = pulses_per_kwh
        self._per_s = min(MOST_PER_S, max_power_w * pulses_per_kwh // (_WATT_MS // 1000) + 1)
        self.rate = rate
        self.width = width
        self.count = 0
        self.ghosts = dict.fromkeys(self.REASONS, 0)
        self.last_ghost = ""
        self.steady = False
        self._seen = [0] * (_LONG + 1)  # flashes of each width, while none is learned; of the window before, of this
        self._held_seen = [0] * (_LONG + 1)
        self._new = [0] * (_LONG + 1)
        self._longer = 0  # that were too long for the rates before
        self._too_long = False  # they are for this one
        self._others = 0  # ghosts in a row of the width _other, once one is learned
        self._other = UNKNOWN
        self._pending = 0  # in this window
        self._held = 0  # of the window before
        self._flickered = False  # it was a lamp's
        self._burst = False  # more flashes came in _BURST_MS of this window than the connection can carry
        self._burst_ms = 0  # and what leads to that
        self._burst_count = 0
        self._burst_gap_ms = 0
        self._window_ms = 0  # since it began
        self._tail_ms = _NONE  # since the last flash of this window
        self._held_ms = 0  # how long the window before was
        self._held_tail_ms = _NONE  # from its last flash to its end
        self._odd_ms = _MS_LIMIT  # since a byte of several flashes
        self._taken_ms = 0  # since the last flash taken for a pulse, steady light, or the start
        self._taken_zeros = _NONE  # of that flash, where it may be taken back
        self._open = False  # a byte of zeros was the last: the light may still be on
        self._open_ms = 0  # since it began, as far as looks came in time
        self._light_ms = 0  # that it has been on without a byte
        self._ticks = None
        self._gap_ms = 0  # between the last two looks
        self.since_ms = 0  # from the last flash that was counted, or the start, to the end of its window or a later one
        self._span_ms = 0  # from the flash that opened the interval to now
        self._span_open = False
        self._span_gap_ms = 0  # how late that may have been seen
        self._span_count = 0  # pulses since
        self._end_ms = 0  # to the last flash that was seen in time
        self._end_gap_ms = 0
        self._end_count = 0
        self.interval_ms = 0  # of the last power: time and pulses
        self.interval_count = 0
        self._held_interval_ms = 0  # of the window before, with which it may prove a lamp's
        self._held_interval_count = 0

    # -- seeing

    def tick(self, ticks_ms, light):
        """A look at `ticks_ms` (modulo 2**30, as time.ticks_ms()); `light` is the LED on now?"""
        if self._window_ms >= _WINDOW_MS:
            self._close_window()
        gap = self._gap_ms = self._pass(ticks_ms)
        if self.rate and self._taken_ms > _FORGET_MS:
            self.rate = self._taken_ms = 0
            self._learn_anew()
        if not light:
            self._light_ms = 0
        elif self._light_ms < STEADY_MS:  # a look that is late has not seen what was in between
            self._light_ms += min(gap, _BURST_MS)
        self.steady = self._light_ms >= STEADY_MS
        if self._open:
            self._open_ms += min(gap, _BURST_MS)
            if self.steady:
                self._open = False
            elif not light:
                self._end_long()

    def _pass(self, ticks_ms):
        """Time goes on; returns by how much."""
        if self._ticks is None:
            self._ticks = ticks_ms
        gap = (ticks_ms - self._ticks) & 0x3FFFFFFF
        if gap > _TICKS_HALF:  # it went back
            gap = 0
        self._ticks = ticks_ms
        if self._tail_ms != _NONE:
            self._tail_ms += gap
        self._span_ms = min(self._span_ms + gap, _MS_LIMIT)
        self._window_ms = min(self._window_ms + gap, _MS_LIMIT)
        self._odd_ms = min(self._odd_ms + gap, _MS_LIMIT)
        self._taken_ms = 0 if self.steady else min(self._taken_ms + gap, _MS_LIMIT)
        self._burst_ms += gap
        if self._burst_ms >= _BURST_MS:
            self._burst_ms = self._burst_count = 0
        return gap

    def over(self, ticks_ms):
        """A read is over: what is fed now may have come until `ticks_ms`."""
        self._gap_ms += self._pass(ticks_ms)

    def feed(self, data, start, end):
        """What was read at this look, all at once or in parts; returns how much was taken: all."""
        for i in range(start, end):
            self._light_ms = 0
            if self._open:  # another began, so it has ended
                self._end_long()
            zeros = zeros_of(data[i])
            if zeros == _GHOST:
                self._ghost("shape", 1)
                if self._gap_ms < _BURST_MS:  # after a late look who knows how close
                    self._odd_ms = 0
                    self._take_back()
            elif self._odd_ms < _BURST_MS:
                self._ghost("shape", 1)
            elif zeros == _LONG:
                self._open = True
                self._open_ms = 9000 // RATES[self.rate]
            else:
                self._flash(zeros)
        return end - start

    def _take_back(self):
        """Something odd has come: the flash closely before it belonged to it."""
        zeros = self._taken_zeros
        self._taken_zeros = _NONE
        if zeros == _NONE or self._taken_ms >= _BURST_MS:
            return
        self._span_open = False
        self._held_interval_count = 0
        if self._new[zeros]:
            self._new[zeros] -= 1
        elif self._held_seen[zeros]:
            self._held_seen[zeros] -= 1
        elif self._pending:
            self._pending -= 1
            self._tail_ms = _NONE if not self._pending else self._tail_ms
        elif self._held:
            self._held -= 1
        else:
            return
        self._ghost("shape", 1)

    def _end_long(self):
        self._open = False
        if self._open_ms <= _MOST_FLASH_MS:
            self._flash(_LONG)
        else:
            self._ghost("width", 1)

    def _flash(self, zeros):
        """A single flash, over by now."""
        if self.width == UNKNOWN:
            self._see(zeros)
            if self._too_long and zeros >= _LONG - 1:  # it is over, so nothing is lost by another rate now
                self._longer += 1
                self._too_long = False
                self.rate += 1
            else:
                self._new[zeros] += 1
        elif _agree(zeros, self.width):
            self._pending += 1
            self._see(zeros)
        else:
            self._ghost("width", 1)
            self._look_around(zeros)

    def _learn(self):
        """Flashes that agree are the meter's, once there are enough; the others were ghosts."""
        seen = self._seen
        width = alike = total = 0
        for zeros in range(_LONG + 1):
            total += seen[zeros]
            n = _agreeing(seen, zeros)
            if n > alike or n == alike and seen[zeros] > seen[width]:
                width, alike = zeros, n
        if alike < ALIKE:
            return
        self._ghost("width", total - alike)
        _clear(seen)
        if width >= _LONG - 1 and self.rate + 1 < len(RATES):
            self._longer += alike + _agreeing(self._held_seen, width)
            _clear(self._held_seen)
            self._too_long = True
            return
        self.width = width
        self._span_open = False  # ghosts may be in it
        self.count += alike + self._longer
        self._longer = 0
        self._held += _agreeing(self._held_seen, width)
        _clear(self._held_seen)

    def _look_around(self, zeros):
        """A ghost of another width: when nothing else comes, it was the meter's."""
        if not _agree(zeros, self._other):
            self._other = zeros
            self._others = 0
        self._others += 1
        if self._others >= _OTHERS:
            self._learn_anew()

    def _learn_anew(self):
        self.width = self._other = UNKNOWN
        self._others = 0

    def _ghost(self, reason, n):
        if not n:
            return
        self.ghosts[reason] += n
        self.last_ghost = reason

    # -- counting

    def _see(self, zeros):
        """A flash that is likely to count: what its time says about power."""
        self._tail_ms = self._taken_ms = 0
        self._taken_zeros = zeros
        gap = self._gap_ms  # this flash is up to so old
        if gap < _BURST_MS:
            self._burst_gap_ms = max(self._burst_gap_ms, gap) if self._burst_count else gap
            self._burst_count += 1
            if self._burst_count > self._per_s * (_BURST_MS + self._burst_gap_ms) // 1000 + 2:
                self._burst = True
        if not self._span_open or gap < self._span_gap_ms and self._span_gap_ms > _LEAST_MS // _LATE:
            self._span_open = True
            self._span_gap_ms = gap
            self._span_ms = self._span_count = self._end_count = 0
            return
        self._span_count += 1
        if gap * _LATE <= self._span_ms:
            self._end_ms, self._end_count, self._end_gap_ms = self._span_ms, self._span_count, gap

    def _close_window(self):
        window_ms, tail_ms, pending = self._window_ms, self._tail_ms, self._pending
        self._window_ms = self._pending = 0
        self._tail_ms = _NONE
        n = pending
        for zeros in range(_LONG + 1):
            n += self._new[zeros]
        flickers = self._burst or n > self._per_s * window_ms // 1000 + 1
        self._burst = False
        if flickers or self._flickered:  # a lamp goes on and off inside a window, so its neighbours are in doubt too
            self._ghost("flicker", n)
            _clear(self._new)
            pending = 0
            tail_ms = _NONE
            self._span_open = False
        if flickers:
            self._ghost("flicker", self._held)
            _clear(self._held_seen)
            self._held = self._held_interval_count = 0
            self._held_tail_ms = _NONE
        self._flickered = flickers
        if self._held:
            self.count += self._held
            self._others = 0
        self._held = pending
        if self.width == UNKNOWN:
            for zeros in range(_LONG + 1):
                self._seen[zeros] += self._held_seen[zeros]
                self._held_seen[zeros] = self._new[zeros]
                self._new[zeros] = 0
            self._learn()
        if self._held_tail_ms == _NONE:
            self.since_ms = min(self.since_ms + self._held_ms, _MS_LIMIT)
        else:
            self.since_ms = self._held_tail_ms
        self._held_ms, self._held_tail_ms = window_ms, tail_ms
        if self._held_interval_count:
            self.interval_ms, self.interval_count = self._held_interval_ms, self._held_interval_count
        self._held_interval_count = 0
        known = self.width != UNKNOWN and self._span_open and self._end_count
        if known and self._end_ms >= max(_LEAST_MS, self._span_gap_ms * _LATE):
            self._held_interval_ms, self._held_interval_count = self._end_ms, self._end_count
            self._span_ms -= self._end_ms
            self._span_count -= self._end_count
            self._span_gap_ms = self._end_gap_ms
            self._end_count = 0

    # -- what comes out

    def age_ms(self):
        """Since the last flash that was counted, or the start; None after 6 days."""
        if self.since_ms == _MS_LIMIT:
            return None
        return self.since_ms + self._held_ms + self._window_ms

    def pace(self):
        """(pulses, ms) of the last interval, (1, ms since) where none has come for longer, (0, 1) in steady light;
        None before two pulses.
        """
        if self.steady:
            return 0, 1
        if not self.interval_count:
            return None
        since_ms = max(self.since_ms, self._taken_ms)
        if since_ms * self.interval_count <= self.interval_ms:
            return self.interval_count, self.interval_ms
        return 1, since_ms

    @property
    def power_w(self):
        """Whole watts, rounded, or rounded up where it is only known not to be more; None before two pulses."""
        pace = self.pace()
        if pace is None:
            return None
        if self.steady:
            return 0
        power = _power(self.interval_count, self._pulses_per_kwh, self.interval_ms)
        return min(max(power, 1), -(-pace[0] * _WATT_MS // (self._pulses_per_kwh * pace[1])))


def _power(count, pulses_per_kwh, ms):
    """Watts of `count` pulses in `ms`, rounded."""
    divisor = pulses_per_kwh * ms
    return (count * _WATT_MS + divisor // 2) // divisor
