"""What an OBIS code means, decided once for every protocol, the command line and Home Assistant.

Electricity codes (A = 1) follow a rule, so they need no list: C says the quantity and the phase, D how it is
processed, E the tariff (IEC 62056-6-1, 7.5 and 7.6):

    C = 1..20 all phases, 21..40 L1, 41..60 L2, 61..80 L3     D = 6 maximum, 7 instantaneous, 8 time integral (counter)

The keys are part of the MQTT contract: entity ids and years of statistics hang on them. A key never changes, and no two
codes share one: what the rule leaves out (B, F, odd E) is appended, and what it does not cover is named by its code.
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

# C -> what follows the stem; 1, 2 and 15 to 20 active, 3 to 8 reactive, 9 and 10 apparent. 16 is import minus export.
_DIRECTIONS = (
    " 1=import 2=export 3=import 4=export 5=q1 6=q2 7=q3 8=q4 9=import 10=export 15=absolute 16= 17=q1 18=q2 19=q3"
    " 20=q4 "
)
_PROCESSED = " 4=_average 5=_last_average 6=_max "  # D: of a power over the measuring period
_PLAIN = " 11=current 12=voltage 13=power_factor 14=frequency "
_NET = const(16)
_MBUS = const(24)  # C
_MAX_MEDIUM = const(3)  # digits

# 0-n:24.1.0, the medium of a meter on P1's M-Bus (EN 13757-3:2018, table 13), as its key says it
_MEDIA = " 2=electricity 3=gas 4=heat 6=water 7=water 10=cold 11=cold 12=heat 13=heat 21=water 22=water "

_NUMBERED = ("l", "t", "q", "b", "f")  # phase, tariff, quadrant; channel and billing period as in the code

# 81.7.E: the angle between two of U-L1..3 and I-L1..3 (IEC 62056-6-1, table 14)
_ANGLES = " 1=U-L2_U-L1 2=U-L3_U-L1 4=I-L1_U-L1 15=I-L2_U-L2 26=I-L3_U-L3 "

# C.D.E*F, F = 255 unless said -> kind and key of what is no number
_NAMED = (
    " 0.0.0=3meter_number 0.0.9=3device_id 96.1.0=3serial_number 96.50.1*1=3manufacturer 199.130.3=3manufacturer_id"
    " 199.130.5=4public_key 0.2.0*0=4firmware 0.2.0=4firmware_version 96.14.0=4tariff 97.97.0=4error_register"
    " 0.9.1=5meter_time 0.9.2=4meter_date 1.0.0=5meter_clock "
)

# D of 6-0:C.D.0 as heat meters print them (6.8), and unit -> kind and key. Landis+Gyr T550 and UH50 read-outs.
_HEAT = (
    " 8/25=1heat_energy 8/30=1heat_energy 26/13=1heat_volume 31/5=1operating_hours 6/27=2heat_power_max"
    " 33/15=2flow_max "
)


class Register:
    """`key` stable name in JSON, `kind`, `unit` DLMS code or None, `known` False where only the code is known.

    `printed_unit` is the unit's text where it has no code, `address` the code as the meter prints it, if it does.
    `exponent` is the power of ten of the value it was made for, None without one. `former_key` is what it was announced
    as before more of it was known. `is_named_in_full`: another register would have the same name.
    """

    former_key = None  # type: str | None
    is_named_in_full = False
    printed_unit = None  # type: str | None
    address = None

    def __init__(self, key, kind, unit, known, exponent=None):
        self.key = key
        self.kind = kind
        self.unit = unit
        self.known = known
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


def _electricity(c, d, e, unit):
    """(key, kind) by the rule at the head of this file, or None where it does not reach."""
    phase = ""
    if 20 < c <= 80:
        phase = "_l%d" % ((c - 1) // 20)
        c = (c - 1) % 20 + 1
    if d == 7 and c == 81:
        return "phase_angle_%d" % e, INSTANTANEOUS
    if d == 7 and c == 91:
        return "current_n" + ("_%d" % e if e else ""), INSTANTANEOUS
    plain = lookup(_PLAIN, c) if d == 7 else None
    if plain:
        return plain + phase + ("_%d" % e if e else ""), INSTANTANEOUS
    direction = lookup(_DIRECTIONS, c)
    if d not in (4, 5, 6, 7, 8) or direction is None or unit is not None and unit not in (27, 28, 29, 30, 31, 32):
        return None
    key = "energy" if d == 8 else "power"
    if 3 <= c <= 10:
        key = ("reactive_" if c <= 8 else "apparent_") + key
    if direction:
        key += "_" + direction
    if d == 8 and c == _NET:
        key += "_net"
    key += phase
    key += lookup(_PROCESSED, d) or ""
    if e:
        key += ("_%d" if d == 7 else "_t%d") % e
    return key, CUMULATIVE if d == 8 and c != _NET else INSTANTANEOUS


def medium(reading):
    """What the sub-meter of channel B measures where `reading` is its 0-n:24.1.0, else None."""
    obis = reading.obis
    if len(obis) != 6 or obis[0] or obis[2] != _MBUS or obis[3] != 1:
        return None
    text = reading.text()
    return lookup(_MEDIA, int(text)) if text.isdigit() and len(text) <= _MAX_MEDIUM else None


def describe(reading, measures=None):
    """The Register of a reading, by its OBIS code, the kind of its value and its unit. Allocates: keep the result.

    `measures`: what medium() has told of its channel.
    """
    register = _by_rule(reading, measures) or unnamed(reading)
    register.address = reading.address
    return register


def _by_rule(reading, measures):
    """The Register that the code names, None where it names none."""
    obis, unit = reading.obis, reading.unit
    number = isinstance(reading.value, int) and not isinstance(reading.value, bool)
    if len(obis) == 6:
        a, b, c, d, e, f = obis
        if number:
            rule = None
            if unit is None and reading.printed_unit:
                pass  # a unit nobody knows: not what the code would say
            elif a == 1:
                rule = _electricity(c, d, e, unit)
            elif a == 6 and (e == 0 or d == 8 and e < 10) and unit is not None:  # 6.8.1: of a tariff
                rule = lookup(_HEAT, "%d/%d" % (d, unit))
                rule = rule and (rule[1:] + ("_t%d" % e if e else ""), int(rule[:1]))
            elif a == 0 and c == _MBUS and d in (2, 3) and unit:  # P1: a gas, heat or water meter on the M-Bus
                former = "mbus" + ("_%d_%d" % (d, e) if (d, e) != (2, 1) else "")
                if measures and f == 255:
                    register = Register("%s_meter_%d" % (measures, b), CUMULATIVE, unit, True, reading.exponent)
                    register.former_key = former + ("_b%d" % b if b else "")
                    return register
                rule = former, CUMULATIVE
            if rule:
                key, kind = rule
                if b:
                    key += "_b%d" % b
                if f != 255:  # a billing period's or a past value, not the running counter
                    key += "_f%d" % f
                    kind = INSTANTANEOUS
                return Register(key, kind, unit, True, reading.exponent)
        else:
            code = "%d.%d.%d" % (c, d, e)
            named = lookup(_NAMED, code if f == 255 else "%s*%d" % (code, f))
            if named and (a == b == 129 if c == 199 else a < 2 and b == 0 or a == b == 1):
                return Register(named[1:] + ("_b1" if b == 1 else ""), int(named[:1]), None, True)
    return None


def unnamed(reading):
    """The Register of a reading that goes by its code alone."""
    number = isinstance(reading.value, int) and not isinstance(reading.value, bool)
    if len(reading.obis) == 6:
        key = "obis_%d_%d_%d_%d_%d_%d" % tuple(reading.obis)
    else:
        key = "code_" + hex_text(reading.obis[1:])
    kind = INSTANTANEOUS if number else TEXT
    register = Register(key, kind, reading.unit if number else None, False, reading.exponent)
    if reading.address is not None:
        register.printed_unit = reading.printed_unit
        register.address = reading.address
    return register
