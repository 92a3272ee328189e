"""The records of an M-Bus answer (EN 13757-3:2018, clause 6), walked in place: exact values, no float.

    DIF | DIFE ... | VIF | VIFE ... | data      DIF: 80 DIFE follows, 40 storage, 30 function, 0F kind of data
                                                DIFE: 80 another follows, 40 sub-unit, 30 tariff, 0F storage

Left out on purpose: times of type M, of which no public text tells the form, wireless data containers, profiles.
What has no meaning here, or is marked as no value (a digit A to F, the lowest number with a sign, the highest one
without, a time's invalid bit, a record's error), has value None: nothing is guessed.
"""

from metering.compat import const, hex_text, signed
from metering.mbus import quantities
from metering.register import lookup

MOST_DIFES = const(10)  # clause 6.3.4
MOST_VIFES = const(10)  # clause 6.4.6
_FILLER = const(0x2F)
_TAIL = const(0x0F)  # what follows is the maker's, to the end
_TAIL_AND_MORE = const(0x1F)  # the same, and another telegram has the rest of the records
_NOTHING = const(0)
_REAL = const(5)
_SELECTION = const(8)
_FIRST_BCD = const(9)
_VARIABLE = const(0x0D)
_SPECIAL = const(0x0F)
LENGTHS = b"\x00\x01\x02\x03\x04\x04\x06\x08\x00\x01\x02\x03\x04\x00\x06"  # of the data, by its kind (table 4)

_ADDED = const(0x78)
_PLAIN_TEXT = const(0x7C)
_MAKERS = const(0x7F)
_SIGNED = ("credit", "debit", "dimensionless")  # without a unit, and yet a quantity (clause 6.5: type B)
_DATES = b"\x39\x42\x43\x46\x47\x4a\x4b\x4e\x4f\x6a\x6b\x6e\x6f"  # VIFEs that make a time of the data (table 15)
_SPANS = ("s", "min", "h", "d")
# VIFE -> what it adds to the unit
_PER = (
    " 32=/s 33=/min 34=/h 35=/d 36=/week 37=/month 38=/year 39=/revolution 44=/L 45=/m³ 46=/kg 47=/K 48=/kWh 49=/GJ"
    " 50=/kW 51=/(K·L) 52=/V 53=/A 54=·s 55=·s/V 56=·s/A "
)
# VIFE -> what it adds to the name
_QUALIFIED = (
    " 40=per_pulse_in_0 41=per_pulse_in_1 42=per_pulse_out_0 43=per_pulse_out_1 58=uncorrected 59=forward 60=backward"
    " 64=lower_limit 72=upper_limit 65=times_below_limit 73=times_above_limit 104=below_limit 108=above_limit"
    " 105=leakage 109=overflow 126=future 18=average 62=at_base_conditions"
    " 129=L1 130=L2 131=L3 132=N 133=L1-L2 134=L2-L3 135=L3-L1 136=Q1 137=Q2 138=Q3 139=Q4 140=net 144=absolute "
)  # from 128 on those of table 16, behind FC
_COUNTS = (0x41, 0x49)  # of these the data is a number of times
_MORE_VIFES = const(0xFC)
_BY_THE_STANDARD = const(0x1D)  # the data is what the standard says of it, no maker
_UNSIGNED = const(0x91)
_BITS = ("error", "digit")  # so begin the names of what is bits, of which all may be set
_NAN = const(0xFF)
_BINARY_TIMES = (2, 3, 4, 6)  # kinds of data: in BCD or as a real number no time is sent


class Malformed(Exception):
    """The records do not fit the telegram; the text says where and why."""


class Record:
    """One record. `value` int, str, bytes or None; `exponent` of an int; `unit` text or None; `name` of the quantity.

    `function` 0 to 3 as quantities.FUNCTIONS; `plain`: no VIFE changes what the quantity is. `date` (year, month, day,
    hour, minute, second) where the value is a time. `is_tail`: the maker's bytes, `more`: another telegram follows.
    """

    def __init__(self):
        self.function = self.storage = self.tariff = self.subunit = 0
        self.exponent = 0
        self.value = None  # type: int | str | bytes | None
        self.unit: str | None = None
        self.date: tuple[int, ...] | None = None
        self.name = "?"
        self.qualified = ""
        self.plain = True
        self.is_time = self.is_tail = self.more = False
        self.is_variable = False  # does it tell its data's length?
        self.names_itself = False  # its name stands in the telegram as a text
        self.is_signed = True  # where it is a binary number: flags, names and counts are not
        self.added = None  # type: int | None  # a power of ten that is added to the value
        self.at = self.end = 0  # of its data in the buffer


