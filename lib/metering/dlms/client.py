"""Asks a DLMS meter by logical or short names, over HDLC: IEC 62056-46, 62056-5-3, 62056-6-2.

    SNRM, AARQ          the link, the association; a password goes with it where one is set
    HLS                 where the owner asks for it: metering.dlms.high, which is not loaded else
    GET 42.0.0, 96.1.0  who the meter is
    GET clock           and for each register: scaler and unit (attribute 3) once an hour, then its value (attribute 2)
    DISC                whatever has happened

    a register is refused                 not asked for again for a day; all of them: for an hour, it may be busy
    a register holds nothing now          asked for again the next time
    the password or a key is refused      not tried again for four hours, then for a day each time, as meters lock;
                                          nor where no verdict on it came, twice
    a count is ten times the last         its scale is asked for again at once: the meter may have been set anew
    the link is lost                      what was read stays, a new attempt after a pause that grows to five minutes
"""

from metering.compat import const, signed
from metering.dlms.asked_values import REASONS
from metering.dlms.association import AARE, LN, LOW, NO_SECURITY, SN, Association, request
from metering.dlms.axdr import Malformed
from metering.dlms.getter import LOST, Getter
from metering.dlms.hdlc_link import MAX_APDU, HdlcLink
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.xdlms import EXCEPTION, SERVICE_ERROR
from metering.failure_sentence import sentence_of
from metering.line import LISTEN, SWITCH, WAIT
from metering.listener import TELEGRAM
from metering.reading import Reading
from metering.unload import unload

_DATA = const(1)  # classes
_REGISTER = const(3)
_CLOCK = const(8)
_VALUE = const(2)  # attributes
_SCALE = const(3)

_LOGICAL_NAME = b"\x00\x00\x2a\x00\x00\xff"
_NUMBER = b"\x00\x00\x60\x01\x00\xff"
_TIME = b"\x00\x00\x01\x00\x00\xff"
# C, D and E of what residential meters have: energies by tariff, powers, voltages, currents, power factor, frequency
_USUAL = (
    b"\x01\x08\x00\x02\x08\x00\x01\x08\x01\x01\x08\x02\x01\x08\x03\x01\x08\x04\x02\x08\x01\x02\x08\x02\x03\x08\x00"
    b"\x04\x08\x00\x01\x07\x00\x02\x07\x00\x10\x07\x00\x03\x07\x00\x04\x07\x00\x15\x07\x00\x29\x07\x00\x3d\x07\x00"
    b"\x20\x07\x00\x34\x07\x00\x48\x07\x00\x1f\x07\x00\x33\x07\x00\x47\x07\x00\x0d\x07\x00\x0e\x07\x00"
)

_UNKNOWN = const(0)  # of a register, as metering.dlms.meter_memory has them
_SCALED = const(1)
_REFUSED = const(2)

_LATER = const(2)  # a data-access-result: temporary failure
_ODD = const(251)  # a data-access-result of our own: data of another type
_DONE = "done"  # of a way in that has brought the values
_NO_UNIT = const(255)

_INTERVAL_S = const(60)
_LEAST_PAUSE_S = const(3)  # after a session by mode E meters are deaf for a sign-on
_PAUSES_S = (5, 10, 20, 40, 80, 160, 300)
_PASSWORD_PAUSE_S = const(14400)
_LONG_PASSWORD_PAUSE_S = const(86400)
_REFUSAL_S = const(86400)
_HOUR_S = const(3600)  # a meter may be set anew: what is no counter would be told ten times too high till then
_TIMEOUT_MS = const(2500)
_RETRIES = const(2)


