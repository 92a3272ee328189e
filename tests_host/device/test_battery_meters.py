"""Heat, water and gas meters that are asked, over M-Bus and KMP, through the unmodified firmware in virtual time."""

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.expected_messages import shown_of_battery_meter
from support.virtual_time import Probe

from metering import protocols
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.mbus_meter import MbusMeter
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import Transmission

THERMAL = {"heat_energy": "kWh", "heat_volume": "m³", "heat_power": "W", "heat_flow": "m³/h"} | {
    "heat_flow_temperature": "°C", "heat_return_temperature": "°C",
}  # fmt: skip
COOLING = {"cooling_energy": "GJ", "heat_volume": "m³", "heat_return_temperature": "°C"}


class Told:
    """What a meter's last telegrams said, of what has a unit: key of the contract -> the number as it is shown."""

    def __init__(self, meter: Any) -> None:
        self.rows: dict[str, Decimal] = {}
        poll = meter.poll

        def noting(now_s: float, free_s: float) -> Transmission | None:
            sent: Transmission | None = poll(now_s, free_s)
            if sent and sent.telegram:
                self.rows.update(shown_of_battery_meter(sent.expected))
            return sent

        meter.poll = noting


@pytest.mark.parametrize(
    ("protocol", "meter", "number", "maker", "units"),
    [
        ("kmp", KmpMeter("heat"), "60027013", "Kamstrup", THERMAL),
        ("kmp", KmpMeter("cooling"), "60027013", "Kamstrup", COOLING),
        ("kmp", KmpMeter("water"), "60027013", "Kamstrup", {"water_volume": "m³", "water_flow": "m³/h"}),
        ("mbus", MbusMeter("heat"), "OPT-21436588-1-4", "OPT", THERMAL),
        ("mbus", MbusMeter("heat", quirks=["many"]), "OPT-21436588-1-4", "OPT",
         THERMAL | {"heat_temperature_difference": "K"}),
        ("mbus", MbusMeter("water", quirks=["sleepy"]), "OPT-21436588-1-7", "OPT", {"water_volume": "m³"}),
        ("mbus", MbusMeter("gas"), "OPT-21436588-1-3", "OPT", {"gas_volume": "m³"}),
    ],
    ids=["kmp-heat", "kmp-cooling", "kmp-water", "mbus-heat", "mbus-many", "mbus-water-asleep", "mbus-gas"],
)  # fmt: skip
def test_a_meter_comes_up_to_the_hub(
    tmp_path: Path, protocol: str, meter: Any, number: str, maker: str, units: dict[str, str]
) -> None:
    told = Told(meter)
    asleep = "sleepy" in meter._quirks
    named = {"protocol": protocol, "interval_s": 60, "wake_up": asleep}
    with Probe(tmp_path, meter, named) as probe:
        assert probe.run_until(40, done=lambda: units.keys() <= probe.newest().keys()), (probe.log, probe.diagnostics())
        found = probe.newest()
        assert units.keys() <= told.rows.keys()
        assert {key: Decimal(found[key]) for key in told.rows} == told.rows
        state = probe.of("/state")[0].topic
        assert state.split("/")[2] == number
        config = next(json.loads(payload) for at, payload in probe.retained.items() if number in at
                      and at.endswith("/config"))  # fmt: skip
        parts = config["cmps"]
        assert not any("2026" in str(value) for value in found.values()), "the meter's clock is no register"
        assert units.items() <= {key: part.get("unit_of_meas") for key, part in parts.items()}.items()
        assert config["dev"]["mf"] == maker and config["dev"]["sn"] in number
        for key, part in parts.items():
            if key.endswith(("_energy", "_volume")):
                kind = key.split("_")[0]
                assert part["dev_cla"] == ("energy" if "energy" in key else kind if kind != "heat" else "volume")
                assert part["stat_cla"] == "total_increasing"
        told_of = probe.diagnostics()
        assert (told_of["protocol"], told_of["rejected"], told_of["held"]) == (protocol, 0, 0)


