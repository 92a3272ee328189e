"""The parts of the search one by one: light runs, flashes, bursts, time of a character, candidates, proof."""

from typing import Any

import pytest

from metering.detection.arrivals import Bursts, CharacterTime, Clock, Flashes, IdleLevel
from metering.detection.candidates import Candidates, Proof, line_as_sent
from metering.detection.light_runs import SAMPLE_BAUDS, LightRuns
from metering.line import Line
from metering.listener import NOTHING, REJECTED, TELEGRAM

# --- light runs ------------------------------------------------------------------------------------------------------


def byte_of(zeros: int) -> int:
    """A sampled byte whose first `zeros` bits were light."""
    return 0xFF << zeros & 0xFF


@pytest.mark.parametrize(
    ("index", "zeros", "rejected", "verdict"),
    [
        (2, [2] * 8 + [5] * 4, 0, 9600),  # one and two bits of a third of 28800
        (2, [1] * 8 + [4] * 4, 0, 9600),  # a weak light shortens them
        (2, [3] * 8 + [6] * 4, 0, 9600),  # a slow receiver makes them longer
        (2, [5] * 8 + [8] * 4, 0, 4800),  # of a sixth
        (2, [2] * 8 + [5] * 4, 9600, -2),  # was tried: a faster sample is next
        (2, [8] * 12, 0, -4),  # all too long: a slower one
        (2, [0] * 12, 0, -2),  # all too short: a faster one
        (1, [0] * 12, 0, -1),
        (0, [0] * 12, 0, 0),  # there is no faster one
        (4, [8] * 24, 0, 0),  # nor a slower one
        (1, [8] * 12, 0, 0),  # faster samples were only taken as slower ones were too slow
        (0, [2] * 8 + [5] * 4, 0, 115200),
        (4, [5] * 12 + [8] * 12, 0, 300),
        (2, [2, 7, 0, 4, 6, 3, 0, 7, 1, 6, 4, 7], 0, -2),  # of no comb
    ],
)
def test_light_runs(index: int, zeros: list[int], rejected: int, verdict: int) -> None:
    runs = LightRuns()
    runs.start(2)
    runs.add(b"\x00\x0f", 0, 2)
    assert runs.start(index) == SAMPLE_BAUDS[index] and runs.count == 0  # what was there before is forgotten
    data = bytes(map(byte_of, zeros))
    assert runs.add(data, 0, len(data))
    assert runs.verdict(rejected) == verdict


def test_light_runs_are_enough_at_twelve_or_at_twice_as_many_where_it_is_slow() -> None:
    runs = LightRuns()
    for index, enough in ((0, 12), (2, 12), (3, 24), (4, 24)):
        runs.start(index)
        assert not runs.add(bytes(enough - 1), 0, enough - 1)
        assert runs.add(b"\0", 0, 1)


# --- flashes ---------------------------------------------------------------------------------------------------------


def blinks(flashes: Flashes, widths_ms: list[int], apart_ms: int) -> list[bool]:
    """Whether each flash of these widths, so far apart, makes it an LED's."""
    told = []
    for width_ms in widths_ms:
        assert flashes.begin(apart_ms)
        claims = flashes.pass_time(width_ms, True) if width_ms > 10 else False
        for _ in range(apart_ms - width_ms):
            claims = flashes.pass_time(1, False) or claims
        told.append(claims)
    return told


@pytest.mark.parametrize(
    ("widths_ms", "apart_ms", "told"),
    [
        ([3, 3, 3], 1000, [False, False, True]),
        ([30, 31, 29], 1000, [False, False, True]),
        ([80, 80, 80], 1000, [False, False, False]),  # one more where they are long
        ([80, 80, 80, 80], 1000, [False, False, False, True]),
        ([3, 80, 3, 80], 1000, [False] * 4),  # not alike
        ([300, 300, 300, 300, 300], 1000, [False] * 5),  # a shadow
    ],
)
def test_flashes_alike_in_a_row_are_an_leds(widths_ms: list[int], apart_ms: int, told: list[bool]) -> None:
    assert blinks(Flashes(0, False), widths_ms, apart_ms) == told


def test_flashes_need_one_more_for_each_disturbance() -> None:
    flashes = Flashes(0, False)
    flashes.disturb()
    flashes.disturb()
    assert blinks(flashes, [3] * 5, 1000) == [False] * 4 + [True]


def test_a_flash_is_none_where_bytes_follow_or_precede_it_closely() -> None:
    flashes = Flashes(0, False)
    assert not flashes.begin(20) and flashes.begin(21)
    assert flashes.end() and not flashes.end()
    assert blinks(flashes, [3] * 4, 1000) == [False] * 3 + [True]  # it was a disturbance
    assert not Flashes(360, False).begin(359)  # the owner's limit of power


