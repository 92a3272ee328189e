"""What passes of telegrams that no strong check covers, row by row of the table in metering.middle_of_three."""

import random

import pytest

from metering.guard import Guard
from metering.middle_of_three import MAX_REGISTERS, MiddleOfThree
from metering.reading import Reading
from metering.registers import describe

POWER = bytes((1, 0, 16, 7, 0, 255))
IMPORT = bytes((1, 0, 1, 8, 0, 255))
OTHER = bytes((0, 0, 96, 1, 0, 255))
W, WH = 27, 30


def told(values, is_counter=False):
    """What passes of `values`, one a telegram; None for nothing."""
    middle = MiddleOfThree()
    passed = []
    for value in values:
        reading = Reading(POWER, value, 0, W)
        passed.append(reading.value if middle.settle(reading, is_counter) else None)
    return passed


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ([5], [5]),
        ([5, 5, 5], [5, 5, 5]),
        ([5, 6, 7, 8], [5, None, 6, 7]),  # one telegram late
        ([5, 5, 900, 5, 5], [5, 5, 5, 5, 5]),  # alone above,
        ([5, 5, -900, 6, 6], [5, 5, 5, 5, 6]),  # alone below
        ([5, 6, 900, 7, 8], [5, None, 6, 7, 8]),
        ([5, 900, 6, 7], [5, None, 6, 7]),
        ([100, 100, 2000, 2000, 2000], [100, 100, 100, 2000, 2000]),  # a real jump
        ([100, 100, 2000, 2600, 1500], [100, 100, 100, 2000, 2000]),  # of an unsteady load
        ([100, 2000, 150, 1900, 120], [100, None, 150, 1900, 150]),  # no register falls silent
        (["0002", "0002", "0003", "0002"], ["0002", "0002", "0002", "0002"]),
        (["0002", "0002", "0001", "0001"], ["0002", "0002", "0002", "0001"]),
        (["235950", "235959", "000009", "000019"], ["235950", None, "235950", "000019"]),
        ([b"ab", b"ab", b"xb", b"ab"], [b"ab"] * 4),
    ],
)
def test_the_middle_passes(values, passed):
    assert told(values) == passed


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ([1000, 1001, 1002, 1003], [1000, 1000, 1001, 1002]),
        ([1000, 1001, 9002, 1003, 1004], [1000, 1000, 1001, 1003, 1004]),
        ([1000, 1001, 2, 1003, 1004], [1000, 1000, 1000, 1001, 1003]),
        ([9000, 1001, 1002, 1003], [9000, 1001, 1002, 1002]),  # the guard holds a first one until it has come twice
        ([1000, 9001, 1002, 1003], [1000, 1000, 1002, 1003]),
    ],
)
def test_the_middle_of_a_counter_passes(values, passed):
    assert told(values, True) == passed


def test_what_appears_later_waits():
    middle = MiddleOfThree()
    passed = []
    for registers in ((POWER, IMPORT), (POWER, IMPORT), (POWER, IMPORT, OTHER), (POWER, IMPORT, OTHER)):
        passed.append([middle.settle(Reading(code, 5, 0, W), False) for code in registers])
    assert passed == [[True, True], [True, True], [True, True, False], [True, True, True]]


def test_another_type_begins_anew():
    assert told([5, 5, "5", 5, 5]) == [5, 5, None, None, 5]
    assert told(["5", "5", b"5", "5"]) == ["5", "5", None, None]
    assert told([1, 1, True, 1, 1]) == [1, 1, None, None, 1]


def test_another_unit_begins_anew():
    """A damaged list shifts values into other registers: the value of the one with the unit of the other is wrong."""
    middle = MiddleOfThree()
    passed = [middle.settle(Reading(POWER, 5, 0, unit), False) for unit in (W, W, None, W, W)]
    assert passed == [True, True, False, False, True]


def test_a_register_twice_in_each_telegram_keeps_both_values():
    """Nothing tells the two apart; each is the middle of itself, the other and itself before."""
    assert told(["a", "b"] * 4) == ["a", None, "a", "b", "a", "b", "a", "b"]


