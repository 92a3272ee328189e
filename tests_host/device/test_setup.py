"""The set-up: its name server, form and page, which any bytes reach; and one pass through it on a virtual board."""

import importlib
import json
import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.broker import Listener, wait_until
from support.page_client import PageClient

from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.optical_server import MeterSource, OpticalServer
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter

WAIT_S = 120
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01"
ADDRESS = bytes((192, 168, 4, 1))


@pytest.fixture
def setup(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    parts = {name: importlib.import_module(f"firmware.setup.{name}") for name in ("name_server", "setup_form")}
    return SimpleNamespace(answer=parts["name_server"].answer, form=parts["setup_form"])


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


def test_each_field_is_refused_in_a_sentence_and_nothing_is_written(setup: Any) -> None:
    wrong = {"wifi_ssid": "", "mqtt_host": "h" * 65536, "mqtt_port": 0, "meter_key": "hidden", "pulses_per_kwh": "x"}
    new, faults = setup.form.merged(wrong | {"probe_name": None, "tls": "new", "device_password": "hidden it is"})
    assert new is None and set(faults) == {*wrong, "probe_name", "tls", "other"}
    assert not any("hidden" in sentence for sentence in faults.values())
    assert not os.listdir()
    Path("settings.json").write_text('{"wifi_ssid": "old", "wifi_password": "kept", "later": [1], "mqtt_tls_ca": "a"}')
    new, faults = setup.form.merged({"wifi_ssid": "QR\n", "tls": "off"})
    assert not faults and new == {"wifi_ssid": "QR", "wifi_password": "kept", "later": [1], "settings_version": 1}


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
