"""What the owner orders from the hub: restart, search, one setting, which is checked, in force from a restart on."""

import json
from pathlib import Path
from types import SimpleNamespace
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


@pytest.mark.parametrize("is_short", [False, True])
def test_a_setting_is_saved_and_in_force_behind_a_restart(probe: Probe, tmp_path: Path, is_short: bool) -> None:
    """Where memory `is_short` it is checked at the restart."""
    for key, text in (
        ("publish_interval_s", "30"),
        ("pulses_per_kwh", "75"),
        ("protocol", "sml"),
        ("meter_key", KEY),
    ):
        probe.run_for(61)
        before = settings(tmp_path)
        before_s = probe.started_s
        if is_short:
            probe.modules.load("gc").mem_free = lambda: 6000
        assert "changed" in order(probe, f"{key}={text}")
        assert probe.started_s > before_s
        assert not (tmp_path / "change.json").exists()
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


def test_what_was_left_for_the_restart_is_refused_there(probe: Probe, tmp_path: Path) -> None:
    probe.run_for(61)
    before = settings(tmp_path)
    probe.modules.load("gc").mem_free = lambda: 6000
    order(probe, "meter_key=" + KEY[1:])
    assert "meter_key is refused" in probe.notice() and "it has 31" in probe.notice()
    assert settings(tmp_path) == before and not (tmp_path / "change.json").exists()
    for damaged in ("[", '{"mqtt_host": 1}', "[" * 300, '["meter_key"]', "[[], {}]"):
        (tmp_path / "change.json").write_text(damaged)
        probe.restart()
        probe.run_for(1)
        assert settings(tmp_path) == before, damaged


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
    "wipe",
    "wipe=",
    "wipe=garden",
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


def wiped(probe: Probe, within_s: float) -> None:
    def reset() -> None:
        raise Restarted

    probe.modules.load("machine").reset = reset
    probe.say(ORDER, "wipe=cellar")
    with pytest.raises(Restarted):
        probe.run_for(12)
    goes_on(probe, within_s)


def goes_on(probe: Probe, within_s: float, *, has_broker: bool = True) -> None:
    """The wipe that is due, where neither meter nor page takes memory."""

    def connect(*_: Any) -> None:
        while True:
            clock.sleep_ms(1000)

    def reset() -> None:
        raise Restarted

    probe.restart(power_cut=False)
    assert probe.app._meter is None and probe.app._page is None
    clock = probe.modules.load("time")
    if not has_broker:
        probe.modules.load("umqtt.simple").MQTTClient.connect = connect
    probe.modules.load("machine").reset = reset
    with pytest.raises(Restarted):
        probe.run_for(within_s)


@pytest.mark.parametrize("form", ["device", "entity"])
def test_a_wipe_leaves_nothing_of_the_probe(tmp_path: Path, form: str) -> None:
    others = {
        "homeassistant/device/optoprobe_cellar2/config": b"{}",
        "optoprobe/cellar2/status": b"online",
        "homeassistant/status": b"online",
    }
    given = {"protocol": "auto", "discovery": form, "meter_key": KEY, "mqtt_tls_cert": "", "wifi_password": "secret"}
    with Probe(tmp_path, SmlMeter(1), given) as probe:
        probe.retained.update(others)
        probe.retained["optoprobe/cellar/capture/set"] = b"30"  # kept by mistake
        probe.retained["optoprobe/cellar/OLD/state"] = b'{"energy_import": "1"}'  # of a meter that has gone
        probe.retained["homeassistant/device/optoprobe_cellar_OLD/config"] = b"{}"
        assert probe.run_until(90, done=lambda: probe.of("/state"))
        probe.run_for(20)
        for name in ("capture.txt", "energy.json", "counters.json", "scale.json", "settings.json.new"):
            (tmp_path / name).write_text(KEY)
        assert len(probe.retained) > 6
        begin = len(probe.published)
        wiped(probe, 40)
        assert probe.retained == others
        gone = [message.topic.split("/")[0] for message in probe.published[begin:] if not message.payload]
        announced_gone = gone.count("homeassistant")  # first: the hub takes what goes behind it for a message
        assert announced_gone > 1 and gone[:announced_gone] == ["homeassistant"] * announced_gone
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["board.json"]
        assert not any(KEY in line for line in probe.log)
        assert len(probe.modules.load("machine").RTC().memory()) <= 6  # of the restart alone


def test_a_wipe_without_a_broker_removes_what_is_here(probe: Probe, tmp_path: Path) -> None:
    probe.run_for(30)
    (tmp_path / "wipe.due").write_text("")
    goes_on(probe, 120, has_broker=False)
    assert not (tmp_path / "settings.json").exists()
    assert "not there" in probe.log[-1]


# --- nothing stays under names of before -----------------------------------------------------------------------------


def beside(probe: Probe) -> list[str]:
    """Why the set-up was opened, as it will be."""
    opened: list[str] = []
    stand_in = SimpleNamespace(carry_out=lambda why, services, tell: opened.append(why))
    probe.modules.loaded["firmware.setup.setup_beside"] = stand_in
    probe.modules._given["firmware.setup.setup_beside"] = stand_in
    return opened


def test_a_wifi_that_is_away_for_ten_minutes_opens_the_set_up(tmp_path: Path) -> None:
    with Probe(tmp_path, SmlMeter(1), {"mqtt_host": ""}) as probe:  # so nobody joins it
        opened = beside(probe)
        health = probe.app.services.health
        for before, not_lived_s in enumerate((550, 540)):
            probe.run_for(5)
            health.uptime_s += not_lived_s
            probe.run_for(40)
            assert opened == ["away"] * before
            probe.run_for(15)
            assert opened == ["away"] * (before + 1)
        health.uptime_s += 560
        probe.app.services.network.wifi.is_joined = lambda: True
        probe.run_for(1)
        probe.app.services.network.wifi.is_joined = lambda: False
        probe.run_for(60)
        assert opened == ["away"] * 2


