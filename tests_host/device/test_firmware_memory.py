"""The whole firmware on a 64 KiB heap: it reads, announces everything and publishes, for a short and a long telegram.

The heap of the virtual board is 64 KiB and what stands in flash on a chip (the fakes of machine and network, and
umqtt.simple); the latter is measured here, so that no more is granted than it takes. The figures printed (pytest -rP)
are those of docs/figures.md.
"""

import ast
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import least_heap
from support.broker import LIVE_KEYS, Listener, Message, PausableMeter

from optoprobe import source_tree
from optoprobe.building import device_tree
from optoprobe.environment import runtime
from optoprobe.virtual.board import BEYOND_BYTES, DETECTION_BYTES, HARDWARE_BYTES, HEAP_BUDGET, TLS_BYTES, VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer, Sent
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter

RUN_S = 20
MOST_LATENCY_S = 1  # generous: the machine may be busy with other tests
POOL_BYTES = 4480  # of MicroPython's names, where they double
LEAST_FREE_BYTES = 2048  # with everything announced and running

# Five entries, as most household meters send, and 22, the longest list met; named by the settings, and found.
LONG = ("list_type_bits", "phases", "key", "two_tariffs", "temperature")
METERS = {"plain": ("sml", ()), "long": ("sml", LONG), "found": ("auto", LONG), "tls": ("sml", LONG)}
NAMED_BYTES = HEAP_BUDGET + HARDWARE_BYTES + BEYOND_BYTES
FOUND_BYTES = NAMED_BYTES + DETECTION_BYTES

WAITS = ("threads", "select", "time")  # the fakes that have one thread run at a time
HARDWARE = (*WAITS, "machine", "network", "umqtt.simple")
LISTENED = ("metering.sml", "firmware.hardware.head", "firmware.reading.telegram_meter", "firmware.app")
COMPOSED = "firmware.composition"  # dropped behind the start: what it imports stays
MOST_ALWAYS_BYTES = 48 * 1024 - 512  # of code and constants with a named SML meter: measured, and 1.5 KiB

# Prints the bytes each module leaves on the heap, in the order given; each has what it imports before it.
MEASURE = """
import gc, sys, json, binascii, errno, os, random, socket, struct, micropython
def measure(name):
    gc.collect()
    before = gc.mem_alloc()
    __import__(name)
    gc.collect()
    return gc.mem_alloc() - before
taken = [0] * {n}
k = 0
for name in {names}:
    taken[k] = measure(name)
    k += 1
    if k == {waits}:
        import asyncio
print(json.dumps(taken))
"""


@dataclass
class Run:
    """One board's 20 s."""

    messages: list[Message]
    sent: list[Sent]
    diagnostics: dict
    log: list[str]
    alive: bool


def run(folder: Path, meter: SmlMeter, probe: str, protocol: str) -> Run:
    ca = OwnCa(folder / "ca") if probe == "probe_tls" else None
    signed = ca.sign("broker", "127.0.0.1") if ca else None
    with Broker(folder / "broker", signed=signed) as broker, OpticalServer(PausableMeter(meter)) as server:
        settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "probe_id": probe}
        settings |= {"protocol": protocol, "publish_interval_s": 0}  # every telegram, as the most work
        heap_bytes = FOUND_BYTES if protocol == "auto" else NAMED_BYTES
        if ca:
            settings["mqtt_tls_ca"] = str(ca.certificate)
            heap_bytes += TLS_BYTES
        board = VirtualBoard(folder / "device", settings, server.port, heap_bytes=heap_bytes)
        with Listener(broker.port, ca=ca.certificate if ca else None) as listener:
            listener.subscribed()
            with board:
                time.sleep(RUN_S - 6)
                asked_s = time.monotonic()
                listener.publish("homeassistant/status", "online")
                time.sleep(6)
                diagnostics = listener.wait_for("/diagnostics", 60, asked_s + 1).object()
                alive = board.running
                return Run(list(listener.messages), list(server.log), diagnostics, board.log, alive)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    folder = tmp_path_factory.mktemp("memory")
    with ThreadPoolExecutor(len(METERS)) as pool:
        yield {
            name: pool.submit(run, folder / name, SmlMeter(1, quirks=quirks), "probe_" + name, protocol)
            for name, (protocol, quirks) in METERS.items()
        }


@pytest.fixture(params=METERS)
def seen(runs: dict[str, Future[Run]], request: pytest.FixtureRequest) -> Run:
    return runs[request.param].result()


def configs(seen: Run) -> dict[str, dict]:
    """The newest discovery payload by topic."""
    found: dict[str, dict] = {}
    for message in seen.messages:
        if message.topic.endswith("/config"):
            found[message.topic] = message.object()
    return found


