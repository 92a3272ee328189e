"""What a heat, water or gas meter answers over M-Bus: the frame (EN 13757-2:2018, 5.5.4), its header, its readings.

    68 | L | L | 68 | C | A | CI | header | records | checksum | 16    checksum: sum of the L bytes before it

    CI 72  number 4, maker 2, version 1, medium 1, access number 1, status 1, configuration 2, then records
       76  the same, high bytes first
       7A  access number 1, status 1, configuration 2, then records        78  records alone
       73  fixed structure: number 4, access number 1, status 1, medium and units 2, two counters of 4 bytes
       70  the meter reports an error; 6E behind a header as 7A's, 6F behind one as 72's

The checksum has eight bits: one damaged frame of 256 passes it. So the whole frame must make sense down to its last
byte, or nothing of it is told; and whoever can ask twice holds one answer against the next (hold()): of two whose
bytes are the same but for values, those that are equal in both are told. An encrypted answer is named, and read where
there is the meter's key: metering.mbus.answer_cipher, which also knows the layer of its own (CI 90) before the header.
Somebody on the way (a concentrator, whoever recorded it) may have deciphered it and left the header as it was.
"""

from metering.compat import SLICES_ARE_CHEAP, const, hex_text, signed
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.mbus import quantities
from metering.mbus.records import Malformed, Record, bcd, number_of, walk
from metering.reading import Reading

BUFFER_SIZE = const(512)  # the longest frame has 261 bytes
_START = const(0x68)
_STOP = const(0x16)
_LEAST = const(3)  # C, A, CI
_REPLY = const(0x08)  # RSP_UD, less ACD and DFC
_REPLY_BITS = const(0xCF)
_LONG = const(0x72)
_HIGH_FIRST = const(0x76)
_SHORT = const(0x7A)
_NONE = const(0x78)
_FIXED = const(0x73)
_ERROR = const(0x70)
_ERROR_SHORT = const(0x6E)
_ERROR_LONG = const(0x6F)
_LAYER = const(0x90)
_CI_AT = const(6)
_FIXED_BYTES = const(16)
_MODE = const(0x1F)  # of the configuration field: 0 is in the clear, what follows are ciphers or may be
_FILLER = const(0x2F)  # two of them prove that deciphered bytes are right (EN 13757-7)
_MODE_5 = const(5)
_MODE_7 = const(7)
_FIRST_NO_MODE = const(16)  # from here on none is known: older meters have other things in these bytes
_FIXED_MEDIA = b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x03\x04\x06\x07\x08\x00\x00"  # 9 to 13: mode 2 of 3, 4, 6, 7, 8
_BINARY = const(0x01)  # bit of the fixed structure's status: counters in signed binary, else in BCD
_NOT_CURRENT = const(0x02)  # another: they are of a fixed date
_MOST_NAME = const(120)  # letters of a printed name


class RecordReading(Reading):
    """A reading with its place: `storage`, `tariff`, `subunit`, and `function` in a word. `printed_name` for people."""

    def __init__(self, record, medium):
        obis = None
        if not (record.storage or record.subunit or record.function) and (record.plain or record.qualified):
            obis = quantities.obis_of(medium, record.name, record.unit, record.tariff, record.qualified)
        self.storage = record.storage
        self.tariff = record.tariff
        self.subunit = record.subunit
        self.function = quantities.FUNCTIONS[record.function]
        unit = quantities.unit_code(record.unit)
        name = record.name + record.qualified
        self.printed_name = (name[:1].upper() + name[1:])[:_MOST_NAME]
        if obis:
            Reading.__init__(self, obis, record.value, record.exponent, unit)
            return
        if record.function:
            name += ", " + self.function
        for word, number in (("storage", record.storage), ("tariff", record.tariff), ("subunit", record.subunit)):
            if number:
                name += ", %s %d" % (word, number)
        name = name[:_MOST_NAME]
        self.address = name
        self.printed_unit = record.unit
        code = b"?" + name.encode()
        Reading.__init__(self, code + b"?" if len(code) == 6 else code, record.value, record.exponent, unit)


