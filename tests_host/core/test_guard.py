"""The guard's truth table, row by row, and the arithmetic behind it: integers only, exact at 64 bits and any exponent.

A row is a story: what comes when, what passes, what is held and why. Nothing here knows a protocol.
"""

import random
import sys
from fractions import Fraction

import pytest

from metering.guard import MAX_REGISTERS, REASONS, TELEGRAMS_TO_CORRECT, TWO_HOURS_S, Guard
from metering.reading import Reading
from metering.registers import describe

IMPORT = bytes((1, 0, 1, 8, 0, 255))
EXPORT = bytes((1, 0, 2, 8, 0, 255))
POWER = bytes((1, 0, 16, 7, 0, 255))
GAS = bytes((0, 1, 24, 2, 1, 255))
WH, VARH, W, A, M3, L, J, H = 30, 32, 27, 33, 13, 19, 25, 5
ZERO_STANDS_S = 60
MAX_W = 30_000  # 8.33 Wh a second; with the 60 s of slack 508.33 Wh in the first


def admits(guard, value, exponent=-1, at_s=0, obis=IMPORT, unit=WH):
    reading = Reading(obis, value, exponent, unit)
    return guard.admits(reading, describe(reading), at_s)


def begins_at_0(guard, obis=IMPORT, unit=WH, exponent=-1):
    """A first 0 has stood for a minute at 0 s."""
    assert not admits(guard, 0, exponent, -ZERO_STANDS_S, obis, unit)
    assert admits(guard, 0, exponent, 0, obis, unit)


def counts(guard):
    """The reasons counted so far, without those at 0."""
    return {reason: n for reason, n in guard.held.items() if n}


def assert_explained(guard, *parts):
    """The last explanation names what was held and the numbers it was judged by; its words may change."""
    for part in parts:
        assert part in guard.explanation


@pytest.fixture
def guard():
    return Guard(MAX_W)


# --- counters that rise ----------------------------------------------------------------------------------------------


def test_what_is_plausible_passes_at_once(guard):
    for second in range(100):
        assert admits(guard, 147_981_129 + 83 * second, -1, second)  # 8.3 Wh a second
    assert (counts(guard), guard.explanation) == ({}, "")
    assert set(guard.held) == set(REASONS)


def test_standing_still_passes(guard):
    assert all(admits(guard, 5, -1, second) for second in range(100))
    assert counts(guard) == {}


def test_a_jump_waits_for_the_next_telegram_which_confirms_it(guard):
    assert admits(guard, 1_000_000, -1, 0)
    assert not admits(guard, 2_000_000, -1, 1)
    assert counts(guard) == {"jumped": 1}
    assert_explained(guard, "1-0:1.8.0*255 ", "100000.0", " 1 s", "30000 W")
    assert admits(guard, 2_000_001, -1, 2)
    assert admits(guard, 2_000_002, -1, 3)
    assert counts(guard) == {"jumped": 1}


def test_a_jump_that_the_next_telegram_does_not_confirm_never_passes(guard):
    assert admits(guard, 1_000_000, -1, 0)
    assert not admits(guard, 2_000_000, -1, 1)
    assert admits(guard, 1_000_001, -1, 2)
    assert not admits(guard, 2_000_000, -1, 3)  # it does not confirm the one before the plausible one
    assert counts(guard) == {"jumped": 2}


def test_jumps_to_ever_new_values_never_pass(guard):
    draw = random.Random(1)
    assert admits(guard, 1_000_000, -1, 0)
    value = 10_000_000
    for second in range(1, 50):
        value += draw.randrange(1_000_000, 10_000_000)
        assert not admits(guard, value, -1, second)
    assert counts(guard) == {"jumped": 49}


def test_a_jump_confirmed_by_a_lower_value_is_not_confirmed(guard):
    assert admits(guard, 1_000_000, -1, 0)
    assert not admits(guard, 3_000_000, -1, 1)
    assert not admits(guard, 2_000_000, -1, 2)
    assert admits(guard, 2_000_000, -1, 3)


def test_what_the_connection_can_carry_to_the_last_step(guard):
    """30,000 W over 60 + 60 s are 1,000 Wh; one step of the meter's resolution is to spare."""
    begins_at_0(guard)
    assert admits(guard, 10_001, -1, 60)
    other = Guard(MAX_W)
    begins_at_0(other)
    assert not admits(other, 10_002, -1, 60)


