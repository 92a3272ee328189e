"""A simulated meter that speaks IEC 62056-21: modes A, B and C (asked), D and P1 (pushed), with password and quirks.

It stands on the meter's side of a line as a Source of `optical_server` does: `receive(byte, at_s)` is what it hears,
`poll(now_s, free_s)` what it says, `line` what it hears and says it with *now*, `wake_s()` when it will do something
by itself. Time is an argument, in seconds; nothing looks at a clock. The same seed, options and requests give the same.

Asked, it goes from idle (300 7E1) over the sign-on to its identification, and from there

    A   the data block at 300                          B   the data block at the rate it named, without being asked
    C   to the acknowledge: read-out or programming mode at the rate asked; the data block at 300 when none comes

It never writes: every W command is an error. `events` says what happened, `expected()` what a faultless reader makes
of the newest block and `reads` of the registers read since the sign-on, both from the simulation, not from the bytes.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from metering.line import Line

from .household import DWMS_PER_WH, Counters, Household
from .line import frame_bits
from .optical_server import Transmission

Expected = list[tuple[str, str, str | None]]
Group = tuple[str, str | None]  # value and unit as printed
Row = tuple[str, tuple[Group, ...]]  # address as printed and its bracket groups

MODES = ("A", "B", "C", "D", "P1")
QUIRKS = {
    "bad_bcc_once": "one bit of each session's first block is turned round after its check was made; repeated right",
    "bad_bcc": "one bit of every block is turned round",
    "lf_only": "lines end with LF",
    "junk_after_switch": "a few characters of garbage after a change of rate, before the first of the message",
}
REFUSALS = ("err", "nak", "break")
SILENCE_S = 1.5  # the norm's longest reaction time and longest pause between characters

SOH, STX, ETX, EOT, ACK, NAK = b"\x01", b"\x02", b"\x03", b"\x04", b"\x06", b"\x15"
_RATES_C = {str(k): rate for k, rate in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200))}
_RATES_B = dict(zip("ABCDEF", (600, 1200, 2400, 4800, 9600, 19200), strict=True))
_OFFERED = {"A": "-", "B": "C", "C": "5", "D": "3", "P1": "5"}
_PERIOD_S = {"D": 2.0, "P1": 1.0}
_MAX_REQUEST = 64  # characters; the norm's longest sign-on has 32 of address
_MAX_WRONG_PASSWORDS = 3
_WAKE_UP_S = 1.95  # of NULs at least; a reader sends about 2.2 s
_WAKE_UP_PAUSE_S = (1.48, 1.72)  # between the last NUL and the sign-on: 1.5 to 1.7 s, and what a clock may be off
_NUL_GAP_S = 0.25
_MAXIMA = ("1.6.0", "1.6.1", "1.6.2", "1.6.3", "1.6.4", "2.6.0", "2.6.1")  # printed by meters with history
_DAY_S = 1_779_926_400  # the meter's own midnight before 0 s: 2026-05-28
_MONTH_S = 2_629_800


def bcc(data: bytes) -> bytes:
    """The block check character: all bytes of `data` (after STX or SOH, up to and including ETX or EOT) xor-ed."""
    check = 0
    for byte in data:
        check ^= byte & 0x7F
    return bytes((check,))


def crc16_arc(data: bytes) -> int:
    """CRC-16/ARC, as P1 telegrams end in."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def _kilo(thousandths: int, digits: int) -> str:
    """Thousandths with three decimals and leading zeros, `digits` before the point; a sign takes one of them."""
    sign = "-" if thousandths < 0 else ""
    whole, rest = divmod(abs(thousandths), 1000)
    return f"{sign}{whole:0{digits - len(sign)}d}.{rest:03d}"


@dataclass
class _Piece:
    """Characters to be said together: `at_s`, or (None) `pause_s` after the piece before has left."""

    data: bytes
    at_s: float | None
    pause_s: float
    last: bool
    telegram: bool
    rows: Expected | None


