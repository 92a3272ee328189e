"""What the core takes of the heap, step by step, in bytes that stay after a collection.

    heap_used.py MODULE BUFFER_BYTES FILE     MODULE: the listener's, whole; FILE: one telegram; BUFFER_BYTES 0: its own

A listener that takes keys has those of the Green Book's examples.

Prints NAME BYTES a line, NAME as in test_core_on_micropython.py. With BUFFER_BYTES it prints the high-water mark
instead, history and all: the most that is taken while the file is fed and its readings are walked one at a time.
"""

import gc
import sys


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def events(ear, path, piece):
    """Feed the file through `piece`, a buffer; yields each event."""
    with open(path, "rb") as stream:
        while True:
            n = stream.readinto(piece)
            if not n:
                return
            at = 0
            while at < n:
                at += ear.feed(piece, at, n)
                while True:
                    event = ear.next_event()
                    if not event:
                        break
                    yield event


def main(module, path):
    report = [("", 0)] * 6  # made before the first measurement
    before = used()
    __import__(module)
    protocol = sys.modules[module]
    from metering import listener

    after = used()
    report[0] = ("listens", after - before)  # with checksum, compat, line, listener, reading and what it needs besides
    before = after
    from metering import guard, protocols, registers

    after = used()
    report[1] = ("rest_of_core", after - before)
    before = after
    ear = protocol.LISTENER()
    if hasattr(ear, "set_keys"):
        ear.set_keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
    after = used()
    report[2] = ("listener", after - before)
    piece = bytearray(64)
    taken = used()
    if ear.NAME not in protocols.names() or next(events(ear, path, piece)) != listener.TELEGRAM:
        raise ValueError("no telegram")
    telegram_ready = list(ear.readings())
    held = used()
    report[3] = ("telegram_in_hand", held - taken)
    followed = guard.Guard(30000)
    described = [registers.describe(reading) for reading in telegram_ready]
    for reading, register in zip(telegram_ready, described):
        if not followed.admits(reading, register, 0) and reading.value:  # a first 0 waits for a minute
            raise ValueError(reading.text())
    report[4] = ("guard_and_registers", used() - held)
    report[5] = ("readings", len(telegram_ready))
    for name, n_bytes in report:
        print(name, n_bytes)


def high_water(module, size, path):
    before = used()
    __import__(module)
    protocol = sys.modules[module]
    from metering import listener

    ear = protocol.LISTENER(size)
    ear.history = True
    piece = bytearray(64)
    most = readings = 0
    for event in events(ear, path, piece):
        if event != listener.TELEGRAM:
            raise ValueError(ear.detail)
        for reading in ear.readings():
            reading.text()
            readings += 1
            gc.collect()
            most = max(most, gc.mem_alloc())
    print("high_water", most - before)
    print("readings", readings)


if int(sys.argv[2]):
    high_water(sys.argv[1], int(sys.argv[2]), sys.argv[3])
else:
    main(sys.argv[1], sys.argv[3])
