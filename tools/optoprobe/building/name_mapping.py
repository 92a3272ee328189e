"""Names of ours in the device's code, mapped at build onto names that stand in MicroPython's flash already.

MicroPython keeps every name of a loaded module in its string pool on the heap: its text, a hash and a place in an array
that doubles now and then. Some 600 names of ours took 13.6 KB of a board's memory. A name that the image holds in flash
costs nothing, so each of ours becomes one of those; what is left over becomes two letters. Texts, topics, JSON keys and
module names stay as they are. Tracebacks are translated back by the table (`translate`).

The world is closed: only names that the device's own files define are mapped, and only where no other meaning exists.

    attributes, methods, class members     one to one over all files that know the name or hold a class that its owner
                                           extends or is extended by: no file and no object has two names become one.
                                           Where the owner is not seen (x.name = 1), one to one over the whole device,
                                           or over one family where no other file knows the name
    functions, classes, globals, arguments one to one within each file that holds the name
    never                                  names in stock_names.txt, of modules, of boot.py and main.py, dunders, and
                                           private constants, which mpy-cross removes anyway; the texts of a file that
                                           looks names up by a text it computes

A word that would be missed by all this ends the build with one sentence: `MappingError`.
"""

from __future__ import annotations

import ast
import builtins
import functools
import io
import itertools
import keyword
import re
import string
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import PurePosixPath

EVERYWHERE, ESP32, ELSEWHERE = "everywhere", "esp32", "elsewhere"
# Families of one module, each; the others are folders.
_FLAT_FAMILIES = ("sml", "pulses", "pulse_parts", "energy_total", "signal_quality")
_BY_TEXT = ("getattr", "setattr", "hasattr", "delattr")  # builtins that take a name as a text

# A line of a traceback, or a restart's cause ("TypeError in app, line 3, in run"): where, in which function.
_PLACE = re.compile(r'((?:File "|Error in )([\w/.]+)"?, line \d+, in )(\w+)')


class MappingError(Exception):
    """A name cannot be mapped safely; the text is one sentence that names it and the file."""


def stock_names() -> dict[str, list[str]]:
    """Section -> names of stock_names.txt."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    file = resources.files("optoprobe.building").joinpath("stock_names.txt")
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            current += line.split()
    return sections


@functools.lru_cache(maxsize=512)
def _nodes(source: str) -> tuple[ast.AST, ...]:
    """The nodes of a file's tree, the module first."""
    return tuple(ast.walk(ast.parse(source)))


class _File:
    """One device file: its words, and what kind of name each one it defines is."""

    def __init__(self, path: PurePosixPath, source: str) -> None:
        self.path = path
        self.words = {token.string for token in _names_in(source)}
        self.members: set[str] = set()  # attributes and what stands in a class's body
        self.others: set[str] = set()  # functions, classes, globals, arguments
        self.constants: set[str] = set()  # private ones
        self.owners: dict[str, set[str]] = {}  # member -> classes of this file that have it
        self.bases: dict[str, set[str]] = {}  # class of this file -> the classes it extends
        self.strays: set[str] = set()  # members that are set or deleted on something else than self
        nodes = _nodes(source)
        assert isinstance(nodes[0], ast.Module)
        self._define(nodes[0].body, self.others)
        for node in nodes:
            self._look_at(node)
        self.others |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)} - self.members

    def _look_at(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            self.members.add(node.attr)
            if not isinstance(node.ctx, ast.Load) and getattr(node.value, "id", "") != "self":
                self.strays.add(node.attr)
        elif isinstance(node, ast.arg):
            self.others.add(node.arg)
        elif isinstance(node, ast.ClassDef):
            self._define(node.body, self.members)
            self._own(node)
        elif isinstance(node, ast.FormattedValue):
            raise MappingError(f"{self.path} line {node.lineno} has names inside an f-string: use % there")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and node.keywords:
            raise MappingError(f"{self.path} line {node.lineno} makes keys of names with dict(): write them as texts")

    def _own(self, node: ast.ClassDef) -> None:
        """Note what the class has, and what it extends."""
        bases = {getattr(base, "id", getattr(base, "attr", "?")) for base in node.bases}
        self.bases[node.name] = self.bases.get(node.name, set()) | bases
        names: set[str] = set()
        self._define(node.body, names)
        names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)}
        for name in names:
            self.owners.setdefault(name, set()).add(node.name)

    def _define(self, body: list[ast.stmt], names: set[str]) -> None:
        """Collect what the statements of a module or a class define there."""
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(statement.name)
                continue
            value = getattr(statement, "value", None)
            constant = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "const"
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    (self.constants if constant and node.id.startswith("_") else names).add(node.id)

    @staticmethod
    def computed_names(source: str) -> set[str]:
        """Texts that may be looked up as names: all of a file that looks names up by what it computes."""
        nodes = _nodes(source)
        lookups = [
            node.args[1]
            for node in nodes
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _BY_TEXT
            and len(node.args) > 1
        ]
        if all(isinstance(name, ast.Constant) for name in lookups):
            return set()
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        return {text for text in texts if text.isidentifier()}

    def texts_as_names(self, source: str) -> Iterator[tuple[int, str]]:
        """(line, text) of each name that is looked up by a text."""
        for node in _nodes(source):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_TEXT:
                for argument in node.args[1:2]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield node.lineno, argument.value


