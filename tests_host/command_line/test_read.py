"""`optoprobe read` and `optoprobe simulate` as a user starts them, over real pseudo-terminals; SerialLine by itself.

Where a test only needs something at the other end that says a few bytes, a `Peer` is it. The simulated meter stands on
the virtual line at its real rates, and hears or tells nothing legible at another rate than its own: what is read after
the baud switch was read at the right rate.
"""

import errno
import json
import os
import pty
import re
import signal
import termios
import threading
import time
from types import SimpleNamespace

import pytest
import serial
from iec62056_21.client import Iec6205621Client
from iec62056_21.messages import CommandMessage, DataSet
from support.broker import wait_until
from support.command_line import Peer, start

from metering import protocols
from metering.characters import with_parity
from metering.line import ANSWER_BYTES, EXPECT, LISTEN, MAX_SENT, SEND, SWITCH, WAIT, Line
from metering.listener import NOTHING, REJECTED, TELEGRAM
from optoprobe import serial_line
from optoprobe.serial_line import PortError, SerialLine
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.serial_meter import SerialMeter
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

PASSWORD = "12345678"
ASK = b"/?!\r\n"
BREAK = b"\x01B0\x03q"
SLOW = Line(300, 7, "E")


@pytest.fixture
def peer():
    with Peer() as made:
        yield made


def run(*arguments, within_s=60, **environment):
    """(exit code, stdout, stderr) of `optoprobe ...`."""
    process = start(*arguments, **environment)
    try:
        out, err = process.communicate(timeout=within_s)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    return process.returncode, out, err


def readings(out):
    """(obis, value, unit) of each reading in the only line of JSON."""
    (line,) = out.splitlines()
    return [(r["obis"], r["value"], r["unit"]) for r in json.loads(line)["readings"]]


def whole_line(buffer, n):
    return buffer.find(b"\n", 0, n) + 1


def drive(path, conversation, on_telegram=None, on_progress=None):
    with SerialLine(path) as line:
        return line.drive(conversation, on_telegram or (lambda listener: None), on_progress)


# --- line actions ----------------------------------------------------------------------------------------------------


def test_an_answer_is_what_complete_takes_and_the_rest_is_kept(peer):
    def conversation():
        yield SWITCH, SLOW
        peer.send(b"one\r\ntwo\r\nthr")
        first = yield EXPECT, whole_line, 5000, 5000
        second = yield EXPECT, whole_line, 5000, 5000
        peer.send(b"ee\r\n")
        third = yield EXPECT, whole_line, 5000, 5000
        return first, second, third

    assert drive(peer.path, conversation()) == (b"one\r\n", b"two\r\n", b"three\r\n")


def test_silence_ends_an_answer_with_what_there_was(peer):
    def conversation():
        yield SWITCH, SLOW
        nothing = yield EXPECT, whole_line, 60, 60
        peer.send(b"begun")
        begun = yield EXPECT, whole_line, 5000, 60
        return nothing, begun

    assert drive(peer.path, conversation()) == (b"", b"begun")


def test_an_answer_without_end_is_cut(peer):
    def conversation():
        yield SWITCH, SLOW
        peer.send(b"x" * (ANSWER_BYTES + 5))
        first = yield EXPECT, whole_line, 5000, 5000
        rest = yield EXPECT, whole_line, 60, 60
        return first, rest

    assert drive(peer.path, conversation()) == (b"x" * ANSWER_BYTES, b"x" * 5)


def test_waiting_keeps_and_switching_drops(peer):
    def conversation():
        yield SWITCH, SLOW
        peer.send(b"kept\n")
        yield WAIT, 80
        kept = yield EXPECT, whole_line, 60, 60
        peer.send(b"dropped by the port\n")
        yield SWITCH, Line(9600, 7, "E")
        peer.send(b"dropped by us\n")
        yield WAIT, 80
        yield SWITCH, SLOW
        nothing = yield EXPECT, whole_line, 60, 60
        return kept, nothing

    assert drive(peer.path, conversation()) == (b"kept\n", b"")


