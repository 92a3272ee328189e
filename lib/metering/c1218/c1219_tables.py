"""Registers of a meter's standard tables, ANSI C12.19: what each is and how it is scaled, the meter itself must tell.

     0  general configuration: order of bytes, form of numbers, may a part of a table be read?
     1  maker, number; 5 the number where that is empty
    21  actual registers: how many summations
    22  which source each of them counts
    11  how many sources, and units of measure
    16  of each source: has it a unit of measure, is it in engineering units, is a constant still to be applied?
    12  units of measure, one for each source of table 16 that has one
    23  the summations, of all tariffs together
    52  the clock, told where it is in UTC

Table 20 has the same form as 21 and tells what might be; 6 holds the owner's names: neither is asked for. A summation
is left out where its scale, unit or direction is not told beyond doubt; tariffs, demands and present values are not
decoded. Source: ANSI C12.19-1997 and -2008, as laid out alike in several public decoders of it; no meter's capture.
"""

from metering.compat import const
from metering.reading import Reading

_MOST_SUMMATIONS = const(32)
_NO_SOURCE = const(255)
_IDS = (0, 1, 5, 21, 22, 11, 16, 12, 23, 52)
_NAMEPLATE_ELECTRIC = const(2)
# NI_FORMAT -> bytes of a number; 0 is FLOAT64, 1 FLOAT32, 2 and 3 characters
_SIZES = bytes((8, 4, 12, 6, 4, 6, 4, 3, 4, 5, 6, 8, 8, 21))
_FLOATS = (0, 1)
_CHARACTERS = (2, 3, 13)
_BCD = (5, 6, 12)
_FOUR_DECIMALS = const(4)
_MULTIPLIERS = (0, 2, 3, 6, 9, -2, -3, -6)  # powers of ten
_MOST_DIGITS = const(20)

_HAS_UNIT = const(0x01)  # of table 16
_IS_ENGINEERING = const(0x10)
_IS_TO_BE_SCALED = const(0x20)
_OTHER_KIND = const(19)  # of table 12, from this bit on: a phase, a harmonic, another resource, not the standard's
_NET = const(0x00040000)
_WATT = const(0)
_VAR = const(1)
_VA = const(2)
# (what, quadrants as bits Q1 to Q4, are they netted? 0, 1, 2: either; C of 1-0:C.8.0)
_CODES = (
    (_WATT, 0b1001, 2, 1),
    (_WATT, 0b0110, 2, 2),
    (_WATT, 0b1111, 0, 15),
    (_WATT, 0b1111, 1, 16),
    (_VAR, 0b0011, 0, 3),
    (_VAR, 0b1100, 0, 4),
    (_VAR, 0b0001, 0, 5),
    (_VAR, 0b0010, 0, 6),
    (_VAR, 0b0100, 0, 7),
    (_VAR, 0b1000, 0, 8),
    (_VA, 0b1001, 0, 9),
    (_VA, 0b0110, 0, 10),
)
_UNITS = (30, 32, 31)  # Wh, varh, VAh: IEC 62056-6-2, 4.3.2
_NET_CODE = const(16)
_CENTURY = const(2000)  # of years of two digits
_EPOCH = const(719469)  # 1970-01-01 in days, counted so


def number_at(data, at, form, is_big, has_twos_complement):
    """(value, exponent) of the number of NI_FORMAT `form` at data[at], None where it is none beyond doubt."""
    raw = bytes(data[at : at + _SIZES[form]])
    if form in _CHARACTERS:
        return _of_characters(raw)
    if form in _BCD:
        if not is_big:
            return None  # whether the order of bytes is that of digits too is not told
        value = 0
        for byte in raw:
            if byte > 0x99 or byte & 0x0F > 9:
                return None
            value = value * 100 + (byte >> 4) * 10 + (byte & 0x0F)
        return value, 0
    value = int.from_bytes(raw, "big" if is_big else "little")
    if form in _FLOATS:
        from metering.binary_fraction import value_of  # 2 KB, for who sends such

        return value_of(value, 8 * len(raw))
    if value >> (8 * len(raw) - 1):
        if not has_twos_complement:
            return None
        value -= 1 << 8 * len(raw)
    return value, -4 if form == _FOUR_DECIMALS else 0


