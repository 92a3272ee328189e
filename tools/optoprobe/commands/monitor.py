"""`optoprobe monitor`: how well an optical head sits, once a second, while somebody turns it.

    --port     a head on this computer: its bytes are heard here and scored by metering.signal_quality
    --broker   a head on a probe: the probe's alignment mode is switched on over MQTT, and what it says is shown
               ON or OFF, not retained  ──►  <prefix>/<probe>/alignment/set
               <prefix>/<probe>/alignment  ──►  {"score": 87, "best": 93, "words": "..."} once a second
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import re
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from metering import protocols
from metering.line import EXPECT, SWITCH, WAIT, Line
from metering.listener import NOTHING
from metering.signal_quality import AlignmentScore

from .. import decoding
from .read import ASKED, seconds

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

    from ..serial_line import SerialLine

_HEARD_WELL = 50  # a score
_TICKS = 0x3FFFFFFF
_BAR = 50  # characters

_TRIED = (Line(9600), Line(2400, 7, "E"), Line(2400, 8, "E"), Line(115200))  # SML, D0; D0; wired DLMS; P1
_NOISE_S = 8.0  # bytes for so long, and no telegram: another line is tried
_LEAST_NOISE = 32  # bytes
_DARK_S = 3.0  # before the meter is asked; D0 meters push every 1 to 2 s
_DARK_AGAIN_S = 11.0  # P1 up to DSMR 4: every 10 s
_SLICE_MS = 100
_PAUSE_MS = 2000  # after a read-out a meter stays at its rate for 1.5 s, deaf for a sign-on
_MUTE = 3  # questions without an answer in a row: perhaps it pushes after all
_ECHO_S = 0.15  # our echo is back by then
_NO_KEY = ("key needed", "key wrong", "tag", "security", "replay")  # the light was right

_MQTT_PORT = 1883
_ANSWER_S = 5.0  # of a broker
_AGAIN_S = 5.0  # without a word of the probe: it is told once more
_SILENT_S = 20.0
_STATUS = "status"
_ALIGNMENT = "alignment"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "monitor",
        help="how well the head sits on the meter, live, while you turn it",
        description="Shows a score of 0 to 100, the best so far and what to do, once a second: of a head on this "
        "computer (--port) or of a probe's (--broker and --probe).",
        epilog="Ctrl-C ends it. Exit code 0 if the meter was heard well enough at least once (a score of "
        f"{_HEARD_WELL}), 1 if not, 2 for wrong usage or a port that cannot be used.",
        allow_abbrev=False,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port of the head, such as /dev/ttyUSB0 or COM3")
    where.add_argument("--broker", metavar="HOST[:PORT]", type=_host_and_port, help="the MQTT broker of the probe")
    parser.add_argument(
        "--protocol",
        choices=decoding.protocol_names(),
        help="what the meter in front of the port speaks (auto: listen, and ask where nothing comes)",
    )
    parser.add_argument("--line", metavar="SETTINGS", type=_line, help="of the port, such as '2400 8E1'")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="end after N seconds (run until Ctrl-C)")
    parser.add_argument("--probe", metavar="ID", type=_probe, help="which probe's head it is")
    parser.add_argument("--prefix", type=_prefix, help="mqtt_prefix of its settings (optoprobe)")
    parser.add_argument("--user", help="at the broker")
    parser.add_argument("--password-file", metavar="FILE", type=Path, help="its first line is the password there")


def _line(text: str) -> Line:
    found = re.fullmatch(r"([0-9]{3,6}) ([78])([NEO])([12])", text.upper())
    if found:
        return Line(int(found[1]), int(found[2]), None if found[3] == "N" else found[3], int(found[4]))
    raise argparse.ArgumentTypeError("give such as '9600 8N1' or '2400 8E1'; what is inverted needs another head")


def _probe(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]{1,32}", text):
        return text
    raise argparse.ArgumentTypeError("give the probe's id, letters, digits, _ and -")


def _prefix(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", text):
        return text
    raise argparse.ArgumentTypeError("give letters, digits, _ - and / inside")


def _host_and_port(text: str) -> tuple[str, int]:
    with contextlib.suppress(ValueError):
        parts = urlsplit("//" + text)
        port = _MQTT_PORT if parts.port is None else parts.port
        if parts.hostname and port and parts.netloc == text and "@" not in text and not any(map(str.isspace, text)):
            return parts.hostname, port
    raise argparse.ArgumentTypeError("give HOST or HOST:PORT, such as 192.168.1.5")


class _Failed(Exception):
    """Nothing can be shown; the text is one sentence without its full stop, `code` the command's exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def run(args: argparse.Namespace) -> int:
    from ..serial_line import PortError

    screen = None
    try:
        _check(args)
        password = _password_of(args)
        with _interruptible(), _Screen() as screen:
            if args.port:
                _of_a_port(args, screen)
            else:
                _of_a_probe(args, password, screen)
    except (_Failed, PortError) as error:
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
    if args.port and (args.probe or args.prefix or args.user or args.password_file):
        raise _Failed("--probe, --prefix, --user and --password-file belong to --broker: leave them out", 2)
    if args.broker and (args.protocol or args.line):
        raise _Failed("a probe knows its meter by itself: leave --protocol and --line out", 2)
    if args.broker and not args.probe:
        raise _Failed("--broker needs --probe ID too: the id is the topic's second level", 2)
    if args.password_file and not args.user:
        raise _Failed("MQTT knows no password without a user: give --user too", 2)


