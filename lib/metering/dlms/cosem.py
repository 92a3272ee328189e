"""What a DataNotification's body says: which element is the value of which register, its scale and its unit.

Forms, each found by its structure (OBIS: octets of six whose last is 255, or class, code and attribute untagged):

    structures      [code, value, [scaler, unit]] in an array or a structure           Aidon, AM550 Austria, Salzburg
    flat            code, value, [scaler, unit] | code, value ...                      Netz NOE, Kamstrup, Kaifa, L+G
    object list     element 0 lists class, code, attribute of the elements behind it   Swiss L+G and Iskraemeco
    untagged        [class, code, attribute without tags, value]                       EG.D (XT211)
    positional      no codes at all: metering.dlms.layouts                             Wiener Netze, Kaifa, Slovenia

A scale that is neither sent nor the family's is not guessed: such a value has no unit.
"""

from array import array

from metering.compat import ascii_text, const, signed
from metering.dlms.axdr import (
    ARRAY,
    COMPACT,
    ENUM,
    INT8,
    INT64,
    OCTETS,
    STRUCTURE,
    Axdr,
    Malformed,
    ber_length,
    integer,
    is_integer,
    size_of,
    string_at,
    untagged,
)
from metering.dlms.layouts import LAYOUTS, SCALES
from metering.reading import Reading

_MAX_ENTRIES = const(96)
_MAX_FIELDS = const(8)  # of a compact array's items
_DATE_TIME = const(12)
_KAMSTRUP_TYPE = const(18)  # characters, as 6841131BN243101040
_LG_SETUP = const(8)  # Landis+Gyr's is 0-8:25.9.0, also where no name says whose it is
_PUSH_SETUP = const(40)  # class of an object list's entry for itself
_VALUE = const(2)  # attributes of a register
_SCALER_UNIT = const(3)
_ONE_VALUE = (3, 4, 8)  # classes of which no other attribute is a value: register, extended register, clock
_FLOATS = b"\x17\x18"
_LETTERS = b"0aaB.Hl..os.s..HHbh.HleffTDm"  # by tag; 8-byte unsigned ones as those of 4


