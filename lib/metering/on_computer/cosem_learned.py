"""Notifications on a computer: what is built as one before it is compared, not taken apart. A board never loads it.

What a form leaves open are the numbers that are registers, the clocks and the invoke id: of these nothing but the value
is told. Every other byte must be as it was; else metering.dlms.cosem, which is the definition, takes it apart.
"""

from struct import Struct

from metering.compat import signed
from metering.dlms import cosem
from metering.dlms.axdr import OCTETS
from metering.dlms.cosem import code_of
from metering.dlms.cosem_forms import is_date
from metering.reading import Reading

_MAX_FORMS = 4  # a meter sends up to three lists; a form of 96 registers takes 20 KiB
_MAX_IN_VAIN = 16  # forms learned in a row of which none has come again: then no more are
_HEAD = 5
_DATE_TIME = 12
_NUMBERS = {5: "i", 6: "I", 15: "b", 16: "h", 17: "B", 18: "H", 20: "q", 21: "Q", 22: "B"}  # tag -> of struct
_BYTES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8}
_NO_UNIT = 255
_PIECE = 128  # bytes compared at once: the fewer, the less memory for a moment
_RULED_BY_CODES = ("", "kaifa", "iskra", "burgenland")  # families whose scales no value of a telegram changes


class _Form:
    """What `known`, a Cosem, has found in the notification buf[at:end], which ends at `behind`."""

    def __init__(self, known, buf, at, end, behind):
        self.at, self.size, self.behind = at, end - at, behind
        axdr, entries = known.axdr, known.entries
        n = self.n = entries.n
        self.entries = tuple(row[:n] for row in _rows_of(entries))
        self.id_at, self.id_rank = entries.id_at, entries.id_rank
        self.count = axdr.count
        self.offsets, self.ends = axdr.offsets[: axdr.count], axdr.ends[: axdr.count]
        self.date_at, self.layout, self.family = known.date_at, known.layout, known.family
        self.readings = []  # of each register obis, power of ten and unit; None for a power that the values decide
        self.is_ruled_by_values = False
        self.pieces = []  # begin and end in the notification, what of it is fixed, and how
        self.values = None  # the Struct of all values from the notification's begin on
        mask = bytearray(b"\xff" * (end - at))
        _open(mask, 1, _HEAD)
        date = at + _HEAD + (buf[at + _HEAD] == OCTETS)
        if buf[date]:
            _open(mask, date + 1 - at, date + 1 + _DATE_TIME - at)
        for i in range(axdr.count):
            tag_at = axdr.offsets[i]
            if is_date(buf, tag_at):  # but for its length and the century, which make it one
                _open(mask, tag_at + 3 - at, tag_at + 2 + _DATE_TIME - at)
        layout, behind_last = ">", 0
        for value, tag in zip(self.entries[1], self.entries[2]):
            letter = _NUMBERS[tag]
            value -= at
            _open(mask, value, value + _BYTES[letter])
            if value < behind_last:
                return  # without values it is no form
            layout += "%dx%s" % (value - behind_last, letter)
            behind_last = value + _BYTES[letter]
        self.values = Struct(layout)
        for start in range(0, self.size, _PIECE):
            stop = min(self.size, start + _PIECE)
            fixed = int.from_bytes(mask[start:stop], "big")
            self.pieces.append((start, stop, fixed, int.from_bytes(buf[at + start : at + stop], "big") & fixed))

    def learn_readings(self, known, buf):
        scales = known.family_scales
        self.is_ruled_by_values = known.family not in _RULED_BY_CODES
        if not self.is_ruled_by_values:
            scales.begin(buf, known.entries, known.family)
        for code, _, _, scale, unit in zip(*self.entries):
            obis = code_of(known.layout[code]) if known.layout else bytes(buf[code : code + 6])
            if scale:
                unit, exponent = buf[unit], signed(buf[scale], 8)
            elif self.is_ruled_by_values:
                unit = exponent = None
            else:
                unit, exponent = scales.of_code(obis)
            self.readings.append((obis, exponent, unit if unit != _NO_UNIT else None))


def _rows_of(entries):
    return entries.codes, entries.values, entries.tags, entries.scales, entries.units


def _open(mask, start, stop):
    mask[start:stop] = bytes(stop - start)


class Cosem(cosem.Cosem):
    """The same registers, the same readings. A form is learned where one of its size comes again."""

    def __init__(self):
        cosem.Cosem.__init__(self)
        self._forms = []
        self._form = None  # of the notification in hand
        self._in_vain = 0
        self._sizes = []  # of the notifications before

    def _find(self, buf, at, end):
        for form in self._forms:
            if form.size == end - at:
                for start, stop, mask, pattern in form.pieces:
                    if int.from_bytes(buf[at + start : at + stop], "big") & mask != pattern:
                        break
                else:
                    return form
        return None

    def parse_notification(self, buf, at, end):
        form = self._form = self._find(buf, at, end)
        if form is not None and form.at == at:
            self._in_vain = 0
            self._take(form, end)
            return form.behind
        self._form = None
        behind = cosem.Cosem.parse_notification(self, buf, at, end)
        size = end - at
        if size not in self._sizes:
            self._sizes = [size, *self._sizes[: _MAX_FORMS - 1]]
        elif self.entries.n and not self.unknown_kinds and self._in_vain < _MAX_IN_VAIN:
            form = _Form(self, buf, at, end, behind)
            if form.values:
                self._in_vain += 1
                form.learn_readings(self, buf)
                self._forms = [form, *self._forms[: _MAX_FORMS - 1]]
                self._form = form
        return behind

    def end_of_notification(self, buf, at, end):
        form = self._find(buf, at, end)
        if form is not None:
            return form.behind - form.at + at
        return cosem.Cosem.end_of_notification(self, buf, at, end)

    def _take(self, form, end):
        """As parse() leaves it."""
        axdr, entries = self.axdr, self.entries
        n, count = form.n, form.count
        entries.n, entries.id_at, entries.id_rank = n, form.id_at, form.id_rank
        for row, learned in zip(_rows_of(entries), form.entries):
            row[:n] = learned
        axdr.count = count
        axdr.offsets[:count] = form.offsets
        axdr.ends[:count] = form.ends
        self.date_at, self.layout, self.family = form.date_at, form.layout, form.family
        self.unknown_kinds = ""
        self.end = end

    def readings(self, buf):
        form = self._form
        if form is None or form.values is None:
            yield from cosem.Cosem.readings(self, buf)
            return
        scales = self.family_scales
        if form.is_ruled_by_values:
            scales.begin(buf, self.entries, form.family)
        for (obis, exponent, unit), value in zip(form.readings, form.values.unpack_from(buf, form.at)):
            if exponent is None:
                unit, exponent = scales.of_code(obis)
            yield Reading(obis, value, exponent, unit)