def test_after_a_long_silence_a_large_rise_waits_for_the_next_telegram(guard):
    """Possible it is, 1,000 kWh in 40 hours are 25 kW; but a damaged value would be, too, and stay for years."""
    begins_at_0(guard)
    assert not admits(guard, 10_000_000, -1, 40 * 3600)
    assert counts(guard) == {"jumped": 1}
    assert admits(guard, 10_000_001, -1, 40 * 3600 + 1)


def test_a_damaged_value_after_a_long_silence_does_not_stay(guard):
    begins_at_0(guard)
    assert not admits(guard, 40_000_000, -1, 72 * 3600)
    assert admits(guard, 1_000, -1, 72 * 3600 + 1)


def test_whole_kilowatt_hours_step_by_one(guard):
    """A step of 1,000 Wh within a second is what a meter without PIN shows."""
    assert admits(guard, 14798, 3, 0)
    assert admits(guard, 14798, 3, 1)
    assert admits(guard, 14799, 3, 2)
    assert not admits(guard, 14802, 3, 3)
    assert counts(guard) == {"jumped": 1}


def test_the_pin_is_entered(guard):
    """The digits that were left out so far come at once, up to a whole kWh, and nothing is held."""
    assert admits(guard, 14798, 3, 0)
    assert admits(guard, 147989991, -1, 1)
    assert counts(guard) == {}


def test_counters_of_no_known_unit_only_must_not_fall(guard):
    assert admits(guard, 1, 0, 0, unit=None)
    assert admits(guard, 1_000_000_000, 0, 1, unit=None)
    assert not admits(guard, 999_999_999, 0, 2, unit=None)
    assert counts(guard) == {"went back": 1}


def test_reactive_energy_is_judged_by_the_same_connection(guard):
    reactive = bytes((1, 0, 3, 8, 0, 255))
    begins_at_0(guard, reactive, VARH, 0)
    assert not admits(guard, 1_000_000, 0, 1, reactive, VARH)


def test_each_register_stands_alone(guard):
    assert admits(guard, 1_000_000, -1, 0, IMPORT)
    assert admits(guard, 5, -1, 0, EXPORT)
    assert not admits(guard, 0, -1, 1, IMPORT)
    assert admits(guard, 6, -1, 1, EXPORT)


# --- counters that fall ----------------------------------------------------------------------------------------------


def test_a_counter_that_falls_is_held_and_the_last_value_stands(guard):
    assert admits(guard, 1_000_000, -1, 0)
    assert admits(guard, 1_000_001, -1, 1)
    for second in range(2, 500):
        assert not admits(guard, 999_999, -1, second)
    assert counts(guard) == {"went back": 498}
    assert_explained(guard, "1-0:1.8.0*255 ", "100000.1", "99999.9")
    assert admits(guard, 1_000_002, -1, 500)


def test_by_one_digit_is_a_fall_too(guard):
    assert admits(guard, 2**63, -4, 0)
    assert admits(guard, 2**63, -4, 1)
    assert not admits(guard, 2**63 - 1, -4, 2)  # a double could not tell the two


def test_the_same_with_fewer_digits_is_kept_back_without_a_word(guard):
    """The PIN is off again: 14798.1129 kWh becomes 14798 kWh, which is no fall and nothing new."""
    assert admits(guard, 147_981_129, -1, 0)
    for second in range(1, 50):
        assert not admits(guard, 14798, 3, second)
    assert (counts(guard), guard.explanation) == ({}, "")
    assert admits(guard, 14799, 3, 3600)  # the next whole one is higher: new
    assert admits(guard, 147_990_001, -1, 3601)  # and the PIN is entered again


def test_fewer_digits_of_another_value_is_a_fall(guard):
    assert admits(guard, 147_981_129, -1, 0)
    assert admits(guard, 147_981_129, -1, 1)
    assert not admits(guard, 14797, 3, 2)
    assert counts(guard) == {"went back": 1}


def test_more_digits_of_the_same_value(guard):
    assert admits(guard, 14798, 3, 0)
    assert admits(guard, 147_980_001, -1, 1)
    assert admits(guard, 1_479_800_011, -2, 2)


def test_the_first_value_was_wrong_and_all_later_ones_lower(guard):
    """Then, and only then, a lower value passes: after TELEGRAMS_TO_CORRECT that agree with each other."""
    assert admits(guard, 9_000_000, -1, 0)
    passed = [admits(guard, 1_000_000 + second, -1, second) for second in range(1, 30)]
    assert passed.index(True) in (TELEGRAMS_TO_CORRECT, TELEGRAMS_TO_CORRECT + 1)
    assert all(passed[passed.index(True) :])
    assert counts(guard) == {"went back": passed.index(True)}


