"""`optoprobe demo` as a user starts it: what it prints, its exit codes, and that it leaves nothing behind.

Every demo runs in a process of its own with a TMPDIR of its own: its children are known by that name in their
environment, its files by lying there.
"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from optoprobe import simulated
from optoprobe.broker_client import BrokerClient, BrokerUnreachable
from optoprobe.demo.meters import name_of, replayed
from optoprobe.demo.picture import Picture
from optoprobe.demo.screen import Moment, PlainLines, Screen
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter

PASSWORD = "battery staple"
WITHOUT_MOSQUITTO = (
    "import sys; from optoprobe import cli; from optoprobe.environment import runtime;"
    "runtime.mosquitto = lambda: None; sys.exit(cli.main(sys.argv[1:]))"
)
ENERGY = re.compile(r"^ +\d+\.\d s  Energy import +14798\.11\d\d kWh$", re.MULTILINE)
POWER = re.compile(r"^ +\d+\.\d s  Power +\d+\.\d W$", re.MULTILINE)


class Run:
    """One demo in a subprocess, its scratch below `folder`; of SML unless `at_random` or `arguments` say else."""

    def __init__(self, folder, *arguments, code=None, at_random=False, **environment):
        if not at_random and not {"--meter", "--capture", "--quirk"} & set(arguments):
            arguments = ("--meter", "sml", *arguments)
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self.marker = f"TMPDIR={self.scratch}".encode()
        program = [sys.executable, "-c", code] if code else [sys.executable, "-m", "optoprobe"]
        self.process = subprocess.Popen(
            [*program, "demo", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"TMPDIR": str(self.scratch)} | environment,
        )  # fmt: skip

    def processes(self):
        """Ids of all processes of this run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.marker in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended, or is not ours
        return found

    def until_readings(self):
        """What it said up to the first power."""
        said = ""
        for line in self.process.stdout:
            said += line
            if POWER.match(line):
                return said
        pytest.fail(f"no readings: {self.process.stderr.read()}")

    def end(self):
        """(exit code, standard output, standard error) once it has ended; nothing of it may be left."""
        out, err = self.process.communicate(timeout=150)  # a dozen at once build their boards on two busy cores
        assert "Traceback" not in err, err
        assert PASSWORD not in out + err
        assert self.processes() == []
        assert list(self.scratch.iterdir()) == []
        return self.process.returncode, out, err

    def fails(self, code):
        """Its one sentence on standard error."""
        returncode, _, err = self.end()
        assert returncode == code, err
        assert err.startswith("optoprobe demo: ") and err.count("\n") == 1, err
        return err


def test_readings_arrive_with_their_units(tmp_path):
    code, out, err = Run(tmp_path, "--seconds", 6).end()
    assert (code, err) == (0, "")
    assert ENERGY.search(out) and POWER.search(out)
    assert re.search(r"^firmware  MicroPython, ", out, re.MULTILINE)
    summary = re.fullmatch(r"6 s: 5 registers in \d+ messages; telegrams: (\d) good, 0 rejected \(told \d s ago\)",
                           out.splitlines()[-1])  # fmt: skip
    assert summary and int(summary[1]) >= 1


def test_each_meter_is_shown(tmp_path):
    """Side by side: a minute of line time in half of one."""
    seconds = {"iec-a": 35, "iec-c": 30, "iec-d": 25, "p1": 25}
    seconds |= {"dlms": 12, "dlms-mbus": 25}
    runs = {name: Run(tmp_path / name, "--meter", name, "--seconds", n) for name, n in seconds.items()}
    at_random = Run(tmp_path / "any", "--seconds", 33, at_random=True)
    blink = Run(tmp_path / "blink", "--meter", "blink", "--quirk", "remote", "--seconds", 25)
    for name, run in runs.items():
        code, out, err = run.end()
        assert (code, err) == (0, ""), (name, out)
        assert f"simulated {name_of(name)} meter" in out
        energy = r"Energy import T1 +4932\.70\d kWh" if name == "p1" else r"Energy import( B1)? +14798\.11\d kWh"
        assert re.search(energy, out), (name, out)
        assert re.search(r"Power( import)? +\d+ W", out), (name, out)
        if not name.startswith("dlms"):
            assert re.search(r"Voltage L1 +2\d\d\.\d V", out), (name, out)
        # who begins to listen between two frames of a telegram has its end alone
        rejected = r"(0 rejected|\d rejected \(incomplete \d\))" if name == "dlms-mbus" else "0 rejected"
        assert re.search(r"telegrams: [1-9]\d* good, " + rejected, out), (name, out)
    code, out, err = blink.end()
    assert (code, err) == (0, ""), out
    registers = (r"Energy counted +0\.00\d*[1-9]\d* kWh", r"Power +\d+ W", r"Light +blinking")
    for said in (*registers, r"pulses: [1-9]\d* counted"):
        assert re.search(said, out), (said, out)


    code, out, err = at_random.end()
    meter = re.search(r"^The meter was ([a-z0-9-]+)\.$", out, re.MULTILINE)
    assert (code, err) == (0, "") and meter and meter[1] in simulated.meters(), (out, err)
    found = r"^ +\d+\.\d s  (light seen: \d+ baud, .* push|answers when asked: .*|flashes seen .*)$"
    assert re.search(found, out, re.MULTILINE), out
    assert re.search(r"kWh$", out, re.MULTILINE)


