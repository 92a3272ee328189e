"""Restarts, their cause, and the watchdog: what feeds it, and what it and an exception out of main end in."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.scripted_broker import ScriptedBroker
from support.virtual_time import Probe, WatchdogBites

from optoprobe.building import device_tree
from optoprobe.environment.runtime import REPO
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

POWER_ON, HARD, WATCHDOG, SOFT = 1, 2, 3, 5


class Chip:
    """What restarts.py sees of it; `waited_s` and `armed_ms` are what was asked of it."""

    def __init__(self) -> None:
        self.memory = b""
        self.cause = POWER_ON
        self.waited_s = 0
        self.armed_ms = 0
        self.resets = 0
        self.ctrl_c = -1  # as boot.py has it
        chip = self

        class RTC:
            def memory(self, data: bytes | None = None) -> bytes | None:
                if data is None:
                    return chip.memory
                chip.memory = bytes(data)
                return None

        def arm(timeout: int) -> None:
            chip.armed_ms = timeout
            chip.waited_when_armed_s = chip.waited_s

        def reset() -> None:
            chip.resets += 1

        self.machine = SimpleNamespace(
            PWRON_RESET=1, HARD_RESET=2, WDT_RESET=3, SOFT_RESET=5, RTC=RTC, WDT=arm, reset=reset
        )
        self.machine.reset_cause = lambda: chip.cause


@pytest.fixture
def chip(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chip:
    import importlib

    chip = Chip()
    restarts = importlib.import_module("firmware.hardware.restarts")
    monkeypatch.setattr(restarts, "machine", chip.machine)
    monkeypatch.setattr(
        restarts, "_CAUSES", ((1, "power on"), (2, "reset or crash"), (3, "watchdog"), (5, "soft reset"))
    )

    def sleep(seconds: int) -> None:
        assert chip.ctrl_c == 3, "Ctrl-C stops here, it says"
        chip.waited_s += seconds

    monkeypatch.setattr(restarts, "kbd_intr", lambda character: setattr(chip, "ctrl_c", character))

    monkeypatch.setattr(restarts, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.chdir(tmp_path)
    chip.restarts = restarts  # type: ignore[attr-defined]
    return chip


# --- restarts --------------------------------------------------------------------------------------------------------


def test_the_fifth_quick_restart_arms_the_watchdog_waits_for_a_computer_and_is_safe_mode(chip: Any) -> None:
    chip.restarts.note_start(30000)
    assert chip.armed_ms == 30000 and chip.waited_s == 0
    chip.cause = HARD
    for quick in range(1, 8):
        chip.armed_ms = 0
        before_s = chip.waited_s
        assert chip.restarts.note_start(30000) == (quick >= 5, False)
        assert chip.waited_s - before_s == (10 if quick >= 5 else 0), quick
        assert chip.armed_ms == 30000 and chip.waited_when_armed_s == before_s  # first of all
        assert chip.ctrl_c == -1
    assert chip.restarts.told()[0] == 7
    chip.restarts.restart(chip.restarts.BY_OWNER)  # by a change, say: safe mode is over
    assert chip.restarts.note_start(30000) == (False, False)
    chip.restarts.restart(chip.restarts.FOR_SET_UP)
    assert chip.restarts.note_start(30000) == (False, True)


@pytest.mark.parametrize(
    ("between", "cause", "waits"),
    [
        ("nothing", HARD, True),
        ("nothing", WATCHDOG, True),
        ("nothing", 0, True),  # a crash of a newer chip is told so too
        ("nothing", SOFT, False),  # somebody at a computer
        ("nothing", POWER_ON, True),  # so short, or a brown-out, that the memory has lasted
        ("the memory's end", POWER_ON, False),
        ("a minute", HARD, False),  # the run before has lasted
    ],
)
def test_what_counts_as_a_quick_restart(chip: Any, between: str, cause: int, waits: bool) -> None:
    chip.cause = HARD
    for _ in range(4):
        chip.restarts.note_start(1)
    if between == "a minute":
        chip.restarts.end_row()
    if between == "the memory's end":
        chip.memory = b""
    chip.cause = cause
    chip.restarts.note_start(1)
    assert bool(chip.waited_s) is waits
    assert chip.restarts.was_soft() is (cause == SOFT)


@pytest.mark.parametrize("asked_for", ["BY_OWNER", "SAFE_MODE_OVER"])
def test_what_was_asked_for_is_no_restart_of_the_five(chip: Any, asked_for: str) -> None:
    """Nor does a run that ends before it has told its cause excuse those behind it."""
    chip.restarts.note_start(1)
    chip.cause = HARD
    for _ in range(3):
        chip.restarts.restart(getattr(chip.restarts, asked_for))
        assert chip.restarts.note_start(1) == (False, False)
    assert chip.memory[5] & 15 == 0
    assert [chip.restarts.note_start(1)[0] for _ in range(5)] == [False] * 4 + [True]
    assert chip.restarts.told() == (8, "reset or crash")


def test_a_set_up_that_was_asked_for_and_never_began_is_asked_for_no_more(chip: Any) -> None:
    chip.restarts.note_start(1)
    chip.cause = HARD
    chip.restarts.restart(chip.restarts.FOR_SET_UP)
    assert [chip.restarts.note_start(1)[1] for _ in range(2)] == [True, False]


def test_the_cause_is_told_once_whatever_the_start_has_made_of_it(chip: Any) -> None:
    chip.restarts.note_start(1)
    chip.cause = HARD
    chip.restarts.restart(chip.restarts.BY_OWNER)
    chip.restarts.note_start(1)
    assert [chip.restarts.told()[1] for _ in range(2)] == ["asked for", "reset or crash"]


def test_a_cause_that_machine_has_no_name_for_is_told(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reset by a C3's or S3's own USB port the ESP32's machine.reset_cause() is 0."""
    import importlib

    restarts = importlib.import_module("firmware.hardware.restarts")
    monkeypatch.setattr(restarts.machine, "reset_cause", lambda: 0)
    monkeypatch.setattr(restarts, "_read", lambda: (1, 0, 0))
    assert restarts.told() == (1, "reset by USB, or for an unknown reason")