def test_the_boards_button_wipes_where_it_is_held_for_ten_seconds(probe: Probe, tmp_path: Path) -> None:
    opened = beside(probe)

    class Button:
        is_up = True

        def value(self) -> bool:
            return self.is_up

    def reset() -> None:
        raise Restarted

    assert probe.run_until(90, done=lambda: probe.of("/state"))
    probe.modules.load("machine").reset = reset
    probe.app._button = Button()
    for held_s in (2, 8, 8):
        probe.app._button.is_up = False
        probe.run_for(held_s)
        probe.app._button.is_up = True
        probe.run_for(2)
    assert (tmp_path / "settings.json").exists() and opened == ["button", "button"]
    probe.app._button.is_up = False
    with pytest.raises(Restarted):
        probe.run_for(40)
    goes_on(probe, 40)
    assert probe.retained == {} and [path.name for path in tmp_path.iterdir() if path.is_file()] == ["board.json"]


def test_a_wipe_that_was_cut_off_goes_on_at_the_next_start(probe: Probe, tmp_path: Path) -> None:
    assert probe.run_until(90, done=lambda: probe.of("/state"))
    (tmp_path / "wipe.due").write_text("")
    goes_on(probe, 40)
    assert probe.retained == {} and [path.name for path in tmp_path.iterdir() if path.is_file()] == ["board.json"]


def renamed(probe: Probe, folder: Path, **changes: Any) -> None:
    (folder / "settings.json").write_text(json.dumps(settings(folder) | changes))
    probe.restart(power_cut=False)


def test_nothing_stays_behind_a_rename_or_without_discovery(tmp_path: Path) -> None:
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        assert probe.run_until(90, done=lambda: probe.of("/state"))
        probe.run_for(130)
        assert any(topic.startswith("homeassistant/") for topic in probe.retained)
        renamed(probe, tmp_path, discovery="off")
        probe.run_for(70)
        assert probe.retained and not any(topic.startswith("homeassistant/") for topic in probe.retained)
        assert probe.retained["optoprobe/cellar/status"] == b"online"
        renamed(probe, tmp_path, discovery="entity")
        probe.run_for(70)
        renamed(probe, tmp_path, discovery="device")
        probe.run_for(70)
        found = [topic for topic in probe.retained if topic.startswith("homeassistant/")]
        assert len(found) == 2 and all(topic.startswith("homeassistant/device/optoprobe_cellar") for topic in found)
        for changes in ({"probe_id": "garden"}, {"mqtt_prefix": "energy/meters"}):
            renamed(probe, tmp_path, **changes)
            probe.run_for(200)
        own = ("energy/meters/garden/", "homeassistant/device/optoprobe_garden")
        assert probe.retained and all(topic.startswith(own) for topic in probe.retained), list(probe.retained)
        renamed(probe, tmp_path, probe_id="house")
        probe.retained["energy/meters/garden/status"] = b"online"  # another probe has that name now
        probe.run_for(200)
        assert any(topic.startswith("energy/meters/garden/") for topic in probe.retained)


def test_forgetting_that_is_cut_off_does_not_keep_the_probe_off_the_broker(tmp_path: Path) -> None:
    """One try a start: some brokers close the session where somebody asks for more than it may read."""

    def cut_off(client: Any) -> None:
        raise OSError(104)

    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        assert probe.run_until(90, done=lambda: probe.of("/state"))
        renamed(probe, tmp_path, probe_id="garden")
        mailbox = probe.app.services.network.mailbox
        before = mailbox.before_session
        forgotten = [cell.cell_contents for cell in before.__closure__ if hasattr(cell.cell_contents, "clean")]
        forgotten[0].clean = cut_off
        with pytest.raises(OSError):
            before(None)
        assert mailbox.before_session is None
        since_s = probe.now_s
        probe.run_for(30)
        assert any("garden" in message.topic for message in probe.of("/state", since_s))
    assert json.loads((tmp_path / "announced.json").read_text())[1] == "cellar"  # the next start tries again


def test_the_last_capture_is_told_with_its_place(device: Any, probe: Probe, tmp_path: Path) -> None:
    announcer = device.announcer.Announcer("optoprobe", "my_cellar", "Cellar", "homeassistant")
    for given, place in (
        ({}, "optoprobe/my_cellar/capture"),
        ({"device_password": "pbkdf2:1", "page_port": 8080}, "http://my-cellar.local:8080/api/capture"),
    ):
        announcer.settings = given
        template = sent_as(device, announcer, None)["cmps"]["capture_result"]["val_tpl"]
        assert template == (
            "{{ value_json.capture_bytes ~ ' bytes: " + place + "' if value_json.capture_bytes else 'none' }}"
        )
    probe.run_for(5)
    assert probe.diagnostics()["capture_bytes"] is None
    probe.say("optoprobe/cellar/capture/set", "5")
    assert probe.run_until(60, done=lambda: probe.of("/capture"))
    assert probe.diagnostics()["capture_bytes"] == len(probe.of("/capture")[0].payload)


def test_a_network_thread_that_has_ended_is_begun_anew(probe: Probe) -> None:
    probe.run_for(5)
    network = probe.app.services.network
    begun = []

    def work() -> None:
        raise MemoryError

    def start() -> None:
        begun.append(probe.now_s)
        network.has_ended = False

    network._work, network.start = work, start
    with pytest.raises(MemoryError):
        network._run()
    assert network.has_ended
    probe.run_for(5)
    assert len(begun) == 1 and "begun anew" in probe.notice()
