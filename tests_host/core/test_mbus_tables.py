"""The tables of EN 13757-3:2018 as that standard writes them, in bits; and which code another decoder reads otherwise.

pyMeterBus 0.8.5 and pymbusparser 0.5.3, where they are installed, judge what we say of every code; where they differ
from us stands here with the reason (docs/meters.md tells it to owners).
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from metering.mbus import quantities
from metering.register import unit_symbol
from optoprobe import decoding
from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.mbus_encoder import bcd, record

# (clause, table's prefix, code in bits, quantity, unit, power of ten of n = 0); u: seconds, minutes, hours, days
STANDARD = """
10 -- 0000nnn energy Wh -3
10 -- 0001nnn energy J 0
10 -- 0010nnn volume m³ -6
10 -- 0011nnn mass kg -3
10 -- 01000uu on_time - 0
10 -- 01001uu operating_time - 0
10 -- 0101nnn power W -3
10 -- 0110nnn power J/h 0
10 -- 0111nnn volume_flow m³/h -6
10 -- 1000nnn volume_flow m³/min -7
10 -- 1001nnn volume_flow m³/s -9
10 -- 1010nnn mass_flow kg/h -3
10 -- 10110nn flow_temperature °C -3
10 -- 10111nn return_temperature °C -3
10 -- 11000nn temperature_difference K -3
10 -- 11001nn external_temperature °C -3
10 -- 11010nn pressure bar -3
10 -- 1101110 heat_cost_units HCA 0
10 -- 11100uu averaging_duration - 0
10 -- 11101uu actuality_duration - 0
10 -- 1111000 fabrication_number none 0
10 -- 1111001 enhanced_identification none 0
10 -- 1111010 bus_address none 0
10 -- 1111111 maker's_quantity none 0
14 FB 000000n energy Wh 5
14 FB 000001n reactive_energy varh 3
14 FB 000010n apparent_energy VAh 3
14 FB 000100n energy J 8
14 FB 00011nn energy cal 5
14 FB 001000n volume m³ 2
14 FB 00101nn reactive_power var 0
14 FB 001100n mass kg 5
14 FB 001101n relative_humidity % -1
14 FB 0100000 volume ft³ 0
14 FB 0100001 volume ft³ -1
14 FB 010100n power W 5
14 FB 0101010 angle_of_voltages ° -1
14 FB 0101011 angle_of_current ° -1
14 FB 01011nn frequency Hz -3
14 FB 011000n power J/h 8
14 FB 01101nn apparent_power VA 0
2004,14 FB 10110nn flow_temperature °F -3
2004,14 FB 10111nn return_temperature °F -3
2004,14 FB 11000nn temperature_difference °F -3
2004,14 FB 11001nn external_temperature °F -3
2004,14 FB 11100nn temperature_limit °F -3
14 FB 11101nn temperature_limit °C -3
14 FB 1111nnn highest_power W -3
12 FD 00000nn credit none -3
12 FD 00001nn debit none -3
12 FD 0001000 access_number none 0
12 FD 0001001 medium none 0
12 FD 0001010 maker none 0
12 FD 0001011 parameter_set none 0
12 FD 0001100 model none 0
12 FD 0001101 hardware_version none 0
12 FD 0001110 firmware_version none 0
12 FD 0001111 software_version none 0
12 FD 0010000 customer_location none 0
12 FD 0010001 customer none 0
12 FD 0010111 error_flags none 0
12 FD 0011000 error_mask none 0
12 FD 0011010 digital_output none 0
12 FD 0011011 digital_input none 0
12 FD 0011100 baud_rate Bd 0
12 FD 0011101 response_delay none 0
12 FD 0011110 retries none 0
12 FD 0100000 first_storage none 0
12 FD 0100001 last_storage none 0
12 FD 0100010 size_of_storage none 0
12 FD 01001uu storage_interval - 0
12 FD 0101000 storage_interval months 0
12 FD 0101001 storage_interval years 0
12 FD 01011uu since_last_read-out - 0
12 FD 0110001 duration_of_tariff min 0
12 FD 0110010 duration_of_tariff h 0
12 FD 0110011 duration_of_tariff d 0
12 FD 01101uu period_of_tariff - 0
12 FD 0111000 period_of_tariff months 0
12 FD 0111001 period_of_tariff years 0
12 FD 0111010 dimensionless none 0
12 FD 01111uu period_of_transmission - 0
12 FD 100nnnn voltage V -9
12 FD 101nnnn current A -12
12 FD 1100000 reset_counter none 0
12 FD 1100001 cumulation_counter none 0
12 FD 1100010 control_signal none 0
12 FD 1100011 day_of_week none 0
12 FD 1100100 week_number none 0
12 FD 1100110 state_of_parameters none 0
12 FD 1100111 supplier's_information none 0
12 FD 1101000 since_last_cumulation h 0
12 FD 1101001 since_last_cumulation d 0
12 FD 1101010 since_last_cumulation months 0
12 FD 1101011 since_last_cumulation years 0
12 FD 1101100 battery_operating_time h 0
12 FD 1101101 battery_operating_time d 0
12 FD 1101110 battery_operating_time months 0
12 FD 1101111 battery_operating_time years 0
12 FD 1110001 signal_level dBm 0
12 FD 1110100 remaining_battery_time d 0
12 FD 1110101 times_stopped none 0
"""
SPANS = ("s", "min", "h", "d")
TIMES = {"6C", "6D", "FD30", "FD65", "FD70"}  # of which BCD makes none
SPECIAL = {"7B", "7C", "7D"}  # two tables' names and the plain text
Meaning = tuple[str, Decimal, str | None]


def standard() -> dict[str, Meaning]:
    """VIF in hex -> (quantity, what 17 means, unit) by the standard's own rows."""
    found: dict[str, Meaning] = {}
    for row in STANDARD.strip().splitlines():
        _, prefix, bits, name, unit, power = row.split()
        free = re.search("[nu]+$", bits)
        width = len(free[0]) if free else 0
        for n in range(1 << width):
            code = int(bits[: 7 - width].ljust(7, "0"), 2) + n
            of_time = bits.endswith("u")
            value = Decimal(17).scaleb(int(power) + (0 if of_time else n))
            vif = f"{prefix.strip('-')}{code:02X}"
            assert vif not in found
            found[vif] = (name.replace("_", " "), value, SPANS[n] if of_time else None if unit == "none" else unit)
    return found


