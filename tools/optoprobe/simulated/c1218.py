"""Simulated meters that are asked in ANSI C12.18."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..virtual.c1218_meter import QUIRKS, C1218Meter
from ..virtual.c1219_contents import C1219Contents

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "c1218": "NES (ANSI C12.18)",
    "c1218-password": "NES (ANSI C12.18) with a password",
    "c1218-tables": "ANSI C12.18 with standard tables (C12.19)",
    "c1218-tables-big": "ANSI C12.18 with standard tables (C12.19), high bytes first",
}
OPTIONS = ("password", "reaction_ms")
_USER_ID, _USER, _PASSWORD = 2, b"reader", "25083711049526371042"


def make(name: str, quirks: Iterable[str], *, seed: int = 1, password: str = "", **options: Any) -> C1218Meter:
    if name.startswith("c1218-tables"):
        options["contents"] = C1219Contents(seed=seed, is_big=name.endswith("big"))
    if not password and name != "c1218-password":
        return C1218Meter(seed=seed, quirks=quirks, **options)
    secret = (password or _PASSWORD).encode()
    return C1218Meter(seed=seed, quirks=quirks, user_id=_USER_ID, user=_USER, password=secret, **options)


def settings(meter: C1218Meter) -> dict[str, object]:
    found: dict[str, object] = {"protocol": "c1218", "interval_s": 10}
    if meter.password:
        found["meter_address"] = f"{meter.user_id}:{meter.user.decode()}"
        found["meter_password"] = meter.password.decode()
    return found
