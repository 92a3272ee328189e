"""Asking a meter in Modbus RTU for the registers of its map: see metering.modbus.modbus_frame.

An answer does not say which registers it tells. So whoever has got none, or a damaged one, is silent until a late one
must have come, and drops it, before it asks again; behind a second question as well, as both may be answered. What
nobody has asked for is dropped.
"""

from metering.compat import const
from metering.line import EXPECT, LISTEN, SEND, SWITCH, WAIT
from metering.listener import NOTHING, REJECTED, TELEGRAM
from metering.modbus.modbus_frame import answer_end, exception_words, question, silence_ms
from metering.modbus.modbus_map import ModbusMap

_INTERVAL_S = const(10)
_LEAST_PAUSE_S = const(1)
_PAUSES_S = (10, 30, 60, 300)
_ANSWER_MS = const(1000)
_GAP_MS = const(100)
_LATE_MS = const(2000)  # more than any answer comes after the question's end
_ATTEMPTS = const(2)
_LASTING = (1, 2, 3)  # exceptions that mean the question, not the moment

_REASONS = ("no map", "no answer", "bad data", "refused")
_NO_MAP = "no register map says what the meter's registers mean: name one (modbus_map)"
_SENTENCES = (
    "",
    "the meter does not answer: check A and B of the bus, its address, rate and parity",
    "the meter's answers came damaged, or are another meter's: check rate, parity, address and the bus's ends",
)


def _silence(buffer, n):
    """For EXPECT: until there is a silence."""
    return 0


class Conversation:
    """Asks one meter, for a driver of line actions (metering.line): see metering.protocols for what it tells.

    `address` "1" to "247", "" is 1. take_map() gives it its map, before anything is asked. There is no password and no
    wake-up.
    """

    NAME = "modbus"
    REASONS = _REASONS
    takes_options = False

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._address = int(address) if address.isdigit() else 0 if address else 1
        self._map: ModbusMap | None = None
        self.pause_s = interval_s or _INTERVAL_S
        self.answers = False
        self.password_withheld = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    def take_map(self, data):
        """`data`: the object that is a map's JSON (metering.modbus.modbus_map). Raises ValueError, a sentence for the
        owner, where it is none, or the address is none."""
        modbus_map = ModbusMap(data)
        for first, count in modbus_map.questions:
            question(self._address, modbus_map.function, first, count)
        self._map = modbus_map

    def run(self):
        """Generator of line actions, without end."""
        self.failed_in_a_row = 0
        while True:
            if (yield from self.read_out()):
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            yield WAIT, pause_s * 1000

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt. Returns True when a telegram came. `answer` is not looked at: no
        search asks."""
        listener = self._listener
        self.answers = False
        known = self._map
        if known is None:
            return self._failed(0)
        line = listener.line or known.line
        listener.begin(known, self._address)
        yield SWITCH, line
        refused = ""
        event = NOTHING
        for i in range(len(known.questions)):
            event = yield from self._ask(known, i, line)
            if event == REJECTED:
                return self._failed(2 if self.answers else 1)
            if listener.exception:
                refused = "register %d: %s" % (known.questions[i][0], exception_words(listener.exception))
                if listener.exception not in _LASTING and event != TELEGRAM:
                    return self._refused(refused)
        if event != TELEGRAM:
            return self._refused(refused)
        self.explanation = refused and "the meter refuses a part of its map: " + refused
        return True

    def _ask(self, known, i, line):
        """The event of question i's answer: NOTHING where more must be asked, REJECTED where none came that holds."""
        listener = self._listener
        first, count = known.questions[i]
        silent_ms = silence_ms(line.baud)
        for attempt in range(_ATTEMPTS):
            yield EXPECT, _silence, silent_ms, silent_ms
            yield SEND, question(self._address, known.function, first, count)
            answer = yield EXPECT, answer_end, _ANSWER_MS, _GAP_MS
            event = REJECTED
            if answer:
                self.answers = True
                listener.ask(i)
                listener.feed(answer, 0, len(answer))
                event = yield LISTEN, listener, 0, 0
            if attempt or event == REJECTED:
                yield WAIT, _LATE_MS
                if event != REJECTED:  # so far behind the first question's answer, as both were asked, is the second's
                    yield WAIT, _LATE_MS
                yield SWITCH, line  # drops what has come
            if event != REJECTED:
                return event
        return REJECTED

    def _refused(self, words):
        self._failed(3)
        self.explanation = "the meter refuses: " + words
        return False

    def _failed(self, i):
        self.failures += 1
        self.failed[_REASONS[i]] += 1
        if not i:
            self.explanation = self.explanation or _NO_MAP
        elif i < len(_SENTENCES):
            self.explanation = _SENTENCES[i]
        return False


CONVERSATION = Conversation
