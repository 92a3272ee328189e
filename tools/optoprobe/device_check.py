"""What is wrong with a board file or with settings, before they are copied.

That is what the firmware's own check says, run here, and what a device lets be, so that any version can read the file
of any other: a misspelt key, a pin named twice, no broker.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .source_tree import ROOT

_BOARD_KEYS = {"name", "source", "confirmed", "uart", "led", "button"}
_UART_KEYS = {"id", "rx", "tx", "invert_rx", "invert_tx", "rx_pull", "buffer_bytes"}
_LED_KEYS = {"pin", "active_low", "rgb"}
_NEEDED = (("wifi_ssid", "the name of your Wi-Fi"), ("mqtt_host", "the name or address of your MQTT broker"))
_ALIKE = 0.75  # as difflib counts: wifi_sid and wifi_ssid


def board_problems(file: Path) -> list[str]:
    """Sentences without their full stop, none where the firmware will take `file` and use all of it."""
    data, problem = _object_in(file)
    if data is None:
        return [problem]
    problems = [_unknown(key, _BOARD_KEYS, "") for key in sorted(set(data) - _BOARD_KEYS)]
    uart, led = data.get("uart"), data.get("led", {})
    if isinstance(uart, dict):
        problems += [_unknown(key, _UART_KEYS, "uart.") for key in sorted(set(uart) - _UART_KEYS)]
    if isinstance(led, dict):
        problems += [_unknown(key, _LED_KEYS, "led.") for key in sorted(set(led) - _LED_KEYS)]
        if "active_low" in led and not isinstance(led["active_low"], bool):
            problems.append("led.active_low must be true or false")
        if not isinstance(led.get("rgb", []), list):
            problems.append("led.rgb must be a list of three pins")
    with device_modules():
        board = importlib.import_module("firmware.hardware.board")
        try:
            board.load(str(file))
        except board.BoardError as error:
            problems.append(str(error).removeprefix("board: "))
    return problems or _pins_used_twice(data)


def settings_problems(file: Path) -> tuple[list[str], list[str]]:
    """(sentences without their full stop, keys that this version does not know). No value is ever shown."""
    data, problem = _object_in(file)
    if data is None:
        return [problem], []
    with device_modules():
        settings = importlib.import_module("firmware.settings")
        _, problems = settings.load(str(file))
        known = set(settings.check({})[0])
    unknown = sorted(set(data) - known)
    misspelt = [key for key in unknown if difflib.get_close_matches(key, known, 1, _ALIKE)]
    problems += [_unknown(key, known, "") for key in misspelt]
    if not problems:
        problems += [f"{key} is missing: give {words}" for key, words in _NEEDED if not data.get(key)]
    return problems, [key for key in unknown if key not in misspelt]


def _object_in(file: Path) -> tuple[dict[str, Any] | None, str]:
    """The JSON object in `file`, or None and why not; the text of a parser's error may quote the file, so it is not
    repeated."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except ValueError:
        return None, "it is not JSON"
    return (data, "") if isinstance(data, dict) else (None, "it holds no object of keys and values")


def _unknown(key: str, known: set[str], prefix: str) -> str:
    alike = difflib.get_close_matches(key, known, 1, _ALIKE)
    meant = f"did you mean {prefix}{alike[0]}?" if alike else "remove it"
    return f"{prefix}{key} is nothing that is read: {meant}"


def _pins_used_twice(data: dict[str, Any]) -> list[str]:
    led = data.get("led", {})
    named = [("uart.rx", data["uart"].get("rx")), ("uart.tx", data["uart"].get("tx"))]
    named += [("button", data.get("button")), ("led.pin", led.get("pin"))]
    named += [("led.rgb", pin) for pin in led.get("rgb", [])]
    by_pin: dict[object, list[str]] = {}
    for what, pin in named:
        if pin is not None:
            by_pin.setdefault(pin, []).append(what)
    return [f"{' and '.join(names)} name the same pin {pin}" for pin, names in by_pin.items() if len(names) > 1]


class _Kind(type):
    def __getattr__(cls, name: str) -> int:
        return 0


class _Part(metaclass=_Kind):
    """Whatever of `machine` a module names: it can be made and has constants, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...


@contextlib.contextmanager
def device_modules() -> Iterator[None]:
    """Modules of the firmware can be imported; nothing of them stays afterwards."""
    machine: Any = types.ModuleType("machine")
    machine.__getattr__ = lambda name: _Part
    micropython: Any = types.ModuleType("micropython")
    micropython.const = lambda value: value
    before = {name: module for name, module in sys.modules.items() if _is_devices(name)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(machine=machine, micropython=micropython)
    sys.path.insert(0, str(ROOT))
    try:
        yield
    finally:
        sys.path.remove(str(ROOT))
        for name in [name for name in sys.modules if _is_devices(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_devices(name: str) -> bool:
    return name.partition(".")[0] in ("firmware", "machine", "micropython")