def test_the_firmware_reads_and_publishes_on_64_kib(seen: Run) -> None:
    assert seen.alive, seen.log
    assert not [line for line in seen.log if "MemoryError" in line or "Traceback" in line], seen.log
    assert seen.diagnostics["held"] == 0, seen.diagnostics
    assert seen.diagnostics["rejected"] <= 1, seen.diagnostics  # a busy machine's line tears one now and then
    assert seen.diagnostics["mqtt_failures"] == 0
    assert seen.diagnostics["registers_beyond_limit"] == seen.diagnostics["messages_refused"] == 0
    assert len(seen.sent) >= RUN_S - 4
    lives = [message.object() for message in seen.messages if message.topic.endswith("/live")]
    assert len(lives) >= len(seen.sent) - 6  # those of an announcement wait, and a newer one takes their place
    free = seen.diagnostics["free_heap_bytes"]
    assert LEAST_FREE_BYTES <= free < HEAP_BUDGET
    print(f"free after a collection: {free} bytes, {len(seen.sent)} telegrams")


def test_probe_and_meter_are_announced_with_every_register(seen: Run) -> None:
    found = configs(seen)
    assert len(found) == 2, list(found)
    probe_topic, meter_topic = sorted(found, key=len)
    entries = {obis for obis, _, _ in seen.sent[-1].expected}
    components = found[meter_topic]["cmps"]
    assert len(components) == len(entries)
    published = set()
    for message in seen.messages:
        if message.topic.endswith(("/state", "/live")):
            published |= set(message.object())
    assert set(components) == published
    for key, component in components.items():
        assert f"value_json.{key} " in component["val_tpl"]
        assert component["stat_t"] in {message.topic for message in seen.messages}
    assert "telegrams" in found[probe_topic]["cmps"]
    assert found[meter_topic]["dev"]["via_device"] in found[probe_topic]["dev"]["ids"]
    sizes = {message.topic: len(message.payload) for message in seen.messages if message.topic in found}
    print(f"{len(components)} registers; discovery payloads of {sizes[probe_topic]} and {sizes[meter_topic]} bytes")


def test_a_telegram_reaches_the_broker_at_once(seen: Run) -> None:
    late = []
    for message in seen.messages:
        if not message.topic.endswith("/live"):
            continue
        power = message.object()["power"]
        ends = [
            sent.monotonic_s
            for sent in seen.sent
            if sent.monotonic_s < message.at_s and any(e[0] in LIVE_KEYS and e[1] == power for e in sent.expected)
        ]
        if ends and message.at_s - ends[-1] < 2:  # what is sent again after an announcement is older
            late.append(message.at_s - ends[-1])
    assert len(late) > len(seen.sent) // 2
    assert statistics.median(late) < MOST_LATENCY_S
    print(f"end of telegram -> broker: median {statistics.median(late) * 1000:.0f} ms, most {max(late) * 1000:.0f} ms")


# --- where the bytes go ----------------------------------------------------------------------------------------------


def source_of(module: str) -> Path | None:
    """The file of a device module, None where there is none of that name."""
    path = (runtime.REPO if module.startswith("firmware") else runtime.REPO / "lib").joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def imports_of(module: str) -> list[str]:
    """Modules of ours that a device module imports when it is loaded itself."""
    source = source_of(module)
    assert source is not None, module
    found: list[str] = []
    for node in ast.parse(source.read_text(encoding="utf-8")).body:  # a function imports when it is called
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("firmware", "metering"):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if source_of(name) is not None]


def in_order(module: str, before: list[str]) -> list[str]:
    """`before` and then `module`, each after all it imports."""
    if module in before:
        return before
    for needed in imports_of(module):
        before = in_order(needed, before)
    return before if module in before else [*before, module]


def modules() -> set[str]:
    """Every device module."""
    paths = [path.relative_to("lib") if path.parts[0] == "lib" else path for path in source_tree.device_modules()]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}


def always() -> list[str]:
    """What stands in memory with a named SML meter, each behind what it imports."""
    names: list[str] = []
    for module in (*imports_of(COMPOSED), *LISTENED):
        names = in_order(module, names)
    return names


