"""The command `optoprobe`: one module in commands/ for each subcommand, with add_parser(subparsers) and run(args).

Exit codes of every subcommand: 0 done, 1 nothing readable, 2 wrong usage or an unreadable file; as usual in a shell,
130 after Ctrl-C and 141 when whoever reads our output has gone. Errors are one sentence with the cure, on stderr.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

_COMMANDS = (
    "demo",
    "decode",
    "capture",
    "deploy",
    "flash",
    "config",
    "selftest",
    "image",
    "read",
    "monitor",
    "simulate",
    "traceback",
    "webflash",
)
_FAILED = 2
_WRONG_USAGE = 2
_INTERRUPTED = 130  # 128 + SIGINT
_OUTPUT_GONE = 141  # 128 + SIGPIPE


class _Version(argparse.Action):
    """--version; looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        print(f"optoprobe {__version__}")
        parser.exit()


def _drop_output() -> None:
    """What is still buffered has nowhere to go; let the interpreter's own flush at exit find an open file."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (sys.argv by default); returns its exit code, SystemExit(2) on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="optoprobe", description="Reads energy meters through their optical port, exactly.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = sys.argv[1:] if argv is None else argv
    asked_for = words[:1] if words and words[0] in _COMMANDS else _COMMANDS  # all of them take three times as long
    commands = {name: importlib.import_module(f"{__package__}.commands.{name}") for name in asked_for}
    for module in commands.values():
        module.add_parser(subparsers)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a ° must not stop an ASCII terminal
    try:
        args = parser.parse_args(argv)
        code = commands[args.command].run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _OUTPUT_GONE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print("optoprobe: the disk is full: free some space and run this again.", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except EOFError:  # Ctrl-D
        print("optoprobe: a question was left: nothing was written; run this again.", file=sys.stderr)
        return _WRONG_USAGE
    return code
