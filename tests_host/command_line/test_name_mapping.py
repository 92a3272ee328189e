"""Our names become names that stand in flash: nothing else changes, and tracebacks lead back.

What the mapped files do is shown by every scene on the virtual board, which is built with them.
"""

import ast
import functools
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from optoprobe import source_tree
from optoprobe.building import device_tree
from optoprobe.building.name_mapping import ELSEWHERE, ESP32, EVERYWHERE, MappingError, NameMap, stock_names, translate
from optoprobe.environment import runtime

# Interns every name given, then prints those that were not in flash.
ASK = """
import micropython, sys
class Nothing: pass
for name in open(sys.argv[1]):
    hasattr(Nothing, name.strip())
micropython.qstr_info(1)
"""


@functools.cache
def sources() -> dict[str, str]:
    """Of all device modules, made lean."""
    return {name.as_posix(): device_tree.lean_text(name) for name in source_tree.device_modules()}


def tokens(source: str) -> dict[int, list[str]]:
    """By their kind."""
    found: dict[int, list[str]] = {kind: [] for kind in (tokenize.STRING, tokenize.NUMBER, tokenize.OP, tokenize.NAME)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in found:
            found[token.type].append(token.string)
    return found


@pytest.mark.parametrize("on_esp32", [False, True])
def test_nothing_but_names_changes_and_no_two_names_become_one_in_a_file(on_esp32: bool) -> None:
    mapped = device_tree.name_map(on_esp32)
    changed = 0
    for path, source in sources().items():
        result = mapped.apply(path, source)
        assert len(result.splitlines()) == len(source.splitlines())
        before, after = tokens(source), tokens(result)
        names = set(zip(before.pop(tokenize.NAME), after.pop(tokenize.NAME), strict=True))
        assert after == before, path
        assert len({old for old, _ in names}) == len({new for _, new in names}) == len(names), path
        changed += sum(old != new for old, new in names)
        ast.parse(result)
    assert changed > 1500


def test_attributes_are_one_to_one_over_the_device() -> None:
    """A name that several files know as an attribute has one other name in all of them."""
    mapped = device_tree.name_map(False)
    became: dict[str, set[str]] = {}
    for path, source in sources().items():
        result = mapped.apply(path, source)
        for before, after in zip(ast.walk(ast.parse(source)), ast.walk(ast.parse(result)), strict=True):
            if isinstance(before, ast.Attribute) and isinstance(after, ast.Attribute):
                became.setdefault(before.attr, set()).add(after.attr)
    assert {name: found for name, found in became.items() if len(found) > 1} == {}


@pytest.mark.parametrize("on_esp32", [False, True])
def test_no_two_members_of_an_object_become_one(on_esp32: bool) -> None:
    """Of each class with all that it extends, whichever files these stand in."""
    table = device_tree.name_map(on_esp32)._of
    members: dict[str, set[tuple[str, str]]] = {}  # class -> (our name, what it has become)
    bases: dict[str, set[str]] = {}
    for path, source in sources().items():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ClassDef):
                continue
            bases.setdefault(node.name, set()).update(ast.unparse(base).split(".")[-1] for base in node.bases)
            names = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
            names |= {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            members.setdefault(node.name, set()).update((name, table[path].get(name, name)) for name in names)
    checked = 0
    for name in members:
        ancestors = {name}
        for _ in range(5):
            ancestors |= {base for ancestor in ancestors for base in bases.get(ancestor, ())}
        has = set().union(*(members.get(ancestor, set()) for ancestor in ancestors))
        assert len({before for before, _ in has}) == len({after for _, after in has}), name
        checked += len(ancestors) > 1
    assert checked > 15


def test_a_name_is_used_again_where_no_object_and_no_file_has_both() -> None:
    sources = {
        "firmware/first.py": "class Base:\n    def __init__(self):\n        self.field_of_base = 1\n",
        "firmware/other.py": "class Other:\n    def __init__(self):\n        self.field_of_other = 1\n",
        "firmware/child.py": "from firmware.first import Base\n\n\nclass Child(Base):\n"
        "    def look(self):\n        self.field_of_child = 1\n",
        "firmware/stray.py": "def mark(thing):\n    thing.field_of_nobody = 1\n",
    }
    mapped = NameMap(sources, kept=())
    became = {
        name: next(table[name] for table in mapped._of.values() if name in table)
        for name in ("field_of_base", "field_of_other", "field_of_child", "field_of_nobody")
    }
    assert became["field_of_base"] != became["field_of_child"]  # one object may have both
    assert became["field_of_other"] in (became["field_of_base"], became["field_of_child"])
    assert list(became.values()).count(became["field_of_nobody"]) == 1  # its object may be any


def test_what_extends_a_class_of_somebody_elses_shares_no_name() -> None:
    sources = {
        "firmware/fault.py": "class Fault(Exception):\n    def __init__(self):\n        self.field_of_fault = 1\n",
        "firmware/other.py": "class Other:\n    def __init__(self):\n        self.field_of_other = 1\n",
    }
    mapped = NameMap(sources, kept=())
    fault, other = mapped._of["firmware/fault.py"], mapped._of["firmware/other.py"]
    assert fault["field_of_fault"] != other["field_of_other"]


def test_the_names_used_stand_in_the_flash_of_a_computers_micropython(tmp_path: Path) -> None:
    names = stock_names()
    assert not set(names[EVERYWHERE]) & set(names[ESP32]) and len(names[ELSEWHERE]) > 500
    (tmp_path / "names").write_text("\n".join(names[EVERYWHERE]))
    command = [str(runtime.micropython()), "-X", "heapsize=4m", "-c", ASK.replace("sys.argv[1]", '"names"')]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    in_memory = {line[2:-1] for line in done.stdout.splitlines() if line.startswith("Q(")}
    assert "Nothing" in in_memory
    assert not in_memory & set(names[EVERYWHERE])


def test_the_build_is_the_same_each_time() -> None:
    outside = [source_tree.source(name).read_text() for name in source_tree.STARTERS]
    assert NameMap(sources(), outside).table() == NameMap(dict(reversed(sources().items())), outside).table()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("class A:\n    def own_name(self):\n        return getattr(self, 'own_name')\n", "by its text"),
        ("def f(own_name):\n    return f'{own_name}'\n", "f-string"),
        ("def f(own_name):\n    return dict(own_name=1)\n", "dict()"),
    ],
)
def test_what_cannot_be_mapped_safely_ends_the_build(source: str, sentence: str) -> None:
    with pytest.raises(MappingError, match="firmware/planted.py line [0-9].*") as error:
        NameMap({"firmware/planted.py": source})
    assert sentence in str(error.value)