def test_seven_bits_leave_with_their_parity_bit_and_come_in_with_it(peer):
    def conversation():
        yield SWITCH, SLOW
        yield SEND, ASK
        peer.send(with_parity(b"/OPT5\r\n"))
        answer = yield EXPECT, lambda buffer, n: n // 7 * 7, 5000, 5000
        yield SWITCH, Line(9600)
        yield SEND, b"\xff\x00plain"
        return answer

    assert drive(peer.path, conversation()) == with_parity(b"/OPT5\r\n")
    assert peer.read_until(b"plain") == with_parity(ASK) + b"\xff\x00plain"


@pytest.mark.parametrize("made", [with_parity, bytes], ids=["with parity", "plain, as through a pty"])
def test_our_own_echo_is_taken_out(peer, made):
    def conversation():
        yield SWITCH, SLOW
        yield SEND, ASK
        peer.send(made(ASK[:2]))
        yield WAIT, 60
        peer.send(made(ASK[2:]) + b"/OPT5\n")
        return (yield EXPECT, whole_line, 5000, 5000)

    assert drive(peer.path, conversation()) == b"/OPT5\n"


def test_what_only_began_like_an_echo_is_the_meters(peer):
    def conversation():
        yield SWITCH, SLOW
        yield SEND, ASK
        peer.send(b"/")
        yield WAIT, 60
        peer.send(b"OPT5\n")
        return (yield EXPECT, whole_line, 5000, 5000)

    assert drive(peer.path, conversation()) == b"/OPT5\n"


def test_a_listener_gets_its_bytes_and_the_caller_each_telegram_first(peer):
    meter = SmlMeter()
    one, two = meter.telegram(0), meter.telegram(1)
    damaged = bytes([*one[:60], one[60] ^ 1, *one[61:]])
    order = []
    seen = []
    listener = protocols.load("sml")()

    def conversation():
        yield SWITCH, Line(9600)
        peer.send(one + damaged + two)
        while True:
            event = yield LISTEN, listener, 300, 300
            order.append(event)
            if event == NOTHING:
                return

    drive(peer.path, conversation(), lambda heard: order.append(heard.meter_id()), seen.append)
    assert [event for event in order if event != REJECTED] == [listener.meter_id(), TELEGRAM] * 2 + [NOTHING]
    assert REJECTED in order
    assert b"".join(seen) == one + damaged + two


def test_more_than_a_line_action_may_send_is_refused(peer):
    with pytest.raises(ValueError, match=f"at most {MAX_SENT}"):
        drive(peer.path, iter_once((SEND, bytes(MAX_SENT + 1))))


def iter_once(action):
    yield action


# --- ports that cannot be used ---------------------------------------------------------------------------------------


def test_there_is_no_such_port():
    code, out, err = run("read", "--port", "/dev/ttyNONE9")
    assert (code, out) == (2, "")
    assert err.startswith("optoprobe read: there is no port /dev/ttyNONE9: plug the head in")
    assert err.count("\n") == 1


def test_what_is_no_serial_port():
    code, _, err = run("read", "--port", os.devnull)
    assert code == 2
    assert "is no serial port that can be used (Inappropriate ioctl for device): check its name." in err


def test_a_port_another_reader_has(peer):
    with SerialLine(peer.path):
        code, _, err = run("read", "--port", peer.path)
    assert code == 2
    assert "is in use: end the program that reads it" in err


def test_a_port_that_is_not_ours(monkeypatch, peer):
    def refuse(*_, **__):
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PortError, match="is not yours to use: join the group") as caught:
        SerialLine(peer.path)
    assert caught.value.code == 2


def test_unplugged_while_reading(peer):
    process = start("read", "--port", peer.path, "--protocol", "sml")
    try:
        wait_for_rate(peer, termios.B9600)
        peer.unplug()
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1
    assert err.startswith(f"optoprobe read: {peer.path} has gone (")
    assert err.endswith("): check the plug and run this again.\n")


def wait_for_rate(peer, rate):
    """Return once somebody has opened the port and set it to `rate` (a constant of termios)."""
    wait_until(lambda: termios.tcgetattr(peer.master)[5] == rate, 20, "nobody opens the port")


def test_a_rate_the_adapter_cannot_do(peer):
    with SerialLine(peer.path) as line:

        class Stubborn:
            name = peer.path
            parity, stopbits = "N", 1

            @property
            def baudrate(self):
                return 300

            @baudrate.setter
            def baudrate(self, _):
                raise OSError(errno.EINVAL, "no")

        with pytest.raises(PortError, match="cannot be set to 9600 8N1 .*: use another adapter"):
            serial_line.set_line(Stubborn(), Line(9600))  # type: ignore[arg-type]
        assert line.line.baud == 300


