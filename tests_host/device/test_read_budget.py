"""A meter on a battery is asked no more often than promised, whatever becomes of the power and of the clock."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.virtual_time import Probe

from metering.asked_seldom import AskedSeldom
from metering.iec62056_21 import lis200_poll
from metering.line import WAIT
from optoprobe.virtual.kmp_meter import KmpMeter

HOUR_S, DAY_S = 3600, 86400
FILE = "reads.json"


class Asked(AskedSeldom):
    """A conversation whose read-outs take 5 s; `asked` gets the time of each."""

    REASONS = ("no answer", "password refused")
    SENTENCES = ("nobody answers",)

    def __init__(self, probe: Any, pause_s: int) -> None:
        super().__init__(None, pause_s)
        self._probe = probe

    def read_out(self, answer: bytes = b"") -> Iterator[Any]:
        self._probe.asked.append(self._probe.now_s)
        yield WAIT, 2500
        yield WAIT, 2500
        return True if self._probe.meter_answers else self._failed("no answer")


class AskedLis200(lis200_poll.Conversation):
    """The same of a gas volume corrector."""

    def __init__(self, probe: Any, pause_s: int) -> None:
        super().__init__(SimpleNamespace(LINES=(None,), line=None), interval_s=pause_s)
        self._probe = probe

    read_out = Asked.read_out


class Life:
    """A probe that is switched on and off; `asked` are the times of its questions, `waited` what it said then."""

    def __init__(self, pause_s: int = HOUR_S, meter_answers: bool = True, kind: Any = Asked) -> None:
        self._kind = kind
        self.now_s = 0.0
        self.asked: list[float] = []
        self.waited: list[str] = []
        self.meter_answers = meter_answers
        self._pause_s = pause_s
        self._on_s = 0.0
        self._module = __import__("firmware.reading.read_budget", fromlist=("spare",))

    @property
    def uptime_s(self) -> int:
        return int(self.now_s - self._on_s)

    def run(self, seconds: float, *, by_hand: int = 0) -> int:
        """On for so long, with so many orders to read now, a minute apart; returns how many were carried out."""
        self._on_s = self.now_s
        end_s = self.now_s + seconds
        driver = SimpleNamespace(interactive=False)
        services = SimpleNamespace(health=self, driver=driver, read_by_hand=(0, 0))
        conversation = self._kind(self, self._pause_s)
        self._module.spare(conversation, services)
        actions = conversation.run()
        obeyed = 0
        while self.now_s < end_s:
            _, ms = next(actions)
            if conversation.explanation and conversation.explanation not in self.waited:
                self.waited.append(conversation.explanation)
            if by_hand and ms > 60_000:
                by_hand -= 1
                if sys.modules["firmware.hardware.health"].call(
                    "firmware.reading.read_budget", lambda budget: budget.take(services)
                ):
                    obeyed += 1
                    ms = 60_000
            self.now_s += ms / 1000
        self.now_s = end_s
        return obeyed

    def most_in_a_day(self) -> int:
        return max(sum(at <= other < at + DAY_S for other in self.asked) for at in self.asked)


@pytest.fixture(autouse=True)
def no_clock(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at it fails: it may jump. What is loaded stays, for speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "time", None)
    monkeypatch.setattr(sys.modules["firmware.hardware.health"], "unload", lambda name: None)


@pytest.mark.parametrize("kind", [Asked, AskedLis200])
def test_a_power_cut_every_ten_minutes_makes_no_more_read_outs_than_promised(kind: Any) -> None:
    life = Life(kind=kind)
    for _ in range(2 * 144):
        life.run(600)
    assert 8 <= life.most_in_a_day() <= 24 + 6 and len(life.asked) >= 2 * 11
    assert all(later - at >= HOUR_S for at, later in zip(life.asked[6:11], life.asked[7:12], strict=True))
    assert "battery is spared" in life.waited[0]


@pytest.mark.parametrize("on_s", [290, 3000, 3700])
def test_it_is_read_all_the_same(on_s: int) -> None:
    """As often as the time for which the probe is on allows, if that is longer than five minutes."""
    life = Life()
    while life.now_s < DAY_S + 2 * HOUR_S:
        life.run(on_s)
    assert 6 <= life.most_in_a_day() <= 24 + 6
    assert len(life.asked) >= (life.now_s // (2 * HOUR_S) if on_s > 300 else 6)


def test_a_meter_that_is_asked_once_a_day_is_read_also_where_no_run_is_as_long() -> None:
    life = Life(DAY_S)
    for _ in range(21):
        life.run(16 * HOUR_S)
        life.now_s += 8 * HOUR_S
    assert 14 <= len(life.asked) <= 28


def test_who_does_not_answer_is_asked_no_more_often_for_power_cuts() -> None:
    life = Life(meter_answers=False)
    for _ in range(144):
        life.run(595)
    assert 12 <= len(life.asked) <= 3 * (6 + 12)


def test_six_are_by_hand_or_behind_a_start_and_a_new_day_has_six_more(tmp_path: Path) -> None:
    life = Life()
    assert life.run(1800, by_hand=3) == 3 and len(life.asked) == 4
    assert life.run(1800, by_hand=3) == 1 and len(life.asked) == 6
    assert json.loads((tmp_path / FILE).read_text())[0] == 6
    life.run(1700)
    assert len(life.asked) == 6 and "asked in" in life.waited[0]
    life.run(DAY_S + 2 * HOUR_S)
    assert json.loads((tmp_path / FILE).read_text())[0] == 0
    n = len(life.asked)
    assert life.run(1800, by_hand=9) == 5 and len(life.asked) == n + 6


@pytest.mark.parametrize(
    "kept", ["", "[", "{}", "[1, 2]", "[7, 1, 1]", "[-1, 5, 5]", "[6, 86400, 1e9]", "[true, 5, 5]", '["6", 5, 5]']
)
def test_a_file_that_is_none_is_as_of_a_new_probe(tmp_path: Path, kept: str) -> None:
    (tmp_path / FILE).write_text(kept)
    life = Life()
    life.run(60)
    assert len(life.asked) == 1 and json.loads((tmp_path / FILE).read_text()) == [1, DAY_S, HOUR_S]


def test_where_nothing_can_be_kept_a_start_waits(tmp_path: Path) -> None:
    (tmp_path / (FILE + ".new")).mkdir()
    life = Life()
    for _ in range(20):
        life.run(1800)
    assert not life.asked
    life.run(2 * HOUR_S)
    assert len(life.asked) == 1


@pytest.fixture
def written(device: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was written to flash."""
    written: list[Any] = []
    save = device.store.save
    store = SimpleNamespace(load=device.store.load, save=lambda *what: written.append(what) or save(*what))
    monkeypatch.setitem(sys.modules, "firmware.store", store)
    return written


