"""`optoprobe config --import-wcc`: what a gateway's sheets become, what is named as left out, and what is refused."""

import json
import zipfile
from pathlib import Path

import pytest
from support.pty_board import PtyBoard
from support.virtual_time import Probe

from optoprobe import cli
from optoprobe.settings import wcc_sheet
from optoprobe.settings.on_board import problems_of
from optoprobe.virtual.iec62056_21_meter import IecMeter

PASSWORD = "71043298"
DEVICES = (
    "name;device_alias;enable;protocol;device;baudrate;scan_rate_ms;"
    "serialnumber;server_address;id;master_address;type;mode;auth;password;timeout_ms\n"
    f"Cellar;m1;1;DLMS;PORT1;9600;30500;;17;1;32;LN;DLMS;Low;{PASSWORD};4000\n"
    "Old;m2;0;DLMS;PORT1;9600;1000;;;;16;LN;DLMS;None;;\n"
)
SIGNALS = (
    "signal_name;device_alias;signal_alias;enable;tag_job_todo\n"
    "Import;m1;import;1;1.0.1.8.0.255:2\n"
    "Export;m1;export;1;1.0.2.8.0.255\n"
    "Scale;m1;scale;1;1.0.1.8.0.255:3\n"
    "Other;m9;other;1;1.0.32.7.0.255:2\n"
    "Off;m1;off;0;1.0.16.7.0.255:2\n"
)


def sheet(folder: Path, text: str, name: str = "devices.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def device(**given: str) -> str:
    return ",".join(given) + "\n" + ",".join(given.values()) + "\n"


def workbook(file: Path, *sheets: str) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for n, text in enumerate(sheets):
        page = book.create_sheet(f"Sheet {n}")
        page.append(["made by hand"])  # a line above the head
        for line in text.splitlines():
            page.append([float(cell) if cell.isdigit() and len(cell) < 6 else cell or None for cell in line.split(";")])
    book.save(file)
    return file


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    tables = wcc_sheet.read([sheet(tmp_path, DEVICES), sheet(tmp_path, SIGNALS, "signals.csv")])
    assert tables == wcc_sheet.read([workbook(tmp_path / "wcc.xlsx", DEVICES, SIGNALS)])
    options = "physical_address=17 logical_address=1 client_address=32 type=LN mode=DLMS auth=LOW timeout_ms=4000"
    assert tables.settings == {
        "protocol": "dlms-client", "probe_name": "Cellar", "meter_password": PASSWORD, "interval_s": 31,
        "meter_options": options + " obis_job=1.0.1.8.0.255,1.0.2.8.0.255",
    }  # fmt: skip
    assert tables.left_out == [
        "scale: only attribute 2 of an OBIS code is read",
        "baudrate: it has no meaning for a probe",
        "device: it has no meaning for a probe",
    ]
    assert problems_of(tables.settings) == []


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({"meter_model": "0", "id": "123456"}, {"protocol": "iec62056-21", "meter_address": "123456"}),
        ({"meter_model": "1"}, {"protocol": "iec62056-21"}),
        (
            {"meter_model": "2", "id": "81421", "password": PASSWORD},
            {
                "protocol": "dlms-client", "meter_password": PASSWORD,
                "meter_options": "client_address=32 mode=IEC type=SN serial_number=81421",
            },
        ),
        ({"meter_model": "3"}, {"protocol": "dlms-client", "meter_options": "client_address=32 mode=IEC type=SN"}),
    ],
)  # fmt: skip
def test_an_elgama_is_asked_as_its_model_is(tmp_path: Path, given: dict[str, str], settings: dict[str, str]) -> None:
    found = wcc_sheet.read([sheet(tmp_path, device(device_alias="e", protocol="ELGAMA", **given))])
    assert found == (settings, []) and problems_of(found.settings) == []


@pytest.mark.parametrize("model", ["0", "1"])
def test_what_is_taken_over_reads_a_meter_that_prints_at_9600(tmp_path: Path, model: str) -> None:
    """EPQM, LZQM and EPQS by the maker's manual (5.2a, page 14): mode C, up to 9600 baud, asked by number."""
    file = sheet(tmp_path, device(device_alias="e", protocol="ELGAMA", meter_model=model, id="00123456"))
    settings = wcc_sheet.read([file]).settings
    meter = IecMeter("C", offered="5", flag="EGM", ident="EPQS", address="123456", needs_address=True, full=True)
    with Probe(tmp_path / "board", meter, dict(settings)) as probe:
        assert probe.run_until(60, done=lambda: bool(probe.of("/state"))), probe.log
        assert "ack 050" in meter.events
        told = probe.of("/state")[0].object()
        assert (told["meter_number"], told["energy_import"]) == ("123456", "14798.112"), told


