"""Where a compiled module lies on a board, and what it is called there: in one folder, by its short name.

    firmware/reading/line_driver.py   firmware.reading.line_driver   ->   probe/line_driver.mpy   line_driver
    lib/metering/guard.py             metering.guard                 ->   probe/guard.mpy         guard
    lib/metering/dlms/gcm.py          metering.dlms.gcm              ->   probe/dlms/gcm.mpy      dlms.gcm

MicroPython keeps of every module that was ever loaded its path, its full name and its last name among the names on the
heap, and a module object and a dict for each folder above it: 3 KB of a probe that reads SML, and more where more is
loaded. The last name stands there anyway, as tracebacks have it; so it is the name. No two modules share one.

Rewritten are imports and, in texts, the full names of modules and the text "metering.", which a full name is made of.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

FOLDER = "probe"  # boot.py puts it into sys.path
_CORE = "metering."
_NAME = re.compile(r"(?<![\w./-])(?:firmware|metering)(?:\.\w+)+(?![\w./-])")
_IMPORT = re.compile(r"from (?P<package>(?:firmware|metering)(?:\.\w+)*) import (?P<first>\w+|\()")


class LayoutError(Exception):
    """Two modules would have one name; the text is one sentence that names them."""


def module_name(path: Path | PurePosixPath) -> str:
    """The full name of the module of this file, relative to the device's root."""
    parts = path.with_suffix("").parts
    parts = parts[1:] if parts[0] == "lib" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class FlatLayout:
    """The layout of a device's modules; `paths` are all of their files, as in the clone."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._short: dict[str, str] = {}
        for path in paths:
            name = module_name(path)
            short = name.removeprefix(_CORE) if name.startswith(_CORE) else name.rpartition(".")[2]
            if short in self._short.values():
                raise LayoutError(f"{path.as_posix()}: another module is called {short}: rename one of the two")
            self._short[name] = short
        folders = {name.rpartition(".")[0] for name in self._short} - set(self._short)
        self._names = self._short | {name: name.removeprefix(_CORE) for name in folders if name.startswith(_CORE)}

    def place(self, path: Path) -> Path:
        """Where the module of this file lies on a board, without suffix."""
        return Path(FOLDER, *self._short[module_name(path)].split("."))

    def apply(self, source: str) -> str:
        """The file's text with the modules' names as they are on a board; every line stays where it was."""
        lines = [_IMPORT.sub(self._import, line) for line in source.splitlines(keepends=True)]
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO("".join(lines)).readline))
        except (tokenize.TokenError, SyntaxError):  # mpy-cross says it in better words
            return source
        for token in reversed([token for token in tokens if token.type == tokenize.STRING]):
            (row, start), (last, end) = token.start, token.end
            if row == last:
                line = lines[row - 1]
                lines[row - 1] = line[:start] + self._text(token.string) + line[end:]
        return "".join(lines)

    def _import(self, found: re.Match[str]) -> str:
        package, first = found["package"], found["first"]
        full = f"{package}.{first}"
        if full in self._short:
            package = self._short[full].rpartition(".")[0]
            return f"from {package} import {first}" if package else f"import {first}"
        return f"from {self._short.get(package, package)} import {first}"  # types are deployed nowhere

    def _text(self, text: str) -> str:
        if text == f'"{_CORE}"':
            return '""'
        return _NAME.sub(lambda found: self._names.get(found[0], found[0]), text)
