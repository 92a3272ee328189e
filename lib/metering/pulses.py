"""Blinking meters: flashes of an LED into energy and power, in integers throughout.

The light is recorded by a UART that listens at a low rate: a flash is a start bit, so each makes one byte, whose zeros
say how long it was. The receive buffer keeps the count through any stall of the program, on every chip. Class Pulses
gives time and flashes to its parts, which are in metering.pulse_parts.

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
    a flash of another width, or over MOST_FLASH_MS       no, ghosts       as before
    several in a byte, and what is within 0.1 s of it     no, ghosts       as before
    none for longer than between the last two             -                what one pulse in that time would be, rounded
                                                                           up: it falls, and is never 0
    light on for longer than STEADY_MS                    no               0: no consumption, or export
    a look that came late                                 all of them      from flashes that were seen in time
    a ghost as long as the meter's flashes, by itself     yes              as if it were one: nobody can tell
"""

from metering.compat import const
from metering.pulse_parts import (
    BURST_MS,
    FLASH,
    LAMP,
    LONG,
    MS_LIMIT,
    RATES,
    TOO_LONG,
    UNKNOWN,
    FlickerWindow,
    PulseInterval,
    SteadyLight,
    WidthLearner,
)

_FORGET_MS = const(3600000)
_WINDOW_MS = const(1000)  # flashes are counted when twice so much has passed: a lamp is known by then
_GHOST = const(-1)
_NONE = const(-1)
_TICKS_HALF = const(0x1FFFFFFF)


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
    """Counts one LED. At each look call tick(), after each read end_read() and feed(), and take changes of `rate`.

    `count` pulses since made, exact; `ghosts` by reason; `rate` the index in RATES to listen at; `width` zeros of the
    meter's flashes, UNKNOWN until learned; `power_w` the last interval's, None before the first; `steady` True while
    the light stays on. Nothing is allocated per flash.
    """

    REASONS = ("shape", "width", "flicker")

    def __init__(self, pulses_per_kwh, max_power_w, rate=0, width=UNKNOWN):
        """`rate` and `width` as learned before, so that nothing need be learned again."""
        self.learner = WidthLearner(rate, width)
        self.window = FlickerWindow(pulses_per_kwh, max_power_w)
        self.interval = PulseInterval(pulses_per_kwh)
        self._light = SteadyLight()
        self.count = 0
        self.ghosts = dict.fromkeys(self.REASONS, 0)
        self.last_ghost = ""
        self._odd_ms = MS_LIMIT  # since a byte of several flashes
        self._taken_ms = 0  # since the last flash taken for a pulse, steady light, or the start
        self._taken_zeros = _NONE  # of that flash, where it may be taken back
        self._ticks = None
        self._gap_ms = 0  # between the last two looks

    @property
    def rate(self):
        return self.learner.rate

    @property
    def width(self):
        return self.learner.width

    @property
    def steady(self):
        return self._light.steady

    @property
    def since_ms(self):
        return self.window.since_ms

    # -- seeing

    def tick(self, ticks_ms, light):
        """A look at `ticks_ms` (modulo 2**30, as time.ticks_ms()); `light` is the LED on now?"""
        if self.window.ms >= _WINDOW_MS:
            self._close_window()
        gap_ms = self._gap_ms = self._pass(ticks_ms)
        learner = self.learner
        if learner.rate and self._taken_ms > _FORGET_MS:
            learner.rate = self._taken_ms = 0
            learner.start_anew()
        self._end_long(self._light.look(light, gap_ms))

    def _pass(self, ticks_ms):
        """Time goes on; returns by how much."""
        if self._ticks is None:
            self._ticks = ticks_ms
        gap = (ticks_ms - self._ticks) & 0x3FFFFFFF
        if gap > _TICKS_HALF:  # it went back
            gap = 0
        self._ticks = ticks_ms
        self.window.pass_time(gap)
        self.interval.pass_time(gap)
        self._odd_ms = min(self._odd_ms + gap, MS_LIMIT)
        self._taken_ms = 0 if self._light.steady else min(self._taken_ms + gap, MS_LIMIT)
        return gap

    def end_read(self, ticks_ms):
        """A read is over: what is fed now may have come until `ticks_ms`."""
        self._gap_ms += self._pass(ticks_ms)

    def feed(self, data, start, end):
        """What was read at this look, all at once or in parts; returns how much was taken: all."""
        for i in range(start, end):
            self._end_long(self._light.interrupt())
            zeros = zeros_of(data[i])
            if zeros == _GHOST:
                self._ghost("shape", 1)
                if self._gap_ms < BURST_MS:  # after a late look who knows how close
                    self._odd_ms = 0
                    self._take_back()
            elif self._odd_ms < BURST_MS:
                self._ghost("shape", 1)
            elif zeros == LONG:
                self._light.begin(9000 // RATES[self.learner.rate])
            else:
                self._flash(zeros)
        return end - start

    def _take_back(self):
        """Something odd has come: the flash closely before it belonged to it."""
        zeros = self._taken_zeros
        self._taken_zeros = _NONE
        if zeros == _NONE or self._taken_ms >= BURST_MS:
            return
        self.interval.break_off()
        self.interval.drop_held()
        if self.learner.take_back(zeros) or self.window.take_back():
            self._ghost("shape", 1)

    def _end_long(self, ended):
        if ended == FLASH:
            self._flash(LONG)
        elif ended == TOO_LONG:
            self._ghost("width", 1)

    def _flash(self, zeros):
        """A single flash, over by now."""
        learner = self.learner
        if learner.width == UNKNOWN:
            self._see(zeros, 0)
            learner.add(zeros)
        elif learner.accepts(zeros):
            self._see(zeros, 1)
        else:
            self._ghost("width", 1)
            learner.reject(zeros)

    def _see(self, zeros, n):
        """A flash that is likely to count, `n` pulses by now."""
        self._taken_ms = 0
        self._taken_zeros = zeros
        self.window.add(n, self._gap_ms)
        self.interval.add(self._gap_ms)

    def _ghost(self, reason, n):
        if n:
            self.ghosts[reason] += n
            self.last_ghost = reason

    # -- counting

    def _close_window(self):
        learner, window, interval = self.learner, self.window, self.interval
        verdict = window.close(learner.waiting())
        if verdict:
            self._ghost("flicker", window.rejected)
            learner.drop(verdict)
            interval.break_off()
        if verdict == LAMP:
            interval.drop_held()
        if window.confirmed:
            self.count += window.confirmed
            learner.note_pulses()
        if learner.width == UNKNOWN:
            if learner.close():
                interval.break_off()
                self.count += learner.confirmed
                window.hold(learner.held)
            self._ghost("width", learner.rejected)
        interval.close(learner.width != UNKNOWN)

    # -- what comes out

    def age_ms(self):
        """Since the last flash that was counted, or the start; None after 6 days."""
        return self.window.age_ms()

    def pace(self):
        """(pulses, ms) of the last interval, (1, ms since) where none has come for longer, (0, 1) in steady light;
        None before two pulses.
        """
        if self._light.steady:
            return 0, 1
        return self.interval.pace(max(self.window.since_ms, self._taken_ms))

    @property
    def power_w(self):
        """Whole watts, rounded, or rounded up where it is only known not to be more; None before two pulses."""
        pace = self.pace()
        if pace is None:
            return None
        if self._light.steady:
            return 0
        return self.interval.power_w(pace)
