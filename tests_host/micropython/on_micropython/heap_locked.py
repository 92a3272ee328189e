"""Feed a file with the heap locked: what feed() or next_event() must allocate, no event being due, raises MemoryError.

A copy that can do without memory (metering.compat.copy_bytes) then does.

    heap_locked.py PROTOCOL FILE CHUNK_BYTES DUE [plant]     prints "events N locked N": calls that ran under the lock

DUE: after how many bytes each event is due, in order, joined by commas (an event may allocate: it tells a text).
A listener that takes keys has those of the Green Book's examples.
With `plant` a listener is used that makes one object in feed(): it must fail, or this check could not.
"""

import sys

import micropython

from metering import protocols
from metering.listener import NOTHING


def wasteful(listener_class):
    class Wasteful(listener_class):
        def feed(self, data, start, end):
            planted = [start]
            return listener_class.feed(self, data, planted[0], end)

    return Wasteful


def main(path, chunk, due, listener):
    with open(path, "rb") as stream:
        data = stream.read()
    events = locked = fed = 0
    while fed < len(data):
        end = min(fed + chunk, len(data))
        micropython.heap_lock()
        fed += listener.feed(data, fed, end)
        micropython.heap_unlock()
        locked += 1
        while True:
            if events < len(due) and fed >= due[events]:
                event = listener.next_event()
                events += 1
                if event == NOTHING:
                    raise ValueError("no event after %d bytes" % fed)
                continue
            micropython.heap_lock()
            event = listener.next_event()
            micropython.heap_unlock()
            locked += 1
            if event == NOTHING:
                break
            raise ValueError("an event after %d bytes that was not due" % fed)
    print("events", events, "locked", locked)


chosen = protocols.load(sys.argv[1])
if sys.argv[5:]:
    chosen = wasteful(chosen)
ear = chosen()
if hasattr(ear, "set_keys"):
    ear.set_keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
main(sys.argv[2], int(sys.argv[3]), [int(n) for n in sys.argv[4].split(",")], ear)
