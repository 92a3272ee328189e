"""MicroPython's `select`, where a wait lets the other thread run."""

from threads import wait_begins, wait_ended
from uselect import *
from uselect import poll as _poll


class poll:
    def __init__(self):
        self._poll = _poll()

    def register(self, *what):
        self._poll.register(*what)

    def modify(self, *what):
        self._poll.modify(*what)

    def unregister(self, what):
        self._poll.unregister(what)

    def poll(self, ms=-1):
        wait_begins()
        try:
            return self._poll.poll(ms)
        finally:
            wait_ended()

    def ipoll(self, ms=-1):
        wait_begins()
        try:
            return self._poll.ipoll(ms)
        finally:
            wait_ended()
