"""`optoprobe decode --protocol mbus` of transcripts, bytes and hex text."""

import json

import pytest

from optoprobe import cli
from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.mbus_encoder import bcd, record

ANSWER = mbus.frame(
    mbus.header(21436587, "ABC", medium=mbus.HEAT)
    + record(0x0C, "06", bcd(2850, 4))
    + record(0x4C, "06", bcd(1445, 4))
    + record(0x1B, "2D", bcd(3297, 3))
)


def run(capsys, *arguments):
    code = cli.main(["decode", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_transcript(tmp_path, capsys):
    file = tmp_path / "heat.txt"
    file.write_text(f"# mine\n> 10 40 01 41 16\n< e5\n> 105b015c16\n< {ANSWER.hex(' ')}\n")
    code, out, _ = run(capsys, "--json", "--protocol", "mbus", file)
    (found,) = map(json.loads, out.splitlines())
    assert code == 0 and (found["protocol"], found["offset"], found["meter_id"]) == ("mbus", 1, "21436587")
    now = {"storage": 0, "tariff": 0, "subunit": 0, "function": "instantaneous"}
    assert found["readings"] == [
        {"obis": "6-0:1.0.0*255", "name": "Energy", "value": "2850000", "unit": "Wh"} | now,
        {"obis": "energy, storage 1", "name": "Energy", "value": "1445000", "unit": "Wh"} | now | {"storage": 1},
        {"obis": "power, maximum", "name": "Power", "value": "329700", "unit": "W"} | now | {"function": "maximum"},
    ]
    code, out, _ = run(capsys, "--protocol", "mbus", file)
    assert code == 0 and "2850 kWh" in out and "1445 kWh" in out


def test_bytes_and_hex_text(tmp_path, capsys):
    (tmp_path / "heat.bin").write_bytes(ANSWER)
    (tmp_path / "heat.hex").write_text(ANSWER.hex())
    for name in ("heat.bin", "heat.hex"):
        code, out, _ = run(capsys, "--protocol", "mbus", tmp_path / name)
        assert code == 0 and "6-0:1.0.0*255" in out
        assert run(capsys, tmp_path / name)[0] == 1  # by itself nothing is taken for M-Bus


@pytest.mark.parametrize("line", ["< e51", "< xx", "? e5"])
def test_a_damaged_transcript_is_one_sentence(tmp_path, capsys, line):
    file = tmp_path / "heat.txt"
    file.write_text(f"< e5\n{line}\n")
    code, out, err = run(capsys, "--protocol", "mbus", file)
    assert code == 2 and not out and "damaged transcript: line 2" in err and err.count("\n") == 1


def test_what_a_probe_publishes_of_it(tmp_path, capsys):
    file = tmp_path / "heat.bin"
    file.write_bytes(ANSWER * 3)
    code, out, err = run(capsys, "--mqtt", "--protocol", "mbus", file)
    sent = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "") and sent[-1]["summary"]["good"] == 3
    assert any("heat_energy" in message.get("payload", {}) for message in sent)


def test_where_nothing_begins_the_sentence_names_what_was_looked_for(tmp_path, capsys):
    file = tmp_path / "ack.txt"
    file.write_text("< e5\n")
    code, _, err = run(capsys, "--protocol", "mbus", file)
    assert code == 1 and "no start sequence of mbus found" in err
