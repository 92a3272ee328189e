"""MQTT over TLS: who is let in, and who is refused in which words, by MicroPython's own tls against mosquitto.

All brokers are listeners of one mosquitto, whose certificates come from a CA made on the spot; all sessions are the
firmware's own, one after the other in one MicroPython. What a session lives through (kill, freeze, an empty store) is
in test_firmware_outages.py.
"""

import contextlib
import errno
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.broker import PASSWORD
from support.broker import users as mosquittos_users
from support.virtual_time import MS, LightOnly, Probe

from optoprobe.environment import runtime
from optoprobe.settings.certificates import placed
from optoprobe.virtual import board
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter

SCRIPT = runtime.REPO / "tests_host" / "micropython" / "on_micropython" / "tls_sessions.py"
HEAP = "160k"  # of sources, which are compiled there


class Brokers:
    """`port` of each kind of broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.other_ca = OwnCa(folder / "cas"), OwnCa(folder / "cas", "other")
        signed = {
            "good": self.ca.sign("good", "localhost", "127.0.0.1"),
            "other name": self.ca.sign("name", "elsewhere.example"),
            "expired": self.ca.sign("expired", "localhost", from_day=-9, to_day=-2),
            "not yet": self.ca.sign("future", "localhost", from_day=2),
        }
        self.client = self.ca.sign("client", "probe")
        self.port = {name: free_port() for name in [*signed, "wants certificate", "frozen"]}
        signed["wants certificate"] = signed["good"]
        users = folder / "users"
        users.write_text(mosquittos_users("me"))
        users.chmod(0o600)
        lines = [f"password_file {users}"]
        for name, one in signed.items():
            lines += [f"listener {self.port[name]} 127.0.0.1", f"certfile {one.certificate}", f"keyfile {one.key}"]
            if name == "wants certificate":
                lines += [f"cafile {self.ca.certificate}", "require_certificate true"]
        self.broker = Broker(folder / "broker", more="\n".join(["allow_anonymous false", *lines]))
        self.port["plain"] = self.broker.port
        self.frozen = socket.create_server(("127.0.0.1", self.port["frozen"]))


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    if runtime.mosquitto() is None:
        pytest.skip("no mosquitto on this machine and none to be had")
    made = Brokers(tmp_path_factory.mktemp("brokers"))
    with made.broker, made.frozen:
        yield made


# name -> broker, settings beside the CA, words of the sentence
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "right": ("good", {}, "session"),
    "right, by address": ("good", {"mqtt_host": "127.0.0.1"}, "session"),
    "right, CA as PEM": ("good", {"ca": "pem"}, "session"),
    "right, several CAs": ("good", {"ca": "both"}, "session"),
    "right, more than a record": ("good", {"bytes": 20000}, "session"),
    "our certificate": ("wants certificate", {"client": True}, "session"),
    "wrong CA": ("good", {"ca": "other"}, "is not signed by the CA of mqtt_tls_ca: give that of the CA"),
    "wrong name": ("other name", {}, "is for another name: set mqtt_host to a name that stands in it"),
    "wrong name by address": ("other name", {"mqtt_host": "127.0.0.1"}, "is for another name: set mqtt_host"),
    "expired": ("expired", {}, "has expired: have it renewed"),
    "not yet valid": ("not yet", {}, "is not valid yet: wait, or look whether the time server"),
    "wrong password": ("good", {"mqtt_password": "battery staple"}, "refuses: not authorised"),
    "plain broker": ("plain", {}, "does not speak TLS at this port: see mqtt_port, with TLS mostly 8883"),
    "no time": ("good", {"ntp_host": "silent"}, "no time of day for the dates of certificates: the time server silent"),
    "no time server": ("good", {"ntp_host": ""}, "TLS needs the time of day, as certificates have dates: set ntp_host"),
    "no CA file": ("good", {"ca": "nowhere"}, "of mqtt_tls_ca is missing or damaged: give it again, optoprobe config"),
    "half a CA": ("good", {"ca": "half"}, "of mqtt_tls_ca is missing or damaged: give it again, optoprobe config"),
    "a CA of 64 KiB": ("good", {"ca": "large"}, "of mqtt_tls_ca is missing or damaged: give it again"),
    "no certificate of ours": ("wants certificate", {}, "it may want a certificate of ours (mqtt_tls_cert"),
    "our key alone": ("good", {"mqtt_tls_key": "key.der"}, "- of mqtt_tls_cert is missing or damaged"),
    "no memory": ("good", {"deed": "no memory"}, "there is no memory for TLS"),
    "frozen in the handshake": ("frozen", {"deed": "frozen"}, "cannot be reached or does not answer"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(brokers: Brokers) -> tuple[dict[str, tuple[str, int]], list[str], bool]:
    """Of each case (sentence, open files), the time servers asked, whether the sentence's code is still there."""
    folder = brokers.folder
    settings = {"mqtt_tls_ca": str(brokers.ca.certificate), "mqtt_tls_cert": str(brokers.client.certificate)}
    _, files = placed(settings | {"mqtt_tls_key": str(brokers.client.key)}, folder)
    pem, other = brokers.ca.certificate.read_bytes(), brokers.other_ca.certificate.read_bytes()
    der = files["mqtt_ca.der"]
    kinds = {"der": der, "pem": pem, "both": other + pem, "other": other, "half": der[:200], "large": pem * 100}
    for kind, content in kinds.items():
        (folder / kind).write_bytes(content)
    (folder / "cert.der").write_bytes(files["mqtt_cert.der"])
    (folder / "key.der").write_bytes(files["mqtt_key.der"])
    cases = []
    for where, more, _ in CASES.values():
        case = {"deed": "", "mqtt_host": "localhost", "mqtt_port": brokers.port[where]}
        case |= {"mqtt_user": "me", "mqtt_password": PASSWORD, "mqtt_tls_ca": more.get("ca", "der")} | more
        if case.pop("client", False):
            case |= {"mqtt_tls_cert": "cert.der", "mqtt_tls_key": "key.der"}
        cases.append(case)
    (folder / "cases.json").write_text(json.dumps(cases))
    (folder / "umqtt").symlink_to(runtime.umqtt() / "umqtt")
    paths = [str(path) for path in (folder, runtime.REPO, runtime.REPO / "lib", board.FAKES)]
    command = [str(runtime.micropython()), "-X", f"heapsize={HEAP}", str(SCRIPT), "cases.json"]
    environment = os.environ | {"MICROPYPATH": ":".join([*paths, ".frozen"])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    answers, asked, unload_is_there, sentence_is_there = json.loads(done.stdout.splitlines()[-1])
    assert unload_is_there
    return dict(zip(CASES, answers, strict=True)), asked, sentence_is_there


@pytest.mark.parametrize("name", CASES)
def test_a_broker_is_let_in_or_refused_in_words(told: Any, name: str) -> None:
    said, _ = told[0][name]
    words = CASES[name][2]
    assert words in said, said
    assert PASSWORD not in said and "battery" not in said and "Traceback" not in said


def test_nothing_stays_open_behind_a_refusal(told: Any) -> None:
    assert {n for _, n in told[0].values()} == {told[0]["right"][1]}


def test_the_time_is_asked_once_where_there_is_a_server(told: Any) -> None:
    _, asked, sentence_is_there = told
    files_first = ("no CA file", "half a CA", "a CA of 64 KiB", "our key alone")
    assert len(asked) == len(CASES) - len(files_first) - 1  # and none where ntp_host is empty
    assert not sentence_is_there


def test_nothing_is_said_to_a_broker_that_is_not_the_one(brokers: Brokers, told: Any) -> None:
    """Not the password, not even our name: its log has those of the sessions alone."""
    log = brokers.broker.log_file.read_text()
    let_in = sum(1 for case in CASES.values() if case[2] == "session")
    assert log.count(" as p ") == 2 * let_in, log


# --- where a refusal stands ------------------------------------------------------------------------------------------

# What tls_sockets, or umqtt, raises for it: the test above has it from Mbed TLS itself.
RAISED: dict[str, tuple[Any, ...]] = {
    "wrong CA": (3, "The certificate is not correctly signed by the trusted CA\n"),
    "wrong name": (3, "The certificate Common Name (CN) does not match with the expected CN\n"),
    "expired": (3, "The certificate validity has expired\n"),
    "not yet valid": (3, "The certificate validity starts in the future\n"),
    "plain broker": (4, -0x7200),
    "wrong password": (5,),
}


class Exchange:
    """Takes what the page answers."""

    path, query = "/api/status", ""

    def __init__(self) -> None:
        self.body = b""

    async def begin(self, *_: Any) -> None: ...

    async def send(self, data: bytes) -> None:
        self.body += data


def told_by(probe: Probe, door: Any) -> str:
    """The last fault as the page's status has it."""
    exchange = Exchange()
    with contextlib.suppress(StopIteration):
        probe.modules.load("firmware.page.page_answers").answer(door, exchange, None).send(None)
    return str(json.loads(exchange.body)["counts"]["mqtt_last_fault"])


class TlsFault(Exception):
    """As in firmware.mqtt.tls_sockets."""


class TlsProbe(Probe):
    """With sockets that need no certificates."""

    def _stand_ins(self) -> dict[str, Any]:
        given = super()._stand_ins()
        kinds = {"NO_TIME": 1, "BAD_FILE": 2, "BAD_CERTIFICATE": 3, "NO_HANDSHAKE": 4, "TlsFault": TlsFault}
        made = given["firmware.mqtt.sockets"].MqttSockets
        given["firmware.mqtt.tls_sockets"] = SimpleNamespace(TlsSockets=lambda *_: made(0), **kinds)
        return given


def test_each_refusal_stands_on_page_and_console_in_mqtt_and_log_and_the_led_tells(tmp_path: Path) -> None:
    class Led:
        changes = state = 0

        def value(self, value: int | None = None) -> int:
            if value is not None:
                self.changes += value != self.state
                self.state = value
            return self.state

    raised: list[Exception] = []
    settings = {"protocol": "sml", "mqtt_tls_ca": "ca.der", "device_password": "of the page"}
    with TlsProbe(tmp_path, LightOnly(()), settings) as probe:
        door, probe.app._page = probe.app._page, None  # nobody opens its port
        client = probe.modules.load("umqtt.simple").MQTTClient
        let_in, hear = client.connect, client.check_msg

        def connect(self: Any, *more: Any) -> None:
            if raised:
                raise raised[0]
            let_in(self, *more)

        def check_msg(self: Any) -> None:
            if raised:
                raise OSError(errno.ECONNRESET)
            hear(self)

        client.connect, client.check_msg = connect, check_msg
        probe.may_fail = True
        probe.app._led = led = Led()
        said = []
        for name, fault in RAISED.items():
            raised.append(Exception(*fault) if name == "wrong password" else TlsFault(*fault))
            words = CASES[name][2]
            assert probe.run_for(200, done=lambda words=words: any(words in line for line in probe.log)), name
            said.append(next(line for line in probe.log if words in line).removeprefix("optoprobe: "))
            assert told_by(probe, door) == said[-1]
            before = led.changes
            probe.run_for(5)
            assert led.changes - before > 8
            raised.clear()
            since_s = probe.now_s
            assert probe.run_for(200, done=lambda since_s=since_s: probe.of("/diagnostics", since_s)), name
            assert probe.of("/diagnostics", since_s)[-1].object()["mqtt_last_fault"] == said[-1]
            before = led.changes
            probe.run_for(5)
            assert led.changes == before
        probe.say("optoprobe/cellar/order/set", "log")
        assert probe.run_for(30, done=lambda: probe.of("/cellar/log"))
        kept = [line[0] for line in json.loads(probe.of("/cellar/log")[0].payload)]
        for sentence in said:
            assert any(sentence.startswith(text.rstrip(".")) for text in kept), kept


def settings_of(given: dict[str, Any], device: Any) -> tuple[dict[str, Any], list[str]]:
    from firmware import settings

    return settings.check(given)


@pytest.mark.parametrize(
    "given",
    [
        {"mqtt_tls_ca": "mqtt_ca.der"},
        {"mqtt_tls_ca": 7},
        {"mqtt_tls_ca": "../../etc/ca"},
        {"mqtt_tls_ca": True},
        {"mqtt_tls_cert": "c.der", "mqtt_tls_key": "k.der"},
    ],
)
def test_who_wants_tls_never_gets_a_session_without_it(given: dict[str, Any], device: Any) -> None:
    values, problems = settings_of(given, device)
    assert values["mqtt_tls_ca"] == "mqtt_ca.der" and values["mqtt_port"] == 8883
    assert bool(problems) == (given["mqtt_tls_ca"] != "mqtt_ca.der" if "mqtt_tls_ca" in given else False)
    assert settings_of(given | {"mqtt_port": 1883}, device)[0]["mqtt_port"] == 1883


def test_without_the_setting_nothing_of_tls_is_there(device: Any, tmp_path: Path) -> None:
    values, _ = settings_of({}, device)
    assert values["mqtt_tls_ca"] == "" and values["mqtt_port"] == 1883
    with Probe(tmp_path, SmlMeter(), {"protocol": "sml"}) as probe:
        probe.run_until(20, done=lambda: probe.of("/live"))
        assert probe.of("/live") and not [name for name in probe.modules.loaded if "tls" in name]


# --- metering beside a handshake -------------------------------------------------------------------------------------

HELD_MS = 3000  # a handshake's arithmetic on a chip: 1 to 3 s are expected, none has shown it; the GIL is held
METERS: dict[str, tuple[Any, dict[str, object]]] = {
    "sml": (SmlMeter, {"protocol": "sml"}),
    "p1": (lambda: IecMeter("P1"), {"protocol": "iec62056-21", "line": "115200 8N1"}),
    "blink": (lambda: LightOnly((n * 700 * MS, n * 700 * MS + 10 * MS) for n in range(1, 50)), {"protocol": "blink"}),
}


@pytest.mark.parametrize("name", METERS)
def test_no_telegram_is_lost_where_the_loop_is_held_by_a_handshake(name: str, tmp_path: Path) -> None:
    """Every 10 s nothing of Python runs for 3 s, and the UART's buffer has what came."""
    told = {}
    for held_ms in (0, HELD_MS):
        make_meter, settings = METERS[name]
        held_at_s = [0.0]

        def late_ms(held_ms: int = held_ms, held_at_s: list[float] = held_at_s) -> int:
            if probe.now_s - held_at_s[-1] < 10:
                return 0
            held_at_s.append(probe.now_s)
            return held_ms

        with Probe(tmp_path / str(held_ms), make_meter(), settings, late_ms=late_ms) as probe:
            probe.run_until(38)  # the last time was over long ago
            told[held_ms] = probe.diagnostics()
        assert len(held_at_s) == 4 and told[held_ms]["longest_stall_ms"] == held_ms
    keys = ("pulses", "ghosts") if name == "blink" else ("telegrams", "rejected", "skipped_bytes", "held")
    for key in (*keys, "overruns"):
        assert told[0][key] == told[HELD_MS][key], key
    assert told[0][keys[0]] > 30 and told[0]["overruns"] == 0