def test_a_quirk_of_another_meter_is_refused(tmp_path):
    said = Run(tmp_path, "--meter", "iec-c", "--quirk", "kermit").fails(2)
    assert "no such quirk as kermit" in said


def test_a_recorded_block_is_replayed(tmp_path):
    capture = tmp_path / "capture.bin"
    capture.write_bytes(b"/OPT5METER\r\n" + IecMeter("C", full=True).block(3)[0])
    code, out, err = Run(tmp_path, "--seconds", 12, "--capture", capture).end()
    assert (code, err) == (0, "")
    assert re.search(r"Energy import +14798\.11\d kWh", out)


def test_what_is_used_instead_is_said_aloud(tmp_path):
    asked = Run(tmp_path / "asked", "--runtime", "cpython")
    no_micropython = Run(tmp_path / "none", OPTOPROBE_MICROPYTHON=str(tmp_path / "nothing"))
    no_mosquitto = Run(tmp_path / "amqtt", code=WITHOUT_MOSQUITTO)
    for run, sentence in (
        (asked, "The firmware runs under CPython, as asked for"),
        (no_micropython, "The firmware runs under CPython instead"),
        (no_mosquitto, "There is no mosquitto here, so the broker is amqtt"),
    ):
        said = run.until_readings()
        run.process.send_signal(signal.SIGINT)
        assert run.end()[::2] == (0, "")
        assert sentence in said and ENERGY.search(said)


def test_a_capture_is_replayed(tmp_path):
    meter = SmlMeter(7, quirks=("phases",), energy_wh=123_456_789)
    capture = tmp_path / "capture.bin"
    capture.write_bytes(b"".join(meter.telegram(second) for second in range(3)))
    code, out, err = Run(tmp_path, "--seconds", 10, "--capture", capture).end()
    assert (code, err) == (0, "")
    assert re.search(r"Energy import +123456\.78\d\d kWh", out) and re.search(r"Voltage L2 +2\d\d\.\d V", out)


def test_of_a_transcript_what_the_meter_said_is_replayed():
    said = [SmlMeter(7).telegram(second) for second in range(2)]
    text = "".join(f"# second {second}\n< {data.hex(' ')}\n" for second, data in enumerate(said))
    played = replayed("session.txt", text.encode(), None, None)
    assert (played.protocol, played.note) == ("sml", "")
    assert played.source.poll(0.0, 0.0).data in said[0] + said[1]


def test_a_capture_without_a_telegram_is_played_all_the_same(tmp_path):
    capture = tmp_path / "noise.bin"
    capture.write_bytes(bytes(range(256)) * 4)
    run = Run(tmp_path, "--capture", capture, "--seconds", 5)
    out, err = run.process.communicate(timeout=60)
    assert run.process.returncode == 1
    assert "noise.bin (1,024 bytes, " in out and "it is played all the same" in out
    assert err.startswith("optoprobe demo: no readings arrived in 5 s; ") and err.count("\n") == 1


def test_an_empty_capture_is_one_sentence(tmp_path):
    capture = tmp_path / "empty.bin"
    capture.write_bytes(b"")
    assert "there are no bytes in " in Run(tmp_path, "--capture", capture).fails(1)


def test_an_encrypted_capture_is_read_with_its_key(tmp_path):
    meter = DlmsMeter("mbus")
    capture = tmp_path / "capture.bin"
    capture.write_bytes(b"".join(meter.telegram(second) for second in range(0, 30, 10)))
    keys = ("--key", meter.key.hex(), "--auth-key", meter.auth_key.hex())
    with_key = Run(tmp_path / "with", "--capture", capture, "--seconds", 20, *keys)
    without = Run(tmp_path / "without", "--capture", capture, "--seconds", 3)
    code, out, err = with_key.end()
    assert (code, err) == (0, "") and re.search(r"Energy import.* kWh", out), out
    assert meter.key.hex() not in out + err
    out, err = without.process.communicate(timeout=60)
    assert "Give its --key" in out


