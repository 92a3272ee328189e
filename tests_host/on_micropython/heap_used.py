"""What the core takes of the heap, step by step, in bytes that stay after a collection.

    heap_used.py FILE     FILE: one telegram; prints NAME BYTES a line, NAME as in test_core_on_micropython.py
"""

import gc
import sys


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def main(path):
    report = [("", 0)] * 6  # made before the first measurement
    before = used()
    from metering import listener, sml

    after = used()
    report[0] = ("sml", after - before)  # with checksum, compat, identifier, line, listener, reading
    before = after
    from metering import guard, protocols, registers

    after = used()
    report[1] = ("rest_of_core", after - before)
    before = after
    ear = sml.Sml()
    after = used()
    report[2] = ("listener", after - before)
    before = after
    with open(path, "rb") as stream:
        data = stream.read()
    stream = None
    n = len(data)
    taken = used()
    at = 0
    while at < n:
        at += ear.feed(data, at, n)
    if protocols.names()[0] != ear.NAME or ear.next_event() != listener.TELEGRAM:
        raise ValueError("no telegram")
    in_hand = list(ear.readings())
    held = used()
    report[3] = ("telegram_in_hand", held - taken)
    followed = guard.Guard(30000)
    described = [registers.describe(reading) for reading in in_hand]
    for reading, register in zip(in_hand, described):
        if not followed.admits(reading, register, 0):
            raise ValueError(reading.text())
    report[4] = ("guard_and_registers", used() - held)
    report[5] = ("readings", len(in_hand))
    for name, n_bytes in report:
        print(name, n_bytes)


main(sys.argv[1])
