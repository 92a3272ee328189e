"""`optoprobe decode` and optoprobe.decode(): expected values come from the simulated meter, not from the decoder.

Any bytes: telegrams or counted rejections, never an exception. The corpus, where it lies beside the clone, is compared
reading by reading with what independent decoders got from it.
"""

import decimal
import json
import os
import re
import subprocess
import sys

import pytest
from support.corpus import recorded

import optoprobe
from optoprobe import Rejected, Telegram
from optoprobe.commands.decode import bytes_of_hex_text
from optoprobe.virtual import sml_encoder as sml
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_encoder import Entry
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

METER = bytes.fromhex("0a014142430000bc614e")  # 1ABC0012345678: DIN 43863-5
KEY = "00112233445566778899aabbccddeeff"


def telegrams(data, **options):
    return [event for event in optoprobe.decode(data, **options) if isinstance(event, Telegram)]


def rows(telegram):
    return [(r.obis, r.value, r.unit) for r in telegram.readings]


def household(*quirks, count=3):
    """Bytes of `count` telegrams and what a faultless reader makes of each."""
    meter = SmlMeter(quirks=quirks)
    sent = [(meter.telegram(second), meter.expected()) for second in range(count)]
    return b"".join(data for data, _ in sent), [expected for _, expected in sent]


def printed(mode, **options):
    """Bytes of a meter that prints, and what a faultless reader makes of it."""
    meter = IecMeter(mode, seed=6, **options)
    if mode in ("D", "P1"):
        return meter.telegram(5), meter.expected()
    block, expected = meter.block(5)
    return meter.identification() + block, expected


def command(*arguments, data=b"", cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "optoprobe", "decode", *map(str, arguments)],
        input=data, capture_output=True, timeout=60, cwd=cwd,
    )  # fmt: skip
    errors = done.stderr.decode()
    assert "Traceback" not in errors, errors
    return done.returncode, done.stdout.decode(), errors


# --- the library -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", [None, *QUIRKS])
def test_every_kind_of_meter_reads_as_sent(quirk):
    data, expected = household(*([quirk] if quirk else []))
    found = telegrams(data)
    assert [rows(telegram) for telegram in found] == expected
    assert {telegram.protocol for telegram in found} == {"sml"}


def test_what_a_telegram_says_of_itself():
    first = sml.telegram([Entry("1-0:1.8.0*255", 147981129, 8, True, -1, 30)], METER, sensor_time=sml.sec_index(4711))
    noise = b"\x00\x1b\x1b noise"
    found = list(optoprobe.decode(noise + first))
    assert [type(event) for event in found] == [Telegram]
    assert found[0].offset == len(noise)
    assert found[0].meter_id == "1ABC0012345678"
    assert (found[0].timestamp, found[0].seconds_index, found[0].notice) == (None, 4711, None)
    register = found[0].readings[0]
    assert (register.obis, register.name) == ("1-0:1.8.0*255", "Energy import")
    assert (register.value, register.unit) == ("14798112.9", "Wh")
    assert (register.shown, register.shown_unit) == ("14798.1129", "kWh")


PRINTING = {
    "A": ("A", {}, True),
    "B, heat": ("B", {"battery": True}, True),
    "C": ("C", {}, True),
    "C with 15 months": ("C", {"full": True, "history": 15}, True),
    "D": ("D", {}, False),
    "P1": ("P1", {}, True),
}


@pytest.mark.parametrize(("mode", "options", "checked"), PRINTING.values(), ids=PRINTING)
def test_what_a_meter_prints_reads_as_printed(mode, options, checked):
    data, expected = printed(mode, **options)
    sml_before, sml_expected = household(count=1)
    for protocol, before in (("iec62056-21", b""), ("auto", b"/?!\r\n"), ("auto", sml_before)):
        *earlier, telegram = telegrams(before + data, protocol=protocol)
        assert rows(telegram) == expected
        assert (telegram.protocol, telegram.offset, telegram.checked) == ("iec62056-21", len(before), checked)
        assert telegram.ident is not None
        assert (telegram.ident.flag, telegram.ident.id[:2]) == ("OPT", "UH" if options.get("battery") else "OP")
        assert telegram.meter_id and telegram.meter_id in str(expected) or mode == "P1"
        assert [rows(other) for other in earlier] == (sml_expected if before == sml_before else [])


