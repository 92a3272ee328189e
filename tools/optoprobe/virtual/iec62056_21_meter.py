"""A simulated meter that speaks IEC 62056-21: modes A, B and C (asked), D and P1 (pushed), with password and quirks.

It stands on the meter's side of a line as a Source of `source` does: `receive(byte, at_s)` is what it hears,
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
from collections.abc import Iterable

from metering.line import Line

from .household import Household
from .iec62056_21_programming import MAX_REQUEST, ProgrammingMode
from .iec62056_21_read_out import P1, Electricity, Expected, Heat, ReadOut, Row, expected_of
from .iec62056_21_talk import ACK, ETX, NAK, SILENCE_S, SOH, STX, Talk, bcc, crc16_arc
from .source import Transmission

MODES = ("A", "B", "C", "D", "P1")
QUIRKS = {
    "bad_bcc_once": "one bit of each session's first block is turned round after its check was made; repeated right",
    "bad_bcc": "one bit of every block is turned round",
    "lf_only": "lines end with LF",
    "junk_after_switch": "a few characters of garbage after a change of rate, before the first of the message",
}
REFUSALS = ("err", "nak", "break")
_RATES_C = {str(k): rate for k, rate in enumerate((300, 600, 1200, 2400, 4800, 9600, 19200))}
_RATES_B: dict[str, int] = dict(zip("ABCDEF", (600, 1200, 2400, 4800, 9600, 19200), strict=True))
_OFFERED = {"A": "-", "B": "C", "C": "5", "D": "3", "P1": "5"}
_PERIOD_S = {"D": 2.0, "P1": 1.0}
_WAKE_UP_S = 1.95  # of NULs at least; a reader sends about 2.2 s
_WAKE_UP_PAUSE_S = (1.48, 1.72)  # between the last NUL and the sign-on: 1.5 to 1.7 s, and what a clock may be off
_NUL_GAP_S = 0.25
_DAY_S = 1_779_926_400  # the meter's own midnight before 0 s: 2026-05-28


class _WakeUp:
    """Is a battery meter awake? By NULs for long enough, a pause, and then a sign-on."""

    def __init__(self, events: list[str]) -> None:
        self.is_awake = False
        self._events = events
        self._nuls: tuple[float, float] | None = None  # first and last

    def sleep(self) -> None:
        self.is_awake = False
        self._nuls = None

    def hears(self, value: int, began_s: float, at_s: float) -> bool:
        """Is the meter awake with this character, which began at `began_s`?"""
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
            self._events.append("wake-up too short")
        elif not shortest <= began_s - nuls[1] <= longest:
            self._events.append("wake-up: wrong pause")
        elif value == 0x2F:
            self._events.append("wake-up")
            self.is_awake = True
        return self.is_awake


def _check_mode(mode: str, quirks: frozenset[str]) -> None:
    unknown = sorted(quirks - QUIRKS.keys())
    if unknown:
        raise ValueError(f"no such quirk: {', '.join(unknown)}; there are {', '.join(QUIRKS)}")
    if mode not in MODES:
        raise ValueError(f"mode: one of {', '.join(MODES)}")
    if mode == "D" and quirks & {"bad_bcc", "bad_bcc_once"}:
        raise ValueError("mode D has no check that could be bad")


def _offered(asked: str, mode: str, baud: int) -> str:
    """The baud character of the identification: the one asked for, else the mode's usual one."""
    offered = asked or ("5" if mode == "D" and baud == 9600 else _OFFERED[mode])
    if (mode == "C" and offered not in _RATES_C) or (mode == "B" and offered not in _RATES_B):
        raise ValueError("offered: 0 to 6 in mode C, A to F in mode B")
    return offered


def _usual_line(mode: str, baud: int) -> Line:
    if mode == "P1":
        return Line(baud or 115200)
    return Line(baud or 2400 if mode == "D" else 300, 7, "E")