class MeterReply(Listener):
    """Listener for answers. Of the one in hand: `without_value` records that tell none, `more` is another to be asked
    for, `status` the header's byte, 0 without one."""

    NAME = "mbus"
    LINES = (Line(2400, 8, "E"), Line(300, 8, "E"), Line(9600, 8, "E"))
    SOURCE = "EN 13757-2, EN 13757-3"
    REASONS = (
        "checksum",
        "no stop byte",
        "cut off",
        "no answer",
        "error of the meter",
        "another meter",
        "encrypted",
        "key wrong",
        "structure",
        "changed",
    )
    sealed = False
    vouched = False
    takes_keys = True

    def __init__(self, size=BUFFER_SIZE):
        Listener.__init__(self, size)
        self._at = self._end = 0  # of the records
        self._ci = 0
        self._ci_at = _CI_AT
        self.asked_address = 0  # who was asked, 1 to 250; 0: whoever it is,
        self.asked_number = ""  # or the eight digits of its number, F for any. Another's answer is refused
        self._cipher = None
        self._is_to_hold = False
        self._held = b""  # the answer before, from its header's CI to the byte before its checksum

    def set_keys(self, key, auth_key=None):
        """The meter's key, 16 bytes or None; write-only. There is no second one here."""
        self._cipher = None
        if key is not None:
            from metering.mbus.answer_cipher import AnswerCipher

            self._cipher = AnswerCipher(key)

    def hold(self):
        """Keep the next good answer, and tell of the one behind it what both say."""
        self._is_to_hold = True
        self._held = b""

    @property
    def holds(self):
        """Is there an answer for the next one to be held against?"""
        return bool(self._held)

    def abandon(self):
        self._release()
        self._skip_noise(self._n)
        self._is_to_hold = False
        self._held = b""

    def _reset_telegram(self):
        Listener._reset_telegram(self)
        self.number = self.letters = ""
        self.medium = self.version = self.status = self.without_value = 0
        self.more = False
        self._clock = None

    def meter_id(self):
        return "%s-%s-%d-%d" % (self.letters, self.number, self.version, self.medium) if self.number else ""

    def printed_id(self):
        return self.number

    def maker(self):
        return self.letters

    def date_time(self):
        """The meter's clock as (year, month, day, hour, minute, second, None), None where it sends none."""
        return self._clock

    def _judge(self):
        buf = self._buf
        n = self._n
        at = 0
        while at < n and buf[at] != _START:
            at += 1
        while at < n:
            if n - at < 4:
                if not self._ended:
                    break
            elif buf[at + 3] == _START and buf[at + 1] == buf[at + 2] and buf[at + 1] >= _LEAST:
                break
            at += 1
            while at < n and buf[at] != _START:
                at += 1
        if at:
            self._skip_noise(at)
            n = self._n
        if n < 4:
            return NOTHING
        end = 4 + buf[1]
        if n < end + 2:
            return self._fail("cut off", "%d of %d bytes" % (n, end + 2)) if self._ended else NOTHING
        if buf[end + 1] != _STOP:
            return self._fail("no stop byte", "%02x in its place" % buf[end + 1])
        total = sum(self._view[4:end]) & 0xFF
        if total != buf[end]:
            return self._fail("checksum", "%02x sent, %02x counted" % (buf[end], total))
        self._reset_telegram()
        return self._content(end)

    def _fail(self, reason, detail):
        return self._reject(reason, detail, 1)

    def _content(self, end):
        """Judge what the frame up to `end`, its checksum, holds."""
        buf = self._buf
        whole = end + 2
        ci_at = _CI_AT
        if buf[4] & _REPLY_BITS != _REPLY:
            return self._reject("no answer", "control byte %02x" % buf[4], whole)
        if self.asked_address and buf[5] != self.asked_address:  # an answer has its sender's (EN 13757-2)
            return self._reject("another meter", "its address is %d" % buf[5], whole)
        if buf[ci_at] == _LAYER:
            if self._cipher is None:
                return self._reject("encrypted", "CI 90", whole)
            ci_at = self._cipher.read_layer(buf, ci_at, end)
            if not ci_at:
                return self._reject("structure", "CI 90", whole)
        ci = self._ci = buf[ci_at]
        self._ci_at = ci_at
        if ci in (_ERROR, _ERROR_SHORT, _ERROR_LONG):
            from metering.mbus.application_error import words

            at = ci_at + (1 if ci == _ERROR else 5 if ci == _ERROR_SHORT else 13)
            return self._reject("error of the meter", words(bytes(buf[at:end])), whole)
        is_turned = ci == _HIGH_FIRST
        if is_turned:
            ci = self._ci = _LONG
        head = 12 if ci == _LONG else 4 if ci == _SHORT else 0 if ci == _NONE else 8 if ci == _FIXED else -1
        if head < 0:
            return self._reject("structure", "CI %02x" % ci, whole)
        n = end - ci_at - 1
        at = end - n + head
        if at > end or ci == _FIXED and n != _FIXED_BYTES:
            return self._reject("structure", "%d bytes behind CI %02x" % (n, ci), whole)
        if is_turned:
            from metering.mbus.high_byte_first import turn_around

            try:
                turn_around(buf, ci_at, at, end)
            except Malformed as error:
                return self._reject("structure", str(error), whole)
        if head:
            self.status = buf[at - 3]
        if head > 4:
            self.number = hex_text(bytes((buf[ci_at + 4], buf[ci_at + 3], buf[ci_at + 2], buf[ci_at + 1]))).upper()
        for i in range(len(self.asked_number)):
            if self.asked_number[i] not in "Ff" and self.asked_number[i] != self.number[i : i + 1]:
                return self._reject("another meter", "its number is %s" % (self.number or "not told"), whole)
        if ci == _LONG:
            self.letters = quantities.maker_letters(buf[ci_at + 5] | buf[ci_at + 6] << 8)
            self.version = buf[ci_at + 7]
            self.medium = buf[ci_at + 8]
        elif ci == _FIXED:
            self.medium = _FIXED_MEDIA[buf[at - 2] >> 6 | (buf[at - 1] >> 6) << 2]
        if ci in (_LONG, _SHORT):
            mode = buf[at - 1] & _MODE
            records_at = self._cipher is None and _deciphered_at(buf, at, end, mode)
            if records_at:
                at = records_at
            elif 0 < mode < _FIRST_NO_MODE:
                reason = "encrypted"
                if ci == _LONG and self._cipher is not None:
                    at, reason = self._cipher.open(buf, ci_at, at, end)
                if reason:
                    return self._reject(reason, "mode %d" % mode, whole)
        self._at = at
        self._end = end
        try:
            if self._is_to_hold:
                for _ in self._records():
                    pass
                self._held = bytes(self._view[ci_at:end])
                self._is_to_hold = False
                self._skip_noise(whole)
                return NOTHING
            if self._held and not self._has_same_form():
                return self._reject("changed", "between two answers", whole)
            for record in self._records():
                if self._has_changed(record):
                    continue
                if record.value is None:
                    self.without_value += 0 if record.is_tail else 1
                else:
                    self.n_values += 1
                if record.more:
                    self.more = True
                if record.name == "time" and record.date and self._clock is None and _is_now(record):
                    self._clock = record.date + (None,)
        except Malformed as error:
            self._reset_telegram()
            return self._reject("structure", str(error), whole)
        return self._accept(whole)

    def _has_same_form(self):
        """Are held and new answer equal but for values and access number?"""
        buf, held = self._buf, self._held
        begin = self._ci_at
        if len(held) != self._end - begin:
            return False
        free = begin + (9 if self._ci == _LONG else 1 if self._ci == _SHORT else 5 if self._ci == _FIXED else 0)
        at = begin
        for record in self._records():
            for i in range(at, record.at):
                if buf[i] != held[i - begin] and i != free:
                    return False
            at = record.end
        for i in range(at, self._end):
            if buf[i] != held[i - begin]:
                return False
        return True

    def _has_changed(self, record):
        """Has the record another value than in the answer before?"""
        held = self._held
        begin = self._ci_at
        return bool(held) and self._buf[record.at : record.end] != held[record.at - begin : record.end - begin]

    def _records(self):
        return self._counters() if self._ci == _FIXED else self._walk()

    def _walk(self):
        return walk(self._buf, self._at, self._end)

    def _counters(self):
        """The two counters of a fixed structure, as Records."""
        buf = self._buf
        first = buf[self._at - 2] & 0x3F
        for k in range(2):
            code = buf[self._at - 2 + k] & 0x3F
            record = Record()
            record.storage = 1 if self.status & _NOT_CURRENT else 0
            if k and code == quantities.SAME_BUT_HISTORIC:
                code = first
                record.storage = 1
            elif k:
                record.subunit = 1
            record.exponent, record.unit, record.name = quantities.fixed_unit(code)
            at = record.at = self._at + 4 * k
            record.end = at + 4
            if record.name != "?":
                record.value = signed(number_of(buf, at, at + 4), 32) if self.status & _BINARY else bcd(buf, at, at + 4)
            yield record

    def readings(self):
        medium = self.medium
        for record in self._records():
            if record.value is not None and not self._has_changed(record):
                yield RecordReading(record, medium)

    def published_readings(self):
        """The current values: what a meter has stored, and what it measured in an error, is history."""
        for record in self._records():
            is_current = not (record.storage or record.function == 3 or record.is_tail or record.is_time)
            if is_current and record.value is not None and not self._has_changed(record):
                yield RecordReading(record, self.medium)


def _deciphered_at(buf, at, end, mode):
    """Where the records begin of what modes 5 and 7 would encipher and nobody has, or not any more; 0 where they do."""
    if mode == _MODE_7:
        at += 1  # its configuration has a third byte
    elif mode != _MODE_5:
        return 0
    return at if at + 2 <= end and buf[at] == buf[at + 1] == _FILLER else 0


def _is_now(record):
    return record.plain and not (record.storage or record.function or record.tariff or record.subunit)


LISTENER = MeterReply
if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.mbus_heads import with_heads

    LISTENER = with_heads(MeterReply, RecordReading)
