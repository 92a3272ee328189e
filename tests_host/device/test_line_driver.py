"""The line driver alone, with lists of line actions and a head made up here: what it does with shortages and loans."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from metering.line import EXPECT, LISTEN, SEND, SWITCH, WAIT, Line
from metering.listener import NOTHING, REJECTED, TELEGRAM

METER, EDGES = Line(9600), Line(28800)


class Head:
    """`arrived` is what comes, piece by piece; `opened` are the settings in order; open() raises `failing` first."""

    def __init__(self) -> None:
        self.data = bytearray(320)
        self.arrived: list[bytes] = []
        self.opened: list[Line] = []
        self.sent: list[bytes] = []
        self.failing: list[type[Exception]] = []
        self.line = METER
        self.may_be_echo = self.polarity_flipped = False

    def open(self, line: Line) -> None:
        if self.failing:
            raise self.failing.pop()
        self.line = line
        self.opened.append(line)

    def light(self) -> bool:
        return True

    def read(self) -> int:
        piece = self.arrived.pop(0) if self.arrived else b""
        self.data[: len(piece)] = piece
        return len(piece)

    async def write(self, data: bytes) -> None:
        self.sent.append(data)


class Listener:
    """Takes up to `room` bytes; its events are those of `events`, where an exception is raised."""

    def __init__(self, *events: Any, room: int = 100) -> None:
        self.events = list(events)
        self.room = room
        self.taken = b""
        self.asked = 0

    def next_event(self) -> int:
        self.asked += 1
        event = self.events.pop(0) if self.events else NOTHING
        if isinstance(event, type):
            raise event
        return event

    def feed(self, data: bytearray, start: int, end: int) -> int:
        n = min(end - start, self.room - len(self.taken))
        self.taken += bytes(data[start : start + n])
        return n


@pytest.fixture
def it(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`it.driver` on `it.head`; `it.now_ms` passes with every sleep, `it.rests` are those, `it.progress` counts."""
    it = SimpleNamespace(head=Head(), now_ms=0, rests=[], progress=0, telegrams=0)

    async def sleep_ms(ms: int) -> None:
        it.rests.append(ms)
        it.now_ms += ms

    def progressed() -> None:
        it.progress += 1

    def on_telegram() -> None:
        it.telegrams += 1

    module = device.line_driver
    ticks = SimpleNamespace(
        ticks_ms=lambda: it.now_ms, ticks_diff=lambda a, b: a - b, ticks_add=lambda ticks, ms: ticks + ms
    )
    monkeypatch.setattr(module, "time", ticks)
    monkeypatch.setattr(device.line_answer, "time", ticks)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep_ms=sleep_ms))
    it.driver = module.LineDriver(it.head, SimpleNamespace(reader_progressed=progressed))
    it.on_telegram = on_telegram
    return it


def carried_out(it: Any, *actions: Any) -> list[Any]:
    """What each of the actions came to."""
    came = []

    def generator() -> Any:
        for action in actions:
            came.append((yield action))

    asyncio.run(it.driver.carry_out(generator(), it.on_telegram))
    return came


def test_a_question_and_its_answer(it: Any) -> None:
    it.head.arrived = [b"ab", b"", b"cd", b"ef"]
    actions = (
        (SWITCH, METER),
        (WAIT, 2500),
        (SEND, b"?"),
        (EXPECT, lambda buffer, n: 3 if n >= 3 else 0, 100, 100),
        (EXPECT, lambda buffer, n: 0, 100, 50),
    )
    assert carried_out(it, *actions) == [None, None, None, b"abc", b"def"]
    assert it.head.opened == [METER] and it.head.sent == [b"?"]
    assert it.rests[:3] == [1000, 1000, 500] and it.progress >= 3


def test_silence_ends_an_action(it: Any) -> None:
    assert carried_out(it, (EXPECT, lambda buffer, n: 0, 100, 50), (LISTEN, Listener(), 200, 50)) == [b"", NOTHING]
    assert it.now_ms == 300


def test_long_pauses_are_cut_short_where_somebody_waits(it: Any) -> None:
    it.driver.interactive = True
    carried_out(it, (WAIT, 3_600_000))
    assert it.now_ms == 3000


