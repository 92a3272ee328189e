"""Asking a gas volume corrector by LIS-200, in the programming mode of IEC 62056-21. What its answers are says
metering.iec62056_21.lis200_answer.

    /?! CR LF                          -->        300 7E1
                                       <--        /Els6EK270 CR LF
    ACK 0 6 1 CR LF                    -->        and both change to its rate
                                       <--        SOH P0 STX (1234567) ETX BCC     left without an answer, as all do
    SOH R1 STX 2:302.0(1) ETX BCC      -->        one by one
                                       <--        STX 7-2:302.2(260.63*m3) ETX BCC
    SOH B0 ETX BCC                     -->

Two locks may stand in the way, the supplier's and the customer's. Their state is read where something was refused, and
told. They are not opened: that is a write, and the same write changes the code where the lock is open already. No write
command exists here, and the password of the settings is not used.

BCC is an exclusive or: of two equal characters lost it knows nothing. So an answer that is longer or shorter than the
one before it, or has its point elsewhere, is asked for again, and is told where both are of one form.

Such meters live on a battery: one read-out an hour, unless the owner wants more.
"""

from metering.compat import const
from metering.failure_sentence import sentence_of
from metering.iec62056_21.exchange import BREAK, Exchange
from metering.iec62056_21.iec_probe import is_corrector
from metering.iec62056_21.lis200_answer import address_of_answer, refusal_of
from metering.iec62056_21.programming_answers import Answers, command
from metering.line import LISTEN, WAIT
from metering.listener import TELEGRAM

_SOH = const(0x01)
_STX = const(0x02)
_ETX = const(0x03)
_FASTEST = const(6)
_INTERVAL_S = const(3600)
_LEAST_PAUSE_S = const(10)
_LOOK_S = const(300)
_SPARED = "the meter's battery is spared, as the probe has been restarted often: it is asked in %d min"
_PAUSES_S = (30, 120, 600, 3600, 21600)

# What is asked for, as it is asked for; the first one names the meter
_WANTED = "1:0180.0 2:302.0 4:302.0 2:310.0 4:310.0 7:310.0 6:310_1.0 5:310.0 8:310.0 1:0400.0"
_ONCE = "2:0190.0"  # while this runs: its firmware
_LOCKS = "3:0170.0 4:0170.0"
_OF_LOCKS = ("the supplier's", "the customer's")

# Number of a refusal -> what it means (iec62056-21 0.0.2), of those that a reading may meet
_REFUSALS = (
    " 1=no_such_address 2=no_such_object 3=no_such_part_of_it 4=no_such_attribute 5=it_has_not_got_this_attribute"
    " 17=a_wrong_code 18=no_right_to_read_it 19=no_right_to_write_it 20=locked 100=no_such_archive 101=no_such_column"
    " 103=the_archive_is_empty 104=nothing_so_old 105=nothing_so_new 108=too_many_archives_are_open"
    " 109=overwritten_meanwhile 110=a_damaged_row 200=a_question_that_it_does_not_understand 201=a_wrong_password"
    " 222=its_memory_cannot_be_read "
)

_REASONS = ("no answer", "no identification", "no data", "bad data", "password refused", "registers refused")


def refusal_words(number):
    """What the refusal of this number (a text) means, such as "error 18: no right to read it"."""
    from metering.register import lookup

    words = lookup(_REFUSALS, number)
    return "error " + number + (": " + words.replace("_", " ") if words else "")


def _form_of(body):
    """How long an answer is, and where its point stands, as one number."""
    return len(body) << 8 | body.rfind(b".")


