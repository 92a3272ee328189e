"""The parts of Pulses, each alone: the width learned, a lamp's windows, the interval of a power, steady light."""

import pytest

from metering.pulse_parts import (
    FLASH,
    LAMP,
    RATES,
    TOO_LONG,
    UNKNOWN,
    FlickerWindow,
    PulseInterval,
    SteadyLight,
    WidthLearner,
)

IN_DOUBT = 1
NOTHING = 0


def learn(learner, *windows):
    """Close a window after each row of widths; returns what each close() said."""
    said = []
    for widths in windows:
        for zeros in widths:
            learner.add(zeros)
        said.append(learner.close())
    return said


@pytest.mark.parametrize(
    ("windows", "width", "confirmed", "rejected", "held"),
    [
        (([2, 2], [], []), UNKNOWN, 0, 0, 0),  # too few
        (([2, 2, 2], []), 2, 3, 0, 0),
        (([2, 3, 2], []), 2, 3, 0, 0),  # edges fall between two samples
        (([3, 2, 3], []), 3, 3, 0, 0),
        (([2, 5, 2, 2], []), 2, 3, 1, 0),
        (([1, 3, 5], []), UNKNOWN, 0, 0, 0),  # none agrees with two others
        (([2], [2], [2], []), 2, 3, 0, 0),  # over several windows
        (([2, 2, 2], [2, 5]), 2, 3, 0, 1),  # the last window is not proven yet
        (([0, 0, 1], []), 0, 3, 0, 0),
    ],
)
def test_the_width_is_what_three_flashes_agree_in(windows, width, confirmed, rejected, held):
    learner = WidthLearner(0, UNKNOWN)
    said = learn(learner, *windows)
    assert said == [False] * (len(windows) - 1) + [width != UNKNOWN]
    assert (learner.width, learner.rate) == (width, 0)
    assert (learner.confirmed, learner.rejected, learner.held) == (confirmed, rejected, held)


@pytest.mark.parametrize("zeros", [7, 8])
def test_flashes_as_long_as_a_byte_lower_the_rate_and_are_counted_later(zeros):
    learner = WidthLearner(0, UNKNOWN)
    assert learn(learner, [zeros] * 3, [zeros]) == [False, False]
    assert learner.rate == 0, "not amid a flash"
    learner.add(zeros)
    assert learner.rate == 1 and learner.waiting() == 0
    assert learn(learner, [4, 4, 4], []) == [False, True]
    assert learner.confirmed == 3 + 1 + 1 + 3


def test_at_the_last_rate_a_flash_may_be_as_long_as_a_byte():
    learner = WidthLearner(len(RATES) - 1, UNKNOWN)
    assert learn(learner, [8, 8, 8], []) == [False, True]
    assert (learner.width, learner.rate) == (8, len(RATES) - 1)


@pytest.mark.parametrize(
    ("others", "width"),
    [([6] * 19, 2), ([6] * 20, UNKNOWN), ([6, 7] * 10, UNKNOWN), ([6] * 10 + [4] * 10, 2), ([6] * 19 + [None, 6], 2)],
)
def test_twenty_ghosts_of_one_width_without_a_pulse_are_the_meters(others, width):
    learner = WidthLearner(0, 2)
    for zeros in others:
        if zeros is None:
            learner.note_pulses()
        else:
            learner.reject(zeros)
    assert learner.width == width


@pytest.mark.parametrize(("zeros", "accepted"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_a_width_may_differ_by_one(zeros, accepted):
    assert WidthLearner(0, 2).accepts(zeros) == accepted


@pytest.mark.parametrize(
    ("windows", "zeros", "taken"), [(([2],), 2, True), (([2],), 3, False), (([2], [], []), 2, False)]
)
def test_a_flash_is_taken_back_as_long_as_nothing_was_learned_from_it(windows, zeros, taken):
    learner = WidthLearner(0, UNKNOWN)
    learn(learner, *windows)
    assert learner.take_back(zeros) == taken
    assert not (taken and learner.take_back(zeros))


@pytest.mark.parametrize(("verdict", "width"), [(IN_DOUBT, 2), (LAMP, UNKNOWN)])
def test_a_lamp_takes_the_window_before_with_it(verdict, width):
    learner = WidthLearner(0, UNKNOWN)
    learn(learner, [2, 2, 2])
    learner.add(2)
    assert learner.waiting() == 1
    learner.drop(verdict)
    assert learner.waiting() == 0
    learner.close()
    assert learner.width == width


def windows_of(counts, waiting=0):
    """(verdict, confirmed, rejected) of windows of a second, 46 flashes in each at the most."""
    window = FlickerWindow(10_000, 170_000)
    said = []
    for n in counts:
        for k in range(n):
            window.pass_time((k + 1) * 1000 // n - k * 1000 // n)
            window.add(1, 10)
        window.pass_time(0 if n else 1000)
        assert window.ms == 1000
        said.append((window.close(waiting), window.confirmed, window.rejected))
    return said


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 4, 0], [(NOTHING, 0, 0), (NOTHING, 3, 0), (NOTHING, 4, 0)]),
        ([47, 0], [(NOTHING, 0, 0), (NOTHING, 47, 0)]),  # one more may fall into a second
        ([48, 0], [(LAMP, 0, 48), (IN_DOUBT, 0, 0)]),
        ([3, 60, 5, 4, 0], [(NOTHING, 0, 0), (LAMP, 0, 63), (IN_DOUBT, 0, 5), (NOTHING, 0, 0), (NOTHING, 4, 0)]),
    ],
)
def test_a_window_is_confirmed_by_the_next_and_a_lamp_takes_its_neighbours(counts, said):
    assert windows_of(counts) == said


