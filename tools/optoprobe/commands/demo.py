"""`optoprobe demo`: a meter's light through the unmodified firmware to an MQTT broker, and what arrives there, live.

    simulated meter or capture ─► virtual line ─► firmware on the virtual board ─► broker ─► the table on the screen

Beside the table's subscriber the demo plays Home Assistant on a broker of its own: it sends the birth message, upon
which the firmware announces everything again and tells its counters, which it else does once a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import queue
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import capture_file, decoding
from ..virtual.blink_meter import GHOSTS
from ..virtual.dlms_meter import QUIRKS as DLMS_QUIRKS
from ..virtual.iec62056_21_meter import QUIRKS as IEC_QUIRKS
from ..virtual.sml_meter import QUIRKS
from .decode import Unreadable, parts_of, read

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt
    from rich.console import RenderableType

    from metering.line import Line

    from ..virtual.board import VirtualBoard
    from ..virtual.broker import Broker
    from ..virtual.optical_server import OpticalServer

METERS = ("sml", "iec-a", "iec-b", "iec-c", "iec-d", "p1", "dlms", "dlms-hdlc", "dlms-mbus", "dlms-gbt", "blink")
_INTERVAL_S = 10  # between read-outs of a meter that is asked; the firmware's own is a minute
_PULSES_PER_KWH = 10_000  # of the meter that only blinks: something happens every second
_HUB = "homeassistant"
_TICK_S = 0.25
_PLAIN_EVERY_S = 1.0  # a register's lines where there is no table
_UNDESCRIBED_S = 2.0  # so long a plain line waits for the register's name and unit
_BIRTH_EVERY_S = 15.0
_ANSWER_S = 5.0  # of an outside broker
_OFFLINE_S = 3.0  # until the broker has published the last will
_LAST_LINES = 3
_TABLE_FRAME_LINES = 7  # title, heading, rules, and one for what does not fit


class DemoError(Exception):
    """The demo cannot go on; the text is one sentence with the cure."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="a simulated meter through the firmware to a broker, on the screen",
        description="Runs the firmware on a virtual board in front of a meter and shows what arrives over MQTT.",
        epilog="Ctrl-C ends it. Exit code 0 if readings arrived, 1 if not, 2 for wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--meter", choices=METERS, help="what is simulated (one picked at random: the firmware finds out what)"
    )
    parser.add_argument("--capture", metavar="FILE", help="replay these bytes again and again instead of a meter")
    parser.add_argument(
        "--quirk", metavar="NAME", action="append", default=[], choices=(*QUIRKS, *IEC_QUIRKS, *DLMS_QUIRKS, *GHOSTS),
        help="a peculiarity of the simulated meter, may be repeated: " + ", ".join(QUIRKS)
        + "; of the meters iec-...: " + ", ".join(IEC_QUIRKS) + "; of the meters dlms...: " + ", ".join(DLMS_QUIRKS)
        + "; beside blink: " + ", ".join(GHOSTS),
    )  # fmt: skip
    parser.add_argument(
        "--runtime", choices=("micropython", "cpython"), help="of the firmware (micropython; cpython proves less)"
    )
    parser.add_argument("--broker", metavar="HOST:PORT", help="an outside MQTT broker (one of our own on loopback)")
    parser.add_argument("--user", help="at the outside broker")
    parser.add_argument("--password", help="at the outside broker")
    parser.add_argument("--seconds", metavar="N", type=_seconds, help="end after N seconds (run until Ctrl-C)")
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < math.inf:
            return value
    raise argparse.ArgumentTypeError("give a number above 0")


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
        if args.password and not args.user:
            raise ValueError("MQTT knows no password without a user: give --user too")
        args.found_out = args.meter is None and not args.capture and not args.quirk
        args.meter = args.meter or (secrets.choice(METERS) if args.found_out else METERS[0])
        family = args.meter.partition("-")[0]
        known = {"sml": QUIRKS, "dlms": DLMS_QUIRKS, "blink": GHOSTS}.get(family, IEC_QUIRKS)
        wrong = set(args.quirk).difference(known)
        if wrong and not args.capture:
            raise ValueError(f"a meter {args.meter} has no such quirk as {', '.join(sorted(wrong))}: leave it out")
        if args.capture and args.quirk:
            raise ValueError("a capture is replayed as it is: leave --quirk out")
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


