"""Alignment mode and captures on the device, in virtual time in front of the bit-accurate line.

Readings go on all the while; a capture holds what was on the line and no secret; both end by themselves.
"""

import builtins
from pathlib import Path
from typing import Any

import pytest
from support.virtual_time import Probe

import optoprobe
from optoprobe import capture_file
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.line import Noise
from optoprobe.virtual.sml_meter import SmlMeter

ALIGNMENT, CAPTURE = "optoprobe/cellar/alignment", "optoprobe/cellar/capture"
SECRETS = {"wifi_password": "wifi secret", "mqtt_password": "mqtt secret", "meter_password": "9173"}
KEY = "0123456789abcdef0123456789abcdef"

METERS = {
    "sml": lambda: SmlMeter(1),
    "pushed": lambda: IecMeter("D", period_s=2),
    "asked": lambda: IecMeter("C"),
    "dlms": lambda: DlmsMeter("hdlc"),
}


def probe_of(folder: Path, meter: Any, **line: Any) -> Probe:
    settings: dict[str, Any] = {"protocol": "auto", "meter_key": KEY, **SECRETS}
    return Probe(folder, meter, settings, **line)


def found(probe: Probe) -> None:
    assert probe.run_until(60, done=lambda: probe.of("/state")), probe.diagnostics()
    probe.run_for(10)


@pytest.mark.parametrize("name", METERS)
def test_the_score_of_a_well_placed_head(tmp_path: Path, name: str) -> None:
    with probe_of(tmp_path, METERS[name]()) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        began_s = probe.now_s
        probe.run_for(45)
        before = [message for message in probe.of("/alignment") if message.at_s <= began_s]
        assert [message.object()["mode"] for message in before] == ["OFF"]  # once, behind the announcement
        scores = [message.object() for message in probe.of("/alignment", began_s)]
        assert 42 <= len(scores) <= 46  # one a second
        assert all(score["mode"] == "ON" for score in scores)
        assert scores[-1]["score"] >= 90 and scores[-1]["best"] >= scores[-1]["score"], scores[-5:]
        assert scores[-1]["words"] == "well placed"
        assert [message for message in probe.of("/live") if message.at_s > began_s + 20]  # it is read all the while
        probe.say(ALIGNMENT + "/set", "OFF")
        probe.run_for(3)
        n = len(probe.of("/alignment"))
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        probe.run_for(5)
        assert len(probe.of("/alignment")) == n


def test_a_head_that_loses_bytes_is_told_so(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1), noise=Noise(dropout_hz=3)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(30)
        last = probe.of("/alignment")[-1].object()
        assert last["score"] < 80 and "turn the head" in last["words"]


def test_alignment_mode_ends_by_itself(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(605)
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert len(probe.of("/live")) >= n + 9


@pytest.mark.parametrize("name", METERS)
def test_a_capture_replays_and_holds_no_secret(tmp_path: Path, name: str) -> None:
    with probe_of(tmp_path, METERS[name]()) as probe:
        found(probe)
        n = len(probe.of("/live"))
        probe.say(CAPTURE + "/set", "25")
        assert probe.run_for(30, done=lambda: probe.of("/capture"))
        (message,) = probe.of("/capture")
        assert not message.retain and len(message.payload) < 65536
        for secret in (*SECRETS.values(), KEY, KEY.upper()):
            assert secret.encode() not in message.payload
        parts = capture_file.parse(message.payload).parts()
        events = [event for part in parts for event in optoprobe.decode(part.data, pauses=part.pauses)]
        assert any(isinstance(event, optoprobe.Telegram) for event in events)
        if name != "dlms":  # it pushes every 10 s only
            assert (b"\nedges " in message.payload) == (name != "asked")
        probe.run_for(12)
        assert len(probe.of("/live")) > n  # it has been read, and is
        assert probe.diagnostics()["protocol"] != "searching"


def test_a_full_flash_ends_a_capture_and_nothing_else(tmp_path: Path) -> None:
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)

        class Full:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def write(self, text: str) -> int:
                if probe.now_s > began_s + 4:
                    raise OSError(28)
                return len(text)

        began_s = probe.now_s
        really = builtins.open

        def opened(name: str, *more: Any) -> Any:
            return Full() if name == "capture.txt" and more == ("w",) else really(name, *more)

        probe.modules.load("firmware.owner.capture_task").open = opened
        probe.say(CAPTURE + "/set", "20")
        probe.run_for(30)
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert len(probe.of("/live")) >= n + 9 and not probe.of("/capture")
        assert any("capture cannot be written" in line for line in probe.log)


@pytest.mark.parametrize("topic", [ALIGNMENT, CAPTURE])
def test_a_shortage_of_memory_does_not_leave_the_meter_unheard(tmp_path: Path, topic: str) -> None:
    """Where the edges have been measured, and the meter's line cannot be opened again at once."""
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        found(probe)
        head = probe.app.head
        really, shortages = head.open, [MemoryError]

        def opened(line: Any) -> None:
            if line.baud == 9600 and head.line.baud == 28800 and shortages:
                raise shortages.pop()
            really(line)

        head.open = opened
        probe.say(topic + "/set", "8")
        probe.run_for(30)
        probe.say(ALIGNMENT + "/set", "OFF")
        n = len(probe.of("/live"))
        probe.run_for(10)
        assert not shortages and len(probe.of("/live")) >= n + 9


def test_a_capture_of_the_unknown(tmp_path: Path) -> None:
    """The search is recorded, too: what it has looked at, and with which settings."""
    with probe_of(tmp_path, bytes(range(7, 250, 3)) * 3) as probe:
        probe.run_until(5)
        assert probe.diagnostics()["protocol"] == "searching"
        probe.say(CAPTURE + "/set", "PRESS")
        assert probe.run_for(40, done=lambda: probe.of("/capture"))
        capture = capture_file.parse(probe.of("/capture")[0].payload)
        assert {segment.is_edges for segment in capture.segments} == {False, True}
        assert any(chunk for segment in capture.segments for _, chunk in segment.chunks)


def test_one_at_a_time(tmp_path: Path) -> None:
    """A capture ends alignment mode; what is asked for again goes on."""
    with probe_of(tmp_path, SmlMeter(1)) as probe:
        found(probe)
        probe.say(ALIGNMENT + "/set", "ON")
        probe.run_for(5)
        probe.say(CAPTURE + "/set", "5")
        probe.run_for(3)
        probe.say(CAPTURE + "/set", "5")
        probe.run_for(12)
        assert probe.of("/alignment")[-1].object()["mode"] == "OFF"
        assert len(probe.of("/capture")) == 1
        n = len(probe.of("/live"))
        probe.run_for(5)
        assert len(probe.of("/live")) >= n + 4
