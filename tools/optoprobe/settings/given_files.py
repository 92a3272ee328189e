"""The board file and the settings that a command is given by name, checked before anything is done with them."""

from __future__ import annotations

import sys
from pathlib import Path

from ..boards import questions
from ..source_tree import board_files
from .device_check import board_problems, settings_problems

BOARD_HELP = "a board that comes along, your own file.json, or custom to be asked"


class GivenFileError(Exception):
    """The text is one sentence with the cure, without its full stop."""


def board_file(name: str) -> Path:
    """The file of a board that comes with this program, or one of the owner's own; of the name "custom", one that is
    asked for. Raises GivenFileError."""
    if name == "custom":
        return _asked_board()
    files = board_files()
    file = files.get(name) or Path(name)
    if name not in files and not (name.endswith(".json") and file.is_file()):
        names = ", ".join(files)
        raise GivenFileError(f"there is no board {name}; choose one of {names}, name your own file.json, or custom")
    problems = board_problems(file)
    if problems:
        raise GivenFileError(f"the board file {file}: {'; '.join(problems)}; nothing was copied, correct it first")
    return file


def _asked_board() -> Path:
    file = questions.FILE
    if file.exists():
        raise GivenFileError(f"{file} is there already: name it with --board {file}, or move it away")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GivenFileError("--board custom asks, and there is no terminal: name your own file.json instead")
    try:
        return questions.ask_into(file)
    except OSError as error:
        raise GivenFileError(f"{file} cannot be written ({error.strerror}): run this where you may write") from error
    except EOFError as error:
        raise GivenFileError("the questions were left: run this again") from error


def check_settings(file: Path) -> list[str]:
    """The check of a settings file; returns the keys that are copied though this version does not know them.

    Raises GivenFileError with all the check has to say. No value is ever shown.
    """
    if not file.is_file():
        raise GivenFileError(f"there is no settings file {file}: check its name")
    problems, unknown = settings_problems(file)
    if problems:
        raise GivenFileError(f"{'; '.join(problems)}; nothing was copied, correct {file} first")
    return unknown
