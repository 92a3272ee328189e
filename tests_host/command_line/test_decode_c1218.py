"""`optoprobe decode` of a recorded conversation in ANSI C12.18, said by the simulated meter; `read` of one by a port.

Any transcript: readings that the meter has sent, or counted rejections; never another value, never an exception.
"""

import json
import random

import pytest
from support.command_line import start
from support.corpus import recording

from metering.c1218 import psem_request
from metering.c1218.psem_frame import TOGGLE
from metering.line import Line
from optoprobe import Rejected, Telegram, cli, masking, sessions, transcript
from optoprobe.capture_file import Capture, Segment
from optoprobe.virtual.c1218_meter import C1218Meter, NesContents, framed, table_reply
from optoprobe.virtual.c1219_contents import C1219Contents
from optoprobe.virtual.serial_meter import SerialMeter

CONTENTS = NesContents()
ROWS = [row for table in (23, 28) for row in CONTENTS.expected(table, 0)]


def conversation(ident=CONTENTS.ident):
    """(to the meter?, bytes) of a session."""
    tables = CONTENTS.tables(0)
    said = [
        (psem_request.IDENT, ident),
        (psem_request.logon(2, b"reader"), b"\0"),
        (psem_request.security(b"secret"), b"\0"),
        (psem_request.read_part(23, 0, 8), table_reply(tables[23])),
        (psem_request.read_part(5, 0, 8), b"\4"),
        (psem_request.read_part(28, 0, 40), table_reply(tables[28])),
        (psem_request.TERMINATE, b"\0"),
    ]
    lines = []
    for k, (asked, answered) in enumerate(said):
        toggle = TOGGLE * (k % 2)
        lines += [(True, framed(asked, toggle)), (False, b"\x06" + framed(answered, toggle)), (True, b"\x06")]
    return lines


def text_of(lines):
    return "".join(f"{'>' if to_meter else '<'} {data.hex()}\n" for to_meter, data in lines)


def told(lines):
    events = list(sessions.reader("c1218")(transcript.parse(text_of(lines).encode())))
    telegrams = [event for event in events if isinstance(event, Telegram)]
    assert all(isinstance(event, (Telegram, Rejected)) for event in events)
    return telegrams, [event for event in events if isinstance(event, Rejected)]


def rows_of(telegram):
    return [(row.obis, row.value, row.unit) for row in telegram.readings]


def test_a_session_is_a_telegram_and_what_is_refused_is_told():
    (telegram,), (refused,) = told(conversation())
    assert rows_of(telegram) == ROWS and telegram.meter_id == CONTENTS.number and telegram.protocol == "c1218"
    assert refused.reason == "refused" and "3f: this operation is not possible (onp)" in refused.detail


def test_pieces_in_order_are_one_reply_and_what_comes_twice_is_one():
    lines = conversation()
    at = next(k for k, (_, data) in enumerate(lines) if data[7:8] == b"\0" and len(data) > 50)
    reply = lines[at][1][7:-2]
    pieces = [framed(reply[:20], 0xE0, 2), framed(reply[20:30], 0x80, 1), framed(reply[30:], 0xA0, 0)]
    for order, n in (((0, 1, 1, 2), 10), ((0, 2), 2), ((1, 2), 2), ((0, 1), 2)):
        mixed = lines[:at] + [(False, pieces[k]) for k in order] + lines[at + 1 :]
        (telegram,), _ = told(mixed)
        assert rows_of(telegram) == ROWS[:n], order


def test_of_another_kind_of_meter_and_of_a_table_nobody_asked_for_nothing_is_told():
    assert told(conversation(bytes.fromhex("0000010000")))[0] == []
    assert told([line for line in conversation() if not line[0]])[0] == []


