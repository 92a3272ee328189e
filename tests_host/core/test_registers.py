"""What OBIS codes are called and how values are shown: keys are for ever, and every sent digit is kept."""

import itertools
import json
import random

import pytest
from support.corpus import recorded

from metering.obis import obis_text
from metering.reading import Reading, decimal_text
from metering.register import CUMULATIVE, IDENTIFIER, INSTANTANEOUS, TEXT, unit_symbol
from metering.registers import describe
from optoprobe.virtual.sml_encoder import obis_bytes

# Published: entity ids and years of statistics hang on these. A line is never changed or taken out.
NUMBERS = [
    # OBIS, unit, key, kind, name, symbol shown
    ("1-0:1.8.0*255", 30, "energy_import", CUMULATIVE, "Energy import", "kWh"),
    ("1-0:1.8.1*255", 30, "energy_import_t1", CUMULATIVE, "Energy import T1", "kWh"),
    ("1-0:1.8.2*255", 30, "energy_import_t2", CUMULATIVE, "Energy import T2", "kWh"),
    ("1-0:2.8.0*255", 30, "energy_export", CUMULATIVE, "Energy export", "kWh"),
    ("1-0:2.8.1*255", 30, "energy_export_t1", CUMULATIVE, "Energy export T1", "kWh"),
    ("1-0:21.8.0*255", 30, "energy_import_l1", CUMULATIVE, "Energy import L1", "kWh"),
    ("1-0:62.8.3*255", 30, "energy_export_l3_t3", CUMULATIVE, "Energy export L3 T3", "kWh"),
    ("1-0:15.8.0*255", 30, "energy_absolute", CUMULATIVE, "Energy absolute", "kWh"),
    ("1-0:16.8.0*255", 30, "energy_net", INSTANTANEOUS, "Energy net", "kWh"),
    ("1-0:1.8.0*1", 30, "energy_import_f1", INSTANTANEOUS, "Energy import F1", "kWh"),
    ("1-1:1.8.0*255", 30, "energy_import_b1", CUMULATIVE, "Energy import", "kWh"),
    ("1-2:2.8.0*255", 30, "energy_export_b2", CUMULATIVE, "Energy export B2", "kWh"),
    ("1-0:3.8.0*255", 32, "reactive_energy_import", CUMULATIVE, "Reactive energy import", "kvarh"),
    ("1-0:5.8.0*255", 32, "reactive_energy_q1", CUMULATIVE, "Reactive energy Q1", "kvarh"),
    ("1-0:9.8.0*255", 31, "apparent_energy_import", CUMULATIVE, "Apparent energy import", "kVAh"),
    ("1-0:16.7.0*255", 27, "power", INSTANTANEOUS, "Power", "W"),
    ("1-0:36.7.0*255", 27, "power_l1", INSTANTANEOUS, "Power L1", "W"),
    ("1-0:56.7.0*255", 27, "power_l2", INSTANTANEOUS, "Power L2", "W"),
    ("1-0:76.7.0*255", 27, "power_l3", INSTANTANEOUS, "Power L3", "W"),
    ("1-0:1.7.0*255", 27, "power_import", INSTANTANEOUS, "Power import", "W"),
    ("1-0:1.7.1*255", 27, "power_import_1", INSTANTANEOUS, "Power import 1", "W"),
    ("1-0:2.7.0*255", 27, "power_export", INSTANTANEOUS, "Power export", "W"),
    ("1-0:15.7.0*255", 27, "power_absolute", INSTANTANEOUS, "Power absolute", "W"),
    ("1-0:21.7.0*255", 27, "power_import_l1", INSTANTANEOUS, "Power import L1", "W"),
    ("1-0:3.7.0*255", 29, "reactive_power_import", INSTANTANEOUS, "Reactive power import", "var"),
    ("1-0:9.7.0*255", 28, "apparent_power_import", INSTANTANEOUS, "Apparent power import", "VA"),
    ("1-0:31.7.0*255", 33, "current_l1", INSTANTANEOUS, "Current L1", "A"),
    ("1-0:51.7.0*255", 33, "current_l2", INSTANTANEOUS, "Current L2", "A"),
    ("1-0:71.7.0*255", 33, "current_l3", INSTANTANEOUS, "Current L3", "A"),
    ("1-0:91.7.0*255", 33, "current_n", INSTANTANEOUS, "Current n", "A"),
    ("1-0:32.7.0*255", 35, "voltage_l1", INSTANTANEOUS, "Voltage L1", "V"),
    ("1-0:52.7.0*255", 35, "voltage_l2", INSTANTANEOUS, "Voltage L2", "V"),
    ("1-0:72.7.0*255", 35, "voltage_l3", INSTANTANEOUS, "Voltage L3", "V"),
    ("1-0:13.7.0*255", None, "power_factor", INSTANTANEOUS, "Power factor", None),
    ("1-0:33.7.0*255", None, "power_factor_l1", INSTANTANEOUS, "Power factor L1", None),
    ("1-0:14.7.0*255", 44, "frequency", INSTANTANEOUS, "Frequency", "Hz"),
    ("1-0:81.7.1*255", 8, "phase_angle_1", INSTANTANEOUS, "Phase angle U-L2 U-L1", "°"),
    ("1-0:81.7.26*255", 8, "phase_angle_26", INSTANTANEOUS, "Phase angle I-L3 U-L3", "°"),
    ("1-0:81.7.3*255", 8, "phase_angle_3", INSTANTANEOUS, "Phase angle 3", "°"),
    ("1-0:96.9.1*1", 9, "obis_1_0_96_9_1_1", INSTANTANEOUS, "1-0:96.9.1*1", "°C"),
    ("1-0:96.50.2*6", None, "obis_1_0_96_50_2_6", INSTANTANEOUS, "1-0:96.50.2*6", None),
    ("7-0:3.2.0*255", 13, "gas_volume_at_base", CUMULATIVE, "Gas volume at base", "m³"),
    ("7-0:3.1.0*255", 13, "obis_7_0_3_1_0_255", INSTANTANEOUS, "7-0:3.1.0*255", "m³"),
]
OTHERS = [
    ("1-0:0.0.0*255", "meter_number", IDENTIFIER, "Meter number"),
    ("1-0:0.0.9*255", "device_id", IDENTIFIER, "Device id"),
    ("1-0:96.1.0*255", "serial_number", IDENTIFIER, "Serial number"),
    ("1-0:96.50.1*1", "manufacturer", IDENTIFIER, "Manufacturer"),
    ("129-129:199.130.3*255", "manufacturer_id", IDENTIFIER, "Manufacturer id"),
    ("129-129:199.130.5*255", "public_key", TEXT, "Public key"),
    ("1-0:0.2.0*0", "firmware", TEXT, "Firmware"),
    ("1-0:199.130.5*255", "obis_1_0_199_130_5_255", TEXT, "1-0:199.130.5*255"),
    ("1-0:96.5.1*255", "obis_1_0_96_5_1_255", TEXT, "1-0:96.5.1*255"),
    ("1-0:1.8.0*255", "obis_1_0_1_8_0_255", TEXT, "1-0:1.8.0*255"),  # a counter that is a text is none
]


