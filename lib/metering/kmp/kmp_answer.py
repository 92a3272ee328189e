"""Answers of a Kamstrup meter in KMP: its registers, each with a unit and a decimal exponent of its own.

Source: see metering.kmp.kmp_frame. A register is

    number (2 bytes) | unit | length of the integer | sign and exponent | integer, high byte first
    bit 7: the value is below zero; bit 6: the exponent is; bits 0 to 5: the exponent

What unit 21 is, the implementations do not agree on (W or kW): such a register is left out and counted. So is what a
meter sends for a temperature whose sensor has failed, by the maker's descriptions (MULTICAL 603: 5512-2029, page 107;
403: 55121689, 7.7.3): 185.00 °C, or 0.00 °C, here where the info code tells of a fault; and the 0 made of it.
"""

from metering.compat import const
from metering.kmp.kmp_frame import END, FROM_METER, METER, REGISTERS, SERIAL_NUMBER, crc16_xmodem, unstuffed
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.reading import Reading
from metering.register import unit_symbol

_MOST_BYTES = const(250)  # of a frame: eight registers of eight bytes, each of them escaped, are 216
_CRC_BYTES = const(2)
_HEAD_BYTES = const(2)  # address and command
_REGISTER_BYTES = const(5)  # before its integer
_MOST_INTEGER = const(8)  # bytes; four have been seen
_MOST_REGISTERS = const(16)
_COOLING_METER = const(5)  # A of the code: what is counted (IEC 62056-6-1, table 5)
_HEAT_METER = const(6)
_WATER_METER = const(8)

# Register -> C of 6-0:C.0.0 (IEC 62056-6-1, 7.9); cooling energy is 5-0:1.0.0, the info code 0-0:97.97.0
_ENERGY = const(60)
_COOLING = const(63)
_VOLUME = const(68)
_FLOW = const(74)
_POWER = const(80)
_FLOW_TEMPERATURE = const(86)
_RETURN_TEMPERATURE = const(87)
_DIFFERENCE = const(89)
_INFO = const(99)
_CODES = {
    _ENERGY: 1,
    _COOLING: 1,
    _VOLUME: 2,
    _POWER: 8,
    _FLOW: 9,
    _FLOW_TEMPERATURE: 10,
    _RETURN_TEMPERATURE: 11,
    _DIFFERENCE: 12,
}
_TEMPERATURES = (_FLOW_TEMPERATURE, _RETURN_TEMPERATURE)
_OF_SENSORS = (_POWER, _DIFFERENCE) + _TEMPERATURES
_CELSIUS = const(37)
_DISCONNECTED = const(185)
_OF_HEAT = (_ENERGY, _COOLING, _POWER, _FLOW_TEMPERATURE, _RETURN_TEMPERATURE, _DIFFERENCE)
# A request holds eight numbers: what a household wants to know, of heat, cooling and water
WANTED = (_ENERGY, _COOLING, _VOLUME, _FLOW, _POWER, _FLOW_TEMPERATURE, _RETURN_TEMPERATURE, _INFO)

# Unit -> power of ten and code of IEC 62056-6-2, 4.3.2: Wh, J, W, °C, K, m³, m³/h, h, bar, min, s; None: a number
_UNITS = {
    0: (0, None),
    1: (0, 30),
    2: (3, 30),
    3: (6, 30),
    4: (9, 30),
    5: (0, 25),
    6: (3, 25),
    7: (6, 25),
    8: (9, 25),
    22: (3, 27),
    23: (6, 27),
    24: (9, 27),
    37: (0, 9),
    38: (0, 52),
    39: (-3, 13),
    40: (0, 13),
    41: (-3, 15),
    42: (0, 15),
    46: (0, 5),
    51: (0, None),
    52: (0, 24),
    55: (1, 13),
    57: (10, 25),
    58: (0, 6),
    60: (0, 7),
}


def _is_disconnected(value, exponent):
    """Is value * 10**exponent what stands for the temperature of a sensor that is disconnected?"""
    places = -exponent
    return places >= 0 and value == _DISCONNECTED * 10**places


