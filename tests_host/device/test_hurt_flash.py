"""A flash that is full, cannot be written, or holds anything: the probe starts, says so, meters and publishes on, and
writes over nothing that it could not read.
"""

import errno
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.runs import times
from support.virtual_time import Probe

from optoprobe.environment import runtime
from optoprobe.virtual.sml_meter import SmlMeter

# What a probe keeps beside its settings, board and certificates, as it may look when all is well.
KEPT: dict[str, Any] = {
    "detected.json": {
        "protocol": "sml", "asked": False, "baud": 9600, "bits": 8, "parity": None, "heard": None, "invert": False,
        "line": "9600 8N1", "seen": "SML at 9600 8N1", "slug": "opt_1",
    },
    "reads.json": [2, 80000, 100],
    "counters.json": [["4b414d4500000001", 77, 5]],
    "own_counter.json": [4097],
    "scale.json": {"meter": "21000001", "factor": 10},
    "asked.json": [[1, "31", "x.x"], [1, "31", "32", "33"]],
    "announced.json": ["optoprobe", "attic", "homeassistant", "device"],
    "energy.json": [1000, 0, 0, -1, 100, 0, 0, -1, 0, 0, [0, 5, 3, 0], None],
    "change.json": ["probe_name", "Keller"],
    "restart.txt": "ValueError in app.py",
    "capture.txt": "optoprobe capture 1\n",
    "modbus_map.json": {"name": "M", "line": "9600 8N1", "registers": []},
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7.0, 8.0, 1e300, 10**40, "", "x", "+", "#", "\u20ac" * 9, [], {}, {"a": []}, [[[]]],
    [1] * 300,
)  # fmt: skip


def changed(value: Any, chance: random.Random) -> Any:
    """`value` with something odd in the place of a part of it."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        k = chance.randrange(len(value))
        return value[:k] + ([] if chance.random() < 0.2 else [changed(value[k], chance)]) + value[k + 1 :]
    return chance.choice(ODD)


def content(name: str, chance: random.Random) -> bytes:
    """What may lie there instead."""
    whole = KEPT[name].encode() if isinstance(KEPT[name], str) else json.dumps(KEPT[name]).encode()
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.choice((0, 1, 50, 900, 9000)))
    if kind == 1:
        return whole[: chance.randrange(len(whole))]
    if kind == 2:
        at = chance.randrange(len(whole))
        return whole[:at] + bytes((whole[at] ^ 1 << chance.randrange(8),)) + whole[at + 1 :]
    if kind == 3:
        return b"[" * chance.choice((5, 600)) + b"]" * chance.choice((5, 600))
    return json.dumps(changed(KEPT[name], chance)).encode()


@pytest.fixture
def flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- anything in a file ----------------------------------------------------------------------------------------------


class Listener:
    """Of one what kept files are read for."""

    key_check = 5

    def __init__(self) -> None:
        self.factor: Any = None

    def set_keys(self, *_: object) -> None: ...

    def restore_counter(self, title: bytes, counter: int) -> None:
        assert len(title) == 8 and 0 <= counter < 1 << 32

    def assumed_energy_factor(self) -> int:
        return 10

    def set_energy_factor(self, factor: int) -> None:
        self.factor = factor


def read_detected(device: Any) -> None:
    detected = device.supervisor.DetectedMeter()
    device.detected_meter.load(detected)
    assert detected.protocol is None or isinstance(detected.protocol, str)
    assert type(detected.baud) is int and type(detected.bits) is int and type(detected.invert) is bool
    assert type(detected.is_polled) is bool
    assert all(type(text) is str for text in (detected.slug, detected.seen, detected.line))
    assert isinstance(repr(detected.uart_line()), str)


def read_scale(device: Any) -> None:
    listener = Listener()
    device.energy_scale.EnergyScale(listener, "21000001", 0)
    assert type(listener.factor) is int and listener.factor in (0, 1, 10, 100, 1000)


def read_own_counter(device: Any) -> None:
    kept = device.store.load("own_counter.json")
    first = device.own_counters.reserve(0)
    if not (isinstance(kept, list) and len(kept) == 1 and type(kept[0]) is int and kept[0] > 0):
        # far behind those that may have been used, or none
        assert 1 << 30 <= first < 1 << 31 or first == 0 and Path("own_counter.json").is_dir()


def read_reads(device: Any) -> None:
    services = SimpleNamespace(read_by_hand=(0, 0), health=SimpleNamespace(uptime_s=0))
    budget = device.read_budget._budget(services)
    assert all(type(n) is int and n >= 0 for n in budget)


def read_energy(device: Any) -> None:
    totals = device.persistent_totals.PersistentTotals(1000)
    totals.shown()
    totals.add(1)
    totals.read_back(b"{}", b"offline", 0)
    totals.keep(1)


def read_announced(device: Any) -> None:
    settings = {"mqtt_prefix": "optoprobe", "discovery_prefix": "homeassistant", "discovery": "device"}
    settings["mqtt_host"] = "broker"
    mailbox = SimpleNamespace(before_session=None)
    device.known_names.look(settings, mailbox, SimpleNamespace(network_progressed=lambda: None), "cellar")
    if mailbox.before_session is None:
        return
    subscribed: list[bytes] = []

    class Client(SimpleNamespace):
        def subscribe(self, topic: bytes) -> None:
            subscribed.append(topic)
            raise EOFError  # the first one tells

    sock = SimpleNamespace(step_at=0)
    with pytest.raises(EOFError):
        mailbox.before_session(Client(sock=sock, set_callback=lambda f: None, connect=lambda: None))
    assert b"+" not in subscribed[0] and subscribed[0].count(b"#") == 1, "others' topics would be forgotten"


READERS: dict[str, Callable[[Any], None]] = {
    "detected.json": read_detected,
    "scale.json": read_scale,
    "own_counter.json": read_own_counter,
    "reads.json": read_reads,
    "energy.json": read_energy,
    "announced.json": read_announced,
    "counters.json": lambda device: device.invocation_counters.Counters(Listener(), b"k" * 16, None),
    "change.json": lambda device: device.settings.load("settings.json"),
}


@pytest.fixture
def parts(device: Any) -> Any:
    """`device`, and what it has not loaded."""
    import importlib
    import sys

    simple = SimpleNamespace(MQTTException=ZeroDivisionError)
    simple.simple = simple
    sys.modules["umqtt"] = sys.modules["umqtt.simple"] = simple  # type: ignore[assignment]
    names = ("reading.own_counters", "reading.read_budget", "mqtt.known_names")
    more = {name.split(".")[1]: importlib.import_module("firmware." + name) for name in names}
    yield SimpleNamespace(**vars(device), **more)
    del sys.modules["umqtt"], sys.modules["umqtt.simple"]


@pytest.mark.parametrize("name", READERS)
def test_whatever_a_kept_file_holds_it_is_used_whole_or_not_at_all(parts: Any, flash: Path, name: str) -> None:
    chance = random.Random(name)
    for _ in range(times(150)):
        Path(name).write_bytes(content(name, chance))
        READERS[name](parts)


@pytest.mark.parametrize("name", READERS)
def test_a_directory_in_the_place_of_a_file_is_none(parts: Any, flash: Path, name: str) -> None:
    Path(name).mkdir()
    READERS[name](parts)


# --- no memory for a good file ---------------------------------------------------------------------------------------


@pytest.fixture
def short(parts: Any, flash: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`parts`, whose memory is too short for what a file holds; all files of KEPT are there."""
    for name, value in KEPT.items():
        Path(name).write_text(value if isinstance(value, str) else json.dumps(value))
    Path("settings.json").write_text('{"wifi_ssid": "home", "meter_key": "kept"}')

    def load(_: Any) -> Any:
        raise MemoryError

    for name in ("firmware.store", parts.store.__name__):  # what is loaded anew too
        monkeypatch.setattr(__import__(name, None, None, ("store",)).json, "load", load)
    return parts


