"""Simulated meters that are asked in ANSI C12.18, read by the unmodified firmware in virtual time, at 9600 baud."""

from decimal import Decimal
from pathlib import Path

from support.expected_messages import shown_of_codes
from support.virtual_time import Probe

from optoprobe import capture_file, simulated
from optoprobe.virtual.c1218_meter import C1218Meter

PASSWORD = "25083711049526371042"


def test_a_meter_comes_up_to_the_hub(tmp_path: Path) -> None:
    meter = simulated.of("c1218").make("c1218-password", ())
    settings = simulated.of("c1218").settings(meter)
    with Probe(tmp_path, meter, settings) as probe:
        assert probe.run_until(30, done=lambda: probe.of("/live") and probe.of("/state")), (probe.log, probe.notice())
        probe.run_for(30)
        told = [shown_of_codes(sent.expected) for sent in probe.sent if sent.expected]
        want = ("energy_import", "energy_export", "power_import", "current_l3", "voltage_l1")
        for message in probe.of("/state") + probe.of("/live"):
            said = {key: Decimal(value) for key, value in message.object().items() if key in told[0]}
            assert said and any(said.items() <= rows.items() for rows in told), (said, told)
        assert set(want) <= probe.newest().keys() and f"/{meter.number}/" in probe.of("/state")[0].topic
        diagnostics = probe.diagnostics()
        assert (diagnostics["protocol"], diagnostics["attempts_failed"], diagnostics["rejected"]) == ("c1218", 0, 0)
        assert meter.passwords and not any(PASSWORD in str(message) for message in probe.published)
        assert PASSWORD not in str(probe.log)


def test_standard_tables_come_up_to_the_hub(tmp_path: Path) -> None:
    meter = simulated.of("c1218").make("c1218-tables-big", ())
    with Probe(tmp_path, meter, {"protocol": "c1218", "interval_s": 10}) as probe:
        assert probe.run_until(30, done=lambda: probe.of("/state")), (probe.log, probe.notice())
        told = [shown_of_codes(sent.expected) for sent in probe.sent if sent.expected]
        said = {key: Decimal(value) for key, value in probe.of("/state")[0].object().items()}
        assert said in told and set(said) == {"energy_import", "energy_export", "reactive_energy_import"}
        assert f"/{meter.number}/" in probe.of("/state")[0].topic and probe.notice() == ""


def test_no_password_is_in_a_capture_of_a_head_that_sees_its_own_light(tmp_path: Path) -> None:
    """Our 06 has come back, and is taken out, before the password is said: else that is taken for the meter's."""
    meter = simulated.of("c1218").make("c1218-password", ())
    with Probe(tmp_path, meter, simulated.of("c1218").settings(meter), echo=True) as probe:
        assert probe.run_until(30, done=lambda: probe.of("/state")), probe.notice()
        asked = meter.services[0x51]
        probe.say("optoprobe/cellar/capture/set", "30")
        assert probe.run_for(60, done=lambda: probe.of("/capture"))
        parts = capture_file.parse(probe.of("/capture")[0].payload).parts()
        data = b"".join(part.data for part in parts)
        assert meter.services[0x51] > asked and b"\xee\x00" in data and meter.number.encode() in data
        assert PASSWORD.encode()[:4] not in data and b"reader" not in data


def test_a_wrong_password_is_told_and_tried_once(tmp_path: Path) -> None:
    meter = C1218Meter(password=b"12345")
    with Probe(tmp_path, meter, {"protocol": "c1218", "meter_password": "54321"}) as probe:
        probe.run_for(900)
        assert len(meter.passwords) == 1 and probe.of("/state") == []
        assert "refuses the password" in probe.notice() and "not tried again for hours" in probe.notice()


def test_a_meter_of_standard_tables_is_found_by_a_search(tmp_path: Path) -> None:
    meter = simulated.of("c1218").make("c1218-tables", ())
    with Probe(tmp_path, meter, {}) as probe:
        assert probe.run_until(60, done=lambda: bool(probe.of("/state"))), probe.diagnostics()
        assert probe.diagnostics()["protocol"] == "c1218"


def test_a_search_says_no_password(tmp_path: Path) -> None:
    """Without one it says who gives it; with it the meter is found by what it answers, and read then."""
    meter = C1218Meter(password=b"12345")
    with Probe(tmp_path / "without", meter, {}) as probe:
        assert probe.run_until(60, done=lambda: "operator" in probe.diagnostics()["seen"]), probe.diagnostics()
        assert "(isc)" in probe.notice() and not meter.passwords
    meter = C1218Meter(password=b"12345")
    with Probe(tmp_path / "with", meter, {"meter_password": "12345"}) as probe:
        assert probe.run_until(60, done=lambda: probe.diagnostics()["protocol"] == "c1218"), probe.diagnostics()
        assert not meter.passwords and probe.run_for(30, done=lambda: bool(probe.of("/state")))
