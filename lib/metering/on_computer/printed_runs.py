"""The data sets of a block on a computer: whole runs of plain lines by one expression. A board never loads it.

What an expression does not match goes to metering.iec62056_21.data_sets, which is the definition; nothing is accepted
here that it refuses, and nothing told that it does not tell. Where the values of a block stand is learned: a block that
differs from one before it in digits and signs of values alone is not taken apart again.
"""

import re

from metering.characters import remembered
from metering.checksum import crc16
from metering.iec62056_21 import data_sets
from metering.iec62056_21.data_sets import ROOM, TABLE
from metering.iec62056_21.printed import PrintedReading, address_of, implied_unit, unit_of, unmapped

_MAX_DIGITS = 32
_MBUS = 24  # C
_HEAT = 6  # A
_OF_HEAT = (6, 9)  # C
_TOTAL = 8  # D

# Lines of sets that are kept as they stand, the first with an address. Left to the definition: the version of a P1, a !
# and, where no history is wanted, an address with * or & or a 6 in front, and FF.
_GROUPS = rb"(?:\([^()\r\n!]*\))++"
_SETS = rb"(?:(?!1-3:0\.2\.8\()[%b0-9A-Za-z\-:.][%b0-9A-Za-z\-:. ]{0,23}" + _GROUPS + rb")++"
_LINES = _SETS + rb"\r\n(?:(?:" + _SETS + b"|" + _GROUPS + rb")\r\n)*+"
_CURRENT = _LINES.replace(b"[%b0-9", b"[0-57-9", 2).replace(b"%b", b"")
_CURRENT_LINES = re.compile(_CURRENT.replace(rb"\([^()\r\n!]", rb"\((?!F{8})[^()\r\n!\xff]"))
_LINES_WITH_HISTORY = re.compile(_LINES.replace(b"%b", b"*&"))
_ADDRESS_WITH_SIX = re.compile(rb"(?:\A|(?<=\)))6[^(]*")

_BRACKET = re.compile(rb"\([^)]*")
_DIGITS_OF_NUMBER = bytes.maketrans(b"0123456789+", b"0000000000-")
_DIGITS_OF_TEXT = bytes.maketrans(b"0123456789ABCDEF+", b"0000000000000000-")
_SIX = 0x36

# One set: address(number*unit), perhaps a (text) before the number, or address(text), with (texts) behind; or another.
_SET = re.compile(
    r"([^( ]+)\((?:(?:([^()* ]*)\)\()?([+-]?[0-9]+(?:\.([0-9]+))?)\*([^()* ]+)|([^()* ]*))\)((?:\([^()* ]*\))*)(?!\()"
    r"|[^(]*(?:\([^)]*\))+",
    re.DOTALL,
)

# A set of several groups, some of them numbers with units: address(text)(number*unit)(text)(number*unit) ...
_GROUPED = re.compile(r"([^( ]+)((?:\((?:[^()* ]*|[+-]?[0-9]+(?:\.[0-9]+)?\*[^()* ]+)\))+)")

_MAX_LAYOUTS = 2  # a meter may send two lists in turn
_MAX_IN_VAIN = 16  # layouts learned in a row of which none has come again: then no more are
_MOST_BYTES = 16384  # of a block that is learned; its layout takes ten times as much
_PIECE = 256  # bytes compared at once
_RUN = 512  # bytes kept at once, where whole lines are in them

_WITHOUT_PARITY = bytes(range(128)) * 2
_CONTROLS = bytes(byte for byte in range(256) if byte & 0x7F < 0x20)


def _anonymous(match):
    text = match[0]
    if b"*" not in text:
        return text.translate(_DIGITS_OF_TEXT)
    if b"&" in text:  # each of several values may have a unit
        return b"&".join([_anonymous_number(part) for part in text.split(b"&")])
    return _anonymous_number(text)


def _anonymous_number(text):
    value, star, unit = text.partition(b"*")
    return value.translate(_DIGITS_OF_NUMBER) + star + unit


@remembered
def _is_heat(address):
    code = address_of(address.rstrip())[0]
    return code is not None and code[0] == _HEAT


