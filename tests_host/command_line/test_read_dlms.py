"""`optoprobe read` asks a simulated DLMS meter over a pseudo-terminal, at its real rate."""

import json
import socket
import subprocess
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest
from support.command_line import start

from optoprobe.commands.read import _NoAnswer, _Session, _SpeaksAnother
from optoprobe.tcp_line import TcpLine
from optoprobe.virtual.c1218_meter import C1218Meter
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.mbus_meter import MbusMeter
from optoprobe.virtual.serial_meter import SerialMeter
from optoprobe.virtual.tcp_meter import TcpMeter

PASSWORD = "71043298"
JOBS = "obis_job=1.0.1.8.0.255:2,1.0.14.7.0.255"


def read(meter: AskedDlmsMeter, options: str, password: str = "") -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    environment = {"OPTOPROBE_METER_PASSWORD": password}
    played = TcpMeter(meter) if meter.wrapper else SerialMeter(meter)
    with played as simulated:
        where = ("--tcp", simulated.path) if meter.wrapper else ("--port", simulated.path, "--protocol", "dlms-client")
        words = (*where, "--json", "--meter-options", options)
        process: subprocess.Popen[str] = start("read", *words, **environment)
        try:
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert "Traceback" not in err, err
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (JOBS, {}),
        (JOBS + " type=SN", {"short_names": True}),
        (JOBS, {"password": PASSWORD}),
        (JOBS, {"password": PASSWORD, "wrapped": True}),
    ],
)
def test_a_meter_is_read_and_let_go(options: str, more: dict) -> None:
    meter = AskedDlmsMeter(**more)
    code, out, err = read(meter, options, more.get("password", ""))
    assert (code, err) == (0, ""), (err, meter.events)
    said = json.loads(out)
    assert (said["protocol"], said["meter_id"]) == ("dlms-client", meter.number)
    assert [(r["obis"], r["unit"]) for r in said["readings"]] == [("1-0:1.8.0*255", "Wh"), ("1-0:14.7.0*255", "Hz")]
    assert said["readings"][0]["value"] == str(meter.read[0][1])
    assert meter.events == ["left properly, 2 values read"]


def test_a_register_that_is_refused_is_told() -> None:
    code, out, err = read(AskedDlmsMeter(), JOBS + ",1.0.9.9.9.255")
    assert code == 0 and len(json.loads(out)["readings"]) == 2
    assert "the meter gives no 1.0.9.9.9.255 (object undefined)" in err and err.count("\n") == 1


def test_a_wrong_password_ends_it_with_a_sentence_after_one_try() -> None:
    meter = AskedDlmsMeter(password=PASSWORD)
    code, out, err = read(meter, JOBS, "87654321")
    assert (code, out) == (1, "") and "refuses the password" in err and "87654321" not in err
    assert meter.wrong_passwords == 1 and not meter.is_linked


def test_wrong_options_are_told() -> None:
    code, out, err = read(AskedDlmsMeter(), "client_address=300")
    assert (code, out) == (1, "") and "client_address is a whole number up to 127" in err


def test_an_answer_over_tcp_is_taken_without_waiting_for_what_may_come_behind_it(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = TcpLine("{}:{}".format(*listening.getsockname()))
        meter, _ = listening.accept()
        waits: list[float] = []
        monkeypatch.setattr(socket.socket, "settimeout", lambda _, seconds: waits.append(seconds))
        meter.sendall(b"answer")
        assert line.expect(lambda buffer, n: n if n == 6 else 0, 1000, 500) == b"answer" and len(waits) == 1
        monkeypatch.undo()
        meter.close()
        line.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tcp", "127.0.0.1:x"), "give HOST or HOST:PORT"),
        (("--tcp", "127.0.0.1", "--protocol", "sml"), "--tcp and sml do not belong together"),
        (("--tcp", "127.0.0.1", "--meter-options", "mode=IEC"), "--tcp and mode=IEC do not belong together"),
        (("--tcp", "127.0.0.1:1"), "nothing can be reached at 127.0.0.1:1"),
    ],
)
def test_what_is_no_meter_on_the_network_is_a_sentence(words: tuple[str, ...], said: str) -> None:
    process: subprocess.Popen[str] = start("read", *words)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (2, "") and said in err and err.count("\n") == 1


