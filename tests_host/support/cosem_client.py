"""The client of dlms-cosem (PyPI, .runtime/cosem: newer than .venv has) in front of simulated DLMS meters.

Run as a program of its own, with that directory first on the path, as the two versions cannot be imported together. It
prints one JSON object: of each way what came out, or the error.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from dlms_cosem import cosem, enumerations, utils
from dlms_cosem import security as own
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.selective_access import CaptureObject, RangeDescriptor
from dlms_cosem.io import BlockingTcpIO, HdlcTransport, TcpTransport

from optoprobe.virtual import dlms_asked_profile
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, Demands
from optoprobe.virtual.tcp_meter import TcpMeter

PASSWORD = "71043298"
KEYS = {"key": bytes(range(16)), "auth_key": bytes(range(0xD0, 0xE0))}
COUNTER = 70_000
REGISTERS = ("1-0:1.8.0*255", "1-0:32.7.0*255")


class Wire:
    """What takes the place of its serial port: bytes handed to and fro, a second for each question.

    It hands on whole answers at once, as the client may wait for ever where it gets them piece by piece.
    """

    def __init__(self, meter: AskedDlmsMeter) -> None:
        self._meter = meter
        self._now_s = 0.0
        self._heard = bytearray()
        self._n_empty = 0

    def connect(self) -> None:
        pass

    disconnect = connect

    def send(self, data: bytes) -> None:
        self._now_s += 1
        self._n_empty = 0
        for value in data:
            self._meter.receive(value, self._now_s)
        while (piece := self._meter.poll(self._now_s + 9, self._now_s + 9)) is not None:
            self._heard += piece.data

    def recv(self, amount: int = 1) -> bytes:
        taken, self._heard = bytes(self._heard[:amount]), self._heard[amount:]
        if not taken:
            raise RuntimeError("the meter says nothing")
        return taken

    def recv_until(self, end: bytes) -> bytes:
        self._n_empty += not self._heard
        if self._n_empty > 300:
            raise RuntimeError("the meter says nothing it takes for a frame")
        taken, self._heard = bytes(self._heard), bytearray()
        return taken


class CounterOfItsOwn(own.HighLevelSecurityGmacAuthentication):
    """The test counts for it: what it sends by itself our meter refuses."""

    def hls_generate_reply_data(self, connection: Any) -> bytes:
        proof = super().hls_generate_reply_data(connection)
        connection.client_invocation_counter += 1
        return proof


def client_of(meter: AskedDlmsMeter, wire: Any, method: Any = None) -> DlmsClient:
    demands = meter.security.demands if meter.security else None
    if method is None and demands:
        method = CounterOfItsOwn()
    elif method is None:
        password = meter.password
        method = own.LowLevelSecurityAuthentication(password) if password else own.NoSecurityAuthentication()
    transport = TcpTransport if meter.wrapper else HdlcTransport
    more: dict[str, Any] = {}
    if demands:
        more = {
            "encryption_key": demands.key, "authentication_key": demands.auth_key,
            "client_initial_invocation_counter": COUNTER + 1,
        }  # fmt: skip
    return DlmsClient(transport(meter.client[0] >> 1, 1, wire), method, **more)


def attribute_of(class_id: int, obis: str, attribute: int) -> cosem.CosemAttribute:
    code = bytes(int(part) for part in obis.replace("-", ".").replace(":", ".").replace("*", ".").split("."))
    return cosem.CosemAttribute(enumerations.CosemInterface(class_id), cosem.Obis.from_bytes(code), attribute)


def registers(client: DlmsClient) -> list[list[Any]]:
    rows = []
    for obis in REGISTERS:
        scaler, unit = utils.parse_as_dlms_data(client.get(attribute_of(3, obis, 3)))
        rows.append([obis, utils.parse_as_dlms_data(client.get(attribute_of(3, obis, 2))), scaler, unit])
    return rows


def listed(client: DlmsClient) -> list[list[Any]]:
    """The same by two GETs with a list."""
    of_all = [[cosem.CosemAttributeWithSelection(attribute_of(3, obis, n), None) for obis in REGISTERS] for n in (3, 2)]
    scales, counts = (client.get_many(asked).result for asked in of_all)
    return [[obis, count, *scale] for obis, scale, count in zip(REGISTERS, scales, counts, strict=True)]


def rows(client: DlmsClient) -> list[list[Any]]:
    """The whole load profile, which comes in segments, and in blocks."""
    data = client.get(attribute_of(7, dlms_asked_profile.OBIS, 2))
    return [row[1:] for row in utils.parse_as_dlms_data(data)]


def ranged(client: DlmsClient) -> list[list[Any]]:
    """Three rows of the load profile, by their times."""
    clock = CaptureObject(attribute_of(8, "0-0:1.0.0*255", 2))
    hours = [datetime(2026, 3, 2, hour, tzinfo=UTC) for hour in (8, 10)]
    data = client.get(attribute_of(7, dlms_asked_profile.OBIS, 2), RangeDescriptor(clock, *hours))
    return [row[1:] for row in utils.parse_as_dlms_data(data)]


def session(read: Callable[[DlmsClient], Any] = registers, method: Any = None, **ways: Any) -> dict[str, Any]:
    meter = AskedDlmsMeter(**ways)
    return in_front_of(meter, Wire(meter), read, method)


def in_front_of(meter: AskedDlmsMeter, wire: Any, read: Callable[[DlmsClient], Any], method: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"error": ""}
    try:
        with client_of(meter, wire, method).session() as client:
            told["read"] = read(client)
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    return told | {"sent": meter.read, "events": meter.events, "tags": sorted(meter.served)}


def over_tcp(**ways: Any) -> dict[str, Any]:
    meter = AskedDlmsMeter(wrapped=True, **ways)
    with TcpMeter(meter) as listening:
        host, _, port = listening.path.partition(":")
        return in_front_of(meter, BlockingTcpIO(host, int(port), 60), registers, None)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    keys = Demands(GMAC, policy=0x30, counter=COUNTER, **KEYS)
    told = {}
    for name, wrapped in (("HDLC", False), ("wrapper", True)):
        told[f"{name} None"] = session(wrapped=wrapped)
        told[f"{name} Low"] = session(wrapped=wrapped, password=PASSWORD)
        told[f"{name} GMAC"] = session(wrapped=wrapped, demands=keys)
        told[f"{name} list"] = session(listed, wrapped=wrapped)
        told[f"{name} blocks"] = session(wrapped=wrapped, quirks=("blocks",))
        told[f"{name} range"] = session(ranged, wrapped=wrapped)
        told[f"{name} wrong"] = session(
            wrapped=wrapped, method=own.LowLevelSecurityAuthentication(b"x"), password=PASSWORD
        )
        told[f"{name} counter"] = session(
            wrapped=wrapped, demands=keys, method=own.HighLevelSecurityGmacAuthentication()
        )
        told[f"{name} rows"] = session(rows, wrapped=wrapped)
    told["HDLC short names"] = session(short_names=True)
    told["TCP Low"] = over_tcp(password=PASSWORD)
    told["TCP GMAC"] = over_tcp(demands=keys)
    with contextlib.suppress(BrokenPipeError):
        json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
