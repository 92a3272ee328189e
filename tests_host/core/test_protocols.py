"""The registry as a whole: each row is right, or the suite says in one sentence which is not and why; what is loaded
goes again.
"""

import ast
import importlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import optoprobe
from metering import protocols
from metering.listener import REJECTED, Listener
from metering.unload import unload
from optoprobe.environment import runtime

PARTS = ("listener", "conversation", "probe", "knock")
KNOCK_WORDS = ("LINE", "ON_BATTERY", "WAKES", "ADVICE", "SIGN_ON", "knock")


def stems() -> Counter[str]:
    """How often each module's stem stands in the device's tree: a traceback shows nothing else of it."""
    folders = (runtime.REPO / "firmware", runtime.REPO / "lib" / "metering")
    return Counter(path.stem for folder in folders for path in folder.rglob("*.py") if path.stem != "__init__")


def fault_of(rows: str, stems_of_device: Counter[str]) -> str:
    """The first thing that is wrong with the rows, in one sentence; "" where all is right."""
    names: list[str] = []
    for row in rows.split("\n"):
        words = row.split(" ")
        if len(words) != 5 or not all(words):
            return f"a row is five words with a blank between two of them, not {row!r}"
        name = words[0]
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name in ("auto", protocols.BLINK):
            return f"{name!r} cannot be a protocol's name: small letters, digits and - only, and neither auto nor blink"
        if name in names:
            return f"two rows are named {name}"
        names.append(name)
    for row in rows.split("\n"):
        fault = _fault_of_row(row.split(), names, stems_of_device)
        if fault:
            return fault
    return ""


def _fault_of_row(words: list[str], names: list[str], stems_of_device: Counter[str]) -> str:
    name = words[0]
    modules = []
    for part, path in zip(PARTS, words[1:], strict=True):
        if path == "-" and part != "listener":
            modules.append(None)
            continue
        stem = path.split(".")[-1]
        if stems_of_device[stem] > 1:
            return f"{name}: the stem of its {part}, {stem}, stands {stems_of_device[stem]} times in the device's tree"
        try:
            modules.append(importlib.import_module("metering." + path))
        except ImportError:
            return f"{name}: there is no module metering.{path} for its {part}"
    listener, conversation, probe, knock = modules
    made = getattr(listener, "LISTENER", None)
    if not (isinstance(made, type) and issubclass(made, Listener) and made.NAME == name and made.LINES and made.SOURCE):
        return f"{name}: metering.{words[1]}.LISTENER is no Listener of that NAME with LINES and SOURCE"
    if conversation is not None and not hasattr(getattr(conversation, "CONVERSATION", None), "read_out"):
        return f"{name}: metering.{words[2]}.CONVERSATION has no read_out()"
    if probe and (not callable(getattr(probe, "signature", None)) or not hasattr(probe, "question")):
        return f"{name}: metering.{words[3]} has no signature() or no question"
    if probe is not None and probe.question is not None:
        if not callable(getattr(probe, "answered_by", None)) or probe.answered_by(b"") != "":
            return f"{name}: metering.{words[3]} asks, and has no answered_by() that makes nothing of no answer"
    if knock is not None and not all(hasattr(knock, word) for word in KNOCK_WORDS):
        return f"{name}: metering.{words[4]} has not all of {', '.join(KNOCK_WORDS)}"
    if knock is not None and conversation is None:
        return f"{name}: metering.{words[4]} knocks, and nobody reads who answers"
    return ""


def test_every_row_is_right() -> None:
    assert fault_of(protocols.ROWS, stems()) == ""


SML = "sml sml - sml_probe -"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (SML + "\nmbus sml -", "five words"),
        (SML + "\n", "five words"),
        ("SML sml - sml_probe -", "cannot be a protocol's name"),
        ("blink sml - sml_probe -", "cannot be a protocol's name"),
        (SML + "\n" + SML, "two rows are named sml"),
        ("sml smell - sml_probe -", "no module metering.smell for its listener"),
        ("sml sml - sml_prob -", "no module metering.sml_prob for its probe"),
        ("sml sml asked sml_probe -", "no module metering.asked for its conversation"),
        ("sml dlms.push - sml_probe -", "no Listener of that NAME"),
        ("smell sml - sml_probe -", "no Listener of that NAME"),
        ("sml sml_probe - sml_probe -", "no Listener of that NAME"),
        ("sml sml dlms.push sml_probe -", "has no read_out()"),
        ("sml sml - sml -", "no signature()"),
        ("sml - - sml_probe -", "no module metering.- for its listener"),
        ("sml sml - sml_probe sml_probe", "sml_probe has not all of LINE, ON_BATTERY,"),
        ("sml sml - sml_probe kmp.kmp_knock", "kmp_knock knocks, and nobody reads who answers"),
    ],
)
def test_a_planted_bad_row_is_told_in_one_sentence(rows: str, said: str) -> None:
    fault = fault_of(rows, stems())
    assert said in fault and "\n" not in fault


