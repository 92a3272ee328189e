"""How the simulated meters of IEC 62056-21 talk: a half-duplex line in the meter's hand, message by message.

Who drives the line asks a Source's questions (see `source`); the meter says with `say` what is to be said and
with `wait` who hears what comes then. Time is an argument, in seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from metering.line import Line

from .iec62056_21_read_out import Expected
from .source import Transmission
from .uart import frame_bits

SILENCE_S = 1.5  # the norm's longest reaction time and longest pause between characters
SOH, STX, ETX, EOT, ACK, NAK = b"\x01", b"\x02", b"\x03", b"\x04", b"\x06", b"\x15"


def bcc(data: bytes) -> bytes:
    """The block check character: all bytes of `data` (after STX or SOH, up to and including ETX or EOT) xor-ed."""
    check = 0
    for byte in data:
        check ^= byte & 0x7F
    return bytes((check,))


def crc16_arc(data: bytes) -> int:
    """CRC-16/ARC, as P1 telegrams end in."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


@dataclass
class _Piece:
    """Characters to be said together: `at_s`, or (None) `pause_s` after the piece before has left."""

    data: bytes
    at_s: float | None
    pause_s: float
    last: bool
    telegram: bool
    rows: Expected | None


class Talk:
    """`base` is the line that the meter falls back to, `line` the one of now.

    `reaction_s` (lowest, highest) and `gap_s` are drawn from for every answer. `fall_idle` is called where a message
    says so. `blocks` counts the data blocks given to the line, faulty ones too; `expected` is what the newest right
    one says.
    """

    def __init__(
        self,
        base: Line,
        draw: random.Random,
        reaction_s: tuple[float, float],
        gap_s: float,
        quirks: frozenset[str],
        fall_idle: Callable[[float], None],
    ) -> None:
        self.base = base
        self.line = base
        self.quirks = quirks
        self.blocks = 0
        self.expected: Expected = []
        self.hear: Callable[[int, float], None] = lambda *_: None
        self.heard = bytearray()
        self.garbage = False  # something was heard that began nothing
        self.spoil = False  # the next block gets one bit turned round
        self.timeout: tuple[float, Callable[[float], None]] | None = None
        self._switched = False
        self._draw = draw
        self._reaction_s = reaction_s
        self._gap_s = gap_s
        self._queue: deque[_Piece] = deque()
        self._sending = False
        self._then = fall_idle  # when the queue is empty and the last bit has left
        # the last message, for its repetition: bytes, what they say, what comes behind them
        self._last: tuple[bytes, Expected | None, Callable[[float], None]] = (b"", None, fall_idle)

    @property
    def is_talking(self) -> bool:
        return self._sending or bool(self._queue)

    def rest(self) -> None:
        """Back to the base line, with nothing heard and nothing due."""
        self.line = self.base
        self.timeout = None
        self.heard.clear()
        self._switched = False

    # --- what the line's driver asks ---

    def wake_s(self, otherwise_s: float | None) -> float | None:
        """When there is something to do; `otherwise_s` is when, where nothing is being said. None: never by itself."""
        times = [self.timeout[0]] if self.timeout is not None else []
        if not self._sending:
            if self._queue:
                times.append(self._queue[0].at_s or 0.0)
            elif otherwise_s is not None:
                times.append(otherwise_s)
        return min(times) if times else None

    def left(self, now_s: float, free_s: float) -> None:
        """What was being said has left the line at `free_s`."""
        if self._sending:
            self._sending = False
            if self._queue and self._queue[0].at_s is None:
                self._queue[0].at_s = free_s + self._queue[0].pause_s
            if not self._queue:
                self._then(free_s)
        self.time_out(now_s)

    def next(self, now_s: float, free_s: float) -> Transmission | None:
        """The piece that is to be said by `now_s`."""
        if not self._queue:
            return None
        piece = self._queue[0]
        at_s = free_s if piece.at_s is None else piece.at_s
        if at_s > now_s:
            return None
        self._queue.popleft()
        self._sending = True
        if piece.last and piece.telegram:
            self.blocks += 1
            if piece.rows is not None:
                self.expected = piece.rows
        says = [] if piece.telegram and piece.rows is None else piece.rows
        return Transmission(max(at_s, free_s), piece.data, says, piece.last, self.line, piece.telegram)

    def time_out(self, now_s: float) -> None:
        while self.timeout is not None and self.timeout[0] <= now_s:
            at_s, what = self.timeout
            self.timeout = None
            what(at_s)

    # --- what the meter says ---

    def say(
        self,
        at_s: float,
        data: bytes,
        then: Callable[[float], None],
        *,
        rows: Expected | None = None,
        reaction: bool = True,
        spoil: bool = False,
    ) -> None:
        """Queue a message as an answer to what ended at `at_s`; `rows`: it is a data block that says so."""
        telegram = rows is not None
        if spoil:
            printed = [k for k, byte in enumerate(data[:-2]) if byte >= 0x20]
            at = self._draw.choice(printed[len(printed) // 4 : len(printed) * 3 // 4])
            data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
            rows = None
        if self._switched:
            self._switched = False
            if "junk_after_switch" in self.quirks:
                data = bytes(self._draw.choice(b"\x00\x10?U\x7f") for _ in range(self._draw.randrange(2, 5))) + data
        if reaction:
            at_s += self._draw.uniform(*self._reaction_s)
        self.timeout = None
        self.heard.clear()
        self.garbage = False
        self._then = then
        pause_s = 0.0
        while data:
            n = self._draw.randrange(1, 32) if self._gap_s else len(data)
            piece, data = data[:n], data[n:]
            self._queue.append(_Piece(piece, None if pause_s else at_s, pause_s, not data, telegram, rows))
            pause_s = self._draw.uniform(0, self._gap_s) or 1e-6

    def say_and_keep(
        self,
        at_s: float,
        data: bytes,
        then: Callable[[float], None],
        rows: Expected | None = None,
        *,
        reaction: bool = True,
    ) -> None:
        """A message with a check, repeated on a NAK as it was meant."""
        self._last = data, rows, then
        self.say(at_s, data, then, rows=rows, reaction=reaction, spoil=self._is_spoilt())

    def repeat(self, at_s: float) -> None:
        data, rows, then = self._last
        self.say(at_s, data, then, rows=rows, spoil=self._is_spoilt())

    def _is_spoilt(self) -> bool:
        once = "bad_bcc_once" in self.quirks and self.spoil
        self.spoil = False
        return once or "bad_bcc" in self.quirks

    # --- and what it waits for ---

    def wait(self, hear: Callable[[int, float], None], until_s: float, otherwise: Callable[[float], None]) -> None:
        self.heard.clear()
        self.garbage = False
        self.hear = hear
        self.timeout = (until_s, otherwise)

    def switch(self, baud: int) -> None:
        if baud != self.line.baud:
            self.line = Line(baud, 7, "E")
            self._switched = True

    def frame_s(self) -> float:
        return frame_bits(self.line) / self.line.baud

    def answer_by(self, from_s: float) -> float:
        """When the first character of an answer must be whole."""
        return from_s + SILENCE_S + self.frame_s()
