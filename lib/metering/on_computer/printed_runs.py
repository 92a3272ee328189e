"""The data sets of a block on a computer: whole runs of plain lines by one expression. A board never loads it.

What an expression does not match goes to metering.iec62056_21.data_sets, which is the definition; nothing is accepted
here that it refuses, and nothing told that it does not tell.
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
# and, where no history is wanted, an address with * or & or a 6 in front.
_GROUPS = rb"(?:\([^()\r\n!]*\))++"
_SETS = rb"(?:(?!1-3:0\.2\.8\()[%b0-9A-Za-z\-:.][%b0-9A-Za-z\-:. ]{0,23}" + _GROUPS + rb")++"
_LINES = _SETS + rb"\r\n(?:(?:" + _SETS + b"|" + _GROUPS + rb")\r\n)*+"
_CURRENT_LINES = re.compile(_LINES.replace(b"[%b0-9", b"[0-57-9", 2).replace(b"%b", b""))
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


class DataSets(data_sets.DataSets):
    """The same sets, the same readings."""

    def take(self, at, stop, framed, history):
        buf = self._buf
        lines = _LINES_WITH_HISTORY if history else _CURRENT_LINES
        while at < stop:
            found = lines.match(buf, at, stop)
            if found:
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
        lines = bytes(buf[at:stop])
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

    def form(self, crc):
        kept = bytes(self._buf[self.identification : self.end])
        return self.end << 16 | crc16(_BRACKET.sub(_anonymous, kept), crc, TABLE)

    def readings(self, at=0, end=0):
        if at:
            yield from data_sets.DataSets.readings(self, at, end)
            return
        begun = self.identification
        for found in _SET.finditer(str(self._buf[begun : self.end], "latin-1")):
            address, before, number, fraction, printed_unit, text, behind = found.groups()
            register = _register(address, self.heat) if address else None
            if register is None or (
                len(number) > _MAX_DIGITS if number else register[1] is not None and register[1] in text
            ):
                yield from data_sets.DataSets.readings(self, begun + found.start(), begun + found.end())
                continue
            obis = register[0]
            if number:
                if before is not None:
                    yield PrintedReading(obis, address, before, None, True)
                unit, power, _ = _unit(printed_unit)
                reading = PrintedReading(obis, address, number, printed_unit, False)
                reading.unit = unit
                reading.value = int(number.replace(".", "") if fraction else number)
                reading.exponent = power - len(fraction) if fraction else power
                yield reading
            else:
                yield PrintedReading(obis, address, text, None, False)
            if behind:
                for text in behind[1:-1].split(")("):
                    yield PrintedReading(obis, address, text, None, True)