@remembered
def _register(address, heat):
    """(code, what the text of its only group holds where that is left to the definition), None where all of it is."""
    code, text = address_of(address.encode("latin-1"))
    if code is None:
        return unmapped(text), None
    if code[2] == _MBUS and 2 <= code[3] <= 3:
        return (code, "") if code[3] == 2 else None
    if code[5] == 0 and (code[3] == _TOTAL or code[2] in _OF_HEAT):
        return None
    if heat and code[0] == 1 and code[2] in _OF_HEAT and "-" not in address:
        code = bytes((_HEAT,)) + code[1:]
    return code, "." if implied_unit(code) else None


@remembered
def _unit(printed):
    return unit_of(printed.encode("latin-1"))


class _Reading(PrintedReading):
    """The same, made of what is known of its register."""

    def __init__(self, register, printed, value):
        self.obis, self.address, self.printed_unit, self.unit, self.exponent, self.is_companion = register
        self.printed = printed
        self.value = value


class _Layout:
    """Where the values of a block stand whose sets are the bytes `kept`; `heat`: of a heat meter. `rows`: _rows()."""

    def __init__(self, kept, heat):
        self.size, self.heat = len(kept), heat
        self.begun: tuple = (0, 0)  # at which CRC, and end, the form
        self.form = 0
        mask = bytearray(b"\xff" * len(kept))
        for found in _BRACKET.finditer(kept):
            at = found.start() + 1
            for part in found[0][1:].split(b"&"):
                value = part.partition(b"*")[0]
                mask[at : at + len(value)] = bytes(len(value))
                at += len(part) + 1
        self.pieces = []
        for start in range(0, len(kept), _PIECE):
            piece = kept[start : start + _PIECE]
            fixed = int.from_bytes(mask[start : start + _PIECE], "big")
            self.pieces.append((fixed, int.from_bytes(piece, "big") & fixed, piece.translate(_DIGITS_OF_NUMBER)))
        self.rows = list(_rows(str(kept, "latin-1"), heat))

    def is_of(self, buf, at):
        """Do the sets that begin at buf[at] differ in digits and signs of values alone?"""
        for fixed, pattern, anonymous in self.pieces:
            piece = buf[at : at + len(anonymous)]
            if piece.translate(_DIGITS_OF_NUMBER) != anonymous or int.from_bytes(piece, "big") & fixed != pattern:
                return False
            at += len(piece)
        return True


def _rows(text, heat):
    """Yields of each value in the sets `text`: what _Reading is told, begin, end, and where the number's point is.

    0: it has none; -1: it is a text. A row without a register is a set of the definition's.
    """
    for found in _SET.finditer(text):
        address, before, number, fraction, printed_unit, value, behind = found.groups()
        register = _register(address, heat) if address else None
        if register is None or (
            len(number) > _MAX_DIGITS if number else register[1] is not None and register[1] in value
        ):
            yield from _rows_of_groups(found, heat) or ((None, *found.span(), 0),)
            continue
        companion = register[0], address, None, None, 0, True
        if number:
            if before is not None:
                yield companion, *found.span(2), -1
            unit, exponent, _ = _unit(printed_unit)
            point = 0
            if fraction:
                exponent -= len(fraction)
                point = len(number) - len(fraction) - 1
            yield (register[0], address, printed_unit, unit, exponent, False), *found.span(3), point
        else:
            yield (*companion[:-1], False), *found.span(6), -1
        if behind:
            at = found.start(7) + 1
            for value in behind[1:-1].split(")("):
                yield companion, at, at + len(value), -1
                at += len(value) + 2


def _rows_of_groups(found, heat):
    """The same of the set `found`, whose value is the first number with a unit; empty where it is the definition's."""
    groups = _GROUPED.fullmatch(found[0])
    register = _register(groups[1], heat) if groups else None
    if groups is None or register is None or register[1] is not None or "*" not in groups[2]:
        return []
    rows = []
    at = found.start() + groups.start(2) + 1
    is_companion = False
    for group in groups[2][1:-1].split(")("):
        number, star, printed_unit = group.partition("*")
        unit, exponent, point = None, 0, -1
        if star:
            if len(number) > _MAX_DIGITS:
                return []
            unit, exponent, _ = _unit(printed_unit)
            whole, _, fraction = number.partition(".")
            exponent -= len(fraction)
            point = len(whole) if fraction else 0
        companion = is_companion or not star
        is_companion = is_companion or bool(star)
        register_here = register[0], groups[1], printed_unit or None, unit, exponent, companion
        rows.append((register_here, at, at + len(number), point))
        at += len(group) + 2
    return rows


