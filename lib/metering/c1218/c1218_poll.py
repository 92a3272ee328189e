"""Asking a meter in ANSI C12.18: a session that only reads. Packets: metering.c1218.psem_frame.

    20                        who are you?
    60 bytes, packets         of no NES meter: longer replies may come
    50 user id, user          logon
    51 password               where one is set: sent once in a session, never a second time behind a refusal
    3F table, offset, count   the tables of metering.c1218.nes_tables, of others those of c1219_tables
    30 table                  of a meter that gives no parts of tables
    52, 21                    logoff, terminate

A refused password is not tried again for four hours, then for a day each time, as meters lock.
"""

from metering.c1218 import nes_tables
from metering.c1218.psem_link import PsemLink
from metering.c1218.psem_request import (
    IDENT,
    LOGOFF,
    TERMINATE,
    agreed,
    logon,
    negotiate,
    read,
    read_part,
    refusal,
    security,
    table_data,
)  # fmt: skip
from metering.compat import const
from metering.failure_sentence import sentence_of
from metering.line import LISTEN, SWITCH, WAIT
from metering.listener import TELEGRAM
from metering.password_rest import PasswordRest

_INTERVAL_S = const(60)
_LEAST_PAUSE_S = const(10)  # a channel that is idle for 6 s is closed by the meter: behind a session cut off, too
_PAUSES_S = (30, 60, 120, 300)
_PACKET_BYTES = const(128)
_PACKETS = const(8)
_ALONE_BYTES = const(56)  # of data of a reply, where nothing was agreed upon
_TABLE_BYTES = const(4)  # of a reply beside a table's bytes
_MOST_PART = const(240)
_MOST_USER = const(10)
_MOST_PASSWORD = const(20)

_REASONS = (
    "no answer", "no identification", "bad data", "service refused", "no values", "password refused", "bad settings"
)  # fmt: skip


class Conversation:
    """Asks one meter, for a driver of line actions (metering.line): see metering.protocols for what it tells.

    `address` a user id, or user id:user, "" for 0 without a user; `password` "" for none; `interval_s` between
    read-outs, 0: a minute.
    """

    NAME = "c1218"
    REASONS = _REASONS
    FAREWELL = b""
    takes_options = False

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        self._listener = listener
        self._link = PsemLink()
        self._password = password.encode()
        self._user_id = -1
        number, _, user = address.partition(":")
        self._user = user.encode()
        if not number.strip("0123456789") and len(number) < 6 and int(number or "0") < 65536:
            self._user_id = int(number or "0")
        if len(self._user) > _MOST_USER or len(self._password) > _MOST_PASSWORD:
            self._user_id = -1
        self._rest = PasswordRest()
        self._detail = ""
        self._reply_bytes = _ALONE_BYTES
        self.pause_s = interval_s or _INTERVAL_S
        self.answers = False
        self.password_withheld = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

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
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            if not self.password_withheld:  # pauses are cut short then
                self._rest.pass_time(pause_s)
            yield WAIT, pause_s * 1000

    def read_out(self, answer=b""):
        """Generator of line actions: one session. Returns True when a telegram came, of the tables that the meter
        gave. `answer` is not looked at: no search asks."""
        listener = self._listener
        link = self._link
        listener.begin("")
        self.answers = link.answers = False
        self._detail = ""
        if self._user_id < 0:
            self._note("bad settings")
            return False
        yield SWITCH, listener.line or listener.LINES[0]
        link.begin()
        outcome = yield from self._session()
        self.answers = link.answers
        if outcome is None:
            return False
        has_read = listener.offer() and (yield LISTEN, listener, 0, 0) == TELEGRAM
        if outcome:
            self._note(outcome)
        else:
            self.explanation = ""
        return has_read

    def _session(self):
        """ "" when every table came, else the reason why not; None where the password was to be withheld."""
        link = self._link
        if not (yield from link.request(IDENT)):
            self._detail = link.why or "nothing that is a packet"
            return "no identification" if link.why or link.answers else "no answer"
        ident = link.reply
        if ident[0]:
            self._detail = refusal(ident[0])
            return "no identification"
        outcome = yield from self._past_ident(ident)
        yield from link.request(TERMINATE, 1)
        return outcome

    def _past_ident(self, ident):
        if self._password and not self._rest.may_be_sent(self.password_withheld):
            return None
        is_nes = nes_tables.is_nes(ident)
        if not is_nes:
            if not (yield from self._link.request(negotiate(_PACKET_BYTES, _PACKETS))):
                self._detail = self._link.why or "nothing came"
                return "bad data"
            self._reply_bytes = max(_ALONE_BYTES, agreed(self._link.reply))
        outcome = yield from self._ask(logon(self._user_id, self._user))
        if outcome:
            return outcome
        if self._password:
            outcome = yield from self._secure()
        if not outcome and not is_nes:
            outcome = yield from self._read_tables()
        elif not outcome:
            self._listener.begin(nes_tables.number_of(ident))
            for table, count in nes_tables.WANTED:
                failed = yield from self._take(table, count)
                outcome = failed or outcome
                if failed == "bad data":
                    break
        if outcome != "bad data":
            yield from self._link.request(LOGOFF, 1)
        return outcome

    def _secure(self):
        rest = self._rest
        rest.sent()
        outcome = yield from self._ask(security(self._password), 1)
        if outcome == "bad data":
            rest.lost()
            return outcome
        rest.judged(not outcome)
        return "password refused" if outcome else ""

    def _ask(self, request, attempts=3):
        """ "" when the meter agrees."""
        link = self._link
        if not (yield from link.request(request, attempts)):
            self._detail = link.why or "nothing came"
            return "bad data"
        why = refusal(link.reply[0])
        if not why:
            return ""
        self._detail = why
        return "service refused"

    def _take(self, table, count):
        outcome = yield from self._ask(read_part(table, 0, count))
        if outcome:
            return outcome
        data = table_data(self._link.reply)
        if data is None or len(data) != count:
            self._detail = "table %d" % table
            return "bad data"
        for reading in nes_tables.readings(table, data):
            self._listener.note(reading)
        return ""

    def _read_tables(self):
        """Of a meter whose tables say what they hold."""
        from metering.c1218.c1219_tables import C1219Tables

        listener = self._listener
        tables = C1219Tables()
        while tables.table >= 0:
            outcome = yield from self._take_parts(tables)
            if outcome:
                return outcome
        listener.name(tables.number)
        listener.clock = tables.clock
        for reading in tables.readings:
            listener.note(reading)
        self._detail = tables.why
        return "" if tables.readings else "no values"

    def _take_parts(self, tables):
        number = tables.table
        offset, count, step = tables.wanted()
        start, end = offset, offset + count
        data = bytearray()
        while True:
            part = min(end - start, (min(self._reply_bytes - _TABLE_BYTES, _MOST_PART) // step) * step)
            failed = yield from self._ask(read_part(number, start, part) if count else read(number))
            if failed == "service refused":
                tables.take(None, 0, self._detail)
                return ""
            if failed:
                return failed
            got = table_data(self._link.reply)
            if got is None or count and len(got) != part:
                self._detail = "table %d" % number
                return "bad data"
            data.extend(got)
            start += part
            if start >= end:
                tables.take(data, offset)
                return ""

    def _note(self, reason):
        self.failures += 1
        self.failed[reason] += 1
        sentence = sentence_of("metering.c1218.c1218_words", _REASONS.index(reason)) or reason
        self.explanation = sentence % self._detail if "%" in sentence else sentence


CONVERSATION = Conversation
