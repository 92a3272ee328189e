"""What the demo shows: a screen that is written over on a terminal, lines of what changes elsewhere."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from .. import terminal
from .picture import Picture, Register

_PLAIN_EVERY_S = 1.0  # a register's lines where there is no screen
_UNDESCRIBED_S = 2.0  # so long a plain line waits for the register's name and unit
_NAME, _VALUE, _UNIT = 30, 24, 6  # columns


@dataclass
class Moment:
    """What is known beside the picture: seconds since the begin, and of the meter what it has sent."""

    now_s: float
    began_s: float
    sent: str  # "meter sent 12 telegrams, ", or nothing where that is not known
    reading_since_s: float | None = None  # an asked meter is being read
    thought: str = ""  # what the firmware said last while it looked for the meter

    @property
    def seconds(self) -> float:
        return self.now_s - self.began_s


class Screen:
    """Lines on a terminal, no more than it has; the values that matter first, what there is no room for is counted."""

    def __init__(self, header: str) -> None:
        self._header = header
        self._live = terminal.LiveLines()
        if self._live.is_ascii:
            self._header = header.replace("→", "->")

    def show(self, picture: Picture, moment: Moment) -> None:
        columns, lines = self._live.size
        below = _below(picture, moment, columns)
        rows = [_row(register, moment.now_s) for register in picture.in_order()]
        room = max(1, lines - len(below) - 2)
        if len(rows) > room:
            below.insert(0, f"{len(rows) - room + 1} more registers in a higher window")
            rows = rows[: room - 1]
        title = "meter " + ", ".join(picture.meters) if picture.meters else moment.thought or "waiting for readings"
        self._live.show([(self._header, terminal.DIM), (title, terminal.BOLD), *rows, *below])


class PlainLines:
    """A line for each value that has changed, and for each new notice."""

    def __init__(self) -> None:
        self._notice = ""
        self._reading = False

    def show(self, picture: Picture, moment: Moment) -> None:
        reading = moment.reading_since_s is not None
        if reading and not self._reading and not picture.registers:
            self._say(moment, "the meter is being asked and read ...")
        self._reading = reading
        for register in picture.in_order():
            if register.value == register.printed or moment.now_s - register.printed_s < _PLAIN_EVERY_S:
                continue
            if not register.name and moment.now_s - register.since_s < _UNDESCRIBED_S:
                continue
            register.printed, register.printed_s = register.value, moment.now_s
            self._say(moment, f"{register.name or register.key:<24} {register.value:>16} {register.unit}")
        notice = picture.notice()
        if notice != self._notice:
            self._notice = notice
            self._say(moment, f"notice: {notice}")

    @staticmethod
    def _say(moment: Moment, text: str) -> None:
        print(f"{moment.seconds:6.1f} s  {text}".rstrip(), flush=True)


def open_screen(header: str) -> Screen | PlainLines:
    """What suits standard output."""
    return Screen(header) if terminal.is_terminal() else PlainLines()


def _row(register: Register, now_s: float) -> str:
    name, age = register.name or register.key, f"{now_s - register.at_s:.1f}"
    return f"  {name[:_NAME]:<{_NAME}} {register.value:>{_VALUE}} {register.unit:<{_UNIT}} {age:>6} s ago"


def _below(picture: Picture, moment: Moment, columns: int) -> list[str]:
    reading = ""
    if moment.reading_since_s is not None:
        reading = f"the meter is being read for {moment.now_s - moment.reading_since_s:.0f} s; "
    told = picture.counters(moment.now_s)
    free = picture.diagnostics.get("free_heap_bytes") or 0
    heap = f"{free:,} bytes" if free else "not known"
    return [
        *textwrap.wrap(f"{reading}{moment.sent}{picture.telegrams()} with readings arrived", columns),
        *textwrap.wrap(told, columns),
        *textwrap.wrap(f"notice: {picture.notice() or 'none yet'}", columns),
        f"probe {picture.status or 'not heard yet'}; free heap: {heap}; {moment.seconds:.0f} s; Ctrl-C ends",
    ]
