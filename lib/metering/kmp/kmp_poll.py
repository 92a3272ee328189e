"""Asking a Kamstrup meter in KMP for its number and eight registers: see metering.kmp.kmp_frame.

    80 3F 02 CRC 0D                       -->
                                          <--        40 3F 02 number (4 bytes) CRC 0D
    80 3F 10 08 number (2 bytes) ... CRC 0D   -->
                                          <--        40 3F 10 register ... CRC 0D

Such meters live on a battery, and each question costs some of it: one read-out an hour, unless the owner wants more,
and one every six hours where nothing answers. Reading only: no other command exists here.
"""

from metering.asked_seldom import AskedSeldom
from metering.compat import const
from metering.kmp.kmp_answer import WANTED
from metering.kmp.kmp_frame import REGISTERS, SERIAL_NUMBER, answer_end, question
from metering.line import EXPECT, LISTEN, SEND, SWITCH
from metering.listener import REJECTED, TELEGRAM

_ANSWER_MS = const(1500)
_GAP_MS = const(100)  # ten characters
_ATTEMPTS = const(2)  # for each answer: the first question may only wake the eye

_REASONS = ("no answer", "no identification", "bad data", "password refused")
_SENTENCES = (
    "the meter does not answer: hold the head so that its magnet wakes the meter's eye, and turn it",
    "the meter answers, but does not tell its number: move the head, keep light away",
    "the meter's registers came damaged: move the head, keep light away",
)


def _registers_wanted():
    body = bytearray((REGISTERS, len(WANTED)))
    for number in WANTED:
        body.append(number >> 8)
        body.append(number & 0xFF)
    return bytes(body)


class Conversation(AskedSeldom):
    """Asks one meter, for a driver of line actions (metering.line): see metering.protocols for what it tells.

    `interval_s` between read-outs, 0: an hour. Such meters know no address, no password and no other wake-up.
    """

    NAME = "kmp"
    REASONS = _REASONS
    SENTENCES = _SENTENCES

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        AskedSeldom.__init__(self, listener, interval_s)

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt. Returns True when the registers came."""
        listener = self._listener
        listener.abandon()
        self.answers = False
        lines = (listener.line,) if listener.line else listener.LINES
        for _ in lines:
            yield SWITCH, lines[self._line % len(lines)]
            if (yield from self._ask(bytes((SERIAL_NUMBER,)))):
                break
            if self.answers:
                return self._failed("no identification")
            self._line += 1
        else:
            return self._failed("no answer")
        if not (yield from self._ask(_registers_wanted())):
            return self._failed("bad data")
        self.explanation = ""
        return True

    def _ask(self, body):
        """Did its answer come? `answers` is set where anything did. One to the question before may come late, and
        another then."""
        listener = self._listener
        for _ in range(_ATTEMPTS):
            told = listener.numbers_told
            yield SEND, question(body)
            for _ in range(_ATTEMPTS):
                answer = yield EXPECT, answer_end, _ANSWER_MS, _GAP_MS
                if not answer_end(answer, len(answer)):
                    break
                self.answers = True
                listener.feed(answer, 0, len(answer))
                event = REJECTED
                while event == REJECTED:
                    event = yield LISTEN, listener, 0, 0
                if event == TELEGRAM if body[0] == REGISTERS else listener.numbers_told != told:
                    return True
        return False


CONVERSATION = Conversation
