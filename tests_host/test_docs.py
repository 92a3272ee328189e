"""What README and docs promise: links lead somewhere, commands exist, the example of the library runs."""

import contextlib
import functools
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import core_on_micropython

from optoprobe import cli
from optoprobe.environment import runtime
from optoprobe.virtual.sml_meter import SmlMeter

REPO = runtime.REPO
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
EXAMPLE = REPO / "docs" / "examples" / "read_telegrams.py"
FOLLOWING = REPO / "docs" / "examples" / "follow_meter.py"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`/])optoprobe ([a-z]+)((?: +[^`|#\n]*)?)")
TREE_PATH = re.compile(r"`((?:lib|firmware|tools|tests_host|board_configs|docs)/[\w./-]*)`")
MOST_LINES = 160  # of the README: for the owner, and read to its end


def dead_links(page: Path) -> list[str]:
    """Links of a page, and paths of the clone it names, that lead nowhere."""
    text = page.read_text()
    links = [page.parent / link for link in LINK.findall(text) if "://" not in link]
    return [str(path) for path in [*links, *(REPO / name for name in TREE_PATH.findall(text))] if not path.exists()]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(command, its options) of each `optoprobe ...` on a page."""
    found = []
    for name, rest in COMMAND.findall(page.read_text()):
        rest = re.split(r"\s{3,}", rest.strip())[0]  # what stands behind is an explanation
        try:
            words = shlex.split(rest.replace("[", " ").replace("]", " ").replace("|", " "))
        except ValueError:
            words = rest.split()
        found.append((name, [word.split("=")[0] for word in words if word.startswith("--")]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    assert not dead_links(page)


@functools.cache
def help_of(name: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0, f"optoprobe {name}"
    return said.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_commands_and_their_options_exist(page: Path) -> None:
    for name, options in commands(page):
        missing = [option for option in options if not re.search(rf"{option}\b", help_of(name))]
        assert not missing, f"optoprobe {name} has no {missing}"


def test_what_is_planted_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[x](gone.md) `lib/metering/gone.py` optoprobe decode --gone")
    assert len(dead_links(page)) == 2
    assert commands(page) == [("decode", ["--gone"])]


def unplaced(text: str, modules: list[str]) -> list[str]:
    """Folders of `modules` (their paths) that the text does not name, and modules that lie in none and have no name."""
    words = {word.strip("/").removesuffix(".py") for word in re.findall(r"`([^`]+)`", text)}
    missing = set()
    for module in modules:
        folder, _, name = module.rpartition("/")
        if folder in ("lib/metering", "firmware", "tools/optoprobe"):
            missing |= {module} - {module for word in words if word.rpartition("/")[2] == name.removesuffix(".py")}
        elif not words & {folder, folder.rpartition("/")[2]}:
            missing.add(folder)
    return sorted(missing)


def test_every_folder_and_every_module_without_one_is_placed() -> None:
    listed = [path for top in ("lib", "firmware", "tools") for path in (REPO / top).rglob("*.py")]
    modules = [path.relative_to(REPO).as_posix() for path in listed if not path.name.startswith("__")]
    assert not unplaced((REPO / "docs" / "developing.md").read_text(), modules)
    assert unplaced("`lib/metering/dlms` `guard`", ["lib/metering/dlms/push.py", "lib/metering/guard.py"]) == []
    assert unplaced("kmp", ["lib/metering/kmp/a.py", "firmware/app.py"]) == ["firmware/app.py", "lib/metering/kmp"]


def test_the_readme_is_short() -> None:
    assert len((REPO / "README.md").read_text().splitlines()) <= MOST_LINES


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPO / "docs" / "library.md").read_text(), re.DOTALL)


def test_the_examples_stand_in_the_page_as_they_are_run() -> None:
    assert blocks()[:2] == [EXAMPLE.read_text(), FOLLOWING.read_text()]
    assert all(len(example.read_text().splitlines()) <= 25 for example in (EXAMPLE, FOLLOWING))


def test_what_is_followed_is_held_where_it_is_not_plausible() -> None:
    meter = SmlMeter(3)
    first, second = meter.telegram(5), meter.telegram(10)
    said = subprocess.run(
        [sys.executable, FOLLOWING], input=first + second + first, capture_output=True, timeout=60, check=True
    ).stdout.decode()
    assert len(re.findall(r"^Energy import \d+\.\d+ kWh$", said, re.MULTILINE)) == 2, said  # the last one is less
    assert len(re.findall(r"^Power ", said, re.MULTILINE)) == 3


def test_decode_in_the_page_says_what_the_meter_has_sent(capsys: pytest.CaptureFixture[str]) -> None:
    meter = SmlMeter(3)
    exec(blocks()[2], {"data": meter.telegram(5)})
    assert "Energy import 14798" in capsys.readouterr().out


def test_the_example_runs_on_both_runtimes(core: Path, tmp_path: Path) -> None:
    recording = tmp_path / "telegram.bin"
    recording.write_bytes(SmlMeter(3).telegram(5))
    by_cpython = subprocess.run(
        [sys.executable, EXAMPLE, recording], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert re.search(r"^Energy import \d+\.\d+ kWh$", by_cpython, re.MULTILINE), by_cpython
    assert core_on_micropython.printed(core, EXAMPLE, recording) == by_cpython


# ETSI EN 303 645 V2.1.1: how many provisions each of its parts has.
ETSI = {"5.1": 5, "5.2": 3, "5.3": 16, "5.4": 4, "5.5": 8, "5.6": 9, "5.7": 2, "5.8": 3, "5.9": 3, "5.10": 1, "5.11": 4}
ETSI |= {"5.12": 3, "5.13": 1, "6": 5}


def test_every_provision_of_etsi_en_303_645_has_one_row_and_a_state() -> None:
    text = (REPO / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| (\d[\d.]*-\d+) \| ([^|]+) \| ([^|]+) \|([^|]*)\|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == [f"{part}-{n}" for part, most in ETSI.items() for n in range(1, most + 1)]
    for provision, asked, state, why in rows:
        assert state in ("yes", "partly", "no", "-"), provision
        assert re.search(r"\([MR](, C)?\)$", asked), provision
        assert why.strip() or state in ("no", "-"), provision
