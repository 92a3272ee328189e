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
"""

from metering.checksum import KERMIT_INIT, X25_INIT, crc16
from metering.compat import const, copy_bytes, signed
from metering.identifier import identifier_text
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.reading import Reading

_START = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
_ESCAPE = b"\x1b\x1b\x1b\x1b"
_END = const(0x1A)
_MAX_FILL = const(3)

# The longest real telegram of some forty meters has 588 bytes, a synthetic worst case 1,092: 2,048 leaves a margin.
BUFFER_SIZE = const(2048)
_MAX_TL_BYTES = const(8)  # three are met; more bytes than that only spell out leading zeros
_MAX_TIME_PARTS = const(3)

_OCTETS, _BOOLEAN, _INTEGER, _UNSIGNED, _LIST = const(0x00), const(0x40), const(0x50), const(0x60), const(0x70)
_GET_LIST_RESPONSE = const(0x0701)

_W, _WH = const(27), const(30)
_WHOLE_KWH = const(3)  # the scaler of an energy in whole kWh, unit Wh

SEC_INDEX = const(1)  # kinds of sensor time: seconds of operation,
TIMESTAMP = const(2)  # seconds since 1970 UTC,
LOCAL_TIMESTAMP = const(3)  # the same with the local offset (sent in minutes, not kept)

_POWER = b"\x01\x00\x10\x07\x00\xff"  # 1-0:16.7.0*255
_SERIAL_NUMBER = b"\x01\x00\x60\x01\x00\xff"  # 1-0:96.1.0*255


class _Malformed(Exception):
    """The content of a telegram whose CRC held is not SML; never leaves this file."""


class Sml(Listener):
    """Listener for SML telegrams. Per reading it allocates one Reading with its code and value, per telegram a generator.

    Of the telegram in hand: `server_id` bytes or None, `time_kind` and `time_value` of the meter's clock or None,
    `pin_needed` True where the meter sends only whole kWh and no power, as they do until their PIN is entered.
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
        self._at = 0  # the walk through the telegram: next byte,
        self._end = 0  # first byte behind the messages,
        self._kind = 0  # type of the last TL field,
        self._length = 0  # and its length: bytes behind the TL field, or elements
        self._unit = self._exponent = None
        self._value_at = 0
        self._reset_telegram()

    def _reset_telegram(self):
        self.server_id = None
        self.time_kind = self.time_value = None
        self.pin_needed = False

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
        x25 = 0
        for kermit in (self._kermit, not self._kermit):  # the kind that held last first
            if kermit:  # old Holley meters: another preset, and sent high byte first
                held = crc16(buf, at + 6, KERMIT_INIT) == buf[at + 6] << 8 | buf[at + 7]
            else:
                x25 = crc16(buf, at + 6, X25_INIT) ^ 0xFFFF
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
                pass
        except _Malformed as error:
            return self._reject("structure", str(error), at + 8)
        return self._accept(at + 8)

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
        """Yields a Reading for each list entry with a value, in the order sent. Valid until the next feed or event."""
        buf = self._buf
        fault = self._has_sign_fault(self.server_id)
        for name_at in self._walk():
            kind, at, n = self._kind, self._value_at, self._length
            obis = bytes(buf[name_at : name_at + 6])
            if kind == _OCTETS:
                octets = bytes(buf[at : at + n])
                fault = fault or obis == _SERIAL_NUMBER and self._has_sign_fault(octets)
                yield Reading(obis, octets, 0, self._unit)
            elif kind == _BOOLEAN:
                yield Reading(obis, buf[at] != 0)
            else:
                value = int.from_bytes(buf[at : at + n], "big")
                if kind == _INTEGER and not (fault and n < 4 and obis == _POWER):
                    value = signed(value, 8 * n)
                yield Reading(obis, value, self._exponent, self._unit)

    @staticmethod
    def _has_sign_fault(server_id):
        """Is this a DZG DVS74 that sends 1-0:16.7.0 as a signed number of 1 to 3 bytes though it means it unsigned?

        By serial number only: its siblings outside these ranges send genuine negatives of the same width, and the
        faulty ones send theirs in 4 bytes. Source: volkszaehler/libsml issues 59, 132 and 136; captures of both.
        """
        if not server_id or len(server_id) != 10 or server_id[:5] != b"\x0a\x01DZG":
            return False
        serial = int.from_bytes(server_id[5:10], "big")
        return 42000000 <= serial <= 48999999 or 55000000 <= serial <= 58999999

    def _walk(self):
        """Step through every message; yields, per entry with a value, where its 6-byte OBIS code is.

        Then _kind, _length, _value_at, _unit and _exponent describe the value. Raises _Malformed at the first thing that
        is not SML; the same walk checks a telegram and later reads it, so a checked telegram reads to its end.
        """
        self._at = len(_START)
        power = fine = coarse = False
        while self._at < self._end:
            if self._buf[self._at] == 0:  # fill bytes
                self._at += 1
                continue
            self._expect_list(6, "message")
            self._skip(3)
            self._expect_list(2, "message body")
            if self._number("message tag", 4) == _GET_LIST_RESPONSE:
                self._expect_list(7, "list response")
                self._skip(1)
                self._octets_of_server()
                self._skip(1)
                self._sensor_time()
                self._field()
                entries = self._length if self._kind == _LIST else 0
                if self._kind != _LIST:
                    self._at += self._length
                for _ in range(entries):
                    name_at = self._entry()
                    if name_at < 0:
                        continue
                    if self._kind == _INTEGER or self._kind == _UNSIGNED:
                        power = power or self._unit == _W
                        if self._unit == _WH:
                            coarse = coarse or self._exponent == _WHOLE_KWH
                            fine = fine or self._exponent < _WHOLE_KWH
                    resume = self._at
                    yield name_at
                    self._at = resume
                self._skip(2)
            else:
                self._skip(1)
            self._skip(1)
            if self._at >= self._end or self._buf[self._at] != 0:
                raise _Malformed("no end of message at byte %d" % self._at)
            self._at += 1
        self.pin_needed = coarse and not fine and not power

    def _field(self):
        """Read a type-length field: _kind, _length; _at behind it.

        Bit 7 says that another byte follows, bits 6..4 the type, the low nibble the length; further bytes add a nibble
        each (Hager sends type bits there too: F1 76 is a list of 22). A list's length counts its elements, every other
        length the bytes with the field itself.
        """
        buf, at, end = self._buf, self._at, self._end
        first = at
        if at >= end:
            raise _Malformed("ends inside a message")
        byte = buf[at]
        self._kind = byte & 0x70
        length = byte & 0x0F
        at += 1
        while byte & 0x80:
            if at >= end or at - first >= _MAX_TL_BYTES:
                raise _Malformed("length field at byte %d does not end" % first)
            byte = buf[at]
            length = length << 4 | byte & 0x0F
            if length > end:  # in bytes or elements of at least one byte each
                raise _Malformed("length at byte %d is past the end" % first)
            at += 1
        if self._kind != _LIST:
            if 0 < self._kind < _BOOLEAN:
                raise _Malformed("unknown type %02x at byte %d" % (self._kind, first))
            length -= at - first
        if length < 0 or length > end - at:
            raise _Malformed("length at byte %d is past the end" % first)
        self._length = length
        self._at = at

    def _skip(self, todo):
        """Step over `todo` elements of any kind and depth; iterative, as depth is the sender's to choose."""
        while todo:
            todo -= 1
            self._field()
            if self._kind == _LIST:
                todo += self._length
                if todo > self._end - self._at:
                    raise _Malformed("more elements than bytes at byte %d" % self._at)
            else:
                self._at += self._length

    def _expect_list(self, n, what):
        at = self._at
        self._field()
        if self._kind != _LIST or self._length != n:
            raise _Malformed("no %s at byte %d" % (what, at))

    def _number(self, what, most):
        """The integer here, sign-extended from its sent width of at most `most` bytes; None where it is absent."""
        at = self._at
        self._field()
        n = self._length
        if self._kind == _OCTETS and n == 0:
            return None
        if self._kind not in (_INTEGER, _UNSIGNED) or not 1 <= n <= most:
            raise _Malformed("no %s at byte %d" % (what, at))
        buf, value = self._buf, 0
        for i in range(self._at, self._at + n):
            value = value << 8 | buf[i]
        self._at += n
        return signed(value, 8 * n) if self._kind == _INTEGER else value

    def _octets_of_server(self):
        at = self._at
        self._field()
        if self._kind != _OCTETS:
            raise _Malformed("no server id at byte %d" % at)
        if self._length and self.server_id is None:
            self.server_id = bytes(self._buf[self._at : self._at + self._length])
        self._at += self._length

    def _sensor_time(self):
        """actSensorTime: absent, a list of kind and time, or (Holley) the bare number of seconds."""
        at = self._at
        self._field()
        if self._kind != _LIST:
            self._at = at
            value = self._number("time", 8)
            if value is not None:
                self.time_kind, self.time_value = SEC_INDEX, value
            return
        if self._length != 2:
            raise _Malformed("no time at byte %d" % at)
        kind = self._number("kind of time", 4)
        at = self._at
        self._field()
        parts = self._length if self._kind == _LIST else 1
        if not 1 <= parts <= _MAX_TIME_PARTS:
            raise _Malformed("no time at byte %d" % at)
        if self._kind != _LIST:
            self._at = at
        self.time_kind, self.time_value = kind, self._number("time", 8)
        self._skip(parts - 1)

    def _entry(self):
        """Step over one list entry; returns where its OBIS code is, -1 where it holds nothing readable."""
        at = self._at
        self._field()
        if self._kind != _LIST:
            raise _Malformed("no list entry at byte %d" % at)
        if self._length != 7:  # nothing we know; step over it
            self._skip(self._length)
            return -1
        self._field()
        if self._kind == _LIST:
            raise _Malformed("no OBIS code at byte %d" % self._at)
        name_at = self._at if self._kind == _OCTETS and self._length == 6 else -1
        self._at += self._length
        self._skip(2)  # status, valTime in whichever form
        self._unit = self._number("unit", 2)
        exponent = self._number("scaler", 1)
        self._exponent = exponent if exponent is not None else 0
        at = self._at
        self._field()
        kind, n, self._value_at = self._kind, self._length, self._at
        self._at = at
        self._skip(2)  # value, signature
        self._kind, self._length = kind, n
        if kind == _LIST or n == 0:
            return -1
        if kind == _BOOLEAN and n != 1 or kind >= _INTEGER and n > 8:
            raise _Malformed("a value of %d bytes at byte %d" % (n, at))
        return name_at


LISTENER = Sml
