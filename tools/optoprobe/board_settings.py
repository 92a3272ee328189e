"""The settings on a board, read and written over its USB port through MicroPython's raw REPL.

The probe is interrupted for it and starts anew afterwards. Secrets go onto the board and never come back: the board
itself leaves their values out of what it sends. settings.json is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .device_check import device_modules

SECRETS = ("wifi_password", "mqtt_password", "meter_password", "meter_key", "meter_auth_key")
# What the firmware writes about its meter; the owner's settings and it make a probe this probe.
STATE = ("settings.json", "energy.json", "counters.json", "scale.json", "detected.json")

_MARK = "optoprobe-answer "
_WATCHDOG_MS = 600_000  # nothing feeds it while the program is interrupted
_TIMEOUT_S = 10
_BACK_S = 30.0
_AGAIN_S = 1.0  # a chip with USB of its own vanishes while it restarts

_BEGIN = f"""\
import os
if "firmware" in os.listdir() or "probe" in os.listdir():
    import machine
    machine.RTC().memory(b"")
    machine.WDT(timeout={_WATCHDOG_MS})
"""
ANSWER = f"""\
import json
def answer(value):
    print({_MARK!r} + json.dumps(value))
"""
_LOAD = f"""\
{ANSWER}
import os
def load():
    try:
        with open("settings.json") as file:
            values = json.load(file)
    except (OSError, ValueError):
        return {{}}
    return values if isinstance(values, dict) else {{}}
"""
_READ = f"""\
{_LOAD}
values = load()
secrets = {SECRETS!r}
shown = {{}}
for key in values:
    shown[key] = bool(values[key]) if key in secrets else values[key]
answer(shown)
"""
_WRITE = """\
values = load()
values.update(json.loads(%r))
for key in %r:
    values.pop(key, None)
with open("settings.json.new", "w") as file:
    json.dump(values, file)
os.rename("settings.json.new", "settings.json")
answer(len(values))
"""
_RESET = f"""\
{_LOAD}
gone = []
for name in {STATE!r}:
    try:
        os.remove(name)
        gone.append(name)
    except OSError:
        pass
answer(gone)
"""


class ConfigError(Exception):
    """The text is one sentence without its full stop, `code` the command's exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Row(NamedTuple):
    """A setting: its default, and in words what is accepted."""

    key: str
    default: Any
    words: str


def schema() -> list[Row]:
    """Every setting the firmware knows, in its order."""
    with device_modules():
        settings = importlib.import_module("firmware.settings")
        return [Row(key, default, words) for key, default, _, words in settings._KEYS]


def problems_of(given: dict[str, Any]) -> list[str]:
    """What the firmware's own check says of `given`, without full stops; no value is ever shown."""
    with device_modules():
        return list(importlib.import_module("firmware.settings").check(given)[1])


class Board:
    """The board at `port`, within a `with`; when that ends the board starts anew. Methods raise ConfigError."""

    def __init__(self, port: str) -> None:
        self._port = port

    def __enter__(self) -> Board:
        from mpremote.transport import TransportError

        with self._told():
            try:
                self._open()
                self._line.exec(_BEGIN)
                self._enter(soft_reset=True)  # its network thread would print in between
            except TransportError as error:
                cure = "close other programs that use it, or press RESET and run this again"
                raise ConfigError(f"no MicroPython answers at {self._port}: {cure}") from error
        return self

    def _open(self) -> None:
        from mpremote.transport_serial import SerialTransport

        self._line = SerialTransport(self._port)
        self._enter(soft_reset=False)

    def _enter(self, soft_reset: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it did not understand
            self._line.enter_raw_repl(soft_reset=soft_reset, timeout_overall=_TIMEOUT_S)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._line.exec_raw_no_follow("import machine\nmachine.reset()")
        with contextlib.suppress(Exception):
            self._line.close()

    def restart(self, code: str = "import machine\nmachine.reset()", within_s: float = _BACK_S) -> None:
        """Let `code` restart it, and interrupt it again when it is back."""
        from mpremote.transport import TransportError

        with contextlib.suppress(Exception):
            self._line.exec_raw_no_follow(code)
        with contextlib.suppress(Exception):
            self._line.close()
        until_s = time.monotonic() + within_s
        while True:
            time.sleep(_AGAIN_S)
            try:
                self._open()
                return
            except (TransportError, OSError) as error:
                if time.monotonic() > until_s:
                    cure = "press RESET and run this again"
                    raise ConfigError(f"the board does not come back at {self._port}: {cure}") from error

    def read(self) -> dict[str, Any]:
        """The settings; of a secret only whether it is set (True or False)."""
        found = self.ask(_READ)
        if not isinstance(found, dict):
            raise ConfigError(f"{self._port} answers oddly: press RESET and run this again")
        return found

    def write(self, changes: dict[str, Any], unset: tuple[str, ...] = ()) -> None:
        """Put `changes` over what is there; `unset` get their defaults again."""
        self.ask(_LOAD + _WRITE % (json.dumps(changes), unset))

    def factory_reset(self) -> list[str]:
        """Remove the owner's settings and all that was learnt; returns the files that were there."""
        return list(self.ask(_RESET))

    def ask(self, code: str) -> Any:
        """What `code` gives to answer(), see ANSWER."""
        with self._told():
            said = self._line.exec(code).decode("utf-8", "replace")
        for line in reversed(said.splitlines()):
            if line.startswith(_MARK):
                with contextlib.suppress(ValueError):
                    return json.loads(line.removeprefix(_MARK))
        raise ConfigError(f"{self._port} answers oddly: press RESET and run this again")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from mpremote.transport import TransportError, TransportExecError
        from serial import SerialException

        try:
            yield
        except TransportExecError as error:
            last = (error.error_output or "").strip().splitlines()[-1:] or ["no reason"]
            raise ConfigError(f"the board refuses ({last[0]}): free its memory, or flash it anew") from error
        except (TransportError, SerialException, OSError) as error:
            cure = "check the cable and the port, close other programs that use it, and run this again"
            raise ConfigError(f"{self._port} cannot be used: {cure}") from error
