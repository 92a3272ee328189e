"""The last rows of a gas volume corrector's archive, from a simulated one on the bit-accurate line.

No recording of a meter is public: the questions are held against an independent library's.
"""

import json
import random

import pytest
from support.runs import times

from metering.iec62056_21.programming_answers import block_check
from metering.line import EXPECT
from optoprobe import cli
from optoprobe.sessions.lis200.archive_rows import Archive
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.lis200_meter import Lis200Meter
from optoprobe.virtual.serial_meter import SerialMeter


def read(number=3, last=5, meter=None, echo=False):
    """(archive, meter, bench) of one attempt."""
    meter = meter or Lis200Meter()
    archive = Archive(number, last)
    bench = Bench(meter, VirtualLine(meter.line, echo=echo))
    bench.converse(archive.read_out())
    return archive, meter, bench


@pytest.mark.parametrize(("last", "echo"), [(1, False), (5, True), (48, False), (100, False)])
def test_the_last_rows_are_read_exactly(last, echo):
    archive, meter, bench = read(last=last, echo=echo)
    held = meter._programming_mode.archive(bench.now_s)
    assert archive.why == "" and archive.rows == held[-last:] and len(archive.rows) == min(last, len(held))
    assert archive.columns[2:5] == [("1:400", ""), ("2:302", "m3"), ("4:302", "m3")]
    assert {message[:3] for message in bench.sent if message[:1] == b"\x01"} == {b"\x01R1", b"\x01R3", b"\x01B0"}


def test_damaged_blocks_come_again():
    archive, meter, bench = read(last=48, meter=Lis200Meter(quirks=["damaged"]))
    assert archive.rows == meter._programming_mode.archive(bench.now_s)[-48:] and b"\x15" in bench.sent


def test_the_command_prints_them(capsys):
    with SerialMeter(Lis200Meter()) as port:
        code = cli.main(["read", "--port", port.path, "--archive", "3", "--last", "2", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0 and [row["archive"] for row in rows] == [3, 3]
    assert rows[1]["values"][3] == {"address": "2:302", "value": "260059.059", "unit": "m3"}


def test_a_meter_that_says_nothing_is_left_when_the_time_is_over(capsys):
    class Silent(Lis200Meter):
        def receive(self, value, at_s):
            pass

    with SerialMeter(Silent()) as port:
        code = cli.main(["read", "--port", port.path, "--archive", "3", "--timeout", "0.5"])
    assert (code, capsys.readouterr().err) == (1, "optoprobe read: 0.5 s are over, and no row has come.\n")


def test_its_questions_are_an_independent_librarys():
    library = pytest.importorskip("iec62056_21.lis200", reason="iec62056-21 is not installed")
    _, _, bench = read()
    for attribute in ("3", "4"):
        asked = library.ArchiveReadoutCommand(3, position=3, attribute=attribute, partial_blocks=True)
        assert asked.to_representation().encode() in bench.sent
    rows = [message for message in bench.sent if b"V.0" in message][0]
    begin = rows.split(b";")[1].decode()
    asked = library.ArchiveReadoutCommand(3, start=begin, position=3, partial_blocks=True)
    assert asked.to_representation().encode() == rows


def test_what_is_not_there_is_a_sentence(capsys):
    assert read(number=7)[0].why == "the meter refuses archive 7 (error 100: no such archive)"
    silent, _, _ = read(meter=Lis200Meter(address="1234", needs_address=True))
    assert "answers" in silent.why and silent.rows == []

    class Empty(Lis200Meter):
        class programming_mode(Lis200Meter.programming_mode):
            def archive(self, at_s):
                return []

    empty, _, _ = read(meter=Empty())
    assert (empty.why, empty.rows) == ("", [])
    with SerialMeter(Empty()) as port:
        code = cli.main(["read", "--port", port.path, "--archive", "3"])
    assert (code, capsys.readouterr().err) == (1, "optoprobe read: archive 3 holds no row.\n")


def test_a_torn_row_is_no_row():
    class Torn(Lis200Meter):
        class programming_mode(Lis200Meter.programming_mode):
            def archive(self, at_s):
                rows = super().archive(at_s)
                return [*rows[:-1], rows[-1][:-1]]

    archive, _, bench = read(meter=Torn())
    assert "other columns" in archive.why and archive.rows == [] and bench.sent[-1] == b"\x01B0\x03q"


def test_a_hostile_meter_makes_no_exception():
    """Frames that hold their check, and say anything."""
    draw = random.Random(3)
    said = [b"", b"(#0103)", b"(1)(2)\r\n", b"(1:0400)(2)", b"(0001-01-01,00:00:00)", b"(2026-11-29,12:00:00)(1)"]
    for _ in range(times(300)):
        archive = Archive(3, draw.choice((1, 1000)))
        steps, answer, n = archive.read_out(), None, 0
        try:
            while n < 3000:
                n += 1
                action = steps.send(answer)
                answer = b""
                if action[0] == EXPECT:
                    begin = draw.choice((b"\x02", b"\x02", b"\x01P0\x02"))
                    body = begin + draw.choice(said) + draw.choice((b"\x03", b"\x04"))
                    whole = b"/Els6EK270\r\n" if n < 5 else body + bytes((block_check(body[1:]),))
                    answer = whole[: action[1] and action[1](whole, len(whole)) or len(whole)]
        except StopIteration:
            assert archive.why or archive.rows == [] or all(len(row) == len(archive.columns) for row in archive.rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--archive", "0"], "give the number of an archive"),
        (["--archive", "3", "--protocol", "sml"], "--archive and sml do not belong together: it is for lis200 alone"),
        (["--archive", "3", "--profile", "1-0:99.1.0"], "not allowed with"),
        (["--archive", "3", "--every", "60"], "--every is for readings"),
        (["--last", "3"], "--last is for --profile and --archive"),
    ],
)
def test_wrong_usage_is_told(words, said, capsys):
    try:
        code = cli.main(["read", "--port", "/dev/null", *words])
    except SystemExit as end:
        code = end.code
    assert code == 2 and said in capsys.readouterr().err