def test_lower_values_that_do_not_agree_never_correct_the_first(guard):
    assert admits(guard, 2**60, -1, 0)
    for second in range(1, 100):
        assert not admits(guard, 1_000_000 * (1 + second % 7), -1, second)


def test_a_value_seen_twice_is_never_corrected(guard):
    assert admits(guard, 9_000_000, -1, 0)
    assert admits(guard, 9_000_000, -1, 1)
    assert not any(admits(guard, 1_000_000 + second, -1, second) for second in range(2, 100))


def test_a_jump_that_was_confirmed_was_seen_twice_and_is_never_corrected(guard):
    assert admits(guard, 1_000_000, -1, 0) and admits(guard, 1_000_001, -1, 1)
    assert not admits(guard, 9_000_000, -1, 2)
    assert admits(guard, 9_000_000, -1, 3)
    assert not any(admits(guard, 1_000_002 + second, -1, second) for second in range(4, 100))


def test_a_correction_that_is_interrupted_by_the_first_value_begins_anew(guard):
    assert admits(guard, 9_000_000, -1, 0)
    assert not any(admits(guard, 1_000_000, -1, second) for second in range(1, 9))
    assert admits(guard, 9_000_000, -1, 9)
    assert not any(admits(guard, 1_000_000, -1, second) for second in range(10, 99))


# --- power -----------------------------------------------------------------------------------------------------------


def power(guard, value, exponent=-1, at_s=0, unit=W):
    return admits(guard, value, exponent, at_s, POWER, unit)


def test_power_beyond_the_connection_waits_for_the_next_telegram(guard):
    assert power(guard, 300_000)
    assert not power(guard, 300_001, at_s=1)
    assert_explained(guard, "1-0:16.7.0*255", "30000.1", "30000 W")
    assert power(guard, 300_002, at_s=2)
    assert power(guard, 2_500, at_s=3)
    assert not power(guard, 900_000, at_s=4)  # a plausible one came between
    assert counts(guard) == {"too much power": 2}


@pytest.mark.parametrize(
    ("value", "exponent", "plausible"),
    [
        (-300_000, -1, True),  # feeding in is power too
        (-300_001, -1, False),
        (30, 3, True),
        (31, 3, False),
        (30_000, 0, True),
        (30_000 * 10**12, -12, True),
        (30_000 * 10**12 + 1, -12, False),
        (2**63 - 1, -128, True),
        (0, 127, True),
        (1, 127, False),
    ],
)
def test_power_at_the_limit(value, exponent, plausible):
    for unit in (27, 28, 29):
        assert power(Guard(MAX_W), value, exponent, unit=unit) is plausible


def test_power_may_rise_and_fall_as_it_likes(guard):
    assert all(power(guard, value) for value in (0, 299_000, -299_000, 1, 0))


def test_other_instantaneous_values_are_not_judged(guard):
    assert admits(guard, 2**31, 0, 0, bytes((1, 0, 31, 7, 0, 255)), A)
    assert counts(guard) == {}


def test_texts_identifiers_and_booleans_pass(guard):
    for obis, value in ((IMPORT, b"\x01"), (IMPORT, "text"), (IMPORT, True), (bytes((1, 0, 96, 1, 0, 255)), b"1234")):
        reading = Reading(obis, value)
        assert guard.admits(reading, describe(reading), 0)
    assert counts(guard) == {}


@pytest.mark.parametrize(
    ("first", "second", "passes"),
    [
        (300_001, 600_002, True),
        (300_001, 600_003, False),
        (600_003, 300_001, False),
        (300_001, -300_001, False),
        (900_000, 300_000_000, False),
    ],
)
def test_power_beyond_the_connection_passes_only_when_the_second_is_like_it(guard, first, second, passes):
    assert not power(guard, first)
    assert power(guard, second) is passes
    assert counts(guard) == {"too much power": 1 if passes else 2}


@pytest.mark.parametrize("obis", [(0, 0, 17, 0, 0, 255), (1, 0, 31, 4, 0, 255), (1, 1, 0, 5, 1, 2)])
def test_a_limit_is_no_power(guard, obis):
    assert admits(guard, 9999, 2, 0, bytes(obis), W)
    printed = Reading(b"\x3f\x01-1:0", 9999, 2, W)
    for printed.address in ("1-1:0.5.1.2", "0-0:17.0.0", "1-0:31.4.0.1", "0.5.1"):
        assert guard.admits(printed, describe(printed), 0)
    assert counts(guard) == {}