class KmpAnswer(Listener):
    """Hears the answers; a telegram is one with registers. The serial number, which another answer tells, is kept."""

    NAME = "kmp"
    LINES = (Line(1200, 8, None, 2), Line(2400, 8, None, 2))
    SOURCE = "PyKMP 0.0.2"
    REASONS = ("checksum", "length", "form")

    def __init__(self, size=_MOST_BYTES):
        Listener.__init__(self, size)
        self._plain = b""  # of the answer in hand
        self._serial_number = ""
        self._is_heat = False  # has this meter told a register of heat? Others ask for one register at a time
        self._has_failed = False  # a sensor, by the answer in hand
        self.numbers_told = 0  # answers that told a serial number

    def _judge(self):
        event = None
        while event is None:
            event = self._judge_frame()
        return event

    def _judge_frame(self):
        """What _judge() answers; None for a good frame without registers, behind which to look on."""
        buf = self._buf
        at = 0
        while at < self._n and buf[at] != FROM_METER:
            at += 1
        if at:
            self._skip_noise(at)
        for i in range(1, self._n):
            if buf[i] == FROM_METER:  # inside a frame it is escaped
                return self._reject("length", "cut off", i)
            if buf[i] == END:
                return self._take(i + 1)
        if self._n > _MOST_BYTES or self._n == len(buf):
            return self._reject("length", "no end", self._n)
        if self._ended and self._n:
            return self._reject("length", "cut off", self._n)
        return NOTHING

    def _take(self, used):
        plain = unstuffed(self._buf, 1, used - 1)
        if len(plain) < _HEAD_BYTES + _CRC_BYTES:
            return self._reject("form", "%d bytes" % len(plain), used)
        if crc16_xmodem(plain):
            return self._reject("checksum", "", used)
        if plain[0] != METER:
            return self._reject("form", "address %02x" % plain[0], used)
        if plain[1] == REGISTERS:
            return self._take_registers(plain, used)
        if plain[1] == SERIAL_NUMBER and len(plain) == _HEAD_BYTES + 4 + _CRC_BYTES:
            number = str(int.from_bytes(plain[2:6], "big"))
            if number != self._serial_number:
                self._is_heat = False
            self._serial_number = number
            self.numbers_told += 1
        self._skip_noise(used)
        return None

    def _take_registers(self, plain, used):
        at = _HEAD_BYTES
        end = len(plain) - _CRC_BYTES
        n = 0
        while at + _REGISTER_BYTES <= end and n < _MOST_REGISTERS:
            if not 1 <= plain[at + 3] <= _MOST_INTEGER:
                break
            at += _REGISTER_BYTES + plain[at + 3]
            n += 1
        if at != end or not n:
            return self._reject("form", "%d registers in %d bytes" % (n, end - _HEAD_BYTES), used)
        self._plain = plain
        self._reset_telegram()
        self._look_over()
        for _ in self.published_readings():
            self.n_values += 1
        self.values_dropped += n - self.n_values
        return self._accept(used)

    def _look_over(self):
        """Is heat counted, and has a sensor failed? The info code stands behind what it is about."""
        self._has_failed = False
        has_zero = has_info = False
        for number, unit, value, exponent in self._registers():
            if number in _OF_HEAT:
                self._is_heat = True
            if number == _INFO:
                has_info = value != 0
            elif number in _TEMPERATURES and unit == _CELSIUS:
                has_zero = has_zero or not value
                self._has_failed = self._has_failed or _is_disconnected(value, exponent)
        self._has_failed = self._has_failed or has_zero and has_info

    def abandon(self):
        self._release()
        self._skip_noise(self._n)

    def published_readings(self):
        """What has a code: a probe asks for these alone."""
        for reading in self.readings():
            if reading.address is None:
                yield reading

    def readings(self):
        """Other registers go by their number."""
        for number, unit, value, exponent in self._registers():
            if number == _INFO:
                if not exponent:
                    yield Reading(b"\x00\x00\x61\x61\x00\xff", str(value))
                continue
            c = _CODES.get(number)
            scale = _UNITS.get(unit)
            if scale is None or c and scale[1] is None:
                continue
            if self._has_failed and number in _OF_SENSORS and (not value or _is_disconnected(value, exponent)):
                continue
            if c is None:
                name = "register %d" % number
                reading = Reading(b"?" + name.encode(), value, exponent + scale[0], scale[1])
                reading.address = name
                reading.printed_unit = unit_symbol(scale[1])
                yield reading
                continue
            a = _COOLING_METER if number == _COOLING else _HEAT_METER
            if not self._is_heat and number in (_VOLUME, _FLOW):  # 8-0:1.0.0 and 8-0:2.0.0
                a = _WATER_METER
                c = 1 if number == _VOLUME else 2
            yield Reading(bytes((a, 0, c, 0, 0, 255)), value, exponent + scale[0], scale[1])

    def _registers(self):
        """Yields (number, unit, integer, power of ten) of each, as sent."""
        plain = self._plain
        at = _HEAD_BYTES
        while at < len(plain) - _CRC_BYTES:
            value_at = at + _REGISTER_BYTES
            number, unit, sign = plain[at] << 8 | plain[at + 1], plain[at + 2], plain[at + 4]
            at = value_at + plain[at + 3]
            value = int.from_bytes(plain[value_at:at], "big")
            exponent = sign & 0x3F
            yield number, unit, -value if sign & 0x80 else value, -exponent if sign & 0x40 else exponent

    def meter_id(self):
        return self._serial_number

    def maker(self):
        return "Kamstrup"


LISTENER = KmpAnswer
