"""What only a computer or a checker needs of the device's sources is left out of what a board gets.

    _fail("checksum", "sent %02x" % x, 1)   _fail("checksum", "", 1): nobody on a board reads a listener's `detail`
    raise Malformed("too deep")             raise Malformed, whose text ends as such a detail
    from metering.line import SWITCH        nothing, and 2 where SWITCH stands: constants of other files too are numbers
    SOURCE = "IEC 62056-21"                 nothing: `optoprobe` alone tells of it
    SLICES_ARE_CHEAP                        False: what a computer does otherwise is not compiled
    from micropython import const           nothing: mpy-cross knows NAME = const(...) by itself

Each saves a text, or a place in the dicts of the file that defines a name and of those that import it. A constant that
is asked for as an attribute, or has its name for something else in a file, stays what it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from .flat_layout import module_name

# What explains to a computer's user only: function or exception -> which argument.
_EXPLAINED = {"_fail": 1, "_reject": 1, "_reject_frame": 1, "_reject_apdu": 1}
_EXPLAINING = ("Malformed", "_Malformed")  # exceptions whose text does
_TOLD_BY_COMPUTERS = "SOURCE"
_ON_COMPUTERS = "SLICES_ARE_CHEAP"
_MOST = 1 << 29  # larger numbers are objects on a 32-bit board

_Edit = tuple[int, int, int, int, str]  # from line, byte to line, byte: this text


def _span(node: ast.stmt | ast.expr) -> tuple[int, int, int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _is_const(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "const"


def _number(node: ast.expr) -> str | None:
    """The number that const(...) makes, as source text; None where it is no small number, or no such call."""
    if not isinstance(node, ast.Call) or not _is_const(node) or len(node.args) != 1:
        return None
    if any(isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node.args[0])):
        return None
    value = eval(compile(ast.Expression(node.args[0]), "const", "eval"), {"__builtins__": {}})  # numbers only
    if not isinstance(value, int) or abs(value) >= _MOST:
        return None
    return str(value) if value >= 0 else f"({value})"


class _File:
    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        nodes = list(ast.walk(self.tree))
        self.constants: dict[str, str] = {}  # public, of the module's body
        self.definitions: dict[str, ast.stmt] = {}
        for statement in self.tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                number = "False" if name == _ON_COMPUTERS else _number(statement.value)
                if number is not None and not name.startswith("_"):
                    self.constants[name] = number
                    self.definitions[name] = statement
        stored = [n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
        stored += [n.arg for n in nodes if isinstance(n, ast.arg)]
        self.taken = set(stored) - set(self.constants) | {name for name in self.constants if stored.count(name) > 1}
        self.attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        self.imports = [n for n in nodes if isinstance(n, ast.ImportFrom)]
        calls = [n for n in nodes if _is_const(n)]
        known = [n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
        self.calls_const = len(calls) > len([n for n in known if _is_const(n.value)])


class LeanSources:
    """The device's modules as a board gets them; `sources`: path (relative to the device's root, posix) -> text,
    `outside`: texts of what runs beside them.
    """

    def __init__(self, sources: Mapping[str, str], outside: Iterable[str] = ()) -> None:
        self._sources = sources
        self._files: dict[str, _File] = {}
        for path, source in sources.items():
            try:
                self._files[module_name(PurePosixPath(path))] = _File(source)
            except SyntaxError:  # mpy-cross says it in better words
                continue
        everything = [*self._files.values(), *map(_File, outside)]
        asked_for = set().union(*(file.attributes for file in everything))
        self._numbers = {
            module: {n: number for n, number in file.constants.items() if n not in file.taken}
            for module, file in self._files.items()
        }
        kept = {(node.module, alias.name) for file in everything for node in file.imports for alias in node.names}
        for file in self._files.values():
            kept -= {(module, name) for module, name, _, _ in self._imported(file)}
        self._dropped = {
            module: [n for n in numbers if n not in asked_for and (module, n) not in kept]
            for module, numbers in self._numbers.items()
        }

    def _imported(self, file: _File) -> list[tuple[str, str, str, str]]:
        """(module, name, name here, number) of each constant that the file imports and may have as a number."""
        found = []
        for node in file.imports:
            for alias in node.names:
                number = self._numbers.get(node.module or "", {}).get(alias.name)
                here = alias.asname or alias.name
                if number is not None and here not in file.taken:
                    found.append((node.module or "", alias.name, here, number))
        return found

    def apply(self, path: str) -> str:
        """The text of the file at `path` without what is left out."""
        module = module_name(PurePosixPath(path))
        source = self._sources[path]
        file = self._files.get(module)
        if file is None:
            return source
        imported = self._imported(file)
        numbers = {here: number for _, _, here, number in imported}
        numbers |= {n: number for n, number in file.constants.items() if n in self._dropped[module]}
        gone = {(module, name) for module, name, _, _ in imported}
        edits: list[_Edit] = [(*_span(file.definitions[name]), "pass") for name in self._dropped[module]]
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ImportFrom):
                left = [a for a in node.names if (node.module, a.name) not in gone]
                if not file.calls_const:
                    left = [a for a in left if a.name != "const"]
                if len(left) < len(node.names):
                    names = ", ".join(a.name + (f" as {a.asname}" if a.asname else "") for a in left)
                    edits.append((*_span(node), f"from {node.module} import {names}" if left else "pass"))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in numbers:
                edits.append((*_span(node), numbers[node.id]))
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                at = _EXPLAINED.get(name)
                if at is not None and len(node.args) > at and _is_text(node.args[at]):
                    edits.append((*_span(node.args[at]), '""'))
                elif name in _EXPLAINING and len(node.args) == 1 and _is_text(node.args[0]):
                    edits.append((*_span(node), name))
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == _TOLD_BY_COMPUTERS:
                edits.append((*_span(node), "pass"))
            elif isinstance(node, ast.Try) and not file.calls_const and any(_imports_const(part) for part in node.body):
                edits.append((*_span(node), "pass"))
        return _edited(source, edits)


def _imports_const(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and [alias.name for alias in node.names] == ["const"]


def _is_text(node: ast.expr) -> bool:
    """Is it a text, filled in or not?"""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        node = node.left
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _edited(source: str, edits: list[_Edit]) -> str:
    """`source` with the edits; of two that overlap the outer one counts."""
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    outer: list[_Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit[:2], [-edit[2], -edit[3]])):
        if not outer or edit[:2] >= outer[-1][2:4]:
            outer.append(edit)
    for row, start, last, end, text in reversed(outer):
        rest = lines[last - 1][end:]
        lines[row - 1 : last] = [lines[row - 1][:start] + text.encode() + rest]
    return b"".join(lines).decode()
