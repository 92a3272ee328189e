"""The air between a meter's LED and a head's phototransistor: noise, echo, ambient light."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from dataclasses import dataclass

from .uart import NS, Transition


@dataclass(frozen=True)
class Noise:
    """What disturbs the light. Rates are mean events a second (0: never), lengths means in ns (drawn 0.5..1.5 times).

    glitch   the level turned round for a moment: bit errors
    dropout  the light blocked: bytes lost or cut
    burst    foreign flicker added: bytes inserted
    ambient  light that holds the level on: sun, a torch
    `stretch_ns`: the receiver sees light for that much longer than it is on (a slow phototransistor).
    """

    glitch_hz: float = 0.0
    glitch_ns: int = 60_000
    dropout_hz: float = 0.0
    dropout_ns: int = 2_000_000
    burst_hz: float = 0.0
    burst_ns: int = 20_000_000
    ambient_hz: float = 0.0
    ambient_ns: int = 50_000_000
    stretch_ns: int = 0
    seed: int = 0


_KINDS = ("glitch", "dropout", "burst", "ambient")


class Channel:
    """The air between LED and phototransistor: holds light until its time, adds disturbance and the own LED's echo.

    seen = (meter, unless blocked; or own LED; or ambient; or flicker), turned round during a glitch.
    `counts` says how often each disturbance began. Light put in must be in time order for each LED.
    """

    def __init__(self, noise: Noise | None = None, *, idle_light: int = 0, start_ns: int = 0) -> None:
        self.noise = noise or Noise()
        self.light = idle_light  # as seen now
        self.now_ns = start_ns
        self.counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
        self._rng = random.Random(self.noise.seed)
        self._meter: list[Transition] = []
        self._own: list[Transition] = []
        self._events: list[tuple[int, int, str, int]] = []  # heap of (time, order, what, on or off)
        self._order = 0
        self._state = {"meter": idle_light, "own": 0, "glitch": 0, "dropout": 0, "ambient": 0, "flicker": 0}
        self._held_off: int | None = None  # time of an "off" that a slow phototransistor has not shown yet
        for kind in _KINDS:
            self._schedule_next(kind, start_ns)

    def _push(self, at_ns: int, what: str, on: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_ns, self._order, what, on))

    def _schedule_next(self, kind: str, after_ns: int) -> None:
        rate = getattr(self.noise, kind + "_hz")
        if rate > 0:
            self._push(after_ns + 1 + int(self._rng.expovariate(rate) * NS), kind, 1)

    def hold(self, what: str, from_ns: int, until_ns: int) -> None:
        """A disturbance by hand: `what` is "glitch", "dropout" or "ambient". ValueError for others, or for the past."""
        if what not in ("glitch", "dropout", "ambient") or from_ns < self.now_ns or until_ns <= from_ns:
            raise ValueError("hold: glitch, dropout or ambient, from now on, and until after from")
        self._push(from_ns, what + "!", 1)
        self._push(until_ns, what + "!", 0)

    def put(self, transitions: list[Transition]) -> None:
        """Light of the meter's LED, at times not yet passed by `advance`."""
        self._meter += transitions

    def put_own(self, transitions: list[Transition]) -> None:
        """Light of the head's own LED as it is reflected into its receiver (echo)."""
        self._own += transitions

    def _begin(self, kind: str, at_ns: int) -> None:
        """A drawn disturbance begins: schedule its end (or flicker) and the next one."""
        length = max(1, int(getattr(self.noise, kind + "_ns") * (0.5 + self._rng.random())))
        end = at_ns + length
        if kind == "burst":
            at, on = at_ns, 1
            while at < end:
                self._push(at, "flicker", on)
                at += self._rng.randint(20_000, 400_000)
                on ^= 1
            self._push(end, "flicker", 0)
        else:
            self._push(end, kind, 0)
        self._schedule_next(kind, end)

    def rests(self, until_ns: int) -> bool:
        """Does the light stay as it is until then?"""
        if self._meter or self._own or self._held_off is not None:
            return False
        return not self._events or self._events[0][0] > until_ns

    def advance(self, until_ns: int) -> list[Transition]:
        """The light seen up to and including `until_ns`, as transitions in order."""
        out = self._merged(until_ns)
        if self.noise.stretch_ns:
            out = self._stretched(out, until_ns)
        if out:
            self.light = out[-1][1]
        self.now_ns = until_ns
        return out

    def _take(self, pending: list[Transition], until_ns: int) -> list[Transition]:
        n = bisect_right(pending, (until_ns, 2))
        taken = pending[:n]
        del pending[:n]
        return taken

    def _merged(self, until_ns: int) -> list[Transition]:
        state = self._state
        events = self._events
        quiet = not (state["own"] or state["glitch"] or state["dropout"] or state["ambient"] or state["flicker"])
        own = self._take(self._own, until_ns) if self._own else []
        meter = self._take(self._meter, until_ns) if self._meter else []
        if quiet and not own and (not events or events[0][0] > until_ns):
            if meter:
                state["meter"] = meter[-1][1]
            return meter
        seen = self._seen()
        out: list[Transition] = []
        i = j = 0
        never = until_ns + 1
        while True:
            t_meter = meter[i][0] if i < len(meter) else never
            t_own = own[j][0] if j < len(own) else never
            t_event = events[0][0] if events else never
            t = min(t_meter, t_own, t_event)
            if t >= never:
                return out
            if t == t_event:
                _, _, what, on = heapq.heappop(events)
                if what.endswith("!"):  # by hand: no end and no successor is drawn
                    what = what[:-1]
                    self.counts[what] += on
                elif what in self.counts and on:
                    self.counts[what] += 1
                    self._begin(what, t)
                if what != "burst":
                    state[what] = on
            elif t == t_own:
                state["own"] = own[j][1]
                j += 1
            else:
                state["meter"] = meter[i][1]
                i += 1
            light = self._seen()
            if light != seen:
                seen = light
                if out and out[-1][0] == t:
                    out.pop()  # two changes in one instant cancel
                else:
                    out.append((t, light))

    def _seen(self) -> int:
        s = self._state
        return ((s["meter"] & (s["dropout"] ^ 1)) | s["own"] | s["ambient"] | s["flicker"]) ^ s["glitch"]

    def _stretched(self, transitions: list[Transition], until_ns: int) -> list[Transition]:
        out: list[Transition] = []
        held = self._held_off
        for t, light in transitions:
            if held is not None and held < t:
                out.append((held, 0))
                held = None
            if not light:
                held = t + self.noise.stretch_ns
            elif held is not None:
                held = None  # lit again before the dark was seen
            else:
                out.append((t, 1))
        if held is not None and held <= until_ns:
            out.append((held, 0))
            held = None
        self._held_off = held
        return out
