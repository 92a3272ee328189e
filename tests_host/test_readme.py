"""What the README tells its reader to do, taken out of it and done against stand-ins.

The steps without a command line are clicked in test_webflash_browser.py, in the README's order.
"""

import json
import os
import re
import shlex
import subprocess

import pytest
from support import readme, stock_image
from support.mock_chip import MockChip

from optoprobe import cli, source_tree
from optoprobe.commands import flash
from optoprobe.environment import runtime
from optoprobe.flashing import board_console, download, esp_chip

SCREEN = 25  # lines
SAID = b"".join(
    b"optoprobe: %s\r\n" % sentence
    for sentence in (b"connected: the Wi-Fi home, the broker", b"light seen", b"first reading: 9 s after the start")
)
TO_BE_SEEN = ("What to buy", "Onto the board", "Home Assistant, from nothing", "The PIN, by torch")
CAPTURES = runtime.REPO / "tests_host" / "captures"


@pytest.mark.parametrize("name", TO_BE_SEEN)
def test_each_task_fits_a_screen(name):
    assert len(readme.section(name).splitlines()) <= SCREEN


@pytest.mark.parametrize("name", TO_BE_SEEN[1:])
def test_what_is_seen_is_shown(name):
    text = readme.section(name)
    pictures = re.findall(r'<img src="([^"]+)"|!\[[^]]+\]\(([^)]+)\)', text)
    assert all((runtime.REPO / (a or b)).is_file() for a, b in pictures)
    assert pictures or re.search(r"^ {8}\w", text, re.MULTILINE)


def test_three_heads_are_named_which_come_along():
    rows = [line for line in readme.section("What to buy").splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 3
    names = [json.loads(file.read_text())["name"] for file in source_tree.board_files().values()]
    starts = ("Hichi IR WiFi v2", "bitShake SmartMeterReader Air", "Seeed XIAO ESP32-C3")
    for row, start in zip(rows, starts, strict=True):
        assert start in row and any(name.startswith(start) for name in names)


def test_without_a_command_line_there_are_three_steps_and_no_command_in_them():
    steps = readme.steps("Onto the board")
    assert 1 <= len(steps) <= 3
    assert not re.search(r"`|optoprobe|make ", " ".join(steps))
    assert readme.buttons() == ["Write the firmware", "Install", "Next", "Connect", "Give it to the probe"]


def test_with_a_command_line_one_command_leads_to_the_broker(tmp_path, capsys, monkeypatch):
    (line,) = re.findall(r"^ {4}(\w.*)$", readme.section("Onto the board"), re.MULTILINE)
    assert line == "make flash"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        [*shlex.split(line), "-n"], cwd=runtime.REPO, env=environment, capture_output=True, text=True, timeout=60
    )
    assert planned.returncode == 0, planned.stderr
    program, *arguments = shlex.split(planned.stdout.splitlines()[-1])
    assert program == ".venv/bin/optoprobe" and arguments == ["flash"]

    # Stand-ins: a chip's boot ROM, a MicroPython, a person's answers, and what a probe says.
    stock = tmp_path / "stock.bin"
    stock.write_bytes(stock_image.make("esp32c3", vfs_blocks=224))
    boards = [name for name, file in source_tree.board_files().items() if '"chip": "esp32c3"' in file.read_text()]
    answers = iter([str(1 + boards.index("hichi_c3")), "home", "192.0.2.10", "probe"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(download, "micropython_for", lambda chip: {"esp32c3": stock}[chip])
    monkeypatch.setattr(flash, "_asks", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    monkeypatch.setattr(flash.getpass, "getpass", lambda _: "correct horse")
    with MockChip("esp32c3") as chip:

        def says(console):
            while not chip._stop.wait(0.05):  # what comes before the port is opened is lost
                os.write(console, SAID)

        def watch(*given):
            chip.is_free.wait(60)
            return real(*given)

        real = board_console.watch
        monkeypatch.setattr(board_console, "watch", watch)
        monkeypatch.setattr(esp_chip, "find_ports", lambda: [(chip.port, "USB JTAG/serial")])
        chip.console = says
        assert cli.main(arguments) == 0
        assert b"192.0.2.10" in chip.flash.data
    out = capsys.readouterr().out
    done = next(line for line in out.splitlines() if line.startswith("Done: "))
    assert "connected: the Wi-Fi home, the broker" in done and "first reading" in done and "correct horse" not in out


def test_what_home_assistant_shows_is_a_meters_telegram(capsys):
    shown = re.findall(r"^ {8}(\w.*?) {2,}(\S.*)$", readme.section("Home Assistant, from nothing"), re.MULTILINE)
    assert len(shown) == 3
    assert cli.main(["decode", str(CAPTURES / "sml_22_entries.hex")]) == 0
    decoded = capsys.readouterr().out
    for name, value in shown:
        assert re.search(rf"^ *{name} +\S+ +{re.escape(value)}$", decoded, re.MULTILINE), (name, value)


def test_a_meter_that_wants_its_pin_is_said_to(capsys):
    assert cli.main(["decode", str(CAPTURES / "sml_no_pin.hex")]) == 0
    assert "PIN needed" in capsys.readouterr().out