# --- wrong usage, secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "its first line is empty"),
        ("secret)(\n", "none of /!()*"),
        ("s" * 33, "at most 32 characters"),
        ("se\u00e9cret", "plain ASCII"),
    ],
)
def test_a_password_that_cannot_be_is_refused_and_not_shown(tmp_path, content, says):
    file = tmp_path / "password"
    file.write_text(content)
    code, out, err = run("read", "--port", "/dev/ttyNONE9", "--password-file", file)
    assert code == 2
    assert says in err
    assert not content or content.strip() not in out + err


def test_a_password_file_that_is_not_there(tmp_path):
    code, _, err = run("read", "--port", "/dev/ttyNONE9", "--password-file", tmp_path / "none")
    assert code == 2
    assert "cannot be read (No such file or directory): check its name and permissions." in err


def test_simulate_refuses_what_it_cannot_play():
    assert run("simulate", "--pty", "--protocol", "sml", "--mode", "C")[0] == 2
    assert run("simulate", "--pty", "--quirk", "nonsense")[0] == 2
    assert run("simulate")[0] == 2
    assert run("simulate", "--port", "/dev/ttyNONE9")[0] == 2


def test_simulate_shows_its_own_password_and_none_that_it_was_given():
    played = ("simulate", "--pty", "--meter", "c1218-password", "--seconds", "0.2")
    code, _, err = run(*played)
    assert code == 0 and re.search(r"meter_password is [0-9]{20}\n", err)
    code, _, err = run(*played, OPTOPROBE_METER_PASSWORD=PASSWORD)
    assert code == 0 and "meter_password is the one given\n" in err and PASSWORD not in err


# --- reading a simulated meter ---------------------------------------------------------------------------------------


class Simulated:
    """`optoprobe simulate --pty ...` in a process of its own, ended by Ctrl-C."""

    def __init__(self, *arguments, **environment):
        self.process = start("simulate", "--pty", *arguments, **environment)
        assert self.process.stdout is not None
        self.path = self.process.stdout.readline().strip()
        self.err = ""

    def __enter__(self):
        assert self.path, self.process.communicate(timeout=10)[1]
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            _, self.err = self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        assert self.process.returncode == 0


def test_sml_is_found_by_listening():
    meter = SmlMeter(quirks=["phases"])
    with SerialMeter(MeterSource(meter)) as simulated:
        code, out, err = run("read", "--port", simulated.path, "--json")
        simulated.check()
    assert code == 0, err
    assert err == f"optoprobe read: listening on {simulated.path} for 3 s ...\n"
    said = json.loads(out)
    assert (said["file"], said["protocol"]) == (simulated.path, "sml")
    assert [r["obis"] for r in said["readings"]] == [obis for obis, _, _ in meter.expected()]


def test_an_encrypted_meter_wants_its_key():
    meter = DlmsMeter(period_s=0.7)
    with SerialMeter(meter) as simulated:
        code, out, told = run("read", "--port", simulated.path)
        assert (code, out) == (1, "") and "the meter sends dlms, encrypted: give its --key" in told, told
        keys = ("--key", meter.key.hex(), "--auth-key", meter.auth_key.hex())
        code, out, err = run("read", "--port", simulated.path, "--protocol", "dlms", "--json", *keys)
        simulated.check()
    assert code == 0, err
    assert json.loads(out)["protocol"] == "dlms" and meter.key.hex() not in out + err
    assert run("read", "--port", simulated.path, "--key", "12")[0] == 2


def test_again_and_again_until_ctrl_c():
    with Simulated("--protocol", "sml") as simulated:
        process = start("read", "--port", simulated.path, "--protocol", "sml", "--json", "--every", "1")
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
    first, second = (json.loads(line) for line in lines)
    assert second["offset"] > first["offset"]
    assert (process.returncode, err) == (130, "")


def test_nobody_is_legible_at_another_rate():
    with SerialMeter(MeterSource(SmlMeter(period_s=0.3))) as simulated:
        with serial.Serial(simulated.path, 4800, timeout=0.9) as port:
            wrong = port.read(250)
            port.baudrate = 9600
            port.read(20)  # the end of what was on its way
            right = port.read(700)
    assert len(wrong) > 50
    assert b"\x1b\x1b\x1b\x1b" not in wrong
    assert b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" in right


