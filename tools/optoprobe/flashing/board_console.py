"""What a board says on its console while it starts for the first time: its sentences begin with "optoprobe: "."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator
from typing import Any

from ..terminal import printable
from .error import FlashError

_SAID = "optoprobe: "
_BAUD = 115_200
_MOST_LINE = 400
_OPEN_AGAIN_S = 0.2  # a chip with USB of its own vanishes while it restarts
_GONE_S = 10.0
_SETTLED_S = 40.0  # from the broker reached to the first reading
_LIGHT = ("light seen", "the light stays", "dark", "answers when asked", "flashes seen")
_NO_METER = ("the light stays", "dark")  # then no reading comes by waiting
_WAITS = "settings: no Wi-Fi is set"


class FirstWords:
    """What was heard so far: `connected`, `light`, `reading` (the first), `waits` (for its Wi-Fi) and `trouble` are
    sentences, "" for nothing yet.
    """

    def __init__(self) -> None:
        self.connected = self.light = self.reading = self.waits = self.trouble = ""

    @property
    def is_over(self) -> bool:
        """Will waiting bring nothing more?"""
        return bool(self.waits or self.connected and (self.reading or self.light.startswith(_NO_METER)))

    def take(self, sentence: str) -> None:
        if sentence.startswith("connected: "):
            self.connected, self.trouble = sentence, ""
        elif sentence.startswith(_LIGHT):
            self.light = sentence
        elif sentence.startswith("first reading: "):
            self.reading = sentence
        elif sentence.startswith(_WAITS):
            self.waits = sentence
        elif sentence.startswith(("settings: ", "board: ", "the Wi-Fi ", "the broker", "the network")):
            self.trouble = sentence


def watch(port: str, within_s: float, show: Callable[[str], object]) -> FirstWords:
    """Show each sentence of the board until it has told of its broker and its first reading, or the time is over.

    Raises FlashError where the port does not come back.
    """
    import serial  # noqa: F401 - before the time counts

    heard = FirstWords()
    until_s = time.monotonic() + within_s
    with contextlib.closing(lines(port, lambda: time.monotonic() < until_s)) as said:
        for line in said:
            if line.startswith(_SAID):
                sentence = line.removeprefix(_SAID)
                show(sentence)
                if sentence.startswith("connected: ") and not heard.connected:
                    until_s = min(until_s, time.monotonic() + _SETTLED_S)
                heard.take(sentence)
                if heard.is_over:
                    break
    return heard


def lines(port: str, goes_on: Callable[[], bool]) -> Generator[str, None, None]:
    """Printable lines from the console at `port` while `goes_on()`. Raises FlashError where the port stays away."""
    from serial import SerialException

    rest = b""
    line = None
    gone_s = time.monotonic() + _GONE_S
    try:
        while goes_on():
            if line is None:
                line = _open(port)
                if line is None:
                    if time.monotonic() > gone_s:
                        raise FlashError(f"{port} does not come back: plug the board out and in, and name the new port")
                    time.sleep(_OPEN_AGAIN_S)
                    continue
            try:
                data = line.read(max(1, line.in_waiting))
            except (SerialException, OSError, TypeError):
                _close(line)
                line = None
                gone_s = time.monotonic() + _GONE_S
                continue
            *whole, rest = (rest + data).split(b"\n")
            rest = rest[-_MOST_LINE:]
            for text in whole:
                yield printable(text[:_MOST_LINE].decode("utf-8", "replace").rstrip("\r"))
    finally:
        if line is not None:
            _close(line)


def _open(port: str) -> Any:
    """The console, without RTS up alone, which restarts a board; None while it is not there.

    Linux and macOS have raised DTR and RTS when a port is open, and pyserial lets go of DTR first: so both stay up.
    """
    from serial import SerialException, serial_for_url

    try:
        line = serial_for_url(port, _BAUD, timeout=0.1, do_not_open=True)
        if os.name == "nt":
            line.dtr = line.rts = False
        line.open()
    except (SerialException, OSError):
        return None
    return line


def _close(line: Any) -> None:
    """Let go of RTS before DTR."""
    with contextlib.suppress(OSError):  # it has gone, or has no such lines
        line.rts = False
        line.dtr = False
    line.close()
