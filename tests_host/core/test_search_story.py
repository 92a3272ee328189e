"""The search by itself, without firmware: any bytes, its rules one by one, and the same on 32-bit MicroPython.

Any bytes, any times: it goes on or proves something, never raises, and keeps no more than it was made with. What it
finds in front of which meter is test_detection.py's.
"""

import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import core_on_micropython as on_micropython
from support.corpus import recorded

from metering import protocols
from metering.characters import with_parity
from metering.detection.candidates import load_probes, signature
from metering.detection.search_story import Detection
from metering.line import SWITCH, WATCH, Line
from optoprobe.decoding import signatures
from optoprobe.environment import runtime
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.sml_meter import SmlMeter

MS = 10**6
PROBES = load_probes()
LOOK_MS = 10


def make(name: str, asked: bool) -> tuple[Any, Any]:
    listener = protocols.load(name)()
    conversation = protocols.load_conversation(name) if asked else None
    return listener, conversation(listener) if conversation else None


class Bench:
    """A meter that pushes, and a search that only listens; `looks` records what it saw (detection_driven.py)."""

    def __init__(self, meter: Any, line: Line, noise: Noise | None = None, phase_s: float = 0.0, **search: Any) -> None:
        self.meter = meter
        self.air = VirtualLine(line, Line(9600), noise=noise)
        self.detection = Detection(make, **search)
        self.looks = bytearray()
        self.lines: list[str] = []
        self._due_s = phase_s

    def run(self, seconds: float) -> Any:
        """What is proven after so many seconds of the meter, None if nothing."""
        actions = self.detection.run()
        now_ms = 0
        for action in actions:
            if action[0] == SWITCH:
                line = action[1]
                self.lines.append(repr(line))
                is_7e1 = line.bits == 7 and line.parity == "E"  # driven as 8N1, see metering.line
                self.air.set_head(Line(line.baud, 8, None, 1, line.invert) if is_7e1 else line)
                continue
            assert action[0] == WATCH
            over = False
            while not over and now_ms < seconds * 1000:
                now_ms += LOOK_MS
                over = self._look(now_ms)
            if not over:
                break
        return self.detection.proven

    def _look(self, now_ms: int) -> bool:
        while self._due_s * 1000 <= now_ms:
            self.air.meter_sends(self.meter.telegram(self._due_s), int(self._due_s * 1000 * MS))
            self._due_s += self.meter.period_s
        came = bytes(byte for _, byte in self.air.advance(now_ms * MS))
        light = self.air.channel.light
        self.looks += struct.pack(">HBH", LOOK_MS, light, len(came)) + came
        return self.detection.look(now_ms, bool(light), came, 0, len(came))


# --- signatures ------------------------------------------------------------------------------------------------------


def test_signatures_of_telegrams() -> None:
    for meter, name in ((SmlMeter(1), "sml"), (IecMeter("D"), "iec62056-21"), (IecMeter("P1"), "iec62056-21")):
        telegram = meter.telegram(0)
        assert signature(PROBES, telegram, min(len(telegram), 256), True) == name
    text = with_parity(IecMeter("D").telegram(0))
    for at in range(0, len(text) - 64, 16):  # amid the telegram, too
        assert signature(PROBES, text[at:], 64, False) == "iec62056-21"
    for kind in ("optical", "hdlc", "mbus", "gbt"):
        telegram = DlmsMeter(kind).telegram(0)
        assert signature(PROBES, telegram, min(len(telegram), 256), True) == "dlms"


def test_a_signature_is_rare_in_noise() -> None:
    draw = random.Random(6)
    found = [name for _ in range(2000) if (name := signature(PROBES, draw.randbytes(256), 256, True))]
    assert len(found) < 600  # HDLC's flag and type are sixteen bits of 256 bytes: it only picks a listener
    assert found.count("sml") == 0 and found.count("iec62056-21") < 3


def test_every_capture_has_the_signature_of_its_protocol() -> None:
    for folder, name in (("sml", "sml"), ("iec62056_21", "iec62056-21")):
        for file in recorded(f"{folder}/*.bin"):
            assert name in signatures(file.read_bytes()), file.name