@pytest.mark.parametrize("is_whole", [True, False])
def test_standard_tables_are_told_as_another_reader_read_them(is_whole):
    contents = C1219Contents(clock=4)
    tables = contents.tables(0)
    lines, toggle = [(True, framed(b"\x20")), (False, framed(contents.ident))], TOGGLE
    for table in (0, 23, 52, 1, 11, 12, 16, 22, 21):
        for at, data in [(0, tables[table])] if is_whole else [(0, tables[table][:4]), (4, tables[table][4:])]:
            asked = psem_request.read(table) if is_whole else psem_request.read_part(table, at, len(data))
            lines += [(True, framed(asked, toggle)), (False, framed(table_reply(data), toggle))]
            toggle ^= TOGGLE
    (telegram,), rejected = told(lines)
    assert rows_of(telegram) == contents.expected(23, 0) and telegram.meter_id == contents.number
    assert telegram.timestamp == "2026-05-28T20:26:40Z" and [one.reason for one in rejected] == ["left out"]
    without = [line for line in lines if line[1][6:9] not in (b"\x30\0\x10", b"\x3f\0\x10")]
    telegrams, rejected = told(without)
    assert telegrams == [] and "table 16: not in this recording" in rejected[-1].detail


def test_any_transcript_gives_right_values_or_rejections():
    draw = random.Random(5)
    n_told = n_rejected = 0
    for _ in range(150):
        lines = conversation()
        for _ in range(draw.randrange(1, 5)):
            k = draw.randrange(len(lines))
            to_meter, data = lines[k]
            data = bytearray(data)
            kind, at = draw.randrange(5), draw.randrange(len(data))
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                data[at:at] = draw.randbytes(draw.randrange(9))
            elif kind == 3:
                to_meter = not to_meter
            else:
                lines.insert(draw.randrange(len(lines)), (to_meter, bytes(data)))
            lines[k] = to_meter, bytes(data or b"\6")
        telegrams, rejected = told(lines)
        assert all(set(rows_of(telegram)) <= set(ROWS) for telegram in telegrams)
        n_told += len(telegrams)
        n_rejected += len(rejected)
    assert n_told > 75 and n_rejected > 150


def test_the_command_decodes_it(tmp_path, capsys):
    file = tmp_path / "session.txt"
    file.write_text("# mine\n" + text_of(conversation()))
    for words in ((), ("--protocol", "c1218")):
        assert cli.main(["decode", "--json", *words, str(file)]) == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (found,) = [one for one in said if "readings" in one]
        assert (found["protocol"], len(found["readings"])) == ("c1218", 10)


def test_a_real_session_is_decoded(capsys):
    """Two of its packets do not hold, as its owner has altered them: one is the ident, so that it has no number."""
    assert cli.main(["decode", "--json", str(recording("c1218/nes83334_osgp_session.txt"))]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.get("rejected") for one in said] == ["bad checksum"] * 2 + [None] and said[2]["meter_id"] is None
    values = {row["obis"]: row["value"] for row in said[2]["readings"]}
    assert values["1-0:1.8.0*255"] == "33821691" and values["1-0:32.7.0*255"] == "231.392" and len(values) == 10


def test_nothing_of_a_session_leaves_in_a_masked_capture():
    data = b"".join(said for to_meter, said in conversation() if not to_meter)
    segment = Segment(Line(9600), False, [(0, data)], [])
    assert masking.mask(Capture([], [segment], 1000)).readable_bytes() == b""


def test_a_meter_is_read_through_a_port():
    meter = C1218Meter(user_id=2, user=b"reader", password=b"secret", reaction_ms=5)
    with SerialMeter(meter) as simulated:
        words = ("--port", simulated.path, "--protocol", "c1218", "--address", "2:reader", "--json")
        process = start("read", *words, OPTOPROBE_METER_PASSWORD="secret")
        try:
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    said = json.loads(out)
    assert (process.returncode, err) == (0, "") and (said["protocol"], said["meter_id"]) == ("c1218", meter.number)
    assert [row["obis"] for row in said["readings"]] == [row[0] for row in ROWS] and b"secret" in meter.passwords[0]