def test_a_meter_that_sends_no_block_and_is_anothers_by_its_identification_is_asked_so() -> None:
    session = _Session(Namespace(protocol="auto", every=None), None, "", (None, None))  # type: ignore[arg-type]
    told: dict[str, Any] = {"NAME": "iec62056-21", "failures": 1, "failed": {"no data": 1}, "explanation": ""}
    session._conversation = SimpleNamespace(**told, identification=b"/Els6EK270\r\n")
    with pytest.raises(_SpeaksAnother, match="lis200"):
        session._on_progress(b"")
    session._conversation = SimpleNamespace(**told, identification=b"/ISK5MT174\r\n")
    session._failures_told = 0
    session._on_progress(b"")


def test_a_failure_is_told_at_once_as_the_next_attempt_is_minutes_away_and_once(capsys: pytest.CaptureFixture) -> None:
    session = _Session(Namespace(protocol="c1218", every=None), None, "", (None, None))  # type: ignore[arg-type]
    for failures in (1, 1, 2):
        session._conversation = SimpleNamespace(failures=failures, explanation="it wants a password.")
        session._on_progress(b"")
    assert capsys.readouterr().err == "optoprobe read: it wants a password.\n"


def test_what_is_not_looked_for_is_said_where_nothing_is_found(monkeypatch, capsys: pytest.CaptureFixture) -> None:
    def find(self: _Session) -> None:
        self._conversation = SimpleNamespace(explanation="")  # it was asked
        raise _NoAnswer("nothing came")

    monkeypatch.setattr(_Session, "_find", find)
    assert _Session(Namespace(protocol="auto"), None, "", (None, None)).run() == 1  # type: ignore[arg-type]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "optoprobe read: nothing came." and "--protocol" in said[1]
    assert said[1].endswith(": lis200, modbus.")


@pytest.mark.parametrize(
    ("meter", "name"),
    [
        (AskedDlmsMeter(), "dlms-client"), (KmpMeter(), "kmp"), (MbusMeter(), "mbus"), (C1218Meter(), "c1218"),
        (IecMeter("C"), ""),
    ],
    ids=["dlms", "kmp", "mbus", "c1218", "nobody"],
)  # fmt: skip
def test_whose_meter_answers_a_knock_is_asked(meter: Any, name: str, capsys: pytest.CaptureFixture) -> None:
    bench = Bench(meter, VirtualLine(meter.line))
    line: Any = SimpleNamespace(name="port", drive=lambda actions, *_: bench.converse(actions))
    args = Namespace(protocol="auto", timeout=None, meter_options="", every=None)
    session = _Session(args, line, "", (None, None))
    asked: list[str] = []

    def ask(name: str) -> None:
        asked.append(name)
        if len(asked) == 1:
            session._conversation = SimpleNamespace(failures=1, failed={"no answer": 1})
            session._on_progress(b"")

    session._hear_one_of, session._ask = (lambda names: False), ask  # type: ignore[method-assign]
    session._find()
    assert asked == ["iec62056-21", name or "iec62056-21"]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"{'a meter answers' if name else 'nobody answers that or a knock'}: asking by {asked[1]} ...")


def test_a_meter_that_sends_no_block_and_offers_mode_e_is_asked_by_dlms() -> None:
    meter = AskedDlmsMeter(sign_on=True)
    with SerialMeter(meter) as simulated:
        process: subprocess.Popen[str] = start("read", "--port", simulated.path, "--json", "--meter-options", JOBS)
        try:
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 0 and "mode E" in err, err
    said = json.loads(out)
    assert said["protocol"] == "dlms-client" and len(said["readings"]) == 2
