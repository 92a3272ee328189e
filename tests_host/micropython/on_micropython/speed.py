"""What the core takes over telegrams, on either Python: prints the microseconds of one pass over them, a round a line.

    speed.py NAME SIZE HISTORY ROUNDS FILE...

NAME is the protocol's, SIZE the bytes of the listener's buffer (0: its own), HISTORY 1 where past billing periods are
wanted too. A file holds one telegram; FILE.keys, where it is, its keys in hex ("-": none). Each file has a listener of
its own that has had the telegram twice before. A pass ends with the text of each value. What is measured is processor
time, as other processes may run beside. It runs by earlier versions of the core too, so it imports nothing that these
have not.
"""

import gc
import sys
import time
from binascii import unhexlify

from metering import protocols
from metering.listener import NOTHING, TELEGRAM


def values_of(listener, telegram):
    n = at = 0
    while at < len(telegram):
        at += listener.feed(telegram, at, len(telegram))
        event = listener.next_event()
        while event != NOTHING:
            if event == TELEGRAM:
                for reading in listener.readings():
                    if reading.address is None:  # where the meter prints, the text is there already
                        reading.text()
                    n += 1
            event = listener.next_event()
    return n


def keys_of(path):
    try:
        with open(path + ".keys") as file:
            return [None if word == "-" else unhexlify(word) for word in file.read().split()]
    except OSError:
        return None


def made(kind, size, history, path):
    listener = kind(size) if size else kind()
    listener.history = history
    keys = keys_of(path)
    if keys:
        listener.set_keys(*keys)
    with open(path, "rb") as file:
        return listener, file.read()


def main():
    name, size, history, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])
    seconds = getattr(time, "process_time", None) or time.clock  # the unix port has the latter
    pairs = [made(protocols.load(name), size, history, path) for path in sys.argv[5:]]
    for listener, telegram in pairs * 2:
        values_of(listener, telegram)
    print(sum(values_of(listener, telegram) > 0 for listener, telegram in pairs))
    for _ in range(rounds):
        gc.collect()
        begun = seconds()
        for listener, telegram in pairs:
            values_of(listener, telegram)
        print(int((seconds() - begun) * 1000000))


main()
