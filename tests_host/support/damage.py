"""Damages telegrams as light and lines do, and counts what is believed and wrong.

    make damage                     every protocol, 60,000 inputs each; prints the tables
    damage.py [--inputs N] [--seed N] [--only WORD]

An input is: a clean telegram, the next one damaged in one way, a clean one behind it, to a new listener. *Accepted
wrong*: a reading that none of the clean telegrams holds (its code, its value and its unit). *Past the guard*: the
guard, which has followed the meter for three clean telegrams, lets at least one of those by. *Between right ones*: all
of those lie between two right values of neighbouring telegrams. Reference is the clean telegram, as its own listener
reads it.
"""

import argparse
import copy
import math
import random
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from metering.characters import with_parity
from metering.dlms.push import Dlms
from metering.guard import Guard
from metering.iec62056_21.data_block import Iec62056_21
from metering.kmp.kmp_answer import WANTED, KmpAnswer
from metering.kmp.kmp_frame import REGISTERS, SERIAL_NUMBER, question
from metering.listener import NOTHING, TELEGRAM
from metering.reading import Reading
from metering.registers import describe
from metering.sml import Sml
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.sml_meter import SmlMeter

LONG = 60_000
CONNECTION_W = 30_000
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))


# --- kinds of damage: (draw, telegram, another telegram of the same meter) -> what arrives ---------------------------


def changed(data: bytes, at: int, byte: int) -> bytes:
    return data[:at] + bytes((byte,)) + data[at + 1 :]


def one_bit(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data))
    return changed(data, at, data[at] ^ 1 << draw.randrange(8))


def few_bits(draw: random.Random, data: bytes, other: bytes) -> bytes:
    for _ in range(draw.randrange(2, 7)):
        data = one_bit(draw, data, other)
    return data


