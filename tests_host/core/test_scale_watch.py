"""What a count of an energy is worth, told by power and time: each row a load, a scale, and what comes of it."""

import pytest

from metering.scale_watch import DOUBTED, NOTHING, PROVEN, ScaleWatch, factor_of

HOUR = 3600


def live(watch, worth, watt, seconds, start_s=0, period_s=10, every_s=HOUR, energy=500_000):
    """Telegrams of a meter whose counts are worth `worth` Wh, energy every `every_s`; [(seconds, verdict)]."""
    verdicts = []
    watt_seconds = energy * HOUR
    for at_s in range(start_s, start_s + seconds, period_s):
        counts = watt_seconds // HOUR // worth if at_s % every_s == 0 else None
        verdict = watch.note(watt, counts, at_s)
        if verdict:
            verdicts.append((at_s, verdict))
        watt_seconds += watt * period_s
    return verdicts


@pytest.mark.parametrize(
    ("watt_seconds", "counts", "factor"),
    [
        (1000 * HOUR, 1000, 1),
        (1000 * HOUR, 100, 10),
        (1000 * HOUR, 1, 1000),
        (1000 * HOUR, 600, 1),
        (1000 * HOUR, 250, 0),  # 4: neither 1 nor 10
        (1000 * HOUR, 190, 10),
        (1000 * HOUR, 10_000, 0),
        (0, 100, 0),
        (0, 0, 1),  # nothing against anything; ScaleWatch never asks with so few
    ],
)
def test_the_factor_of_an_energy_and_its_counts(watt_seconds, counts, factor):
    assert factor_of(watt_seconds, counts) == factor


@pytest.mark.parametrize("worth", [1, 10, 100])
def test_the_right_scale_is_never_doubted(worth):
    assert live(ScaleWatch(worth), worth, 1500, 60 * HOUR) == []


@pytest.mark.parametrize(("taken", "worth"), [(10, 1), (1, 10), (10, 100)])
def test_a_wrong_one_is_doubted_and_the_right_one_proven(taken, worth):
    watch = ScaleWatch(taken)
    verdicts = live(watch, worth, 1500, 60 * HOUR)
    assert [verdict for _, verdict in verdicts] == [DOUBTED, PROVEN]
    assert (watch.factor, watch.proven) == (0, worth)
    (doubted_s, _), (proven_s, _) = verdicts
    assert 2 * HOUR <= doubted_s <= 4 * HOUR
    assert 6 * HOUR <= proven_s - doubted_s <= 26 * HOUR


@pytest.mark.parametrize(("watt", "worth", "least_h", "most_h"), [(1500, 1, 6, 8), (300, 10, 24, 26), (30, 10, 33, 36)])
def test_much_energy_proves_in_hours_and_little_takes_days(watt, worth, least_h, most_h):
    ((proven_s, verdict),) = live(ScaleWatch(0), worth, watt, 37 * HOUR)[:1]
    assert verdict == PROVEN and least_h * HOUR <= proven_s <= most_h * HOUR


def test_a_few_counts_prove_nothing():
    assert live(ScaleWatch(10), 1, 5, 3 * HOUR) == []
    assert live(ScaleWatch(0), 10, 20, 30 * HOUR) == []


def test_a_pause_begins_anew():
    watch = ScaleWatch(0)
    for day in range(4):
        assert live(watch, 1, 1500, 5 * HOUR, start_s=day * 24 * HOUR) == []


def test_a_counter_that_falls_begins_anew():
    watch = ScaleWatch(0)
    assert live(watch, 1, 1500, 5 * HOUR) == []
    assert live(watch, 1, 1500, 5 * HOUR, start_s=5 * HOUR, energy=1000) == []
    assert watch.proven == 0


def test_power_between_two_scales_decides_nothing():
    watch = ScaleWatch(0)
    assert all(watch.note(400, at_s // HOUR * 100 if at_s % HOUR == 0 else None, at_s) == NOTHING
               for at_s in range(0, 60 * HOUR, 10))  # fmt: skip


def test_a_doubt_from_outside_throws_away_what_was_before():
    watch = ScaleWatch(10)
    live(watch, 10, 1500, 5 * HOUR)
    watch.doubt()
    assert watch.factor == 0
    ((proven_s, _),) = live(watch, 1, 1500, 8 * HOUR, start_s=5 * HOUR, energy=5_000_000)
    assert proven_s >= 11 * HOUR and watch.proven == 1
