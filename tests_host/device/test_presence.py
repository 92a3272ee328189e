"""When a meter counts as lost: rows of what was noted of it, second by second, and when it is given up."""

from typing import Any

import pytest

PUSH, POLLED, BLINK = 0, 1, 2


def lost_s(device: Any, kind: int, signs: tuple[int, ...], failures: tuple[int, ...] = (), again: bool = False) -> int:
    """The second in which a meter is lost that gives a sign of life in each of `signs` (one at 0 is the search's), and
    leaves a read-out unanswered in each of `failures`. `again`: it was followed before, with pauses of 100 s.
    """
    presence = device.presence.Presence()
    if again:
        presence.follow("it", kind, -1000)
        presence.note(1, 0, -1000)
        presence.note(2, 0, -900)
    presence.follow("it", kind, 0)
    for now_s in range(10_000):
        presence.note(sum(at <= now_s for at in signs), sum(at <= now_s for at in failures), now_s)
        if presence.is_lost(now_s):
            return now_s
    return -1


@pytest.mark.parametrize(
    ("kind", "signs", "wanted_s"),
    [
        (PUSH, (), 61),  # nothing at all: a minute
        (PUSH, (10,), 131),  # one telegram: two minutes behind it
        (PUSH, (0,), 121),  # which the search had in hand
        (PUSH, (0, 1, 2), 33),  # one a second: half a minute behind the last
        (PUSH, (10, 15, 20), 51),
        (PUSH, (10, 30, 50), 131),  # every 20 s: four of its pauses
        (PUSH, (0, 100), 501),
        (PUSH, (0, 100, 101, 102), 503),  # the longest pause counts
        (BLINK, (), 76),
        (BLINK, (5, 6, 7), 83),
        (BLINK, (0, 30), 271),  # eight of its pauses
        (POLLED, (), -1),  # silence does not tell
    ],
)
def test_silence(device: Any, kind: int, signs: tuple[int, ...], wanted_s: int) -> None:
    assert lost_s(device, kind, signs) == wanted_s


def test_no_pause_counts_for_more_than_ten_minutes(device: Any) -> None:
    presence = device.presence.Presence()
    presence.follow("it", BLINK, 0)
    presence.note(1, 0, 0)
    presence.note(2, 0, 3000)
    assert not presence.is_lost(3000 + 8 * 600)
    assert presence.is_lost(3001 + 8 * 600)


@pytest.mark.parametrize(
    ("signs", "failures", "wanted_s"),
    [
        ((), (60,), -1),
        ((), (60, 120), 120),
        ((90,), (60, 120), -1),  # it answered between them
        ((90,), (60, 120, 180), 180),
    ],
)
def test_read_outs_that_are_not_answered(
    device: Any, signs: tuple[int, ...], failures: tuple[int, ...], wanted_s: int
) -> None:
    assert lost_s(device, POLLED, signs, failures) == wanted_s


@pytest.mark.parametrize(("kind", "signs", "wanted_s"), [(PUSH, (0,), 601), (BLINK, (), 4801), (PUSH, (), 121)])
def test_a_meter_found_again_keeps_its_longest_pause(
    device: Any, kind: int, signs: tuple[int, ...], wanted_s: int
) -> None:
    """But not longer than the last sign of life is ago where the search has not heard it."""
    if signs or kind == BLINK:
        assert lost_s(device, kind, signs, again=True) == wanted_s
    else:
        assert lost_s(device, kind, signs, again=True) == 0


def test_another_meter_begins_anew(device: Any) -> None:
    presence = device.presence.Presence()
    presence.follow("slow", PUSH, 0)
    presence.note(1, 0, 0)
    presence.note(2, 0, 500)
    presence.follow("other", PUSH, 600)
    presence.note(0, 0, 600)
    assert not presence.is_lost(660) and presence.is_lost(661)


@pytest.mark.parametrize(
    ("every_s", "ms", "wanted_s"),
    [
        (1, 80, 3),  # other light, four seconds of it: a telegram's
        (1, 79, -1),  # a flash or two in one byte
        (20, 200, -1),  # one is forgotten every 15 s
        (10, 200, 70),
    ],
)
def test_light_that_is_no_flash(device: Any, every_s: int, ms: int, wanted_s: int) -> None:
    presence = device.presence.Presence()
    presence.follow("blink", BLINK, 0)
    lost = -1
    for now_s in range(300):
        presence.note(now_s, 0, now_s)
        presence.note_light(ms if now_s % every_s == 0 else 0, False, now_s)
        if presence.is_lost(now_s):
            lost = now_s
            break
    assert lost == wanted_s


def test_noise_that_comes_again_is_believed_for_twice_as_long(device: Any) -> None:
    presence = device.presence.Presence()
    waited = []
    at_s = 0
    for _ in range(3):
        presence.follow("blink", BLINK, at_s)
        began_s = at_s
        while not presence.is_lost(at_s):
            presence.note(at_s, 0, at_s)
            presence.note_light(200, False, at_s)
            at_s += 1
        waited.append(at_s - began_s)
    assert waited == [4, 8, 17]  # of seventeen one was forgotten


def test_an_led_that_stays_on_is_there(device: Any) -> None:
    presence = device.presence.Presence()
    presence.follow("blink", BLINK, 0)
    for now_s in range(1000):
        presence.note(0, 0, now_s)
        presence.note_light(0, True, now_s)
        assert not presence.is_lost(now_s)
    presence.note_light(0, False, 1074)
    assert not presence.is_lost(1074) and presence.is_lost(1075)
