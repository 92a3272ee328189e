"""M-Bus answers decoded beside pyMeterBus, in one run: `python tests_host/bench_mbus.py FOLDER`.

FOLDER holds one answer a file, as hex digits behind a "<". pyMeterBus is no part of the set-up: `pip install
pyMeterBus==0.8.5` beside it. Each decodes every answer that both accept; the best of the rounds counts. Memory is the
peak that tracemalloc sees in one answer, a decoder of ours made before.
"""

import importlib
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from metering.listener import TELEGRAM
from metering.mbus.meter_reply import MeterReply

ROUNDS = 5
_listener = MeterReply()


def ours(frame: bytes) -> int:
    """How many values are told."""
    _listener.feed(frame, 0, len(frame))
    _listener.on_idle()
    n = 0
    while event := _listener.next_event():
        if event == TELEGRAM:
            n += len([(reading.obis, reading.value, reading.exponent) for reading in _listener.readings()])
    return n


def peer(frame: bytes) -> int:
    """The same by pyMeterBus, 0 where it refuses the answer."""
    try:
        answer = importlib.import_module("meterbus").load(frame)
        return len([(record.parsed_value, record.unit) for record in answer.records])
    except Exception:  # it raises many kinds
        return 0


def answer_of(path: Path) -> bytes:
    return bytes.fromhex("".join(line[1:] for line in path.read_text().splitlines() if line.startswith("<")))


def seconds(decode: Callable[[bytes], int], frames: list[bytes]) -> float:
    began_s = time.process_time()
    for frame in frames:
        decode(frame)
    return (time.process_time() - began_s) / len(frames)


def peak(decode: Callable[[bytes], int], frame: bytes) -> int:
    tracemalloc.start()
    decode(frame)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main(folder: str) -> None:
    importlib.import_module("meterbus")
    frames = [answer_of(path) for path in sorted(Path(folder).glob("*.txt"))]
    both = [frame for frame in frames if ours(frame) and peer(frame)]
    best = {name: min(seconds(decode, both) for _ in range(ROUNDS)) for name, decode in DECODERS.items()}
    most = {name: max(peak(decode, frame) for frame in both) for name, decode in DECODERS.items()}
    for name in DECODERS:
        print(f"{name:12} {best[name] * 1e6:8.0f} us an answer {most[name]:8} bytes at the most")
    print(f"{len(both)} of {len(frames)} answers; {best['pyMeterBus'] / best['ours']:.1f} times its answers a second")


DECODERS: dict[str, Callable[[bytes], int]] = {"ours": ours, "pyMeterBus": peer}

if __name__ == "__main__":
    main(sys.argv[1])
