"""Asking an IEC 62056-21 meter: sign-on, baud change, read-out, and single registers in programming mode.

Source: IEC 62056-21:2002, 6.3 (modes), 6.4 (messages), 6.5 (reading in programming mode), annex B (wake-up). Reading
only: no write command exists here. Mode E (\\2) is answered as mode C; where no block comes then, as of a meter that
speaks HDLC alone, the owner is told. Messages are
metering.iec62056_21.exchange's, single registers metering.iec62056_21.programming_mode's, loaded when they are wanted.

    /?<address>! CR LF        -->        300 baud
                              <--        /XXXZ<identification> CR LF            Z tells the mode and the rate
    mode C: ACK 0 Z Y CR LF   -->        Y 0 read-out, 1 programming; both change to rate Z when its last bit has left
                              <--        STX data block ! CR LF ETX BCC         A: at 300, B: at rate Z, without an ACK
    NAK                       -->        repeat, where the BCC was wrong

What can go wrong, and what is done:

    no STX at the new rate, garbage there    the meter stayed at 300 (late or garbled ACK): heard out there, NAK
    not a byte at the new rate               heard at 300; a new attempt one rate lower, the next one at 300
    bad BCC, parity                          NAK, twice at the most; then a new attempt one rate lower
    no answer, no identification             counted, said; a new attempt after a pause that grows to five minutes
    password refused                         not tried again for four hours, then for a day each time, as meters lock;
                                             whole read-outs go on
    single registers refused twice           whole read-outs for as long as this runs

Where single registers take less time than the whole, the meter is asked for them after the first read-out, and for all
of it at every _FULL_EVERY th time: 318 s of an Iskra MT174 at 300 baud become some 45.
"""

from metering.compat import const
from metering.failure_sentence import sentence_of
from metering.iec62056_21.data_sets import identifies
from metering.iec62056_21.exchange import BREAK, GAP_MS, RATES, SIGN_ON, Exchange
from metering.line import ANSWER_BYTES, EXPECT, LISTEN, SWITCH, WAIT, Line
from metering.listener import NOTHING, REJECTED, TELEGRAM
from metering.unload import unload

_HIGHEST = const(6)  # of the baud characters of mode C
_REPEATS = const(2)  # NAKs for one block
_SLOW_MS = const(5000)  # by so much a block must outlast its registers one by one: another sign-on, and the trouble
_REGISTER_MS = const(900)  # the meter's reaction and ours,
_REGISTER_CHARACTERS = const(60)  # and what goes to and fro for one register
_REFUSALS = const(2)  # in a row: one may be a damaged answer
_FULL_EVERY = const(60)
_MOST_REGISTERS = const(16)
_INTERVAL_S = const(60)
_BATTERY_INTERVAL_S = const(3600)
_LEAST_PAUSE_S = const(3)  # after a read-out a meter stays at its rate for 1.5 s, deaf for a sign-on
_PAUSES_S = (5, 10, 20, 40, 80, 160, 300)
_FIRST_REST_S = const(14400)  # of a password that was refused
_LATER_REST_S = const(86400)

_DEAF = const(3)  # failures in a row after which the meter may have become one that pushes
_PUSH_FIRST_MS = const(3000)  # D0 meters push every 1 to 2 s
_PUSH_PERIOD_MS = const(11000)  # P1 up to DSMR 4: every 10 s
_PUSH_LOST_MS = const(60000)
_PUSH_BURSTS = const(2)  # the rest of a telegram and a whole one; else it is garbage of another rate
_PUSH_PIECES = const(24)  # where there is no silence between telegrams: 6 KB hold one of them
_BURST_GAP_MS = const(200)

_WORDS = "metering.iec62056_21.poll_words"
_UNKNOWN = const(6)  # of these, behind REASONS: how the one of "no data" ends
_OFFERS_MODE_E = const(7)
_MODE_E = b"\\2"  # in an identification: HDLC is spoken
# Behind each the meter is left alone for a time of _PAUSES_S; behind a refused password single registers rest.
_REASONS = ("no answer", "no identification", "no data", "bad data", "password refused", "registers refused")


