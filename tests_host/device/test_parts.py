"""Each part of the firmware by itself, and what the whole does with bad files, bad passwords and restarts.

The first half runs the device's modules on CPython over small stand-ins for the hardware; the second starts virtual
boards (MicroPython), all at once so that the suite stays short.
"""

import asyncio
import base64
import hashlib
import importlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.announced import announced, described_by
from support.broker import Listener, PausableMeter, closed_port

from metering.guard import Guard
from metering.line import MAX_SENT, Line
from metering.reading import Reading
from metering.registers import describe
from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter

# --- the device's modules on CPython ---------------------------------------------------------------------------------


# --- settings --------------------------------------------------------------------------------------------------------

DEFAULTS = {
    "wifi_ssid": "",
    "wifi_password": "",
    "mqtt_host": "",
    "mqtt_port": 1883,
    "mqtt_user": "",
    "mqtt_password": "",
    "mqtt_tls_ca": "",
    "mqtt_tls_cert": "",
    "mqtt_tls_key": "",
    "mqtt_prefix": "optoprobe",
    "probe_id": "",
    "probe_name": "Optoprobe",
    "discovery": "device",
    "discovery_prefix": "homeassistant",
    "protocol": "auto",
    "interval_s": 0,
    "meter_address": "",
    "meter_password": "",
    "meter_options": "",
    "modbus_map": "",
    "wake_up": False,
    "meter_key": "",
    "meter_auth_key": "",
    "line": "",
    "ntp_host": "pool.ntp.org",
    "pulses_per_kwh": 1000,
    "energy_factor": 0,
    "max_power_kw": 70,
    "reads_a_day": 0,
    "publish_interval_s": 10,
    "publish_change_percent": 10,
    "device_password": "",
    "setup_password": "",
    "page_port": 80,
}

