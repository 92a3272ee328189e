"""The light itself: levels over time between a meter's LED and a head's UART, in virtual time.

The parts, each usable alone, joined by lists of transitions:

    bytes ─► Transmitter ─► transitions ─► Channel ─► transitions ─► Receiver ─► (time_ns, byte)
             (uart)                        (channel)                 (uart)
             baud, parity,                 noise, echo,              UART with its own settings,
             clock, gaps                   ambient light             right or wrong

A *transition* is `(time_ns, light)`: from that instant the light is on (1) or off (0). Times are integer nanoseconds
and never go back.

Polarity (IEC 62056-21:2002, 4.1): idle is light off, a logical 1, a HIGH level at the head's RX pin. A start bit lights
the LED. With `Line.invert` all of it is turned round: idle is light on, a low RX pin.

Everything is a stream: transitions in, bytes out. What is kept is the frame in progress, what has been sent and not yet
released, and disturbances not yet over. Line settings: `metering.line.Line`.
"""

from __future__ import annotations

from metering.line import Line

from .channel import Channel, Noise
from .uart import MeterReceiver, Receiver, Transition, Transmitter, upright


class VirtualLine:
    """A meter and a head face to face: one channel, a transmitter and a receiver on either side.

    The head hears the meter through the channel (noise) and, with `echo`, its own LED. The meter hears the head's LED
    cleanly, and drops bytes whose parity or stop bit is wrong. Either may be given other settings at any time; as with
    a real UART, a byte half received is lost by it, and light on its way stays.
    `invert` turns round what the head's receiver sees (its electronics, a P1 wire); the head's LED is dark when idle.
    """

    def __init__(
        self,
        meter: Line,
        head: Line | None = None,
        *,
        noise: Noise | None = None,
        echo: bool = False,
        gap_ns: int = 0,
        gap_jitter_ns: int = 0,
        jitter_ns: int = 0,
        clock_ppm: int = 0,
        seed: int = 0,
        start_ns: int = 0,
    ) -> None:
        self.echo = echo
        self._of_the_meter = {
            "gap_ns": gap_ns,
            "gap_jitter_ns": gap_jitter_ns,
            "jitter_ns": jitter_ns,
            "clock_ppm": clock_ppm,
            "seed": seed,
        }
        self.meter = Transmitter(meter, **self._of_the_meter)
        self.channel = Channel(noise, idle_light=self.meter.idle_light, start_ns=start_ns)
        self.now_ns = start_ns
        self.transitions: list[Transition] = []  # what the last advance showed the head: to look at with the UART off
        self.to_meter: list[tuple[int, int]] = []  # (time_ns, byte) that the meter has received; the owner empties it
        self._meter_receiver = MeterReceiver(meter)
        self.head = Transmitter(upright(head or meter))
        self.set_head(head or meter)

    def set_head(self, line: Line) -> None:
        """New settings for the head's UART, both directions."""
        before = self.head
        self.receiver = Receiver(line, light=self.channel.light)
        self.head = Transmitter(upright(line))
        self.head.go_on_from(before)

    def set_meter(self, line: Line) -> None:
        """New settings for the meter's UART, both directions, from now on."""
        before = self.meter
        self.meter = Transmitter(line, **self._of_the_meter)
        self.meter.go_on_from(before)
        self._meter_receiver.set_line(line)

    @property
    def meter_hears_ns(self) -> int | None:
        """The next time at which a byte may reach the meter or begin to; None while the head's LED is quiet."""
        return self._meter_receiver.due_ns

    def meter_sends(self, data: bytes, at_ns: int | None = None) -> int:
        """Queue `data` on the meter's LED from `at_ns` (default now); returns when its last stop bit ends, in ns."""
        self.channel.put(self.meter.send(data, max(self.now_ns, at_ns or 0)))
        return self.meter.idle_ns

    def head_sends(self, data: bytes, at_ns: int | None = None) -> int:
        """Queue `data` on the head's LED from `at_ns` (default now); returns when its last stop bit ends, in ns."""
        light = self.head.send(data, max(self.now_ns, at_ns or 0))
        self._meter_receiver.put(light)
        if self.echo:
            self.channel.put_own(light)
        return self.head.idle_ns

    def advance(self, until_ns: int) -> list[tuple[int, int]]:
        """Let time pass to `until_ns`; returns what the head's UART has received by then, as (time_ns, byte)."""
        self.transitions = self.channel.advance(until_ns)
        self.to_meter += self._meter_receiver.hear(until_ns)
        self.now_ns = until_ns
        return self.receiver.receive(self.transitions, until_ns)
