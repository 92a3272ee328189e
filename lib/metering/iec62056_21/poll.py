"""Asking an IEC 62056-21 meter: sign-on, baud change, read-out, and single registers in programming mode.

Source: IEC 62056-21:2002, 6.3 (modes), 6.4 (messages), 6.5 (reading in programming mode), annex B (wake-up). Reading
only: no write command exists here. Mode E (\\2) is answered as mode C; HDLC is not spoken.

    /?<address>! CR LF        -->        300 baud
                              <--        /XXXZ<identification> CR LF            Z tells the mode and the rate
    mode C: ACK 0 Z Y CR LF   -->        Y 0 read-out, 1 programming; both change to rate Z when its last bit has left
                              <--        STX data block ! CR LF ETX BCC         A: at 300, B: at rate Z, without an ACK
    NAK                       -->        repeat, where the BCC was wrong

    programming               <--        SOH P0 STX (operand) ETX BCC
    SOH P1 STX (password) ETX BCC -->    only where a password is set
                              <--        ACK
    SOH R5 STX 1.8.0() ETX BCC    -->    R1 where the meter wants that
                              <--        STX 1.8.0(0012.345*kWh) ETX BCC        EOT for ETX: ACK brings the next part
    SOH B0 ETX BCC            -->        break

What can go wrong, and what is done:

    no STX at the new rate, garbage there    the meter stayed at 300 (late or garbled ACK): heard out there, NAK
    not a byte at the new rate               heard at 300; a new attempt one rate lower, the next one at 300
    bad BCC, parity                          NAK, twice at the most; then a new attempt one rate lower
    no answer, no identification             counted, said; a new attempt after a pause that grows to five minutes
    password refused                         not tried again for an hour, as meters lock; whole read-outs go on
    single registers refused twice           whole read-outs for as long as this runs

Where single registers take less time than the whole, the meter is asked for them after the first read-out, and for all
of it at every _FULL_EVERY th time: 318 s of an Iskra MT174 at 300 baud become some 45.
"""

from metering.characters import without_parity
from metering.compat import const
from metering.iec62056_21.data_block import identification_end
from metering.iec62056_21.data_sets import identifies
from metering.line import ANSWER_BYTES, EXPECT, LISTEN, SEND, SWITCH, WAIT, Line
from metering.listener import NOTHING, REJECTED, TELEGRAM
from metering.registers import describe

_SOH = const(0x01)
_STX = const(0x02)
_ETX = const(0x03)
_EOT = const(0x04)
_ACK = const(0x06)
_NAK = const(0x15)

BREAK = b"\x01B0\x03q"

_SIGN_ON = Line(300, 7, "E")
_RATES = (300, 600, 1200, 2400, 4800, 9600, 19200)  # by the baud character 0 to 6, or from A on (600)
_HIGHEST = const(6)

_ANSWER_MS = const(2300)  # t_r is 1,500 at the most, and the first character takes 33 at 300 baud; USB adds some
_GAP_MS = const(1700)  # t_a, between two characters: 1,500 at the most
_HEARD_OUT_MS = const(500)  # no meter met pauses that long inside a block
_SLICE_MS = const(100)
_LONGEST_MS = const(400000)  # a block of 9.5 KB takes 320 s at 300 baud
_REACTION_MS = const(230)  # before we answer: 200, or 20 where the maker's third letter is small
_QUICK_REACTION_MS = const(40)
_WAKE_UP = bytes(36)  # twice: 2.4 s of NUL at 300 baud
_WAKE_UP_PAUSE_MS = const(1600)
_JUNK = const(16)  # bytes before an STX: what a change of rate may leave on the line
_REPEATS = const(2)  # NAKs for one block
_PARTS = const(32)  # partial blocks of one answer
_MOST_BYTES = const(1024)  # of all single registers together

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
_PASSWORD_PAUSE_S = const(3600)

_DEAF = const(3)  # failures in a row after which the meter may have become one that pushes
_PUSH_FIRST_MS = const(3000)  # D0 meters push every 1 to 2 s
_PUSH_PERIOD_MS = const(11000)  # P1 up to DSMR 4: every 10 s
_PUSH_LOST_MS = const(60000)
_PUSH_BURSTS = const(2)  # the rest of a telegram and a whole one; else it is garbage of another rate
_PUSH_PIECES = const(24)  # where there is no silence between telegrams: 6 KB hold one of them
_BURST_GAP_MS = const(200)


