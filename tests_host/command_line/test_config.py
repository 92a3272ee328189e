"""`optoprobe config` against MicroPython's unix port on a pty: what is written, never read back, and refused."""

import json

import pytest
from support.pty_board import PtyBoard

from optoprobe import board_settings, cli
from optoprobe.commands import config

SECRETS = ("correct horse", "battery staple")
THERE = {
    "wifi_ssid": "Häuschen", "wifi_password": SECRETS[0], "mqtt_host": "broker", "mqtt_password": SECRETS[1],
    "of_a_later_version": [1],
}  # fmt: skip


@pytest.fixture
def board():
    board = PtyBoard()
    try:
        put(board, json.dumps(THERE))
        yield board
    finally:
        if board.is_running:
            board.stop()


def put(board, text, name="settings.json"):
    board.ask(f"with open({name!r}, 'w') as file:\n    file.write({text!r})")


def on(board):
    return json.loads(board.ask("print(open('settings.json').read())"))


def run(capsys, *arguments):
    code = cli.main(["config", *map(str, arguments)])
    said = capsys.readouterr()
    assert not any(secret in said.out + said.err for secret in SECRETS)
    is_sentence = len(said.err.splitlines()) == 1 and said.err.startswith(("optoprobe config: ", "optoprobe: "))
    assert code == 0 or is_sentence, said
    return code, said.out, said.err


def test_the_settings_are_shown_without_the_secrets(capsys, board):
    code, out, error = run(capsys, "--port", board.port)
    assert (code, error) == (0, "")
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert rows["wifi_ssid"] == '"Häuschen"' and rows["mqtt_port"] == "1883  (default)"
    assert rows["wifi_password"] == rows["mqtt_password"] == "(set)" and rows["meter_key"] == "(empty)"
    assert rows["of_a_later_version"] == "(not known to this version)"
    assert on(board) == THERE and board.stop() == ["reset"]


def test_the_secrets_do_not_come_over_the_line(board):
    with board_settings.Board(board.port) as probe:
        found = probe.read()
    assert found["wifi_password"] is found["mqtt_password"] is True and "meter_key" not in found


def test_settings_are_changed_and_unset_and_others_stay(capsys, board):
    options = ("--set", "interval_s=900", "--set", "wake_up=true", "--set", "probe_name=Zähler", "--unset", "mqtt_host")
    code, out, _ = run(capsys, "--port", board.port, *options)
    assert code == 0 and "Written: interval_s, mqtt_host, probe_name, wake_up. The probe restarts with it." in out
    expected = THERE | {"interval_s": 900, "wake_up": True, "probe_name": "Zähler"}
    del expected["mqtt_host"]
    assert on(board) == expected
    assert board.ask("import os; print(os.listdir())").count(".new") == 0


def test_a_secret_is_asked(capsys, board, monkeypatch):
    monkeypatch.setattr(config.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(config.getpass, "getpass", lambda prompt: SECRETS[1])
    code, _, _ = run(capsys, "--port", board.port, "--set", "wifi_password")
    assert code == 0 and on(board) == THERE | {"wifi_password": SECRETS[1]}


def test_a_question_that_is_left_changes_nothing(capsys, board, monkeypatch):
    def leave(prompt):
        raise EOFError

    monkeypatch.setattr(config.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(config.getpass, "getpass", leave)
    code, _, error = run(capsys, "--port", board.port, "--set", "wifi_password")
    assert code == 2 and "a question was left: nothing was written" in error and on(board) == THERE


def test_export_leaves_the_secrets_out_and_import_leaves_them_be(capsys, board, tmp_path):
    file = tmp_path / "mine.json"
    code, out, _ = run(capsys, "--port", board.port, "--export", file)
    assert code == 0 and "left out: mqtt_password, of_a_later_version, wifi_password" in out
    exported = json.loads(file.read_text(encoding="utf-8"))
    assert exported == {key: value for key, value in THERE.items() if "password" not in key and "later" not in key}
    file.write_text(json.dumps(exported | {"mqtt_host": "other"}))
    code, _, _ = run(capsys, "--port", board.port, "--import", file)
    assert code == 0 and on(board) == THERE | {"mqtt_host": "other"}


def test_a_factory_reset_forgets_what_is_the_owners(capsys, board):
    put(board, "[1]", "energy.json")
    put(board, "x", "board.json")
    code, _, error = run(capsys, "--port", board.port, "--factory-reset")
    assert code == 2 and "say --yes" in error and on(board) == THERE
    code, out, _ = run(capsys, "--port", board.port, "--factory-reset", "--yes")
    assert code == 0 and "Removed: settings.json, energy.json." in out
    assert board.ask("import os; print(sorted(os.listdir()))").strip() == "['board.json']"


def test_a_misspelt_secret_is_not_exported(capsys, board, tmp_path):
    put(board, json.dumps(THERE | {"wifi_pasword": SECRETS[0], "mqtt_pass": SECRETS[1]}))
    code, out, _ = run(capsys, "--port", board.port, "--export", tmp_path / "mine.json")
    exported = (tmp_path / "mine.json").read_text()
    assert code == 0 and "mqtt_pass" in out and not any(secret in exported for secret in SECRETS)


def test_what_is_imported_is_known_or_left_out(capsys, board, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"mqtt_host": "other", "zzz": "x" * 9000}))
    code, out, _ = run(capsys, "--port", board.port, "--import", file)
    assert code == 0 and "does not know them: zzz" in out and on(board) == THERE | {"mqtt_host": "other"}


