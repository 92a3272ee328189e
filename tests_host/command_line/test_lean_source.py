"""What is left out of a board's modules changes nothing there, and where they lie is one place each."""

import ast
from pathlib import Path

import pytest

from optoprobe import source_tree
from optoprobe.building import device_tree
from optoprobe.building.flat_layout import FlatLayout, LayoutError
from optoprobe.building.lean_source import LeanSources

MODULES = source_tree.device_modules()
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def lean(**files: str) -> dict[str, str]:
    """The files of firmware/ of those names as a board gets them."""
    sources = {f"firmware/{name}.py": text for name, text in files.items()}
    result = LeanSources(sources)
    return {name: result.apply(f"firmware/{name}.py") for name in files}


def test_constants_of_other_files_are_numbers() -> None:
    found = lean(
        a="from micropython import const\nONE = const(1)\nLESS = const(-2)\nASKED = const(3)\nBIG = const(1 << 30)\n",
        b="from firmware.a import BIG, LESS, ONE as FIRST\nfrom firmware import a\n"
        "def f(x=FIRST):\n    return x.ONE_ELSE, LESS, a.ASKED, BIG\n",
    )
    assert found["a"] == "pass\npass\npass\nASKED = const(3)\nBIG = const(1 << 30)\n"
    assert found["b"] == (
        "from firmware.a import BIG\nfrom firmware import a\ndef f(x=1):\n    return x.ONE_ELSE, (-2), a.ASKED, BIG\n"
    )


def test_a_name_that_means_something_else_here_stays() -> None:
    found = lean(
        a="ONE = const(1)\nTWO = const(2)\nTWO = const(3)\n",
        b="from firmware.a import ONE, TWO\ndef f(ONE):\n    return ONE, TWO\n",
    )
    assert found["a"] == "ONE = const(1)\nTWO = const(2)\nTWO = const(3)\n"
    assert found["b"] == "from firmware.a import ONE, TWO\ndef f(ONE):\n    return ONE, TWO\n"


def test_what_mpy_cross_does_not_know_as_a_constant_is_made_on_the_board() -> None:
    source = "from micropython import const\nA, B = const(1), const(2)\n"
    assert lean(a=source)["a"] == source


def test_what_explains_to_a_computers_user_goes_and_what_the_owner_reads_stays() -> None:
    found = lean(
        a='def f(self, n):\n    self._fail("cut off", "%d ä bytes" % n, n)\n    self._fail("cut off", n, 1)\n'
        '    raise Malformed("no %s" % n)\n'
    )
    assert found["a"] == (
        'def f(self, n):\n    self._fail("cut off", "", n)\n    self._fail("cut off", n, 1)\n    raise Malformed\n'
    )
    security = device_tree.lean_text(Path("lib/metering/dlms/security.py"))
    assert "GCM tag mismatch" in security  # metering.dlms.key_advice quotes it


def test_every_module_still_compiles_and_defines_what_others_import() -> None:
    """But for constants, which nobody imports any more."""
    texts = {name: device_tree.lean_text(name) for name in MODULES}
    defined = {}
    for name, text in texts.items():
        short = device_tree.layout().place(name)
        names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        names |= {n.name for n in ast.parse(text).body if isinstance(n, DEFINITIONS)}
        names |= {alias.asname or alias.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)
                  for alias in n.names}  # fmt: skip
        defined[".".join(short.parts[1:])] = names
    checked = 0
    for text in [*texts.values(), *(source_tree.source(name).read_text() for name in source_tree.STARTERS)]:
        for node in ast.walk(ast.parse(device_tree.on_board(text))):
            if isinstance(node, ast.ImportFrom) and node.module in defined:
                checked += len(node.names)
                assert {alias.name for alias in node.names} <= defined[node.module], (node.module, text[:80])
    assert checked > 150
    assert "SLICES_ARE_CHEAP" not in "".join(text for text in texts.values()).replace("asks SLICES_ARE_CHEAP", "")


def test_modules_lie_in_one_folder_and_are_called_by_their_last_names() -> None:
    layout = FlatLayout([Path("firmware/mqtt/net.py"), Path("lib/metering/fam/one.py"), Path("lib/metering/two.py")])
    assert layout.place(Path("lib/metering/fam/one.py")) == Path("probe/fam/one")
    source = (
        "from firmware.mqtt import net\nfrom metering.fam import one as first\nfrom metering.two import x, y\n"
        'call("firmware.mqtt.net", "metering.fam metering.two", "metering." + x, "see metering.two.")\n'
    )
    assert layout.apply(source) == (
        "import net\nfrom fam import one as first\nfrom two import x, y\n"
        'call("net", "fam two", "" + x, "see metering.two.")\n'
    )
    with pytest.raises(LayoutError, match="another module is called net"):
        FlatLayout([Path("firmware/mqtt/net.py"), Path("firmware/net.py")])
