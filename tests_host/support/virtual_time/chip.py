"""The chip's `machine`: pins, UART, RTC memory and watchdog, in front of the optical medium."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from metering.line import Line

from .medium import OpticalMedium


class WatchdogBites(Exception):
    """The chip would have been reset."""


class Chip:
    """What outlives a start of the firmware. `now_ms` tells the time; with a `direction` (a pin's number), nothing is
    sent while that pin is low, and nothing heard while it is high."""

    def __init__(self, medium: OpticalMedium, direction: int | None, now_ms: Callable[[], int]) -> None:
        self.direction_pin: Any = None
        self.watchdog_ms: int | None = None  # None: not armed yet
        self.fed_ms = 0
        self._medium = medium
        self._direction = direction
        self._now_ms = now_ms
        self._rtc = b""
        self._reset_cause = 1

    def switch_off(self, power_cut: bool) -> None:
        """Without a power cut RTC memory stays what it was."""
        if power_cut:
            self._rtc = b""
        self._reset_cause = 1 if power_cut else 2

    def switch_on(self) -> None:
        """The UART's buffer is empty, the watchdog not armed."""
        self._medium.advance_ms(self._now_ms())
        self._medium.received.clear()
        self.watchdog_ms = None
        self.fed_ms = self._now_ms()

    def check_watchdog(self, now_ms: int) -> None:
        """Raises WatchdogBites when it was not fed in time."""
        if self.watchdog_ms and now_ms - self.fed_ms > self.watchdog_ms:
            raise WatchdogBites(f"nothing has fed it since {self.fed_ms} ms")

    def machine(self) -> types.ModuleType:
        """The module `machine`."""
        module = types.ModuleType("machine")
        module.__dict__.update(
            PWRON_RESET=1,
            HARD_RESET=2,
            WDT_RESET=3,
            DEEPSLEEP_RESET=4,
            SOFT_RESET=5,
            reset_cause=lambda: self._reset_cause,
            unique_id=lambda: b"\x24\x0a\xc4\x0f\xab\x1e",
            RTC=self._rtc_class(),
            WDT=self._watchdog_class(),
            UART=self._uart_class(),
        )
        module.Pin = module.Signal = self._pin_class()  # type: ignore[attr-defined]
        return module

    def _medium_now(self) -> OpticalMedium:
        self._medium.advance_ms(self._now_ms())
        return self._medium

    def _rtc_class(self) -> Any:
        chip = self

        class RTC:
            def memory(self, data: bytes | None = None) -> bytes | None:
                if data is None:
                    return chip._rtc
                if len(data) > 2048:
                    raise ValueError("buffer too long")
                chip._rtc = bytes(data)
                return None

        return RTC

    def _watchdog_class(self) -> Any:
        chip = self

        class WDT:
            def __init__(self, timeout: int) -> None:
                chip.watchdog_ms = timeout
                self.feed()

            def feed(self) -> None:
                chip.fed_ms = chip._now_ms()

        return WDT

    def _pin_class(self) -> Any:
        chip = self

        class Pin:
            IN, OUT, PULL_UP, PULL_DOWN = 1, 3, 2, 1

            def __init__(self, number: int, mode: int = 1, pull: int | None = None, invert: bool = False) -> None:
                self._out = mode == Pin.OUT
                self._value = 0
                if number == chip._direction:
                    chip.direction_pin = self

            def value(self, value: int | None = None) -> int | None:
                if value is not None:
                    if self is chip.direction_pin:
                        chip._medium_now().received.clear()  # of what comes while we send nothing is heard
                    self._value = value
                elif not self._out:
                    return chip._medium_now().level()
                return self._value

        return Pin

    def _uart_class(self) -> Any:
        chip = self
        now = self._medium_now

        class UART:
            INV_TX, INV_RX = 32, 4

            def __init__(self, number: int, **settings: Any) -> None:
                self.init(**settings)

            def init(self, baudrate: int, bits: int, parity: int | None, stop: int, invert: int, **others: Any) -> None:
                medium = now()
                parity_letter = None if parity is None else "EO"[parity]
                medium.room = others.get("rxbuf", medium.room)
                medium.tune(Line(baudrate, bits, parity_letter, stop, bool(invert & UART.INV_RX)))

            def any(self) -> int:
                return len(now().received)

            def readinto(self, buffer: Any) -> int | None:
                received = now().received
                if not received:
                    return None
                n = min(len(buffer), len(received))
                buffer[:n] = received[:n]
                del received[:n]
                return n

            def write(self, data: bytes) -> int:
                pin = chip.direction_pin
                if chip._direction is None or pin is not None and pin.value():
                    now().head_sends(bytes(data))
                return len(data)

            def txdone(self) -> bool:
                return now().all_sent

        return UART
