"""Which data blocks are believed, a row of the table at the head of metering.iec62056_21.acceptance after the other.

No block is believed for its BCC alone where it does not look like the one before, none without a check for its end.
"""

import pytest

from metering.iec62056_21.acceptance import AcceptancePolicy
from metering.iec62056_21.data_sets import DataSets

IDENT, OTHER = 1, 2
NO_CHECK_SENT, BCC, CRC = 0, 8, 16  # bits
TAKE, NO_CHECK, BAD_LINE, NO_DATA, NEW_FORM = "", "no checksum", "line", "no data", "shape"


class Block:
    """What the policy asks of a block."""

    def __init__(self, form=1, strays=0, printable=True, clean=True, end_seen=True, n_sets=1, must_check=False):
        self.n_strays, self.end_seen, self.n_sets, self.must_check = strays, end_seen, n_sets, must_check
        self._form, self._printable, self._clean = form, printable, clean

    def is_printable(self):
        return self._printable

    def is_clean(self):
        return self._clean

    def form(self, ident):
        return self._form * 10 + ident


class Policy(AcceptancePolicy):
    faultless = True

    def judge(self, check, block=None, asked=False, compares=True, ident=IDENT, parity=False):
        verdict = self.verdict(check, asked, parity, compares, ident, block or Block(), self.faultless)
        self.faultless = self.faultless and verdict == TAKE
        return verdict


@pytest.mark.parametrize(
    ("check", "asked", "block", "verdict", "vouched"),
    [
        (NO_CHECK_SENT, True, Block(), NO_CHECK, None),
        (NO_CHECK_SENT, False, Block(must_check=True), NO_CHECK, None),
        (NO_CHECK_SENT, False, Block(strays=1), BAD_LINE, None),
        (NO_CHECK_SENT, False, Block(printable=False), BAD_LINE, None),
        (NO_CHECK_SENT, False, Block(clean=False), BAD_LINE, None),
        (BCC, False, Block(strays=1, end_seen=False), BAD_LINE, None),
        (BCC, False, Block(strays=1), TAKE, True),
        (BCC, False, Block(printable=False), BAD_LINE, None),
        (BCC, False, Block(clean=False), TAKE, True),
        (CRC, False, Block(strays=1, printable=False, clean=False, end_seen=False), TAKE, True),
        (CRC, False, Block(n_sets=0), NO_DATA, None),
        (BCC, True, Block(n_sets=0), NO_DATA, None),
        (NO_CHECK_SENT, False, Block(n_sets=0), NO_DATA, None),
        (BCC, True, Block(end_seen=False), NEW_FORM, None),
        (BCC, False, Block(end_seen=False), TAKE, True),
        (BCC, True, Block(), TAKE, True),
        (NO_CHECK_SENT, False, Block(), TAKE, False),
    ],
)
def test_the_first_block(check, asked, block, verdict, vouched):
    policy = Policy()
    assert policy.judge(check, block, asked) == verdict
    if vouched is not None:
        assert policy.vouched == vouched


@pytest.mark.parametrize(("check", "asked"), [(NO_CHECK_SENT, False), (BCC, True), (BCC, False)])
def test_another_form_must_come_twice(check, asked):
    policy = Policy()
    verdicts = [policy.judge(check, Block(form), asked) for form in (1, 1, 2, 1, 3, 3, 3)]
    assert verdicts == [TAKE, TAKE, NEW_FORM, TAKE, NEW_FORM, TAKE, TAKE]
    assert policy.vouched


@pytest.mark.parametrize(("check", "asked"), [(NO_CHECK_SENT, False), (BCC, True)])
def test_on_a_line_with_faults_the_first_one_must_come_twice(check, asked):
    policy = Policy()
    policy.faultless = False
    assert [policy.judge(check, asked=asked) for _ in range(3)] == [NEW_FORM, TAKE, TAKE]


@pytest.mark.parametrize("forms", [(1, 2), (1, 1, 2)])
def test_two_lists_in_turn(forms):
    policy = Policy()
    verdicts = [policy.judge(NO_CHECK_SENT, Block(form)) for form in forms * 5]
    assert verdicts == [TAKE] * forms.index(2) + [NEW_FORM] + [TAKE] * (len(forms) * 5 - forms.index(2) - 1)


def test_a_form_that_came_once_is_forgotten():
    policy = Policy()
    assert [policy.judge(BCC, Block(form), True) for form in (1, 2, 1, 1, 1, 2)] == [
        TAKE, NEW_FORM, TAKE, TAKE, TAKE, NEW_FORM,
    ]  # fmt: skip


def test_a_damaged_identification_does_not_put_the_form_out():
    policy = Policy()
    assert policy.judge(BCC, Block(1), True) == TAKE
    assert policy.judge(BCC, Block(2), True, ident=OTHER) == NEW_FORM
    assert policy.judge(BCC, Block(1), True, ident=OTHER) == NEW_FORM
    assert policy.judge(BCC, Block(1), True) == TAKE
    assert policy.judge(BCC, Block(2), ident=OTHER, parity=True) == NEW_FORM
    assert policy.judge(BCC, Block(3), ident=OTHER) == TAKE  # of a file: a second meter in one stream


def test_once_checked_always_checked():
    policy = Policy()
    assert policy.judge(CRC) == TAKE
    assert policy.judge(NO_CHECK_SENT) == NO_CHECK
    assert policy.judge(NO_CHECK_SENT, ident=OTHER) == NEW_FORM  # a line with faults by now


def test_a_driver_that_checks_each_value_itself():
    policy = Policy()
    assert [policy.judge(BCC, Block(form), compares=form == 1) for form in (1, 2, 3, 1)] == [TAKE] * 4


def form_of(text):
    buf = bytearray(b"/OPT5X1\r\n" + text)
    sets = DataSets(buf + bytearray(1300), memoryview(bytes(1)))
    sets.begin_with(0, 9)
    sets._buf[sets.end : sets.end + len(text)] = text
    sets.end += len(text)
    return sets.form(0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"1.8.0(0012.345*kWh)", b"1.8.0(0999.999*kWh)", True),
        (b"1.8.0(0012.345*kWh)", b"1.8.0(00012.345*kWh)", False),
        (b"1.8.0(0012.345*kWh)", b"1.8.0(001.2345*kWh)", False),
        (b"1.8.0(0012.345*kWh)", b"1.8.0(0012.345kWh)", False),
        (b"1.8.0(0012.345*kWh)", b"2.8.0(0012.345*kWh)", False),
        (b"6.26(0012.345*m3)", b"6.26(0012.345*m2)", False),
        (b"1.8.0(0012.345*kWh)", b"1.8.0(0A12.345*kWh)", False),
        (b"96.8.0(010183FE)", b"96.8.0(0101A403)", True),
        (b"16.7.0(-000073*W)", b"16.7.0(+000073*W)", True),
        (b"9.4(088*C&082*C)", b"9.4(091*C&007*C)", True),
        (b"1.8.0&01(5*kWh)", b"1.8.0&02(5*kWh)", False),
        (b"1.6.1(09.48*kW)(16-03-14,18:45)", b"1.6.1(01.23*kW)(99-12-31,23:59)", True),
    ],
)
def test_the_form(one, other, same):
    assert (form_of(one) == form_of(other)) is same