def test_a_shortage_of_memory_makes_no_file_a_damaged_one(short: Any, flash: Path) -> None:
    """Else a good one would be written over: a total begun anew, a counter of a cipher used twice."""
    before = {path.name: path.read_bytes() for path in flash.iterdir()}
    for name in ("scale.json", "own_counter.json", "reads.json", "energy.json", "counters.json"):
        with pytest.raises(MemoryError):
            READERS[name](short)
    for name in ("detected.json", "announced.json"):  # the meter is found anew, the names are looked at the next time
        READERS[name](short)
    values, problems = short.settings.load("settings.json")
    assert values["wifi_ssid"] == "" and "settings.json is too large for the memory" in problems[0]
    with pytest.raises(short.board.BoardError, match="too large for the memory"):
        short.board.load("settings.json")
    assert short.board.button("settings.json") is None
    assert {path.name: path.read_bytes() for path in flash.iterdir()} == before


# --- a littlefs, as a chip has it ------------------------------------------------------------------------------------

FULL = """
import json, os, vfs
import firmware
from firmware import store

class Blocks:
    data = bytearray(b"\\xff" * (16 * 4096))

    def readblocks(self, n, buffer, offset=0):
        buffer[:] = memoryview(self.data)[n * 4096 + offset :][: len(buffer)]

    def writeblocks(self, n, buffer, offset=0):
        self.data[n * 4096 + offset : n * 4096 + offset + len(buffer)] = buffer

    def ioctl(self, operation, argument):
        if operation == 6:
            self.writeblocks(argument, b"\\xff" * 4096)
        return {4: 16, 5: 4096}.get(operation, 0)

vfs.VfsLfs2.mkfs(Blocks())
vfs.mount(vfs.VfsLfs2(Blocks()), "/flash")
os.chdir("/flash")
assert store.save("settings.json", {"wifi_ssid": "old"})
files = []
try:
    while True:
        files.append("%d.pem" % len(files))
        with open(files[-1], "w") as file:
            file.write("x" * 4096)
except OSError as error:
    assert error.errno == 28, error
seen = []
for _ in range(3):
    seen.append(store.save("settings.json", {"wifi_ssid": "new", "more": "y" * 1800}))
    seen.append(store.read_json("settings.json", 4096) == {"wifi_ssid": "old"})
seen += [list(firmware.unwritten), "settings.json.new" in os.listdir()]
os.remove(files[0])
os.remove(files[1])
seen += [store.save("settings.json", {"wifi_ssid": "new"}), list(firmware.unwritten)]
print(json.dumps(seen + [store.read_json("settings.json", 4096)]))
"""


