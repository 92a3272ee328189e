"""A register as a meter prints it: "1-0:1.8.0*255", "0012.345", "kWh" as an OBIS code, an exact number and a unit.

Source: IEC 62056-21:2002, 5.5 (data set) and IEC 62056-6-1:2017, annex A (reduced identifiers and their letters).
"""

from metering.characters import is_made_of, latin_text, remembered
from metering.compat import SLICES_ARE_CHEAP, ascii_text, const
from metering.reading import Reading

_LETTERS = b"CFLP"
_VDEW_IMPORT = const(8)
_TOTAL = const(8)  # D
_FIRST_LETTER = const(96)  # C general, then F errors, L lists, P profiles

_HEX_IDENTIFIER = const(8)  # digits at the least of what P1 spells in hexadecimal in 96.1.1,
_HEX_ELSEWHERE = const(16)  # and in other registers, where as many digits might be a number
_NAME_CHARACTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-./ "

_MAX_DIGITS = const(32)  # and sign and point; a longer number is a text

# Unit as printed, in small letters, and its DLMS code. Bytes: names in a dict would stay in MicroPython's string pool.
_UNITS = (
    b" wh:30 vah:31 varh:32 w:27 va:28 var:29 a:33 v:35 hz:44 j:25 deg:8 c:9 k:52 m3:13 m3/h:15 m3ph:15 l:19"
    b" h:5 min:6 s:7 secs:7 %:56 bar:24 "
)
_PREFIXED = (25, 27, 28, 29, 30, 31, 32, 33, 35, 44)


def parse_code(data, start, end, code):
    """Read the address data[start:end] into `code` (bytearray of 6: A B C D E F); False where it is none.

    What a reduced identifier leaves out: A is 1 (electricity), 0 for the letters C F L P, 6 (heat) for the two-part
    6.x and 9.x that only heat meters print; B is 0, F is 255. 8.0, 8.1 ... of German meters before OBIS (VDEW) are
    1.8.0, 1.8.1 .... Colons in the place of dots (old DSMR 4 meters) are let be, and & counts as *. Allocates nothing.
    """
    code[0] = code[1] = code[3] = code[4] = 0
    code[5] = 255
    field = 2
    value = -1
    medium = False
    for i in range(start, end):
        byte = data[i]
        if 0x30 <= byte <= 0x39:
            value = byte - 0x30 if value < 0 else value * 10 + byte - 0x30
            if value > 255:
                return False
            continue
        if byte >= 0x43:
            if byte not in _LETTERS:
                return False
            if value >= 0:  # FF
                if field > 3:
                    return False
                code[field] = value
                field += 1
            value = _FIRST_LETTER + (byte > 0x43) + (byte > 0x46) + (byte > 0x4C)
            continue
        if value < 0:
            return False
        if 2 <= field < 4 and (byte == 0x2E or byte == 0x3A):  # . :
            code[field] = value
            field += 1
        elif byte == 0x2D and field == 2 and not medium:  # -
            code[0] = value
            medium = True
            field = 1
        elif byte == 0x3A and field == 1:
            code[1] = value
            field = 2
        elif byte in b"*&" and 2 <= field <= 4:
            code[field] = value
            if not medium and field == 3:
                code[0] = _reduced_medium(code)
                medium = True
            field = 5
        else:
            return False
        value = -1
    if value < 0 or field == 1:
        return False
    code[field] = value
    if not medium:
        code[0] = _reduced_medium(code) if field == 3 else 1 if code[2] < _FIRST_LETTER else 0
    return True


def _reduced_medium(code):
    """A of the two-part `code`, which becomes one of three parts where it is VDEW's."""
    if code[2] == _VDEW_IMPORT:
        code[2], code[3], code[4] = 1, _TOTAL, code[3]
    return 6 if code[2] in (6, 9) else 1 if code[2] < _FIRST_LETTER else 0


def may_be_address(buf, at, end):
    """Are all of buf[at:end] letters, digits, blanks and those of - : . * & that an address has? Allocates nothing.

    By comparing, as looking each of them up in an alphabet takes MicroPython ten times as long.
    """
    for i in range(at, end):
        byte = buf[i]
        if 0x30 <= byte <= 0x3A or byte == 0x2E or byte == 0x2D:
            continue
        if not (0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A or byte == 0x20 or byte == 0x2A or byte == 0x26):
            return False
    return True


@remembered
def address_of(printed):
    """(OBIS code, text) of an address as printed (bytes); the code is six bytes, None where it is none."""
    code = bytearray(6)
    return bytes(code) if parse_code(printed, 0, len(printed), code) else None, latin_text(printed)


