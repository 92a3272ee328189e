"""The settings on a board, read and written over its USB port through MicroPython's raw REPL.

The probe is interrupted for it and starts anew afterwards. Secrets go onto the board and never come back: the board
itself leaves their values out of what it sends. settings.json is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import secrets
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..board_port import port_fault
from .device_check import device_modules
from .placed_files import FILES

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # as of firmware.setup.access_point: none is taken for another
_CHARACTERS = 12
SECRETS = ("wifi_password", "mqtt_password", "meter_password", "meter_key", "meter_auth_key", "mqtt_tls_key")
SECRETS += ("device_password", "setup_password")
WIPE_DUE = "wipe.due"  # firmware.owner.wipe looks for it
# What the firmware writes about its meter; the owner's settings and it make a probe this probe.
STATE = ("settings.json", "energy.json", "counters.json", "scale.json", "detected.json", "capture.txt", "restart.txt")
STATE += ("change.json", "announced.json", "asked.json", "reads.json", WIPE_DUE, *FILES.values())

_MARK = "optoprobe-answer "
_WATCHDOG_MS = 600_000  # nothing feeds it while the program is interrupted
_TIMEOUT_S = 10  # without a word from the board
_BACK_S = 30.0
_AGAIN_S = 1.0  # a chip with USB of its own vanishes while it restarts

# RTC memory: the count of restarts ends, an LED's total behind it stays.
BEGIN = f"""\
import os
if "firmware" in os.listdir() or "probe" in os.listdir():
    import machine
    rtc = machine.RTC()
    rtc.memory(bytes(6) + rtc.memory()[6:])
    machine.WDT(timeout={_WATCHDOG_MS})
"""
ANSWER = f"""\
import json
def answer(value):
    print({_MARK!r} + json.dumps(value))
"""
LOAD = f"""\
{ANSWER}
import os
def load():
    try:
        with open("settings.json") as file:
            text = file.read().strip()
    except OSError:
        return {{}}
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) and text.endswith("}}") else None
"""
_READ = f"""\
{LOAD}
values = load()
secrets = {SECRETS!r}
shown = None if values is None else {{}}
for key in values or ():
    shown[key] = bool(values[key]) if key in secrets else values[key]
answer(shown)
"""
SETUP_PASSWORD = """\
values = load()
answer(values and values.get("setup_password"))
"""
WRITE = """\
values = load()
if values is not None:
    values.update(json.loads(%r))
    for key in %r:
        values.pop(key, None)
    with open("settings.json.new", "w") as file:
        json.dump(values, file)
    os.rename("settings.json.new", "settings.json")
answer(values is not None)
"""
_REMOVE = f"""\
{ANSWER}
import os
gone = []
for name in %r:
    try:
        os.remove(name)
        gone.append(name)
    except OSError:
        pass
answer(gone)
"""

_DAMAGED = "the board's settings.json is damaged, nothing was changed: --factory-reset, then --import FILE"


def made_password() -> str:
    """Of the probe's own Wi-Fi, at random."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_CHARACTERS))


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
                self._enter(soft_reset=True)  # its network thread would print in between
                self._line.exec(BEGIN)  # boot.py has armed the watchdog again
            except BaseException as error:
                self.__exit__()
                if not isinstance(error, TransportError):
                    raise
                cure = "close other programs that use it, or press RESET and run this again"
                fault = port_fault(self._port) or f"no MicroPython answers at {self._port}: {cure}"
                raise ConfigError(fault) from error
        return self

    def _open(self) -> None:
        from mpremote.transport_serial import SerialTransport

        self._line = SerialTransport(self._port, timeout=_TIMEOUT_S)
        self._enter(soft_reset=False)
        self._line.exec(BEGIN)

    def _enter(self, soft_reset: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it did not understand
            self._line.enter_raw_repl(soft_reset=soft_reset, timeout_overall=_TIMEOUT_S)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._line.exec_raw_no_follow("import machine\nmachine.reset()")
        with contextlib.suppress(Exception):
            self._line.close()

    def restart(self, code: str = "import machine\nmachine.reset()", least_s: float = 0.0) -> None:
        """Let `code` restart it, and interrupt it again when it is back, `least_s` later at the earliest."""
        from mpremote.transport import TransportError

        with contextlib.suppress(Exception):
            self._line.exec_raw_no_follow(code)
        with contextlib.suppress(Exception):
            self._line.close()
        until_s = time.monotonic() + least_s + _BACK_S
        time.sleep(least_s)
        while True:
            time.sleep(_AGAIN_S)
            try:
                self._open()
                return
            except (TransportError, struct.error, OSError) as error:
                if time.monotonic() > until_s:
                    cure = "press RESET and run this again"
                    raise ConfigError(f"the board does not come back at {self._port}: {cure}") from error

    def read(self) -> dict[str, Any]:
        """The settings; of a secret only whether it is set (True or False)."""
        found = self.ask(_READ)
        if not isinstance(found, dict):
            raise ConfigError(_DAMAGED)
        return found

    def write(
        self, changes: dict[str, Any], unset: tuple[str, ...] = (), files: Mapping[str, bytes] | None = None
    ) -> None:
        """Put `changes` over what is there; `unset` get their defaults again. `files` come first, each whole or not."""
        with self._told():
            for name, content in (files or {}).items():
                self._line.fs_writefile(name + ".new", content)
                self._line.exec(f"import os\nos.rename({name + '.new'!r}, {name!r})")
        if not self.ask(LOAD + WRITE % (json.dumps(changes, ensure_ascii=False), unset)):
            raise ConfigError(_DAMAGED)
        gone = [FILES[key] for key in unset if key in FILES]
        if gone:
            self.ask(_REMOVE % (gone,))

    def factory_reset(self) -> list[str]:
        """Remove the owner's settings and all that was learnt; returns the files that were there."""
        return list(self.ask(_REMOVE % (STATE,)) or ())

    def have_wiped(self) -> None:
        """Leave the file for which the firmware wipes itself at its next start."""
        with self._told():
            self._line.fs_writefile(WIPE_DUE, b"")

    def ask(self, code: str, quiet_s: int = _TIMEOUT_S) -> Any:
        """What `code` gives to answer(), see ANSWER; it may say nothing for `quiet_s`."""
        from mpremote.transport import TransportExecError

        with self._told():
            output, error = self._line.exec_raw(code, timeout=quiet_s)
            if error:
                raise TransportExecError(output, error.decode("utf-8", "replace"))
        said = output.decode("utf-8", "replace")
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
        except (TransportError, SerialException, struct.error, OSError) as error:
            cure = "check the cable and the port, close other programs that use it, and run this again"
            raise ConfigError(f"{self._port} cannot be used: {cure}") from error