def block_check(data):
    """BCC: the exclusive or of all bytes of `data`, which begins behind SOH or STX and ends with ETX or EOT."""
    bcc = 0
    for byte in data:
        bcc ^= byte
    return bcc


def command(code, operand):
    """The message SOH `code` STX `operand` ETX BCC; both are bytes."""
    body = code + b"\x02" + operand + b"\x03"
    return b"\x01" + body + bytes((block_check(body),))


def frame_end(buffer, n):
    """How many bytes an answer takes: ACK or NAK, or SOH or STX to the BCC; 0: not there yet. For EXPECT."""
    for i in range(n):
        first = buffer[i] & 0x7F
        if first in (_ACK, _NAK):
            return i + 1
        if first in (_SOH, _STX):
            for k in range(i + 1, n - 1):
                if buffer[k] & 0x7F in (_ETX, _EOT):
                    return k + 2
            return 0
    return 0


def _never(buffer, n):
    """For EXPECT: until there is a silence."""
    return 0


def _whatever(buffer, n):
    """For EXPECT: what is there."""
    return n


class Conversation:
    """Asks one meter and hears it, for a driver of line actions (metering.line).

    `listener` an Iec62056_21; `address` the meter's, as printed on it, or "" for whichever it is; `password` for
    programming mode or ""; `wake_up` True for battery meters; `interval_s` between read-outs, 0: a minute, an hour
    where the meter counts heat, as those live on batteries.

    `answers`: has it identified itself lately? `failures` counts attempts that failed, `failed_in_a_row` those since a
    good one, `failed` all by reason; `explanation` says in one sentence why the last one did, "" when it was good.
    """

    NAME = "iec62056-21"
    REASONS = ("no answer", "no identification", "no data", "bad data", "password refused", "registers refused")

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        while len(address) > 1 and address[:1] == "0":  # 6.3.2: leading zeros are not sent
            address = address[1:]
        self._request = b"/?" + address.encode() + b"!\r\n"
        self._password = password.encode()
        self._wake_up = wake_up
        self._interval_s = interval_s
        self._listener = listener
        self._identification = b""  # as received, from the / on
        self._stx = _STX
        self._parity = False
        self._reaction_ms = _REACTION_MS
        self._cap = _HIGHEST  # the rate not to exceed
        self._silent = False  # did the meter send nothing at all at the rate before?
        self._rate = 0
        self._asked = False  # mode C: it waits for an acknowledge
        self._body = b""  # what the last answer holds
        self._last = 0  # its last character, ETX or EOT
        self._wanted = []  # addresses worth asking for,
        self._naming = []  # and those of them that say which meter it is
        self._single = True  # does the meter answer single registers?
        self._refusals = 0  # in a row
        self._read = b"R5"
        self._password_rests_s = 0
        self.password_withheld = False  # for now
        self._has_read = False  # a block, by itself: a meter stays deaf for a while behind it
        self.answers = False  # has it identified itself, and not been mute since?
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    @property
    def pause_s(self):
        """How long the meter is left alone between read-outs, by what is in the listener's hand."""
        return self._interval_s or (_BATTERY_INTERVAL_S if self._listener.heat else _INTERVAL_S)

    def _fail(self, reason, explanation):
        self.failures += 1
        self.failed[reason] += 1
        self.explanation = explanation
        return False

    # -- for ever

    def run(self):
        """Generator of line actions, without end: hears what the meter pushes; asks where it pushes nothing."""
        self.failed_in_a_row = 0
        singles = 0
        if self._has_read:
            yield WAIT, max(self.pause_s, _LEAST_PAUSE_S) * 1000
        while True:
            deaf = not self.answers and (self.failed_in_a_row % _DEAF == 0 or self.failed_in_a_row > _DEAF)
            if deaf and (yield from self._hear_pushes(self.failed_in_a_row)):
                self.failed_in_a_row = 0
                continue
            if self._wanted and self._single and singles < _FULL_EVERY and not self._rests():
                singles += 1
                good = yield from self.read_registers(self._wanted)
                if not good and (not self._single or self._rests()):
                    continue  # as a whole, at once
            else:
                singles = 0
                good = yield from self.read_out()
            if good:
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
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
                heard = yield EXPECT, _never, first_ms, _BURST_GAP_MS
                if not heard:
                    break
                first_ms = _PUSH_PERIOD_MS
                deaf = False
                pieces += 1
                bursts += len(heard) < ANSWER_BYTES
                self._feed(heard)
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

    # -- the sign-on

    def _sign_on(self, answer=b""):
        """Up to the identification line, in `answer` if it has come; the baud character, or -1 when it failed."""
        self._rate = 0
        if not answer:
            if self._wake_up:
                yield SWITCH, _SIGN_ON
                yield SEND, _WAKE_UP
                yield SEND, _WAKE_UP
                yield WAIT, _WAKE_UP_PAUSE_MS
            yield SWITCH, _SIGN_ON
            yield SEND, self._request
            # the / may be held back, as an echo's, until the character behind it has come
            answer = yield EXPECT, self._identification_end, _ANSWER_MS + _GAP_MS, _GAP_MS
        end = self._identification_end(answer, len(answer))
        if not end:
            if not answer:
                self._fail(
                    "no answer",
                    "the meter does not answer: turn the head until its transmitter faces the meter's receiver; "
                    "some meters want their number (meter address), battery meters a wake-up",
                )
            else:
                self._fail(
                    "no identification",
                    "the meter answers, but not with an identification line: %d bytes were damaged; move the head, "
                    "keep light away" % len(answer),
                )
            return -1
        at = max(answer.rfind(b"/", 0, end), answer.rfind(b"\xaf", 0, end))
        self._identification = answer[at:end]
        self.answers = True
        self._parity = answer[at] == 0xAF
        self._stx = _STX | 0x80 if self._parity else _STX
        self._reaction_ms = _QUICK_REACTION_MS if answer[at + 3] & 0x20 else _REACTION_MS
        return answer[at + 4] & 0x7F

    def _identification_end(self, buffer, n):
        """For EXPECT: where an identification line ends, 0 for none yet."""
        for i in range(n):
            if buffer[i] in b"/\xaf":
                end = identification_end(buffer, i, n)
                if end > 0:
                    return end
        return 0

    def _acknowledge(self, offered, purpose):
        """ACK 0 Z Y at the old rate, and the change to rate Z (0 to 6), no higher than the cap."""
        self._rate = min(offered, self._cap)
        yield WAIT, self._reaction_ms
        yield SEND, b"\x060%d%d\r\n" % (self._rate, purpose)
        if self._rate:  # a late acknowledge may have met the block: nothing of it is dropped
            yield SWITCH, Line(_RATES[self._rate], 7, "E")

    # -- the whole block

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt to read the whole block. Returns True when a telegram came.

        `answer`: what a search's question has brought already, the identification (iec_probe); b"": it is asked for.
        """
        self._listener.abandon()
        self._listener.needs_check = True
        character = yield from self._sign_on(answer)
        if character < 0:
            return False
        self._asked = 0x30 <= character <= 0x39
        self._rate = 0
        if self._asked:
            offered = character - 0x30
            yield from self._acknowledge(offered if offered <= _HIGHEST else 0, 0)
        elif 0x41 <= character <= 0x46:  # mode B
            self._rate = character - 0x40
            yield SWITCH, Line(_RATES[self._rate], 7, "E")
        repeats = 0
        while True:
            event = yield from self._take_block()
            if event == TELEGRAM:
                self._read_well()
                return True
            if event == NOTHING and self._rate and self._asked:  # it may read out by itself, at 300
                if self._silent:
                    self._cap = 0
                else:
                    self._lower_cap()
                self._silent = not self._silent
                self._rate = 0
                yield SWITCH, _SIGN_ON
                event = yield from self._take_block()
                if event == TELEGRAM:
                    self._read_well()
                    return True
            if event == NOTHING or repeats == _REPEATS:
                break
            repeats += 1
            yield WAIT, self._reaction_ms
            yield SEND, b"\x15"
        if event == NOTHING:
            return self._fail("no data", "the meter identifies itself, but sends no data block")
        if self._asked:
            self._lower_cap()
        return self._fail(
            "bad data",
            "the data block at %d baud was damaged %d times (%s): move the head, keep light away"
            % (_RATES[self._rate], repeats + 1, self._listener.reason),
        )

    def _lower_cap(self):
        """The next attempt one rate lower; from the lowest to the highest again."""
        self._cap = self._rate - 1 if self._rate else _HIGHEST

    def _take_block(self):
        """Hear one data block: TELEGRAM, REJECTED when it was damaged and has ended, NOTHING when none came."""
        listener = self._listener
        answer = yield EXPECT, self._block_start, _ANSWER_MS, _GAP_MS
        if not answer:
            return NOTHING
        if answer[-1] != self._stx:  # of a block at another rate the start is lost: let it end
            if self._asked and self._rate:
                self._lower_cap()
                self._rate = 0
                yield SWITCH, _SIGN_ON
            yield from self._hear_out()
            return REJECTED
        listener.abandon()
        self._feed(self._identification)
        self._feed(answer[-1:])
        event = yield LISTEN, listener, _GAP_MS, _GAP_MS
        if event == NOTHING:
            listener.abandon()
            return REJECTED
        if event == REJECTED and listener.reason not in ("checksum", "shape"):
            yield from self._hear_out()
        return event

    def _block_start(self, buffer, n):
        """For EXPECT: up to the STX, or some bytes that hold none."""
        for i in range(n):
            if buffer[i] == self._stx:
                return i + 1
        return n if n >= _JUNK else 0

    def _hear_out(self):
        """Until the meter is silent, but no longer than the longest block takes: noise may have no end."""
        silent_ms = 0
        for _ in range(_LONGEST_MS // _SLICE_MS * _RATES[0] // _RATES[self._rate] + _JUNK):
            yield WAIT, _SLICE_MS
            silent_ms = 0 if (yield EXPECT, _whatever, 0, 0) else silent_ms + _SLICE_MS
            if silent_ms >= _HEARD_OUT_MS:
                return

    def _feed(self, data):
        at = 0
        while at < len(data):
            taken = self._listener.feed(data, at, len(data))
            if not taken:  # a line without an end: its listener will say so
                return
            at += taken

    def _read_well(self):
        """A whole block is in hand: how long it took, and what of it to ask for next time."""
        listener = self._listener
        self._has_read = True
        if not self._password_rests_s:
            self.explanation = ""
        self._wanted = []
        self._naming = []
        if not self._asked or not self._single:
            return
        for reading in listener.readings():
            if reading.is_companion or len(self._wanted) == _MOST_REGISTERS:
                continue
            address = reading.address.encode()
            if identifies(reading.obis):
                self._naming.append(address)
            elif not describe(reading).known or reading.unit is None:
                continue
            self._wanted.append(address)
        character_us = 10000000 // _RATES[self._rate]
        one_by_one_ms = len(self._wanted) * (_REGISTER_MS + _REGISTER_CHARACTERS * character_us // 1000)
        if listener.length * character_us // 1000 < _SLOW_MS + one_by_one_ms:
            self._wanted = []

    # -- single registers

    def read_registers(self, addresses):
        """Generator of line actions: reads single registers, `addresses` (bytes, as printed), in programming mode.

        What was read is one telegram of the listener's. Returns True when there was one; else the meter is read as a
        whole from now on, or for an hour when it was the password.
        """
        listener = self._listener
        character = yield from self._sign_on()
        if character < 0:
            return False
        if not 0x30 <= character <= 0x30 + _HIGHEST:
            yield from self._hear_out()
            return self._refused("the meter has no programming mode")
        yield from self._acknowledge(character - 0x30, 1)
        if (yield from self._hear_answer()) != _SOH or self._body[:2] != b"P0":
            yield from self._hear_out()
            yield SEND, BREAK  # it may have, unheard
            return self._refused("the meter does not enter programming mode")
        if self._password and not (yield from self._give_password()):
            return False
        listener.abandon()
        self._feed(without_parity(self._identification) if self._parity else self._identification)
        lines = bytearray()
        named = True
        for address in addresses:
            before = len(lines)
            yield from self._read_register(address, lines)
            if not lines:  # or does it want the other command?
                self._read = b"R1" if self._read == b"R5" else b"R5"
                yield from self._read_register(address, lines)
            if len(lines) == before and address in self._naming:
                named = False  # without it these would be another meter's
        yield WAIT, self._reaction_ms
        yield SEND, BREAK
        if lines and not named:
            return self._refused("the meter does not tell its number")
        if not lines:
            hint = "" if self._password else " (without a meter password)"
            return self._refused("the meter answers no single register" + hint)
        listener.needs_check = listener.compares_form = False  # each answer has had its own check
        lines.extend(b"!\r\n\x03")
        self._feed(b"\x02")
        self._feed(lines)
        self._feed(bytes((block_check(lines),)))
        event = yield LISTEN, listener, 0, 0
        listener.compares_form = True
        if event != TELEGRAM:
            return self._refused("single registers came damaged")
        self.explanation = ""
        self._refusals = 0
        return True

    def _refused(self, why):
        self._refusals += 1
        self._single = self._refusals < _REFUSALS
        return self._fail("registers refused", why + ": it is read as a whole")

    def _answer(self):
        """Hear an answer; its first character (SOH, STX, ACK, NAK), 0 where there is none that holds its check.

        _body is what stands between that and the ETX or EOT in _last.
        """
        answer = yield EXPECT, frame_end, _ANSWER_MS, _GAP_MS
        end = frame_end(answer, len(answer))
        at = 0
        while at < end and answer[at] & 0x7F not in (_SOH, _STX, _ACK, _NAK):
            at += 1
        answer = answer[at:end]
        if self._parity:
            answer = without_parity(answer)
        if not answer or max(answer) > 0x7F:
            return 0
        self._body = b""
        if answer[0] in (_SOH, _STX):
            if block_check(answer[1:]):  # with its BCC in it, it is 0
                return 0
            self._body = answer[1:-2]
            self._last = answer[-2]
        return answer[0]

    def _ask(self, message):
        """Send, and hear the answer; sent again where it came damaged, as a NAK may bring the answer before it.

        What comes late is heard out: values without an address would be taken for the next register's.
        """
        for _ in range(1 + _REPEATS):
            yield WAIT, self._reaction_ms
            yield SEND, message
            kind = yield from self._answer()
            if kind in (_STX, _SOH):
                return kind
            yield from self._hear_out()
        return 0

    def _hear_answer(self):
        """As _answer(); NAK brings it again where it was damaged."""
        for _ in range(_REPEATS):
            kind = yield from self._answer()
            if kind:
                return kind
            yield WAIT, self._reaction_ms
            yield SEND, b"\x15"
        return (yield from self._answer())

    def _give_password(self):
        yield WAIT, self._reaction_ms
        if self.password_withheld:
            yield SEND, BREAK
            return False
        yield SEND, command(b"P1", b"(" + self._password + b")")  # once, whatever comes
        if (yield from self._answer()) == _ACK:
            return True
        yield WAIT, self._reaction_ms
        yield SEND, BREAK
        self._password_rests_s = _PASSWORD_PAUSE_S
        return self._fail("password refused", "the meter refuses the password: it is not tried again for an hour")

    def _read_register(self, address, lines):
        """Ask for one register and add what it holds to `lines`; nothing where the meter knows no such register."""
        kind = yield from self._ask(command(self._read, address + b"()"))
        begun = len(lines)
        for _ in range(_PARTS):
            if kind != _STX or len(lines) > _MOST_BYTES:
                lines[begun:] = b""
                yield from self._hear_out()
                return
            lines.extend(self._body)
            if self._last == _ETX:
                break
            yield WAIT, self._reaction_ms
            yield SEND, b"\x06"
            kind = yield from self._answer()  # not asked again: it would be this part twice, or the one after next
        text = bytes(memoryview(lines)[begun:])
        opened = text.find(b"(")
        if text.find(b"(ERR") == opened or text.find(b"(#") == opened:  # (ERROR), (ERR1), (#02)
            lines[begun:] = b""
            return
        if opened == 0:  # the value alone
            lines[begun:] = b""
            lines.extend(address + text)
        lines.extend(b"\r\n")


CONVERSATION = Conversation
