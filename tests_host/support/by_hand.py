"""A conversation's line actions (metering.line) carried out without a line, where only what is said counts."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

from metering.line import EXPECT, LISTEN, SEND, WAIT

Actions = Generator[Any, Any, Any]


def converse(actions: Actions, heard: Callable[[Any], bytes], on_sent: Callable[[bytes], object] = len) -> Any:
    """Returns what `actions` returns. `heard(action)` answers an EXPECT, on_sent(data) is told what goes out; a LISTEN
    has what its listener holds already.
    """
    given: Any = None
    while True:
        try:
            action = actions.send(given)
        except StopIteration as stop:
            return stop.value
        given = None
        if action[0] == SEND:
            on_sent(bytes(action[1]))
        elif action[0] == EXPECT:
            given = heard(action)
        elif action[0] == LISTEN:
            given = action[1].next_event()


def in_turn(answers: Iterable[bytes]) -> Callable[[Any], bytes]:
    """For converse(): each of them, and nothing behind the last."""
    coming = iter(answers)
    return lambda _: next(coming, b"")


def pauses_of_one_that_nobody_answers(actions: Actions, n: int) -> list[int]:
    """The first `n` pauses between attempts, in s; what is shorter than 5 s lies within one."""
    action = next(actions)
    found: list[int] = []
    while len(found) < n:
        if action[0] == WAIT and action[1] > 5000:
            found.append(action[1] // 1000)
        action = actions.send(b"" if action[0] == EXPECT else 0 if action[0] == LISTEN else None)
    return found
