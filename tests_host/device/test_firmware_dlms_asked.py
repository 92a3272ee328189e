"""Simulated DLMS meters that are asked, read by the unmodified firmware in virtual time, at their real rates."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.virtual_time import Probe

from metering.reading import decimal_text
from optoprobe import simulated
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.uart import NS

PASSWORD = "71043298"
NAMED = {"protocol": "dlms-client", "interval_s": 10}
KEYS = {
    "1-0:1.8.0*255": ("/state", "energy_import", 3),
    "1-0:2.8.0*255": ("/state", "energy_export", 3),
    "1-0:1.7.0*255": ("/live", "power_import", 0),
    "1-0:32.7.0*255": ("/live", "voltage_l1", 0),
    "1-0:51.7.0*255": ("/live", "current_l2", 0),
}


def settings_of(meter: AskedDlmsMeter) -> dict[str, Any]:
    return NAMED | simulated.of("dlms-client").settings(meter)


SNRM, DISC = 0x93, 0x53
# Of line time, from the first question on: by its sign-on, with the counter read before, the list of short names.
FIRST_READING_S = {"dlms-ask-e": 12, "dlms-ask-gmac": 8}


def said_at(probe: Probe, control: int) -> list[float]:
    """When the probe has said a frame of HDLC with this control byte."""
    return [at_ns / NS for at_ns, said in probe.line.said if said[:2] == b"\x7e\xa0" and said[5] == control]


@pytest.mark.parametrize("name", simulated.of("dlms-client").METERS)
def test_a_meter_is_read_to_mqtt(tmp_path: Path, name: str) -> None:
    meter = simulated.of("dlms-client").make(name, ())
    with Probe(tmp_path, meter, settings_of(meter)) as probe:
        assert probe.run_until(15, done=lambda: probe.of("/live")), (probe.log, probe.notice())
        assert probe.now_s < FIRST_READING_S.get(name, 6)
        said = {row[0]: row for row in meter.read}
        for code, (topic, key, kilo) in KEYS.items():
            _, count, scaler, _ = said[code]
            assert probe.of(topic)[0].object()[key] == decimal_text(count, scaler - kilo)
        assert f"/{meter.number}/" in probe.of("/state")[0].topic
        probe.run_for(60)
        assert len(probe.of("/live")) >= 5 and probe.notice() == ""
        assert said_at(probe, DISC)[-1] - said_at(probe, SNRM)[-1] < 13 * 1.0  # 13 registers, number and clock beside
        told = probe.diagnostics()
        assert (told["protocol"], told["attempts_failed"], told["rejected"]) == ("dlms-client", 0, 0)
        if name == "dlms-ask-gmac":
            assert meter.events.pop(0) == "left properly, 0 values read"  # the public client, for the counter
            heard = meter.security.heard_counters
            assert heard == sorted(heard, key=heard.index) and len(set(heard)) == len(heard) > 60
            assert json.loads((tmp_path / "own_counter.json").read_text()) == [heard[0] + 4096]
            n_refused = len(meter.refused)
            assert n_refused and "x" in json.loads((tmp_path / "asked.json").read_text())[0][2]
            probe.restart()
            probe.run_for(20)
            assert len(meter.refused) == n_refused  # what it refuses is not asked for again
            assert probe.of("/live")[-1].at_s > probe.started_s and len(set(heard)) == len(heard)
            assert min(heard[-20:]) > max(heard[:60])
            meter.events.remove("left properly, 0 values read")
        assert meter.events == ["left properly, 13 values read"] * len(meter.events)


def test_options_of_the_owner_are_heeded(tmp_path: Path) -> None:
    meter = AskedDlmsMeter(server=bytes.fromhex("00022423"), client=100)
    options = "client_address=100 physical_address=2321 obis_job=1.0.1.8.0.255:2"
    with Probe(tmp_path, meter, NAMED | {"meter_options": options}) as probe:
        assert probe.run_until(10, done=lambda: probe.of("/state")), (probe.log, probe.notice())
        assert list(probe.of("/state")[0].object()) == ["energy_import"]


def test_a_wrong_password_is_told_and_tried_once(tmp_path: Path) -> None:
    meter = AskedDlmsMeter(password=PASSWORD)
    with Probe(tmp_path, meter, NAMED | {"meter_password": "87654321"}) as probe:
        probe.run_for(600)
        assert meter.wrong_passwords == 1 and probe.of("/state") == []
        assert "refuses the password" in probe.notice() and "not tried again for hours" in probe.notice()
        assert not any("87654321" in str(message) for message in probe.published) and "87654321" not in str(probe.log)


def test_a_public_client_that_is_not_let_in_is_told_what_is_wanted(tmp_path: Path) -> None:
    meter = AskedDlmsMeter(password=PASSWORD, client=16)
    with Probe(tmp_path, meter, NAMED) as probe:
        probe.run_for(30)
        assert "authentication required" in probe.notice() and probe.of("/state") == []


def question_s(probe: Probe, sign_on: bool) -> float:
    """When it was asked what it answered in the end: by the first SNRM, or by the sign-on before it."""
    asked_s = said_at(probe, SNRM)[0]
    signs_on = [at_ns / NS for at_ns, said in probe.line.said if bytes(b & 0x7F for b in said[:2]) == b"/?"]
    return max((at_s for at_s in signs_on if at_s < asked_s), default=asked_s) if sign_on else asked_s


def found(probe: Probe) -> bool:
    return probe.diagnostics()["protocol"] == "dlms-client"


@pytest.mark.parametrize("sign_on", [False, True], ids=["direct", "mode-e"])
def test_a_search_says_no_password_and_leaves_a_meter_that_wants_one_to_the_reading(
    tmp_path: Path, sign_on: bool
) -> None:
    """Without one it says who gives it, and asks on gently; with it the meter is found by what it answers."""
    meter = AskedDlmsMeter(password=PASSWORD, client=16, sign_on=sign_on)
    with Probe(tmp_path / "without", meter, {}) as probe:
        assert probe.run_until(60, done=lambda: "operator" in probe.diagnostics()["seen"]), probe.diagnostics()
        seen = probe.diagnostics()["seen"]
        assert "in DLMS" in seen and "authentication required" in seen and seen in probe.notice()
        sessions = meter.sessions
        probe.run_for(300)
        assert meter.sessions == sessions and probe.of("/state") == [] and not found(probe)
    meter = AskedDlmsMeter(password=PASSWORD, sign_on=sign_on)
    with Probe(tmp_path / "with", meter, {"meter_password": PASSWORD}) as probe:
        assert probe.run_until(60, done=lambda: found(probe)), probe.diagnostics()
        assert not any(PASSWORD.encode() in data for _, data in probe.line.said)
        assert probe.run_for(20, done=lambda: bool(probe.of("/state"))) and meter.wrong_passwords == 0
        assert probe.of("/state")[0].at_s - question_s(probe, sign_on) < (12 if sign_on else 6)
        probe.restart()
        since_s = probe.started_s
        assert probe.run_for(20, done=lambda: any(m.at_s > since_s for m in probe.of("/state"))), "by mode E again"
