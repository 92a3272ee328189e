"""One register for people and the hub: its key, kind and unit, its name and how its values are shown.

What a code means, metering.registers decides.
"""

from metering.compat import ascii_text, const, hex_text
from metering.identifier import identifier_text
from metering.reading import decimal_text

CUMULATIVE = const(1)  # a counter: never falls, never expires
INSTANTANEOUS = const(2)
IDENTIFIER = const(3)
TEXT = const(4)
CLOCK = const(5)  # the meter's time of day: nothing to show, but to compare

# Tables in one text each, " key=value ": MicroPython keeps every short text of a dict for ever, and a place for it.


def lookup(table, key):
    """The value of `key` in a table of this form, None where it has none."""
    key = " %s=" % key
    at = table.find(key)
    if at < 0:
        return None
    at += len(key)
    return table[at : table.find(" ", at)]


# DLMS unit code -> symbol as sent (IEC 62056-6-2, 4.3.2)
_SYMBOLS = (
    " 5=h 6=min 7=s 8=° 9=°C 13=m³ 15=m³/h 19=L 24=bar 25=J 27=W 28=VA 29=var 30=Wh 31=VAh 32=varh 33=A 35=V 44=Hz"
    " 52=K 56=% "
)
_KILO = (30, 31, 32)  # shown as kWh, kVAh, kvarh
_JOULE = const(25)  # shown as GJ

_MBUS = const(24)  # C
_MAX_MEDIUM = const(3)  # digits

# 0-n:24.1.0, the medium of a meter on P1's M-Bus (EN 13757-3:2018, table 13), as its key says it
_MEDIA = " 2=electricity 3=gas 4=heat 6=water 7=water 10=cold 11=cold 12=heat 13=heat 21=water 22=water "

_NUMBERED = ("l", "t", "q", "b", "f")  # phase, tariff, quadrant; channel and billing period as in the code

# 81.7.E: the angle between two of U-L1..3 and I-L1..3 (IEC 62056-6-1, table 14)
_ANGLES = " 1=U-L2_U-L1 2=U-L3_U-L1 4=I-L1_U-L1 15=I-L2_U-L2 26=I-L3_U-L3 "


class Register:
    """`key` stable name in JSON, `kind`, `unit` DLMS code or None, `known` False where only the code is known.

    `printed_unit` is the unit's text where it has no code, `address` the code as the meter prints it, of what goes by
    its code, of a maximum, and where it names no medium.
    `exponent` is the power of ten of the value it was made for, None without one. `former_key` is what it was announced
    as before more of it was known. `is_named_in_full`: another register would have the same name.
    """

    former_key: "str | None" = None
    is_named_in_full = False
    printed_unit: "str | None" = None
    address: "str | None" = None
    known = True

    def __init__(self, key, kind, unit, known, exponent=None):
        self.key = key
        self.kind = kind
        self.unit = unit
        if not known:  # four attributes take 16 bytes less of each than five
            self.known = False
        self.exponent = exponent

    def name(self):
        """The register's name for people, made from the key: "energy_import_l1_t2" is "Energy import L1 T2"."""
        words = self.key.split("_")
        if not self.known and self.address:
            return self.address
        if not self.known:  # obis_1_0_96_50_2_6
            return "%s-%s:%s.%s.%s*%s" % tuple(words[1:])
        angle = lookup(_ANGLES, words[2]) if words[1:2] == ["angle"] else None
        if angle:
            return "Phase angle " + angle.replace("_", " ")
        if words[-1] == "b1" and not self.is_named_in_full:  # all registers of some meters are 1-1:
            words.pop()
        if words[-1] in ("255", "t255"):  # no tariff; and 1.7.255 is signed (EasyMeter Q3D)
            if words.pop() == "255" and words[1:2] == ["import"]:
                words.pop(1)
        for i, word in enumerate(words):
            if word[:1] in _NUMBERED and word[1:].isdigit():  # slices: MicroPython keeps single characters for ever
                words[i] = word.upper()
        text = " ".join(words)
        return text[:1].upper() + text[1:]

    def symbol(self):
        """The unit's symbol as displayed: kWh for Wh; None for no unit."""
        symbol = unit_symbol(self.unit)
        if self.unit in _KILO:
            return "k%s" % symbol
        return "GJ" if self.unit == _JOULE else symbol or self.printed_unit

    def tariff_of(self):
        """The key of the total that this tariff's counter is part of, None for what is no tariff of electricity.

        A meter that prints no medium (6.8.1, 8.1) has few registers: none of them is in the way.
        """
        at = self.key.rfind("_t")
        if at < 0 or not self.key[at + 2 :].isdigit() or not self.known or self.key.startswith("heat"):
            return None
        address = self.address
        return None if address is not None and len(address.split(".")) < 3 else self.key[:at]

    def _power(self):
        return 3 if self.unit in _KILO else 9 if self.unit == _JOULE else 0

    def decimals(self):
        """How many decimals its value has as shown; None where no value has told it."""
        return None if self.exponent is None else max(0, self._power() - self.exponent)

    def display(self, reading):
        """The reading's text as shown: kWh for Wh by moving the exponent, identifiers in their readable form."""
        value = reading.value
        if isinstance(value, int) and not isinstance(value, bool):
            return decimal_text(value, reading.exponent - self._power())
        if isinstance(value, bytes):
            return identifier_text(value) if self.kind == IDENTIFIER else ascii_text(value) or hex_text(value)
        return reading.text()


def unit_symbol(unit):
    """The symbol of a DLMS unit code, None for no unit, "no unit" (255) and codes the optical port does not use."""
    return None if unit is None else lookup(_SYMBOLS, unit)


def medium(reading):
    """What the sub-meter of channel B measures where `reading` is its 0-n:24.1.0, else None."""
    obis = reading.obis
    if len(obis) != 6 or obis[0] or obis[2] != _MBUS or obis[3] != 1:
        return None
    text = reading.text()
    return lookup(_MEDIA, int(text)) if text.isdigit() and len(text) <= _MAX_MEDIUM else None