# key -> (values that are not accepted, what the sentence must name, values that are)
KEYS: dict[str, tuple[list[Any], str, list[Any]]] = {
    "wifi_ssid": ([5, None, "x" * 33, "ä" * 17, "a\0b"], "32", ["Müllers WLAN", "x" * 32]),
    "wifi_password": ([7, ["hidden"], "x" * 65], "64", ["Täglich ☂"]),
    "mqtt_host": ([False, "h" * 129], "128", ["broker.local", "192.0.2.7"]),
    "mqtt_port": ([0, 65536, -1, "1883", 1883.5, True, None], "1 to 65535", [1, 8883, 65535]),
    "mqtt_user": ([1, "u" * 129], "128", ["me"]),
    "mqtt_password": ([{"a": 1}, "hidden" * 50], "256", ["p" * 256]),
    "mqtt_tls_ca": ([7, True, "../ca.der", "a b", "x" * 33], "PEM or DER", ["mqtt_ca.der"]),
    "mqtt_tls_cert": ([7, "a/b", "x" * 33], "PEM or DER", ["mqtt_cert.der"]),
    "mqtt_tls_key": ([7, "hidden/b", "x" * 33], "PEM or DER", ["mqtt_key.der"]),
    "mqtt_prefix": (["", "/a", "a/", "a//b", "a#", "a/+/b", "a b", "x" * 61, 3], "60", ["home/meters", "a_b-c"]),
    "probe_id": (["a/b", "a b", "ä", "x" * 33, 12], "32", ["", "cellar-1"]),
    "probe_name": ([1, "ä" * 21], "40", ["Zähler im Keller"]),
    "discovery": (["on", "", True, None, ["device"]], "device", ["device", "entity", "off"]),
    "discovery_prefix": (["#", "/x", 0], "60", ["homeassistant", "hub/discovery"]),
    "protocol": (["d0", "SML", 1], "sml", ["auto", "sml", "iec62056-21", "dlms", "dlms-client", "blink"]),
    "meter_key": (["00" * 15, "hidden", 7, None, "0x" + "0" * 31], "32", ["", "0A" * 16, "0x" + " ".join(["ff"] * 16)]),
    "meter_auth_key": (["00" * 17, "hidden", ["00" * 16]], "32", ["", "d0:" * 15 + "df"]),
    "line": (["9600", "9600 9N1", "8N1", 9600, "fast 8N1", "9600 8X1"], "2400 8E1", ["", "2400 8E1", "9600 7e1"]),
    "interval_s": ([-1, 86401, "60", 0.5, True], "86400", [0, 1, 86400]),
    "meter_address": (["1!", "a b", "(1)", "/", "?", "ä", "x" * 33, 12], "32", ["", "00123456"]),
    "meter_password": (["hidden!", "(hidden)", "hidden" * 6, 12345678], "32", ["", "00000000"]),
    "meter_options": (
        ["client_address=128", "hidden", 16, "mode=X", "x" * 161],
        "client_address=32",
        ["", "client_address=32 serial_number=77310099 mode=IEC auth=LOW", "obis_job=1.0.1.8.0.255:2"],
    ),
    "modbus_map": ([7, "../x.json", "a b", "x" * 33], "register map", ["", "modbus_map.json"]),
    "wake_up": (["true", 1, None], "true", [True, False]),
    "ntp_host": ([1, None, "h" * 129], "128", ["", "192.0.2.1"]),
    "pulses_per_kwh": ([0, 100001, "1000", 0.5, True], "100000", [1, 640, 10000]),
    "energy_factor": ([-1, 2, 10000, "10", True], "10, 100", [1, 10, 1000]),
    "reads_a_day": ([-1, 86401, "24", 2.5, True], "to 86400", [0, 24, 86400]),
    "max_power_kw": ([0, 10001, "70", 70.0, False], "1 to 10000", [1, 10000]),
    "publish_interval_s": ([-1, 3601, "10", 1.5, True], "3600", [0, 1, 3600]),
    "publish_change_percent": ([0, 101, "10", None], "1 to 100", [1, 100]),
    "device_password": (["hidden1", "x" * 129, 12345678, None, "hidden\0 0"], "128", ["", "täglich", "x" * 128]),
    "setup_password": (["hidden1", "h" * 64, 12345678, "hidden\n1", "hiddenä1"], "8 to 63", ["", "a b c d!", "x" * 63]),
    "page_port": ([0, 65536, "80", True], "65535", [1, 80]),
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_bad_setting_is_named_and_its_default_used(device: Any, key: str) -> None:
    bad, accepted, good = KEYS[key]
    over_tls = {"mqtt_tls_ca": "mqtt_ca.der", "mqtt_port": 8883} if "_tls_" in key else {}
    for value in bad:
        values, problems = device.settings.check({key: value})
        assert values == DEFAULTS | over_tls, value
        assert len(problems) == 1
        assert key in problems[0] and accepted in problems[0], problems
        assert "hidden" not in problems[0]  # the value may be a password typed in the wrong place
    for value in good:
        values, problems = device.settings.check({key: value})
        assert problems == [] and values == DEFAULTS | over_tls | {key: value}


HALVES = r"""
import json
from firmware import settings
for key in settings.check({})[0]:
    assert len(settings.check(json.loads('{"%s": "house \\ud83d\\ude00"}' % key))[1]) == 1, key
assert settings.check({"wifi_ssid": "house \U0001f600"})[1] == []
"""


def test_half_a_character_is_in_no_setting() -> None:
    """As MicroPython's json reads a file that says \\ud83d\\ude00 for one character."""
    environment = os.environ | {"MICROPYPATH": ":".join(map(str, (runtime.REPO, runtime.REPO / "lib", ".frozen")))}
    done = subprocess.run(
        [runtime.micropython(), "-X", "heapsize=1m", "-c", HALVES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_tested(device: Any) -> None:
    assert device.settings.check({}) == (DEFAULTS, [])
    assert set(KEYS) == set(DEFAULTS)


def test_unknown_settings_are_kept(device: Any) -> None:
    given = {"of_a_newer_version": [1, {"deep": None}], "mqtt_port": 99}
    values, problems = device.settings.check(given)
    assert problems == [] and values == {**DEFAULTS, **given}
    assert given == {"of_a_newer_version": [1, {"deep": None}], "mqtt_port": 99}  # untouched


def test_each_bad_setting_has_its_own_sentence(device: Any) -> None:
    values, problems = device.settings.check({"mqtt_port": 0, "discovery": "x", "wifi_ssid": "home"})
    assert len(problems) == 2 and values["wifi_ssid"] == "home"


BROKEN_SETTINGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "cut": (b'{"wifi_ssid": "ho', "not JSON"),
    "binary": (b"\xff\xfe\x00{}", "not JSON"),
    "array": (b'["wifi_ssid"]', "no object"),
    "number": (b"5", "not JSON"),
    "null": (b"null", "not JSON"),
    "too large": (b'{"a": "' + b"x" * 9000 + b'"}', "larger than 8192"),
}


@pytest.mark.parametrize("case", BROKEN_SETTINGS)
def test_a_broken_settings_file_gives_defaults_and_a_sentence(device: Any, tmp_path: Path, case: str) -> None:
    content, says = BROKEN_SETTINGS[case]
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    values, problems = device.settings.load(str(file))
    assert values == DEFAULTS
    assert len(problems) == 1 and says in problems[0] and "\n" not in problems[0], problems


def test_a_new_probe_has_no_settings_and_no_problem(device: Any, tmp_path: Path) -> None:
    assert device.settings.load(str(tmp_path / "settings.json")) == (DEFAULTS, [])


def test_a_good_settings_file(device: Any, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"wifi_ssid": "Müller", "more": 1}', encoding="utf-8")
    assert device.settings.load(str(file)) == ({**DEFAULTS, "wifi_ssid": "Müller", "more": 1}, [])


def renamed(values: dict[str, Any]) -> None:
    values["probe_name"] = values.pop("former_name", "")


def test_an_earlier_versions_file_is_brought_forward_once(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"former_name": "Cellar", "of_another": [1], "mqtt_port": 0}')
    steps = (renamed, lambda values: values.update(line=values.get("line", "9600 8N1")))
    monkeypatch.setattr(device.settings, "_STEPS", steps)
    expected = {"probe_name": "Cellar", "of_another": [1], "mqtt_port": 0, "line": "9600 8N1", "settings_version": 3}
    for _ in range(2):
        values, problems = device.settings.load(str(file))
        assert values == DEFAULTS | expected | {"mqtt_port": 1883} and len(problems) == 1
        assert json.loads(file.read_text()) == expected
    monkeypatch.setattr(device.settings, "_STEPS", steps[:1])
    file.write_text(json.dumps(expected | {"settings_version": 2, "line": ""}))
    assert device.settings.load(str(file))[0]["line"] == ""


@pytest.mark.parametrize("version", [1, 3, 99, 0, -1, "2", True, None])
def test_a_file_of_this_or_a_later_version_stays_as_it_is(device: Any, tmp_path: Path, version: Any) -> None:
    file = tmp_path / "settings.json"
    text = json.dumps({"settings_version": version, "probe_name": "Cellar", "of_a_later_version": {"a": [None]}})
    file.write_text(text)
    values, problems = device.settings.load(str(file))
    assert values["probe_name"] == "Cellar" and values["of_a_later_version"] == {"a": [None]} and not problems
    assert file.read_text() == text


def test_a_key_with_a_digit_too_few_is_counted(device: Any) -> None:
    _, problems = device.settings.check({"meter_key": "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee"})
    assert len(problems) == 1
    assert "it has 30" in problems[0] and "32 hexadecimal digits" in problems[0] and "aa bb" not in problems[0]


# --- what outlasts a restart -----------------------------------------------------------------------------------------


class FakeListener:
    """Of a listener what Counters looks at."""

    def __init__(self, key_check: int = 1) -> None:
        self.key_check = key_check
        self.system_title: bytes | None = b"OPTg\0\0\0\1"
        self.invocation_counter = 0
        self.restored: list[tuple[bytes, int]] = []
        self.keys: tuple[bytes | None, bytes | None] | None = None
        self.refuses_replays = False

    def set_keys(self, key: bytes | None, auth_key: bytes | None) -> None:
        self.keys = (key, auth_key)

    def restore_counter(self, title: bytes, counter: int) -> None:
        self.restored.append((title, counter))


def test_counters_are_written_rarely_and_come_back(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(device.invocation_counters, "unload", lambda _: None)  # or what is set here goes with it
    save = device.store.save
    monkeypatch.setattr(device.store, "save", lambda *given: written.append(given) or save(*given))
    listener = FakeListener()
    counters = device.invocation_counters.Counters(listener, b"k" * 16, None)
    for counter in range(5000, 8000):
        listener.invocation_counter = counter
        counters.keep()
    listener.system_title = None  # a telegram in the clear
    counters.keep()
    assert len(written) == 3  # one in 1,024
    again = FakeListener()
    device.invocation_counters.Counters(again, b"k" * 16, None)
    assert (again.keys, again.refuses_replays) == ((b"k" * 16, None), True)
    assert again.restored == [(b"OPTg\0\0\0\1", 5000 + 2 * 1024)]
    other_key = FakeListener(key_check=2)
    device.invocation_counters.Counters(other_key, b"k" * 16, None)
    assert other_key.restored == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"5", b'[["zz", 1, 1]]', b"[[1]]", b"[" * 3000, b'[["00", "x", 1]]', b"null", b"[{}]",
     b'[["4f50546700000001", 1e999, 1]]', b'[["4f505467", 7, 1]]', b'[["4f50546700000001", -1, 1]]']
)
def test_broken_state_is_no_state(device: Any, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "counters.json"
    file.write_bytes(content)
    listener = FakeListener()
    device.invocation_counters.Counters(listener, b"k" * 16, None)
    assert listener.restored == []
    assert device.store.save(str(file), [1]) and device.store.load(str(file)) == [1]
    assert not device.store.save(str(tmp_path / "no" / "folder"), [1])


# --- board -----------------------------------------------------------------------------------------------------------

UART = {"id": 1, "rx": 4, "tx": 5}

# what is wrong -> (the file's content, what the sentence must name)
BROKEN_BOARDS: dict[str, tuple[Any, str]] = {
    "array": ([], "uart"),
    "no uart": ({"name": "x"}, "uart"),
    "uart a number": ({"uart": 1}, "uart"),
    "no id": ({"uart": {"rx": 4}}, "0, 1 or 2"),
    "id 3": ({"uart": UART | {"id": 3}}, "0, 1 or 2"),
    "id text": ({"uart": UART | {"id": "1"}}, "0, 1 or 2"),
    "id list": ({"uart": UART | {"id": [1]}}, "0, 1 or 2"),
    "no rx": ({"uart": {"id": 1}}, "rx"),
    "rx text": ({"uart": UART | {"rx": "4"}}, "rx"),
    "rx negative": ({"uart": UART | {"rx": -1}}, "rx"),
    "rx 49": ({"uart": UART | {"rx": 49}}, "0 to 48"),
    "rx true": ({"uart": UART | {"rx": True}}, "rx"),
    "no tx": ({"uart": {"id": 1, "rx": 4}}, "tx"),
    "id true": ({"uart": UART | {"id": True}}, "0, 1 or 2"),
    "invert text": ({"uart": UART | {"invert_rx": "false"}}, "invert_rx must be true or false"),
    "led a number": ({"uart": UART, "led": 2}, "led"),
    "tx text": ({"uart": UART | {"tx": "5"}}, "tx"),
    "tx 4.5": ({"uart": UART | {"tx": 4.5}}, "tx"),
    "pull sideways": ({"uart": UART | {"rx_pull": "sideways"}}, "up, down or none"),
    "pull list": ({"uart": UART | {"rx_pull": ["up"]}}, "up, down or none"),
    "pull null": ({"uart": UART | {"rx_pull": None}}, "up, down or none"),
    "buffer small": ({"uart": UART | {"buffer_bytes": 1023}}, "1024 to 32768"),
    "buffer large": ({"uart": UART | {"buffer_bytes": 32769}}, "1024 to 32768"),
    "buffer text": ({"uart": UART | {"buffer_bytes": "16384"}}, "1024 to 32768"),
    "led pin": ({"uart": UART, "led": {"pin": 99}}, "0 to 48"),
}


@pytest.mark.parametrize("case", BROKEN_BOARDS)
def test_a_wrong_field_of_a_board_is_named(device: Any, tmp_path: Path, case: str) -> None:
    content, says = BROKEN_BOARDS[case]
    file = tmp_path / "board.json"
    file.write_text(json.dumps(content))
    with pytest.raises(device.board.BoardError) as error:
        device.board.load(str(file))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b'{"uart', b"\xff\xfe"])
