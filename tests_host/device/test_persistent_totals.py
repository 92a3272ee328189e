"""The totals of a blinking meter through power cuts and resets at any instruction, and through what its owner sets.

The device's own files on CPython; RTC memory, broker and time are stand-ins, and the tracer of the interpreter is the
one who pulls the plug: between any two opcodes from a pulse to its publication.
"""

import json
import os
import random
import sys
import time
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from support.announced import announced

from metering.energy_total import Total

STATE, STATUS, SET = b"optoprobe/cellar/meter/state", b"optoprobe/cellar/status", b"optoprobe/cellar/meter/reading/set"
FLASH = 0xFC  # of 2.5 ms at 1200 baud
WINDOWS_S = 5  # a flash waits up to so long until it is counted, 3 once the width is known
PUBLISH_S = 2
NO_LIMIT = 10**9
UNLEARNED = 2  # flashes wait for the third of their width, after a loss of power


class PowerCut(BaseException):
    """The end of a life."""


class Rtc:
    """RTC memory that a cut amid a write leaves torn."""

    memory_now = b""

    def memory(self, data: bytes | None = None) -> bytes | None:
        if data is None:
            return bytes(Rtc.memory_now)
        torn = bytearray(Rtc.memory_now.ljust(len(data), b"\0"))
        for at in range(0, len(data), 40):
            torn[at : at + 40] = data[at : at + 40]
            Rtc.memory_now = bytes(torn)
        return None


class Broker:
    """What is retained; `lived`: it has been there since our last session, and so has published our will."""

    def __init__(self) -> None:
        self.retained: dict[bytes, bytes] = {}
        self.lived = True

    def crash(self, retained: dict[bytes, bytes]) -> None:
        """It begins anew with what it had saved."""
        self.retained = dict(retained)
        self.lived = False


class Client:
    """As much of umqtt as reading back needs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.sock = SimpleNamespace(close=lambda: None)

    def set_callback(self, heard: Any) -> None:
        self._heard = heard

    def connect(self) -> None:
        pass

    def subscribe(self, topic: bytes) -> None:
        if topic in self._broker.retained:
            self._heard(topic, self._broker.retained[topic])

    def check_msg(self) -> None:
        pass


class Head:
    """Hands over one byte a flash."""

    overruns = 0

    def __init__(self) -> None:
        self.data = bytearray(321)
        self.arrived = bytearray()

    def open(self, line: Any) -> None:
        pass

    def light(self) -> bool:
        return False

    def read(self) -> int:
        n = min(len(self.arrived), 256)
        self.data[:n] = self.arrived[:n]
        del self.arrived[:n]
        return n


class Probe:
    """One life of the device's software in front of `broker`."""

    def __init__(self, device: Any, broker: Broker, pulses_per_kwh: int = 1000) -> None:
        self.broker = broker
        self.published: list[tuple[bytes, dict[str, str]]] = []
        self.health = SimpleNamespace(uptime_s=0, reader_progressed=lambda: None)
        self.mailbox = device.outbox.Mailbox()
        self.network = SimpleNamespace(mailbox=self.mailbox, connects=0, failures=0)
        self.outbox = device.outbox.Outbox()
        announcer = device.announcer.Announcer("optoprobe", "cellar", "Optoprobe", "homeassistant")
        self.head = Head()
        settings = {"pulses_per_kwh": pulses_per_kwh, "max_power_kw": 200}
        time.ticks_ms = lambda: 0  # type: ignore[attr-defined]
        services = SimpleNamespace(
            driver=self.head,
            health=self.health,
            outbox=self.outbox,
            announcer=announcer,
            network=self.network,
            on_published=lambda: None,
        )
        self.meter = device.pulse_meter.PulseMeter(settings, services)
        self.connected = False
        self.now_ms = 0
        self.flashed = 0  # by run()

    def connect(self) -> None:
        """A session: the broker tells our last will, is asked what it has kept, and hears that we are there.

        While the network's thread waits the loop goes on.
        """
        if STATUS in self.broker.retained and self.broker.lived:
            self.broker.retained[STATUS] = b"offline"
        if self.mailbox.before_session:
            time.sleep_ms = lambda ms: self.look(ms)  # type: ignore[attr-defined]  # a test may replace it
            self.mailbox.before_session(Client(self.broker))
            self.mailbox.before_session = None
        self.network.connects += 1
        self.broker.lived = True
        self.broker.retained[STATUS] = b"online"
        self.outbox.resend_retained()
        self.connected = True

    def send(self) -> None:
        """Whatever waits in the outbox reaches the broker."""
        while message := self.outbox.pop_unsent():
            topic, payload, retain = message
            if retain:
                self.broker.retained[topic] = bytes(payload)
                self.published.append((topic, json.loads(bytes(payload))))

    def look(self, ms: int, flashes: int = 0) -> None:
        self.now_ms += ms
        self.health.uptime_s = self.now_ms // 1000
        self.head.arrived += bytes([FLASH]) * flashes
        ticks_ms = self.now_ms & 0x3FFFFFFF
        time.ticks_ms = lambda: ticks_ms  # type: ignore[attr-defined]
        self.meter.look(ticks_ms)

    def run(self, seconds: float, per_s: float = 0, look_ms: int = 250) -> "Probe":
        """Pulses at an even pace, everything published at once."""
        due = 0.0
        for _ in range(int(seconds * 1000 / look_ms)):
            due += per_s * look_ms / 1000
            self.look(look_ms, int(due))
            self.flashed += int(due)
            due -= int(due)
            if self.connected:
                self.send()
        return self

    def set(self, text: str) -> None:
        self.mailbox.put_command(SET, text.encode(), False, self.health.uptime_s + 10_000, self.network.connects)
        self.look(10)
        if self.connected:
            self.send()

    def shown(self) -> dict[str, str]:
        return json.loads(self.broker.retained.get(STATE, b"{}"))


