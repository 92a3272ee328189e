"""What a Kamstrup's energies count in: who is believed, what is held meanwhile, and what outlasts a restart."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from metering.reading import Reading

IMPORT, POWER = bytes((1, 1, 1, 8, 0, 255)), bytes((1, 1, 1, 7, 0, 255))
HOUR = 3600


class Meter:
    """Of a listener what the scale is about."""

    factor = 10

    def assumed_energy_factor(self) -> int:
        return self.factor

    def set_energy_factor(self, factor: int) -> None:
        self.factor = factor or 10


class Life:
    """One run of the probe before meter "21000001", whose counts are worth `worth` Wh."""

    def __init__(self, device: Any, worth: int = 10, owners: int = 0, meter_id: str = "21000001") -> None:
        self.meter = Meter()
        self.scale = device.energy_scale.EnergyScale(self.meter, meter_id, owners)
        self.worth = worth
        self.now_s = 0
        self.published: list[tuple[int, int]] = []  # (s, Wh)

    def go_on(self, hours: int, watt: int = 1500, is_scaled: bool = False) -> "Life":
        until_s = self.now_s + hours * HOUR
        while self.now_s < until_s:
            self.scale.holds(Reading(POWER, watt, 0, 27))
            if self.now_s % HOUR == 0:
                energy = 500_000 + self.now_s * watt // HOUR
                reading = Reading(IMPORT, energy // self.worth, 0, 30)
                if not self.scale.holds(reading):
                    self.published.append((self.now_s, reading.value * self.meter.factor))
            self.scale.end_telegram(self.now_s, is_scaled)
            self.now_s += 10
        return self


@pytest.fixture(autouse=True)
def flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scale.json"


def test_the_documented_scale_stands_where_nothing_contradicts_it(device: Any, flash: Path) -> None:
    life = Life(device).go_on(48)
    assert len(life.published) == 48 and life.scale.notice == "" and not flash.exists()


def test_a_contradiction_holds_the_energies_and_the_notice_tells_what_to_compare(device: Any, flash: Path) -> None:
    life = Life(device, worth=1).go_on(5)
    assert 2 <= len(life.published) <= 3
    assert json.loads(flash.read_text()) == {"meter": "21000001", "factor": 0}
    notice = life.scale.notice
    assert "energy_factor to 1 if the display shows some 500.000 kWh, to 10 if 5000.00 kWh" in notice
    assert life.go_on(1).scale.notice == notice  # it does not count along


def test_a_doubt_outlasts_a_restart_and_proof_ends_it(device: Any, flash: Path) -> None:
    Life(device, worth=1).go_on(5)
    life = Life(device, worth=1).go_on(5)
    assert life.published == [] and "in doubt" in life.scale.notice
    life = Life(device, worth=1).go_on(10)
    assert life.published and all(wh == 500_000 + at_s * 1500 // HOUR for at_s, wh in life.published)
    assert json.loads(flash.read_text())["factor"] == 1 and life.scale.notice == ""
    again = Life(device, worth=1).go_on(30)  # remembered
    assert len(again.published) == 30 and again.published[0] == (0, 500_000) and again.scale.notice == ""


def test_a_proof_of_another_scale_than_was_published_waits_for_a_restart(device: Any, flash: Path) -> None:
    life = Life(device, worth=1).go_on(14)
    assert len(life.published) <= 3
    assert "count 1 Wh" in life.scale.notice and "restart" in life.scale.notice
    assert json.loads(flash.read_text())["factor"] == 1


@pytest.mark.parametrize("owners", [1, 10])
def test_the_owners_word_holds_at_once_and_is_remembered(device: Any, flash: Path, owners: int) -> None:
    Life(device, worth=owners).go_on(1)
    flash.write_text('{"meter": "21000001", "factor": 0}')
    life = Life(device, worth=owners, owners=owners).go_on(30)
    assert len(life.published) == 30 and life.published[0] == (0, 500_000)
    assert json.loads(flash.read_text())["factor"] == owners
    assert Life(device, worth=owners).go_on(1).published == [(0, 500_000)]


def test_a_jump_that_the_guard_holds_is_doubted_after_a_restart_too(device: Any, flash: Path) -> None:
    Life(device).go_on(3).go_on(1, is_scaled=True)
    assert json.loads(flash.read_text())["factor"] == 0
    assert Life(device, worth=1).go_on(3).published == []


def test_a_jump_that_is_over_is_forgotten(device: Any, flash: Path) -> None:
    life = Life(device).go_on(3).go_on(1, is_scaled=True).go_on(3)
    assert life.scale.notice == "" and len(life.published) == 7  # the guard holds what it must
    assert json.loads(flash.read_text())["factor"] == 10


def test_another_meter_is_not_doubted(device: Any, flash: Path) -> None:
    flash.write_text('{"meter": "21000001", "factor": 0}')
    assert len(Life(device, meter_id="21000002").go_on(5).published) == 5


def test_a_file_cut_at_any_byte_or_of_nonsense_is_no_file(device: Any, flash: Path) -> None:
    whole = '{"meter": "21000001", "factor": 1}'
    texts = [whole[:n] for n in range(len(whole))]
    texts += ["[]", "1", '{"meter": "21000001"}', '{"meter": "21000001", "factor": 7}', '{"factor": 1}']
    texts += ['{"meter": "21000001", "factor": "1"}', '{"meter": "21000001", "factor": null}', whole + "x"]
    for text in texts:
        flash.write_text(text)
        life = Life(device)
        assert life.meter.factor == 10, text
    flash.write_text(whole)
    assert Life(device).meter.factor == 1


def test_flash_that_cannot_be_written_changes_nothing(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "rename", fails)
    life = Life(device, worth=1).go_on(5)
    assert len(life.published) <= 3 and "in doubt" in life.scale.notice


def test_a_shortage_of_memory_at_a_meters_begin_believes_no_scale(
    device: Any, flash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner's factor was lost for the whole run where the scale's code had found no memory."""
    from metering.guard import Guard

    class Listener(Meter):
        n_values, name_may_follow, names_model_only, pin_needed = 1, False, False, False
        proven = vouched = sealed = True
        meter_id = maker = model = printed_id = lambda self: ""

        def published_readings(self) -> Any:
            return iter([Reading(IMPORT, 123, 0 if self.factor == 1 else 1, 30)])

    outbox = device.outbox.Outbox()
    announcer = device.announcer.Announcer("optoprobe", "cellar", "Optoprobe", "homeassistant")
    listener = Listener()
    publisher = device.publisher.Publisher(listener, Guard(70_000), outbox, announcer, device.publisher.Pace(0, 10), 1)
    really, shortages = device.energy_scale.EnergyScale, [MemoryError]

    def scale(*arguments: Any) -> Any:
        if shortages:
            raise shortages.pop()
        return really(*arguments)

    monkeypatch.setattr(device.energy_scale, "EnergyScale", scale)
    with pytest.raises(MemoryError):
        publisher.publish(0)
    assert publisher.publish(10) and listener.factor == 1
    published = {topic.decode().rpartition("/")[2]: payload for topic, payload, _ in iter(outbox.pop_unsent, None)}
    assert json.loads(published["state"]) == {"energy_import_b1": "0.123"}
