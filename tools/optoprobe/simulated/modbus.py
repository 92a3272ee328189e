"""Simulated meters that are asked in Modbus RTU, one for each register map that comes along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings import register_map
from ..virtual.modbus_meter import QUIRKS, ModbusMeter

__all__ = ["HEAP_BYTES", "METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "modbus": "Eastron SDM630 (Modbus)",
    "modbus-em340": "Carlo Gavazzi EM340 (Modbus)",
    "modbus-b23": "ABB B23 (Modbus)",
}
OPTIONS = ("reaction_ms",)
HEAP_BYTES = 16 * 1024  # 83.8 KiB in all will do (docs/figures.md)
_MAPS = {"modbus": "eastron_sdm630", "modbus-em340": "carlo_gavazzi_em340", "modbus-b23": "abb_b23"}


def make(name: str, quirks: Iterable[str], *, seed: int = 1, **options: Any) -> ModbusMeter:
    named = _MAPS[name]
    return ModbusMeter(register_map.load(named), map_name=named, seed=seed, quirks=quirks, **options)


def settings(meter: ModbusMeter) -> dict[str, object]:
    """No search asks for such a meter, and none finds its map."""
    return {"protocol": "modbus", "modbus_map": meter.map_name, "interval_s": 10}
