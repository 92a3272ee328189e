"""What a meter speaks is found by itself: the unmodified firmware with no setting but a key, in virtual time.

    the matrix     every protocol and framing, at its lines, in both polarities, clean, disturbed, echoed, with a fast
                   clock: the right verdict, and nothing published that the meter has not said
    nothing there  darkness, sun, lamps, remote controls, bytes of nobody: nothing is ever claimed
    swaps          another meter before the running probe
    restarts       with what was found before
    captures       of real meters, where they lie beside the clone

    OPTOPROBE_PHASES  how many phases of the meter each cell of the matrix is run at (2)
    OPTOPROBE_SCENES  scenes of nothing readable (40)

`python tests_host/support/detection_table.py` prints the table of the matrix.
"""

import heapq
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.corpus import CORPUS, NO_CORPUS
from support.detection_matrix import (
    ASKED_S,
    MORE_S,
    ROWS,
    cells,
    check_readings,
    is_reading,
    pulses,
    readings,
    run_cell,
    said,
    said_by,
    state_of,
)
from support.virtual_time import MS, LightOnly, Message, OpticalMedium, Probe

import optoprobe
from metering.line import Line
from optoprobe.commands.decode import bytes_of_hex_text
from optoprobe.virtual.blink_meter import remote
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_encoder import AUTHENTICATED, protect
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.source import CaptureSource
from optoprobe.virtual.uart import NS, Transmitter

PHASES = int(os.getenv("OPTOPROBE_PHASES", "1"))
SCENES = int(os.getenv("OPTOPROBE_SCENES", "16"))


# --- the matrix ------------------------------------------------------------------------------------------------------


def parameters() -> Iterator[Any]:
    for row, inverted, condition, phase in cells(PHASES):
        name = f"{row}-{'inverted' if inverted else 'upright'}-{condition}"
        yield pytest.param(row, inverted, condition, phase, id=name + (f"-{phase}" if phase else ""))


@pytest.mark.parametrize(("name", "inverted", "condition", "phase"), list(parameters()))
def test_a_meter_is_found_and_read_exactly(
    tmp_path: Path, name: str, inverted: bool, condition: str, phase: int
) -> None:
    """The right protocol and line, a first reading that is right, and nothing wrong before and after it."""
    run_cell(tmp_path, name, inverted, condition, phase)


