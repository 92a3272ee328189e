"""`optoprobe read --port PORT`: a meter through an optical head on this computer, by the core that the device runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from metering import protocols
from metering.detection.candidates import Asking
from metering.line import EXPECT, SWITCH, Line
from metering.listener import TELEGRAM

from .. import decoding
from ..sessions.dlms import asked_session, own_counter
from ..sessions.lis200 import archive_rows
from ..settings import register_map
from ..terminal import ProgressLine
from .decode import as_lines, as_object
from .shared_options import add_password, check_text, password_of, seconds

if TYPE_CHECKING:
    from ..serial_line import SerialLine

_DARK_S = 3.0  # auto: most meters that talk by themselves do so every 1 to 2 s, and stop for less than that
_NOISE_S = 12.0  # auto: where something comes, and no telegram; most of the others push every 10 s
_PUSHED_TIMEOUT_S = 60.0
_SLICE_MS = 100
_QUIET_SLICES = 3  # longer than a pause inside a telegram
_BURSTS = 3  # the rest of a telegram and whole ones; else it is garbage of another rate
_ATTEMPTS = 3
_EARLY_S = 0.5  # a pushed telegram may come so much before its time


def behind_a_sign_on() -> str:
    """The protocol that a meter speaks which offers mode E, and over TCP: DLMS, asked."""
    return next(name for name in protocols.knocked_for() if protocols.load_knock(name).SIGN_ON)


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "read",
        help="a meter through an optical head on this computer -> readings",
        description="Reads the meter in front of an optical head on a serial port, or one on the network.",
        epilog="Ctrl-C ends it and lets the meter go. Exit code 0 if a reading came, 1 if none, 2 for wrong usage or a "
        "port that cannot be used.",
        allow_abbrev=False,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port of the head, such as /dev/ttyUSB0 or COM3")
    where.add_argument(
        "--tcp", metavar="HOST[:PORT]", help="a DLMS meter on the network (4059), in the wrapper of IEC 62056-4-7"
    )
    parser.add_argument(
        "--protocol",
        choices=decoding.protocol_names(),
        default=decoding.AUTO,
        help="what the meter speaks (auto: listen first, then ask)",
    )
    parser.add_argument(
        "--key", metavar="HEX", help="key of encrypted telegrams, 32 hexadecimal digits (64 with suite=2)"
    )
    parser.add_argument("--auth-key", metavar="HEX", help="their authentication key, 32 hexadecimal digits")
    parser.add_argument("--json", action="store_true", help="one JSON object a telegram, a line each")
    parser.add_argument("--every", metavar="S", type=seconds, help="read again every S seconds until Ctrl-C")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="give up after S seconds without a reading")
    parser.add_argument("--address", metavar="A", default="", help="the meter's address, where several hear one head")
    parser.add_argument(
        "--meter-options",
        metavar="WORDS",
        default="",
        help="how a DLMS meter is asked, such as 'client_address=32 physical_address=17 mode=IEC'",
    )
    parser.add_argument(
        "--auth", metavar="NAME", default="", help="how a DLMS meter is convinced: NONE, LOW, HIGH .. HIGHECDSA"
    )
    parser.add_argument(
        "--modbus-map", metavar="NAME", help=f"which registers a Modbus meter has: {register_map.choices()}"
    )
    add_password(parser)
    asked_session.add_arguments(parser)
    parser.add_argument("--wake-up", action="store_true", help="send zeros first, for meters with a battery")


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError

    try:
        try:
            check_text("--address", args.address)
            password = password_of(args)
            clean = decoding.clean_long_key if "suite=2" in args.meter_options.split() else decoding.clean_key
            keys = clean("--key", args.key), clean("--auth-key", args.auth_key)
            args.protocol, args.map = register_map.chosen(args.protocol, args.modbus_map)
            line = _line(args)
        except ValueError as error:
            _say(f"{error}.")
            return 2
        with line:
            if args.archive:
                return archive_rows.run(args, line, _say)
            if args.objects or args.profile:
                return asked_session.run(args, line, password, keys, _say)
            return _Session(args, line, password, keys).run()
    except PortError as error:
        _say(f"{error}.")
        return error.code


def _line(args: argparse.Namespace) -> SerialLine:
    """The port or the connection. Raises PortError, ValueError."""
    from ..serial_line import SerialLine
    from ..tcp_line import TcpLine

    asked = behind_a_sign_on()
    of = {"tcp": asked, "objects": asked, "profile": asked, "archive": archive_rows.PROTOCOL}
    for option, protocol in of.items():
        if getattr(args, option):
            if args.protocol not in (decoding.AUTO, protocol):
                raise ValueError(f"--{option} and {args.protocol} do not belong together: it is for {protocol} alone")
            args.protocol = protocol
    if args.last and not (args.profile or args.archive):
        raise ValueError("--last is for --profile and --archive: leave it out, or name one of them")
    if args.every and (args.objects or args.profile or args.archive):
        raise ValueError("--every is for readings: leave it out, a list is read once")
    if not args.tcp:
        return SerialLine(args.port)
    if "mode=IEC" in args.meter_options.split():
        raise ValueError("--tcp and mode=IEC do not belong together: a connection has no rate to change, leave one out")
    if "mode=" not in args.meter_options:
        args.meter_options = f"mode=DLMS-WRAPPER {args.meter_options}"
    return TcpLine(args.tcp)


def _say(text: str) -> None:
    print(f"optoprobe read: {text}", file=sys.stderr, flush=True)


class _Ended(Exception):
    """Nothing more is wanted of this conversation; thrown where it waits for bytes."""


class _SpeaksModeE(Exception):
    """The meter that is asked by IEC 62056-21 sends no data block, and says that it speaks DLMS."""


class _SpeaksAnother(Exception):
    """The same, but its identification is of protocol `args[0]`."""


class _Silent(Exception):
    """Nobody has answered the first question."""


class _NoAnswer(Exception):
    """There will be no reading; the text is a sentence without its full stop."""


class _Session:
    """One call of the command."""

    def __init__(
        self, args: argparse.Namespace, line: SerialLine, password: str, keys: tuple[bytes | None, bytes | None]
    ) -> None:
        self.args = args
        self.line = line
        self.password = password
        self.keys = keys
        self.telegrams = 0  # printed
        self._listener: Any = None
        self._conversation: Any = None
        self._progress = ProgressLine()
        self._began_s = time.monotonic()
        self._until_s = math.inf  # when there must have been a reading
        self._next_s = 0.0  # a telegram before that is not printed
        self._n_bytes = 0
        self._failures_told = 0
        self._told = ""  # the last of them
        self._has_knocked = False

    def run(self) -> int:
        protocol = self.args.protocol
        try:
            with contextlib.suppress(_Ended):
                if protocol == decoding.AUTO:
                    self._find()
                elif protocols.is_asked(protocol):
                    self._ask(protocol)
                elif len(decoding.lines_to_hear([protocol])) == 1:
                    self._hear(self._new_listener(protocol))
                else:
                    self._hear_until_the_end(protocol)
        except _NoAnswer as error:
            self._progress.wipe()
            if f"{error}" != self._told:
                _say(f"{error}.")
            if protocol == decoding.AUTO and self._conversation is not None:
                named = set(protocols.names()).difference(protocols.searched(), protocols.knocked_for())
                _say(f"not looked for, but asked where --protocol names it: {', '.join(sorted(named))}.")
            return 1
        except BaseException:
            self._progress.wipe()
            self._let_go()
            raise
        self._progress.wipe()
        if self.telegrams and self._conversation is not None and self._conversation.explanation:
            _say(f"{_sentence(self._conversation.explanation)}.")
        return 0 if self.telegrams else 1

    # --- what is tried ---

    def _find(self) -> None:
        """Listen for every protocol; where nothing is understood, ask."""
        _say(f"listening on {self.line.name} for {_DARK_S:g} s ...")
        self._until_s = self._began_s + self.args.timeout if self.args.timeout else math.inf
        if self._hear_one_of(protocols.searched()):
            return
        name = self._who_is_asked()
        _say(f"nothing is understood: asking by {name} on {self.line.name} ...")
        while True:
            try:
                return self._ask(name)
            except _SpeaksAnother as another:
                name = str(another)
                said = f"it sends no data block: asking by {name} ..."
            except _SpeaksModeE:
                name = behind_a_sign_on()
                said = f"it sends no data block, and speaks DLMS: asking by {name} in mode E ..."
                self.args.meter_options = f"mode=IEC {self.args.meter_options}"
            except _Silent:
                knocked_for = self._who_answers_a_knock()
                said = "a meter answers" if knocked_for else "nobody answers that or a knock"
                name = knocked_for or name
                said += f": asking by {name} ..."
            self._progress.wipe()
            _say(said)
            self._failures_told = 0

    def _hear_until_the_end(self, protocol: str) -> None:
        """Listen on one line of the protocol after the other, until the time is over."""
        self._until_s = self._began_s + (self.args.timeout or _PUSHED_TIMEOUT_S)
        while not self._hear_one_of([protocol]):
            pass

    def _hear_one_of(self, names: list[str]) -> bool:
        """Listen on each line that meters of the protocols `names` talk on. Is one heard, which is read then?"""
        from ..serial_line import PortError

        for line in decoding.lines_to_hear(names):
            try:
                listener = self.line.drive(self._listen(names, line), self._on_telegram, self._on_progress)
            except PortError as error:
                if error.code != 2:
                    raise
                _say(f"{error}; it is left out.")  # not every adapter can do every line
                continue
            if listener is not None:
                self._hear(listener)
                return True
            if not self._n_bytes:
                break  # dark, as on every other line
        return False

    def _listen(self, names: list[str], line: Line) -> Generator[Any, Any, Any]:
        """Generator of line actions: returns the listener that has had a telegram, None where there is but noise."""
        yield SWITCH, line
        listeners = [self._new_listener(name) for name in names]
        self._listener = listeners[0]
        self._n_bytes = 0
        began_s = time.monotonic()
        n_quiet = bursts = 0
        while time.monotonic() - began_s < (_NOISE_S if self._n_bytes else _DARK_S) and bursts < _BURSTS:
            data = yield EXPECT, _whatever, _SLICE_MS, _SLICE_MS
            n_quiet = 0 if data else n_quiet + 1
            bursts += n_quiet == _QUIET_SLICES and self._n_bytes > 0
            for listener in listeners:
                if n_quiet == _QUIET_SLICES:
                    listener.on_idle()
                for event in decoding.events_of(listener, data):
                    if event == TELEGRAM:
                        listener.line = line
                        self._listener = listener
                        self._on_telegram(listener)
                        return listener
                    if listener.reason == "key needed":
                        raise _NoAnswer(f"the meter sends {listener.NAME}, encrypted: give its --key (key needed)")
        return None

    def _who_is_asked(self) -> str:
        """The protocol that a meter answers which is asked gently by each; the first one where there is no choice."""
        names = [name for name in protocols.searched() if protocols.is_asked(name)]
        for name in names if len(names) > 1 else ():
            probe = protocols.load_probe(name)
            answer = self.line.drive(probe.question(self.args.address), self._on_telegram, self._on_progress)
            answered = probe.answered_by(answer)
            if answered in names:
                return answered
        return names[0]

    def _who_answers_a_knock(self) -> str:
        """The protocol whose meter does; "" for none."""
        self._has_knocked = True
        self._conversation = None
        asking = Asking(options=self.args.meter_options, has_password=bool(self.password))
        return self.line.drive(_knocks(asking), self._on_telegram, self._on_progress)

    def _hear(self, listener: Any) -> None:
        self._listener = listener
        if not self.telegrams:
            self._n_bytes = 0
            self._until_s = self._began_s + (self.args.timeout or _PUSHED_TIMEOUT_S)
        self.line.drive(listener.run(), self._on_telegram, self._on_progress)

    def _ask(self, name: str) -> None:
        self._listener = self._new_listener(name)
        self._n_bytes = 0
        self._until_s = self._began_s + self.args.timeout if self.args.timeout else math.inf
        conversation_class = protocols.load_conversation(name)
        assert conversation_class is not None
        self._conversation = conversation_class(
            self._listener,
            address=self.args.address,
            password=self.password,
            wake_up=self.args.wake_up,
            interval_s=self.args.every or 0,
        )
        if self.args.map is not None:
            try:
                self._conversation.take_map(self.args.map)
            except ValueError as error:
                raise _NoAnswer(f"{error}") from error
        options = self.args.meter_options + (f" auth={self.args.auth}" if self.args.auth else "")
        takes_options = conversation_class.takes_options
        is_found = self.args.protocol == decoding.AUTO  # the words are for one who heeds them
        if options and not takes_options and not is_found:
            raise _NoAnswer(f"--meter-options, --auth and {name} do not belong together: leave one out")
        if takes_options and (options or self.keys[0]):
            if self.keys[0]:
                counters = own_counter.system_title(), own_counter.reserve, own_counter.STEP
                self._conversation.take_keys(*self.keys, *counters)
            self._conversation.take_options(options)
            if self._conversation.explanation:
                raise _NoAnswer(self._conversation.explanation)
        self.line.drive(self._conversation.run(), self._on_telegram, self._on_progress)

    def _new_listener(self, name: str) -> Any:
        listener = decoding.new_listener(name)
        if self.keys[0] is not None and listener.takes_keys:
            listener.set_keys(*self.keys)
        return listener

    # --- what comes ---

    def _on_telegram(self, listener: Any) -> None:
        now_s = time.monotonic()
        if not listener.n_values or now_s < self._next_s:
            return
        if self.telegrams and self._conversation is None and not self.args.every:
            return  # a meter that pushes is read once, whatever came with its first telegram
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
            self._progress.show(now_s, self._n_bytes, self._listener.n_values)
        if now_s > self._until_s:
            raise _NoAnswer(self._why_nothing())
        conversation = self._conversation
        if conversation is not None and conversation.failures > self._failures_told:
            self._failures_told = conversation.failures
            if self.args.protocol == decoding.AUTO:
                self._look_elsewhere(conversation)
            rests = getattr(conversation, "is_resting", False)  # it will not ask for hours
            if not self.telegrams and (rests or conversation.failures >= _ATTEMPTS):
                raise _NoAnswer(self._why_nothing())
            self._progress.wipe()
            why = _sentence(conversation.explanation)
            if self.args.every or why != self._told:  # minutes may pass until the next attempt
                self._told = why
                _say(f"{why}.")

    def _look_elsewhere(self, conversation: Any) -> None:
        """Raise what says who else is to be asked, if anybody."""
        if conversation.failed.get("no answer") and not self._has_knocked:
            raise _Silent
        if conversation.failed.get("no data") and getattr(conversation, "offers_mode_e", False):
            raise _SpeaksModeE
        if conversation.failed.get("no data") and hasattr(conversation, "identification"):
            name = protocols.load_probe(conversation.NAME).answered_by(conversation.identification)
            if name not in ("", conversation.NAME):
                raise _SpeaksAnother(name)

    def _why_nothing(self) -> str:
        if self._conversation is not None and self._conversation.explanation:
            trouble = f" ({self.line.trouble})" if self.line.trouble else ""
            return _sentence(self._conversation.explanation) + trouble
        rejected = [f"{reason} {n}" for reason, n in self._listener.rejected.items() if n]
        came = f"{self._n_bytes:,} bytes" if self._n_bytes else "nothing"
        why = f"{came} came" + (f", rejected: {', '.join(rejected)}" if rejected else "")
        return f"no reading from {self.line.name}: {why}; check that the head sits on the meter's eye and its cable"

    def _let_go(self) -> None:
        """A meter that is being read is left with a farewell, else it waits, or sends, for a while yet."""
        from ..serial_line import PortError

        farewell = getattr(self._conversation, "FAREWELL", b"")
        if farewell and self.line.asked:
            with contextlib.suppress(PortError):
                self.line.send(farewell)


def _knocks(asking: Asking) -> Generator[Any, Any, str]:
    """Generator of line actions: knocks as a probe's search does; returns whose meter has answered, "" for none."""
    for name in protocols.knocked_for():
        knock = protocols.load_knock(name)
        yield SWITCH, Line(knock.LINE[0], 8, knock.LINE[1], knock.LINE[2])
        if (yield from knock.knock(asking)):
            return name
    return ""


def _whatever(buffer: bytearray, n: int) -> int:
    """For EXPECT: what is there."""
    return n


def _sentence(text: str) -> str:
    return text.rstrip(".")