def _of_characters(raw):
    value = digits = exponent = 0
    has_point = False
    text = raw.strip(b" \x00")
    for byte in text:
        if 0x30 <= byte <= 0x39:
            value = value * 10 + byte - 0x30
            digits += 1
            exponent -= has_point
        elif byte == 0x2E and not has_point:
            has_point = True
        else:
            return None
    return (value, exponent) if 0 < digits <= _MOST_DIGITS else None


def _text(raw):
    """Printable ASCII of it, "" where it is something else."""
    raw = bytes(raw).strip(b"\x00 ")  # bytearray has no strip() on MicroPython
    for byte in raw:
        if not 0x20 <= byte <= 0x7E:
            return ""
    return raw.decode()


class C1219Tables:
    """Ask wanted() and give take() its answer, until nothing is wanted; then `number`, `readings`, `clock` and `why`.

    `why`: in words why a summation, or all of it, is left out; "" for nothing. `clock`: seconds since 1970 UTC or None.
    """

    def __init__(self):
        self.number = self.why = ""
        self.readings = []
        self.clock = None
        self.table = 0  # wanted now, -1: none
        self._is_big = self._reads_parts = False
        self._id_is_bcd = self._has_twos_complement = False
        self._form = self._clock_form = 0
        self._start = 0  # of the summations in table 23
        self._selected = b""  # source of each summation
        self._summations = self._units = 0
        self._last = 0  # the highest of the sources
        self._links = b""
        self._kinds = ()  # (C of the code, exponent, unit) of each summation, None where it is left out

    def wanted(self):
        """(offset, bytes, step) of the part of `table` that is wanted, bytes 0: all of it. Of several parts each has a
        multiple of `step` bytes, so that no number is torn."""
        table = self.table
        if not self._reads_parts:
            return 0, 0, 1
        if table == 21:
            return 0, 10, 10
        if table == 22:
            return 0, self._summations, 1
        if table == 11:
            return 0, 8, 8
        if table == 16:
            return 0, self._last + 1, 1
        if table == 12:
            return 0, 4 * self._units, 4
        if table == 23:
            size = _SIZES[self._form]
            return self._start, size * self._summations, size
        return 0, 0, 1

    def take(self, data, start=0, refused=""):
        """The table's bytes from `start` on have come, all that was wanted; None: it is refused, in words why. The next
        is `table`."""
        table = self.table
        if data is None:
            if table not in (1, 5, 52):  # these two name the meter, and its clock
                self._fail("table %d: %s" % (table, refused))
        else:
            why = self._read(table, data, start)
            if why:
                self._fail(why)
        if self.table < 0:
            return
        at = _IDS.index(table) + 1
        if at < len(_IDS) and _IDS[at] == 5 and self.number:
            at += 1
        if at < len(_IDS) and _IDS[at] == 52 and not self._clock_form:
            at += 1
        self.table = _IDS[at] if at < len(_IDS) else -1

    def _fail(self, why):
        self.why = why
        self.table = -1

    def _read(self, table, data, start):
        """Why nothing can be told, "" to go on."""
        n = len(data)
        if table == 0:
            return self._configure(data)
        if table == 1:
            raw = data[16:24] if self._id_is_bcd else data[16:32]
            self.number = self._name(raw)
        elif table == 5:
            self.number = self._name(data[:10] if self._id_is_bcd else data[:20])
        elif table == 21:
            if n < 10 or not 0 < data[3] <= _MOST_SUMMATIONS:
                return "table 21 names no summation, or more than %d" % _MOST_SUMMATIONS
            self._start = data[0] >> 2 & 1  # behind the count of demand resets
            self._summations = data[3]
        elif table == 22:
            self._selected = bytes(data[: self._summations])
            if len(self._selected) < self._summations:
                return "table 22 is too short"
            self._last = max([source if source != _NO_SOURCE else -1 for source in self._selected])
            if self._last < 0:
                return "table 22 names no source"
        elif table == 11:
            if n < 8:
                return "table 11 is too short"
            self._units = data[1]
            if self._last >= data[7]:
                return "table 22 names a source that does not exist"
        elif table == 16:
            self._links = bytes(data[: self._last + 1])
            if len(self._links) <= self._last:
                return "table 16 is too short"
            self._units = min(self._units, len(self._links))
            if not self._units:
                return "table 12 has no unit of measure"
        elif table == 12:
            self._kinds = tuple([self._kind(source, data) for source in self._selected])
        elif table == 23:
            return self._count(data, start)
        elif table == 52:
            self.clock = self._seconds(data)
        return ""

    def _configure(self, data):
        if len(data) < 8:
            return "table 0 is too short"
        self._is_big = bool(data[0] & 1)
        self._clock_form = data[1] & 7
        self._reads_parts = bool(data[1] >> 3 & 1)  # by offset and count: 1, and 3 with index and count
        self._id_is_bcd = bool(data[1] & 0x20)
        self._has_twos_complement = not data[1] >> 6
        self._form = data[2] & 0x0F
        if data[7] != _NAMEPLATE_ELECTRIC:
            return "it is no electricity meter (table 0)"
        if self._form >= len(_SIZES):
            return "its numbers are of an unknown form (NI_FORMAT1 %d)" % self._form
        return ""

    def _name(self, raw):
        if not self._id_is_bcd:
            return _text(raw)
        digits = ""
        for byte in raw:
            if byte > 0x99 or byte & 0x0F > 9:
                return ""
            digits += "%02x" % byte
        return digits.lstrip("0")

    def _kind(self, source, units):
        if source == _NO_SOURCE:
            return None
        link = self._links[source]
        at = 0
        for k in range(source):
            at += self._links[k] & _HAS_UNIT
        if not link & _HAS_UNIT or at != source or 4 * at + 4 > len(units):
            return self._leave_out("which unit of measure a register has is not clear (tables 12 and 16)")
        if not link & _IS_ENGINEERING or link & _IS_TO_BE_SCALED:
            return self._leave_out("a register counts pulses, or a constant is still to be applied (table 16)")
        unit = int.from_bytes(units[4 * at : 4 * at + 4], "big" if self._is_big else "little")
        quadrants = unit >> 14 & 0x0F
        is_net = bool(unit & _NET)
        if not unit >> _OTHER_KIND and not unit >> 8 & 7:
            for what, wanted, net, code in _CODES:
                if what == unit & 0xFF and wanted == quadrants and net in (2, is_net):
                    return code, _MULTIPLIERS[unit >> 11 & 7], _UNITS[what]
        return self._leave_out("a register counts something else than energy by direction (table 12)")

    def _leave_out(self, why):
        self.why = why

    def _count(self, data, start):
        size = _SIZES[self._form]
        at = self._start - start
        if at < 0 or len(data) < at + size * self._summations:
            return "table 23 is too short"
        codes = [kind[0] for kind in self._kinds if kind]
        for kind in self._kinds:
            found = number_at(data, at, self._form, self._is_big, self._has_twos_complement)
            at += size
            if kind is None:
                continue
            code, exponent, unit = kind
            if codes.count(code) > 1:
                self.why = "several registers count the same (table 22)"
            elif found is None or found[0] < 0 and code != _NET_CODE:
                self.why = "a register holds no number beyond doubt (table 23)"
            else:
                self.readings.append(Reading(bytes((1, 0, code, 8, 0, 255)), found[0], found[1] + exponent, unit))
        return "" if self.readings else self.why

    def _seconds(self, data):
        """Of table 52, where its clock is told to be in UTC."""
        order = "big" if self._is_big else "little"
        form = self._clock_form
        n = {1: 6, 2: 6, 3: 5, 4: 4}.get(form, 0)
        if not n or len(data) <= n or not data[n] & 0x10:
            return None
        if form > 2:
            seconds = int.from_bytes(data[:4], order)
            return seconds if form == 4 else seconds * 60 + data[4]
        year, month, day, hour, minute, second = [
            (byte >> 4) * 10 + (byte & 0x0F) if form == 1 else byte for byte in data[:6]
        ]
        if not (year < 100 and 0 < month < 13 and 0 < day < 32 and hour < 24 and minute < 60 and second < 60):
            return None
        year += _CENTURY - (month < 3)  # a year that begins in March, as a leap day ends it
        days = year * 365 + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - _EPOCH
        return ((days * 24 + hour) * 60 + minute) * 60 + second
