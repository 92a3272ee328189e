"""A clock that leaps by years, both ways, changes nothing of what is read, when it is asked and what is published."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.virtual_time import Probe

from optoprobe.virtual.blink_meter import BlinkMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import SmlMeter

# s since 1970: of 1970, 2000, 2026, 2027, 2036, 2096 and 2100, and one before all
TIMES = (0, 946_684_800, 1_780_000_000, 1_811_000_000, 2_085_978_496, 4_000_000_000, 4_102_444_800, -1)
METERS: dict[str, tuple[Callable[[], Any], dict[str, Any], int]] = {  # meter, settings, s of it
    "sml": (lambda: SmlMeter(1), {"protocol": "sml"}, 40),
    "asked": (lambda: IecMeter("C"), {"protocol": "iec62056-21", "wake_up": True, "interval_s": 30}, 150),
    "wrong password": (
        lambda: IecMeter("C", password="right"),
        {"protocol": "iec62056-21", "meter_password": "wrong", "interval_s": 20},
        120,
    ),
    "blink": (lambda: BlinkMeter(1000), {"protocol": "blink"}, 90),
}


def life(folder: Path, meter: Any, settings: dict[str, Any], s: int, leaps: bool) -> tuple[list[Any], list[Any]]:
    """(what is published of the meter in `s` seconds, what the meter sends)."""
    chance = random.Random(7)
    with Probe(folder, meter, settings | {"ntp_host": "time.example"}) as probe:
        if leaps:
            probe.modules._given["time"].time = lambda: chance.choice(TIMES) + chance.randrange(10_000)
        probe.run_until(s)
        told = []
        for message in probe.published:
            if message.topic.endswith(("/state", "/live")):
                values = message.object()
                values.pop("last_pulse", "")  # it tells the time
                told.append((message.at_s, message.topic, values))
        assert probe.diagnostics()["longest_stall_ms"] < 1000
        return told, [(sent.begin_s, sent.expected) for sent in probe.sent]


@pytest.mark.parametrize("kind", METERS)
def test_a_clock_that_leaps_changes_no_reading_and_no_pause(tmp_path: Path, kind: str) -> None:
    make, settings, s = METERS[kind]
    steady = life(tmp_path / "steady", make(), settings, s, leaps=False)
    leaping = life(tmp_path / "leaping", make(), settings, s, leaps=True)
    assert leaping == steady and len(steady[0]) > 3