class ReadOut:
    """Reads the whole block, and says which of its registers are worth asking for by themselves.

    `wanted` addresses (bytes), `naming` those of them that say which meter it is; `detail` what the sentence of
    "bad data" needs; `has_read`: a meter stays deaf for a while behind a block.
    """

    def __init__(self, exchange, listener):
        self._exchange = exchange
        self._listener = listener
        self._is_asked = False  # mode C: it waits for an acknowledge
        self.has_read = False
        self.wanted = []
        self.naming = []
        self.detail = ()
        self._chosen_of = None  # of which block they were chosen

    def read(self, answer):
        """Generator of line actions: one attempt; returns its outcome. `answer`: to a sign-on, b"": none was sent."""
        exchange, listener = self._exchange, self._listener
        listener.abandon()
        listener.needs_check = True
        character = yield from exchange.sign_on(answer)
        if character < 0:
            return exchange.outcome
        self._is_asked = 0x30 <= character <= 0x39
        if self._is_asked:
            offered = character - 0x30
            yield from exchange.acknowledge(offered if offered <= _HIGHEST else 0, 0)
        elif 0x41 <= character <= 0x46:  # mode B
            exchange.rate = character - 0x40
            yield SWITCH, Line(RATES[exchange.rate], 7, "E")
        repeats = 0
        while True:
            event = yield from self._take_block()
            if event == NOTHING and exchange.rate and self._is_asked:  # it may read out by itself, at 300
                exchange.limit.hear_nothing(exchange.rate)
                exchange.rate = 0
                yield SWITCH, SIGN_ON
                event = yield from self._take_block()
            if event == TELEGRAM:
                self.has_read = True
                return ""
            if event == NOTHING:
                return "no data"
            if repeats == _REPEATS:
                break
            repeats += 1
            yield from exchange.say(b"\x15")
        self.detail = (RATES[exchange.rate], repeats + 1, listener.reason)
        if self._is_asked:
            exchange.limit.lower(exchange.rate)
        return "bad data"

    def _take_block(self):
        """Hear one data block: TELEGRAM, REJECTED when it was damaged and has ended, NOTHING when none came."""
        listener, exchange = self._listener, self._exchange
        answer = yield from exchange.block_start()
        if not answer:
            return NOTHING
        if answer[-1] != exchange.stx:  # of a block at another rate the start is lost: let it end
            if self._is_asked and exchange.rate:
                exchange.limit.lower(exchange.rate)
                exchange.rate = 0
                yield SWITCH, SIGN_ON
            yield from exchange.hear_out()
            return REJECTED
        listener.abandon()
        exchange.feed(exchange.identification)
        exchange.feed(answer[-1:])
        event = yield LISTEN, listener, GAP_MS, GAP_MS
        if event == NOTHING:
            listener.abandon()
            return REJECTED
        if event == REJECTED and listener.reason not in ("checksum", "shape"):
            yield from exchange.hear_out()
        return event

    def choose_registers(self, are_answered):
        """What of the block in hand to ask for next time: nothing where that takes as long as the block did."""
        listener = self._listener
        block = listener.meter_id(), listener.length, self._exchange.rate, are_answered
        if block == self._chosen_of:
            return
        self._chosen_of = block
        self.wanted = []
        self.naming = []
        character_us = 10000000 // RATES[self._exchange.rate]
        left_ms = listener.length * character_us // 1000 - _SLOW_MS
        if not self._is_asked or not are_answered or left_ms < 0:
            return
        from metering.registers import describe  # some 2.5 KB, for a moment

        for reading in listener.readings():
            if reading.is_companion or len(self.wanted) == _MOST_REGISTERS:
                continue
            address = reading.address.encode()
            if identifies(reading.obis):
                self.naming.append(address)
            elif not describe(reading).known or reading.unit is None:
                continue
            self.wanted.append(address)
        describe = None
        unload("metering.registers")
        if left_ms < len(self.wanted) * (_REGISTER_MS + _REGISTER_CHARACTERS * character_us // 1000):
            self.wanted = []


class Conversation:
    """Asks one meter and hears it, for a driver of line actions (metering.line).

    `listener` an Iec62056_21; `address` the meter's, as printed on it, or "" for whichever it is; `password` for
    programming mode or ""; `wake_up` True for battery meters; `interval_s` between read-outs, 0: a minute, an hour
    where the meter counts heat, as those live on batteries.

    `failures` counts attempts that failed, `failed_in_a_row` those since a good one, `failed` all by reason;
    `explanation` says in one sentence why the last one did, "" when it was good.
    """

    NAME = "iec62056-21"
    REASONS = _REASONS
    FAREWELL = BREAK
    takes_options = False

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._exchange = Exchange(listener, address, wake_up)
        self._wake_up = wake_up
        self._read_out = ReadOut(self._exchange, listener)
        self._programming_mode = None
        self._password = password.encode()
        self._interval_s = interval_s
        self._least_pause_s = 0
        self._are_registers_answered = True  # one by one
        self._refusals = 0  # in a row
        self._password_rests_s = 0
        self.password_withheld = False  # for now
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    @property
    def identification(self):
        """The identification line heard last, without parity bits."""
        return bytes([byte & 0x7F for byte in self._exchange.identification])

    @property
    def offers_mode_e(self):
        """Does the identification heard last say that HDLC is spoken?"""
        return _MODE_E in self.identification

    @property
    def pause_s(self):
        """How long the meter is left alone between read-outs, by what is in the listener's hand."""
        pause_s = self._interval_s or (_BATTERY_INTERVAL_S if self._listener.heat else _INTERVAL_S)
        return max(pause_s, self._least_pause_s)

    @pause_s.setter
    def pause_s(self, least_s):
        self._least_pause_s = least_s

    @property
    def answers(self):
        """Has it identified itself, and not been mute since?"""
        return self._exchange.answers

    @answers.setter
    def answers(self, answers):
        self._exchange.answers = answers

    def _note(self, outcome, detail=()):
        """Count and explain what came of an attempt; was it good?"""
        if not outcome:
            return True
        if outcome in self.failed:
            self.failures += 1
            self.failed[outcome] += 1
            sentence = sentence_of(_WORDS, _REASONS.index(outcome))
            self.explanation = sentence % detail if sentence else outcome
        if outcome == "password refused":
            self._password_rests_s = _FIRST_REST_S if self.failed[outcome] == 1 else _LATER_REST_S
        return False

    # -- for ever

    def run(self):
        """Generator of line actions, without end: hears what the meter pushes; asks where it pushes nothing."""
        self.failed_in_a_row = 0
        singles = 0
        if self._read_out.has_read:
            yield WAIT, max(self.pause_s, _LEAST_PAUSE_S) * 1000
        while True:
            deaf = not self.answers and (self.failed_in_a_row % _DEAF == 0 or self.failed_in_a_row > _DEAF)
            if deaf and (yield from self._hear_pushes(self.failed_in_a_row)):
                self.failed_in_a_row = 0
                continue
            if self._read_out.wanted and self._are_registers_answered and singles < _FULL_EVERY and not self._rests():
                singles += 1
                good = yield from self.read_registers(self._read_out.wanted)
                if not good and (not self._are_registers_answered or self._rests()):
                    continue  # as a whole, at once
            else:
                singles = 0
                good = yield from self.read_out()
            if good:
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                if self._wake_up and self.failed_in_a_row >= len(_PAUSES_S):  # each attempt may wake it
                    pause_s = _BATTERY_INTERVAL_S
                self.failed_in_a_row += 1
                self.answers = self.answers and self.failed_in_a_row < _DEAF
            if not self.password_withheld:  # pauses are cut short then
                self._password_rests_s = max(0, self._password_rests_s - pause_s)
            yield WAIT, pause_s * 1000

    def _rests(self):
        """Is the password, where there is one, not to be used now?"""
        return self._password_rests_s or self._password and self.password_withheld

    def _hear_pushes(self, failures):
        """True when the meter has pushed a telegram and has now been silent for long; False when it pushes nothing.

        What pushes every 10 s only is waited for where the meter has not answered either.
        """
        listener = self._listener
        listener.needs_check = False
        first_ms = _PUSH_PERIOD_MS if failures else _PUSH_FIRST_MS
        deaf = True
        for line in listener.LINES:
            listener.abandon()
            yield SWITCH, line
            bursts = pieces = 0
            while bursts < _PUSH_BURSTS and pieces < _PUSH_PIECES:
                heard = yield EXPECT, None, first_ms, _BURST_GAP_MS
                if not heard:
                    break
                first_ms = _PUSH_PERIOD_MS
                deaf = False
                pieces += 1
                bursts += len(heard) < ANSWER_BYTES
                self._exchange.feed(heard)
                event = REJECTED
                while event == REJECTED:
                    event = yield LISTEN, listener, 0, 0
                if event == TELEGRAM:
                    self.explanation = ""
                    while event != NOTHING:
                        event = yield LISTEN, listener, _PUSH_LOST_MS, _PUSH_LOST_MS
                    return True
            if deaf:
                return False  # not a byte
        return False

    # -- one attempt

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt to read the whole block. Returns True when a telegram came.

        `answer`: what a search's question has brought already, the identification (iec_probe); b"": it is asked for.
        """
        reader = self._read_out
        outcome = yield from reader.read(answer)
        if not outcome:
            reader.choose_registers(self._are_registers_answered)
            if not self._password_rests_s:
                self.explanation = ""
        detail = reader.detail if outcome == "bad data" else ()
        if outcome == "no data":
            detail = sentence_of(_WORDS, _OFFERS_MODE_E if self.offers_mode_e else _UNKNOWN)
        return self._note(outcome, detail)

    def read_registers(self, addresses):
        """Generator of line actions: reads single registers, `addresses` (bytes, as printed), in programming mode.

        What was read is one telegram of the listener's. Returns True when there was one; else the meter is read as a
        whole from now on, or for hours when it was the password.
        """
        mode = self._programming_mode or self._load_programming_mode()
        if mode is None:
            outcome, why = "registers refused", "there is no memory for single registers"
        else:
            outcome = yield from mode.read(addresses, self._read_out.naming, self.password_withheld)
            why = mode.why
        if not outcome:
            self.explanation = ""
            self._refusals = 0
        elif outcome == "registers refused":
            self._refusals += 1
            self._are_registers_answered = self._refusals < _REFUSALS
        return self._note(outcome, why if outcome == "registers refused" else ())

    def _load_programming_mode(self):
        try:
            from metering.iec62056_21.programming_mode import ProgrammingMode

            self._programming_mode = ProgrammingMode(self._exchange, self._listener, self._password)
        except MemoryError:
            return None
        return self._programming_mode


CONVERSATION = Conversation
