"""A register as a meter prints it: code, decimals, unit; its clock beside ours.

Any text: an answer, never an exception.
"""

import random

import pytest

from metering.characters import latin_text
from metering.clock import deviation_s
from metering.iec62056_21.printed import PrintedReading, decimals, is_history, parse_code, unit_code
from metering.obis import obis_text


def code_of(address):
    """The code as A-B:C.D.E*F, None where the address is none."""
    data = address.encode("latin-1")
    padded = b"(9.9" + data + b"*9("
    code = bytearray(b"\x55" * 6)
    found = parse_code(padded, 4, 4 + len(data), code)
    return obis_text(bytes(code)) if found else None


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("1-0:1.8.0*255", "1-0:1.8.0*255"),
        ("1-0:1.8.0*15", "1-0:1.8.0*15"),
        ("1-0:1.8.0&01", "1-0:1.8.0*1"),
        ("1-0:1.8.0", "1-0:1.8.0*255"),
        ("0-1:24.2.1", "0-1:24.2.1*255"),
        ("1.8.0", "1-0:1.8.0*255"),
        ("16.7.0", "1-0:16.7.0*255"),
        ("1.8.0*01", "1-0:1.8.0*1"),
        ("1.8.0&12", "1-0:1.8.0*12"),
        ("1-0:99:97.0", "1-0:99.97.0*255"),  # old DSMR 4
        ("0.0.0", "1-0:0.0.0*255"),
        ("6.8", "6-0:6.8.0*255"),
        ("6.26*01", "6-0:6.26.0*1"),
        ("9.21", "6-0:9.21.0*255"),
        ("6.8.1", "1-0:6.8.1*255"),  # heat where the block is a heat meter's: data_sets
        ("8.0", "1-0:1.8.0*255"),  # VDEW
        ("8.2", "1-0:1.8.2*255"),
        ("8.1*03", "1-0:1.8.1*3"),
        ("8.1.1", "1-0:8.1.1*255"),
        ("0", "1-0:0.0.0*255"),
        ("F.F", "0-0:97.97.0*255"),
        ("FF", "0-0:97.97.0*255"),
        ("F", "0-0:97.0.0*255"),
        ("C.1.0", "0-0:96.1.0*255"),
        ("C.90.1", "0-0:96.90.1*255"),
        ("L.1", "0-0:98.1.0*255"),
        ("P.01", "0-0:99.1.0*255"),
        ("P.98", "0-0:99.98.0*255"),
        ("0-0:F.F.0*255", "0-0:97.97.0*255"),
        ("0-0:C.1.0*255", "0-0:96.1.0*255"),
        ("255-255:255.255.255*255", "255-255:255.255.255*255"),
    ],
)
def test_codes(address, code):
    assert code_of(address) == code


@pytest.mark.parametrize(
    "address",
    ["", ".", "1.", ".8.0", "1..0", "1.8.256", "1.8.0*", "1.8.0*01*02", "1-0", "1-0:", "-0:1.8.0", "1-0-1:8.0",
     "1.8.0.0", "1.8.0 ", " 1.8.0", "x", "1.8.x", "B1.8.0", "FFFFF", "1.8.0(", "99999999999", "1:8.0-1", "\xb1.8.0",
     "1-0:1.8.0*25x"],
)  # fmt: skip
def test_what_is_no_code(address):
    assert code_of(address) is None


def test_any_text_is_a_code_or_none():
    draw = random.Random(5)
    for _ in range(20_000):
        text = bytes(draw.choice(b"0123456789.:-*&CFLP x\xff") for _ in range(draw.randrange(12)))
        code_of(latin_text(text))


def test_former_values():
    def former(address):
        code = bytearray(6)
        assert parse_code(address, 0, len(address), code)
        return is_history(code)

    for address in (b"1.8.0*01", b"1-0:1.6.0*15", b"6.26*01", b"0.1.0*01", b"1-0:2.8.0*99", b"1.8.0*00"):
        assert former(address), address
    for address in (b"1.8.0", b"1-0:1.8.0*255", b"0-0:C.1.0*00", b"F.F*01", b"0.9.1*01", b"1.8.0*100", b"0.1.0"):
        assert not former(address), address


