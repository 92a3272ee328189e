"""M-Bus and KMP answers decoded beside pyMeterBus and PyKMP, in one run: `python tests_host/bench_mbus.py [FOLDER]`.

FOLDER holds one M-Bus answer a file, as hex digits behind a "<"; without it those recorded beside the clone are taken,
or, where there are none, our simulated meters'. Decoded is what both accept; the best of the rounds counts. Memory is
the peak that tracemalloc sees in one answer, a decoder of ours made before, and the heads of records learned.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meterbus
from pykmp import client, codec, constants, messages

from metering import protocols
from metering.listener import TELEGRAM, Listener
from optoprobe.virtual import mbus_encoder
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.mbus_meter import MbusMeter

ROUNDS = 7
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "mbus" / "frames"
_mbus: Listener = protocols.load("mbus")()
_kmp: Listener = protocols.load("kmp")()
_codec = client.ClientCodec()
Decoder = Callable[[bytes], int]


def told(listener: Listener, frame: bytes) -> int:
    """How many values are told."""
    listener.feed(frame, 0, len(frame))
    listener.on_idle()
    n = 0
    while event := listener.next_event():
        if event == TELEGRAM:
            n += len([(reading.obis, reading.value, reading.exponent) for reading in listener.readings()])
    return n


def by_pymeterbus(frame: bytes) -> int:
    """The same by pyMeterBus, 0 where it refuses the answer."""
    try:
        return len([(record.parsed_value, record.unit) for record in meterbus.load(frame).records])
    except Exception:  # it raises many kinds
        return 0


def by_pykmp(frame: bytes) -> int:
    whole: Any = client.EncodedClientResponse(physical_bytes=frame, request_cls=messages.GetRegisterRequest)
    rows = _codec.decode(frame=whole).registers.values()
    return len([(row.id_, codec.FloatCodec.decode(row.value), constants.UNITS_NAMES[row.unit]) for row in rows])


def recorded(folder: Path) -> list[bytes]:
    texts = [path.read_text().splitlines() for path in sorted(folder.glob("*.txt"))]
    return [bytes.fromhex("".join(line[1:] for line in lines if line.startswith("<"))) for lines in texts]


def simulated() -> list[bytes]:
    parts = [part for kind in ("heat", "water", "gas") for part, _ in MbusMeter(kind).parts(0)]
    return [mbus_encoder.frame(mbus_encoder.header(21436587, "OPT", medium=4) + part) for part in parts]


def multicals() -> list[bytes]:
    """What a simulated meter of each kind answers to our question."""
    found = []
    for kind in ("heat", "cooling", "water"):
        meter = KmpMeter(kind)
        for byte in _codec.encode(
            messages.GetRegisterRequest(registers=[messages.RegisterID(n) for n in (60, 63, 68, 74, 80, 86, 87)])
        ).physical_bytes:
            meter.receive(byte, 0.0)
        sent = meter.poll(1e9, 0.0)
        assert sent
        found.append(sent.data)
    return found


def seconds(decode: Decoder, frames: list[bytes]) -> float:
    began_s = time.process_time()
    for frame in frames:
        decode(frame)
    return (time.process_time() - began_s) / len(frames)


def peak(decode: Decoder, frame: bytes) -> int:
    tracemalloc.start()
    decode(frame)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def compare(what: str, frames: list[bytes], ours: Decoder, peer: Decoder, name: str, times: int) -> None:
    both = [frame for frame in frames if ours(frame) and peer(frame)]
    best = {decode: min(seconds(decode, both * times) for _ in range(ROUNDS)) for decode in (ours, peer)}
    most = {decode: max(peak(decode, frame) for frame in both) for decode in (ours, peer)}
    print(f"{what}: {len(both)} of {len(frames)} answers")
    for who, decode in (("optoprobe", ours), (name, peer)):
        print(f"  {who:12} {best[decode] * 1e6:8.0f} us an answer {most[decode]:8} bytes at the most")
    print(f"  {best[peer] / best[ours]:.1f} times its answers a second, {most[ours] / most[peer]:.2f} of its memory")


def main(folder: Path) -> None:
    frames = recorded(folder) if folder.is_dir() else simulated()
    compare("M-Bus", frames, lambda frame: told(_mbus, frame), by_pymeterbus, "pyMeterBus", 2)
    compare("KMP", multicals(), lambda frame: told(_kmp, frame), by_pykmp, "PyKMP", 50)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS)
