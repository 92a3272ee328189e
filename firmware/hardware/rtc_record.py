"""A record in RTC memory that a reset at any moment leaves whole: of two places the older one is written.

    0..5      restarts and their cause: firmware.hardware.restarts
    6..       two places of 320 bytes
    646..     firmware.hardware.log_ring

A place: number of the write (4 bytes), length (2), CRC-32 of these and the record (4), the record. All big-endian.
"""

import binascii
import struct

import machine
from micropython import const

from firmware.hardware.health import RTC_BYTES

MAX_BYTES = const(310)
_HEADER_BYTES = const(10)
_PLACE_BYTES = const(320)
_SIZE = const(646)
_NUMBER_MASK = const(0x3FFFFFFF)


def _check(number, data):
    return binascii.crc32(data, number) & 0xFFFFFFFF


class RtcRecord:
    """`data` is what was kept (bytes), None where nothing whole is there."""

    def __init__(self):
        self._rtc = machine.RTC()
        memory = self._rtc.memory()
        self._memory = bytearray(memory if len(memory) >= _SIZE else _SIZE)
        self._number = 0
        self._place = 0
        self.data = None
        for place in (0, 1):
            number, data = self._at(place)
            if data is not None and (self.data is None or (number - self._number) & _NUMBER_MASK < _NUMBER_MASK >> 1):
                self._number = number
                self._place = place
                self.data = data

    def _at(self, place):
        at = RTC_BYTES + place * _PLACE_BYTES
        number, length, check = struct.unpack_from(">IHI", self._memory, at)
        if not 0 < length <= MAX_BYTES:
            return 0, None
        data = bytes(self._memory[at + _HEADER_BYTES : at + _HEADER_BYTES + length])
        return (number, data) if check == _check(number, data) else (0, None)

    def write(self, data):
        """Keep `data` (bytes) instead; ValueError where it is longer than MAX_BYTES."""
        if len(data) > MAX_BYTES:
            raise ValueError("RTC record: up to %d bytes" % MAX_BYTES)
        number = (self._number + 1) & _NUMBER_MASK
        place = self._place ^ 1
        at = RTC_BYTES + place * _PLACE_BYTES
        self._memory[at + _HEADER_BYTES : at + _HEADER_BYTES + len(data)] = data
        struct.pack_into(">IHI", self._memory, at, number, len(data), _check(number, data))
        memory = memoryview(self._rtc.memory())
        if len(memory) >= _SIZE and len(memory) != len(self._memory):
            whole = bytearray(memory)
            whole[RTC_BYTES:_SIZE] = memoryview(self._memory)[RTC_BYTES:_SIZE]
            self._memory = whole
        elif len(memory) >= RTC_BYTES:
            self._memory[:RTC_BYTES] = memory[:RTC_BYTES]
            if len(memory) > _SIZE:
                self._memory[_SIZE:] = memory[_SIZE:]
        self._rtc.memory(self._memory)
        self._number = number
        self._place = place
