"""A wrong board file of each kind is refused with its key named, by every command that takes a board.

The schema (tools/optoprobe/boards/schema.json) is judged by jsonschema too, an independent validator.
"""

import json

import pytest

from optoprobe import cli, source_tree
from optoprobe.boards import description, questions, table
from optoprobe.environment import runtime
from optoprobe.settings import device_check

BOARDS = {name: json.loads(file.read_text()) for name, file in source_tree.board_files().items()}
TAKE_A_BOARD = {"deploy": ["--dry-run"], "flash": ["--dry-run"], "image": [], "webflash": ["--serve"]}  # and with what

# What is against the schema: (change, what is said).
AGAINST_THE_SCHEMA = [
    ({"uart__rx": None}, "uart.rx must be a pin number from 0 to 48"),
    ({"uart__rx": "4"}, "uart.rx must be a pin number"),
    ({"uart__rx": True}, "uart.rx must be a pin number"),
    ({"uart__rx": 4.5}, "uart.rx must be a pin number"),
    ({"uart__rx": 49}, "uart.rx must be a pin number"),
    ({"uart__tx": ...}, "uart.tx is missing: it must be a pin number"),
    ({"uart__id": 7}, "uart.id must be 0, 1 or 2"),
    ({"uart__rx_pul": "up"}, "uart.rx_pul is nothing that is read: did you mean uart.rx_pull?"),
    ({"uart__rx_pull": "sideways"}, "uart.rx_pull must be up, down or none"),
    ({"uart__rx_pull": ["up"]}, "uart.rx_pull must be up, down or none"),
    ({"uart__invert_rx": 1}, "uart.invert_rx must be true or false"),
    ({"uart__buffer_bytes": 128}, "uart.buffer_bytes must be a number from 1024 to 32768"),
    ({"uart": []}, "uart must be an object with id, rx and tx"),
    ({"uart": ...}, "uart is missing: it must be an object with id, rx and tx"),
    ({"led": {"pin": 19, "active_low": "yes"}}, "led.active_low must be true or false"),
    ({"led": {"active_low": True}}, "led.pin is missing: it must be a pin number"),
    ({"led": {"pin": 19, "rgb": [19, 21]}}, "led.rgb must be a list of three pins"),
    ({"led": {"pin": 19, "rgb": [19, 21, "x"]}}, "led.rgb must be a pin number"),
    ({"led": {"pin": 19, "brightness": 1}}, "led.brightness is nothing that is read: remove it"),
    ({"leds": {"pin": 5}}, "leds is nothing that is read: did you mean led?"),
    ({"button": -1}, "button must be a pin number"),
    ({"name": ""}, "name must be a text of 1 to 80 characters"),
    ({"name": 5}, "name must be a text"),
    ({"chip": "esp8266"}, "chip must be esp32, esp32c3, esp32c6, esp32s2 or esp32s3, for nothing else runs this"),
    ({"chip": ["esp32"]}, "chip must be esp32"),
    ({"source": []}, "source must be a list of texts"),
    ({"source": [3]}, "source must be a text"),
    ({"confirmed": "no"}, "confirmed must be true or false"),
]
# What the schema lets pass, and the chip has not got.
AGAINST_THE_CHIP = [
    ({"uart__id": 0}, "uart.id is 0, the console of an esp32: take 1"),
    ({"uart__id": 0, "chip": "esp32c3", "uart__rx": 4, "uart__tx": 5}, "uart.id is 0, the console of an esp32c3"),
    ({"uart__id": 2, "chip": "esp32c3", "uart__rx": 4, "uart__tx": 5}, "uart.id is 2, and an esp32c3 has 2 UARTs"),
    ({"uart__rx": 24}, "uart.rx is pin 24, which an esp32 has not got"),
    ({"uart__rx": 22, "uart__tx": 5, "chip": "esp32c3"}, "uart.rx is pin 22, which an esp32c3 has not got"),
    ({"uart__tx": 9}, "uart.tx is pin 9, which an esp32 reads its flash by"),
    ({"button": 12, "chip": "esp32c3", "uart__rx": 4, "uart__tx": 5}, "button is pin 12, which an esp32c3 reads"),
    ({"uart__rx": 3}, "uart.rx is pin 3, the console of an esp32"),
    ({"uart__rx": 18, "uart__tx": 5, "chip": "esp32c3"}, "uart.rx is pin 18, the console of an esp32c3"),
    ({"uart__tx": 34}, "uart.tx is pin 34, which is an input alone on an esp32"),
    ({"led": {"pin": 39}}, "led.pin is pin 39, which is an input alone"),
    ({"uart__rx": 12}, "uart.rx is pin 12, whose level decides how an esp32 starts"),
    ({"uart__rx": 9, "uart__tx": 5, "chip": "esp32c3"}, "uart.rx is pin 9, whose level decides how an esp32c3 starts"),
    ({"uart__rx": 36}, "uart.rx_pull is up, and pin 36 of an esp32 has no pulls: give none"),
    ({"uart__tx": 16}, "uart.rx and uart.tx name the same pin 16"),
    ({"button": 17}, "uart.tx and button name the same pin 17"),
    ({"led": {"pin": 19, "rgb": [19, 21, 16]}}, "uart.rx and led.rgb name the same pin 16"),
]