class Wanted:
    """The registers that are read, the usual ones or those of `jobs`, and what is known of each. `memory`: where that
    lasts over restarts, as keep_by() has it, or None."""

    def __init__(self, jobs, memory=None):
        self.jobs = jobs
        self.memory = memory
        self.n = len(jobs) // 7 if jobs else len(_USUAL) // 3
        self.states = bytearray(self.n)
        self.exponents = bytearray(self.n)
        self.units = bytearray(self.n)
        self._heard = bytearray(self.n)  # how large the counts were, in bits
        self.kinds = bytearray(len(jobs) // 7)  # classes of the jobs, 0: not known
        self.has_clock = True  # that it tells
        self.is_kept = False  # over a restart, which of them are refused
        self.told = ""  # a sentence on the last that is not to be had, though it is wanted by name, or answers oddly
        self.refusal_s = _REFUSAL_S  # how long the refused ones rest yet,
        self._scales_s = _HOUR_S  # and how long the scales are believed

    def code(self, k):
        """The six bytes of register `k`."""
        if self.jobs:
            return self.jobs[7 * k : 7 * k + 6]
        return b"\x01\x00" + _USUAL[3 * k : 3 * k + 3] + b"\xff"

    def difference(self, k, count):
        """Is the `count` of register `k` so far from the last that the scale may be another? Tenfold always is."""
        last, self._heard[k] = self._heard[k], len(bin(abs(count)))
        return count and last and abs(self._heard[k] - last) > 2

    def rest(self, seconds):
        """So long nothing is asked."""
        self._scales_s -= seconds
        if self._scales_s <= 0:
            self._scales_s = _HOUR_S
            self.forget(_SCALED)
        self.refusal_s -= seconds
        if self.refusal_s <= 0:
            self.refusal_s = _REFUSAL_S
            self.has_clock = True
            self.is_kept = False
            self.told = ""
            self.forget(_REFUSED)

    def forget(self, state):
        """What is known to be _SCALED, or _REFUSED, is not any more."""
        if state == _SCALED:
            self.kinds = bytearray(len(self.kinds))
        for k in range(self.n):
            if self.states[k] == state:
                self.states[k] = _UNKNOWN


class Conversation:
    """As metering.protocols has it. `listener` an AskedValues, `address` the sign-on's of mode E."""

    NAME = "dlms-client"
    REASONS = REASONS
    takes_options = True

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._address = address
        self._password = password.encode()
        self.pause_s = interval_s or _INTERVAL_S
        self._keys = self._high = None
        self._has_sign_on = False
        self._number = self._naming = b""  # of the meter whose registers are known, and the code that tells it
        self._wanted = Wanted(b"")
        self._password_rests_s = 0
        self._password_pause_s = _PASSWORD_PAUSE_S
        self._is_password_good = False
        self._unjudged = 0  # times in a row that a password was sent and no verdict came
        self.password_withheld = False
        self.answers = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(REASONS, 0)
        self.explanation = self._detail = ""
        self._context = LN
        self._link = self._link_by("")
        self._getter = self._new_getter()

    def take_keys(self, key, auth_key, title, reserve, step):
        """Keys of 16 bytes, `auth_key` or None; `title`: our system title. `reserve` and `step` as for OwnCipher
        (metering.dlms.own_cipher). take_options() is to come behind it."""
        self._keys = key, auth_key, title, reserve, step

    def keep_by(self, load, save):
        """What the meter has told of itself lasts over restarts: load() gives what save(list) was given last, or None.
        take_options() is to come behind it."""
        self._wanted.memory = load, save

    def take_options(self, text):
        """`text`: the owner's (metering.dlms.client_options). What is wrong with it is said, and not heeded."""
        self._link = self._link_by(text)
        self._getter = self._new_getter()

    def _new_getter(self):
        if self._context == LN:
            return Getter(self._link)
        from metering.dlms.short_names import ShortNameGetter

        wanted = self._wanted
        codes = [wanted.code(k) for k in range(wanted.n)]
        return ShortNameGetter(self._link, codes + [_NUMBER, _LOGICAL_NAME, _TIME], wanted.memory)

    def _link_by(self, text):
        from metering.dlms.client_options import Options

        options = None
        convinces = None
        try:
            options = Options(text)
            if options.security or self._keys:
                from metering.dlms.high_setup import convinces_by

                convinces = convinces_by(options, self._password, self._keys)
        except ValueError as error:
            self.explanation = "meter_options: %s" % error
            options = Options("")
            self._password = b""  # nobody knows now how it is to be said
        self._has_sign_on = options.has_sign_on
        if not options.has_password:
            self._password = b""
        if options.jobs:
            self._wanted = Wanted(options.jobs, self._wanted.memory)
        given = options.numbers.get
        meter, client = options.addresses(bool(self._password))
        timeout_ms = max(given("timeout_ms", _TIMEOUT_MS), 100)
        self._context = SN if options.is_short else LN
        retries = given("retry_counter", _RETRIES)
        self.pause_s = (given("scan_rate_ms", self.pause_s * 1000) + 999) // 1000
        self._reconnect_s = given("reconnect_time", 0)  # behind a failure, 0: by itself
        link_class = HdlcLink
        if options.is_wrapped:
            try:
                from metering.on_computer.wrapper_link import WrapperLink as link_class
            except ImportError:
                self.explanation = "meter_options: mode=DLMS-WRAPPER goes over TCP alone: optoprobe read --tcp"
                return self._link_by("")
        Options = options = convinces_by = None
        unload("metering.dlms.client_options")
        link = link_class(meter, client, timeout_ms, retries)
        self._high = convinces(link, self._context) if convinces else None
        return link

    @property
    def FAREWELL(self):
        """What lets the meter go where nobody asks on."""
        return self._link.farewell() if self._link.is_up else b""

    @property
    def is_resting(self):
        """Is the meter left alone for hours, as it has refused the password?"""
        return self._password_rests_s > 0

    def run(self):
        """Generator of line actions, without end."""
        self.failed_in_a_row = 0
        while True:
            if self._password_rests_s:
                pause_s = min(self._password_rests_s, _PAUSES_S[-1])
            elif (yield from self.read_out()):
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = self._reconnect_s or _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            if not self.password_withheld:  # pauses are cut short then
                self._password_rests_s = max(0, self._password_rests_s - pause_s)
                self._wanted.rest(pause_s)
            yield WAIT, pause_s * 1000

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt; True when a telegram came. `answer`: none, as no search asks."""
        self._detail = ""
        outcome = yield from self._way_in()
        if not outcome and self._high and self._high.wants_counter:
            yield from self._high.learn_counter(self._getter)
            if self._has_sign_on:
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
            self.explanation = self._wanted.told
        return has_read

    def _way_in(self):
        self._listener.begin(b"")
        if not self._has_sign_on:
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
        if outcome == "password refused":
            self._let_password_rest()

    def _let_password_rest(self):
        self._password_rests_s = self._password_pause_s
        self._password_pause_s = _LONG_PASSWORD_PAUSE_S

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
        password, high = self._password, self._high
        is_secret = bool(password or high)
        if is_secret and self.password_withheld and not self._is_password_good:
            return ""
        if is_secret:
            self._unjudged += 1
        if high:
            outcome = yield from high.associate()
            self._detail = high.detail
        elif (yield from link.request(
            request(self._context, LOW if password else NO_SECURITY, password, MAX_APDU),
        )):
            outcome = self._judge_association()
        else:
            outcome = None
        if outcome is None:
            if self._unjudged > 1 and not self._is_password_good:
                self._unjudged = 0
                self._let_password_rest()
            return self._broken()
        self._unjudged = 0
        if outcome:
            return outcome
        self._is_password_good = is_secret
        return (yield from self._read_all())

    def _judge_association(self):
        association, link = Association(), self._link
        at = len(ANSWER_LLC)
        refused = "password refused" if self._password else "association refused"
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
            return ""
        self._detail = association.verdict()
        return refused

    def _read_all(self):
        listener = self._listener
        number = b""
        if not self._number:  # it may be another meter each time
            self._getter.forget()
            self._wanted.forget(_SCALED)
        naming, self._naming = self._naming, b""
        for code in (naming,) if naming else (_NUMBER, _LOGICAL_NAME):
            result = yield from self._getter.get(_DATA, code, _VALUE)
            if result == LOST:
                return self._broken()
            number = self._getter.text() if not result else b""
            if number:
                self._naming = code
                break
        if naming and not number:  # its values would be another meter's
            self._getter.forget()
            self._detail = "it does not tell its number"
            return "bad data"
        if self._number and number != self._number and self._context == SN:  # what is called so is told anew
            self._getter.forget()
            self._number = self._naming = b""
            self._detail = "another meter is there"
            return "bad data"
        if number != self._number:
            self._number = number
            self._wanted = wanted = Wanted(self._wanted.jobs, self._wanted.memory)
            if wanted.memory:
                from metering.dlms.meter_memory import recall_refused

                recall_refused(wanted.memory, wanted, number)
        listener.begin(number)
        n_read = 0
        wanted = self._wanted
        register_refusal = None
        for k in range(wanted.n):
            if wanted.states[k] == _REFUSED:
                continue
            result = yield from self._read_register(k)
            if result == LOST:
                return self._broken()
            if result == _LATER:
                continue
            if result:
                wanted.states[k] = _REFUSED
                wanted.is_kept = False
                if wanted.jobs or result == _ODD:
                    from metering.dlms.result_words import register_refusal

                    wanted.told = register_refusal(wanted.code(k), result)
            else:
                n_read += 1
        if register_refusal:
            register_refusal = None
            unload("metering.dlms.result_words")
        if not n_read:
            wanted.refusal_s = min(wanted.refusal_s, _HOUR_S)
            return "nothing readable"
        if wanted.memory and not wanted.is_kept:
            from metering.dlms.meter_memory import keep_refused

            keep_refused(wanted.memory, wanted, number)
        if not wanted.has_clock:
            return ""
        result = yield from self._getter.get(_CLOCK, _TIME, _VALUE)
        wanted.has_clock = result in (0, LOST, _LATER)
        if result == 0:
            clock = self._getter.text()
            if len(clock) == 12 and clock[0] != 0xFF and clock[2] <= 12 and clock[3] <= 31 and clock[5] < 24:
                listener.clock = clock
        return self._broken() if result == LOST else ""

    def _read_register(self, k):
        """Read register `k` and note its value; a data-access-result where there is none to be had."""
        wanted, getter = self._wanted, self._getter
        if wanted.jobs:
            from metering.dlms.job_register import read

            return (yield from read(getter, wanted, k, self._listener))
        code, value, power = wanted.code(k), None, 0
        while True:
            if wanted.states[k] == _UNKNOWN:
                result = yield from getter.get(_REGISTER, code, _SCALE)
                if result:
                    return result
                if not getter.take(wanted, k):
                    return _ODD
                wanted.states[k] = _SCALED
            if value is not None:
                break
            result = yield from getter.get(_REGISTER, code, _VALUE)
            if result:
                return result
            value, power = getter.value(), getter.exponent
            if value is None:
                return _LATER if getter.is_nothing() else _ODD
            if getter.is_nothing() or not wanted.difference(k, value):
                break
            wanted.states[k] = _UNKNOWN
        unit = wanted.units[k]
        power += signed(wanted.exponents[k], 8)
        self._listener.note(Reading(code, value, power, None if unit == _NO_UNIT else unit))
        return 0


CONVERSATION = Conversation
