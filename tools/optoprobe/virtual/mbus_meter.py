"""A simulated heat, water or gas meter that is asked over M-Bus (EN 13757-2, -3), encoded by virtual.mbus_encoder.

Its eye may sleep: then it hears at 8N1 and wakes by two seconds of 55. Its counters grow with time, its access number
with every answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from metering.line import Line

from . import mbus_encoder as mbus
from .source import Transmission

QUIRKS = {
    "sleepy": "its eye wants a wake-up",
    "many": "tells in three telegrams",
    "flipping": "two bits of each third answer are turned, so that the sum holds",
    "lossy": "each fourth answer lacks a byte",
    "moving": "its flow is another in each answer",
    "lost": "answers with an error until its application is reset",
    "mode5": "encrypts its answers (mode 5)",
    "mode7": "encrypts its answers and proves them (mode 7)",
}
NUMBER = 21_436_587
KEY = bytes.fromhex("c1a5e5d0c0de0f2b9d71364857a6b3f2")  # of those that encrypt
_ADDRESS = 5
_ACK = b"\xe5"
_WAKE_BYTES = 400  # of 55, of the 528 that 2.2 s at 2400 baud hold
_SLEEPS_AFTER_S = 8.0
_NKE, _REQUEST, _COUNT_BIT = 0x40, 0x5B, 0x20
_ANYBODY, _SELECTED = 254, 253
_LONGEST = 32  # bytes of what it is told

Row = tuple[str, str, str]  # code as a reader names it, exact value, unit


class MbusMeter:
    """`kind` heat, water or gas; `quirks` of QUIRKS; `baud` its rate; `reaction_ms` from a question to its answer.

    `said` is what the last answer told: rows of (code, value, unit), current values alone. `woken` counts wake-ups.
    """

    def __init__(
        self,
        kind: str = "heat",
        *,
        seed: int = 1,
        quirks: Iterable[str] = (),
        baud: int = 2400,
        reaction_ms: float = 60.0,
    ) -> None:
        if kind not in ("heat", "water", "gas"):
            raise ValueError("an M-Bus meter counts heat, water or gas")
        self._quirks = set(quirks)
        if self._quirks - set(QUIRKS):
            raise ValueError(f"quirks: some of {', '.join(QUIRKS)}")
        self._kind = kind
        self._awake = Line(baud, 8, "E")
        self._asleep = Line(baud)
        self.line = self._asleep if "sleepy" in self._quirks else self._awake
        self._reaction_s = reaction_ms / 1000
        self.number = NUMBER + seed
        self.key = KEY if self._quirks & {"mode5", "mode7"} else None
        self.access = 7
        self.woken = 0
        self.resets = 0  # of its application
        self.n_answers = 0
        self.said: list[Row] = []
        self._heard = bytearray()
        self._n_wake = 0
        self._last_s = 0.0
        self._selected = False
        self._count_bit: int | None = None
        self._part = 0
        self._answers: list[tuple[float, bytes, bool]] = []

    # --- what it counts

    def parts(self, now_s: float) -> list[tuple[bytes, list[Row]]]:
        """Its telegrams at `now_s`: (records, what they tell)."""
        s = int(now_s)
        volume = 4_213_370 + s // 60
        flow = 137 + (self.n_answers % 5 if "moving" in self._quirks else 0)
        date = mbus.record(0x04, "6D", mbus.minute(2026, 11, 28, 20, s // 60 % 60))
        if self._kind == "heat":
            energy = 87_654 + s // 3600
            first = (
                mbus.record(0x0C, "06", mbus.bcd(energy, 4))
                + mbus.record(0x0C, "13", mbus.bcd(volume, 4))
                + mbus.record(0x0B, "2D", mbus.bcd(67, 3))
                + mbus.record(0x0B, "3B", mbus.bcd(flow, 3))
                + mbus.record(0x0A, "5A", mbus.bcd(684, 2))
                + mbus.record(0x0A, "5E", mbus.bcd(311, 2))
                + mbus.record(0x4C, "06", mbus.bcd(80_001, 4))  # of the due date: history
                + date
            )
            rows = [
                ("6-0:1.0.0", str(energy * 1000), "Wh"),
                ("6-0:2.0.0", f"{Decimal(volume).scaleb(-3):f}", "m³"),
                ("6-0:8.0.0", "6700", "W"),
                ("6-0:9.0.0", f"{Decimal(flow).scaleb(-3):f}", "m³/h"),
                ("6-0:10.0.0", "68.4", "°C"),
                ("6-0:11.0.0", "31.1", "°C"),
            ]
        elif self._kind == "water":
            first = mbus.record(0x04, "13", volume.to_bytes(4, "little")) + date
            rows = [("8-0:1.0.0", f"{Decimal(volume).scaleb(-3):f}", "m³")]
        else:
            first = mbus.record(0x0C, "14", mbus.bcd(volume // 10, 4)) + date
            rows = [("7-0:3.0.0", f"{Decimal(volume // 10).scaleb(-2):f}", "m³")]
        if "moving" in self._quirks:
            rows = [row for row in rows if row[0] != "6-0:9.0.0"]
        if "many" not in self._quirks:
            return [(first, rows)]
        second = mbus.record(0x02, "FD 17", b"\0\0") + mbus.record(0x0A, "62", mbus.bcd(373, 2))
        third = mbus.record(0x02, "26", (1234).to_bytes(2, "little"))
        return [(first + b"\x1f", rows), (second + b"\x1f", [("6-0:12.0.0", "37.3", "K")]), (third, [])]

    # --- Source

    def receive(self, value: int, at_s: float) -> None:
        if self.line is self._asleep or at_s - self._last_s > _SLEEPS_AFTER_S and "sleepy" in self._quirks:
            self._sleep_on(value)
            self._last_s = at_s
            return
        self._last_s = at_s
        self._heard.append(value)
        heard = self._heard
        while heard and heard[0] not in (0x10, 0x68):
            del heard[0]
        if heard[:1] == b"\x10" and len(heard) == 5:
            self._short(bytes(heard), at_s)
        elif heard[:1] == b"\x68" and len(heard) >= 4 and len(heard) == heard[1] + 6:
            self._long(bytes(heard), at_s)
        elif len(heard) <= _LONGEST:
            return
        heard.clear()

    def _sleep_on(self, value: int) -> None:
        self.line = self._asleep
        self._n_wake = self._n_wake + 1 if value == 0x55 else 0
        if self._n_wake >= _WAKE_BYTES:
            self._n_wake = 0
            self.woken += 1
            self.line = self._awake
            self._heard.clear()

    def _short(self, frame: bytes, at_s: float) -> None:
        control, address = frame[1], frame[2]
        if frame[4] != 0x16 or (control + address) & 0xFF != frame[3]:
            return
        if address not in (_ADDRESS, _ANYBODY) and not (address == _SELECTED and self._selected):
            return
        if control == _NKE:
            self._selected = False
            self._count_bit = None
            self._part = 0
            self._answers.append((at_s + self._reaction_s, _ACK, False))
        elif control & ~_COUNT_BIT == _REQUEST:
            bit = control & _COUNT_BIT
            if self._count_bit is not None and bit != self._count_bit:
                self._part += 1
            self._count_bit = bit
            self._answer(at_s + self._reaction_s)

    def _long(self, frame: bytes, at_s: float) -> None:
        body = frame[4:-2]
        if body[:1] + body[2:] == b"\x53\x50" and body[1] in (_ADDRESS, _ANYBODY) and sum(body) & 0xFF == frame[-2]:
            self.resets += 1
            self._answers.append((at_s + self._reaction_s, _ACK, False))
            return
        if body[:3] != b"\x53\xfd\x52" or sum(body) & 0xFF != frame[-2]:
            return
        asked, mine = body[3:7].hex(), mbus.bcd(self.number, 4).hex()
        self._selected = all(a in ("f", b) for a, b in zip(asked, mine, strict=True))
        self._count_bit = None
        self._part = 0
        if self._selected:
            self._answers.append((at_s + self._reaction_s, _ACK, False))

    def _answer(self, at_s: float) -> None:
        parts = self.parts(at_s)
        records, self.said = parts[self._part % len(parts)]
        self.n_answers += 1
        self.access = (self.access + 1) & 0xFF
        medium = {"heat": mbus.HEAT, "water": mbus.WATER, "gas": mbus.GAS}[self._kind]
        body = mbus.header(self.number, "OPT", medium=medium, access=self.access) + records
        if "mode5" in self._quirks:
            body = mbus.encrypted5(body, KEY)
        elif "mode7" in self._quirks:
            body = mbus.encrypted7(body, KEY, self.n_answers)
        if "lost" in self._quirks and not self.resets:
            body = b"\x70\x09"
        frame = bytearray(mbus.frame(body, address=_ADDRESS))
        if "flipping" in self._quirks and self.n_answers % 3 == 0:  # one up, one down in the same place
            frame[21] ^= 0x01
            frame[22] ^= 0x01
            frame[-2] = sum(frame[4:-2]) & 0xFF
        if "lossy" in self._quirks and self.n_answers % 4 == 0:
            del frame[20]
        self._answers.append((at_s, bytes(frame), True))

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if not self._answers or self._answers[0][0] > now_s:
            return None
        at_s, frame, is_telegram = self._answers.pop(0)
        return Transmission(max(at_s, free_s), frame, list(self.said), line=self._awake, telegram=is_telegram)

    def wake_s(self) -> float | None:
        return self._answers[0][0] if self._answers else None
