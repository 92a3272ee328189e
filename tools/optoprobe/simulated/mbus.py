"""Simulated meters that are asked over M-Bus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..virtual.mbus_meter import QUIRKS, MbusMeter

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "mbus": "M-Bus heat",
    "mbus-water": "M-Bus water",
    "mbus-gas": "M-Bus gas",
}
OPTIONS = ("reaction_ms",)


def make(name: str, quirks: Iterable[str], *, seed: int = 1, **options: Any) -> MbusMeter:
    return MbusMeter(name.partition("-")[2] or "heat", seed=seed, quirks=quirks, **options)


def settings(meter: MbusMeter) -> dict[str, object]:
    """A search asks a meter on a battery once a day at the most; and a demo does not last an hour."""
    found: dict[str, object] = {"protocol": "mbus", "interval_s": 10}
    if meter.line.parity is None:
        found["wake_up"] = True
    if meter.key:
        found["meter_key"] = meter.key.hex()
    return found
