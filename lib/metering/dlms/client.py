"""Asks a DLMS meter by logical or short names, over HDLC: IEC 62056-46, 62056-5-3, 62056-6-2.

    SNRM, AARQ          the link, the association; a password goes with it where one is set
    HLS                 where the owner asks for it: metering.dlms.high, which is not loaded else
    GET or READ         metering.dlms.asked_registers
    DISC                whatever has happened

    the password or a key is refused      not tried again for four hours, then for a day each time, as meters lock;
                                          nor where no verdict on it came, twice
    the link is lost                      what was read stays, a new attempt after a pause that grows to five minutes
"""

from metering.compat import const
from metering.dlms.asked_registers import AskedRegisters
from metering.dlms.asked_values import REASONS
from metering.dlms.association import AARE, LOW, NO_SECURITY, Association, request
from metering.dlms.axdr import Malformed
from metering.dlms.hdlc_link import MAX_APDU
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.xdlms import EXCEPTION, SERVICE_ERROR
from metering.failure_sentence import sentence_of
from metering.line import LISTEN, SWITCH, WAIT
from metering.listener import TELEGRAM
from metering.password_rest import PasswordRest

_DONE = "done"  # of a way in that has brought the values

_INTERVAL_S = const(60)
_LEAST_PAUSE_S = const(3)  # after a session by mode E meters are deaf for a sign-on
_PAUSES_S = (5, 10, 20, 40, 80, 160, 300)


class Conversation:
    """As metering.protocols has it. `listener` an AskedValues, `address` the sign-on's of mode E."""

    NAME = "dlms-client"
    REASONS = REASONS
    takes_options = True
    _keys: "tuple | None"
    _memory: "tuple | None"

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._address = address
        self._password = password.encode()
        self._rest = PasswordRest()
        self._keys = self._memory = None
        self.conformance = 0  # what the meter has granted, 24 bits (Green Book, 9.4.6.1); 0 by High
        self._has_way = False  # take_options() makes way, link and registers
        self.pause_s = interval_s or _INTERVAL_S
        self.password_withheld = False
        self.answers = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(REASONS, 0)
        self.explanation = self._detail = ""

    def take_keys(self, key, auth_key, title, reserve, step):
        """Keys of 16 bytes, `auth_key` or None; `title`: our system title. `reserve` and `step` as for OwnCipher
        (metering.dlms.own_cipher). take_options() is to come behind it."""
        self._keys = key, auth_key, title, reserve, step

    def keep_by(self, load, save):
        """What the meter has told of itself lasts over restarts: load() gives what save(list) was given last, or None.
        take_options() is to come behind it."""
        self._memory = load, save

    def take_options(self, text):
        """`text`: the owner's (metering.dlms.client_options). What is wrong with it is said, and not heeded."""
        from metering.dlms.client_options import way_by

        self._way = way = way_by(text, self._password, self._keys, self.pause_s)
        way_by = None
        self.pause_s = way.pause_s
        self.explanation = way.complaint
        self._link = link = way.link_class(way.meter, way.client, way.timeout_ms, way.retries)
        self._high = way.convinces(link, way.context) if way.convinces else None
        way.convinces = None
        self._registers = AskedRegisters(self._listener, link, way.context, way.jobs, self._memory)
        self._has_way = True

    @property
    def FAREWELL(self):
        """What lets the meter go where nobody asks on."""
        return self._link.farewell() if self._has_way and self._link.is_up else b""

    @property
    def is_resting(self):
        """Is the meter left alone for hours, as it has refused the password?"""
        return self._rest.rests_s > 0

    def run(self):
        """Generator of line actions, without end."""
        self.failed_in_a_row = 0
        while True:
            if self.is_resting:
                pause_s = min(self._rest.rests_s, _PAUSES_S[-1])
            elif (yield from self.read_out()):
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = self._way.reconnect_s or _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            if not self.password_withheld:  # pauses are cut short then
                self._rest.pass_time(pause_s)
                self._registers.wanted.rest(pause_s)
            yield WAIT, pause_s * 1000

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt; True when a telegram came. `answer`: none, as no search asks."""
        if not self._has_way:
            self.take_options("")
        self._detail = ""
        high = self._high
        outcome = yield from self._way_in()
        if not outcome and high and high.wants_counter:
            yield from high.learn_counter(self._registers.getter)
            if self._way.has_sign_on:
                yield WAIT, _LEAST_PAUSE_S * 1000
                outcome = yield from self._way_in()
        if not outcome:
            outcome = yield from self._associate_and_read()
            yield from self._link.disconnect()
        elif outcome is _DONE:
            outcome = ""
        has_read = self._listener.offer() and (yield LISTEN, self._listener, 0, 0) == TELEGRAM
        if outcome:
            self._note(outcome)
        elif has_read:
            self.explanation = self._registers.wanted.told
        return has_read

    def _way_in(self):
        self._listener.begin(b"")
        if not self._way.has_sign_on:
            yield SWITCH, self._listener.line or self._listener.LINES[0]
            return ""
        from metering.dlms.mode_e import SignOn, take_block

        sign_on = SignOn(self._address)
        yield from sign_on.run()
        self.answers = self.answers or sign_on.outcome not in ("no answer", "no identification")
        if sign_on.read_out:
            return _DONE if (yield from take_block(self._listener, sign_on.read_out)) else "bad read-out"
        return sign_on.outcome

    def _note(self, outcome):
        self.failures += 1
        self.failed[outcome] += 1
        sentence = sentence_of("metering.dlms.client_words", REASONS.index(outcome)) or outcome
        self.explanation = sentence % self._detail if "%" in sentence else sentence

    def _broken(self):
        """The reason of a link that is lost."""
        why = self._link.why
        self._detail = why or "its answers fail to come"
        return "bad data" if why or self.answers else "no answer"

    def _associate_and_read(self):
        link = self._link
        self.answers = False
        if not (yield from link.connect()):
            return self._broken()
        self.answers = True
        password, high, rest = self._way.password, self._high, self._rest
        is_secret = bool(password or high)
        if is_secret and not rest.may_be_sent(self.password_withheld):
            return ""
        if is_secret:
            rest.sent()
        if high:
            outcome = yield from high.associate()
            self._detail = high.detail
        elif (yield from link.request(
            request(self._way.context, LOW if password else NO_SECURITY, password, MAX_APDU),
        )):
            outcome = self._judge_association()
        else:
            outcome = None
        if outcome is None:
            rest.lost()
            return self._broken()
        if is_secret:
            rest.judged(False if outcome == "password refused" else None if outcome else True)
        if not outcome:
            outcome = yield from self._read_all()
        return self._broken() if outcome is None else outcome

    def _judge_association(self):
        association, link = Association(), self._link
        at = len(ANSWER_LLC)
        refused = "password refused" if self._way.password else "association refused"
        try:
            if link.apdu[at] in (EXCEPTION, SERVICE_ERROR):
                self._detail = "by an exception"
                return refused
            if link.apdu[at] != AARE:
                raise Malformed("no answer to the association")
            association.take(link.apdu, at, link.n)
            if association.result == 0 and association.data_at:
                association.take_initiate(link.apdu, association.data_at, association.data_end)
        except Malformed as error:
            self._detail = str(error)
            return "bad data"
        if association.result == 0 and association.diagnostic != 14:
            self.conformance = association.conformance
            return ""
        self._detail = association.verdict()
        return refused

    def _read_all(self):
        """The outcome with the values noted, None where the link is lost."""
        registers = self._registers
        outcome = yield from registers.read_all()
        self._detail = registers.detail
        return outcome


CONVERSATION = Conversation
