"""A meter that stands on the virtual line: what its LED sends, when, and which telegrams have left.

    source (poll, receive, line) ◄─► PlacedMeter ─► transitions of its LED, for the air before each head
                                          ▲
                            bytes that a MeterReceiver has heard of a head's LED

The owner keeps the time: no call looks further than the `until_ns` it is given, and none goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from metering.line import Line

from .source import as_source, receiver_of
from .uart import NS, MeterReceiver, Transition, Transmitter

_NEVER_NS = 1 << 62


class Ended(NamedTuple):
    """A telegram whose first bit left at `began_ns` and its last at `end_ns`, and what a reader should make of it."""

    end_ns: int
    began_ns: int
    expected: Any
    n_bytes: int


class PlacedMeter:
    """`source` (see as_source) on the line from `from_ns` on, which is 0 s of its own time.

    `line`: what it sends and hears with unless it has a `line` of its own. `clock_ppm` is how much faster its clock
    runs, `gap_ns` a pause behind each byte. `led` is the transmitter of the moment, `led.line` its settings.
    """

    def __init__(
        self, source: Any, line: Line | None = None, *, clock_ppm: int = 0, gap_ns: int = 0, from_ns: int = 0
    ) -> None:
        self.source = as_source(source)
        self._source_line: Line | None = getattr(self.source, "line", None)
        self._clock_ppm = clock_ppm
        self._gap_ns = gap_ns
        self._from_ns = from_ns
        self.led = self._transmitter(line or getattr(source, "line", None) or Line(9600))  # a meter's, not a source's
        self.led.wait_until(from_ns)
        self.bytes_sent = 0
        self._wake_s: Callable[[], float | None] | None = getattr(self.source, "wake_s", None)
        self._receive = receiver_of(self.source)
        self._asked_again_ns = from_ns  # until then the source has nothing to send, unless it hears something
        self._began_ns: int | None = None  # when the telegram being sent began
        self._telegram_bytes = 0
        self._ending: deque[Ended] = deque()  # not yet fully sent

    def _transmitter(self, line: Line) -> Transmitter:
        return Transmitter(line, clock_ppm=self._clock_ppm, gap_ns=self._gap_ns)

    def _heard_with(self) -> Line:
        """The settings it hears with, as they are by the time of the line: the meter's receiver has its clock."""
        line = self._source_line or self.led.line
        return Line(line.baud * (10**6 + self._clock_ppm) // 10**6, line.bits, line.parity, line.stop)

    def receiver(self) -> MeterReceiver:
        """What sees one head's LED for it; the owner gives it new_line()."""
        return MeterReceiver(self._heard_with())

    def new_line(self) -> Line | None:
        """Settings that its receivers have from now on, said once; None while they stay. Asked after hear and send."""
        line = getattr(self.source, "line", None)
        if line is self._source_line:
            return None
        self._source_line = line
        return self._heard_with()

    def stop_before(self, now_ns: int, until_ns: int) -> int:
        """The next time, `until_ns` at the latest, at which a source that says so has something to do by itself."""
        if self._wake_s is not None:
            wake_ns = self._asked_again_ns
            for event_ns in (wake_ns if wake_ns > now_ns else self._wake_ns(), self.led.idle_ns):
                if now_ns < event_ns < until_ns:
                    until_ns = event_ns
        return until_ns

    def _wake_ns(self) -> int:
        wake_s = self._wake_s() if self._wake_s is not None else 0.0
        return _NEVER_NS if wake_s is None else int(wake_s * NS) + 1 + self._from_ns

    def rests(self, until_ns: int) -> bool:
        """Does it neither begin nor end anything by `until_ns`, if nothing is heard until then?"""
        return until_ns < self._asked_again_ns and not self._ending

    def hear(self, byte: int, at_ns: int) -> None:
        """A byte that one of its receivers has received."""
        self._asked_again_ns = self._from_ns
        self._receive(byte, (at_ns - self._from_ns) / NS)

    def send(self, now_ns: int, until_ns: int) -> list[Transition]:
        """The light of all that it begins to send by `until_ns`; it was asked up to `now_ns` before."""
        light: list[Transition] = []
        if until_ns < self._asked_again_ns:
            return light
        self._asked_again_ns = self._from_ns
        while self.led.idle_ns <= until_ns:
            free_ns = self.led.idle_ns
            said = self.source.poll((until_ns - self._from_ns) / NS, (free_ns - self._from_ns) / NS)
            if said is None:
                self._asked_again_ns = self._wake_ns()
                break
            if said.line is not None and said.line is not self.led.line:
                before = self.led
                self.led = self._transmitter(said.line)
                self.led.go_on_from(before)
            at_ns = max(int(said.at_s * NS) + self._from_ns, free_ns)
            if self._began_ns is None:
                at_ns = max(at_ns, now_ns)
            if said.telegram and self._began_ns is None:
                self._began_ns = at_ns
            if said.light is None:
                light += self.led.send(said.data, at_ns)
            else:
                light += [(ns + self._from_ns, on) for ns, on in said.light]
                self.led.wait_until(light[-1][0])
            self.bytes_sent += len(said.data)
            if not said.telegram or self._began_ns is None:
                continue
            self._telegram_bytes += len(said.data)
            if said.last:
                self._ending.append(Ended(self.led.idle_ns, self._began_ns, said.expected, self._telegram_bytes))
                self._began_ns = None
                self._telegram_bytes = 0
        return light

    def ended(self, until_ns: int) -> Iterator[Ended]:
        """The telegrams whose last bit has left by `until_ns`, each once, in order."""
        while self._ending and self._ending[0].end_ns <= until_ns:
            yield self._ending.popleft()