@pytest.mark.parametrize("name", ["iec-A", "iec-B", "iec-C"])
def test_a_meter_that_answers_is_not_asked_twice(tmp_path: Path, name: str) -> None:
    """What its identification was asked with is gone on with."""
    with Probe(tmp_path, ROWS[name].make(3), {}) as probe:
        assert probe.run_until(60, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
        assert sum(data.startswith(b"/?") for _, data in said(probe)) == 1


# --- nothing there ---------------------------------------------------------------------------------------------------

Light = Iterator[tuple[int, int]]  # (on_ns, off_ns), in order


def of_transitions(transitions: Any) -> Light:
    on_ns = None
    for at_ns, light in transitions:
        if light:
            on_ns = at_ns if on_ns is None else on_ns
        elif on_ns is not None:
            if at_ns > on_ns:
                yield on_ns, at_ns
            on_ns = None
    if on_ns is not None:
        yield on_ns, on_ns + 10 * 3600 * NS


def merged(*lights: Light) -> Light:
    """All of them at once."""
    on_ns = off_ns = None
    for begins, ends in heapq.merge(*lights):
        if off_ns is not None and begins <= off_ns:
            off_ns = max(off_ns, ends)
            continue
        if on_ns is not None and off_ns is not None:
            yield on_ns, off_ns
        on_ns, off_ns = begins, ends
    if on_ns is not None and off_ns is not None:
        yield on_ns, off_ns


def sun(draw: random.Random) -> Light:
    """It comes out, and stays."""
    yield int(draw.uniform(0, 10) * NS), 10 * 3600 * NS


def leaves(draw: random.Random) -> Light:
    """Sun through them: light of 50 ms to 3 s."""
    at_ns = int(draw.uniform(0, 5) * NS)
    bright = draw.uniform(0.3, 3)
    while True:
        ends_ns = at_ns + int(min(3, max(0.05, draw.lognormvariate(-1, 1))) * NS)
        yield at_ns, ends_ns
        at_ns = ends_ns + int(max(0.05, draw.expovariate(bright)) * NS)


def lamp(draw: random.Random) -> Light:
    """50, 60, 100 or 120 flashes a second, now and then or all the time."""
    period_ns = NS // draw.choice((50, 60, 100, 120))
    lit_ns = int(period_ns * draw.uniform(0.1, 0.9))
    at_ns = int(draw.uniform(0, 5) * NS)
    while True:
        until_ns = at_ns + int(draw.choice((0.3, 2, 10, 3600)) * NS)
        while at_ns < until_ns:
            yield at_ns, at_ns + lit_ns + draw.randrange(20_000)
            at_ns += period_ns
        at_ns += int(draw.uniform(0.5, 10) * NS)


def remote_controls(draw: random.Random) -> Light:
    """Somebody changes the channel."""
    at_ns = int(draw.uniform(0, 5) * NS)
    while True:
        for _ in range(draw.choice((1, 1, 2, 5))):
            flash = None
            for flash in remote(draw, at_ns):
                yield flash.on_ns, flash.off_ns
            assert flash is not None
            at_ns = max(flash.off_ns + 20 * MS, at_ns + 108 * MS)
        at_ns += int(draw.uniform(0.3, 10) * NS)


RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
BUDGET = 40_000  # bytes of a scene


def bytes_of_nobody(draw: random.Random, what: Callable[[random.Random, int], bytes]) -> Light:
    """At any rate, in any framing, dense, in bursts or one by one."""
    baud = draw.choice(RATES) if draw.random() < 0.7 else round(300 * 768 ** draw.random())
    line = Line(baud, draw.choice((7, 8)), draw.choice((None, "E", "O")), draw.choice((1, 2)), draw.random() < 0.3)
    least, most, gap_s = draw.choice(((1, 1, 3.0), (1, 4, 1.0), (10, 100, 2.0), (100, 1500, 3.0), (5000, 5000, 0.001)))
    sender = Transmitter(line, jitter_ns=draw.choice((0, NS // baud // 8)), seed=draw.randrange(1000))

    def transitions() -> Iterator[tuple[int, int]]:
        if line.invert:
            yield 0, 1
        at_ns = int(draw.uniform(0, 3) * NS)
        left = BUDGET
        while left > 0:
            data = what(draw, draw.randint(least, most))
            left -= len(data)
            while data:
                yield from sender.send(data[:256], at_ns)
                data = data[256:]
                at_ns = sender.idle_ns
            at_ns += int(draw.expovariate(1 / gap_s) * NS) + 1

    return of_transitions(transitions())


def any_bytes(draw: random.Random) -> Light:
    return bytes_of_nobody(draw, lambda draw, n: draw.randbytes(n))


def few_bytes(draw: random.Random) -> Light:
    """Of a few values, as of a line that idles; none whose light is a single flash: that is a blinking LED's."""
    values = draw.randbytes(draw.randint(1, 4)) + draw.choice((b"", b"\x0f\xf0", b"\x7e", b"U"))
    values = bytes(value for value in values if value & ~value >> 1 & 0x7F) or b"U"
    return bytes_of_nobody(draw, lambda draw, n: bytes(draw.choices(values, k=n)))


TEXTS = (b"0123456789.()*kWh:-/!\r\n", b"/ABC5\r\n!()", bytes(range(0x20, 0x7F)) + b"\r\n", b"Hello, World!\r\n")


def texts(draw: random.Random) -> Light:
    """Printable characters of no meaning."""
    of = draw.choice(TEXTS)
    if draw.random() < 0.3:
        return bytes_of_nobody(draw, lambda draw, n: (of * (n // len(of) + 1))[:n])
    return bytes_of_nobody(draw, lambda draw, n: bytes(draw.choices(of, k=n)))


def darkness(draw: random.Random) -> Light:
    return iter(())


SIMPLE = {
    "dark": darkness,
    "sun": sun,
    "leaves": leaves,
    "lamp": lamp,
    "remote": remote_controls,
    "bytes": any_bytes,
    "few bytes": few_bytes,
    "texts": texts,
}
KINDS = ("dark", "sun", *["leaves"] * 3, *["lamp"] * 3, *["remote"] * 3, *["bytes"] * 5, "few bytes", *["texts"] * 2)
MIXTURES = ("leaves", "lamp", "remote", "bytes", "few bytes", "texts")


def scene(number: int) -> tuple[str, Light, dict[str, Any], float]:
    """(its name, what lights the head, options of the line, seconds)."""
    draw = random.Random(number * 7919 + 6)
    if draw.random() < 0.25:
        names = [draw.choice(MIXTURES), draw.choice(MIXTURES)]
    else:
        names = [draw.choice(KINDS)]
    light = merged(*[SIMPLE[name](random.Random(draw.randrange(1 << 30))) for name in names])
    options = {"invert": draw.random() < 0.3, "echo": draw.random() < 0.3, "seed": number}
    return " and ".join(names), light, options, draw.uniform(20, 60)


GROUP = 8


@pytest.mark.parametrize("first", range(0, SCENES, GROUP))
def test_nothing_readable_is_never_claimed(tmp_path: Path, first: int) -> None:
    """A search goes on, and nothing is published, whatever lights the head."""
    wrong = []
    for number in range(first, min(first + GROUP, SCENES)):
        name, light, options, seconds = scene(number)
        with Probe(tmp_path / str(number), LightOnly(light), {}, **options) as probe:
            claimed = probe.run_until(seconds, done=lambda probe=probe: state_of(probe)[0] != "searching")
            if claimed or readings(probe):
                wrong.append((number, name, probe.now_s, state_of(probe), readings(probe)))
    assert not wrong, wrong


# --- swaps -----------------------------------------------------------------------------------------------------------


SWAPS = (
    ("sml", "p1-1s"),
    ("p1-1s", "sml"),
    ("sml", "iec-C"),
    ("iec-C", "sml"),
    ("dlms-hdlc-8E1", "blink-2.5ms"),
    ("blink-2.5ms", "sml"),
    ("blink-2.5ms", "iec-C"),
    ("iec-D-2400", "dlms-vienna"),
    ("dlms-mbus-8E1", "iec-A"),
    ("sml", "dlms-gbt"),
    ("p1-10s", "dlms-hdlc-8N1"),
    ("iec-C", "blink-30ms"),
)


@pytest.mark.parametrize(("before", "after"), SWAPS, ids=["-to-".join(pair) for pair in SWAPS])
@pytest.mark.parametrize("turned", [False, True], ids=["as-before", "turned"])
def test_another_meter_is_read_within_two_minutes(tmp_path: Path, before: str, after: str, turned: bool) -> None:
    """Without a restart; the old one's entities are unavailable then, and nothing wrong was published in between."""
    if (before, after, turned) == ("blink-2.5ms", "iec-C", True):
        pytest.skip("light that stays on is a blinking meter's where nothing is consumed")
    draw = random.Random(f"{before} {after} {turned}")
    old, new = ROWS[before], ROWS[after]
    old_meter, new_meter = old.make(draw.randrange(1, 1000)), new.make(draw.randrange(1, 1000))
    settings = old.settings(old_meter) | new.settings(new_meter)
    with Probe(tmp_path, old_meter, settings, phase_s=draw.uniform(0, old.period_s or 1)) as probe:
        assert probe.run_until(old.limit_s, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
        probe.run_for(draw.uniform(15, 75))
        old_readings = readings(probe)
        check_readings(old, probe, old_readings)
        topic = old_readings[0].topic.rsplit("/", 1)[0]
        swapped_s = probe.now_s
        sent = len(probe.sent)
        probe.swap(new_meter, invert=turned)

        def is_new(message: Message) -> bool:
            return is_reading(message) and message.topic.rsplit("/", 1)[0] != topic

        found = probe.run_for(121, done=lambda: any(map(is_new, probe.published)))
        assert found, (state_of(probe), probe.now_s - swapped_s)
        probe.run_for(MORE_S)
        later = readings(probe, swapped_s + 0.001)
        check_readings(new, probe, [m for m in later if m.topic.rsplit("/", 1)[0] != topic], swapped_s)
        left = [m for m in later if m.topic.rsplit("/", 1)[0] == topic and is_reading(m)]
        if old.kind != "blink":
            ended = [s.expected for s in probe.sent[max(0, sent - 3) : sent + 1] if s.expected]
            assert all(said_by(old, m, ended) for m in left), left
        assert state_of(probe)[0] == new.protocol
        assert probe.retained.get(topic + "/status") == b"offline"
        new_topic = next(m for m in later if is_new(m)).topic.rsplit("/", 1)[0]
        assert probe.retained.get(new_topic + "/status", b"online") == b"online"


# --- restarts --------------------------------------------------------------------------------------------------------


STORED = [name for name, row in ROWS.items() if row.period_s and row.kind not in ("blink", "dlms, no key")]


@pytest.mark.parametrize("inverted", [False, True], ids=["upright", "inverted"])
@pytest.mark.parametrize("name", STORED)
def test_what_was_found_is_read_at_once_after_a_restart(tmp_path: Path, name: str, inverted: bool) -> None:
    """The first whole telegram that the meter sends is published, within 1.5 s, of which the hub has two times 0.5 s to
    subscribe to what is announced; without any check the second one."""
    row = ROWS[name]
    draw = random.Random(f"{name} {inverted}")
    meter = row.make(draw.randrange(1, 1000))
    with Probe(tmp_path, meter, row.settings(meter), invert=inverted, phase_s=draw.uniform(0, row.period_s)) as probe:
        assert probe.run_until(row.limit_s, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
        probe.run_for(draw.uniform(1, 12))
        check_readings(row, probe, readings(probe))
        probe.restart(power_cut=draw.random() < 0.5, off_s=draw.uniform(0.1, 3))
        since_s = probe.started_s
        assert probe.run_for(2 * row.period_s + 3, done=lambda: bool(readings(probe, since_s))), state_of(probe)
        again = readings(probe, since_s)
        whole = [sent for sent in probe.sent if sent.begin_s >= since_s]
        due = whole[: row.telegrams_to_read][-1]
        assert again[0].at_s <= due.end_s + 1.5, (again[0].at_s - since_s, due, state_of(probe))
        check_readings(row, probe, again)
        assert state_of(probe)[0] == row.protocol


@pytest.mark.parametrize("name", ["iec-A", "iec-B", "iec-C"])
def test_an_asked_meter_is_asked_at_once_after_a_restart(tmp_path: Path, name: str) -> None:
    """Within 12 s all the same, and for nothing but what it was found to be."""
    row = ROWS[name]
    meter = row.make(5)
    with Probe(tmp_path, meter, {}) as probe:
        assert probe.run_until(60, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
        probe.run_for(30)
        probe.restart(off_s=2)
        since_s = probe.started_s
        assert probe.run_for(60, done=lambda: bool(readings(probe, since_s))), state_of(probe)
        end_s = probe.sent[-1].end_s - 1
        asked_s = max(at_s for at_s, data in said(probe) if data.startswith(b"/?") and at_s < end_s)
        assert asked_s - since_s <= ASKED_S
        check_readings(row, probe, readings(probe))


@pytest.mark.parametrize("name", ["blink-2.5ms", "blink-30ms"])
def test_a_blinking_meter_is_counted_on_after_a_reset(tmp_path: Path, name: str) -> None:
    """Total and entities go on."""
    row = ROWS[name]
    with Probe(tmp_path, row.make(5), row.settings(None)) as probe:
        probe.run_until(40)
        before = Decimal(probe.of("/state")[-1].object()["energy_counted"])
        probe.restart(power_cut=False)
        probe.run_for(30)
        after = Decimal(probe.of("/state")[-1].object()["energy_counted"])
        assert 24 <= (after - before) * 1000 <= 33 and state_of(probe)[0] == "blink"


def test_the_line_of_a_named_blinking_meter_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flashes between two openings would go with the UART's buffer."""
    lines: list[Line] = []
    tune = OpticalMedium.tune

    def tuned(medium: Any, line: Line) -> None:
        lines.append(line)
        tune(medium, line)

    monkeypatch.setattr(OpticalMedium, "tune", tuned)
    row = ROWS["blink-2.5ms"]
    with Probe(tmp_path, row.make(5), row.settings(None) | {"protocol": "blink"}) as probe:
        probe.run_until(20)
        assert [line.baud for line in lines] == [1200]
        (counted, there) = pulses(probe, probe.of("/state")[-1], 0)
    assert there - 3 <= counted <= there


@pytest.mark.parametrize(("before", "after"), [("sml", "p1-1s"), ("iec-C", "sml"), ("p1-10s", "iec-C")])
def test_what_was_found_does_not_keep_another_meter_from_being_found(tmp_path: Path, before: str, after: str) -> None:
    """The meter was replaced while the probe was off."""
    meters = [ROWS[name].make(8) for name in (before, after)]
    with Probe(tmp_path, meters[0], {}) as probe:
        assert probe.run_until(60, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
    with Probe(tmp_path, meters[1]) as probe:
        assert probe.run_until(120, done=lambda: any(map(is_reading, probe.published))), state_of(probe)
        probe.run_for(MORE_S)
        check_readings(ROWS[after], probe, readings(probe))
        assert state_of(probe)[0] == ROWS[after].protocol


# --- captures of real meters -----------------------------------------------------------------------------------------


class Recorded(IecMeter):
    """A meter that answers with a recorded identification and data block."""

    def __init__(self, mode: str, ident: bytes, block: bytes, offered: str) -> None:
        super().__init__(mode, reaction_ms=300, **({"offered": offered} if mode in "BC" else {}))
        self._ident = ident
        self._block = block

    def identification(self) -> bytes:
        return self._ident

    def block(self, now_s: float) -> tuple[bytes, Any]:
        return self._block, [("", "", None)]


class Sealed:
    """A recorded general-glo-ciphered telegram, sealed anew each time with the next counter, as a meter does."""

    def __init__(self, capture: "Capture") -> None:
        data = capture.data
        at = data.index(b"\xdb\x08") + 10
        size = data[at] & 0x7F if data[at] & 0x80 else 0  # of the length's own length
        at += 1 + size
        self._before, body = data[:at], data[at:]
        self._title = self._before[-9 - size : -1 - size]
        self._security, self._counter = body[0], int.from_bytes(body[1:5], "big")
        self._keys = [bytes.fromhex(key or "00" * 16) for key in (capture.key, capture.auth_key)]
        sealed = body[5:-12] if self._security & AUTHENTICATED else body[5:]
        stream = self._protect(bytes(len(sealed)))[5:]
        self._plain = bytes(a ^ b for a, b in zip(sealed, stream[: len(sealed)], strict=True))
        assert self._protect(self._plain) == body
        self.period_s = len(data) / 240 + 1.5

    def _protect(self, plain: bytes) -> bytes:
        return protect(plain, self._security, self._keys[0], self._keys[1], self._title, self._counter)

    def telegram(self, now_s: float) -> bytes:
        self._counter += 1
        return self._before + self._protect(self._plain)

    def expected(self) -> None:
        return None


@dataclass
class Capture:
    """Bytes of a real meter as they stand on the line."""

    name: str
    protocol: str
    data: bytes
    line: Line
    key: str | None = None
    auth_key: str | None = None
    sealed: bool = False  # without any check but its own
    tells: bool = True  # is there anything to publish?
    ident: bytes = b""  # of a meter that is asked
    recorded: bytes = b""

    def source(self) -> Any:
        if self.sealed:
            return Sealed(self)
        if not self.ident:
            return CaptureSource(self.data, pause_s=1.5)
        offered = chr(self.ident[4])
        mode = "C" if offered.isdigit() else "B" if "A" <= offered <= "F" else "A"
        return Recorded(mode, self.ident, self.data, offered)

    def settings(self) -> dict[str, Any]:
        given = {"meter_key": self.key, "meter_auth_key": self.auth_key}
        return {name: key for name, key in given.items() if key}


def line_of(text: str) -> Line:
    match = re.match(r"(\d+)\S* (\d)([NEO])(\d)", text)
    assert match is not None, text
    return Line(int(match[1]), int(match[2]), None if match[3] == "N" else match[3], int(match[4]))


def captures() -> Iterator[Capture]:
    """Every one that carries a good telegram; of what was asked for, whole read-outs with their check."""
    for path in sorted((CORPUS / "sml").glob("*.bin")):
        about = json.loads(path.with_suffix(".expected.json").read_text())
        if about["good_telegrams"]:
            yield Capture(f"sml-{path.stem}", "sml", path.read_bytes(), line_of(about["line"]))
    for path in sorted((CORPUS / "iec62056_21").glob("*.bin")):
        about = json.loads(path.with_suffix(".expected.json").read_text())
        data = path.read_bytes()
        capture = Capture(f"iec-{path.stem}", "iec62056-21", data, line_of(about["line"]), recorded=data)
        good = [telegram for telegram in about["telegrams"] if telegram["accept"] is True]
        if about["line"].startswith("300"):
            good = [telegram for telegram in good if telegram["check_ok"] is True]
            good = [telegram for telegram in good if telegram["readings"][0]["address"] != "P.01"]  # by R5
            if good:
                at = good[0]["offset"]
                behind = data.index(b"\n", at) + 1
                capture.ident = bytes(byte & 0x7F for byte in data[at:behind])
                capture.data = data[behind : at + good[0]["length"]]
        if good:
            yield capture
    lines = [Line(2400, 8, "E"), Line(2400), Line(9600), Line(115200)]
    for n, path in enumerate(sorted((CORPUS / "dlms").glob("*.hex"))):
        about = json.loads(path.with_suffix(".expected.json").read_text())
        data = bytes_of_hex_text(path.read_bytes())
        if about["telegrams"]:
            capture = Capture(f"dlms-{path.stem}", "dlms", data, lines[n % 4], about["key"], about["auth_key"])
            capture.sealed = about["encrypted"] and about["framing"] in ("raw", "wrapper")
            capture.tells = any(telegram["readings"] or telegram["texts"] for telegram in about["telegrams"])
            yield capture


CAPTURES = list(captures())


@pytest.mark.skipif(not CORPUS.is_dir(), reason=NO_CORPUS)
@pytest.mark.parametrize("capture", CAPTURES, ids=[capture.name for capture in CAPTURES])
def test_a_real_meters_capture_is_found_and_read(tmp_path: Path, capture: Capture) -> None:
    """Played in a loop, with no setting but its key; every value as decode reads it."""
    with Probe(tmp_path, capture.source(), capture.settings(), line=capture.line) as probe:
        found = probe.run_until(60, done=lambda: any(map(is_reading, probe.published)))
        assert found is capture.tells, (state_of(probe), probe.diagnostics().get("rejected_by_reason"))
        probe.run_for(MORE_S)
        compare(capture, probe)
        protocol, told, seen, _ = state_of(probe)
        assert (protocol, told) == (capture.protocol, repr(capture.line)), seen


def compare(capture: Capture, probe: Probe) -> None:
    """Each value published is one that decode shows under the same name."""
    decoded: dict[str, set[str]] = {}
    data = capture.recorded or capture.data
    for event in optoprobe.decode(data, capture.protocol, key=capture.key, auth_key=capture.auth_key):
        if isinstance(event, optoprobe.Telegram):
            for register in event.readings:
                decoded.setdefault(register.name, set()).add(register.shown)
                decoded.setdefault(register.obis, set()).add(register.shown)  # where two have one name
    names: dict[str, str] = {}
    for message in probe.published:
        if message.topic.startswith("homeassistant/"):
            components = message.object()["cmps"].items()
            names |= {key: component["name"] for key, component in components if "name" in component}  # others are over
    n = 0
    for message in readings(probe):
        for key, text in message.object().items():
            if names[key] == "Power" and "Power" not in decoded:  # made of the power without a sign, and its direction
                text = text.removeprefix("-")
                decoded["Power"] = decoded["Power absolute"]
            if "_max_time" in key:  # made of the bracket beside the maximum
                digits = re.sub(r"\D", "", text)[2:].encode()
                assert digits in re.sub(rb"[-:, T]", b"", capture.data), (key, text)
                continue
            assert text in decoded.get(names[key], ()), (key, names[key], text, decoded.get(names[key]))
            n += 1
    assert bool(n) is capture.tells


@pytest.mark.parametrize("letters", ["ACE", "ITR"])
def test_an_itron_that_prints_nothing_is_asked_by_dlms(tmp_path: Path, letters: str) -> None:
    """Its identification does not offer mode E, as ACE6000 and SL7000 may not."""

    class Itron(AskedDlmsMeter):
        def _say(self, at_s: float, data: bytes, *more: Any, **others: Any) -> None:
            super()._say(at_s, data.replace(b"/OPT5\\2ASKED", b"/" + letters.encode() + b"5ASKED"), *more, **others)

    meter = Itron(sign_on=True)
    with Probe(tmp_path, meter, {}) as probe:
        assert probe.run_until(180, done=lambda: bool(probe.of("/state"))), (probe.log, probe.notice())
        assert probe.diagnostics()["protocol"] == "dlms-client"


def test_an_unknown_meter_that_prints_nothing_ends_in_the_capture(tmp_path: Path) -> None:
    class Mute(IecMeter):
        def _send_block(self, at_s: float, *, reaction: bool = True) -> None:
            self._fall_idle(at_s)

    with Probe(tmp_path, Mute("C", flag="XYZ"), {}) as probe:
        assert probe.run_until(180, done=lambda: "Capture" in probe.notice()), (probe.log, probe.notice())