def test_a_stem_that_stands_twice_is_told() -> None:
    assert "sml_probe, stands 2 times" in fault_of(SML, stems() + Counter(["sml_probe"]))


def test_what_a_row_names_is_loaded_and_dropped_again() -> None:
    for name in protocols.names():
        assert protocols.load(name).NAME == name
        assert (protocols.load_conversation(name) is not None) is protocols.is_asked(name)
        if name in protocols.searched():
            assert protocols.load_probe(name).__name__ == protocols.module_path(name, 3)
        if name in protocols.knocked_for():
            assert protocols.load_knock(name).__name__ == protocols.module_path(name, 4)
    assert not protocols.is_asked(protocols.BLINK)
    for load in (protocols.load, protocols.load_conversation, protocols.load_probe, protocols.is_asked):
        with pytest.raises(KeyError):
            load("nobodys")


def test_what_a_computer_adds_goes_with_its_family() -> None:
    """Loaded anew, it is made of the new family's classes: an error of the old ones would not be caught."""
    old = importlib.import_module("metering.on_computer.cosem_learned")
    unload("metering.dlms")
    listener = importlib.import_module("metering.dlms.push").Dlms()
    assert sys.modules["metering.on_computer.cosem_learned"] is not old
    damaged = bytearray(b"\x0f\x40\x00\x00\x00\x00\x01\x7f\x02\x02\x09\x06\x01\x01\x00\x02\x81\xff")
    listener.feed(damaged, 0, len(damaged))
    listener.on_idle()
    assert listener.next_event() == REJECTED  # more elements than bytes


# Files of the host command that may know a protocol by its name: those that are one protocol's.
ONE_PROTOCOL_EACH = ("masking", "sessions", "simulated", "virtual")
KNOWN_FAMILIES = {
    ("capture_file.py", "metering.iec62056_21.data_block"),  # where an identification ends: part of the file's format
    ("decoding.py", "metering.dlms.meter_key"),  # how a key is written
    ("register_map.py", "metering.modbus.modbus_map"),  # what a map may say
}


def protocols_named_in(file: str, source: str) -> list[str]:
    """What is no business of a command: texts that are a row's name, imports of a family's modules."""
    families = {protocols.module_path(name, 1).split(".")[1] for name in protocols.names()}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in protocols.names():
            found.append(f"{file} line {node.lineno} names {node.value}")
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            words = module.split(".")
            if words[0] == "metering" and words[1:] and words[1] in families and (file, module) not in KNOWN_FAMILIES:
                found.append(f"{file} imports {module}")
    return found


def test_the_row_decides_and_no_command_names_a_protocol() -> None:
    root = Path(optoprobe.__file__).parent
    files = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in ONE_PROTOCOL_EACH]
    files += [root / "virtual" / "board.py", root / "simulated" / "__init__.py"]
    files.remove(root / "settings" / "wcc_sheet.py")  # what a gateway calls the protocols
    files.remove(root / "building" / "name_mapping.py")  # which modules are families by themselves, on a board
    assert len(files) > 25
    assert [named for path in files for named in protocols_named_in(path.name, path.read_text())] == []


def test_a_command_that_names_a_protocol_is_told() -> None:
    source = 'from metering.sml import Sml\nif protocol == "dlms":\n    import metering.iec62056_21.exchange'
    found = [
        "read.py imports metering.sml",
        "read.py line 2 names dlms",
        "read.py imports metering.iec62056_21.exchange",
    ]
    assert sorted(protocols_named_in("read.py", source)) == sorted(found)


@pytest.mark.parametrize("prefix", ["metering.on_computer", "metering.on_computer.cosem_learned"])
def test_what_a_computer_adds_goes_by_its_own_name_too(prefix: str) -> None:
    importlib.import_module("metering.on_computer.cosem_learned")
    unload(prefix)
    assert "metering.on_computer.cosem_learned" not in sys.modules
