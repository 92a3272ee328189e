"""Set the clone up: `python -m optoprobe.environment.clone EXTRA,...` as the Makefile does, with its PYTHONPATH.

The virtual environment is made where Debian's python3-venv is missing, too. Standard library only: there is none yet.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ..source_tree import CLONE
from . import runtime
from .debian_packages import own_architecture, own_suite, unpack
from .subprocesses import SetupError, exit_code, run

_STAMP = ".installed-"


def make_environment(directory: Path) -> None:
    """Make a virtual environment with pip at directory; where ensurepip is missing, with Debian's own pip wheel.

    Debian splits ensurepip off into the package python3-venv; its pip wheel is fetched like the other packages.
    """
    import venv

    try:
        venv.create(directory, clear=True, symlinks=True, with_pip=True)
        return
    except subprocess.CalledProcessError:
        print("python3-venv is not installed: fetching pip's wheel from Debian instead.")
    try:
        venv.create(directory, clear=True, symlinks=True)
        with tempfile.TemporaryDirectory(prefix="pip-", dir=directory) as scratch:
            root = Path(scratch) / "pip" / "root"
            unpack(root, own_architecture(), (own_suite(),), "python3-pip-whl", ("python3-pip-whl_",))
            wheel = str(next(root.glob("usr/share/python-wheels/pip-*.whl")))
            command = (str(directory / "bin" / "python"), wheel + "/pip", "install", "--quiet", "--no-index", wheel)
            run(command, "pip cannot be installed from its wheel")
    except SetupError as error:
        shutil.rmtree(directory)
        raise SetupError(f"{error} Or install Debian's package python3-venv.") from error


def set_up(extra: str, stamp: Path) -> None:
    """Everything for `extra` of pyproject.toml, or "base", into the clone; Debian's parts come while pip is at work.

    Where there is no mosquitto then, the extra `demo` brings another broker; `flash` plays nothing, and needs none of
    this. `stamp` is written at the end and says whose environment this is. Raises SetupError.
    """
    plays = extra != "flash"
    parts = ("micropython", "mosquitto") if plays else ()
    fetching = threading.Thread(target=_fetch, args=(parts,), daemon=True)
    fetching.start()
    environment = CLONE / ".venv"
    stamps = [file.read_text().strip() for file in environment.glob(f"{_STAMP}*")]
    if set(stamps) != {str(CLONE)}:  # an environment holds absolute paths: in a clone that was moved it is made anew
        make_environment(environment)
    _pip_install(environment, extra)
    fetching.join()
    if plays and runtime.mosquitto() is None:
        _pip_install(environment, "demo")
    stamp.write_text(f"{CLONE}\n")


def _pip_install(environment: Path, extra: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-compile")
    wanted = str(CLONE) if extra == "base" else f"{CLONE}[{extra}]"
    python = str(environment / "bin" / "python")
    run((python, "-m", "pip", "install", *quiet, "--editable", wanted), "pip cannot install optoprobe")


def _fetch(names: tuple[str, ...]) -> None:
    """What cannot be had is told here, and again by whoever needs it."""
    if names:
        with contextlib.suppress(SetupError):
            runtime.setup(names=names)


def main(arguments: list[str]) -> int:
    """Set up for the extras named; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m optoprobe.environment.clone EXTRA,...", file=sys.stderr)
        return 2
    stamp = CLONE / ".venv" / (_STAMP + arguments[0].replace(",", "-"))
    return exit_code(lambda: set_up(arguments[0], stamp))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
