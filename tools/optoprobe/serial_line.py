"""A computer's serial port with an optical head on it: carries out the line actions of metering.line over pyserial.

A line of 7 bits and parity is opened as 8N1, the parity bit made by `with_parity` and left in what is received, as on
the device: the same light, but a wrong parity reaches the protocol, where a driver that checks parity itself would put
a 0 in the byte's place or leave it out, and no two do the same. Some USB adapters cannot do 7 bits at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Generator
from typing import Any

import serial

from metering.characters import with_parity
from metering.echo import Echo
from metering.line import ANSWER_BYTES, ANSWER_MS, MAX_SENT, Line, perform
from metering.listener import NOTHING, TELEGRAM

try:
    from termios import error as _TermiosError
except ImportError:  # Windows, where pyserial raises SerialException alone
    _TermiosError = serial.SerialException

_PORT_ERRORS = (OSError, _TermiosError, ValueError)  # SerialException is an OSError; ValueError: a baud it cannot do
_SLOT_S = 0.05  # at most so long between two looks at Ctrl-C, the progress and the clock
_ADAPTER_S = 0.005  # on its way to the adapter's FIFO: no driver knows of it
_WRITE_S = 10.0  # a port that takes no bytes for so long is stuck; 64 bytes at 300 baud are 2.2 s
_START = Line(300, 7, "E")
PTS = "/dev/pts/"  # of pseudo-terminals

AnswerEnd = Callable[[bytearray, int], int]  # of (buffer, n): how many bytes the answer takes, 0 while more comes


class PortError(Exception):
    """The port cannot be used; the text is one sentence with the cure, `code` the command's exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


def open_port(name: str) -> serial.Serial:
    """The port `name`, ours alone, at 300 baud 8N1. Raises PortError."""
    try:
        return serial.Serial(name, _START.baud, timeout=_SLOT_S, write_timeout=_WRITE_S, exclusive=True)
    except _PORT_ERRORS as error:
        raise PortError(_why_not_opened(name, error)) from error


def set_line(port: serial.Serial, line: Line) -> None:
    """Other settings without closing the port: a close drops DTR, which feeds many heads. Raises PortError.

    What does not change is not set again, since some drivers stop the port for each setting. A pseudo-terminal has no
    bits, and refuses a parity.
    """
    has_bits = not os.path.realpath(str(port.name)).startswith(PTS)
    parity = line.parity if line.bits == 8 and line.parity and has_bits else "N"
    try:
        if port.parity != parity:
            port.parity = parity
        if port.stopbits != line.stop:
            port.stopbits = line.stop
        if port.baudrate != line.baud:
            port.baudrate = line.baud
    except _PORT_ERRORS as error:
        raise PortError(f"{port.name} cannot be set to {line!r} ({_reason(error)}): use another adapter") from error


def char_s(line: Line) -> float:
    """Seconds that one character takes."""
    return (1 + line.bits + (1 if line.parity else 0) + line.stop) / line.baud


def _reason(error: BaseException) -> str:
    """What the system says, without the numbers and names that pyserial puts around it."""
    if isinstance(error.__context__, _TermiosError):
        error = error.__context__
    if isinstance(error, _TermiosError) and len(error.args) > 1:
        return str(error.args[1])
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def _why_not_opened(name: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO) or "FileNotFoundError" in str(error):
        from serial.tools import list_ports

        there = ", ".join(sorted(port.device for port in list_ports.comports()))
        return f"there is no port {name}: plug the head in, or name another ({there or 'none is there now'})"
    if number in (errno.EACCES, errno.EPERM):
        return f"{name} is not yours to use: join the group {_group(name)} (usermod -aG) and log in again"
    if number in (errno.EBUSY, errno.EAGAIN) or "PermissionError" in str(error):
        return f"{name} is in use: end the program that reads it (another optoprobe, ModemManager, a terminal)"
    return f"{name} is no serial port that can be used ({_reason(error)}): check its name"


def _group(name: str) -> str:
    with contextlib.suppress(ImportError, OSError, KeyError):
        import grp

        return grp.getgrgid(os.stat(name).st_gid).gr_name
    return "that owns it"


