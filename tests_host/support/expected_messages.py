"""What the firmware's messages must hold of a simulated meter's rows: keys of the MQTT contract, exact numbers."""

from decimal import Decimal
from typing import Any

from metering.reading import Reading
from metering.registers import describe

UNITS = {"W": 27, "VA": 28, "var": 29, "Wh": 30, "VAh": 31, "varh": 32, "A": 33, "V": 35, "Hz": 44}

# Address as printed, without A-B: and *255 -> key in `state` (texts and counters) or in `live`
STATE = {
    "F.F": "error_register",
    "C.1.0": "serial_number",
    "0.0.0": "meter_number",
    "0.9.2": "meter_date",
    "1.8.0": "energy_import",
    "1.8.1": "energy_import_t1",
    "1.8.2": "energy_import_t2",
    "2.8.0": "energy_export",
    "2.8.1": "energy_export_t1",
    "2.8.2": "energy_export_t2",
    "96.14.0": "tariff",
    "6.8": "heat_energy",
    "6.26": "heat_volume",
    "6.31": "operating_hours",
}
LIVE = {
    "16.7.0": "power",
    "1.7.0": "power_import",
    "2.7.0": "power_export",
    "14.7.0": "frequency",
    "6.6": "heat_power_max",
    "6.33": "flow_max",
    **{f"{20 * k + 11}.7.0": f"current_l{k}" for k in (1, 2, 3)},
    **{f"{20 * k + 12}.7.0": f"voltage_l{k}" for k in (1, 2, 3)},
    **{f"{20 * k + 1}.7.0": f"power_import_l{k}" for k in (1, 2, 3)},
    **{f"{20 * k + 2}.7.0": f"power_export_l{k}" for k in (1, 2, 3)},
}
SHIFT = {"kW": 3, "MWh": 3}  # shown in W and kWh; kWh, m3, V, A, Hz as they are


def shown_of_codes(rows: Any) -> dict[str, Decimal]:
    """key -> number of a telegram's rows: the key as the contract names the code, energy in kWh."""
    found = {}
    for obis, value, unit in rows:
        head, _, tail = obis.replace("*", ".").partition(":")
        code = bytes(map(int, head.split("-") + tail.split(".")))
        key = describe(Reading(code, 1, 0, UNITS.get(unit))).key
        found[key] = Decimal(value).scaleb(-3) if unit in ("Wh", "varh", "VAh") else Decimal(value)
    return found


_CODES = {"Wh": 30, "J": 25, "W": 27, "m³": 13, "m³/h": 15, "°C": 9, "K": 52}
_SHIFTS = {"Wh": -3, "J": -9}


def shown_of_battery_meter(rows: Any) -> dict[str, Decimal]:
    """The same of what a heat, water or gas meter tells: energy in kWh and GJ; what has no unit is left out."""
    found = {}
    for code, value, unit in rows:
        if unit in _CODES:
            obis = bytes(map(int, code.replace("-", ".").replace(":", ".").split("."))) + b"\xff"
            found[describe(Reading(obis, 1, 0, _CODES[unit])).key] = Decimal(value).scaleb(_SHIFTS.get(unit, 0))
    return found


def shown_of_objects(rows: Any) -> dict[str, Decimal]:
    """The same of a DLMS meter's (code, count, scaler, unit)."""
    found = {}
    for obis, count, scaler, unit in rows:
        code = bytes(map(int, obis.replace("-", ".").replace(":", ".").replace("*", ".").split(".")))
        shift = -3 if unit in (30, 31, 32) else 0
        found[describe(Reading(code, 1, 0, unit)).key] = Decimal(count).scaleb(scaler + shift)
    return found


def shown_of_prints(rows: Any) -> tuple[dict[str, str], dict[str, str]]:
    """What (state, live) must hold of a block's rows, of the registers in the two tables."""
    state, live = {}, {}
    for address, value, unit in rows:
        code = address.partition(":")[2] or address
        key = STATE.get(code) or LIVE.get(code)
        if key is None:
            continue
        text = value if unit is None else format(Decimal(value).scaleb(SHIFT.get(unit, 0)), "f")
        (state if code in STATE else live)[key] = text
    return state, live
