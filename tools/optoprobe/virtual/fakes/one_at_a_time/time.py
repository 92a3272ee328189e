"""MicroPython's `time`, where a wait lets the other thread run."""

from threads import wait_begins, wait_ended
from utime import *
from utime import sleep_ms as _sleep_ms


def sleep_ms(ms):
    wait_begins()
    try:
        _sleep_ms(ms)
    finally:
        wait_ended()


def sleep(seconds):
    sleep_ms(int(seconds * 1000))