class DataSets(data_sets.DataSets):
    """The same sets, the same readings."""

    def __init__(self, buf, view):
        self._layouts = []
        self._sizes = []  # of the blocks before
        self._in_vain = 0
        data_sets.DataSets.__init__(self, buf, view)

    def take(self, at, stop, framed, history):
        buf = self._buf
        lines = _LINES_WITH_HISTORY if history else _CURRENT_LINES
        while at < stop:
            found = lines.match(buf, at, min(stop, at + _RUN)) or lines.match(buf, at, stop)
            if found and not self._in_profile:
                begun, at = at, found.end()
                if not self._keep_lines(begun, at):
                    data_sets.DataSets.take(self, begun, at, framed, history)
                continue
            behind = buf.find(b"\n", at, stop) + 1 or stop
            bang = data_sets.DataSets.take(self, at, behind, framed, history)
            if bang >= 0:
                return bang
            at = behind
        return -1

    def _keep_lines(self, at, stop):
        """Keep every set of the plain lines _buf[at:stop]; False where they have no room."""
        buf = self._buf
        lines = buf[at:stop]
        kept = lines.translate(None, b"\r\n")
        end = self.end + len(kept)
        if end > len(buf) - ROOM:
            return False
        buf[self.end : end] = kept
        self.end = end
        n_groups = kept.count(b"(")
        self.n_sets += n_groups - lines.count(b")(")
        if kept[0] == _SIX or b")6" in kept:
            self.heat = self.heat or any(map(_is_heat, _ADDRESS_WITH_SIX.findall(kept)))
        self.n_values += n_groups
        self._left_out = False
        return True

    def begin_with(self, at, end):
        self.begin()
        kept = bytes(self._buf[at:end]).translate(_WITHOUT_PARITY, _CONTROLS)
        self.identification = self.end = len(kept)
        self._buf[: self.end] = kept

    def begin(self):
        data_sets.DataSets.begin(self)
        self._layout = None  # of the block in hand
        self._unknown_size = -1  # the block's, where it has none

    def _known_layout(self):
        """The layout of the block, learned where one of its size comes again; None where it is not known."""
        size = self.end - self.identification
        layout = self._layout
        if layout is not None or self._unknown_size == size:
            return layout
        for layout in self._layouts:
            if layout.size == size and layout.heat == self.heat and layout.is_of(self._buf, self.identification):
                self._in_vain = 0
                self._layout = layout
                return layout
        if size in self._sizes and self._in_vain < _MAX_IN_VAIN and size <= _MOST_BYTES:
            self._in_vain += 1
            self._layout = _Layout(bytes(self._buf[self.identification : self.end]), self.heat)
            self._layouts = [self._layout, *self._layouts[: _MAX_LAYOUTS - 1]]
        else:
            self._sizes = [size, *self._sizes[: _MAX_LAYOUTS - 1]]
            self._unknown_size = size
        return self._layout

    def form(self, crc):
        layout = self._known_layout()
        begun = crc, self.end
        if layout is not None and layout.begun == begun:
            return layout.form
        kept = bytes(self._buf[self.identification : self.end])
        form = self.end << 16 | crc16(_BRACKET.sub(_anonymous, kept), crc, TABLE)
        if layout is not None:
            layout.begun, layout.form = begun, form
        return form

    def readings(self, at=0, end=0):
        if at:
            yield from data_sets.DataSets.readings(self, at, end)
            return
        begun = self.identification
        layout = self._known_layout()
        text = str(self._view[begun : self.end], "latin-1")
        for register, at, end, point in layout.rows if layout else _rows(text, self.heat):
            if register is None:
                yield from data_sets.DataSets.readings(self, begun + at, begun + end)
                continue
            printed = text[at:end]
            if point < 0:
                yield _Reading(register, printed, printed)
            elif point:
                yield _Reading(register, printed, int(printed[:point] + printed[point + 1 :]))
            else:
                yield _Reading(register, printed, int(printed))
