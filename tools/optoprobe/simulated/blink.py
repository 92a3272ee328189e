"""A simulated meter that says nothing but by its LED's flashes."""

from __future__ import annotations

from collections.abc import Iterable

from metering.line import Line
from metering.pulses import RATES

from ..virtual.blink_meter import GHOSTS, BlinkMeter

METERS = {"blink": "blinking"}
QUIRKS = {
    "remote": "a remote control beside it",
    "sun": "sunlight that comes and goes",
    "lamp": "a lamp that is switched",
}
assert set(QUIRKS) == set(GHOSTS)
LINE = Line(RATES[0])
HEAP_BYTES = 14 * 1024  # its own entities, and the controls of a blinking meter, are announced together
PULSES_PER_KWH = 10_000  # something happens every second


def make(name: str, quirks: Iterable[str], *, seed: int = 1) -> BlinkMeter:
    return BlinkMeter(PULSES_PER_KWH, ghosts=list(quirks), seed=seed)


def settings(meter: BlinkMeter) -> dict[str, object]:
    return {"pulses_per_kwh": meter.pulses_per_kwh}
