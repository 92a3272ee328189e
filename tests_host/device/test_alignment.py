"""How well a head sits: the score on the bit-accurate line, and `optoprobe monitor` over a pty and over a broker.

The core's invariant: any bytes, at any time, give a score of 0 to 100 and a sentence, never an exception. On a clean
line it is 95 or more, with nothing heard 0, and it falls with every disturbance.
"""

import contextlib
import functools
import json
import os
import pty
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import termios
import threading
from collections import Counter
from types import SimpleNamespace

import paho.mqtt.client as mqtt
import pytest
from support import core_on_micropython as on_micropython
from support.broker import Listener, closed_port, retained, wait_until
from support.command_line import Peer, start

from metering import protocols
from metering.line import Line
from metering.listener import NOTHING
from metering.signal_quality import AlignmentScore
from optoprobe import cli
from optoprobe.environment import runtime
from optoprobe.monitoring import probe_alignment
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.serial_meter import SerialMeter
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource
from optoprobe.virtual.uart import NS, Receiver, Transmitter

MS = NS // 1000
LOOK_MS = 10
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))
SETTLED_S = 40  # of a meter that pushes every 10 s

KEYED = functools.partial(DlmsMeter, key=KEY, auth_key=AUTH_KEY)
METERS = {  # protocol, line, meter by seed
    "sml": ("sml", Line(9600), SmlMeter),
    "sml, every 2.3 s": ("sml", Line(9600), functools.partial(SmlMeter, period_s=2.3)),
    "sml, long": ("sml", Line(9600), functools.partial(SmlMeter, quirks=["list_type_bits", "phases"])),
    "sml, short ones between": ("sml", Line(9600), functools.partial(SmlMeter, quirks=["attention"])),
    "d0": ("iec62056-21", Line(9600, 7, "E"), functools.partial(IecMeter, "D", baud=9600)),
    "d0 at 2400": ("iec62056-21", Line(2400, 7, "E"), functools.partial(IecMeter, "D", baud=2400, period_s=3)),
    "p1": ("iec62056-21", Line(115200), functools.partial(IecMeter, "P1")),
    "dlms": ("dlms", Line(9600), functools.partial(KEYED, "optical")),
    "dlms, every 5 s": ("dlms", Line(2400, 8, "E"), functools.partial(KEYED, "mbus")),
    "dlms, every 10 s": ("dlms", Line(2400, 8, "E"), functools.partial(DlmsMeter, "hdlc")),
}


class Bench:
    """A head in front of a meter that pushes, looked at every LOOK_MS. `scores` and `words`: one a second."""

    def __init__(self, name, seed=1, noise=None, phase_s=0.3, sees_light=True):
        protocol, line, make = METERS[name]
        self.line = line
        self.meter = make(seed=seed)
        # a line of 7 bits is received as 8N1, parity bit and all
        self.heard_as = Line(line.baud) if line.bits == 7 else line
        self.air = VirtualLine(line, self.heard_as, noise=noise, seed=seed)
        self.listener = protocols.load(protocol)()
        if protocol == "dlms":
            self.listener.set_keys(KEY, AUTH_KEY)
        self.alignment = AlignmentScore(line.baud, line.bits == 7)
        self.sees_light = sees_light
        self.away = False
        self.looking = False  # at edges
        self.now_ms = 0
        self._next_ms = -phase_s * 1000
        self._telegrams = 0
        self.scores, self.words = [], []
        self.looks = bytearray()  # as on_micropython/alignment_scored.py reads them

    def look_at_edges(self, on):
        self.looking = on
        self.air.set_head(Line(3 * self.line.baud) if on else self.heard_as)

    def run(self, seconds):
        until_ms = self.now_ms + round(seconds * 1000)
        while self.now_ms < until_ms:
            self.now_ms += LOOK_MS
            self._look()
        return self

    def _look(self):
        while self._next_ms <= self.now_ms:
            telegram = self.meter.telegram(self._telegrams * self.meter.period_s)
            if not self.away:
                self.air.meter_sends(telegram, max(0, round(self._next_ms * MS)))
            self._telegrams += 1
            self._next_ms += self.meter.period_s * 1000
        came = bytes(byte for _, byte in self.air.advance(self.now_ms * MS))
        alignment, listener = self.alignment, self.listener
        if self.looking:
            alignment.edges(came, 0, len(came))
        else:
            alignment.feed(came, 0, len(came))
            at = 0
            while at < len(came):
                at += listener.feed(came, at, len(came))
                while listener.next_event() != NOTHING:
                    pass
        accepted, rejected = listener.accepted, sum(listener.rejected.values())
        alignment.telegrams(accepted, rejected)
        light = self.air.channel.light if self.sees_light else 2
        self.looks += struct.pack(">BBBHHBBH", LOOK_MS, light, self.looking, accepted, rejected, 0, 0, len(came))
        self.looks += came
        if alignment.look(self.now_ms & 0x3FFFFFFF, bool(light) if self.sees_light else None):
            self.scores.append(alignment.score)
            self.words.append(alignment.words)