def measured(folder: Path, names: list[str]) -> dict[str, int]:
    """Module -> bytes it leaves on MicroPython's heap, in a process of its own, in that order."""
    VirtualBoard(folder, {}, 1)
    script = MEASURE.format(n=len(names), waits=len(WAITS), names=device_tree.on_board(json.dumps(names)))
    environment = dict(os.environ, MICROPYPATH=":".join(["probe", "", "lib", "hardware", ".frozen"]))
    command = [str(runtime.micropython()), "-X", "heapsize=600000", "-c", script]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return dict(zip(names, json.loads(ended.stdout), strict=True))


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Module -> bytes it leaves on MicroPython's heap, hardware first, then ours."""
    names = list(HARDWARE)
    for module in [*always(), *sorted(modules())]:
        names += [name for name in in_order(module, []) if name not in names]
    return measured(tmp_path_factory.mktemp("taken"), names)


def test_no_more_is_granted_for_the_hardware_than_it_takes(tmp_path: Path) -> None:
    """Measured alone: beside our modules' names a block for names, of 600 bytes, begins sooner or later."""
    taken = measured(tmp_path, list(HARDWARE))
    hardware = sum(taken.values())
    assert all(taken[name] > 0 for name in HARDWARE)
    assert HARDWARE_BYTES <= hardware, f"{hardware} bytes measured: HARDWARE_BYTES grants too much"


def test_a_tool_of_the_owners_is_asked_for_no_less_than_it_takes(taken: dict[str, int]) -> None:
    source = (runtime.REPO / "firmware" / "owner" / "owner_commands.py").read_text()
    asked = dict(re.findall(r"^_(ALIGNMENT|CAPTURE)_BYTES = const\((\d+)\)", source, re.MULTILINE))
    alignment = taken["firmware.owner.alignment_task"] + taken["metering.signal_quality"]
    for name, code_bytes in (("ALIGNMENT", alignment), ("CAPTURE", taken["firmware.owner.capture_task"])):
        sizes = code_bytes, code_bytes - POOL_BYTES  # whether the pool doubles here depends on what came before
        assert any(0 < n <= int(asked[name]) <= n + 1024 for n in sizes), f"{name}: {code_bytes} bytes measured"


def test_the_page_asks_for_no_less_than_its_code_takes(taken: dict[str, int]) -> None:
    source = (runtime.REPO / "firmware" / "page" / "page_door.py").read_text()
    asked = re.search(r"^_CODE_BYTES = const\((\d+)\)", source, re.MULTILINE)
    page = "firmware.page.page_"
    code_bytes = sum(taken[page + name] for name in ("request", "access", "answers", "members"))
    code_bytes += max(
        taken["firmware.page.password_hash"], taken[page + "actions"] + taken["firmware.owner.owner_actions"]
    )
    spare = 1024 + POOL_BYTES  # whether the pool doubles here depends on what has been measured before
    assert asked is not None and code_bytes <= int(asked[1]) <= code_bytes + spare, f"{code_bytes} bytes measured"
    assert "_page" not in " ".join(always())  # nothing of it without a password


def test_what_is_asked_for_its_block_has_no_code_of_programming_mode() -> None:
    """1.3 KB, wanted where single registers take less time than the block: with the first of them."""
    loaded = in_order("metering.iec62056_21.poll", [])
    assert "metering.iec62056_21.exchange" in loaded
    assert not [name for name in loaded if "programming" in name]


def test_sentences_of_failures_are_in_no_memory_of_what_reads() -> None:
    words = sorted(name for name in modules() if name.endswith("_words"))
    assert len(words) >= 4
    for module in modules() - set(words):
        assert not set(words) & set(in_order(module, [])), module


def test_every_module_was_measured(taken: dict[str, int]) -> None:
    """Prints the table; the modules that are always there, then the others by family and room."""
    assert modules() <= set(taken)
    stays = always()
    for name in stays:
        print(f"{name:40} {taken[name]:6}")
    rooms: dict[str, int] = {}
    for name in sorted(set(taken) - set(stays) - set(HARDWARE)):
        print(f"  {name:38} {taken[name]:6}")
        room = name.rpartition(".")[0]
        rooms[room] = rooms.get(room, 0) + taken[name]
    print(f"always: {sum(taken[name] for name in stays)}; for a while: {rooms}")
    print(f"fakes and umqtt: {sum(taken[name] for name in HARDWARE)}")
    assert sum(taken[name] for name in stays) <= MOST_ALWAYS_BYTES


def test_the_least_heap_is_bisected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_heap, "free_bytes", lambda _case, heap, *_: heap - 70_000 if heap >= 71_000 else None)
    case = least_heap.CASES["sml"]
    least = least_heap.least_bytes(case, 64 << 10, 80 << 10)
    assert least is not None and 71_000 <= least[0] < 71_000 + least_heap.STEP_BYTES and least[1] == least[0] - 70_000
    assert least_heap.least_bytes(case, 60 << 10, 64 << 10) is None