@pytest.fixture(scope="module")
def at_once():
    """What takes longest, run side by side: by name the exit code, stdout and stderr of `read`, and what it read."""
    asked = ("--protocol", "iec62056-21", "--json")
    mode_c = IecMeter("C", reaction_ms=400, history=1)
    mode_a = IecMeter("A", reaction_ms=400)
    whole = mode_a.rows
    mode_a.rows = lambda now_s: whole(now_s)[:3]  # at 300 baud a character takes 33 ms
    terminal, stderr = pty.openpty()
    try:
        with (
            SerialMeter(mode_c) as fast,
            SerialMeter(mode_a) as slow,
            Simulated("--mode", "C", "--history", "1", "--reaction-ms", "400", "--echo") as simulated,
            Peer() as silent,
        ):
            started = {
                "mode C": start("read", "--port", fast.path, *asked, stderr=stderr),
                "mode A": start("read", "--port", slow.path, *asked),
                "both commands": start("read", "--port", simulated.path),
                "silent": start("read", "--port", silent.path, *asked, "--timeout", "10"),
            }
            try:
                said = {name: process.communicate(timeout=60) for name, process in started.items()}
            finally:
                for process in started.values():
                    process.kill()
            fast.check()
            slow.check()
            heard = silent.read_until(with_parity(ASK))
        shown = os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        os.close(stderr)
    done = {name: (started[name].returncode, out, err) for name, (out, err) in said.items()}
    return SimpleNamespace(
        done=done, mode_c=mode_c, mode_a=mode_a, shown=shown, fast=fast, simulated=simulated, heard=heard
    )


def test_300_to_9600(at_once):
    code, out, _ = at_once.done["mode C"]
    assert code == 0, (at_once.shown, at_once.mode_c.events)
    assert readings(out) == at_once.mode_c.expected()
    assert at_once.mode_c.events[:2] == ["sign-on", "ack 050"]
    assert at_once.fast.wrong_parity == 0


def test_the_progress_on_a_terminal(at_once):
    assert re.search(r"\r[1-9]\d* bytes(, [1-9]\d* registers)?, \d+ s\x1b\[K", at_once.shown)
    assert at_once.shown.endswith("\r\x1b[K")  # nothing of it is left


def test_mode_a_stays_at_300(at_once):
    code, out, err = at_once.done["mode A"]
    assert code == 0, (err, at_once.mode_a.events)
    assert err == ""
    assert readings(out) == at_once.mode_a.expected()


def test_the_two_commands_together_for_people(at_once):
    code, out, err = at_once.done["both commands"]
    path = at_once.simulated.path
    assert code == 0, err
    assert err == (
        f"optoprobe read: listening on {path} for 3 s ...\n"
        f"optoprobe read: nothing is understood: asking by iec62056-21 on {path} ...\n"
    )
    assert out.startswith(f"{path}: iec62056-21 telegram at byte ")
    assert " kWh\n" in out
    assert at_once.simulated.err.startswith("optoprobe simulate: sign-on\noptoprobe simulate: ack 050\n")


def test_a_meter_that_never_answers(at_once):
    code, out, err = at_once.done["silent"]
    assert (code, out) == (1, "")
    assert err.startswith("optoprobe read: the meter does not answer: turn the head")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert at_once.heard == with_parity(ASK)


def test_a_pushed_telegram_needs_no_question():
    meter = IecMeter("D", baud=9600, period_s=1)
    with SerialMeter(meter) as simulated:
        code, out, err = run("read", "--port", simulated.path, "--protocol", "iec62056-21", "--json")
        simulated.check()
    assert code == 0, err
    assert [obis for obis, _, _ in readings(out)] == [obis for obis, _, _ in meter.expected()]
    assert json.loads(out)["checked"] is False


class Pusher(threading.Thread):
    """Sends `telegram` again and again to whoever reads `peer`, within a `with`."""

    def __init__(self, peer, telegram):
        super().__init__()
        self._peer, self._telegram = peer, telegram
        self._stop_now = threading.Event()

    def run(self):
        while not self._stop_now.wait(0.3):
            self._peer.send(self._telegram)

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self._stop_now.set()
        self.join()


