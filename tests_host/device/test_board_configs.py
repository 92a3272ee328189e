"""Every file of board_configs/ is one the firmware accepts, and says where its facts were read.

The firmware's own loader judges it, in front of a stand-in for `machine` that records what was asked of it.
"""

import importlib
import json
import sys
import types

import pytest

from optoprobe.environment import runtime

FILES = sorted((runtime.REPO / "board_configs").glob("*.json"))
UART_KEYS = {"id", "rx", "tx", "invert_rx", "invert_tx", "rx_pull", "buffer_bytes"}


class Pin:
    IN, OUT, PULL_UP, PULL_DOWN = 1, 3, 2, 1
    made: list[tuple] = []

    def __init__(self, *arguments):
        self.made.append(arguments)

    def value(self, level):
        """Only an output's is set."""
        assert level == 0


class UART:
    INV_TX, INV_RX = 32, 4
    made: list[tuple[int, dict]] = []

    def __init__(self, number, **settings):
        self.made.append((number, settings))

    def readinto(self, buffer): ...


class Signal:
    def __init__(self, pin, invert=False):
        self.invert = invert


@pytest.fixture
def board(monkeypatch):
    """firmware.hardware.board, imported afresh in front of the stand-ins."""
    machine = types.ModuleType("machine")
    machine.__dict__.update(Pin=Pin, UART=UART, Signal=Signal)
    micropython = types.ModuleType("micropython")
    micropython.__dict__["const"] = lambda value: value
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.setitem(sys.modules, "micropython", micropython)
    monkeypatch.setattr(Pin, "made", [])
    monkeypatch.setattr(UART, "made", [])
    for name in [name for name in sys.modules if name.split(".")[0] == "firmware"]:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("firmware.hardware.board")
    for name in [name for name in sys.modules if name.split(".")[0] == "firmware"]:
        del sys.modules[name]  # bound to the stand-ins


def test_there_are_boards():
    assert {"virtual", "hichi_c3", "esp32_devkit"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_firmware_accepts_it(file, board):
    from metering.line import Line

    data = json.loads(file.read_text())
    _, head, led = board.load(str(file))
    uart = data["uart"]
    pull = {"up": Pin.PULL_UP, "down": Pin.PULL_DOWN, "none": None}[uart["rx_pull"]]
    assert Pin.made[0] == (uart["rx"], Pin.IN, pull)
    assert UART.made == []
    head.open(Line(9600))
    number, settings = UART.made[0]
    assert (number, settings["rx"], settings.get("tx")) == (uart["id"], uart["rx"], uart["tx"])
    assert bool(settings["invert"] & UART.INV_RX) == uart["invert_rx"]
    assert bool(settings["invert"] & UART.INV_TX) == uart["invert_tx"]
    assert settings["rxbuf"] == uart["buffer_bytes"]
    assert ((uart.get("direction"), Pin.OUT) in Pin.made) is ("direction" in uart)
    if "pin" in data.get("led", {}):
        assert led.invert == data["led"]["active_low"]
        assert Pin.made[-1] == (data["led"]["pin"], Pin.OUT)
    else:
        assert led is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_complete_and_names_its_sources(file):
    data = json.loads(file.read_text())
    assert set(data["uart"]) - {"direction"} == UART_KEYS  # none is left to its default
    assert data["name"] and data["source"] and all(isinstance(line, str) and line for line in data["source"])
    assert data["confirmed"] is False, "once a real board has confirmed it, say in `source` who saw it, and change this"
    assert data["uart"]["id"] != 0, "MicroPython has its console on UART0, of some builds on the others too"


@pytest.mark.parametrize(
    "change",
    [{"rx": None}, {"rx": 99}, {"tx": True}, {"direction": 99}, {"rx_pull": "sideways"}, {"id": 7}]
    + [{"buffer_bytes": 128}],
)
def test_a_wrong_one_is_refused_before_a_pin_is_touched(change, board, tmp_path):
    data = json.loads((runtime.REPO / "board_configs" / "virtual.json").read_text())
    data["uart"].update(change)
    (tmp_path / "board.json").write_text(json.dumps(data))
    with pytest.raises(board.BoardError, match="board:"):
        board.load(str(tmp_path / "board.json"))
    assert Pin.made == []
