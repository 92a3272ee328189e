"""Simulated DLMS meters that are asked."""

from __future__ import annotations

from collections.abc import Iterable

from ..virtual.dlms_asked_meter import QUIRKS, AskedDlmsMeter
from ..virtual.dlms_asked_security import GMAC, MD5, Demands

__all__ = ["METERS", "OPTIONS", "QUIRKS", "make", "settings"]
METERS = {
    "dlms-ask": "DLMS, asked",
    "dlms-ask-e": "DLMS, asked by mode E",
    "dlms-ask-sn": "DLMS, asked by short names",
    "dlms-ask-low": "DLMS, asked with a password",
    "dlms-ask-md5": "DLMS, asked with a password that is not said (HighMd5)",
    "dlms-ask-gmac": "DLMS, asked with keys (HighGmac), ciphered",
}
OPTIONS = ("password", "tcp")
_PASSWORD = "71043298"
_KEY, _AUTH_KEY = bytes(range(0x40, 0x50)), bytes(range(0xC0, 0xD0))


def make(
    name: str, quirks: Iterable[str], *, seed: int = 1, password: str = "", tcp: bool = False
) -> AskedDlmsMeter:
    """`tcp`: in the wrapper, which knows no sign-on."""
    wanted = password or (_PASSWORD if name == "dlms-ask-low" else "")
    sign_on, short_names = name == "dlms-ask-e" and not tcp, name == "dlms-ask-sn"
    demands = None
    if name == "dlms-ask-md5":
        demands, wanted = Demands(MD5, (wanted or _PASSWORD).encode()), ""
    elif name == "dlms-ask-gmac":
        demands, wanted = Demands(GMAC, key=_KEY, auth_key=_AUTH_KEY, policy=0x30), ""
    return AskedDlmsMeter(
        sign_on=sign_on, short_names=short_names, password=wanted, seed=seed, quirks=quirks, wrapped=tcp,
        demands=demands,
    )


def settings(meter: AskedDlmsMeter) -> dict[str, object]:
    """What no search finds out: how it is asked, and with which password."""
    found: dict[str, object] = {"protocol": "dlms-client"}
    options = ["mode=IEC"] * meter.has_sign_on + ["type=SN"] * meter.has_short_names
    if meter.security is not None:
        demands = meter.security.demands
        if demands.key:
            found["meter_key"], found["meter_auth_key"] = demands.key.hex(), demands.auth_key.hex()
        else:
            options.append("auth=HIGHMD5")
            found["meter_password"] = demands.password.decode()
    if options:
        found["meter_options"] = " ".join(options)
    if meter.password:
        found["meter_password"] = meter.password.decode()
    return found
