"""`optoprobe read --archive N`: the last rows of a gas volume corrector's archive, asked for by LIS-200.

    SOH R3 STX 3:V.4(3;;;10) ETX BCC                       the address that each column is of
    SOH R3 STX 3:V.3(3;;;10) ETX BCC                       its unit
    SOH R3 STX 3:V.0(3;2026-11-28,12:00:00;;10) ETX BCC    rows from that time on, ten a block; an ACK brings the next

As the library iec62056-21 0.0.2 (PyPI) encodes them; no meter has been asked. How far back the rows wanted begin is not
known: it is asked for as if they were of hours, then of days, then of months. Reading only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any

from metering.characters import without_parity
from metering.iec62056_21.exchange import BREAK, GAP_MS, Exchange
from metering.iec62056_21.iec_probe import is_corrector
from metering.iec62056_21.lis200_answer import address_of_answer, refusal_of
from metering.iec62056_21.lis200_poll import refusal_words
from metering.iec62056_21.programming_answers import Answers, block_check, command, frame_end
from metering.line import EXPECT

from ...serial_line import PortError, SerialLine

PROTOCOL = "lis200"
MOST_ROWS = 1000
_USUAL_ROWS = 10
_MOST_ARCHIVE = 99
_MOST_BLOCKS = 2000
_ATTEMPTS = 3
_PAUSE_S = 3.0
_SOH, _STX, _EOT = 0x01, 0x02, 0x04
_ACK, _NAK = b"\x06", b"\x15"
_REPEATS = 3
_MOST_BLOCK = 8192  # bytes
_ANSWER_MS = 2300
_FASTEST = 6
_TIME_AT = 3  # the column that the range is of, where no column says that it is the clock's
_CLOCK = "1:400"
_TIME_FORM = "%Y-%m-%d,%H:%M:%S"
_SPANS_H = (1, 24, 744)
_NONE_THERE = ("103", "104", "105")  # refusals: the archive is empty, nothing so old, nothing so new
_CELL = re.compile(r"\(([^()]*)\)")

Actions = Generator[Any, Any, Any]


def add_argument(what: Any) -> None:
    what.add_argument(
        "--archive", metavar="N", type=_archive, help="the last rows of a gas volume corrector's archive N (LIS-200)"
    )


def _archive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _MOST_ARCHIVE:
        raise argparse.ArgumentTypeError(f"give the number of an archive, 1 to {_MOST_ARCHIVE}")
    return int(text)


class _Refused(Exception):
    """The meter refuses; the text is the number of its refusal."""


class _TooLong(Exception):
    """The time of --timeout is over."""


class _Unclear(Exception):
    """A sentence without its full stop."""


class Archive:
    """Asks for the last `last` rows of archive `number`: `rows` of printed values, `columns` (address, unit) of each.
    `why`: a sentence where there are none."""

    def __init__(self, number: int, last: int, address: str = "", wake_up: bool = False) -> None:
        self.columns: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.why = ""
        self._number = number
        self._last = last
        self._exchange = Exchange(None, address, wake_up)

    def read_out(self) -> Actions:
        """Generator of line actions: one attempt. Returns True when the rows came."""
        exchange = self._exchange
        character = yield from exchange.sign_on()
        if character < 0 or not is_corrector(exchange.identification):
            self.why = "no gas volume corrector that speaks LIS-200 answers"
            return False
        offered = character - 0x30
        yield from exchange.acknowledge(offered if 0 <= offered <= _FASTEST else 0, 1)
        try:
            if (yield from Answers(exchange).hear_answer()) != _SOH:
                raise _Unclear("the meter does not enter its programming mode")
            yield from self._read_all()
            self.why = ""
        except _Refused as refused:
            self.why = f"the meter refuses archive {self._number} ({refusal_words(str(refused))})"
        except _Unclear as unclear:
            self.why = str(unclear)
        yield from exchange.say(BREAK)
        return not self.why

    def _read_all(self) -> Actions:
        addresses = _cells((yield from self._ask("R3", f"{self._number}:V.4({_TIME_AT};;;10)")))
        units = _cells((yield from self._ask("R3", f"{self._number}:V.3({_TIME_AT};;;10)")))
        if not addresses or len(addresses) != len(units):
            raise _Unclear("the meter's columns have another form")
        known = [address_of_answer(f"{address.lstrip('0')}(".encode()) for address in addresses]
        self.columns = list(zip(known, units, strict=True))
        at = known.index(_CLOCK) if _CLOCK in known else min(_TIME_AT, len(known)) - 1
        printed = _cells((yield from self._ask("R1", "1:0400.0(1)")))
        try:
            now = datetime.strptime("".join(printed), _TIME_FORM)
            begins = [(now - timedelta(hours=hours * self._last)).strftime(_TIME_FORM) for hours in _SPANS_H]
        except (ValueError, OverflowError) as error:
            raise _Unclear("the meter's clock has another form") from error
        for begin in begins:
            try:
                text = yield from self._ask("R3", f"{self._number}:V.0({at + 1};{begin};;10)")
            except _Refused as refused:
                if str(refused) not in _NONE_THERE:
                    raise
                continue
            rows = deque((_cells(line) for line in text.splitlines() if "(" in line), maxlen=self._last)
            if any(len(row) != len(known) for row in rows):
                raise _Unclear("a row of the meter's archive has other columns")
            self.rows = list(rows)
            if len(rows) == self._last:
                return

    def _ask(self, code: str, operand: str) -> Actions:
        """What all blocks of the answer hold, as one text."""
        exchange = self._exchange
        message = command(code.encode(), operand.encode())
        text = b""
        for _ in range(_MOST_BLOCKS):
            for _ in range(_REPEATS):
                yield from exchange.say(message)
                block = yield from self._block()
                if block:
                    break
                message = _NAK if text else message
                yield from exchange.hear_out()
            else:
                raise _Unclear("the meter's answers were damaged: move the head, keep light away")
            refusal = refusal_of(block[1:-2])
            if refusal:
                raise _Refused(refusal)
            text += block[1:-2]
            if block[-2] != _EOT:
                return text.decode("latin-1")
            message = _ACK
        raise _Unclear("the meter's archive has no end")

    def _block(self) -> Actions:
        """A block from its STX to its BCC, which holds; b"" for none. It may be longer than one EXPECT's answer."""
        heard = b""
        while len(heard) < _MOST_BLOCK:
            before = heard

            def end(buffer: bytes, n: int, before: bytes = before) -> int:
                return max(0, frame_end(before + bytes(buffer[:n]), len(before) + n) - len(before))

            piece = yield EXPECT, end, _ANSWER_MS, GAP_MS
            heard += piece
            if not piece or frame_end(heard, len(heard)):
                break
        plain = (without_parity(heard) or b"") if self._exchange.parity else heard
        at = plain.find(_STX)
        if at < 0 or max(plain) > 0x7F or not frame_end(plain, len(plain)) or block_check(plain[at + 1 :]):
            return b""
        return plain[at:]


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in _CELL.findall(text)]