def test_what_lies_behind_in_rtc_memory_stays(chip: Any) -> None:
    chip.memory = b"OPR1\x03\x01" + b"a record"
    chip.cause = HARD
    chip.restarts.note_start(1)
    chip.restarts.end_row()
    chip.restarts.restart(2)
    assert chip.memory[:4] == b"OPR1" and chip.memory[4] == 4 and chip.memory[6:] == b"a record"


def test_an_exception_is_told_by_type_and_place_and_never_by_its_text(
    chip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import traceback

    def print_exception(error: BaseException, file: Any = None) -> None:
        traceback.print_exception(error, file=file)

    monkeypatch.setattr(sys, "print_exception", print_exception, raising=False)
    chip.ctrl_c = 3  # main.py has it then
    chip.restarts.note_start(1)
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        chip.restarts.restart_by(error)
    assert chip.resets == 1
    chip.cause = HARD
    chip.restarts.note_start(1)
    restarts, cause = chip.restarts.told()
    assert restarts == 1 and cause.startswith("ValueError in ") and "hunter2" not in cause
    assert chip.restarts.told() == (1, "reset or crash")  # told once
    written_ns = Path("restart.txt").stat().st_mtime_ns
    chip.restarts.restart(1, cause)
    assert Path("restart.txt").stat().st_mtime_ns == written_ns  # the same again wears no flash


def test_a_story_that_cannot_be_written_stops_no_restart(chip: Any) -> None:
    Path("restart.txt").mkdir()
    chip.restarts.note_start(1)
    chip.restarts.restart(1, "MemoryError in app")
    chip.cause = HARD
    chip.restarts.note_start(1)
    assert chip.resets == 1 and chip.restarts.told() == (1, "error")


def boot(monkeypatch: pytest.MonkeyPatch, health: Any) -> list[int]:
    """Run boot.py, for which firmware.hardware.health is `health`; what the watchdog was armed with, in ms."""
    import gc
    import sys

    armed: list[int] = []
    interrupts: list[int] = []
    monkeypatch.setitem(sys.modules, "micropython", SimpleNamespace(kbd_intr=interrupts.append))
    monkeypatch.setattr(gc, "threshold", lambda n: None, raising=False)
    monkeypatch.setattr(sys, "print_exception", lambda error: None, raising=False)
    monkeypatch.setitem(sys.modules, "machine", SimpleNamespace(WDT=lambda timeout: armed.append(timeout)))
    monkeypatch.setitem(sys.modules, "firmware", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "firmware.hardware", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "firmware.hardware.health", health)
    if health is not None:
        sys.modules["firmware.hardware"].health = health
        health.armed = armed
    exec(compile((REPO / "boot.py").read_text(), "boot.py", "exec"), {})
    assert interrupts == [-1]
    return armed


def test_a_boot_that_cannot_load_the_firmware_arms_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn copy: nothing is there, or what is there fails, before it has armed the watchdog or behind that."""
    well = SimpleNamespace(note_start=lambda: well.armed.append(1))
    assert boot(monkeypatch, well) == [1] and not hasattr(well, "note_start")
    assert boot(monkeypatch, None) == [30000]

    def fail() -> None:
        raise MemoryError

    assert boot(monkeypatch, SimpleNamespace(note_start=fail)) == [30000]
    assert boot(monkeypatch, SimpleNamespace()) == [30000]


def test_main_looks_for_no_ctrl_c_until_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte 03 of a browser's ends nothing; behind an exception a computer has its five seconds to step in."""
    import sys

    seen: list[object] = []

    def fail() -> None:
        seen.append("app")
        raise MemoryError

    monkeypatch.setitem(sys.modules, "micropython", SimpleNamespace(kbd_intr=seen.append))
    monkeypatch.setattr(sys, "print_exception", lambda error: None, raising=False)
    monkeypatch.setitem(sys.modules, "firmware", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "firmware.hardware", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "firmware.app", SimpleNamespace(main=fail))
    monkeypatch.setitem(sys.modules, "firmware.hardware.health", SimpleNamespace(why_alone=0))
    restarts = SimpleNamespace(restart_by=lambda error: seen.append(type(error)))
    monkeypatch.setitem(sys.modules, "firmware.hardware.restarts", restarts)
    exec(compile((REPO / "main.py").read_text(), "main.py", "exec"), {})
    assert seen == [-1, "app", 3, MemoryError]


# --- what feeds the watchdog -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uptime_s", "reader_s", "network_s", "well"),
    [
        (0, 0, None, True),
        (10, 0, None, True),
        (11, 0, None, False),  # the reader has not been round its loop for longer than 10 s
        (11, 1, None, True),
        (500, 500, None, True),  # the network counts once it has been used
        (500, 500, 380, True),
        (500, 500, 379, False),
        (500, 489, 500, False),
    ],
)
def test_well(device: Any, uptime_s: int, reader_s: int, network_s: int | None, well: bool) -> None:
    health = device.health.Health.__new__(device.health.Health)
    health._reader_s = health._network_s = 0
    health._network_used = False
    health.uptime_s = reader_s
    health.reader_progressed()
    if network_s is not None:
        health.uptime_s = network_s
        health.network_progressed()
    health.uptime_s = uptime_s
    assert health.well() is well


