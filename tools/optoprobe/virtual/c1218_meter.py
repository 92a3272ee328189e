"""A simulated meter that answers in ANSI C12.18 (see metering.c1218.psem_frame): by itself of the NES kind.

It frames, checks and encodes by itself; the client's code is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from metering.line import Line

from .source import Transmission

QUIRKS = {
    "damaged": "one bit of each third packet is turned",
    "forgetful": "each third packet comes again, as if its acknowledge had been lost",
    "split": "tables come in several packets",
    "deaf": "each fifth packet is not heard",
}
OK, ERR, SNS, ISC, ONP, IAR, BSY, DNR, DLK, RNO, ISSS = range(11)
_BEGIN, _ACK, _NAK = 0xEE, 0x06, 0x15
_MULTI, _FIRST, _TOGGLE = 0x80, 0x40, 0x20
_MOST_PACKET = 128
_SPLIT_BYTES = 16


def crc(data: bytes) -> int:
    """CRC-16/X-25, bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x8408 if value & 1 else 0)
    return value ^ 0xFFFF


def framed(data: bytes, control: int = 0, sequence: int = 0) -> bytes:
    head = bytes((_BEGIN, 0, control, sequence)) + len(data).to_bytes(2, "big")
    return head + data + crc(head + data).to_bytes(2, "little")


def table_reply(data: bytes) -> bytes:
    return bytes((OK,)) + len(data).to_bytes(2, "big") + data + bytes((-sum(data) & 0xFF,))


class Contents(Protocol):
    """What a meter's tables hold."""

    number: str
    ident: bytes
    last_table: int  # a reader reads it behind all others

    def tables(self, now_s: float) -> dict[int, bytes]: ...

    def expected(self, table: int, now_s: float) -> list[tuple[str, str, str]]:
        """Code, value and unit that a reader makes of the table."""
        ...


