"""Alignment mode and captures on the device, in virtual time in front of the bit-accurate line.

Readings go on all the while; a capture holds what was on the line and no secret; both end by themselves.
"""

import builtins
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.virtual_time import Probe

import optoprobe
from optoprobe import capture_file
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import SmlMeter

ALIGNMENT, CAPTURE = "optoprobe/cellar/alignment", "optoprobe/cellar/capture"
SECRETS = {"wifi_password": "wifi secret", "mqtt_password": "mqtt secret", "meter_password": "9173"}
KEY = "0123456789abcdef0123456789abcdef"

METERS = {
    "sml": lambda: SmlMeter(1),
    "pushed": lambda: IecMeter("D", period_s=2),
    "asked": lambda: IecMeter("C"),
    "dlms": lambda: DlmsMeter("hdlc"),
}


def probe_of(folder: Path, meter: Any, **line: Any) -> Probe:
    settings: dict[str, Any] = {"protocol": "auto", "meter_key": KEY, **SECRETS}
    return Probe(folder, meter, settings, **line)


def found(probe: Probe) -> None:
    assert probe.run_until(60, done=lambda: probe.of("/state")), probe.diagnostics()
    probe.run_for(10)


@pytest.mark.parametrize("name", METERS)
def test_the_score_of_a_well_placed_head(tmp_path: Path, name: str) -> None:
    with probe_of(tmp_path, METERS[name]()) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        began_s = probe.now_s
        probe.run_for(45)
        before = [message for message in probe.of("/alignment") if message.at_s <= began_s]
        assert [(message.object()["mode"], message.retain) for message in before] == [("OFF", True)]  # late hubs
        scores = [message.object() for message in probe.of("/alignment", began_s)]
        assert 42 <= len(scores) <= 46  # one a second
        assert all(score["mode"] == "ON" for score in scores)
        assert scores[-1]["score"] >= 90 and scores[-1]["best"] >= scores[-1]["score"], scores[-5:]
        assert scores[-1]["words"] == "well placed"
        assert [message for message in probe.of("/live") if message.at_s > began_s + 20]  # it is read all the while
        probe.say(ALIGNMENT + "/set", "OFF")
        probe.run_for(3)
        n = len(probe.of("/alignment"))
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        probe.run_for(5)
        assert len(probe.of("/alignment")) == n


def test_a_head_that_loses_bytes_is_told_so(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1), noise=Noise(dropout_hz=3)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        began_s = probe.now_s
        probe.run_for(60)
        scores = [message.object() for message in probe.of("/alignment", began_s + 15)]
        said = Counter(score["words"].split(":")[0] for score in scores)
        assert said["some bytes are lost or damaged"] > len(scores) // 2, said
        assert 40 < sum(score["score"] for score in scores) // len(scores) < 70, scores  # some telegrams hold


