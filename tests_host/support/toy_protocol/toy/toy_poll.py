"""Asks a meter of the tests' protocol each ten seconds."""

from metering.line import EXPECT, LISTEN, SEND, SWITCH, WAIT, Line
from metering.listener import TELEGRAM

QUESTION = b"\xa5?"


class Conversation:
    """As metering.protocols has it."""

    REASONS = ("no answer", "no identification", "password refused")
    takes_options = False
    pause_s = 10

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self.answers = False
        self.password_withheld = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    def run(self):
        while True:
            yield from self.read_out()
            yield WAIT, self.pause_s * 1000

    def read_out(self, answer=b""):
        listener = self._listener
        if not answer:
            yield SWITCH, Line(4800)
            yield SEND, QUESTION
            answer = yield EXPECT, lambda buffer, n: n, 500, 100
        listener.feed(answer, 0, len(answer))
        event = yield LISTEN, listener, 500, 100
        self.answers = event == TELEGRAM
        if not self.answers:
            self.failures += 1
            self.failed["no answer"] += 1
            self.explanation = "the toy does not answer"
        return self.answers


CONVERSATION = Conversation