def is_history(code):
    """Does the code name a measured quantity of a past billing period, or the date of one?"""
    return code[5] < 100 and (0 < code[2] < _FIRST_LETTER or code[2] == 0 and code[3] == 1)


def is_total_of_none(code):
    """Is `code` a total of the billing period 0, such as 1.8.0*00?"""
    return code[5] == 0 and code[3] == _TOTAL


def unmapped(address):
    """What stands for the OBIS code of an address that is none: its bytes, never six."""
    return b"?" + address.encode() + (b"?" if len(address) == 5 else b"")


def implied_unit(code):
    """(DLMS code, power of ten) of a number with decimals where no unit is printed; None where it stays a text."""
    if code[0] == 1:
        if code[3] == _TOTAL and code[5] == 255 and 1 <= code[2] <= 4:
            return 30 if code[2] < 3 else 32, 3
        if code[3] == 7 and code[2] in (13, 33, 53, 73):
            return None, 0
    return None


def decimals(data, start, end):
    """How many decimals the number data[start:end] has, -1 where it is no plain number.

    A comma is a point, as Kamstrup's 382 prints it. Allocates nothing on MicroPython.
    """
    if SLICES_ARE_CHEAP:
        signed = data[start : start + 1] in (b"+", b"-")
        whole, dot, rest = data[start + signed : end].replace(b",", b".").partition(b".")
        number = (whole + rest).isdigit() and end - start <= _MAX_DIGITS and (rest or not dot)
        return len(rest) if number else -1
    point = -1
    digits = 0
    for i in range(start, end):
        byte = data[i]
        if 0x30 <= byte <= 0x39:
            digits += 1
        elif (byte == 0x2E or byte == 0x2C) and point < 0:
            point = i
        elif i != start or byte not in b"+-":
            return -1
    if not digits or end - start > _MAX_DIGITS or point == end - 1:
        return -1
    return end - 1 - point if point >= 0 else 0


@remembered
def unit_of(printed):
    """(DLMS code, power of ten, text) of a unit as printed (bytes)."""
    code, power = unit_code(printed)
    return code, power, latin_text(printed)


def unit_code(printed):
    """(DLMS code, power of ten) of a unit as printed (bytes): b"kWh" is (30, 3); (None, 0) for one not known."""
    name = printed.lower()
    code = _lookup(name)
    if code is not None:
        return code, 0
    code = _lookup(name[1:])
    if code not in _PREFIXED:
        return None, 0
    prefix = printed[0]
    if prefix in b"kK":
        return code, 3
    if prefix == 0x4D:  # M
        return code, 6
    if prefix in b"gG":
        return code, 9
    return (code, -3) if prefix == 0x6D and code in (33, 35) else (None, 0)  # mA, mV


def _lookup(name):
    at = _UNITS.find(b" " + name + b":") if name else -1
    if at < 0:
        return None
    at += len(name) + 2
    return int(_UNITS[at : _UNITS.find(b" ", at)])


def readable_name(text, is_hex):
    """The name of a meter, where it is spelled in hexadecimal ASCII in its letters; `is_hex`: it is by the standard."""
    if len(text) < (_HEX_IDENTIFIER if is_hex else _HEX_ELSEWHERE):
        return text
    try:
        spelled = bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])
    except ValueError:
        return text
    if not is_hex and not is_made_of(bytearray(spelled), 0, len(spelled), _NAME_CHARACTERS):
        return text
    return (ascii_text(spelled.rstrip(b"\x00 ")) or text).strip()


class PrintedReading(Reading):
    """One group in brackets. `address`, `printed` and `printed_unit` (None where none) are texts as printed.

    `value` is an int where there is a unit and the text is a plain number, else the text; `unit` is None for a unit
    that has no DLMS code. `is_companion` True: it says more about the value before or behind it (the time of a
    maximum).
    """

    def __init__(self, obis, address, printed, printed_unit, is_companion):
        self.obis = obis
        self.value = printed
        self.exponent = 0
        self.unit = None
        self.address = address
        self.printed = printed
        self.printed_unit = printed_unit
        self.is_companion = is_companion

    def text(self):
        return self.printed

    def take_number(self, n_decimals, unit, power):
        """The text is a number of `n_decimals` in 10**power of the unit of DLMS code `unit` (None: not known)."""
        self.unit = unit
        self.value = int(self.printed.replace(".", "").replace(",", ""))
        self.exponent = power - n_decimals
