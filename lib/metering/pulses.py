"""Blinking meters: flashes of an LED into energy and power, in integers throughout.

The light is recorded by a UART that listens at a low rate: a flash is a start bit, so each makes one byte, whose zeros
say how long it was. The receive buffer keeps the count through any stall of the program, on every chip.

    light of the flash     byte (lowest bit first)             meaning
    under half a bit       none                                too short to be seen
    k + 1 bits             k zeros, then ones: FF FE FC .. 80  a flash of that width
    over eight bits        00, and none till it ends           a long flash, steady light, or a rate that is too high
    more than one a byte   zeros and ones in turn              no meter's: a remote control, a lamp, the sun

The rate is found from the flashes: from 1200 baud downwards until they are shorter than a byte (RATES). All flashes of
a meter have one width, so the first ALIKE that agree set it, and what differs by more than one bit is a ghost.

    seen                                                  counted         power
    flash of the width, not faster than MOST_PER_S and    yes, within     pulses over the time between first and last,
    the connection allow                                  two seconds     over two seconds at the least
    the same, but faster: mains-powered lamps, and what   no, ghosts      as before
    is counted in the second before and behind
    any other flash, and the one within 0.1 s behind it   no, ghosts      as before
    none for longer than between the last two             -               what one pulse in that time would be, rounded
                                                                          up: it falls, and is never 0
    light on for longer than STEADY_MS                    no              0: no consumption, or export
    a look that came late                                 all of them     as before, until two were seen in time
"""

from metering.compat import const

RATES = (1200, 600, 300, 150, 110)  # baud; an ESP32 goes down to 77. Flashes of 0.5 to 80 ms have a width at one
ALIKE = const(3)
MOST_PER_S = const(48)  # 17 kW at 10,000 pulses a kWh; lamps flicker at 100 or 120 a second, old ones at 50 or 60
STEADY_MS = const(1000)
_LONG = const(8)  # zeros of a byte of zeros
_GHOST = const(-1)
_UNKNOWN = const(-2)  # far from 0
_WINDOW_MS = const(1000)  # flashes are counted when twice so much has passed: a lamp is known by then
_LEAST_MS = const(2000)  # of an interval that gives a power
_LATE = const(64)  # a look that is later than 1/64 of the interval says nothing about power
_BURST_MS = const(100)  # what follows something odd so closely belongs to it
_TICKS_HALF = const(0x1FFFFFFF)
_MS_LIMIT = const(0x1FFFFFFF)  # times stop there, at 6 days: two of them still are a small int
_WATT_MS = 3600000000  # of a kWh
_DECIMALS = const(7)  # of a kWh; 1/640 kWh has as many


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


