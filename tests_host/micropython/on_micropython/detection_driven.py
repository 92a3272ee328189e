"""Drive a search with a recorded line, the heap locked while it looks, and print what it does. Runs on both runtimes.

    detection_driven.py FILE [plant]

FILE: a record a look: milliseconds since the one before (2 bytes), light (0, 1; 2: not known), n (2 bytes), n bytes.
The look that brings the proof makes what tells it: that one is not made with the heap locked, all others are.

With `plant` an object is made at each look: it must fail, or this check could not.
"""

import sys

from on_both import heap_lock, heap_unlock

from metering import protocols
from metering.detection.search_story import Detection
from metering.line import SWITCH, WATCH


def make(name, asked):
    listener = protocols.load(name)()
    conversation = protocols.load_conversation(name) if asked else None
    return listener, conversation(listener) if conversation else None


def drive(data, plant, proving, say):
    """The search, and how many looks it took. All are made with the heap locked but that of number `proving`."""
    detection = Detection(make, (None, None), None, say)
    actions = detection.run()
    buffer = bytearray(256)
    at = looks = 0
    ticks = 0x3FFFFF00  # wraps soon
    watching = False
    while at < len(data) and detection.proven is None:
        if not watching:
            try:
                action = next(actions)
            except StopIteration:
                break
            if action[0] == SWITCH:
                say(action[1])
                continue
            watching = action[0] == WATCH
        ticks = (ticks + (data[at] << 8 | data[at + 1])) & 0x3FFFFFFF
        light = None if data[at + 2] == 2 else bool(data[at + 2])
        n = data[at + 3] << 8 | data[at + 4]
        at += 5
        buffer[:n] = data[at : at + n]
        at += n
        looks += 1
        locked = proving not in (None, looks)
        if locked:
            heap_lock()
        if plant:
            plant = [at]
        over = detection.look(ticks, light, buffer, 0, n)
        if locked:
            heap_unlock()
        watching = not over
    try:
        next(actions)
    except StopIteration:
        pass
    return detection, looks


def main(path, plant):
    with open(path, "rb") as stream:
        data = stream.read()
    _, looks = drive(data, False, None, lambda said: None)
    detection, again = drive(data, plant, looks, print)
    proven = detection.proven
    print(looks == again, proven.protocol, proven.line, proven.telegram_ready, proven.flashes)


main(sys.argv[1], len(sys.argv) > 2)
