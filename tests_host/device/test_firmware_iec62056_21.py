"""Simulated IEC 62056-21 meters read by the unmodified firmware on the virtual board, and what arrives over MQTT.

Every meter talks at its real rates through the bit-accurate line; what a message must hold is made from the rows the
simulation gave, with a table of our own. The scenes take place side by side.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.broker import Listener, Message, closed_port
from support.expected_messages import shown_of_prints

from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.optical_server import OpticalServer, Sent

PASSWORD = "71043298"
PATIENCE_S = 120  # the virtual line keeps a meter's time, but a busy machine hears of it late


@dataclass
class Scene:
    """A meter, what is set for it, and what was seen of it: for so long, then until its diagnostics are enough."""

    meter: IecMeter
    seconds: float
    settings: dict[str, object] = field(default_factory=dict)
    line: dict[str, Any] = field(default_factory=dict)
    is_enough: Callable[[dict[str, Any]], bool] = lambda told: told["telegrams"] >= 2
    shows: bool = True
    sent: list[Sent] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    running: bool = False

    def last(self, ending: str) -> dict[str, Any]:
        found = [message for message in self.messages if message.topic.endswith(ending)]
        assert found, (ending, self.log, self.meter.events, sorted({m.topic for m in self.messages}))
        return found[-1].object()

    def objects(self, ending: str) -> list[dict[str, Any]]:
        return [message.object() for message in self.messages if message.topic.endswith(ending)]


def once(told: dict[str, Any]) -> bool:
    """The meter was read."""
    return told["telegrams"] >= 1


def failing(reason: str, at_least: int = 1) -> Callable[[dict[str, Any]], bool]:
    """Attempts have failed for this reason."""
    return lambda told: told["failed_by_reason"].get(reason, 0) >= at_least


def scenes() -> dict[str, Scene]:
    quick = {"interval_s": 4}
    slow_head = Noise(stretch_ns=70_000)  # a phototransistor that cannot follow 9600
    return {
        "A": Scene(IecMeter("A", reaction_ms=300), 30, quick),
        "B": Scene(IecMeter("B", reaction_ms=300), 25, quick),
        "C": Scene(IecMeter("C", full=True), 25, quick),
        "C, echo": Scene(IecMeter("C", quirks=["junk_after_switch"]), 25, quick, {"echo": True}),
        "D": Scene(IecMeter("D", period_s=4), 20),
        "P1": Scene(IecMeter("P1"), 25, is_enough=once),  # sought at two wrong rates first
        "C, slow head": Scene(IecMeter("C", reaction_ms=300), 35, quick, {"noise": slow_head}, once),
        "C, damaged": Scene(
            IecMeter("C", quirks=["bad_bcc"], reaction_ms=300),
            20,
            quick,
            is_enough=lambda told: failing("bad data")(told) and told["rejected_by_reason"].get("checksum", 0) >= 3,
            shows=False,
        ),
        "C, once damaged": Scene(IecMeter("C", quirks=["bad_bcc_once"], reaction_ms=300), 20, quick),
        "C, wrong password": Scene(
            IecMeter("C", offered="0", password="right", reaction_ms=200, history=2),
            84,  # at 300 baud a block that takes longer than its registers one by one, and then the password
            {**quick, "meter_password": PASSWORD},
            is_enough=lambda told: once(told) and failing("password refused")(told),
        ),
        "battery": Scene(IecMeter("B", battery=True, reaction_ms=300), 25, {"wake_up": True}, is_enough=once),
        "silent": Scene(
            IecMeter("C", address="19034063", needs_address=True),
            15,
            {"meter_address": "0123"},
            is_enough=failing("no answer"),
            shows=False,
        ),
    }


def live_through(folder: Path, scene: Scene) -> Scene:
    with Broker(folder / "broker", closed_port()) as broker, Listener(broker.port) as listener:
        settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "probe_id": "cellar"}
        settings |= {"protocol": "iec62056-21"} | scene.settings
        with OpticalServer(scene.meter, scene.meter.line, **scene.line) as server:
            with VirtualBoard(folder / "device", settings, server.port) as board:
                time.sleep(scene.seconds)
                listener.ask_until(scene.is_enough, PATIENCE_S)
                if scene.shows:
                    listener.wait_for("/state", PATIENCE_S)
                    listener.wait_for("/live", PATIENCE_S)
                scene.running = board.running
            scene.sent = list(server.log)
        scene.messages = list(listener.messages)
        scene.log = board.log
    return scene


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Scene]]]:
    """Every scene, all side by side, as they wait most of the time."""
    if runtime.mosquitto() is None:
        pytest.skip("no mosquitto on this machine and none to be had")
    folder = tmp_path_factory.mktemp("scenes")
    each = scenes()
    with ThreadPoolExecutor(len(each)) as pool:
        begun = enumerate(each.items())
        yield {name: pool.submit(live_through, folder / str(n), scene) for n, (name, scene) in begun}


UNSEALED = ("D",)  # no check: each value is the middle of three, so those of several telegrams may stand together


def waiting(state: dict[str, str]) -> set[str]:
    """Counters that are not told within a minute: those at 0."""
    return {key for key, text in state.items() if key.startswith("energy") and not float(text)}


READ = ("A", "B", "C", "C, echo", "D", "P1", "C, slow head", "C, once damaged", "battery")


@pytest.mark.parametrize("name", READ)
def test_a_meter_shows_up_exactly(played: dict[str, Future[Scene]], name: str) -> None:
    scene = played[name].result()
    assert scene.running, scene.log
    wanted = [shown_of_prints(sent.expected) for sent in scene.sent if sent.expected]
    assert wanted, scene.meter.events
    states, lives = scene.objects("/state"), scene.objects("/live")
    assert states and lives, (scene.log, scene.meter.events, scene.last("/diagnostics"))
    for shown, part in ((states, 0), (lives, 1)):
        assert shown[-1].keys() >= wanted[0][part].keys() - waiting(wanted[0][0])
        for message in shown if name in UNSEALED else ():
            for key in message.keys() & wanted[0][part].keys():
                assert message[key] in [want[part][key] for want in wanted], (key, message, wanted[0][part])
        for message in shown if name not in UNSEALED else ():
            lacks = wanted[0][part].keys() - message.keys()
            assert not lacks or part == 0 and lacks <= waiting(wanted[0][0]), message
            assert any(
                message.items() >= {(key, want[part][key]) for key in want[part].keys() - lacks} for want in wanted
            )
    diagnostics = scene.last("/diagnostics")
    assert diagnostics["protocol"] == "iec62056-21" and diagnostics["held"] == 0
    assert 0 < diagnostics["telegrams"] <= len(wanted) + 1
    assert scene.is_enough(diagnostics)


def test_the_meter_is_announced_with_what_it_says_of_itself(played: dict[str, Future[Scene]]) -> None:
    scene = played["C"].result()
    config = next(m.object() for m in scene.messages if m.topic.endswith("cellar_19034063/config"))
    device = config["dev"]
    assert (device["sn"], device["mf"]) == ("19034063", "OPT") and device["mdl"]
    components = config["cmps"]
    assert components["energy_import"]["stat_cla"] == "total_increasing"
    assert components["energy_import"]["unit_of_meas"] == "kWh"
    assert components["power"]["unit_of_meas"] == "W" and components["power"]["exp_aft"] == 60
    assert components["error_register"]["en"] is False
    assert "meter_time" not in components
    assert -450 <= scene.last("/diagnostics")["meter_clock_off_s"] < 450  # its clock is the simulation's, not ours


def test_a_heat_meter_is_left_alone_for_an_hour(played: dict[str, Future[Scene]]) -> None:
    scene = played["battery"].result()
    assert len(scene.sent) == 1 and scene.meter.events.count("wake-up") == 1
    config = next(m.object() for m in scene.messages if "cmps" in m.payload.decode() and b"heat_energy" in m.payload)
    assert config["cmps"]["heat_energy"]["dev_cla"] == "energy"
    assert config["cmps"]["heat_power_max"]["exp_aft"] == 3 * 3600
    assert all("_f" not in key for key in config["cmps"])  # past periods are left out


def test_unknown_registers_appear_disabled(played: dict[str, Future[Scene]]) -> None:
    scene = played["battery"].result()
    config = next(m.object() for m in scene.messages if b"heat_energy" in m.payload and b"cmps" in m.payload)
    unknown = [component for component in config["cmps"].values() if component["name"] in ("6.4", "9.4", "6.35")]
    assert len(unknown) == 3 and all(c["en"] is False and c["ent_cat"] == "diagnostic" for c in unknown)


def test_a_head_that_cannot_follow_is_read_at_a_lower_rate(played: dict[str, Future[Scene]]) -> None:
    scene = played["C, slow head"].result()
    rates = [event for event in scene.meter.events if event.startswith("ack 0")]
    assert rates[0] == "ack 050" and rates[-1] != "ack 050"
    assert scene.last("/diagnostics")["attempts_failed"] <= 2


def test_a_block_that_is_always_damaged_is_counted_and_never_published(played: dict[str, Future[Scene]]) -> None:
    scene = played["C, damaged"].result()
    diagnostics = scene.last("/diagnostics")
    assert diagnostics["telegrams"] == 0 and scene.is_enough(diagnostics), diagnostics
    assert "damaged" in diagnostics["notice"]
    assert not scene.objects("/state") and not scene.objects("/live")


def test_a_refused_password_is_tried_once_and_shown_nowhere(played: dict[str, Future[Scene]]) -> None:
    scene = played["C, wrong password"].result()
    assert scene.meter.wrong_passwords == 1, scene.meter.events
    diagnostics = scene.last("/diagnostics")
    assert diagnostics["failed_by_reason"]["password refused"] == 1
    assert "refuses the password" in diagnostics["notice"]
    assert diagnostics["telegrams"] >= 1 and scene.objects("/state")  # read as a whole all the same
    said = [message.topic.encode() + message.payload for message in scene.messages]
    everything = b"\n".join(said + [line.encode() for line in scene.log])
    assert PASSWORD.encode() not in everything and b"right" not in everything


def test_a_meter_that_does_not_answer_is_named(played: dict[str, Future[Scene]]) -> None:
    scene = played["silent"].result()
    diagnostics = scene.last("/diagnostics")
    assert diagnostics["telegrams"] == 0 and scene.is_enough(diagnostics), diagnostics
    assert diagnostics["notice"].startswith("the meter does not answer")
    assert scene.running and not scene.objects("/state")


def test_the_diagnostics_are_json_of_plain_values(played: dict[str, Future[Scene]]) -> None:
    for future in played.values():
        for message in future.result().messages:
            if message.topic.endswith(("/state", "/live", "/diagnostics")):
                assert isinstance(json.loads(message.payload), dict)
