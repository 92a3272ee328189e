"""What a search must know of the tests' protocol."""

from metering.line import EXPECT, SEND, SWITCH, Line


def signature(data, n, begun):
    return data.find(b"\xa5\x5a", 0, n) >= 0


def question(address):
    yield SWITCH, Line(4800)
    yield SEND, b"\xa5?"
    return (yield EXPECT, lambda buffer, n: n, 500, 100)


def answered_by(answer):
    return "toy" if b"\xa5" in answer else ""