def test_a_full_littlefs_keeps_the_old_file_and_says_so_once() -> None:
    environment = os.environ | {"MICROPYPATH": ":".join(map(str, (runtime.REPO, runtime.REPO / "lib", ".frozen")))}
    done = subprocess.run(
        [runtime.micropython(), "-X", "heapsize=1m", "-c", FULL], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *said, told = done.stdout.splitlines()
    assert said == ["optoprobe: settings.json cannot be written: free the device's memory"]
    assert json.loads(told) == [False, True] * 3 + [["settings.json"], False, True, [], {"wifi_ssid": "new"}]


# --- whole probes ----------------------------------------------------------------------------------------------------


def reads_on(probe: Probe, least: int = 9) -> None:
    n = len(probe.of("/live"))
    probe.run_for(10)
    assert len(probe.of("/live")) >= n + least


@pytest.mark.parametrize("kind", ["odd", "directories"])
def test_a_probe_meters_on_whatever_its_files_hold(tmp_path: Path, kind: str) -> None:
    chance = random.Random(5)
    for n in range(times(6) if kind == "odd" else 1):
        folder = tmp_path / str(n)
        folder.mkdir()
        for name in KEPT:
            if kind == "directories":
                (folder / name).mkdir()
            elif chance.random() < 0.7:
                (folder / name).write_bytes(content(name, chance))
        with Probe(folder, SmlMeter(1), {"protocol": "auto"}) as probe:
            probe.run_until(90, done=lambda: probe.of("/live"))
            reads_on(probe)
            assert probe.newest()["energy_import"] and not probe.diagnostics()["out_of_memory"]
            probe.restart()
            probe.run_for(90, done=lambda: probe.of("/live", probe.started_s))
            reads_on(probe)


class Flash:
    """What a firmware's files are opened and named by, while `is_full` or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
        self.is_hurt = False
        self.refused: list[str] = []
        self._error = error
        monkeypatch.setattr("builtins.open", self._hurt(open, lambda path, mode="r", *_, **__: "w" in mode))
        for name in ("rename", "remove"):
            if error == errno.EROFS:
                monkeypatch.setattr(os, name, self._hurt(getattr(os, name), lambda *_: True))

    def _hurt(self, really: Any, writes: Callable[..., bool]) -> Any:
        def called(path: Any, *more: Any, **others: Any) -> Any:
            if self.is_hurt and isinstance(path, str) and not path.startswith("/") and writes(path, *more, **others):
                self.refused.append(path)
                raise OSError(self._error)
            return really(path, *more, **others)

        return called


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_flash_that_cannot_be_written_is_told_and_metered_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    flash = Flash(monkeypatch, error)
    flash.is_hurt = True
    (tmp_path / "detected.json").write_text(json.dumps(KEPT["detected.json"] | {"slug": "gone"}))
    before = (tmp_path / "detected.json").read_bytes()
    with Probe(tmp_path, SmlMeter(1), {"protocol": "auto"}) as probe:
        probe.run_until(90, done=lambda: probe.of("/live"))
        reads_on(probe)
        assert flash.refused
        probe.say("optoprobe/cellar/capture/set", "5")
        probe.run_for(10)
        probe.say("optoprobe/cellar/order/set", "publish_interval_s=10")
        reads_on(probe)
        assert any("capture cannot be written" in line for line in probe.log)
        assert any("publish_interval_s is not changed: " in line for line in probe.log)
        assert (tmp_path / "detected.json").read_bytes() == before
        told = [line for line in probe.log if line.startswith("optoprobe: detected.json cannot be written")]
        assert len(told) == 1
        assert probe.diagnostics()["unwritten_files"] == "announced.json, detected.json, settings.json"
        flash.is_hurt = False
        probe.swap(SmlMeter(2))
        probe.run_for(700)  # the slug of another meter is kept every ten minutes at the most
        assert probe.diagnostics()["unwritten_files"] == "announced.json, settings.json"
        assert json.loads((tmp_path / "detected.json").read_text())["slug"] not in ("gone", "")
