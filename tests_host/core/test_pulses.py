"""Pulses: what an LED emitted is what is counted. Flashes are light on the virtual line, seen by a UART bit by bit."""

import itertools
import random
import struct
from bisect import bisect_right
from collections import Counter

import pytest
from support import core_on_micropython as on_micropython
from support.runs import times

from metering.line import Line
from metering.pulses import RATES, Pulses, zeros_of
from optoprobe.virtual.blink_meter import GHOSTS, BlinkMeter
from optoprobe.virtual.uart import NS, Receiver

MS = NS // 1000
LOOK_MS = 10


class Bench:
    """A probe that looks at `flashes`, (start, end) in ms and in order, every LOOK_MS, but not during `stalls`."""

    def __init__(self, pulses, flashes, stalls=(), ticks_from=0, look_ms=LOOK_MS, holes=(), hole_ms=0):
        self.pulses = pulses
        self.now_ms = 0
        self.powers = []  # (ms, power, count)
        self.intervals = []  # (ms of the last look whose flashes are in it, pulses, ms)
        self.looks = bytearray()  # as on_micropython/pulses_counted.py reads them
        self._ticks_from = ticks_from
        self._look_ms = look_ms
        self._holes, self._hole_ms = list(holes), hole_ms
        self._stalls = list(stalls)
        self._edges = []
        for start, end in flashes:
            assert not self._edges or start * MS > self._edges[-1][0], "flashes overlap"
            self._edges += [(round(start * MS), 1), (round(end * MS), 0)]
        self._next = 0
        self._light = 0
        self._switch_on(pulses.rate)

    def _switch_on(self, rate):
        self._rate = rate
        self._uart = Receiver(Line(RATES[rate]), light=self._light)

    def _see(self, until_ns):
        first = self._next
        while self._next < len(self._edges) and self._edges[self._next][0] <= until_ns:
            self._light = self._edges[self._next][1]
            self._next += 1
        return bytes(byte for _, byte in self._uart.receive(self._edges[first : self._next], until_ns))

    def _next_look(self, quiet_ms):
        """The next look's time: nothing new can be seen at those left out, a few a second excepted."""
        at_ms = self.now_ms + self._look_ms
        if self._stalls or self._look_ms != LOOK_MS or self.now_ms < quiet_ms or self._light and not self.pulses.steady:
            return at_ms
        edge_ms = self._edges[self._next][0] // MS if self._next < len(self._edges) else at_ms + 250
        return max(at_ms, min(edge_ms // LOOK_MS * LOOK_MS, self.now_ms // 250 * 250 + 250))

    def run(self, until_ms):
        pulses = self.pulses
        kept = b""
        last_ms = quiet_ms = closed_ms = self.now_ms
        open_ms = 0
        held = 0, 0
        while self.now_ms < until_ms:
            edges, before = self._next, self.now_ms
            self.now_ms = self._next_look(quiet_ms)
            kept += self._see(self.now_ms * MS)
            if self._next != edges:
                quiet_ms = self.now_ms + 100  # a byte takes so long at the lowest rate
            if self._stalls and self._stalls[0][0] <= self.now_ms < self._stalls[0][1]:
                continue
            if self._stalls and self.now_ms >= self._stalls[0][1]:
                self._stalls.pop(0)
            pulses.tick((self._ticks_from + self.now_ms) & 0x3FFFFFFF, bool(self._light))
            if kept and self._holes and self._holes[0] <= self.now_ms:  # a stall amid the look
                self._holes.pop(0)
                self.now_ms += self._hole_ms
                kept += self._see(self.now_ms * MS)
            pulses.end_read((self._ticks_from + self.now_ms) & 0x3FFFFFFF)
            assert pulses.feed(kept, 0, len(kept)) == len(kept)
            if pulses.window.ms < open_ms:  # a window was closed with what was seen up to the look before
                closed_ms, before_ms = last_ms, closed_ms
                if held[0] and held == (pulses.interval.count, pulses.interval.ms):
                    self.intervals.append((before_ms, *held))
                held = pulses.interval.held_count, pulses.interval.held_ms
            open_ms = pulses.window.ms
            self.looks += struct.pack(">HBH", self.now_ms - last_ms, self._light, len(kept)) + kept
            last_ms = self.now_ms
            kept = b""
            if pulses.rate != self._rate:
                self._switch_on(pulses.rate)
            if self.now_ms // 250 > before // 250:
                self.powers.append((self.now_ms, pulses.power_w, pulses.count))
        return self


def regular(n, period_ms, width_ms, start_ms=500.0):
    return [(start_ms + k * period_ms, start_ms + k * period_ms + width_ms) for k in range(n)]


def test_zeros():
    assert [zeros_of(0xFF << k & 0xFF) for k in range(9)] == list(range(9))
    assert sum(zeros_of(byte) >= 0 for byte in range(256)) == 9


@pytest.mark.parametrize("width_ms", [0.6, 1, 2, 5, 7, 9, 14, 20, 30, 50, 75, 100, 200])
def test_every_width_is_learned_and_counted(width_ms):
    period = max(3 * width_ms, 23)
    n = int(20_000 // period)
    bench = Bench(Pulses(1000, 170_000), regular(n, period, width_ms)).run(500 + (n + 1) * period + 3000)
    assert bench.pulses.count == n
    assert sum(bench.pulses.ghosts.values()) == 0


@pytest.mark.parametrize("per_s", [44, 40, 10, 3, 1, 0.5, 0.1])
def test_power_is_the_mean_over_the_same_pulses(per_s):
    period = 1000 / per_s
    n = max(30, int(10 * per_s))
    bench = Bench(Pulses(10_000, 17_000, width=2), regular(n, period, 2.5)).run(500 + n * period)
    true = 3.6e9 / (10_000 * period)
    seen = [power for ms, power, _ in bench.powers if ms > 500 + 5000 + 2 * period and power]
    assert seen and all(abs(power - true) <= true * 0.02 + 1 for power in seen)


@pytest.mark.parametrize("ticks_from", [0, 0x3FFFFFFF - 5000])
def test_stalls_lose_no_pulse(ticks_from):
    flashes = regular(44 * 100, 1000 / 44, 2.5)
    stalls = [(10_000, 30_000), (40_000, 40_500), (50_000, 51_000)]
    bench = Bench(Pulses(10_000, 17_000), flashes, stalls, ticks_from).run(104_000)
    assert bench.pulses.count == len(flashes) and not any(bench.pulses.ghosts.values())
    true = 3.6e9 * 44 / 10_000_000
    assert all(abs(power - true) < true * 0.02 for ms, power, _ in bench.powers if power and 4000 < ms < 100_000)


def test_without_pulses_power_falls_and_is_never_0():
    bench = Bench(Pulses(1000, 17_000, width=2), regular(5, 3000, 2.5)).run(10 * 3600 * 1000 // 20)
    after = [power for ms, power, _ in bench.powers if ms > 13_000]
    assert after[0] == 1200 and sorted(after, reverse=True) == after and after[-1] >= 1
    quiet_s = 1800 - 12.5
    assert abs(after[-1] - 3600 / quiet_s) < 2


def test_steady_light_is_no_pulse_and_no_power():
    flashes = [*regular(20, 500, 2.5), (11_000, 300_000), *regular(20, 500, 2.5, 300_500)]
    for pulses in (Pulses(1000, 17_000), Pulses(1000, 17_000, rate=4, width=8)):
        if pulses.rate:
            flashes = [*regular(20, 500, 100), (11_000, 300_000), *regular(20, 500, 100, 300_500)]
        bench = Bench(pulses, flashes).run(315_000)
        assert bench.pulses.count == 40
        assert {power for ms, power, _ in bench.powers if 13_000 < ms < 300_000} == {0}
        assert bench.pulses.power_w > 0


@pytest.mark.parametrize("width_ms", [2.5, 100])
def test_a_flash_seen_before_and_after_a_stall_is_no_steady_light(width_ms):
    per_s = 20 if width_ms < 10 else 4
    period = 1000 / per_s
    flashes = regular(60 * per_s, period, width_ms)
    for shift in range(0, int(period), 7):
        stalls = [(20_000 + shift, 41_000), (45_000 + shift, 45_505)]
        bench = Bench(Pulses(1000, 170_000), flashes, stalls).run(65_000)
        assert bench.pulses.count == len(flashes)
        assert 0 not in {power for ms, power, _ in bench.powers}


def bursts(draw, free_ms):
    """A remote control: a mark of 9 ms, a space, 33 marks of 0.56 ms."""
    at = free_ms
    marks = [(at, at + 9)]
    at += 13.5
    for _ in range(33):
        marks.append((at, at + 0.56))
        at += 0.56 + draw.choice((0.56, 1.69))
    return marks


def test_ghosts_are_not_counted():
    draw = random.Random(1)
    for width in (2.5, 30):
        flashes, ghosts, at = [], 0, 1000.0
        for k in range(400):
            flashes.append((at, at + width))
            at += 900
            if k > 20 and k % 5 == 0:
                flashes += bursts(draw, at)
                ghosts += 1
                at = flashes[-1][1] + 500
            elif k > 20 and k % 5 == 1:  # sun through leaves
                length = draw.uniform(300, 3000)
                flashes.append((at, at + length))
                ghosts += length < 900  # a longer one is steady light
                at += length + 500
        bench = Bench(Pulses(1000, 17_000), flashes).run(int(at) + 3000)
        assert bench.pulses.count == 400, width
        assert sum(bench.pulses.ghosts.values()) >= ghosts


@pytest.mark.parametrize("per_s", [49.8, 50, 50.2, 60, 100, 120])
@pytest.mark.parametrize("pulses_per_kwh", [1000, 10_000])
def test_lamps_are_not_counted(per_s, pulses_per_kwh):
    for width in (1, 3, 4.5):
        for look_ms in (9, 10, 11, 13, 20):
            flashes = regular(int(20 * per_s), 1000 / per_s, width)
            bench = Bench(Pulses(pulses_per_kwh, 70_000), flashes, look_ms=look_ms).run(24_000)
            assert bench.pulses.count == 0 and sum(bench.pulses.ghosts.values()) > 0, (width, look_ms)
            assert bench.pulses.power_w is None


@pytest.mark.parametrize("lamp_ms", [100, 300, 400, 1500])
def test_a_lamp_that_starts_is_not_counted(lamp_ms):
    flashes = regular(20, 1000, 2.5)
    flashes += regular(lamp_ms // 10, 10, 2.5, flashes[-1][1] + 4000)
    flashes += regular(20, 1000, 2.5, flashes[-1][1] + 4000)
    bench = Bench(Pulses(1000, 70_000), flashes).run(flashes[-1][1] + 5000)
    assert bench.pulses.count == 40
    assert max(power for _, power, _ in bench.powers if power) <= 3600


@pytest.mark.parametrize("look_ms", [10, 20, 40, 90])
def test_power_comes_and_falls_at_any_pace_of_looks(look_ms):
    flashes = regular(1000, 40, 2.5)
    flashes += regular(200, 160, 2.5, flashes[-1][0] + 160)
    bench = Bench(Pulses(10_000, 17_000), flashes, look_ms=look_ms).run(65_000)
    assert {power for ms, power, _ in bench.powers if 15_000 < ms < 40_000} <= set(range(8820, 9181))
    assert bench.powers[-1][1] in range(2205, 2296)
    assert bench.pulses.count >= 1000


def test_steady_light_from_the_start_is_no_power():
    bench = Bench(Pulses(1000, 17_000), [(0.5, 20_000)]).run(10_000)
    assert bench.pulses.power_w == 0 and bench.pulses.pace() == (0, 1)


def test_hardly_any_power_is_not_0():
    flashes = regular(20, 780_000, 2.5)
    bench = Bench(Pulses(10_000, 17_000), flashes).run(20 * 780_000)
    assert bench.pulses.count == 20
    assert {power for ms, power, _ in bench.powers if ms > 5 * 780_000} == {1}


@pytest.mark.parametrize("hole_ms", [60, 80, 160, 500, 3000])
@pytest.mark.parametrize("per_s", [44, 10])
def test_a_stall_amid_a_look_loses_no_pulse(per_s, hole_ms):
    flashes = regular(60 * per_s, 1000 / per_s, 2.5)
    holes = range(10_000, 50_000, 3107)
    bench = Bench(Pulses(10_000, 17_000), flashes, [(60_000, 60_001)], holes=holes, hole_ms=hole_ms).run(66_000)
    assert bench.pulses.count == len(flashes), bench.pulses.ghosts


@pytest.mark.parametrize("gap_ms", [55, 65, 75, 85, 95])
def test_a_look_that_is_a_little_late_loses_no_pulse(gap_ms):
    flashes = regular(44 * 40, 1000 / 44, 2.5)
    stalls = [(at, at + gap_ms - 10) for at in range(10_000, 35_000, 1013)]
    assert Bench(Pulses(10_000, 17_000), flashes, stalls).run(46_000).pulses.count == len(flashes)


def test_a_stall_while_the_width_is_learned_loses_no_pulse():
    for width in (2.5, 10):
        flashes = regular(44 * 60, 1000 / 44, width)
        for stalls in ([(600, 20_600)], [(2100, 22_100), (24_000, 24_500)]):
            bench = Bench(Pulses(10_000, 17_000), flashes, stalls).run(66_000)
            assert bench.pulses.count == len(flashes), (width, stalls, bench.pulses.ghosts)


def household(draw):
    """Three minutes of pulses, remote control, sun, and light that stays on."""
    flashes, at = regular(100, 250, 2.5), 26_000.0
    for k in range(60):
        flashes += regular(8, 100, 2.5, at)
        at += 1500
        if k % 10 == 5:
            flashes += bursts(draw, at)
            at += 800
        elif k % 10 == 8:
            flashes.append((at, at + 400 * k % 7000 + 300))
            at = flashes[-1][1] + 500
    return flashes, int(at)


def test_the_same_on_micropython_with_the_heap_locked(core, tmp_path):
    flashes, until = household(random.Random(2))
    bench = Bench(Pulses(1000, 40_000), flashes, [(30_000, 45_000)]).run(until + 3000)
    assert bench.pulses.count == 580
    (tmp_path / "looks").write_bytes(bench.looks)
    arguments = ("pulses_counted.py", tmp_path / "looks", 1000, 40_000)
    out = on_micropython.printed(core, *arguments, heap="512k")
    assert out == on_micropython.printed_by_cpython(*map(str, arguments))
    assert out.startswith("580 0 2 ")
    code, _, errors = on_micropython.micropython(core, *arguments, "plant", heap="512k")
    assert code != 0 and "heap is locked" in errors


SHORT_DAY_S = times(21_600)


class RandomLoad:
    """A household's power that changes at random, with an hour of export and two of hardly anything in `day_s`."""

    def __init__(self, seed, day_s):
        self._draw = random.Random(seed)
        self._hour_s = day_s // 24
        self._until = self._power = 0

    def phases_dw(self, second):
        if second >= self._until:
            self._power = self._draw.choice((80, 150, 300, 300, 600, 1200, 3000, 9000)) * 10
            self._until = second + self._draw.choice((20, 60, 300, 900))
        if 13 <= second // self._hour_s < 14:
            return -5000, 0, 0
        if 2 <= second // self._hour_s < 4:
            return 50, 0, 0
        return self._power, 0, 0


@pytest.mark.parametrize(
    ("pulses_per_kwh", "width_ms", "day_s"),
    [(1000, 2.5, SHORT_DAY_S), (10_000, 2.5, SHORT_DAY_S // 4), (500, 200, SHORT_DAY_S)],
)
def test_a_day(pulses_per_kwh, width_ms, day_s):
    """A random load, ghosts and steady light: counted as emitted, and the power is the pulses' mean.

    24 hours of a quarter of their length, or with OPTOPROBE_TIMES=4 whole; where there are ten times as many pulses a
    quarter of that.
    """
    meter = BlinkMeter(pulses_per_kwh, width_ms, household=RandomLoad(pulses_per_kwh, day_s), ghosts=GHOSTS)
    flashes = list(itertools.takewhile(lambda flash: flash.on_ns < day_s * NS, meter.flashes()))
    starts = [flash.on_ns / MS for flash in flashes if flash.kind == "pulse"]
    kinds = Counter(flash.kind for flash in flashes)
    assert all(kinds[kind] for kind in (*GHOSTS, "steady")), kinds
    pulses = Pulses(pulses_per_kwh, 17_000)
    bench = Bench(pulses, [(flash.on_ns / MS, flash.off_ns / MS) for flash in flashes]).run(day_s * 1000 + 10_000)
    assert pulses.count == kinds["pulse"]
    assert pulses.ghosts["shape"] > kinds["remote"] // 100 and pulses.ghosts["width"] > kinds["sun"] // 4
    byte_ns = 9.5 * NS / RATES[pulses.rate]
    known = [max(flash.on_ns + byte_ns, flash.off_ns) / MS for flash in flashes if flash.kind == "pulse"]
    checked = 0
    for last_ms, count, ms in bench.intervals:
        last = {bisect_right(known, last_ms + late_ms) - 1 for late_ms in (-20, 0, 20)}  # one, mostly
        if count and last_ms > 600_000:  # all is learned
            true_ms = min((starts[k] - starts[k - count] for k in last), key=lambda true_ms: abs(true_ms - ms))
            assert abs(ms - true_ms) <= 0.02 * true_ms, (last_ms, count, ms, true_ms)
            checked += 1
    assert checked > 1000
    print(f"{kinds}: {pulses.count} counted, {pulses.ghosts}, {checked} intervals within 2 %")