@pytest.mark.parametrize(("name", "baud", "period_s"), [("sml", 9600, 1), ("pushed", 2400, 2), ("dlms", 2400, 10)])
def test_every_fourth_telegram_goes_to_the_edges(tmp_path: Path, name: str, baud: int, period_s: int) -> None:
    """Whenever it comes: light that is a third of a bit too long costs some points, which no telegram shows."""
    with probe_of(tmp_path, METERS[name](), noise=Noise(stretch_ns=1_000_000_000 // (3 * baud))) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(10 * period_s)
        before = probe.diagnostics()["telegrams"]
        probe.run_for(240)  # diagnostics come once a minute
        assert 0.70 < (probe.diagnostics()["telegrams"] - before) * period_s / 240 < 0.80
        scores = [message.object()["score"] for message in probe.of("/alignment")[-10:]]
        assert 88 <= min(scores) and max(scores) <= 96, scores


def test_light_that_holds_the_line_is_named(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(10)
        at_ns = probe.line.now_ns
        probe.line.channel.hold("ambient", at_ns, at_ns + 60 * 10**9)
        probe.run_for(20)
        last = probe.of("/alignment")[-1].object()
        assert (last["score"], last["words"]) == (0, "too much ambient light: shade the head")


def test_alignment_mode_ends_by_itself(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(605)
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert len(probe.of("/live")) >= n + 9


@pytest.mark.parametrize("name", METERS)
def test_a_capture_replays_and_holds_no_secret(tmp_path: Path, name: str) -> None:
    with probe_of(tmp_path, METERS[name]()) as probe:
        found(probe)
        n = len(probe.of("/live"))
        probe.say(CAPTURE + "/set", "25")
        assert probe.run_for(30, done=lambda: probe.of("/capture"))
        (message,) = probe.of("/capture")
        assert not message.retain and len(message.payload) < 65536
        for secret in (*SECRETS.values(), KEY, KEY.upper()):
            assert secret.encode() not in message.payload
        parts = capture_file.parse(message.payload).parts()
        events = [event for part in parts for event in optoprobe.decode(part.data, pauses=part.pauses)]
        assert any(isinstance(event, optoprobe.Telegram) for event in events)
        if name != "dlms":  # it pushes every 10 s only
            assert (b"\nedges " in message.payload) == (name != "asked")
        probe.run_for(12)
        assert len(probe.of("/live")) > n  # it has been read, and is
        assert probe.diagnostics()["protocol"] != "searching"


def test_a_full_flash_ends_a_capture_and_nothing_else(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)

        class Full:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def write(self, text: str) -> int:
                if probe.now_s > began_s + 4:
                    raise OSError(28)
                return len(text)

        Path("capture.txt").write_text("what has filled it")
        began_s = probe.now_s
        really = builtins.open

        def opened(name: str, *more: Any) -> Any:
            return Full() if name == "capture.txt" and more == ("w",) else really(name, *more)

        probe.modules.load("firmware.owner.capture_task").open = opened
        probe.say(CAPTURE + "/set", "20")
        probe.run_for(30)
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert len(probe.of("/live")) >= n + 9 and not probe.of("/capture")
        assert any("capture cannot be written" in line for line in probe.log)
        assert not Path("capture.txt").exists()  # the totals and the settings have room again


@pytest.mark.parametrize("topic", [ALIGNMENT, CAPTURE])
def test_a_shortage_of_memory_does_not_leave_the_meter_unheard(tmp_path: Path, topic: str) -> None:
    """Where the edges have been measured, and the meter's line cannot be opened again at once."""
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        found(probe)
        head = probe.app.services.driver._head
        really, shortages = head.open, [MemoryError]

        def opened(line: Any) -> None:
            if line.baud == 9600 and head.line.baud == 28800 and shortages:
                raise shortages.pop()
            really(line)

        head.open = opened
        probe.say(topic + "/set", "8")
        probe.run_for(30)
        probe.say(ALIGNMENT + "/set", "OFF")
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert not shortages and len(probe.of("/live")) >= n + 9


def test_a_capture_of_the_unknown(tmp_path: Path) -> None:
    """The search is recorded, too: what it has looked at, and with which settings."""
    with probe_of(tmp_path, bytes(range(7, 250, 3)) * 3) as probe:
        probe.run_until(5)
        assert probe.diagnostics()["protocol"] == "searching"
        probe.say(CAPTURE + "/set", "PRESS")
        assert probe.run_for(40, done=lambda: probe.of("/capture"))
        capture = capture_file.parse(probe.of("/capture")[0].payload)
        assert {segment.is_edges for segment in capture.segments} == {False, True}
        assert any(chunk for segment in capture.segments for _, chunk in segment.chunks)


def test_one_at_a_time(tmp_path: Path) -> None:
    """A capture ends alignment mode; what is asked for again goes on."""
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(5)
        probe.say(CAPTURE + "/set", "5")
        probe.run_for(3)
        probe.say(CAPTURE + "/set", "5")
        probe.run_for(12)
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        assert len(probe.of("/capture")) == 1
        n = len(probe.of("/live"))
        probe.run_for(5)
        assert len(probe.of("/live")) >= n + 4


# --- the table of states ---------------------------------------------------------------------------------------------


class Tool:
    """Runs until the test ends it."""

    def __init__(self, name: str, payload: bytes) -> None:
        self.NAME = name
        self.payload = payload
        self.stopped = self.done = False

    async def run(self) -> None: ...


@pytest.fixture
def desk(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`desk.say(text)` leaves a command, "alignment ON"; `desk.step()` looks once; `desk.tools` have been started."""
    desk = SimpleNamespace(tools=[], told=[], battery=False, free=50_000, retained=[], waiting=[], now_s=0)
    desk.is_short = False
    module = device.owner_commands

    def create_task(coroutine: Any) -> None:
        coroutine.close()

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(create_task=create_task))
    monkeypatch.setattr(module, "_room", lambda: desk.free)
    mailbox = SimpleNamespace(
        large_message=None, pop_command=lambda *names: desk.waiting.pop(0) if desk.waiting else None
    )
    desk.health = SimpleNamespace(uptime_s=0)
    desk.outbox = device.outbox.Outbox()
    desk.services = SimpleNamespace(
        network=SimpleNamespace(mailbox=mailbox),
        health=desk.health,
        outbox=desk.outbox,
        announcer=SimpleNamespace(topic=lambda name: b"it/" + name.encode()),
        rested_s=0,
    )
    meter = SimpleNamespace(spares_battery=lambda: desk.battery)
    desk.commands = module.OwnerCommands(desk.services, meter, None, "mine", desk.told.append)

    def load(name: str, payload: bytes) -> Tool:
        if desk.is_short:
            raise MemoryError
        return Tool(name, payload)

    def start(name: str, payload: bytes) -> None:
        really(name, payload)
        if desk.commands._tool is not None:
            desk.tools.append(desk.commands._tool)

    really = desk.commands._start
    desk.commands._load, desk.commands._start = load, start
    desk.step = desk.commands.step

    def say(text: str) -> None:
        name, payload = text.split()
        desk.waiting.append((name, payload.encode(), 1))

    desk.say = say
    desk.states = (module.IDLE, module.RUNNING, module.ENDING)
    return desk


@pytest.mark.parametrize(
    ("before", "said", "state", "n_tools", "stopped"),
    [
        ("", "alignment ON", "RUNNING", 1, False),
        ("", "capture 30", "RUNNING", 1, False),
        ("", "alignment OFF", "IDLE", 0, False),
        ("alignment ON", "alignment ON", "RUNNING", 1, False),
        ("alignment ON", "alignment OFF", "ENDING", 1, True),
        ("alignment ON", "capture 30", "ENDING", 1, True),
        ("capture 30", "capture 30", "RUNNING", 1, False),
        ("capture 30", "alignment OFF", "RUNNING", 1, False),
        ("capture 30", "alignment ON", "ENDING", 1, True),
        ("capture 30", "capture OFF", "ENDING", 1, True),
    ],
)
def test_a_command_in_a_state(desk: Any, before: str, said: str, state: str, n_tools: int, stopped: bool) -> None:
    for text in filter(None, (before, said)):
        desk.say(text)
        desk.step()
    assert ("IDLE", "RUNNING", "ENDING").index(state) == desk.states.index(desk.commands.state)
    assert len(desk.tools) == n_tools and not desk.told
    assert not desk.tools or desk.tools[0].stopped == stopped


def test_no_command_is_lost(desk: Any) -> None:
    """Four at once: each tool is begun behind the end of the one before it, in the order they were asked for."""
    for text in ("alignment ON", "capture 5", "alignment ON", "alignment OFF"):
        desk.say(text)
    for _ in range(20):
        if not desk.step():
            break
        desk.tools[-1].done = desk.tools[-1].stopped
    begun = [tool.NAME for tool in desk.tools]
    assert begun == ["alignment", "capture", "alignment"] and not desk.waiting and not desk.step()
    assert desk.tools[1].payload == b"5"


def test_a_tool_that_does_not_fit_is_refused_in_a_sentence(desk: Any) -> None:
    for free, is_short in ((4095, False), (0, False), (0, True)):
        desk.free = 50_000 if is_short else free + 4608  # the tool's own code is not loaded yet
        desk.is_short = is_short
        desk.say("alignment ON")
        desk.step()
        assert not desk.tools and desk.commands.state == 0
        assert desk.told.pop() == (
            f"alignment is refused: {free} bytes of memory would be left, too few: restart the probe and try again"
        )
        topic, payload, retain = desk.outbox.pop_unsent()
        shown = json.loads(bytes(payload))
        assert (topic, retain, shown["mode"]) == (b"it/alignment", False, "OFF") and "too few" in shown["words"]


@pytest.mark.parametrize(("command", "code_bytes"), [("alignment ON", 4608), ("capture 5", 2048)])
def test_each_tool_is_asked_for_its_own_size(desk: Any, command: str, code_bytes: int) -> None:
    for beyond in (-1, 0):
        desk.free = 4096 + code_bytes + beyond
        desk.say(command)
        desk.step()
        assert len(desk.tools) == (beyond == 0) and len(desk.told) == 1


def test_a_capture_waits_for_the_one_that_is_sent(desk: Any) -> None:
    desk.services.network.mailbox.large_message = b"x", 1, None
    desk.say("capture 5")
    desk.step()
    assert not desk.tools and desk.told == ["capture is refused: the last one is still being sent"]


@pytest.mark.parametrize(("battery", "most"), [(True, 4), (False, 20)])
def test_a_battery_meter_is_not_asked_often_for_ever(desk: Any, battery: bool, most: int) -> None:
    """Ten minutes of alignment again and again, half an hour apart."""
    desk.battery = battery
    for _ in range(20):
        desk.say("alignment ON")
        desk.step()
        desk.health.uptime_s += 600
        if desk.commands.state == 1:
            desk.tools[-1].done = True
        desk.step()
        desk.health.uptime_s += 1800
    assert len(desk.tools) == most
    assert bool(desk.told) == battery
    desk.health.uptime_s += 86400
    desk.say("alignment ON")
    desk.step()
    assert len(desk.tools) == most + 1
