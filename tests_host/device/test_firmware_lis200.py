"""A simulated gas volume corrector that is asked by LIS-200, read by the unmodified firmware in virtual time."""

import json
from pathlib import Path

from support.virtual_time import Probe

from optoprobe.virtual.lis200_meter import Lis200Meter

WANTED = {
    "gas_volume_base": ("m³", "gas", "total_increasing"), "gas_volume_measured": ("m³", "gas", "total_increasing"),
    "gas_flow_base": ("m³/h", "volume_flow_rate", "measurement"),
    "gas_flow_measured": ("m³/h", "volume_flow_rate", "measurement"),
    "gas_pressure": ("bar", "pressure", "measurement"),
    "gas_temperature": ("°C", "temperature", "measurement"), "gas_compressibility": (None, None, "measurement"),
    "gas_conversion_factor": (None, None, "measurement"),
}  # fmt: skip
ADDRESSES = {
    "2:302": "gas_volume_base", "4:302": "gas_volume_measured", "2:310": "gas_flow_base", "4:310": "gas_flow_measured",
    "7:310": "gas_pressure", "6:310_1": "gas_temperature", "5:310": "gas_conversion_factor",
    "8:310": "gas_compressibility",
}  # fmt: skip


def test_it_is_found_by_its_identification_and_comes_up_to_the_hub(tmp_path: Path) -> None:
    meter = Lis200Meter(reaction_ms=250)
    with Probe(tmp_path, meter, {}) as probe:
        assert probe.run_until(90, done=lambda: WANTED.keys() <= probe.newest().keys()), probe.log
        told = {ADDRESSES[address]: value for address, value, _ in meter.reads if address in ADDRESSES}
        assert told and {key: probe.newest()[key] for key in told} == told
        assert probe.of("/state")[0].topic.split("/")[2] == meter.serial
        config = next(json.loads(payload) for at, payload in probe.retained.items() if meter.serial in at
                      and at.endswith("/config"))  # fmt: skip
        parts = {key: part for key, part in config["cmps"].items() if part != {"p": "sensor"}}
        told_of_parts = {key: (part.get("unit_of_meas"), part.get("dev_cla"), part["stat_cla"])
                         for key, part in parts.items() if "stat_cla" in part}  # fmt: skip
        assert told_of_parts == WANTED
        assert config["dev"]["mf"] == "Elster" and config["dev"]["mdl"] == "EK270"
        probe.run_for(2 * 3600)
        diagnostics = probe.diagnostics()
        assert (diagnostics["protocol"], diagnostics["rejected"], diagnostics["held"]) == ("lis200", 0, 0)
        assert meter.events.count("sign-on") <= 5, "once an hour"
        assert not any("write" in event or "refused" in event for event in meter.events)


def test_a_closed_lock_is_told(tmp_path: Path) -> None:
    meter = Lis200Meter(quirks=["locked"])
    with Probe(tmp_path, meter, {"protocol": "lis200", "interval_s": 30}) as probe:
        assert probe.run_until(60, done=lambda: "no right to read" in probe.notice()), probe.log
        assert "the supplier's" in probe.notice() and not any("write" in event for event in meter.events)
