"""Speed and memory of our decoders beside others, on this machine, in one run. `make bench` starts it.

    bench.py [--rounds N] [--seconds S]

SML is measured beside smllib and pysml, IEC 62056-21 in two sets: P1 telegrams with a CRC beside dsmr-parser, read-outs
framed by STX, ETX and BCC beside iec62056-21.

Each decoder is given one whole telegram at a time and has to find the frame, check its CRC or BCC and give every value;
ours makes the exact text of each as well. Timed are the telegrams that all read rightly (those that leave values out or
count them otherwise, as smllib's short cut, dsmr-parser and iec62056-21 do, need only not refuse them), in rounds that
take turns, so that a slow spell of the machine hits all; figures are medians of the rounds.

Memory is the peak that tracemalloc sees while one
telegram is decoded, with everything the decoder makes for it. What is made once and kept is not in it, for none:
imported modules, dsmr-parser's parser with its compiled expressions, our listener with its buffer; but each table has
a row of ours with a listener made for each telegram too.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from metering import iec62056_21, sml
from metering.listener import NOTHING, TELEGRAM, Listener
from optoprobe import runtime
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

CORPUS = runtime.REPO.parent / "shared" / "corpus" / "sml"
IEC_CORPUS = CORPUS.with_name("iec62056_21")
IEC_BUFFER = 12 * 1024  # holds the longest read-out with its history, which the others read too

Decode = Callable[[bytes], int]  # one telegram in, the number of values in it out


# --- the decoders ----------------------------------------------------------------------------------------------------


def values_of(listener: Listener, telegram: bytes) -> int:
    n = at = 0
    while at < len(telegram):
        at += listener.feed(telegram, at, len(telegram))
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                for reading in listener.readings():
                    if reading.address is None:  # where the meter prints, the text is there already
                        reading.text()
                    n += 1
    return n


def ours_reused(make: Callable[[], Listener]) -> Decode:
    listener = make()
    return lambda telegram: values_of(listener, telegram)


def ours_made_anew(make: Callable[[], Listener]) -> Decode:
    return lambda telegram: values_of(make(), telegram)


def with_history(size: int) -> Callable[[], Listener]:
    def make() -> Listener:
        listener = iec62056_21.Iec62056_21(size)
        listener.history = True
        return listener

    return make


def _smllib_value(entry) -> int:
    if entry.value is None:
        return 0
    if isinstance(entry.value, int):
        entry.get_value()
    return 1


def smllib_full() -> Decode:
    from smllib import SmlStreamReader

    def decode(telegram: bytes) -> int:
        stream = SmlStreamReader()
        stream.add(telegram)
        bodies = [message.message_body for message in stream.get_frame().parse_frame()]
        return sum(_smllib_value(entry) for body in bodies for entry in getattr(body, "val_list", ()))

    return decode


def smllib_get_obis() -> Decode:
    """Its short cut: looks for list entries without parsing the messages, and leaves out those of makers' own codes."""
    from smllib import SmlStreamReader

    def decode(telegram: bytes) -> int:
        stream = SmlStreamReader()
        stream.add(telegram)
        return sum(_smllib_value(entry) for entry in stream.get_frame().get_obis())

    return decode


def pysml_full() -> Decode:
    """Checks each message's CRC too."""
    from sml import SmlBase

    def decode(telegram: bytes) -> int:
        n = 0
        for message in SmlBase.find_frame(telegram)[1] or ():
            body = message["messageBody"]
            if isinstance(body, dict):
                n += sum("value" in entry for entry in body.get("valList", ()))
        return n

    return decode


DSMR_KINDS = {  # by how the telegram begins; the others by the version they name
    b"/FLU": "BELGIUM_FLUVIUS",
    b"/Lux": "LUXEMBOURG_SMARTY",
    b"/EST": "SAGEMCOM_T210_D_R",
    b"/KAM": "SWEDEN",
    b"/LGF": "SWEDEN",
    b"/ELL": "SWEDEN",
    b"/NES": "SWEDEN",
    b"/SAG": "EON_HUNGARY",
}


def dsmr_parser() -> Decode:
    """Its parser for the kind of meter, made once for each kind. Checks the CRC; gives the registers the kind has."""
    from dsmr_parser import telegram_specifications
    from dsmr_parser.parsers import TelegramParser

    parsers: dict[str, TelegramParser] = {}

    def decode(telegram: bytes) -> int:
        kind = DSMR_KINDS.get(telegram[:4]) or ("V5" if b"0.2.8(5" in telegram else "V4")
        parser = parsers.get(kind)
        if parser is None:
            known = dict(getattr(telegram_specifications, kind))
            known.pop("general_global_cipher", None)
            parser = parsers[kind] = TelegramParser(known)
        return sum(len(o) if isinstance(o, list) else 1 for o in parser.parse(telegram.decode("latin-1")))

    return decode


