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
    code, lines, _ = decode(recording)
    assert code == 1 and "key" in lines[-1]["summary"]["notice"]
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
    """A lost point makes 1.28.0 of 1.2.8.0; a counter waits for the second telegram too, whatever its parity says."""
    push = b"/OPT5X1\r\n\r\n1-0:0.0.0(12345670)\r\n1-0:1.8.0(0012.345*kWh)\r\n1-0:28.0(0002.5*kWh)\r\n!\r\n"
    recording = tmp_path / "meter.bin"
    for telegrams, readings in ((1, set()), (2, {"12.345"}), (3, {"12.345"})):
        recording.write_bytes(with_parity(push) * telegrams)
        _, lines, _ = decode(recording)
        told = {value for line in lines if line.get("topic", "").endswith(("/state", "/live"))
                for value in line["payload"].values()} - {"12345670"}  # fmt: skip
        assert told == readings | ({"2.5"} if telegrams > 1 else set())
