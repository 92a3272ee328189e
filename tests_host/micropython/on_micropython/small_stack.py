"""Decode a file in a thread whose stack is as small as an ESP32's: `_thread.stack_size(24 KiB)` leaves some 16 KiB.

    small_stack.py FILE PROTOCOL  prints "telegrams N rejected N"; a recursion that is too deep would be a RuntimeError
    small_stack.py recurse        shows that this stack is small: prints every depth of a recursion until it ends, by
                                  a RuntimeError or, as in half of the runs the unix port does not see it, by a crash
"""

import _thread
import sys
import time

from metering import protocols
from metering.listener import NOTHING, TELEGRAM

_STACK_BYTES = 24 * 1024
_PATIENCE_MS = 20000


def decode(data):
    listener = protocols.load(sys.argv[2])()
    telegrams = rejected = at = 0
    while at < len(data):
        at += listener.feed(data, at, len(data))
        while True:
            event = listener.next_event()
            if event == NOTHING:
                break
            if event == TELEGRAM:
                telegrams += 1
                for reading in listener.readings():
                    reading.text()
            else:
                rejected += 1
    return "telegrams %d rejected %d" % (telegrams, rejected)


def recurse(n):
    print(n)
    recurse(n + 1)


def run(task, argument, results):
    try:
        results.append(task(argument))
    except Exception as error:
        results.append(repr(error))


def main(argument):
    if argument == "recurse":
        task = recurse
        value = 0
    else:
        task = decode
        with open(argument, "rb") as stream:
            value = stream.read()
    results = []
    _thread.stack_size(_STACK_BYTES)
    _thread.start_new_thread(run, (task, value, results))
    for _ in range(_PATIENCE_MS // 10):
        if results:
            break
        time.sleep_ms(10)
    print(results[0] if results else "no result")


main(sys.argv[1])