def test_what_may_be_looked_up_by_a_computed_text_keeps_its_name() -> None:
    sources = {
        "firmware/holder.py": "class Holder:\n    def __init__(self):\n        self.kept_field = 1\n"
        "        self.other_field = 1\n",
        "firmware/saver.py": 'NAMES = ("kept_field",)\n\n\ndef save(holder):\n'
        "    return [getattr(holder, name) for name in NAMES]\n",
    }
    result = NameMap(sources).apply("firmware/holder.py", sources["firmware/holder.py"])
    assert "kept_field" in result and "other_field" not in result


def test_what_belongs_to_others_keeps_its_name() -> None:
    source = (
        "from machine import UART\n\n_PRIVATE = const(3)\n\n\nclass Own_Thing:\n    def __init__(self):\n"
        "        self.uart = UART(1, baudrate=9600)\n        self.own_field = _PRIVATE\n"
    )
    result = NameMap({"firmware/planted.py": source}, ["import own_field_of_boot"]).apply("firmware/planted.py", source)
    for kept in ("machine", "UART", "baudrate", "__init__", "_PRIVATE", "self.uart"):
        assert kept in result
    assert "own_field" not in result and "Own_Thing" not in result


def test_a_traceback_reads_in_our_own_names(tmp_path: Path) -> None:
    """A fault on MicroPython from mapped bytecode, and the command that translates it."""
    source = "class Meter_Like:\n    def ask_it(self):\n        return self.missing_field\n\n\ndef begin_it():\n    "
    source += "Meter_Like().ask_it()\n\n\ndef never_called(it):\n    it.missing_field = 1\n"
    mapped = NameMap({"firmware/planted.py": source}, on_esp32=False)
    (tmp_path / "planted.py").write_text(mapped.apply("firmware/planted.py", source))
    start = mapped.table()["planted"]
    begin = next(name for name, ours in start.items() if ours == "begin_it")
    command = [str(runtime.micropython()), "-c", f"import planted\nplanted.{begin}()"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60).stderr
    assert "ask_it" not in said and "missing_field" not in said
    translated = translate(said, mapped.table())
    assert "in begin_it" in translated and "in ask_it" in translated
    assert "'Meter_Like' object has no attribute 'missing_field'" in translated


def test_the_command_translates_by_the_table_of_this_version(tmp_path: Path) -> None:
    table = device_tree.name_map().table()["sml"]
    target, ours = next((target, ours) for target, ours in table.items() if ours == "readings" or ours.startswith("_"))
    log = tmp_path / "log"
    log.write_text(f'optoprobe: hello\nTraceback (most recent call last):\n  File "sml", line 0, in {target}\n')
    command = [sys.executable, "-m", "optoprobe", "traceback", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"in {ours}" in done.stdout and "optoprobe: hello" in done.stdout
    assert subprocess.run([*command[:-1], str(tmp_path / "gone")], capture_output=True, timeout=60).returncode == 2


def test_a_restarts_cause_leads_back_too() -> None:
    table = {"app": {"qq": "run"}}
    assert translate("TypeError in app, line 3, in qq", table) == "TypeError in app, line 3, in run"
    assert translate('{"restart_cause": "OSError in app, line 3, in qq"}', table).endswith('line 3, in run"}')
    for text in ("watchdog", "TypeError in app, line 3", "TypeError in other, line 3, in qq", "in app, line 3, in qq"):
        assert translate(text, table) == text
