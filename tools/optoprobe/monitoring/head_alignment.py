"""How well a head on this computer sits: its bytes are heard, asked for where none come, and scored once a second."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from metering import protocols
from metering.line import EXPECT, SWITCH, WAIT, Line
from metering.signal_quality import AlignmentScore

from .. import decoding

if TYPE_CHECKING:
    from ..serial_line import SerialLine

_TICKS = 0x3FFFFFFF
_NOISE_S = 8.0  # bytes for so long, and no telegram: another line is tried
_LEAST_NOISE = 32  # bytes
_DARK_S = 3.0  # before the meter is asked; D0 meters push every 1 to 2 s
_DARK_AGAIN_S = 11.0  # P1 up to DSMR 4: every 10 s
_SLICE_MS = 100
_PAUSE_MS = 2000  # after a read-out a meter stays at its rate for 1.5 s, deaf for a sign-on
_MUTE = 3  # questions without an answer in a row: perhaps it pushes after all
_ECHO_S = 0.15  # our echo is back by then


class Ended(Exception):
    """The time is over."""


def open_port(name: str) -> Any:
    """A SerialLine that tells what it has sent, and how much of it came back."""
    from ..serial_line import SerialLine

    class Port(SerialLine):
        n_sent = 0  # since it was last told
        n_back = 0
        due_s = 0.0
        said = came = b""

        def send(self, data: bytes) -> None:
            super().send(data)
            self.said, self.came = bytes(data), b""
            self.n_sent, self.n_back = len(data), 0
            self.due_s = time.monotonic() + _ECHO_S

        def _without_echo(self, data: bytes) -> bytes:
            was_awaited = self._echo.is_awaited()
            rest = super()._without_echo(data)
            if was_awaited:
                self.came += data
                if not self._echo.is_awaited():  # all of it, or something else, has come
                    mask = 0x7F if self.line.bits == 7 else 0xFF
                    same = sum(not (a ^ b) & mask for a, b in zip(self.said, self.came, strict=False))
                    self.n_back = same if 2 * same >= len(self.said) else 0
            return rest

        def tell_echo(self, alignment: AlignmentScore) -> None:
            """Once the echo is back, or would be."""
            if self.n_sent and (self.n_back or time.monotonic() >= self.due_s):
                alignment.sent(self.n_sent, self.n_back)
                self.n_sent = 0

    return Port(name)


class HeadWatch:
    """One call of the command on a serial port: what is heard, by which protocol, and its score.

    `lines` are those to be tried, the first one now.
    """

    def __init__(self, args: argparse.Namespace, line: SerialLine, show: Callable[[int, int, str, str], None]) -> None:
        self._args = args
        self._line: Any = line
        self._show = show
        self._alignment = AlignmentScore(line.line.baud)
        self._listeners: list[Any] = []
        self._heard: Any = None  # the listener that has had a telegram first
        self._unheard = 0  # what it had rejected until then
        self.conversation: Any = None  # the one that is held, or was last
        self._bytes = self._high = 0  # lately, and of them with bit 7
        self._n_bytes = 0
        self._last_s = 0.0  # when something came
        self._until_s = time.monotonic() + args.seconds if args.seconds else float("inf")
        self._protocol = args.protocol or decoding.AUTO
        if self._protocol != decoding.AUTO:
            self.lines = [args.line or protocols.load(self._protocol).LINES[0]]
        else:
            self.lines = [args.line] if args.line else decoding.lines_to_hear(protocols.searched())

    # --- what is tried ---

    def run(self) -> Generator[Any, Any, None]:
        """Generator of line actions, without end."""
        protocol, lines = self._protocol, self.lines
        names = protocols.searched() if protocol == decoding.AUTO else [protocol]
        asked = [name for name in names if protocols.is_asked(name)] if not self._args.line else []
        dark_s = _DARK_S if asked else float("inf")
        while True:
            is_dark = yield from self._hear(names, lines[0], dark_s, len(lines) > 1)
            if not is_dark:
                lines.append(lines.pop(0))
            elif (yield from self._ask(asked)):
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
                for _ in decoding.events_of(listener, data):
                    pass
            now_s = time.monotonic()
            if self._heard is not None:
                continue
            if now_s - self._last_s >= dark_s and self._n_bytes - from_bytes < _LEAST_NOISE:
                return True
            if has_others and now_s - from_s >= _NOISE_S and self._n_bytes - from_bytes >= _LEAST_NOISE:
                return False

    def _ask(self, names: list[str]) -> Generator[Any, Any, bool]:
        """Ask by each of the protocols `names`, by one that is answered as long as it is. Was there any answer?"""
        for name in names:
            if (yield from self._ask_by(name)):
                return True
        return False

    def _ask_by(self, name: str) -> Generator[Any, Any, bool]:
        listener = decoding.new_listener(name)
        conversation: Any = protocols.load_conversation(name)
        self.conversation = conversation = conversation(listener)
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
        lines = (self._heard or self._listeners[0]).LINES if self._listeners else ()
        has_parity = any(line.bits == 7 for line in lines)
        alignment.parity = has_parity and 8 * self._high > self._bytes  # through a pty it does not come along
        alignment.feed(data, 0, len(data))
        line.tell_echo(alignment)
        if alignment.look(int(now_s * 1000) & _TICKS, None):
            name = self._heard.NAME if self._heard is not None else "searching" if len(self._listeners) > 1 else ""
            about = f"{line.line!r}, {name}" if name else repr(line.line)
            self._show(alignment.score, alignment.best, alignment.words, about)
        if now_s > self._until_s:
            raise Ended

    def _counts(self) -> tuple[int, int]:
        """How many telegrams have held and how many have not, of the protocol that has had one first."""
        if self._heard is None:
            for listener in self._listeners:
                if listener.recognised:
                    self._heard = listener
                    self._unheard = _refused(listener)
                    self._listeners = [listener]
                    break
            else:
                return 0, 0
        return self._heard.recognised, _refused(self._heard) - self._unheard


def _refused(listener: Any) -> int:
    """What had no good light: a telegram that is refused for want of a key was heard well."""
    return sum(listener.rejected.values()) + listener.accepted - listener.recognised


def _whatever(buffer: bytearray, n: int) -> int:
    """For EXPECT: what is there."""
    return n
