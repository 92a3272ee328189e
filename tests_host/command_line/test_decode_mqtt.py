"""`optoprobe decode --mqtt`: the messages that the device's own publisher makes of a recording."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metering.characters import with_parity
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.sml_meter import SmlMeter

KEY = bytes(range(16))


def decode(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, the objects printed, what was said on stderr)."""
    command = [sys.executable, "-m", "optoprobe", "decode", "--mqtt", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_announcement_state_and_live(tmp_path: Path) -> None:
    meter = SmlMeter(7)
    recording = tmp_path / "meter.bin"
    recording.write_bytes(b"".join(meter.telegram(10 * k) for k in range(4)))
    code, lines, _ = decode(recording)
    assert code == 0
    *messages, last = lines
    assert last == {"summary": {"good": 4, "rejected": 0, "held": 0, "notice": ""}}
    announced = messages[0]
    assert announced["topic"].startswith("homeassistant/device/optoprobe_recording_") and announced["retain"] is True
    keys = set(announced["payload"]["cmps"])
    assert {"energy_import", "power"} <= keys
    lives = [m for m in messages if m["topic"].endswith("/live")]
    states = [m for m in messages if m["topic"].endswith("/state")]
    assert lives and states and not any(m["retain"] for m in lives) and all(m["retain"] for m in states)
    assert set(states[-1]["payload"]) | set(lives[-1]["payload"]) <= keys
    power = {obis: value for obis, value, _ in meter.expected()}["1-0:16.7.0*255"]
    assert lives[-1]["payload"]["power"] == power


def test_a_key_is_needed_and_named_in_the_sentence_for_the_owner(tmp_path: Path) -> None:
    meter = DlmsMeter("optical", seed=3, key=KEY)
    recording = tmp_path / "meter.bin"
    recording.write_bytes(b"".join(meter.telegram(k) for k in range(3)))
    code, lines, errors = decode(recording)
    assert code == 1 and "key" in lines[-1]["summary"]["notice"]
    assert errors.endswith(", 3 candidates, all rejected: key needed 3.\n")
    code, lines, _ = decode("--key", KEY.hex(), recording)
    assert code == 0 and lines[-1]["summary"]["good"] == 3
    assert KEY.hex() not in json.dumps(lines)


def test_settings_are_the_probes_own(tmp_path: Path) -> None:
    recording, settings = tmp_path / "meter.bin", tmp_path / "settings.json"
    recording.write_bytes(SmlMeter(7).telegram(0))
    settings.write_text('{"mqtt_prefix": "house/cellar", "probe_id": "mine"}')
    _, lines, _ = decode("--settings", settings, recording)
    assert any(m["topic"].startswith("house/cellar/mine/") for m in lines[:-1])
    settings.write_text('{"max_power_kw": -1}')
    code, lines, said = decode("--settings", settings, recording)
    assert code == 2 and not lines and "max_power_kw" in said


@pytest.mark.parametrize("period", ["0", "x", "-1", "1000000"])
def test_a_period_that_cannot_be_is_refused(tmp_path: Path, period: str) -> None:
    code, _, said = decode("--period", period, tmp_path)
    assert code == 2 and "86,400" in said


def test_one_push_without_a_check_makes_no_register_of_an_unknown_code(tmp_path: Path) -> None:
    """A lost point makes 1.28.0 of 1.2.8.0; a counter waits for the second telegram too, whatever its parity says.

    A recording of one is played three times, as the meter would send others; two different ones are not.
    """
    push = b"/OPT5X1\r\n\r\n1-0:0.0.0(12345670)\r\n1-0:1.8.0(0012.345*kWh)\r\n1-0:28.0(0002.5*kWh)\r\n!\r\n"
    recording = tmp_path / "meter.bin"
    changed = with_parity(push.replace(b"1-0:28.0(0002.5", b"1-0:2.8.0(02.5"))
    for stream, readings in (
        (with_parity(push), {"12.345", "2.5"}),
        (with_parity(push) * 3, {"12.345", "2.5"}),
        (with_parity(push) + changed, set()),
    ):
        recording.write_bytes(stream)
        _, lines, _ = decode(recording)
        told = {value for line in lines if line.get("topic", "").endswith(("/state", "/live"))
                for value in line["payload"].values()} - {"12345670"}  # fmt: skip
        assert told == readings, stream


def p1(*sets: str) -> bytes:
    """A P1 telegram with its CRC."""
    body = ("/OPT5MEANING\r\n\r\n1-3:0.2.8(50)\r\n" + "".join(line + "\r\n" for line in sets) + "!").encode()
    crc = 0
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return body + b"%04X\r\n" % crc


def announced(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [m["payload"]["cmps"] for m in messages if m.get("topic", "").endswith("/config")]


def test_sub_meters_of_p1_are_what_they_say_they_measure(tmp_path: Path) -> None:
    recording = tmp_path / "meter.bin"
    recording.write_bytes(
        p1(
            "0-1:24.1.0(003)",
            "0-1:24.2.3(240112231646W)(00338.711*m3)",
            "0-2:24.1.0(007)",
            "0-2:24.2.1(230224135019W)(00045.409*m3)",
            "0-3:24.1.0(003)",
            "0-3:24.2.1(240112231646W)(00012.500*m3)",
        )
    )
    _, lines, _ = decode(recording)
    parts = announced(lines)[-1]
    shown = {key: (c.get("name"), c.get("dev_cla"), c.get("unit_of_meas")) for key, c in parts.items()}
    assert shown["gas_meter_1"] == ("Gas meter 1", "gas", "m³")
    assert shown["water_meter_2"] == ("Water meter 2", "water", "m³")
    assert shown["gas_meter_3"] == ("Gas meter 3", "gas", "m³")
    assert parts["gas_meter_1"]["sug_dsp_prc"] == 3
    assert parts["mbus_2_3_b1"] == parts["mbus_b2"] == parts["mbus_b3"] == {"p": "sensor"}  # taken away
    state = [m["payload"] for m in lines if m.get("topic", "").endswith("/state")][-1]
    assert (state["gas_meter_1"], state["water_meter_2"], state["gas_meter_3"]) == ("338.711", "45.409", "12.500")


def test_a_register_becomes_better_known_and_is_announced_anew(tmp_path: Path) -> None:
    recording = tmp_path / "meter.bin"
    first = p1("1-0:1.8.0(000026.413*kWh)", "1-0:32.7.0(n/a)", "0-1:24.2.1(240112231646W)(00338.711*m3)")
    later = p1(
        "1-0:1.8.0(000026.413*kWh)",
        "1-0:32.7.0(230.5*V)",
        "0-1:24.2.1(240112231646W)(00338.711*m3)",
        "0-1:24.1.0(003)",
    )
    recording.write_bytes(first + later + later)
    _, lines, _ = decode(recording)
    before, *_, after = announced(lines)
    assert before["obis_1_0_32_7_0_255"]["en"] is False and "mbus_b1" in before
    assert after["voltage_l1"]["dev_cla"] == "voltage" and after["gas_meter_1"]["dev_cla"] == "gas"
    assert after["obis_1_0_32_7_0_255"] == after["mbus_b1"] == {"p": "sensor"}
    live = [m["payload"] for m in lines if m.get("topic", "").endswith("/live")][-1]
    assert live == {"voltage_l1": "230.5"}


def test_nothing_is_written_or_read_where_it_runs(tmp_path: Path) -> None:
    """What a probe learns of a Kamstrup's scale it keeps in a file; a recording leaves none and heeds none."""
    meter = DlmsMeter("hdlc", layout="kamstrup_hourly", seed=3, security=0)
    recording, settings, empty = tmp_path / "meter.bin", tmp_path / "settings.json", tmp_path / "empty"
    recording.write_bytes(b"".join(meter.telegram(10 * k) for k in range(4)))
    settings.write_text('{"energy_factor": 1}')
    empty.mkdir()

    def messages(*options: str) -> str:
        command = [sys.executable, "-m", "optoprobe", "decode", "--mqtt", *options, str(recording)]
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout.splitlines()[-1])["summary"]["good"] == 4
        return done.stdout

    told = messages("--settings", str(settings))
    assert list(empty.iterdir()) == []
    (empty / "scale.json").write_text(json.dumps({"meter": meter.meter_id, "factor": 1}))
    assert messages() != told
