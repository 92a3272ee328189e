"""What an OBIS code means, decided once for every protocol, the command line and Home Assistant. Loaded for a moment.

Electricity codes (A = 1) follow a rule, so they need no list: C says the quantity and the phase, D how it is
processed, E the tariff (IEC 62056-6-1, 7.5 and 7.6):

    C = 1..20 all phases, 21..40 L1, 41..60 L2, 61..80 L3     D = 6 maximum, 7 instantaneous, 8 time integral (counter)

The keys are part of the MQTT contract: entity ids and years of statistics hang on them. A key never changes, and no two
codes share one: what the rule leaves out (B, F, odd E) is appended, and what it does not cover is named by its code.
"""

from metering.compat import const, hex_text
from metering.register import CUMULATIVE, INSTANTANEOUS, TEXT, Register, lookup

# C -> what follows the stem; 1, 2 and 15 to 20 active, 3 to 8 reactive, 9 and 10 apparent. 16 is import minus export.
_DIRECTIONS = (
    " 1=import 2=export 3=import 4=export 5=q1 6=q2 7=q3 8=q4 9=import 10=export 15=absolute 16= 17=q1 18=q2 19=q3"
    " 20=q4 "
)
_PROCESSED = " 4=_average 5=_last_average 6=_max "  # D: of a power over the measuring period
_PLAIN = " 11=current 12=voltage 13=power_factor 14=frequency "
_WITH_MEDIUM = const(3)  # groups of a printed code
_NET = const(16)
_MBUS = const(24)  # C
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
# C of 6-0:C.0.0, current values of heat and cooling (IEC 62056-6-1, 7.9) -> kind and last words of the key
_THERMAL = (
    " 1=1energy 2=1volume 8=2power 9=2flow 10=2flow_temperature 11=2return_temperature 12=2temperature_difference "
)
# C.D of 7-0:C.D.0, of a gas volume converter (IEC 62056-6-1, gas; 3: of the meter; D 2: at base conditions) -> likewise
_CONVERTER = (
    " 3.2=1gas_volume_at_base 13.0=1gas_volume_measured 13.2=1gas_volume_base 41.0=2gas_temperature 42.0=2gas_pressure"
    " 43.0=2gas_flow_measured 43.2=2gas_flow_base 52.0=2gas_conversion_factor 53.0=2gas_compressibility "
)
_OTHER = " 7.3=1gas_volume 8.1=1water_volume 8.2=2water_flow 9.1=1water_warm_volume 9.2=2water_warm_flow "  # A.C, D 0


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


def describe(reading, measures=None):
    """The Register of a reading, by its OBIS code, the kind of its value and its unit. Allocates: keep the result.

    `measures`: what medium() has told of its channel.
    """
    register = _by_rule(reading, measures) or unnamed(reading)
    address = reading.address
    if address is not None and ("_max" in register.key or len(address.split(".")) < _WITH_MEDIUM):
        register.address = address  # else nobody asks for it: 48 bytes of each register's
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
            elif a == 7 and (c > 12 or d == 2) and e == 0 and f == 255:
                rule = lookup(_CONVERTER, "%d.%d" % (c, d))
                if rule:
                    key = rule[1:] + ("_b%d" % b if b else "")
                    register = Register(key, int(rule[:1]), unit, True, reading.exponent)
                    register.former_key = unnamed(reading).key
                    return register
            elif 5 <= a <= 9 and d == e == 0 and unit:
                rule = lookup(_THERMAL, c) if a < 7 else lookup(_OTHER, "%d.%d" % (a, c))
                rule = rule and ((("cooling_", "heat_")[a - 5] if a < 7 else "") + rule[1:], int(rule[:1]))
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
