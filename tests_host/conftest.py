"""Fixtures that suites of several rooms share."""

import asyncio
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import core_on_micropython

from optoprobe.virtual.board import FAKES


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the core as bytecode, as it is put on a board."""
    return core_on_micropython.install(tmp_path_factory.mktemp("core"))


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
        patch.setitem(sys.modules, "micropython", micropython)
        patch.setitem(sys.modules, "ntptime", ModuleType("ntptime"))
        patch.setattr(time, "ticks_ms", lambda: int(time.monotonic() * 1000), raising=False)
        patch.setattr(time, "ticks_diff", lambda later, earlier: later - earlier, raising=False)
        patch.setattr(asyncio, "sleep_ms", lambda ms: asyncio.sleep(ms / 1000), raising=False)
        patch.setattr(time, "ticks_add", lambda ticks, ms: ticks + ms, raising=False)
        names = "hardware.board hardware.head hardware.health hardware.rtc_record mqtt.homeassistant"
        names += " mqtt.homeassistant_blink mqtt.homeassistant_entities mqtt.outbox mqtt.sockets reading.publisher"
        names += " reading.pulse_meter reading.persistent_totals reading.presence reading.line_driver reading.meter"
        names += " reading.detected_meter reading.telegram_meter reading.supervisor owner.owner_commands settings store"
        names += " reading.energy_scale"
        modules = {name.split(".")[-1]: importlib.import_module("firmware." + name) for name in names.split()}
        yield SimpleNamespace(**modules)
    for name in [name for name in sys.modules if name.split(".")[0] == "firmware"]:
        del sys.modules[name]


# Files that wait most of the time begin first, side by side with those that compute; so do the linters' processes.
_BEGIN_FIRST = (
    "test_firmware_outages",
    "test_firmware_iec62056_21",
    "test_firmware_pulses",
    "test_broker_faults",
    "test_demo",
    "test_firmware_dlms",
    "test_firmware_memory",
    "test_deploy",
    "test_code_rules",
    "test_pulses",
    "test_read",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in their order, and put the files in that order."""
    rank = {name: k for k, name in enumerate(_BEGIN_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))  # stable: what is not listed stays as it was
