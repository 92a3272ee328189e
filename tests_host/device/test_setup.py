"""The set-up: its name server, form and page, which any bytes reach; and one pass through it on a virtual board."""

import asyncio
import contextlib
import importlib
import json
import os
import random
import socket
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from support.broker import Listener, wait_until
from support.page_client import PageClient
from support.slow_clients import slow_clients

from optoprobe.building import device_tree
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

WAIT_S = 120
HEAP_BYTES = 200 * 1024
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01"
ADDRESS = bytes((192, 168, 4, 1))


@pytest.fixture
def setup(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    parts = {name: importlib.import_module(f"firmware.setup.{name}") for name in ("name_server", "setup_form")}
    return SimpleNamespace(answer=parts["name_server"].answer, form=parts["setup_form"])


@pytest.fixture
def beside(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    # An access point that is on, as a soft reset leaves it without a page.
    station = SimpleNamespace(active=lambda *_: True, disconnect=lambda: None)
    network = SimpleNamespace(STA_IF=0, AP_IF=1, WLAN=lambda interface: station)
    monkeypatch.setitem(sys.modules, "network", network)  # type: ignore[arg-type]
    return importlib.import_module("firmware.setup.setup_beside")


def test_every_name_is_the_probes_and_any_bytes_are_bounded(setup: Any) -> None:
    said = setup.answer(QUERY, ADDRESS)
    assert said[:2] == QUERY[:2] and said[2] == 0x85 and said[6:8] == b"\0\1" and said[-4:] == ADDRESS
    no_address = setup.answer(QUERY[:-3] + b"\x1c\0\1", ADDRESS)  # AAAA
    assert no_address[6:8] == b"\0\0" and len(no_address) == len(QUERY)
    chance = random.Random(17)
    for _ in range(3000):
        query = bytearray(QUERY)
        for _ in range(chance.randrange(4)):
            query[chance.randrange(len(query))] = chance.randrange(256)
        query = query[: chance.randrange(len(query) + 1)] + chance.randbytes(chance.choice((0, 0, 9, 600)))
        said = setup.answer(bytes(query), ADDRESS)
        assert said is None or said[:2] == query[:2] and len(said) <= len(query) + 16 <= 528
    assert setup.answer(said or QUERY[:2] + b"\x81" + QUERY[3:], ADDRESS) is None  # an answer is none of ours


def test_a_flood_of_queries_holds_nobody_up(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bytes, names that point at themselves, overlong ones: a few are looked at, then it is others' turn."""
    module = importlib.import_module("firmware.setup.name_server")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setattr(module, "_PORT", free.getsockname()[1])
        server = module.NameServer("127.0.0.1")
        try:
            chance = random.Random(18)
            loop = QUERY[:12] + b"\xc0\x0c" + QUERY[-4:]
            long = QUERY[:12] + b"\x01a" * 200 + QUERY[-5:]
            odd = (loop, QUERY[:12] + b"\x3f" + b"a" * 400, long, b"", bytes(1400))
            for n in range(50):
                for _ in range(4):
                    phone.sendto(chance.choice((*odd, chance.randbytes(60))), ("127.0.0.1", module._PORT))
                if n == 49:
                    phone.sendto(QUERY, ("127.0.0.1", module._PORT))
                server.look()
            with pytest.raises(BlockingIOError):
                phone.recv(600)
            server.look()
            assert phone.recv(600)[-4:] == bytes((127, 0, 0, 1))
        finally:
            server.close()


def test_each_field_is_refused_in_a_sentence_and_nothing_is_written(setup: Any) -> None:
    wrong = {"wifi_ssid": "", "mqtt_host": "h" * 65536, "mqtt_port": 0, "meter_key": "hidden", "pulses_per_kwh": "x"}
    new, faults = setup.form.merged(wrong | {"probe_name": None, "tls": "new", "device_password": "hidden it is"})
    assert new is None and set(faults) == {*wrong, "probe_name", "tls", "other"}
    assert not any("hidden" in sentence for sentence in faults.values())
    assert not os.listdir()
    Path("settings.json").write_text('{"wifi_ssid": "old", "wifi_password": "kept", "later": [1], "mqtt_tls_ca": "a"}')
    new, faults = setup.form.merged({"wifi_ssid": "QR\n", "tls": "off"})
    assert not faults and new == {"wifi_ssid": "QR", "wifi_password": "kept", "later": [1], "settings_version": 1}


@pytest.mark.parametrize("path", ["/api/test", "/api/scan"])
def test_of_two_requests_that_come_at_once_one_is_refused(setup: Any, path: str) -> None:
    page = importlib.import_module("firmware.setup.setup_page")
    begun: list[str] = []

    async def read_object(_most: int) -> dict[str, Any]:
        set_up.busy = "test"  # the other's has come whole meanwhile
        return {}

    def begin(*_: Any) -> None:
        begun.append(path)

    set_up = SimpleNamespace(busy="", result="", host="192.168.4.1", address="192.168.4.1", test=begin, scan=begin)
    headers = {"host": "192.168.4.1", "origin": "http://192.168.4.1"}
    exchange = SimpleNamespace(method="POST", path=path, headers=headers, read_object=read_object)
    with pytest.raises(page.Refused) as refused:
        asyncio.run(page.admit(set_up, exchange))
    assert refused.value.status == 409 and not begun


def test_a_pasted_certificate_is_whole_or_refused(setup: Any, tmp_path: Path) -> None:
    pem = OwnCa(tmp_path / "ca").certificate.read_bytes()

    def given(text: bytes) -> str:
        taker = setup.form.CaTaker()
        for at in range(0, len(text), 100):
            taker.take(text[at : at + 100])
        fault = taker.finish()
        assert Path(setup.form.TRIED_CA).exists() is not bool(fault)
        return fault

    lines = pem.splitlines(keepends=True)
    halves = pem[:-40], pem[: len(pem) // 2], lines[0] + lines[-1]
    for text in (b"", *halves, pem + pem, b"x" * 9000):
        assert given(text)
    assert given(b"".join(lines[:2] + lines[3:]))
    assert not given(pem) and not given(pem.strip()) and not given(pem.replace(b"\n", b"\r\n"))
    full = setup.form.CaTaker()
    full.take(pem)
    full._file.close()
    full._file = open("/dev/full", "wb")
    full._file.write(b"a")
    assert "cannot be written" in full.finish() and not Path(setup.form.TRIED_CA).exists()
    assert not given(pem)
    assert setup.form.keep(setup.form.merged({"wifi_ssid": "a", "tls": "new"})[0])
    assert json.loads(Path("settings.json").read_text())["mqtt_tls_ca"] == "mqtt_ca.der"
    given(pem)
    assert setup.form.keep(setup.form.merged({"wifi_ssid": "a", "tls": "new"})[0])  # beside the old, then in its place
    assert json.loads(Path("settings.json").read_text())["mqtt_tls_ca"] == "mqtt_ca_2.der"
    assert not Path("mqtt_ca.der").exists() and Path("mqtt_ca_2.der").exists()


def test_a_new_probe_is_set_up_and_reads(tmp_path: Path) -> None:
    client = PageClient(free_port())
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter(1))) as light:
        air = [("Home", -60, "secret pass")]
        board = VirtualBoard(tmp_path / "device", {"page_port": client.port}, light.port, air=air)
        with board, Listener(broker.port) as listener:
            wait_until(client.is_there, WAIT_S, "the set-up does not listen")
            wait_until(lambda: bool(client.ask("GET", "/api/state").object()["networks"]), WAIT_S, "no network")
            assert client.ask("GET", "/api/state").object()["networks"] == [["Home", -60, True]]
            opened = json.loads((tmp_path / "device" / "access_point").read_text())
            before = json.loads((tmp_path / "device" / "settings.json").read_text())
            assert (opened["security"], opened["key"]) == (3, before["setup_password"]) and len(opened["key"]) == 12
            elsewhere = {"Host": "connectivity.example"}
            assert client.ask("GET", "/generate_204", elsewhere).headers["location"] == f"http://{client.host}/"
            right = {"wifi_ssid": "Home", "wifi_password": "secret pass", "mqtt_host": "127.0.0.1", "tls": "off"}
            right |= {"mqtt_port": broker.port}
            assert client.ask("POST", "/api/test", elsewhere, right).status == 421
            assert client.ask("POST", "/api/test", {"Origin": "http://elsewhere.example"}, right).status == 403
            assert client.ask("POST", "/api/test", {"Origin": ""}, right).status == 403
            assert client.ask("POST", "/api/test", body=b"x" * 65536).status in (0, 413)
            wrong = {"wifi_password": "wrong"}, {"mqtt_port": free_port()}, {}
            for change, result in zip(wrong, ("wifi", "broker", "kept"), strict=True):
                assert client.ask("POST", "/api/test", body=right | change).object() == {"faults": {}}
                until_s = time.monotonic() + WAIT_S
                while not (state := client.ask("GET", "/api/state").object())["result"]:
                    assert time.monotonic() < until_s, board.log
                    time.sleep(0.1)
                assert state["result"] == result, board.log
                kept = json.loads((tmp_path / "device" / "settings.json").read_text())
                set_now = {key: value for key, value in right.items() if key != "tls"} | {"settings_version": 1}
                assert kept == (before | set_now if result == "kept" else before)
            listener.wait_for("/live", WAIT_S)
        assert b"secret pass" not in b"".join(client.seen) and not any("secret pass" in line for line in board.log)


# --- safe mode -------------------------------------------------------------------------------------------------------

FAULTY = """
import boot
import machine
import os
from firmware.hardware import health

if "faulty" in os.listdir() and not health.why_alone:
    machine.reset()
import main
"""


def test_five_quick_starts_end_in_the_set_up_which_says_why_and_ends_with_a_change(tmp_path: Path) -> None:
    client = PageClient(free_port())
    start = device_tree.on_board(device_tree.name_map(False).apply("firmware/app.py", FAULTY))
    device = tmp_path / "device"
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter(1))) as light:
        settings: dict[str, object] = {"wifi_ssid": "Home", "wifi_password": "secret pass", "protocol": "sml"}
        settings |= {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "page_port": client.port, "probe_id": "cellar"}
        settings["setup_password"] = "a known one"
        options: dict[str, Any] = {"air": [("Home", -60, "secret pass")], "heap_bytes": HEAP_BYTES, "start": start}
        board = VirtualBoard(device, settings, light.port, **options)
        (device / "faulty").touch()
        with board, Listener(broker.port) as hub:
            wait_until(client.is_there, WAIT_S, "the set-up does not listen")
            assert board.resets == [2] * 5 and not light.telegrams_sent
            state = client.ask("GET", "/api/state").object()
            assert state["why"] == "safe" and state["settings"]["mqtt_port"] == broker.port
            assert state["notice"].startswith("safe mode: the probe has restarted five times")
            assert any("safe mode: the probe has restarted five times" in line for line in board.log)
            kept = (device / "rtc_memory").read_bytes()
            assert b"safe mode: the probe has restarted" in kept and b"a known one" not in kept
            (device / "faulty").unlink()
            wait_until(lambda: not client.ask("GET", "/api/state").object()["busy"], WAIT_S, "it looks for networks")
            assert client.ask("POST", "/api/test", body={"probe_name": "Keller"}).object() == {"faults": {}}
            hub.wait_for("/live", WAIT_S)
            hub.wait_for("/diagnostics", WAIT_S)
            hub.publish("optoprobe/cellar/order/set", "log")
            log = json.loads(hub.wait_for("/cellar/log", WAIT_S).payload)
            assert [line[0][:9] for line in log[-2:]] == ["safe mode", "started: "]
            assert json.loads((device / "settings.json").read_text())["probe_name"] == "Keller"
        assert not any(b"a known one" in message.payload for message in hub.messages)


