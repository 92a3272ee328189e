"""Options that several commands have: the meter's password, a number of seconds."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from pathlib import Path
from typing import Any

PASSWORD_VARIABLE = "OPTOPROBE_METER_PASSWORD"
_LONGEST_TEXT = 32  # characters of an address, or of a password


def add_password(parser: Any) -> None:
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        type=Path,
        help=f"the meter's password is this file's first line (else {PASSWORD_VARIABLE} from the environment)",
    )


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < math.inf:
            return value
    raise argparse.ArgumentTypeError("give a number above 0")


def password_of(args: argparse.Namespace) -> str:
    """The meter's password, "" for none. Raises ValueError, which never shows the password itself."""
    if args.password_file is None:
        password, source = os.environ.get(PASSWORD_VARIABLE, ""), PASSWORD_VARIABLE
    else:
        source = str(args.password_file)
        try:
            password = args.password_file.read_text(encoding="ascii").partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: a meter's password is plain ASCII, correct the file's first line") from error
        except OSError as error:
            raise ValueError(f"{source} cannot be read ({error.strerror}): check its name and permissions") from error
        if not password:
            raise ValueError(f"{source}: its first line is empty, write the meter's password there")
    check_text(source, password)
    return password


def check_text(what: str, text: str) -> None:
    if len(text) > _LONGEST_TEXT or not text.isascii() or not all(c.isprintable() and c not in "/!()*" for c in text):
        raise ValueError(f"{what}: give at most {_LONGEST_TEXT} characters of plain ASCII, none of /!()*")
