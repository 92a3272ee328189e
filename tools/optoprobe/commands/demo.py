"""`optoprobe demo`: a meter's light through the unmodified firmware to an MQTT broker, and what arrives there, live.

    simulated meter or capture ─► virtual line ─► firmware on the virtual board ─► broker ─► the table on the screen

Beside the table's subscriber the demo plays Home Assistant on a broker of its own: it sends the birth message, upon
which the firmware announces everything again and tells its counters, which it else does once a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import secrets
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import decoding, simulated
from ..broker_client import BrokerClient, BrokerUnreachable
from ..demo.meters import AUTO, NothingToPlay, name_of, played, quirks_of, replayed
from ..demo.picture import HUB, Picture
from ..demo.screen import Moment, PlainLines, open_screen
from ..terminal import printable
from .decode import Unreadable, parts_of, read
from .shared_options import seconds

if TYPE_CHECKING:
    from metering.line import Line

    from ..virtual.board import VirtualBoard
    from ..virtual.broker import Broker
    from ..virtual.optical_server import OpticalServer
    from ..virtual.own_ca import Signed

_INTERVAL_S = 10  # between read-outs of a meter that is asked; the firmware's own is a minute
_TICK_S = 0.25
_BIRTH_EVERY_S = 5.0  # so that the counts shown are current
_OFFLINE_S = 3.0  # until the broker has published the last will
_LAST_LINES = 3


class DemoError(Exception):
    """The demo cannot go on; the text is one sentence with the cure."""


def add_parser(subparsers: Any) -> None:
    meters = simulated.meters()
    quirks = {protocol: quirks_of(meter) for meter, protocol in meters.items()}
    parser = subparsers.add_parser(
        "demo",
        help="a simulated meter through the firmware to a broker, on the screen",
        description="Runs the firmware on a virtual board in front of a meter and shows what arrives over MQTT.",
        epilog="Ctrl-C ends it. Exit code 0 if readings arrived, 1 if not, 2 for wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--meter", choices=tuple(meters), help="what is simulated (one picked at random: the firmware finds out what)"
    )
    parser.add_argument("--capture", metavar="FILE", help="replay these bytes again and again instead of a meter")
    parser.add_argument("--key", metavar="HEX", help="of the capture's encrypted telegrams, 32 hexadecimal digits")
    parser.add_argument("--auth-key", metavar="HEX", help="their authentication key, 32 hexadecimal digits")
    parser.add_argument(
        "--quirk",
        metavar="NAME",
        action="append",
        default=[],
        choices=tuple(dict.fromkeys(quirk for names in quirks.values() for quirk in names)),
        help="a peculiarity of the simulated meter, may be repeated; of "
        + "; of ".join(f"{protocol}: {', '.join(names)}" for protocol, names in quirks.items() if names),
    )
    parser.add_argument(
        "--runtime", choices=("micropython", "cpython"), help="of the firmware (micropython; cpython proves less)"
    )
    parser.add_argument("--broker", metavar="HOST:PORT", help="an outside MQTT broker (one of our own on loopback)")
    parser.add_argument("--user", help="at the outside broker")
    parser.add_argument("--password", help="at the outside broker")
    parser.add_argument("--tls", action="store_true", help="over TLS, with a CA made on the spot")
    parser.add_argument("--tls-ca", metavar="FILE", type=Path, help="over TLS to the outside broker; its CA, PEM")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="end after N seconds (run until Ctrl-C)")


def _host_and_port(text: str) -> tuple[str, int]:
    """HOST:PORT or [IPv6]:PORT; ValueError for anything else."""
    parts = urlsplit("//" + text)
    if parts.netloc != text or not parts.hostname or not parts.port or "@" in text or any(map(str.isspace, text)):
        raise ValueError(text)
    return parts.hostname, parts.port


def run(args: argparse.Namespace) -> int:
    outside, capture = None, None
    try:
        if (args.user or args.password) and not args.broker:
            raise ValueError("--user and --password belong to --broker HOST:PORT: give that too")
        if args.tls and args.broker or args.tls_ca and not args.broker:
            raise ValueError("--tls is for a broker of our own, --tls-ca FILE for that of --broker: give the other")
        if (args.tls or args.tls_ca) and args.runtime == "cpython":
            raise ValueError("TLS is MicroPython's own: leave --runtime cpython out")
        if args.password and not args.user:
            raise ValueError("MQTT knows no password without a user: give --user too")
        if args.capture and (args.meter or args.quirk):
            raise ValueError("a capture is replayed as it is: leave --meter and --quirk out")
        args.found_out = args.meter is None and not args.capture and not args.quirk
        meters = tuple(simulated.meters())
        args.meter = args.meter or (secrets.choice(simulated.meters_found()) if args.found_out else meters[0])
        wrong = set(args.quirk).difference(quirks_of(args.meter))
        if wrong:
            raise ValueError(f"a meter {args.meter} has no such quirk as {', '.join(sorted(wrong))}: leave it out")
        if (args.key or args.auth_key) and not args.capture:
            raise ValueError("a simulated meter has its own keys: leave --key and --auth-key out, or give --capture")
        for option, key in (("--key", args.key), ("--auth-key", args.auth_key)):
            decoding.clean_key(option, key)
        if args.broker:
            try:
                outside = _host_and_port(args.broker)
            except ValueError as error:
                raise ValueError("--broker takes HOST:PORT, such as 192.168.1.5:1883") from error
        if args.capture:
            capture = read(args.capture)
            parts_of(args.capture, capture)  # a damaged capture file is told before anything begins
    except (ValueError, Unreadable) as error:
        print(f"optoprobe demo: {error}.", file=sys.stderr)
        return 2
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:  # an exception could come between a program's start and our knowing of it; an event cannot
        signal.signal(number, lambda *_: stop.set())
    try:
        _Demo(args, outside, capture, stop).run()
    except DemoError as error:
        sys.stdout.flush()
        print(f"optoprobe demo: {error}", file=sys.stderr)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


class Subscriber:
    """A connection of our own to the broker; messages are taken from `arrived` as (topic, payload, monotonic_s).

    Raises BrokerUnreachable.
    """

    def __init__(
        self, address: tuple[str, int], user: str | None, password: str | None, picture: Picture, ca: Path | None
    ) -> None:
        self.arrived: queue.SimpleQueue[tuple[str, bytes, float]] = queue.SimpleQueue()
        topics = ((f"optoprobe/{picture.probe_id}/#", 0), (picture.discovery_topic(None), 0))
        options = "--user and --password"
        self.client = BrokerClient(address, user, password, topics, self._message, options=options, ca=ca)

    def _message(self, topic: str, payload: bytes, _: bool) -> None:
        if payload:
            self.arrived.put((topic, payload, time.monotonic()))

    def take_into(self, picture: Picture) -> None:
        """Everything that has arrived; a new meter's announcement is subscribed to."""
        while not self.arrived.empty():
            picture.take(*self.arrived.get())
        for meter in picture.meters:
            self.client.subscribe(picture.discovery_topic(meter))

    def remove_retained(self, picture: Picture) -> None:
        """Leave nothing at an outside broker once the firmware is off; says so where that fails."""
        give_up = time.monotonic() + _OFFLINE_S
        while picture.status == "online" and time.monotonic() < give_up:  # the last will would come after us
            time.sleep(0.05)
            self.take_into(picture)
        topics = picture.retained_topics()
        if not all(self.client.publish_surely(topic, b"", _OFFLINE_S, retain=True) for topic in topics):
            said = f"could not remove what is retained at {self.client.where}: {' '.join(topics)}"
            print(f"optoprobe demo: {said}", file=sys.stderr)

    def close(self) -> None:
        self.client.close()


