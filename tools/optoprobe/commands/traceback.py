"""`optoprobe traceback`: what a probe's console showed, or its `restart_cause`, in the names of the source.

The device's code is built with short names (building.name_mapping). The table that leads back is this version's own,
so the probe must run the same version, which its diagnostics name; or the one that `optoprobe image` has written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "traceback",
        help="puts the source's names into what a probe's console showed",
        description="Puts the names of the source into a traceback of a probe that runs this version, or into the "
        "restart_cause of its diagnostics.",
        epilog="Exit code 0, 2 for wrong usage or an unreadable file.",
        allow_abbrev=False,
    )
    parser.add_argument("--names", type=Path, metavar="FILE", help="the table that was written beside an image")
    parser.add_argument("file", nargs="?", type=Path, help="what the console showed (standard input)")


def run(args: argparse.Namespace) -> int:
    from ..building.device_tree import name_map
    from ..building.name_mapping import translate

    try:
        text = args.file.read_text(encoding="utf-8", errors="replace") if args.file else sys.stdin.read()
    except OSError as error:
        print(f"optoprobe traceback: {args.file} cannot be read ({error.strerror}): check its name.", file=sys.stderr)
        return 2
    try:
        table = json.loads(args.names.read_text(encoding="utf-8"))["names"] if args.names else name_map().table()
        sys.stdout.write(translate(text, table))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        print(f"optoprobe traceback: {args.names} is no table of names: give the one of the image.", file=sys.stderr)
        return 2
    return 0