def said(words):
    """The words that were said for most of the time, without those of a good place."""
    causes = Counter(sentence.split(":")[0] for sentence in words if sentence != "well placed")
    return causes.most_common(1)[0][0]


# --- a good place, and none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METERS)
@pytest.mark.parametrize("phase_s", [0.07, 0.95])
def test_a_clean_line(name, phase_s):
    bench = Bench(name, phase_s=phase_s).run(SETTLED_S + 15)
    assert min(bench.scores[SETTLED_S:]) >= 95, bench.scores
    assert set(bench.words[SETTLED_S:]) == {"well placed"}
    assert sorted(bench.scores) == bench.scores  # and it never fell
    assert bench.alignment.best == max(bench.scores) == 100


def test_nothing_heard():
    bench = Bench("sml")
    bench.away = True
    bench.run(30)
    assert set(bench.scores) == {0}
    assert {sentence.split(":")[0] for sentence in bench.words} == {"no light from the meter"}
    assert bench.alignment.best == 0


@pytest.mark.parametrize("name", METERS)
def test_moved_away_and_back(name):
    bench = Bench(name).run(SETTLED_S + 20)
    bench.away = True
    gone = len(bench.scores)
    period_s = bench.meter.period_s
    bench.run(2 * period_s + 4)
    scores = bench.scores[gone:]
    assert set(scores) <= {0, *range(95, 101)}, scores  # no flicker on the way
    assert scores[int(1.25 * period_s + 2.5)] == 0, scores
    assert bench.words[-1].startswith("no light from the meter")
    assert bench.alignment.best == 100
    bench.away = False
    bench.run(4 * period_s + 8)
    assert bench.scores[-1] >= 85, bench.scores[gone:]


def test_the_score_of_a_slow_meter_stands_between_its_telegrams():
    bench = Bench("dlms, every 10 s", seed=3).run(60)
    assert len(set(bench.scores[40:50])) <= 2


# --- disturbances ----------------------------------------------------------------------------------------------------

SEEDS = (1, 2, 3)
DISTURBANCES = {
    "dropout_hz": (0, 0.5, 3, 10, 60),
    "glitch_hz": (0, 1, 3, 10, 150),
    "ambient_hz": (0, 1, 3, 20),
    "burst_hz": (0, 1, 3, 10),
}


@functools.cache
def disturbed(name, kind, rate, seconds=36):
    """(mean score, words, part of the telegrams that held) over the seeds."""
    scores, words = [], []
    held = due = 0
    for seed in SEEDS:
        bench = Bench(name, seed, Noise(seed=seed, **{kind: rate})).run(seconds)
        scores += bench.scores[15:]
        words += bench.words[15:]
        held += bench.listener.accepted
        due += int(seconds / bench.meter.period_s)
    return statistics.mean(scores), words, held / due