# --- the run ---------------------------------------------------------------------------------------------------------


class _Demo:
    """One run, from the checked arguments to everything ended again."""

    def __init__(
        self, args: argparse.Namespace, outside: tuple[str, int] | None, capture: bytes | None, stop: threading.Event
    ) -> None:
        self.args = args
        self.outside = outside
        self.capture = capture
        self.stop = stop
        self.picture = Picture("demo_" + secrets.token_hex(3))  # two demos at one broker do not meet
        self.notes: list[str] = []  # said aloud before anything else
        self.broker: Broker | None = None
        self.ca: Path | None = args.tls_ca
        self.began_s = 0.0
        self.reading_since_s: float | None = None
        self.thought = ""  # of the firmware while it looks for the meter

    def run(self) -> None:
        """Raises DemoError unless readings arrived."""
        from ..building.device_tree import BuildError
        from ..environment.runtime import SetupError
        from ..virtual.broker import BrokerError

        try:
            with contextlib.ExitStack() as stack:
                self._run(stack)
        except (SetupError, BuildError, BrokerError) as error:
            raise DemoError(str(error)) from error
        except (BrokerUnreachable, NothingToPlay) as error:
            raise DemoError(f"{error}.") from error

    def _run(self, stack: contextlib.ExitStack) -> None:
        from ..virtual.board import VirtualBoard
        from ..virtual.broker import Broker
        from ..virtual.optical_server import OpticalServer

        args, picture = self.args, self.picture
        if self.capture is not None:
            self.meter = replayed(printable(args.capture), self.capture, args.key, args.auth_key)
            self.notes += [self.meter.note] if self.meter.note else []
        else:
            self.meter = played(args.meter, args.quirk)
        runtime_name = self._runtime()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optoprobe-demo-")))
        if self.outside is None:
            self.broker = stack.enter_context(Broker(scratch / "broker", signed=self._signed(scratch / "ca")))
            if self.broker.name != "mosquitto":
                self.notes.append("There is no mosquitto here, so the broker is amqtt from PyPI.")
        address = self.outside or ("127.0.0.1", self.broker.port if self.broker else 0)
        subscriber = Subscriber(address, args.user, args.password, picture, self.ca)
        stack.callback(subscriber.close)
        if self.outside is not None:
            stack.callback(subscriber.remove_retained, picture)
        server = stack.enter_context(OpticalServer(self.meter.source, self.meter.line))
        board = stack.enter_context(
            VirtualBoard(
                scratch / "board",
                self._settings(*address),
                server.port,
                board=_head_for(self.meter.line),
                runtime_name=runtime_name,
            )
        )
        self.began_s = time.monotonic()
        host, port = address
        self._watch(subscriber, server, board, *self._about(runtime_name, f"{host}:{port}", server, scratch))
        self._verdict(server, board)

    def _signed(self, folder: Path) -> Signed | None:
        """What a broker of our own proves itself by, where it is to."""
        from ..virtual.own_ca import OwnCa

        if not self.args.tls:
            return None
        own = OwnCa(folder)
        self.ca = own.certificate
        return own.sign("broker", "127.0.0.1")

    def _settings(self, host: str, port: int) -> dict[str, object]:
        more = dict(self.meter.settings)
        if self.args.found_out:
            more.pop("line", None)
        return {
            "wifi_ssid": "virtual",
            "mqtt_host": host,
            "mqtt_port": port,
            "mqtt_user": self.args.user or "",
            "mqtt_password": self.args.password or "",
            "mqtt_tls_ca": str(self.ca or ""),
            "probe_id": self.picture.probe_id,
            "probe_name": "Optoprobe demo",
            "protocol": AUTO if self.args.found_out else self.meter.protocol,
            "interval_s": _INTERVAL_S,
            "publish_interval_s": 0,  # every telegram is shown
            **more,
        }

    def _runtime(self) -> str:
        """micropython unless CPython is asked for or MicroPython cannot be had, which is said aloud."""
        from ..environment import runtime

        if self.args.runtime == "cpython":
            self.notes.append("The firmware runs under CPython, as asked for: timing and memory are not the device's.")
            return "cpython"
        try:
            runtime.micropython()
        except runtime.SetupError as error:
            if self.args.runtime is not None or self.ca or self.args.tls:
                raise
            self.notes.append(f"No MicroPython: {error}")
            self.notes.append("The firmware runs under CPython instead: timing and memory are not the device's.")
            return "cpython"
        return "micropython"

    def _about(
        self, runtime_name: str, broker_at: str, server: OpticalServer, scratch: Path
    ) -> tuple[str, list[str]]:
        """What runs where: in one line, and at length, a line each."""
        from ..environment import runtime

        meter = self.meter.about
        if self.args.found_out:
            meter = "simulated, one picked at random; the firmware finds out what it speaks"
        program = str(runtime.micropython()) if runtime_name == "micropython" else sys.executable
        secured = " over TLS" if self.ca else ""
        name = "MicroPython" if runtime_name == "micropython" else "CPython"
        if self.broker is None:
            broker = f"outside, {broker_at}" + (f" as {printable(self.args.user)}" if self.args.user else "")
        else:
            broker = f"{self.broker.name}, {broker_at}, process {self.broker.pid}"
        broker += secured
        what = "a meter" if self.args.found_out else name_of(self.args.meter)
        played = f"{what} (simulated)" if self.capture is None else Path(printable(self.args.capture)).name
        header = f"{played} → {name} → {self.broker.name if self.broker else 'broker'} {broker_at}{secured}"
        return header, [
            f"meter     {meter}; light served on 127.0.0.1:{server.port}",
            f"firmware  {name}, {program}, device files in {scratch / 'board'}",
            f"broker    {broker}; topics optoprobe/{self.picture.probe_id}/#",
        ]

    def _watch(
        self, subscriber: Subscriber, server: OpticalServer, board: VirtualBoard, header: str, about: list[str]
    ) -> None:
        """Show what arrives until the time is over or a signal comes; DemoError when a part of it breaks down."""
        screen = open_screen(header)
        is_plain = isinstance(screen, PlainLines)
        for line in [*self.notes, *(about if is_plain else ())]:
            print(line, flush=True)
        birth_s = None
        said = 0
        while not self.stop.wait(_TICK_S):
            now = time.monotonic()
            subscriber.take_into(self.picture)
            if self.meter.protocol == AUTO or self.args.found_out:
                for line in board.log[said:]:
                    said += 1
                    self.thought = printable(line.removeprefix("optoprobe: "))
                    if is_plain:
                        print(f"{now - self.began_s:6.1f} s  {self.thought}", flush=True)
            screen.show(self.picture, self._moment(now, server))
            if self.args.seconds is not None and now - self.began_s >= self.args.seconds:
                break
            if self.broker is not None and self.picture.registers:
                if birth_s is None or now - birth_s >= _BIRTH_EVERY_S:
                    subscriber.client.publish(f"{HUB}/status", b"online")
                    birth_s = now
            if self.broker is not None and self.broker.pid is None:
                raise DemoError(f"the broker {self.broker.name} ended by itself: run the demo again.")
            # Ctrl-C reaches the firmware as well as us, and perhaps sooner
            if not board.running and not self.stop.wait(0.3):
                raise DemoError(f"the firmware ended: {_last(board.log)}")
        subscriber.take_into(self.picture)
        screen.show(self.picture, self._moment(time.monotonic(), server))

    def _moment(self, now: float, server: OpticalServer) -> Moment:
        if not self.meter.is_being_read:
            self.reading_since_s = None
        elif self.reading_since_s is None:
            self.reading_since_s = now
        what = "flashes" if self.meter.is_blinking else "telegrams"
        sent = "" if self.capture is not None else f"meter sent {server.telegrams_sent} {what}, "
        return Moment(now, self.began_s, sent, self.reading_since_s, self.thought)

    def _verdict(self, server: OpticalServer, board: VirtualBoard) -> None:
        """The summary line; DemoError with the likeliest reason when there was nothing to show."""
        now, picture = time.monotonic(), self.picture
        n, messages, odd = len(picture.registers), picture.messages, picture.odd
        if self.args.found_out:
            print(f"The meter was {self.args.meter}.", flush=True)
        if n:
            strange = f", {odd} messages not understood" if odd else ""
            arrived = f"{n} registers in {messages} messages{strange}"
            print(f"{now - self.began_s:.0f} s: {arrived}; {picture.counters(now)}", flush=True)
            return
        after = f"no readings arrived in {now - self.began_s:.0f} s"
        if any(line.strip() not in ("", "optoprobe:") for line in board.log):
            raise DemoError(f"{after}; the firmware says: {_last(board.log)}")
        if server.boards == 0:
            raise DemoError(f"{after}; the virtual board did not connect to the line: give it more --seconds.")
        raise DemoError(f"{after}; {picture.counters(now)}: give it more --seconds.")


def _head_for(line: Line) -> Path | dict[str, Any]:
    """The virtual board; for a light that is turned round, with a head that turns it back."""
    from ..source_tree import board_files

    file = board_files()["virtual"]
    if not line.invert:
        return file
    board = json.loads(file.read_text())
    board["uart"]["invert_rx"] = True
    return board


def _last(log: list[str]) -> str:
    """The last lines of the firmware that say something, as one."""
    lines = [printable(line.strip()) for line in log if line.strip() not in ("", "optoprobe:")]
    return " | ".join(lines[-_LAST_LINES:]) or "it said nothing; run the demo again with --runtime cpython."
