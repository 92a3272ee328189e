"""One thread at a time, as on a chip: MicroPython's Unix port as Debian builds it has no global interpreter lock.

An ESP32's has one. Without it a collection marks what one thread can reach while the other one moves on, what is in use
is freed, and the process ends by a segmentation fault (seen within a second of a busy page, in every second or third
start). So a thread holds the lock below while it runs, and lets go of it where it waits: in select and time, beside
this file. A chip's scheduler also changes threads in the middle of a computation; here only a wait does.
"""

import sys
from _thread import *
from _thread import start_new_thread as _start

_running = allocate_lock()
_next = allocate_lock()  # who waits for the other one holds it: nobody runs twice while somebody waits
wait_begins = _running.release
_running.acquire()


def wait_ended():
    _next.acquire()
    _running.acquire()
    _next.release()


def _run(function, arguments):
    wait_ended()
    function(*arguments)
    wait_begins()


def start_new_thread(function, arguments):
    return _start(_run, (function, arguments))


sys.modules["_thread"] = sys.modules[__name__]
