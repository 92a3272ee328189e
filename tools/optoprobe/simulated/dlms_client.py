"""Simulated DLMS meters that are asked."""

from __future__ import annotations

from collections.abc import Iterable

from ..virtual.dlms_asked_meter import QUIRKS, AskedDlmsMeter

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "dlms-ask": "DLMS, asked",
    "dlms-ask-e": "DLMS, asked by mode E",
    "dlms-ask-sn": "DLMS, asked by short names",
    "dlms-ask-low": "DLMS, asked with a password",
}
OPTIONS = ("password", "tcp")
_PASSWORD = "71043298"


def make(
    name: str, quirks: Iterable[str], *, seed: int = 1, password: str = "", tcp: bool = False
) -> AskedDlmsMeter:
    """`tcp`: in the wrapper, which knows no sign-on."""
    wanted = password or (_PASSWORD if name == "dlms-ask-low" else "")
    sign_on, short_names = name == "dlms-ask-e" and not tcp, name == "dlms-ask-sn"
    return AskedDlmsMeter(
        sign_on=sign_on, short_names=short_names, password=wanted, seed=seed, quirks=quirks, wrapped=tcp
    )


def settings(meter: AskedDlmsMeter) -> dict[str, object]:
    """What no search finds out: how it is asked, and with which password."""
    found: dict[str, object] = {"protocol": "dlms-client"}
    options = ["mode=IEC"] * meter.has_sign_on + ["type=SN"] * meter.has_short_names
    if options:
        found["meter_options"] = " ".join(options)
    if meter.password:
        found["meter_password"] = meter.password.decode()
    return found
