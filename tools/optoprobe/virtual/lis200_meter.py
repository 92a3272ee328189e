"""A simulated gas volume corrector (EK270) that is asked by LIS-200: see metering.iec62056_21.lis200_answer.

Its programming mode is of another kind than a meter's: values by address, two locks, refusals with a number. It frames
and prints by itself; the decoder's code is not used. Whatever writes is refused, and noted in `events`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from .iec62056_21_meter import IecMeter
from .iec62056_21_programming import ProgrammingMode
from .iec62056_21_read_out import Row

QUIRKS = {
    "locked": "both locks are closed, and what is measured may not be read then",
    "small": "a model that knows the two volumes alone",
    "damaged": "one bit of each fifth answer is turned",
    "late": "each seventh answer is that of the question before it",
}
_TURNED, _LATE = 5, 7
_NO_SUCH_VALUE, _NO_RIGHT, _NO_SUCH_ARCHIVE, _EMPTY = "0002", "0018", "0100", "0103"
_TIME_FORM = "%Y-%m-%d,%H:%M:%S"
_ARCHIVED = 60  # rows
_COLUMNS = {"4": "1:0310 1:0311 1:0400 2:0302 4:0302 7:0310 1:0101", "3": "   m3 m3 bar "}  # addresses and units
_OF_ALL = ("1:180", "2:190", "1:400", "3:170", "4:170")
_OF_SMALL = (*_OF_ALL, "2:302", "4:302")


class _Lis200Mode(ProgrammingMode):
    """R1 of one value: `1:0400.0(1)` is answered as `1:400.2(...)`, those of 7- with their archive before them."""

    quirks: frozenset[str] = frozenset()
    n_answers = 0
    last_answer = b""

    def obey(self, command: str, data: bytes, at_s: float) -> None:
        if command == "P1":  # there is none in LIS-200
            self._events.append("password ignored")
            self.await_command(at_s)
        elif command == "R1":
            self._read(data.removeprefix(b"\x02").decode("ascii"), at_s)
        elif command == "R3":
            self._read_archive(data.removeprefix(b"\x02").decode("ascii"), at_s)
        elif command == "R5":
            self._refuse(_NO_SUCH_VALUE, at_s)
        else:
            super().obey(command, data, at_s)

    def _refuse(self, number: str, at_s: float) -> None:
        self._events.append(f"refused {number}")
        self.say_data(at_s, f"(#{number})".encode())

    def _read(self, text: str, at_s: float) -> None:
        address, _, operand = text.partition("(")
        instance, _, number = address.partition(":")
        number, _, attribute = number.partition(".")
        name = f"{instance}:{number.lstrip('0')}"
        row = next((row for row in self._rows(at_s) if row[0] == name), None)
        if row is None or operand != "1)" or attribute != "0" or "small" in self.quirks and name not in _OF_SMALL:
            self._refuse(_NO_SUCH_VALUE, at_s)
            return
        if "locked" in self.quirks and name not in _OF_ALL:
            self._refuse(_NO_RIGHT, at_s)
            return
        self._events.append(f"R1 {name}")
        (value, unit), *_ = row[1]
        shown = f"{value}*{unit}" if unit else value
        prefix = "7-" if instance != "1" else ""
        answer = f"{prefix}{name}.2({shown})".encode()
        self.n_answers += 1
        if "late" in self.quirks and self.n_answers % _LATE == 0:
            answer, self.last_answer = self.last_answer, answer
        else:
            self.last_answer = answer
            self.reads.append((name, value, unit))
        self.say_data(at_s, answer)


    def archive(self, at_s: float) -> list[list[str]]:
        """The hourly rows of archive 3, the oldest first."""
        clock = next(value for (name, ((value, _), *_)) in self._rows(at_s) if name == "1:400")
        hour = datetime.strptime(clock, _TIME_FORM).replace(minute=0, second=0)
        rows = []
        for k in range(_ARCHIVED):
            begun = (hour - timedelta(hours=_ARCHIVED - 1 - k)).strftime(_TIME_FORM)
            rows.append([str(9000 + k), str(k + 1), begun, f"{260_000 + k}.{k:03d}", f"{65_000 + k}.50", "4.201", "0"])
        return rows

    def _read_archive(self, text: str, at_s: float) -> None:
        """`3:V.0(3;from;to;10)` and its columns' addresses (4) and units (3); one row a line, four rows a block."""
        name, _, operand = text.removesuffix(")").partition("(")
        archive, _, attribute = name.partition(":V.")
        position, begin, end, _n = operand.split(";")
        if archive != "3" or attribute not in _COLUMNS and attribute != "0" or position != "3":
            self._refuse(_NO_SUCH_ARCHIVE, at_s)
            return
        self._events.append(f"R3 {name}")
        rows = [_COLUMNS[attribute].split(" ")] if attribute in _COLUMNS else self.archive(at_s)
        if attribute == "0":
            rows = [row for row in rows if begin <= row[2] and (not end or row[2] <= end)]
        if not rows:
            self._refuse(_EMPTY, at_s)
            return
        lines = ["".join(f"({cell})" for cell in row) + "\r\n" for row in rows]
        self._partial = sum(len(line) for line in lines[:4])
        self._answer_in_parts(at_s, "".join(lines).encode())