# --- what arrives ----------------------------------------------------------------------------------------------------


@dataclass
class Register:
    """One value of a meter as it arrived last, at `at_s` (monotonic); `since_s`: the first time."""

    meter: str
    key: str
    value: str
    at_s: float
    since_s: float
    name: str = ""
    unit: str = ""
    printed: str = ""
    printed_s: float = -math.inf


@dataclass
class Picture:
    """What a probe's topics have said so far. Fed with messages, knows nothing of connections."""

    probe_id: str
    registers: dict[tuple[str, str], Register] = field(default_factory=dict)
    described: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    diagnostics_s: float = 0.0
    status: str = ""
    messages: int = 0  # with readings
    odd: int = 0  # that are not what the contract says

    @property
    def meters(self) -> list[str]:
        """Topic levels of the meters met, in order."""
        return list(dict.fromkeys(meter for meter, _ in self.registers))

    def discovery_topic(self, meter: str | None) -> str:
        """Where `meter`, or the probe itself for None, is announced."""
        return f"{_HUB}/device/optoprobe_{self.probe_id}{'_' + meter if meter else ''}/config"

    def retained_topics(self) -> list[str]:
        """Every topic where this probe leaves something at the broker."""
        topics = [f"optoprobe/{self.probe_id}/status", self.discovery_topic(None)]
        for meter in self.meters:
            topics += [f"optoprobe/{self.probe_id}/{meter}/state", self.discovery_topic(meter)]
        return topics

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """One message."""
        levels = topic.split("/")
        if levels[-1] == "status":
            self.status = payload.decode(errors="replace")
            return
        try:
            said = json.loads(payload)
        except ValueError:
            self.odd += 1
            return
        if not isinstance(said, dict):
            self.odd += 1
        elif levels[-1] == "diagnostics":
            self.diagnostics, self.diagnostics_s = said, now_s
        elif levels[-1] == "config":
            self._describe(levels[-2], said)
        elif levels[-1] in ("state", "live") and len(levels) == 4:
            self.messages += 1
            for key, value in said.items():
                register = self.registers.setdefault(
                    (levels[2], key), Register(levels[2], _printable(key), "", now_s, now_s)
                )
                register.value, register.at_s = _printable(str(value)), now_s
        for where, (name, unit) in self.described.items():
            if where in self.registers:
                self.registers[where].name, self.registers[where].unit = name, unit

    def _describe(self, object_id: str, said: dict[str, Any]) -> None:
        meter = object_id.removeprefix(f"optoprobe_{self.probe_id}").removeprefix("_")
        for key, component in said.get("cmps", {}).items():
            unit = component.get("unit_of_meas", "")
            self.described[meter, key] = _printable(component.get("name", key)), _printable(unit)

    def counters(self, now_s: float) -> str:
        """The firmware's own counters in one line."""
        if not self.diagnostics:
            return "the firmware has not told its counts yet"
        age = f"told {now_s - self.diagnostics_s:.0f} s ago"
        if "pulses" in self.diagnostics:
            return f"pulses: {self.diagnostics['pulses']} counted{_by_reason(self.diagnostics, 'ghosts')} ({age})"
        rejected = _by_reason(self.diagnostics, "rejected")
        held = self.diagnostics.get("held", 0)
        kept = f", {held} values held back" if held else ""
        return f"telegrams: {self.diagnostics.get('telegrams', 0)} good{rejected}{kept} ({age})"


def _by_reason(diagnostics: dict[str, Any], name: str) -> str:
    """", 3 rejected (crc 2, length 1)" of a count told by reason."""
    reasons = diagnostics.get(f"{name}_by_reason", {})
    named = ", ".join(f"{_printable(reason)} {n}" for reason, n in reasons.items() if n)
    return f", {diagnostics.get(name, 0)} {name}" + (f" ({named})" if named else "")


