"""Drives a conversation's line actions (`metering.line`) against a simulated meter in virtual time.

The bench is to a conversation what the firmware's reader is: a UART of 8 bits without parity for lines of 7 bits with
one, the own echo taken out again, silence measured from the last byte. Time goes from one event to the next, or by
`_SLICE_BYTES` bytes while the meter talks, so a second of line time costs about a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from metering.characters import with_parity
from metering.echo import Echo
from metering.line import ANSWER_BYTES, ANSWER_MS, MAX_SENT, Line, perform
from metering.listener import NOTHING, TELEGRAM

from .line import VirtualLine
from .uart import NS, duration_ns

Conversation = Generator[Any, Any, Any]
_SLICE_BYTES = 16
_MS = 10**6
_NEVER_NS = 1 << 62
_LOOK_NS = 10 * _MS


class Bench:
    """A meter and a head on `virtual_line`; `meter` is a Source with `line`, `receive(byte, at_s)` and `wake_s()`.

    `latency_ms`: what the head's side takes to see a byte, and so to react. Counts `bytes_received` (the echo is not
    among them); `sent` holds every message sent as plain characters, `switches` the settings.
    """

    def __init__(self, meter: Any, virtual_line: VirtualLine, *, latency_ms: float = 0) -> None:
        self.meter = meter
        self.virtual_line = virtual_line
        self.bytes_received = 0
        self.sent: list[bytes] = []
        self.switches: list[Line] = []
        self.received = bytearray()  # not taken yet
        self._latency_ns = int(latency_ms * _MS)
        self._meter_line = meter.line
        virtual_line.set_meter(meter.line)
        self._line = meter.line
        self._echo = Echo()
        self._until_ns = _NEVER_NS  # no action lasts longer
        self._on_telegram: Callable[[Any], None] | None = None
        self._last_byte_ns = 0

    @property
    def now_s(self) -> float:
        """Line time."""
        return self.virtual_line.now_ns / NS

    # --- the line ---

    def _follow_meter(self) -> None:
        if self.meter.line is not self._meter_line:
            self._meter_line = self.meter.line
            self.virtual_line.set_meter(self._meter_line)

    def _poll_meter(self) -> None:
        line = self.virtual_line
        while line.meter.idle_ns <= line.now_ns:
            said = self.meter.poll(line.now_ns / NS, line.meter.idle_ns / NS)
            self._follow_meter()
            if said is None:
                return
            line.meter_sends(said.data, int(said.at_s * NS))

    def _next_ns(self, until_ns: int) -> int:
        """The next event, at most `until_ns`."""
        line = self.virtual_line
        now_ns = line.now_ns
        wake_s = self.meter.wake_s()
        for event_ns in (
            _NEVER_NS if wake_s is None else int(wake_s * NS) + 1,
            line.meter.idle_ns,
            line.meter_hears_ns,
        ):
            if event_ns is not None and now_ns < event_ns < until_ns:
                until_ns = event_ns
        return until_ns

    def _advance(self, until_ns: int) -> None:
        """Time passes to the next event, at most `until_ns`; what the head has received by then is in `received`."""
        line = self.virtual_line
        got = line.advance(self._next_ns(until_ns))
        if line.to_meter:
            heard, line.to_meter = line.to_meter, []
            for at_ns, value in heard:
                self.meter.receive(value, at_ns / NS)
                self._follow_meter()
        self._poll_meter()
        if got:
            self._take(bytes(value for _, value in got), got[-1][0])

    def _take(self, data: bytes, at_ns: int) -> None:
        """Bytes of the UART, without what repeats the bytes last sent."""
        buffer = bytearray(data) + bytes(MAX_SENT)
        n = self._echo.remove(buffer, len(data))
        if n:
            self.received += buffer[:n]
            self.bytes_received += n
            self._last_byte_ns = at_ns

    def pass_until(self, until_s: float) -> None:
        """Let line time pass with nobody reading."""
        until_ns = int(until_s * NS)
        while self.virtual_line.now_ns < until_ns:
            self._advance(until_ns)

    # --- the actions ---

    def converse(
        self,
        conversation: Conversation,
        *,
        until_s: float | None = None,
        on_telegram: Callable[[Any], None] | None = None,
    ) -> Any:
        """Carry out what `conversation` asks until it returns, and return its value; None at line time `until_s`.

        `until_s` None is an hour from now. `on_telegram(listener)` is called for every telegram before the conversation
        goes on. What the conversation raises is passed on; it is closed in any case.
        """
        until_ns = int((self.now_s + 3600 if until_s is None else until_s) * NS)
        self._until_ns, self._on_telegram = until_ns, on_telegram
        answer = None
        try:
            while self.virtual_line.now_ns < until_ns:
                try:
                    action = conversation.send(answer)
                except StopIteration as end:
                    return end.value
                answer = perform(action, self)
            return None
        finally:
            conversation.close()

    # What metering.line.perform() calls.

    def watch(self, watcher: Any, ms: int) -> bool:
        """A look every `_LOOK_NS`, as the firmware's."""
        line = self.virtual_line
        until_ns = min(self._until_ns, line.now_ns + ms * _MS)
        while line.now_ns < until_ns:
            end_ns = line.now_ns + _LOOK_NS
            while line.now_ns < end_ns:
                self._advance(end_ns)
            data = bytes(self.received)
            self.received.clear()
            if watcher.look(line.now_ns // _MS, bool(line.channel.light), data, 0, len(data)):
                return True
        return False

    def wait(self, ms: float) -> None:
        end_ns = min(self.virtual_line.now_ns + int(ms * _MS), self._until_ns)
        while self.virtual_line.now_ns < end_ns:
            self._advance(end_ns)

    def send(self, data: bytes) -> None:
        if len(data) > MAX_SENT:
            raise ValueError(f"at most {MAX_SENT} bytes at once")
        self.sent.append(bytes(data))
        if self._line.bits == 7:
            data = with_parity(data)
        self._echo.expect(data)
        end_ns = self.virtual_line.head_sends(data)
        while self.virtual_line.now_ns < min(end_ns, self._until_ns):
            self._advance(end_ns)

    def switch(self, line: Line) -> None:
        self._line = line
        self.switches.append(line)
        self.virtual_line.set_head(line if line.bits == 8 else Line(line.baud, 8, None, line.stop, line.invert))
        self.received.clear()
        self._echo.expect(b"")

    def _more(self, first_ns: int, gap_ns: int, began_ns: int) -> bool:
        """Let time pass until there is a byte more; False when none came in time."""
        line = self.virtual_line
        n = self.bytes_received
        slice_ns = duration_ns(line.receiver.line, _SLICE_BYTES)
        while self.bytes_received == n:
            if self._last_byte_ns > began_ns:
                deadline_ns = self._last_byte_ns + gap_ns
            else:
                deadline_ns = began_ns + first_ns
            deadline_ns = min(deadline_ns, self._until_ns)
            if line.now_ns >= deadline_ns:
                return False
            talking = line.meter.idle_ns > line.now_ns
            self._advance(min(deadline_ns, line.now_ns + slice_ns) if talking else deadline_ns)
        if self._latency_ns:
            self.wait(self._latency_ns / _MS)
        return True

    def expect(self, complete: Callable[[bytes, int], int] | None, first_ms: int, gap_ms: int) -> bytes:
        first_ns, gap_ns = first_ms * _MS, gap_ms * _MS
        began_ns = self.virtual_line.now_ns
        if self.received:  # kept from before: silence counts from now on
            self._last_byte_ns = began_ns
            began_ns -= 1
        while True:
            n = complete(bytes(self.received), len(self.received)) if complete and self.received else 0
            if not n and len(self.received) >= ANSWER_BYTES:
                n = ANSWER_BYTES
            over = self.virtual_line.now_ns - began_ns > ANSWER_MS * _MS
            if not n and (over or not self._more(first_ns, gap_ns, began_ns)):
                n = len(self.received)
                return self._taken(n)
            if n:
                return self._taken(n)

    def _taken(self, n: int) -> bytes:
        data = bytes(self.received[:n])
        del self.received[:n]
        return data

    def listen(self, listener: Any, first_ms: int | None, gap_ms: int | None) -> int:
        began_ns = self.virtual_line.now_ns
        first_ns = _NEVER_NS if first_ms is None else first_ms * _MS
        gap_ns = _NEVER_NS if gap_ms is None else gap_ms * _MS
        if self.received:
            self._last_byte_ns = began_ns
            began_ns -= 1
        while True:
            event = listener.next_event()
            while event == NOTHING and self.received:
                del self.received[: listener.feed(self.received, 0, len(self.received))]
                event = listener.next_event()
            if event != NOTHING:
                if event == TELEGRAM and self._on_telegram is not None:
                    self._on_telegram(listener)
                return event
            if not self._more(first_ns, gap_ns, began_ns):
                return NOTHING


def converse(
    conversation: Conversation,
    meter: Any,
    virtual_line: VirtualLine,
    *,
    until_s: float | None = None,
    on_telegram: Callable[[Any], None] | None = None,
    latency_ms: float = 0,
) -> Any:
    """One conversation on a new Bench; see Bench.converse."""
    return Bench(meter, virtual_line, latency_ms=latency_ms).converse(
        conversation, until_s=until_s, on_telegram=on_telegram
    )
