"""What the owner orders from the hub: restart, search, one setting, which is checked, in force from a restart on."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.announced import announced as sent_as
from support.virtual_time import LightOnly, Probe

from optoprobe.virtual.sml_meter import SmlMeter

ORDER = "optoprobe/cellar/order/set"
KEY = "0123456789ABCDEF0123456789abcdef"


class Restarted(Exception):
    """The firmware has asked the chip for it."""


@pytest.fixture
def probe(tmp_path: Path) -> Any:
    with Probe(tmp_path, SmlMeter(1), {"protocol": "auto", "of_a_later_version": [1]}) as probe:
        yield probe


def settings(folder: Path) -> Any:
    return json.loads((folder / "settings.json").read_text())


def order(probe: Probe, payload: str | bytes) -> str:
    """Returns what it is told, and restarts the probe where it asks for it."""
    machine = probe.modules.load("machine")

    def reset() -> None:
        raise Restarted

    machine.reset = reset
    probe.say(ORDER, payload)  # type: ignore[arg-type]
    try:
        probe.run_for(5)
        said = probe.notice()
        if probe.now_s - probe.started_s < 70:
            probe.run_for(65)
    except Restarted:
        said = probe.notice()
        probe.restart(power_cut=False)
        probe.run_for(1)
    return said


def announced(probe: Probe) -> Any:
    return json.loads(probe.retained["homeassistant/device/optoprobe_cellar/config"])


def test_a_setting_is_saved_and_in_force_behind_a_restart(probe: Probe, tmp_path: Path) -> None:
    for key, text in (
        ("publish_interval_s", "30"),
        ("pulses_per_kwh", "75"),
        ("protocol", "sml"),
        ("meter_key", KEY),
    ):
        probe.run_for(61)
        before = settings(tmp_path)
        before_s = probe.started_s
        assert "changed" in order(probe, f"{key}={text}")
        assert probe.started_s > before_s
        value = int(text) if text.isdigit() and key != "meter_key" else text
        assert settings(tmp_path) == {**before, key: value}
        in_force = probe.app.services.network.settings[key]
        assert in_force == (bytes.fromhex(KEY) if key == "meter_key" else value)
        assert probe.diagnostics()["restart_cause"] == "asked for"
        component = announced(probe)["cmps"][key]
        if key == "pulses_per_kwh":  # of no use where telegrams are read
            assert component == {"p": "number"}
        else:
            assert component["val_tpl"] == ("given" if key == "meter_key" else text)
    assert not any(KEY.upper().encode() in message.payload.upper() for message in probe.published)
    assert not any(KEY in line for line in probe.log)


REFUSED: list[Any] = [
    "publish_interval_s=3601",
    "publish_interval_s=-1",
    "publish_interval_s=",
    "publish_interval_s=1e3",
    "publish_interval_s=" + "9" * 60,
    "pulses_per_kwh=0",
    "protocol=http",
    "protocol=",
    "meter_key=" + KEY[1:],
    "meter_key=" + "z" * 32,
    "wifi_password=x",
    "mqtt_host=evil",
    "discovery=off",
    "restart=",
    "RESTART",
    "",
    "x" * 4000,
    b"\xff\xfe=\x00",
    '{"publish_interval_s": 5}',
]


def test_what_is_no_order_or_no_value_is_refused_in_a_sentence(probe: Probe, tmp_path: Path) -> None:
    probe.run_for(61)
    before = settings(tmp_path)
    before_s = probe.started_s
    for payload in REFUSED:
        del probe.log[:]
        said = order(probe, payload)
        assert "refused" in said and len(said) < 200, (payload, said)
        assert KEY[1:] not in said
        assert any("refused" in line for line in probe.log), payload
        probe.run_for(6)  # each order its rest
    assert settings(tmp_path) == before and probe.started_s == before_s


def test_an_order_restarts_nothing_in_the_first_minute_and_no_retained_one_ever(probe: Probe) -> None:
    probe.run_for(10)
    probe.retained[ORDER] = b"restart"
    assert "restart" in order(probe, "restart")
    assert 60 <= probe.started_s < 63  # never one of a quick row
    probe.run_for(130)
    assert 60 <= probe.started_s < 63
    assert probe.diagnostics()["mqtt_ignored_by_reason"]["retained"] >= 1


def test_search_forgets_the_meter_and_a_meter_that_is_named_is_not_looked_for(probe: Probe, tmp_path: Path) -> None:
    assert probe.run_until(90, done=lambda: probe.of("/state"))
    probe.run_for(61)
    assert (tmp_path / "detected.json").exists()
    found = []
    machine = probe.modules.load("machine")

    def reset() -> None:
        found.append((tmp_path / "detected.json").exists())
        raise Restarted

    machine.reset = reset
    probe.say(ORDER, "search")
    with pytest.raises(Restarted):
        probe.run_for(10)
    assert found == [False]
    probe.restart(power_cut=False)
    probe.run_for(61)
    assert "changed" in order(probe, "protocol=sml")
    probe.run_for(61)
    assert "refused" in order(probe, "search")


def test_an_unwritable_flash_leaves_the_old_settings(probe: Probe, tmp_path: Path) -> None:
    probe.run_for(61)
    before = (tmp_path / "settings.json").read_bytes()
    (tmp_path / "settings.json.new").mkdir()
    assert "cannot be written" in order(probe, "publish_interval_s=30")
    assert (tmp_path / "settings.json").read_bytes() == before


def test_a_value_that_is_there_already_restarts_nothing(probe: Probe) -> None:
    probe.run_for(61)
    before_s = probe.started_s
    assert "before" in order(probe, "publish_interval_s=0")
    assert probe.started_s == before_s


def test_the_hubs_choice_of_protocols_is_that_of_the_settings(device: Any, probe: Probe) -> None:
    probe.run_for(3)
    offered = announced(probe)["cmps"]["protocol"]["ops"]
    assert offered == probe.modules.load("firmware.settings")._PROTOCOLS


def test_the_time_since_a_value_was_published_is_told(probe: Probe) -> None:
    assert probe.run_until(90, done=lambda: probe.of("/state"))
    assert 0 <= probe.diagnostics()["published_ago_s"] < 5
    probe.swap(LightOnly(()))
    probe.run_for(40)
    assert 35 <= probe.diagnostics()["published_ago_s"] < 45


def test_the_hub_has_a_link_to_the_page_only_where_there_is_one(device: Any) -> None:
    announcer = device.announcer.Announcer("optoprobe", "my_cellar", "Cellar", "homeassistant")
    announcer.board_name = "A board"
    told = sent_as(device, announcer, None)["dev"]
    assert "cu" not in told and told["hw"] == "A board" and told["mf"]
    for port, link in ((80, "http://my-cellar.local"), (8080, "http://my-cellar.local:8080")):
        announcer.settings = {"device_password": "pbkdf2:1", "page_port": port}
        assert sent_as(device, announcer, None)["dev"]["cu"] == link
