"""What a DataNotification says: which element is the value of which register, its scale and its unit.

    0F | invoke id 4 | date-time: 00, 0C and 12 bytes, or 09 0C and 12 bytes | body: one A-XDR value

The forms of a body are metering.dlms.cosem_forms. A scale that is not sent is its family's: metering.dlms.scales.
"""

from array import array

from metering.compat import ascii_text, const, signed
from metering.dlms.axdr import (
    ARRAY,
    ENUM,
    INT8,
    OCTETS,
    STRUCTURE,
    Axdr,
    Malformed,
    integer,
    is_integer,
    string_at,
    untagged,
)
from metering.dlms.cosem_forms import FORMS, is_date, take_untagged
from metering.dlms.scales import Scales, family_of
from metering.reading import Reading
from metering.unload import unload

_MAX_ENTRIES = const(96)
_MAX_LAYOUTS = const(6)  # a meter sends up to three lists
_HEAD = const(5)  # of a DataNotification: its tag and the invoke id
_DATE_TIME = const(12)
_WIDE = b"\x05\x06\x10\x12\x14\x15\x17\x18"  # numbers of two bytes and more: a list of relays has none
_LEAST_HEX = const(16)  # digits of a number that may be another one's characters in hex
_PADDING = b"\x00 "


class Entries:
    """The registers of one body, `n` of them in five arrays, and what names the meter."""

    def __init__(self):
        self.codes = array("H", bytes(2 * _MAX_ENTRIES))  # where the six bytes are, or the position in the layout
        self.values = array("H", bytes(2 * _MAX_ENTRIES))  # where the value is, behind its tag,
        self.tags = array("B", bytes(_MAX_ENTRIES))  # and the tag
        self.scales = array("H", bytes(2 * _MAX_ENTRIES))  # where the scaler is; 0: not sent
        self.units = array("H", bytes(2 * _MAX_ENTRIES))  # where the unit is
        self.n = 0
        self.id_at = 0  # tag of the string or number that names the meter; 0: none does
        self.id_rank = 0  # how surely its code says so

    def clear(self):
        self.n = self.id_at = self.id_rank = 0

    def add(self, code, value, tag, scaler, unit):
        """Note a register; one past _MAX_ENTRIES is left out."""
        n = self.n
        if n < _MAX_ENTRIES:
            self.codes[n] = code
            self.values[n] = value
            self.tags[n] = tag
            self.scales[n] = scaler
            self.units[n] = unit
            self.n += 1

    def last_is(self, buf, code):
        """Has the register taken last the code at buf[code]?"""
        last = self.codes[self.n - 1]
        return self.n > 0 and buf[last : last + 6] == buf[code : code + 6]

    def set_scale(self, scale):
        """Give the register taken last the structure of scaler and unit whose tag is at `scale`."""
        self.scales[self.n - 1] = scale + 3
        self.units[self.n - 1] = scale + 5