@pytest.mark.parametrize(("obis", "unit", "key", "kind", "name", "symbol"), NUMBERS, ids=[row[0] for row in NUMBERS])
def test_numbers(obis, unit, key, kind, name, symbol):
    register = describe(Reading(obis_bytes(obis), 1, -1, unit))
    assert (register.key, register.kind, register.name(), register.symbol()) == (key, kind, name, symbol)
    assert register.unit == unit
    assert register.known == (not key.startswith("obis_"))


@pytest.mark.parametrize(("obis", "key", "kind", "name"), OTHERS, ids=[row[0] for row in OTHERS])
def test_identifiers_and_texts(obis, key, kind, name):
    register = describe(Reading(obis_bytes(obis), b"\x01\x02", 0, 0))
    assert (register.key, register.kind, register.name(), register.symbol()) == (key, kind, name, None)


def test_the_kind_of_a_value_decides():
    assert describe(Reading(obis_bytes("1-0:96.1.0*255"), 12345678)).key == "obis_1_0_96_1_0_255"  # a number
    assert describe(Reading(obis_bytes("1-0:96.5.1*255"), True)).kind == TEXT
    assert describe(Reading(obis_bytes("1-0:1.8.0*255"), "1234")).kind == TEXT


# --- no two codes share a key ----------------------------------------------------------------------------------------


def check_injective(codes):
    """As numbers and as texts, over both together. Returns how many codes were seen."""
    seen = {}
    for code in codes:
        for value in (1, b"1"):
            key = describe(Reading(code, value)).key
            assert seen.setdefault(key, code) == code, f"{obis_text(code)} and {obis_text(seen[key])} share {key}"
            assert key == key.lower() and key.replace("_", "").isalnum() and key.isascii()
    return len(set(seen.values()))


def test_no_two_electricity_codes_share_a_key():
    codes = itertools.product((1,), (0, 1, 9), range(256), (0, 6, 7, 8, 9, 29), (0, 1, 2, 9, 11, 255), (0, 1, 11, 255))
    assert check_injective(map(bytes, codes)) == 3 * 256 * 6 * 6 * 4


def test_no_two_codes_anywhere_share_a_key():
    draw = random.Random(3)
    some = (0, 1, 2, 7, 8, 11, 96, 129, 130, 199, 255)
    codes = {bytes(draw.choice(some) for _ in range(6)) for _ in range(50_000)}
    assert check_injective(codes) == len(codes)