def test_the_watchdog_bites_where_the_reader_stands_still(tmp_path: Path) -> None:
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        probe.run_for(100)  # fed all the while
        probe.app.services.health.reader_progressed = lambda: None
        began_s = probe.now_s
        with pytest.raises(WatchdogBites):
            probe.run_for(100)
        assert 38 < probe.now_s - began_s < 43


def test_the_watchdog_bites_where_the_network_stands_still(tmp_path: Path) -> None:
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        probe.run_for(10)
        probe.app.services.health.network_progressed = lambda: None
        began_s = probe.now_s
        with pytest.raises(WatchdogBites):
            probe.run_for(300)
        assert 148 < probe.now_s - began_s < 153


def test_a_shortage_of_memory_is_no_end_of_the_watchdogs_task(tmp_path: Path) -> None:
    """The row of quick restarts is ended as soon as there is memory for it again."""
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        health = probe.modules.load("firmware.hardware.health")
        really, asked_s = health.call, []

        def call(path: str, ask: Any) -> Any:
            if path == "firmware.hardware.restarts":
                asked_s.append(round(probe.now_s))
                if len(asked_s) < 4:
                    raise MemoryError
            return really(path, ask)

        health.call = call
        probe.run_for(66)
        assert asked_s == [60, 61, 62, 63]


# --- memory ----------------------------------------------------------------------------------------------------------


class Esp32(SimpleNamespace):
    """The chip's own heap: `largest` is its largest free block."""

    HEAP_DATA = 4
    largest = 12000

    def idf_heap_info(self, _: int) -> list[tuple[int, int, int, int]]:
        return [(70000, self.largest + 500, self.largest, 5816), (14000, 100, 90, 80)]