class Cosem:
    """One notification taken apart. `date_at`: where its clock is (12 bytes), 0 for none; `family` by its name, or "".

    Allocates its arrays once; of a telegram a handful, of a reading the Reading with its code and value.
    """

    def __init__(self):
        self.axdr = Axdr()
        self.entries = Entries()
        self.layout = None  # the codes of a positional layout
        self.unknown_kinds = ""  # kinds of the elements of a list that learn_layout() is to look up
        self.known_layouts = {}  # kinds of a list's elements -> (family, codes), or None
        self.end = 0
        self.date_at = 0
        self.family = ""
        self.family_scales = Scales()

    def parse_notification(self, buf, at, end):
        """Take the DataNotification at buf[at] apart; returns where it ends. Raises Malformed."""
        body = self._body_of(buf, at, end)
        sent = self.date_at
        behind = self.parse(buf, body, end)
        self.date_at = self.date_at or sent
        return behind

    def end_of_notification(self, buf, at, end):
        """Where the DataNotification at buf[at] ends, before it is taken apart. Raises Malformed."""
        body = self._body_of(buf, at, end)
        try:
            return self.axdr.parse(buf, body, end)
        except Malformed:
            return self.parse(buf, body, end)

    def _body_of(self, buf, at, end):
        at += _HEAD
        if at >= end:
            raise Malformed("A-XDR truncated")
        if buf[at] == OCTETS:  # Kaifa and old Kamstrup tag it
            at += 1
        n = buf[at]
        if n not in (0, _DATE_TIME) or at + 1 + n > end:
            raise Malformed("no date-time of %d bytes" % n)
        self.date_at = at + 1 if n else 0
        return at + 1 + n

    def parse(self, buf, at, end):
        """Take the body at buf[at] apart; returns where it ends. Raises Malformed. `n_values` counts its registers."""
        self.entries.clear()
        self.date_at = 0
        self.layout = None
        self.unknown_kinds = ""
        self.family = ""
        self.end = end
        try:
            behind = self.axdr.parse(buf, at, end)
        except Malformed:
            self.axdr.count = 0
            behind = take_untagged(self, buf, at, end)
            if not behind:
                raise
            return behind
        if buf[at] == ARRAY or buf[at] == STRUCTURE:
            self.family = family_of(buf, self.axdr, end)
        for takes in FORMS:
            if takes(self, buf):
                break
        return behind

    def learn_layout(self):
        """Look up `unknown_kinds`; then the body is to be parsed again. The table takes 2 KiB of a device's heap and is
        dropped again. Not in parse(): loading a module takes stack, of which an ESP32 has 16 KiB.
        """
        from metering.dlms.layouts import LAYOUTS

        known, kinds = self.known_layouts, self.unknown_kinds
        if len(known) == _MAX_LAYOUTS:
            known.clear()
        known[kinds] = None
        for row in LAYOUTS:
            if row.startswith(kinds + " "):
                _, family, codes = row.split(" ", 2)
                known[kinds] = "" if family == "." else family, codes
        LAYOUTS = None
        unload("metering.dlms.layouts")

    @property
    def n_values(self):
        return self.entries.n

    def is_unknown(self, buf):
        """Is it a list of numbers of which no register is known?"""
        axdr = self.axdr
        if not self.entries.n:
            for i in range(axdr.count):
                if buf[axdr.offsets[i]] in _WIDE:
                    return True
        return False

    # -- what every form uses

    def code_at(self, buf, i):
        """Where the OBIS code is that element `i` is, 0 where it is none."""
        at = self.axdr.offsets[i]
        return at + 2 if buf[at] == OCTETS and buf[at + 1] == 6 and buf[at + 7] == 0xFF else 0

    def is_scale(self, buf, i):
        """Is element `i` a structure of scaler and unit?"""
        axdr = self.axdr
        return (
            buf[axdr.offsets[i]] == STRUCTURE
            and axdr.ends[i] == i + 3
            and buf[axdr.offsets[i + 1]] == INT8
            and buf[axdr.offsets[i + 2]] == ENUM
        )

    def take(self, buf, code, value, scale):
        """An entry of a code and the tag of its value: a number is a register, and it or a text may name the meter."""
        entries = self.entries
        if is_integer(buf, value):  # scaler and unit: 02 02 0F scaler 16 unit
            entries.add(code, value + 1, buf[value], scale + 3 if scale else 0, scale + 5 if scale else 0)
        elif is_date(buf, value):
            if buf[code + 2] == 1 and buf[code + 3] == 0:  # 0-0:1.0.0
                self.date_at = value + 2
            return
        elif not string_at(buf, value, self.end)[1]:
            return
        rank = self._rank(buf, code) if buf[code + 2] in b"\x00\x2a\x60" else 0
        if rank > entries.id_rank:
            entries.id_rank = rank
            entries.id_at = value

    def _rank(self, buf, code):
        """How surely the code names the meter: 0 not at all, 5 by its logical number."""
        b, c, d, e = buf[code + 1], buf[code + 2], buf[code + 3], buf[code + 4]
        if c == 0 and d == 0 and buf[code] == 1:
            return 3 if e == 5 else 2 if e < 2 else 0  # Kamstrup, 1-1; 0.0.1 as a number
        if b or d > 1 or e > 1:  # of a device on the M-Bus
            return 0
        if c == 96 and d == 1:  # 96.1.1 is Kamstrup's type, and the number of some E450
            return 5 if not e else 0 if self.family.startswith("kamstrup") else 1
        return 4 if c == 42 and d == e == 0 else 0

    # -- what comes out

    def readings(self, buf):
        """Yields a Reading for each register, in the order sent."""
        entries, scales = self.entries, self.family_scales
        scales.begin(buf, entries, self.family)
        for k in range(entries.n):
            if self.layout:
                obis = code_of(self.layout[entries.codes[k]])
            else:
                obis = bytes(buf[entries.codes[k] : entries.codes[k] + 6])
            value = untagged(buf, entries.values[k], entries.tags[k])
            at = entries.scales[k]
            if at:
                unit = buf[entries.units[k]]
                exponent = signed(buf[at], 8)
            else:
                unit, exponent = scales.of_code(obis)
            yield Reading(obis, value, exponent, unit if unit != 255 else None)

    def meter_id(self, buf):
        """The text that names the meter, without padding, "" where none does."""
        at = self.entries.id_at
        if not at:
            return ""
        if is_integer(buf, at):
            return str(integer(buf, at))
        at, n = string_at(buf, at, self.end)
        text = ascii_text(bytes(buf[at : at + n]).strip(_PADDING)) or ""
        return _plain_digits(text)


def _plain_digits(text):
    """The digits that `text` holds as characters in hex ("3132..."); anything else as it is."""
    n = len(text)
    if n < _LEAST_HEX or n % 2:
        return text
    for i in range(0, n, 2):
        if text[i] != "3" or not "0" <= text[i + 1] <= "9":
            return text
    return "".join([text[i] for i in range(1, n, 2)])


def code_of(text):
    """The OBIS code of "1.8.0", in 1-0, or of "0-0:96.3.10"."""
    medium = 1
    if ":" in text:
        head, text = text.split(":")
        medium = int(head[:1])
    return bytes([medium, 0] + [int(part) for part in text.split(".")] + [255])
