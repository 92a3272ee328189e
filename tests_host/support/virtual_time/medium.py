"""The meter, the light between it and the head, and the head's UART."""

from __future__ import annotations

from typing import Any, NamedTuple

from metering.line import Line
from optoprobe.virtual.channel import Channel, Noise
from optoprobe.virtual.placed_meter import PlacedMeter
from optoprobe.virtual.source import Transmission
from optoprobe.virtual.uart import NS, Receiver, Transmitter, upright

MS = NS // 1000
_AHEAD_NS = 100 * MS


class Sent(NamedTuple):
    """A telegram that has left from `begin_s` to `end_s`, and what a reader should make of it."""

    begin_s: float
    end_s: float
    expected: Any


class LightOnly:
    """A source that sends nothing but light: `light` yields (on_ns, off_ns) in order, from the moment it is there; what
    flickers is given to the air some time ahead."""

    def __init__(self, light: Any) -> None:
        self._light = iter(light)
        self._next: tuple[int, int] | None = next(self._light, None)

    def wake_s(self) -> float | None:
        return self._next[0] / NS if self._next else None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        transitions: list[tuple[int, int]] = []
        until_ns = now_s * NS
        if self._next and self._next[0] <= until_ns:
            until_ns += _AHEAD_NS
        while self._next and self._next[0] <= until_ns and len(transitions) < 512:
            transitions += [(self._next[0], 1), (self._next[1], 0)]
            self._next = next(self._light, None)
        if not transitions:
            return None
        return Transmission(transitions[0][0] / NS, b"", telegram=False, light=transitions)


class OpticalMedium:
    """The meter, the light between it and the head, and the head's UART. `now_ns` is how far all of it has been lived.

    `received` is what the UART holds, `room` bytes at the most. `sent`: telegrams whose last bit has left; `said`: what
    the head's LED has sent, and when. `invert`: the head's electronics turn the light round.
    """

    def __init__(self, noise: Noise | None, echo: bool, clock_ppm: int, gap_ns: int) -> None:
        self.now_ns = 0
        self.invert = False
        self.received = bytearray()
        self.room = 1 << 30
        self.sent: list[Sent] = []
        self.said: list[tuple[int, bytes]] = []
        self._noise = noise
        self._echo = echo
        self._of_the_meter = {"clock_ppm": clock_ppm, "gap_ns": gap_ns}
        self._uart: Line | None = None
        self._receiver: Receiver | None = None
        self._led = Transmitter(Line(9600))
        self._led.wait_until(-(1 << 62))

    # the meter's side

    def mount(self, source: Any, line: Line | None, invert: bool, from_ns: int) -> None:
        """`source` stands before the head from `from_ns` on, which is 0 s of its own time; darkness till then."""
        self._meter = PlacedMeter(source, line, from_ns=from_ns, **self._of_the_meter)
        self.source = self._meter.source
        self._meter_receiver = self._meter.receiver()
        before = self.channel.light ^ self.invert if hasattr(self, "channel") else None
        self.channel = Channel(self._noise, idle_light=self._meter.led.idle_light, start_ns=self.now_ns)
        self.invert = invert
        if self._receiver is not None:
            self._tune(before)

    def _follow_meter(self) -> None:
        line = self._meter.new_line()
        if line is not None:
            self._meter_receiver.set_line(line)

    # the head's side

    def tune(self, line: Line) -> None:
        """Settings for the UART, both directions; what was received is dropped."""
        self._uart = line
        self.received.clear()
        self._tune(None)
        before = self._led
        self._led = Transmitter(upright(line))
        self._led.go_on_from(before)

    def _tune(self, before: int | None) -> None:
        """`before`: the pin's light before it was another meter's."""
        line = self._uart
        assert line is not None
        seen = Line(line.baud, line.bits, line.parity, line.stop, line.invert ^ self.invert)
        light = self.channel.light
        self._receiver = Receiver(seen, light=light if before is None else before ^ self.invert)
        if before is not None and before ^ self.invert != light:
            self._receiver.receive([(self.now_ns, light)], self.now_ns)

    def head_sends(self, data: bytes) -> None:
        self.said.append((self.now_ns, data))
        light = self._led.send(data, self.now_ns)
        self._meter_receiver.put(light)
        if self._echo:
            self.channel.put_own(light)

    @property
    def all_sent(self) -> bool:
        """Has the last bit of what the head sends left?"""
        return self._led.idle_ns <= self.now_ns

    def level(self) -> int:
        """Of the head's RX pin, now: no light is a high level."""
        return self.channel.light ^ 1 ^ self.invert

    # time

    def advance_ms(self, until_ms: int) -> None:
        """The same, in ms."""
        if self.now_ns < until_ms * MS:
            self.advance(until_ms * MS)

    def _rests(self, until_ns: int) -> bool:
        """Is there nothing before the head, on its way or half received until then?"""
        meter, receiver = self._meter, self._receiver
        if not meter.rests(until_ns) or not self.channel.rests(until_ns) or self._meter_receiver.due_ns is not None:
            return False
        return receiver is None or receiver.due_ns is None

    def advance(self, until_ns: int) -> None:
        """Live to `until_ns`, with a stop wherever the meter hears a byte or has something to do by itself."""
        while self.now_ns < until_ns:
            if self._rests(until_ns):
                self.now_ns = until_ns
                return
            at_ns = self._meter.stop_before(self.now_ns, until_ns)
            due_ns = self._meter_receiver.due_ns
            if due_ns is not None and self.now_ns < due_ns < at_ns:
                at_ns = due_ns
            self._pass(at_ns)

    def _pass(self, until_ns: int) -> None:
        if self._meter_receiver.due_ns is not None:
            for at_ns, value in self._meter_receiver.hear(until_ns):
                self._meter.hear(value, at_ns)
                self._follow_meter()
        if self._meter.led.idle_ns <= until_ns and not self._meter.rests(until_ns):
            self.channel.put(self._meter.send(self.now_ns, until_ns))
            self._follow_meter()
        transitions = self.channel.advance(until_ns)
        receiver = self._receiver
        self.now_ns = until_ns
        if receiver is not None and (transitions or receiver.due_ns is not None):
            got = receiver.receive(transitions, until_ns)
            if got:
                self.received += bytes([value for _, value in got])
                del self.received[self.room :]
        for ended in self._meter.ended(until_ns):
            self.sent.append(Sent(ended.began_ns / NS, ended.end_ns / NS, ended.expected))