def test_an_event_of_bytes_from_before_comes_first(it: Any) -> None:
    listener = Listener(REJECTED, TELEGRAM)
    it.head.arrived = [b"x"]
    assert carried_out(it, (LISTEN, listener, 100, 100), (LISTEN, listener, 100, 100)) == [REJECTED, TELEGRAM]
    assert it.telegrams == 1 and listener.taken == b"" and it.head.arrived == [b"x"]


def test_a_full_listener_without_memory_is_no_reason_to_spin(it: Any) -> None:
    listener = Listener(NOTHING, *[MemoryError] * 9, TELEGRAM, room=4)
    it.head.arrived = [b"123456"]
    assert carried_out(it, (LISTEN, listener, None, None)) == [TELEGRAM]
    assert it.driver.out_of_memory == 9 and it.telegrams == 1
    assert [ms for ms in it.rests if ms] == [200] * 9 and it.progress >= 9


def test_a_lasting_shortage_ends_the_actions(it: Any) -> None:
    with pytest.raises(MemoryError):
        carried_out(it, (LISTEN, Listener(*[MemoryError] * 99), None, None))
    assert it.driver.out_of_memory == 10 and len(it.rests) == 9


def test_whoever_makes_the_actions_begins_anew_behind_a_shortage(it: Any) -> None:
    class Source:
        runs = 0

        def run(self) -> Any:
            self.runs += 1
            if self.runs == 3:
                raise SystemExit  # the test's end
            yield LISTEN, Listener(*[MemoryError] * 99), None, None

    source = Source()
    with pytest.raises(SystemExit):
        asyncio.run(it.driver.run(source, it.on_telegram))
    assert source.runs == 3 and it.now_ms >= 2 * 5000 and it.progress > 10


def test_a_telegram_that_finds_no_room_to_be_published_is_counted(it: Any) -> None:
    def on_telegram() -> None:
        raise MemoryError

    it.on_telegram = on_telegram
    assert carried_out(it, (LISTEN, Listener(TELEGRAM), None, None)) == [TELEGRAM]
    assert it.driver.out_of_memory == 1


# --- the light is lent -----------------------------------------------------------------------------------------------


def test_what_comes_while_the_light_is_lent_is_the_interceptors(it: Any) -> None:
    driver, seen = it.driver, []

    def intercept(data: bytearray, n: int) -> int:
        seen.append((driver.is_lent, bytes(data[:n])))
        return 0 if driver.is_lent else n

    driver.interceptor = intercept
    it.head.arrived = [b"a", b"b", b"c"]
    driver.open(METER)
    assert driver.read() == 1
    driver.borrow(EDGES)
    assert driver.read() == 0 and driver.line is EDGES
    driver.give_back()
    assert driver.read() == 1 and driver.line is METER
    assert seen == [(False, b"a"), (True, b"b"), (False, b"c")]


def test_what_may_be_our_own_is_shown_to_nobody(it: Any) -> None:
    it.driver.interceptor = lambda data, n: pytest.fail("shown")
    it.head.may_be_echo = True
    it.head.arrived = [b"a"]
    assert it.driver.read() == 1


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_a_line_that_cannot_be_opened_again_at_once_is_opened_with_the_next_read(it: Any, error: Any) -> None:
    it.driver.open(METER)
    it.driver.borrow(EDGES)
    it.head.failing = [error, error]
    it.driver.give_back()
    assert it.head.line is EDGES  # for want of memory
    it.driver.read()
    assert it.head.line is EDGES and not it.head.failing
    it.driver.read()
    assert it.head.line is METER
    it.driver.read()
    assert it.head.opened == [METER, EDGES, METER]


def test_a_loan_that_fails_leaves_the_meters_line_owed(it: Any) -> None:
    it.driver.open(METER)
    it.head.failing = [MemoryError]
    with pytest.raises(MemoryError):
        it.driver.borrow(EDGES)
    it.driver.give_back()
    assert it.head.opened == [METER, METER] and it.driver.line is METER


def test_a_new_line_of_the_meters_ends_the_loan(it: Any) -> None:
    it.driver.borrow(EDGES)
    carried_out(it, (SWITCH, Line(300, 7, "E")))
    assert not it.driver.is_lent
    it.driver.give_back()
    assert it.driver.line.baud == 300
