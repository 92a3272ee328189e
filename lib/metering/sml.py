"""SML, the Smart Message Language: what German meters send by themselves on the optical port.

Source: BSI TR-03109-1, annex "Smart Message Language" (SML 1.04): 5.2 messages, 6 binary encoding, 8 transport v1.
Left out on purpose: transport version 2 (no meter sends it), requests, and the CRC of each message (it lies inside the
transport's and adds nothing; anonymised dumps have it wrong).

The transport, hunted byte by byte because a real stream loses bytes (lengths are no multiple of 4 then):

    1B1B1B1B 01010101 | messages, 00 to fill up to 4 | 1B1B1B1B 1A PP CL CH      PP = 0..3 fill bytes
    |<---------------------- the CRC covers ------------------------->|

    hunting --start--> inside --1A PP and CRC right--> TELEGRAM, hunting behind it
                       inside --literal 1B x 4-------> inside
                       inside --another start, a bad escape, a bad CRC, a full buffer--> REJECTED,
                                                       hunting from one byte behind the failed start

The start is matched as a sliding window, never behind a consumed escape: noise may put a 1B in front of it. Inside, an
escape decides in stream order, so that a literal 1B1B1B1B followed by 01010101 in the data is no start.

Each message is a list; a list response holds the values:

    76 transactionId groupNo abortOnError 72 tag=0701 77 clientId serverId listName sensorTime valList signature time
       crc 00                             valList: n entries 77 objName status valTime unit scaler value signature

The first status word of a telegram says which way the power flows, where its form is known:

    low byte 04 (FNN, EDL40)        bit 11 set: export. In 92 of 92 recorded telegrams it agrees with a right 16.7.0
    low bytes 0180 0182 01A0 01A2   bit 5 set: export (EDL21). 15.7.0 is without a sign, so 16.7.0 is made of both
    any other, or none              nothing: the power stays as sent
"""

from metering.checksum import CCITT, KERMIT_INIT, X25_INIT, crc16, crc_table
from metering.compat import SLICES_ARE_CHEAP, const, copy_bytes, signed
from metering.identifier import identifier_text
from metering.line import Line
from metering.listener import NOTHING, SEC_INDEX, Listener
from metering.reading import Reading

_TABLE = crc_table(CCITT)
_START = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
_ESCAPE = b"\x1b\x1b\x1b\x1b"
_END = const(0x1A)
_MAX_FILL = const(3)

# The longest real telegram of some forty meters has 588 bytes, a synthetic worst case 1,092: 1,536 leaves a margin.
BUFFER_SIZE = const(1536)
_MAX_TL_BYTES = const(8)  # three are met; more bytes than that only spell out leading zeros
_MAX_TIME_PARTS = const(3)

_OCTETS = const(0x00)  # types of a TL field
_BOOLEAN = const(0x40)
_INTEGER = const(0x50)
_UNSIGNED = const(0x60)
_LIST = const(0x70)
_GET_LIST_RESPONSE = const(0x0701)

_W = const(27)  # DLMS unit codes
_WH = const(30)
_WHOLE_KWH = const(3)  # the scaler of an energy in whole kWh, unit Wh

_POWER = b"\x01\x00\x10\x07\x00\xff"  # 1-0:16.7.0*255
_UNSIGNED_POWER = b"\x01\x00\x0f\x07\x00\xff"  # 1-0:15.7.0*255
_SERIAL_NUMBER = b"\x01\x00\x60\x01\x00\xff"  # 1-0:96.1.0*255
_NO_STATUS = const(-1)
_EDL21 = const(0x0180)  # the low two bytes without the next two bits
_EDL21_CHANGING = const(0x0022)
_EDL21_EXPORT = const(0x0020)

_FAULTY_MAKERS = b"DZG HLY EFR"  # of which metering.power_direction knows meters that send a wrong sign


class _Malformed(Exception):
    """The content of a telegram whose CRC held is not SML; never leaves this file."""


