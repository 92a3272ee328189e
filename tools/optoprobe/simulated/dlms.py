"""Simulated meters that push DLMS."""

from __future__ import annotations

from collections.abc import Iterable

from metering import protocols

from ..virtual.dlms_meter import QUIRKS, DlmsMeter

__all__ = ["METERS", "QUIRKS", "make", "settings"]
METERS = {
    "dlms": "DLMS",
    "dlms-hdlc": "DLMS in HDLC",
    "dlms-mbus": "DLMS in M-Bus frames",
    "dlms-gbt": "DLMS in blocks",
}


def make(name: str, quirks: Iterable[str], *, seed: int = 1) -> DlmsMeter:
    return DlmsMeter(name.partition("-")[2] or "optical", seed=seed, quirks=quirks)


def settings(meter: DlmsMeter) -> dict[str, object]:
    """Its keys, and its line where that is not the first to be tried."""
    found: dict[str, object] = {"meter_key": meter.key.hex(), "meter_auth_key": meter.auth_key.hex()}
    line = meter.line
    if line.baud != protocols.load("dlms").LINES[0].baud:
        found["line"] = f"{line.baud} {line.bits}{line.parity or 'N'}{line.stop}"
    return found
