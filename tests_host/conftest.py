"""Fixtures that suites of several rooms share."""

import asyncio
import gc
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import core_on_micropython

from optoprobe.building import cache
from optoprobe.virtual.board import FAKES


def pytest_configure(config: pytest.Config) -> None:
    """One process of the suite builds the device tree, the others find it built; workers take over the environment."""
    if cache.VARIABLE not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="optoprobe-build-")
        os.environ[cache.VARIABLE] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the core as bytecode, as it is put on a board."""
    return core_on_micropython.install(tmp_path_factory.mktemp("core"))


@pytest.fixture(autouse=True)
def same_modules() -> Iterator[None]:
    """What a test unloads and loads anew is put back: a test module's own imports are of the family that was there."""
    before = {name: module for name, module in list(sys.modules.items()) if name.startswith("metering")}
    yield
    lost = [name for name, module in before.items() if sys.modules.get(name) is not module]
    if not lost:
        return
    for name in [name for name in list(sys.modules) if name.startswith("metering") and name not in before]:
        del sys.modules[name]
    for name in lost:
        sys.modules[name] = before[name]
        parent, _, child = name.rpartition(".")
        setattr(before[parent], child, before[name])


# --- the device's modules on CPython ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """`device.head`, `device.settings` ...: modules of firmware/; nothing of them stays in sys.modules afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        spec = importlib.util.spec_from_file_location("machine", FAKES / "machine.py")
        assert spec is not None and spec.loader is not None
        machine = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(machine)
        patch.setitem(sys.modules, "machine", machine)
        micropython = ModuleType("micropython")
        micropython.const = lambda value: value  # type: ignore[attr-defined]
        micropython.kbd_intr = lambda character: None  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "micropython", micropython)
        patch.setitem(sys.modules, "ntptime", ModuleType("ntptime"))
        patch.setattr(time, "ticks_ms", lambda: int(time.monotonic() * 1000), raising=False)
        patch.setattr(time, "ticks_diff", lambda later, earlier: later - earlier, raising=False)
        patch.setattr(asyncio, "sleep_ms", lambda ms: asyncio.sleep(ms / 1000), raising=False)
        patch.setattr(time, "ticks_add", lambda ticks, ms: ticks + ms, raising=False)
        names = "hardware.board hardware.head hardware.health hardware.rtc_record mqtt.announcer"
        names += " mqtt.homeassistant_blink mqtt.homeassistant mqtt.homeassistant_entities mqtt.outbox mqtt.sockets"
        names += " mqtt.homeassistant_probe mqtt.homeassistant_registers reading.publisher"
        names += " reading.pulse_meter reading.persistent_totals reading.presence reading.line_driver reading.meter"
        names += " reading.detected_meter reading.telegram_meter reading.supervisor owner.owner_commands settings store"
        names += " reading.energy_scale reading.invocation_counters reading.peak_times reading.line_answer"
        modules = {name.split(".")[-1]: importlib.import_module("firmware." + name) for name in names.split()}
        yield SimpleNamespace(**modules)
    for name in [name for name in sys.modules if name.split(".")[0] == "firmware"]:
        del sys.modules[name]


# Files whose scenes start many boards wait most of the time, but not at their start: four of them at once are enough
# for two processors. Each row is one worker's, in this order; it begins first, beside those that compute.
_SCENES = (
    ("test_firmware_iec62056_21", "test_broker_faults", "test_health", "test_read", "test_capture"),
    ("test_firmware_outages", "test_demo"),
    ("test_firmware_pulses", "test_firmware_dlms", "test_firmware_memory", "test_deploy"),
    ("test_setup", "test_setup_browser", "test_page", "test_page_hostile", "test_page_browser"),
)
_BEGIN_NEXT = ("test_mip_index", "test_iec62056_21_poll", "test_code_rules", "test_pulses", "test_detection")


@pytest.hookimpl(tryfirst=True)  # xdist's own looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in their order and on one worker, and put the files in the order of the tables above."""
    group = {stem: f"scenes {k}" for k, row in enumerate(_SCENES) for stem in row}
    order = [stem for row in _SCENES for stem in row] + list(_BEGIN_NEXT)
    rank = {stem: k for k, stem in enumerate(order)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))  # stable: what is not listed stays as it was
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group.get(item.path.stem, item.path.stem)))


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Firmware collects garbage again and again: it need not walk over pytest's items and other files' remains."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish(session: pytest.Session) -> None:
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        pytest.exit("the groups are not heeded: this pytest-xdist cannot mark the names of this pytest's tests", 4)
