"""Simulated Kamstrup meters that are asked in KMP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..virtual.kmp_meter import QUIRKS, KmpMeter

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "kmp": "Kamstrup heat (KMP)",
    "kmp-cooling": "Kamstrup cooling (KMP)",
    "kmp-water": "Kamstrup water (KMP)",
}
OPTIONS = ("reaction_ms",)


def make(name: str, quirks: Iterable[str], *, seed: int = 1, **options: Any) -> KmpMeter:
    return KmpMeter(name.partition("-")[2] or "heat", seed=seed, quirks=quirks, **options)


def settings(meter: KmpMeter) -> dict[str, object]:
    """A search asks a meter on a battery once a day at the most; and a demo does not last an hour."""
    return {"protocol": "kmp", "interval_s": 10}