def test_one_json_object_a_read_out(tmp_path):
    data, expected = printed("C", full=True)
    unchecked, unchecked_expected = printed("D", flag="LOG")
    (tmp_path / "meter.bin").write_bytes(unchecked + data + data[:-1] + b"\x01")
    code, out, _ = command("--json", tmp_path / "meter.bin")
    second, first, third = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert first["ident"].keys() == {"flag", "baud_char", "id"}
    assert (first["ident"]["flag"], first["ident"]["baud_char"], first["checked"]) == ("OPT", "5", True)
    assert [(r["obis"], r["value"], r["unit"]) for r in first["readings"]] == expected
    assert (second["ident"]["flag"], second["checked"]) == ("LOG", False)
    assert [(r["obis"], r["value"], r["unit"]) for r in second["readings"]] == unchecked_expected
    assert (third["rejected"], third["offset"]) == ("checksum", len(data + unchecked))
    assert "readings" not in third


@pytest.mark.parametrize(
    ("time", "timestamp", "seconds_index"),
    [
        (None, None, None),
        (sml.sec_index(7), None, 7),
        (sml.timestamp(1_780_000_000), "2026-05-28T20:26:40Z", None),  # date -u -d @1780000000
        (sml.local_timestamp(1_780_000_000, 60, 60), "2026-05-28T20:26:40Z", None),
        (sml.timestamp(0xFFFFFFFF), "2106-02-07T06:28:15Z", None),
    ],
)
def test_the_meters_clock(time, timestamp, seconds_index):
    data = sml.telegram([Entry("1-0:16.7.0*255", -5, 4, True, 0, 27)], METER, sensor_time=time)
    (telegram,) = telegrams(data)
    assert (telegram.timestamp, telegram.seconds_index) == (timestamp, seconds_index)


def test_a_missing_pin_is_said():
    data, _ = household("no_pin", count=1)
    assert telegrams(data)[0].notice.startswith("PIN needed")


def test_a_damaged_telegram_is_rejected_and_its_neighbours_are_read():
    meter = SmlMeter()
    parts = [bytearray(meter.telegram(second)) for second in range(3)]
    parts[1][100] ^= 0x10
    found = list(optoprobe.decode(b"".join(parts)))
    assert [type(event) for event in found] == [Telegram, Rejected, Telegram]
    assert (found[1].reason, found[1].offset) == ("checksum", len(parts[0]))
    assert [event.offset for event in found] == sorted(event.offset for event in found)


def test_a_cut_tail_is_a_rejection():
    data, expected = household(count=2)
    found = list(optoprobe.decode(data[:-1]))
    assert rows(found[0]) == expected[0]
    assert [(type(event), event.reason) for event in found[1:]] == [(Rejected, "cut off")]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_will_do(kind):
    data, expected = household(count=1)
    assert [rows(telegram) for telegram in telegrams(kind(data))] == expected


@pytest.mark.parametrize("key", [KEY, KEY.upper(), f" 0x{KEY[:16]} {KEY[16:]}\n", ":".join(re.findall("..", KEY))])
def test_a_key_may_be_written_in_any_usual_way(key):
    data, expected = household(count=1)
    assert [rows(telegram) for telegram in telegrams(data, key=key, auth_key=key)] == expected


@pytest.mark.parametrize("key", ["", "5ec2e7", KEY + "00", "g" + KEY[1:]])
@pytest.mark.parametrize("name", ["key", "auth_key"])
def test_a_wrong_key_is_refused_at_the_call_and_not_shown(name, key):
    with pytest.raises(ValueError) as refused:
        optoprobe.decode(b"", **{name: key})
    text = str(refused.value)
    assert text.startswith(name) and "32 hexadecimal digits" in text
    assert not key or key not in text


def test_an_unknown_protocol_is_refused_at_the_call():
    with pytest.raises(ValueError, match="auto or sml"):
        optoprobe.decode(b"", protocol="morse")