@functools.lru_cache(maxsize=512)
def _names_in(source: str) -> tuple[tokenize.TokenInfo, ...]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return tuple(token for token in tokens if token.type == tokenize.NAME and not keyword.iskeyword(token.string))


def _parses(source: str) -> bool:
    """Is it Python? What is not, mpy-cross refuses in better words."""
    try:
        _nodes(source)
    except SyntaxError:
        return False
    return True


def _room(path: str) -> str:
    """The family whose file this is, "" for what every family may share."""
    parts = PurePosixPath(path).with_suffix("").parts
    below = parts[parts.index("metering") + 1 :] if "metering" in parts else ()
    return below[0] if len(below) > 1 or below and below[0] in _FLAT_FAMILIES else ""


class _Relatives:
    """The files that hold classes which extend one another, however far: they may hold one object."""

    def __init__(self, files: Mapping[str, _File]) -> None:
        self._files = files
        self._of: dict[str, set[str]] = {}  # class -> itself and its relatives
        for file in files.values():
            for name, bases in file.bases.items():
                together = set().union(*(self._of.get(other, {other}) for other in (name, *bases)))
                for other in together:
                    self._of[other] = together
        self._where: dict[str, set[str]] = {}
        for path, file in files.items():
            for name in file.bases:
                self._where.setdefault(name, set()).add(path)

    def files_of(self, word: str, where: Iterable[str]) -> set[str] | None:
        """Those of the member `word`, which stands in the files `where`; None where nobody knows whose it is."""
        if any(word in file.strays for file in self._files.values()):
            return None
        owners: set[str] = set().union(*(self._files[path].owners.get(word, set()) for path in where))
        if not owners and not any(word in self._files[path].others for path in where):
            return None
        found = set(where)
        for owner in owners:
            for relative in self._of[owner]:
                if relative not in self._where:  # somebody else's: what it has is not seen
                    return None
                found |= self._where[relative]
        return found


