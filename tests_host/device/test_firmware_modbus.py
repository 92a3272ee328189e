"""Modbus meters through the unmodified firmware in virtual time, by the map that deploy brings to the board."""

import json
import random
from decimal import Decimal
from pathlib import Path

import pytest
from support.expected_messages import shown_of_codes
from support.virtual_time import Probe

from optoprobe import simulated
from optoprobe.settings import placed_files
from optoprobe.source_tree import board_files
from optoprobe.virtual.modbus_meter import ModbusMeter


def settings_in(folder: Path, meter: ModbusMeter, **more: object) -> dict[str, object]:
    """What the board has of `meter`, its map's file laid into `folder`."""
    settings, files = placed_files.placed(simulated.of("modbus").settings(meter) | more, Path())
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return settings


def shown_of(rows: list[tuple[str, str, str]]) -> dict[str, Decimal]:
    return shown_of_codes([(f"{code}*255", value, unit) for code, value, unit in rows])


@pytest.mark.parametrize(
    ("name", "slug", "maker"), [("modbus", "SDM630", "Eastron"), ("modbus-b23", "40271313", "ABB")]
)
def test_a_meter_comes_up_to_the_hub(tmp_path: Path, name: str, slug: str, maker: str) -> None:
    meter = simulated.of("modbus").make(name, ())
    with Probe(tmp_path, meter, settings_in(tmp_path, meter)) as probe:
        assert probe.run_until(30, done=lambda: probe.of("/state") and probe.of("/live")), (probe.log, probe.notice())
        expected = shown_of(probe.sent[-1].expected)
        found = {key: Decimal(value) for key, value in probe.newest().items()}
        assert len(expected) == 13 and found.keys() == expected.keys()
        first = shown_of(probe.sent[0].expected)  # some change with the clock while they are asked for
        assert {key for key in found if found[key] not in (expected[key], first[key])} == set()
        assert probe.of("/state")[0].topic.split("/")[2] == slug
        config = next(json.loads(payload) for at, payload in probe.retained.items() if f"{slug}/config" in at)
        assert config["dev"]["mf"] == maker
        told = probe.diagnostics()
        assert (told["protocol"], told["rejected"], told["held"], told["attempts_failed"]) == ("modbus", 0, 0, 0)
        assert set(meter.functions) <= {3, 4}


def test_a_transceiver_sends_while_its_pin_is_high_and_hears_while_it_is_low(tmp_path: Path) -> None:
    """Other tasks keep the loop for up to 50 ms; the meter answers 4 ms behind the question."""
    meter = simulated.of("modbus").make("modbus", (), reaction_ms=4)
    late = random.Random(485)
    board = json.loads(board_files()["virtual"].read_text())
    board["uart"]["direction"] = 19
    settings = settings_in(tmp_path, meter, reads_a_day=8640)
    with Probe(tmp_path, meter, settings, board=board, late_ms=lambda: late.randrange(50)) as probe:
        probe.run_for(120)
        told = probe.diagnostics()
        assert told["telegrams"] >= 10 and (told["rejected"], told["attempts_failed"]) == (0, 0), told
        assert probe.chip.direction_pin.value() == 0


def test_what_is_damaged_or_refused_is_counted_and_told(tmp_path: Path) -> None:
    meter = simulated.of("modbus").make("modbus", ["damaged", "unknown"])
    with Probe(tmp_path, meter, settings_in(tmp_path, meter)) as probe:
        assert probe.run_until(60, done=lambda: "register 0" in probe.notice() and probe.newest()), probe.log
        told = probe.diagnostics()
        assert told["rejected"] and told["registers_beyond_limit"] and told["held"] == 0
        assert "voltage_l1" not in probe.newest() and "power" in probe.newest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no modbus_map.json: bring the register map by optoprobe config"),
        ('{"name": "x"', "modbus_map.json is not whole"),
        ('{"name": "x", "line": "9600 8N1", "registers": [{"address": 70000, "type": "u16", "unit": "V"}]}',
         "registers[0].address must be a number from 0 to 65535"),
        ("", "no register map"),
    ],
    ids=["no file", "torn", "70000", "none named"],
)  # fmt: skip
def test_without_a_map_nothing_is_asked_and_the_owner_hears_why(tmp_path: Path, content: str | None, said: str) -> None:
    meter = simulated.of("modbus").make("modbus", ())
    settings = settings_in(tmp_path, meter)
    file = tmp_path / placed_files.FILES["modbus_map"]
    file.unlink()
    if content:
        file.write_text(content)
    if content == "":
        del settings["modbus_map"]
    with Probe(tmp_path, meter, settings) as probe:
        assert probe.run_until(30, done=lambda: said in probe.notice()), (probe.log, probe.notice())
        assert not meter.functions and not probe.of("/live")
        probe.run_for(20)
        assert probe.diagnostics()["failed_by_reason"]["no map"] and said in probe.notice()