@pytest.fixture
def world(device: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`world.broker`, and `world.probe()`, a new life."""
    monkeypatch.chdir(tmp_path)
    for name in ("sleep_ms", "ticks_ms"):
        monkeypatch.setattr(time, name, None, raising=False)
    monkeypatch.setattr(device.rtc_record.machine, "RTC", Rtc)
    Rtc.memory_now = b""
    broker = Broker()

    def probe(pulses_per_kwh: int = 1000) -> Probe:
        return Probe(device, broker, pulses_per_kwh)

    return SimpleNamespace(broker=broker, probe=probe, device=device)


def lose_power() -> None:
    Rtc.memory_now = random.Random(1).randbytes(646)


# --- what the owner sets ---------------------------------------------------------------------------------------------


def test_the_first_total_is_counted_from_nothing_and_the_reading_is_the_owners(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.run(10, 10)
    assert list(probe.shown()) == ["energy_counted"]
    assert probe.shown()["energy_counted"] == "0.070"  # the last two seconds wait
    probe.run(5)
    probe.set("14798.1")
    assert probe.shown() == {"energy_counted": "0.100", "energy_import": "14798.100"}
    probe.run(10, 10).run(5)
    assert probe.shown() == {"energy_counted": "0.200", "energy_import": "14798.200"}
    assert probe.meter.notice() == ""


def test_a_display_with_fewer_digits_agrees_and_changes_nothing(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.run(7.5, 10).run(5)
    assert probe.shown()["energy_import"] == "14798.175"
    probe.set("14798.1")
    assert probe.shown()["energy_import"] == "14798.175" and probe.meter.notice() == ""
    probe.set("14798")
    assert probe.shown()["energy_import"] == "14798.175" and probe.meter.notice() == ""


def test_a_little_less_stands_until_it_is_passed(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.run(10, 20).run(5)
    assert probe.shown()["energy_import"] == "14798.300"
    probe.set("14798.25")
    assert probe.shown() == {"energy_counted": "0.200"}  # the hub keeps what it has
    notice = probe.meter.notice()
    assert "up to 0.1 kWh" in notice
    for _ in range(4):
        probe.run(1, 10)
        assert probe.meter.notice() == notice  # it tells no pulses
    probe.run(5)
    assert "energy_import" not in probe.shown()
    probe.run(2, 10).run(5)
    assert probe.shown()["energy_import"] == "14798.310" and probe.meter.notice() == ""


@pytest.mark.parametrize("display", ["14700.5", "14900.5"])
def test_a_reading_far_away_is_set_twice(world: Any, display: str) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.set(display)
    assert probe.shown()["energy_import"] == "14798.100"
    assert "set it again" in probe.meter.notice() and ("new entity" in probe.meter.notice()) is (display < "14798")
    probe.set(display)  # at once: something repeats itself
    assert probe.shown()["energy_import"] == "14798.100"
    probe.run(5)
    probe.network.connects += 1  # what comes again with a new session confirms nothing
    probe.set(display)
    assert probe.shown()["energy_import"] == "14798.100"
    probe.run(5)
    probe.set(display)
    key = "energy_import_s2" if display < "14798" else "energy_import"
    assert probe.shown() == {"energy_counted": "0.000", key: display + "00"} and probe.meter.notice() == ""
    payload = announced(world.device, probe.meter._announcer, probe.outbox.meter())
    assert set(payload["cmps"]) >= {key, "energy_counted", "set_reading"}
    assert key in payload["cmps"]["set_reading"]["val_tpl"]
    world.probe().run(2)
    assert probe.shown()[key] == display + "00"


@pytest.mark.parametrize("text", ["", "abc", "-5", "1e5", "14798,1", "nan", "1" * 300, "14.5.2", "14798.12345678"])
def test_what_is_no_reading_changes_nothing_and_is_not_repeated(world: Any, text: str) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.set(text)
    assert probe.shown()["energy_import"] == "14798.100"
    assert "such as 14798.1" in probe.meter.notice() and (len(text) < 3 or text not in probe.meter.notice())


def test_another_constant_keeps_history(world: Any) -> None:
    probe = world.probe(1000)
    probe.connect()
    probe.set("100")
    probe.run(10, 10).run(5)
    assert probe.shown() == {"energy_counted": "0.100", "energy_import": "100.100"}
    after = world.probe(640)
    after.connect()
    after.run(8, 4).run(5)
    assert after.shown() == {"energy_counted": "0.1500000", "energy_import": "100.1500000"}
    last = world.probe(100)  # fewer decimals of its own: what was shown stays the least
    last.connect()
    last.run(5, 2, 100).run(5)
    assert last.shown() == {"energy_counted": "0.2500000", "energy_import": "100.2500000"}


# --- after the end of a life -----------------------------------------------------------------------------------------


def test_a_reset_goes_on_from_rtc_memory_without_asking(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.run(10, 10).run(3)
    os.remove("energy.json")
    world.broker.retained.clear()
    after = world.probe()
    assert after.mailbox.before_session is None
    after.connect()
    after.run(3)
    assert after.shown() == {"energy_counted": "0.100", "energy_import": "14798.200"}


def test_a_loss_of_power_goes_on_from_the_broker_where_it_was_there(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.run(15_000, 0.2, 1000).run(5)
    shown = probe.shown()
    assert shown == {"energy_counted": "3.000", "energy_import": "14801.100"}
    lose_power()
    after = world.probe()
    after.run(5)
    assert after.outbox.pop_unsent()[0].endswith(b"/live")
    assert after.outbox.pop_unsent() is None  # nothing of it is told before
    after.connect()
    after.run(5)
    assert after.shown() == shown and after.meter.notice() == ""


@pytest.mark.parametrize("broker", ["lost", "stale", "foreign", "odd"])
def test_a_loss_of_power_of_both_never_goes_back(world: Any, broker: str) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("14798.1")
    probe.run(1000, 1).run(5)
    saved = {
        "lost": {},
        "stale": dict(world.broker.retained),
        "foreign": {STATE: b'{"energy_counted": "9000.0", "energy_import": "20000.0"}', STATUS: b"offline"},
        "odd": {STATE: b'[{"energy_counted": 7}]', STATUS: b"offline"},
    }[broker]
    probe.run(100, 1).run(5)
    last = {key: Fraction(value) for key, value in probe.shown().items()}
    lose_power()
    world.broker.crash(saved)
    after = world.probe()
    after.connect()
    after.run(60)
    assert "stands" in after.meter.notice() and not after.published
    after.run(3000, 1)
    values = [{key: Fraction(value) for key, value in state.items()} for _, state in after.published]
    assert values and all(value[key] >= last[key] for value in values for key in value)
    assert after.meter.notice() == ""


@pytest.mark.parametrize("state", [b"[" * 4000, b" " * 4000, b"[" * 256, b'{"energy_counted": [1]}', b"\xff", b"{}"])
def test_an_odd_retained_state_is_none(world: Any, state: bytes) -> None:
    world.broker.retained[STATE] = state
    probe = world.probe()
    probe.connect()
    probe.run(10, 10).run(5)
    assert probe.shown() == {"energy_counted": "0.100"}


@pytest.mark.parametrize("method", ["stands", "pulses_to"])
def test_a_shortage_amid_reading_back_changes_nothing(world: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("100")
    probe.run(1000, 1).run(5)
    last = Fraction(probe.shown()["energy_counted"])
    lose_power()
    right = getattr(Total, method)
    shortages = [1, 1]

    def short(*args: Any) -> Any:
        if shortages:
            shortages.pop()
            raise MemoryError
        return right(*args)

    monkeypatch.setattr(Total, method, short)
    after = world.probe()
    looked = after.look

    def look(ms: int, flashes: int = 0) -> None:
        try:
            looked(ms, flashes)
        except MemoryError:
            return

    monkeypatch.setattr(after, "look", look)
    after.connect()
    after.run(1000, 1).run(5)
    assert not shortages and after.published
    assert all(Fraction(state["energy_counted"]) >= last for _, state in after.published)


def test_a_chip_erased_goes_on_from_the_broker(world: Any) -> None:
    probe = world.probe()
    probe.connect()
    probe.set("147.1")
    probe.run(5)
    probe.set("14.7")
    probe.run(5)
    probe.set("14.7")
    probe.run(10, 10).run(5)
    shown = probe.shown()
    assert shown == {"energy_counted": "0.100", "energy_import_s2": "14.800"}
    lose_power()
    os.remove("energy.json")
    after = world.probe()
    after.run(10, 10).run(5)
    after.connect()
    after.run(5)
    assert after.shown() == {"energy_counted": "0.200", "energy_import_s2": "14.900"}


NO_RECORDS = [
    b"",
    b"[]",
    b"5",
    b"{}",
    b"[1000]",
    b"[0,0,0,0,0,0,0,0,0,0,[0,0,0,0],null]",
    b"[1000,0,77,0,0,0,0,-1,0,0,[0,1,0,0],null]",
    b"[1000,0,0,0,0,0,0,-1,0,0,[0,1,9,0],null]",
    b"[1000,0,0,0,0,0,0,-1,0,0,[0,true,3,0],null]",
    b"\xff",
    b"[" * 500,
]


@pytest.mark.parametrize("content", NO_RECORDS)
def test_what_is_no_record_is_none(world: Any, content: bytes) -> None:
    with open("energy.json", "wb") as file:
        file.write(content)
    probe = world.probe()
    probe.connect()
    probe.run(10, 10).run(5)
    assert probe.shown() == {"energy_counted": "0.100"}


def test_flash_that_cannot_be_written_is_named_and_counting_goes_on(world: Any) -> None:
    os.mkdir("energy.json.new")
    probe = world.probe()
    probe.connect()
    probe.run(100, 10).run(5)
    assert probe.shown() == {}  # what flash does not hold is not published
    assert "flash" in probe.meter.notice() and probe.meter._kept.writes < 15
    os.rmdir("energy.json.new")
    probe.run(200, 10).run(5)
    assert probe.shown() == {"energy_counted": "3.000"} and probe.meter.notice() == ""


WRITES_A_DAY = 60  # the README's; littlefs spreads them over its 4 KiB blocks, each good for 100,000


@pytest.mark.parametrize(("load", "constant"), [("household", 1000), ("worst", 10_000)])
def test_flash_is_written_rarely(world: Any, constant: int, load: str) -> None:
    """The worst: the lowest grant, and then as much as there can be, again and again."""
    draw = random.Random(constant)
    probe = world.probe(constant)
    probe.connect()
    most_per_s = min(44, 70 * constant / 3600)
    for minute in range(24 * 60):
        if load == "worst":
            per_s = most_per_s if minute % 130 >= 65 else 0.02
        else:
            per_s = draw.choice((0.08, 0.15, 0.3, 0.3, 0.6, 1.2, 3.0, 9.0)) * constant / 3600
        probe.run(60, per_s, 1000)
    print(f"{load}, {constant} pulses a kWh: {probe.meter._kept.writes} writes to flash a day")
    assert 24 <= probe.meter._kept.writes <= WRITES_A_DAY


def test_an_hour_without_a_broker_loses_no_pulse(world: Any) -> None:
    probe = world.probe(10_000)
    probe.connect()
    probe.run(5, 44, 10)
    probe.connected = False
    probe.run(3600, 44, 250)
    probe.connected = True
    probe.run(5, 0, 10)
    assert probe.shown()["energy_counted"] == f"{probe.flashed / 10_000:.4f}"
    assert probe.flashed > 44 * 3600


# --- cuts at any instruction -----------------------------------------------------------------------------------------

CUTS = int(os.environ.get("OPTOPROBE_CUTS", "150"))
TRACED = ("pulse_meter.py", "kept_energy.py", "rtc_record.py", "store.py", "outbox.py", "test_persistent_totals.py")
KINDS = ["reset"] * 10 + ["power"] * 7 + ["power and broker"] * 2 + ["power and stale broker"] * 1


def cut_after(opcodes: int) -> None:
    """Pull the plug when so many more opcodes of the device's files have run, looks that find nothing left out."""
    left = opcodes

    def each(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise PowerCut
        return each

    def begin(frame: Any, event: str, _: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.endswith(TRACED) or code.co_name in ("look", "light", "read", "run", "send"):
            return None
        frame.f_trace_opcodes = True
        return each

    sys.settrace(begin)


def test_cuts_at_any_instruction(world: Any) -> None:
    """The total never goes back, never jumps, and each end loses at most what the README says."""
    draw = random.Random(int(os.environ.get("OPTOPROBE_SEED", "7")))
    constant = 10_000
    emitted = 0  # by the LED, ever
    missed = 0  # of them, by the time of the life that is now
    limit = 0  # of what the end before this life may have cost
    down = 0  # flashes while nobody looked
    highest = {"energy_counted": Fraction(-1), "energy_import": Fraction(-1)}
    ends = dict.fromkeys(KINDS, 0)
    worst = dict.fromkeys(KINDS, 0)  # flashes lost at an end beyond those of the time without power
    kind = ""
    saved: dict[bytes, bytes] = {}  # by the broker, while we were connected or just before

    def judge_start(probe: Probe) -> None:
        nonlocal missed, kind
        counted = probe.meter._kept.counted.count - probe.meter._taken
        lost = emitted_before - down - counted - missed
        assert 0 <= lost <= limit, (cut, kind)
        worst[kind] = max(worst[kind], lost if limit < NO_LIMIT else 0)
        missed = emitted_before - counted
        kind = ""

    for cut in range(CUTS + 1):
        log = [(0, emitted)]  # (ms, emitted) of this life
        emitted_before = emitted
        sent_ms = None  # when a state was published last
        per_s = draw.choice((0.05, 0.3, 1, 5, 44))
        look_ms = 1000 if draw.random() < 0.03 else 100
        until_ms = 1000 * draw.randint(3600, 9000) if look_ms == 1000 else draw.choice((500, 3000, 15_000, 60_000))
        online_ms = draw.choice((300, 2000, 5000, 10**9 if cut and draw.random() < 0.2 else 3000))
        due = 0.0
        armed = False
        probe = None
        try:
            probe = world.probe(constant)
            granted = probe.meter._kept._allowance.granted
            if kind and probe.meter._kept.settled:
                judge_start(probe)
            while cut < CUTS:
                due += per_s * look_ms / 1000
                flashes = int(due)
                due -= flashes
                emitted += flashes
                if probe.now_ms >= until_ms and not armed:
                    armed = True
                    cut_after(draw.choice((20, 200, 2000, 10_000)) * draw.randint(1, 10) // 10)
                log.append((probe.now_ms + look_ms, emitted))
                probe.look(look_ms, flashes)
                granted = max(granted, probe.meter._kept._allowance.granted)
                if probe.now_ms >= online_ms and not probe.connected:
                    if world.broker.lived and draw.random() < 0.2:
                        saved = dict(world.broker.retained) | {STATUS: b"offline"}
                    probe.connect()
                    if kind:
                        judge_start(probe)
                    if cut == 0:
                        probe.set("14798.1")
                if probe.connected and draw.random() < 0.5:
                    states = len(probe.published)
                    probe.send()
                    sent_ms = probe.now_ms if len(probe.published) > states else sent_ms
                    if draw.random() < 0.05:
                        saved = dict(world.broker.retained)
        except PowerCut:
            pass
        finally:
            sys.settrace(None)
        if probe is None:  # cut before it was there
            continue
        for _, state in probe.published:
            for key, text in state.items():
                value = Fraction(text)
                assert value >= highest[key], (cut, key, text)
                highest[key] = value
                most = Fraction(emitted, constant) + (Fraction("14798.1") if key == "energy_import" else 0)
                assert value <= most, (cut, key, text)
        if cut == CUTS:
            break
        settled = not kind  # else the end before is still open: what this one costs is added
        kind = draw.choice(KINDS)
        ends[kind] += 1
        if kind != "reset":
            Rtc.memory_now = draw.randbytes(646)
        if kind == "power and broker":
            saved = {}
            world.broker.crash(saved)
        elif kind == "power and stale broker":
            world.broker.crash(saved)
        down = int(draw.choice((0.2, 2, 30)) * per_s)

        def since(ms: int, log: Any = log) -> int:
            return log[-1][1] - max(flashes for at, flashes in log if at <= max(ms, 0))

        uncounted = since(probe.now_ms - 1000 * WINDOWS_S - 3 * look_ms) + UNLEARNED
        if not settled:
            limit = NO_LIMIT
        elif kind == "reset":
            limit = uncounted
        elif kind == "power" and sent_ms is not None:
            limit = since(sent_ms - 1000 * (WINDOWS_S + PUBLISH_S) - 3 * look_ms) + UNLEARNED
        else:
            limit = uncounted + max(granted, probe.meter._kept._allowance.unsaved)
        emitted += down
    assert all(ends.values()) or CUTS < 100
    assert highest["energy_counted"] > 0
    print(f"{ends}; flashes lost at the worst end of each kind: {worst}; {missed} of {emitted} missed in all")


# --- the parts, each by itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "unsaved", "uptime_s", "due", "covers"),
    [
        (100, 0, 10, False, True),
        (100, 0, 99_999, False, True),  # nothing to save
        (100, 99, 3_599, False, True),
        (100, 99, 3_600, True, True),  # an hour
        (100, 100, 10, False, True),
        (100, 101, 10, True, False),  # more than is granted
        (0, 1, 0, True, False),
        (0, 0, 0, False, True),
    ],
)
def test_the_allowance(device: Any, granted: int, unsaved: int, uptime_s: int, due: bool, covers: bool) -> None:
    allowance = device.persistent_totals.WriteAllowance()
    allowance.restore(granted, unsaved)
    assert bool(allowance.is_write_due(uptime_s)) == due and allowance.covers_all == covers


def test_the_allowance_of_a_write(device: Any) -> None:
    """Twice what has come since the last one, a tenth of a kWh at the least; a write that fails is tried at twice."""
    allowance = device.persistent_totals.WriteAllowance()
    allowance.restore(100, 300)
    assert allowance.begin_write(1_000, 50) == 600 and allowance.begin_write(10_000, 50) == 1_000
    allowance.fail_write()
    assert allowance.failed_writes == 1 and not allowance.is_write_due(51) and not allowance.covers_all
    allowance.unsaved = 601
    assert allowance.is_write_due(51)
    allowance.end_write(1_202)
    assert (allowance.granted, allowance.unsaved, allowance.failed_writes) == (1_202, 0, 0)
    allowance.close()
    assert not allowance.covers_all and allowance.is_write_due(52)


@pytest.mark.parametrize(
    ("unknown", "published", "missing"),
    [
        (50, None, None),
        (50, (12, 1), 0),  # 1.2 kWh: what was counted itself
        (50, (1249, 3), 49),
        (50, (125, 2), 50),
        (50, (1251, 3), None),  # more than we can have said
        (0, (1201, 3), None),
        (50, (11, 1), -100),
    ],
)
def test_what_the_broker_shows(device: Any, unknown: int, published: Any, missing: int | None) -> None:
    history = device.persistent_totals.BrokerHistory()
    history.restore(unknown, 0, 0, 0)
    assert history.missing(Total(1_000, 0, 1_200, 3), published) == missing


def test_pulses_since_the_start_of_a_doubt(device: Any) -> None:
    history = device.persistent_totals.BrokerHistory()
    history.restore(0, -1, 0, 0)
    assert history.is_settled
    history.count(5)
    assert (history.unknown, history.since_start) == (0, -1)
    history.lose_power(20)
    history.count(5)
    assert (history.unknown, history.since_start, history.is_settled) == (15, 5, False)
    history.change(1_000, 3_333)
    assert (history.unknown, history.since_start) == (50, 17)  # rounded up
    history.settle()
    assert (history.unknown, history.is_settled) == (0, True)


@pytest.mark.parametrize(
    ("typed", "again_s", "session", "set_to"),
    [
        (b"1200.0", None, 1, None),  # what it shows
        (b"1203.5", None, 1, (12035, 1)),
        (b"1195", None, 1, (1195, 0)),
        (b"1300", None, 1, None),  # far away: once is not enough
        (b"1300", 1, 1, None),  # a double press
        (b"1300", 2, 1, (1300, 0)),
        (b"1300", 600, 1, (1300, 0)),
        (b"1300", 601, 1, None),  # too late
        (b"1300", 30, 2, None),  # it came again by itself, with another session
        (b"x", None, 1, None),
    ],
)
def test_a_typed_reading(device: Any, typed: bytes, again_s: int | None, session: int, set_to: Any) -> None:
    dialogue = device.persistent_totals.ReadingDialogue()
    reading = Total(1_000)
    reading.go_on(12_000, 1, 0)
    judged = dialogue.judge(typed, reading, 1_000, 0, 100, 1)
    if again_s is not None:
        assert judged is None and "set it again" in dialogue.explanation(100)
        judged = dialogue.judge(typed, reading, 1_000, 0, 100 + again_s, session)
    assert judged == (set_to and (reading, *set_to))
    assert (dialogue.explanation(101 + (again_s or 0)) == "") == (judged is not None or typed == b"1200.0")


@pytest.mark.parametrize(("series", "is_new"), [(0, True), (99, False)])
def test_a_reading_far_below_begins_anew(device: Any, series: int, is_new: bool) -> None:
    dialogue = device.persistent_totals.ReadingDialogue()
    reading = Total(1_000)
    reading.go_on(12_000, 1, 0)
    assert dialogue.judge(b"3", reading, 1_000, series, 100, 1) is None
    judged = dialogue.judge(b"3", reading, 1_000, series, 110, 1)
    assert (judged is not None and judged[0] is not reading) == is_new
    assert is_new or "no more than 99 readings" in dialogue.explanation(111)
