"""The house's walls: which room may import which, no circle, names that stand once, nothing too large.

Each rule is a function of sources, so that the same check is shown an offence planted for it. What only the checker
reads (`if TYPE_CHECKING:`) is no import.
"""

import ast
import re
from collections import Counter
from pathlib import PurePosixPath

import pytest

from optoprobe import source_tree

MOST_LINES = 450  # of a module
MOST_FIELDS = 25  # of a class
# Modules of lib/metering that are families by themselves; other families are folders.
FLAT_FAMILIES = ("sml", "sml_probe", "power_direction", "pulses", "pulse_parts", "energy_total", "signal_quality")

# Room -> rooms it may import. A family is "family"; which one, `may_import` looks at.
TABLE = {
    "common": {"common"},
    "family": {"common", "family"},
    "detection": {"common", "detection"},
    "store": {"common", "store"},
    "settings": {"common", "store", "settings", "family"},  # a key's form is DLMS's
    "hardware": {"common", "store", "settings", "hardware"},
    "mqtt": {"common", "store", "settings", "mqtt"},
    "reading": {"common", "family", "detection", "store", "settings", "hardware", "mqtt", "reading"},
    "owner": {"common", "family", "store", "settings", "hardware", "mqtt", "reading", "owner"},
    "page": {"common", "store", "settings", "hardware", "mqtt", "reading", "owner", "page"},
    "setup": {"common", "store", "settings", "hardware", "mqtt", "owner", "page", "setup"},
    "app": {"common", "family", "store", "settings", "hardware", "mqtt", "reading", "owner", "page", "setup", "app"},
    "start": {"hardware", "setup", "app"},
}
# Families that carry another one (M-Bus frames carry DLMS), or are its parts.
BESIDE = {("dlms", "mbus"), ("sml", "power_direction"), ("pulses", "energy_total"), ("energy_total", "pulses")}
BESIDE |= {("pulses", "pulse_parts")}


# The same of the command's rooms; "shared" is what lies in none. Fakes run on MicroPython, below another root.
TOOLS_TABLE = {
    "shared": {"shared", "virtual"},  # how long a capture's bytes are lit
    "boards": {"shared", "boards"},
    "settings": {"shared", "boards", "settings"},
    "building": {"shared", "settings", "building"},
    "flashing": {"shared", "building", "flashing"},
    "webflash": {"shared", "settings", "building", "flashing", "webflash"},
    "monitoring": {"shared", "settings", "monitoring"},
    "demo": {"shared", "simulated", "virtual", "demo"},
    "environment": {"shared", "flashing", "environment"},
    "masking": {"shared", "masking"},
    "sessions": {"shared", "sessions"},
    "simulated": {"shared", "settings", "virtual", "simulated"},
    "virtual": {"shared", "settings", "building", "environment", "simulated", "virtual"},
}


def sources() -> dict[str, str]:
    """Module's name -> text of each device file."""
    names = [*map(PurePosixPath, source_tree.STARTERS), *map(PurePosixPath, source_tree.device_modules())]
    return {module_of(name): source_tree.source(str(name)).read_text() for name in names}


def tools_sources() -> dict[str, str]:
    """The same of the command, with its relative imports written out."""
    tools = source_tree.ROOT / "tools"
    files = [file for file in (tools / "optoprobe").rglob("*.py") if "fakes" not in file.parts]
    texts = {}
    for file in files:
        module = ".".join(file.relative_to(tools).with_suffix("").parts).removesuffix(".__init__")
        package = module if file.stem == "__init__" else module.rpartition(".")[0]
        texts[module] = written_out(file.read_text(), package)
    return texts


def written_out(source: str, package: str) -> str:
    def absolute(found: re.Match[str]) -> str:
        above = package.split(".")[: 1 - len(found[2]) or None]
        return f"{found[1]}from {'.'.join([*above, *filter(None, [found[3]])])} import "

    return re.sub(r"^( *)from (\.+)([\w.]*) import ", absolute, source, flags=re.MULTILINE)


def module_of(path: PurePosixPath) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[1:] if parts[0] == "lib" else parts).removesuffix(".__init__")


def room_of(module: str) -> tuple[str, str]:
    """(room, family or "")."""
    parts = module.split(".")
    if parts[0] == "metering":
        if len(parts) > 2:
            return ("detection", "") if parts[1] == "detection" else ("family", parts[1])
        return ("family", parts[1]) if parts[-1] in FLAT_FAMILIES else ("common", "")
    if parts[0] != "firmware":
        return "start", ""
    if len(parts) == 1:
        return "common", ""  # VERSION
    if parts[1] in ("composition", "device_counts"):
        return "app", ""
    return (parts[1], "") if len(parts) == 2 or parts[1] in TABLE else ("unknown", "")


def imports_of(source: str, known: set[str]) -> set[str]:
    """Modules of ours that a source imports, wherever."""
    tree = ast.parse(source)
    checked = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= below or {node.module} & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found


def wrong_ways(texts: dict[str, str]) -> list[str]:
    """One sentence for each import against the table."""
    wrong = []
    for module, source in texts.items():
        room, family = room_of(module)
        for other in sorted(imports_of(source, set(texts))):
            its_room, its_family = room_of(other)
            allowed = its_room in TABLE.get(room, ())
            if room == its_room == "family" and family != its_family:
                allowed = (family, its_family) in BESIDE
            if not allowed:
                wrong.append(f"{module} imports {other}: {room} must not import {its_room}")
    return wrong