def test_flash_is_spared_too(written: list[Any]) -> None:
    """A week in one run: the start is written, and the hours of the day that it belongs to."""
    life = Life()
    life.run(7 * DAY_S)
    assert len(life.asked) == 7 * 24 and 1 <= len(written) <= 27


def test_flash_is_spared_while_the_head_is_placed(written: list[Any]) -> None:
    """It is asked every three seconds then, and no start is counted."""
    budget = Life()._module
    services = SimpleNamespace(health=SimpleNamespace(uptime_s=0), driver=SimpleNamespace(), read_by_hand=(0, 0))
    for is_placed, n in ((True, 0), (False, 1), (True, 4)):
        services.driver.interactive = is_placed
        for _ in range(400 if is_placed else 1):
            services.health.uptime_s += 3
            assert budget.wait_s(services, HOUR_S) == 0
        assert n <= len(written) <= n + 1


def test_the_firmware_behind_restarts(tmp_path: Path) -> None:
    meter = KmpMeter()
    with Probe(tmp_path, meter, {"protocol": "kmp"}) as probe:
        for n in range(7):
            probe.run_for(20)
            assert meter.questions == {0x02: min(n + 1, 6), 0x10: min(n + 1, 6)}
            if n < 6:
                probe.restart()
        assert "battery is spared" in probe.notice()
        probe.say("optoprobe/cellar/order/set", "read")
        probe.run_for(20)
        assert meter.questions[0x10] == 6 and "refused" in probe.notice()
        probe.run_for(3600)
        assert meter.questions == {0x02: 7, 0x10: 7}


def test_a_search_behind_restarts(tmp_path: Path) -> None:
    class Deaf(KmpMeter):
        def _answer(self, frame: bytes, at_s: float) -> None:
            asked.append(frame)

    asked: list[bytes] = []
    with Probe(tmp_path, Deaf(), {"protocol": "auto"}) as probe:
        for _ in range(7):
            probe.run_for(30)
            probe.restart()
    assert len(asked) == 6
