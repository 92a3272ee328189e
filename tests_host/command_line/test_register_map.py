"""Register maps on their way to a board and to `optoprobe read`: the one that comes along, or the owner's own."""

import json
from decimal import Decimal

import pytest

from optoprobe import cli, simulated, source_tree
from optoprobe.building import device_tree
from optoprobe.settings import device_check, placed_files, register_map
from optoprobe.virtual.serial_meter import SerialMeter

KEY = register_map.KEY
NAMED = {"wifi_ssid": "home", "mqtt_host": "broker", "protocol": "modbus"}


@pytest.fixture
def own(tmp_path):
    """A file of the owner's, which lies beside the settings."""
    data = json.loads(register_map.modbus_maps()["eastron_sdm630"].read_text())
    data["name"] = "my own"
    file = tmp_path / "own.json"
    file.write_text(json.dumps(data))
    return file


def test_only_the_chosen_map_goes_onto_a_board_and_nothing_for_people(own):
    values, files = placed_files.placed(NAMED | {KEY: "abb_b23"}, own.parent)
    assert values[KEY] == register_map.FILE and list(files) == [register_map.FILE]
    brought = json.loads(files[register_map.FILE])
    assert brought["name"] == "B23" and not {"source", "about"} & set(brought)
    _, files = placed_files.placed(NAMED | {KEY: own.name}, own.parent)
    assert json.loads(files[register_map.FILE])["name"] == "my own"
    assert placed_files.placed({"protocol": "sml"}, own.parent)[1] == {}
    assert placed_files.placed({"protocol": "modbus"}, own.parent, is_all=False)[1] == {}


def test_the_tree_of_a_board_holds_the_map(own):
    """What deploy, flash and image bring."""
    settings = own.parent / "settings.json"
    settings.write_text(json.dumps(NAMED | {KEY: own.name}))
    tree = own.parent / "tree"
    files = device_tree.build(tree, source_tree.board_files()["virtual"], settings, compiled=False)
    assert [file.name for file in files if "map" in file.name and file.suffix == ".json"] == [register_map.FILE]
    assert json.loads((tree / "settings.json").read_text())[KEY] == register_map.FILE
    assert json.loads((tree / register_map.FILE).read_text())["name"] == "my own"


def test_in_a_file_of_settings_a_map_is_meant_from_there(own):
    assert placed_files.beside(KEY, "abb_b23", own.parent) == "abb_b23"
    assert placed_files.beside(KEY, own.name, own.parent) == str(own)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "modbus_map is missing: give abb_b23, carlo_gavazzi_em340, eastron_sdm630 or your own file.json"),
        (7, "modbus_map: give abb_b23"),
        ("abb_b24", "there is no map abb_b24: give abb_b23"),
        ("nowhere.json", "cannot be read (No such file or directory): check its name"),
        ("half.json", "is not JSON: correct it"),
        ("list.json", "the map must be an object"),
        ("wrong.json", "registers[0].address must be a number from 0 to 65535"),
    ],
)
def test_a_map_that_cannot_be_used_is_told_before_anything_is_copied(tmp_path, given, said):
    (tmp_path / "half.json").write_text('{"name"')
    (tmp_path / "list.json").write_text("[]")
    row = {"address": 70000, "type": "u16", "unit": "V", "obis": "1-0:32.7.0"}
    (tmp_path / "wrong.json").write_text(json.dumps({"name": "x", "line": "9600 8N1", "registers": [row]}))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(NAMED | ({} if given is None else {KEY: given})))
    problems, _ = device_check.settings_problems(settings)
    assert len(problems) == 1 and said in problems[0]


def read(capsys, *arguments):
    code = cli.main(["read", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_meter_is_read_by_its_map(capsys, own):
    meter = simulated.of("modbus").make("modbus", (), reaction_ms=5)
    with SerialMeter(meter) as played:
        code, out, _ = read(capsys, "--port", played.path, "--modbus-map", str(own), "--json")
        assert code == 0
        played.check()
    found = {row["obis"].partition("*")[0]: (Decimal(row["value"]), row["unit"]) for row in json.loads(out)["readings"]}
    energy = {code: (Decimal(value), unit) for code, value, unit in meter.expected(0) if ".8.0" in code}
    assert len(found) == 13 and {code: found[code] for code in energy} == energy


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--protocol", "modbus"), 2, "name the meter's registers with --modbus-map: abb_b23"),
        (("--protocol", "sml", "--modbus-map", "abb_b23"), 2, "--modbus-map and sml do not belong together"),
        (("--modbus-map", "abb_b24"), 2, "there is no map abb_b24"),
        (("--modbus-map", "abb_b23", "--address", "248"), 1, "meter_address: a number from 1 to 247"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(capsys, arguments, code, said):
    meter = simulated.of("modbus").make("modbus-b23", ())
    with SerialMeter(meter) as played:
        found, _, error = read(capsys, "--port", played.path, *arguments)
    assert found == code and said in error and "Traceback" not in error