class NameMap:
    """The mapping of a device's files.

    `sources`: path (relative to the device's root, posix) -> text of each file that is compiled. `outside`: texts of
    what runs beside them unmapped, as boot.py. `first`: paths whose names matter most, in that order. `on_esp32`: may
    the port's own names be used? `kept`: sections of stock_names.txt whose names stay what they are.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        outside: Iterable[str] = (),
        first: Iterable[str] = (),
        on_esp32: bool = True,
        kept: Iterable[str] = (EVERYWHERE, ESP32, ELSEWHERE),
    ) -> None:
        stock = stock_names()
        targets = stock[EVERYWHERE] + (stock[ESP32] if on_esp32 else [])
        sources = {path: source for path, source in sources.items() if _parses(source)}
        files = {path: _File(PurePosixPath(path), source) for path, source in sources.items()}
        taboo = set(itertools.chain.from_iterable(stock[section] for section in kept)) | {"self", "cls", "const"}
        for text in outside:
            taboo |= {token.string for token in _names_in(text)}
        for path, file in files.items():
            taboo |= set(PurePosixPath(path).with_suffix("").parts)
            taboo |= file.computed_names(sources[path])
        rank = {path: k for k, path in enumerate(first)}
        where: dict[str, list[str]] = {}
        for path, file in sorted(files.items(), key=lambda item: rank.get(item[0], len(rank))):
            for word in file.words:
                where.setdefault(word, []).append(path)
        self._of: dict[str, dict[str, str]] = {path: {} for path in files}  # path -> our name -> the stock name
        self._taken = {word: set(paths) for word, paths in where.items()}  # in which files a name stands
        members = set().union(*(file.members for file in files.values()))
        defined = set().union(*(file.members | file.others for file in files.values()))
        mine = [
            word
            for word in where
            if word in defined and word not in taboo and not word.startswith("__") and word not in dir(builtins)
        ]
        order = {word: (rank.get(where[word][0], len(rank)), -len(word), word) for word in mine}
        rooms = {path: _room(path) for path in files}
        spare = (a + b for a, b in itertools.product(string.ascii_letters, string.ascii_letters + string.digits))
        targets += [word for word in spare if word not in taboo and not keyword.iskeyword(word)]
        assigned = self._definitions_of_attributes(sources)
        relatives = _Relatives(files)
        for word in sorted((word for word in mine if word in members and word in assigned), key=order.__getitem__):
            its = {rooms[path] for path in where[word]}
            within = relatives.files_of(word, where[word])
            if within is None:
                within = {path for path in files if len(its) > 1 or "" in its or rooms[path] in its | {""}}
            self._assign(word, where[word], within, targets)
        for word in sorted((word for word in mine if word not in members), key=order.__getitem__):
            self._assign(word, where[word], set(where[word]), targets)
        for path, file in files.items():
            for line, text in file.texts_as_names(sources[path]):
                if text in self._of[path]:
                    raise MappingError(f"{path} line {line} looks {text!r} up by its text: declare the name instead")

    @staticmethod
    def _definitions_of_attributes(sources: Mapping[str, str]) -> set[str]:
        """Members that the device's own files define; what is only asked for belongs to somebody else."""
        found: set[str] = set()
        for source in sources.values():
            for node in _nodes(source):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.add(node.attr)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    found.add(node.name)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    found.add(node.id)
        return found

    def _assign(self, word: str, where: list[str], within: set[str], targets: list[str]) -> None:
        for target in targets:
            if within.isdisjoint(self._taken.get(target, ())):
                break
        else:
            raise MappingError(f"no name is left for {word}")
        for path in where:
            self._of[path][word] = target
        self._taken.setdefault(target, set()).update(within)

    def apply(self, path: str, source: str) -> str:
        """The file's text with its names mapped; every line stays where it was."""
        names = self._of.get(path)
        if not names:
            return source
        lines = source.splitlines(keepends=True)
        for token in reversed([token for token in _names_in(source) if token.string in names]):
            (row, start), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:start] + names[token.string] + line[end:]
        return "".join(lines)

    def table(self) -> dict[str, dict[str, str]]:
        """Module's stem -> stock name -> our name: what `translate` needs."""
        return {
            PurePosixPath(path).stem: {target: word for word, target in sorted(names.items())}
            for path, names in sorted(self._of.items())
            if names
        }


def translate(text: str, table: Mapping[str, Mapping[str, str]]) -> str:
    """A traceback of a mapped build, or its `restart_cause`, in our own names. Other lines stay as they are."""
    lines = []
    stem = ""
    for line in text.splitlines(keepends=True):
        place = _PLACE.search(line)
        if place:
            stem = PurePosixPath(place[2]).stem
            ours = table.get(stem, {}).get(place[3], place[3])
            line = line[: place.start(3)] + ours + line[place.end(3) :]
        elif stem and re.match(r"\w+(Error|Exception|Exit|Interrupt)\b", line):
            for quoted in set(re.findall(r"'(\w+)'", line)):
                line = line.replace(f"'{quoted}'", f"'{table.get(stem, {}).get(quoted, quoted)}'")
            stem = ""
        lines.append(line)
    return "".join(lines)
