"""The walk of an SML telegram on a computer, which notes its values, so that one walk does. A board never loads it.

An entry of the form that nearly all have is taken without a call; any other is the definition's, metering.sml.
"""

from metering.listener import SEC_INDEX
from metering.power_direction import power_meant
from metering.reading import Reading

_LIST = 0x70
_BOOLEAN = 0x40
_INTEGER = 0x50
_UNSIGNED = 0x60
_OCTETS = 0x00
_GET_LIST_RESPONSE = 0x0701
_W = 27
_WH = 30
_WHOLE_KWH = 3
_NO_STATUS = -1
_POWER = b"\x01\x00\x10\x07\x00\xff"
_SERIAL_NUMBER = b"\x01\x00\x60\x01\x00\xff"
_USUAL_CRC = 3  # bytes of a message's CRC
_SHORT = 16  # one byte of type and length counts less
_BEYOND = bytes(64)  # more than a head or an entry of the usual form, without its octets, can have behind the end


def with_notes(base, malformed):
    """The listener `base`, metering.sml's, made faster; `malformed` is what it raises."""

    class Sml(base):
        def _reset_telegram(self):
            base._reset_telegram(self)
            self._noted = None  # of each value what _walk() says, and where its code is
            self._data = b""  # the telegram that they are of

        def _walk(self):
            noted = self._noted
            if noted is None:
                noted = []
                try:
                    self._note(noted)
                finally:
                    yield from noted
                self._noted = noted
                return
            for name_at, *said in noted:
                self._kind, self._length, self._value_at, self._unit, self._exponent = said
                yield name_at

        def readings(self):
            if self._noted is None:
                yield from base.readings(self)
                return
            data = self._data
            rules = self._sign_rules(self.server_id)
            for name_at, kind, n, at, unit, exponent in self._noted:
                obis = data[name_at : name_at + 6]
                if kind == _UNSIGNED:
                    value = int.from_bytes(data[at : at + n], "big")
                    if unit == _WH and obis == _POWER and exponent == -1:
                        value, exponent, unit = power_meant(value, self._status)
                    yield Reading(obis, value, exponent, unit)
                elif kind == _INTEGER:
                    value = int.from_bytes(data[at : at + n], "big", signed=True)
                    if rules and (unit == _W or obis == _POWER):
                        value = rules.meant(value, n, exponent, obis)
                    yield Reading(obis, value, exponent, unit)
                elif kind == _OCTETS:
                    octets = data[at : at + n]
                    if obis == _SERIAL_NUMBER:
                        rules = rules or self._sign_rules(octets)
                    yield Reading(obis, octets, 0, unit)
                else:
                    yield Reading(obis, data[at] != 0)

        def _note(self, noted):
            """Append of each value to `noted`: where its code is, kind, bytes, where it is, unit, power of ten."""
            end = self._end
            buf = self._data = bytes(self._view[:end]) + _BEYOND
            at = 8
            power = fine = coarse = False
            while at < end:
                if buf[at] == 0:  # fill bytes
                    at += 1
                    continue
                tag, at = self._head(buf, at)
                if tag == _GET_LIST_RESPONSE:
                    at = at + 1 if buf[at] == 0x77 else self._list(at, 7, "list response")
                    at = at + 1 if buf[at] == 0x01 else self._skip(at, 1)
                    n = buf[at]
                    if 1 < n < _SHORT and at + n < end:
                        if self.server_id is None:
                            self.server_id = buf[at + 1 : at + n]
                        at += n
                    else:
                        at = self._server(at)
                    at = at + buf[at] if 0 < buf[at] < _SHORT and at + _SHORT <= end else self._skip(at, 1)
                    n = buf[at + 3] - 0x60
                    if buf[at] == 0x01:
                        at += 1
                    elif 1 < n < 10 and at + 13 <= end and buf.startswith(b"\x72\x62\x01", at):
                        self.time_kind = SEC_INDEX
                        self.time_value = int.from_bytes(buf[at + 4 : at + 3 + n], "big")
                        at += 3 + n
                    else:
                        at = self._sensor_time(at)
                    entries = buf[at] - _LIST
                    if 0 < entries < _SHORT and at + _SHORT < end:
                        at += 1
                    else:
                        at = self._field(at)
                        entries = self._length
                        if self._kind != _LIST:  # absent
                            at += entries
                            entries = 0
                    for _ in range(entries):
                        value = self._usual(buf, at, end)
                        if value is None:
                            at, value = self._rare(at)
                            if value is None:
                                continue
                        else:
                            at = value[3] + value[2] + 1
                        noted.append(value)
                        if value[1] >= _INTEGER:
                            unit, exponent = value[4], value[5]
                            power = power or unit == _W
                            if unit == _WH:
                                coarse = coarse or exponent == _WHOLE_KWH
                                fine = fine or exponent < _WHOLE_KWH
                    at = at + 2 if at + 2 < end and buf[at] == buf[at + 1] == 0x01 else self._skip(at, 2)
                elif buf[at] == 0x71 and buf[at + 1] == 0x01 and at + 1 < end:  # a close response without a signature
                    at += 2
                else:
                    at = self._skip(at, 1)
                if at + _USUAL_CRC < end and buf[at] == 0x63:
                    at += _USUAL_CRC
                else:
                    at = self._skip(at, 1)
                if at >= end or buf[at] != 0:
                    raise malformed("no end of message at byte %d" % at)
                at += 1
            self.pin_needed = coarse and not fine and not power

        def _head(self, buf, at):
            """(tag, where the body begins) of the message at buf[at]."""
            n = buf[at + 1]
            if buf[at] == 0x76 and 0 < n < _SHORT:
                here = at + 1 + n  # behind the transaction's id: 62 group 62 abort 72 63 tag
                if buf[here] == buf[here + 2] == 0x62 and buf[here + 4] == 0x72 and here + 10 <= self._end:
                    if buf[here + 5] == 0x63:
                        return buf[here + 6] << 8 | buf[here + 7], here + 8
                    if buf[here + 5] == 0x65:
                        return int.from_bytes(buf[here + 6 : here + 10], "big"), here + 10
            at = self._list(at, 6, "message")
            at = self._skip(at, 3)
            at = self._list(at, 2, "message body")
            at = self._number(at, "message tag", 4)
            return self._value, at

        def _usual(self, buf, at, end):
            """What is to be noted of an entry 77 07 code, status or 01, time of one number or 01, 62 unit 52 scaler or
            01 01, up to 253 octets or a number, 01; None for any other."""
            if buf[at] != 0x77 or buf[at + 1] != 0x07:
                return None
            name_at = at + 2
            at += 8
            status_at = 0
            byte = buf[at]
            if byte == 0x01:
                at += 1
            elif 0x60 < byte < 0x6A:
                if byte > 0x62 and self._status == _NO_STATUS:
                    status_at = at
                at += byte & 0x0F
            else:
                return None
            byte = buf[at]
            if byte == 0x01:
                at += 1
            elif 0x60 < byte < 0x6A:
                at += byte & 0x0F
            elif byte == 0x72 and buf[at + 1] == 0x62 and 0x60 < buf[at + 3] < 0x6A:
                at += 3 + (buf[at + 3] & 0x0F)
            else:
                return None
            if buf[at] == 0x62 and buf[at + 2] == 0x52:
                unit, exponent = buf[at + 1], buf[at + 3]
                if exponent > 127:
                    exponent -= 256
                at += 4
            elif buf[at] == buf[at + 1] == 0x01:
                unit, exponent = None, 0
                at += 2
            else:
                return None
            kind = buf[at]
            n = kind & 0x0F
            kind &= 0xF0
            value_at = at + 1
            if kind == 0x80 and buf[value_at] < _SHORT:  # octets, with a length of two bytes
                n = n << 4 | buf[value_at]
                value_at += 1
                kind = _OCTETS
            elif n > 9 and kind or kind != _UNSIGNED and kind != _INTEGER and kind:
                return None
            behind = at + n
            if value_at >= behind or behind >= end or buf[behind] != 0x01:
                return None
            if status_at:
                status_at += buf[status_at] & 0x0F
                self._status = buf[status_at - 2] << 8 | buf[status_at - 1]
            return name_at, kind, behind - value_at, value_at, unit, exponent

        def _rare(self, at):
            """(where the entry behind this one begins, what is to be noted of this one or None)."""
            buf = self._buf
            at = self._field(at)
            if self._kind != _LIST:
                raise malformed("no list entry before byte %d" % at)
            if self._length != 7:  # nothing we know
                return self._skip(at, self._length), None
            name_at = at + 1 if buf[at] == 0x07 else 0  # six octets
            at = self._skip(at, 1)
            if buf[at] == 0x01:  # no status
                at = self._skip(at, 2)
            else:
                at = self._status_word(at)
                at = self._skip(at, 1)  # the time in whichever form
            at = self._number(at, "unit", 2)
            unit = self._value
            at = self._number(at, "scaler", 1)
            exponent = self._value or 0
            value_at = self._field(at)
            kind, n = self._kind, self._length
            at = self._skip(at, 2)  # value, signature
            if not name_at or kind == _LIST or n == 0:
                return at, None
            if n > 8 and kind >= _INTEGER or n != 1 and kind == _BOOLEAN:
                raise malformed("a value of %d bytes at byte %d" % (n, value_at))
            return at, (name_at, kind, n, value_at, unit, exponent)

    return Sml
