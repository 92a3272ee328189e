"""What is wrong with a board file or with settings, before they are copied.

That is what the firmware's own check says, run here, and what a device lets be, so that any version can read the file
of any other: a misspelt key, a pin named twice or not to be had on the chip, no broker.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..boards import description
from ..source_tree import ROOT
from . import placed_files

_NEEDED = (("wifi_ssid", "the name of your Wi-Fi"), ("mqtt_host", "the name or address of your MQTT broker"))
_HALF_A_CHARACTER = "a value holds half a character: type it anew"


def board_problems(file: Path) -> list[str]:
    """Sentences without their full stop, none where the firmware will take `file` and use all of it."""
    data, problem = _object_in(file)
    if data is None:
        return [problem]
    problems = description.problems(data)
    if problems:
        return problems
    with device_modules():
        board = importlib.import_module("firmware.hardware.board")
        try:
            board.load(str(file))
        except board.BoardError as error:
            return [str(error).removeprefix("board: ")]
    return []


def settings_problems(file: Path) -> tuple[list[str], list[str]]:
    """(sentences without their full stop, keys that this version does not know). No value is ever shown."""
    data, problem = _object_in(file)
    if data is None:
        return [problem], []
    try:
        data, _ = placed_files.placed(data, file.parent)
    except placed_files.PlacedFileError as error:
        return [str(error)], []
    except UnicodeEncodeError:
        return [_HALF_A_CHARACTER], []
    with device_modules(), tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:
        settings = importlib.import_module("firmware.settings")
        if any(data.get(key) for key in placed_files.FILES):  # as a board has it
            file = Path(folder, "settings.json")
            file.write_text(json.dumps(data), encoding="utf-8")
        try:
            _, problems = settings.load(str(file))
        except UnicodeEncodeError:
            return [_HALF_A_CHARACTER], []
        known = set(settings.check({})[0])
    unknown = sorted(set(data) - known)
    misspelt = [key for key in unknown if difflib.get_close_matches(key, known, 1, description.ALIKE)]
    problems += [description.unknown(key, known, "") for key in misspelt]
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
    except (ValueError, RecursionError):
        return None, "it is not JSON"
    return (data, "") if isinstance(data, dict) else (None, "it holds no object of keys and values")


class _Kind(type):
    def __getattr__(cls, name: str) -> int:
        return 0


class _Part(metaclass=_Kind):
    """Whatever of `machine` a module names: it can be made and has constants, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def value(self, *_: object) -> None: ...


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
