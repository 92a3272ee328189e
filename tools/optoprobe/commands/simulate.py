"""`optoprobe simulate`: a meter for `optoprobe read` or any other reader, on a pseudo-terminal or a serial port."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from typing import Any

from metering import protocols

from .. import simulated
from .shared_options import add_password, password_of, seconds

_LOOK_S = 0.1


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "simulate",
        help="plays a meter on a pseudo-terminal or a serial port",
        description="Plays a meter, in real time. With --pty or --tcp the first line printed is what to read.",
        epilog="Ctrl-C ends it. Exit code 0 then, 1 when the port has gone, 2 for wrong usage or a port that cannot be "
        "used.",
        allow_abbrev=False,
    )
    names = simulated.simulated_protocols()
    meters = [meter for meter, protocol in simulated.meters().items() if protocol != protocols.BLINK]
    modes = [mode for name in names for mode in getattr(simulated.of(name), "MODES", ())]
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--protocol", choices=names, help=f"what it speaks ({_usual()})")
    which.add_argument("--meter", choices=meters, help="which meter, by the names of `optoprobe demo`")
    parser.add_argument("--mode", choices=modes, help=f"of {_usual()} (C)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port, such as /dev/ttyUSB0, or one end of a pair of ports")
    where.add_argument("--pty", action="store_true", help="make a pseudo-terminal and print its name")
    where.add_argument("--tcp", metavar="[HOST:]PORT", help="listen there, in the wrapper of DLMS (127.0.0.1)")
    add_password(parser)
    parser.add_argument("--history", metavar="N", type=_count, help="months of historical values in a read-out")
    parser.add_argument("--reaction-ms", metavar="MS", type=seconds, help="time to each answer (drawn, up to 1500)")
    parser.add_argument(
        "--quirk",
        metavar="NAME",
        action="append",
        default=[],
        help="a peculiarity of the meter, may be repeated; a wrong name shows which there are",
    )
    parser.add_argument("--echo", action="store_true", help="the reader sees what it sends, as with a passive head")
    parser.add_argument("--seed", metavar="N", type=_count, default=1, help="another household and serial number")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="end after N seconds (run until Ctrl-C)")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        value = int(text)
        if value >= 0:
            return value
    raise argparse.ArgumentTypeError("give a whole number, 0 or more")


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError
    from ..virtual.serial_meter import SerialMeter
    from ..virtual.tcp_meter import TcpMeter

    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        source = _source(args)
        for number in before:
            signal.signal(number, lambda *_: stop.set())
        played = TcpMeter(source, args.tcp) if args.tcp else SerialMeter(source, args.port, echo=args.echo)
        with played as meter:
            if args.port is None:
                print(meter.path, flush=True)
            until_s = time.monotonic() + (args.seconds or threading.TIMEOUT_MAX)
            told = 0
            while not stop.wait(_LOOK_S) and time.monotonic() < until_s:
                meter.check()
                told = _tell_events(source, told)
            _tell_events(source, told)
    except (ValueError, PortError) as error:
        print(f"optoprobe simulate: {str(error).rstrip('.')}.", file=sys.stderr)
        return error.code if isinstance(error, PortError) else 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _tell_events(source: Any, told: int) -> int:
    """Say on stderr what the meter has done since; returns how many events have been told."""
    events = getattr(source, "events", [])
    for event in events[told:]:
        print(f"optoprobe simulate: {event}", file=sys.stderr, flush=True)
    return len(events)


def _usual() -> str:
    """The protocol for want of --protocol and --meter: the first by which meters are asked."""
    return next(name for name in simulated.simulated_protocols() if protocols.is_asked(name))


def _source(args: argparse.Namespace) -> Any:
    """The simulated meter, a source of the optical server or a meter that pushes. Raises ValueError."""
    protocol = simulated.meters()[args.meter] if args.meter else args.protocol or _usual()
    module = simulated.of(protocol)
    modes = getattr(module, "MODES", {})
    heeded = getattr(module, "OPTIONS", ())
    given: dict[str, Any] = {"history": args.history, "reaction_ms": args.reaction_ms, "tcp": bool(args.tcp) or None}
    if args.password_file or "password" in heeded:  # one of the environment is for whom it may concern
        given["password"] = password_of(args) or None
    options = {option: value for option, value in given.items() if value is not None}
    wrong = sorted(set(options).difference(heeded))
    if args.mode and (args.meter or args.mode not in modes):
        wrong.insert(0, "mode")
    if wrong:
        named = ", ".join("--password-file" if name == "password" else f"--{name.replace('_', '-')}" for name in wrong)
        raise ValueError(f"{named} and {args.meter or protocol} do not belong together: leave one out")
    meter = args.meter or modes.get(args.mode) or simulated.usual_meter(protocol)
    source = module.make(meter, args.quirk, seed=args.seed, **options)
    keys = module.settings(source) if hasattr(module, "settings") else {}
    for key, value in keys.items():
        if key == "meter_password" and value == options.get("password"):
            value = "the one given"  # it may be that of a real meter
        print(f"optoprobe simulate: {key} is {value}", file=sys.stderr, flush=True)
    return source