class Conversation:
    """Asks one meter, for a driver of line actions (metering.line): see metering.protocols for what it tells.

    `interval_s` between read-outs, 0: an hour. `password` is not used: nothing is opened here.
    """

    NAME = "lis200"
    REASONS = _REASONS
    FAREWELL = BREAK
    takes_options = False

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._exchange = Exchange(listener, address, wake_up)
        self._answers = Answers(self._exchange)
        self._firmware = self._serial_number = b""  # the answers that told them
        self._has_read = False
        self._forms = {}  # address as it is asked for -> form of its last answer
        self.pause_s = interval_s or _INTERVAL_S
        self.budget = None  # as of metering.asked_seldom
        self.password_withheld = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    @property
    def answers(self):
        """Has it identified itself, and not been mute since?"""
        return self._exchange.answers

    @answers.setter
    def answers(self, answers):
        self._exchange.answers = answers

    def run(self):
        """Generator of line actions, without end."""
        self.failed_in_a_row = 0
        if self._has_read:  # for a search
            yield WAIT, max(self.pause_s, _LEAST_PAUSE_S) * 1000
        while True:
            left_s = self.budget.wait_s(self.pause_s) if self.budget else 0
            if left_s:
                self.explanation = _SPARED % (left_s // 60 + 1)
                yield WAIT, min(left_s, _LOOK_S) * 1000
                continue
            if (yield from self.read_out()):
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            yield WAIT, pause_s * 1000

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt. Returns True when the values came.

        `answer`: what a search's question has brought already, the identification; b"": it is asked for.
        """
        exchange, listener = self._exchange, self._listener
        character = yield from exchange.sign_on(answer)
        if character < 0:
            return self._failed(exchange.outcome)
        identification = exchange.identification
        if not is_corrector(identification):
            yield from exchange.hear_out()
            return self._failed("no identification")
        listener.begin(identification, exchange.parity)
        offered = character - 0x30
        yield from exchange.acknowledge(offered if 0 <= offered <= _FASTEST else 0, 1)
        if (yield from self._answers.hear_answer()) != _SOH or self._answers.body[:2] != b"P0":
            exchange.limit.hear_nothing(exchange.rate)
            yield from exchange.hear_out()
            yield from exchange.say(BREAK)  # it may have entered it, unheard
            return self._failed("no data")
        has_damage = yield from self._ask_all()
        has_no_right = "18" in listener.refusals or "20" in listener.refusals
        locks = (yield from self._read_locks()) if has_no_right else ""
        yield from exchange.say(BREAK)
        if has_damage:  # who it is, or all there is, was not understood
            exchange.limit.lower(exchange.rate)
            return self._failed("bad data")
        words = ", ".join([refusal_words(number) for number in listener.refusals])
        listener.complete()
        event = yield LISTEN, listener, 0, 0
        if event != TELEGRAM:
            return self._failed("registers refused", (words or "none of them is known", locks))
        self._has_read = True
        self.explanation = ""
        if has_no_right:  # what a model has not got is refused too, and nothing to tell
            self.explanation = "some of the meter's values are refused (%s)%s" % (words, locks)
        return True

    def _ask_all(self):
        """Ask for all that is wanted. True where the serial number came damaged, or nothing else came whole."""
        n = 0
        for address in _WANTED.split():
            body = yield from self._ask(address)
            if body is not None:
                if not n and body != self._serial_number:  # another meter
                    self._serial_number = body
                    self._firmware = b""
                n += 1
                self._listener.take(body)
            elif not n:
                return True
        if not self._firmware:
            body = (yield from self._ask(_ONCE)) or b""
            self._firmware = b"-" if refusal_of(body) else body
        self._listener.take(self._firmware)
        return n == 1

    def _ask(self, address):
        """The answer to a question for `address`, or the refusal; None where none came whole, or none of the form that
        another one has had."""
        body = yield from self._answer(address)
        if body is None or refusal_of(body):
            return body
        form = _form_of(body)
        if self._forms.get(address) != form:
            body = yield from self._answer(address)
            if body is None or _form_of(body) != form:
                return None
            self._forms[address] = form
        return body

    def _answer(self, address):
        """Ask once. An answer of another address came late, and is dropped."""
        exchange = self._exchange
        kind = yield from self._answers.ask(command(b"R1", address.encode() + b"(1)"))
        body = self._answers.body
        if kind != _STX or self._answers.last != _ETX:
            yield from exchange.hear_out()
            return None
        if refusal_of(body) or address_of_answer(body) == address_of_answer(address.encode() + b"("):
            return body
        yield from exchange.hear_out()
        return None

    def _read_locks(self):
        """Which locks are closed, in words; "" where that is not told."""
        closed = []
        for i, address in enumerate(_LOCKS.split()):
            body = yield from self._ask(address)
            if body is not None and body[body.find(b"(") :] == b"(0)":
                closed.append(_OF_LOCKS[i])
        if not closed:
            return ""
        return "; %s lock is closed: who has its code can open it, this program only reads" % (
            " and ".join(closed)
        )

    def _failed(self, reason, detail=()):
        self.failures += 1
        self.failed[reason] += 1
        sentence = sentence_of("metering.iec62056_21.lis200_words", _REASONS.index(reason))
        self.explanation = sentence % detail if sentence else reason
        return False


CONVERSATION = Conversation
