"""Damaged telegrams: nothing wrong is believed where there is a check, and nothing wrong is published where there is
none. A value between two right ones is told apart: it is off by less than what the meter itself changed.

A short run with few inputs; `make damage` is the long one, whose table is in docs/figures.md.
"""

import pytest
from support.damage import KINDS, bench, most_likely, subjects, table

from metering.middle_of_three import MiddleOfThree

INPUTS = 300
SUBJECTS = {subject.name: subject for subject in subjects()}
# What no check of 16 bits, no tag, and no block check with parity covers: the listener believes some of it.
UNSEALED = {
    "IEC asked, no parity",
    "D0, 7E1",
    "D0, no parity",
    "DLMS mbus, encrypted",
    "DLMS wrapper, encrypted",
    "DLMS raw, in the clear",
}


def test_the_kinds_are_many_and_damage():
    assert len(KINDS) >= 10 and len({kind.__name__ for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_wrong_is_published(name):
    counts = bench(SUBJECTS[name], INPUTS)
    print(table(name, counts))
    assert sum(count.past for count in counts.values()) == 0
    assert all(count.inputs == INPUTS // len(KINDS) for count in counts.values())
    if name not in UNSEALED:
        assert sum(count.wrong for count in counts.values()) == 0


@pytest.mark.parametrize("name", ["D0, no parity", "DLMS wrapper, encrypted", "DLMS raw, in the clear"])
def test_the_bench_sees_what_is_wrong(name, monkeypatch):
    """Where a single telegram is taken for proof, what is damaged passes the guard."""
    monkeypatch.setattr(MiddleOfThree, "settle", lambda middle, reading, is_counter: True)
    counts = bench(SUBJECTS[name], 600)
    assert sum(count.past for count in counts.values()) > 0


def test_the_bench_sees_a_form_that_is_not_compared():
    """Without the form to compare with, a lost digit of an unchecked push is believed."""
    subject = SUBJECTS["D0, 7E1"]
    unarmed = subject._replace(listener=lambda: unarm(subject.listener()))
    assert bench(unarmed, 300)["lost"].wrong > 2


def unarm(listener):
    listener._policy._is_known = lambda form: True
    return listener


@pytest.mark.parametrize(("n_wrong", "events"), [(0, 2.996), (1, 4.744), (3, 7.754), (20, 29.062)])
def test_the_bound_of_a_share(n_wrong, events):
    """One-sided 95 % limits of a Poisson mean, from the chi-square table: half of chi2(0.95; 2 n + 2)."""
    assert most_likely(n_wrong, 1000) == pytest.approx(events / 1000, rel=1e-3)
