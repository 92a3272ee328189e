"""Simulated meters of IEC 62056-21, pushing and asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..virtual.iec62056_21_meter import QUIRKS, IecMeter
from ..virtual.recorded_meter import recorded_meter as recorded

__all__ = ["METERS", "MODES", "OPTIONS", "QUIRKS", "USUAL", "make", "recorded"]
METERS = {
    "iec-a": "IEC 62056-21 mode A",
    "iec-b": "IEC 62056-21 mode B",
    "iec-c": "IEC 62056-21 mode C",
    "iec-d": "IEC 62056-21 D0",
    "p1": "P1",
}
USUAL = "iec-c"
MODES = {"A": "iec-a", "B": "iec-b", "C": "iec-c", "D": "iec-d", "P1": "p1"}
OPTIONS = ("history", "password", "reaction_ms")


def make(name: str, quirks: Iterable[str], *, seed: int = 1, **options: Any) -> IecMeter:
    mode = next(mode for mode, meter in MODES.items() if meter == name)
    return IecMeter(mode, seed=seed, quirks=quirks, **options)