def only_set(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Weak light: bits that should be dark and are not, or the other way round."""
    for _ in range(draw.randrange(1, 9)):
        at = draw.randrange(len(data))
        data = changed(data, at, data[at] | 1 << draw.randrange(8))
    return data


def only_cleared(draw: random.Random, data: bytes, other: bytes) -> bytes:
    for _ in range(draw.randrange(1, 9)):
        at = draw.randrange(len(data))
        data = changed(data, at, data[at] & ~(1 << draw.randrange(8)))
    return data


def lost(draw: random.Random, data: bytes, other: bytes) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(data))
        data = data[:at] + data[at + 1 :]
    return data


def doubled(draw: random.Random, data: bytes, other: bytes) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2))):
        at = draw.randrange(len(data))
        data = data[:at] + data[at : at + 1] + data[at:]
    return data


def lost_and_doubled(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """As long as before."""
    gone, twice = draw.randrange(len(data)), draw.randrange(len(data) - 1)
    data = data[:gone] + data[gone + 1 :]
    return data[:twice] + data[twice : twice + 1] + data[twice:]


def equal_ones_lost(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Two equal characters near each other: no exclusive or sees that."""
    first = draw.randrange(len(data) - 1)
    again = data.find(data[first : first + 1], first + 1)
    if again < 0:
        return lost(draw, data, other)
    return data[:first] + data[first + 1 : again] + data[again + 1 :]


def inserted(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    byte = draw.choice((draw.randrange(256), data[draw.randrange(len(data))]))
    return data[:at] + bytes((byte,)) + data[at:]


def burst(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at, n = draw.randrange(len(data)), draw.randrange(1, 17)
    return data[:at] + draw.randbytes(len(data[at : at + n])) + data[at + n :]


def cut_tail(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def joined_halves(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """What was between them is lost."""
    at = draw.randrange(len(data))
    return data[:at] + other[max(0, min(len(other), at + draw.randrange(-20, 21))) :]


def zeroed_run(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at, n = draw.randrange(len(data)), draw.randrange(1, 33)
    return data[:at] + bytes(len(data[at : at + n])) + data[at + n :]


def filled_run(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at, n = draw.randrange(len(data)), draw.randrange(1, 33)
    return data[:at] + b"\xff" * len(data[at : at + n]) + data[at + n :]


def parity_neutral_pair(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Two bits of one character."""
    at = draw.randrange(len(data))
    return changed(data, at, data[at] ^ sum(1 << bit for bit in draw.sample(range(8), 2)))


KINDS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    one_bit, few_bits, only_set, only_cleared, lost, doubled, lost_and_doubled, equal_ones_lost, inserted, burst,
    cut_tail, joined_halves, zeroed_run, filled_run, parity_neutral_pair,
)  # fmt: skip


# --- what is damaged -------------------------------------------------------------------------------------------------


class Subject(NamedTuple):
    """A meter's telegrams in a row, and how to make a listener for them. The last but one is the one damaged."""

    name: str
    listener: Callable[[], Any]
    telegrams: tuple[bytes, ...]


def asked() -> Iec62056_21:
    listener = Iec62056_21()
    listener.needs_check = True
    return listener


def keyed() -> Dlms:
    listener = Dlms()
    listener.set_keys(KEY, AUTH_KEY)
    return listener


def unauthenticated() -> Dlms:
    listener = Dlms()
    listener.set_keys(KEY)
    return listener


def kmp_answers(second: int) -> bytes:
    """Number and registers, as a read-out gets them."""
    meter = KmpMeter()
    registers = bytes((REGISTERS, len(WANTED))) + b"".join(number.to_bytes(2, "big") for number in WANTED)
    for body in (bytes((SERIAL_NUMBER,)), registers):
        for byte in question(body):
            meter.receive(byte, second)
    answers = (meter.poll(second + 1, 0), meter.poll(second + 1, 0))
    return b"".join(answer.data for answer in answers if answer)


def subjects() -> Iterator[Subject]:
    def row(telegram: Callable[[int], bytes]) -> tuple[bytes, ...]:
        return tuple(telegram(second) for second in (76, 88, 100, 107, 115))

    yield Subject("SML", Sml, row(SmlMeter(4, quirks=["phases"]).telegram))
    meter = IecMeter("C", seed=4, full=True)
    blocks = row(lambda t: meter.identification() + meter.block(t)[0])
    yield Subject("IEC asked, 7E1", asked, tuple(map(with_parity, blocks)))  # type: ignore[arg-type]
    yield Subject("IEC asked, no parity", asked, blocks)
    yield Subject("IEC pushed, BCC, 7E1", Iec62056_21, tuple(map(with_parity, blocks)))  # type: ignore[arg-type]
    pushed = row(IecMeter("D", seed=4).telegram)
    yield Subject("D0, 7E1", Iec62056_21, tuple(map(with_parity, pushed)))  # type: ignore[arg-type]
    yield Subject("D0, no parity", Iec62056_21, pushed)
    yield Subject("P1, CRC", Iec62056_21, row(IecMeter("P1", seed=4).telegram))
    for framing, layout, security in (
        ("hdlc", "aidon", 0x00),
        ("hdlc", "wienernetze9", 0x20),
        ("gbt", "lg", 0x30),
        ("mbus", "netznoe", 0x20),
        ("mbus", "netznoe", 0x30),
        ("wrapper", "lg", 0x20),
        ("wrapper", "lg", 0x30),
        ("raw", "lg", 0x00),
        ("raw", "lg", 0x30),
    ):
        pushing = DlmsMeter(framing=framing, layout=layout, security=security, key=KEY, auth_key=AUTH_KEY, seed=4)
        make = keyed if security & 0x10 else unauthenticated
        words = {0x00: "in the clear", 0x20: "encrypted", 0x30: "encrypted, tag"}[security]
        yield Subject(f"DLMS {framing}, {words}", make, row(pushing.telegram))
    yield Subject("KMP", KmpAnswer, row(kmp_answers))


# --- counting --------------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A telegram as its listener reads it: what a reading is, and what makes such Readings anew."""

    meter_id: str
    rows: list[tuple[bytes, str, Any, str | None]]
    readings: list[Any]
    proven: bool
    sealed: bool


def row_of(reading: Any) -> tuple[bytes, str, Any, str | None]:
    """Its code, its exact value, its unit and what is printed of that."""
    return bytes(reading.obis), Reading.text(reading), reading.unit, reading.printed_unit


def seen(listener: Any, data: bytes) -> Iterator[Seen]:
    at = 0
    while at < len(data):
        at += listener.feed(data, at, len(data))
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                readings = [reading for reading in listener.readings() if not reading.is_companion]
                rows = [row_of(reading) for reading in readings]
                proven = listener.proven and listener.vouched
                yield Seen(listener.meter_id(), rows, readings, proven, listener.sealed)


def passed(guard: Guard, telegram: Seen, now_s: int) -> set[Any]:
    """The rows of what the guard lets by."""
    if not guard.admits_meter(telegram.meter_id):
        return set()
    readings = [copy.copy(reading) for reading in telegram.readings]  # the guard may put another value in
    return {
        row_of(reading)
        for reading in readings
        if guard.admits(reading, describe(reading), now_s, telegram.proven, telegram.sealed)
    }


def is_between(row: tuple[bytes, str, Any, str | None], clean: list[Seen]) -> bool:
    """Does its value lie between two of that register's in the clean telegrams? Numbers by size, texts as sorted."""
    values = [other[1] for one in clean for other in one.rows if (other[0], *other[2:]) == (row[0], *row[2:])]
    try:
        return bool(values) and min(map(Decimal, values)) <= Decimal(row[1]) <= max(map(Decimal, values))
    except InvalidOperation:
        return bool(values) and min(values) <= row[1] <= max(values)


def past_guard(clean: list[Seen], arrived: list[Seen], every_s: int = 10) -> set[Any]:
    """The wrong rows of `arrived` that the guard, which knows the telegrams `clean` of this meter, lets by."""
    guard = Guard(CONNECTION_W)
    right = {row for one in clean for row in one.rows}
    now_s = 1000
    wrong = set()
    for one in [*clean[:3], *arrived]:
        wrong |= passed(guard, one, now_s) - right
        now_s += every_s
    return wrong


class Count:
    """Of one subject and kind."""

    def __init__(self) -> None:
        self.inputs = self.wrong = self.between = self.past = 0
        self.examples: list[tuple[bytes, list[Any]]] = []


def bench(subject: Subject, inputs: int, seed: int = 1) -> dict[str, Count]:
    """Counts by kind of damage. Each seed gives the same inputs on every machine."""
    before, now, behind = subject.telegrams[-3:]
    listener = subject.listener()
    clean = [one for telegram in subject.telegrams for one in seen(listener, telegram)]
    right = {row for one in clean for row in one.rows}
    counts = {kind.__name__: Count() for kind in KINDS}
    draw = random.Random(f"{subject.name} {seed}")
    for k in range(inputs):
        kind = KINDS[k % len(KINDS)]
        count = counts[kind.__name__]
        damaged = kind(draw, now, before)
        count.inputs += 1
        listener = subject.listener()
        for _ in seen(listener, before):
            pass
        arrived = list(seen(listener, damaged + behind))
        wrong = [row for one in arrived for row in one.rows if row not in right]
        if wrong:
            count.wrong += 1
            past = past_guard(clean, arrived)
            outside = [row for row in past if not is_between(row, clean[-3:])]
            count.past += bool(outside)
            count.between += bool(past and not outside)
            count.examples.append((damaged, outside or wrong))
    return counts


def most_likely(n_wrong: int, inputs: int) -> float:
    """The share that n_wrong of `inputs` leave possible at 95 %, one side (Poisson; 3 / inputs for none)."""
    low, high = 0.0, 3.0 * n_wrong + 10.0
    for _ in range(60):
        mean = (low + high) / 2
        term = total = math.exp(-mean)
        for k in range(1, n_wrong + 1):
            term *= mean / k
            total += term
        low, high = (mean, high) if total > 0.05 else (low, mean)
    return high / inputs


HEAD = (
    "| protocol | damage | inputs | accepted wrong | past the guard, between right ones | past the guard, wrong |"
    " share of those, at most (95 %) |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def table(name: str, counts: dict[str, Count], by_kind: bool = True) -> str:
    """Rows of the kinds of which something was believed, and one of all."""
    rows = [(kind.replace("_", " "), count) for kind, count in counts.items() if count.wrong and by_kind]
    total = Count()
    for count in counts.values():
        for field in ("inputs", "wrong", "between", "past"):
            setattr(total, field, getattr(total, field) + getattr(count, field))
    lines = [
        f"| {name:28} | {kind:19} | {n.inputs:7,} | {n.wrong:5,} | {n.between:4} | {n.past:4} |"
        for kind, n in [*rows, ("all", total)]
    ]
    lines[-1] += f" {most_likely(total.past, total.inputs):.1e}"
    return "\n".join(f"{line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged telegrams: what is accepted and wrong.")
    parser.add_argument("--inputs", type=int, default=LONG, help="a protocol, of all kinds together (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a word of the protocol's name")
    parser.add_argument("--totals", action="store_true", help="one line a protocol")
    parser.add_argument("--examples", action="store_true", help="show some of what was believed")
    given = parser.parse_args()
    print(HEAD)
    for subject in subjects():
        if given.only in subject.name:
            counts = bench(subject, given.inputs, given.seed)
            print(table(subject.name, counts, not given.totals), flush=True)
            for kind, count in counts.items() if given.examples else ():
                for damaged, wrong in count.examples[:3]:
                    print(kind, wrong, bytes(byte & 0x7F for byte in damaged))


if __name__ == "__main__":
    main()