class Sml(Listener):
    """Listener for SML telegrams. Allocates per telegram a generator, per reading the Reading with its code and value.

    Of the telegram in hand, besides what every listener tells: `server_id`, bytes or None.
    """

    NAME = "sml"
    LINES = (Line(9600),)
    SOURCE = "BSI TR-03109-1, SML 1.04"
    REASONS = ("checksum", "escape", "cut off", "too long", "structure")

    def __init__(self, size=BUFFER_SIZE):
        Listener.__init__(self, size)
        self._inside = False
        self._scanned = 0  # up to here nothing is left to find
        self._literals = False
        self._kermit = False  # which kind of CRC held last
        self._end = 0  # first byte behind the messages
        self._kind = self._length = 0  # the last type-length field: its type; bytes behind it, or elements
        self._value = None  # the last number
        self._value_at = self._exponent = 0  # the last entry
        self._unit = None
        self._status = _NO_STATUS  # low two bytes of the first status word in the telegram

    def _reset_telegram(self):
        Listener._reset_telegram(self)
        self.server_id = None
        self._status = _NO_STATUS

    def meter_id(self):
        """The text that names the meter, "" where it sends no server id."""
        return identifier_text(self.server_id) if self.server_id else ""

    # -- transport

    def _judge(self):
        buf = self._buf
        if not self._inside:
            at = buf.find(_START, self._scanned, self._n)
            if at < 0:
                keep = 0 if self._ended else len(_START) - 1
                self._skip_noise(max(self._n - keep, 0))
                self._scanned = 0
                return NOTHING
            self._skip_noise(at)
            self._inside = True
            self._literals = False
            self._scanned = len(_START)
        while True:
            at = buf.find(_ESCAPE, self._scanned, self._n)
            if at < 0 or at + 8 > self._n:
                self._scanned = at if at >= 0 else max(self._scanned, self._n - 3)
                if self._n == len(buf):
                    return self._fail("too long", "no end within %d bytes" % self._n)
                return self._fail("cut off", "the stream ended") if self._ended else NOTHING
            if buf[at + 4] == _END and buf[at + 5] <= _MAX_FILL:
                return self._check(at)
            if buf.find(_ESCAPE, at + 4, at + 8) < 0:
                if buf.find(_START, at, at + 8) >= 0:
                    return self._fail("cut off", "a new start after %d bytes" % at)
                return self._fail("escape", "%s after the escape at byte %d" % (buf[at + 4 : at + 8].hex(), at))
            self._literals = True
            self._scanned = at + 8

    def _fail(self, reason, detail):
        self._inside = False
        self._scanned = 0  # _reject gives up the one byte
        return self._reject(reason, detail, 1)

    def _check(self, at):
        """Judge the candidate whose end sequence begins at `at`."""
        buf = self._buf
        covered = self._view[: at + 6]
        x25 = 0
        for kermit in (self._kermit, not self._kermit):  # the kind that held last first
            if kermit:  # old Holley meters: another preset, and sent high byte first
                held = crc16(covered, KERMIT_INIT, _TABLE) == buf[at + 6] << 8 | buf[at + 7]
            else:
                x25 = crc16(covered, X25_INIT, _TABLE) ^ 0xFFFF
                held = x25 == buf[at + 6] | buf[at + 7] << 8
            if held:
                break
        else:
            return self._fail("checksum", "sent %02x%02x, computed %04x" % (buf[at + 7], buf[at + 6], x25))
        self._kermit = kermit
        self._inside = False
        self._scanned = 0
        self._end = self._unescape(at) if self._literals else at
        self._reset_telegram()
        try:
            for _ in self._walk():
                self.n_values += 1
        except _Malformed as error:
            return self._reject("structure", str(error), at + 8)
        behind = at + 8
        while buf[behind - 1] == _ESCAPE[0]:  # a CRC's 1B may be the next start's, where the line lost a byte
            behind -= 1
        return self._accept(behind)

    def _unescape(self, end):
        """Take the doubled 1B1B1B1B out of _buf[8:end] in place; returns the new end."""
        buf = self._buf
        to = source = len(_START)
        while True:
            at = buf.find(_ESCAPE, source, end)
            if at < 0:
                copy_bytes(buf, to, buf, source, end - source)
                return to + end - source
            copy_bytes(buf, to, buf, source, at + 4 - source)
            to += at + 4 - source
            source = at + 8

    # -- messages and values, walked in the buffer

    def readings(self):
        """Yields a Reading for each list entry with a value, in the order sent, until the next feed or event."""
        view = self._view
        rules = self._sign_rules(self.server_id)
        for name_at in self._walk():
            kind, at, n = self._kind, self._value_at, self._length
            exponent, unit = self._exponent, self._unit
            obis = bytes(view[name_at : name_at + 6])
            if kind == _OCTETS:
                octets = bytes(view[at : at + n])
                if obis == _SERIAL_NUMBER:
                    rules = rules or self._sign_rules(octets)
                yield Reading(obis, octets, 0, unit)
            elif kind == _BOOLEAN:
                yield Reading(obis, view[at] != 0)
            else:
                value = int.from_bytes(view[at : at + n], "big")
                if kind == _INTEGER:
                    value = signed(value, 8 * n)
                    if rules and (unit == _W or obis == _POWER):
                        value = rules.meant(value, n, exponent, obis)
                elif unit == _WH and obis == _POWER and exponent == -1:
                    from metering.power_direction import power_meant

                    value, exponent, unit = power_meant(value, self._status)
                yield Reading(obis, value, exponent, unit)

    def _sign_rules(self, server_id):
        """What knows how the meter of this id sends the sign of its power wrongly; None where no report says so."""
        if not server_id or len(server_id) != 10 or server_id[2:5] not in _FAULTY_MAKERS:
            return None
        from metering.power_direction import SignRules

        return SignRules(server_id, self._status, self._instantaneous)

    def _instantaneous(self, c):
        """The value of 1-0:c.7.0 in thousandths of its unit, None where it is not sent or is no such number."""
        code = bytes((1, 0, c, 7))
        for name_at in self._walk():
            if self._buf.find(code, name_at, name_at + 4) >= 0 and self._kind >= _INTEGER and -3 <= self._exponent <= 3:
                at, n = self._value_at, self._length
                value = int.from_bytes(self._view[at : at + n], "big")
                return (signed(value, 8 * n) if self._kind == _INTEGER else value) * 10 ** (self._exponent + 3)
        return None

    def published_readings(self):
        """The same, and behind a 15.7.0 with an EDL21 status word the signed 16.7.0 that both make."""
        status = self._status
        derives = status & ~_EDL21_CHANGING == _EDL21 and self._buf.find(_POWER, 0, self._end) < 0
        for reading in self.readings():
            yield reading
            if derives and reading.obis == _UNSIGNED_POWER and isinstance(reading.value, int):
                value = -reading.value if status & _EDL21_EXPORT else reading.value
                yield Reading(_POWER, value, reading.exponent, reading.unit)

    def _walk(self):
        """Step through every message; yields, per entry with a value, where its 6-byte OBIS code is.

        Then _kind, _length, _value_at, _unit and _exponent describe the value. Raises _Malformed at the first thing
        that is not SML; the same walk checks a telegram and later reads it, so a checked telegram reads to its end.
        Behind the messages stand the 8 bytes of the end sequence, so looking a byte or two too far is safe: no step
        moves past _end without _Malformed.
        """
        buf, end = self._buf, self._end
        power = fine = coarse = False
        at = len(_START)
        while at < end:
            if buf[at] == 0:  # fill bytes
                at += 1
                continue
            at = self._list(at, 6, "message")
            at = self._skip(at, 3)
            at = self._list(at, 2, "message body")
            at = self._number(at, "message tag", 4)
            if self._value == _GET_LIST_RESPONSE:
                at = self._list(at, 7, "list response")
                at = self._skip(at, 1)
                at = self._server(at)
                at = self._skip(at, 1)
                at = self._sensor_time(at)
                at = self._field(at)
                entries = self._length
                if self._kind != _LIST:  # absent
                    at += entries
                    entries = 0
                for _ in range(entries):
                    if buf[at] == 0x77 and buf[at + 1] == 0x07 and at + 8 <= end:  # as nearly every entry begins
                        name_at = at + 2
                        at += 8
                    else:
                        at = self._field(at)
                        if self._kind != _LIST:
                            raise _Malformed("no list entry before byte %d" % at)
                        if self._length != 7:  # nothing we know
                            at = self._skip(at, self._length)
                            continue
                        name_at = at + 1 if buf[at] == 0x07 else 0  # six octets
                        at = self._skip(at, 1)
                    if buf[at] == 0x01:  # no status
                        at = at + 2 if buf[at + 1] == 0x01 and at + 2 <= end else self._skip(at, 2)
                    else:
                        at = self._status_word(at)
                        at = self._skip(at, 1)  # valTime in whichever form
                    if buf[at] == 0x62 and buf[at + 2] == 0x52:  # one byte each, as nearly every entry has them
                        unit = buf[at + 1]
                        exponent = signed(buf[at + 3], 8)
                        at += 4
                    else:
                        at = self._number(at, "unit", 2)
                        unit = self._value
                        at = self._number(at, "scaler", 1)
                        exponent = self._value or 0
                    kind = buf[at]
                    n = kind & 0x0F
                    if n and at + n < end and buf[at + n] == 0x01 and (kind < 0x10 or 0x40 <= kind < 0x70):
                        value_at = at + 1
                        at += n + 1
                        n -= 1
                        kind &= 0x70
                    else:
                        value_at = self._field(at)
                        kind, n = self._kind, self._length
                        at = self._skip(at, 2)  # value, signature
                    if not name_at or kind == _LIST or n == 0:
                        continue
                    if n > 8 and kind >= _INTEGER or n != 1 and kind == _BOOLEAN:
                        raise _Malformed("a value of %d bytes at byte %d" % (n, value_at))
                    if kind >= _INTEGER:
                        power = power or unit == _W
                        if unit == _WH:
                            coarse = coarse or exponent == _WHOLE_KWH
                            fine = fine or exponent < _WHOLE_KWH
                    self._kind, self._length, self._value_at = kind, n, value_at
                    self._unit, self._exponent = unit, exponent
                    yield name_at
                at = self._skip(at, 2)
            else:
                at = self._skip(at, 1)
            at = self._skip(at, 1)
            if at >= end or buf[at] != 0:
                raise _Malformed("no end of message at byte %d" % at)
            at += 1
        self.pin_needed = coarse and not fine and not power

    def _field(self, at):
        """Read the type-length field at `at` into _kind and _length; returns where its content begins.

        Bit 7 says that another byte follows, bits 6..4 the type, the low nibble the length; further bytes add a nibble
        each (Hager sends type bits there too: F1 76 is a list of 22). A list's length counts its elements, every other
        length the bytes with the field itself.
        """
        buf, end, first = self._buf, self._end, at
        byte = buf[at]
        kind = byte & 0x70
        length = byte & 0x0F
        at += 1
        while byte & 0x80:
            if at >= end or at - first >= _MAX_TL_BYTES:
                raise _Malformed("length field at byte %d does not end" % first)
            byte = buf[at]
            length = length << 4 | byte & 0x0F
            if length > end:  # in bytes, or in elements of a byte or more
                raise _Malformed("length at byte %d is past the end" % first)
            at += 1
        if kind != _LIST:
            if 0 < kind < _BOOLEAN:
                raise _Malformed("unknown type %02x at byte %d" % (kind, first))
            length -= at - first
        if length < 0 or length > end - at:
            raise _Malformed("length at byte %d is past the end" % first)
        self._kind = kind
        self._length = length
        return at

    def _skip(self, at, todo):
        """Step from `at` over `todo` elements of any kind and depth; iterative, as depth is the sender's to choose."""
        buf, end = self._buf, self._end
        while todo:
            todo -= 1
            byte = buf[at]
            if byte < 0x10 or 0x40 <= byte < 0x70:  # one byte of type and length, and no list
                at += byte & 0x0F
                if at > end or byte & 0x0F == 0:
                    raise _Malformed("no element before byte %d" % at)
                continue
            at = self._field(at)
            if self._kind == _LIST:
                todo += self._length
                if todo > end - at:
                    raise _Malformed("more elements than bytes at byte %d" % at)
            else:
                at += self._length
        return at

    def _list(self, at, n, what):
        behind = self._field(at)
        if self._kind != _LIST or self._length != n:
            raise _Malformed("no %s at byte %d" % (what, at))
        return behind

    def _number(self, at, what, most):
        """Read the integer of 1..most bytes at `at` into _value, sign-extended from its sent width; None if absent."""
        buf = self._buf
        if buf[at] == 0x01:
            self._value = None
            return at + 1
        first = self._field(at)
        n, kind = self._length, self._kind
        if kind != _INTEGER and kind != _UNSIGNED or not 1 <= n <= most:
            raise _Malformed("no %s at byte %d" % (what, at))
        value = 0
        for i in range(first, first + n):
            value = value << 8 | buf[i]
        self._value = signed(value, 8 * n) if kind == _INTEGER else value
        return first + n

    def _status_word(self, at):
        """Step over a status; the first of a telegram that is a number of 2 to 8 bytes is kept."""
        behind = self._skip(at, 1)
        if self._status == _NO_STATUS and 0x50 < self._buf[at] < 0x6A and behind - at > 2:
            self._status = self._buf[behind - 2] << 8 | self._buf[behind - 1]
        return behind

    def _server(self, at):
        behind = self._field(at)
        if self._kind != _OCTETS:
            raise _Malformed("no server id at byte %d" % at)
        n = self._length
        if n and self.server_id is None:
            self.server_id = bytes(self._view[behind : behind + n])
        return behind + n

    def _sensor_time(self, at):
        """actSensorTime: absent, a list of kind and time, or (Holley) the bare number of seconds."""
        behind = self._field(at)
        if self._kind != _LIST:
            behind = self._number(at, "time", 8)
            if self._value is not None:
                self.time_kind, self.time_value = SEC_INDEX, self._value
            return behind
        if self._length != 2:
            raise _Malformed("no time at byte %d" % at)
        at = self._number(behind, "kind of time", 4)
        self.time_kind = self._value
        behind = self._field(at)
        parts = 0
        if self._kind == _LIST:
            parts = self._length - 1
            at = behind
            if not 0 <= parts < _MAX_TIME_PARTS:
                raise _Malformed("no time at byte %d" % at)
        at = self._number(at, "time", 8)
        self.time_value = self._value
        return self._skip(at, parts)


LISTENER = Sml
if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.sml_noted import with_notes

    LISTENER = with_notes(Sml, _Malformed)