def test_a_probe_that_is_set_up_alone_is_wiped_by_its_button(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "network", SimpleNamespace())  # type: ignore[arg-type]
    alone = importlib.import_module("firmware.setup.setup_alone")
    levels = iter([1] * 3 + [0] * 19 + [1] + [0] * 20)  # 9.5 s, then ten
    wiped: list[Any] = []

    class Wipe:
        def __init__(self, services: Any) -> None:
            self.services = services

        async def run(self) -> None:
            wiped.append((self.services, next(levels, "no more")))

    async def sleep_ms(ms: int) -> None:
        assert ms == 500

    board = SimpleNamespace(button=lambda path: SimpleNamespace(value=lambda: next(levels)))
    monkeypatch.setattr(alone, "call", lambda path, ask: ask(board))
    monkeypatch.setattr(alone.asyncio, "sleep_ms", sleep_ms, raising=False)
    monkeypatch.setitem(sys.modules, "firmware.owner.wipe", SimpleNamespace(Wipe=Wipe))  # type: ignore[arg-type]
    asyncio.run(alone._heed_button("services"))
    assert wiped == [("services", "no more")]
    board.button = lambda path: None
    asyncio.run(alone._heed_button("services"))
    assert len(wiped) == 1


@pytest.mark.parametrize(
    ("why", "used_until_s", "ends_s", "cause"),
    [("SAFE_MODE", 0, 600, 4), ("SAFE_MODE", 700, 800, 4), ("ASKED_FOR", 0, 600, 3), ("NO_WIFI", 0, None, 0)],
)
def test_set_up_alone_ends_by_itself_but_not_beneath_a_client(
    device: Any, monkeypatch: pytest.MonkeyPatch, why: str, used_until_s: int, ends_s: int | None, cause: int
) -> None:
    """Where there are settings to meter with: what has ended metering may have passed."""
    monkeypatch.setitem(sys.modules, "network", SimpleNamespace())  # type: ignore[arg-type]
    alone = importlib.import_module("firmware.setup.setup_alone")
    restarts = importlib.import_module("firmware.hardware.restarts")
    health = SimpleNamespace(uptime_s=0, restart_cause="watchdog", reader_progressed=lambda: None)
    ended: list[tuple[int, int]] = []

    class SetUp:
        def __init__(self, *_: Any) -> None: ...

        open = scan = lambda *_: ""

        def is_idle(self, s: int) -> bool:
            return health.uptime_s > used_until_s + s

    async def nothing(*_: Any) -> None: ...

    async def look(opened: Any, goes_on: Any) -> None:
        while goes_on():
            health.uptime_s += 100
            assert health.uptime_s < 5000

    def called(path: str, ask: Any) -> Any:
        return ask(restarts) if path.endswith("restarts") else None

    health.run = nothing
    services = SimpleNamespace(health=health)
    set_up = SimpleNamespace(SetUp=SetUp, look_every_few_ms=look, password_of=None)
    monkeypatch.setitem(sys.modules, "firmware.owner.console_watch", SimpleNamespace(watch=nothing))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "firmware.setup.set_up", set_up)  # type: ignore[arg-type]
    monkeypatch.setattr(sys.modules["firmware.setup"], "set_up", set_up, raising=False)
    monkeypatch.setattr(restarts, "restart", lambda cause: ended.append((health.uptime_s, cause)))
    stand_ins = {"_load_settings": lambda: ({}, []), "_Services": lambda values: services, "call": called}
    for name, stand_in in (stand_ins | {"_end_wipe": nothing}).items():
        monkeypatch.setattr(alone, name, stand_in)
    with contextlib.nullcontext() if ends_s else pytest.raises(AssertionError):
        asyncio.run(alone._run(getattr(alone, why)))
    assert ended == ([(ends_s, cause)] if ends_s else [])


