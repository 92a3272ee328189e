"""Damaged telegrams: nothing wrong is believed where there is a check, and less than stated where there is none.

A short run with few inputs; `make damage` is the long one, whose table is in docs/figures.md.
"""

import pytest
from support.damage import KINDS, bench, subjects, table

INPUTS = 600
# What has no check has none: how many of a thousand are believed and wrong, at most, and of which kinds.
# A parity bit does not see two flipped bits of a character, a form no digit that became another one, and neither a
# digit lost and another one doubled in the same number.
ALLOWED = {
    "D0, 7E1": (10, {"parity_neutral_pair", "lost_and_doubled"}),
    "D0, no parity": (
        60,
        {"one_bit", "few_bits", "only_set", "only_cleared", "lost_and_doubled", "parity_neutral_pair"},
    ),
}
SUBJECTS = {subject.name: subject for subject in subjects()}
UNCHECKED_DLMS = {"DLMS wrapper, encrypted", "DLMS raw, in the clear"}


def test_the_kinds_are_many_and_damage():
    assert len(KINDS) >= 10 and len({kind.__name__ for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name not in UNCHECKED_DLMS])
def test_what_is_believed(name):
    counts = bench(SUBJECTS[name], INPUTS)
    most, kinds = ALLOWED.get(name, (0, set()))
    print(table(name, counts))
    assert sum(count.wrong for count in counts.values()) <= most * INPUTS // 1000
    assert {kind for kind, count in counts.items() if count.wrong} <= kinds
    assert all(count.inputs == INPUTS // len(KINDS) for count in counts.values())


def test_the_bench_sees_what_is_wrong():
    """Without the form to compare with, a lost digit of an unchecked push is believed."""
    subject = SUBJECTS["D0, 7E1"]
    first = subject._replace(telegrams=(b"", subject.telegrams[1], subject.telegrams[1]))
    with pytest.raises(StopIteration):  # the reference must be a telegram
        bench(first, 15)
    unarmed = subject._replace(listener=lambda: unarm(subject.listener()))
    assert bench(unarmed, 300)["lost"].wrong > 2


def unarm(listener):
    listener._policy._is_known = lambda form: True
    return listener