class NesContents:
    """Tables 23 and 28 of an NES meter: little endian, no scale and no unit told."""

    last_table = 28

    def __init__(self, seed: int = 1) -> None:
        self.number = str(40_000_000 + seed * 31_007)
        self.ident = bytes.fromhex("00001000070f11") + self.number.encode().ljust(30)

    def _values(self, now_s: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        s = int(now_s)
        powers = (1_500 + s % 9, 0, 11, 70)
        return (12_345_678 + 3 * s, 901_234 + s), (*powers, 2_201, 1_950, 3_333, 230_101, 229_877, 231_004)

    def tables(self, now_s: float) -> dict[int, bytes]:
        return {
            table: b"".join(value.to_bytes(4, "little") for value in values)
            for table, values in zip((23, 28), self._values(now_s), strict=True)
        }

    def expected(self, table: int, now_s: float) -> list[tuple[str, str, str]]:
        energies, others = self._values(now_s)
        if table == 23:
            return [(f"1-0:{k + 1}.8.0*255", str(value), "Wh") for k, value in enumerate(energies)]
        rows = [(f"1-0:{k + 1}.7.0*255", str(value), "W") for k, value in enumerate(others[:2])]
        for k in range(6):
            code = (31, 51, 71, 32, 52, 72)[k]
            value = Decimal(others[4 + k]).scaleb(-3)
            rows.append((f"1-0:{code}.7.0*255", f"{value:f}", "A" if k < 3 else "V"))
        return rows


class C1218Meter:
    """`contents`: an NES meter's where not given; `user_id`, `user` and `password` (bytes) are what it wants; `refuses`
    a service or (service, table) -> the code it answers; `quirks` of QUIRKS; `reaction_ms` from a packet's end to the
    answer.

    `services` counts what it was asked by code, `passwords` what was tried.
    """

    line = Line(9600)

    def __init__(
        self,
        *,
        seed: int = 1,
        user_id: int = 0,
        user: bytes = b"",
        password: bytes = b"",
        contents: Contents | None = None,
        refuses: dict[int | tuple[int, int], int] | None = None,
        quirks: Iterable[str] = (),
        reaction_ms: float = 30.0,
    ) -> None:
        self._quirks = set(quirks)
        if self._quirks - set(QUIRKS):
            raise ValueError(f"quirks: some of {', '.join(QUIRKS)}")
        self.contents: Contents = contents or NesContents(seed)
        self.number, self.ident = self.contents.number, self.contents.ident
        self.user_id, self.user, self.password = user_id, user, password
        self._logon = user_id.to_bytes(2, "big") + user.ljust(10)
        self._password = password.ljust(20, b"\0") if password else b""
        self._refuses = refuses or {}
        self._reaction_s = reaction_ms / 1000
        self.services: dict[int, int] = {}
        self.passwords: list[bytes] = []
        self._heard = bytearray()
        self._answers: list[tuple[float, bytes, bool]] = []
        self._queue: list[bytes] = []  # packets of the reply that are not acknowledged yet
        self._is_last = False  # a reader wants nothing behind that reply
        self._told: list[tuple[str, str, str]] = []  # what it has told in this session
        self._last_mark = b""
        self._toggle = 0
        self._n_sent = self._n_heard = 0
        self._state = "base"
        self._is_open = not password

    def tables(self, now_s: float) -> dict[int, bytes]:
        return self.contents.tables(now_s)

    # --- Source

    def receive(self, value: int, at_s: float) -> None:
        heard = self._heard
        if not heard:
            if value == _ACK:
                if self._queue:
                    self._queue.pop(0)
                    self._send_next(at_s)
                return
            if value == _NAK:
                self._send_next(at_s)
                return
            if value != _BEGIN:
                return
        heard.append(value)
        if len(heard) >= 6:
            end = 8 + int.from_bytes(heard[4:6], "big")
            if end > _MOST_PACKET:
                heard.clear()
            elif len(heard) == end:
                frame, self._heard = bytes(heard), bytearray()
                self._take(frame, at_s)

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if not self._answers or self._answers[0][0] > now_s:
            return None
        at_s, data, is_telegram = self._answers.pop(0)
        return Transmission(max(at_s, free_s), data, list(self._told), telegram=is_telegram)

    def wake_s(self) -> float | None:
        return self._answers[0][0] if self._answers else None

    # --- packets

    def _say(self, data: bytes, at_s: float, is_telegram: bool = False) -> None:
        self._answers.append((at_s + self._reaction_s, data, is_telegram))

    def _take(self, frame: bytes, at_s: float) -> None:
        self._n_heard += 1
        if "deaf" in self._quirks and self._n_heard % 5 == 0:
            return
        if crc(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            self._say(bytes((_NAK,)), at_s)
            return
        mark = frame[2:3] + frame[-2:]
        if mark == self._last_mark:
            self._say(bytes((_ACK,)), at_s)
            self._send_next(at_s)
            return
        self._last_mark = mark
        self._is_last = False
        reply = self._reply(frame[6:-2], at_s)
        self._say(bytes((_ACK,)), at_s)
        if frame[6] == 0x20:
            self._toggle = 0
        pieces = [reply]
        if "split" in self._quirks and len(reply) > _SPLIT_BYTES:
            pieces = [reply[k : k + _SPLIT_BYTES] for k in range(0, len(reply), _SPLIT_BYTES)]
        self._queue = []
        for k, piece in enumerate(pieces):
            control = self._toggle
            if len(pieces) > 1:
                control |= _MULTI | (0 if k else _FIRST)
            self._queue.append(framed(piece, control, len(pieces) - 1 - k))
            self._toggle ^= _TOGGLE
        self._send_next(at_s)

    def _send_next(self, at_s: float) -> None:
        if not self._queue:
            return
        data = self._queue[0]
        self._n_sent += 1
        if "damaged" in self._quirks and self._n_sent % 3 == 0:
            data = data[:7] + bytes((data[7] ^ 4,)) + data[8:]
        self._say(data, at_s, self._is_last and len(self._queue) == 1)
        if "forgetful" in self._quirks and self._n_sent % 3 == 0:
            self._say(data, at_s + 0.3)

    # --- services

    def _reply(self, request: bytes, at_s: float) -> bytes:
        service, rest = request[0], request[1:]
        self.services[service] = self.services.get(service, 0) + 1
        if service == 0x51:
            self.passwords.append(rest)
        table = int.from_bytes(rest[:2], "big") if service in (0x30, 0x3F) else -1
        refused = self._refuses.get((service, table), self._refuses.get(service, OK))
        if refused:
            return bytes((refused,))
        if service == 0x20:
            self._state = "id"
            self._is_open = not self._password
            self._told = []
            return self.ident
        if service == 0x21:
            self._state = "base"
            return bytes((OK,))
        if service & 0xF0 == 0x60 and len(rest) == 3 + (service & 0x0F) and self._state == "id":
            return bytes((OK,)) + rest[:2] + b"\x01" + (rest[3:4] or b"\x06")  # as asked, but one packet
        if service == 0x50 and len(rest) == 12:
            if self._state != "id" or rest != self._logon:
                return bytes((ISSS if self._state != "id" else ERR,))
            self._state = "session"
            return bytes((OK,))
        if service not in (0x51, 0x30, 0x3F, 0x52):
            return bytes((SNS,))
        if self._state != "session":
            return bytes((ISSS,))
        if service == 0x51:
            self._is_open = rest == self._password
            return bytes((OK if self._is_open else ISC,))
        if service == 0x52:
            self._state = "id"
            return bytes((OK,))
        if not self._is_open:
            return bytes((ISC,))
        data = self.tables(at_s).get(table)
        if data is None:
            return bytes((ONP,))
        if service == 0x3F:
            offset, count = int.from_bytes(rest[2:5], "big"), int.from_bytes(rest[5:7], "big")
            if offset + count > len(data):
                return bytes((IAR,))
            data = data[offset : offset + count]
        self._told += self.contents.expected(table, at_s)
        self._is_last = table == self.contents.last_table
        return table_reply(data)
