"""Kamstrup meters that are asked in KMP, through the unmodified firmware in virtual time, up to MQTT."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from support.virtual_time import Probe

from metering.reading import Reading
from metering.registers import describe
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.optical_server import Transmission

NAMED = {"protocol": "kmp", "interval_s": 60}


SHIFT = {"Wh": -3, "J": -9}  # shown in kWh and GJ


class NotingMeter(KmpMeter):
    """Keeps what its last registers said."""

    said: list[tuple[str, str, str]]

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        sent = super().poll(now_s, free_s)
        if sent and sent.telegram:
            self.said = sent.expected
        return sent

    def shown(self) -> dict[str, Decimal]:
        """Key of the contract -> the number as it is shown, of what has a unit."""
        found = {}
        for code, value, unit in self.said:
            obis = bytes(map(int, code.replace("-", ".").replace(":", ".").split("."))) + b"\xff"
            code_of_unit = {"Wh": 30, "J": 25, "W": 27, "m³": 13, "m³/h": 15, "°C": 9}.get(unit)
            if code_of_unit:
                found[describe(Reading(obis, 1, 0, code_of_unit)).key] = Decimal(value).scaleb(SHIFT.get(unit, 0))
        return found


def told(probe: Probe) -> dict[str, str]:
    """The newest value of each key of the meter's messages."""
    found: dict[str, str] = {}
    for message in probe.of("/state") + probe.of("/live"):
        found |= message.object()
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("heat", {"heat_energy": "kWh", "heat_volume": "m³", "heat_power": "W", "heat_flow": "m³/h",
                  "heat_flow_temperature": "°C", "heat_return_temperature": "°C"}),
        ("cooling", {"cooling_energy": "GJ", "heat_volume": "m³", "heat_return_temperature": "°C"}),
        ("water", {"water_volume": "m³", "water_flow": "m³/h"}),
    ],
)  # fmt: skip
def test_a_meter_comes_up_to_the_hub(tmp_path: Path, kind: str, expected: dict[str, str]) -> None:
    meter = NotingMeter(kind)
    with Probe(tmp_path, meter, NAMED) as probe:
        assert probe.run_until(30, done=lambda: len(told(probe)) >= len(expected)), (probe.log, probe.diagnostics())
        found, shown = told(probe), meter.shown()
        assert expected.keys() <= shown.keys() and shown == {key: Decimal(found[key]) for key in shown}
        topic = f"optoprobe/{probe.of('/state')[0].topic.split('/')[1]}/{meter.serial_number}/state"
        assert [message.topic for message in probe.of("/state")] == [topic]
        config = next(json.loads(payload) for at, payload in probe.retained.items() if str(meter.serial_number) in at
                      and at.endswith("/config"))  # fmt: skip
        units = {key: part.get("unit_of_meas") for key, part in config["cmps"].items() if part.get("unit_of_meas")}
        assert expected.items() <= units.items() and config["dev"]["mf"] == "Kamstrup"
        told_before = probe.diagnostics()
        assert told_before["protocol"] == "kmp" and told_before["rejected"] == 0
        probe.run_for(130)
        assert meter.questions == {0x02: 3, 0x10: 3}


def test_a_battery_is_spared(tmp_path: Path) -> None:
    """By itself the probe asks once an hour, and a meter that is away some ten times a day."""
    meter = KmpMeter()
    with Probe(tmp_path, meter, {"protocol": "kmp"}) as probe:
        probe.run_for(3 * 3600 + 60)
        assert meter.questions == {0x02: 4, 0x10: 4}