@pytest.mark.parametrize("text", ["[1, 2", '{"wifi_ssid": "x", "mqtt_host": "y"', "\0" * 300])
def test_a_damaged_file_on_the_board_is_told_and_left(capsys, board, text):
    """The other settings are in it: it is not written over with one."""
    put(board, text)
    for options in (["--set", "wifi_ssid=z"], []):
        code, out, error = run(capsys, "--port", board.port, *options)
        assert (code, out) == (1, "") and "settings.json is damaged, nothing was changed: --factory-reset" in error
    assert board.ask("print(repr(open('settings.json').read()))").strip() == repr(text)


def test_an_energy_total_in_rtc_memory_stays(capsys, board):
    """It is newer than flash; the count of restarts before it ends."""
    board.ask("import machine\nmachine.RTC().memory(b'OPR1\\5\\5total')")
    assert run(capsys, "--port", board.port)[0] == 0
    notes = [note for note in board.stop() if note.startswith("memory")]
    assert all(note.endswith("total'") for note in notes), notes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "mqtt_port=70000"], "mqtt_port is not accepted: give a whole number from 1 to 65535"),
        (["--set", "mqtt_port=many"], "mqtt_port is not accepted"),
        (["--set", "interval_s=--5"], "interval_s is not accepted"),
        (["--set", "wifi_ssid=\udcff"], "a value holds half a character"),
        (["--set", "wake_up=perhaps"], "wake_up is not accepted: give true"),
        (["--set", "meter_key=correct horse"], "meter_key is not accepted"),
        (["--set", "wifi_sid=x"], "there is no setting wifi_sid: did you mean wifi_ssid?"),
        (["--set", "wifi_ssid"], "give wifi_ssid=VALUE: only a secret is asked"),
        (["--set", "wifi_password"], "is asked at a terminal"),
        (["--unset", "nothing_like_it"], "there is no setting nothing_like_it: see --help-settings"),
        (["--import", "/no/such/file"], "cannot be read"),
        (["--factory-reset", "--set", "wifi_ssid=x"], "--factory-reset goes alone"),
    ],
)
def test_what_is_not_accepted_never_reaches_a_board(capsys, monkeypatch, options, said):
    monkeypatch.setattr(config, "Board", None)
    code, out, error = run(capsys, "--port", "X", *options)
    assert (code, out) == (2, "") and said in error


def test_wrong_usage_and_a_port_that_is_none(capsys):
    code, _, error = run(capsys)
    assert code == 2 and "--port" in error
    code, _, error = run(capsys, "--port", "/dev/no-such-port")
    assert code == 1 and "no MicroPython answers at /dev/no-such-port" in error


def test_every_setting_has_its_help_and_every_secret_is_known_as_one(capsys):
    code, out, _ = run(capsys, "--help-settings")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and list(rows) == [row.key for row in board_settings.schema()]
    assert "default 1883" in rows["mqtt_port"] and rows["meter_key"].endswith("; secret")
    secret = {row.key for row in board_settings.schema() if "password" in row.key or row.key.endswith("key")}
    assert secret == set(board_settings.SECRETS)


def test_brackets_in_brackets_are_no_settings(capsys, tmp_path):
    (tmp_path / "deep.json").write_text("[" * 20_000)
    code, _, error = run(capsys, "--port", "X", "--import", tmp_path / "deep.json")
    assert code == 2 and "is not JSON" in error
