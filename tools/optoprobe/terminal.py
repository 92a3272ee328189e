"""A few lines at the foot of a terminal, written over again and again. Standard library only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

PLAIN, BOLD, DIM, RED, GREEN, YELLOW = "", "1", "2", "31", "32", "33"

Shown = str | tuple[str, str]  # a line, or a line and its style


def is_terminal() -> bool:
    """Is standard output one on which lines can be written over?"""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def printable(text: str) -> str:
    """What comes over a network must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class LiveLines:
    """What show() was given last stands on the terminal; what is printed in between would be written over."""

    def __init__(self) -> None:
        self._n = 0
        encoding = (sys.stdout.encoding or "ascii").lower()
        self.is_ascii = not encoding.startswith("utf")

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines that can be used: the cursor stands in a line of its own."""
        columns, lines = shutil.get_terminal_size()
        return max(columns, 10), max(lines - 1, 3)

    def show(self, lines: Sequence[Shown]) -> None:
        """`lines` instead of those before, cut to what there is room for."""
        columns, most = self.size
        text = f"\x1b[{self._n}A\r" if self._n else "\r"
        for line in lines[:most]:
            words, style = line if isinstance(line, tuple) else (line, PLAIN)
            words = words[:columns]
            text += (f"\x1b[{style}m{words}\x1b[0m" if style else words) + "\x1b[K\n"
        self._n = min(len(lines), most)
        print(text + "\x1b[J", end="", flush=True)
