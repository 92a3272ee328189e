"""A simulated meter in real time behind a TCP port: one reader at a time, as most meters have it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from ..serial_line import PortError

_STEP_S = 0.02
_HERE = "127.0.0.1"


class TcpMeter:
    """Runs a source of the optical server on [HOST:]PORT, 0 for any that is free. Usable in a `with`.

    `path` is what a reader connects to. Raises PortError where the port cannot be had, ValueError for a wrong one.
    """

    def __init__(self, source: Any, where: str = "0") -> None:
        host, _, port = where.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"--tcp {where}: give a port or HOST:PORT")
        self._source = source
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        try:
            self._listening = socket.create_server((host or _HERE, int(port)))
        except OSError as error:
            raise PortError(f"{where} cannot be listened on ({error.strerror}): give another port") from error
        self._listening.settimeout(_STEP_S)
        self.path = "{}:{}".format(*self._listening.getsockname()[:2])
        self._thread = threading.Thread(target=self._run, name="tcp-meter", daemon=True)

    def __enter__(self) -> TcpMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._listening.close()

    def check(self) -> None:
        """Raises what has gone wrong in the thread."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    reader, _ = self._listening.accept()
                    with reader, contextlib.suppress(ConnectionError):
                        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self._serve(reader)
        except Exception as error:  # kept for check(): a thread has no one else to tell
            self._error = error

    def _serve(self, reader: socket.socket) -> None:
        while not self._stopping.is_set():
            now_s = time.monotonic()
            wake_s = self._source.wake_s()
            reader.settimeout(_STEP_S if wake_s is None else min(max(wake_s - now_s, 0.001), _STEP_S))
            with contextlib.suppress(TimeoutError):
                data = reader.recv(4096)
                if not data:
                    return
                for value in data:
                    self._source.receive(value, time.monotonic())
            while (said := self._source.poll(now := time.monotonic(), now)) is not None:
                reader.sendall(said.data)
