"""An MQTT broker of our own on loopback, for the demo and the tests: mosquitto, or amqtt (PyPI) where there is none.

It runs as a child process that dies with its parent (Linux), lets anybody in and keeps nothing on disk: what was
retained is gone after a kill, as with a broker whose store was lost. Port and files stay the same over a restart.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from optoprobe.environment import runtime

if TYPE_CHECKING:
    from optoprobe.virtual.own_ca import Signed

_START_S = 15
_STOP_S = 3
_PORTS = range(20000, 32000)
_PROCESSES = 120
_told: set[int] = set()  # ports
_told_lock = threading.Lock()

# Runs in the child before the program: argv[1] is our process id, the rest the command. PR_SET_PDEATHSIG is 1.
_TIED = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

_AMQTT = """
import asyncio, logging, sys
from amqtt.broker import Broker
logging.basicConfig(level=logging.WARNING)
async def serve():
    await Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }).start()
    await asyncio.Event().wait()
asyncio.run(serve())
"""


def tied(command: list[str]) -> list[str]:
    """`command` so that on Linux it is killed when the thread that starts it ends, however that happens."""
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


class BrokerError(RuntimeError):
    """The broker does not start; the message is one sentence with what it said last."""


class Broker:
    """A broker on 127.0.0.1:`port`, its files in `directory`; `name` is mosquitto or amqtt. Started by `start`."""

    def __init__(self, directory: Path, port: int | None = None, signed: Signed | None = None, more: str = "") -> None:
        """Over TLS with `signed`; `more` are further lines of mosquitto's settings. Both need mosquitto."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port if port is not None else free_port()
        self.log_file = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        program = runtime.mosquitto()
        if program is None:
            if importlib.util.find_spec("amqtt") is None:
                raise BrokerError("There is no MQTT broker here: install mosquitto, or pip install 'optoprobe[demo]'.")
            if signed is not None:
                raise BrokerError("A broker over TLS needs mosquitto: install it.")
            self.name = "amqtt"
            self._command = [sys.executable, "-c", _AMQTT, str(self.port)]
        else:
            self.name = "mosquitto"
            settings = directory / "mosquitto.conf"
            # Started as root it would give up root for a user that cannot read this directory; only then is it heeded.
            lines = [f"listener {self.port} 127.0.0.1", "user root", *([] if more else ["allow_anonymous true"])]
            if signed is not None:
                lines += [f"certfile {signed.certificate}", f"keyfile {signed.key}"]
            settings.write_text("\n".join([*lines, more, ""]))
            self._command = [str(program), "-c", str(settings)]

    @property
    def pid(self) -> int | None:
        """The process id while it runs (also frozen), else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> Broker:
        """Start, also again after `stop` or `kill`, and return once it accepts connections; raises BrokerError."""
        if self.pid is not None:
            raise BrokerError(f"{self.name} runs already.")
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                tied(self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends it in order
            )
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and self.pid is not None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self.stop()
        said = self.log_file.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise BrokerError(f"The broker {self.name} does not start on port {self.port}; it said last: {said[0]}")

    def stop(self) -> None:
        """End it as its service manager would; no error if it is not running."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # a frozen process would not see the former
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Power failure: it ends without a word to its clients (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Connections stay open and nothing answers (SIGSTOP)."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze` (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise BrokerError(f"{self.name} is not running.")
        return self._process

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on, below those that systems give to who connects. Raises BrokerError.

    A broker begins to listen a while after this look, and whoever runs beside us must not be told the same: each
    process has a hundred of its own, told in turn.
    """
    own = range(_PORTS.start + os.getpid() % _PROCESSES, _PORTS.stop, _PROCESSES)
    for port in [*(port for port in own if port not in _told), *own]:
        with _told_lock:
            if len(_told) == len(own):
                _told.clear()
            if port in _told:  # by another thread meanwhile
                continue
            _told.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise BrokerError("There is no free port here for an MQTT broker: close other programs.")
