"""Lines of a terminal that are written over again and again. Standard library only."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence

_PROGRESS_S = 0.25  # between two changes
PLAIN, BOLD, DIM, RED, GREEN, YELLOW = "", "1", "2", "31", "32", "33"

Shown = str | tuple[str, str]  # a line, or a line and its style


def is_terminal() -> bool:
    """Is standard output one on which lines can be written over?"""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def printable(text: str) -> str:
    """What comes over a network must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class LiveLines:
    """A few at the terminal's foot: what show() was given last. What is printed in between would be written over."""

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


class ProgressLine:
    """One, on stderr, of what has come; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self._shown_s = -math.inf
        self._standing = False
        self.began_s = 0.0

    def show(self, now_s: float, n_bytes: int, n_values: int) -> None:
        if not self.on or now_s - self._shown_s < _PROGRESS_S:
            return
        self.began_s = self.began_s or now_s
        self._shown_s = now_s
        self._standing = True
        registers = f", {n_values:,} registers" if n_values else ""
        text = f"{n_bytes:,} bytes{registers}, {now_s - self.began_s:.0f} s"
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def wipe(self) -> None:
        if self._standing:
            self._standing = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
