"""Bytes to light and back: a UART with an LED, and one with a phototransistor, on bit times exact to a nanosecond.

Bit k of a run of bytes begins at `t0 + k * 10**9 * 10**6 // (baud * (10**6 + clock_ppm))`, computed from the run's
start each time, so no rounding piles up (one bit at 9600 baud is 104,166.66... ns).

The receiver is modelled on the usual UART with 16 ticks a bit: a level going from mark to space starts a frame, every
bit is the majority of the samples at ticks 7, 8 and 9, a start bit that is not space in its middle is forgotten, a
missing stop bit is counted and the byte kept, and a new start needs a new edge after the stop bit's last sample, so
light that stays on gives one 0x00 and then silence. 8N1 tolerates a sender 3.8 % too fast or 5 % too slow. A wrong baud
rate, parity or polarity gives the garbage that such a UART gives.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from metering.line import Line

NS = 10**9
Transition = tuple[int, int]  # time in ns, and the light from then on: 1 or 0
_TICKS = 16  # UART clock ticks a bit
_SAMPLES = (7, 8, 9)  # the ticks of a bit that are sampled
_START_SAMPLES = 0b111  # those of the start bit in a word
_CACHE_LIMIT = 8192  # sampled words remembered of a framing: a clean line has at most 1,024, noise brings others
_Verdict = tuple[int, int, int] | None  # byte, framing error, parity error; None: it began with no start bit


def frame_bits(line: Line) -> int:
    """Bit times one byte takes: start, data, parity, stop."""
    return 1 + line.bits + (1 if line.parity else 0) + line.stop


def duration_ns(line: Line, n: int) -> int:
    """Time that `n` bytes back to back take, in ns, rounded up."""
    return -(-n * frame_bits(line) * NS // line.baud)


def _parity_bit(value: int, parity: str) -> int:
    odd = value.bit_count() & 1
    return odd if parity == "E" else odd ^ 1


def upright(line: Line) -> Line:
    """The same settings, not inverted."""
    return Line(line.baud, line.bits, line.parity, line.stop)


@lru_cache(maxsize=64)
def _frames(bits: int, parity: str | None, rate: int, idle_light: int) -> list[tuple[Transition, ...]]:
    """The edges of each of the 256 bytes as (ns from its start, light); light before and after it is idle.

    `rate` is bits in 10**6 s, so that a bit takes NS * 10**6 // rate.
    """
    frames = []
    for byte in range(256):
        value = byte & ((1 << bits) - 1)
        levels = [0] + [value >> k & 1 for k in range(bits)]
        if parity:
            levels.append(_parity_bit(value, parity))
        levels.append(1)
        before = 1
        edges = []
        for k, level in enumerate(levels):
            if level != before:
                edges.append((k * NS * 10**6 // rate, level ^ 1 ^ idle_light))
                before = level
        frames.append(tuple(edges))
    return frames


@lru_cache(maxsize=16)
def _samples_taken(bits: int) -> list[int]:
    """Which samples of a frame of so many bits have been taken before each tick of it: ones, first sample lowest. One
    tick after the last all have been."""
    points = [bit * _TICKS + tick for bit in range(bits) for tick in _SAMPLES]
    return [(1 << sum(p < tick for p in points)) - 1 for tick in range(points[-1] + 1)]


@lru_cache(maxsize=64)
def _verdicts(bits: int, parity: str | None, strip_parity: bool) -> dict[int, _Verdict]:
    """Of the words sampled so far, shared by all receivers of this framing."""
    return {}


class Transmitter:
    """Turns bytes into the light of one LED.

    `gap_ns` is a pause after every byte, `gap_jitter_ns` adds 0..that much at random, `jitter_ns` delays every edge by
    0..that much at random (below half a bit, or ValueError), `clock_ppm` is how much faster (+) or slower (-) than
    nominal this side's clock runs. The same seed gives the same light. Memory: a table of 256 frames.
    """

    def __init__(
        self,
        line: Line,
        *,
        gap_ns: int = 0,
        gap_jitter_ns: int = 0,
        jitter_ns: int = 0,
        clock_ppm: int = 0,
        seed: int = 0,
    ) -> None:
        if not -500_000 <= clock_ppm <= 500_000:
            raise ValueError("clock_ppm: -500000 to 500000")
        if gap_ns < 0 or gap_jitter_ns < 0 or jitter_ns < 0 or jitter_ns * 2 >= NS // line.baud:
            raise ValueError("gap_ns and gap_jitter_ns: 0 or more; jitter_ns: 0 to below half a bit")
        self.line = line
        self.idle_light = 1 if line.invert else 0
        self.idle_ns = 0  # when the last stop bit ends: a byte sent now starts no earlier
        self.bytes_sent = 0
        self._rate = line.baud * (10**6 + clock_ppm)  # bits in 10**6 s, so a bit is NS * 10**6 // _rate ns
        self._gap_ns = gap_ns
        self._gap_jitter_ns = gap_jitter_ns
        self._jitter_ns = jitter_ns
        self._rng = random.Random(seed)
        self._run_ns = 0  # start of the run of bytes that stand back to back
        self._run_bits = 0  # bit times since then
        self._frame_bits = frame_bits(line)
        self._frames = _frames(line.bits, line.parity, self._rate, self.idle_light)

    def wait_until(self, at_ns: int) -> None:
        """Send nothing before `at_ns`."""
        self.idle_ns = self._run_ns = at_ns
        self._run_bits = 0

    def go_on_from(self, before: Transmitter) -> None:
        """Take the place of `before` on the same LED: what it has been given still leaves first."""
        self.wait_until(before.idle_ns)
        self.bytes_sent = before.bytes_sent
        self._rng = before._rng

    def send(self, data: bytes, at_ns: int) -> list[Transition]:
        """The light of `data`, begun at `at_ns` or when the byte before has ended, whichever is later.

        With 7 data bits the top bit of each byte is not sent. `idle_ns` is afterwards the end of the last stop bit.
        """
        out: list[Transition] = []
        frames = self._frames
        per_rate, rate, step = NS * 10**6, self._rate, self._frame_bits
        jitter, gap, gap_jitter = self._jitter_ns, self._gap_ns, self._gap_jitter_ns
        start = self.idle_ns
        if at_ns > start:
            start = self._run_ns = at_ns
            self._run_bits = 0
        placed: list[tuple[int, tuple[Transition, ...]]] = []
        for value in data:
            if jitter:
                draw = self._rng.randint
                out += [(start + offset + draw(0, jitter), light) for offset, light in frames[value]]
            else:
                placed.append((start, frames[value]))
            self._run_bits += step
            if gap or gap_jitter:
                self._run_ns += gap + (self._rng.randint(0, gap_jitter) if gap_jitter else 0)
            start = self._run_ns + self._run_bits * per_rate // rate
        self.idle_ns = start
        self.bytes_sent += len(data)
        if not jitter:
            out = [(start + offset, light) for start, edges in placed for offset, light in edges]
        return out

    def blink(self, at_ns: int, on_ns: int) -> list[Transition]:
        """One pulse of light (a metrological LED), `on_ns` long, with nothing to do with bytes."""
        return [(at_ns, self.idle_light ^ 1), (at_ns + on_ns, self.idle_light)]


class Receiver:
    """A UART looking at the light: 16 ticks a bit, majority of three samples.

    `light` is what is seen at the moment the UART is switched on. Counts `bytes`, `framing_errors` (no stop bit, byte
    kept), `parity_errors` (byte kept), `false_starts` (an edge that was no start bit). With `strip_parity` False the
    parity bit of a 7-bit line is left in bit 7, as a UART set to 8N1 would show it. With `drop_wrong` bytes without a
    stop bit or with the wrong parity are counted and not handed on.
    """

    def __init__(self, line: Line, *, light: int = 0, strip_parity: bool = True, drop_wrong: bool = False) -> None:
        self.line = line
        self.bytes = 0
        self.framing_errors = 0
        self.parity_errors = 0
        self.false_starts = 0
        self._strip_parity = strip_parity
        self._drop_wrong = drop_wrong
        self._flip = 0 if line.invert else 1
        self._level = light ^ self._flip  # 1 mark (idle), 0 space
        self._start = -1  # tick in which the start bit's edge fell; -1: waiting for one
        self._word = 0  # samples of the frame so far, first sample lowest; while the level is mark turned round
        self._is_new = True  # is it not known yet whether the start bit is one?
        self._rate = line.baud * _TICKS  # ticks a second
        bits = 1 + line.bits + (1 if line.parity else 0) + 1  # only the first stop bit is looked at
        self._taken = _samples_taken(bits)
        self._end = len(self._taken)  # ticks after the start's tick when all samples have been taken
        self._all = (1 << bits * len(_SAMPLES)) - 1
        self._frame_count = bits
        self._known = _verdicts(line.bits, line.parity, strip_parity)

    def _judge(self, word: int) -> _Verdict:
        """Of a frame's samples."""
        bits = [(word >> 3 * k & 7).bit_count() >= 2 for k in range(self._frame_count)]
        line = self.line
        if bits[0]:
            result = None
        else:
            value = sum(bits[1 + k] << k for k in range(line.bits))
            wrong = 0
            if line.parity:
                sent = bits[1 + line.bits]
                wrong = int(sent != _parity_bit(value, line.parity))
                if not self._strip_parity and line.bits == 7:
                    value |= sent << 7
            result = (value, int(not bits[-1]), wrong)
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        self._known[word] = result
        return result

    def _finish(self, out: list[tuple[int, int]]) -> None:
        word = self._word
        try:
            result = self._known[word]
        except KeyError:
            result = self._judge(word)
        if result is None:
            self.false_starts += 1
            return
        value, framing, parity = result
        self.bytes += 1
        if framing or parity:
            self.framing_errors += framing
            self.parity_errors += parity
            if self._drop_wrong:
                return
        out.append(((self._start + self._end) * NS // self._rate, value))

    @property
    def due_ns(self) -> int | None:
        """When the frame in progress will be judged, None while there is none."""
        if self._start < 0:
            return None
        return -(-(self._start + self._end) * NS // self._rate)

    def receive(self, transitions: Sequence[Transition], until_ns: int) -> list[tuple[int, int]]:
        """The bytes complete by `until_ns`, as (time_ns, byte); the time is the middle of the stop bit.

        Every transition up to `until_ns` and none after it must have been given; what is unfinished waits for the next
        call.
        """
        if not transitions and self._start < 0:
            return []
        out: list[tuple[int, int]] = []
        level, start, flip, rate, end = self._level, self._start, self._flip, self._rate, self._end
        taken, word, is_new = self._taken, self._word, self._is_new
        for t, light in transitions:
            logic = light ^ flip
            if logic == level:
                continue
            level = logic
            if start < 0:
                if not logic:
                    start = t * rate // NS
                    word = 0
                    is_new = True
                continue
            passed = t * rate // NS - start
            if passed < end:
                samples = taken[passed]
                word ^= samples
                if is_new and samples >= _START_SAMPLES:
                    seen = word ^ samples if logic else word
                    is_new = (seen & _START_SAMPLES).bit_count() >= 2  # no start bit after all
                    if is_new:
                        self.false_starts += 1
                        start = -1 if logic else start + passed
                        word = 0
            else:
                if not logic:
                    word ^= self._all
                self._word, self._start = word, start
                self._finish(out)
                start = -1 if logic else start + passed
                word = 0
                is_new = True
        if start >= 0 and until_ns * rate // NS - start >= end:
            if level:
                word ^= self._all
            self._word, self._start = word, start
            self._finish(out)
            start = -1
            word = 0
        self._level, self._start, self._word, self._is_new = level, start, word, is_new
        return out


class MeterReceiver:
    """The meter's receiver: light of a head's LED on its way, and a UART whose settings may change in between.

    Bytes with the wrong parity or without a stop bit are not handed on. With other settings a byte half received is
    lost, and what is still on its way is heard with the new ones.
    """

    def __init__(self, line: Line) -> None:
        self._coming: list[Transition] = []
        self._light = 0  # a head's LED is dark when idle
        self.set_line(line)

    def set_line(self, line: Line) -> None:
        """Other settings, from the time up to which was heard."""
        self._receiver = Receiver(upright(line), light=self._light, drop_wrong=True)

    def put(self, transitions: list[Transition]) -> None:
        """Light of the head's LED, in time order, not before what was heard."""
        self._coming += transitions

    @property
    def due_ns(self) -> int | None:
        """The next time at which hear() may give a byte or a byte may begin; None while all is quiet."""
        due_ns = self._receiver.due_ns
        if due_ns is None and self._coming:
            return self._coming[0][0]
        return due_ns

    def hear(self, until_ns: int) -> list[tuple[int, int]]:
        """The bytes complete by `until_ns`, as (time_ns, byte)."""
        light: list[Transition] = []
        if self._coming:
            n = bisect_right(self._coming, (until_ns, 2))
            light = self._coming[:n]
            del self._coming[:n]
            if light:
                self._light = light[-1][1]
        return self._receiver.receive(light, until_ns)
