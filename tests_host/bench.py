"""Speed and memory of the SML decoder beside smllib and pysml, on this machine, in one run. `make bench` starts it.

    bench.py [--rounds N] [--seconds S]

Each decoder is given one whole telegram at a time and has to find the frame, check its CRC and give every value; ours
makes the exact text of each as well. Timed are the telegrams that all read rightly (smllib's short cut, which leaves
values out, need only not refuse them), in rounds that take turns, so that a slow spell of the machine hits all; figures
are medians of the rounds. Memory is the peak that tracemalloc
sees while one telegram is decoded, with everything the decoder makes for it: for ours that is a new listener with its
whole buffer, though on a device one listener is made at start and kept. Imported modules are not in it, for none.
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
from importlib.metadata import version
from pathlib import Path

from metering.listener import NOTHING, TELEGRAM
from metering.sml import BUFFER_SIZE, Sml
from optoprobe import runtime
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

CORPUS = runtime.REPO.parent / "shared" / "corpus" / "sml"
SPEED_WANTED, MEMORY_WANTED = 3, 1 / 5  # against smllib's full parse

Decode = Callable[[bytes], int]  # one telegram in, the number of values in it out


# --- the decoders ----------------------------------------------------------------------------------------------------


def values_of(listener: Sml, telegram: bytes) -> int:
    n = at = 0
    while at < len(telegram):
        at += listener.feed(telegram, at, len(telegram))
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                for reading in listener.readings():
                    reading.text()
                    n += 1
    return n


def ours_reused() -> Decode:
    listener = Sml()
    return lambda telegram: values_of(listener, telegram)


def ours_made_anew() -> Decode:
    return lambda telegram: values_of(Sml(), telegram)


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


OURS, OURS_ANEW, FULL, SHORT_CUT = "optoprobe", "optoprobe, a listener made for each", "smllib", "smllib get_obis"
DECODERS = {
    OURS: (ours_reused, None),
    OURS_ANEW: (ours_made_anew, None),
    FULL: (smllib_full, "smllib"),
    SHORT_CUT: (smllib_get_obis, "smllib"),
    "pysml": (pysml_full, "pysml"),
}


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


def main() -> None:
    arguments = argparse.ArgumentParser(description="Times the SML decoder beside others on the same telegrams.")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=0.3, help="for each decoder in each round")
    chosen = arguments.parse_args()
    logging.disable(logging.CRITICAL)  # pysml logs what it refuses

    decoders: dict[str, Decode] = {}
    for name, (make, _) in DECODERS.items():
        try:
            decoders[name] = make()
        except ImportError as error:
            print(f"{name} is left out ({error}): run make bench, which installs it")
    given = from_corpus() if CORPUS.is_dir() else simulated()
    read = {name: [values_read(decode, telegram) for telegram, _ in given] for name, decode in decoders.items()}
    right = {name: {k for k, (_, n) in enumerate(given) if read[name][k] == n} for name in decoders}
    usable = [
        {k for k in range(len(given)) if read[name][k] is not None} if name == SHORT_CUT else right[name]
        for name in decoders
    ]
    telegrams = [given[k][0] for k in sorted(set.intersection(*usable))]
    if not telegrams:
        raise SystemExit("There is no telegram that every decoder reads rightly, so nothing can be compared.")

    times = timed(decoders, telegrams, chosen.rounds, chosen.seconds)
    median = {name: statistics.median(rounds) for name, rounds in times.items()}
    peak = {name: peaks(decode, telegrams) for name, decode in decoders.items()}
    base = FULL if FULL in decoders else OURS

    source = "real captures" if CORPUS.is_dir() else "simulated meters"
    print(f"Machine: {cpu()}, {os.cpu_count()} CPUs; {platform.platform()}; Python {platform.python_version()}")
    print(
        f"Telegrams: {len(telegrams)} of {len(given)} from {source}, those that all read; "
        f"{sum(map(len, telegrams)) / len(telegrams):.0f} bytes on average. Medians of {chosen.rounds} rounds.\n"
    )
    rows = []
    for name in decoders:
        package = DECODERS[name][1]
        memory = statistics.median(peak[name])
        rows.append(
            [
                f"{name} ({version(package)})" if package else name,
                f"{len(right[name])}/{len(given)}",
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
            ["decoder", "reads rightly", "us a telegram", "telegrams/s", f"speed / {base}", "spread"]
            + ["peak KiB, median", "peak KiB, most", f"memory / {base}"],
            rows,
        )
    )
    print(f"\nMemory of ours with a listener made for each telegram includes its buffer of {BUFFER_SIZE} bytes.")
    if base == FULL:
        print(verdict(median, peak))


def verdict(median: dict[str, float], peak: dict[str, list[int]]) -> str:
    """Whether the two aims hold by the figures just measured; memory by the listener made anew, the harder case."""
    speed = median[FULL] / median[OURS]
    memory = max(
        statistics.median(peak[OURS_ANEW]) / statistics.median(peak[FULL]), max(peak[OURS_ANEW]) / max(peak[FULL])
    )
    return (
        f"{SPEED_WANTED}x smllib's telegrams a second: {'holds' if speed >= SPEED_WANTED else 'does NOT hold'} "
        f"({speed:.2f}x). A fifth of its peak memory, our buffer included: "
        f"{'holds' if memory <= MEMORY_WANTED else 'does NOT hold'} ({memory:.3f} of it)."
    )


if __name__ == "__main__":
    main()