@pytest.mark.parametrize("protocol", ["kmp", "mbus"])
def test_a_battery_is_spared(tmp_path: Path, protocol: str) -> None:
    """By itself the probe asks once an hour, and a meter that is away some ten times in the first day."""
    meter: Any = KmpMeter() if protocol == "kmp" else MbusMeter()
    with Probe(tmp_path / "there", meter, {"protocol": protocol}) as probe:
        probe.run_for(3600 + 60)
    assert (meter.questions == {0x02: 2, 0x10: 2}) if protocol == "kmp" else (meter.n_answers == 4)


@pytest.mark.parametrize("protocol", ["kmp", "mbus"])
def test_a_meter_that_is_away_is_said_and_found_again(tmp_path: Path, protocol: str) -> None:
    meter: Any = KmpMeter() if protocol == "kmp" else MbusMeter()
    receive, away = meter.receive, [True]
    meter.receive = lambda value, at_s: None if away else receive(value, at_s)
    with Probe(tmp_path, meter, {"protocol": protocol}) as probe:
        assert probe.run_until(60, done=lambda: "does not answer" in probe.diagnostics().get("notice", "")), probe.log
        away.clear()
        assert probe.run_until(600, done=lambda: probe.newest())
        probe.run_for(70)
        assert probe.diagnostics()["notice"] == "ok"


def test_a_day_has_no_more_read_outs_than_its_owner_wants(tmp_path: Path) -> None:
    meter = KmpMeter()
    with Probe(tmp_path, meter, {"protocol": "kmp", "interval_s": 60, "reads_a_day": 48}) as probe:
        probe.run_for(3600 + 60)
    assert meter.questions == {0x02: 3, 0x10: 3}


@pytest.mark.parametrize("protocol", [name for name in protocols.names() if protocols.is_asked(name)])
def test_each_protocol_that_asks_is_slowed_by_its_owner(protocol: str) -> None:
    conversation = protocols.load_conversation(protocol)(protocols.load(protocol)(), "", "", False, 60)
    assert conversation.pause_s == 60
    conversation.pause_s = 1800
    assert conversation.pause_s == 1800


@pytest.mark.parametrize("settings", [{"protocol": "iec62056-21"}, {"protocol": "auto"}])
def test_an_asked_electricity_meter_has_no_more_read_outs_than_its_owner_wants(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with Probe(tmp_path, IecMeter("C"), {**settings, "interval_s": 30, "reads_a_day": 480}) as probe:
        assert probe.run_until(120, done=lambda: probe.of("/live")), probe.log
        probe.run_for(600)
        read_s = [message.at_s for message in probe.of("/live")]
    pauses = [later - earlier for earlier, later in pairwise(read_s[1:])]  # the first may be the search's
    assert len(pauses) >= 2 and min(pauses) >= 180, read_s


def test_it_is_read_now_where_its_owner_asks_but_not_all_day(tmp_path: Path) -> None:
    """Six times a day, the start among them; a meter that pushes has no pause to be ended."""
    order = "optoprobe/cellar/order/set"
    meter = KmpMeter()
    with Probe(tmp_path, meter, {"protocol": "kmp"}) as probe:
        probe.run_for(30)
        for n in range(8):
            probe.say(order, "read")
            probe.run_for(30)
            assert ("refused" in probe.notice()) is (n > 4), probe.notice()
        assert meter.questions == {0x02: 6, 0x10: 6}
        parts = json.loads(probe.retained["homeassistant/device/optoprobe_cellar/config"])["cmps"]
        assert parts["read"]["pl_prs"] == "read" and "en" not in parts["read"]
    with Probe(tmp_path / "pushing", SmlMeter(1), {"protocol": "sml"}) as probe:
        probe.run_for(30)
        probe.say(order, "read")
        probe.run_for(3)
        assert "read is refused: no meter rests" in probe.notice()
        parts = json.loads(probe.retained["homeassistant/device/optoprobe_cellar/config"])["cmps"]
        assert parts["read"] == {"p": "button"}