def _printable(text: str) -> str:
    """What comes over a network must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class Subscriber:
    """A connection of our own to the broker; messages are taken from `arrived` as (topic, payload, monotonic_s)."""

    def __init__(self, host: str, port: int, user: str | None, password: str | None, picture: Picture) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.where = f"the broker at {host}:{port}"
        self.arrived: queue.SimpleQueue[tuple[str, bytes, float]] = queue.SimpleQueue()
        self._topics = [f"optoprobe/{picture.probe_id}/#", picture.discovery_topic(None)]
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()  # "" or why we were refused
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.connect_timeout = _ANSWER_S
        if user:
            self.client.username_pw_set(user, password)
        self.client.on_connect = self._connected
        self.client.on_message = self._message
        try:
            self.client.connect(host, port, keepalive=20)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise DemoError(f"{self.where} cannot be reached ({reason}): check --broker.") from error
        self.client.loop_start()
        try:
            refusal = self._answer.get(timeout=_ANSWER_S)
        except queue.Empty:
            refusal = f"does not answer within {_ANSWER_S:.0f} s: is it an MQTT broker?"
        if refusal:
            self.close()
            raise DemoError(f"{self.where} {refusal}")

    def _connected(self, client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._answer.put(f"refuses us ({reason}): check --user and --password.")
            return
        for topic in self._topics:
            client.subscribe(topic)
        self._answer.put("")

    def _message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        if message.payload:
            self.arrived.put((message.topic, bytes(message.payload), time.monotonic()))

    def subscribe(self, topic: str) -> None:
        """Once, and again after a reconnect."""
        if topic not in self._topics:
            self._topics.append(topic)
            self.client.subscribe(topic)

    def take_into(self, picture: Picture) -> None:
        """Everything that has arrived; a new meter's announcement is subscribed to."""
        while not self.arrived.empty():
            picture.take(*self.arrived.get())
        for meter in picture.meters:
            self.subscribe(picture.discovery_topic(meter))

    def remove_retained(self, picture: Picture) -> None:
        """Leave nothing at an outside broker once the firmware is off; says so where that fails."""
        give_up = time.monotonic() + _OFFLINE_S
        while picture.status == "online" and time.monotonic() < give_up:  # the last will would come after us
            time.sleep(0.05)
            self.take_into(picture)
        try:
            for topic in picture.retained_topics():
                self.client.publish(topic, b"", qos=1, retain=True).wait_for_publish(_OFFLINE_S)
            gone = self.client.is_connected()
        except RuntimeError:  # paho's, when there is no connection
            gone = False
        if not gone:
            topics = " ".join(picture.retained_topics())
            print(f"optoprobe demo: could not remove what is retained at {self.where}: {topics}", file=sys.stderr)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


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
        self.began_s = 0.0

    def run(self) -> None:
        """Raises DemoError unless readings arrived."""
        from ..device_tree import BuildError
        from ..runtime import SetupError
        from ..virtual.broker import BrokerError

        try:
            with contextlib.ExitStack() as stack:
                self._run(stack)
        except (SetupError, BuildError, BrokerError) as error:
            raise DemoError(str(error)) from error

    def _run(self, stack: contextlib.ExitStack) -> None:
        from metering import protocols
        from metering.line import Line
        from metering.pulses import RATES

        from ..virtual.blink_meter import BlinkMeter
        from ..virtual.board import VirtualBoard
        from ..virtual.broker import Broker
        from ..virtual.dlms_meter import DlmsMeter
        from ..virtual.iec62056_21_meter import IecMeter
        from ..virtual.optical_server import OpticalServer
        from ..virtual.sml_meter import SmlMeter

        source: Any
        if self.capture is not None:
            protocol, source = self._replayed(self.capture)
        elif self.args.meter == "sml":
            protocol = "sml"
            source = SmlMeter(quirks=self.args.quirk)
        elif self.args.meter == protocols.BLINK:
            protocol = protocols.BLINK
            source = BlinkMeter(_PULSES_PER_KWH, ghosts=self.args.quirk)
        elif self.args.meter.startswith("dlms"):
            protocol = "dlms"
            source = DlmsMeter(self.args.meter.partition("-")[2] or "optical", quirks=self.args.quirk)
        else:
            protocol = "iec62056-21"
            source = IecMeter(self.args.meter.removeprefix("iec-").upper(), quirks=self.args.quirk)
        usual = Line(RATES[0]) if protocol == protocols.BLINK else protocols.load(protocol).LINES[0]
        line = getattr(source, "line", None) or Line(usual.baud)
        runtime_name = self._runtime()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optoprobe-demo-")))
        if self.outside is None:
            self.broker = stack.enter_context(Broker(scratch / "broker"))
            if self.broker.name != "mosquitto":
                self.notes.append("There is no mosquitto here, so the broker is amqtt from PyPI.")
        host, port = self.outside or ("127.0.0.1", self.broker.port if self.broker else 0)
        picture = self.picture
        subscriber = Subscriber(host, port, self.args.user, self.args.password, picture)
        stack.callback(subscriber.close)
        if self.outside is not None:
            stack.callback(subscriber.remove_retained, picture)
        server = stack.enter_context(OpticalServer(source, line))
        settings: dict[str, object] = {
            "wifi_ssid": "virtual",
            "mqtt_host": host,
            "mqtt_port": port,
            "mqtt_user": self.args.user or "",
            "mqtt_password": self.args.password or "",
            "probe_id": picture.probe_id,
            "probe_name": "Optoprobe demo",
            "protocol": "auto" if self.args.found_out else protocol,
            "interval_s": _INTERVAL_S,
            "pulses_per_kwh": _PULSES_PER_KWH,
        }
        if protocol == "dlms" and self.capture is None:
            settings["meter_key"], settings["meter_auth_key"] = source.key.hex(), source.auth_key.hex()
        odd_baud = not self.args.found_out and protocol == "dlms" and line.baud != usual.baud
        if odd_baud or isinstance(source, capture_file.Replay):
            settings["line"] = f"{line.baud} {line.bits}{line.parity or 'N'}{line.stop}"
        virtual = VirtualBoard(
            scratch / "board", settings, server.port, board=_head_for(line), runtime_name=runtime_name
        )
        board = stack.enter_context(virtual)
        self.began_s = time.monotonic()
        self._watch(subscriber, server, board, self._about(runtime_name, f"{host}:{port}", server, scratch))
        self._verdict(server, board)

    def _replayed(self, capture: bytes) -> tuple[str, Any]:
        """What the capture speaks by its first telegram, of a capture file the longest part's; and a source of it.

        DemoError when there is none.
        """
        from metering.line import Line

        from ..virtual.optical_server import CaptureSource

        timed = capture_file.is_capture(capture)
        whole = capture_file.Segment(Line(9600), chunks=[(0, capture)])
        parts = capture_file.parse(capture).parts() if timed else [capture_file.Part([whole])]
        refused = n_bytes = 0
        for part in sorted(parts, key=lambda part: len(part.data), reverse=True):
            n_bytes += len(part.data)
            for event in decoding.decode(part.data, pauses=part.pauses):
                if isinstance(event, decoding.Telegram):
                    return event.protocol, capture_file.Replay(part) if timed else CaptureSource(capture)
                refused += 1
        found = f"{refused:,} rejected" if refused else "no start sequence found"
        file = self.args.capture
        raise DemoError(f"no telegram in {file} ({n_bytes:,} bytes, {found}); `optoprobe decode` shows more.")

    def _runtime(self) -> str:
        """micropython unless CPython is asked for or MicroPython cannot be had, which is said aloud."""
        from .. import runtime

        if self.args.runtime == "cpython":
            self.notes.append("The firmware runs under CPython, as asked for: timing and memory are not the device's.")
            return "cpython"
        try:
            runtime.micropython()
        except runtime.SetupError as error:
            if self.args.runtime is not None:
                raise
            self.notes.append(f"No MicroPython: {error}")
            self.notes.append("The firmware runs under CPython instead: timing and memory are not the device's.")
            return "cpython"
        return "micropython"

    def _about(self, runtime_name: str, broker_at: str, server: OpticalServer, scratch: Path) -> list[str]:
        """What runs where, a line each."""
        from .. import runtime

        meter = f"simulated {self.args.meter} meter" + (f" ({', '.join(self.args.quirk)})" if self.args.quirk else "")
        if self.args.found_out:
            meter = "simulated, one picked at random; the firmware finds out what it speaks"
        if self.capture is not None:
            meter = f"capture {_printable(self.args.capture)}, again and again"
        program = str(runtime.micropython()) if runtime_name == "micropython" else sys.executable
        name = "MicroPython" if runtime_name == "micropython" else "CPython"
        if self.broker is None:
            broker = f"outside, {broker_at}" + (f" as {_printable(self.args.user)}" if self.args.user else "")
        else:
            broker = f"{self.broker.name}, {broker_at}, process {self.broker.pid}"
        return [
            f"meter     {meter}; light served on 127.0.0.1:{server.port}",
            f"firmware  {name}, {program}, device files in {scratch / 'board'}",
            f"broker    {broker}; topics optoprobe/{self.picture.probe_id}/#",
        ]

    def _watch(self, subscriber: Subscriber, server: OpticalServer, board: VirtualBoard, about: list[str]) -> None:
        """Show what arrives until the time is over or a signal comes; DemoError when a part of it breaks down."""
        birth_s = None
        said = 0
        with self._screen(about) as show:
            while not self.stop.wait(_TICK_S):
                now = time.monotonic()
                subscriber.take_into(self.picture)
                if self.args.found_out:
                    for line in board.log[said:]:
                        said += 1
                        thought = _printable(line.removeprefix("optoprobe: "))
                        print(f"{now - self.began_s:6.1f} s  {thought}", flush=True)
                show(now, server)
                if self.args.seconds is not None and now - self.began_s >= self.args.seconds:
                    break
                if self.broker is not None and self.picture.registers:
                    if birth_s is None or now - birth_s >= _BIRTH_EVERY_S:
                        subscriber.client.publish(f"{_HUB}/status", b"online")
                        birth_s = now
                if self.broker is not None and self.broker.pid is None:
                    raise DemoError(f"the broker {self.broker.name} ended by itself: run the demo again.")
                # Ctrl-C reaches the firmware as well as us, and perhaps sooner
                if not board.running and not self.stop.wait(0.3):
                    raise DemoError(f"the firmware ended: {_last(board.log)}")
            subscriber.take_into(self.picture)
            show(time.monotonic(), server)

    @contextlib.contextmanager
    def _screen(self, about: list[str]) -> Iterator[Any]:
        """A function that shows the present state: the table on a terminal, plain lines elsewhere."""
        from rich.console import Console
        from rich.live import Live

        for line in [*self.notes, *about]:
            print(line, flush=True)
        console = Console()
        if not sys.stdout.isatty() or console.is_dumb_terminal:
            yield lambda now, server: self._print_changes(now)
            return
        with Live(console=console, auto_refresh=False) as live:
            yield lambda now, server: live.update(self._table(now, server, console.height), refresh=True)

    def _print_changes(self, now: float) -> None:
        for register in self.picture.registers.values():
            if register.value == register.printed or now - register.printed_s < _PLAIN_EVERY_S:
                continue
            if not register.name and now - register.since_s < _UNDESCRIBED_S:
                continue
            register.printed, register.printed_s = register.value, now
            name = register.name or register.key
            line = f"{now - self.began_s:6.1f} s  {name:<24} {register.value:>16} {register.unit}"
            print(line.rstrip(), flush=True)

    def _table(self, now: float, server: OpticalServer, height: int) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        picture = self.picture
        table = Table(title=Text("meter " + ", ".join(picture.meters) if picture.meters else "waiting for readings"))
        table.add_column("register", no_wrap=True)
        table.add_column("value", justify="right")
        table.add_column("unit")
        table.add_column("age s", justify="right")
        below = self._lines_below(now, server)
        room = max(1, height - len(below) - _TABLE_FRAME_LINES)
        for register in list(picture.registers.values())[:room]:
            name, age = register.name or register.key, f"{now - register.at_s:.1f}"
            table.add_row(Text(name), Text(register.value, style="bold"), Text(register.unit), age)
        hidden = len(picture.registers) - room
        if hidden > 0:
            below.insert(0, f"{hidden} more registers in a higher window")
        return Group(table, *(Text(line, no_wrap=True, overflow="ellipsis") for line in below))

    def _lines_below(self, now: float, server: OpticalServer) -> list[str]:
        picture = self.picture
        notice = _printable(str(picture.diagnostics.get("notice", "none yet")))
        free = picture.diagnostics.get("free_heap_bytes") or 0
        what = "flashes" if self.args.meter == "blink" else "telegrams"
        sent = "" if self.capture is not None else f"meter sent {server.telegrams_sent} {what}, "
        return [
            f"{sent}{picture.messages} messages with readings arrived",
            picture.counters(now),
            f"notice: {notice}; probe {picture.status or 'not heard yet'}",
            f"free heap: {free:,} bytes" if free else "free heap: not known",
            f"{now - self.began_s:.0f} s; Ctrl-C ends",
        ]

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
    lines = [_printable(line.strip()) for line in log if line.strip() not in ("", "optoprobe:")]
    return " | ".join(lines[-_LAST_LINES:]) or "it said nothing; run the demo again with --runtime cpython."
