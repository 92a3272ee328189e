"""Damages telegrams as light and lines do, and counts what is believed and wrong.

    make damage                     every protocol, 60,000 inputs each; prints the tables
    damage.py [--inputs N] [--seed N] [--only WORD]

An input is: a clean telegram, the next one damaged in one way, a clean one behind it, to a new listener. *Accepted
wrong*: a reading that none of the clean telegrams holds (its code, its text and its unit). *Past the guard*: the guard,
which has followed the meter for three clean telegrams, lets at least one of those by. Reference is the clean telegram,
as its own listener reads it.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from metering.characters import with_parity
from metering.dlms.push import Dlms
from metering.guard import Guard
from metering.iec62056_21.data_block import Iec62056_21
from metering.listener import NOTHING, TELEGRAM
from metering.registers import describe
from metering.sml import Sml
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
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
    """A meter's telegrams, three in a row, and how to make a listener for them."""

    name: str
    listener: Callable[[], Any]
    telegrams: tuple[bytes, bytes, bytes]


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


def subjects() -> Iterator[Subject]:
    def three(telegram: Callable[[int], bytes]) -> tuple[bytes, bytes, bytes]:
        return telegram(100), telegram(107), telegram(115)

    yield Subject("SML", Sml, three(SmlMeter(4, quirks=["phases"]).telegram))
    meter = IecMeter("C", seed=4, full=True)
    blocks = three(lambda t: meter.identification() + meter.block(t)[0])
    yield Subject("IEC asked, 7E1", asked, tuple(map(with_parity, blocks)))  # type: ignore[arg-type]
    yield Subject("IEC asked, no parity", asked, blocks)
    yield Subject("IEC pushed, BCC, 7E1", Iec62056_21, tuple(map(with_parity, blocks)))  # type: ignore[arg-type]
    pushed = three(IecMeter("D", seed=4).telegram)
    yield Subject("D0, 7E1", Iec62056_21, tuple(map(with_parity, pushed)))  # type: ignore[arg-type]
    yield Subject("D0, no parity", Iec62056_21, pushed)
    yield Subject("P1, CRC", Iec62056_21, three(IecMeter("P1", seed=4).telegram))
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
        yield Subject(f"DLMS {framing}, {words}", make, three(pushing.telegram))


# --- counting --------------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A telegram as its listener reads it: what a reading is, and the Reading itself."""

    meter_id: str
    readings: dict[tuple[bytes, str, Any, str | None], Any]


def seen(listener: Any, data: bytes) -> Iterator[Seen]:
    at = 0
    while at < len(data):
        at += listener.feed(data, at, len(data))
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                rows = {(bytes(r.obis), r.text(), r.unit, r.printed_unit): r for r in listener.readings()}
                yield Seen(listener.meter_id(), rows)


def passes_guard(clean: list[Seen], telegram: Seen, wrong: list[Any], every_s: int = 10) -> bool:
    """Does the guard, which knows the clean telegrams, let one of the `wrong` readings by?"""
    guard = Guard(CONNECTION_W)
    now_s = 1000
    for one in (clean[0], clean[0], clean[0]):
        if guard.admits_meter(one.meter_id):
            for reading in one.readings.values():
                guard.admits(reading, describe(reading), now_s)
        now_s += every_s
    if not guard.admits_meter(telegram.meter_id):
        return False
    return any(guard.admits(reading, describe(reading), now_s) for reading in wrong)


class Count:
    """Of one subject and kind."""

    def __init__(self) -> None:
        self.inputs = self.wrong = self.past = 0
        self.examples: list[tuple[bytes, list[Any]]] = []


def bench(subject: Subject, inputs: int, seed: int = 1) -> dict[str, Count]:
    """Counts by kind of damage. Each seed gives the same inputs on every machine."""
    before, now, behind = subject.telegrams
    clean = [next(seen(subject.listener(), telegram)) for telegram in subject.telegrams]
    right = set().union(*(one.readings for one in clean))
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
        for telegram in seen(listener, damaged + behind):
            wrong = [reading for row, reading in telegram.readings.items() if row not in right]
            if wrong:
                count.wrong += 1
                count.past += passes_guard(clean, telegram, wrong)
                count.examples.append((damaged, [(r.obis, r.text()) for r in wrong]))
                break
    return counts


def table(name: str, counts: dict[str, Count]) -> str:
    """Rows of the kinds of which something was believed, and one of all."""
    lines = [
        f"| {name:30} | {kind.replace('_', ' '):20} | {count.inputs:8} | {count.wrong:6} | {count.past:6} |"
        for kind, count in counts.items()
        if count.wrong
    ]
    n, wrong, past = (sum(getattr(count, field) for count in counts.values()) for field in ("inputs", "wrong", "past"))
    rates = f"{wrong:6} | {past:6} | {wrong / n:.1e} | {past / n:.1e}"
    return "\n".join([*lines, f"| {name:30} | {'all':20} | {n:8} | {rates} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged telegrams: what is accepted and wrong.")
    parser.add_argument("--inputs", type=int, default=LONG, help="a protocol, of all kinds together (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a word of the protocol's name")
    parser.add_argument("--examples", action="store_true", help="show some of what was believed")
    given = parser.parse_args()
    print("| protocol | damage | inputs | accepted wrong | past the guard | share wrong | share past |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for subject in subjects():
        if given.only in subject.name:
            counts = bench(subject, given.inputs, given.seed)
            print(table(subject.name, counts), flush=True)
            for kind, count in counts.items() if given.examples else ():
                for damaged, wrong in count.examples[:3]:
                    print(kind, wrong, bytes(byte & 0x7F for byte in damaged))


if __name__ == "__main__":
    main()
