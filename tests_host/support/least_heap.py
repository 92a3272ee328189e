"""The least heap on which the firmware does all it should: `PYTHONPATH=tests_host python -m support.least_heap CASE`.

A virtual board is started anew with one heap after the other, in 16 steps at the most between two sizes in KiB. A size
will do when both announcements and three live messages come and, after the hub has said that it starts, diagnostics
that tell of no shortage. The fakes and umqtt, which a chip has in its flash, stand in a board's heap beside it and are
left out of each figure. Each size takes up to a minute; a busy machine is slower, but needs no other heap.

Sizes are tried once. What happens in the moment the heap is fullest differs from run to run by some hundred bytes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from optoprobe import simulated
from optoprobe.virtual.board import HARDWARE_BYTES, VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.c1218_meter import C1218Meter
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, Demands
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

from .broker import Listener

LONG = ("list_type_bits", "phases", "key", "two_tariffs", "temperature")  # 22 registers, the longest list met
KEY = "000102030405060708090a0b0c0d0e0f"
AUTH_KEY = "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
ASKED: dict[str, object] = {"protocol": "dlms-client", "meter_password": "71043298", "interval_s": 5}
PROVEN: dict[str, object] = {"protocol": "dlms-client", "meter_key": KEY, "meter_auth_key": AUTH_KEY, "interval_s": 5}
STEP_BYTES = 512
_START_S = 75  # from power on to the third live message: a search takes some 20 s
_ANSWER_S = 15


class Case(NamedTuple):
    """A meter, and the settings beside network and broker."""

    meter: Callable[[], Any]
    settings: dict[str, object]


def _encrypted() -> MeterSource:
    return MeterSource(DlmsMeter("optical", key=bytes.fromhex(KEY)))


def _convinced_by_keys() -> AskedDlmsMeter:
    """HighGmac, everything ciphered and authenticated."""
    keys = {"key": bytes.fromhex(KEY), "auth_key": bytes.fromhex(AUTH_KEY)}
    return AskedDlmsMeter(demands=Demands(GMAC, policy=0x30, **keys))


def _nes() -> C1218Meter:
    return C1218Meter(user_id=2, user=b"reader", password=b"25083711")


CASES = {
    "sml": Case(lambda: MeterSource(SmlMeter(1, quirks=LONG)), {"protocol": "sml"}),
    "found": Case(lambda: MeterSource(SmlMeter(1, quirks=LONG)), {"protocol": "auto"}),
    "iec": Case(lambda: IecMeter("C", full=True), {"protocol": "iec62056-21", "interval_s": 10}),  # of 35 s in all
    "p1": Case(lambda: IecMeter("P1"), {"protocol": "iec62056-21", "line": "115200 8N1"}),
    "dlms": Case(_encrypted, {"protocol": "dlms", "line": "9600 8N1", "meter_key": KEY}),
    "dlms-client": Case(lambda: AskedDlmsMeter(password="71043298"), ASKED),
    "dlms-gmac": Case(_convinced_by_keys, PROVEN),
    "modbus": Case(
        lambda: simulated.of("modbus").make("modbus", ()),
        {"protocol": "modbus", "modbus_map": "eastron_sdm630", "interval_s": 5},
    ),
    "c1218": Case(_nes, simulated.of("c1218").settings(_nes())),
    "dlms-found": Case(_encrypted, {"protocol": "auto", "meter_key": KEY}),
}


def _is_short(board: VirtualBoard) -> bool:
    return not board.running or any("memory" in line.lower() for line in board.log)


def free_bytes(case: Case, heap_bytes: int, over_tls: bool = False, in_rom: bool = False) -> int | None:
    """What the diagnostics tell to be free on a heap of that size, the hardware's beside it; None: it will not do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca = OwnCa(folder / "ca")
        signed = ca.sign("broker", "127.0.0.1") if over_tls else None
        with Broker(folder / "broker", signed=signed) as broker, OpticalServer(case.meter()) as server:
            settings: dict[str, object] = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port}
            settings |= {"probe_id": "p", "publish_interval_s": 0} | case.settings
            if over_tls:
                settings["mqtt_tls_ca"] = str(ca.certificate)
            granted = heap_bytes + HARDWARE_BYTES
            board = VirtualBoard(folder / "device", settings, server.port, heap_bytes=granted, in_rom=in_rom)
            with Listener(broker.port, ca=ca.certificate if over_tls else None) as listener:
                listener.subscribed()
                with board:
                    until_s = time.monotonic() + _START_S
                    while len(listener.of("/live")) < 3 or len({m.topic for m in listener.of("/config")}) < 2:
                        if _is_short(board) or time.monotonic() > until_s:
                            return None
                        time.sleep(0.2)
                    asked_s = time.monotonic()
                    listener.publish("homeassistant/status", "online")
                    try:
                        told = listener.wait_for("/diagnostics", _ANSWER_S, asked_s + 1).object()
                    except pytest.fail.Exception:
                        return None
                    if _is_short(board) or told["out_of_memory"] or told["messages_refused"]:
                        return None
                    return int(told["free_heap_bytes"])


def least_bytes(
    case: Case, low: int, high: int, over_tls: bool = False, in_rom: bool = False
) -> tuple[int, int] | None:
    """(least heap, bytes free on it) between `low`, which will not do, and `high`; None where that will not either."""
    free = free_bytes(case, high, over_tls, in_rom)
    if free is None:
        return None
    while high - low > STEP_BYTES:
        middle = (low + high) // 2
        found = free_bytes(case, middle, over_tls, in_rom)
        print(f"{middle / 1024:.1f} KiB: {'too little' if found is None else f'{found} free'}", flush=True)
        if found is None:
            low = middle
        else:
            high, free = middle, found
    return high, free


def main() -> int:
    parser = argparse.ArgumentParser(description="The least heap on which the firmware does all it should.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("low", type=float, nargs="?", default=56, help="KiB that will not do")
    parser.add_argument("high", type=float, nargs="?", default=128, help="KiB that should do")
    parser.add_argument("--tls", action="store_true", help="with the broker's session over TLS")
    parser.add_argument("--rom", action="store_true", help="with the modules run from ROMFS")
    args = parser.parse_args()
    found = least_bytes(CASES[args.case], int(args.low * 1024), int(args.high * 1024), args.tls, args.rom)
    if found is None:
        print(f"{args.case}: more than {args.high:g} KiB")
        return 1
    print(f"{args.case}: {found[0] / 1024:.1f} KiB, {found[1]} bytes free then")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