def test_a_shared_key_would_be_seen(monkeypatch):
    monkeypatch.setitem(describe.__globals__, "_DIRECTIONS", " 1=import 2=import ")  # export named as import
    with pytest.raises(AssertionError, match="share energy_import"):
        check_injective([obis_bytes("1-0:1.8.0*255"), obis_bytes("1-0:2.8.0*255")])


def test_no_two_codes_of_the_corpus_share_a_key():
    codes = set()
    for path in recorded("sml/*.expected.json"):
        for telegram in json.loads(path.read_text())["telegrams"]:
            codes.update(reading["obis"] for reading in telegram["readings"])
    assert check_injective(map(obis_bytes, sorted(codes))) == len(codes) > 40


# --- how values are shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "exponent", "sent", "shown"),
    [
        (147981129, -1, "14798112.9", "14798.1129"),
        (14798, 3, "14798000", "14798"),
        (14798, 4, "147980000", "147980"),
        (14798, 2, "1479800", "1479.8"),
        (0, -1, "0.0", "0.0000"),
        (0, 3, "0", "0"),
        (0, 5, "0", "0"),
        (0, 0, "0", "0.000"),
        (7, -4, "0.0007", "0.0000007"),
        (-5, -1, "-0.5", "-0.0005"),
        (-14798112, -3, "-14798.112", "-14.798112"),
        (16777217, 0, "16777217", "16777.217"),  # a 32-bit float makes ...216 of it
        (16777217, -1, "1677721.7", "1677.7217"),
        (98765432, -3, "98765.432", "98.765432"),  # 98765.4297 in 32 bits
        (29416461614, -4, "2941646.1614", "2941.6461614"),
        (2**53 + 1, -1, "900719925474099.3", "900719925474.0993"),  # a 64-bit float makes ...992 of it
        (2**63 - 1, -4, "922337203685477.5807", "922337203685.4775807"),
        (-(2**63), 0, "-9223372036854775808", "-9223372036854775.808"),
        (2**64 - 1, -1, "1844674407370955161.5", "1844674407370955.1615"),
        (2**64 - 1, 3, "18446744073709551615000", "18446744073709551615"),
    ],
)
def test_energy_is_shown_in_kilowatt_hours_to_the_last_digit(value, exponent, sent, shown):
    reading = Reading(obis_bytes("1-0:1.8.0*255"), value, exponent, 30)
    assert reading.text() == sent
    assert describe(reading).display(reading) == shown


def test_decimal_text_against_integers():
    """Read back digit by digit: text without its point is the integer, the point stands where the exponent says."""
    draw = random.Random(9)
    for _ in range(5_000):
        value = draw.randrange(-(1 << draw.randrange(1, 65)), 1 << draw.randrange(1, 65))
        exponent = draw.randrange(-128, 128)
        text = decimal_text(value, exponent)
        whole, _, fraction = text.partition(".")
        if exponent >= 0:
            assert fraction == "" and int(whole) == value * 10**exponent
        else:
            assert len(fraction) == -exponent and int(whole + fraction) == value
            assert whole.lstrip("-") == "0" or not whole.lstrip("-").startswith("0")


def test_other_units_are_shown_as_sent():
    for obis, value, exponent, unit, shown in (
        ("1-0:16.7.0*255", -2999, -1, 27, "-299.9"),
        ("1-0:32.7.0*255", 2301, -1, 35, "230.1"),
        ("1-0:14.7.0*255", 4999, -2, 44, "49.99"),
        ("1-0:16.7.0*255", 5, 3, 27, "5000"),
    ):
        reading = Reading(obis_bytes(obis), value, exponent, unit)
        assert describe(reading).display(reading) == shown == reading.text()


def test_identifiers_and_texts_are_shown_in_readable_form():
    for obis, value, shown in (
        ("1-0:0.0.9*255", bytes.fromhex("0a0141424300 0012d687"), "1ABC0001234567"),
        ("1-0:96.1.0*255", b"12345678", "12345678"),
        ("1-0:96.50.1*1", b"EMH", "EMH"),
        ("129-129:199.130.3*255", b"EMH", "EMH"),
        ("129-129:199.130.5*255", b"\x01\x80", "0180"),
        ("1-0:0.2.0*0", b"V1.02", "V1.02"),
        ("1-0:96.5.1*255", True, "true"),
        ("1-0:96.5.1*255", False, "false"),
        ("1-0:96.5.1*255", "some text", "some text"),
    ):
        reading = Reading(obis_bytes(obis), value)
        assert describe(reading).display(reading) == shown


def test_units():
    known = {
        **{5: "h", 6: "min", 7: "s", 8: "°", 9: "°C", 13: "m³", 15: "m³/h", 19: "L", 24: "bar", 25: "J", 27: "W"},
        **{28: "VA", 29: "var", 30: "Wh", 31: "VAh", 32: "varh", 33: "A", 35: "V", 44: "Hz", 52: "K", 56: "%"},
    }
    assert {unit: unit_symbol(unit) for unit in range(256) if unit_symbol(unit)} == known
    assert unit_symbol(None) is None
