"""`optoprobe config` against MicroPython's unix port on a pty: what is written, never read back, and refused."""

import json
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from support.pty_board import PtyBoard

from optoprobe import cli, source_tree
from optoprobe.building import device_tree
from optoprobe.commands import config
from optoprobe.settings import certificates, on_board
from optoprobe.settings.device_check import settings_problems
from optoprobe.virtual.own_ca import OwnCa

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
    with on_board.Board(board.port) as probe:
        found = probe.read()
    assert found["wifi_password"] is found["mqtt_password"] is True and "meter_key" not in found


def test_settings_are_changed_and_unset_and_others_stay(capsys, board):
    options = ("--set", "interval_s=900", "--set", "wake_up=true", "--set", "probe_name=Zähler 🔌")
    options += ("--unset", "mqtt_host")
    code, out, _ = run(capsys, "--port", board.port, *options)
    assert code == 0 and "Written: interval_s, mqtt_host, probe_name, wake_up. The probe restarts with it." in out
    expected = THERE | {"interval_s": 900, "wake_up": True, "probe_name": "Zähler 🔌"}
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


def test_a_wipe_is_left_to_the_probe(capsys, board):
    code, _, error = run(capsys, "--port", board.port, "--wipe")
    assert code == 2 and "--wipe forgets" in error and on(board) == THERE
    code, out, _ = run(capsys, "--port", board.port, "--wipe", "--yes")
    assert code == 0 and "takes off its broker" in out and on(board) == THERE
    files = board.ask("import os; print(sorted(os.listdir()))").strip()
    assert files == str(["settings.json", on_board.WIPE_DUE]) and board.stop() == ["reset"]
    firmware = (source_tree.ROOT / "firmware" / "owner" / "wipe.py").read_text()
    assert f'DUE_FILE = "{on_board.WIPE_DUE}"' in firmware
    by_setting = [*certificates.FILES.values(), on_board.WIPE_DUE]
    assert not [name for name in on_board.STATE if name not in firmware and name not in by_setting]


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
        (["--wipe", "--unset", "wifi_ssid"], "--wipe goes alone"),
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
    assert code == 1 and "there is no port /dev/no-such-port: plug the board in" in error
    code, _, error = run(capsys, "--port", "/dev/null")
    assert code == 1 and "no MicroPython answers at /dev/null" in error


def test_every_setting_has_its_help_and_every_secret_is_known_as_one(capsys):
    code, out, _ = run(capsys, "--help-settings")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and list(rows) == [row.key for row in on_board.schema()]
    assert "default 1883" in rows["mqtt_port"] and rows["meter_key"].endswith("; secret")
    secret = {row.key for row in on_board.schema() if "password" in row.key or row.key.endswith("key")}
    assert secret == set(on_board.SECRETS)


def test_brackets_in_brackets_are_no_settings(capsys, tmp_path):
    (tmp_path / "deep.json").write_text("[" * 20_000)
    code, _, error = run(capsys, "--port", "X", "--import", tmp_path / "deep.json")
    assert code == 2 and "is not JSON" in error


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """Files of a CA made on the spot and of what it has signed, and damaged ones."""
    folder = tmp_path_factory.mktemp("ca")
    ca, other = OwnCa(folder), OwnCa(folder, "other")
    old = OwnCa(folder / "old", to_day=-1)
    own = ca.sign("own", "probe")
    ca.sign("next", "probe")
    pem = ca.certificate.read_bytes()
    (folder / "both.pem").write_bytes(pem + b"of somebody else\r\n" + other.certificate.read_bytes())
    (folder / "half.pem").write_bytes(pem[:200])
    (folder / "large.pem").write_bytes(pem * 20)
    (folder / "newline.pem").write_bytes(b"\n" + pem.rstrip().replace(b"\n", b"\r\n"))
    (folder / "old.pem").write_bytes(old.certificate.read_bytes())
    (folder / "ca.der").write_bytes(ssl.PEM_cert_to_DER_cert(pem.decode()))
    secret = serialization.load_pem_private_key(own.key.read_bytes(), None)
    form, lock = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    (folder / "locked.key").write_bytes(secret.private_bytes(serialization.Encoding.PEM, form, lock))
    return folder