def test_importing_optoprobe_stays_light():
    script = "import sys, optoprobe; print([m for m in ('rich', 'paho', 'amqtt', 'subprocess') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.strip() == b"[]"


# --- hex text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1b1b0a0f", "1B 1b\n0a\r\n0F\n", "1b1\nb0a0f", "0x1b, 0x1B, 0xa, 0x0f", "1b:1b:0a:0f", "1b-1b-0a-0f",
        "# a capture\n1b 1b ; start\n0a // more\n0f", "\ufeff1b1b0a0f", "\t1b 1b\t0a0f\n\n",
    ],
)  # fmt: skip
def test_hex_text_in_any_usual_form(text):
    assert bytes_of_hex_text(text.encode()) == bytes.fromhex("1b1b0a0f")


@pytest.mark.parametrize("text", [b"1b1", b"hello", b"1b 1g", b"\x1b\x1b\xff", b"0x1b 0xyz"])
def test_what_is_no_hex_text(text):
    with pytest.raises(ValueError):
        bytes_of_hex_text(text)


# --- the command -----------------------------------------------------------------------------------------------------


def test_json_lines_of_several_files(tmp_path):
    data, expected = household("sensor_timestamp")
    (tmp_path / "raw.bin").write_bytes(data)
    (tmp_path / "text.HEX").write_text(data.hex(" "))
    code, out, errors = command("--json", "raw.bin", "text.HEX", "-", data=data, cwd=tmp_path)
    assert (code, errors) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["file"] for row in found] == ["raw.bin"] * 3 + ["text.HEX"] * 3 + ["-"] * 3
    for row, want in zip(found, expected * 3, strict=True):
        assert list(row) == ["file", "protocol", "offset", "meter_id", "timestamp", "readings"]
        assert [list(reading) for reading in row["readings"]] == [["obis", "name", "value", "unit"]] * len(want)
        assert [(r["obis"], r["value"], r["unit"]) for r in row["readings"]] == want
        assert row["timestamp"].startswith("2026-05-28T")


def test_json_of_a_rejection_and_of_a_notice(tmp_path):
    data, _ = household("no_pin", count=2)
    damaged = bytearray(data)
    damaged[60] ^= 1
    (tmp_path / "a.bin").write_bytes(damaged)
    code, out, _ = command("--json", "a.bin", cwd=tmp_path)
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert list(first) == ["file", "offset", "rejected", "detail"]
    assert (first["file"], first["offset"], first["rejected"]) == ("a.bin", 0, "checksum")
    assert second["notice"].startswith("PIN needed") and isinstance(second["seconds_index"], int)


def test_lines_for_people(tmp_path):
    meter = sml.telegram(
        [Entry("1-0:1.8.0*255", 147981129, 8, True, -1, 30), Entry("1-0:16.7.0*255", -5, 4, True, -2, 27)], METER
    )
    (tmp_path / "a.bin").write_bytes(meter + meter[:-3])
    code, out, errors = command("a.bin", cwd=tmp_path)
    assert (code, errors) == (0, "")
    assert out.splitlines() == [
        "a.bin: sml telegram at byte 0, meter 1ABC0012345678",
        "  Energy import  1-0:1.8.0*255   14798.1129 kWh",
        "  Power          1-0:16.7.0*255       -0.05 W",
        f"a.bin: {2 * len(meter) - 3} bytes, 1 telegram, 1 rejected (cut off 1)",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes, no start sequence of sml or iec62056-21 or dlms found"),
        (b"hello", "5 bytes, no start sequence of sml or iec62056-21 or dlms found"),
        (SmlMeter().telegram(0)[:50], "50 bytes, 1 candidate, all rejected: cut off 1"),
    ],
)
def test_nothing_readable_is_one_sentence(data, said):
    code, out, errors = command("--json", "-", data=data)
    assert (code, errors) == (1, f"optoprobe decode: no telegram in -: {said}.\n")
    assert len(out.splitlines()) == said.count("candidate")


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_an_unreadable_file_does_not_hide_the_others(tmp_path, json_option):
    data, _ = household(count=1)
    (tmp_path / "good.bin").write_bytes(data)
    (tmp_path / "bad.hex").write_text("1b1b xyz")
    code, out, errors = command(*json_option, "missing.bin", tmp_path, "bad.hex", "good.bin", cwd=tmp_path)
    assert code == 2
    assert "1-0:1.8.0*255" in out
    lines = errors.splitlines()
    assert len(lines) == 3
    assert "missing.bin cannot be read" in lines[0] and "check its name" in lines[0]
    assert "cannot be read" in lines[1]
    assert "bad.hex is not hex text (line 1 holds 'xyz')" in lines[2]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--protocol", "morse", "-"], ["--key", "5ec2e7", "-"], ["--auth-key", "5ec2e7", "-"], ["--jso", "-"]],
)
def test_wrong_usage_is_exit_code_2(arguments):
    code, out, errors = command(*arguments)
    assert (code, out) == (2, "")
    assert errors and "5ec2e7" not in errors


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    data, _ = household(count=400)  # more than a pipe holds
    (tmp_path / "a.bin").write_bytes(data)
    with subprocess.Popen(
        [sys.executable, "-m", "optoprobe", "decode", "--json", tmp_path / "a.bin"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "a.bin").write_bytes(household(count=1)[0])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "optoprobe", "decode", tmp_path / "a.bin"], stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (2, b"optoprobe: the disk is full: free some space and run this again.\n")