def test_a_serial_number_is_the_address_there_too(tmp_path: Path) -> None:
    text = device(device_alias="d", protocol="DLMS master", serialnumber="4711", server_address="5", id="1")
    found = wcc_sheet.read([sheet(tmp_path, text)])
    assert found.settings["meter_options"] == "serial_number=4711"
    assert [sentence.split(":")[0] for sentence in found.left_out] == ["physical_address", "logical_address"]


@pytest.mark.parametrize("code", ["1-0:1.8.0*255", "1-0:1.8.0*255:2", "1-0:1.8.0.255", "1.0.1.8.0.255:"])
def test_a_code_in_another_form_is_the_same_register(tmp_path: Path, code: str) -> None:
    signals = sheet(tmp_path, f"device_alias,obis_job\nd,{code}\n", "signals.csv")
    found = wcc_sheet.read([sheet(tmp_path, device(device_alias="d", protocol="DLMS")), signals])
    assert (found.settings["meter_options"], found.left_out) == ("obis_job=1.0.1.8.0.255", [])


def test_more_registers_than_there_is_room_for_are_named(tmp_path: Path) -> None:
    jobs = [f"1.0.{n}.7.0.255" for n in range(31, 51)]
    signals = "device_alias,obis_job\n" + "".join(f"d,{job}\n" for job in jobs)
    devices = device(device_alias="d", protocol="DLMS")
    found = wcc_sheet.read([sheet(tmp_path, devices), sheet(tmp_path, signals, "signals.csv")])
    kept = str(found.settings["meter_options"]).partition("=")[2].split(",")
    assert kept + [sentence.split(":")[0] for sentence in found.left_out] == jobs and len(found.left_out) > 8
    assert problems_of(found.settings) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (device(device_alias="e", protocol="ELGAMA", meter_model="4"), "current loop"),
        (device(device_alias="e", protocol="ELGAMA", meter_model="7"), "meter_model of an Elgama device is 0 to 4"),
        (device(device_alias="e", protocol="DLMS", mode="DLMS-WRAPPER"), "is over TCP"),
        (device(device_alias="e", protocol="DLMS", scan_rate_ms=PASSWORD * 2), "scan_rate_ms is a whole number"),
        (device(device_alias="e", protocol="DLMS", client_address=PASSWORD), "meter_options is not accepted"),
        (device(device_alias="e", protocol="IEC 60870-5-104"), "no device in it is an enabled"),
        (DEVICES.replace("m2;0", "m2;1"), "choose with --wcc-device (m1, m2)"),
        ("protocol\n" + "x\n" * 20_001, "more than 20000 rows"),
        ("", "no device in it is an enabled"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    assert cli.main(["config", "--port", "nowhere", "--import-wcc", str(sheet(tmp_path, text))]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and len(said.err.splitlines()) == 1 and PASSWORD not in said.out + said.err


@pytest.mark.parametrize("name", ["broken.xlsx", "broken.csv"])
@pytest.mark.parametrize("content", [b"PK\x03\x04 no book", b"\xff\xfe\x00", bytes(range(256)) * 40])
def test_any_bytes_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(wcc_sheet.WccError):
        wcc_sheet.read([file])


def test_a_workbook_that_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wcc_sheet, "_MOST_UNPACKED", 1 << 20)
    file = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/sharedStrings.xml", b" " * (2 << 20))
    with pytest.raises(wcc_sheet.WccError, match="unpacks"):
        wcc_sheet.read([file])


def test_it_goes_onto_the_board_and_no_password_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = PtyBoard()
    try:
        files = [sheet(tmp_path, DEVICES), sheet(tmp_path, SIGNALS, "signals.csv")]
        imports = [word for file in files for word in ("--import-wcc", str(file))]
        assert cli.main(["config", "--port", board.port, *imports, "--wcc-device", "m1", "--set", "interval_s=60"]) == 0
        there = json.loads(board.ask("print(open('settings.json').read())"))
    finally:
        if board.is_running:
            board.stop()
    assert there["meter_password"] == PASSWORD and there["interval_s"] == 60 and there["protocol"] == "dlms-client"
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err and "Left out, baudrate" in said.out