def test_a_number_never_becomes_a_text(guard):
    register = describe(Reading(IMPORT, 5, -1, WH))
    for value in ("003699.655000kWh", "", b"", True):
        assert not guard.admits(Reading(IMPORT, value), register, 0)
    assert counts(guard) == {"no number": 4}
    assert guard.admits(Reading(IMPORT, 5, -1, WH), register, 0)


def test_a_code_is_told_as_the_meter_prints_it(guard):
    reading = Reading(b"\x3f\x01-1:0", 9999, 3, W)
    reading.address = "1-1:0.9.9"
    register = describe(Reading(POWER, 1, 0, W))
    assert not guard.admits(reading, register, 0)
    assert_explained(guard, "1-1:0.9.9: ")


# --- the first value of a counter ------------------------------------------------------------------------------------


def first(guard, value, proven, at_s=0):
    reading = Reading(IMPORT, value, -1, WH)
    return guard.admits(reading, describe(reading), at_s, proven)


def test_a_first_counter_that_no_check_vouches_for_waits_for_a_second(guard):
    assert not first(guard, 336_996_550, False)
    assert not first(guard, 36_996_560, False, 10)  # does not agree: the first was damaged
    assert first(guard, 36_996_560, False, 20)
    assert not first(guard, 336_996_550, False, 30)
    assert counts(guard) == {"jumped": 1}  # waiting is nothing to tell
    assert first(Guard(MAX_W), 5, True)


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("every_s", [1, 10, 30, 61, 3600])
def test_a_first_0_stands_for_a_minute_or_comes_again_later(proven, every_s):
    guard = Guard(MAX_W)
    passed = [at_s for at_s in range(0, 7201, every_s) if first(guard, 0, proven, at_s)]
    assert passed[0] == max(ZERO_STANDS_S, every_s) and counts(guard) == {}


@pytest.mark.parametrize("proven", [True, False])
def test_a_meter_that_answers_0_while_it_starts_is_not_believed(proven):
    guard = Guard(MAX_W)
    assert not any(first(guard, 0, proven, second) for second in range(ZERO_STANDS_S))
    assert first(guard, 7_421_130, proven, 60) is proven
    assert first(guard, 7_421_130, proven, 61)
    assert not any(first(guard, 0, proven, second) for second in range(62, 3600))  # and when it starts again
    assert first(guard, 7_421_131, proven, 3600)
    assert counts(guard) == {"went back": 3600 - 62}


def test_another_meter_that_starts_is_not_believed_either(guard):
    assert guard.admits_meter("1ABC0012345678") and first(guard, 5, True)
    guard.admits_meter("1ABC0099999999")
    assert guard.admits_meter("1ABC0099999999")
    assert [first(guard, 0, True, at_s) for at_s in (10, 69, 70)] == [False, False, True]


def test_a_counter_that_was_seen_once_falls_to_0_after_two_hours_alone(guard):
    """Behind one right telegram a meter that starts says 0; behind a damaged one a true 0 must come all the same."""
    assert admits(guard, 9_000_000, -1, 0)
    passed = [at_s for at_s in range(10, 9000, 10) if admits(guard, 0, -1, at_s)]
    assert passed[0] == 10 + TWO_HOURS_S


def test_a_counter_below_0_is_never_believed(guard):
    """Home Assistant takes a fall below 0 for the counter's new beginning, and books what follows."""
    assert not any(admits(guard, -5, -1, at_s) for at_s in range(20))
    assert admits(guard, 1_000_000, -1, 20)
    assert not any(admits(guard, -5, -1, at_s) for at_s in range(21, 40))
    assert counts(guard) == {"went back": 39}
    assert_explained(guard, "1-0:1.8.0*255", "from 0 to -0.5")


def test_what_waits_is_bounded(guard):
    for k in range(MAX_REGISTERS):
        assert not admits(guard, 0, 0, 0, bytes((1, 0, 1, 8, k, 255)))
    assert not admits(guard, 0, 0, 0, bytes((1, 0, 1, 8, MAX_REGISTERS, 255)))
    assert counts(guard) == {"too many": 1}
    assert admits(guard, 0, 0, ZERO_STANDS_S, bytes((1, 0, 1, 8, 0, 255)))


