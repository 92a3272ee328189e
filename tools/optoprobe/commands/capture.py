"""`optoprobe capture`: records what comes from a meter, by a head on this computer or by a probe, as a capture file."""

from __future__ import annotations

import argparse
import contextlib
import queue
import re
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering import protocols
from metering.line import SWITCH, WAIT, Line

from .. import decoding
from ..broker_client import BrokerClient, BrokerUnreachable, ProbeAddress
from ..capture_file import MAX_S, Capture, CaptureError, CaptureWriter, counted, parse
from .probe_options import CommandFailed, add_where, check_where, probe_of

if TYPE_CHECKING:
    from ..serial_line import SerialLine

_USUAL_S = 30
_STEP_S = 5.0  # noise for so long: another line is tried, in a pause if there is one within the same time again
_QUIET_S = 0.3
_LOOK_MS = 100
_GATHER_MS = 20  # an adapter hands a telegram over in a few bytes each
_LATE_S = 30.0  # a probe that is busy, or comes back from an outage
_SETTLE_S = 3.0  # a probe that has just connected takes what comes at once for an old message
_STATUS = "status"
_CAPTURE = "capture"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "capture",
        help="what comes from an unknown meter -> a file to send in",
        description="Records what comes from the meter and when, with a head on this computer (--port) or with a probe "
        "(--broker and --probe), as text that decode reads and demo replays.",
        epilog="With --mask the file is fit to be shown to everybody. Exit code 0 if something was recorded, 1 if not, "
        "2 for wrong usage, or a port or a file that cannot be used.",
        allow_abbrev=False,
    )
    add_where(parser, "of the port, such as '2400 8E1' (9600 8N1, others upon noise)")
    parser.add_argument("--seconds", metavar="N", type=_seconds, help=f"for so long, up to {MAX_S} ({_USUAL_S})")
    parser.add_argument("--mask", action="store_true", help="keep whole telegrams only, and in them measurements only")
    parser.add_argument(
        "--keep", metavar="CODE", action="append", default=[], type=_kept,
        help="what --mask is to leave as it is, such as C.2.1, or ident; may be repeated",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, help="a new file (capture-<date>-<time>.txt)")


def _seconds(text: str) -> int:
    if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MAX_S:
        return int(text)
    raise argparse.ArgumentTypeError(f"give a whole number from 1 to {MAX_S}")