# --- beside metering -------------------------------------------------------------------------------------------------

BESIDE = """
import asyncio
import boot
from firmware.app import App

async def press(app):
    while app.services.published_s is None:
        await asyncio.sleep_ms(100)
    app._order("button", None, "firmware.setup.setup_beside")

async def run():
    app = App()
    asyncio.create_task(press(app))
    await app.run()

asyncio.run(run())
"""


def test_the_button_opens_it_beside_metering_which_goes_on(tmp_path: Path) -> None:
    client = PageClient(free_port())
    start = device_tree.on_board(device_tree.name_map(False).apply("firmware/app.py", BESIDE))
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter(1))) as light:
        settings: dict[str, object] = {"wifi_ssid": "Home", "wifi_password": "secret pass", "protocol": "sml"}
        settings |= {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "page_port": client.port, "probe_id": "cellar"}
        settings |= {"setup_password": "a known one", "publish_interval_s": 0}
        air = [("Home", -60, "secret pass")]
        options: dict[str, Any] = {"air": air, "heap_bytes": HEAP_BYTES, "start": start}
        with VirtualBoard(tmp_path / "device", settings, light.port, **options) as board, Listener(broker.port) as hub:
            hub.wait_for("/live", WAIT_S)
            wait_until(client.is_there, WAIT_S, "the set-up does not listen")
            assert client.ask("GET", "/api/state").object()["why"] == "button"
            assert any("join the Wi-Fi cellar with the password a known one" in line for line in board.log)
            before = (tmp_path / "device" / "settings.json").read_text()
            assert client.ask("POST", "/api/test", body={"wifi_password": "wrong"}).object() == {"faults": {}}
            wait_until(lambda: client.ask("GET", "/api/state").object()["result"] == "wifi", WAIT_S, "no result")
            assert (tmp_path / "device" / "settings.json").read_text() == before
            began_s = time.monotonic()
            hub.wait_for("/live", WAIT_S, began_s)  # it is back in the Wi-Fi that it knows
            with slow_clients(client.port, "/api/test") as thrown_out:
                time.sleep(7)  # longer than a request may take
            began_s = time.monotonic()
            assert client.ask("GET", "/api/state").status == 200 and time.monotonic() - began_s < 25
            assert len(thrown_out) >= 2, thrown_out
            hub.publish("homeassistant/status", "online")
            told = hub.wait_for("/diagnostics", WAIT_S, began_s).object()
            assert told["mqtt_connects"] >= 2 and not told["out_of_memory"] and not told["overruns"]
            assert client.ask("POST", "/api/test", body={"probe_name": "Keller"}).object() == {"faults": {}}
            hub.wait_for("/live", WAIT_S, time.monotonic())
            wait_until(lambda: bool(board.resets), WAIT_S, "it does not restart")
            assert json.loads((tmp_path / "device" / "settings.json").read_text())["probe_name"] == "Keller"
            # But for the wrong password it is told of no fault: the Wi-Fi was lent to a scan and two trials.
            faults = [line for line in board.log if "cannot be joined" in line or "was lost" in line]
            assert len(faults) == 1 and "the settings stay as they were" in faults[0]


