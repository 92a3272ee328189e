"""JSON files on flash: what is whole is read, and what was cut short anywhere is nothing at all."""

import json
from pathlib import Path
from typing import Any

import pytest

WHOLE = [
    b"{}",
    b"[]",
    b' {"a": [1, 2, {"b": "}]"}], "c": "\\"[{"} \r\n\t',
    b'[["4f505467", 7, 1]]',
    json.dumps({"wifi_ssid": "M\u00fcller {", "mqtt_port": 1883, "wake_up": True, "line": None}).encode(),
    "{\"probe_name\": \"Z\u00e4hler\"}".encode(),
    b"[" * 8 + b"]" * 8,
]


@pytest.mark.parametrize("content", WHOLE)
def test_a_whole_file_is_read_and_none_of_its_beginnings(device: Any, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "it.json"
    file.write_bytes(content)
    assert device.store.load(str(file)) == json.loads(content)
    for n in range(len(content.rstrip())):
        file.write_bytes(content[:n])
        assert device.store.load(str(file)) is None, content[:n]
        with pytest.raises(ValueError, match="not whole"):
            device.store.read_json(str(file), 2048)


@pytest.mark.parametrize(
    "content",
    [
        b"5",
        b"null",
        b'"text"',
        b"{]",
        b"[{]}",
        b"{}}",
        b"{} x",
        b"[" * 9 + b"]" * 9,  # deeper than any of ours
        b'{"a": "}',
        b'{"a": "\\"}',
        b"\xff\xfe{}",
        b"\0" * 100,
    ],
)
def test_what_is_no_object_or_list_is_not_read(device: Any, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "it.json"
    file.write_bytes(content)
    assert device.store.load(str(file)) is None


def test_a_file_that_is_too_large_or_not_there(device: Any, tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    with pytest.raises(OSError):
        device.store.read_json(str(file), 10)
    assert device.store.load(str(file)) is None
    file.write_bytes(b"[1,2,3,4,5]")
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        device.store.read_json(str(file), 10)
    assert device.store.load(str(file), 11) == [1, 2, 3, 4, 5]


def test_a_file_that_cannot_be_read_is_damaged_and_not_missing(device: Any, tmp_path: Path) -> None:
    """Else a probe's settings would be taken for those of a new one, and written over."""
    file = tmp_path / "it.json"
    file.mkdir()  # open() raises EISDIR where a damaged flash raises EIO
    with pytest.raises(ValueError, match="not whole"):
        device.store.read_json(str(file), 1 << 20)
    values, problems = device.settings.load(str(file))
    assert values == device.settings.check({})[0] and len(problems) == 1 and "is not whole" in problems[0]


@pytest.mark.parametrize("cut", [2, 30, -2, -1])
def test_settings_and_board_cut_short_are_told(device: Any, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "it.json"
    file.write_text(json.dumps({"wifi_ssid": "home", "mqtt_host": "broker", "probe_id": "cellar"})[:cut])
    values, problems = device.settings.load(str(file))
    assert values == device.settings.check({})[0]
    assert len(problems) == 1 and "is not whole" in problems[0]
    with pytest.raises(device.board.BoardError, match="is not whole"):
        device.board.load(str(file))


# --- the meter found last --------------------------------------------------------------------------------------------

RECORD = {
    "protocol": "sml", "asked": False, "baud": 9600, "bits": 8, "parity": None, "heard": None, "invert": False,
    "line": "9600 8N1", "seen": "SML at 9600 8N1", "slug": "opt_1",
}  # fmt: skip


@pytest.fixture
def loaded(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`loaded(content)` is a DetectedMeter as detected.json of this content gives it."""
    monkeypatch.chdir(tmp_path)

    def load(content: bytes) -> Any:
        (tmp_path / "detected.json").write_bytes(content)
        detected = device.supervisor.DetectedMeter()
        device.detected_meter.load(detected)
        return detected

    return load


def test_the_meter_found_last_comes_back(device: Any, loaded: Any, tmp_path: Path) -> None:
    detected = loaded(json.dumps(RECORD).encode())
    assert (detected.protocol, detected.is_polled, detected.slug) == ("sml", False, "opt_1")
    assert repr(detected.uart_line()) == "9600 8N1"
    device.detected_meter.save(detected)
    assert json.loads((tmp_path / "detected.json").read_bytes()) == RECORD


def test_a_file_cut_short_is_no_meter(loaded: Any) -> None:
    content = json.dumps(RECORD).encode()
    for n in range(len(content)):
        assert loaded(content[:n]).protocol is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", "nonsense"), ("protocol", 5), ("asked", True), ("asked", 1), ("baud", 299), ("baud", "9600"),
        ("bits", 9), ("parity", "X"), ("heard", 1), ("invert", "no"), ("seen", None), ("line", 5), ("slug", "a/b"),
        ("slug", 5),
    ],
)  # fmt: skip
def test_a_wrong_field_is_no_meter(loaded: Any, key: str, value: Any) -> None:
    detected = loaded(json.dumps(RECORD | {key: value}).encode())
    assert detected.protocol is None and detected.slug == ""


def test_a_field_that_is_missing_is_no_meter(loaded: Any) -> None:
    for key in RECORD:
        if key not in ("protocol", "slug"):
            assert loaded(json.dumps({k: v for k, v in RECORD.items() if k != key}).encode()).protocol is None, key


class Sealed:
    """Of a listener what counters are kept of."""

    key_check = 77
    refuses_replays = False
    system_title = b"OPT\0\0\0\0\1"
    invocation_counter = 5000

    def __init__(self) -> None:
        self.restored: list[tuple[bytes, int]] = []

    def set_keys(self, key: bytes, auth_key: bytes | None) -> None: ...

    def restore_counter(self, title: bytes, counter: int) -> None:
        self.restored.append((title, counter))


def test_counters_cut_short_anywhere_are_none(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    device.invocation_counters.Counters(Sealed(), b"k" * 16, None).keep()
    file = tmp_path / "counters.json"
    whole = file.read_bytes()
    for n in range(len(whole) + 1):
        file.write_bytes(whole[:n])
        again = Sealed()
        device.invocation_counters.Counters(again, b"k" * 16, None)
        assert again.restored == ([(Sealed.system_title, 5000)] if n == len(whole) else []), whole[:n]


def test_totals_cut_short_anywhere_are_none(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new counter then, as on an empty flash: it asks the broker before it shows anything."""
    monkeypatch.chdir(tmp_path)
    totals = device.persistent_totals.PersistentTotals(1000)
    totals.read_back(None, None, 0)
    totals.add(1234)
    totals.keep(4000)
    whole = (tmp_path / "energy.json").read_bytes()
    for n in range(len(whole) + 1):
        (tmp_path / "energy.json").write_bytes(whole[:n])
        (tmp_path / "rtc_memory").unlink(missing_ok=True)
        again = device.persistent_totals.PersistentTotals(1000)
        assert again.counted.count == (1234 if n == len(whole) else 0), whole[:n]
        assert not again.settled and again.shown() == (None, None)