# --- any bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_any_bytes_at_any_time(seed: int) -> None:
    draw = random.Random(seed)
    detection = Detection(make)
    actions = detection.run()
    ticks = draw.getrandbits(30)
    answer = None
    pieces = [SmlMeter(1).telegram(0), IecMeter("P1").telegram(0), DlmsMeter("mbus").telegram(0)]
    for _ in range(3000):
        if answer is None:
            try:
                action = next(actions)
            except StopIteration:
                break
            if action[0] != WATCH:
                continue
        ticks = (ticks + draw.choice((0, 1, 10, 10, 10, 30, 80, 700, 50_000, draw.getrandbits(30)))) & 0x3FFFFFFF
        data = draw.choice((b"", b"", b"\0", draw.randbytes(draw.randrange(1, 257)), draw.choice(pieces)[:256]))
        light = draw.choice((None, False, True))
        answer = None if detection.look(ticks, light, data, 0, len(data)) else False
    assert detection.seen and isinstance(detection.line, Line)
    assert len(detection._bursts.data) == 256


def test_a_shortage_of_memory_only_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a listener cannot be had, the search goes on when it is run again."""
    bench = Bench(SmlMeter(1), Line(9600))
    shortages = [MemoryError] * 3

    def short(name: str, asked: bool) -> tuple[Any, Any]:
        if shortages:
            raise shortages.pop()
        return make(name, asked)

    bench.detection._make = short
    for _ in range(3):
        with pytest.raises(MemoryError):
            bench.run(20)
    assert bench.run(20).protocol == "sml"


# --- its rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baud", [300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200])
@pytest.mark.parametrize("invert", [False, True], ids=["upright", "inverted"])
def test_every_usual_rate_is_found(baud: int, invert: bool) -> None:
    meter = IecMeter("P1", baud=baud, period_s=40.0 if baud < 1200 else 5.0)
    bench = Bench(meter, Line(baud, 8, None, 1, invert), phase_s=1.0)
    proven = bench.run(300)
    assert (proven.protocol, repr(proven.line)) == ("iec62056-21", repr(Line(baud, 8, None, 1, invert)))
    assert proven.telegram_ready and proven.listener.n_values


@pytest.mark.parametrize("stretch_us", [20, 40])
def test_a_slow_phototransistor(stretch_us: int) -> None:
    proven = Bench(SmlMeter(1), Line(9600), Noise(stretch_ns=stretch_us * 1000), 0.3).run(60)
    assert (proven.protocol, repr(proven.line)) == ("sml", "9600 8N1")


def test_what_carries_no_check_has_to_come_twice() -> None:
    meter = DlmsMeter("hdlc", framing="raw", security=0, period_s=3)
    bench = Bench(meter, Line(9600), phase_s=0.5)
    assert bench.run(3) is None
    assert bench.detection.listener is not None and bench.detection.listener.accepted == 1
    meter = DlmsMeter("hdlc", framing="raw", security=0, period_s=3)
    assert Bench(meter, Line(9600), phase_s=0.5).run(6).protocol == "dlms"


@pytest.mark.parametrize("period_s", [1.0, 10.0])
def test_a_p1_meter_of_seven_bits_without_parity(period_s: float) -> None:
    """As some Slovenian AM550 send: received as 8N1 it is nothing, and there is no signature in it."""
    bench = Bench(IecMeter("P1", baud=115200, period_s=period_s), Line(115200, 7), phase_s=0.4)
    proven = bench.run(60)
    assert (proven.protocol, repr(proven.line), proven.uart_parity) == ("iec62056-21", "115200 7N1", None)
    assert proven.telegram_ready and bench.lines[-1] == "115200 7N1"
    known = ("iec62056-21", proven.line)
    again = Bench(IecMeter("P1", baud=115200, period_s=period_s), Line(115200, 7), phase_s=0.4, known=known)
    assert again.run(2 * period_s) and again.lines == ["115200 7N1"]


class FramedPush(IecMeter):
    """Pushes its block between STX and ETX, a BCC behind, each second, as ZPA's GH305 does."""

    def telegram(self, now_s: float) -> bytes:
        ident, block = super().telegram(now_s).split(b"\r\n", 1)
        block = block.lstrip(b"\r\n") + b"\x03"
        check = 0
        for byte in block:
            check ^= byte
        return ident + b"\r\n\r\n\x02" + block + bytes([check])


