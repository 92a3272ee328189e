"""A simulated meter in real time on a pseudo-terminal (what opens it sees a serial port) or on a real serial port.

The light is the optical server's, so that rates, gaps and echoes are: bytes come out when their last bit has left, and
whoever listens at another rate than the meter's gets what a UART makes of it. A pty has no bits but keeps the rate its
reader has set, which is looked up at every step; so the baud switch of a reader is really tried here.

    source ─► OpticalServer ◄─ TCP, a new connection for each rate ─► _step() ─► pty, its other end or a serial port

On a pty characters of 7 bits go out plain, as a driver hands them over, and come in with a parity bit or without. On a
serial port they carry their parity bit both ways, and the port is set as the meter is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import Any, Protocol

from metering.characters import with_parity, without_parity
from metering.line import Line

from ..serial_line import PTS, PortError, open_port, set_line
from .optical_server import OpticalServer

_STEP_S = 0.005
_LINGER_S = 0.25  # an earlier rate's connection is kept so long: light may still be on its way to the meter


class _Outside(Protocol):
    """What the meter's head is connected to."""

    path: str

    def fileno(self) -> int:
        """For select(), while somebody listens."""
        ...

    def rate(self, line: Line) -> int | None:
        """Baud of whoever listens, None when nobody does. `line`: the meter's now."""

    def read(self) -> bytes:
        """What has come, without waiting."""
        ...

    def write(self, data: bytes, line: Line) -> None:
        """Hand bytes over without waiting; what there is no room for is dropped, as by a meter nobody reads."""

    def close(self) -> None: ...


class _Pty:
    """A pseudo-terminal of our own; `path` is the end that others open."""

    def __init__(self) -> None:
        try:
            import pty
            import termios
            import tty
        except ImportError as error:
            raise PortError("this system has no pseudo-terminals: use --port with a pair of serial ports") from error
        self._termios = termios
        names = [name for name in dir(termios) if name.startswith("B") and name[1:].isdigit()]
        self._rates = {getattr(termios, name): int(name[1:]) for name in names}
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        os.close(slave)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)

    def fileno(self) -> int:
        return self._master

    def rate(self, line: Line) -> int | None:
        if any(event & select.POLLHUP for _, event in self._poll.poll(0)):
            return None
        return self._rates.get(self._termios.tcgetattr(self._master)[5], line.baud)  # its speed of output

    def read(self) -> bytes:
        try:
            return os.read(self._master, 4096)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EIO):  # EIO: closed at the other end
                return b""
            raise

    def write(self, data: bytes, line: Line) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    def close(self) -> None:
        os.close(self._master)


class _Port:
    """A serial port, or a pty that somebody else has made."""

    def __init__(self, name: str) -> None:
        self.path = name
        self._has_bits = not os.path.realpath(name).startswith(PTS)
        self._port = open_port(name)
        self._port.timeout = 0
        self._port.write_timeout = 0

    def fileno(self) -> int:
        return self._port.fileno()

    def rate(self, line: Line) -> int | None:
        set_line(self._port, line)
        return line.baud

    def read(self) -> bytes:
        return self._port.read(4096)

    def write(self, data: bytes, line: Line) -> None:
        parity = self._has_bits and line.bits == 7 and line.parity == "E"
        with contextlib.suppress(BlockingIOError):
            self._port.write(with_parity(data) if parity else data)

    def close(self) -> None:
        self._port.close()


class SerialMeter:
    """Runs a source of the optical server on `port`, or on a pty of its own for None. Usable in a `with`.

    `path` is what a reader opens. `echo`: the reader sees what it sends, as with a passive head. `wrong_parity` counts
    characters that came with a wrong parity bit; they are dropped. Raises PortError.
    """

    def __init__(self, source: Any, port: str | None = None, *, echo: bool = False) -> None:
        self._outside: _Outside = _Pty() if port is None else _Port(port)
        self.path = self._outside.path
        self.wrong_parity = 0
        self._source = source
        self.server = OpticalServer(source, self._line(), echo=echo)
        self._head: socket.socket | None = None
        self._head_line = ""
        self._old: list[tuple[float, socket.socket]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serial-meter", daemon=True)
        self._error: BaseException | None = None

    def _line(self) -> Line:
        return getattr(self._source, "line", None) or Line(9600)

    def __enter__(self) -> SerialMeter:
        self.server.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for head in [self._head, *(old for _, old in self._old)]:
            if head is not None:
                head.close()
        self._outside.close()
        self.server.stop()

    def check(self) -> None:
        """Raises what has gone wrong in the thread: PortError when the port has gone."""
        error = self._error
        if isinstance(error, OSError):
            raise PortError(f"{self.path} has gone ({error.strerror or error}): check the plug", 1) from error
        if error is not None:
            raise error

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
                self._wait_for_bytes()
        except Exception as error:  # kept for check(): a thread has no one else to tell
            self._error = error

    def _wait_for_bytes(self) -> None:
        if self._head is None:
            self._stopping.wait(_STEP_S)
        else:
            select.select([self._head, self._outside], [], [], _STEP_S)

    def _step(self) -> None:
        line = self._line()
        came = self._outside.read()  # before the rate: who opens the line and writes at once has set it by then
        rate = self._outside.rate(line)
        wanted = "" if rate is None else f"uart head {rate} {line.bits} {line.parity or 'N'} {line.stop} 0\n"
        if wanted and wanted != self._head_line:  # a reader that switches has waited: what comes with it came after it
            self._connect(wanted)
        if self._head is not None and came:
            self._head.sendall(self._characters(came, line))
        if not wanted and self._head is not None:
            self._connect(wanted)
        if self._head is not None:
            self._hand_over(line)
        while self._old and self._old[0][0] < time.monotonic():
            self._old.pop(0)[1].close()

    def _connect(self, wanted: str) -> None:
        if self._head is not None:
            self._old.append((time.monotonic() + _LINGER_S, self._head))
        self._head_line = wanted
        self._head = None
        if wanted:
            self._head = socket.create_connection(("127.0.0.1", self.server.port))
            self._head.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._head.sendall(wanted.encode())

    def _characters(self, data: bytes, line: Line) -> bytes:
        """What was sent to the meter, without parity bits."""
        if line.bits == 8:
            return data
        characters = bytearray()
        for byte in data:
            plain = bytes([byte]) if byte < 0x80 else without_parity(bytes([byte]))
            if plain is None:
                self.wrong_parity += 1
            else:
                characters += plain
        return bytes(characters)

    def _hand_over(self, line: Line) -> None:
        assert self._head is not None
        with contextlib.suppress(BlockingIOError):
            data = self._head.recv(4096, socket.MSG_DONTWAIT)
            if data:
                self._outside.write(data, line)
