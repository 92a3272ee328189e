"""Capture files: written, read, masked, recorded, decoded and replayed.

Whatever the bytes of a file are: a Capture or a CaptureError of one sentence, nothing else. A masked file says what the
one before said, but for who the meter is; what must stand in it is made by the simulated meters, given another number.
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from support.broker import closed_port
from support.corpus import recorded

from metering.characters import with_parity
from metering.line import Line
from optoprobe import Rejected, Telegram, cli, decode
from optoprobe.capture_file import (
    MAX_FILE_BYTES,
    Capture,
    CaptureError,
    CaptureWriter,
    Part,
    Replay,
    Segment,
    line_of,
    parse,
)
from optoprobe.commands import capture as command
from optoprobe.commands.decode import bytes_of_hex_text
from optoprobe.masking import mask
from optoprobe.virtual import dlms_encoder as dlms
from optoprobe.virtual import sml_encoder as sml
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.iec62056_21_talk import crc16_arc
from optoprobe.virtual.serial_meter import SerialMeter
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter
from optoprobe.virtual.source import MeterSource

HEAD = "optoprobe capture 1\n"
NUMBER = 87_654_321
EXAMPLE = b"""optoprobe capture 1
# version 0.1.0, board Hichi IR WiFi v2, protocol sml
line 9600 8N1
12 1b1b1b1b0101
1010 0A0b
edges 28800 8N1
9003 fcfce0
light 9100 1
light 9104 0
line 2400 8E1 inverted
9200 68
end 30000
"""


def capture_of(data, line=None, step=50, pause_ms=0):
    """A capture of `data` in chunks at the pace of the line."""
    line = line or Line(9600)
    chunks, ms = [], 100
    for at in range(0, len(data), step):
        piece = data[at : at + step]
        ms += 11_000 * len(piece) // line.baud + pause_ms
        chunks.append((ms, piece))
    return Capture(["version 0.1.0, board a test, protocol unknown"], [Segment(line, chunks=chunks)], ms + 1000)


def telegrams(data, **options):
    return [event for event in decode(data, **options) if isinstance(event, Telegram)]


def rows(telegram):
    return [(r.obis, r.value, r.unit) for r in telegram.readings]


def traces(capture, number):
    """In which ways the digits of `number` (a text) still stand in the file."""
    data = capture.readable_bytes()
    plain = bytes(byte & 0x7F for byte in data)
    text = "".join(line.partition(" ")[2] for line in capture.text().splitlines() if line[:1].isdigit())
    digits = number.lstrip("0")
    swapped = bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))[::-1]
    ways = {
        "file": digits in text or digits in " ".join(capture.comments),
        "ascii": digits.encode() in data,
        "parity": digits.encode() in plain,
        "hex": digits.encode().hex().encode() in plain.lower(),
        "bcd": swapped in data,
    }
    if 1 << 24 <= int(digits) < 1 << 32:
        ways["binary"] = int(digits).to_bytes(4, "big") in data or int(digits).to_bytes(4, "little") in data
    return [way for way, is_there in ways.items() if is_there]


def again(capture):
    """The capture as read from its own file."""
    return parse(capture.text().encode())


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_example_of_the_format():
    capture = parse(EXAMPLE)
    assert capture.comments == ["version 0.1.0, board Hichi IR WiFi v2, protocol sml"]
    first, edges, last = capture.segments
    assert (repr(first.line), first.is_edges) == ("9600 8N1", False)
    assert first.chunks == [(12, bytes.fromhex("1b1b1b1b0101")), (1010, b"\n\x0b")]
    assert (repr(edges.line), edges.is_edges, edges.light) == ("28800 8N1", True, [(9100, True), (9104, False)])
    assert (repr(last.line), last.chunks, capture.end_ms) == ("2400 8E1 inverted", [(9200, b"h")], 30000)
    assert capture.readable_bytes() == bytes.fromhex("1b1b1b1b01010a0b68")
    assert [(part.data, part.pauses) for part in capture.parts()] == [(capture.readable_bytes()[:-1], [6]), (b"h", [])]
    assert repr(again(capture)) == repr(capture)
    assert repr(parse(EXAMPLE.replace(b"\n", b"\r\n"))) == repr(capture)


def test_light_may_be_told_before_the_line_and_late():
    """As the device does: what the light is at the begin, and a change when it has lasted."""
    text = HEAD + "light 0 0\nline 9600 8N1\n900 1b\nlight 400 1\nline 2400 8N1\nlight 500 0\n1000 1b\nend 1000\n"
    capture = parse(text.encode())
    assert [segment.light for segment in capture.segments] == [[(0, False), (400, True)], [(500, False)]]
    assert repr(again(capture)) == repr(capture)


def test_what_is_written_is_read():
    draw = random.Random(5)
    writer = CaptureWriter("a comment", "not\nASCII: \u00e9")
    sent = bytearray()
    for ms in range(0, 20_000, 500):
        writer.settings(Line(draw.choice((300, 9600, 115200)), 7, draw.choice("EO"), 2, draw.random() < 0.5))
        data = draw.randbytes(draw.randrange(1, 300))
        sent += data
        writer.take(ms, data)
        writer.settings(Line(28800), True)
        writer.take(ms + 1, b"\xfc")
        writer.light(ms + 1, draw.random() < 0.5)
    writer.end(20_000)
    capture = parse(writer.text().encode())
    assert capture.readable_bytes() == sent
    assert (capture.end_ms, capture.comments, writer.full) == (20_000, ["a comment", "not?ASCII: ?"], False)
    assert repr(again(capture)) == repr(capture)


def test_the_file_is_bounded_in_bytes_and_in_time():
    writer = CaptureWriter("c" * 10_000)
    writer.settings(Line(9600))
    for ms in range(0, 60_000, 10):
        writer.take(ms, bytes(50))
    writer.end(60_000)
    assert writer.full and 0.9 * MAX_FILE_BYTES < len(writer.text()) <= MAX_FILE_BYTES
    assert parse(writer.text().encode()).end_ms is None  # cut off
    late = CaptureWriter()
    late.settings(Line(9600))
    late.take(130_000, b"x")
    assert late.full and not parse(late.text().encode()).readable_bytes()


@pytest.mark.parametrize("cut", range(len(HEAD), len(EXAMPLE), 3))
def test_a_file_that_was_cut_off_is_read_so_far(cut):
    capture = parse(EXAMPLE[:cut])
    assert parse(EXAMPLE).readable_bytes().startswith(capture.readable_bytes())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not begin with optoprobe capture: name a file"),
        ("optoprobe capture 2\n", "is of version '2', this reads 1: update optoprobe"),
        (HEAD + "# \u00e9\n", "is not ASCII"),
        (HEAD + "#" * MAX_FILE_BYTES, "65,556 bytes, more than 65,536: cut its end off"),
        (HEAD + "12 00\n\n", "line 2 comes before the line's settings"),
        (HEAD + "line 9600\n\n", "line 2 has no settings of a line ('9600'): give such as"),
        (HEAD + "line 9 8N1\n\n", "line 2 has no settings of a line"),
        (HEAD + "line 9600 9N1\n\n", "line 2 has no settings"),
        (HEAD + "line 9600 8N1 upside down\n\n", "line 2 has no settings"),
        (HEAD + "line 9600 8N1\n5 0g\n\n", "line 3 is '5 0g', none of"),
        (HEAD + "line 9600 8N1\n5 000\n\n", "line 3 is '5 000'"),
        (HEAD + "line 9600 8N1\n-5 00\n\n", "line 3 is '-5 00'"),
        (HEAD + "line 9600 8N1\n5 00\n4 00\n\n", "line 4 is of 4 ms, after one of 5 ms: put the lines in their order"),
        (HEAD + "line 9600 8N1\n500000 00\n\n", "line 3 is of 500000 ms, later than 120 s"),
        (HEAD + "light 5 2\n\n", "line 2 is 'light 5 2'"),
        (HEAD + "end 5\n6 00\n\n", "line 3 stands behind the end"),
        (HEAD + "line 300 8N1\n" * 1001 + "\n", "line 1002 changes the line more than 1,000 times"),
    ],
)
def test_what_is_wrong_is_one_sentence(text, says):
    with pytest.raises(CaptureError) as refused:
        parse(text.encode())
    assert says in str(refused.value)
    assert "\n" not in str(refused.value) and not str(refused.value).endswith(".")


def test_garbage_is_an_error_or_a_capture():
    draw = random.Random(1)
    whole = capture_of(SmlMeter().telegram(0) + IecMeter("P1").telegram(1)[:300], step=20).text().encode()
    words = [b"line ", b"edges ", b"light ", b"end ", b" ", b"\n", b"#", b"9600 8N1", b"7E1", b"\xff", b"0", b"99999"]
    read = 0
    for _ in range(1500):
        file = bytearray(whole if draw.random() < 0.7 else EXAMPLE)
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(file))
            if draw.random() < 0.5:
                file[at : at + draw.randrange(4)] = draw.choice(words)
            else:
                file[at] = draw.choice(b"0123456789abcdef\n ")
        try:
            capture = parse(bytes(file))
        except CaptureError:
            continue
        read += 1
        assert again(capture).readable_bytes() == capture.readable_bytes()
        if read % 8 == 0:
            assert again(mask(capture)).end_ms == capture.end_ms
    assert 100 < read < 1400


# --- what is read apart ----------------------------------------------------------------------------------------------


def command_line(*arguments, data=b"", cwd=None):
    """(exit code, stdout, stderr) of `optoprobe ...`."""
    done = subprocess.run(
        [sys.executable, "-m", "optoprobe", *map(str, arguments)], input=data, capture_output=True, timeout=60, cwd=cwd
    )
    errors = done.stderr.decode()
    assert "Traceback" not in errors, errors
    return done.returncode, done.stdout.decode(), errors


def test_decode_reads_each_line_apart_and_no_edges(tmp_path):
    meter = SmlMeter()
    one, two = meter.telegram(0), meter.telegram(1)
    capture = capture_of(one[:100])
    capture.segments += [
        Segment(Line(28800), True, [(2000, one)]),
        Segment(Line(2400, 8, "E"), False, [(3000, one[100:]), (5000, two)]),
    ]
    capture.end_ms = 6000
    (tmp_path / "capture.hex").write_text(capture.text())
    for name, data in (("capture.hex", b""), ("-", capture.text().encode())):
        code, out, err = command_line("decode", "--json", name, data=data, cwd=tmp_path)
        found = [json.loads(line) for line in out.splitlines()]
        assert (code, err) == (0, "")
        assert [(row["offset"], row.get("rejected")) for row in found] == [(0, "cut off"), (len(one), None)]
        assert [(r["obis"], r["value"], r["unit"]) for r in found[1]["readings"]] == meter.expected()
    code, out, _ = command_line("decode", "capture.hex", cwd=tmp_path)
    assert out.splitlines()[-1] == f"capture.hex: {len(one + two)} bytes, 1 telegram, 1 rejected (cut off 1)"


def test_decode_of_a_damaged_capture_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(EXAMPLE.replace(b"1010", b"10"))
    code, out, err = command_line("decode", "a.txt", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err == (
        "optoprobe decode: a.txt is a damaged capture file: line 5 is of 10 ms, after one of 12 ms: "
        "put the lines in their order.\n"
    )


def test_a_meter_that_changes_its_rate_is_one_part():
    meter = IecMeter("C", seed=6)
    block, expected = meter.block(5)
    ident = with_parity(meter.identification())
    echo = with_parity(b"\x06050\r\n")
    capture = Capture([], [
        Segment(Line(300, 7, "E"), chunks=[(900, with_parity(b"/?!\r\n") + ident[:5]), (1500, ident[5:] + echo)]),
        Segment(Line(9600, 7, "E"), chunks=[(3000, with_parity(block))]),
        Segment(Line(9600), chunks=[(4000, b"noise")]),
    ])  # fmt: skip
    read_out, noise = again(capture).parts()
    assert (repr(read_out.line), noise.data) == ("9600 7E1", b"noise")
    (telegram,) = telegrams(read_out.data)
    assert rows(telegram) == expected
    masked = again(mask(capture))
    assert [segment.data[:1] for segment in masked.segments] == [b"\xaf", b"\x82", b""]
    (telegram,) = telegrams(masked.parts()[0].data)
    assert [row for row in rows(telegram) if row[0] not in ("C.1.0", "0.0.0")] == [
        row for row in expected if row[0] not in ("C.1.0", "0.0.0")
    ]
    assert not traces(masked, meter.serial)


def test_a_silence_is_where_a_telegram_without_a_frame_may_begin():
    meter = DlmsMeter("hdlc", layout="aidon", framing="raw")
    one = meter.telegram(0)
    two = meter.telegram(10)
    second = meter.expected()
    chunks = [(100, b"\xaa\x55 noise"), (4000, one), (9000, two), (14000, meter.telegram(20))]
    capture = Capture([], [Segment(Line(2400), chunks=chunks)])
    (part,) = again(capture).parts()
    assert part.pauses == [8, 8 + len(one), 8 + 2 * len(one)]
    assert [rows(telegram) for telegram in telegrams(part.data, pauses=part.pauses)] == [second, meter.expected()]
    assert telegrams(part.data) == []


# --- masking ---------------------------------------------------------------------------------------------------------


OTHER_VALUES = ("list_type_bits", "long_list")  # no measurements: they are blank in the other's too


@pytest.mark.parametrize("quirk", [None, *QUIRKS])
def test_sml_is_masked_as_the_meter_with_another_number_would_send_it(quirk):
    """Byte by byte, with the CRC of every message; but for keys and signatures, which a meter does not leave empty."""
    quirks = [quirk] if quirk else []
    number = 45_082_910 if quirk == "dzg_dvs74" else 50_000_123 if quirk == "dzg_sibling" else NUMBER
    maker = b"DZG" if quirk and quirk.startswith("dzg") else b"OPT"
    ids = [b"\x0a\x01" + maker + b"\x00" + n.to_bytes(4, "big") for n in (number, 0)]
    if quirk in ("ascii_id_7", "ascii_id_8"):
        ids = [str(number)[: int(quirk[-1])].encode(), b"0" * int(quirk[-1])]
    if quirk == "dzg_dvs74":  # in a range of numbers whose power is told wrongly: in the other one now
        ids[1] = b"\x0a\x01DZG\x00" + (55_000_000).to_bytes(4, "big")
    meter, other = (SmlMeter(quirks=quirks, server_id=server_id, maker=maker) for server_id in ids)
    sent = [(meter.telegram(second), meter.expected()) for second in range(6)]
    capture = capture_of(b"junk %d" % NUMBER + b"\x1b\x1b".join(data for data, _ in sent))
    masked = again(mask(capture))
    data = masked.readable_bytes()
    if quirk in ("key", "escape_in_key"):
        named = ("1-0:96.1.0*255", "129-129:199.130.5*255")
        plain = [[row for row in expected if row[0] not in named] for _, expected in sent]
        assert [[row for row in rows(t) if row[0] not in named] for t in telegrams(data)] == plain
    else:
        others = b"".join(other.telegram(second) for second in range(6))
        assert data == (again(mask(capture_of(others))).readable_bytes() if quirk in OTHER_VALUES else others)
    assert not traces(masked, str(number)) and not traces(masked, str(NUMBER))
    # a CRC's last 1B may be the next start's
    assert re.match(r"left out: 2[3-5] bytes, 0 changes", masked.comments[-1])


def test_a_message_crc_that_becomes_longer_has_room():
    """One byte of CRC was enough for the number before."""
    style = sml.Style(narrow_crc=True)
    for number in range(20_000_000, 20_002_000):
        server_id = b"\x0a\x01OPT\x00" + number.to_bytes(4, "big")
        body = sml.list_response([sml.Entry("1-0:1.8.0*255", 777, 5, False, -1, 30)], server_id, style=style)
        if sml.message(sml.LIST_RESPONSE, body, transaction_id=b"\0\0\0\x11", style=style)[-3] == 0x62:
            break
    else:
        pytest.fail("no such number")
    data = sml.sml_file([(sml.LIST_RESPONSE, body)], server_id, style=style)
    masked = mask(capture_of(data)).readable_bytes()
    assert len(masked) % 4 == 0
    (telegram,) = telegrams(masked)
    assert [row[1] for row in rows(telegram)] == ["77.7"]
    other_id = b"\x0a\x01OPT\x00" + bytes(4)
    body = sml.list_response([sml.Entry("1-0:1.8.0*255", 777, 5, False, -1, 30)], other_id, style=style)
    assert masked == sml.sml_file([(sml.LIST_RESPONSE, body)], other_id, style=style)


PRINTING = {
    "A": ("A", {}),
    "B, heat": ("B", {"battery": True}),
    "C": ("C", {}),
    "C with 15 months": ("C", {"full": True, "history": 15}),
    "D": ("D", {}),
    "D, ends of lines": ("D", {"quirks": ["lf_only"]}),
    "P1": ("P1", {}),
}


@pytest.mark.parametrize(
    ("name", "parity"), [(name, parity) for name in PRINTING for parity in (False, True) if not parity or name != "P1"]
)
def test_what_is_printed_is_masked_as_the_meter_with_another_number_would_print_it(name, parity):
    mode, options = PRINTING[name]

    def printed(address):
        meter = IecMeter(mode, seed=6, address=address, ident=f"OP9-{address}", **options)
        if mode in ("D", "P1"):
            return meter.telegram(5), meter.expected()
        return meter.identification() + meter.block(5)[0], meter.block(5)[1]

    (before, expected), (other, _) = printed(str(NUMBER)), printed("00000000")
    if parity:
        before, other = with_parity(before), with_parity(other)
    noise = b"/?%d!\r\n" % NUMBER
    masked = again(mask(capture_of(noise + before + before[:40], Line(9600, 7, "E"))))
    assert not traces(masked, str(NUMBER))
    data = masked.readable_bytes()
    if options.get("quirks"):  # behind the end it is CR LF all the same
        other = other.removesuffix(b"\n") + (with_parity(b"\r\n") if parity else b"\r\n")
    other = mask(capture_of(other, Line(9600, 7, "E"))).readable_bytes()  # what is no measurement
    assert data == other
    (telegram,) = telegrams(masked.readable_bytes())
    assert [row[2] for row in rows(telegram)] == [row[2] for row in expected]
    measured = [row for row in expected if row[2] and "99.97" not in row[0]]  # that is the log of power failures
    assert [row for row in rows(telegram) if row[2] and "99.97" not in row[0]] == measured
    assert telegram.ident and telegram.ident.id == "XX0-00000000"


def printed(lines, ident=b"/ABC5NAME"):
    """A D0 push of `lines`."""
    return ident + b"\r\n\r\n" + b"".join(line + b"\r\n" for line in lines) + b"!\r\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"0-0:96.13.0(Erika Mustermann, Am Weg 7)", b"0-0:96.13.0(XXXXXXXXXXXXXXXX,XXXXXXXX0)"),
        (b"0-0:96.13.0(4572696B61)", b"0-0:96.13.0(0000000000)"),
        (b"1-0:0.0.0(NAME)", b"1-0:0.0.0(XXXX)"),
        (b"1-0:0.0.0(1ABCDEFG)", b"1-0:0.0.0(0XXXXXXX)"),
        (b"0-0:128.1.0(serial 87654321)", b"0-0:128.1.0(XXXXXXX00000000)"),
        (b"0-0:199.1.0(55544433)", b"0-0:199.1.0(00000000)"),
        (b"0-1:24.9.9(88776655)", b"0-1:24.9.9(00000000)"),
        (b"0-0:25.1.0(192.168.1.77)", b"0-0:25.1.0(000.000.0.00)"),
        (b"C.2.1(NAME)", b"C.2.1(XXXX)"),
        (b"C.87.0(AB12CD34)", b"C.87.0(0000000000)"[:16]),
        (
            b"1-0:99.97.0(1)(0-0:96.7.19)(240111093500W)(0000000240*s)",
            b"1-0:99.97.0(0)(0-0:96.7.19)(000000000000X)(0000000000*s)",
        ),
        (b"1-0:1.6.0(2401110935)(02.345*kW)", b"1-0:1.6.0(0000000000)(02.345*kW)"),
        (b"1-0:1.7.0(00.213*kW)", b"1-0:1.7.0(00.213*kW)"),
        (b"1-0:13.7.0(0.98)", b"1-0:13.7.0(0.98)"),
        (b"0-0:96.14.0(0002)", b"0-0:96.14.0(0002)"),
        (b"0-0:1.0.0(240111093500W)", b"0-0:1.0.0(240111093500W)"),
        (b"0-1:24.2.1(240111093000W)(00112.384*m3)", b"0-1:24.2.1(240111093000W)(00112.384*m3)"),
        (b"0.9.1(093500)", b"0.9.1(093500)"),
    ],
)
def test_what_is_no_measurement_goes(before, after):
    energy = b"1-0:1.8.0(000123.456*kWh)"
    masked = mask(capture_of(printed([before, energy]))).readable_bytes()
    if before.startswith(b"C.87"):
        after = re.sub(rb"\(.*", b"(XX00XX00)", before) if b"XX00XX00" in masked else b"C.87.0(00000000)"
    assert masked == printed([after, energy], b"/ABC5XXXX")


def test_what_is_to_be_kept_stays():
    lines = [b"C.2.1(NAME)", b"0-0:96.13.0(Hello)", b"1-0:1.8.0(000123.456*kWh)"]
    masked = mask(capture_of(printed(lines)), ["C.2.1", "ident"]).readable_bytes()
    assert masked == printed([lines[0], b"0-0:96.13.0(XXXXX)", lines[2]])
    with pytest.raises(ValueError, match="give a code such as C.2.1"):
        mask(capture_of(b""), ["no code"])


def test_a_protocol_without_a_masking_keeps_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optoprobe.masking.sml", None)  # as if there were no such file
    assert not mask(capture_of(SmlMeter().telegram(0))).readable_bytes()


@pytest.mark.parametrize("form", ["%04X", "%04x", "%X"])
def test_a_crc_stays_as_the_meter_prints_it(form):
    for number in range(NUMBER, NUMBER + 400):  # one whose CRC has a letter, and begins with a zero
        head = b"/OPT5\\2XXXX\r\n\r\n0-0:96.1.1(%d)\r\n1-0:1.8.0(000123.456*kWh)\r\n!" % number
        sent = form % crc16_arc(head)
        if re.search("[A-Fa-f]", sent) and (form != "%X" or len(sent) < 4):
            break
    masked = mask(capture_of(head + sent.encode() + b"\r\n")).readable_bytes()
    zeros = head.replace(b"%d" % number, b"00000000")
    assert masked == zeros + (form % crc16_arc(zeros)).encode() + b"\r\n"


def test_the_same_digits_are_masked_wherever_a_text_has_them():
    """As Landis+Gyr's UH50 does, which repeats the customer's number in its maxima."""
    body = b"9.21(12345678)6.8(0123.456*MWh)\r\n9.6(000&12345678&0)6.26(012.345*m3)\r\n6.6(0012.3*kW)\r\n!\r\n\x03"
    bcc = 0
    for byte in body:
        bcc ^= byte
    masked = mask(capture_of(b"/LUGCUH50-12345678\r\n\x02" + body + bytes([bcc])))
    (telegram,) = telegrams(masked.readable_bytes())
    assert telegram.ident and telegram.ident.id == "XX00-00000000"
    assert [row[1] for row in rows(telegram)] == ["00000000", "0123.456", "000&00000000&0", "012.345", "0012.3"]


DLMS = {
    "hdlc": ("hdlc", {}),
    "segments": ("hdlc", {"segment_bytes": 90}),
    "shared flags": ("hdlc", {"segment_bytes": 90, "quirks": ["shared_flag", "ua_frame"]}),
    "idle flags, junk": ("hdlc", {"quirks": ["idle_flags", "junk_between"]}),
    "false starts": ("hdlc", {"quirks": ["false_start"]}),
    "blocks": ("gbt", {"security": 0}),
    "blocks, aborted": ("gbt", {"security": 0, "quirks": ["aborted_run"]}),
    "mbus": ("mbus", {"security": 0}),
    "wrapper": ("hdlc", {"framing": "wrapper"}),
    "raw": ("hdlc", {"framing": "raw"}),
    "with a tag": ("hdlc", {"security": 0x10}),
    **{layout: ("hdlc", {"layout": layout}) for layout in (
        "burgenland14", "scaled", "kamstrup_hourly", "kamstrup_1ph", "kaifa18_u64", "kaifa_obis", "netznoe", "salzburg",
        "am550", "lg", "lg_full", "lg_e360", "lg_e570", "lg_flat", "iskra4", "iskra12e", "iskra12b", "iskra18",
        "iskra33", "egd", "compact", "wienernetze9",
    )},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), DLMS.values(), ids=DLMS)
def test_dlms_in_the_clear_is_masked(kind, options):
    meter = DlmsMeter(kind, seed=3, title=b"OPT\x67" + NUMBER.to_bytes(4, "big"), **options)
    sent = [(meter.telegram(10 * k), meter.expected()) for k in range(3)]
    data = b"".join(telegram for telegram, _ in sent)
    before = [rows(telegram) for telegram in telegrams(data)]
    masked = again(mask(capture_of(data, Line(2400, 8, "E"))))
    found = telegrams(masked.readable_bytes())
    assert [[row for row in rows(telegram) if row[2]] for telegram in found] == [
        [row for row in telegram if row[2]] for telegram in before
    ]
    assert [[(obis, value) for obis, value, _ in row] for row in before] == [
        [(obis, value) for obis, value, _ in expected] for _, expected in sent
    ]
    assert not traces(masked, str(meter.serial)) and not traces(masked, str(NUMBER))
    assert not meter.meter_id or not any(run in str(found) for run in re.findall(r"\d{5,}", meter.meter_id) if int(run))
    assert [t.timestamp for t in found] == [t.timestamp for t in telegrams(data)]


@pytest.mark.parametrize("framing", ["hdlc", "mbus", "gbt", "wrapper"])
def test_an_encrypted_telegram_loses_its_title_and_cannot_be_decrypted(framing):
    meter = DlmsMeter("gbt" if framing == "gbt" else "optical", framing=framing, security=0x30)
    meter.title = b"OPT\x67" + NUMBER.to_bytes(4, "big")
    data = b"".join(meter.telegram(second) for second in range(2))
    masked = again(mask(capture_of(data)))
    events = list(decode(masked.readable_bytes()))
    assert [(type(event), event.reason) for event in events] == [(Rejected, "key needed")] * 2
    assert {event.cipher.system_title for event in events} == {"4f50540000000000"}
    assert [event.cipher.invocation_counter for event in events] == [meter.counter - 1, meter.counter]
    assert not traces(masked, str(NUMBER)) and "cannot be decrypted" in masked.comments[-1]
    keys = {"key": meter.key.hex(), "auth_key": meter.auth_key.hex()}
    assert len(telegrams(data, **keys)) == 2 and not telegrams(masked.readable_bytes(), **keys)


def test_the_address_of_an_hdlc_server_is_masked():
    apdu = dlms.data_notification(dlms.structure([dlms.octets(dlms.obis_bytes("1-0:1.8.0*255")), dlms.number(6, 7)]))
    frames = [
        dlms.between_flags([dlms.hdlc_frame(dlms.LLC_PUSH + apdu, source=dlms.hdlc_address(1, lower, 4))])
        for lower in (5678, 0)
    ]
    assert mask(capture_of(frames[0])).readable_bytes() == frames[1]


def test_what_cannot_be_masked_is_left_out():
    """The number stands where a measurement should: this telegram alone is dropped."""
    server_id = b"\x0a\x01OPT\x00" + NUMBER.to_bytes(4, "big")
    good = sml.telegram([sml.Entry("1-0:1.8.0*255", 5, 4, True, -1, 30)], server_id)
    bad = sml.telegram([sml.Entry("1-0:1.8.0*255", 0x87654321, 4, False, 0, 30)], server_id)
    capture = capture_of(good + bad + good + b"\x1b" * 3)
    capture.segments += [
        Segment(Line(28800), True, [(60_000, bytes.fromhex("fce0fc80")), (60_500, b"\x00\xff")], [(60_600, True)]),
    ]
    capture.comments.append("meter 0087654321")
    capture.end_ms = 61_000
    masked = again(mask(capture))
    assert len(telegrams(masked.readable_bytes())) == 2
    assert masked.comments[1] == "meter 0000000000"
    assert masked.comments[-1] == (
        f"left out: {len(bad) + 3} bytes, 1 change of the light, 1 telegram not surely masked"
    )
    assert masked.segments[1].chunks == [(60_500, bytes.fromhex("0080e0fcfcff"))]  # the order is gone
    assert not masked.segments[1].light


def test_without_a_telegram_the_light_stays_and_no_byte():
    capture = Capture([], [Segment(Line(9600), False, [(10, b"\x00"), (20, b"secret")], [(30, True), (35, False)])], 50)
    masked = again(mask(capture))
    assert masked.readable_bytes() == b""
    assert masked.segments[0].light == [(30, True), (35, False)]


def test_every_capture_of_the_corpus_masked():
    files = [*recorded("sml/*.bin"), *recorded("iec62056_21/*.bin"), *recorded("dlms/*.hex")]
    kept = 0
    vectors = []
    for file in sorted(files):
        data = file.read_bytes() if file.suffix == ".bin" else bytes_of_hex_text(file.read_bytes())
        masked = again(mask(capture_of(data, Line(115200), step=64)))
        events = [e for e in decode(data) if isinstance(e, Telegram) or e.reason == "key needed"]
        after = [e for e in decode(masked.readable_bytes()) if isinstance(e, Telegram) or e.reason == "key needed"]
        if len(after) < len(events) and file.name.startswith("sec_"):
            vectors.append(file.name)
            continue
        if file.name == "IEC_derived_damaged.bin":  # several meters: without their names they are one that changes form
            assert len(after) == len(events) - 1
            kept += len(events)
            continue
        assert len(after) == len(events), file.name
        kept += len(after)
        assert again(mask(masked)).readable_bytes() == masked.readable_bytes(), file.name
        for one, two in zip(events, after, strict=True):
            if isinstance(one, Telegram):
                assert isinstance(two, Telegram) and one.timestamp == two.timestamp or "GRE" in file.name
                check_masked(file.name, one, two, masked)
    # the Green Book's counter 01234567 and the byte behind it hold the Green Book's number 12345678
    assert (len(files), kept, len(vectors)) == (162, 301, 6)


NAMING = re.compile(
    r"(?:\d+-\d+:)?(?:0\.0(?:\.\d+)?|(?:96|C)\.1(?:\.\d+)?|96\.13\.[01]|(?:96|C)\.90\.1|42\.0\.0|9\.2[01]|199\.130\.5)(?:\*\d+)?"
)


HEX_ID = "0[69a][0-9a-f]{18}"  # no number that is printed on a meter


def check_masked(name, one, two, masked):
    ids = [] if re.fullmatch(HEX_ID, one.meter_id or "") else [one.meter_id or ""]
    for before, after in zip(one.readings, two.readings, strict=True):
        assert (before.obis, before.unit, len(before.value)) == (after.obis, after.unit, len(after.value)) or (
            not before.unit and after.value == "0"  # an integer that measures nothing
        ), name
        if NAMING.fullmatch(before.obis):
            text = before.shown
            ids.append(text)
            if re.fullmatch(HEX_ID, text):
                ids[-1] = ""
                assert text[10:] not in masked.text().replace("\n", "")
        elif before.unit and not re.search("99[.:]97", before.obis):  # the log of power failures
            assert before.value == after.value, name
    for number in {run for text in ids for run in re.findall(r"\d{7,}", text)}:
        if number.strip("0") and not re.fullmatch("(30|20)+", number):
            assert not traces(masked, number), (name, number)


# --- recording over a port -------------------------------------------------------------------------------------------


def in_process(capsys, *arguments):
    """(exit code, stdout, stderr) of `optoprobe ...` in this process."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("masked", [False, True], ids=["as it came", "masked"])
