"""`optoprobe read --port PORT`: a meter through an optical head on this computer, by the core that the device runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import decoding
from .decode import as_lines, as_object

if TYPE_CHECKING:
    from ..serial_line import SerialLine

SML = "sml"
ASKED = "iec62056-21"
PASSWORD_VARIABLE = "OPTOPROBE_METER_PASSWORD"

_SML_ESCAPE = b"\x1b\x1b\x1b\x1b"
_AUTO_S = 3.0  # SML meters send every 1 to 2 s, and stop for less than that
_SML_TIMEOUT_S = 60.0
_ATTEMPTS = 3
_EARLY_S = 0.5  # a pushed telegram may come so much before its time
_PROGRESS_S = 0.25
_LONGEST_TEXT = 32  # characters of an address, or of a password


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "read",
        help="a meter through an optical head on this computer -> readings",
        description="Reads the meter in front of an optical head on a serial port, once or again and again.",
        epilog="Ctrl-C ends it and lets the meter go. Exit code 0 if a reading came, 1 if none, 2 for wrong usage or a "
        "port that cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", required=True, help="serial port of the head, such as /dev/ttyUSB0 or COM3")
    parser.add_argument(
        "--protocol",
        choices=(decoding.AUTO, SML, ASKED),
        default=decoding.AUTO,
        help="what the meter speaks (auto: listen for SML first, then ask)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a telegram, a line each")
    parser.add_argument("--every", metavar="S", type=seconds, help="read again every S seconds until Ctrl-C")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="give up after S seconds without a reading")
    parser.add_argument("--address", metavar="A", default="", help="the meter's address, where several hear one head")
    add_password(parser)
    parser.add_argument("--wake-up", action="store_true", help="send zeros first, for meters with a battery")


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
    _check_text(source, password)
    return password


def _check_text(what: str, text: str) -> None:
    if len(text) > _LONGEST_TEXT or not text.isascii() or not all(c.isprintable() and c not in "/!()*" for c in text):
        raise ValueError(f"{what}: give at most {_LONGEST_TEXT} characters of plain ASCII, none of /!()*")


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError, SerialLine

    try:
        _check_text("--address", args.address)
        password = password_of(args)
    except ValueError as error:
        _say(f"{error}.")
        return 2
    try:
        with SerialLine(args.port) as line:
            return _Session(args, line, password).run()
    except PortError as error:
        _say(f"{error}.")
        return error.code


def _say(text: str) -> None:
    print(f"optoprobe read: {text}", file=sys.stderr, flush=True)


class _Ended(Exception):
    """Nothing more is wanted of this conversation; thrown where it waits for bytes."""


class _NoAnswer(Exception):
    """There will be no reading; the text is a sentence without its full stop."""


class _Session:
    """One call of the command."""

    def __init__(self, args: argparse.Namespace, line: SerialLine, password: str) -> None:
        self.args = args
        self.line = line
        self.password = password
        self.telegrams = 0  # printed
        self._listener: Any = None
        self._conversation: Any = None
        self._progress = _Progress()
        self._began_s = time.monotonic()
        self._until_s = math.inf  # when there must have been a reading
        self._next_s = 0.0  # a telegram before that is not printed
        self._n_bytes = 0
        self._tail = b""
        self._deciding_until_s = math.inf  # auto: how long SML is listened for
        self._failures_told = 0

    def run(self) -> int:
        try:
            if self.args.protocol != ASKED:
                with contextlib.suppress(_Ended):
                    self._hear_sml()
            if self.args.protocol != SML and not self.telegrams:
                with contextlib.suppress(_Ended):
                    self._ask()
        except _NoAnswer as error:
            self._progress.wipe()
            _say(f"{error}.")
            return 1
        except BaseException:
            self._progress.wipe()
            self._let_go()
            raise
        self._progress.wipe()
        return 0 if self.telegrams else 1

    # --- what is tried ---

    def _hear_sml(self) -> None:
        self._begin(SML)
        if self.args.protocol == decoding.AUTO:
            self._deciding_until_s = time.monotonic() + _AUTO_S
            _say(f"listening for SML on {self.line.name} for {_AUTO_S:g} s ...")
        self._until_s = self._began_s + (self.args.timeout or _SML_TIMEOUT_S)
        self.line.drive(self._listener.run(), self._on_telegram, self._on_progress)

    def _ask(self) -> None:
        from metering import protocols

        if self.args.protocol == decoding.AUTO:
            _say(f"no SML: asking by IEC 62056-21 on {self.line.name} ...")
        self._begin(ASKED)
        self._until_s = self._began_s + self.args.timeout if self.args.timeout else math.inf
        conversation_class = protocols.load_conversation(ASKED)
        assert conversation_class is not None
        self._conversation = conversation_class(
            self._listener,
            address=self.args.address,
            password=self.password,
            wake_up=self.args.wake_up,
            interval_s=self.args.every or 0,
        )
        self.line.drive(self._conversation.run(), self._on_telegram, self._on_progress)

    def _begin(self, protocol: str) -> None:
        self._listener = decoding.new_listener(protocol)
        self._n_bytes = 0
        self._tail = b""
        self._deciding_until_s = math.inf

    # --- what comes ---

    def _on_telegram(self, listener: Any) -> None:
        self._deciding_until_s = math.inf
        now_s = time.monotonic()
        if not listener.n_values or now_s < self._next_s:
            return
        telegram = decoding.telegram(listener)
        self._progress.wipe()
        if self.args.json:
            print(json.dumps(as_object(self.line.name, telegram)), flush=True)
        else:
            print("\n".join(as_lines(self.line.name, telegram)), flush=True)
        self.telegrams += 1
        self._until_s = math.inf
        self._n_bytes = 0
        self._progress.began_s = 0.0
        if self.args.every:
            self._next_s += self.args.every
            if self._next_s < now_s:  # the first one, or the meter had fallen silent
                self._next_s = now_s + self.args.every - min(_EARLY_S, self.args.every / 2)

    def _on_progress(self, data: bytes) -> None:
        now_s = time.monotonic()
        if self.telegrams and not self.args.every:
            raise _Ended
        if data:
            self._n_bytes += len(data)
            if _SML_ESCAPE in self._tail + data:
                self._deciding_until_s = math.inf
            self._tail = (self._tail + data)[-len(_SML_ESCAPE) + 1 :]
            self._progress.show(now_s, self._n_bytes, self._listener.n_values)
        if now_s > self._deciding_until_s:
            raise _Ended
        if now_s > self._until_s:
            raise _NoAnswer(self._why_nothing())
        conversation = self._conversation
        if conversation is not None and conversation.failures > self._failures_told:
            self._failures_told = conversation.failures
            if not self.telegrams and conversation.failures >= _ATTEMPTS:
                raise _NoAnswer(self._why_nothing())
            if self.args.every or self._progress.on:
                self._progress.wipe()
                _say(f"{_sentence(conversation.explanation)}.")

    def _why_nothing(self) -> str:
        if self._conversation is not None and self._conversation.explanation:
            return _sentence(self._conversation.explanation)
        rejected = [f"{reason} {n}" for reason, n in self._listener.rejected.items() if n]
        came = f"{self._n_bytes:,} bytes" if self._n_bytes else "nothing"
        why = f"{came} came" + (f", rejected: {', '.join(rejected)}" if rejected else "")
        return f"no reading from {self.line.name}: {why}; check that the head sits on the meter's eye and its cable"

    def _let_go(self) -> None:
        """A meter that is being read is left with a break, else it waits, or sends, for a while yet."""
        from ..serial_line import PortError

        if self._conversation is None or not self.line.asked:
            return
        from metering.iec62056_21.exchange import BREAK

        with contextlib.suppress(PortError):
            self.line.send(BREAK)


def _sentence(text: str) -> str:
    return text.rstrip(".")


class _Progress:
    """One line on a terminal's stderr, written over; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()
        self._shown_s = -math.inf
        self._standing = False
        self.began_s = 0.0

    def show(self, now_s: float, n_bytes: int, n_values: int) -> None:
        if not self.on or now_s - self._shown_s < _PROGRESS_S:
            return
        self.began_s = self.began_s or now_s
        self._shown_s = now_s
        self._standing = True
        registers = f", {n_values:,} registers" if n_values else ""
        text = f"{n_bytes:,} bytes{registers}, {now_s - self.began_s:.0f} s"
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def wipe(self) -> None:
        if self._standing:
            self._standing = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
