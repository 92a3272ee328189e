"""`--board custom`: a board file from questions, each answer held against the chip before the next is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import description

FILE = Path("custom_board.json")
# RX and TX that are free on most boards with the chip.
_PINS = {"esp32": (16, 17), "esp32c3": (4, 5), "esp32c6": (4, 5), "esp32s2": (18, 16), "esp32s3": (18, 17)}

_MOST_NAME = 80  # the schema's

Read = Callable[[str], str]
Say = Callable[[str], object]


def ask(read: Read = input, say: Say = print) -> dict[str, Any]:
    """A board file's content that has passed the check."""
    chips = list(_PINS)
    say("A board of your own. An empty answer takes what stands in brackets.")
    question = f"Its chip, one of {', '.join(chips)}: "
    while (chip := read(question).strip().lower().replace("-", "")) not in chips:
        say("The name stands on the module's lid, such as ESP32-C3.")
    rx, tx = _PINS[chip]
    uart: dict[str, Any] = {"id": 1, "rx": rx, "tx": tx, "invert_rx": False, "invert_tx": False, "rx_pull": "none"}
    name = read(f"A name for it, as Home Assistant shows it [{chip} board]: ").strip() or f"{chip} board"
    board: dict[str, Any] = {"name": name[:_MOST_NAME], "chip": chip, "uart": uart}
    _ask_pin(board, uart, "rx", "uart.rx", "Pin that the head's data comes in by (RX)", read, say)
    _ask_pin(board, uart, "tx", "uart.tx", "Pin that lights the head's LED (TX), or any free one", read, say)
    if _yes(read, "Is it RS-485, by a transceiver whose direction a pin sets?", False):
        uart["direction"] = None
        words = "Pin of its direction (DE and /RE), high while it sends"
        _ask_pin(board, uart, "direction", "uart.direction", words, read, say)
    else:
        uart["invert_rx"] = _yes(read, "Is its data inverted, as a P1 socket's is and a TTL head's is not?", False)
    if uart["rx"] not in description.CHIPS[chip].input_only:
        pull = _yes(read, "Shall the chip pull RX up (no harm beside a head's own)?", True)
        uart["rx_pull"] = "up" if pull else "none"
    if _yes(read, "Is there a light on the board, not an addressable one?", False):
        led: dict[str, Any] = {"pin": None, "active_low": False}
        board["led"] = led
        _ask_pin(board, led, "pin", "led.pin", "Its pin", read, say)
        led["active_low"] = _yes(read, "Does the low level light it?", False)
    return board


def ask_into(file: Path = FILE, read: Read = input, say: Say = print) -> Path:
    """Ask, and write the answers to `file`, which can be named from then on. Raises OSError."""
    board = ask(read, say)
    with file.open("x", encoding="utf-8") as stream:
        stream.write(json.dumps(board, ensure_ascii=False, indent=2) + "\n")
    say(f"Written to {file}: name it with --board {file} the next time.")
    return file


def _ask_pin(
    board: dict[str, Any], part: dict[str, Any], name: str, key: str, words: str, read: Read, say: Say
) -> None:
    usual = part[name]
    question = f"{words}{'' if usual is None else f' [{usual}]'}: "
    while True:
        text = read(question).strip()
        part[name] = usual if not text else int(text) if text.isdecimal() else text
        wrong = [problem for problem in description.problems(board) if key in problem]
        if name == "rx":  # tx is asked for next, and is still the usual one
            wrong = [problem for problem in wrong if "same pin" not in problem]
        if not wrong:
            return
        say(f"{wrong[0]}.")


def _yes(read: Read, question: str, usual: bool) -> bool:
    while True:
        answer = read(f"{question} [{'Y/n' if usual else 'y/N'}]: ").strip().lower()
        if answer in ("", "y", "yes", "n", "no"):
            return usual if not answer else answer.startswith("y")
