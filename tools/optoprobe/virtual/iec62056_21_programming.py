"""Programming mode of a simulated meter of IEC 62056-21, which here only reads: every W command is an error."""

from __future__ import annotations

from collections.abc import Callable

from .iec62056_21_read_out import Expected, Row, find, printed
from .iec62056_21_talk import ACK, EOT, ETX, NAK, SOH, STX, Talk, bcc

_MAX_WRONG_PASSWORDS = 3
MAX_REQUEST = 64  # characters; the norm's longest sign-on has 32 of address


class ProgrammingMode:
    """From P0 to the break. The options are IecMeter's.

    `rows` gives the meter's registers at a time, `events` gets what happened; `reads` has the registers answered since
    the last sign-on, in order.
    """

    def __init__(
        self,
        talk: Talk,
        rows: Callable[[float], list[Row]],
        events: list[str],
        fall_idle: Callable[[float], None],
        *,
        password: str,
        refusal: str,
        answers: str,
        partial_blocks: int,
        error: str,
        operand: str,
        patience_s: float,
    ) -> None:
        self.password = password
        self.wrong_passwords = 0
        self.reads: Expected = []
        self._logged_in = False
        self._talk = talk
        self._rows = rows
        self._events = events
        self._fall_idle = fall_idle
        self._refusal = refusal
        self._answers = answers
        self._partial = partial_blocks
        self._error = error.encode()
        self._operand = operand
        self._patience_s = patience_s

    def signed_on(self) -> None:
        """A new session: nothing has been read, nobody has given a password."""
        self.reads = []
        self._logged_in = False

    def signed_off(self) -> None:
        self._logged_in = False

    def begin(self, at_s: float) -> None:
        """Say P0."""
        self._say_message(at_s, b"P0", f"({self._operand})".encode())

    def _say_message(self, at_s: float, command: bytes, data: bytes) -> None:
        body = command + STX + data + ETX
        self._talk.say_and_keep(at_s, SOH + body + bcc(body), self.await_command)

    def say_data(self, at_s: float, data: bytes, end: bytes = ETX, then: Callable[[float], None] | None = None) -> None:
        self._talk.say_and_keep(at_s, STX + data + end + bcc(data + end), then or self.await_command)

    def say_character(self, at_s: float, character: bytes) -> None:
        self._talk.say(at_s, character, self.await_command)

    def say_break(self, at_s: float) -> None:
        self._talk.say(at_s, SOH + b"B0" + ETX + bcc(b"B0" + ETX), self._fall_idle)

    def await_command(self, at_s: float) -> None:
        self._talk.wait(self._hear_command, at_s + self._patience_s, self._gave_up)

    def _gave_up(self, at_s: float) -> None:
        self._events.append("gave up waiting")
        self._fall_idle(at_s)

    def _hear_command(self, value: int, at_s: float) -> None:
        self._talk.timeout = (at_s + self._patience_s, self._gave_up)
        heard = self._talk.heard
        ended = heard.endswith(ETX)
        if not heard and value == NAK[0]:
            self._events.append("nak")
            self._talk.repeat(at_s)
            return
        if value == SOH[0] and not ended:
            heard.clear()
        elif not heard:
            return
        heard.append(value)
        if not ended:
            if len(heard) > MAX_REQUEST:
                heard.clear()
            return
        message = bytes(heard)
        heard.clear()
        if bcc(message[1:-1]) != message[-1:]:
            self._events.append("bad bcc heard")
            self.say_character(at_s, NAK)
            return
        self.obey(message[1:3].decode("ascii"), message[3:-2], at_s)

    def obey(self, command: str, data: bytes, at_s: float) -> None:
        text = data.removeprefix(STX).decode("ascii")
        if command[:1] == "B":
            self._events.append("break")
            self._fall_idle(at_s)
        elif command == "P1":
            self._judge_password(text, at_s)
        elif command in ("R1", "R5"):
            self._read_register(command, text, at_s)
        else:
            self._events.append("write refused" if command[:1] == "W" else f"unknown command {command}")
            self.say_data(at_s, self._error)

    def _judge_password(self, text: str, at_s: float) -> None:
        if self.wrong_passwords >= _MAX_WRONG_PASSWORDS:
            self._events.append("locked")
        elif not self.password or text == f"({self.password})":
            self._events.append("password")
            self._logged_in = True
            self.say_character(at_s, ACK)
            return
        else:
            self.wrong_passwords += 1
            self._events.append("password refused")
        if self._refusal == "err":
            self.say_data(at_s, b"(ERR)")
        elif self._refusal == "nak":
            self.say_character(at_s, NAK)
        else:
            self.say_break(at_s)

    def _read_register(self, command: str, text: str, at_s: float) -> None:
        address, bracket, rest = text.partition("(")
        row = None
        if bracket and rest.endswith(")"):  # what stands in the brackets is a number of elements: there is one
            row = self.find(address, at_s)
        if row is None or (self.password and not self._logged_in):
            self._events.append(f"{'unknown' if row is None else 'refused'} {address}")
            self.say_data(at_s, self._error)
            return
        self._events.append(f"{command} {address}")
        shown = {"asked": address, "printed": row[0], "bare": ""}[self._answers]
        self.reads += [(shown or address, value, unit) for value, unit in row[1]]
        self._answer_in_parts(at_s, printed(row, shown))

    def find(self, address: str, at_s: float) -> Row | None:
        """The register that is asked for."""
        return find(address, self._rows(at_s))

    def _answer_in_parts(self, at_s: float, data: bytes) -> None:
        if not self._partial or len(data) <= self._partial:
            self.say_data(at_s, data)
            return
        rest = data[self._partial :]

        def hear(value: int, heard_at_s: float) -> None:
            if value == ACK[0]:
                self._answer_in_parts(heard_at_s, rest)
            elif value == NAK[0]:
                self._events.append("nak")
                self._talk.repeat(heard_at_s)
            elif value == SOH[0]:  # no more of it is wanted
                self.await_command(heard_at_s)
                self._hear_command(value, heard_at_s)

        def sent(end_s: float) -> None:
            self._talk.wait(hear, end_s + self._patience_s, self._gave_up)

        self.say_data(at_s, data[: self._partial], EOT, sent)
