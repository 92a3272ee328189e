"""The heads before a meter on the virtual line: each has its own air, UART and LED.

A board that comes with other settings, or again after it had left, goes on in its place: in the same air (noise, light)
and behind what its LED was still sending.
"""

from __future__ import annotations

from metering.line import Line

from .channel import Channel, Noise
from .placed_meter import PlacedMeter
from .uart import MeterReceiver, Receiver, Transition, Transmitter, upright


class Head:
    """One board's head with the settings `line`; `meter_receiver` sees its LED, which is busy until `led_idle_ns`."""

    def __init__(
        self, name: bytes, line: Line, channel: Channel, meter_receiver: MeterReceiver, led_idle_ns: int = 0
    ) -> None:
        self.name = name
        self.since_ns = channel.now_ns
        self.channel = channel
        self.receiver = Receiver(line, light=channel.light)
        self.led = Transmitter(upright(line))
        self.led.wait_until(led_idle_ns)
        self.meter_receiver = meter_receiver


class Heads:
    """The heads whose boards are `here`, and those that have left. `echo`: a head sees its own LED."""

    def __init__(self, meter: PlacedMeter, noise: Noise | None, echo: bool) -> None:
        self.here: list[Head] = []
        self._left: dict[bytes, Head] = {}
        self._meter = meter
        self._noise = noise
        self._echo = echo
        self._light = meter.led.idle_light  # of the meter, now
        self._coming: list[Transition] = []  # light of the meter still to come
        self._old_counts: dict[str, int] = {}  # disturbances before heads that nobody can come back to

    def on_the_line(self) -> list[Head]:
        """Every head whose air and LED live on, the ones that have left included."""
        return self.here + list(self._left.values())

    def come(self, name: bytes, line: Line, now_ns: int) -> Head:
        """A board with these settings: in the place of the one of its name that has left, or in a new one."""
        before = self._left.pop(name, None)
        if before is None:
            channel = Channel(self._noise, idle_light=self._light, start_ns=now_ns)
            channel.put(list(self._coming))
            head = Head(name, line, channel, self._meter.receiver())
        else:
            head = Head(name, line, before.channel, before.meter_receiver, before.led.idle_ns)
        self.here.append(head)
        return head

    def leave(self, head: Head) -> None:
        """Its board has gone; the place is kept for one that comes under its name."""
        self.here.remove(head)
        forgotten = self._left.pop(head.name, None)
        self._left[head.name] = head
        if forgotten is not None:
            self._add_counts(self._old_counts, forgotten)

    def say(self, head: Head, data: bytes, now_ns: int) -> None:
        """Bytes for the LED of `head`."""
        light = head.led.send(data, now_ns)
        head.meter_receiver.put(light)
        if self._echo:
            head.channel.put_own(light)

    def advance_meter(self, now_ns: int, until_ns: int) -> None:
        """The meter hears the LEDs up to `until_ns`, and its light for that time is in the air."""
        heads = self.on_the_line()
        self._hear(heads, until_ns)
        light = self._meter.send(now_ns, until_ns)
        for head in heads:
            head.channel.put(light)
        self._follow_meter(heads)
        self._coming += light
        passed = 0
        while passed < len(self._coming) and self._coming[passed][0] <= until_ns:
            passed += 1
        if passed:
            self._light = self._coming[passed - 1][1]
            del self._coming[:passed]

    def _hear(self, heads: list[Head], until_ns: int) -> None:
        """What the LEDs have sent reaches the meter byte by byte: any of them may change its settings."""
        while True:
            next_ns, k = min(
                ((due_ns, k) for k, head in enumerate(heads) if (due_ns := head.meter_receiver.due_ns) is not None),
                default=(until_ns + 1, -1),
            )
            if next_ns > until_ns:
                return
            for at_ns, value in heads[k].meter_receiver.hear(next_ns):
                self._meter.hear(value, at_ns)
            self._follow_meter(heads)

    def _follow_meter(self, heads: list[Head]) -> None:
        line = self._meter.new_line()
        if line is not None:
            for head in heads:
                head.meter_receiver.set_line(line)

    def advance_left(self, until_ns: int) -> None:
        """Time passes in the air before the heads that have left."""
        for head in self._left.values():
            head.channel.advance(until_ns)

    @staticmethod
    def _add_counts(total: dict[str, int], head: Head) -> None:
        for kind, n in head.channel.counts.items():
            total[kind] = total.get(kind, 0) + n

    def noise_counts(self) -> dict[str, int]:
        """How often each disturbance has begun, before all heads so far."""
        total = dict(self._old_counts)
        for head in self.on_the_line():
            self._add_counts(total, head)
        return total
