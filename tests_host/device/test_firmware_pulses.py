"""A meter that only blinks, before the unmodified firmware on the virtual board, with a real mosquitto behind it."""

import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from support.broker import Listener, closed_port, retained, wait_until

from optoprobe.environment import runtime
from optoprobe.virtual.blink_meter import BlinkMeter
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.source import Transmission

STALL_S = 20
LATE_MS = 60  # of 44 flashes a second that come at once, so that a tenth of a second has more than a connection carries
QUIET_S = 5  # until the last flash is counted and published
CUTS = int(os.environ.get("OPTOPROBE_BOARD_CUTS", "6"))
STATE = "optoprobe/cellar/meter/state"
SET = "optoprobe/cellar/meter/reading/set"

pytestmark = pytest.mark.skipif(runtime.mosquitto() is None, reason="no mosquitto on this machine and none to be had")


class Steady:
    """A household that consumes the same all day."""

    def __init__(self, power_w: int) -> None:
        self.power_w = power_w

    def phases_dw(self, second: int) -> tuple[int, int, int]:
        return self.power_w * 10, 0, 0


class Meter(BlinkMeter):
    """One that can be held back for good."""

    paused = False

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        return None if self.paused else super().poll(now_s, free_s)


class Scene:
    """Broker, light and board; `object(ending)` the newest message of a topic."""

    def __init__(self, folder: Path, meter: Meter, listener: Listener, broker: Broker, server: OpticalServer) -> None:
        self.folder, self.meter, self.listener, self.broker, self.server = folder, meter, listener, broker, server

    def board(self, **settings: Any) -> VirtualBoard:
        values: dict[str, Any] = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": self.broker.port}
        values |= {"probe_id": "cellar", "protocol": "blink", "pulses_per_kwh": self.meter.pulses_per_kwh}
        return VirtualBoard(self.folder / "device", values | settings, self.server.port, reset_cause=5)

    def diagnostics(self) -> dict[str, Any]:
        """What the firmware tells when the hub comes back."""
        asked_s = time.monotonic()
        self.listener.publish("homeassistant/status", "online")
        self.listener.wait_for("optoprobe_cellar/config", 8, asked_s)
        return self.listener.wait_for("/diagnostics", 8, asked_s + 2).object()

    def state(self) -> dict[str, str]:
        return json.loads(retained(self.broker.port)[STATE])

    def states(self) -> list[dict[str, str]]:
        return [m.object() for m in self.listener.of("/state") if not m.retained]


def play(folder: Path, meter: Meter, act: Any) -> Any:
    with Broker(folder / "broker", closed_port()) as broker, OpticalServer(meter) as server:
        with Listener(broker.port) as listener:
            listener.subscribed()
            return act(Scene(folder, meter, listener, broker, server))


def never_fell(states: list[dict[str, str]]) -> bool:
    for key in ("energy_counted", "energy_import"):
        values = [Fraction(state[key]) for state in states if key in state]
        if values != sorted(values):
            return False
    return True


def through_stalls(folder: Path) -> None:
    """44 flashes a second, and everything stalls: the device, the broker, both."""

    def act(scene: Scene) -> None:
        with scene.board(max_power_kw=17) as board:
            wait_until(lambda: any("power" in m.object() for m in scene.listener.of("/live")), 20, "no power was told")
            scene.broker.freeze()
            board.freeze()
            time.sleep(STALL_S)
            board.thaw()
            time.sleep(3)
            for _ in range(3):
                board.freeze()
                time.sleep(0.5)
                board.thaw()
                time.sleep(0.7)
            scene.broker.thaw()
            scene.broker.kill()
            time.sleep(3)
            scene.broker.start()
            back_s = time.monotonic()
            scene.meter.paused = True
            scene.listener.wait_for("/state", 50, back_s)
            time.sleep(QUIET_S)
            told = scene.diagnostics()
            emitted = scene.server.telegrams_sent
            assert emitted > 44 * (STALL_S + 10)
            seen, late_ms = told["pulses"] + told["ghosts_by_reason"]["flicker"], scene.server.late_ms
            if seen != emitted and late_ms >= LATE_MS:
                pytest.skip(f"the busy machine's line was late by {late_ms} ms: two flashes at once are one")
            assert seen == emitted, (told["pulses"], told["ghosts_by_reason"], emitted, late_ms)
            assert told["notice"] == "ok" and told["out_of_memory"] == told["overruns"] == 0
            assert scene.state()["energy_counted"] == f"{told['pulses'] / 10_000:.4f}"
            assert never_fell(scene.states())
            lives = [m.object() for m in scene.listener.of("/live") if m.at_s < back_s]
            power = {int(live["power"]) for live in lives if "power" in live}
            as_sent = power and all(abs(p - 15_840) < 0.02 * 15_840 for p in power)
            if told["ghosts"] or not as_sent:  # flashes came late, or at once and so as a lamp's
                assert scene.server.late_ms >= LATE_MS, (told, power, scene.server.late_ms)
                pytest.skip(f"every flash was seen, but the busy machine's line was late by {scene.server.late_ms} ms")
            assert not [line for line in board.log if "Error" in line or "Traceback" in line], board.log

    play(folder, Meter(10_000, household=Steady(15_840)), act)