def iec62056_21_client() -> Decode:
    """Its messages for what the meter answers. Checks the BCC."""
    from iec62056_21.messages import AnswerDataMessage, IdentificationMessage, ReadoutDataMessage

    def decode(telegram: bytes) -> int:
        at = telegram.index(b"\x02")
        IdentificationMessage.from_representation(telegram[:at].decode("latin-1"))
        block = telegram[at:].decode("latin-1")
        message = (ReadoutDataMessage if "!" in block else AnswerDataMessage).from_representation(block)
        return sum(len(line.data_sets) for line in message.data_block.data_lines)

    return decode


OURS, OURS_ANEW = "optoprobe", "optoprobe, a listener made for each"


@dataclass
class Contest:
    """One table: `decoders` are name -> (how it is made, its package), `base` the one of them we measure ourselves by.

    `partial` need only not refuse a telegram, and are counted so where only ours counts values as we do
    (`alike` False); `speed` and `memory` are the aims against `base`, memory by `by`.
    """

    what: str
    make: Callable[[], Listener]
    decoders: dict[str, tuple[Callable[[], Decode], str]]
    base: str
    partial: tuple[str, ...]
    given: list[tuple[bytes, int]]  # telegram, number of values
    source: str
    speed: float = 0.0
    memory: float = 0.0
    by: str = OURS
    buffer_bytes: int = 0
    alike: bool = False


def contests() -> list[Contest]:
    real = CORPUS.is_dir(), IEC_CORPUS.is_dir()
    sources = ["real captures" if found else "simulated meters" for found in real]
    p1, framed = iec_from_corpus() if real[1] else iec_simulated()
    return [
        Contest(
            "SML",
            sml.Sml,
            {
                "smllib": (smllib_full, "smllib"),
                "smllib get_obis": (smllib_get_obis, "smllib"),
                "pysml": (pysml_full, "pysml"),
            },
            "smllib",
            ("smllib get_obis",),
            from_corpus() if real[0] else simulated(),
            sources[0],
            3,
            1 / 5,
            OURS_ANEW,
            sml.BUFFER_SIZE,
            alike=True,
        ),
        Contest(
            "IEC 62056-21, P1 telegrams",
            with_history(iec62056_21.BUFFER_SIZE),  # every value, as the others
            {"dsmr-parser": (dsmr_parser, "dsmr-parser")},
            "dsmr-parser",
            ("dsmr-parser",),
            p1,
            sources[1],
            3,
            1 / 3,
            OURS,
            iec62056_21.BUFFER_SIZE,
        ),
        Contest(
            "IEC 62056-21, framed read-outs",
            with_history(IEC_BUFFER),
            {"iec62056-21": (iec62056_21_client, "iec62056-21")},
            "iec62056-21",
            ("iec62056-21",),
            framed,
            sources[1],
            buffer_bytes=IEC_BUFFER,
        ),
    ]


# --- the telegrams ---------------------------------------------------------------------------------------------------


def from_corpus() -> list[tuple[bytes, int]]:
    """(telegram, number of values) of every real capture."""
    found = []
    for path in sorted(CORPUS.glob("*.expected.json")):
        name = path.name.removesuffix(".expected.json")
        if name.startswith(("synthetic", "derived")):
            continue
        data = path.with_name(name + ".bin").read_bytes()
        for telegram in json.loads(path.read_text())["telegrams"]:
            if telegram["crc_ok"]:
                n = sum(reading["type"] != "null" for reading in telegram["readings"])
                found.append((data[telegram["offset"] :][: telegram["length"]], n))
    return found


def simulated() -> list[tuple[bytes, int]]:
    """The same from simulated meters, some with each quirk."""
    found = []
    for quirk in QUIRKS:
        meter = SmlMeter(1, quirks=[quirk])
        for second in range(4):
            telegram = meter.telegram(60 * second)
            found.append((telegram, len(meter.expected())))
    return found


def iec_from_corpus() -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    """(P1 telegrams with a CRC, framed read-outs) of every real capture, with the number of values of each."""
    found: dict[str, list[tuple[bytes, int]]] = {"crc16": [], "bcc": []}
    for path in sorted(IEC_CORPUS.glob("*.expected.json")):
        name = path.name.removesuffix(".expected.json")
        if "derived" in name:
            continue
        data = path.with_name(name + ".bin").read_bytes()
        for telegram in json.loads(path.read_text())["telegrams"]:
            if telegram["check_ok"]:
                n = sum(len(reading["values"]) for reading in telegram["readings"])
                sent = data[telegram["offset"] :][: telegram["length"]]
                kind = telegram["check"]["type"]
                found[kind].append((sent.rstrip() + b"\r\n" if kind == "crc16" else sent, n))
    return found["crc16"], found["bcc"]


def iec_simulated() -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    """The same from simulated meters."""
    p1, framed = [], []
    for seed in range(8):
        pushing = IecMeter("P1", seed=seed)
        telegram = pushing.telegram(60)
        p1.append((telegram, len(pushing.expected())))
        asked = IecMeter("C", seed=seed, full=bool(seed % 2), history=seed % 3)
        block, expected = asked.block(60)
        framed.append((asked.identification() + block, len(expected)))
    return p1, framed


