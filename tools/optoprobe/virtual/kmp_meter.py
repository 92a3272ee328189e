"""A simulated Kamstrup Multical: a heat, cooling or water meter that answers in KMP (see metering.kmp.kmp_frame).

It frames and encodes by itself, by the rules that PyKMP 0.0.2 follows; the decoder's code is not used.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from metering.line import Line

from .source import Transmission

QUIRKS = {
    "deaf": "the first question only wakes its eye",
    "small": "knows half of the registers it is asked for",
    "damaged": "one bit of each third answer is turned",
}
_START, _STOP, _ESCAPE = 0x80, 0x0D, 0x1B
_ESCAPED = (0x80, 0x40, 0x0D, 0x06, 0x1B)
_ADDRESS = 0x3F
_TYPE, _SERIAL, _REGISTERS = 0x01, 0x02, 0x10
_MOST_FRAME = 64  # bytes of a question
_MOST_REGISTERS = 8
_TURNED = 3  # each third answer

# Unit -> its code in KMP, and what a reader shows it in: the symbol, and by how many powers of ten
_UNITS = {"kWh": (2, "Wh", 3), "GJ": (8, "J", 9), "kW": (22, "W", 3), "°C": (37, "°C", 0), "m³": (40, "m³", 0)} | {
    "L": (39, "m³", -3), "l/h": (41, "m³/h", -3), "": (51, "", 0),
}  # fmt: skip


class _Register(NamedTuple):
    number: int
    obis: str  # as a reader names it
    unit: str
    mantissa: int
    exponent: int  # of ten, as sent


class KmpMeter:
    """`kind` heat, cooling or water; `quirks` of QUIRKS; `reaction_ms` from a question's end to its answer.

    `questions` counts what it was asked by command; `expected(now_s)` is what its registers say: (code, value, unit),
    the value as an exact decimal in the unit.
    """

    line = Line(1200, 8, None, 2)

    def __init__(
        self, kind: str = "heat", *, seed: int = 1, quirks: Iterable[str] = (), reaction_ms: float = 120.0
    ) -> None:
        if kind not in ("heat", "cooling", "water"):
            raise ValueError("a Kamstrup meter counts heat, cooling or water")
        self._quirks = set(quirks)
        if self._quirks - set(QUIRKS):
            raise ValueError(f"quirks: some of {', '.join(QUIRKS)}")
        self._kind = kind
        self._reaction_s = reaction_ms / 1000
        self.serial_number = 60_000_000 + seed * 27_013
        self.questions: dict[int, int] = {}
        self._heard = bytearray()
        self._answers: list[tuple[float, bytes, bool]] = []
        self._n_answers = 0
        self._is_asleep = "deaf" in self._quirks

    # --- what it counts

    def registers(self, now_s: float) -> list[_Register]:
        """All it has, at `now_s`."""
        s = int(now_s)
        volume = 4_213_370 + 3 * s  # litres
        if self._kind == "water":
            return [
                _Register(68, "8-0:1.0.0", "m³", volume, -3),
                _Register(74, "8-0:2.0.0", "l/h", 10_800, 0),
                _Register(99, "0-0:97.97.0", "", 0, 0),
            ]
        low = _Register(87, "6-0:11.0.0", "°C", 3_112 + s % 7, -2)
        high = _Register(86, "6-0:10.0.0", "°C", 6_845 + s % 9, -2)
        energy = _Register(60, "6-0:1.0.0", "kWh", 87_654 * 10 + s, -1)
        if self._kind == "cooling":
            energy = _Register(63, "5-0:1.0.0", "GJ", 31_555 + s, -2)
            high, low = high._replace(mantissa=1_203), low._replace(mantissa=-55)
        return [
            energy,
            _Register(68, "6-0:2.0.0", "m³", volume, -3),
            _Register(74, "6-0:9.0.0", "l/h", 27 + s % 3, 1),
            _Register(80, "6-0:8.0.0", "kW", 64 + s % 5, -1),
            high,
            low,
            _Register(99, "0-0:97.97.0", "", 8, 0),
        ]

    def expected(self, now_s: float) -> list[tuple[str, str, str]]:
        rows = []
        for row in self._known(now_s):
            _, unit, power = _UNITS[row.unit]
            value = Decimal(row.mantissa).scaleb(row.exponent + power)
            rows.append((row.obis, f"{value:f}", unit))
        return rows

    def _known(self, now_s: float) -> list[_Register]:
        rows = self.registers(now_s)
        return rows[::2] if "small" in self._quirks else rows

    # --- Source

    def receive(self, value: int, at_s: float) -> None:
        if value == _START:
            self._heard.clear()
        self._heard.append(value)
        if value == _STOP and self._heard[0] == _START:
            frame, self._heard = bytes(self._heard), bytearray()
            self._answer(frame, at_s)
        elif len(self._heard) > _MOST_FRAME:
            self._heard.clear()

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if not self._answers or self._answers[0][0] > now_s:
            return None
        at_s, frame, is_telegram = self._answers.pop(0)
        return Transmission(max(at_s, free_s), frame, self.expected(at_s), telegram=is_telegram)

    def wake_s(self) -> float | None:
        return self._answers[0][0] if self._answers else None

    def _answer(self, frame: bytes, at_s: float) -> None:
        plain = _plain(frame[1:-1])
        if len(plain) < 4 or binascii.crc_hqx(plain, 0) or plain[0] != _ADDRESS:
            return
        if self._is_asleep:
            self._is_asleep = False
            return
        command, data = plain[1], plain[2:-2]
        self.questions[command] = self.questions.get(command, 0) + 1
        at_s += self._reaction_s
        if command == _TYPE:
            body = bytes.fromhex("00010701")
        elif command == _SERIAL:
            body = self.serial_number.to_bytes(4, "big")
        elif command == _REGISTERS and 1 <= data[0] <= _MOST_REGISTERS and len(data) == 1 + 2 * data[0]:
            wanted = [int.from_bytes(data[k : k + 2], "big") for k in range(1, len(data), 2)]
            rows = {row.number: row for row in self._known(at_s)}
            body = b"".join(_encoded(rows[number]) for number in wanted if number in rows)
        else:
            return
        frame = framed(bytes((_ADDRESS, command)) + body)
        self._n_answers += 1
        if "damaged" in self._quirks and self._n_answers % _TURNED == 0:
            frame = frame[:4] + bytes([frame[4] ^ 0x10]) + frame[5:]
        self._answers.append((at_s, frame, command == _REGISTERS))


def _encoded(row: _Register) -> bytes:
    size = max(2, (abs(row.mantissa).bit_length() + 7) // 8)
    sign = (0x80 if row.mantissa < 0 else 0) | (0x40 if row.exponent < 0 else 0) | abs(row.exponent)
    head = row.number.to_bytes(2, "big") + bytes((_UNITS[row.unit][0], size, sign))
    return head + abs(row.mantissa).to_bytes(size, "big")


def framed(body: bytes) -> bytes:
    """The meter's frame around address, command and data."""
    whole = body + binascii.crc_hqx(body, 0).to_bytes(2, "big")
    stuffed = b"".join(bytes((_ESCAPE, byte ^ 0xFF)) if byte in _ESCAPED else bytes((byte,)) for byte in whole)
    return b"\x40" + stuffed + b"\x0d"


def _plain(stuffed: bytes) -> bytes:
    first, *others = stuffed.split(bytes((_ESCAPE,)))
    return first + b"".join(bytes((part[0] ^ 0xFF,)) + part[1:] for part in others if part)