def test_exponents_may_differ():
    middle = MiddleOfThree()
    for value, exponent in ((120, -1), (12, 0), (1250, -2)):
        reading = Reading(POWER, value, exponent, W)
        passed = middle.settle(reading, False)
    assert passed and (reading.value, reading.exponent) == (12, 0)


def test_what_is_followed_is_bounded():
    middle = MiddleOfThree()
    codes = [bytes((1, 0, k, 7, 0, 255)) for k in range(MAX_REGISTERS + 1)]
    assert [middle.settle(Reading(code, 1, 0, W), False) for code in codes] == [True] * MAX_REGISTERS + [False]


def test_what_passes_was_sent_or_lies_between():
    """Any one damaged value among right ones, any series."""
    draw = random.Random(3)
    for _ in range(2000):
        right = [draw.randrange(50) for _ in range(7)]
        damaged = list(right)
        at = draw.randrange(1, 7)
        damaged[at] = draw.choice((draw.randrange(-1000, 1000), draw.randrange(50)))
        for k, value in enumerate(told(damaged)):
            near = right[max(0, k - 2) : k + 1]
            if k == at == 1:
                assert value in (None, right[0])
            elif value is not None:
                assert min(near) <= value <= max(near), (right, damaged)


# --- behind the guard ------------------------------------------------------------------------------------------------


def admitted(guard, code, value, at_s, unit, sealed=False):
    """What the guard lets by of a telegram with one register, None for nothing."""
    assert guard.admits_meter("87654321")
    reading = Reading(code, value, 0, unit)
    return reading.value if guard.admits(reading, describe(reading), at_s, sealed, sealed) else None


def test_a_first_counter_waits_and_then_comes_one_telegram_late():
    guard = Guard(30_000)
    values = [(0, 1000), (10, 1001), (20, 9001), (30, 1003), (40, 1004)]
    assert [admitted(guard, IMPORT, value, at_s, WH) for at_s, value in values] == [None, 1000, 1001, 1003, 1004]
    assert not sum(guard.held.values())


def test_a_first_counter_that_was_damaged_never_passes():
    guard = Guard(30_000)
    values = [(0, 9_000_000), (10, 1001), (20, 1002), (30, 1003), (40, 1004)]
    assert [admitted(guard, IMPORT, value, at_s, WH) for at_s, value in values] == [None, None, 1002, 1002, 1003]


def test_a_sealed_telegram_is_believed_at_once():
    guard = Guard(30_000)
    assert [admitted(guard, POWER, value, 0, W, True) for value in (5, 900, 7)] == [5, 900, 7]


def test_another_meter_begins_anew():
    guard = Guard(30_000)
    assert [admitted(guard, POWER, value, 0, W) for value in (5, 5, 5)] == [5, 5, 5]
    assert not guard.admits_meter("12345678") and guard.admits_meter("12345678")
    reading = Reading(POWER, 2000, 0, W)
    assert guard.admits(reading, describe(reading), 0, False, False) and reading.value == 2000


def test_a_printed_reading_prints_what_passes():
    from metering.iec62056_21.data_block import Iec62056_21

    listener, guard = Iec62056_21(), Guard(30_000)
    shown = []
    for power, tariff in (("0100", "1"), ("0100", "1"), ("9100", "2"), ("0101", "1")):
        text = f"/ABC5X\r\n\r\n1-0:16.7.0({power}*W)\r\n0-0:96.14.0(000{tariff})\r\n!\r\n".encode()
        assert listener.feed(text, 0, len(text)) == len(text) and listener.next_event() == 1
        assert not listener.sealed and guard.admits_meter("87654321")
        passed = [r for r in listener.readings() if guard.admits(r, describe(r), 0, False, listener.sealed)]
        shown.append([describe(reading).display(reading) for reading in passed])
    assert shown == [["100", "0001"]] * 3 + [["101", "0001"]]