def values_read(decode: Decode, telegram: bytes) -> int | None:
    """How many values come out; None where the decoder refuses the telegram."""
    try:
        return decode(telegram)
    except Exception:  # whatever it raises: it did not read it
        return None


# --- measuring -------------------------------------------------------------------------------------------------------


def seconds_for_all(decode: Decode, telegrams: list[bytes], repeats: int) -> float:
    begun = time.perf_counter()
    for _ in range(repeats):
        for telegram in telegrams:
            decode(telegram)
    return (time.perf_counter() - begun) / repeats


def timed(decoders: dict[str, Decode], telegrams: list[bytes], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds for all telegrams once, a figure a round."""
    repeats = {
        name: max(1, round(seconds / seconds_for_all(decode, telegrams, 1))) for name, decode in decoders.items()
    }
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decode in decoders.items():
            times[name].append(seconds_for_all(decode, telegrams, repeats[name]))
    return times


def peaks(decode: Decode, telegrams: list[bytes]) -> list[int]:
    """Peak bytes while each telegram is decoded."""
    found = []
    for telegram in telegrams:
        decode(telegram)  # what is made once and kept is not the telegram's
        tracemalloc.start()
        decode(telegram)
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return found


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compare(contest: Contest, rounds: int, seconds: float) -> None:
    decoders: dict[str, Decode] = {OURS: ours_reused(contest.make), OURS_ANEW: ours_made_anew(contest.make)}
    for name, (make, _) in contest.decoders.items():
        try:
            decoders[name] = make()
        except ImportError as error:
            print(f"{name} is left out ({error}): run make bench, which installs it")
    given = contest.given
    read = {name: [values_read(decode, telegram) for telegram, _ in given] for name, decode in decoders.items()}
    taken = {name: {k for k in range(len(given)) if read[name][k]} for name in contest.partial if name in decoders}
    right = {name: {k for k, (_, n) in enumerate(given) if read[name][k] == n} for name in decoders}
    usable = [taken.get(name, right[name]) for name in decoders]
    shown = right if contest.alike else right | taken
    telegrams = [given[k][0] for k in sorted(set.intersection(*usable))]
    if not telegrams:
        raise SystemExit("There is no telegram that every decoder reads rightly, so nothing can be compared.")

    times = timed(decoders, telegrams, rounds, seconds)
    median = {name: statistics.median(found) for name, found in times.items()}
    peak = {name: peaks(decode, telegrams) for name, decode in decoders.items()}
    base = contest.base if contest.base in decoders else OURS

    print(
        f"\n{contest.what}: {len(telegrams)} telegrams of {len(given)} from {contest.source}, those that all read; "
        f"{sum(map(len, telegrams)) / len(telegrams):.0f} bytes on average. Medians of {rounds} rounds.\n"
    )
    rows = []
    for name in decoders:
        package = contest.decoders[name][1] if name in contest.decoders else None
        memory = statistics.median(peak[name])
        rows.append(
            [
                f"{name} ({version(package)})" if package else name,
                f"{len(shown[name])}/{len(given)}",
                f"{median[name] / len(telegrams) * 1e6:.1f}",
                f"{len(telegrams) / median[name]:,.0f}",
                f"{median[base] / median[name]:.2f}",
                f"{(max(times[name]) - min(times[name])) / median[name] * 100:.0f} %",
                f"{memory / 1024:.2f}",
                f"{max(peak[name]) / 1024:.2f}",
                f"{memory / statistics.median(peak[base]):.3f}",
            ]
        )
    print(
        table(
            ["decoder", "reads rightly" if contest.alike else "reads", "us a telegram", "telegrams/s"]
            + [f"speed / {base}", "spread", "peak KiB, median", "peak KiB, most", f"memory / {base}"],
            rows,
        )
    )
    print(f"\nMemory of ours with a listener made for each includes its buffer of {contest.buffer_bytes} bytes.")
    if base != OURS and contest.speed:
        print(verdict(contest, median, peak))


def verdict(contest: Contest, median: dict[str, float], peak: dict[str, list[int]]) -> str:
    """Whether the two aims hold by the figures just measured."""
    speed = median[contest.base] / median[OURS]
    ours, theirs = peak[contest.by], peak[contest.base]
    memory = max(statistics.median(ours) / statistics.median(theirs), max(ours) / max(theirs))
    return (
        f"{contest.speed:g}x {contest.base}'s telegrams a second: "
        f"{'holds' if speed >= contest.speed else 'does NOT hold'} ({speed:.2f}x). "
        f"1/{1 / contest.memory:.0f} of its peak memory ({contest.by}): "
        f"{'holds' if memory <= contest.memory else 'does NOT hold'} ({memory:.3f} of it)."
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description="Times our decoders beside others on the same telegrams.")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=0.3, help="for each decoder in each round")
    chosen = arguments.parse_args()
    logging.disable(logging.CRITICAL)  # pysml and dsmr-parser log what they refuse
    print(f"Machine: {cpu()}, {os.cpu_count()} CPUs; {platform.platform()}; Python {platform.python_version()}")
    for contest in contests():
        compare(contest, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
