"""The firmware's modules with an import of their own, fresh for each start and seen by nobody else."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optoprobe.environment import runtime

CODE: dict[Path, Any] = {}  # compiled once: executing all of it takes 5 ms
ABSENT = {"esp32"}  # of a chip, and not of ours: said without a look into every folder
PACKAGES = {"firmware": runtime.REPO / "firmware", "metering": runtime.REPO / "lib" / "metering"}


class Modules:
    """The firmware's own sys.modules: its packages executed anew, `given` in the place of what is not there."""

    def __init__(self, given: dict[str, Any], say: Callable[[str], None]) -> None:
        self.loaded: dict[str, Any] = {}
        self._given = given
        the_sys = types.ModuleType("sys")
        the_sys.__dict__.update(sys.__dict__)
        the_sys.modules = self.loaded  # type: ignore[attr-defined]
        given["sys"] = the_sys
        self._builtins = dict(vars(builtins))
        self._builtins["__import__"] = self._import
        self._builtins["print"] = lambda *words, **_: say(" ".join(map(str, words)))

    def load(self, name: str) -> Any:
        """The module `name` of firmware or metering, or one that stands in."""
        module = self.loaded.get(name)
        if module is not None:
            return module
        if name in self._given:
            return self._given[name]
        package, _, rest = name.rpartition(".")
        parent = self.load(package) if package else None
        path = PACKAGES[name.split(".")[0]].joinpath(*name.split(".")[1:])
        is_package = path.is_dir()
        path = path / "__init__.py" if is_package else path.with_suffix(".py")
        if path not in CODE:
            try:
                source = b"" if is_package and not path.exists() else path.read_bytes()
            except FileNotFoundError:
                raise ModuleNotFoundError(f"no module {name}", name=name) from None
            CODE[path] = compile(source, str(path), "exec", dont_inherit=True)
        module = types.ModuleType(name)
        module.__dict__["__builtins__"] = self._builtins
        module.__file__ = str(path)
        module.__package__ = name if is_package else package
        self.loaded[name] = module
        try:
            exec(CODE[path], module.__dict__)
        except BaseException:
            del self.loaded[name]
            raise
        if parent is not None:
            setattr(parent, rest, module)
        return module

    def _import(self, name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.split(".")[0]
        if top not in PACKAGES and top not in self._given:
            if top in ABSENT:
                raise ModuleNotFoundError(f"no module {name}", name=name)
            return builtins.__import__(name, globals_, locals_, fromlist, level)
        if top == "micropython" and globals_ and globals_["__name__"].startswith("metering"):
            raise ImportError  # the core takes it for CPython, which it is
        module = self.load(name)
        if not fromlist:
            return self.load(top)
        for part in fromlist:
            if getattr(module, "__file__", "").endswith("__init__.py") and not hasattr(module, part):
                self.load(name + "." + part)
        return module
