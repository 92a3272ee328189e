"""What stands on the meter's side of the virtual line: a simulated meter, a capture, whatever has poll()."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from metering.line import Line

from .uart import Transition

_CHUNK = 512  # bytes of a capture put on the line at a time


class Transmission(NamedTuple):
    """Bytes for the line from `at_s` (line time), or when the line is free. `last`: a telegram ends with them.

    `line`: settings the source sends with from now on, None for unchanged ones. With `telegram` False the bytes are
    part of no telegram (an identification, an acknowledge): neither counted nor logged. `light`: transitions instead of
    `data`, in line time (an LED that only blinks).
    """

    at_s: float
    data: bytes
    expected: Any = None
    last: bool = True
    line: Line | None = None
    telegram: bool = True
    light: Sequence[Transition] | None = None


class Source(Protocol):
    """What stands on the meter's side. Optional beside poll():

    receive(byte) or receive(byte, at_s)  gets what the meter hears of the heads' LEDs, and when (line time)
    line                                  settings that it sends and hears with now; it may change at any time
    wake_s()                              when poll() will have something new by itself: it is asked then, and when the
                                          last byte has left; None: not before it hears something. Without wake_s()
                                          poll() is asked at every step
    """

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        """What is to be sent by `now_s`, or None. `free_s`: when the last byte given has left, not after `now_s`."""


class MeterSource:
    """A simulated meter (`telegram(now_s)`, `expected()`, `period_s`) that sends once a period.

    Telegrams that the line has no time for are left out, as by a meter that is still busy with the one before.
    """

    def __init__(self, meter: Any) -> None:
        self._meter = meter
        self._next_s = 0.0
        receive = getattr(meter, "receive", None)
        if receive is not None:
            self.receive: Callable[[int], None] = receive

    def wake_s(self) -> float:
        return self._next_s

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        period_s = self._meter.period_s
        if free_s - self._next_s > period_s:
            self._next_s += (free_s - self._next_s) // period_s * period_s
        if self._next_s > now_s:
            return None
        at_s = self._next_s
        self._next_s += period_s
        return Transmission(at_s, self._meter.telegram(at_s), self._meter.expected())


class CaptureSource:
    """A capture's raw bytes at the pace of the line, played once or again and again with `pause_s` in between.

    Every time it has been played to its end counts as one telegram, whatever it holds. ValueError when it is empty.
    """

    def __init__(self, data: bytes, *, loop: bool = True, pause_s: float = 1.0) -> None:
        if not data:
            raise ValueError("an empty capture")
        self._data = data
        self._loop = loop
        self._pause_s = pause_s
        self._at = 0
        self._wake_s: float | None = 0.0
        self.played = 0

    def wake_s(self) -> float | None:
        return self._wake_s

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if self._at == 0 and self.played:
            self._wake_s = free_s + self._pause_s if self._loop else None
            if self._wake_s is None or self._wake_s > now_s:
                return None
            at_s = free_s + self._pause_s
        else:
            at_s = free_s
        chunk = self._data[self._at : self._at + _CHUNK]
        self._at += len(chunk)
        last = self._at >= len(self._data)
        if last:
            self._at = 0
            self.played += 1
        return Transmission(at_s, chunk, None, last)


def as_source(source: Any) -> Source:
    """A Source as it is, a simulated meter once a period, a capture's bytes in a loop (ValueError: none)."""
    if isinstance(source, (bytes, bytearray)):
        return CaptureSource(bytes(source))
    return source if hasattr(source, "poll") else MeterSource(source)


def receiver_of(source: Any) -> Callable[[int, float], None]:
    """What takes (byte, line time in s) for `source`: its receive() with one argument or two, or nobody."""
    receive = getattr(source, "receive", None)
    if receive is None:
        return lambda value, at_s: None
    if len(inspect.signature(receive).parameters) >= 2:
        return receive
    return lambda value, at_s: receive(value)
