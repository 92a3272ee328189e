"""Programs that the set-up runs, to their end and with one sentence where they fail. Standard library only."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

DOWNLOAD_TIMEOUT_S = 300
_SAY_TIMEOUT_S = 30

_running: set[subprocess.Popen[str]] = set()


class SetupError(RuntimeError):
    """Something could not be fetched or found; the message is one sentence with the cure."""


def run(command: tuple[str, ...], reason: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; raises SetupError with the reason and its last error."""
    try:
        code, out, err = _finish(command, DOWNLOAD_TIMEOUT_S, {"LC_ALL": "C.UTF-8"} | (environment or {}))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{reason} ({error}); check the network and run the set-up again.") from error
    if code:
        lines = (err.strip() or out.strip()).splitlines()
        telling = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines or ["no message"]
        raise SetupError(f"{reason} ({telling[0].strip()}); check the network and run the set-up again.")
    return out


def say(*command: str | Path) -> str:
    """Return what a program prints on both outputs, whatever its exit code; an error's text if it cannot start."""
    try:
        _, out, err = _finish(command, _SAY_TIMEOUT_S, {})
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return out + err


def _finish(command: tuple[str | Path, ...], timeout_s: float, environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True,  # Ctrl-C is for us, who end it then
    ) as process:  # fmt: skip
        _running.add(process)
        try:
            out, err = process.communicate(timeout=timeout_s)
            return process.returncode, out, err
        except BaseException:
            process.kill()
            raise
        finally:
            _running.discard(process)


def exit_code(set_up: Callable[[], object]) -> int:
    """Of a program that does `set_up` and nothing else: 0, or 1 where that ends in a SetupError, which is said."""
    _one_line_upon_interrupt()
    try:
        set_up()
    except SetupError as error:
        print(f"optoprobe set-up: {error}", file=sys.stderr)
        return 1
    return 0


def _one_line_upon_interrupt() -> None:
    """From now on Ctrl-C ends this process and what it has begun at once, with one line.

    What is half done is thrown away by the next set-up.
    """

    def end(*_: object) -> None:
        os.write(2, b"\noptoprobe set-up: interrupted; the same command goes on from here.\n")
        for process in list(_running):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        os._exit(130)

    signal.signal(signal.SIGINT, end)
