"""A simulated meter that answers in Modbus RTU by a register map (see metering.modbus.modbus_map).

It frames and encodes by itself, by MODBUS Application Protocol V1.1b3; with the decoder it shares the map's data alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from metering.line import Line

from .source import Transmission

QUIRKS = {
    "damaged": "one bit of each third answer is turned",
    "busy": "each second question is answered with exception 6",
    "late": "the second answer comes after 1.5 s",
    "unknown": "it has no register of the first block but its first two",
    "nothing": "its frequency says that there is none",
}
_FORMS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "u64": ">Q", "f32": ">f"}
_NONE = {"u16": "ffff", "s16": "7fff", "u32": "ffffffff", "s32": "7fffffff", "u64": "f" * 16, "f32": "7fc00000"}
_QUESTION = 8  # bytes
_FREQUENCY = "1-0:14.7.0"
_KILO = "k"


def crc(data: bytes) -> bytes:
    """CRC-16/MODBUS, as it stands on the line; bit by bit."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return register.to_bytes(2, "little")


def framed(body: bytes) -> bytes:
    return body + crc(body)


class ModbusMeter:
    """`data` of the map called `map_name`; `quirks` of QUIRKS; `address` of the bus. `functions` counts its questions.
    `expected(now_s)` is what its registers say: (code, value, unit), an exact decimal in the unit without kilo."""

    serial_number = 40271313

    def __init__(
        self,
        data: dict[str, Any],
        *,
        map_name: str = "",
        address: int = 1,
        seed: int = 1,
        quirks: Iterable[str] = (),
        reaction_ms: float = 40.0,
    ) -> None:
        self._quirks = set(quirks)
        if self._quirks - set(QUIRKS):
            raise ValueError(f"quirks: some of {', '.join(QUIRKS)}")
        rate, form = data["line"].split()
        self.line = Line(int(rate), 8, None if form[1] == "N" else form[1], int(form[2]))
        self.map_name = map_name
        self._data = data
        self._address = address
        self._seed = seed
        self._reaction_s = reaction_ms / 1000
        self.functions: dict[int, int] = {}
        self._heard = bytearray()
        self._heard_at_s = 0.0
        self._answers: list[tuple[float, bytes]] = []
        self._n = 0

    # --- what it counts

    def _value(self, obis: str, s: int) -> Decimal:
        """As its maker's unit has it."""
        c, d = (int(part) for part in obis.partition(":")[2].split(".")[:2])
        if d == 8:
            return Decimal((5_213_37 if c == 1 else 87_654) * 10 + s // 10 + self._seed).scaleb(-1)
        if c == 14:
            return Decimal(499 + s % 3).scaleb(-1)
        if c % 20 == 12:
            return Decimal(2291 + c + s % 7).scaleb(-1)
        if c % 20 == 11:
            return Decimal(103 + c + s % 5).scaleb(-2)
        return Decimal(-1 if c == 56 else 1) * Decimal(1000 + c * 10 + s % 9).scaleb(-1)

    def expected(self, now_s: float) -> list[tuple[str, str, str]]:
        rows = []
        for row in self._data["registers"]:
            unit = row["unit"]
            value = self._value(row["obis"], int(now_s)).scaleb(3 if unit[0] == _KILO else 0)
            rows.append((row["obis"], f"{value:f}", unit.removeprefix(_KILO)))
        return rows

    def registers(self, now_s: float) -> dict[int, bytes]:
        """Each register's two bytes."""
        found: dict[int, bytes] = {}
        for row in self._data["registers"]:
            value = self._value(row["obis"], int(now_s)).scaleb(-row.get("exponent", 0))
            encoded = struct.pack(_FORMS[row["type"]], float(value) if row["type"] == "f32" else int(value))
            if "nothing" in self._quirks and row["obis"] == _FREQUENCY:
                encoded = bytes.fromhex(_NONE[row["type"]])
            self._put(found, row["address"], encoded)
        if "serial" in self._data:
            self._put(found, self._data["serial"], self.serial_number.to_bytes(4, "big"))
        if "unknown" in self._quirks:
            first = min(found)
            for address in range(first + 2, first + 6):
                found.pop(address, None)
        return found

    def _put(self, found: dict[int, bytes], address: int, encoded: bytes) -> None:
        words = [encoded[k : k + 2] for k in range(0, len(encoded), 2)]
        if self._data.get("order") == "low":
            words.reverse()
        found.update((address + i, word) for i, word in enumerate(words))

    # --- Source

    def receive(self, value: int, at_s: float) -> None:
        if at_s - self._heard_at_s > 0.05:
            self._heard.clear()
        self._heard_at_s = at_s
        self._heard.append(value)
        if len(self._heard) == _QUESTION:
            question, self._heard = bytes(self._heard), bytearray()
            self._answer(question, at_s)

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if not self._answers or self._answers[0][0] > now_s:
            return None
        at_s, frame = self._answers.pop(0)
        return Transmission(max(at_s, free_s), frame, self.expected(at_s))

    def wake_s(self) -> float | None:
        return self._answers[0][0] if self._answers else None

    def _answer(self, question: bytes, at_s: float) -> None:
        if framed(question[:-2]) != question or question[0] != self._address:
            return
        function = question[1]
        self.functions[function] = self.functions.get(function, 0) + 1
        first, count = struct.unpack(">HH", question[2:6])
        self._n += 1
        known = self.registers(at_s)
        head = bytes((self._address, function))
        refused = head[:1] + bytes((function | 0x80,))
        if function != self._data.get("function", 4):
            frame = framed(refused + b"\x01")
        elif "busy" in self._quirks and self._n % 2 == 0:
            frame = framed(refused + b"\x06")
        elif any(first + i not in known for i in range(count)):
            frame = framed(refused + b"\x02")
        else:
            frame = framed(head + bytes((2 * count,)) + b"".join(known[first + i] for i in range(count)))
        if "damaged" in self._quirks and self._n % 3 == 0:
            frame = frame[:3] + bytes([frame[3] ^ 0x10]) + frame[4:]
        late_s = 1.5 if "late" in self._quirks and self._n == 2 else self._reaction_s
        self._answers.append((at_s + late_s, frame))