class Figures(NamedTuple):
    """Stands for firmware.hardware.memory_figures."""

    free: int
    largest: int | None = None

    def room(self) -> int:
        return self.free

    def regions(self) -> tuple[Any, ...]:
        return () if self.largest is None else ((0, 0, self.largest, 0),)

    def largest_block(self) -> int:
        return self.largest or 0


def test_it_is_not_opened_beside_metering_where_it_would_not_fit(beside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    told: list[str] = []
    memory = SimpleNamespace(figures=Figures(100_000))
    restarts = SimpleNamespace(FOR_SET_UP=5, restart=asked.append)
    monkeypatch.setattr(beside, "call", lambda path, ask: ask(memory.figures if "figures" in path else restarts))
    monkeypatch.setattr(beside.asyncio, "create_task", asked.append)
    monkeypatch.setattr(beside, "_run", lambda services, why, tell: why)
    services = SimpleNamespace(network=SimpleNamespace(settings={"mqtt_host": "broker"}))

    def carry_out(why: str) -> None:
        beside.carry_out(why, services, told.append)

    for why in ("button", "away"):
        carry_out(why)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "firmware.setup.set_up", ModuleType("firmware.setup.set_up"))
            carry_out(why)  # it is open
    services.network.settings["mqtt_host"] = ""
    carry_out("away")
    assert asked == ["button", "away", "broker"] and not told
    for figures in (Figures(20_000), Figures(100_000, 20_000)):
        memory.figures = figures
        asked.clear()
        carry_out("away")
        assert not asked and "20000" in told.pop() and not told
        carry_out("button")
        assert asked == [restarts.FOR_SET_UP] and not told


