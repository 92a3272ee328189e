"""A total that pulses add to is exact, never falls, and shows what its display does; a reading as it is typed."""

import random
from fractions import Fraction

import pytest

from metering.energy_total import Total, parse_kwh


@pytest.mark.parametrize(
    ("constant", "decimals"),
    [(1, 0), (100, 2), (500, 3), (640, 7), (800, 5), (1000, 3), (2000, 4), (10_000, 4), (75, 3), (375, 4), (6000, 5)],
)
def test_a_reading_is_exact(constant, decimals):
    total = Total(constant)
    assert total.decimals == decimals
    draw = random.Random(constant)
    before = -1
    for _ in range(2000):
        total.count += draw.choice((1, 1, 2, 50, 10**6))
        exact = Fraction(total.count, constant) * 10**decimals
        assert total.value() == exact.numerator // exact.denominator
        if 10**7 % constant == 0:
            assert total.value() == exact
        assert total.value() > before
        before = total.value()


def test_a_reading_goes_on_from_the_display_and_keeps_its_history():
    total = Total(1000, count=123)
    total.set(1479811, 2)
    assert (total.value(), total.decimals) == (14798110, 3)
    total.count += 5
    assert total.value() == 14798115
    total.change(800)
    assert (total.value(), total.decimals) == (1479811500, 5)
    total.count += 800
    assert total.value() == 1479911500
    for wrong in (0, -5):
        with pytest.raises(ValueError, match="above 0"):
            total.change(wrong)
        with pytest.raises(ValueError, match="above 0"):
            Total(wrong)
    assert total.value() == 1479911500


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (b"14798.1", (147981, 1)),
        (b"0", (0, 0)),
        (b"14798.1000", (147981, 1)),
        (b"500", (500, 0)),
        (b"0.0000001", (1, 7)),
        (b"99999999.9999999", (999999999999999, 7)),
    ],
)
def test_a_reading_as_typed(typed, value):
    assert parse_kwh(typed) == value


@pytest.mark.parametrize(
    "typed",
    [b"", b".", b".5", b"5.", b"-1", b"+1", b"1e5", b"1.2.3", b"1,5", b" 1", b"123456789", b"0.00000001", b"1" * 40],
)
def test_what_is_no_reading(typed):
    with pytest.raises(ValueError, match="such as"):
        parse_kwh(typed)
