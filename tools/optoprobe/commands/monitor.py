"""`optoprobe monitor`: how well an optical head sits, once a second, while somebody turns it.

    --port     a head on this computer: its bytes are heard here and scored by metering.signal_quality
    --console  a probe on this computer's USB: what it says is shown with its time, nothing is sent to it
    --broker   a head on a probe: the probe's alignment mode is switched on over MQTT, and what it says is shown
               ON or OFF, not retained  ──►  <prefix>/<probe>/alignment/set
               <prefix>/<probe>/alignment  ──►  {"score": 87, "best": 93, "words": "..."} once a second
    --log      with --broker, instead: what was wrong with the probe lately, as it keeps it
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from .. import decoding, terminal
from ..broker_client import BrokerUnreachable, ProbeAddress
from ..flashing.error import FlashError
from ..monitoring.probe_alignment import ProbeSilent
from .probe_options import CommandFailed, add_where, check_where, probe_of
from .shared_options import seconds

_HEARD_WELL = 50  # a score
_BAR = 50  # characters


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "monitor",
        help="how well the head sits on the meter, live, while you turn it",
        description="Shows a score of 0 to 100, the best so far and what to do, once a second: of a head on this "
        "computer (--port) or of a probe's (--broker and --probe). With --console it shows what a probe says over USB.",
        epilog="Ctrl-C ends it. Exit code 0 if the meter was heard well enough at least once (a score of "
        f"{_HEARD_WELL}), 1 if not, 2 for wrong usage or a port that cannot be used.",
        allow_abbrev=False,
    )
    where = add_where(parser, "of the port, such as '2400 8E1'")
    where.add_argument("--console", metavar="PORT", help="serial port of a probe: what it says, line by line")
    parser.add_argument("--log", action="store_true", help="of a probe: what was wrong lately, over its last restarts")
    parser.add_argument(
        "--protocol",
        choices=decoding.protocol_names(),
        help="what the meter in front of the port speaks (auto: listen, and ask where nothing comes)",
    )
    parser.add_argument("--seconds", metavar="N", type=seconds, help="end after N seconds (run until Ctrl-C)")


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError

    screen = None
    try:
        _check(args)
        probe = probe_of(args)
        with _interruptible():
            if args.console:
                return _of_a_console(args)
            if probe and args.log:
                return _log_of_a_probe(probe)
            screen = _Screen()
            if probe:
                _of_a_probe(probe, screen, args.seconds)
            else:
                _of_a_port(args, screen)
    except (CommandFailed, PortError) as error:
        _say(f"{error}.")
        return error.code
    except (BrokerUnreachable, ProbeSilent) as error:
        _say(f"{error}.")
        return 1
    except FlashError as error:
        _say(f"{error}.")
        return error.code
    except KeyboardInterrupt:
        if screen is None:
            raise
    assert screen is not None
    if screen.best >= _HEARD_WELL:
        print(f"best score {screen.best} in {screen.now_s():.0f} s", flush=True)
        return 0
    why = f"best score {screen.best}; {screen.words}" if screen.words else "it ended too soon"
    _say(f"the meter was not heard well enough, {why}.")
    return 1


def _say(text: str) -> None:
    print(f"optoprobe monitor: {text}", file=sys.stderr, flush=True)


def _check(args: argparse.Namespace) -> None:
    check_where(args)
    if args.log and (not args.broker or args.seconds):
        raise CommandFailed("--log belongs to --broker and --probe, and needs no --seconds", 2)
    if not args.port and (args.protocol or args.line):
        raise CommandFailed("a probe knows its meter by itself: leave --protocol and --line out", 2)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Being ended by a signal is as Ctrl-C: the meter or the probe is let go."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [(number, signal.signal(number, interrupt)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


# --- what is shown ---------------------------------------------------------------------------------------------------


class _Screen:
    """A bar on a terminal, a line a second elsewhere. `best` and `words` are the last shown."""

    def __init__(self) -> None:
        self.best = 0
        self.words = ""
        self._began_s = time.monotonic()
        self._live = terminal.LiveLines() if terminal.is_terminal() else None

    def now_s(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self._began_s

    def show(self, score: int, best: int, words: str, about: str = "") -> None:
        """A second is over. `about`: how the meter is heard."""
        self.best = max(self.best, best)
        self.words = words
        about = f"  ({about})" if about else ""
        if self._live is None:
            print(f"{self.now_s():5.0f} s  score {score:3}  best {self.best:3}  {words}{about}", flush=True)
            return
        full, empty, mark = ("#", "-", "|") if self._live.is_ascii else ("█", "░", "┃")
        cells = [full if k * 100 < score * _BAR else empty for k in range(_BAR)]
        cells[min(self.best * _BAR // 100, _BAR - 1)] = mark
        colour = terminal.GREEN if score >= 90 else terminal.YELLOW if score >= _HEARD_WELL else terminal.RED
        bar = f"{score:3} {''.join(cells)} best {self.best}"
        self._live.show([(bar, colour), words, (f"{self.now_s():.0f} s{about}; Ctrl-C ends", terminal.DIM)])


def _of_a_port(args: argparse.Namespace, screen: _Screen) -> None:
    from ..monitoring.head_alignment import Ended, HeadWatch, open_port
    from ..serial_line import PortError

    with open_port(args.port) as line:
        watch = HeadWatch(args, line, screen.show)
        try:
            while True:
                try:
                    line.drive(watch.run(), lambda listener: None, watch.on_progress)
                except PortError as error:
                    if error.code != 2 or len(watch.lines) == 1:
                        raise
                    _say(f"{error}; it is left out.")  # not every adapter can do every line
                    watch.lines.pop(0)
        except Ended:
            pass
        finally:
            farewell = getattr(watch.conversation, "FAREWELL", b"")
            if line.asked and farewell:  # else the meter waits, or sends, for a while yet
                with contextlib.suppress(PortError):
                    line.send(farewell)


def _of_a_probe(probe: ProbeAddress, screen: _Screen, for_s: float | None) -> None:
    from ..monitoring.probe_alignment import ProbeAlignment

    with contextlib.closing(ProbeAlignment(probe)) as alignment:
        alignment.watch(screen.show, for_s)


def _log_of_a_probe(probe: ProbeAddress) -> int:
    from ..monitoring.probe_log import ask_log

    for line in ask_log(probe):
        print(line, flush=True)
    return 0


def _of_a_console(args: argparse.Namespace) -> int:
    """Show what the probe prints, until Ctrl-C or so long; 1 where nothing came."""
    from ..flashing.board_console import lines
    from ..flashing.esp_chip import check_port

    check_port(args.console)
    until_s = time.monotonic() + args.seconds if args.seconds else float("inf")
    n = 0
    try:
        with contextlib.closing(lines(args.console, lambda: time.monotonic() < until_s)) as said:
            for text in said:
                n += 1
                print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
    except KeyboardInterrupt:
        pass
    if n:
        return 0
    _say(f"nothing came from {args.console}: press RESET, or name the probe's other port.")
    return 1