def test_a_meter_in_front_of_this_computer(tmp_path, capsys, masked):
    meter = SmlMeter(period_s=0.4, server_id=b"\x0a\x01OPT\x00" + NUMBER.to_bytes(4, "big"))
    out_file = tmp_path / "c.txt"
    with SerialMeter(MeterSource(meter)) as simulated:
        options = ("--seconds", 1 if masked else 2, "--out", out_file, *(["--mask"] if masked else []))
        code, out, err = in_process(capsys, "capture", "--port", simulated.path, *options)
        simulated.check()
    assert code == 0, err
    assert re.fullmatch(rf"{out_file}: [\d,]+ bytes at 9600 8N1, \d telegrams? \(sml\)\n", out)
    said = f"recording {simulated.path} for {1 if masked else 2} s; Ctrl-C ends it sooner ..."
    assert err == f"optoprobe capture: {said}\n"
    capture = parse(out_file.read_bytes())
    assert re.fullmatch(r"version .*, board .*, protocol sml", capture.comments[0])
    assert 1000 <= (capture.end_ms or 0) < 4000
    assert bool(traces(capture, str(NUMBER))) is not masked
    found = telegrams(capture.readable_bytes())
    assert found and rows(found[-1])[:1] == meter.expected()[:1]
    (segment,) = capture.segments
    starts = [ms for ms, data in segment.chunks if b"\x1b\x1b\x1b\x1b\x01" in data]
    assert all(200 < later - ms for ms, later in zip(starts, starts[1:], strict=False))