@pytest.mark.parametrize("phase_s", [0.1, 0.7])
def test_a_push_framed_by_stx_and_bcc(phase_s: float) -> None:
    """At 9600 7E1; at 300 baud the same is an answer to somebody's sign-on, and proves nothing."""
    meter = FramedPush("D", baud=9600, period_s=1.0)
    proven = Bench(meter, Line(9600, 7, "E"), phase_s=phase_s).run(5)
    assert (proven.protocol, repr(proven.line), proven.telegram_ready) == ("iec62056-21", "9600 7E1", True)
    meter = FramedPush("D", baud=300, period_s=40.0)
    known = ("iec62056-21", Line(300, 7, "E"))
    assert Bench(meter, Line(300, 7, "E"), phase_s=phase_s, known=known).run(80) is None


def test_what_was_known_is_heard_first() -> None:
    bench = Bench(DlmsMeter("hdlc", period_s=10), Line(2400, 8, "E"), phase_s=2, known=("dlms", Line(2400, 8, "E")))
    proven = bench.run(4)  # the first telegram
    assert bench.lines == ["2400 8E1"]
    assert (proven.protocol, repr(proven.line)) == ("dlms", "2400 8E1")


# --- on MicroPython --------------------------------------------------------------------------------------------------

SCENES = {
    "sml": lambda: Bench(SmlMeter(1), Line(9600), phase_s=0.3),
    "inverted text": lambda: Bench(IecMeter("D"), Line(2400, 7, "E", 1, True), phase_s=0.7),
    "2400 8E1": lambda: Bench(DlmsMeter("mbus"), Line(2400, 8, "E"), Noise(burst_hz=0.5), 0.7),
    "115200": lambda: Bench(IecMeter("P1"), Line(115200), Noise(burst_hz=0.5), 0.7),
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_same_on_micropython_with_the_heap_locked(core: Path, tmp_path: Path, scene: str) -> None:
    bench = SCENES[scene]()
    proven = bench.run(40)
    assert proven
    (tmp_path / "looks").write_bytes(bench.looks)
    out = on_micropython.printed(core, "detection_driven.py", tmp_path / "looks", heap="512k")
    assert out == on_micropython.printed_by_cpython("detection_driven.py", str(tmp_path / "looks"))
    last = f"True {proven.protocol} {proven.line!r} {proven.telegram_ready} {proven.flashes}"
    assert out.splitlines()[-1] == last
    code, _, errors = on_micropython.micropython(core, "detection_driven.py", tmp_path / "looks", "plant", heap="512k")
    assert code != 0 and "heap is locked" in errors


def test_nothing_of_a_protocol_stays_loaded():
    """In a process of its own: what is loaded with every listener and conversation is dropped again, all of it."""
    program = """
import sys
from metering.detection import search_story as detect
from metering import guard, protocols
def modules():
    return {name for name in sys.modules if name.startswith("metering")}
before = modules()
for name in protocols.names():
    listener = protocols.load(name)()
    if hasattr(listener, "set_keys"):
        listener.set_keys(bytes(16), bytes(16))
    protocols.load_conversation(name)
for name in protocols.searched():
    protocols.load_probe(name)
assert {"metering.sml", "metering.dlms.gcm", "metering.iec62056_21.poll"} <= modules() - before
protocols.unload_protocols()
print(sorted(name for name in modules() ^ before if not name.startswith("metering.on_computer")))
"""
    path = {"PYTHONPATH": str(runtime.REPO / "lib")}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr or done.stdout