@pytest.mark.parametrize("was_soft", [True, False])
def test_what_a_soft_reset_has_left_open_is_closed(
    device: Any, monkeypatch: pytest.MonkeyPatch, was_soft: bool
) -> None:
    simple = SimpleNamespace(MQTTClient=object)
    monkeypatch.setitem(sys.modules, "umqtt", SimpleNamespace(simple=simple))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "umqtt.simple", simple)  # type: ignore[arg-type]
    composition = importlib.import_module("firmware.composition")
    closed: list[bool] = []
    access_point = SimpleNamespace(close_access_point=lambda: closed.append(True))
    restarts = SimpleNamespace(was_soft=lambda: was_soft)
    monkeypatch.setattr(composition, "call", lambda path, ask: ask(restarts if "restarts" in path else access_point))
    composition._close_access_point()
    assert bool(closed) is was_soft


def test_the_known_wifi_is_tried_seldom_and_not_while_somebody_is_there(
    beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = SimpleNamespace(uptime_s=0, network_progressed=lambda: None)
    tried_s: list[int] = []

    class Away:
        hostname = "cellar"
        is_there = False

        def is_joined(self) -> bool:
            return False

        def join(self, anew: bool) -> None:
            tried_s.append(health.uptime_s)
            if not self.is_there:
                health.uptime_s += 20
                raise beside.NoWifi

    def pass_time(ms: int) -> None:
        health.uptime_s += ms // 1000

    there = SimpleNamespace(until_s=0)
    services = SimpleNamespace(network=SimpleNamespace(wifi=Away(), failed_in_a_row=1), health=health)
    set_up = SimpleNamespace(is_idle=lambda s: health.uptime_s > there.until_s)
    seldom = services.network.wifi = beside._SeldomWifi(services, set_up)
    monkeypatch.setattr(beside.time, "sleep_ms", pass_time, raising=False)
    for until_s in (0, 0, 300, 99_999):
        there.until_s = until_s
        with pytest.raises(beside.NoWifi):
            seldom.join(False)
    assert tried_s == [60, 120, 301, 901]
    seldom.wifi.is_there = True
    for until_s in (0, 99_999):  # a trial has left it the second time
        there.until_s = until_s
        seldom.join(False)
    assert tried_s[4:] == [961, 961]
    seldom.wifi.is_there = False
    with pytest.raises(beside.NoWifi):
        seldom.join(False)
    services.network.wifi = None  # a trial wants the chip's
    with pytest.raises(beside.NoWifi):
        seldom.join(False)
    assert len(tried_s) == 7


class Radio:
    """`network`: WLAN(interface) is itself; its methods are what the test gives."""

    STA_IF, AP_IF = 0, 1

    def __init__(self, **methods: Any) -> None:
        self.calls: list[Any] = []
        self.__dict__.update(methods)

    def WLAN(self, interface: int) -> "Radio":
        self.calls.append(interface)
        return self

    def active(self, on: bool) -> None:
        self.calls.append(on)


def test_a_driver_that_opens_no_access_point_is_an_oserror(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that MicroPython has no words for is a RuntimeError on the ESP32 (network_common.c)."""

    def config(*_: object, **__: object) -> None:
        raise RuntimeError("Wifi Unknown Error 0x0102")

    radio = Radio(config=config)
    monkeypatch.setitem(sys.modules, "network", radio)  # type: ignore[arg-type]
    access_point = importlib.import_module("firmware.setup.access_point")
    monkeypatch.setattr(access_point, "network", radio)
    with pytest.raises(OSError, match="0x0102"):
        access_point.open_access_point("cellar", "12345678")
    assert radio.calls[-2:] == [Radio.AP_IF, False]
    monkeypatch.setattr(Radio, "active", config)
    access_point.close_access_point()


def test_a_trials_code_is_loaded_before_its_thread(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a chip an import takes more stack than a thread has."""
    simple = SimpleNamespace(MQTTClient=None, MQTTException=type("MQTTException", (Exception,), {}))
    umqtt, tls = SimpleNamespace(simple=simple), SimpleNamespace()
    for name, module in {"network": Radio(), "umqtt": umqtt, "umqtt.simple": simple, "tls": tls}.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    for name in ("firmware.mqtt.tls_sockets", "firmware.setup.setup_trial"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    trial = importlib.import_module("firmware.setup.setup_trial")
    loaded: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        trial.WifiTrial, "start", lambda _, more=0: loaded.append((more, "firmware.mqtt.tls_sockets" in sys.modules))
    )
    values = {"wifi_ssid": "home", "wifi_password": "", "mqtt_host": "broker", "mqtt_tls_ca": ""}
    for ca in ("", "ca.der"):
        trial.SetupTrial(SimpleNamespace(probe_id="cellar"), None, values | {"mqtt_tls_ca": ca}).begin()
    assert loaded == [(0, False), (8192, True)]


@pytest.mark.parametrize("what", ["scan", "test"])
def test_a_shortage_of_memory_at_a_trials_end_leaves_the_page_usable(
    beside: Any, setup: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    class Networks(list[Any]):
        def __iter__(self) -> Any:
            raise MemoryError

    module = importlib.import_module("firmware.setup.set_up")
    trial = SimpleNamespace(is_done=True, networks=Networks(), error=None)
    monkeypatch.setitem(sys.modules, "firmware.setup.setup_trial", SimpleNamespace(kind_of=None))  # type: ignore[arg-type]
    monkeypatch.setattr(setup.form.store.json, "load", lambda _: list(Networks()))
    Path("settings.json").write_text('{"mqtt_host": "broker"}')
    settings = {"page_port": 80}
    network = SimpleNamespace(probe_id="cellar", settings=settings)
    opened = module.SetUp(SimpleNamespace(network=network, health=SimpleNamespace(uptime_s=0)), "new", lambda: "")
    opened.busy, opened._trial, opened._tried = what, trial, {"wifi_ssid": "home"}
    opened.look()
    assert opened.busy == "" and opened.result == ("flash" if what == "test" else "")
    assert bool(opened.words) == (what == "test") and Path("settings.json").read_text() == '{"mqtt_host": "broker"}'
    with pytest.raises(MemoryError):  # the page says that memory has run out
        setup.form.merged({"wifi_ssid": "home"})


@pytest.mark.parametrize("refuses", [OSError, RuntimeError, None])
def test_an_access_point_that_cannot_be_set_before_it_is_on_is_set_then(
    device: Any, monkeypatch: pytest.MonkeyPatch, refuses: type[Exception] | None
) -> None:
    given: dict[str, Any] = {}

    def config(what: str = "", **values: object) -> object:
        if values and refuses and True not in radio.calls:
            raise refuses
        given.update(values)
        return given.get(what)

    radio = Radio(config=config, ifconfig=lambda: ("192.168.4.1",))
    monkeypatch.setitem(sys.modules, "network", radio)  # type: ignore[arg-type]
    access_point = importlib.import_module("firmware.setup.access_point")
    monkeypatch.setattr(access_point, "network", radio)
    assert access_point.open_access_point("cellar", "12345678") == "192.168.4.1"
    assert (given["ssid"], given["key"], given["security"]) == ("cellar", "12345678", 3) and radio.calls[-1] is True
    given["security"] = 0
    monkeypatch.setattr(radio, "config", lambda what="", **_: given.get(what))
    with pytest.raises(OSError, match="open"):
        access_point.open_access_point("cellar", "12345678")
    assert radio.calls[-1] is False


def test_a_password_is_made_with_the_radio_on(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that the chip's random numbers are weak ones."""
    radio = Radio()
    monkeypatch.setitem(sys.modules, "network", radio)  # type: ignore[arg-type]
    access_point = importlib.import_module("firmware.setup.access_point")
    monkeypatch.setattr(access_point, "network", radio)
    drawn: list[list[Any]] = []

    def urandom(n: int) -> bytes:
        drawn.append(list(radio.calls))
        return bytes(range(n))

    monkeypatch.setattr(access_point, "os", SimpleNamespace(urandom=urandom))
    assert access_point.make_password() == "abcdefghjkmn" and drawn == [[Radio.STA_IF, True]]