@pytest.fixture
def esp32(device: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """(firmware.hardware.memory_figures, the chip)."""
    import importlib
    import sys

    figures = importlib.import_module("firmware.hardware.memory_figures")
    chip = Esp32()
    monkeypatch.setitem(sys.modules, "esp32", chip)
    heap = SimpleNamespace(free=30000 + chip.largest, used=26000, collect=lambda: None)
    heap.mem_free = lambda: heap.free
    heap.mem_alloc = lambda: heap.used
    monkeypatch.setattr(figures, "gc", heap)
    chip.heap = heap
    return figures, chip


def test_free_heap_is_pythons_own_and_its_areas_are_counted(esp32: tuple[Any, Any]) -> None:
    figures, chip = esp32
    counts: dict[str, int] = {}
    seen = [0, 0]
    figures.count_into(counts, seen)
    assert counts == {
        "free_heap_bytes": 30000,
        "heap_areas": 1,
        "heap_bytes": 56000,
        "idf_free_bytes": 12600,
        "idf_largest_block_bytes": 12000,
    }
    chip.heap.used, chip.heap.free = 40000, 16000 + chip.largest  # the same area
    figures.count_into(counts, seen)
    assert counts["heap_areas"] == 1
    chip.largest = 800
    chip.heap.used, chip.heap.free = 60000, 52000 + chip.largest  # doubled
    figures.count_into(counts, seen)
    assert counts["heap_areas"] == 2 and counts["free_heap_bytes"] == 52000


def test_without_a_heap_of_the_chips_own_only_pythons_is_told(
    esp32: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    figures, chip = esp32
    monkeypatch.setitem(sys.modules, "esp32", None)
    counts: dict[str, int] = {}
    figures.count_into(counts, [0, 0])
    assert counts == {"free_heap_bytes": chip.heap.free}
    figures.restart_without_wifi_memory()


@pytest.mark.parametrize(("largest", "restarts"), [(340, True), (2047, True), (2048, False), (5816, False)])
def test_memory_for_wifi_that_ran_out_ends_in_a_restart(
    esp32: tuple[Any, Any], chip: Any, largest: int, restarts: bool
) -> None:
    figures, memory = esp32
    memory.largest = largest
    chip.restarts.note_start(1)
    figures.restart_without_wifi_memory()
    assert bool(chip.resets) is restarts
    chip.cause = HARD
    chip.restarts.note_start(1)
    assert chip.restarts.told()[1] == ("memory for Wi-Fi ran out" if restarts else "reset or crash")


# --- whole boards ----------------------------------------------------------------------------------------------------

STARTS = {
    # hangs after boot.py, before anything of the app is there
    "hangs": """import boot, os, time
if "once" not in os.listdir():
    open("once", "w").close()
    time.sleep(60)
import main""",
    "raises": """import boot, os
if "once" not in os.listdir():
    open("once", "w").close()
    from firmware import app
    app.main = None
import main""",
    # without a session for 180 s, and 340 bytes left for Wi-Fi
    "starves": """import boot, os, sys
if "once" not in os.listdir():
    open("once", "w").close()
    class esp32:
        HEAP_DATA = 4
        def idf_heap_info(_):
            return ((70000, 700, 340, 340),)
    sys.modules["esp32"] = esp32
    from firmware.mqtt.session import Network
    def start(self):
        self._health.network_progressed()
        self._health.session_s = -175
    Network.start = start
import main""",
}


def live(folder: Path, port: int, start: str) -> tuple[VirtualBoard, dict[str, Any]]:
    """The board, and its diagnostics once it has been started again."""
    with ScriptedBroker([]) as broker:
        settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "protocol": "sml"}
        settings["probe_id"] = "cellar"
        start = device_tree.name_map(False).apply("firmware/mqtt/session.py", start)  # it names what is ours
        start = device_tree.on_board(start)
        board = VirtualBoard(folder, settings, port, heap_bytes=200 * 1024, start=start)
        with board:
            until_s = time.monotonic() + 55
            while not (board.resets and broker.of("/diagnostics")) and time.monotonic() < until_s:
                time.sleep(0.2)
        told = broker.of("/diagnostics")
        return board, json.loads(told[-1].payload) if told else {}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    folder = tmp_path_factory.mktemp("restarts")
    with OpticalServer(MeterSource(SmlMeter(seed=3))) as server, ThreadPoolExecutor(len(STARTS)) as pool:
        yield {name: pool.submit(live, folder / name, server.port, start) for name, start in STARTS.items()}


@pytest.mark.parametrize(
    ("name", "reset", "cause"),
    [("hangs", WATCHDOG, "watchdog"), ("raises", HARD, "TypeError in main"), ("starves", HARD, "memory for Wi-Fi")],
)
def test_a_start_that_fails_ends_in_a_restart_that_is_told(
    boards: dict[str, Future[Any]], name: str, reset: int, cause: str
) -> None:
    board, diagnostics = boards[name].result()
    assert board.resets == [reset], board.log
    assert diagnostics["restarts"] == 1 and diagnostics["restart_cause"].startswith(cause), diagnostics


def test_a_brokers_name_that_is_unknown_ends_nothing(tmp_path: Path) -> None:
    """A computer's resolver overran a network thread's stack of 8 KiB, which is the chip's."""
    settings = {"wifi_ssid": "home", "mqtt_host": "nowhere.invalid", "protocol": "sml"}
    with OpticalServer(MeterSource(SmlMeter(seed=3))) as server:
        board = VirtualBoard(tmp_path, settings, server.port, heap_bytes=200 * 1024)
        with board:
            until_s = time.monotonic() + 40
            while not any("not resolved" in line for line in board.log) and time.monotonic() < until_s:
                assert board.running, board.log
                time.sleep(0.2)
            assert board.running and any("nowhere.invalid is not resolved" in line for line in board.log), board.log