class Lis200Meter(IecMeter):
    """`quirks` of QUIRKS, or of IecMeter. `reads` has what it has told since the sign-on, by address.

    `model` stands in its identification; `battery`, `reaction_ms` and the like are IecMeter's.
    """

    programming_mode = _Lis200Mode

    def __init__(self, *, seed: int = 1, model: str = "EK270", quirks: Iterable[str] = (), **options: Any) -> None:
        own = frozenset(quirks) & QUIRKS.keys()
        options.setdefault("offered", "6")
        super().__init__(
            seed=seed, flag="Els", ident=model, operand="1234567", quirks=frozenset(quirks) - own, **options
        )
        self._seed = seed
        self._locked = "locked" in own
        assert isinstance(self._programming_mode, _Lis200Mode)
        self._programming_mode.quirks = own
        if "damaged" in own:
            self._damage_some_of(self._talk)

    @staticmethod
    def _damage_some_of(talk: Any) -> None:
        """Each fifth message has a bit turned; a repetition is right."""
        say_and_keep, say, count = talk.say_and_keep, talk.say, 0

        def keep(at_s: float, data: bytes, *others: Any, **more: Any) -> None:
            nonlocal count
            count += 1
            if count % _TURNED == 0:
                talk.say = damaged
            say_and_keep(at_s, data, *others, **more)
            talk.say = say

        def damaged(at_s: float, data: bytes, *others: Any, **more: Any) -> None:
            at = data.rindex(b"(") + 1
            say(at_s, data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], *others, **more)

        talk.say_and_keep = keep

    def rows(self, now_s: float) -> list[Row]:
        s = int(now_s)
        litres = 260_630_000 + 3 * s + 7_919 * self._seed
        pressure = 4_201 + s % 17  # mbar
        celsius = -12 + s % 29  # tenths of a degree
        lock = "0" if self._locked else "1"

        def number(value: int, places: int) -> str:
            sign = "-" if value < 0 else ""
            whole, rest = divmod(abs(value), 10**places)
            return f"{sign}{whole}.{rest:0{places}d}"

        return [
            ("1:180", ((self.serial, None),)),
            ("2:190", (("1.30", None),)),
            ("1:400", ((self._read_out._clock("%Y-%m-%d,%H:%M:%S"), None),)),
            ("2:302", ((number(litres * 4, 3), "m3"),)),
            ("4:302", ((number(litres // 10, 2), "m3"),)),
            ("2:310", ((number(432 + s % 11, 1), "m3/h"),)),
            ("4:310", ((number(108 + s % 7, 1), "m3/h"),)),
            ("7:310", ((number(pressure, 3), "bar"),)),
            ("6:310_1", ((number(celsius, 1), "{C"),)),
            ("5:310", ((number(41_532, 4), None),)),
            ("8:310", ((number(99_871, 5), None),)),
            ("3:170", ((lock, None),)),
            ("4:170", ((lock, None),)),
        ]

    def _send_block(self, at_s: float, *, reaction: bool = True) -> None:
        """It prints no read-out: who wants one hears nothing."""
        self.events.append("no read-out")
        self._fall_idle(at_s)
