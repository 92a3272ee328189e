"""A meter, or a gateway before one, over TCP: carries out the line actions of metering.line, in place of a serial port.

TCP has no rate: what is switched to begins a new connection, so that each attempt finds a meter that knows nothing of
the last one. A connection that is lost is silence to the conversation, which then says what has failed.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from metering.line import MAX_SENT, Line

from .serial_line import PortError, SerialLine

USUAL_PORT = 4059  # of DLMS, by IANA
_CONNECT_S = 10.0


def host_and_port(text: str) -> tuple[str, int]:
    """Of HOST, HOST:PORT or [ADDRESS]:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or text.count(":") > 1 and not text.startswith("["):
        host, port = text, str(USUAL_PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text} names no meter: give HOST or HOST:PORT, such as 192.168.1.20:{USUAL_PORT}")
    return host, int(port)


class _Connection:
    """What SerialLine asks of a port. `trouble` is why it is lost, in words."""

    timeout = 0.0
    in_waiting = 0

    def __init__(self, connected: socket.socket | None, trouble: str = "") -> None:
        self._socket = connected
        self.trouble = trouble

    def read(self, n: int = 1) -> bytes:
        """What comes within `timeout`, b"" for nothing, and for n of 0 at once."""
        if not n:
            return b""
        if self._socket is None:
            time.sleep(self.timeout)
            return b""
        self._socket.settimeout(max(self.timeout, 0.001))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return b""
        except OSError as error:
            self._lose(error.strerror or str(error))
            return b""
        if not data:
            self._lose("it has closed the connection")
        return data

    def write(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.settimeout(_CONNECT_S)
                self._socket.sendall(data)
            except OSError as error:
                self._lose(error.strerror or str(error))

    def _lose(self, why: str) -> None:
        self.trouble = why
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


class TcpLine(SerialLine):
    """As SerialLine, of HOST:PORT. Raises PortError where nobody can be reached to begin with, ValueError for a wrong
    name.
    """

    def __init__(self, where: str) -> None:
        self._where = host_and_port(where)
        super().__init__(where)
        self._is_new = True

    def _open(self) -> Any:
        connected = socket.create_connection(self._where, _CONNECT_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Connection(connected)

    def _open_port(self) -> Any:
        try:
            return self._open()
        except OSError as error:
            why = error.strerror or str(error)
            raise PortError(f"nothing can be reached at {self.name} ({why}): check the address and the network") from (
                error
            )

    @property
    def trouble(self) -> str:
        """Why the connection is lost, "" while it is there."""
        return str(self._port.trouble)

    def send(self, data: bytes) -> None:
        if len(data) > MAX_SENT:
            raise ValueError(f"at most {MAX_SENT} bytes at once")
        self.asked = True
        self._is_new = False
        self._port.write(bytes(data))

    def switch(self, line: Line) -> None:
        """A new connection; what was received and not taken yet is dropped."""
        self.line = line
        self._kept.clear()
        if self._is_new:
            return
        self._port.close()
        try:
            self._port = self._open()
        except OSError as error:
            self._port = _Connection(None, error.strerror or str(error))
        self._is_new = True