def test_noise_makes_it_try_another_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "_STEP_S", 1.0)
    meter = IecMeter("P1", period_s=0.6)
    with SerialMeter(meter) as simulated:
        where = ("--port", simulated.path, "--out", tmp_path / "c.txt")
        code, out, err = in_process(capsys, "capture", *where, "--seconds", 3)
        simulated.check()
    assert code == 0, err
    lines = err.replace("optoprobe capture: ", "").splitlines()[1:]
    assert lines[0] == "9600 8N1 brings noise, listening with 2400 7E1 ..."
    assert lines[1:] in ([], ["2400 7E1 brings noise, listening with 115200 8N1 ..."])
    assert " (iec62056-21)" in out and "at 9600 8N1, " in out
    segments = parse((tmp_path / "c.txt").read_bytes()).segments
    assert [repr(segment.line) for segment in segments if segment.line.parity is None] == ["9600 8N1", "115200 8N1"]


def test_ctrl_c_ends_a_recording_and_keeps_it(tmp_path):
    with SerialMeter(MeterSource(SmlMeter(period_s=0.5))) as simulated:
        process = subprocess.Popen(
            [sys.executable, "-m", "optoprobe", "capture", "--port", simulated.path, "--line", "9600 8N1"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None and "recording" in process.stderr.readline()
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    (file,) = tmp_path.iterdir()
    assert re.fullmatch(r"capture-\d{8}-\d{6}\.txt", file.name) and out.startswith(f"{file.name}: ")
    assert telegrams(parse(file.read_bytes()).readable_bytes())


def test_nothing_comes_and_nothing_is_written(tmp_path, capsys):
    with SerialMeter(MeterSource(SmlMeter(period_s=100))) as simulated:
        time.sleep(0.5)  # the first telegram has gone
        where = ("--port", simulated.path, "--out", tmp_path / "c.txt")
        code, out, err = in_process(capsys, "capture", *where, "--seconds", 1)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        f"optoprobe capture: nothing came in front of {simulated.path}: "
        "check that the head sits on the meter's eye and its cable."
    )
    assert list(tmp_path.iterdir()) == []


def test_only_noise_leaves_nothing_to_be_shown(tmp_path, capsys):
    with SerialMeter(MeterSource(SmlMeter(period_s=0.4))) as simulated:
        where = ("--port", simulated.path, "--out", tmp_path / "c.txt", "--line", "4800 8N1")
        code, out, err = in_process(capsys, "capture", *where, "--seconds", 1, "--mask")
    assert code == 1
    assert "no good telegram came, and only these can be masked: record again without --mask" in err
    assert parse((tmp_path / "c.txt").read_bytes()).readable_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of the arguments --port --broker is required"),
        (["--port", "/dev/ttyNONE9"], "there is no port /dev/ttyNONE9: plug the head in"),
        (["--port", "x", "--seconds", "121"], "give a whole number from 1 to 120"),
        (["--port", "x", "--line", "9600"], "give such as '9600 8N1' or '2400 8E1'"),
        (["--port", "x", "--probe", "p"], "belong to --broker: leave them out"),
        (["--port", "x", "--out", "there.txt"], "there.txt is there already: name another with --out"),
        (["--port", "x", "--out", "no/folder/c.txt"], "cannot be written (No such file or directory)"),
        (["--broker", "h"], "--broker needs --probe ID too"),
        (["--broker", "h:0", "--probe", "p"], "give HOST or HOST:PORT"),
        (["--broker", "h", "--probe", "p/q"], "give the probe's id"),
        (["--broker", "h", "--probe", "p", "--prefix", "/a"], "give letters, digits, _ - and / inside"),
        (["--broker", "h", "--probe", "p", "--line", "9600 8N1"], "a probe chooses its line by itself"),
        (["--broker", "h", "--probe", "p", "--password-file", "there.txt"], "give --user too"),
        (["--broker", "h", "--probe", "p", "--user", "u", "--password-file", "none"], "none cannot be read (No such"),
        (["--broker", "h", "--probe", "p", "--user", "u", "--password-file", "there.txt"], "its first line is empty"),
    ],
)
def test_wrong_usage(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.txt").write_text("\nsecret")
    code, out, err = in_process(capsys, "capture", *arguments)
    assert (code, out) == (2, "")
    assert says in err and "secret" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["there.txt"]


# --- a probe's button ------------------------------------------------------------------------------------------------


class Probe:
    """Stands in for a probe at the broker on `port`: answers its button with `answer`; `pressed` says with what."""

    def __init__(self, port, answer, status="online"):
        self.pressed = []
        self.answer = answer
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._press
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.publish(status)
        self._client.publish("a/b/probe_1/capture", b"an old one", qos=1, retain=True).wait_for_publish(5)
        self._client.subscribe("a/b/probe_1/capture/set", 1)
        assert self._ready.wait(5)

    def publish(self, status):
        self._client.publish("a/b/probe_1/status", status, qos=1, retain=True).wait_for_publish(5)

    def _press(self, client, _, message):
        self.pressed.append((message.payload, message.retain))
        if self.answer is not None:
            client.publish("a/b/probe_1/capture", self.answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


def press(capsys, broker, folder, *options):
    out_file = folder / "c.txt"
    where = ("--broker", f"127.0.0.1:{broker.port}", "--probe", "probe_1", "--prefix", "a/b", "--out", out_file)
    return (*in_process(capsys, "capture", *where, *options), out_file)


def test_the_button_of_a_probe(tmp_path, capsys, broker):
    meter = SmlMeter(server_id=b"\x0a\x01OPT\x00" + NUMBER.to_bytes(4, "big"))
    text = capture_of(meter.telegram(0) + meter.telegram(1)).text().encode()
    (tmp_path / "password").write_text("battery staple\n")
    with Probe(broker.port, text) as probe:
        user = ("--user", "me", "--password-file", tmp_path / "password")
        code, out, err, file = press(capsys, broker, tmp_path, *user)
        assert (code, file.read_bytes()) == (0, text), err
        assert out == f"{file}: {len(meter.telegram(1)) * 2} bytes at 9600 8N1, 2 telegrams (sml)\n"
        assert err == "optoprobe capture: the probe probe_1 is to record for 30 s ...\n"
        file.unlink()
        code, out, err, file = press(capsys, broker, tmp_path, "--seconds", 90, "--mask")
        assert code == 0, err
        assert probe.pressed == [(b"PRESS", False), (b"90", False)]
    masked = parse(file.read_bytes())
    assert len(telegrams(masked.readable_bytes())) == 2 and not traces(masked, str(NUMBER))


def test_a_probe_that_sends_something_else(tmp_path, capsys, broker):
    with Probe(broker.port, b"line 9600"):
        code, out, err, file = press(capsys, broker, tmp_path)
    assert (code, out, file.exists()) == (1, "", False)
    assert "what came is no capture file (it does not begin with optoprobe capture: " in err


def test_a_probe_that_is_offline(tmp_path, capsys, broker):
    with Probe(broker.port, None, status="offline"):
        code, out, err, file = press(capsys, broker, tmp_path)
    assert (code, out, file.exists()) == (1, "", False)
    assert err.endswith("optoprobe capture: the probe probe_1 is offline: check its power and its Wi-Fi.\n")


def test_a_probe_that_comes_only_now_is_told_again(tmp_path, capsys, monkeypatch, broker):
    monkeypatch.setattr(command, "_SETTLE_S", 0.1)
    text = capture_of(SmlMeter().telegram(0)).text().encode()

    def come():
        probe.answer = text
        probe.publish("online")

    with Probe(broker.port, None, status="") as probe:
        threading.Timer(0.5, come).start()
        code, out, err, file = press(capsys, broker, tmp_path)
        assert (code, probe.pressed) == (0, [(b"PRESS", False)] * 2), err
        assert err.count("is to record for 30 s") == 2 and file.read_bytes() == text


def test_a_probe_that_does_not_answer(tmp_path, capsys, monkeypatch, broker):
    monkeypatch.setattr(command, "_LATE_S", -0.5)
    with Probe(broker.port, None):
        code, out, err, _ = press(capsys, broker, tmp_path, "--seconds", 1)
    assert (code, out) == (1, "")
    assert "the probe probe_1 has sent no capture within 0 s: check --probe and --prefix" in err


def test_a_broker_that_is_not_there(tmp_path, capsys):
    where = ("--broker", f"127.0.0.1:{closed_port()}", "--probe", "p", "--out", tmp_path / "c.txt")
    code, out, err = in_process(capsys, "capture", *where)
    assert (code, out) == (1, "")
    assert "cannot be reached (Connection refused): check --broker." in err
    assert list(tmp_path.iterdir()) == []


# --- replay ----------------------------------------------------------------------------------------------------------


def test_a_replay_keeps_pauses_polarity_and_parity():
    """Every byte has come by its time, and what was silent is."""
    data = with_parity(b"/OPT5\r\n") + b"\x2f"  # a wrong parity stays wrong
    chunks = [(500, data), (1700, b"\xb1\xb2"), (1705, b"\xb3")]
    source = Replay(Part([Segment(line_of("2400 7E1 inverted"), chunks=chunks)]), pause_s=2.0)
    assert repr(source.line) == "2400 8N1 inverted"
    sent, now_s, free_s = [], 0.0, 0.0
    while len(sent) < 5:
        while (transmission := source.poll(now_s, free_s)) is not None:
            sent.append((round(transmission.at_s, 3), transmission.data, transmission.last))
            free_s = transmission.at_s + len(transmission.data) * 10 / 2400
        now_s += 0.001
    char = 10 / 2400
    first = 0.5 - len(data) * char
    expected = [0.0, 1.7 - 2 * char - first, 1.7 - first + 0.005 - char]
    expected[2] = max(expected[2], expected[1] + 2 * char)
    assert [at for at, _, _ in sent[:3]] == pytest.approx(expected, abs=0.001)
    assert [(bytes_, last) for _, bytes_, last in sent[:3]] == [(data, False), (b"\xb1\xb2", False), (b"\xb3", True)]
    assert sent[3][1] == data and sent[3][0] == pytest.approx(expected[2] + char + 2.0, abs=0.002)
    assert repr(Replay(Part([Segment(Line(300, 7, "E"), chunks=[(1, b"plain")])])).line) == "300 7E1"


def test_the_demo_replays_a_capture_file(tmp_path):
    """Side by side: 7E1 pushed on a light that is turned round, and DLMS at 2400 8E1 behind noise and edges."""
    pushed = IecMeter("D", baud=9600, seed=6)
    turned = capture_of(with_parity(pushed.telegram(5)), line_of("9600 7E1 inverted"))
    meter = DlmsMeter("hdlc")
    wired = Capture([], [
        Segment(Line(9600), chunks=[(10, bytes(range(256)) * 3)]),
        Segment(Line(7200), True, [(500, b"\xfc" * 20)]),
        Segment(Line(2400, 8, "E"), chunks=[(3000, meter.telegram(0)), (6000, meter.telegram(3))]),
    ])  # fmt: skip
    runs = {}
    for name, capture in (("turned", turned), ("wired", wired)):
        file = tmp_path / f"{name}.txt"
        file.write_text(capture.text())
        scratch = tmp_path / name
        scratch.mkdir()
        runs[name] = subprocess.Popen(
            [sys.executable, "-m", "optoprobe", "demo", "--seconds", "7", "--capture", file],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(scratch)},
        )  # fmt: skip
    try:
        for name, process in runs.items():
            out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, ""), (name, out, err)
            assert re.search(r"Energy import +14798\.11\d? kWh", out), (name, out)
    finally:
        for process in runs.values():
            process.kill()


def test_the_demo_refuses_a_damaged_capture_file(tmp_path):
    file = Path(tmp_path / "a.txt")
    file.write_bytes(EXAMPLE.replace(b"1010", b"10"))
    code, out, err = command_line("demo", "--capture", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"optoprobe demo: {file} is a damaged capture file: line 5 is of 10 ms")
    file.write_bytes(EXAMPLE)
    with contextlib.suppress(FileNotFoundError):
        code, out, err = command_line("demo", "--seconds", "2", "--capture", file)
    assert code == 1 and "it is played all the same" in out