def test_version_and_an_ascii_terminal(tmp_path):
    done = subprocess.run([sys.executable, "-m", "optoprobe", "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"optoprobe \d+\.\d+\.\d+\n", done.stdout) and done.returncode == 0
    (tmp_path / "a.bin").write_bytes(household("temperature", count=1)[0])
    done = subprocess.run(
        [sys.executable, "-m", "optoprobe", "decode", tmp_path / "a.bin"],
        capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and b"\\xb0C" in done.stdout


# --- the corpus ------------------------------------------------------------------------------------------------------


def norm(value):
    """Decimals compare as numbers: the corpus may write 0.0 where we write 0."""
    text = str(value)  # a boolean is one there
    return decimal.Decimal(text).normalize() if re.fullmatch(r"[+-]?\d{1,25}(\.\d+)?", text) else text.lower()


def expected_of(capture):
    content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
    return [
        [(r["obis"], norm(r["value"]), r.get("unit") or None) for r in t["readings"] if r["type"] != "null"]
        for t in content["telegrams"]
        if t["crc_ok"]
    ]


def test_the_corpus_reads_as_independent_decoders_read_it():
    captures = recorded("sml/*.bin")
    code, out, errors = command("--json", *captures)
    assert (code, errors) == (0, "")
    found = {str(capture): [] for capture in captures}
    for row in map(json.loads, out.splitlines()):
        if "readings" in row:
            found[row["file"]].append([(r["obis"], norm(r["value"]), r["unit"]) for r in row["readings"]])
    for capture in captures:
        assert found[str(capture)] == expected_of(capture), capture.name
    assert (len(captures), sum(map(len, found.values()))) == (34, 179)


def test_the_corpus_of_what_meters_print():
    captures = recorded("iec62056_21/*.bin")
    code, out, errors = command("--json", *captures)
    assert (code, errors) == (0, "")
    found = {str(capture): [] for capture in captures}
    for line in out.splitlines():
        event = json.loads(line)
        if "readings" in event:
            found[event["file"]].append(event)
    n = 0
    for capture in captures:
        content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
        good = [telegram for telegram in content["telegrams"] if telegram["accept"] is True]
        assert len(found[str(capture)]) == len(good), capture.name
        for event, telegram in zip(found[str(capture)], good, strict=True):
            wanted = [(r["address"], v["value"].strip(), v["unit"]) for r in telegram["readings"] for v in r["values"]]
            assert [(r["obis"], r["value"], r["unit"]) for r in event["readings"]] == wanted, capture.name
            assert event["checked"] is (telegram["check_ok"] is True)
            ident = {name: telegram["ident"][name].strip() for name in ("flag", "baud_char", "id")}
            assert event["ident"] == ident and event["protocol"] == "iec62056-21"
            n += len(telegram["readings"])
    assert (len(captures), sum(map(len, found.values())), n) == (44, 59, 2080)