@pytest.mark.parametrize(
    ("text", "n"),
    [("0", 0), ("0012.345", 3), ("-000073.69", 2), ("+00026", 0), (".5", 1), ("0.00000000", 8), ("1" * 32, 0),
     ("1,5", 1), ("-00,50", 2), ("", -1), ("-", -1), (".", -1), ("5.", -1), ("5,", -1), ("1.2.3", -1), ("1.2,3", -1),
     ("--1", -1), ("1-1", -1), ("1 ", -1), ("0x1", -1), ("1e5", -1), ("1" * 33, -1), ("12:30", -1), ("\xb2", -1)],
)  # fmt: skip
def test_decimals(text, n):
    data = text.encode("latin-1")
    assert decimals(b"9." + data + b"9", 2, 2 + len(data)) == n


@pytest.mark.parametrize(
    ("unit", "code", "power"),
    [("kWh", 30, 3), ("KWH", 30, 3), ("Wh", 30, 0), ("MWh", 30, 6), ("GWh", 30, 9), ("GJ", 25, 9), ("kvarh", 32, 3),
     ("kVArh", 32, 3), ("kVAh", 31, 3), ("W", 27, 0), ("kW", 27, 3), ("kVA", 28, 3), ("kvar", 29, 3), ("A", 33, 0),
     ("mA", 33, -3), ("V", 35, 0), ("mV", 35, -3), ("kV", 35, 3), ("Hz", 44, 0), ("kHz", 44, 3), ("m3", 13, 0),
     ("m3ph", 15, 0), ("m3/h", 15, 0), ("l", 19, 0), ("C", 9, 0), ("K", 52, 0),
     ("deg", 8, 0), ("Deg", 8, 0), ("h", 5, 0), ("min", 6, 0),
     ("s", 7, 0), ("%", 56, 0), ("bar", 24, 0)],
)  # fmt: skip
def test_units(unit, code, power):
    assert unit_code(unit.encode()) == (code, power)


@pytest.mark.parametrize(
    "unit", ["", " ", "x", "M", "kh", "km3", "mWh", "mW", "Imp/kWh", ":", "wh:30", "kkWh", "h:5", "30", "\xb0C"]
)
def test_units_not_known(unit):
    assert unit_code(unit.encode("latin-1")) == (None, 0)


def test_a_number_keeps_every_digit_sent():
    for printed, unit, text, exponent in (
        ("0012.345", b"kWh", "12345", 0),
        ("-000073.69", b"W", "-73.69", -2),
        ("+00026", b"kW", "26000", 3),
        ("0.1", b"mV", "0.0001", -4),
        ("9" * 30 + ".5", b"kWh", "9" * 30 + "500", 2),
        ("1.5", b"xyz", "1.5", -1),
    ):
        reading = PrintedReading(b"\x01\x00\x01\x08\x00\xff", "1.8.0", printed, unit.decode(), False)
        assert (reading.value, reading.text()) == (printed, printed)
        reading.take_number(len(printed.partition(".")[2]), *unit_code(unit))
        assert reading.exponent == exponent
        assert reading.text() == printed  # as it stands in the meter's display
        shown = reading.value * 10**exponent if exponent >= 0 else reading.value / 10**-exponent
        assert str(shown) == text or shown == float(text)


@pytest.mark.parametrize(
    ("printed", "now_s", "deviation"),
    [
        ("113007", 11 * 3600 + 30 * 60 + 7, 0),
        ("11:30:07", 11 * 3600 + 30 * 60 + 7, 0),
        ("113007", 9 * 3600 + 30 * 60 + 7, 0),  # daylight saving and a time zone
        ("113007", 5 * 3600 + 45 * 60 + 0, 7),
        ("113000", 7, -7),
        ("000001", 86399, 2),
        ("235959", 86401, -2),
        ("240528113010S", 3600 * 10 + 1800, 10),
        ("240111093510W", 3600 * 8 + 35 * 60, 10),
        ("00:07:30", 0, -450),
        ("00:07:29", 0, 449),
        ("", 0, None),
        ("1130", 0, None),
        ("2026-05-28", 0, None),
        ("??", 0, None),
        ("24011109350000W", 0, None),
    ],
)
def test_clock(printed, now_s, deviation):
    assert deviation_s(printed, now_s) == deviation