def _reaction_s(asked_ms: float | tuple[float, float] | None, flag: str) -> tuple[float, float]:
    """(lowest, highest): of None the norm's limits, which the third letter of `flag` chooses."""
    if asked_ms is None:
        asked_ms = (20 if flag[2].islower() else 200, 1500)
    shortest, longest = asked_ms if isinstance(asked_ms, tuple) else (asked_ms, asked_ms)
    return shortest / 1000, longest / 1000


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
    period_s, baud  of the modes D (2400 or 9600 7E1) and P1 (115200 8N1); `line` in place of the usual one
    start_s         time of day at 0 s, for the household
    epoch_s         the meter's wall clock at 0 s, in seconds since 1970 of local time; None: a day's `start_s`
    """

    talk = Talk  # of these two a meter out of the ordinary has its own
    programming_mode = ProgrammingMode

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
        line: Line | None = None,
        patience_s: float = 60,
        energy_wh: int = 14_798_112,
        export_wh: int = 612_345,
        pv_peak_w: int = 0,
        start_s: int = 11 * 3600 + 30 * 60,
        epoch_s: float | None = None,
        quirks: Iterable[str] = (),
    ) -> None:
        self.quirks = frozenset(quirks)
        _check_mode(mode, self.quirks)
        if refusal not in REFUSALS or answers not in ("asked", "printed", "bare"):
            raise ValueError(f"refusal: one of {', '.join(REFUSALS)}; answers: asked, printed or bare")
        if programming not in ("yes", "break", "silent", "readout"):
            raise ValueError("programming: yes, break, silent or readout")
        if not 0 <= history <= 99 or partial_blocks < 0 or gap_ms < 0 or len(flag) != 3:
            raise ValueError("history: 0 to 99; partial_blocks, gap_ms: 0 or more; flag: three letters")
        draw = random.Random(seed)
        serial = address or f"{draw.randrange(1_000_000, 99_999_999):08d}"
        self.mode = mode
        self.offered = _offered(offered, mode, baud)
        self.flag = flag
        self.ident = ident or ("UH50" if battery else f"OP{draw.randrange(1000)}")
        self.period_s = period_s or _PERIOD_S.get(mode, 0.0)
        self.events: list[str] = []
        self._needs_address = needs_address
        self._programming = programming
        self._follows = "0" if only_000 else follows
        self._silent_without_ack = silent_without_ack
        self._newline = b"\n" if "lf_only" in self.quirks else b"\r\n"
        what = (
            serial,
            Household(seed, start_s=start_s, pv_peak_w=pv_peak_w),
            energy_wh,
            export_wh,
            _DAY_S + start_s if epoch_s is None else epoch_s,
            self._newline,
        )
        self._read_out: ReadOut
        if mode == "P1":
            self._read_out = P1(*what)
        else:
            self._read_out = Heat(*what) if battery else Electricity(*what, full=full, history=history)
        base, reaction_s = line or _usual_line(mode, baud), _reaction_s(reaction_ms, flag)
        self._talk = self.talk(base, draw, reaction_s, gap_ms / 1000, self.quirks, self._fall_idle)
        self._talk.hear = self._hear_sign_on
        self._talk.spoil = self.period_s > 0  # the first telegram is of no session
        self._programming_mode = self.programming_mode(
            self._talk,
            lambda now_s: self.rows(now_s),
            self.events,
            self._fall_idle,
            password=password,
            refusal=refusal,
            answers=answers,
            partial_blocks=partial_blocks,
            error=error,
            operand=operand,
            patience_s=patience_s,
        )
        self._wake_up = _WakeUp(self.events) if battery else None
        self._late_from_s: float | None = None  # reading out without an acknowledge: one that comes now is late
        self._next_s = 0.0

    @property
    def line(self) -> Line:
        """What it hears and talks with just now."""
        return self._talk.line

    @property
    def serial(self) -> str:
        return self._read_out.serial

    @property
    def blocks(self) -> int:
        """Data blocks or telegrams given to the line, faulty ones too."""
        return self._talk.blocks

    @property
    def reads(self) -> Expected:
        """Registers answered since the last sign-on, in order."""
        return self._programming_mode.reads

    @property
    def wrong_passwords(self) -> int:
        return self._programming_mode.wrong_passwords

    def rows(self, now_s: float) -> list[Row]:
        """Every register of the read-out at `now_s`, as printed, in order; time does not go back."""
        return self._read_out.rows(now_s)

    # --- messages ---

    def identification(self) -> bytes:
        """The identification line, with its end."""
        return f"/{self.flag}{self.offered}{self.ident}".encode() + self._newline

    def telegram(self, now_s: float) -> bytes:
        """What a pushing meter sends at `now_s`: D without any check, P1 with its CRC."""
        rows = self.rows(now_s)
        self._talk.expected = expected_of(rows)
        text = self.identification() + self._newline + self._read_out.lines(rows) + b"!"
        if self.mode == "P1":
            text += b"%04X" % crc16_arc(text)
        return text + self._newline

    def block(self, now_s: float) -> tuple[bytes, Expected]:
        """The data block at `now_s`, right, and what it says."""
        rows = self.rows(now_s)
        body = self._read_out.lines(rows) + b"!" + self._newline + ETX
        return STX + body + bcc(body), expected_of(rows)

    def expected(self) -> Expected:
        """(address, value, unit) as printed, one a bracket group, of the newest right block given to the line."""
        return list(self._talk.expected)

    # --- what the line's driver asks ---

    def wake_s(self) -> float | None:
        """When poll() has something new if nothing is heard until then; None: never, or when the last bit has left."""
        return self._talk.wake_s(self._next_s if self.period_s else None)

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        """What is to be said by `now_s`, or None. To be asked only while nothing is being sent (see Source)."""
        self._talk.left(now_s, free_s)
        if self.period_s and not self._talk.is_talking:
            self._push(now_s, free_s)
        return self._talk.next(now_s, free_s)

    def receive(self, value: int, at_s: float) -> None:
        """One character heard (its parity taken off by the UART), whole at `at_s`."""
        self._talk.time_out(at_s)
        if self.period_s:
            return
        value &= 0x7F
        if self._talk.is_talking:  # deaf while it talks, or is about to
            if value == 0x06 and self._late_from_s is not None:
                self._late_from_s = None
                self.events.append("ack late")
            return
        self._talk.hear(value, at_s + 0.5 / self.line.baud)  # the middle of the stop bit; it ends half a bit later

    # --- the conversation ---

    @property
    def is_being_read(self) -> bool:
        """Is it between a sign-on and the end of what follows?"""
        return not self.period_s and (self._talk.is_talking or self._talk.hear != self._hear_sign_on)

    def _push(self, now_s: float, free_s: float) -> None:
        if free_s - self._next_s > self.period_s:
            self._next_s += (free_s - self._next_s) // self.period_s * self.period_s
        if self._next_s > now_s:
            return
        at_s = self._next_s
        self._next_s += self.period_s
        good = self._talk.expected
        data = self.telegram(at_s)
        rows, self._talk.expected = self._talk.expected, good
        self._talk.say_and_keep(at_s, data, self._fall_idle, rows, reaction=False)

    def _fall_idle(self, at_s: float) -> None:
        self._talk.rest()
        self._talk.hear = self._hear_sign_on
        self._programming_mode.signed_off()
        self._late_from_s = None
        if self._wake_up:
            self._wake_up.sleep()

    def _hear_sign_on(self, value: int, at_s: float) -> None:
        sleeper = self._wake_up
        if sleeper and not sleeper.is_awake:
            if not sleeper.hears(value, at_s - self._talk.frame_s(), at_s):
                return
            self._talk.timeout = (at_s + 2 * SILENCE_S, self._fall_idle)
        if value == 0x2F:
            self._talk.heard.clear()
        elif not self._talk.heard:
            return
        self._talk.heard.append(value)
        if value != 0x0A:
            if len(self._talk.heard) > MAX_REQUEST:
                self._talk.heard.clear()
            return
        request = bytes(self._talk.heard)
        self._talk.heard.clear()
        if not (request.startswith(b"/?") and request.endswith(b"!\r\n")):
            self.events.append("sign-on garbled")
            return
        asked = request[2:-3].decode("ascii")
        if (asked and asked.lstrip("0") != self.serial.lstrip("0")) or (not asked and self._needs_address):
            self.events.append(f"not addressed: {asked!r}")
            return
        self.events.append("sign-on")
        self._programming_mode.signed_on()
        self._talk.spoil = True
        self._late_from_s = None
        self._talk.say(at_s, self.identification(), self._identified)

    def _identified(self, at_s: float) -> None:
        """The identification's last bit has left."""
        if self.mode == "C":
            self._talk.wait(self._hear_ack, self._talk.answer_by(at_s), self._without_ack)
            return
        if self.mode == "B":
            self._talk.switch(_RATES_B[self.offered])
        self._send_block(at_s, reaction=self.mode == "B")

    def _send_block(self, at_s: float, *, reaction: bool = True) -> None:
        data, rows = self.block(at_s)
        self._talk.say_and_keep(at_s, data, self._read_out_sent, rows, reaction=reaction)

    def _without_ack(self, at_s: float) -> None:
        self.events.append("ack garbled" if self._talk.heard or self._talk.garbage else "no ack")
        if self._silent_without_ack:
            self._fall_idle(at_s)
        else:
            self._late_from_s = at_s
            self._send_block(at_s, reaction=False)

    def _hear_ack(self, value: int, at_s: float) -> None:
        if not self._talk.heard and value != 0x06:
            self._talk.garbage = True
            return
        self._talk.heard.append(value)
        if len(self._talk.heard) < 6:
            self._talk.timeout = (self._talk.answer_by(at_s), self._without_ack)
            return
        kind, rate, what = chr(self._talk.heard[1]), chr(self._talk.heard[2]), chr(self._talk.heard[3])
        if not self._talk.heard.endswith(b"\r\n") or kind != "0" or rate not in _RATES_C or rate > self.offered:
            self._without_ack(at_s)
            return
        self.events.append(f"ack {kind}{rate}{what}")
        if (self._follows and rate > self._follows) or what not in "01":
            self.events.append("ack ignored")
            self._fall_idle(at_s)
            return
        self._talk.switch(_RATES_C[rate])
        if what == "0" or self._programming == "readout":
            self._send_block(at_s)
        elif self._programming == "yes":
            self.events.append("programming")
            self._programming_mode.begin(at_s)
        else:
            self.events.append("programming refused")
            if self._programming == "break":
                self._programming_mode.say_break(at_s)
            else:
                self._fall_idle(at_s)

    def _read_out_sent(self, at_s: float) -> None:
        self._late_from_s = None
        self._talk.wait(self._hear_after_block, self._talk.answer_by(at_s), self._fall_idle)

    def _hear_after_block(self, value: int, at_s: float) -> None:
        if value == NAK[0] and not self._talk.heard:
            self.events.append("nak")
            self._talk.repeat(at_s)
        elif value == ACK[0] and not self._talk.heard:
            self.events.append("ack")
            self._fall_idle(at_s)
        elif value == 0x2F and self.line.baud == self._talk.base.baud and not self._talk.heard:
            self._fall_idle(at_s)
            self._hear_sign_on(value, at_s)
        elif value == SOH[0] or self._talk.heard:
            self._talk.timeout = (self._talk.answer_by(at_s), self._fall_idle)
            self._talk.heard.append(value)
            if len(self._talk.heard) == 5:
                if self._talk.heard == SOH + b"B0" + ETX + b"q":
                    self.events.append("break")
                self._fall_idle(at_s)
