"""Damaged telegrams on both Pythons: the same events? What a computer's shortcuts do is held against the board's core.

    PYTHONPATH=tests_host .venv/bin/python -m support.two_pythons [--inputs N] [--seed N] [--only WORD]

Inputs are telegrams of our simulated meters and of the clone's captures, damaged in the ways of support.damage. Of half
of them the check is mended, so that what stands behind it is reached; of what has no check each comes twice, as a new
form must. Every fourth is let be, so that a listener knows what it has heard before. All 100,000 by hand:
--inputs 100000, some ten minutes.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support import core_on_micropython
from support.damage import AUTH_KEY, KEY, KINDS, subjects

from metering.checksum import ARC, CCITT, X25_INIT, crc16, crc_table
from optoprobe.environment import runtime
from optoprobe.virtual.dlms_lists import LAYOUTS
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

SECONDS = (76, 88, 100, 107, 115)
CAPTURES = runtime.REPO / "tests_host" / "captures"
A_LISTENER, A_LINE = 40, 20
A_RUN = 200  # damaged telegrams that one process takes
SHARE = 4  # every fourth telegram is not damaged
HEAP = "1m"
_X25, _ARC = crc_table(CCITT), crc_table(ARC)


class Source(NamedTuple):
    """Telegrams of one meter, and what its listener is told."""

    name: str
    protocol: str
    telegrams: tuple[bytes, ...]
    key: bytes | None = None
    auth_key: bytes | None = None


def sources() -> Iterator[Source]:
    for subject in subjects():
        protocol = subject.listener().NAME
        encrypted = "encrypted" in subject.name
        keys = (KEY if encrypted else None, AUTH_KEY if "tag" in subject.name else None)
        yield Source(subject.name, protocol, subject.telegrams, *keys)
    for quirk in QUIRKS:
        yield Source(f"SML {quirk}", "sml", tuple(map(SmlMeter(5, quirks=[quirk]).telegram, SECONDS)))
    for layout in LAYOUTS:
        if layout != "p1":
            for framing in ("raw", "hdlc"):
                meter = DlmsMeter(framing=framing, layout=layout, security=0, seed=5)
                yield Source(f"DLMS {framing} {layout}", "dlms", tuple(map(meter.telegram, SECONDS)))
    heat = IecMeter("P1", seed=6, full=True)
    yield Source("P1 full", "iec62056-21", tuple(map(heat.telegram, SECONDS)))
    for row in json.loads((CAPTURES / "captures.json").read_text()):
        protocol = {"s": "sml", "d": "dlms"}.get(row["file"][0], "iec62056-21")
        data = bytes.fromhex((CAPTURES / row["file"]).read_text())
        keys = [bytes.fromhex(row[name]) if name in row else None for name in ("key", "auth_key")]
        yield Source(row["file"], protocol, (data, data), *keys)


def mended(data: bytes) -> bytes:
    """`data` with the check at its end, where it has one we know, made right."""
    if len(data) < 16:
        return data
    if data[-8:-4] == b"\x1b\x1b\x1b\x1b":
        crc = crc16(data[:-2], X25_INIT, _X25) ^ 0xFFFF
        return data[:-2] + crc.to_bytes(2, "little")
    if data[-2:-1] == b"\x03" and b"\x02" in data:
        check = 0
        for byte in data[data.index(b"\x02") + 1 : -1]:
            check ^= byte
        return data[:-1] + bytes((check,))
    begins, bang = data.find(b"/"), data.rfind(b"!")
    if 0 <= begins < bang and data[bang + 5 :] == b"\r\n":
        return data[: bang + 1] + b"%04X\r\n" % crc16(data[begins : bang + 1], 0, _ARC)
    if data[0] == data[-1] == 0x7E and len(data) - 2 == (data[1] & 7) << 8 | data[2]:
        crc = crc16(data[1:-3], X25_INIT, _X25) ^ 0xFFFF
        return data[:-3] + crc.to_bytes(2, "little") + data[-1:]
    return data


def records(source: Source, inputs: int, seed: int) -> Iterator[bytes]:
    """`inputs` damaged telegrams of this source, with whole ones between."""
    draw = random.Random(f"{source.name} {seed}")
    for k in range(inputs):
        telegram = source.telegrams[k % len(source.telegrams)]
        if k % SHARE == 0:
            yield telegram
        kind = KINDS[draw.randrange(len(KINDS))]
        damaged = kind(draw, telegram, source.telegrams[(k - 1) % len(source.telegrams)])
        if draw.randrange(2):
            damaged = mended(damaged)
        yield damaged * 2 if source.protocol == "dlms" and "raw" in source.name else damaged


def compare(source: Source, core: Path, inputs: int, seed: int) -> tuple[int, int, list[str]]:
    """(telegrams, rejected, lines that tell the first difference, none where there is none)."""
    with tempfile.TemporaryDirectory() as named:
        path = Path(named) / "records"
        with path.open("wb") as file:
            for record in records(source, inputs, seed):
                file.write(len(record).to_bytes(2, "big") + record)
        keys = [key.hex() if key else "-" for key in (source.key, source.auth_key)]
        words = (source.protocol, *keys, A_LISTENER, A_LINE, path)
        return differences(core, words)


def differences(core: Path, words: tuple) -> tuple[int, int, list[str]]:
    def both(*more: object) -> list[list[str]]:
        outs = (
            core_on_micropython.printed(core, "events_of.py", *words, *more, heap=HEAP),
            core_on_micropython.printed_by_cpython("events_of.py", *words, *more),
        )
        return [out.splitlines() for out in outs]

    board, computer = both()
    said = list(map(int, computer[-1].split()))
    if board == computer:
        return said[1], said[2], []
    line = next(k for k, (one, other) in enumerate(zip(board, computer, strict=False)) if one != other)
    told = []
    for record in range(line * A_LINE, (line + 1) * A_LINE):
        one, other = both(record)
        if one[: -len(board)] != other[: -len(computer)]:
            told = [f"record {record}"]
            told += [f"  board    {text}" for text in one if text not in other]
            told += [f"  computer {text}" for text in other if text not in one]
            break
    return said[1], said[2], told or [f"lines {board[line]} and {computer[line]}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged telegrams on MicroPython and CPython: the same events?")
    parser.add_argument("--inputs", type=int, default=100_000, help="of all sources together (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a word of the source's name")
    given = parser.parse_args()
    chosen = [source for source in sources() if given.only in source.name]
    each = -(-given.inputs // len(chosen))
    differing = 0
    with tempfile.TemporaryDirectory() as named:
        core = core_on_micropython.install(Path(named))
        for source in chosen:
            telegrams = rejected = 0
            told: list[str] = []
            for begun in range(0, each, A_RUN):
                found = compare(source, core, min(A_RUN, each - begun), given.seed + begun)
                telegrams += found[0]
                rejected += found[1]
                told += found[2]
            counted = f"{source.name:32} {each:7,} damaged, {telegrams:7,} telegrams, {rejected:7,} rejected"
            print(f"{counted}: {'ANOTHER' if told else 'the same'}", *told[:12], sep="\n", flush=True)
            differing += bool(told)
    print(f"{each * len(chosen):,} damaged telegrams of {len(chosen)} sources; {differing} sources differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
