"""A meter that only blinks: the flashes of its LED under a household's load, and what else lights the head.

Everything follows from the seed, in line time; nothing looks at a clock. What lights the head beside the LED comes
where no flash is near, since nobody can tell from a flash what falls together with it:

    remote   a remote control's burst: a mark of 9 ms and 33 of 0.56 ms
    sun      sun through leaves: light for 0.3 to 3 s
    lamp     a mains-powered lamp: 100 flashes a second of 3 ms, for 2 to 5 s
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from typing import NamedTuple

from .household import DWMS_PER_WH, Household
from .source import Transmission
from .uart import NS, Transition

GHOSTS = ("remote", "sun", "lamp")
_MS = NS // 1000
_STEADY_AFTER_S = 3  # seconds without consumption until the LED stays on
_CLEAR_NS = {"remote": 300 * _MS, "sun": 400 * _MS, "lamp": 2200 * _MS}  # before and behind what is no pulse
_GHOST_EVERY_S = 90.0


class Flash(NamedTuple):
    """Light from `on_ns` to `off_ns`; `kind` is "pulse", "steady" or a ghost's."""

    on_ns: int
    off_ns: int
    kind: str


def remote(draw: random.Random, at_ns: int) -> Iterator[Flash]:
    """A burst of a remote control, 33 marks behind its leader."""
    yield Flash(at_ns, at_ns + 9 * _MS, "remote")
    at_ns += 13 * _MS + _MS // 2
    for _ in range(33):
        yield Flash(at_ns, at_ns + 560_000, "remote")
        at_ns += 560_000 + draw.choice((560_000, 1_690_000))


def sun(draw: random.Random, at_ns: int) -> Iterator[Flash]:
    yield Flash(at_ns, at_ns + draw.randint(300, 3000) * _MS, "sun")


def lamp(draw: random.Random, at_ns: int) -> Iterator[Flash]:
    for k in range(draw.randint(200, 500)):
        yield Flash(at_ns + k * 10 * _MS, at_ns + k * 10 * _MS + 3 * _MS, "lamp")


_GHOST_LIGHT = {"remote": remote, "sun": sun, "lamp": lamp}


class BlinkMeter:
    """A source for the optical server: one flash of `width_ms` for every 1 / `pulses_per_kwh` kWh consumed.

    `jitter_ms`: how much longer a flash is at the most, at random. Where the household gives more than it takes, the
    LED stays on until it no longer does. `pulses` of them begun so far. ValueError for what no LED can do.
    """

    def __init__(
        self,
        pulses_per_kwh: int = 1000,
        width_ms: float = 2.5,
        *,
        seed: int = 1,
        household: Household | None = None,
        jitter_ms: float = 0.2,
        ghosts: Collection[str] = (),
    ) -> None:
        if not 100 <= pulses_per_kwh <= 10_000 or not 1 <= width_ms <= 200 or jitter_ms < 0:
            raise ValueError("a blinking meter: 100 to 10000 pulses a kWh, 1 to 200 ms wide, jitter 0 or more")
        if unknown := set(ghosts) - set(GHOSTS):
            raise ValueError(f"no such ghosts: {', '.join(sorted(unknown))}")
        self.pulses_per_kwh = pulses_per_kwh
        self.pulses = 0
        self._width_ns = round(width_ms * _MS)
        self._jitter_ns = round(jitter_ms * _MS)
        self._household = household or Household(seed)
        self._ghosts = [ghost for ghost in GHOSTS if ghost in ghosts]
        self._draw = random.Random(seed)
        self._light = self.flashes()
        self._next: Flash | None = None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        """The next flash, once it has begun."""
        flash = self._next or next(self._light)
        self._next = flash
        if flash.on_ns > now_s * NS:
            return None
        self._next = None
        is_pulse = flash.kind == "pulse"
        self.pulses += is_pulse
        light: list[Transition] = [(flash.on_ns, 1), (flash.off_ns, 0)]
        return Transmission(flash.on_ns / NS, b"", self.pulses, telegram=is_pulse, light=light)

    def flashes(self) -> Iterator[Flash]:
        """Everything that lights the head, in order and for ever."""
        free_ns = 0
        for flash in self._led():
            if self._ghosts and flash.on_ns - free_ns > 600 * _MS:
                yield from self._ghost(free_ns, flash.on_ns)
            yield flash
            free_ns = flash.off_ns

    def _ghost(self, free_ns: int, until_ns: int) -> Iterator[Flash]:
        """At times something that is no pulse, where it fits in between."""
        gap_s = (until_ns - free_ns) / NS
        if self._draw.random() >= gap_s / _GHOST_EVERY_S:
            return
        kind = self._draw.choice(self._ghosts)
        light = list(_GHOST_LIGHT[kind](self._draw, free_ns + _CLEAR_NS[kind]))
        if light[-1].off_ns + _CLEAR_NS[kind] < until_ns:
            yield from light

    def _led(self) -> Iterator[Flash]:
        """The LED's own light: pulses, and steady light where nothing is consumed."""
        energy = 0  # deciwatt milliseconds consumed
        k = 1
        target = -(-k * DWMS_PER_WH * 1000 // self.pulses_per_kwh)
        second = idle_s = 0
        steady_ns = None
        dark_ns = 0  # nothing is sent before
        while True:
            power_dw = sum(self._household.phases_dw(second))
            idle_s = idle_s + 1 if power_dw <= 0 else 0
            if idle_s >= _STEADY_AFTER_S and steady_ns is None:
                steady_ns = max(second * NS, dark_ns + 100 * _MS)
            if steady_ns is not None and not idle_s:
                yield Flash(steady_ns, second * NS, "steady")
                steady_ns = None
                dark_ns = second * NS
            before = energy
            energy += max(power_dw, 0) * 1000
            while energy >= target:
                at_ns = second * NS + (target - before) * _MS // power_dw
                on_ns = max(at_ns, dark_ns + 5 * _MS)
                dark_ns = on_ns + self._width_ns + (self._draw.randint(0, self._jitter_ns) if self._jitter_ns else 0)
                yield Flash(on_ns, dark_ns, "pulse")
                k += 1
                target = -(-k * DWMS_PER_WH * 1000 // self.pulses_per_kwh)
            second += 1