# --- gas, water, heat, hours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "value", "exponent", "passes", "held"),
    [
        (M3, 7_421_123, -3, 7_461_790, 7_461_791),  # 40 m³/h for 60 s and an hour, and a step
        (L, 7_421_123, 0, 7_461_790, 7_461_791),
        (J, 50_000, 6, 53_661, 53_662),  # 1 MW
        (H, 9_000, 0, 9_001, 9_002),
    ],
)
def test_every_counter_is_judged_whatever_its_unit(unit, value, exponent, passes, held):
    for later, passed in ((passes, True), (held, False)):
        guard = Guard(MAX_W)
        assert admits(guard, value, exponent, 0, GAS, unit)
        assert admits(guard, later, exponent, 60, GAS, unit) is passed
        assert counts(guard) == ({} if passed else {"jumped": 1})


def gas(guard, value, at_s):
    return admits(guard, value, -3, at_s, GAS, M3)


def test_a_wrong_peak_of_gas_never_passes_though_it_stands_for_an_hour(guard):
    assert gas(guard, 7_421_123, 0)
    assert not any(gas(guard, 97_421_123, second) for second in range(10, 3600, 10))
    assert all(gas(guard, 7_421_130, second) for second in range(3610, 7200, 10))


def test_a_first_peak_of_gas_is_corrected_though_it_stood_for_an_hour(guard):
    assert all(gas(guard, 97_421_123, second) for second in range(0, 3600, 10))
    passed = [second for second in range(3600, 20_000, 10) if gas(guard, 7_421_130 + second // 3600, second)]
    assert passed[0] == 3600 + TWO_HOURS_S
    assert passed[1:] == list(range(passed[0] + 10, 20_000, 10))


def test_a_gas_meter_that_stands_still_is_not_corrected_by_one_wrong_hour(guard):
    assert all(gas(guard, 7_421_123, second) for second in range(0, 50_000, 10))
    assert not any(gas(guard, 7_021_123, second) for second in range(50_000, 53_600, 10))
    assert gas(guard, 7_421_123, 53_600)


def test_a_jump_of_gas_passes_when_it_has_stood_for_two_hours(guard):
    assert gas(guard, 7_421_123, 0)
    passed = [second for second in range(10, 9000, 10) if gas(guard, 8_000_000, second)]
    assert passed[0] == 10 + TWO_HOURS_S


def test_a_heat_meter_asked_once_an_hour(guard):
    """30 kWh an hour is more than 15 minutes bring: the first waits, and then its rhythm is known."""
    heat = bytes((6, 0, 6, 8, 0, 255))
    passed = [admits(guard, 1000 + 29 * hour, 3, 3600 * hour, heat, WH) for hour in range(6)]
    assert passed == [True, False, True, True, True, True]


# --- a counter whose scale has changed -------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [10, 100, 1000])
def test_a_lasting_jump_to_another_scale_is_held_and_told(guard, factor):
    assert admits(guard, 2_306_200, 1, 0) and admits(guard, 2_306_200, 1, 10)
    for hour in range(1, 200):
        assert not admits(guard, (2_306_200 + 100 * hour // 10) * factor, 1, 3600 * hour)
    assert counts(guard) == {"scale": 199}
    assert f"{factor} times" in guard.notice and "display" in guard.notice and "23062000" in guard.notice
    assert admits(guard, 2_306_210, 1, 3600 * 200)  # it was set right again
    assert guard.notice == ""


def test_the_notice_stays_while_one_of_two_counters_has_another_scale(guard):
    for code in (IMPORT, EXPORT):
        assert admits(guard, 2_306_200, 1, 0, code) and admits(guard, 2_306_200, 1, 10, code)
        assert not admits(guard, 23_062_000, 1, 20, code)
    assert guard.notice.startswith("1-0:1.8.0*255 became 10 times")
    assert admits(guard, 2_306_200, 1, 30)
    assert not admits(guard, 23_062_000, 1, 30, EXPORT)
    assert guard.notice.startswith("1-0:2.8.0*255 became 10 times")


def test_the_code_of_the_words_is_dropped_again(guard):
    assert admits(guard, 2_306_200, 1, 0) and admits(guard, 2_306_200, 1, 10)
    assert not admits(guard, 23_062_000, 1, 20)
    assert guard.notice and guard.explanation
    assert "metering.verdicts" not in sys.modules


def test_a_small_counter_has_no_scale_to_tell(guard):
    assert admits(guard, 40, 0, 0)
    assert admits(guard, 400, 0, 10)
    assert counts(guard) == {}


def test_another_meter_has_a_scale_of_its_own(guard):
    assert guard.admits_meter("1ABC0012345678") and admits(guard, 2_306_200, 1, 0)
    assert not admits(guard, 23_062_000, 1, 10)
    assert guard.notice
    assert not guard.admits_meter("1ABC0099999999") and guard.admits_meter("1ABC0099999999")
    assert guard.notice == "" and admits(guard, 23_062_000, 1, 30)


# --- another meter, too many -----------------------------------------------------------------------------------------


def test_another_meter_waits_and_begins_a_new_series(guard):
    assert guard.admits_meter("1ABC0012345678")
    assert admits(guard, 9_000_000, -1, 0)
    assert admits(guard, 9_000_000, -1, 1)
    assert not guard.admits_meter("1ABC0099999999")
    assert_explained(guard, "1ABC0099999999", "1ABC0012345678")
    assert guard.admits_meter("1ABC0099999999")
    assert admits(guard, 5, -1, 2)  # a new series: no fall
    assert guard.admits_meter("1ABC0099999999")
    assert counts(guard) == {"other meter": 1}


def test_another_id_that_does_not_come_twice_in_a_row_is_no_other_meter(guard):
    assert guard.admits_meter("a")
    for _ in range(5):
        assert not guard.admits_meter("b")
        assert guard.admits_meter("a")
    assert not guard.admits_meter("b")
    assert not guard.admits_meter("c")
    assert not guard.admits_meter("b")
    assert guard.admits_meter("a")
    assert counts(guard) == {"other meter": 8}


def test_lists_of_one_meter_name_it_differently(guard):
    for name in ("ISK1020784605887", "", "84605887", "ISK1020784605887", ""):
        assert guard.admits_meter(name)
    assert (guard.meter_id, guard.series, counts(guard)) == ("ISK1020784605887", 1, {})
    assert not guard.admits_meter("5887")  # too short to tell


def test_a_meter_that_names_itself_late_is_the_same(guard):
    assert guard.admits_meter("") and admits(guard, 100, -1, 0)
    assert guard.admits_meter("6970631401234567") and not admits(guard, 99, -1, 1)
    assert (guard.meter_id, guard.series) == ("6970631401234567", 1)
    assert not guard.admits_meter("6970631409999999")


def test_the_last_values_of_a_meter_outlive_a_foreign_telegram(guard):
    guard.admits_meter("a")
    assert admits(guard, 100, -1, 0) and admits(guard, 100, -1, 1)
    assert not guard.admits_meter("b")
    assert guard.admits_meter("a")
    assert not admits(guard, 99, -1, 2)


def test_more_counters_than_are_followed_are_held(guard):
    for k in range(MAX_REGISTERS):
        assert admits(guard, 1, 0, 0, bytes((1, 0, 1, 8, k, 255)))
    assert not admits(guard, 1, 0, 0, bytes((1, 0, 1, 8, MAX_REGISTERS, 255)))
    assert counts(guard) == {"too many": 1}
    assert_explained(guard, "1-0:1.8.64*255", "64")
    assert admits(guard, 2, 0, 9, bytes((1, 0, 1, 8, 0, 255)))


# --- the arithmetic, against fractions -------------------------------------------------------------------------------


def test_judged_exactly_at_any_width_and_exponent():
    """Against rational numbers: a rise passes at once if rise - one step of the coarser <= power * (time + 60 s)."""
    draw = random.Random(5)
    seen = {True: 0, False: 0}
    for _ in range(5_000):
        old_exponent, new_exponent = draw.randrange(-8, 5), draw.randrange(-8, 5)
        seconds = draw.choice((0, 1, 2, 60, 3600, 10**6))
        allowed = Fraction(MAX_W * (min(seconds, 900) + 60), 3600)
        old_value = draw.randrange(1 << draw.randrange(1, 64))
        old = Fraction(old_value) * Fraction(10) ** old_exponent
        step = Fraction(10) ** new_exponent
        # at the edge: the highest value that passes, or one more
        spare = max(step, Fraction(10) ** old_exponent)
        new_value = (old + allowed + spare) // step + draw.choice((0, 1))
        new = new_value * step
        guard = Guard(MAX_W)
        if not admits(guard, old_value, old_exponent, -ZERO_STANDS_S):  # a first 0
            assert old_value == 0
        assert admits(guard, old_value, old_exponent, 0)
        wanted = new - old - spare <= allowed
        seen[wanted] += 1
        if new < old:
            continue
        assert admits(guard, int(new_value), new_exponent, seconds) is wanted
    assert min(seen.values()) > 1_000