def ours(vif: str) -> Meaning | None:
    data = mbus.frame(mbus.header(1, "ABC", medium=2) + record(0x0C, vif, bcd(17, 4)))
    (telegram,) = decoding.decode(data, "mbus")
    assert isinstance(telegram, decoding.Telegram)
    for row in telegram.readings:
        return row.name[:1].lower() + row.name[1:], Decimal(row.value), row.unit
    return None


def codes() -> Iterator[str]:
    for prefix in ("", "FB", "FD"):
        yield from (f"{prefix}{code:02X}" for code in range(128) if prefix or f"{code:02X}" not in SPECIAL)


def test_every_code_means_what_the_standard_says_and_no_other_means_anything() -> None:
    rows = standard()
    assert len(rows) > 250
    for vif in codes():
        assert ours(vif) == rows.get(vif), vif


def test_a_unit_with_a_code_is_the_one_that_is_shown() -> None:
    """varh was shown as VAh."""
    units = {unit for _, _, unit in standard().values() if unit}
    codes_of = {unit: code for unit in units if (code := quantities.unit_code(unit))}
    assert {"Wh", "J", "m³", "varh", "VAh", "bar", "d"} - set(codes_of) == {"d"}
    assert {unit: unit_symbol(code) for unit, code in codes_of.items()} == {unit: unit for unit in codes_of}


# --- the peers -------------------------------------------------------------------------------------------------------