@pytest.mark.parametrize("name", ["ca.der", "newline.pem"])
def test_a_ca_goes_into_a_file_of_its_own_as_der(capsys, board, signed, name):
    code, out, error = run(capsys, "--port", board.port, "--set", f"mqtt_tls_ca={signed / name}")
    assert (code, error) == (0, "") and "Written: mqtt_tls_ca." in out
    assert on(board) == THERE | {"mqtt_tls_ca": "mqtt_ca.der"}
    kept = board.ask("print(open('mqtt_ca.der', 'rb').read().hex())")
    assert bytes.fromhex(kept.strip()) == (signed / "ca.der").read_bytes()
    code, out, _ = run(capsys, "--port", board.port, "--unset", "mqtt_tls_ca")
    assert code == 0 and on(board) == THERE and ".der" not in board.ask("import os; print(os.listdir())")


def test_an_import_brings_the_certificates_that_lie_beside_it(capsys, board, signed):
    content = {"mqtt_tls_ca": "both.pem", "mqtt_tls_key": "own.key"}
    (signed / "probe.json").write_text(json.dumps(content | {"mqtt_tls_cert": (signed / "own.pem").read_text()}))
    code, out, _ = run(capsys, "--port", board.port, "--import", signed / "probe.json", "--export", signed / "out.json")
    assert code == 0 and "left out: mqtt_password, mqtt_tls_ca, mqtt_tls_cert, mqtt_tls_key" in out
    files = board.ask("print(open('mqtt_ca.der').read().count('BEGIN'), len(open('mqtt_key.der', 'rb').read()) > 100)")
    assert files.split() == ["2", "True"]
    assert "mqtt_tls" not in (signed / "out.json").read_text()
    code, out, _ = run(capsys, "--port", board.port, "--factory-reset", "--yes")
    assert code == 0 and "mqtt_ca.der, mqtt_cert.der, mqtt_key.der" in out


def test_a_register_map_comes_with_its_setting_and_goes_with_it(capsys, board):
    code, out, error = run(capsys, "--port", board.port, "--set", "protocol=modbus", "--set", "modbus_map=abb_b23")
    assert (code, error) == (0, "") and on(board) == THERE | {"protocol": "modbus", "modbus_map": "modbus_map.json"}
    assert "B23" in board.ask("print(open('modbus_map.json').read())")
    code, out, _ = run(capsys, "--port", board.port, "--unset", "modbus_map")
    assert code == 0 and "modbus_map.json" not in board.ask("import os; print(os.listdir())")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ca": "nowhere.pem"}, "mqtt_tls_ca: the file cannot be read (No such file or directory): check its name"),
        ({"ca": "half.pem"}, "mqtt_tls_ca: it is no whole certificate: give a certificate, PEM or DER"),
        ({"ca": "own.key"}, "mqtt_tls_ca: it is a private key: give a certificate, PEM or DER"),
        ({"ca": "own.pem"}, "mqtt_tls_ca: it is no CA's certificate: give that of its issuer, CN=optoprobe's own ca"),
        ({"ca": "old.pem"}, "mqtt_tls_ca: it has expired"),
        ({"ca": "large.pem"}, "mqtt_tls_ca: it is larger than 8192 bytes"),
        ({"cert": "own.pem"}, "mqtt_tls_cert and mqtt_tls_key belong together: give both or none"),
        ({"cert": "own.pem", "key": "next.key"}, "mqtt_tls_key is not the key of mqtt_tls_cert"),
        ({"cert": "own.pem", "key": "locked.key"}, "mqtt_tls_key: it is behind a password: give the key without one"),
        ({"cert": "own.pem", "key": "own.pem"}, "mqtt_tls_key: it is no whole private key: give one, PEM or DER"),
    ],
)
def test_a_wrong_certificate_is_one_sentence_and_nothing_is_written(capsys, signed, given, sentence):
    options = [word for key, name in given.items() for word in ("--set", f"mqtt_tls_{key}={signed / name}")]
    code, _, error = run(capsys, "--port", "/nonexistent", *options)
    assert code == 2 and sentence in error and error.endswith("; nothing was written.\n")
    assert "BEGIN" not in error


def test_a_settings_file_names_certificates_beside_it(signed):
    file = signed / "deployed.json"
    content = {"wifi_ssid": "home", "mqtt_host": "broker", "mqtt_tls_ca": "ca.pem"}
    file.write_text(json.dumps(content))
    assert settings_problems(file) == ([], [])
    device_tree.build(signed / "tree", source_tree.board_files()["virtual"], file)
    assert json.loads((signed / "tree" / "settings.json").read_text()) == content | {"mqtt_tls_ca": "mqtt_ca.der"}
    assert (signed / "tree" / "mqtt_ca.der").read_bytes() == (signed / "ca.der").read_bytes()
    file.write_text(json.dumps(content | {"mqtt_tls_ca": "half.pem", "mqtt_port": 0}))
    assert settings_problems(file)[0] == ["mqtt_tls_ca: it is no whole certificate: give a certificate, PEM or DER"]
