"""When a maximum was reached: the bracket beside a meter's demand register. Loaded with the first one that comes, kept.

    230203174500W       YYMMDDhhmmss and the season (DSMR P1 5.0.2, 6.4; Belgian P1 1.6.0: the peak of this month)
    1703182015          YYMMDDhhmm (IEC 62056-21 read-outs of Iskra and Landis+Gyr)
    16-02-29,18:00      the same with signs between (Elster)
"""

from micropython import const

from metering.guard import MAX_REGISTERS
from metering.reading import Reading
from metering.register import TEXT, Register

_MOST_CHARACTERS = const(20)
_SEPARATORS = b"-:, T"


def peak_time(printed):
    """"2023-02-03 17:45" of `printed` (str), in the meter's own time; "" where it is no such time, as 0000000000 is."""
    text = printed.encode()
    if len(text) > _MOST_CHARACTERS:
        return ""
    if text[-1:] in (b"W", b"S"):
        text = text[:-1]
    has_century = text[:2] == b"20" and text[4:5] == b"-"
    digits = bytearray()
    for byte in text[2:] if has_century else text:
        if 0x30 <= byte <= 0x39:
            digits.append(byte)
        elif byte not in _SEPARATORS:
            return ""
    if len(digits) not in (10, 12):
        return ""
    month, day, hour, minute = [int(digits[at : at + 2].decode()) for at in (2, 4, 6, 8)]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 24 and minute < 60):
        return ""
    year = int(digits[:2].decode())
    return "20%02d-%02d-%02d %02d:%02d" % (year, month, day, hour, minute)


class PeakTimes:
    """Makes the registers of these times. `registers`: firmware.reading.publisher.RegisterList, which gets them too."""

    def __init__(self, registers):
        self._registers = registers
        self._by_code = {}  # OBIS of the maximum -> Register of its time

    def take(self, reading):
        """(reading, register) of the time that `reading`, a companion, tells; the register is None for none."""
        obis = reading.obis
        text = peak_time(reading.text())
        register = self._by_code.get(obis) if text else None
        if text and register is None:
            register = self._make(reading.address)
            if register:
                self._by_code[obis] = register
        return Reading(obis + b"t", text), register

    def _make(self, address):
        """A register of the time of the maximum at that address; None where there is no such maximum, or no room."""
        registers = self._registers
        for maximum in registers.shown:
            if maximum.address == address and "_max" in maximum.key and len(registers.shown) < MAX_REGISTERS:
                register = Register(maximum.key.replace("_max", "_max_time"), TEXT, None, True)
                registers.shown.append(register)
                registers.changes += 1
                return register
        return None