# How each names what we name otherwise, and what a count of it is here
PYMETERBUS_UNITS = {"m³": "m^3", "m³/h": "m^3/h", "m³/min": "m^3/min", "m³/s": "m^3/s", "°C": "C", "HCA": "H.C.A"}
PYMETERBUS_UNITS |= {"ft³": "feet^3", "°F": "degF", "Bd": "Baud"}
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
PYMETERBUS = {
    "FB02-FB05 FB0C-FB0F FB14-FB17 FB1B FB20 FB2A-FB2F FB34-FB37 FD3C-FD3F FD74": "knows the tables of 2004 alone",
    "FB08 FB09": "GJ has the unit Reserved",
    "FB30 FB31": "power in GJ/h has the unit J",
    "FB79": "its power of ten is that of FB78",
    "FD28 FD29 FD38 FD39 FD6A FD6B FD6E FD6F": "months and years are made seconds, of a year of 365.24 days",
    "FD71": "the signal level is made another by a rule of one maker",
}
PYMBUSPARSER_UNITS = {"Wh": "W.h", "m³": "m3", "J/h": "J.h-1", "m³/h": "m3.h-1", "m³/min": "m3.min-1", "m³/s": "m3.s-1"}
PYMBUSPARSER_UNITS |= {"kg/h": "kg.h-1", "°C": "Cel", "HCA": "None", "varh": "W (reactive)h", "VAh": "W (apparent)h"}
PYMBUSPARSER_UNITS |= {"var": "W (reactive)", "VA": "W (apparent)", "ft³": "[ft_i]3", "°F": "[degF]", "dBm": "dBmW"}
PYMBUSPARSER_UNITS |= {"months": "mo", "years": "a", "Bd": "Symbols⁻¹"}
PYMBUSPARSER = {
    "FB18 FB19": "in tonnes: the same",
    "FB78-FB7B": "a code of the table is taken for the VIFE of an added constant, too",
    "FD2C-FD2F FD3C-FD3F FD74": "is reserved, or without a unit",
    "FD31-FD39": "the rows from FD30 on are others, by a digit of their bits",
    "FD6F": "years are called hours",
}


def listed(table: dict[str, str]) -> set[str]:
    found: set[str] = set()
    for key in table:
        for part in key.split():
            first, _, last = part.partition("-")
            last = last or first
            found |= {f"{first[:-2]}{code:02X}" for code in range(int(first[-2:], 16), int(last[-2:], 16) + 1)}
    return found


def differing(say: Any, units: dict[str, str]) -> set[str]:
    """The codes of which a peer says another value or unit, among those that mean something."""
    found: set[str] = set()
    for vif, (_, value, unit) in standard().items():
        theirs, their_unit = say(vif)
        seconds = SECONDS.get(unit or "", 0)
        same = abs(theirs - value) <= abs(value) / 10**9 and (unit is None or units.get(unit, unit) == their_unit)
        same = same or bool(seconds) and (theirs, their_unit) == (value * seconds, "seconds")
        if not same:
            found.add(vif)
    return found


def test_where_pymeterbus_differs() -> None:
    meterbus = pytest.importorskip("meterbus")

    def say(vif: str) -> tuple[Decimal, str]:
        data = mbus.frame(mbus.header(1, "ABC", medium=2) + record(0x0C, vif, bcd(17, 4)))
        row = meterbus.load(data).records[0]
        return Decimal(row.parsed_value), getattr(row.unit, "value", str(row.unit))

    assert differing(say, PYMETERBUS_UNITS) == listed(PYMETERBUS)


def test_where_pymbusparser_differs() -> None:
    parser = pytest.importorskip("pymbusparser")

    def say(vif: str) -> tuple[Decimal, str]:
        (row,) = parser.parse_records(record(0x0C, vif, bcd(17, 4)))
        return Decimal(row["value"]["value"]), str(row.get("unit"))

    assert differing(say, PYMBUSPARSER_UNITS) == listed(PYMBUSPARSER)