def test_a_board_file_that_cannot_be_read(device: Any, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "board.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(device.board.BoardError, match="optoprobe deploy --board"):
        device.board.load(str(file))


def test_a_good_board(device: Any, tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    file.write_text(json.dumps({"name": "mine", "uart": UART, "led": {"pin": 2, "active_low": True}}))
    name, head, led = device.board.load(str(file))
    assert name == "mine" and isinstance(head, device.head.Head) and led is not None
    file.write_text(json.dumps({"uart": {"id": 2, "rx": 16, "tx": 17}}))
    name, head, led = device.board.load(str(file))
    assert led is None and head.overruns == 0


def test_a_pin_the_chip_lacks_is_named(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(device.board.Pin):
        def __init__(self, number: int, *others: object) -> None:
            if number == 24:
                raise ValueError("invalid pin")

    monkeypatch.setattr(device.board, "Pin", Refusing)
    file = tmp_path / "board.json"
    file.write_text(json.dumps({"uart": UART | {"rx": 24}}))
    with pytest.raises(device.board.BoardError, match="this chip has not got .*invalid pin.*: choose another board"):
        device.board.load(str(file))


# --- head ------------------------------------------------------------------------------------------------------------


class FakeUart:
    """Gives what was put into `arrived`, piece by piece; keeps what was sent."""

    INV_TX, INV_RX = 32, 4

    def __init__(self, number: int, **settings: Any) -> None:
        self.settings = [settings]
        self.arrived: list[bytes] = []
        self.sent = b""
        self.waiting = 0

    def init(self, **settings: Any) -> None:
        self.settings.append(settings)

    def any(self) -> int:
        return self.waiting

    def readinto(self, buffer: memoryview) -> int | None:
        if not self.arrived:
            return None
        piece = self.arrived.pop(0)
        buffer[: len(piece)] = piece
        return len(piece)

    def write(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def txdone(self) -> bool:
        return True


@pytest.fixture
def head(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(device.head, "UART", FakeUart)
    head = device.head.Head(1, 4, 5, False, False, 16384, SimpleNamespace(value=lambda: 1))
    head.open(Line(9600))
    return head


def reads(head: Any, *pieces: bytes) -> bytes:
    """What read() makes of these pieces, each fetched by one call."""
    head._uart.arrived += pieces
    return b"".join(bytes(head.data[: head.read()]) for _ in pieces)


REQUEST = b"/?!\r\n"


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        ((REQUEST,), b""),
        ((REQUEST + b"/ABC5\r\n",), b"/ABC5\r\n"),
        ((REQUEST, b"/ABC5\r\n"), b"/ABC5\r\n"),
        ((b"/", b"?!", b"\r", b"\n/ABC5"), b"/ABC5"),
        ((REQUEST[:4], REQUEST[4:] + b"/", b"?!"), b"/?!"),
        ((REQUEST + REQUEST,), REQUEST),  # taken out once
        ((b"/ABC5\r\n",), b"/ABC5\r\n"),  # a head without echo, and a reply that begins like the request
        ((b"/?", b"ABC"), b"/?ABC"),
        ((b"/?!\r", b"X"), b"/?!\rX"),
        ((b"/", b"?", b"!", b"X" * 220), b"/?!" + b"X" * 220),
        ((b"\x1b\x1b",), b"\x1b\x1b"),
    ],
)
def test_the_heads_own_light_is_taken_out_and_nothing_else(head: Any, pieces: tuple[bytes, ...], left: bytes) -> None:
    asyncio.run(head.write(REQUEST))
    assert head._uart.sent == REQUEST
    assert reads(head, *pieces) == left
    assert reads(head, REQUEST) == REQUEST  # what comes later is the meter's


def test_nothing_is_taken_out_where_nothing_was_sent(head: Any) -> None:
    assert reads(head, REQUEST, b"abc") == REQUEST + b"abc"
    assert head.read() == 0


def test_the_longest_echo_put_back_in_front_of_the_longest_read(head: Any) -> None:
    request = bytes(range(MAX_SENT))
    asyncio.run(head.write(request))
    chunk = b"\xff" * len(head._chunk)
    assert len(chunk) > 200 and reads(head, request[:-1], chunk) == request[:-1] + chunk
    with pytest.raises(ValueError, match=str(MAX_SENT)):
        asyncio.run(head.write(bytes(MAX_SENT + 1)))


def test_line_settings_reach_the_uart(head: Any) -> None:
    asyncio.run(head.write(REQUEST))
    head.open(Line(300, 7, "E", 1, invert=True))
    first, second = head._uart.settings
    assert (first["baudrate"], first["bits"], first["parity"], first["stop"]) == (9600, 8, None, 1)
    assert (second["baudrate"], second["bits"], second["parity"], second["stop"]) == (300, 8, None, 1)  # 7E1's light
    assert first["rxbuf"] == 16384 and (first["rx"], first["tx"]) == (4, 5)
    assert "rxbuf" not in second  # else MicroPython 1.25 and 1.26 set up the driver anew
    assert bool(first["invert"] & 4) != bool(second["invert"] & 4)
    assert reads(head, REQUEST) == REQUEST  # no echo is waited for across new settings
    asyncio.run(head.write(b"/?!"))
    assert head._uart.sent == REQUEST + b"\xaf\x3f\x21"
    head.open(Line(300, 7, "O"))  # no meter has it: left to the UART
    assert (head._uart.settings[-1]["bits"], head._uart.settings[-1]["parity"]) == (7, 1)


def test_what_came_before_the_settings_changed_is_dropped(head: Any) -> None:
    head._uart.arrived += [b"of the old rate" * 10, b"more"]
    head.open(Line(300))
    assert not head.read() and not head.overruns


def test_a_full_buffer_is_counted(head: Any) -> None:
    head._uart.waiting = 16384
    reads(head, b"x")
    assert head.overruns == 1


class FakeTransceiverUart(FakeUart):
    """Sends a byte in each txdone() that finds some left, and says what its pin was then."""

    def write(self, data: bytes) -> int:
        self.left = len(data)
        return super().write(data)

    def txdone(self) -> bool:
        self.left = max(0, getattr(self, "left", 0) - 1)
        return not self.left


def test_a_transceivers_pin_is_high_until_the_last_bit_has_left(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.head, "UART", FakeTransceiverUart)
    transceiver = importlib.import_module("firmware.hardware.transceiver")
    levels: list[tuple[int, int]] = []  # level, bytes left

    class Pin:
        def value(self, level: int) -> None:
            levels.append((level, getattr(getattr(head, "_uart", None), "_uart", SimpleNamespace(left=0)).left))

    head: Any = None
    now = SimpleNamespace(ms=0)
    clock = SimpleNamespace(
        ticks_ms=lambda: now.ms, ticks_add=lambda a, b: a + b, ticks_diff=lambda a, b: a - b, sleep_us=lambda us: None
    )
    monkeypatch.setattr(transceiver, "time", clock)
    head = transceiver.TransceiverHead(Pin(), 1, 4, 5, False, False, 16384, SimpleNamespace(value=lambda: 1))
    head.open(Line(9600))
    head._uart._uart.left = 0
    levels.clear()
    asyncio.run(head.write(b"12345678"))
    assert levels == [(1, 0), (0, 0)] and head._uart._uart.sent == b"12345678"

    async def is_cancelled() -> None:
        """300 baud: 8 bytes take 267 ms, of which all but 40 leave the loop to others."""
        task = asyncio.create_task(head.write(b"12345678"))
        await asyncio.sleep(0)
        task.cancel()

    head.open(Line(300))
    levels.clear()
    asyncio.run(is_cancelled())
    assert levels == [(1, 0)]
    while head._uart._uart.left:
        assert head.read() == 0
    head.read()
    assert levels == [(1, 0), (0, 0)]


# --- outbox ----------------------------------------------------------------------------------------------------------


def test_the_outbox_gives_the_latest_message_of_each_topic(device: Any) -> None:
    outbox = device.outbox.Outbox()
    assert outbox.pop_unsent() is None
    outbox.put(b"a", b"1", True)
    outbox.put(b"a", b"2", True)
    outbox.put(b"b", b"3", False)
    assert outbox.replaced == 1
    assert [outbox.pop_unsent() for _ in "abc"] == [(b"a", b"2", True), (b"b", b"3", False), None]
    outbox.resend_retained()  # only what is retained is worth telling again
    assert [outbox.pop_unsent(), outbox.pop_unsent()] == [(b"a", b"2", True), None]
    outbox.put(b"b", b"4", False)
    assert outbox.pop_unsent() == (b"b", b"4", False) and outbox.replaced == 1


def test_a_value_that_waited_for_the_broker_is_not_sent_as_fresh(device: Any) -> None:
    outbox = device.outbox.Outbox()
    outbox.put(b"state", b"1", True)
    outbox.put(b"live", b"2", False)
    outbox.discard_volatile()
    assert [outbox.pop_unsent(), outbox.pop_unsent()] == [(b"state", b"1", True), None]
    outbox.put(b"live", b"3", False)
    assert outbox.pop_unsent() == (b"live", b"3", False)


def test_the_outbox_is_bounded(device: Any) -> None:
    outbox = device.outbox.Outbox()
    for n in range(20):
        outbox.put(b"topic %d" % n, b"x", True)
    taken = []
    while (message := outbox.pop_unsent()) is not None:
        taken.append(message[0])
    assert taken == [b"topic %d" % n for n in range(len(taken))]
    assert 1 < len(taken) < 20 and outbox.refused == 20 - len(taken)
    outbox.put(b"topic 0", b"y", True)  # those inside go on
    assert outbox.pop_unsent() == (b"topic 0", b"y", True)


def test_the_outbox_keeps_the_meter_to_announce(device: Any) -> None:
    outbox = device.outbox.Outbox()
    assert outbox.meter() is None
    meter = device.announcer.Meter("1OPT", "1OPT", "OPT", "", (), 60)
    outbox.announce(meter)
    assert outbox.meter() is meter


# --- Home Assistant --------------------------------------------------------------------------------------------------

READINGS = (
    Reading(bytes((1, 0, 1, 8, 0, 255)), 14798112, -3, 30),
    Reading(bytes((1, 0, 2, 8, 0, 255)), 0, -3, 30),
    Reading(bytes((1, 0, 16, 7, 0, 255)), -123, -1, 27),
    Reading(bytes((1, 0, 32, 7, 0, 255)), 2301, -1, 35),
    Reading(bytes((1, 0, 31, 7, 0, 255)), 55, -2, 33),
    Reading(bytes((1, 0, 14, 7, 0, 255)), 4999, -2, 44),
    Reading(bytes((1, 0, 16, 8, 0, 255)), 5, 0, 30),  # net energy may fall
    Reading(bytes((1, 0, 96, 1, 0, 255)), bytes.fromhex("0a014f50540000dd61e3")),
    Reading(bytes((129, 129, 199, 130, 5, 255)), bytes(48)),
    Reading(bytes((1, 0, 96, 50, 2, 6)), 7, 0, None),
)
PLATFORMS = {
    "alignment_mode": "switch",
    "capture": "button",
    "restart": "button",
    "search": "button",
    "read": "button",
    "publish_interval_s": "number",
    "pulses_per_kwh": "number",
    "protocol": "select",
    "meter_key": "text",
    "connectivity": "binary_sensor",
}


@pytest.fixture
def announcer(device: Any) -> Any:
    return device.announcer.Announcer("optoprobe", "cellar", "Zähler", "homeassistant")


@pytest.fixture
def meter(device: Any) -> Any:
    registers = tuple(describe(reading) for reading in READINGS)
    return device.announcer.Meter("1OPT0014508515", "1OPT0014508515", "OPT", "Q1", registers, 60)


def test_the_pieces_of_a_device_payload_are_one_object(device: Any, announcer: Any, meter: Any) -> None:
    for subject in (None, meter, device.announcer.Meter("", "meter", "", "", (), 60)):
        payload = announced(device, announcer, subject)
        assert set(payload) == {"dev", "o", "avty_t", "cmps"}  # HA refuses any other key at the top level
        assert payload["avty_t"] == "optoprobe/cellar/status"
        assert payload["o"]["name"] == "optoprobe" and payload["dev"]["ids"]
        there = {key: component for key, component in payload["cmps"].items() if set(component) != {"p"}}  # not to go
        unique = [component["uniq_id"] for component in there.values()]
        assert len(set(unique)) == len(unique) == (len(READINGS) if subject is meter else len(unique))
        for key, component in there.items():
            assert component["p"] == PLATFORMS.get(key, "sensor")
            assert re.fullmatch(component["p"] + r"\.[a-z0-9_]+", component["def_ent_id"])
            assert not {"avty_t", "dev", "o"} & set(component) or key == "connectivity"
        topic = device.homeassistant.device_topic(announcer, subject)
        assert topic.startswith(b"homeassistant/device/optoprobe_cellar")


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("energy_import", ("kWh", "energy", "total_increasing")),
        ("energy_export", ("kWh", "energy", "total_increasing")),
        ("power", ("W", "power", "measurement")),
        ("voltage_l1", ("V", "voltage", "measurement")),
        ("current_l1", ("A", "current", "measurement")),
        ("frequency", ("Hz", "frequency", "measurement")),
        ("energy_net", ("kWh", "energy", "total")),
        ("serial_number", (None, None, None)),
        ("public_key", (None, None, None)),
        ("obis_1_0_96_50_2_6", (None, None, "measurement")),
    ],
)
def test_unit_and_classes_of_a_register(
    device: Any, announcer: Any, meter: Any, key: str, wanted: tuple[str | None, ...]
) -> None:
    component = announced(device, announcer, meter)["cmps"][key]
    assert tuple(component.get(name) for name in ("unit_of_meas", "dev_cla", "stat_cla")) == wanted
    if wanted == (None, None, None):  # the hub would take an empty text for a state
        assert component["val_tpl"] == f"{{{{ value_json.{key} if '{key}' in value_json else this.state }}}}"
    else:
        assert component["val_tpl"] == "{{ value_json." + key + " | default('') }}"
    assert component.get("en", True) is (key not in ("public_key", "obis_1_0_96_50_2_6"))
    live = wanted[2] in ("measurement", "total")
    assert component["stat_t"] == "optoprobe/cellar/1OPT0014508515/" + ("live" if live else "state")
    assert ("exp_aft" in component) is live  # a counter is true until the next one
    assert (component.get("ent_cat") == "diagnostic") is (key in ("serial_number", "public_key", "obis_1_0_96_50_2_6"))


def test_a_text_of_entities_that_is_torn_or_missing_costs_no_more_than_its_lines(
    device: Any, announcer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(device.homeassistant_probe._FILE).read_text()
    torn = tmp_path / "probe_entities.txt"
    monkeypatch.setattr(device.homeassistant_probe, "_FILE", str(torn))
    assert announced(device, announcer, None)["cmps"] == {}
    assert capsys.readouterr().out.endswith("probe_entities.txt is missing: deploy the probe anew\n")
    torn.write_text(whole[: whole.index("uptime_s") + 3] + "\n\n. short\n" + whole[-40:])
    components = announced(device, announcer, None)["cmps"]
    assert "seen" in components and "uptime_s" not in components


def test_what_the_hub_would_call_unknown(device: Any, announcer: Any) -> None:
    """Until somebody places the head or looks for the meter there is neither score nor sentence: both have a word."""
    components = announced(device, announcer, None)["cmps"]
    score, seen = components["alignment"], components["seen"]
    assert score["val_tpl"] == "{{ value_json.score if value_json.mode == 'ON' else 0 }}"
    assert "exp_aft" not in score  # OFF is told once and stays true
    assert seen["val_tpl"] == "{{ value_json.seen | default('not looked for') }}"


def test_entities_alone_for_other_hubs(device: Any, announcer: Any, meter: Any) -> None:
    joined = announced(device, announcer, meter)
    entities = device.homeassistant_entities.entities(announcer, meter, described_by(device, meter))
    alone = {topic.decode(): json.loads(payload) for topic, payload in entities}
    assert len(alone) == len(joined["cmps"])
    for key, component in joined["cmps"].items():
        entity = alone[f"homeassistant/sensor/optoprobe_cellar_1OPT0014508515/{key}/config"]
        common = {name: joined[name] for name in ("dev", "o", "avty_t")}
        assert entity == {name: value for name, value in component.items() if name != "p"} | common
    assert all("+" not in topic and "#" not in topic for topic in alone)


class Lists:
    """Of a listener what the publisher looks at: lists of one meter, some with its name."""

    name_may_follow = True
    names_model_only = False
    n_values = 1
    pin_needed = False
    proven = vouched = sealed = True

    def __init__(self) -> None:
        self.name = ""
        self.reading = READINGS[0]

    def meter_id(self) -> str:
        return self.name

    printed_id = meter_id

    def readings(self) -> Iterator[Reading]:
        yield self.reading

    published_readings = readings
    proven = True

    def assumed_energy_factor(self) -> int:
        return 0

    def maker(self) -> str:
        return ""

    model = maker


def test_a_name_is_waited_for_and_lists_without_it_are_the_same_meters(device: Any, announcer: Any) -> None:
    lists, outbox = Lists(), device.outbox.Outbox()
    publisher = device.publisher.Publisher(lists, Guard(30_000), outbox, announcer, device.publisher.Pace(0, 10))
    assert not publisher.publish(100) and not publisher.publish(109)
    lists.name = "6970631401234567"
    assert publisher.publish(110)
    lists.name, lists.reading = "", READINGS[3]
    assert publisher.publish(112)
    meter = outbox.meter()
    assert meter.meter_id == "6970631401234567"
    assert [register.key for register in meter.registers] == ["energy_import", "voltage_l1"]
    topics = {message[0] for message in iter(outbox.pop_unsent, None)}
    assert topics == {announcer.state_topic(meter), announcer.live_topic(meter)}


def test_a_meter_that_never_names_itself_is_published_all_the_same(device: Any, announcer: Any) -> None:
    lists, outbox = Lists(), device.outbox.Outbox()
    publisher = device.publisher.Publisher(lists, Guard(30_000), outbox, announcer, device.publisher.Pace(0, 10))
    assert [publisher.publish(second) for second in (3, 8, 14)] == [False, False, False]
    assert outbox.pop_unsent() is None and outbox.meter() is None  # its name may follow
    assert publisher.publish(15) and publisher.publish(16)
    meter = outbox.meter()
    assert (meter.meter_id, meter.slug) == ("", "unnamed")
    state = announcer.state_topic(meter)
    assert [message[:2] for message in iter(outbox.pop_unsent, None)] == [(state, b'{"energy_import": "14.798112"}')]
    lists.name, lists.reading = "6970631401234567", READINGS[3]  # an hourly list has it after all
    assert publisher.publish(3600)
    meter = outbox.meter()
    assert (meter.meter_id, meter.slug) == ("6970631401234567", "unnamed")
    live = announcer.live_topic(meter)
    assert [message[:2] for message in iter(outbox.pop_unsent, None)] == [(live, b'{"voltage_l1": "230.1"}')]


def test_slugs_fit_topics_and_none_collide(device: Any) -> None:
    names = ["1OPT0014508515", "0a01", "a b", "a_b", "a-b", "a/b", "a+b", "a#b", "a.b", "ä", "a_20b", "a b ", "A B"]
    slugs = [device.announcer.slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[0-9A-Za-z_-]+", slug) for slug in slugs)
    assert device.announcer.slug("1OPT0014508515") == "1OPT0014508515"
    assert device.announcer.slug("") == "unnamed"


# --- the socket under umqtt ------------------------------------------------------------------------------------------


@pytest.fixture
def pair(device: Any) -> Iterator[tuple[Any, socket.socket]]:
    """(our socket, the broker's end), over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = device.sockets.MqttSocket(0.5)
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
        theirs.settimeout(2)
        with theirs:
            yield ours, theirs
        ours.close()


class Counting:
    """A socket whose sends are counted, and that takes at most `most` bytes at once."""

    def __init__(self, inner: socket.socket, most: int = 1 << 20) -> None:
        self._inner, self._most, self.sends = inner, most, 0

    def send(self, data: memoryview) -> int:
        self.sends += 1
        return self._inner.send(data[: self._most])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_packet_leaves_in_one_write(pair: Any) -> None:
    ours, theirs = pair
    ours._socket = Counting(ours._socket)
    for piece in (b"\x30", b"\x07", b"\x00\x01", b"t", b"abcd"):  # as umqtt writes
        ours.write(piece)
    assert ours.write(b"xyz...", 3) == 3
    assert ours._socket.sends == 0
    ours.flush()
    ours.flush()
    assert ours._socket.sends == 1
    assert theirs.recv(100) == b"\x30\x07\x00\x01tabcdxyz"


@pytest.mark.parametrize("sizes", [(5, 251), (5, 252), (200, 100, 300), (1000,), (256,), (257,), (1, 256, 1)])
@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_all_bytes_leave_in_order_however_few_are_taken_at_once(pair: Any, sizes: tuple[int, ...], most: int) -> None:
    ours, theirs = pair
    ours._socket = Counting(ours._socket, most)
    whole = b""
    for k, size in enumerate(sizes):
        piece = bytes((k * 50 + n) % 256 for n in range(size))
        whole += piece
        ours.write(piece)
    ours.flush()
    ours._socket.shutdown(socket.SHUT_WR)
    got = b""
    while piece := theirs.recv(4096):
        got += piece
    assert got == whole


def test_a_read_sends_what_waits_and_gives_exactly_what_was_asked(pair: Any) -> None:
    ours, theirs = pair
    ours.write(b"question")
    threading.Timer(0.05, lambda: [theirs.send(b"ans"), time.sleep(0.05), theirs.send(b"wer+")]).start()
    assert ours.read(6) == b"answer"
    assert theirs.recv(100) == b"question"


def test_a_read_that_must_not_wait(pair: Any) -> None:
    ours, theirs = pair
    ours.setblocking(False)
    assert ours.read(1) is None
    theirs.send(b"\xd0")
    time.sleep(0.05)
    assert ours.read(1) == b"\xd0"


def test_a_closed_connection_and_a_silent_one(pair: Any) -> None:
    ours, theirs = pair
    began_s = time.monotonic()
    with pytest.raises(OSError):
        ours.read(1)
    assert 0.3 < time.monotonic() - began_s < 2
    theirs.send(b"ab")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError):
        ours.read(3)  # cut in the middle
    assert ours.read(1) == b""


def test_an_empty_payload_is_read_without_the_line(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the ESP32 recv(0) would be taken for the end of the connection."""
    ours, theirs = pair
    theirs.send(b"x")

    class NoEmptyReads(Counting):
        def recv(self, n: int) -> bytes:
            assert n > 0
            return self._inner.recv(n)

    monkeypatch.setattr(ours, "_socket", NoEmptyReads(ours._socket))
    assert ours.read(0) == b"" and ours.read(1) == b"x"
    with pytest.raises(OSError):
        ours.read(-1)


def test_what_umqtt_calls_is_there(pair: Any) -> None:
    """Versions 1.3.4 (the host's) and 1.8.0 (today's ESP32 images) call these on their socket."""
    ours, _ = pair
    for name in ("connect", "settimeout", "setblocking", "read", "write", "close"):
        assert callable(getattr(ours, name))
    ours.settimeout(None)  # as 1.8.0 does; ours stands
    with pytest.raises(OSError):
        ours.read(1)


def test_a_read_has_a_limit(pair: Any) -> None:
    ours, theirs = pair
    theirs.send(bytes(4096))
    assert ours.read(4096) == bytes(4096)
    theirs.sendall(bytes(5000) + b"abc")  # longer: passed over, and the stream goes on
    assert ours.read(5000) is None
    assert ours.read(3) == b"abc"
    with pytest.raises(OSError, match="22"):
        ours.read(262145)


def test_an_address_once_resolved_outlasts_the_name_server(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = device.sockets.MqttSockets(0.5)
    answers: list[Any] = [OSError(-2), ["an address"], OSError(-2)]

    def resolve(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(device.sockets, "socket", SimpleNamespace(getaddrinfo=resolve))
    with pytest.raises(OSError):
        sockets.getaddrinfo("broker", 1883)
    assert sockets.getaddrinfo("broker", 1883) == ["an address"]
    assert sockets.getaddrinfo("broker", 1883) == ["an address"]


# --- whole boards ----------------------------------------------------------------------------------------------------

USER, PASSWORD, WIFI_PASSWORD = "höchst", 'Zwölf Boxkämpfer "jagen" Viktor %s', "Grüße aus dem Äther {0}"
SECRETS_S = 6
BROKEN_S = 3
STARTED_S = 15
BROKER_SAID = "optoprobe: the broker at 127.0.0.1:"


def password_line(user: str, password: str) -> str:
    """A line of mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it."""
    salt, rounds = os.urandom(12), 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"{user}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n"


def guarded_broker(folder: Path) -> Broker:
    """A mosquitto that lets in only who knows the password."""
    broker = Broker(folder, closed_port())
    (folder / "passwords").write_text(password_line(USER, PASSWORD), encoding="utf-8")
    (folder / "passwords").chmod(0o600)
    config = folder / "mosquitto.conf"
    lines = config.read_text().replace("allow_anonymous true", "allow_anonymous false")
    config.write_text(f"{lines}password_file {folder / 'passwords'}\n")
    return broker


def settings_for(port: int, **more: object) -> dict[str, object]:
    return {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": port, "probe_id": "parts", **more}


def watched(board: VirtualBoard, seconds: float, says: str) -> dict[str, Any]:
    """{"alive", "log"} so many seconds behind the first line with `says` in it; a busy computer may start it late."""
    until = time.monotonic() + STARTED_S
    while not any(says in line for line in board.log) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(seconds)
    return {"alive": board.running, "log": board.log}


def with_files(folder: Path, line_port: int, settings: bytes | None, board: bytes | None, says: str) -> dict[str, Any]:
    """A board whose files hold these bytes."""
    device = VirtualBoard(folder, None, line_port)
    if settings is not None:
        (folder / "settings.json").write_bytes(settings)
    if board is not None:
        (folder / "board.json").write_bytes(board)
    with device:
        return watched(device, BROKEN_S, says)


def with_broker(folder: Path, line_port: int, port: int, seconds: float, says: str, **more: object) -> dict[str, Any]:
    with VirtualBoard(folder, settings_for(port, **more), line_port) as board:
        return watched(board, seconds, says)


def with_secrets(folder: Path, line_port: int) -> dict[str, Any]:
    """6 s with odd passwords on a broker that asks for them, and another board that has got it wrong."""
    known = {"mqtt_user": USER, "mqtt_password": PASSWORD, "wifi_password": WIFI_PASSWORD}
    with guarded_broker(folder / "broker") as broker, Listener(broker.port, USER, PASSWORD) as listener:
        listener.subscribed()
        with ThreadPoolExecutor(2) as pool:
            wrong = {**known, "mqtt_password": PASSWORD + "!", "probe_id": "wrong"}
            other = pool.submit(with_broker, folder / "wrong", line_port, broker.port, SECRETS_S, BROKER_SAID, **wrong)
            seen = with_broker(folder / "right", line_port, broker.port, SECRETS_S, "optoprobe", **known)
            return {**seen, "messages": list(listener.messages), "wrong": other.result()}


def with_restarts(folder: Path, line_port: int) -> list[dict[str, Any]]:
    """Diagnostics of a first start and of two after the watchdog has bitten."""
    found = []
    with Broker(folder / "broker", closed_port()) as broker, Listener(broker.port) as listener:
        listener.subscribed()
        for cause in (1, 3, 3):
            began_s = time.monotonic()
            with VirtualBoard(folder / "device", settings_for(broker.port), line_port, reset_cause=cause):
                found.append(listener.wait_for("/diagnostics", 10, began_s).object())
    return found


def with_odd_broker(folder: Path, line_port: int) -> dict[str, Any]:
    """A broker that accepts connections and closes them without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return with_broker(folder, line_port, server.getsockname()[1], 3, BROKER_SAID)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def with_entities(folder: Path, line_port: int) -> dict[str, bytes]:
    """What a board announces when the hub knows no device-based discovery: topic -> payload."""
    with Broker(folder / "broker", closed_port()) as broker, Listener(broker.port) as listener:
        listener.subscribed()
        settings = settings_for(broker.port, discovery="entity", mqtt_prefix="home/meters")
        with VirtualBoard(folder / "device", settings, line_port):
            listener.wait_for("/energy_import/config", 30)
            meter = listener.wait_for("/state", 30).topic.removesuffix("/state")
            listener.wait_for(meter + "/status", 30)
        return {message.topic: message.payload for message in listener.messages}


GOOD_BOARD = json.dumps({"uart": UART}).encode()
GOOD_SETTINGS = json.dumps(settings_for(1)).encode()

# name -> (settings.json, board.json, what the log must say); None leaves out settings, keeps the board
BROKEN_FILES: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "no settings": (None, None, "no Wi-Fi is set, so nothing is published: give it on this port"),
    "cut settings": (b'{"wifi_ssid": "ho', None, "settings.json is not whole, or not JSON"),
    "binary settings": (bytes(range(256)), None, "settings.json is not whole, or not JSON"),
    "array settings": (b"[1]", None, "settings.json holds no object"),
    "large settings": (b" " * 9000 + b"{}", None, "settings.json is larger"),
    "nested settings": (b"[" * 8000, None, "settings: settings.json"),
    "bad setting": (b'{"mqtt_port": "x"}', None, "mqtt_port is not accepted"),
    "empty board": (GOOD_SETTINGS, b"", "board.json is not whole, or not JSON"),
    "binary board": (GOOD_SETTINGS, b"\xff\xfe", "board.json is not whole, or not JSON"),
    "no uart": (GOOD_SETTINGS, b"{}", "describes no uart"),
    "bad id": (GOOD_SETTINGS, b'{"uart": {"id": 9, "rx": 4}}', "uart.id must be"),
    "bad pull": (GOOD_SETTINGS, b'{"uart": {"id": 1, "rx": 4, "rx_pull": ["up"]}}', "rx_pull must be"),
}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    folder = tmp_path_factory.mktemp("parts")
    with OpticalServer(PausableMeter(SmlMeter(1))) as server, ThreadPoolExecutor(len(BROKEN_FILES) + 6) as pool:
        port = server.port
        started: dict[str, Future[Any]] = {
            "refused": pool.submit(with_broker, folder / "refused", port, closed_port(), 2, BROKER_SAID),
            "odd": pool.submit(with_odd_broker, folder / "odd", port),
            "restarts": pool.submit(with_restarts, folder / "restarts", port),
            "entities": pool.submit(with_entities, folder / "entities", port),
        }
        if runtime.mosquitto() is not None:
            started["secrets"] = pool.submit(with_secrets, folder / "secrets", port)
        for name, (settings, board, says) in BROKEN_FILES.items():
            started[name] = pool.submit(with_files, folder / name.replace(" ", "_"), port, settings, board, says)
        yield started


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_device_with_a_broken_file_lives_and_says_so(boards: dict[str, Future[Any]], case: str) -> None:
    seen = boards[case].result()
    assert seen["alive"], seen["log"]
    assert not [line for line in seen["log"] if "Traceback" in line], seen["log"]
    told = [line for line in seen["log"] if BROKEN_FILES[case][2] in line]
    assert len(told) == 1 and told[0].startswith("optoprobe: "), seen["log"]


def secret_forms(secret: str) -> list[bytes]:
    """How a secret might turn up: as it is, as JSON, in hex or base64."""
    raw = secret.encode()
    forms = [raw, json.dumps(secret)[1:-1].encode(), raw.hex().encode(), base64.b64encode(raw)[:-4]]
    return [*forms, *(part.encode() for part in secret.split() if len(part) > 4)]


def test_no_password_is_published_or_logged(boards: dict[str, Future[Any]]) -> None:
    if "secrets" not in boards:
        pytest.skip("no mosquitto: the other broker takes any password")
    seen = boards["secrets"].result()
    assert seen["alive"]
    topics = {message.topic for message in seen["messages"]}
    assert any(topic.endswith("/live") for topic in topics), seen["log"]  # the umlauts were taken: we are in
    assert any(topic.endswith("/diagnostics") for topic in topics)
    haystack = [part for message in seen["messages"] for part in (message.topic.encode(), message.payload)]
    haystack += [line.encode() for line in seen["log"] + seen["wrong"]["log"]]
    for secret in (PASSWORD, WIFI_PASSWORD):
        for form in secret_forms(secret):
            assert not [text for text in haystack if form in text], form


def network_sentences(log: list[str]) -> list[str]:
    return [line for line in log if line.startswith(BROKER_SAID)]


def test_a_wrong_password_is_named_in_one_sentence(boards: dict[str, Future[Any]]) -> None:
    if "secrets" not in boards:
        pytest.skip("no mosquitto: the other broker takes any password")
    seen = boards["secrets"].result()["wrong"]
    assert seen["alive"]
    (sentence,) = network_sentences(seen["log"])
    assert "refuses: not authorised" in sentence or "refuses: user or password" in sentence


def not_of_the_search(log: list[str]) -> list[str]:
    """Without what tells how the meter was found."""
    words = ("light seen", "nothing seen", "the light stays on", "optoprobe: dark", "first reading")
    return [line for line in log if not any(word in line for word in words)]


def test_a_port_nobody_listens_on_is_named_in_one_sentence(boards: dict[str, Future[Any]]) -> None:
    seen = boards["refused"].result()
    assert seen["alive"]
    (sentence,) = network_sentences(seen["log"])  # once, though it is tried again and again
    assert "refuses" in sentence
    assert not_of_the_search(seen["log"]) == [sentence]


def test_a_broker_that_closes_at_once_is_named_and_tried_again(boards: dict[str, Future[Any]]) -> None:
    seen = boards["odd"].result()
    assert seen["alive"]
    sentences = network_sentences(seen["log"])  # closed or reset: that depends on who was faster
    assert sentences and all(sentence != before for before, sentence in pairwise(sentences))
    assert not_of_the_search(seen["log"]) == sentences


def test_restarts_and_their_cause_are_counted(boards: dict[str, Future[Any]]) -> None:
    found = boards["restarts"].result()
    assert [(each["restarts"], each["restart_cause"]) for each in found] == [
        (0, "power on"),
        (1, "watchdog"),
        (2, "watchdog"),
    ]


def test_a_board_announces_entities_alone_where_that_is_set(boards: dict[str, Future[Any]]) -> None:
    found = boards["entities"].result()
    assert not [topic for topic in found if topic.startswith("homeassistant/device/")]
    configs = [topic for topic in found if topic.endswith("/config")]
    (energy,) = [topic for topic in configs if topic.endswith("/energy_import/config")]
    entity = json.loads(found[energy])
    assert entity["stat_t"].startswith("home/meters/parts/") and entity["stat_t"] in found
    meter = entity["stat_t"].rsplit("/", 1)[0]
    assert entity["avty"] == [{"t": "home/meters/parts/status"}, {"t": meter + "/status"}]
    assert entity["avty_mode"] == "all" and found[meter + "/status"] == b"online"
    assert "p" not in entity
    state = json.loads(found[entity["stat_t"]])
    assert {f"{energy.rsplit('/', 2)[0]}/{key}/config" for key in state} <= set(configs)