def run(args: argparse.Namespace, line: SerialLine, say: Callable[[str], None]) -> int:
    """The exit code; `say` tells a sentence. Raises PortError."""
    archive = Archive(args.archive, args.last or _USUAL_ROWS, args.address, args.wake_up)
    until_s = time.monotonic() + args.timeout if args.timeout else float("inf")

    def on_progress(_data: bytes) -> None:
        if time.monotonic() > until_s:
            raise _TooLong

    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            if line.drive(archive.read_out(), lambda _listener: None, on_progress):
                break
    except BaseException as error:
        if line.asked:
            with contextlib.suppress(PortError):
                line.send(BREAK)
        if not isinstance(error, _TooLong):
            raise
        say(f"{args.timeout:g} s are over, and no row has come.")
        return 1
    if archive.why or not archive.rows:
        say(f"{archive.why or f'archive {args.archive} holds no row'}.")
        return 1
    for row in archive.rows:
        cells = [(address, value, unit) for (address, unit), value in zip(archive.columns, row, strict=True)]
        if args.json:
            values = [{"address": address, "value": value, "unit": unit or None} for address, value, unit in cells]
            print(json.dumps({"archive": args.archive, "values": values}), flush=True)
        else:
            print("  " + "   ".join(f"{address} {value} {unit}".strip() for address, value, unit in cells), flush=True)
    return 0