class Pulses:
    """Counts one LED. Call tick() at each look, then feed() with what was read, then take changes of `rate`.

    `count` pulses since made, exact; `ghosts` by reason; `rate` the index in RATES to listen at; `width` zeros of the
    meter's flashes, _UNKNOWN until learned; `power_w` the last interval's, None before the first; `steady` True while
    the light stays on. Nothing is allocated per flash.
    """

    REASONS = ("shape", "width", "flicker")

    def __init__(self, pulses_per_kwh, max_power_w, rate=0, width=_UNKNOWN):
        """`rate` and `width` as learned before, so that nothing need be learned again."""
        self._pulses_per_kwh = pulses_per_kwh
        self._per_s = min(MOST_PER_S, max_power_w * pulses_per_kwh // (_WATT_MS // 1000) + 1)
        self.rate = rate
        self.width = width
        self.count = 0
        self.ghosts = dict.fromkeys(self.REASONS, 0)
        self.steady = False
        self._alike = 0  # flashes in a row of the width _candidate, while none is learned
        self._candidate = _UNKNOWN
        self._learning = 0  # flashes that will have been pulses if the width agrees
        self._pending = 0  # in this window
        self._held = 0  # of the window before
        self._flickered = False  # it was a lamp's
        self._window_ms = 0  # since it began
        self._excused = 0  # of them, from while the width was learned
        self._odd_ms = _MS_LIMIT  # since a byte of several flashes
        self._open = False  # a byte of zeros was the last: the light may still be on
        self._light_ms = 0  # that it has been on without a byte
        self._ticks = None
        self._gap_ms = 0  # between the last two looks
        self._since_ms = _MS_LIMIT  # since the last flash that was counted or waits for it
        self._span_ms = 0  # from the flash that opened the interval to now
        self._span_open = False
        self._span_end_ms = 0  # to its last flash
        self._span_count = 0
        self.interval_ms = 0  # of the last power: time and pulses
        self.interval_count = 0

    # -- seeing

    def tick(self, ticks_ms, light):
        """A look at `ticks_ms` (modulo 2**30, as time.ticks_ms()); `light` is the LED on now?"""
        if self._ticks is None:
            self._ticks = ticks_ms
        gap = (ticks_ms - self._ticks) & 0x3FFFFFFF
        if gap > _TICKS_HALF:  # it went back
            gap = 0
        self._ticks = ticks_ms
        self._gap_ms = gap
        self._since_ms = min(self._since_ms + gap, _MS_LIMIT)
        self._span_ms = min(self._span_ms + gap, _MS_LIMIT)
        self._window_ms += gap
        self._odd_ms = min(self._odd_ms + gap, _MS_LIMIT)
        self._light_ms = min(self._light_ms + gap, _MS_LIMIT) if light else 0
        self.steady = self._light_ms >= STEADY_MS
        if self._open and not light:
            self._end_long()
        elif self.steady:
            self._open = False

    def feed(self, data, start, end):
        """What was read at this look; returns how much was taken: all."""
        for i in range(start, end):
            if self._open:  # another began, so it has ended
                self._end_long()
            zeros = zeros_of(data[i])
            if zeros == _GHOST:
                self.ghosts["shape"] += 1
                if self._gap_ms < _BURST_MS:  # after a late look who knows how close
                    self._odd_ms = 0
            elif self._odd_ms < _BURST_MS:
                self.ghosts["shape"] += 1
            elif zeros == _LONG:
                self._open = True
            else:
                self._flash(zeros)
        if self._window_ms >= _WINDOW_MS:
            self._close_window()
        return end - start

    def _end_long(self):
        self._open = False
        self._flash(_LONG)

    def _flash(self, zeros):
        """A single flash, over by now."""
        if self.width == _UNKNOWN:
            self._learn(zeros)
        elif zeros == self.width or zeros != _LONG and abs(zeros - self.width) <= 1:
            self._take()
        else:
            self.ghosts["width"] += 1

    def _learn(self, zeros):
        self._learning += 1
        if abs(zeros - self._candidate) > 1 or (zeros == _LONG) != (self._candidate == _LONG):
            self._candidate = zeros
            self._alike = 0
        self._alike += 1
        self._see()
        if self._alike < ALIKE:
            return
        if zeros == _LONG and self.rate + 1 < len(RATES):
            self.rate += 1
            self._candidate = _UNKNOWN
            self._alike = 0
            return
        self.width = self._candidate
        self._pending += self._learning
        self._excused = self._learning
        self._learning = 0

    def _take(self):
        self._pending += 1
        self._see()

    # -- counting

    def _see(self):
        """A flash that is likely to count: what its time says about power."""
        self._since_ms = 0
        if self._gap_ms > max(self._span_ms if self._span_open else 0, _LEAST_MS) // _LATE:
            self._span_open = False
        elif not self._span_open:
            self._span_open = True
            self._span_ms = self._span_count = self._span_end_ms = 0
        else:
            self._span_count += 1
            self._span_end_ms = self._span_ms

    def _close_window(self):
        allowed = (self._per_s * self._window_ms + 999) // 1000 + 1 + self._excused
        self._window_ms = self._excused = 0
        pending = self._pending
        self._pending = 0
        flickers = pending > allowed
        if flickers or self._flickered:  # a lamp goes on and off inside a window, so its neighbours are in doubt too
            self.ghosts["flicker"] += pending
            pending = 0
        if flickers:
            self.ghosts["flicker"] += self._held
            self._held = 0
            self._span_open = False
        self._flickered = flickers
        self.count += self._held
        self._held = pending
        if self._span_open and self._span_count and self._span_end_ms >= _LEAST_MS:
            self.interval_ms = self._span_end_ms
            self.interval_count = self._span_count
            self._span_ms -= self._span_end_ms
            self._span_count = self._span_end_ms = 0

    # -- what comes out

    @property
    def power_w(self):
        """Whole watts; None before two pulses."""
        if self.steady:
            return 0
        if not self.interval_count:
            return None
        power = _power(self.interval_count, self._pulses_per_kwh, self.interval_ms)
        if self._since_ms * self.interval_count <= self.interval_ms:
            return power
        return min(power, -(-_WATT_MS // (self._pulses_per_kwh * self._since_ms)))


def _power(count, pulses_per_kwh, ms):
    """Watts of `count` pulses in `ms`, rounded."""
    divisor = pulses_per_kwh * ms
    return (count * _WATT_MS + divisor // 2) // divisor


class Total:
    """The meter's reading by its pulses: what the display showed once, and the pulses counted since, exactly.

    `origin` is that in 10**-7 kWh, `count` the pulses since. The reading has as many decimals as a pulse, where
    1 / `pulses_per_kwh` comes to an end; else one more than the constant has digits, and the rest is cut off but kept
    in `count`.
    """

    def __init__(self, pulses_per_kwh, origin=0, count=0):
        """Raises ValueError for no positive constant."""
        if pulses_per_kwh <= 0:
            raise ValueError("pulses per kWh: above 0")
        self.pulses_per_kwh = pulses_per_kwh
        self.origin = origin
        self.count = count

    def decimals(self):
        for n in range(_DECIMALS + 1):
            if 10**n % self.pulses_per_kwh == 0:
                return n
        return min(len(str(self.pulses_per_kwh)) + 1, _DECIMALS)

    def value(self):
        """The reading as an integer of 10**-decimals() kWh; never less than it was while pulses come."""
        exact = self.origin * self.pulses_per_kwh + self.count * 10**_DECIMALS
        return exact // (self.pulses_per_kwh * 10 ** (_DECIMALS - self.decimals()))

    def set(self, value, decimals):
        """The display shows value * 10**-decimals kWh now. Raises ValueError where that has too many decimals."""
        if value < 0 or not 0 <= decimals <= _DECIMALS:
            raise ValueError("a reading of 0 or more, with up to %d decimals" % _DECIMALS)
        self.origin = value * 10 ** (_DECIMALS - decimals)
        self.count = 0

    def change(self, pulses_per_kwh):
        """Another constant holds from now on; what was counted so far stays what it was. ValueError as when made."""
        if pulses_per_kwh <= 0:
            raise ValueError("pulses per kWh: above 0")
        exact = self.origin * self.pulses_per_kwh + self.count * 10**_DECIMALS
        self.origin = exact // self.pulses_per_kwh
        self.count = 0
        self.pulses_per_kwh = pulses_per_kwh
