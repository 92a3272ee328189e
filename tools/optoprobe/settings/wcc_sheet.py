"""A WCC Lite's configuration sheets, DLMS, IEC 62056-21 and Elgama, as settings of a probe.

The gateway is configured by a workbook whose sheets "Devices" and "Signals" have one row a device and one a value. What
its parameters mean: the maker's public user manual (2020-04-07, chapter 12, page 95); docs/from-wcc.md has the table.
No value is ever put into a sentence, as one may be a password.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_MOST_BYTES = 4 << 20
_MOST_UNPACKED = 64 << 20
_MOST_ROWS = 20_000
_MOST_COLUMNS = 300
_OPTIONS_BYTES = 160  # of the setting meter_options
_MOST_JOBS = 12

DLMS, READ_OUT, ELGAMA = "DLMS", "IEC 62056-21", "Elgama"
_PROTOCOLS = {"dlms": DLMS, "dlmscosem": DLMS, "iec6205621": READ_OUT, "iec62056": READ_OUT, "elgama": ELGAMA}
# An Elgama device's meter_model: what is asked through the optical port, None where nothing can be.
_MODELS = {"0": "iec62056-21", "1": "iec62056-21", "2": "dlms-client", "3": "dlms-client", "4": None}
# Of meters addressed by their number, by short names, behind a sign-on: as two public drivers ask them.
_GAMA = {"client_address": "32", "mode": "IEC", "type": "SN"}

# A device's parameter -> the word of meter_options.
_WORDS = {
    "serialnumber": "serial_number", "serial_number": "serial_number", "server_address": "physical_address",
    "physical_address": "physical_address", "id": "logical_address", "logical_address": "logical_address",
    "address_size": "address_size", "master_address": "client_address", "client_address": "client_address",
    "type": "type", "mode": "mode", "timeout_ms": "timeout_ms", "auth": "auth", "retry_counter": "retry_counter",
}  # fmt: skip
_ADDRESSES = ("physical_address", "logical_address", "address_size")
_KNOWN_TO_ALL = ("device_alias", "protocol", "enable")  # they choose the row
_JOB = re.compile(r"([0-9]{1,3})[.-]([0-9]{1,3})[.:]([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})[.*]([0-9]{1,3})(?::2?)?")
_JOBS = ("obis_job", "tag_job_todo", "job_todo", "tag_job")


class WccError(Exception):
    """One sentence without its full stop."""


class Imported(NamedTuple):
    """`settings` as the firmware takes them; `left_out`: a sentence each of what has no meaning for a probe."""

    settings: dict[str, object]
    left_out: list[str]


def read(files: Iterable[Path], alias: str = "") -> Imported:
    """The settings of the device `alias`, which may be empty where there is one meter. Raises WccError."""
    devices: list[dict[str, str]] = []
    signals: list[dict[str, str]] = []
    for file in files:
        for row in _rows(file):
            if row.get("protocol"):
                devices.append(row)
            elif any(row.get(name) for name in _JOBS):
                signals.append(row)
    meters = [row for row in devices if _protocol(row) and row.get("enable", "1") != "0"]
    if alias:
        meters = [row for row in meters if row.get("device_alias") == alias]
    if not meters:
        which = " of this alias" if alias else ""
        raise WccError(f"no device in it is an enabled DLMS, IEC 62056-21 or Elgama meter{which}")
    if len(meters) > 1:
        names = ", ".join(row.get("device_alias") or "(no alias)" for row in meters[:20])
        raise WccError(f"it holds {len(meters)} meters and a probe reads one: choose with --wcc-device ({names})")
    device = meters[0]
    jobs = [row for row in signals if row.get("device_alias", "") in ("", device.get("device_alias", ""))]
    return _settings(device, [row for row in jobs if row.get("enable", "1") != "0"])


def _protocol(row: dict[str, str]) -> str | None:
    return _PROTOCOLS.get("".join(c for c in row["protocol"].lower() if c.isalnum()).removesuffix("master"))


def _settings(device: dict[str, str], jobs: list[dict[str, str]]) -> Imported:
    given = {key: value for key, value in device.items() if value and key not in _KNOWN_TO_ALL}
    protocol = _protocol(device)
    settings: dict[str, object] = {}
    words: dict[str, str] = {}
    left_out: list[str] = []
    if protocol == ELGAMA:
        model = given.pop("meter_model", "")
        if model not in _MODELS:
            raise WccError("meter_model of an Elgama device is 0 to 4")
        if _MODELS[model] is None:
            raise WccError("meter_model 4 (ITS cl) has a current loop and cannot be read through an optical port")
        settings["protocol"] = _MODELS[model]
        if settings["protocol"] == "dlms-client":
            words |= _GAMA
            given["serialnumber"] = given.pop("serialnumber", "") or given.pop("id", "")
            given = {key: value for key, value in given.items() if value}
    else:
        settings["protocol"] = "dlms-client" if protocol == DLMS else "iec62056-21"
    if "name" in given:
        settings["probe_name"] = given.pop("name")
    if "password" in given and (given.get("auth", "").upper() != "NONE"):
        settings["meter_password"] = given.pop("password")
    if "scan_rate_ms" in given:
        settings["interval_s"] = _seconds(given.pop("scan_rate_ms"))
    if settings["protocol"] == "dlms-client":
        _dlms_words(given, words, left_out)
        text = " ".join(f"{key}={value}" for key, value in words.items())
        settings["meter_options"] = _with_jobs(text, jobs, left_out)
    else:
        number = given.pop("serialnumber", "") or given.pop("serial_number", "") or given.pop("id", "")
        if number:
            settings["meter_address"] = number
        if jobs:
            left_out.append(f"{len(jobs)} signals: a read-out brings every register, and the usual ones are published")
    left_out += [f"{key}: it has no meaning for a probe" for key in sorted(given)]
    return Imported(settings, left_out)


def _dlms_words(given: dict[str, str], words: dict[str, str], left_out: list[str]) -> None:
    """Move what `given` says of the association into `words`."""
    for key in [key for key in given if key in _WORDS]:
        words[_WORDS[key]] = given.pop(key)
    if "serial_number" in words:
        for key in _ADDRESSES:
            if words.pop(key, None) is not None:
                left_out.append(f"{key}: the serial number is the address, there too")
    for key in ("type", "mode", "auth"):
        if key in words:
            words[key] = words[key].upper()
    if words.get("mode") == "DLMS-WRAPPER":
        raise WccError("mode DLMS-WRAPPER is over TCP, and a probe reads through the optical port")


def _with_jobs(text: str, jobs: list[dict[str, str]], left_out: list[str]) -> str:
    """`text` and behind it the registers of `jobs`, as many as there is room for."""
    codes: list[str] = []
    for row in jobs:
        code = next(row[name] for name in _JOBS if row.get(name))
        found = _register(code)
        if found is None:
            left_out.append(f"{row.get('signal_alias') or 'a signal'}: only attribute 2 of an OBIS code is read")
        elif found not in codes:
            longer = ",".join([*codes, found])
            if len(codes) == _MOST_JOBS or len(f"{text} obis_job={longer}") > _OPTIONS_BYTES:
                left_out.append(f"{found}: there is room for {len(codes)} registers")
            else:
                codes.append(found)
    return f"{text} obis_job={','.join(codes)}".strip() if codes else text


def _register(code: str) -> str | None:
    """The code in six groups of a job such as 1.0.1.8.0.255:2 or 1-0:1.8.0*255, None where it is another attribute or
    none."""
    found = _JOB.fullmatch(code)
    groups = found.groups()[:6] if found else ("256",)
    is_code = max(map(int, groups)) < 256
    return ".".join(groups) if is_code else None


def _seconds(milliseconds: str) -> int:
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 10):
        raise WccError("scan_rate_ms is a whole number")
    return max(1, -(-int(milliseconds) // 1000))


# --- the sheets ------------------------------------------------------------------------------------------------------


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """Each row of each sheet as {parameter: text}; the head is the first that names a protocol or an alias."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise WccError(f"{file} has more than {_MOST_BYTES >> 20} MiB and is no configuration")
        sheets = _workbook(file) if file.suffix.lower() == ".xlsx" else [_csv(file)]
        for sheet in sheets:
            head: list[str] = []
            for count, cells in enumerate(sheet):
                if count == _MOST_ROWS:
                    raise WccError(f"{file} has more than {_MOST_ROWS} rows in a sheet and is no configuration")
                texts = [_text(cell) for cell in cells[:_MOST_COLUMNS]]
                if head:
                    yield dict(zip(head, texts, strict=False))
                elif {text.lower() for text in texts} & {"protocol", "device_alias", "signal_alias"}:
                    head = [text.lower() for text in texts]
    except OSError as error:
        raise WccError(f"{file} cannot be read ({error.strerror}): check its name") from error
    except WccError:
        raise
    except Exception as error:  # whatever the two readers make of any bytes
        raise WccError(f"{file} is neither a workbook nor a table: give the .xlsx, or a sheet as .csv") from error


def _text(cell: object) -> str:
    """A cell as typed: a whole number that the sheet keeps as 16.0 is 16."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "1" if cell else "0"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _csv(file: Path) -> Iterator[Sequence[object]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        first = lines.readline()
        lines.seek(0)
        yield from csv.reader(lines, delimiter=max(",;\t", key=first.count))


def _workbook(file: Path) -> Iterator[Iterator[Sequence[object]]]:
    with zipfile.ZipFile(file) as packed:
        if sum(part.file_size for part in packed.infolist()) > _MOST_UNPACKED:
            raise WccError(f"{file} unpacks to more than {_MOST_UNPACKED >> 20} MiB and is no configuration")
    try:
        import openpyxl
    except ImportError as error:
        raise WccError("a workbook needs openpyxl: pip install openpyxl, or save the sheets as .csv") from error
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        for sheet in book.worksheets:
            yield (row for row in sheet.iter_rows(max_col=_MOST_COLUMNS, values_only=True))
    finally:
        book.close()