def test_a_meter_that_is_known_to_blink_is_not_claimed_by_the_third() -> None:
    flashes = Flashes(0, True)
    assert blinks(flashes, [3, 90, 3, 3], 1000) == [False] * 4
    assert flashes.count == 4


@pytest.mark.parametrize(
    ("looks", "quiet_ms", "other"),
    [
        ([(10, True)] * 40, 500, False),  # 390 ms, from the first look on
        ([(10, True)] * 41, 500, True),
        ([(10, True)] * 42, 390, False),  # bytes came
        ([(10, False)] * 50, 500, False),
        ([(10, True)] * 30 + [(10, False)] + [(10, True)] * 30, 500, False),
        ([(10, None)] * 60, 900, False),  # the driver cannot tell
    ],
)
def test_a_level_that_stays_is_the_idle_one(looks: list[Any], quiet_ms: int, other: bool) -> None:
    idle = IdleLevel(False)
    for gap_ms, light in looks:
        assert idle.pass_time(gap_ms, light) is (light is True)
    assert idle.is_other(quiet_ms) is other
    if other:
        idle.follow()
        assert idle.is_lit and not idle.is_other(quiet_ms)


# --- bursts ----------------------------------------------------------------------------------------------------------


def test_a_burst_keeps_its_last_bytes() -> None:
    bursts = Bursts()
    bursts.begin(50)
    bursts.keep(bytes(range(200)), 0, 200)
    assert bursts.is_whole and bytes(bursts.data[: bursts.n]) == bytes(range(200))
    bursts.keep(b"x" * 100, 0, 100)
    assert not bursts.is_whole and bursts.is_begun
    assert bytes(bursts.data[: bursts.n]) == bytes(range(44, 200)) + b"x" * 100
    bursts.keep(bytes(300), 0, 300)
    assert bytes(bursts.data[: bursts.n]) == bytes(256)
    assert (bursts.n_bytes, bursts.n_zeros) == (600, 301)
    bursts.clear()
    assert (bursts.n, bursts.n_bytes, bursts.n_zeros, bursts.n_high, bursts.count) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("quiet_ms", "data", "ms", "counts"),
    [
        (50, b"x" * 5, 40, True),
        (50, b"x" * 5, 39, False),  # noise is as short
        (50, b"x" * 24, 0, True),
        (50, b"x" * 23, 0, False),
        (50, bytes(24), 0, False),  # zeros at a rate that is too high
        (49, b"x" * 24, 40, False),  # its begin was not heard
    ],
)
def test_which_bursts_of_nobody_may_be_telegrams(quiet_ms: int, data: bytes, ms: int, counts: bool) -> None:
    bursts = Bursts()
    bursts.begin(quiet_ms)
    bursts.keep(data, 0, len(data))
    bursts.ms = ms
    assert bursts.end_unknown() is counts
    assert (bursts.n, bursts.count) == (0, int(counts))


def test_which_bursts_that_a_listener_has_may_be_telegrams() -> None:
    bursts = Bursts()
    for n, ms, counts in ((24, 0, True), (23, 0, False), (23, 40, True), (25, 0, True), (1, 0, False)):
        bursts.begin(60)
        bursts.count_only(n)
        bursts.ms = ms
        assert bursts.end_heard() is counts
    assert bursts.count == 3


@pytest.mark.parametrize(
    ("data", "seven", "dark"),
    [(b"\xb1" * 73 + b"\x31" * 27, True, False), (b"\xb1\x31" * 50, False, False), (bytes(91) + b"x" * 9, False, True)],
)
def test_what_the_bytes_look_like(data: bytes, seven: bool, dark: bool) -> None:
    bursts = Bursts()
    bursts.keep(data, 0, len(data))
    assert (bursts.may_be_seven(), bursts.is_mostly_dark()) == (seven, dark)