def walk(buf, at, end):
    """Yields a Record for each in buf[at:end]. Raises Malformed."""
    while at < end:
        dif = buf[at]
        if dif == _FILLER:
            at += 1
            continue
        record = Record()
        if dif in (_TAIL, _TAIL_AND_MORE):
            record.is_tail = True
            record.more = dif == _TAIL_AND_MORE
            record.name = "maker's data"
            record.at = at + 1
            record.end = end
            record.value = bytes(buf[at + 1 : end]) or None
            yield record
            return
        kind = dif & 0x0F
        if kind == _SPECIAL:
            raise Malformed("DIF %02x at byte %d" % (dif, at))
        at = read_head(record, buf, at, end)
        if kind == _VARIABLE:
            record.is_variable = True
            at = _variable(record, buf, at, end)
        else:
            record.at = at
            at += LENGTHS[kind]
            record.end = at
            if at > end:
                raise Malformed("a value ends %d bytes past the telegram" % (at - end))
            read_value(record, kind, buf)
        _finish(record)
        yield record


def read_head(record, buf, at, end):
    """Read what stands before a record's data, from its DIF at `at`; returns where the data is, or its length."""
    record.function = buf[at] >> 4 & 3
    record.storage = buf[at] >> 6 & 1
    at = _difes(record, buf, at, end)
    return _meaning(record, buf, at, end)


def _finish(record):
    if record.name == "?":
        record.value = None
    elif record.added is not None and isinstance(record.value, int):
        _add(record)


def _next(buf, at, end):
    if at >= end:
        raise Malformed("the telegram ends in a record's head")
    return buf[at]


def _difes(record, buf, at, end):
    """Read DIF and DIFEs from `at`; returns where the VIF is."""
    byte = buf[at]
    at += 1
    n = 0
    while byte & 0x80:
        if n == MOST_DIFES:
            raise Malformed("more than %d DIFEs" % MOST_DIFES)
        byte = _next(buf, at, end)
        at += 1
        record.storage |= (byte & 0x0F) << (1 + 4 * n)
        record.tariff |= (byte >> 4 & 3) << (2 * n)
        record.subunit |= (byte >> 6 & 1) << n
        n += 1
    return at


def _meaning(record, buf, at, end):
    """Read VIF and VIFEs from `at`; returns where the data is."""
    vif = byte = _next(buf, at, end)
    at += 1
    left = MOST_VIFES
    code = vif & 0x7F
    is_text_last = vif == 0x80 | _PLAIN_TEXT and _is_text_last(buf, at, end)
    if vif in (0xFB, 0xFD):
        byte = _next(buf, at, end)
        at += 1
        left -= 1
        second = byte & 0x7F
        if vif == byte == 0xFD:
            byte = _next(buf, at, end)
            at += 1
            left -= 1
            second = byte | 0x80
        table = quantities.FB if vif == 0xFB else quantities.FD
        record.exponent, record.unit, record.name = quantities.quantity(table, second)
        record.is_time = vif == 0xFD and second in (0x30, 0x65, 0x70)
    elif code == _PLAIN_TEXT:
        record.names_itself = True
        record.name = ""
        if not is_text_last:
            at = _read_name(record, buf, at, end)
    elif code < _PLAIN_TEXT:
        record.exponent, record.unit, record.name = quantities.quantity(quantities.PRIMARY, code)
        record.is_time = code in (0x6C, 0x6D)
    elif code == _MAKERS:
        record.name = "maker's quantity"
        record.plain = False
    record.is_signed = record.unit is not None or code in (_PLAIN_TEXT, _MAKERS) or record.name in _SIGNED
    at_first = at
    table = 0
    while byte & 0x80:
        if not left:
            raise Malformed("more than %d VIFEs" % MOST_VIFES)
        left -= 1
        byte = _next(buf, at, end)
        at += 1
        if record.plain is None:
            continue
        if byte == _MORE_VIFES and not table:
            table = 0x80
            continue
        if byte & 0x7F == _MAKERS or code == _MAKERS:  # what follows is the maker's to explain
            record.plain = None
            at_first = at
        else:
            _extend(record, table | byte & 0x7F)
            table = 0
    if record.plain is None:
        record.plain = False
        record.qualified += ", maker's %s" % hex_text(bytes(buf[at_first:at]))
    if is_text_last:
        at = _read_name(record, buf, at, end)
    return at


