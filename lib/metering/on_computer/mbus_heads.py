"""M-Bus answers on a computer: what a record's DIF and VIF mean is found out once. A board never loads it.

A record whose head has been met, with a value of fixed length, takes no call but for a time or a real number; any other
is the definition's, metering.mbus.records. One walk finds the values; readings() makes no other.
"""

from metering.mbus.records import LENGTHS, Record, no_number, read_head, read_value, walk

_MAX_HEADS = 512  # heads of all meters met, 1 KiB each: then they are learned anew
_FILLER = 0x2F
_REAL = 5
_FIRST_BCD = 9
_NO_VALUE = (0, 8)
_OWN_LENGTH = (0x0D, 0x0F)  # the data's length is not the head's to say
_PLAIN_TEXT = (b"\x7c", b"\xfc")


class _Head:
    """What a head says: `record` as it is before its value, and of each medium its reading."""

    def __init__(self, record, size):
        self.size = size  # of the data
        self.record = record
        self.fields = vars(record).copy()
        self.is_current = not (record.storage or record.function == 3 or record.is_tail or record.is_time)
        self.is_number = not record.is_time and record.added is None
        self.has_value = record.name != "?"
        self.mark = size and no_number(record, 8 * size)  # the number that says that there is none
        self.readings = {}  # medium -> fields of its RecordReading


def with_heads(base, reading_of):
    """The listener `base`, metering.mbus.meter_reply's, made faster; `reading_of` is its RecordReading."""
    heads = {}

    class MeterReply(base):
        _noted = None

        def _reset_telegram(self):
            base._reset_telegram(self)
            self._noted = None  # of each record with a value its head, value, exponent, and where its data is

        def _walk(self):
            at, end = self._at, self._end
            buf = bytes(self._view[:end])
            noted = []
            new = Record.__new__
            while at < end:
                if buf[at] == _FILLER:
                    at += 1
                    continue
                kind = buf[at] & 0x0F
                head = None
                data_at = at
                if kind not in _OWN_LENGTH:
                    while data_at < end and buf[data_at] & 0x80:
                        data_at += 1
                    data_at += 1
                    is_text = buf[data_at : data_at + 1] in _PLAIN_TEXT
                    while data_at < end and buf[data_at] & 0x80:
                        data_at += 1
                    data_at += 1
                    if not is_text:
                        head = heads.get(buf[at:data_at]) or _learned(buf, at, data_at, end)
                if head is None or data_at + head.size > end:
                    record = next(walk(buf, at, end))  # raises, where it does not fit
                    at = record.end
                    if record.value is not None:
                        noted.append((_Head(record, at - record.at), record.value, record.exponent, record.at))
                    yield record
                    continue
                record = new(Record)
                record.__dict__ = head.fields.copy()
                record.at = data_at
                at = record.end = data_at + head.size
                if head.has_value:
                    if not head.is_number or kind == _REAL:
                        read_value(record, kind, buf)
                    elif kind >= _FIRST_BCD:
                        record.value = _bcd(buf[data_at:at])
                    elif kind not in _NO_VALUE:
                        number = int.from_bytes(buf[data_at:at], "little", signed=record.is_signed)
                        if number != head.mark:
                            record.value = number
                    if record.value is not None:
                        noted.append((head, record.value, record.exponent, data_at))
                yield record
            self._noted = noted

        def readings(self):
            return self._told(False)

        def published_readings(self):
            return self._told(True)

        def _told(self, is_current):
            if self._noted is None:
                yield from base.published_readings(self) if is_current else base.readings(self)
                return
            medium, held, buf, begin = self.medium, self._held, self._buf, self._ci_at
            new = reading_of.__new__
            for head, value, exponent, at in self._noted:
                if is_current and not head.is_current:
                    continue
                if held and buf[at : at + head.size] != held[at - begin : at - begin + head.size]:
                    continue
                fields = head.readings.get(medium)
                if fields is None:
                    fields = head.readings[medium] = vars(reading_of(head.record, medium))
                reading = new(reading_of)
                reading.__dict__ = fields.copy()
                reading.value = value
                reading.exponent = exponent
                yield reading

    def _learned(buf, at, data_at, end):
        """The head buf[at:data_at], None where the definition is to look at it."""
        record = Record()
        if data_at > end or read_head(record, buf, at, end) != data_at or record.added is not None:
            return None
        if len(heads) >= _MAX_HEADS:
            heads.clear()
        head = heads[bytes(buf[at:data_at])] = _Head(record, LENGTHS[buf[at] & 0x0F])
        return head

    return MeterReply


def _bcd(data):
    """As metering.mbus.records.bcd()."""
    digits = data[::-1].hex()
    if digits.isdecimal():
        return int(digits)
    rest = "0" + digits[1:]
    return -int(rest) if digits[:1] == "f" and rest.isdecimal() else None