def test_a_wrong_parity_gives_no_reading(peer):
    right = with_parity(b"/OPT5\\2X\r\n\r\n1.8.0(000123.456*kWh)\r\n!\r\n")
    at = right.index(with_parity(b"123"))
    wrong = right[: at + 1] + bytes([right[at + 1] ^ 0x80]) + right[at + 2 :]
    arguments = ("read", "--port", peer.path, "--protocol", "iec62056-21", "--json")
    with Pusher(peer, wrong):
        code, out, err = run(*arguments, "--timeout", "1.5")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"optoprobe read: no reading from .*, rejected: .*parity \d+.*\.\n", err)
    with Pusher(peer, right):
        code, out, err = run(*arguments)
    assert code == 0, err
    assert readings(out) == [("1.8.0", "000123.456", "kWh")]


def test_nothing_at_all_is_said_so(peer):
    code, out, err = run("read", "--port", peer.path, "--protocol", "sml", "--timeout", "0.2")
    assert (code, out) == (1, "")
    assert err.startswith(f"optoprobe read: no reading from {peer.path}: nothing came; check that the head")


def test_ctrl_c_leaves_the_meter_with_a_break(peer):
    process = start("read", "--port", peer.path, "--protocol", "iec62056-21", "--json")
    try:
        peer.read_until(with_parity(ASK), 30)
        peer.send(b"/OPT5\\2X\r\n")
        peer.read_until(with_parity(b"\x06050\r\n"))
        time.sleep(0.3)  # the ACK's last bit
        peer.send(b"\x02F.F(0)\r\n")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        peer.read_until(with_parity(BREAK))
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "")


def test_a_meter_on_a_port_that_is_there_already(peer):
    process = start("simulate", "--port", peer.path, "--reaction-ms", "200")
    try:
        wait_for_rate(peer, termios.B300)
        time.sleep(0.1)  # opening a port drops what it holds
        peer.send(with_parity(ASK))
        assert peer.read_until(b"\r\n").startswith(b"/OPT5")
        peer.unplug()
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (1, "")
    assert err.startswith("optoprobe simulate: sign-on\n")
    assert f"optoprobe simulate: {peer.path} has gone (" in err


# --- an independent client reads our simulated meter -----------------------------------------------------------------


# It opens its port a second time for the baud switch, 0.75 s after it has asked, and loses what came before. The norm
# allows a meter 1500 ms.
LATE_MS = 700


def independent(path, **options):
    client = Iec6205621Client.with_serial_transport(path, **options)
    client.connect()
    return client


def test_a_question_asked_in_the_moment_the_line_is_opened_is_heard(monkeypatch):
    simulated = SerialMeter(IecMeter("C"))
    outside, ports = simulated._outside, []
    look = outside.rate

    def rate(line):
        found = look(line)
        if not ports:  # nobody was there; before this is acted on, somebody is
            ports.append(serial.Serial(simulated.path, 300, 7, "E", timeout=20))
            ports[0].write(ASK)
        return found

    monkeypatch.setattr(outside, "rate", rate)
    with simulated:
        wait_until(lambda: ports, 20, "the line is not looked at")
        assert ports[0].read_until(b"\n").startswith(b"/OPT")
        ports[0].close()


def test_an_independent_client_reads_a_block():
    meter = IecMeter("C", reaction_ms=LATE_MS)
    with SerialMeter(meter) as simulated:
        client = independent(simulated.path)
        answer = client.standard_readout()
        client.disconnect()
        simulated.check()
    assert client.manufacturer_id == meter.flag
    assert [(s.address, s.value, s.unit) for s in answer.data] == meter.expected()


def test_an_independent_client_reads_a_register_behind_a_password():
    meter = IecMeter("C", reaction_ms=LATE_MS, password=PASSWORD)
    with SerialMeter(meter) as simulated:
        client = independent(simulated.path, password=PASSWORD)
        client.access_programming_mode()
        client.rest()
        password = DataSet("", PASSWORD)  # its own send_password() makes one without an address, a TypeError
        client.transport.send(CommandMessage("P", 1, password).to_bytes())
        assert client._recv_ack() == "\x06"
        client.rest()
        answer = client.read_single_value("1.8.0", additional_data="")
        client.send_break()
        client.disconnect()
        wait_until(lambda: meter.events[-1] == "break", 5, "the break is not heard")
        simulated.check()
    assert [(answer.address, answer.value, answer.unit)] == meter.reads