class IecMeter:
    """One meter. `mode` is one of MODES; ValueError for options that make no meter.

    address         its serial number; "" makes one up. `needs_address`: it answers no sign-on without it
    password        of the programming mode; "": none is needed. `refusal`: what a wrong one brings, of REFUSALS
    programming     "yes", "break" (refused with B0), "silent" (refused with silence), "readout" (it reads out instead)
    offered         its baud character; "" for the mode's usual one
    follows         the highest baud character it can really do; asked for more it falls idle without a word
    only_000        the same as follows="0"
    silent_without_ack  falls idle where others read out by themselves: no, late or garbled acknowledge
    reaction_ms     None: drawn for every answer within the norm's limits (200 to 1500, from 20 where the third letter
                    of `flag` is lower case); a number; or (lowest, highest)
    gap_ms          longest pause between two characters, drawn; 0: none. The reader must bear 1500
    flag, ident     three letters, and the identification's text behind the baud character
    full            addresses as A-B:C.D.E*255; otherwise C.D.E
    history         months of former values (*01 ...); 15 with `full` make a block of about 9.5 KB
    answers         a register's answer: "asked" (address as asked), "printed" (as in the block), "bare" (none)
    partial_blocks  0, or the most characters of data in one block of a register's answer
    error           what unknown registers and refused commands are answered with
    battery         a heat meter that sleeps: it hears a sign-on only after its wake-up
    period_s, baud  of the modes D (2400 or 9600 7E1) and P1 (115200 8N1)
    start_s         time of day at 0 s, for the household
    epoch_s         the meter's wall clock at 0 s, in seconds since 1970 of local time; None: a day's `start_s`
    """

    def __init__(
        self,
        mode: str = "C",
        *,
        seed: int = 1,
        address: str = "",
        needs_address: bool = False,
        password: str = "",
        refusal: str = "err",
        programming: str = "yes",
        offered: str = "",
        follows: str = "",
        only_000: bool = False,
        silent_without_ack: bool = False,
        reaction_ms: float | tuple[float, float] | None = None,
        gap_ms: float = 0,
        flag: str = "OPT",
        ident: str = "",
        full: bool = False,
        history: int = 0,
        answers: str = "asked",
        partial_blocks: int = 0,
        error: str = "(ERROR)",
        operand: str = "",
        battery: bool = False,
        period_s: float = 0,
        baud: int = 0,
        patience_s: float = 60,
        energy_wh: int = 14_798_112,
        export_wh: int = 0,
        pv_peak_w: int = 0,
        start_s: int = 11 * 3600 + 30 * 60,
        epoch_s: float | None = None,
        quirks: Iterable[str] = (),
    ) -> None:
        self.quirks = frozenset(quirks)
        unknown = sorted(self.quirks - QUIRKS.keys())
        if unknown:
            raise ValueError(f"no such quirk: {', '.join(unknown)}; there are {', '.join(QUIRKS)}")
        if mode not in MODES:
            raise ValueError(f"mode: one of {', '.join(MODES)}")
        if refusal not in REFUSALS or answers not in ("asked", "printed", "bare"):
            raise ValueError(f"refusal: one of {', '.join(REFUSALS)}; answers: asked, printed or bare")
        if programming not in ("yes", "break", "silent", "readout"):
            raise ValueError("programming: yes, break, silent or readout")
        if mode == "D" and self.quirks & {"bad_bcc", "bad_bcc_once"}:
            raise ValueError("mode D has no check that could be bad")
        if not 0 <= history <= 99 or partial_blocks < 0 or gap_ms < 0 or len(flag) != 3:
            raise ValueError("history: 0 to 99; partial_blocks, gap_ms: 0 or more; flag: three letters")
        offered = offered or ("5" if mode == "D" and baud == 9600 else _OFFERED[mode])
        if (mode == "C" and offered not in _RATES_C) or (mode == "B" and offered not in _RATES_B):
            raise ValueError("offered: 0 to 6 in mode C, A to F in mode B")
        self.mode = mode
        self.offered = offered
        draw = random.Random(seed)
        self.serial = address or f"{draw.randrange(1_000_000, 99_999_999):08d}"
        self.flag = flag
        self.ident = ident or ("UH50" if battery else f"OP{draw.randrange(1000)}")
        self.password = password
        self.household = Household(seed, start_s=start_s, pv_peak_w=pv_peak_w)
        self._counters = Counters(self.household, energy_wh, export_wh)
        self.period_s = period_s or _PERIOD_S.get(mode, 0.0)
        self.wrong_passwords = 0
        self.events: list[str] = []
        self.reads: Expected = []  # registers answered since the last sign-on, in order
        self.blocks = 0  # data blocks or telegrams given to the line, faulty ones too
        self._needs_address = needs_address
        self._refusal = refusal
        self._programming = programming
        self._follows = "0" if only_000 else follows
        self._silent_without_ack = silent_without_ack
        if reaction_ms is None:
            reaction_ms = (20 if flag[2].islower() else 200, 1500)
        elif not isinstance(reaction_ms, tuple):
            reaction_ms = (reaction_ms, reaction_ms)
        self._reaction_s = (reaction_ms[0] / 1000, reaction_ms[1] / 1000)
        self._gap_s = gap_ms / 1000
        self._full = full
        self._history = history
        self._answers = answers
        self._partial = partial_blocks
        self._error = error.encode()
        self._operand = operand
        self._battery = battery
        self._patience_s = patience_s
        self._epoch_s = _DAY_S + start_s if epoch_s is None else epoch_s
        self._newline = b"\n" if "lf_only" in self.quirks else b"\r\n"
        self._draw = draw
        # the simulation
        self._start_wh = (energy_wh, export_wh)
        self._expected: Expected = []
        # the conversation
        if mode == "D":
            self._base = Line(baud or 2400, 7, "E")
        elif mode == "P1":
            self._base = Line(baud or 115200)
        else:
            self._base = Line(300, 7, "E")
        self.line = self._base
        self._queue: deque[_Piece] = deque()
        self._sending = False
        self._then: Callable[[float], None] = self._fall_idle  # when the queue is empty and the last bit has left
        self._hear: Callable[[int, float], None] = self._hear_sign_on
        self._timeout: tuple[float, Callable[[float], None]] | None = None
        self._heard = bytearray()
        self._garbage = False  # something was heard that began nothing
        self._late_from_s: float | None = None  # reading out without an acknowledge: one that comes now is late
        self._spoil = False  # the next block gets one bit turned round
        self._switched = False
        # the last message, for its repetition: bytes, what they say, what comes behind them
        self._last: tuple[bytes, Expected | None, Callable[[float], None]] = (b"", None, self._fall_idle)
        self._awake = not battery
        self._nuls: tuple[float, float] | None = None  # first and last
        self._logged_in = False
        self._next_s = 0.0

    # --- the simulation ---

    def _clock(self, pattern: str, seconds_ago: float = 0) -> str:
        return time.strftime(pattern, time.gmtime(self._epoch_s + self._counters.time_ms // 1000 - seconds_ago))

    def _address(self, code: str, value_group: str = "255", medium: str = "1-0") -> str:
        """A register's address as this meter prints it: "1.8.0" or "1-0:1.8.0*255", history always with its *."""
        if self._full:
            return f"{medium}:{code}*{value_group}"
        return code if value_group == "255" else f"{code}*{value_group}"

    def _energies_wh(self) -> list[tuple[str, int]]:
        total, export = self._counters.imported // DWMS_PER_WH, self._counters.exported // DWMS_PER_WH
        high, low = (tariff // DWMS_PER_WH for tariff in self._counters.tariff)
        rows = [("1.8.0", total), ("1.8.1", high), ("1.8.2", low)]
        rows += [("1.8.3", 0), ("1.8.4", 0)] if self._history else []
        rows += [("2.8.0", export)]
        return rows + ([("2.8.1", export), ("2.8.2", 0), ("2.8.3", 0), ("2.8.4", 0)] if self._history else [])

    def rows(self, now_s: float) -> list[Row]:
        """Every register of the read-out at `now_s`, as printed, in order; time does not go back."""
        self._counters.advance(round(now_s * 1000))
        if self.mode == "P1":
            return self._p1_rows()
        if self._battery:
            return self._heat_rows()
        second = self._counters.time_ms // 1000
        home = self.household
        phases = home.phases_dw(second)
        add = self._address
        one = self._one
        rows = [
            one(add("F.F", medium="0-0"), "00000000"),
            one(add("C.1.0", medium="0-0"), self.serial),
            one(add("0.0.0"), self.serial),
            one(add("0.9.1"), self._clock("%H%M%S")),
            one(add("0.9.2"), self._clock("%y%m%d")),
        ]
        rows += [one(add(code), _kilo(wh, 7), "kWh") for code, wh in self._energies_wh()]
        rows.append(one(add("16.7.0"), _kilo(sum(phases) // 10, 3), "kW"))
        for k, power_dw in enumerate(phases):
            voltage_dv = home.voltage_dv(second, k)
            current_ca = abs(power_dw) * 100 // voltage_dv
            rows.append(one(add(f"{31 + 20 * k}.7.0"), f"{current_ca // 100:03d}.{current_ca % 100:02d}", "A"))
            rows.append(one(add(f"{32 + 20 * k}.7.0"), f"{voltage_dv // 10:03d}.{voltage_dv % 10}", "V"))
        frequency = home.frequency_chz(second)
        rows.append(one(add("14.7.0"), f"{frequency // 100}.{frequency % 100:02d}", "Hz"))
        return rows + self._history_rows()

    @staticmethod
    def _one(address: str, value: str, unit: str | None = None) -> Row:
        return address, ((value, unit),)

    def _maximum_rows(self, month: int, value_group: str) -> list[Row]:
        """Highest demands of the month, `month` ago, each with its time in a second bracket group."""
        rows: list[Row] = []
        stamp = self._clock("%y%m%d%H%M", month * _MONTH_S + self._counters.time_ms // 1000)
        for code in _MAXIMA:
            watt = 2_000 + 37 * month * (7 + int(code[-1])) if code[0] == "1" else 0
            rows.append((self._address(code, value_group), ((_kilo(watt, 2), "kW"), (stamp, None))))
        return rows

    def _history_rows(self) -> list[Row]:
        rows = self._maximum_rows(0, "255") if self._history else []
        for month in range(1, self._history + 1):
            number = f"{month:02d}"
            for code, _ in self._energies_wh():
                wh = max(0, self._start_wh[code[0] == "2"] - month * 281_337 - 977 * month * month)
                share = {"0": 100, "1": 66, "2": 34}.get(code[-1], 0)
                rows.append(self._one(self._address(code, number), _kilo(wh * share // 100, 7), "kWh"))
            rows += self._maximum_rows(month, number)
        return rows

    def _heat_rows(self) -> list[Row]:
        second = self._counters.time_ms // 1000
        mwh = 326_062 + second // 600  # thousandths of a MWh
        flow = 840 if self._counters.time_ms // 600_000 % 2 else 315  # l/h
        one = self._one
        return [
            one("6.8", _kilo(mwh, 4), "MWh"),
            one("6.26", f"{7939 + second // 3600:05d}.56", "m3"),
            one("9.21", self.serial),
            one("6.26*01", "07843.48", "m3"),
            one("6.8*01", "0323.272", "MWh"),
            one("F", "0"),
            one("9.20", "66935074"),
            one("6.35", "60", "m"),
            one("6.6", "0028.0", "kW"),
            one("6.6*01", "0028.0", "kW"),
            one("6.33", "000.840", "m3ph"),
            one("9.4", "108.5*C&088.1*C"),
            one("6.4", f"{flow * 47 // 1000:04d}.{flow * 47 // 100 % 10}", "kW"),
            one("6.27", _kilo(flow, 3), "m3ph"),
            one("6.29", f"{61 + second // 60 % 5:03d}.4", "C"),
            one("6.28", f"{38 + second // 90 % 3:03d}.9", "C"),
            one("6.31", f"{88324 + second // 3600:07d}", "h"),
            one("6.8.1", ""),
            one("6.36", "01-01&00:00"),
            one("9.36", self._clock("%Y-%m-%d&%H:%M:%S")),
            one("9.31", f"{59615 + second // 3600:07d}", "h"),
        ]

    def _p1_rows(self) -> list[Row]:
        second = self._counters.time_ms // 1000
        home = self.household
        phases = home.phases_dw(second)
        power_w = sum(phases) // 10
        serial = self.serial.encode().hex().upper()
        stamp = self._clock("%y%m%d%H%M%S") + "S"
        hour = self._clock("%y%m%d%H0000") + "S"
        one = self._one
        rows = [
            one("1-3:0.2.8", "50"),
            one("0-0:1.0.0", stamp),
            one("0-0:96.1.1", serial),
            one("1-0:1.8.1", _kilo(self._counters.tariff[1] // DWMS_PER_WH, 6), "kWh"),  # Dutch: 1 is the night's
            one("1-0:1.8.2", _kilo(self._counters.tariff[0] // DWMS_PER_WH, 6), "kWh"),
            one("1-0:2.8.1", "000000.000", "kWh"),
            one("1-0:2.8.2", _kilo(self._counters.exported // DWMS_PER_WH, 6), "kWh"),
            one("0-0:96.14.0", "0002" if 6 * 3600 <= home.time_of_day_s(second) < 22 * 3600 else "0001"),
            one("1-0:1.7.0", _kilo(max(power_w, 0), 2), "kW"),
            one("1-0:2.7.0", _kilo(max(-power_w, 0), 2), "kW"),
            one("0-0:96.7.21", "00004"),
            one("0-0:96.7.9", "00002"),
            ("1-0:99.97.0", (("1", None), ("0-0:96.7.19", None), ("240111093500W", None), ("0000000240", "s"))),
            one("1-0:32.32.0", "00002"),
            one("1-0:32.36.0", "00000"),
            one("0-0:96.13.0", ""),
        ]
        for k, power_dw in enumerate(phases):
            voltage_dv = home.voltage_dv(second, k)
            rows.append(one(f"1-0:{32 + 20 * k}.7.0", f"{voltage_dv // 10:03d}.{voltage_dv % 10}", "V"))
            rows.append(one(f"1-0:{31 + 20 * k}.7.0", f"{abs(power_dw) // voltage_dv:03d}", "A"))
            rows.append(one(f"1-0:{21 + 20 * k}.7.0", _kilo(max(power_dw // 10, 0), 2), "kW"))
            rows.append(one(f"1-0:{22 + 20 * k}.7.0", _kilo(max(-power_dw // 10, 0), 2), "kW"))
        return [
            *rows,
            one("0-1:24.1.0", "003"),
            one("0-1:96.1.0", "37464C4F32313139303333373333"),
            ("0-1:24.2.1", ((hour, None), (f"{112 + second // 3600:05d}.384", "m3"))),
        ]

    # --- messages ---

    @staticmethod
    def _printed(row: Row, address: str | None = None) -> bytes:
        groups = "".join(f"({value})" if unit is None else f"({value}*{unit})" for value, unit in row[1])
        return ((row[0] if address is None else address) + groups).encode()

    def _lines(self, rows: list[Row]) -> bytes:
        if not self._battery:
            return b"".join(self._printed(row) + self._newline for row in rows)
        sets = [self._printed(row) for row in rows]  # a heat meter puts several into a line
        return b"".join(b"".join(sets[k : k + 3]) + self._newline for k in range(0, len(sets), 3))

    def identification(self) -> bytes:
        """The identification line, with its end."""
        return f"/{self.flag}{self.offered}{self.ident}".encode() + self._newline

    @staticmethod
    def _expect(rows: list[Row]) -> Expected:
        return [(address, value, unit) for address, groups in rows for value, unit in groups]

    def telegram(self, now_s: float) -> bytes:
        """What a pushing meter sends at `now_s`: D without any check, P1 with its CRC."""
        rows = self.rows(now_s)
        self._expected = self._expect(rows)
        text = self.identification() + self._newline + self._lines(rows) + b"!"
        if self.mode == "P1":
            text += b"%04X" % crc16_arc(text)
        return text + self._newline

    def block(self, now_s: float) -> tuple[bytes, Expected]:
        """The data block at `now_s`, right, and what it says."""
        rows = self.rows(now_s)
        body = self._lines(rows) + b"!" + self._newline + ETX
        return STX + body + bcc(body), self._expect(rows)

    def expected(self) -> Expected:
        """(address, value, unit) as printed, one a bracket group, of the newest right block given to the line."""
        return list(self._expected)

    # --- what the line's driver asks ---

    def wake_s(self) -> float | None:
        """When poll() has something new if nothing is heard until then; None: never, or when the last bit has left."""
        times = []
        if self._timeout is not None:
            times.append(self._timeout[0])
        if not self._sending:
            if self._queue:
                at_s = self._queue[0].at_s
                times.append(0.0 if at_s is None else at_s)
            elif self.period_s:
                times.append(self._next_s)
        return min(times) if times else None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        """What is to be said by `now_s`, or None. To be asked only while nothing is being sent (see Source)."""
        if self._sending:
            self._sending = False
            if self._queue and self._queue[0].at_s is None:
                self._queue[0].at_s = free_s + self._queue[0].pause_s
            if not self._queue and not self.period_s:
                self._then(free_s)
        self._time_out(now_s)
        if self.period_s and not self._queue:
            self._push(now_s, free_s)
        if not self._queue:
            return None
        piece = self._queue[0]
        at_s = free_s if piece.at_s is None else piece.at_s
        if at_s > now_s:
            return None
        self._queue.popleft()
        self._sending = True
        if piece.last and piece.telegram:
            self.blocks += 1
            if piece.rows is not None:
                self._expected = piece.rows
        says = [] if piece.telegram and piece.rows is None else piece.rows
        return Transmission(max(at_s, free_s), piece.data, says, piece.last, self.line, piece.telegram)

    def receive(self, value: int, at_s: float) -> None:
        """One character heard (its parity taken off by the UART), whole at `at_s`."""
        self._time_out(at_s)
        if self.period_s:
            return
        value &= 0x7F
        if self._sending or self._queue:  # deaf while it talks, or is about to
            if value == 0x06 and self._late_from_s is not None:
                self._late_from_s = None
                self.events.append("ack late")
            return
        self._hear(value, at_s + 0.5 / self.line.baud)  # the middle of the stop bit; it ends half a bit later

    # --- the conversation ---

    @property
    def is_being_read(self) -> bool:
        """Is it between a sign-on and the end of what follows?"""
        return not self.period_s and (self._sending or bool(self._queue) or self._hear != self._hear_sign_on)

    def _time_out(self, now_s: float) -> None:
        while self._timeout is not None and self._timeout[0] <= now_s:
            at_s, what = self._timeout
            self._timeout = None
            what(at_s)

    def _push(self, now_s: float, free_s: float) -> None:
        if free_s - self._next_s > self.period_s:
            self._next_s += (free_s - self._next_s) // self.period_s * self.period_s
        if self._next_s > now_s:
            return
        at_s = self._next_s
        self._next_s += self.period_s
        good = self._expected
        data = self.telegram(at_s)
        rows, self._expected = self._expected, good
        self._say(at_s, data, self._fall_idle, rows=rows, reaction=False, spoil=self._spoilt())

    def _spoilt(self) -> bool:
        once = "bad_bcc_once" in self.quirks and (self._spoil or (self.period_s > 0 and not self.blocks))
        self._spoil = False
        return once or "bad_bcc" in self.quirks

    def _say(
        self,
        at_s: float,
        data: bytes,
        then: Callable[[float], None],
        *,
        rows: Expected | None = None,
        reaction: bool = True,
        spoil: bool = False,
    ) -> None:
        """Queue a message as an answer to what ended at `at_s`; `rows`: it is a data block that says so."""
        telegram = rows is not None
        if spoil:
            printed = [k for k, byte in enumerate(data[:-2]) if byte >= 0x20]
            at = self._draw.choice(printed[len(printed) // 4 : len(printed) * 3 // 4])
            data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
            rows = None
        if self._switched:
            self._switched = False
            if "junk_after_switch" in self.quirks:
                data = bytes(self._draw.choice(b"\x00\x10?U\x7f") for _ in range(self._draw.randrange(2, 5))) + data
        if reaction:
            at_s += self._draw.uniform(*self._reaction_s)
        self._timeout = None
        self._heard.clear()
        self._garbage = False
        self._then = then
        pause_s = 0.0
        while data:
            n = self._draw.randrange(1, 32) if self._gap_s else len(data)
            piece, data = data[:n], data[n:]
            self._queue.append(_Piece(piece, None if pause_s else at_s, pause_s, not data, telegram, rows))
            pause_s = self._draw.uniform(0, self._gap_s) or 1e-6

    def _repeat(self, at_s: float) -> None:
        data, rows, then = self._last
        self._say(at_s, data, then, rows=rows, spoil=self._spoilt())

    def _say_and_keep(
        self,
        at_s: float,
        data: bytes,
        then: Callable[[float], None],
        rows: Expected | None = None,
        *,
        reaction: bool = True,
    ) -> None:
        """A message with a check, repeated on a NAK as it was meant."""
        self._last = data, rows, then
        self._say(at_s, data, then, rows=rows, reaction=reaction, spoil=self._spoilt())

    def _wait(self, hear: Callable[[int, float], None], until_s: float, otherwise: Callable[[float], None]) -> None:
        self._heard.clear()
        self._garbage = False
        self._hear = hear
        self._timeout = (until_s, otherwise)

    def _frame_s(self) -> float:
        return frame_bits(self.line) / self.line.baud

    def _answer_by(self, from_s: float) -> float:
        """When the first character of an answer must be whole."""
        return from_s + SILENCE_S + self._frame_s()

    def _fall_idle(self, at_s: float) -> None:
        self.line = self._base
        self._timeout = None
        self._hear = self._hear_sign_on
        self._heard.clear()
        self._awake = not self._battery
        self._nuls = None
        self._logged_in = False
        self._late_from_s = None
        self._switched = False

    def _hear_sign_on(self, value: int, at_s: float) -> None:
        if not self._awake and not self._wakes(value, at_s):
            return
        if value == 0x2F:
            self._heard.clear()
        elif not self._heard:
            return
        self._heard.append(value)
        if value != 0x0A:
            if len(self._heard) > _MAX_REQUEST:
                self._heard.clear()
            return
        request = bytes(self._heard)
        self._heard.clear()
        if not (request.startswith(b"/?") and request.endswith(b"!\r\n")):
            self.events.append("sign-on garbled")
            return
        asked = request[2:-3].decode("ascii")
        if (asked and asked.lstrip("0") != self.serial.lstrip("0")) or (not asked and self._needs_address):
            self.events.append(f"not addressed: {asked!r}")
            return
        self.events.append("sign-on")
        self.reads = []
        self._spoil = True
        self._logged_in = False
        self._late_from_s = None
        self._say(at_s, self.identification(), self._identified)

    def _wakes(self, value: int, at_s: float) -> bool:
        """Is a battery meter awake with this character? NULs for long enough, a pause, and then a sign-on."""
        began_s = at_s - self._frame_s()
        if value == 0:
            first_s = began_s
            if self._nuls is not None and began_s - self._nuls[1] <= _NUL_GAP_S:
                first_s = self._nuls[0]
            self._nuls = (first_s, at_s)
            return False
        nuls, self._nuls = self._nuls, None
        if nuls is None:
            return False
        shortest, longest = _WAKE_UP_PAUSE_S
        if nuls[1] - nuls[0] < _WAKE_UP_S:
            self.events.append("wake-up too short")
        elif not shortest <= began_s - nuls[1] <= longest:
            self.events.append("wake-up: wrong pause")
        elif value == 0x2F:
            self.events.append("wake-up")
            self._awake = True
            self._timeout = (at_s + 2 * SILENCE_S, self._fall_idle)
        return self._awake

    def _identified(self, at_s: float) -> None:
        """The identification's last bit has left."""
        if self.mode == "C":
            self._wait(self._hear_ack, self._answer_by(at_s), self._without_ack)
            return
        if self.mode == "B":
            self._switch(_RATES_B[self.offered])
        self._read_out(at_s, reaction=self.mode == "B")

    def _switch(self, baud: int) -> None:
        if baud != self.line.baud:
            self.line = Line(baud, 7, "E")
            self._switched = True

    def _read_out(self, at_s: float, *, reaction: bool = True) -> None:
        data, rows = self.block(at_s)
        self._say_and_keep(at_s, data, self._read_out_sent, rows, reaction=reaction)

    def _without_ack(self, at_s: float) -> None:
        self.events.append("ack garbled" if self._heard or self._garbage else "no ack")
        if self._silent_without_ack:
            self._fall_idle(at_s)
        else:
            self._late_from_s = at_s
            self._read_out(at_s, reaction=False)

    def _hear_ack(self, value: int, at_s: float) -> None:
        if not self._heard and value != 0x06:
            self._garbage = True
            return
        self._heard.append(value)
        if len(self._heard) < 6:
            self._timeout = (self._answer_by(at_s), self._without_ack)
            return
        kind, rate, what = chr(self._heard[1]), chr(self._heard[2]), chr(self._heard[3])
        if not self._heard.endswith(b"\r\n") or kind != "0" or rate not in _RATES_C or rate > self.offered:
            self._without_ack(at_s)
            return
        self.events.append(f"ack {kind}{rate}{what}")
        if (self._follows and rate > self._follows) or what not in "01":
            self.events.append("ack ignored")
            self._fall_idle(at_s)
            return
        self._switch(_RATES_C[rate])
        if what == "0" or self._programming == "readout":
            self._read_out(at_s)
        elif self._programming == "yes":
            self.events.append("programming")
            self._say_message(at_s, b"P0", f"({self._operand})".encode())
        else:
            self.events.append("programming refused")
            if self._programming == "break":
                self._break(at_s)
            else:
                self._fall_idle(at_s)

    def _read_out_sent(self, at_s: float) -> None:
        self._late_from_s = None
        self._wait(self._hear_after_block, self._answer_by(at_s), self._fall_idle)

    def _hear_after_block(self, value: int, at_s: float) -> None:
        if value == NAK[0] and not self._heard:
            self.events.append("nak")
            self._repeat(at_s)
        elif value == ACK[0] and not self._heard:
            self.events.append("ack")
            self._fall_idle(at_s)
        elif value == 0x2F and self.line.baud == self._base.baud and not self._heard:
            self._fall_idle(at_s)
            self._hear_sign_on(value, at_s)
        elif value == SOH[0] or self._heard:
            self._timeout = (self._answer_by(at_s), self._fall_idle)
            self._heard.append(value)
            if len(self._heard) == 5:
                if self._heard == SOH + b"B0" + ETX + b"q":
                    self.events.append("break")
                self._fall_idle(at_s)

    # --- programming mode, which here only reads ---

    def _say_message(self, at_s: float, command: bytes, data: bytes) -> None:
        body = command + STX + data + ETX
        self._say_and_keep(at_s, SOH + body + bcc(body), self._await_command)

    def _say_data(
        self, at_s: float, data: bytes, end: bytes = ETX, then: Callable[[float], None] | None = None
    ) -> None:
        self._say_and_keep(at_s, STX + data + end + bcc(data + end), then or self._await_command)

    def _say_character(self, at_s: float, character: bytes) -> None:
        self._say(at_s, character, self._await_command)

    def _break(self, at_s: float) -> None:
        self._say(at_s, SOH + b"B0" + ETX + bcc(b"B0" + ETX), self._fall_idle)

    def _await_command(self, at_s: float) -> None:
        self._wait(self._hear_command, at_s + self._patience_s, self._gave_up)

    def _gave_up(self, at_s: float) -> None:
        self.events.append("gave up waiting")
        self._fall_idle(at_s)

    def _hear_command(self, value: int, at_s: float) -> None:
        self._timeout = (at_s + self._patience_s, self._gave_up)
        heard = self._heard
        ended = heard.endswith(ETX)
        if not heard and value == NAK[0]:
            self.events.append("nak")
            self._repeat(at_s)
            return
        if value == SOH[0] and not ended:
            heard.clear()
        elif not heard:
            return
        heard.append(value)
        if not ended:
            if len(heard) > _MAX_REQUEST:
                heard.clear()
            return
        message = bytes(heard)
        heard.clear()
        if bcc(message[1:-1]) != message[-1:]:
            self.events.append("bad bcc heard")
            self._say_character(at_s, NAK)
            return
        self._obey(message[1:3].decode("ascii"), message[3:-2], at_s)

    def _obey(self, command: str, data: bytes, at_s: float) -> None:
        text = data.removeprefix(STX).decode("ascii")
        if command[:1] == "B":
            self.events.append("break")
            self._fall_idle(at_s)
        elif command == "P1":
            self._judge_password(text, at_s)
        elif command in ("R1", "R5"):
            self._read_register(command, text, at_s)
        else:
            self.events.append("write refused" if command[:1] == "W" else f"unknown command {command}")
            self._say_data(at_s, self._error)

    def _judge_password(self, text: str, at_s: float) -> None:
        if self.wrong_passwords >= _MAX_WRONG_PASSWORDS:
            self.events.append("locked")
        elif not self.password or text == f"({self.password})":
            self.events.append("password")
            self._logged_in = True
            self._say_character(at_s, ACK)
            return
        else:
            self.wrong_passwords += 1
            self.events.append("password refused")
        if self._refusal == "err":
            self._say_data(at_s, b"(ERR)")
        elif self._refusal == "nak":
            self._say_character(at_s, NAK)
        else:
            self._break(at_s)

    def _read_register(self, command: str, text: str, at_s: float) -> None:
        address, bracket, rest = text.partition("(")
        row = None
        if bracket and rest.endswith(")"):  # what stands in the brackets is a number of elements: there is one
            row = self._find(address, at_s)
        if row is None or (self.password and not self._logged_in):
            self.events.append(f"{'unknown' if row is None else 'refused'} {address}")
            self._say_data(at_s, self._error)
            return
        self.events.append(f"{command} {address}")
        shown = {"asked": address, "printed": row[0], "bare": ""}[self._answers]
        self.reads += [(shown or address, value, unit) for value, unit in row[1]]
        self._answer_in_parts(at_s, self._printed(row, shown))

    def _find(self, address: str, at_s: float) -> Row | None:
        """The register asked for, whether printed in full or short."""

        def short(name: str) -> str:
            return name.partition(":")[2].removesuffix("*255") if ":" in name else name.removesuffix("*255")

        wanted = short(address)
        for row in self.rows(at_s):
            if short(row[0]) == wanted:
                return row
        return None

    def _answer_in_parts(self, at_s: float, data: bytes) -> None:
        if not self._partial or len(data) <= self._partial:
            self._say_data(at_s, data)
            return
        rest = data[self._partial :]

        def hear(value: int, heard_at_s: float) -> None:
            if value == ACK[0]:
                self._answer_in_parts(heard_at_s, rest)
            elif value == NAK[0]:
                self.events.append("nak")
                self._repeat(heard_at_s)
            elif value == SOH[0]:  # no more of it is wanted
                self._await_command(heard_at_s)
                self._hear_command(value, heard_at_s)

        def sent(end_s: float) -> None:
            self._wait(hear, end_s + self._patience_s, self._gave_up)

        self._say_data(at_s, data[: self._partial], EOT, sent)
