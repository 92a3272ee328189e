"""The boards that come along as docs/hardware.md shows them: `python -m optoprobe.boards.table` prints the table."""

from __future__ import annotations

import json
from typing import Any

from ..source_tree import board_files

_HEAD = ("| `--board` | what it is | chip | RX | TX | light | button | read a meter |", "|" + " --- |" * 8)


def lines() -> list[str]:
    """The table in Markdown."""
    rows = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in board_files().items()}
    return [*_HEAD, *(_line(name, row) for name, row in rows.items())]


def _line(name: str, board: dict[str, Any]) -> str:
    uart, led = board["uart"], board.get("led")
    rx = [str(uart["rx"]), *(["inverted"] if uart["invert_rx"] else [])]
    light = "-" if led is None else f"{led['pin']}, {'low' if led['active_low'] else 'high'}"
    cells = (
        f"`{name}`",
        f"{board['name']}. {board['about']}",
        board.get("chip", "-"),
        ", ".join(rx),
        f"{uart['tx']}, direction {uart['direction']}" if "direction" in uart else uart["tx"],
        light,
        board.get("button", "-"),
        "yes" if board["confirmed"] else "not yet",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    print("\n".join(lines()))