def test_flashes_of_unknown_width_make_a_lamp_too():
    assert windows_of([3], waiting=45)[0] == (LAMP, 0, 48)
    assert windows_of([3], waiting=44)[0] == (NOTHING, 0, 0)


@pytest.mark.parametrize(
    ("n", "gap_ms", "verdict"), [(7, 10, NOTHING), (8, 10, LAMP), (8, 100, NOTHING), (11, 99, NOTHING)]
)
def test_a_burst_is_a_lamp_unless_the_look_was_late(n, gap_ms, verdict):
    window = FlickerWindow(10_000, 170_000)
    for _ in range(n):
        window.add(1, gap_ms)
    window.pass_time(1000)
    assert window.close(0) == verdict


def test_the_connection_limits_what_a_second_may_have():
    window = FlickerWindow(1000, 3600)  # one a second, and one
    for _ in range(4):
        window.pass_time(250)
        window.add(1, 10)
    assert window.close(0) == LAMP


def test_pulses_are_taken_back_from_this_window_then_from_the_one_before():
    window = FlickerWindow(1000, 17_000)
    window.add(1, 10)
    window.pass_time(1000)
    window.close(0)
    window.add(1, 10)
    assert [window.take_back() for _ in range(3)] == [True, True, False]
    window.pass_time(1000)
    window.close(0)
    assert window.confirmed == 0


def test_the_age_is_that_of_the_last_flash_counted():
    window = FlickerWindow(1000, 17_000)
    window.pass_time(400)
    window.add(1, 10)
    window.pass_time(600)
    window.close(0)
    assert window.age_ms() == 1000, "since the start: it is not counted yet"
    window.pass_time(1000)
    window.close(0)
    assert window.since_ms == 600 and window.age_ms() == 1600
    for _ in range(3):
        window.pass_time(0x1FFFFFFF)
        window.close(0)
    assert window.age_ms() is None


@pytest.mark.parametrize(
    ("steps", "known", "held"),
    [
        ([(0, 10), (1000, 10), (1000, 10)], True, (2, 2000)),
        ([(0, 10), (1000, 10), (999, 10)], True, (0, 0)),  # too short for a power
        ([(0, 10), (1000, 10), (1000, 10)], False, (0, 0)),  # a ghost's, perhaps
        ([(0, 10)], True, (0, 0)),
        ([(0, 10), (2000, 10), (1000, 200)], True, (1, 2000)),  # the last was seen late
        ([(0, 50), (1000, 10), (2000, 10)], True, (1, 2000)),  # opened anew by one that was seen in time
        ([(0, 31), (1000, 10), (2000, 10)], True, (2, 3000)),  # that was early enough
    ],
)
def test_an_interval_is_from_one_timely_flash_to_another(steps, known, held):
    interval = PulseInterval(1000)
    for ms, gap_ms in steps:
        interval.pass_time(ms)
        interval.add(gap_ms)
    interval.close(known)
    assert (interval.held_count, interval.held_ms) == held and interval.count == 0
    interval.close(known)
    assert (interval.count, interval.ms) == held and interval.held_count == 0


def test_an_interval_goes_on_from_the_last_one_unless_it_is_broken_off():
    for broken, held in ((False, (1, 2500)), (True, (0, 0))):
        interval = PulseInterval(1000)
        interval.add(10)
        interval.pass_time(3000)
        interval.add(10)
        interval.close(True)
        if broken:
            interval.break_off()
            interval.drop_held()
        interval.pass_time(2500)
        interval.add(10)
        interval.close(True)
        assert interval.count == (not broken)
        assert (interval.held_count, interval.held_count and interval.held_ms) == held


@pytest.mark.parametrize(
    ("since_ms", "pace", "power_w"),
    [
        (0, (2, 3000), 2400),
        (1500, (2, 3000), 2400),  # no longer than between the last two
        (1501, (1, 1501), 2399),  # rounded up
        (3600_000, (1, 3600_000), 1),
        (0x1FFFFFFF, (1, 0x1FFFFFFF), 1),  # never 0
    ],
)
def test_without_a_pulse_the_pace_falls(since_ms, pace, power_w):
    interval = PulseInterval(1000)
    assert interval.pace(since_ms) is None
    interval.ms, interval.count = 3000, 2
    assert interval.pace(since_ms) == pace
    assert interval.power_w(pace) == power_w


@pytest.mark.parametrize(
    ("looks", "said", "steady"),
    [
        ([(1, 10)] * 5 + [(0, 10)], FLASH, False),
        ([(1, 10)] * 23 + [(0, 10)], FLASH, False),  # 250 ms with the byte
        ([(1, 10)] * 24 + [(0, 10)], TOO_LONG, False),
        ([(1, 3000), (0, 10)], FLASH, False),  # a late look has seen nothing in between
        ([(1, 100)] * 9 + [(1, 99)], NOTHING, False),
        ([(1, 100)] * 10, NOTHING, True),
        ([(1, 100)] * 10 + [(0, 10)], NOTHING, False),  # what was steady is no flash
    ],
)
def test_a_long_flash_ends_and_steady_light_is_none(looks, said, steady):
    light = SteadyLight()
    light.begin(10)
    answers = [light.look(bool(lit), gap_ms) for lit, gap_ms in looks]
    assert answers == [NOTHING] * (len(looks) - 1) + [said]
    assert light.steady == steady


def test_another_byte_ends_a_long_flash_and_the_wait_for_steady_light():
    light = SteadyLight()
    assert light.interrupt() == NOTHING
    light.begin(10)
    for _ in range(9):
        light.look(True, 100)
    assert light.interrupt() == TOO_LONG and light.interrupt() == NOTHING
    assert light.look(True, 100) == NOTHING and not light.steady
    light.begin(10)
    assert light.interrupt() == FLASH