@pytest.mark.parametrize("history", [1, 7])
def test_a_read_out_that_was_asked_for_is_asked_for_again(tmp_path, history):
    """However long it is: played at one rate, one of 4.9 KB gave nothing, as no meter pushes so."""
    capture = tmp_path / "capture.bin"
    capture.write_bytes(b"/OPT5METER\r\n" + IecMeter("C", full=True, history=history).block(3)[0])
    code, out, err = Run(tmp_path, "--seconds", 20, "--capture", capture).end()
    assert (code, err) == (0, "")
    assert re.search(r"Energy import +14798\.11\d kWh", out)
    assert " s  the meter is being asked and read ...\n" in out


def test_an_outside_broker_is_left_as_it_was(tmp_path):
    left = []
    with Broker(tmp_path / "broker") as broker:
        where = ("--broker", f"127.0.0.1:{broker.port}", "--user", "me", "--password", PASSWORD)
        code, out, err = Run(tmp_path, "--seconds", 10, *where).end()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _, __, message: left.append(message.topic)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.publish("end", b"of retained", qos=1, retain=True).wait_for_publish(5)
        client.subscribe([("optoprobe/#", 1), ("homeassistant/#", 1), ("end", 1)])
        give_up = time.monotonic() + 5
        while "end" not in left and time.monotonic() < give_up:
            time.sleep(0.02)
        client.disconnect()
        client.loop_stop()
    assert (code, err) == (0, "")
    assert ENERGY.search(out) and " as me;" in out
    assert left == ["end"]


def test_a_broker_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "cannot be reached (Connection refused)" in Run(tmp_path, "--broker", f"127.0.0.1:{port}").fails(1)


def test_a_broker_over_tls_is_named_as_one_and_checked(tmp_path):
    ca, other = OwnCa(tmp_path), OwnCa(tmp_path, "other")
    with Broker(tmp_path / "tls", signed=ca.sign("b", "localhost")) as broker, Broker(tmp_path / "plain") as plain:
        for where, file, words in (
            (("localhost", broker.port), None, "speaks TLS alone: give --tls-ca FILE, the CA that has signed"),
            (("localhost", broker.port), other.certificate, "is not the one (unable to get local issuer certificate)"),
            (("127.0.0.1", broker.port), ca.certificate, "certificate is not valid for '127.0.0.1'"),
            (("localhost", plain.port), ca.certificate, "does not speak TLS at this port: leave --tls-ca out"),
            (("localhost", broker.port), tmp_path / "b.key", "cannot be used: give --tls-ca a CA's certificate, PEM"),
        ):  # fmt: skip
            with pytest.raises(BrokerUnreachable, match=re.escape(words)):
                BrokerClient(where, None, None, (("a", 0),), print, ca=file)
        BrokerClient(("localhost", broker.port), None, None, (("a", 0),), print, ca=ca.certificate).close()


def test_a_broker_that_refuses_us(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x20\x02\x00\x05")  # CONNACK, not authorised
                connection.recv(1000)

        threading.Thread(target=refuse, daemon=True).start()
        where = ("--broker", f"127.0.0.1:{server.getsockname()[1]}", "--user", "me", "--password", PASSWORD)
        assert "refuses us (Not authorized)" in Run(tmp_path, *where).fails(1)


@pytest.mark.parametrize(("number", "options"), [(signal.SIGINT, ()), (signal.SIGTERM, ("--tls",))])
def test_a_signal_ends_it_cleanly(tmp_path, number, options):
    run = Run(tmp_path, *options)
    assert ("over TLS; topics" in run.until_readings()) == bool(options)
    assert len(run.processes()) >= 3  # the demo, the broker, the firmware
    run.process.send_signal(number)
    code, out, err = run.end()
    assert (code, err) == (0, "")
    assert "5 registers in " in out


def test_a_firmware_that_ends_is_told(tmp_path):
    run = Run(tmp_path)
    run.until_readings()
    for pid in run.processes():
        if b"import boot, main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert "the firmware ended: " in run.fails(1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--broker", "nowhere"],
        ["--broker", "host:99999"],
        ["--password", PASSWORD],
        ["--broker", "host:1883", "--password", PASSWORD],
        ["--capture", "/nowhere/capture.bin"],
        ["--capture", "capture.bin", "--quirk", "phases"],
        ["--capture", "capture.bin", "--meter", "p1"],
        ["--meter", "dlms", "--key", "00" * 16],
        ["--capture", "capture.bin", "--key", "12"],
    ],
)
def test_wrong_usage(tmp_path, arguments):
    Run(tmp_path, *arguments).fails(2)


