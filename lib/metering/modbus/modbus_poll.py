"""Asking a meter in Modbus RTU for the registers of its map: see metering.modbus.modbus_frame.

An answer does not say which registers it tells. So whoever has got none, or a damaged one, is silent until a late one
must have come, and drops it, before it asks again; behind a second question as well, as both may be answered. What
nobody has asked for is dropped.

Nor does it say who has asked: behind another master's question its answer would be taken for ours. So a question is
sent only when the bus has been silent for longer than a meter takes to answer: before a read-out's first one, and
before each one where anybody else was ever heard; else for the standard's few ms. What another master asks while our
answer is due stands before it, and is refused.
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
_SILENT_MS = const(500)  # meters answer within 200
_MOST_LOOKS = const(20)  # for that silence, each up to metering.line.ANSWER_BYTES long
_LASTING = (1, 2, 3)  # exceptions that mean the question, not the moment

_REASONS = ("no map", "no answer", "bad data", "refused", "busy bus")
_NO_MAP = "no register map says what the meter's registers mean: name one (modbus_map)"
_SENTENCES = (
    "",
    "the meter does not answer: check A and B of the bus, its address, rate and parity",
    "the meter's answers came damaged, or are another meter's: check rate, parity, address and the bus's ends",
    "",
    "the bus is never silent for half a second: another master asks too often, or its ends float",
)


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
        self._is_shared = False  # was anybody else heard on the bus?
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
            if event is None:
                return self._failed(4)
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
        """The event of question i's answer: NOTHING where more must be asked, REJECTED where none came that holds, None
        where there was no asking."""
        listener = self._listener
        first, count = known.questions[i]
        silent_ms = silence_ms(line.baud)
        for attempt in range(_ATTEMPTS):
            if not (yield from self._is_silent(silent_ms if i or attempt else _SILENT_MS)):
                return None
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

    def _is_silent(self, silent_ms):
        """Wait for a silence in which nobody waits for an answer; False where there is none."""
        for _ in range(_MOST_LOOKS):
            if self._is_shared:
                silent_ms = _SILENT_MS
            if not (yield EXPECT, None, silent_ms, silent_ms):
                return True
            self._is_shared = True
        return False

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