def _kept(text: str) -> str:
    from ..masking.numbers import Numbers

    try:
        Numbers([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError

    try:
        _check(args)
        probe = probe_of(args)
        with _new_file(args.out or Path(time.strftime("capture-%Y%m%d-%H%M%S.txt"))) as file:
            recorded = _from_probe(probe, args.seconds) if probe else _from_port(args)
            return _write(args, recorded, file)
    except (CommandFailed, PortError) as error:
        _say(f"{error}.")
        return error.code
    except BrokerUnreachable as error:
        _say(f"{error}.")
        return 1


def _say(text: str) -> None:
    print(f"optoprobe capture: {text}", file=sys.stderr, flush=True)


def _check(args: argparse.Namespace) -> None:
    check_where(args)
    if args.keep and not args.mask:
        raise CommandFailed("--keep belongs to --mask: give that too", 2)
    if args.broker and args.line:
        raise CommandFailed("a probe chooses its line by itself: leave --line out, or set line in its settings", 2)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """`path`, made before the recording, so that this is not in vain; gone again if nothing is written to it."""
    try:
        path.open("x").close()
    except FileExistsError as error:
        raise CommandFailed(f"{path} is there already: name another with --out, or move it away", 2) from error
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written ({error.strerror}): name another with --out", 2) from error
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            if not path.stat().st_size:
                path.unlink()


def _write(args: argparse.Namespace, recorded: bytes, file: Path) -> int:
    try:
        capture = parse(recorded)
    except CaptureError as error:
        raise CommandFailed(f"what came is no capture file ({error}): update the probe, or this program") from error
    if not any(segment.chunks or segment.light for segment in capture.segments):
        where = args.port or f"the probe {args.probe}"
        cure = "check that the head sits on the meter's eye and its cable"
        raise CommandFailed(f"nothing came in front of {where}: {cure}")
    if args.mask:
        from ..masking import mask

        capture = mask(capture, args.keep)
        recorded = capture.text().encode()
    said = _about(capture)
    file.write_bytes(recorded)
    print(f"{file}: {said}", flush=True)
    if args.mask and not capture.readable_bytes():
        _say(
            "no good telegram came, and only these can be masked: record again without --mask, "
            "and show that file only to people you trust."
        )
        return 1
    return 0


def _about(capture: Capture) -> str:
    lines = list(dict.fromkeys(repr(part.line) for part in capture.parts()))
    telegrams, protocol = _telegrams(capture)
    text = counted(len(capture.readable_bytes()), "byte")
    text += f" at {', '.join(lines)}" if lines else ""
    return text + (f", {counted(telegrams, 'telegram')} ({protocol})" if telegrams else ", no telegram recognised")


def _telegrams(capture: Capture) -> tuple[int, str]:
    """How many telegrams there are, those that want a key too, and what the first one speaks."""
    n, protocol = 0, ""
    for part in capture.parts():
        for event in decoding.decode(part.data, pauses=part.pauses):
            if is_telegram(event):
                encrypted = "" if isinstance(event, decoding.Telegram) else ", encrypted"
                protocol = protocol or event.protocol + encrypted
                n += 1
    return n, protocol


def is_telegram(event: decoding.Telegram | decoding.Rejected) -> bool:
    """Is it one, or one that only wants its key?"""
    return isinstance(event, decoding.Telegram) or event.reason == "key needed"


# --- a head on this computer -----------------------------------------------------------------------------------------


def _from_port(args: argparse.Namespace) -> bytes:
    from ..serial_line import SerialLine

    with SerialLine(args.port) as port:
        return _Recording(args, port).run()


def _lines_tried() -> list[Line]:
    """Where meters talk by themselves, and what others are asked on and answer."""
    names = protocols.searched()
    lines = decoding.lines_to_hear(names)
    return lines + [Line(line.baud) for line in map(decoding.line_to_ask, names) if line]


class _Recording:
    """One recording over a serial port. Times are ms since its begin."""

    def __init__(self, args: argparse.Namespace, port: SerialLine) -> None:
        self._port = port
        self._lines = [args.line] if args.line else _lines_tried()  # the first one now, or next
        self._seconds = args.seconds or _USUAL_S
        self._writer = CaptureWriter()
        self._began_s = time.monotonic()
        self._pending = bytearray()  # that came within _GATHER_MS
        self._pending_ms = self._last_ms = 0
        self._heard = bytearray()  # with the settings of now

    def run(self) -> bytes:
        from ..serial_line import PortError

        _say(f"recording {self._port.name} for {self._seconds} s; Ctrl-C ends it sooner ...")
        with contextlib.suppress(KeyboardInterrupt):
            while not self._is_over():
                try:
                    self._port.drive(self._actions(), lambda listener: None, self._on_progress)
                except PortError as error:
                    if error.code != 2 or len(self._lines) == 1:
                        raise
                    _say(f"{error}; it is left out.")  # not every adapter can do every line
                    self._lines.pop(0)
        self._flush()
        if self._writer.full:
            _say(f"the file is full after {self._now_ms() // 1000} s: what came then is not in it.")
        self._writer.end(self._now_ms())
        _, protocol = _telegrams(parse(self._writer.text().encode()))
        from .. import __version__

        about = f"version {__version__}, board a computer's serial port, protocol {protocol or 'unknown'}"
        self._writer.comments.append(about)
        return self._writer.text().encode()

    def _now_ms(self) -> int:
        return int((time.monotonic() - self._began_s) * 1000)

    def _is_over(self) -> bool:
        return self._writer.full or self._now_ms() >= self._seconds * 1000

    def _actions(self) -> Generator[Any, Any, None]:
        """Generator of line actions: listens with the first line; where that brings noise, with the next."""
        while True:
            line = self._lines[0]
            yield SWITCH, line
            self._flush()
            self._heard.clear()
            self._writer.settings(line)
            from_ms = self._now_ms()
            settled = len(self._lines) == 1
            while settled or not self._may_step(from_ms):
                if self._is_over():
                    return
                yield WAIT, _LOOK_MS
                if not settled and self._may_step(from_ms):
                    settled = _makes_sense(bytes(self._heard))
            self._lines.append(self._lines.pop(0))
            _say(f"{line!r} brings noise, listening with {self._lines[0]!r} ...")

    def _may_step(self, from_ms: int) -> bool:
        """Has enough come with this line to judge it, and is this a good moment?"""
        now_ms = self._now_ms()
        quiet = now_ms - self._last_ms >= _QUIET_S * 1000 or now_ms - from_ms >= 2 * _STEP_S * 1000
        return bool(self._heard) and now_ms - from_ms >= _STEP_S * 1000 and quiet

    def _on_progress(self, data: bytes) -> None:
        now_ms = self._now_ms()
        if self._pending and now_ms - self._pending_ms >= _GATHER_MS:
            self._flush()
        if data:
            if not self._pending:
                self._pending_ms = now_ms
            self._pending += data
            self._heard += data
            self._last_ms = now_ms

    def _flush(self) -> None:
        if self._pending:
            self._writer.take(self._last_ms, bytes(self._pending))
            self._pending.clear()


def _makes_sense(data: bytes) -> bool:
    """Is there a telegram in it, or the begin of a long one?"""
    return any(
        is_telegram(event) or isinstance(event, decoding.Rejected) and event.reason == "cut off"
        for event in decoding.decode(data)
    )


# --- a probe ---------------------------------------------------------------------------------------------------------


def _from_probe(probe: ProbeAddress, seconds: int | None) -> bytes:
    with contextlib.closing(_Button(probe)) as button:
        return button.press(seconds)


class _Button:
    """The capture button of a probe. Raises BrokerUnreachable, CommandFailed."""

    def __init__(self, probe: ProbeAddress) -> None:
        self._probe = probe.name
        self._topic = probe.topic
        self._arrived: queue.SimpleQueue[tuple[str, bytes, bool]] = queue.SimpleQueue()  # last level, payload, retained
        topics = ((self._topic + _STATUS, 1), (self._topic + _CAPTURE, 1))
        self._client = BrokerClient(probe.broker, probe.user, probe.password, topics, self._message, ca=probe.ca)

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        level = topic.rpartition("/")[2]
        if level == _STATUS or not retained:  # a retained capture is an old one
            self._arrived.put((level, payload, retained))

    def press(self, seconds: int | None) -> bytes:
        """Have the probe record; what it sends then. One that was not there yet is told again: twice would stop it."""
        wait_s = (seconds or _USUAL_S) + _LATE_S
        until_s = 0.0
        was_there = False
        while True:
            if not until_s:
                _say(f"the probe {self._probe} is to record for {seconds or _USUAL_S} s ...")
                self._client.publish(f"{self._topic}{_CAPTURE}/set", str(seconds) if seconds else "PRESS", qos=1)
                until_s = time.monotonic() + wait_s
            try:
                level, payload, retained = self._arrived.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise CommandFailed(
                    f"the probe {self._probe} has sent no capture within {wait_s:.0f} s: check --probe and --prefix, "
                    "and that its firmware has the button"
                ) from None
            if level == _CAPTURE:
                return payload
            if payload == b"offline":
                raise CommandFailed(f"the probe {self._probe} is offline: check its power and its Wi-Fi")
            if not was_there and not retained:
                time.sleep(_SETTLE_S)
                until_s = 0.0
            was_there = True

    def close(self) -> None:
        self._client.close()