@pytest.mark.parametrize("kind", DISTURBANCES)
@pytest.mark.parametrize("name", ["sml", "d0"])
def test_the_score_falls_with_every_disturbance(name, kind):
    means = [disturbed(name, kind, rate)[0] for rate in DISTURBANCES[kind]]
    assert means[0] >= 95
    assert means[-1] <= 31
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("name", ["sml", "d0"])
@pytest.mark.parametrize(("kind", "rate"), [("dropout_hz", 3), ("glitch_hz", 3), ("burst_hz", 3)])
def test_a_head_at_the_edge_of_its_tolerance_shows_clearly_less(name, kind, rate):
    mean, _, held = disturbed(name, kind, rate)
    assert 0.2 < held < 0.8  # some telegrams still come through
    assert 30 < mean < 80


@pytest.mark.parametrize("name", ["sml", "d0"])
@pytest.mark.parametrize(
    ("kind", "rate", "cause"),
    [
        ("dropout_hz", 10, "some bytes are lost or damaged"),
        ("ambient_hz", 20, "too much ambient light"),
        ("glitch_hz", 10, "stray light"),
        ("burst_hz", 3, "stray light"),
    ],
)
def test_the_words_name_the_cause(name, kind, rate, cause):
    assert said(disturbed(name, kind, rate)[1]) == cause


def test_half_the_bytes_are_lost():
    bench = Bench("sml").run(20)
    bench.air.channel.noise = noise = Noise(dropout_hz=100, dropout_ns=12_000_000)
    bench.air.channel._schedule_next("dropout", bench.air.now_ns)
    bench.run(20)
    assert noise.dropout_hz and bench.scores[-1] < 25
    assert said(bench.words[25:]) == "many bytes are lost"


def test_light_that_stays_on():
    bench = Bench("sml")
    bench.air.channel.hold("ambient", 0, 60 * NS)
    bench.run(20)
    assert set(bench.scores) == {0}
    assert set(bench.words[1:]) == {"too much ambient light: shade the head"}


# --- edges -----------------------------------------------------------------------------------------------------------


def edges_of(shift_ns, jitter_ns=0, baud=9600):
    """What a UART at three times the rate sees of a telegram's light, each flash made longer or shorter at its end."""
    draw = random.Random(1)
    light = Transmitter(Line(baud)).send(SmlMeter(1).telegram(0), NS)
    light = [(at, on) if on else (at + shift_ns + draw.randint(0, jitter_ns), on) for at, on in light]
    return bytes(byte for _, byte in Receiver(Line(3 * baud)).receive(light, 10 * NS))