def _read_name(record, buf, at, end):
    """Take the name that is sent as a text, from its length at `at`; returns what stands behind it."""
    n = _next(buf, at, end)
    at += 1
    if at + n > end:
        raise Malformed("a text of %d bytes ends past the telegram" % n)
    if not record.name:  # else no value has a meaning
        record.name = _text(buf, at, at + n) or "?"
    return at + n


def _is_text_last(buf, at, end):
    """Does the text follow the VIFEs from `at` (table C.2)? Meters are known that send it before (Elvaco CMa10)."""
    begin = at
    while at < end and buf[at] & 0x80:
        at += 1
    return not _are_letters(buf, begin, end) and _are_letters(buf, at + 1, end)


def _are_letters(buf, at, end):  # a length, and so many of them
    n = buf[at] if at < end else 0
    return 0 < n < end - at and min(buf[at + 1 : at + 1 + n]) >= 0x20


def _extend(record, vife):
    """Apply one VIFE of table 15, or 0x80 and one of table 16, to the record."""
    if not vife or vife == _BY_THE_STANDARD:
        return
    if vife == _UNSIGNED:
        record.is_signed = False
    elif 0x70 <= vife < 0x78:
        record.exponent += vife - 0x76
    elif vife == 0x7D:
        record.exponent += 3
    elif _ADDED <= vife < 0x7C:
        record.added = vife - _ADDED - 3
    else:
        record.plain = False
        per = lookup(_PER, vife)
        word = lookup(_QUALIFIED, vife)
        if per:
            record.unit = (record.unit or "") + per
        elif word:
            record.qualified += ", " + word.replace("_", " ")
            if vife in _COUNTS:
                record.is_signed = False
                record.unit = None
                record.exponent = 0
        elif vife in _DATES:
            record.is_time = True
            record.unit = None
            record.qualified += ", time %02x" % vife
        elif 0x50 <= vife < 0x68:
            record.unit = _SPANS[vife & 3]
            record.exponent = 0
            record.qualified += ", duration %02x" % vife
        else:
            record.name = "?"


def _text(buf, at, end):
    """The text of buf[at:end], sent last letter first, "" where it is none. ISO 8859-1 (clause 6.4.4)."""
    text = ""
    for i in range(end - 1, at - 1, -1):
        if buf[i] < 0x20 or 0x7F <= buf[i] < 0xA0:
            if buf[i] in (0, 10, 13):  # fills up
                continue
            return ""
        text += chr(buf[i])
    return text.strip()


def number_of(buf, at, end):
    value = 0
    for i in range(end - 1, at - 1, -1):
        value = value << 8 | buf[i]
    return value


def bcd(buf, at, end):
    """The value of a BCD number, lowest byte first; F as its first digit is a minus. None where a digit is none."""
    value = 0
    negative = False
    for i in range(end - 1, at - 1, -1):
        high = buf[i] >> 4
        if high == 0x0F and i == end - 1:
            negative = True
            high = 0
        low = buf[i] & 0x0F
        if high > 9 or low > 9:
            return None
        value = value * 100 + high * 10 + low
    return -value if negative else value


def read_value(record, kind, buf):
    """Set the value of a record of fixed length, whose `at` and `end` are known."""
    at = record.at
    end = record.end
    if kind in (_NOTHING, _SELECTION):
        return
    if record.is_time:
        if kind in _BINARY_TIMES:
            _time(record, buf)
    elif kind == _REAL:
        _real(record, number_of(buf, at, end))
    elif kind >= _FIRST_BCD:
        record.value = bcd(buf, at, end)
    else:
        _binary(record, number_of(buf, at, end), 8 * (end - at))


def no_number(record, bits):
    """The binary number that says that there is none (annex A, types B and C); None where all are numbers (type D)."""
    return -1 << bits - 1 if record.is_signed else None if record.name[:5] in _BITS else (1 << bits) - 1


