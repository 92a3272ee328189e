"""The captures in the clone come out as they were encoded, by the library, with no protocol named."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import optoprobe
from optoprobe.decoding import Telegram

FOLDER = Path(__file__).parents[1] / "captures"
ROWS = json.loads((FOLDER / "captures.json").read_text())


def number(text: str) -> Decimal | str:
    """Decimals compare as numbers: a P1 telegram pads with zeros."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return text


def test_there_are_ten_and_each_file_has_its_row() -> None:
    assert len(ROWS) >= 10
    assert {row["file"] for row in ROWS} == {path.name for path in FOLDER.glob("*.hex")}


@pytest.mark.parametrize("row", ROWS, ids=[row["file"] for row in ROWS])
def test_exact_readings(row: dict[str, Any]) -> None:
    data = bytes.fromhex((FOLDER / row["file"]).read_text())
    events = list(optoprobe.decode(data, key=row.get("key"), auth_key=row.get("auth_key")))
    (telegram,) = events
    assert isinstance(telegram, Telegram)
    got = [(reading.obis, number(reading.value), reading.unit) for reading in telegram.readings]
    assert got == [(obis, number(value), unit) for obis, value, unit in row["readings"]]