def wrong_ways_of_tools(texts: dict[str, str]) -> list[str]:
    """The same of the command's rooms."""
    rooms = {module.split(".")[1] for module in texts if module.count(".") > 1}

    def room(module: str) -> str:
        name = module.partition(".")[2].partition(".")[0]
        return name if name in rooms else "shared"

    return [
        f"{module} imports {other}: {room(module)} must not import {room(other)}"
        for module, source in texts.items()
        for other in sorted(imports_of(source, set(texts)))
        if room(module) != "commands" and room(other) not in TOOLS_TABLE.get(room(module), ())
    ]


def circles(texts: dict[str, str]) -> list[str]:
    """One sentence for each circle of imports found."""
    arrows = {module: imports_of(source, set(texts)) for module, source in texts.items()}
    found: list[str] = []
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> None:
        if module in path:
            found.append(" imports ".join([*path[path.index(module) :], module]) + ": a circle")
        elif module not in done:
            for other in sorted(arrows[module]):
                follow(other, [*path, module])
            done.add(module)

    for module in sorted(arrows):
        follow(module, [])
    return found


def fields_of(node: ast.ClassDef) -> set[str]:
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
    }


def too_large(texts: dict[str, str]) -> list[str]:
    """One sentence for each module and class beyond the limits."""
    found = []
    for module, source in texts.items():
        n = len(source.splitlines())
        if n > MOST_LINES:
            found.append(f"{module} has {n} lines: more than {MOST_LINES}, split it")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ClassDef):
                continue
            if len(fields_of(node)) > MOST_FIELDS:
                found.append(f"{module}.{node.name} has {len(fields_of(node))} fields: more than {MOST_FIELDS}")
    return found


def names_that_stand_twice(modules: list[str]) -> list[str]:
    """A traceback on the device shows a module's last name alone."""
    counted = Counter(module.rpartition(".")[2] for module in modules)
    return [f"{name} is the name of {n} modules" for name, n in counted.items() if n > 1]


def test_the_rooms_import_as_the_table_says() -> None:
    texts = sources()
    assert len(texts) > 60
    assert not wrong_ways(texts), "\n".join(wrong_ways(texts))


def test_there_is_no_circle() -> None:
    assert not circles(sources()), "\n".join(circles(sources()))


def test_the_rooms_of_the_command_import_as_their_table_says() -> None:
    texts = tools_sources()
    assert len(texts) > 100
    wrong = wrong_ways_of_tools(texts) + circles(texts)
    assert not wrong, "\n".join(wrong)


def test_a_planted_import_of_the_command_is_caught() -> None:
    source = "def f():\n    from ..flashing import image\n    from . import device_tree\n"
    texts = {"optoprobe.building.a": written_out(source, "optoprobe.building"), "optoprobe.flashing.image": ""}
    texts["optoprobe.terminal"] = written_out("from .building.a import f\n", "optoprobe")
    assert wrong_ways_of_tools(texts) == [
        "optoprobe.building.a imports optoprobe.flashing.image: building must not import flashing",
        "optoprobe.terminal imports optoprobe.building.a: shared must not import building",
    ]


def test_nothing_is_too_large() -> None:
    assert not too_large(sources()), "\n".join(too_large(sources()))


def test_no_module_of_the_command_is_too_large() -> None:
    tools = source_tree.ROOT / "tools" / "optoprobe"
    lines = {path.relative_to(tools): path.read_text().count("\n") for path in tools.rglob("*.py")}
    assert not {path: n for path, n in lines.items() if n > MOST_LINES} and len(lines) > 100


def test_each_name_stands_once() -> None:
    assert not names_that_stand_twice(list(sources()))


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("metering.line", "metering.sml"),
        ("metering.sml", "metering.dlms.push"),
        ("metering.dlms.push", "metering.iec62056_21.data_block"),
        ("metering.mbus.mbus_frame", "metering.dlms.push"),
        ("metering.detection.proof", "metering.sml"),
        ("firmware.hardware.head", "firmware.mqtt.session"),
        ("firmware.mqtt.session", "firmware.reading.supervisor"),
        ("firmware.reading.supervisor", "firmware.owner.capture_task"),
        ("firmware.owner.capture_task", "firmware.app"),
        ("firmware.settings", "firmware.mqtt.session"),
    ],
)
def test_a_planted_import_is_caught(module: str, other: str) -> None:
    package, _, name = other.rpartition(".")
    texts = {module: f"def f():\n    from {package} import {name}\n", other: ""}
    assert len(wrong_ways(texts)) == 1


def test_a_rightful_import_passes_and_what_only_the_checker_reads_is_none() -> None:
    texts = {"metering.sml": "from metering.line import Line\n", "metering.line": "", "metering.dlms.push": ""}
    assert not wrong_ways(texts)
    texts["metering.line"] = "if TYPE_CHECKING:\n    from metering.dlms.push import Dlms\n"
    assert not wrong_ways(texts) and not circles(texts)


def test_planted_circles_sizes_and_names_are_caught() -> None:
    texts = {"metering.a": "from metering.b import x\n", "metering.b": "def f():\n    from metering.a import y\n"}
    assert circles(texts) == ["metering.a imports metering.b imports metering.a: a circle"]
    fields = "\n".join(f"        self.f{n} = 0" for n in range(MOST_FIELDS + 1))
    large = f"class Large:\n    def __init__(self):\n{fields}\n" + "\n" * MOST_LINES
    assert len(too_large({"metering.large": large})) == 2
    assert names_that_stand_twice(["metering.line", "firmware.hardware.line"])