def changed(changes, name="esp32_devkit"):
    """The board file `name` with other values; `a__b` is the key b of a, and ... takes the key out."""
    data = json.loads(json.dumps(BOARDS[name]))
    for key, value in changes.items():
        part, _, rest = key.partition("__")
        place, last = (data[part], rest) if rest else (data, part)
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return data


def independent():
    import jsonschema  # takes four seconds, which no worker spends that has none of these tests

    jsonschema.Draft202012Validator.check_schema(description.schema())
    return jsonschema.Draft202012Validator(description.schema())


@pytest.mark.parametrize("name", BOARDS)
def test_each_board_that_comes_along_passes(name):
    assert device_check.board_problems(source_tree.board_files()[name]) == []
    assert list(independent().iter_errors(BOARDS[name])) == []
    data = BOARDS[name]
    assert data["about"] and data["source"] and (name == "virtual" or data["chip"])


@pytest.mark.parametrize(("changes", "said"), AGAINST_THE_SCHEMA)
def test_what_is_against_the_schema_is_told_with_its_key(changes, said):
    data = changed(changes)
    (problem,) = description.problems(data)
    assert problem.startswith(said)
    assert list(independent().iter_errors(data)), "the schema itself must say so, not our reading of it alone"


@pytest.mark.parametrize(("changes", "said"), AGAINST_THE_CHIP)
def test_what_the_chip_has_not_got_is_told_with_its_key(changes, said):
    data = changed(changes)
    assert any(problem.startswith(said) for problem in description.problems(data)), description.problems(data)
    assert list(independent().iter_errors(data)) == []


def test_without_a_chip_pins_are_let_be():
    assert description.problems(changed({"uart__rx": 12, "chip": ...})) == []


def test_the_check_knows_every_word_of_the_schema():
    """A rule that description.py would not look at would be no rule."""
    known = {"type", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "items", "$ref"}
    known |= {"required", "properties", "additionalProperties", "errorMessage", "description", "default"}

    def look(rule):
        assert set(rule) <= known, rule
        assert "$ref" in rule or rule["errorMessage"]
        for part in [*rule.get("properties", {}).values(), *([rule["items"]] if "items" in rule else [])]:
            look(part)

    schema = {key: value for key, value in description.schema().items() if key not in ("$schema", "title", "$defs")}
    look(schema)
    for rule in description.schema()["$defs"].values():
        look(rule)


