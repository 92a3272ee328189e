"""`optoprobe read --objects` and `--profile`: one conversation with a DLMS meter, its lists printed as they come."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from typing import Any

from metering.dlms.asked_values import AskedValues

from ...decoding import obis_text
from ...serial_line import PortError, SerialLine
from ..lis200 import archive_rows
from . import asked_lists, own_counter
from .asked_lists import Asked, Entry
from .load_profile import MOST_ROWS, Column, profile

_ATTEMPTS = 3
_PAUSE_S = 3.0
_USUAL_ROWS = 10
_CODE = re.compile(r"(\d{1,3})[.-](\d{1,3})[.:](\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[.*](\d{1,3}))?")


def add_arguments(parser: Any) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--objects", action="store_true", help="the list of a DLMS meter's objects, in place of readings")
    what.add_argument("--profile", metavar="OBIS", type=_obis, help="the last rows of a DLMS meter's load profile")
    archive_rows.add_argument(what)
    last = f"how many rows of --profile or --archive ({_USUAL_ROWS})"
    parser.add_argument("--last", metavar="N", type=_rows, help=last)


def _obis(text: str) -> bytes:
    found = _CODE.fullmatch(text)
    parts = [int(part or 255) for part in found.groups()] if found else [999]
    if max(parts) > 255:
        raise argparse.ArgumentTypeError("give a code such as 1-0:99.1.0*255 or 1.0.99.1.0.255")
    return bytes(parts)


def _rows(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST_ROWS:
        raise argparse.ArgumentTypeError(f"give a number from 1 to {MOST_ROWS}")
    return int(text)


class _TooLong(Exception):
    """The time of --timeout is over."""


class _Printer:
    """Prints what comes. `n` counts it; `unscaled`: the registers whose values are left out for want of a scale."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._as_json = args.json
        self._name = obis_text(args.profile) if args.profile else ""
        self.n = 0
        self.unscaled: list[str] = []

    def entry(self, entry: Entry) -> None:
        self.n += 1
        print(json.dumps(entry.object()) if self._as_json else entry.line(), flush=True)

    def row(self, columns: list[Column], values: list[Any]) -> None:
        self.n += 1
        self.unscaled = [obis_text(column.obis) for column in columns if not column.is_scaled]
        cells = [(column, *column.shown(value)) for column, value in zip(columns, values, strict=True)]
        if self._as_json:
            listed = [
                {"obis": obis_text(column.obis), "attribute": column.attribute, "value": text, "unit": unit}
                for column, text, unit in cells
            ]
            print(json.dumps({"profile": self._name, "values": listed}), flush=True)
            return
        texts = []
        for column, text, unit in cells:
            text = "-" if text is None else text
            name = "" if column.is_clock else f"{obis_text(column.obis)} "
            texts.append(f"{name}{text} {unit or ''}".rstrip())
        print("  " + "   ".join(texts), flush=True)


def run(
    args: argparse.Namespace, line: SerialLine, password: str, keys: tuple[bytes | None, bytes | None], say: Any
) -> int:
    """The exit code; `say` tells a sentence. Raises PortError."""
    printer = _Printer(args)
    if args.profile:
        what = profile(args.profile, args.last or _USUAL_ROWS, printer.row)
    else:
        what = asked_lists.object_list(printer.entry)
    asked = Asked(what, AskedValues(), address=args.address, password=password)
    if keys[0]:
        counters = own_counter.system_title(), own_counter.reserve, own_counter.STEP
        asked.take_keys(*keys, *counters)
    asked.take_options(args.meter_options + (f" auth={args.auth}" if args.auth else ""))
    if asked.explanation:
        say(f"{asked.explanation}.")
        return 1
    until_s = time.monotonic() + args.timeout if args.timeout else None

    def on_progress(_data: bytes) -> None:
        if until_s is not None and time.monotonic() > until_s:
            raise _TooLong

    attempt = 0
    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            line.drive(asked.read_out(), lambda _listener: None, on_progress)
            if attempt == asked.failures or printer.n or asked.is_resting:  # what is printed is not printed twice
                break
    except BaseException as error:
        if asked.FAREWELL and line.asked:
            with contextlib.suppress(PortError):
                line.send(asked.FAREWELL)
        if not isinstance(error, _TooLong):
            raise
        say(f"{args.timeout:g} s are over: {printer.n} came.")
        return 1
    for name in printer.unscaled:
        say(f"{name}: its values are left out, as the meter does not tell their scale.")
    if asked.failures == attempt:
        if not printer.n and not args.json:
            print("  there is none", file=sys.stderr)
        return 0
    say(f"{asked.explanation.rstrip('.')}{f' ({line.trouble})' if line.trouble else ''}.")
    return 1