def _binary(record, number, bits):
    """Set the value of a record whose data is a binary number."""
    if record.is_signed:
        number = signed(number, bits)
    if number != no_number(record, bits):
        record.value = number


def _variable(record, buf, at, end):
    """Set the value of a record whose data tells its length (LVAR, table 5); returns where the next one begins."""
    lvar = _next(buf, at, end)
    at += 1
    if lvar < 0xC0:
        n = lvar
    elif lvar < 0xCA or 0xD0 <= lvar < 0xDA or 0xE0 <= lvar < 0xF0:
        n = lvar & 0x0F
    elif 0xF0 <= lvar < 0xF5:
        n = 4 * (lvar - 0xEC)
    elif lvar in (0xF5, 0xF6):
        n = 48 if lvar == 0xF5 else 64
    else:
        raise Malformed("LVAR %02x" % lvar)
    record.at = at
    record.end = at + n
    if at + n > end:
        raise Malformed("a value of %d bytes ends past the telegram" % n)
    if lvar < 0xC0:
        record.value = _text(buf, at, at + n)
        if not record.value:  # blanks, or no text at all
            record.value = None
    elif lvar < 0xE0:
        value = bcd(buf, at, at + n) if n else None
        if value is not None and value < 0:
            value = None
        record.value = -value if value and lvar >= 0xD0 else value
    elif n and (record.unit is not None or lvar < 0xF0) and not record.is_time:
        _binary(record, number_of(buf, at, at + n), 8 * n)
    return at + n


def _real(record, bits):
    """Set the value of an IEEE 754 number of 32 bits, exactly: m·2**-k is m·5**k · 10**-k."""
    power = bits >> 23 & 0xFF
    if power == _NAN:
        return
    value = bits & 0x7FFFFF
    if power:
        value |= 0x800000
    else:
        power = 1
    power -= 150
    if not value:
        record.value = 0
        return
    while power < 0 and not value & 1:
        value >>= 1
        power += 1
    if power >= 0:
        value <<= power
    else:
        record.exponent += power
        places = -power
        value *= 5**places
    record.value = -value if bits >> 31 else value


def _add(record):
    """Add the constant of VIFEs 78 to 7B."""
    shift = record.exponent - record.added
    if shift > 0:
        record.value *= 10**shift
        record.exponent = record.added
    record.value += 10 ** (record.added - record.exponent)


def _time(record, buf):
    """Set value and date of a time: type G in 2 bytes, F in 4, I in 6; of type J in 3, a time of day, the value alone
    (annex A). None where it is marked as invalid or as any, or is no date.
    """
    at = record.at
    n = record.end - at
    hour = minute = second = century = 0
    if n == 3:
        if buf[at] < 60 and buf[at + 1] < 60 and buf[at + 2] < 24:
            record.value = "%02d:%02d:%02d" % (buf[at + 2], buf[at + 1], buf[at])
        return
    if n == 2:
        day_at = at
    elif n == 4:
        minute = buf[at]
        if minute & 0x80:  # invalid
            return
        minute &= 0x3F
        hour = buf[at + 1] & 0x1F
        century = buf[at + 1] >> 5 & 3
        day_at = at + 2
    elif n == 6:
        if buf[at + 1] & 0x80:
            return
        second = buf[at] & 0x3F
        minute = buf[at + 1] & 0x3F
        hour = buf[at + 2] & 0x1F
        day_at = at + 3
    else:
        return
    day = buf[day_at] & 0x1F
    month = buf[day_at + 1] & 0x0F
    year = buf[day_at] >> 5 | (buf[day_at + 1] & 0xF0) >> 1
    if year > 99 or not 1 <= month <= 12 or not day or hour > 23 or minute > 59 or second > 59:
        return
    longest = 30 if month in (4, 6, 9, 11) else 29 if month == 2 and not year & 3 else 28 if month == 2 else 31
    if day > longest:
        return
    year += 1900 + 100 * century if century else 2000 if year < 81 else 1900
    record.date = (year, month, day, hour, minute, second)
    text = "%04d-%02d-%02d" % (year, month, day)
    if n > 2:
        text += "T%02d:%02d" % (hour, minute)
    record.value = text + ":%02d" % second if n == 6 else text
