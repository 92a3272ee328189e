"""Look at recorded flashes with the heap locked, and print what was counted. Runs on both runtimes.

    pulses_counted.py FILE PULSES_PER_KWH MAX_POWER_W [plant]

FILE: a record a look: milliseconds since the one before (2 bytes), light, n (2 bytes), n bytes.

With `plant` an object is made at each look: it must fail, or this check could not.
"""

import sys

from on_both import heap_lock, heap_unlock

from metering.pulses import Pulses


def main(path, pulses, plant):
    with open(path, "rb") as stream:
        data = stream.read()
    at = 0
    ticks = 0x3FFFFF00  # wraps soon
    while at < len(data):
        ticks = (ticks + (data[at] << 8 | data[at + 1])) & 0x3FFFFFFF
        n = data[at + 3] << 8 | data[at + 4]
        heap_lock()
        if plant:
            plant = [at]
        pulses.tick(ticks, bool(data[at + 2]))
        pulses.end_read(ticks)
        pulses.feed(data, at + 5, at + 5 + n)
        heap_unlock()
        at += 5 + n
    print(pulses.count, pulses.rate, pulses.width, pulses.power_w, pulses.steady)
    for reason in pulses.REASONS:
        print(reason, pulses.ghosts[reason])


main(sys.argv[1], Pulses(int(sys.argv[2]), int(sys.argv[3])), bool(sys.argv[4:]))
