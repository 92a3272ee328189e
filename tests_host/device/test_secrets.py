"""Every secret that a probe can be given, all of them in use, searched for in everything that leaves it."""

import base64
import binascii
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.broker import PASSWORD as BROKERS_PASSWORD
from support.broker import Listener, PausableMeter, users, wait_until
from support.page_client import PASSWORD as DEVICE_PASSWORD
from support.page_client import START_S, PageClient
from support.pty_board import PtyBoard
from support.virtual_time import Probe

from optoprobe import cli
from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.own_ca import OwnCa

HEAP_BYTES = 400_000  # all that a probe can do at once
TEXTS = {"wifi_password": "secret of the Wi-Fi", "meter_password": "12345671", "setup_password": "set me up 7531"}
GETS = ("/", "/api/readings", "/api/status", "/api/log", "/metrics", "/api/capture?full", "/settings.json")
ORDER = "optoprobe/vault/order/set"
TYPED = "00112233445566778899AABBCCDDEEFF0"  # a digit too many: refused, and said nowhere


def forms(secrets: dict[str, bytes]) -> dict[str, bytes]:
    """In each form that it could leave by: as it is, in hexadecimal digits, in base64."""
    found = {}
    for name, secret in secrets.items():
        found[name] = secret
        found[name + ", hex"] = binascii.hexlify(secret)
        for skipped in range(3):  # where it stands behind something else
            whole = base64.b64encode(b"\0" * skipped + secret)
            found[f"{name}, base64 {skipped}"] = whole[-(-4 * skipped // 3) : -4]
    return found


def of_a_key(pem: bytes) -> bytes:
    """What nobody else may know of it: the rest stands in its certificate."""
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def test_no_secret_leaves_the_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if runtime.mosquitto() is None:
        pytest.skip("no mosquitto on this machine and none to be had")
    meter = DlmsMeter("optical", seed=1)
    ca = OwnCa(tmp_path / "ca")
    own = ca.sign("client", "probe")
    names = {"mqtt_tls_ca": ca.certificate, "mqtt_tls_cert": own.certificate, "mqtt_tls_key": own.key}
    tls = {key: str(path) for key, path in names.items()}
    user_file = tmp_path / "users"
    user_file.write_text(users("me"))
    user_file.chmod(0o600)
    settings: dict[str, object] = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_user": "me", **TEXTS, **tls}
    settings |= {"mqtt_password": BROKERS_PASSWORD, "device_password": DEVICE_PASSWORD, "protocol": "dlms"}
    settings["probe_id"] = "vault"
    settings |= {"meter_key": meter.key.hex().upper(), "meter_auth_key": meter.auth_key.hex()}
    secrets = {key: str(value).encode() for key, value in settings.items() if key.endswith("_password")}
    secrets |= {"meter_key": meter.key, "meter_auth_key": meter.auth_key, "typed": TYPED[:32].encode()}
    client = PageClient(free_port())
    more = f"allow_anonymous false\npassword_file {user_file}"
    with (
        Broker(tmp_path / "broker", signed=ca.sign("broker", "127.0.0.1"), more=more) as broker,
        OpticalServer(PausableMeter(meter), meter.line) as server,
    ):
        settings |= {"mqtt_port": broker.port, "page_port": client.port}
        board = VirtualBoard(tmp_path / "device", settings, server.port, heap_bytes=HEAP_BYTES)
        key_file = board.directory / json.loads((board.directory / "settings.json").read_text())["mqtt_tls_key"]
        secrets["client key"] = of_a_key(own.key.read_bytes())
        assert secrets["client key"] in key_file.read_bytes()
        with Listener(broker.port, "me", BROKERS_PASSWORD, ca.certificate) as listener, board:
            listener.subscribed(START_S)
            listener.wait_for("/state", START_S)
            wait_until(client.is_there, START_S, "the page does not listen")
            assert client.ask("POST", "/api/login", body={"password": "wrong"}).status == 401
            client.sign_in()
            for order in ("meter_key=" + TYPED, "protocol=" + TYPED, TYPED):
                listener.publish(ORDER, order)
            listener.publish("optoprobe/vault/capture/set", "2")
            captured = listener.wait_for("/capture", START_S).payload
            assert b"\n" in captured
            basic = base64.b64encode(f"any:{DEVICE_PASSWORD}".encode()).decode()
            for path in GETS:
                client.ask("GET", path)
            client.ask("GET", "/metrics", {"Authorization": "Basic " + basic, "Cookie": ""})
            wait_until(lambda: client.ask("GET", "/api/capture?full").body == captured, START_S, "no capture")
            hashed = json.loads((board.directory / "settings.json").read_text())["device_password"]
            secrets |= {"hash of device_password": hashed.split(":")[3].encode()}
    heard = [message for message in listener.messages if not message.topic.endswith("/set")]  # that is us
    said = {f"MQTT {k} {heard[k].topic}": heard[k].topic.encode() + heard[k].payload for k in range(len(heard))}
    assert {name.split("/")[-1] for name in said} >= {"config", "state", "diagnostics", "capture", "status"}
    assert any(b"a key has" in part or b"refused" in part for part in said.values()), "no order was refused"
    said |= {f"HTTP {k}": answer for k, answer in enumerate(client.seen)}
    said["console"] = "\n".join(board.log).encode()
    kept = {path.name: path.read_bytes() for path in board.directory.iterdir() if path.is_file()}
    given = kept.pop("settings.json")
    assert {"rtc_memory", "capture.txt", key_file.name} <= set(kept)
    said |= {f"file {name}": content for name, content in kept.items() if name != key_file.name}
    said |= of_config(given, tmp_path / "export.json", capsys)
    whole = b"\n".join(said.values()).lower()
    for name, secret in forms(secrets).items():
        if secret.lower() in whole:
            pytest.fail(f"{name}: {[where for where, text in said.items() if secret.lower() in text.lower()]}")
    assert all(secrets[key].lower() in given.lower() for key in TEXTS)  # the search finds what there is


def test_a_password_said_to_the_meter_is_said_to_nobody_else(tmp_path: Path) -> None:
    """The head hears what it sends: a capture would hold it, if it were said meanwhile."""
    password = TEXTS["meter_password"]
    meter = IecMeter("C", offered="0", password=password, reaction_ms=200, history=2)
    settings: dict[str, object] = {"protocol": "iec62056-21", "interval_s": 10, "meter_password": password}
    with Probe(tmp_path, meter, settings, echo=True) as probe:
        probe.run_for(90)
        said = meter.events.count("password")
        probe.say("optoprobe/cellar/capture/set", "120")
        probe.run_for(200)
        assert said and meter.events.count("password") > said and not meter.wrong_passwords
        (captured,) = [message.payload.decode() for message in probe.of("/capture")]
        probe.say("optoprobe/cellar/order/set", "log")
        probe.run_for(10)
        assert probe.of("/cellar/log")
        told = [*probe.log, *(message.payload.decode() for message in probe.published)]
    rows = [line.split() for line in captured.splitlines() if line[0].isdigit()]
    told.append(bytes(int(row[1], 16) & 0x7F for row in rows).decode())  # without the parity
    assert "1.8.0(" in told[-1]
    told += [file.read_text() for file in tmp_path.iterdir() if file.is_file() and file.name != "settings.json"]
    assert not [text for text in told if password in text]


def of_config(given: bytes, export: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """What `optoprobe config` shows and exports of a board with the settings `given`."""
    board = PtyBoard()
    try:
        board.ask(f"with open('settings.json', 'w') as file:\n    file.write({given.decode()!r})")
        for arguments in ((), ("--export", str(export))):
            assert cli.main(["config", "--port", board.port, *arguments]) == 0
    finally:
        if board.is_running:
            board.stop()
    shown = capsys.readouterr()
    assert shown.out.count("(set)") >= 6
    return {"config": (shown.out + shown.err).encode(), "export": export.read_bytes()}