class Cosem:
    """The entries of one body. `date_at` where its clock is (12 bytes), 0 for none; `family` by its name, or ""."""

    def __init__(self):
        self._axdr = Axdr()
        self._codes = array("H", [0] * _MAX_ENTRIES)  # where the six bytes are, or the position in the layout
        self._values = array("H", [0] * _MAX_ENTRIES)  # where the value is, behind its tag,
        self._tags = array("B", [0] * _MAX_ENTRIES)  # and the tag
        self._scales = array("H", [0] * _MAX_ENTRIES)  # where the scaler is; 0: not sent
        self._units = array("H", [0] * _MAX_ENTRIES)  # where the unit is
        self._n = 0
        self._layout = None  # the codes of a positional layout
        self._end = 0
        self.date_at = 0
        self.family = ""
        self._id_at = 0  # tag of the string that names the meter
        self._id_rank = 0

    def parse(self, buf, at, end):
        """Take the body at buf[at] apart; returns where it ends. Raises Malformed. `n_values` counts its registers."""
        self._n = self.date_at = self._id_at = self._id_rank = 0
        self._layout = None
        self.family = ""
        self._end = end
        try:
            behind = self._axdr.parse(buf, at, end)
        except Malformed:
            behind = self._untagged(buf, at, end)
            if not behind:
                raise
            return behind
        if buf[at] == COMPACT:
            self._compact(buf, at + 1)
        elif buf[at] == ARRAY or buf[at] == STRUCTURE:
            self._family_of(buf)
            if not self._object_list(buf):
                self._walk(buf, 0)
            if not self._n:
                self._positional(buf)
        return behind

    def end_of(self, buf, at, end):
        """Where the body at buf[at] ends, before it is taken apart. Raises Malformed."""
        try:
            return self._axdr.parse(buf, at, end)
        except Malformed:
            return self.parse(buf, at, end)

    @property
    def n_values(self):
        return self._n

    def _add(self, code, value, tag, scaler, unit):
        if self._n < _MAX_ENTRIES:
            self._codes[self._n] = code
            self._values[self._n] = value
            self._tags[self._n] = tag
            self._scales[self._n] = scaler
            self._units[self._n] = unit
            self._n += 1

    def _code_at(self, buf, i):
        """Where the OBIS code is that element `i` is, 0 where it is none."""
        at = self._axdr.offsets[i]
        return at + 2 if buf[at] == OCTETS and buf[at + 1] == 6 and buf[at + 7] == 0xFF else 0

    def _is_scale(self, buf, i):
        """Is element `i` a structure of scaler and unit?"""
        axdr = self._axdr
        return (
            buf[axdr.offsets[i]] == STRUCTURE
            and axdr.ends[i] == i + 3
            and buf[axdr.offsets[i + 1]] == INT8
            and buf[axdr.offsets[i + 2]] == ENUM
        )

    def _walk(self, buf, i):
        """The children of element `i`: codes with values behind them, or structures of these."""
        axdr = self._axdr
        offsets, ends = axdr.offsets, axdr.ends
        last = ends[i]
        k = i + 1
        stray = False  # an integer that is no code's: what follows may belong to what is before it
        while k < last:
            code = self._code_at(buf, k)
            value = ends[k]
            if code and value < last:
                behind = ends[value]
                scale = offsets[behind] if behind < last and self._is_scale(buf, behind) else 0
                if self._code_at(buf, value):  # a code where the value is due: this one was no code
                    k = value
                    continue
                if not stray and (scale or behind == last or self._may_follow(buf, behind)):
                    self._take(buf, code, offsets[value], scale)
                k = ends[behind] if scale else behind
                continue
            if is_integer(buf, offsets[k]):
                stray = True
            tag = buf[offsets[k]]
            if tag == COMPACT:
                self._compact(buf, offsets[k] + 1)
            elif tag == STRUCTURE or tag == ARRAY:
                if k + 1 < ends[k] and self._code_at(buf, k + 1):
                    self._walk(buf, k)  # one level: what is inside it are no structures of codes
            elif not self.date_at and self._is_date(buf, offsets[k]):
                self.date_at = offsets[k] + 2
            elif k > i + 1 and ends[k] == last and not self._id_at and string_at(buf, offsets[k], self._end)[1]:
                self._id_at = offsets[k]  # a lone string at the end
            k = ends[k]

    def _may_follow(self, buf, i):
        """May element `i` stand behind a value? No number, alone or first in a structure: which were the value?"""
        offsets = self._axdr.offsets
        at = offsets[i]
        if (buf[at] == STRUCTURE or buf[at] == ARRAY) and self._axdr.ends[i] > i + 1:
            at = offsets[i + 1]
        return not is_integer(buf, at) and buf[at] not in _FLOATS

    def _compact(self, buf, at):
        """A compact array of structures of a code, a number, and perhaps scaler and unit: their types once, untagged.

        Its extent was checked when it was taken apart; each field is held against that again.
        """
        types = bytearray()
        todo = 1
        while todo:
            todo -= 1
            tag = buf[at]
            at += 1
            if tag == ARRAY or len(types) == _MAX_FIELDS:
                return
            if tag == STRUCTURE:
                todo += buf[at]
                at += 1
            else:
                types.append(tag)
        n, at = ber_length(buf, at, self._end)
        end = at + n
        while at < end:
            began = at
            code = value = scaler = unit = value_tag = numbers = 0
            for tag in types:
                first = at
                if tag == OCTETS:
                    n, first = ber_length(buf, at, end)
                    if n == 6 and first + 6 <= end and buf[first + 5] == 0xFF:
                        code = first
                    at = first + n
                else:
                    if size_of(tag) == 255:
                        return
                    at += size_of(tag)
                    if tag == INT8:
                        scaler = first
                    elif tag == ENUM:
                        unit = first
                    elif untagged(buf, first, tag) is not None:
                        value, value_tag = first, tag
                        numbers += 1
                if at > end:
                    return
            if at == began:  # of types without bytes
                return
            if code and numbers == 1:  # of two, which would it be?
                self._add(code, value, value_tag, scaler if unit else 0, unit)

    def _is_date(self, buf, at):
        return buf[at] == OCTETS and buf[at + 1] == _DATE_TIME and 7 <= buf[at + 2] <= 8

    def _take(self, buf, code, value, scale):
        """An entry of a code and the tag of its value: a number is a register, texts may name the meter."""
        if is_integer(buf, value):  # scaler and unit: 02 02 0F scaler 16 unit
            self._add(code, value + 1, buf[value], scale + 3 if scale else 0, scale + 5 if scale else 0)
            return
        if self._is_date(buf, value):
            if buf[code + 2] == 1 and buf[code + 3] == 0:  # 0-0:1.0.0
                self.date_at = value + 2
            return
        rank = self._rank(buf, code)
        if rank > self._id_rank and string_at(buf, value, self._end)[1]:
            self._id_rank = rank
            self._id_at = value

    def _take_scale(self, buf, code, scale):
        """Scaler and unit of the register `code` that was taken last."""
        if self._is_last(buf, code):
            self._scales[self._n - 1] = scale + 3
            self._units[self._n - 1] = scale + 5

    def _is_last(self, buf, code):
        """Is it the code of the register that was taken last?"""
        last = self._codes[self._n - 1]
        return self._n > 0 and buf[last : last + 6] == buf[code : code + 6]

    def _rank(self, buf, code):
        b, c, d, e = buf[code + 1], buf[code + 2], buf[code + 3], buf[code + 4]
        if (c, d, e) == (0, 0, 5):  # Kamstrup, 1-1
            return 1
        if b or d > 1 or e:  # of a device on the M-Bus
            return 0
        return 3 if c == 96 and d == 1 else 2 if c == 42 and d == 0 else 0

    def _object_list(self, buf):
        """Element 1 an array of [class, code, attribute, index ...] with as many elements behind it: True."""
        axdr = self._axdr
        offsets, ends = axdr.offsets, axdr.ends
        if axdr.count < 6 or buf[offsets[1]] != ARRAY or buf[offsets[2]] != STRUCTURE or not self._code_at(buf, 4):
            return False
        value = ends[1]
        k = 2
        while k < ends[1] and value < ends[0]:
            if ends[k] < k + 4 or integer(buf, offsets[k + 1]) is None:
                return False
            code = self._code_at(buf, k + 2)
            attribute = integer(buf, offsets[k + 3])
            class_id = integer(buf, offsets[k + 1])
            setup = class_id == _PUSH_SETUP
            if setup and not self.family and buf[code + 1] == _LG_SETUP:
                self.family = "lg"
            if setup and not self._code_at(buf, value):  # it lists itself by two attributes and sends one
                k = ends[k]
                continue
            if code and attribute == _SCALER_UNIT and self._is_scale(buf, value):
                self._take_scale(buf, code, offsets[value])
            elif code and (attribute == _VALUE or class_id not in _ONE_VALUE and not self._is_last(buf, code)):
                self._take(buf, code, offsets[value], 0)
            value = ends[value]
            k = ends[k]
        return True

    def _family_of(self, buf):
        """By the name of a list, or of the meter: it says by which powers of ten the values are counted."""
        axdr = self._axdr
        offsets, end = axdr.offsets, self._end
        for i in range(1, axdr.count):
            at = offsets[i]
            if not 0x09 <= buf[at] <= 0x0C or buf[at + 1] < 6:
                continue
            if buf[at + 1] == 6 and buf[at + 7] == 0xFF:
                continue
            at, n = string_at(buf, at, end)
            head = bytes(buf[at : at + 4])
            if self.family == "kamstrup":
                if n == _KAMSTRUP_TYPE and head[:3] == b"685":
                    self.family = "kamstrup_ct"
                    return
                continue
            if head == b"Kams":
                self.family = "kamstrup"
                continue  # its type says whether it measures through transformers
            if head == b"KFM_":
                self.family = "kaifa"
            elif head[:3] == b"ISK":
                self.family = "iskra"
            elif head[:3] == b"LGZ":
                self.family = "lg"
            if self.family:
                return

    def _positional(self, buf):
        axdr = self._axdr
        kinds = bytearray()
        k = 1
        while k < axdr.ends[0]:
            at = axdr.offsets[k]
            tag = buf[at]
            kinds.append(0x74 if self._is_date(buf, at) else _LETTERS[tag] if tag < len(_LETTERS) else 0x2E)
            k = axdr.ends[k]
        text = kinds.decode()
        for signature, family, codes in LAYOUTS:
            if signature != text:
                continue
            self.family = family
            self._layout = codes.split()
            k = 1
            for position, code in enumerate(self._layout):
                at = axdr.offsets[k]
                if code == "T":
                    self.date_at = at + 2
                elif code == "I":
                    self._id_at = at
                elif code != "-":
                    self._add(position, at + 1, buf[at], 0, 0)
                k = axdr.ends[k]
            return

    def _untagged(self, buf, at, end):
        """EG.D's body, which is no A-XDR: 02 02 16 xx 01 n, each item 02 02 class code attribute untagged and a value.

        Returns where it ends, 0 where it is none.
        """
        if end - at < 8 or bytes(buf[at : at + 3]) != b"\x02\x02\x16" or buf[at + 4] != ARRAY or buf[at + 5] > 0x7F:
            return 0
        items = buf[at + 5]
        at += 6
        for _ in range(items):
            if end - at < 12 or buf[at] != STRUCTURE or buf[at + 1] != 2:
                return 0
            setup = buf[at + 2] << 8 | buf[at + 3]
            code, value = at + 4, at + 11
            at = self._axdr.parse(buf, value, end)
            if setup != _PUSH_SETUP:
                self._take(buf, code, value, 0)
        return at

    # -- what comes out

    def readings(self, buf):
        """Yields a Reading for each register, in the order sent."""
        family = self.family
        if family == "lg":
            family = self._lg(buf)
        scales = (None, None, None, 0)
        for row in SCALES:
            if row[0] == family:
                scales = row[1:]
        for k in range(self._n):
            if self._layout:
                obis = _code_of(self._layout[self._codes[k]])
            else:
                obis = bytes(buf[self._codes[k] : self._codes[k] + 6])
            value = untagged(buf, self._values[k], self._tags[k])
            at = self._scales[k]
            if at:
                unit = buf[self._units[k]]
                exponent = signed(buf[at], 8)
            else:
                unit, exponent = _scale(obis, scales)
            yield Reading(obis, value, exponent, unit if unit != 255 else None)

    def _lg(self, buf):
        """Which of Landis+Gyr's: an E570 sends 64 bits and whole amperes, an E360 counts tenths of a volt."""
        most = 0  # of the phases: one of them may be dead
        for k in range(self._n):
            quantity = (buf[self._codes[k] + 2] - 1) % 20 + 1
            if buf[self._codes[k] + 3] != 7:
                continue
            if quantity == 11 and self._tags[k] == INT64:
                return "lg_whole"
            if quantity == 12:
                most = max(most, untagged(buf, self._values[k], self._tags[k]) or 0)
        return "lg_tenths" if most > 1000 else "lg_unsure" if most > 500 else "lg"

    def meter_id(self, buf):
        """The text that names the meter, "" where none does."""
        if not self._id_at:
            return ""
        at, n = string_at(buf, self._id_at, self._end)
        return ascii_text(buf[at : at + n]) or ""


def _code_of(text):
    """The OBIS code of "1.8.0", in 1-0, or of "0-0:96.3.10"."""
    medium = 1
    if ":" in text:
        head, text = text.split(":")
        medium = int(head[:1])
    return bytes([medium, 0] + [int(part) for part in text.split(".")] + [255])


def _scale(obis, scales):
    """(unit, power of ten) of a register whose scale is not sent; (None, 0) where it is not known."""
    c, d = obis[2], obis[3]
    if obis[0] != 1 or not 0 < c <= 80:
        return None, 0
    quantity = (c - 1) % 20 + 1
    voltage, current, factor, energy = scales
    if d == 8 and quantity <= 10:
        return (30 if quantity < 3 else 32 if quantity < 9 else 31), energy
    if d != 7:
        return None, 0
    if quantity <= 10 or quantity == 16:
        return (27 if quantity < 3 or quantity == 16 else 29 if quantity < 9 else 28), 0
    if quantity == 12 and voltage is not None:
        return 35, voltage
    if quantity == 11 and current is not None:
        return 33, current
    return (None, factor) if quantity == 13 and factor is not None else (None, 0)