def wide_flashes(folder: Path) -> None:
    """The rate is found on the way down, with the UART set anew between two flashes."""

    def act(scene: Scene) -> None:
        with scene.board():
            wait_until(lambda: scene.server.telegrams_sent >= 60, 40, "the meter did not blink")
            scene.meter.paused = True
            time.sleep(QUIET_S)
            told = scene.diagnostics()
            assert told["pulses"] == scene.server.telegrams_sent and told["ghosts"] == 0, told
            assert told["flash_baud"] < 1200
            assert scene.listener.of("/live")[-1].object()["light"] == "blinking"

    play(folder, Meter(1000, 30, household=Steady(10_000)), act)


def the_owners_reading(folder: Path) -> None:
    """Set over MQTT, confirmed there, and kept through a restart and a loss of power."""

    def act(scene: Scene) -> None:
        with scene.board() as board:
            scene.listener.wait_for("/state", 20)
            time.sleep(3)  # what comes with the session's begin is not taken for the owner's word
            set_s = time.monotonic()
            scene.listener.publish(SET, "14798.1")

            def confirmed() -> list[dict[str, Any]]:  # another may have been on its way
                said = [message.object() for message in scene.listener.of("/state") if message.at_s > set_s]
                return [state for state in said if "energy_import" in state]

            wait_until(lambda: bool(confirmed()), 3, "not confirmed")
            assert Fraction(confirmed()[0]["energy_import"]) >= Fraction("14798.1")
            config = scene.listener.of("_meter/config")
            wait_until(lambda: b"energy_import" in scene.listener.of("_meter/config")[-1].payload, 5, "not announced")
            assert b"set_reading" in config[0].payload
            time.sleep(5)
            board.kill()
        scene.listener.keep(SET, "50.5")  # nobody says it now
        for loses_power in (False, True):
            before = scene.state()
            if loses_power:
                (scene.folder / "device" / "rtc_memory").unlink()
            back_s = time.monotonic()
            with scene.board() as board:
                if loses_power:  # so soon after another start no broker proves anything: the totals stand
                    scene.listener.wait_for("/live", 20, back_s)
                    wait_until(lambda: "stands" in scene.listener.of("/diagnostics")[-1].object()["notice"], 10, "told")
                    assert scene.state() == before
                else:
                    after = scene.listener.wait_for("/state", 20, back_s).object()
                    assert Fraction(after["energy_import"]) >= Fraction(before["energy_import"])
                    assert Fraction(after["energy_import"]) - Fraction(before["energy_import"]) < Fraction("0.05")
                    time.sleep(4)
                board.kill()
        assert never_fell(scene.states())
        differences = {Fraction(s["energy_import"]) - Fraction(s["energy_counted"]) for s in scene.states()[1:] if
                       "energy_import" in s}  # fmt: skip
        assert len(differences) == 1

    play(folder, Meter(10_000, household=Steady(4000)), act)


def cuts(folder: Path) -> None:
    """The plug is pulled again and again, now and then the battery's too."""

    def act(scene: Scene) -> None:
        draw = random.Random(3)
        for _ in range(CUTS):
            begun_s = time.monotonic()
            with scene.board() as board:
                scene.listener.wait_for("/live", 20, begun_s)
                time.sleep(draw.uniform(0, 8))
                board.kill()
            if draw.random() < 0.3:
                (scene.folder / "device" / "rtc_memory").unlink()
        states = scene.states()
        assert never_fell(states)
        values = [int(Fraction(state["energy_counted"]) * 10_000) for state in states]
        assert 0 < values[-1] <= scene.meter.pulses

    play(folder, Meter(10_000, household=Steady(7200)), act)


SCENES = {scene.__name__: scene for scene in (through_stalls, wide_flashes, the_owners_reading, cuts)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Every scene, all side by side, as they wait most of the time."""
    folder = tmp_path_factory.mktemp("pulses")
    with ThreadPoolExecutor(len(SCENES)) as pool:
        yield {name: pool.submit(scene, folder / name) for name, scene in SCENES.items()}


@pytest.mark.parametrize("name", SCENES)
def test_scene(played: Any, name: str) -> None:
    played[name].result()