def _password_of(args: argparse.Namespace) -> str | None:
    file = args.password_file
    if file is None:
        return None
    try:
        password = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise _Failed(f"{file} cannot be read ({reason}): check its name and permissions", 2) from error
    if not password:
        raise _Failed(f"{file}: its first line is empty, write the broker's password there", 2)
    return password


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
        self._live: Any = None

    def __enter__(self) -> _Screen:
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console()
            if not console.is_dumb_terminal:
                self._live = Live(console=console, auto_refresh=False)
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

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
        from rich.text import Text

        plain = self._live.console.options.ascii_only
        full, empty, mark = ("#", "-", "|") if plain else ("█", "░", "┃")
        cells = [full if k * 100 < score * _BAR else empty for k in range(_BAR)]
        cells[min(self.best * _BAR // 100, _BAR - 1)] = mark
        colour = "green" if score >= 90 else "yellow" if score >= _HEARD_WELL else "red"
        text = Text()
        text.append(f"{score:3} ", style="bold")
        text.append("".join(cells), style=colour)
        text.append(f" best {self.best}\n{words}")
        text.append(f"\n{self.now_s():.0f} s{about}; Ctrl-C ends", style="dim")
        self._live.update(text, refresh=True)


# --- a head on this computer -----------------------------------------------------------------------------------------


class _Ended(Exception):
    """The time is over."""


def _of_a_port(args: argparse.Namespace, screen: _Screen) -> None:
    from ..serial_line import PortError

    with _port(args.port) as line:
        watch = _Watch(args, line, screen)
        try:
            while True:
                try:
                    line.drive(watch.run(), lambda listener: None, watch.on_progress)
                except PortError as error:
                    if error.code != 2 or len(watch.lines) == 1:
                        raise
                    _say(f"{error}; it is left out.")  # not every adapter can do every line
                    watch.lines.pop(0)
        except _Ended:
            pass
        finally:
            if line.asked:  # else the meter waits, or sends, for a while yet
                from metering.iec62056_21.poll import BREAK

                with contextlib.suppress(PortError):
                    line.send(BREAK)


def _port(name: str) -> Any:
    """A SerialLine that tells what it has sent, and how much of it came back."""
    from ..serial_line import SerialLine

    class Port(SerialLine):
        n_sent = 0  # since it was last told
        n_back = 0
        due_s = 0.0

        def send(self, data: bytes) -> None:
            super().send(data)
            self.n_sent, self.n_back = len(data), 0
            self.due_s = time.monotonic() + _ECHO_S

        def _without_echo(self, data: bytes) -> bytes:
            sent, came = self._echo, self._echoed + data
            rest = super()._without_echo(data)
            if not self._echo:  # all of it, or something else, has come
                same = sum(a == b for a, b in zip(sent, came, strict=False))
                self.n_back = len(sent) if len(rest) < len(came) else same if 2 * same >= len(sent) else 0
            return rest

        def tell_echo(self, alignment: AlignmentScore) -> None:
            """Once the echo is back, or would be."""
            if self.n_sent and (self.n_back or time.monotonic() >= self.due_s):
                alignment.sent(self.n_sent, self.n_back)
                self.n_sent = 0

    return Port(name)


class _Watch:
    """One call of the command on a serial port: what is heard, by which protocol, and its score.

    `lines` are those to be tried, the first one now.
    """

    def __init__(self, args: argparse.Namespace, line: SerialLine, screen: _Screen) -> None:
        self._args = args
        self._line: Any = line
        self._screen = screen
        self._alignment = AlignmentScore(line.line.baud)
        self._listeners: list[Any] = []
        self._heard: Any = None  # the listener that has had a telegram first
        self._unheard = 0  # what it had rejected until then
        self._bytes = self._high = 0  # lately, and of them with bit 7
        self._n_bytes = 0
        self._last_s = 0.0  # when something came
        self._until_s = time.monotonic() + args.seconds if args.seconds else float("inf")
        self._protocol = args.protocol or decoding.AUTO
        if self._protocol != decoding.AUTO:
            self.lines = [args.line or protocols.load(self._protocol).LINES[0]]
        else:
            self.lines = [args.line] if args.line else list(_TRIED)

    # --- what is tried ---

    def run(self) -> Generator[Any, Any, None]:
        """Generator of line actions, without end."""
        protocol, lines = self._protocol, self.lines
        names = protocols.names() if protocol == decoding.AUTO else [protocol]
        asks = ASKED in names and not self._args.line
        dark_s = _DARK_S if asks else float("inf")
        while True:
            is_dark = yield from self._hear(names, lines[0], dark_s, len(lines) > 1)
            if not is_dark:
                lines.append(lines.pop(0))
            elif (yield from self._ask()):
                dark_s = _DARK_S
            else:
                dark_s = _DARK_AGAIN_S if protocol == decoding.AUTO else _DARK_S

    def _hear(self, names: list[str], line: Line, dark_s: float, has_others: bool) -> Generator[Any, Any, bool]:
        """Listen. Ends with True when nothing comes, with False when there is but noise and there are other lines;
        once a telegram has come it does not end."""
        yield SWITCH, line
        self._begin([decoding.new_listener(name) for name in names])
        from_s = self._last_s = time.monotonic()
        from_bytes = self._n_bytes
        while True:
            data = yield EXPECT, _whatever, _SLICE_MS, _SLICE_MS
            for listener in self._listeners:
                _feed(listener, data)
            now_s = time.monotonic()
            if self._heard is not None:
                continue
            if now_s - self._last_s >= dark_s and self._n_bytes - from_bytes < _LEAST_NOISE:
                return True
            if has_others and now_s - from_s >= _NOISE_S and self._n_bytes - from_bytes >= _LEAST_NOISE:
                return False

    def _ask(self) -> Generator[Any, Any, bool]:
        """Ask by IEC 62056-21, again and again as long as there are answers. Has it ever answered?"""
        listener = decoding.new_listener(ASKED)
        conversation: Any = protocols.load_conversation(ASKED)
        conversation = conversation(listener)
        self._begin([listener])
        answered = False
        mute = 0
        while mute < (_MUTE if answered else 1):
            before = conversation.failed["no answer"]
            yield from conversation.read_out()
            if conversation.failed["no answer"] == before:
                answered, mute = True, 0
            else:
                mute += 1
            yield WAIT, _PAUSE_MS
        return answered

    def _begin(self, listeners: list[Any]) -> None:
        self._listeners = listeners
        self._heard = None
        self._bytes = self._high = 0

    # --- what comes ---

    def on_progress(self, data: bytes) -> None:
        """Each 50 ms, and with what has come, before it is listened to."""
        now_s = time.monotonic()
        alignment, line = self._alignment, self._line
        alignment.baud = line.line.baud
        alignment.telegrams(*self._counts())
        if data:
            self._last_s = now_s
            self._n_bytes += len(data)
            self._bytes += len(data)
            self._high += sum(byte > 0x7F for byte in data)
            if self._bytes > 512:
                self._bytes //= 2
                self._high //= 2
        printed = (self._heard or self._listeners[0]).NAME == ASKED if self._listeners else False
        alignment.parity = printed and 8 * self._high > self._bytes  # through a pty it does not come along
        alignment.feed(data, 0, len(data))
        line.tell_echo(alignment)
        if alignment.look(int(now_s * 1000) & _TICKS, None):
            name = self._heard.NAME if self._heard is not None else "searching" if len(self._listeners) > 1 else ""
            about = f"{line.line!r}, {name}" if name else repr(line.line)
            self._screen.show(alignment.score, alignment.best, alignment.words, about)
        if now_s > self._until_s:
            raise _Ended

    def _counts(self) -> tuple[int, int]:
        """How many telegrams have held and how many have not, of the protocol that has had one first."""
        if self._heard is None:
            for listener in self._listeners:
                if _held(listener):
                    self._heard = listener
                    self._unheard = _refused(listener)
                    self._listeners = [listener]
                    break
            else:
                return 0, 0
        return _held(self._heard), _refused(self._heard) - self._unheard


def _held(listener: Any) -> int:
    return listener.accepted + sum(listener.rejected.get(reason, 0) for reason in _NO_KEY)


def _refused(listener: Any) -> int:
    return sum(n for reason, n in listener.rejected.items() if reason not in _NO_KEY)


def _whatever(buffer: bytearray, n: int) -> int:
    """For EXPECT: what is there."""
    return n


def _feed(listener: Any, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += listener.feed(data, at, len(data))
        while listener.next_event() != NOTHING:
            pass


# --- a probe's head --------------------------------------------------------------------------------------------------


def _of_a_probe(args: argparse.Namespace, password: str | None, screen: _Screen) -> None:
    with contextlib.closing(_Probe(args, password)) as probe:
        probe.watch(screen.show, args.seconds)


class _Probe:
    """A probe's alignment mode, switched on until close(). Raises _Failed."""

    def __init__(self, args: argparse.Namespace, password: str | None) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        host, port = args.broker
        where = f"the broker at {host}:{port}"
        self._name = args.probe
        self._topic = f"{args.prefix or 'optoprobe'}/{args.probe}/"
        self._set_topic = self._topic + _ALIGNMENT + "/set"
        self._arrived: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()  # last level of the topic, payload
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()  # "" or why we were refused
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.connect_timeout = _ANSWER_S
        self._client.will_set(self._set_topic, "OFF", qos=1)
        if args.user:
            self._client.username_pw_set(args.user, password)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message
        try:
            self._client.connect(host, port, keepalive=20)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise _Failed(f"{where} cannot be reached ({reason}): check --broker") from error
        self._client.loop_start()
        try:
            refusal = self._answer.get(timeout=_ANSWER_S)
        except queue.Empty:
            refusal = f"does not answer within {_ANSWER_S:.0f} s: check that --broker is an MQTT broker"
        if refusal:
            self._client.disconnect()
            self._client.loop_stop()
            raise _Failed(f"{where} {refusal}")

    def _connected(self, client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._answer.put(f"refuses us ({reason}): check --user and --password-file")
        else:
            client.subscribe([(self._topic + _STATUS, 1), (self._topic + _ALIGNMENT, 0)])

    def _subscribed(self, *_: object) -> None:
        """Also when the broker is back after an outage."""
        self._switch("ON")
        self._answer.put("")

    def _message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        self._arrived.put((message.topic.rpartition("/")[2], bytes(message.payload)))

    def _switch(self, to: str) -> Any:
        return self._client.publish(self._set_topic, to, qos=1)

    def watch(self, show: Callable[[int, int, str], None], for_s: float | None) -> None:
        """Hand over what the probe says, for so long (None: for ever)."""
        began_s = heard_s = told_s = time.monotonic()
        until_s = began_s + for_s if for_s else float("inf")
        while time.monotonic() < until_s:
            try:
                level, payload = self._arrived.get(timeout=0.2)
            except queue.Empty:
                level, payload = "", b""
            now_s = time.monotonic()
            said = _said(payload) if level == _ALIGNMENT else None
            if said is not None:
                heard_s = told_s = now_s
                show(*said)
            elif level == _STATUS and payload == b"offline" and heard_s == began_s:
                raise _Failed(f"the probe {self._name} is offline: check its power and its Wi-Fi")
            elif now_s - told_s >= _AGAIN_S:  # it has restarted, or the word was lost
                told_s = now_s
                self._switch("ON")
            if now_s - heard_s >= _SILENT_S:
                raise _Failed(
                    f"the probe {self._name} has said nothing on {self._topic}{_ALIGNMENT} for {_SILENT_S:.0f} s: "
                    "check --probe and --prefix, and that its firmware has an alignment mode"
                )

    def close(self) -> None:
        """Switch the mode off and go."""
        with contextlib.suppress(RuntimeError, ValueError):  # paho's, when there is no connection
            self._switch("OFF").wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()


def _said(payload: bytes) -> tuple[int, int, str] | None:
    """(score, best, words) of a probe's message, None where it is none."""
    try:
        said = json.loads(payload)
        score, best, words = said["score"], said["best"], said["words"]
    except (ValueError, KeyError, TypeError):
        return None
    for number in (score, best):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 100:
            return None
    if not isinstance(words, str):
        return None
    return score, best, "".join(c if c.isprintable() else "?" for c in words)  # it must not steer the terminal
