"""A simulated gas volume corrector that is asked by LIS-200."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..virtual.lis200_meter import QUIRKS, Lis200Meter

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {"lis200": "Elster EK270 gas volume corrector (LIS-200)"}
OPTIONS = ("reaction_ms",)


def make(name: str, quirks: Iterable[str], *, seed: int = 1, **options: Any) -> Lis200Meter:
    return Lis200Meter(seed=seed, quirks=quirks, **options)


def settings(meter: Lis200Meter) -> dict[str, object]:
    """It is found by its identification too; but a demo does not last an hour."""
    return {"protocol": "lis200", "interval_s": 10}