class SerialLine:
    """One port, opened by PORT's name. Usable in a `with`. Raises PortError, from every method.

    `line` is how it is set now. `asked`: bytes were sent since the last telegram came, so that somebody may be waiting.
    """

    def __init__(self, port: str) -> None:
        self.name = port
        self.line = _START
        self.asked = False
        self._port: Any = self._open_port()
        self._kept = bytearray()  # received, not taken by an action yet
        self._echo = Echo()
        self._on_progress: Callable[[bytes], None] | None = None

    def _open_port(self) -> Any:
        return open_port(self.name)

    @property
    def trouble(self) -> str:
        """What has befallen the connection that the conversation cannot see; "" here, where it is raised."""
        return ""

    def __enter__(self) -> SerialLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(*_PORT_ERRORS):
            self._port.close()

    def drive(
        self,
        conversation: Generator[Any, Any, Any],
        on_telegram: Callable[[Any], None],
        on_progress: Callable[[bytes], None] | None = None,
    ) -> Any:
        """Carry out what `conversation` yields until it returns; returns what it does.

        `on_telegram(listener)` is called for each telegram before the conversation goes on. `on_progress(data)` is
        called with what has arrived, without our echo, and at least every 50 ms with b"" while bytes are waited for,
        never in the middle of sending: whatever either raises ends the conversation.
        """
        self._on_progress = on_progress
        self._on_telegram = on_telegram
        answer: Any = None
        try:
            while True:
                try:
                    action = conversation.send(answer)
                except StopIteration as end:
                    return end.value
                answer = perform(action, self)
        finally:
            self._on_progress = None
            conversation.close()

    # --- the actions ---

    def send(self, data: bytes) -> None:
        """Up to MAX_SENT bytes; returns when the last bit has left. ValueError for more.

        A driver may say so when the bytes have only reached the adapter's FIFO, and a pty has no bits at all: the time
        the characters take is waited in any case.
        """
        if len(data) > MAX_SENT:
            raise ValueError(f"at most {MAX_SENT} bytes at once")
        sent = with_parity(data) if self.line.bits == 7 and self.line.parity == "E" else bytes(data)
        self.asked = True
        self._echo.expect(sent)
        until_s = time.monotonic() + len(sent) * char_s(self.line)
        try:
            self._port.write(sent)
            time.sleep(max(0.0, until_s - time.monotonic()))
            self._port.flush()
        except _PORT_ERRORS as error:
            raise self._lost(error) from error
        time.sleep(_ADAPTER_S)

    def switch(self, line: Line) -> None:
        """Other settings; what was received and not taken yet is dropped."""
        set_line(self._port, line)
        self.line = line
        try:
            self._port.reset_input_buffer()
        except _PORT_ERRORS as error:
            raise self._lost(error) from error
        self._kept.clear()
        self._echo = Echo(0x7F if line.bits == 7 else 0xFF)  # through a pty the parity bits of an echo do not come back

    def wait(self, ms: float) -> None:
        until_s = time.monotonic() + ms / 1000
        while (left_s := until_s - time.monotonic()) > 0:
            self._receive(left_s)

    def expect(self, complete: AnswerEnd | None, first_ms: float | None, gap_ms: float | None) -> bytes:
        silence = _Silence(first_ms, gap_ms)
        until_s = time.monotonic() + ANSWER_MS / 1000
        answer = bytearray()
        while True:
            if self._kept:
                room = ANSWER_BYTES - len(answer)
                answer += self._kept[:room]
                del self._kept[:room]
                silence.broken()
                taken = complete(answer, len(answer)) if complete else 0
                if taken:
                    self._kept[:0] = answer[taken:]
                    return bytes(answer[:taken])
            if len(answer) >= ANSWER_BYTES or silence.left_s() <= 0 or time.monotonic() > until_s:
                return bytes(answer)
            self._receive(silence.left_s())

    def listen(self, listener: Any, first_ms: float | None, gap_ms: float | None) -> int:
        silence = _Silence(first_ms, gap_ms)
        while True:
            event = listener.next_event()
            if event == TELEGRAM:
                self.asked = False
                self._on_telegram(listener)
            if event != NOTHING:
                return event
            if self._kept:
                silence.broken()
                del self._kept[: listener.feed(self._kept, 0, len(self._kept))]
            elif silence.left_s() <= 0:
                return NOTHING
            else:
                self._receive(silence.left_s())

    # --- the bytes ---

    def _receive(self, longest_s: float) -> None:
        """Wait for bytes, at most `longest_s` or a slot; what comes is kept."""
        if self._on_progress is not None:
            self._on_progress(b"")
        try:
            wait_s = min(longest_s, _SLOT_S)
            if self._port.timeout != wait_s:
                self._port.timeout = wait_s
            data = self._port.read(max(1, self._port.in_waiting))
            if data:
                data += self._port.read(self._port.in_waiting)
        except _PORT_ERRORS as error:
            raise self._lost(error) from error
        data = self._without_echo(data) if data else data
        if data:
            self._kept += data
            if self._on_progress is not None:
                self._on_progress(data)

    def _without_echo(self, data: bytes) -> bytes:
        buffer = bytearray(data) + bytes(MAX_SENT)
        return bytes(buffer[: self._echo.remove(buffer, len(data))])

    def _lost(self, error: Exception) -> PortError:
        why = _reason(error) if getattr(error, "errno", None) else "it hung up, or another program reads it too"
        return PortError(f"{self.name} has gone ({why}): check the plug and run this again", 1)


class _Silence:
    """How long nothing has to come: `first_ms` before the first byte, `gap_ms` after each; None: no limit."""

    def __init__(self, first_ms: float | None, gap_ms: float | None) -> None:
        self._gap_ms = gap_ms
        self._set(first_ms)

    def _set(self, ms: float | None) -> None:
        self._until_s = float("inf") if ms is None else time.monotonic() + ms / 1000

    def broken(self) -> None:
        self._set(self._gap_ms)

    def left_s(self) -> float:
        return self._until_s - time.monotonic()