def scored_by_edges(data, seconds=3):
    """(score, words) when such a telegram comes every second."""
    alignment = AlignmentScore(9600)
    at = 0
    for k in range(100 * seconds):
        if k % 100 < 30:
            part = data[len(data) * (k % 100) // 30 : len(data) * (k % 100 + 1) // 30]
            at += len(part)
            alignment.edges(part, 0, len(part))
        alignment.look(10 * k, None)
    assert at
    return alignment.score, alignment.words


def test_edges_of_a_clean_line_are_all_that_can_be_without_a_telegram():
    score, words = scored_by_edges(edges_of(0))
    assert score == 30
    assert words.startswith("light is seen: hold still")


def test_the_score_falls_with_each_way_edges_are_wrong():
    bit_ns = NS // 9600
    for shifts in ((0, -bit_ns // 4, -bit_ns // 2, -bit_ns * 2 // 3), (0, bit_ns // 4, bit_ns // 2)):
        scores = [scored_by_edges(edges_of(shift))[0] for shift in shifts]
        assert scores == sorted(scores, reverse=True) and scores[-1] < scores[0], scores
    jittered = [scored_by_edges(edges_of(-jitter // 2, jitter))[0] for jitter in (0, bit_ns // 2, bit_ns)]
    assert jittered == sorted(jittered, reverse=True) and jittered[-1] < jittered[0], jittered
    assert scored_by_edges(edges_of(-bit_ns // 3))[1].startswith("weak edges: move the head nearer")
    assert scored_by_edges(edges_of(bit_ns // 3))[1].startswith("edges too long: move the head away")


def test_random_edges_score_little():
    draw = random.Random(1)
    score, words = scored_by_edges(draw.randbytes(600))
    assert score < 15
    assert words.startswith("weak edges")


@pytest.mark.parametrize("name", ["sml", "d0", "dlms, every 5 s"])
def test_edges_looked_at_in_turn_with_telegrams(name):
    """As a driver may do it: hear, and now and then measure one telegram's edges, from a pause to a pause."""
    period_s = METERS[name][2](seed=1).period_s
    bench = Bench(name, phase_s=-period_s / 4).run(4 * period_s)
    for _ in range(6):
        bench.look_at_edges(True)
        bench.run(period_s)
        bench.look_at_edges(False)
        bench.run(4 * period_s)
    assert min(bench.scores[-10:]) >= 95, bench.scores
    assert sorted(bench.scores) == bench.scores


@pytest.mark.parametrize("name", ["sml", "d0", "dlms, every 5 s"])
def test_edges_looked_at_amid_a_telegram(name):
    """What is cut by that is hardly held against the head."""
    bench = Bench(name).run(SETTLED_S)
    for _ in range(12):
        bench.look_at_edges(True)
        bench.run(0.4)
        bench.look_at_edges(False)
        bench.run(3.7)
    assert statistics.mean(bench.scores[SETTLED_S:]) >= 95, bench.scores


# --- a meter that is asked -------------------------------------------------------------------------------------------


class Asked:
    """A driver that asks, by hand: sign-on, identification after half a second, block, pause."""

    def __init__(self):
        self.alignment = AlignmentScore(300)
        self.ms = self.good = self.rejected = 0
        self.scores, self.words = [], []

    def wait(self, ms, data=b""):
        """Time passes, over which `data` comes."""
        looks = ms // LOOK_MS
        for k in range(looks):
            part = data[len(data) * k // looks : len(data) * (k + 1) // looks]
            self.alignment.feed(part, 0, len(part))
            self.ms += LOOK_MS
            self.alignment.telegrams(self.good, self.rejected)
            if self.alignment.look(self.ms, False):
                self.scores.append(self.alignment.score)
                self.words.append(self.alignment.words)

    def read_out(self, identification=b"/OPT5\\2MT382-1003\r\n", block=bytes(500), held=True, echo=0):
        self.alignment.sent(5, echo)
        self.wait(500)
        self.wait(700, identification)
        self.wait(300)
        self.alignment.sent(6, 6 if echo else 0)
        self.wait(400)
        self.wait(600, block)
        if held:
            self.good += 1
        elif block:
            self.rejected += 1
        self.wait(2500)


@pytest.mark.parametrize("echo", [0, 5])
def test_a_meter_that_is_asked(echo):
    line = Asked()
    for _ in range(10):
        line.read_out(echo=echo)
    assert min(line.scores[25:]) >= 95, line.scores
    assert set(line.words[25:]) == {"well placed"}
    for _ in range(4):
        line.read_out(held=False)
    assert 0 < line.scores[-1] <= 35, line.scores
    for _ in range(4):
        line.read_out(identification=b"", block=b"", held=False)
    assert line.scores[-1] == 0
    assert line.words[-1].startswith("no light from the meter")


def test_a_block_that_never_comes():
    line = Asked()
    for _ in range(6):
        line.read_out(identification=bytes(17), block=b"", held=False)
    assert 0 < line.scores[-1] <= 30, line.scores


@pytest.mark.parametrize(
    ("echo", "came", "cause"),
    [
        (5, b"", "only its own light is seen"),
        (3, b"/?\x01!\n", "own echo is damaged"),
        (0, b"", "no light from the meter"),
    ],
)
def test_nothing_but_its_own_echo(echo, came, cause):
    line = Asked()
    for _ in range(10):
        line.wait(20, came)
        line.alignment.sent(5, echo)
        line.wait(2980)
    assert set(line.scores[15:]) == {0}, line.scores
    assert said(line.words[15:]) == cause


# --- any bytes, any time ---------------------------------------------------------------------------------------------


def test_whatever_comes():
    for seed in range(20):
        draw = random.Random(seed)
        alignment = AlignmentScore(draw.choice((300, 9600, 115200)), draw.random() < 0.5)
        ticks = good = rejected = 0
        seconds = 0
        for _ in range(1000):
            data = draw.randbytes(draw.choice((0, 0, 1, 3, 50, 600)))
            start = draw.randrange(len(data) + 1)
            (alignment.edges if draw.random() < 0.2 else alignment.feed)(data, start, draw.randint(0, len(data)))
            good += draw.random() < 0.05
            rejected += draw.random() < 0.1
            if draw.random() < 0.01:
                good = rejected = 0  # another listener
            alignment.telegrams(good, rejected)
            if draw.random() < 0.02:
                n = draw.randrange(64)
                alignment.sent(n, draw.randint(0, n))
            ticks += draw.choice((0, 1, 10, 10, 10, 200, 5000, -20, 2**29))
            seconds += alignment.look(ticks & 0x3FFFFFFF, draw.choice((True, False, None)))
            assert 0 <= alignment.score <= alignment.best <= 100
            assert alignment.words.count(":") == 1 or alignment.words == "well placed"
        assert seconds > 10


def test_late_looks_are_no_silence():
    bench = Bench("sml").run(20)
    for _ in range(10):  # a stall of 2 s; what came meanwhile comes at once
        kept = b""
        for _ in range(200):
            bench.now_ms += LOOK_MS
            while bench._next_ms <= bench.now_ms:
                bench.air.meter_sends(bench.meter.telegram(bench._telegrams), round(bench._next_ms * MS))
                bench._telegrams += 1
                bench._next_ms += 1000
            kept += bytes(byte for _, byte in bench.air.advance(bench.now_ms * MS))
        bench.alignment.feed(kept, 0, len(kept))
        at = 0
        while at < len(kept):
            at += bench.listener.feed(kept, at, len(kept))
            while bench.listener.next_event() != NOTHING:
                bench.alignment.telegrams(bench.listener.accepted, sum(bench.listener.rejected.values()))
        bench.run(3)
        assert bench.scores[-1] >= 95, bench.scores


# --- on the device ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sml", "d0"])
def test_the_same_on_micropython_with_the_heap_locked(core, tmp_path, name):
    bench = Bench(name, noise=Noise(dropout_hz=2, ambient_hz=0.5, glitch_hz=2, seed=5)).run(20)
    assert 40 < statistics.mean(bench.scores[5:]) < 70, bench.scores
    bench.air.channel.noise = Noise()
    bench.run(15)
    assert bench.scores[-1] >= 98, bench.scores
    bench.look_at_edges(True)
    bench.run(3)
    bench.look_at_edges(False)
    bench.away = True
    bench.run(8)
    assert bench.scores[-1] == 0, bench.scores
    bench.looks += struct.pack(">BBBHHBBH", 10, 2, 0, 0, 0, 5, 5, 0) * 200
    (tmp_path / "looks").write_bytes(bench.looks)
    arguments = ("alignment_scored.py", tmp_path / "looks", bench.line.baud, int(bench.line.bits == 7))
    out = on_micropython.printed(core, *arguments, heap="512k")
    assert out == on_micropython.printed_by_cpython(*map(str, arguments))
    scores = [int(line.split()[0]) for line in out.splitlines()]
    assert scores[: len(bench.scores)] == bench.scores
    assert len({line.split(" ", 2)[2] for line in out.splitlines()}) >= 4, out
    code, _, errors = on_micropython.micropython(core, *arguments, "plant", heap="512k")
    assert code != 0 and "heap is locked" in errors


LOADED_BYTES = 3072  # measured beside the rest of a device, whose names it shares; 10 % to spare
MEASURE = """
import gc, sys, json, asyncio, binascii, errno, os, random, select, socket, struct, time, _thread, micropython
import machine, network, umqtt.simple
import sml, head, telegram_meter, app
k = 0
more = 0
while more < 2500:  # MicroPython's names move into a larger pool now and then: not while this is measured
    before = gc.mem_alloc()
    exec("other%d = 0" % k)
    more = gc.mem_alloc() - before
    k += 1
gc.collect()
before = gc.mem_alloc()
import signal_quality
gc.collect()
print(gc.mem_alloc() - before)
"""


def test_it_is_small(tmp_path):
    VirtualBoard(tmp_path, {}, 1)
    environment = dict(os.environ, MICROPYPATH=":".join(["probe", "", "lib", "hardware", ".frozen"]))
    command = [str(runtime.micropython()), "-X", "heapsize=200000", "-c", MEASURE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    print(f"metering.signal_quality: {done.stdout.strip()} bytes loaded")
    assert 0 < int(done.stdout) <= LOADED_BYTES * 11 // 10, done.stderr


# --- optoprobe monitor: a head on this computer ----------------------------------------------------------------------

LINE = re.compile(r" *\d+ s  score +(\d+)  best +(\d+)  (.+)")


def shown(out):
    """[(score, best, words)] of the lines, without the last one, which sums up."""
    found = [LINE.fullmatch(line) for line in out.splitlines()]
    return [(int(line[1]), int(line[2]), line[3]) for line in found if line]


def until_heard_well(process):
    """What it prints up to the first second with a score of 50."""
    lines = []
    while True:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines) + process.stderr.read()
        if shown(lines[-1].rstrip()) and shown(lines[-1].rstrip())[0][0] >= 50:
            return lines


def ended(process):
    """Ctrl-C; (exit code, what it prints then, stderr)."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def read_all(terminal, into):
    """What is written to a terminal until nobody can any more."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 4096):
            into.append(data)


@pytest.fixture(scope="module")
def at_once():
    """What takes longest, run side by side: by name the exit code, stdout and stderr."""
    terminal, screen = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    asked = IecMeter("C", reaction_ms=300)
    with contextlib.ExitStack() as stack:
        ports = {
            "sml": SerialMeter(MeterSource(SmlMeter())),
            "screen": SerialMeter(MeterSource(SmlMeter())),
            "asked": SerialMeter(asked, echo=True),
        }
        paths = {name: stack.enter_context(port).path for name, port in ports.items()}
        silent = stack.enter_context(Peer())
        processes = {
            "sml": start("monitor", "--port", paths["sml"], "--seconds", "6"),
            "asked": start("monitor", "--port", paths["asked"], "--protocol", "iec62056-21"),
            "silent": start("monitor", "--port", silent.path, "--protocol", "dlms", "--seconds", "2.5"),
            "screen": subprocess.Popen(
                [sys.executable, "-m", "optoprobe", "monitor", "--port", paths["screen"], "--line", "9600 8N1"],
                stdout=screen, stderr=subprocess.PIPE, text=True, env=os.environ | {"TERM": "xterm"},
            ),
        }  # fmt: skip
        os.close(screen)
        drawn = []
        reader = threading.Thread(target=read_all, args=(terminal, drawn))
        reader.start()
        try:
            lines = until_heard_well(processes["asked"])
            code, out, err = ended(processes["asked"])
            done = {"asked": (code, "".join(lines) + out, err)}
            for name in ("sml", "silent"):
                out, err = processes[name].communicate(timeout=30)
                done[name] = processes[name].returncode, out, err
            code, _, err = ended(processes["screen"])
        finally:
            for process in processes.values():
                process.kill()
            reader.join()
        done["screen"] = code, b"".join(drawn).decode(), err
        for port in ports.values():
            port.check()
    os.close(terminal)
    return SimpleNamespace(done=done, asked=asked, silent=silent.path)


def test_a_meter_that_pushes(at_once):
    code, out, err = at_once.done["sml"]
    assert (code, err) == (0, "")
    seconds = shown(out)
    assert 4 <= len(seconds) <= 6, out
    scores = [score for score, _, _ in seconds]
    assert scores[:4] == sorted(scores[:4]) and scores[-1] > scores[0]  # a busy machine's line may tear a late one
    assert seconds[-1][0] >= 55 and "(9600 8N1, sml)" in seconds[-1][2], out
    assert re.fullmatch(r"best score \d+ in \d+ s", out.splitlines()[-1]), out


def test_a_meter_that_must_be_asked_by_a_head_that_sees_its_own_light(at_once):
    code, out, err = at_once.done["asked"]
    assert (code, err) == (0, ""), out
    assert at_once.asked.events[:2] == ["sign-on", "ack 050"]
    assert shown(out)[-1][0] >= 50 and "(9600 7E1, iec62056-21)" in out
    assert "own echo is damaged" not in out
    assert out.splitlines()[-1].startswith("best score ")


def test_nothing_in_front_of_the_port(at_once):
    code, out, err = at_once.done["silent"]
    assert code == 1
    assert {score for score, _, _ in shown(out)} == {0} and len(shown(out)) == 2
    assert err == (
        "optoprobe monitor: the meter was not heard well enough, best score 0; "
        "no light from the meter: set the head on its eye, cable down.\n"
    )


def test_the_bar_on_a_terminal(at_once):
    code, out, err = at_once.done["screen"]
    assert (code, err) == (0, "")
    assert "█" in out and "best " in out and "9600 8N1, sml" in out and "Ctrl-C ends" in out
    assert re.search(r"best score \d+ in \d+ s\r\n$", out), out
    assert out.count("Ctrl-C ends") >= 3  # written over


def test_unplugged(tmp_path):
    with Peer() as peer:
        process = start("monitor", "--port", peer.path, "--protocol", "sml")
        try:
            assert process.stdout is not None and process.stdout.readline()
            peer.unplug()
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1
    assert re.fullmatch(r"optoprobe monitor: .* has gone .*: check the plug and run this again\.\n", err), err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "one of the arguments --port --broker --console is required"),
        (("--port", "/dev/ttyNONE9"), "there is no port /dev/ttyNONE9: plug the head in"),
        (("--port", "x", "--probe", "cellar"), "belong to --broker: leave them out"),
        (("--port", "x", "--line", "9600 8X1"), "give such as '9600 8N1'"),
        (("--port", "x", "--protocol", "nobodys"), "invalid choice: 'nobodys'"),
        (("--broker", "localhost"), "needs --probe ID too"),
        (("--broker", "localhost:x", "--probe", "cellar"), "give HOST or HOST:PORT"),
        (("--broker", "localhost", "--probe", "a/b"), "give the probe's id"),
        (("--broker", "localhost", "--probe", "cellar", "--prefix", "#"), "give letters, digits"),
        (("--broker", "localhost", "--probe", "cellar", "--line", "9600 8N1"), "leave --protocol and --line out"),
        (("--broker", "localhost", "--probe", "cellar", "--password-file", "x"), "give --user too"),
        (("--port", "x", "--log"), "--log belongs to --broker"),
        (("--broker", "localhost", "--probe", "c", "--user", "u", "--password-file", "/none"), "cannot be read (No "),
    ],
)
def test_wrong_usage(arguments, says, capsys):
    try:
        code = cli.main(["monitor", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert says in capsys.readouterr().err


# --- optoprobe monitor: a probe's head -------------------------------------------------------------------------------


class StandIn:
    """A probe with an alignment mode, as far as MQTT shows it; says `payloads` one after the other, then the last."""

    def __init__(self, port, payloads, topic="optoprobe/cellar"):
        self.told = []
        self._topic = topic
        self._payloads = list(payloads)
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(topic + "/alignment/set", 1)
        self._client.on_message = lambda _, __, message: self.told.append((message.payload, message.retain))
        self._client.connect("127.0.0.1", port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def _talk(self):
        while not self._stop.wait(0.1):
            if self.told and self.told[-1][0] == b"ON":
                payload = self._payloads.pop(0) if len(self._payloads) > 1 else self._payloads[0]
                self._client.publish(self._topic + "/alignment", payload)

    def __enter__(self):
        self._client.loop_start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


def said_by_a_probe(score, best, words="well placed"):
    return json.dumps({"score": score, "best": best, "words": words})


def monitor(broker, *arguments):
    return start("monitor", "--broker", f"127.0.0.1:{broker.port}", "--probe", "cellar", *arguments)


def test_a_probe_is_switched_on_shown_and_switched_off(broker):
    odd = ("[]", "no JSON", '{"score": 101, "best": 1, "words": ""}', '{"score": true, "best": 1, "words": ""}', "{}")
    payloads = (*odd, said_by_a_probe(0, 0, "weak\x1b[2J edges: turn it"), said_by_a_probe(87, 93))
    with StandIn(broker.port, payloads) as probe:
        process = monitor(broker)
        try:
            lines = until_heard_well(process)
            code, out, err = ended(process)
        finally:
            process.kill()
        wait_until(lambda: probe.told[-1][0] == b"OFF", 5, "it is not switched off")
        assert [word for word, _ in probe.told] == [b"ON", b"OFF"]
        assert not any(kept for _, kept in probe.told)
    assert (code, err) == (0, "")
    assert shown("".join(lines)) == [(0, 0, "weak?[2J edges: turn it"), (87, 93, "well placed")]
    assert out.splitlines()[-1].startswith("best score 93 in ")
    assert not retained(broker.port, 0.3)


def test_a_probe_is_switched_off_even_when_nobody_can_say_so(broker):
    with StandIn(broker.port, [said_by_a_probe(60, 60)], "house/cellar") as probe:
        process = monitor(broker, "--prefix", "house")
        until_heard_well(process)
        process.kill()
        process.wait()
        wait_until(lambda: probe.told[-1][0] == b"OFF", 5, "it is not switched off")


def test_a_head_on_a_probe_that_hears_too_little(broker):
    with StandIn(broker.port, [said_by_a_probe(20, 31, "weak edges: turn it")]):
        process = monitor(broker, "--seconds", "1.5")
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == "optoprobe monitor: the meter was not heard well enough, best score 31; weak edges: turn it.\n"
    assert shown(out)[0] == (20, 31, "weak edges: turn it")


def test_a_probe_that_is_offline(broker):
    with Listener(broker.port) as listener:
        listener.subscribed()
        listener.keep("optoprobe/cellar/status", "offline")
        process = monitor(broker)
        out, err = process.communicate(timeout=20)
        listener.keep("optoprobe/cellar/status", "")
    assert (process.returncode, out) == (1, "")
    assert err == "optoprobe monitor: the probe cellar is offline: check its power and its Wi-Fi.\n"


def test_a_probe_that_says_nothing(broker, monkeypatch, capsys):
    monkeypatch.setattr(probe_alignment, "_SILENT_S", 1.2)
    monkeypatch.setattr(probe_alignment, "_AGAIN_S", 0.5)
    with StandIn(broker.port, ["{}"]) as probe:
        code = cli.main(["monitor", "--broker", f"127.0.0.1:{broker.port}", "--probe", "cellar"])
        wait_until(lambda: probe.told[-1][0] == b"OFF", 5, "it is not switched off")
        assert [word for word, _ in probe.told].count(b"ON") >= 2
    assert code == 1
    assert "has said nothing on optoprobe/cellar/alignment for 1 s: check --probe" in capsys.readouterr().err


def test_there_is_no_broker(capsys):
    port = closed_port()
    assert cli.main(["monitor", "--broker", f"127.0.0.1:{port}", "--probe", "cellar"]) == 1
    assert f"the broker at 127.0.0.1:{port} cannot be reached (Connection refused): check --broker." in (
        capsys.readouterr().err
    )
