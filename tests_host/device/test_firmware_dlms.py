"""Simulated DLMS meters read by the unmodified firmware on the virtual board, and what arrives over MQTT.

Keys come from the settings; a search through everything the probe says holds that none of them comes out again. The
scenes take place side by side.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.broker import Listener, Message, PausableMeter, closed_port
from support.expected_messages import shown_of_codes
from support.virtual_time import Probe

from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.optical_server import OpticalServer, Sent

LINES = {"mbus": "2400 8E1", "hdlc": "", "optical": "", "gbt": ""}
SECONDS = 18
PATIENCE_S = 120  # the virtual line keeps a meter's time, but a busy machine hears of it late


@dataclass
class Scene:
    meter: DlmsMeter
    settings: dict[str, object]
    seconds: float = SECONDS
    is_enough: Callable[[dict[str, Any]], bool] = lambda told: told["telegrams"] >= 2
    shows: bool = True
    sent: list[Sent] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def objects(self, ending: str) -> list[dict[str, Any]]:
        return [message.object() for message in self.messages if message.topic.endswith(ending)]


def keys(meter: DlmsMeter, auth: bool = True) -> dict[str, object]:
    pasted = " ".join(f"{byte:02X}" for byte in meter.key)  # as operators' letters have it
    return {"meter_key": pasted} | ({"meter_auth_key": "0x" + meter.auth_key.hex()} if auth else {})


def rejecting(reason: str, at_least: int) -> Callable[[dict[str, Any]], bool]:
    """Telegrams were refused for this reason."""
    return lambda told: told["rejected_by_reason"].get(reason, 0) >= at_least


def replay_refused(told: dict[str, Any]) -> bool:
    return rejecting("replay", 1)(told) and told["telegrams"] >= 5


def scenes() -> dict[str, Scene]:
    made = {}
    for kind in LINES:
        meter = DlmsMeter(kind)
        made[kind] = Scene(meter, keys(meter) | {"line": f"{meter.line.baud} 8{meter.line.parity or 'N'}1"})
    without = DlmsMeter("optical", seed=2)
    key_needed, key_wrong = rejecting("key needed", 6), rejecting("key wrong", 6)
    made["no key"] = Scene(without, {"line": "9600 8N1"}, is_enough=key_needed, shows=False)
    wrong = DlmsMeter("optical", seed=3)
    other = {"meter_key": "00112233445566778899aabbccddeeff", "line": "9600 8N1"}
    made["wrong key"] = Scene(wrong, other, is_enough=key_wrong, shows=False)
    replayed = DlmsMeter("optical", seed=4, quirks=["replay"])
    made["replay"] = Scene(replayed, keys(replayed) | {"line": "9600 8N1"}, is_enough=replay_refused)
    found = DlmsMeter("optical", seed=5)
    made["found"] = Scene(found, keys(found) | {"protocol": "auto"})
    return made


def due(sent: list[Sent]) -> list[Sent]:
    """The telegrams that have to be read: all but the first, in whose middle the board may begin to listen."""
    return [telegram for telegram in sent if telegram.expected][1:]


def heard(told: dict[str, Any]) -> int:
    """The telegrams that were read, or refused as ones from before."""
    return told["telegrams"] + told["rejected_by_reason"]["replay"]


def live_through(folder: Path, scene: Scene) -> Scene:
    with Broker(folder / "broker", closed_port()) as broker, Listener(broker.port) as listener:
        settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "probe_id": "cellar"}
        settings |= {"protocol": "dlms"} | scene.settings
        meter = PausableMeter(scene.meter)
        with OpticalServer(meter, scene.meter.line) as server:
            with VirtualBoard(folder / "device", settings, server.port) as board:
                time.sleep(scene.seconds)
                listener.ask_until(scene.is_enough, PATIENCE_S)
                if scene.shows:
                    listener.wait_for("/state", PATIENCE_S)
                    listener.wait_for("/live", PATIENCE_S)
                    meter.paused = True
                    listener.ask_until(lambda told: heard(told) >= len(due(server.log)), PATIENCE_S)
                assert board.running, board.log
            scene.sent = list(server.log)
        scene.messages = list(listener.messages)
        scene.log = board.log
        for path in (folder / "device").glob("*.json"):
            if path.name != "settings.json":
                scene.files.append(path.read_text())
    return scene


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Scene]]]:
    folder = tmp_path_factory.mktemp("scenes")
    each = scenes()
    with ThreadPoolExecutor(len(each)) as pool:
        yield {name: pool.submit(live_through, folder / str(n), scene) for n, (name, scene) in enumerate(each.items())}


@pytest.mark.parametrize("kind", [*LINES, "found"])
def test_a_meter_shows_up_exactly(played: dict[str, Future[Scene]], kind: str) -> None:
    scene = played[kind].result()
    wanted = [shown_of_codes(sent.expected) for sent in scene.sent if sent.expected]
    assert wanted
    diagnostics = scene.objects("/diagnostics")[-1]
    states, lives = scene.objects("/state"), scene.objects("/live")
    assert states and lives, (scene.log, diagnostics)
    for told in states + lives:
        numbers = {key: Decimal(text) for key, text in told.items() if any(key in want for want in wanted)}
        assert numbers  # a first 0 waits for a minute, so the first messages may hold fewer
        if kind == "mbus":  # a sum of 8 bits: each value is the middle of its last three
            assert all(any(want[key] == value for want in wanted) for key, value in numbers.items()), numbers
        else:
            assert any(numbers.items() <= want.items() for want in wanted), (numbers, wanted[0])
    shown = set(states[-1]) | set(lives[-1])
    assert len(shown & set(wanted[-1])) >= 3
    assert diagnostics["telegrams"] >= len(due(scene.sent)) and diagnostics["held"] == 0
    assert diagnostics["notice"] == "ok"


def test_too_little_memory_to_find_it_is_told(tmp_path: Path) -> None:
    """In virtual time, as no size of a heap is too little for a listener and enough for all else on each machine."""

    def no_room(*_: object) -> None:
        raise MemoryError

    with Probe(tmp_path, DlmsMeter("optical", seed=6), {}) as probe:
        probe.modules.loaded["firmware.reading.meter_search"].build_decoder = no_room
        probe.run_for(120)
        told = probe.diagnostics()
        assert told["out_of_memory"] >= 3 and told["protocol"] == "searching"
        assert "name its protocol in the settings" in told["notice"] and "DLMS" in told["notice"]
        assert not probe.of("/state") and not probe.of("/live")


def test_a_missing_key_is_asked_for(played: dict[str, Future[Scene]]) -> None:
    scene = played["no key"].result()
    diagnostics = scene.objects("/diagnostics")[-1]
    assert diagnostics["telegrams"] == 0 and diagnostics["rejected_by_reason"]["key needed"] > 5
    assert "enter its key" in diagnostics["notice"] and scene.meter.title.hex() in diagnostics["notice"]
    assert not scene.objects("/state") and not scene.objects("/live")


def test_a_wrong_key_is_named(played: dict[str, Future[Scene]]) -> None:
    scene = played["wrong key"].result()
    diagnostics = scene.objects("/diagnostics")[-1]
    assert diagnostics["telegrams"] == 0 and diagnostics["rejected_by_reason"]["key wrong"] > 5
    assert "wrong" in diagnostics["notice"]
    assert not scene.objects("/state") and not scene.objects("/live")


def test_a_replayed_telegram_is_refused(played: dict[str, Future[Scene]]) -> None:
    scene = played["replay"].result()
    diagnostics = scene.objects("/diagnostics")[-1]
    assert replay_refused(diagnostics), diagnostics
    assert any(scene.meter.title.hex() in text for text in scene.files)  # its counter is kept over a restart


def test_no_key_comes_out(played: dict[str, Future[Scene]]) -> None:
    for future in played.values():
        scene = future.result()
        said = [message.topic.encode() + message.payload for message in scene.messages]
        everything = b"\n".join(said + [line.encode() for line in scene.log + scene.files]).lower()
        for key in (scene.meter.key, scene.meter.auth_key):
            spaced = " ".join(f"{byte:02x}" for byte in key).encode()
            assert key not in everything and key.hex().encode() not in everything and spaced not in everything
