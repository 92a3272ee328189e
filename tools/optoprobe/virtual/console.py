"""The console of a virtual board, as its USB port shows it: a pty at `port`.

A chip takes a Ctrl-C out of what comes and interrupts its program, unless the program has told it not to
(micropython.kbd_intr): so does this.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import tty
from collections.abc import Callable

_CTRL_C = b"\x03"


class Console:
    """What is typed at `port` goes to write(bytes), unless a Ctrl-C interrupts() the program."""

    def __init__(self, write: Callable[[bytes], object], interrupts: Callable[[], bool]) -> None:
        self._write = write
        self._interrupts = interrupts
        self._master, self._slave = pty.openpty()  # the slave stays open: a port is there when nobody has it open
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)  # what nobody reads is lost, as on a chip
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def say(self, data: bytes) -> None:
        """The program has printed `data`."""
        with contextlib.suppress(OSError):
            os.write(self._master, data)

    def _listen(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._master, 4096)
            except OSError:
                continue
            typed, *others = data.split(_CTRL_C)
            for piece in others:
                typed = piece if self._interrupts() else typed + _CTRL_C + piece  # what came before it is thrown away
            self._write(typed)  # in one piece, as on a line: on a busy computer much time passes between two

    def close(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(5)
            os.close(self._master)
            os.close(self._slave)
