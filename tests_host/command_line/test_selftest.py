"""`optoprobe selftest` against MicroPython's unix port on a pty: heap, files and clock are real, the rest stand-ins.

No chip has made this test yet.
"""

import json
import socket

import pytest
from support.pty_board import PtyBoard

from optoprobe import cli
from optoprobe.monitoring import selftest
from optoprobe.settings import on_board

SECRET = "correct horse"


@pytest.fixture
def broker():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def board(monkeypatch, broker):
    monkeypatch.setattr(selftest, "_CLOCK_S", 0.2)
    monkeypatch.setattr(on_board, "_AGAIN_S", 0.05)
    board = PtyBoard()
    try:
        settings = {"wifi_ssid": "Häuschen", "wifi_password": SECRET, "mqtt_host": "127.0.0.1", "mqtt_port": broker}
        for name, content in (("settings.json", settings), ("board.json", {"uart": {"id": 1, "rx": 3, "tx": 1}})):
            board.ask(f"with open({name!r}, 'w') as file:\n    file.write({json.dumps(content)!r})")
        yield board
    finally:
        if board.is_running:
            board.stop()


def run(capsys, *arguments):
    code = cli.main(["selftest", *map(str, arguments)])
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    rows = {line[4:20].strip(): (line[:4].strip(), line[20:]) for line in said.out.splitlines() if line[3:4] == " "}
    return code, rows, said.err


def test_a_board_that_is_well(capsys, board, tmp_path):
    code, rows, error = run(capsys, "--port", board.port, "--mirror", "--out", tmp_path / "report.txt")
    assert (code, error) == (0, ""), rows
    names = ["MicroPython", "heap", "file system", "clock", "RTC memory", "watchdog", "Wi-Fi", "broker"]
    names += [f"UART {selftest.line_words(line)}" for line in selftest.LINES]
    names += ["flashes 1200", "flashes 600", "flashes 300", "flashes 150", "flashes 110", "break", "change of baud"]
    assert [name for name in rows if name in names] == names
    assert all(rows[name][0] == "ok" for name in names), rows
    assert rows["UART 300 7E1"][1] == "16 of 16 bytes came back" and rows["Wi-Fi"][1] == "joined, -61 dBm"
    assert len((tmp_path / "report.txt").read_text().splitlines()) == len(names)
    assert "selftest" not in board.ask("import os; print(os.listdir())")
    notes = board.stop()
    assert "joins Häuschen" in notes and "watchdog 2000" in notes and notes[-1] == "reset"


def test_what_is_not_well_is_named_and_the_rest_is_checked(capsys, board, broker):
    board.ask("import machine\nmachine.UART.blind = True\nmachine.UART.late = b'\\xf8'")
    board.ask("import machine\nmachine.RTC().memory = lambda *data: b''")
    content = json.dumps({"wifi_ssid": "x", "mqtt_host": "127.0.0.1", "mqtt_port": 1})
    board.ask(f"with open('settings.json', 'w') as file:\n    file.write({content!r})")
    code, rows, error = run(capsys, "--port", board.port, "--mirror")
    assert code == 1 and "not well: RTC memory, broker, UART 300 7E1, flashes 300, change of baud; attach" in error
    assert rows["RTC memory"] == ("BAD", "lost in a reset") and "does not answer" in rows["broker"][1]
    assert rows["UART 300 7E1"] == ("BAD", "0 of 16 bytes came back") and rows["UART 1200 7E1"][0] == "ok"
    assert rows["change of baud"] == ("BAD", "17 bytes came back, 16 expected")


def test_without_a_mirror_and_without_settings(capsys, board):
    board.ask("import os; os.remove('settings.json')")
    code, rows, error = run(capsys, "--port", board.port)
    assert code == 1 and "not well: Wi-Fi, broker" in error and "ENOENT" in rows["Wi-Fi"][1]
    assert rows["UART"][0] == "-" and "hold a mirror" in rows["UART"][1]


@pytest.mark.parametrize(("more", "port"), [({}, 1883), ({"mqtt_tls_ca": "mqtt_ca.der"}, 8883)])
def test_the_port_of_a_broker_is_the_one_that_the_firmware_takes(capsys, board, more, port):
    content = json.dumps({"wifi_ssid": "x", "mqtt_host": "127.0.0.1", **more})
    board.ask(f"with open('settings.json', 'w') as file:\n    file.write({content!r})")
    assert f"its port {port} " in run(capsys, "--port", board.port)[1]["broker"][1]


def test_a_port_that_is_none(capsys):
    code, rows, error = run(capsys, "--port", "/dev/no-such-port")
    assert code == 1 and not rows and "there is no port /dev/no-such-port" in error
