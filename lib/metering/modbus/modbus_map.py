"""A register map: which registers a meter has, what they mean, and the few questions that ask for them.

A map is JSON, an object of

    name       what the meter is called; maker: its maker, "" where left out
    source     a list of texts: where its registers are from; not read here
    line       its usual line, such as "9600 8N1"
    function   1 to 4, with which all are read; 4 where left out
    order      "high" word first, where left out; "low"
    registers  a list of objects of
                   address    0 to 65535, as sent
                   type       u16, s16, u32, s32, u64 or f32
                   exponent   of ten, of an integer; 0 where left out
                   unit       one of _UNITS; "" for none
                   obis       "1-0:1.8.0"
    serial     address of a u32 that is the meter's number; none where left out

What only adjoins is asked for at once: between two registers a meter may have none, and refuse the question.
"""

from metering.binary_fraction import value_of
from metering.compat import const, signed
from metering.line import Line
from metering.modbus.modbus_frame import MOST_REGISTERS, READ_COILS, READ_HOLDING, READ_INPUT

MOST_VALUES = const(40)
_LAST = const(0xFFFF)
_MOST_TEXT = const(40)  # in names of entities and topics
_MOST_EXPONENT = const(12)
_WORDS = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "f32": 2}
_LINES = {"8E1": ("E", 1), "8N1": (None, 1), "8N2": (None, 2)}
_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_KEYS = ("name", "maker", "source", "line", "function", "order", "registers", "serial", "about")
_ROW_KEYS = ("address", "type", "exponent", "unit", "obis")

# Unit -> power of ten and code of IEC 62056-6-2, 4.3.2
_UNITS = {
    "": (0, None), "W": (0, 27), "kW": (3, 27), "VA": (0, 28), "var": (0, 29), "Wh": (0, 30), "kWh": (3, 30),
    "VAh": (0, 31), "kVAh": (3, 31), "varh": (0, 32), "kvarh": (3, 32), "A": (0, 33), "V": (0, 35), "Hz": (0, 44),
}  # fmt: skip


class MapError(ValueError):
    """The map cannot be used; the text names the key and the cure."""


def _number(value, least, most, key):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise MapError("modbus map: %s must be a number from %d to %d" % (key, least, most))
    return value


def _known(data, keys, key):
    if not isinstance(data, dict):
        raise MapError("modbus map: %s must be an object" % key)
    for name in data:
        if name not in keys:
            raise MapError("modbus map: %s has no key %s" % (key, name))


def line_of(text, key="line"):
    """The metering.line.Line that "9600 8N1" names."""
    words = text.split() if isinstance(text, str) else ()
    if len(words) != 2 or words[1] not in _LINES or words[0] not in [str(rate) for rate in _RATES]:
        raise MapError("modbus map: %s must be a rate and 8E1, 8N1 or 8N2, such as 9600 8N1" % key)
    parity, stop = _LINES[words[1]]
    return Line(int(words[0]), 8, parity, stop)


def _obis(text, key):
    """The six bytes of "1-0:1.8.0"."""
    parts = text.replace("-", ".").replace(":", ".").split(".") if isinstance(text, str) else ()
    good = len(parts) == 5
    for part in parts:
        good = good and part.isdigit() and len(part) <= 3 and int(part) <= 255
    if not good or text != "%s-%s:%s.%s.%s" % tuple(parts):
        raise MapError("modbus map: %s must be a code such as 1-0:1.8.0" % key)
    return bytes([int(part) for part in parts] + [255])


class ModbusMap:
    """`name`, `maker`, `line`; `function`; `rows` (address, type, exponent, unit's code, OBIS), by address; `questions`
    (first, count); `serial` its address or -1. Raises MapError for a map that cannot be used."""

    def __init__(self, data):
        _known(data, _KEYS, "the map")
        self.name = data.get("name")
        self.maker = data.get("maker", "")
        for text, least in ((self.name, 1), (self.maker, 0)):
            if not isinstance(text, str) or not least <= len(text) <= _MOST_TEXT:
                raise MapError("modbus map: name and maker must be texts of up to %d characters" % _MOST_TEXT)
        self.line = line_of(data.get("line"))
        self.function = _number(data.get("function", READ_INPUT), READ_COILS, READ_INPUT, "function")
        if self.function < READ_HOLDING:
            raise MapError("modbus map: function 1 and 2 read bits, which no value is made of: 3 or 4")
        if data.get("order", "high") not in ("high", "low"):
            raise MapError("modbus map: order must be high or low")
        self._low_first = data.get("order") == "low"
        self.serial = -1
        spans = []
        if "serial" in data:
            self.serial = _number(data["serial"], 0, _LAST - 1, "serial")
            spans.append((self.serial, 2, "serial"))
        rows = data.get("registers")
        if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_VALUES:
            raise MapError("modbus map: registers must be a list of 1 to %d" % MOST_VALUES)
        self.rows = []
        for i in range(len(rows)):
            row = self._row(rows[i], "registers[%d]" % i)
            for other in self.rows:
                if other[4] == row[4]:
                    raise MapError("modbus map: registers[%d].obis is there twice" % i)
            self.rows.append(row)
            spans.append((row[0], _WORDS[row[1]], "registers[%d].address" % i))
        spans.sort(key=lambda span: span[0])
        self.questions = []
        end = -1
        for first, words, key in spans:
            if first < end:
                raise MapError("modbus map: %s overlaps another register" % key)
            if first == end and self.questions[-1][1] + words <= MOST_REGISTERS:
                self.questions[-1] = (self.questions[-1][0], self.questions[-1][1] + words)
            else:
                self.questions.append((first, words))
            end = first + words
        self.rows.sort(key=lambda row: row[0])

    def _row(self, row, key):
        _known(row, _ROW_KEYS, key)
        kind = row.get("type")
        if not isinstance(kind, str) or kind not in _WORDS:
            raise MapError("modbus map: %s.type must be u16, s16, u32, s32, u64 or f32" % key)
        address = _number(row.get("address"), 0, _LAST + 1 - _WORDS[kind], key + ".address")
        unit = row.get("unit")
        if not isinstance(unit, str) or unit not in _UNITS:
            raise MapError("modbus map: %s.unit must be V, A, W, kWh, Hz or another that is known" % key)
        power, code = _UNITS[unit]
        exponent = _number(row.get("exponent", 0), -_MOST_EXPONENT, _MOST_EXPONENT, key + ".exponent")
        return address, kind, exponent + power, code, _obis(row.get("obis"), key + ".obis")

    def number_at(self, data, at, words):
        """The unsigned integer of `words` registers from data[at] on."""
        number = 0
        for i in range(words):
            place = at + 2 * (words - 1 - i if self._low_first else i)
            number = number << 16 | data[place] << 8 | data[place + 1]
        return number

    def value(self, row, data, at):
        """(value, exponent) of a row whose registers begin at data[at]; None where it says that it has none: no number,
        the largest number of its type, with which meters say "not known" (ABB's B series), and the lowest one with a
        sign (SunSpec)."""
        kind = row[1]
        bits = 16 * _WORDS[kind]
        number = self.number_at(data, at, _WORDS[kind])
        if kind == "f32":
            found = value_of(number)
            return found and (found[0], found[1] + row[2])
        if kind[0] == "s":
            return None if number + 1 >> 1 == 1 << bits - 2 else (signed(number, bits), row[2])
        return None if number == (1 << bits) - 1 else (number, row[2])
