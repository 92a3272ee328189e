"""Look at a recorded line with the heap locked, and print each second's score. Runs on both runtimes.

    alignment_scored.py FILE BAUD PARITY [plant]

FILE: a record a look: milliseconds since the one before, light (0, 1; 2: not known), what came (0 bytes, 1 edges), how
many telegrams have held and how many not (2 bytes each), bytes sent and of them come back, n (2 bytes), n bytes.

With `plant` an object is made at each look: it must fail, or this check could not.
"""

import sys

from on_both import heap_lock, heap_unlock

from metering.signal_quality import AlignmentScore


def main(path, alignment, plant):
    with open(path, "rb") as stream:
        data = stream.read()
    at = 0
    ticks = 0x3FFFFF00  # wraps soon
    while at < len(data):
        ticks = (ticks + data[at]) & 0x3FFFFFFF
        n = data[at + 9] << 8 | data[at + 10]
        begin = at + 11
        light = None if data[at + 1] == 2 else bool(data[at + 1])
        heap_lock()
        if plant:
            plant = [at]
        if data[at + 7]:
            alignment.sent(data[at + 7], data[at + 8])
        if data[at + 2]:
            alignment.edges(data, begin, begin + n)
        else:
            alignment.feed(data, begin, begin + n)
        alignment.telegrams(data[at + 3] << 8 | data[at + 4], data[at + 5] << 8 | data[at + 6])
        over = alignment.look(ticks, light)
        heap_unlock()
        if over:
            print(alignment.score, alignment.best, alignment.words)
        at = begin + n


main(sys.argv[1], AlignmentScore(int(sys.argv[2]), sys.argv[3] == "1"), bool(sys.argv[4:]))
