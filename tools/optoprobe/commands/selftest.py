"""`optoprobe selftest`: what a board can check by itself, over its USB port, as a report to attach to a question."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..monitoring.selftest import Finding, checks
from ..settings.on_board import Board, ConfigError

_WORDS = {True: "ok", False: "BAD", None: "-"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "selftest",
        help="what a probe's board can check by itself, as a report",
        description="Checks heap, file system, clock, RTC memory over a reset, watchdog, Wi-Fi and broker, and with "
        "--mirror the UART with a mirror before the head, on every line a meter is read on. Takes about a minute.",
        epilog="Exit code 0 when all is well, 1 when something is not or the board does not answer, 2 for wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", required=True, help="serial port of the board, such as /dev/ttyACM0 or COM3")
    parser.add_argument("--mirror", action="store_true", help="there is a mirror before the head: check the UART too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report to a file too")


def run(args: argparse.Namespace) -> int:
    findings: list[Finding] = []
    try:
        with Board(args.port) as board:
            for finding in checks(board, args.mirror):
                findings.append(finding)
                print(_row(finding), flush=True)
    except ConfigError as error:
        print(f"optoprobe selftest: {error}.", file=sys.stderr)
        return error.code
    finally:  # Ctrl-C, or a board that is lost: what was found so far is a report too
        is_written = not args.out or not findings or _write(args.out, findings)
    if not is_written:
        return 2
    bad = [finding.name for finding in findings if finding.well is False]
    if bad:
        print(f"optoprobe selftest: not well: {', '.join(bad)}; attach the report to your question.", file=sys.stderr)
        return 1
    print("All that was checked is well. The board restarts as a probe.")
    return 0


def _write(file: Path, findings: list[Finding]) -> bool:
    try:
        file.write_text("".join(_row(finding) + "\n" for finding in findings), encoding="utf-8")
    except OSError as error:
        print(f"optoprobe selftest: {file} cannot be written ({error.strerror}): choose another.", file=sys.stderr)
        return False
    return True


def _row(finding: Finding) -> str:
    return f"{_WORDS[finding.well]:4}{finding.name:16}{finding.said}"