def test_a_terminal_gets_a_screen(tmp_path):
    pid, terminal = pty.fork()
    if pid == 0:
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", "optoprobe", "demo", "--meter", "p1", "--seconds", "10"]
        os.execve(sys.executable, command, environment)
    shown = b""
    while select.select([terminal], [], [], 100)[0]:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end has closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    lines = on_screen(shown.decode())
    assert len(lines) <= 24 + 1 and max(map(len, lines)) <= 80, lines
    assert re.match(r"P1 \(simulated\) → MicroPython → (mosquitto|amqtt) 127\.0\.0\.1:\d+$", lines[0])
    assert re.match(r"meter \d+$", lines[1])
    assert re.match(r"  Energy import T1 +4932\.70\d kWh +\d\.\d s ago$", lines[2])
    rows = [line.split("  ")[1] for line in lines if line.endswith(" s ago")]
    # a counter that begins with 0, as the first of export does, stands for a minute first
    assert rows[:4] == ["Energy import T1", "Energy import T2", "Energy export T2", "Power import"]
    below = "\n".join(lines[len(rows) + 2 :])
    assert re.search(r"^\d+ more registers in a higher window\n", below)
    assert re.search(r"^meter sent \d+ telegrams, [1-9]\d* with readings arrived$", below, re.MULTILINE)
    assert re.search(r"^notice: ok$", below, re.MULTILINE) and "free heap: " in below and "probe online" in below


def on_screen(written):
    """The lines that stand on a terminal in the end."""
    rows, at = [""] * 200, 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\n":
            at += 1
        elif token.endswith("A") and token[0] == "\x1b":
            at -= int(token[2:-1])
        elif token.startswith("\x1b") and token.endswith("J"):
            rows[at:] = [""] * (len(rows) - at)
        elif token[0] not in "\x1b\r":
            rows[at] = token
    return [row for row in rows if row]


def test_a_long_notice_stands_whole_on_the_screen_and_among_the_lines(capsys):
    notice = "no telegram for 12 s: " + "check that the head sits on the meter's eye, cable down; " * 4 + "end"
    picture = Picture("p")
    picture.take("optoprobe/p/diagnostics", json.dumps({"notice": notice}).encode(), 1.0)
    moment = Moment(5.0, 0.0, "meter sent 3 telegrams, ", reading_since_s=2.0)
    Screen("header").show(picture, moment)
    lines = on_screen(capsys.readouterr().out)
    assert all(len(line) <= 80 for line in lines)
    assert notice.split() == " ".join(lines).partition("notice: ")[2].partition(" probe ")[0].split()
    assert any(line.startswith("the meter is being read for 3 s; ") for line in lines)
    PlainLines().show(picture, moment)
    assert f"notice: {notice}\n" in capsys.readouterr().out


# --- the picture, by hand ---


def test_messages_that_are_not_ours_are_counted_and_cannot_steer_the_terminal():
    picture = Picture("p")
    for payload in (b"\xff", b"[1]", b"7"):
        picture.take("optoprobe/p/m/live", payload, 1.0)
    picture.take("optoprobe/p/m/state", b'{"energy_import": "1\\u001b[2J"}', 2.0)
    assert picture.odd == 3
    assert [(r.value, r.at_s) for r in picture.registers.values()] == [("1?[2J", 2.0)]


def test_names_and_units_come_from_the_announcement_whichever_comes_first():
    said = b'{"cmps": {"power": {"name": "Power", "unit_of_meas": "W"}, "serial": {"name": "Serial"}}}'
    state = ("optoprobe/p/m/live", b'{"power": "-0.05", "serial": "x"}', 1.0)
    announced = ("homeassistant/device/optoprobe_p_m/config", said, 1.0)
    for order in ((state, announced), (announced, state)):
        picture = Picture("p")
        for message in order:
            picture.take(*message)
        seen = [(r.name, r.value, r.unit) for r in picture.registers.values()]
        assert seen == [("Power", "-0.05", "W"), ("Serial", "x", "")]


def test_rejections_are_told_with_their_reasons():
    picture = Picture("p")
    counts = b'{"telegrams": 3, "rejected": 2, "rejected_by_reason": {"crc": 2, "length": 0}, "held": 1}'
    picture.take("optoprobe/p/diagnostics", counts, 10.0)
    assert picture.counters(14.0) == "telegrams: 3 good, 2 rejected (crc 2), 1 values held back (told 4 s ago)"
