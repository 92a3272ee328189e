"""Simulated meters of SML."""

from __future__ import annotations

from collections.abc import Iterable

from ..virtual.sml_meter import QUIRKS, SmlMeter

__all__ = ["HEAP_BYTES", "METERS", "QUIRKS", "make"]
METERS = {"sml": "SML"}
HEAP_BYTES = 0


def make(name: str, quirks: Iterable[str], *, seed: int = 1) -> SmlMeter:
    return SmlMeter(seed, quirks=quirks)