ONE_OF_EACH = [AGAINST_THE_SCHEMA[0], AGAINST_THE_SCHEMA[7], AGAINST_THE_SCHEMA[19], AGAINST_THE_CHIP[4]]
ONE_OF_EACH += [(text, said) for text, said in (("{", "is not JSON"), ("[]", "holds no object"))]


@pytest.mark.parametrize("command", TAKE_A_BOARD)
@pytest.mark.parametrize(("changes", "said"), ONE_OF_EACH)
def test_every_command_refuses_it_in_one_sentence(command, changes, said, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(changes if isinstance(changes, str) else json.dumps(changed(changes)))
    assert cli.main([command, "--board", str(file), *TAKE_A_BOARD[command]]) == 2
    out, errors = capsys.readouterr()
    assert out == "" and said in errors and "mine.json" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", [name for name in TAKE_A_BOARD if name not in ("flash", "webflash")])
def test_a_board_of_ones_own_is_asked_for_on_a_terminal_only(command, tmp_path, capsys, monkeypatch):
    """A plan of flash asks nothing, and a board of a site has its file."""
    monkeypatch.chdir(tmp_path)
    for said in ("--board custom asks, and there is no terminal", "custom_board.json is there already: name it with"):
        assert cli.main([command, "--board", "custom", *TAKE_A_BOARD[command]]) == 2
        errors = capsys.readouterr().err
        assert said in errors and len(errors.splitlines()) == 1
        questions.FILE.touch()


class Owner:
    """Gives the answers in turn; `asked` are the questions, `told` what was said in between."""

    def __init__(self, *answers):
        self.answers, self.asked, self.told = list(answers), [], []

    def read(self, question):
        self.asked.append(question)
        return self.answers.pop(0)


def test_wrong_answers_are_asked_for_again_and_the_file_passes(tmp_path):
    pins = ("9", "x", "99", "5", "5", "6")
    owner = Owner("esp8266", "ESP32-C3", "Keller", *pins, "n", "y", "", "y", "2", "perhaps", "y")
    file = questions.ask_into(tmp_path / "mine.json", owner.read, owner.told.append)
    assert owner.answers == [] and device_check.board_problems(file) == []
    board = json.loads(file.read_text())
    assert (board["name"], board["chip"], board["led"]) == ("Keller", "esp32c3", {"pin": 2, "active_low": True})
    assert {"rx": 5, "tx": 6, "invert_rx": True, "rx_pull": "up"}.items() <= board["uart"].items()
    told = "\n".join(owner.told)
    for said in ("pin 9, whose level decides", "must be a pin number", "name the same pin 5", "--board"):
        assert said in told
    with pytest.raises(FileExistsError):
        questions.ask_into(file, Owner("esp32", *[""] * 7).read, owner.told.append)


@pytest.mark.parametrize("chip", sorted(description.CHIPS))
def test_empty_answers_give_a_board_that_passes(chip):
    board = questions.ask(Owner(chip, *[""] * 7).read, print)
    assert description.problems(board) == []


def test_a_transceivers_direction_is_asked_for_and_held_against_the_chip():
    owner = Owner("esp32c3", "", "7", "6", "y", "", "6", "10", "", "")
    board = questions.ask(owner.read, owner.told.append)
    assert owner.answers == [] and description.problems(board) == []
    assert (board["uart"]["direction"], board["uart"]["invert_rx"]) == (10, False)
    assert "uart.tx and uart.direction name the same pin 6." in owner.told


def test_no_command_that_takes_a_board_is_left_out(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for file in (runtime.REPO / "tools" / "optoprobe" / "commands").glob("*.py"):
        if '"--board"' in file.read_text() and f"    {file.stem} " in shown:
            assert file.stem in TAKE_A_BOARD


def test_the_table_of_the_documents_is_that_of_the_files():
    text = (runtime.REPO / "docs" / "hardware.md").read_text()
    assert "\n".join(table.lines()) in text, "python -m optoprobe.boards.table prints it anew"