@pytest.mark.parametrize(
    ("baud", "parity", "bits", "eleven"),
    [(2400, None, 11, True), (2400, None, 10, False), (4800, None, 11, True), (9600, None, 11, False),
     (2400, "E", 11, False), (300, None, 10, False), (300, None, 11, True)],
)  # fmt: skip
def test_the_time_of_a_character(baud: int, parity: str | None, bits: int, eleven: bool) -> None:
    pace, line = CharacterTime(), Line(baud, 8, parity)
    pace.begin()
    for _ in range(6):
        pace.add(20, 20 * bits * 1000 // baud)
    assert pace.has_parity_bit(line) is eleven
    pace.clear()
    assert not pace.has_parity_bit(line)


def test_a_pause_at_the_end_of_a_burst_does_not_count() -> None:
    pace, line = CharacterTime(), Line(2400)
    pace.begin()
    for gap_ms in (83, 83, 83, 400):  # 20 bytes of ten bits each, and a pause amid the last ones
        pace.add(20, gap_ms)
    assert not pace.has_parity_bit(line)


@pytest.mark.parametrize(
    ("ticks", "gap_ms"),
    [((0, 10), 10), ((0x3FFFFFF0, 6), 22), ((100, 90), 0), ((0, 0x1FFFFFFF), 0x1FFFFFFF), ((0, 0x20000000), 0)],
)
def test_the_clock_goes_round_and_never_back(ticks: tuple[int, int], gap_ms: int) -> None:
    clock = Clock()
    assert clock.pass_time(ticks[0]) == 0
    assert clock.pass_time(ticks[1]) == gap_ms
    assert clock.quiet_ms == clock.dark_ms == clock.away_ms == gap_ms
    clock.is_idle_told = True
    assert clock.end_quiet() == gap_ms
    assert (clock.quiet_ms, clock.dark_ms, clock.is_idle_told) == (0, gap_ms, False)


# --- candidates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("idle_lit", "seven", "lines"),
    [
        (False, False, ["9600 8N1", "9600 8N1 inverted", "9600 8E1"]),
        (True, False, ["9600 8N1 inverted", "9600 8N1", "9600 8E1 inverted"]),
        (False, True, ["9600 8N1", "9600 7N1", "9600 8N1 inverted", "9600 8E1"]),
    ],
)
def test_what_is_tried_at_a_rate(idle_lit: bool, seven: bool, lines: list[str]) -> None:
    candidates = Candidates()
    tried = [candidates.first(9600, idle_lit)]
    while (line := candidates.next(9600, idle_lit, seven)) is not None:
        tried.append(line)
    assert list(map(repr, tried)) == lines
    assert candidates.rejected_baud == 9600
    candidates.first(9600, idle_lit)
    while candidates.next(9600, idle_lit, seven) is not None:
        pass
    assert candidates.rejected_baud == 0  # nothing else was better


def test_there_is_nothing_else_to_try_of_a_known_line() -> None:
    candidates = Candidates()
    candidates.use_known()
    assert candidates.baud_known and candidates.next(2400, False, True) is None


def test_two_of_eight_short_bursts_are_followed_by_guesses_in_turn() -> None:
    candidates = Candidates()
    assert [candidates.follows_short_burst() for _ in range(10)] == [True, True] + [False] * 6 + [True, True]
    assert [candidates.guess() for _ in range(6)] == [0, 2, 1, 0, 2, 1]  # 115200, and samples 1 and 0


# --- proof -----------------------------------------------------------------------------------------------------------


class Heard:
    """A listener of one byte a telegram: small letters carry a check, capitals none, digits lack a key, `?` is a reply,
    `!` is rejected."""

    def __init__(self) -> None:
        self.recognised = 0
        self.proven = True
        self._now = ""
        self._left = ""

    def feed(self, data: bytes, start: int, end: int) -> int:
        self._left += data[start:end].decode()
        return end - start

    def next_event(self) -> int:
        if not self._left:
            return NOTHING
        self._now, self._left = self._left[0], self._left[1:]
        if self._now == "!":
            return REJECTED
        self.recognised += 1
        self.proven = not self._now.isupper()
        return REJECTED if self._now.isdigit() else TELEGRAM

    def identity_for_proof(self) -> str | None:
        return None if self._now == "X" else self._now

    def is_reply(self, line: Line) -> bool:
        return self._now == "?"

    def line_as_sent(self, line: Line) -> Line | None:
        return None


@pytest.mark.parametrize(
    ("said", "proven", "ready"),
    [
        ("a", True, True),
        ("!!!", False, False),
        ("A", False, True),
        ("AA", True, True),
        ("ABAB", False, True),  # two meters in turn
        ("XX", False, True),  # they do not say which
        ("A!A", True, True),
        ("1", True, False),  # the check of its frame
        ("?", False, True),
        ("??a", True, True),
        ("", False, False),
    ],
)
def test_what_is_a_proof(said: str, proven: bool, ready: bool) -> None:
    proof, listener = Proof(), Heard()
    assert proof.feed(listener, Line(9600), said.encode(), 0, len(said)) is proven
    assert proof.telegram_ready is ready
    assert proof.feed(listener, Line(9600), b"", 0, 0) is False


def test_the_line_is_told_as_the_meter_sends_it() -> None:
    pace = CharacterTime()
    pace.begin()
    for _ in range(4):
        pace.add(24, 110)  # eleven bits at 2400 baud
    assert repr(line_as_sent(Heard(), Line(2400), pace)) == "2400 8E1"
    assert repr(line_as_sent(Heard(), Line(2400, 7), CharacterTime())) == "2400 7N1"
