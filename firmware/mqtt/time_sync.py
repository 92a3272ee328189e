"""The time of day, for the few meters whose own is compared or whose pulses are dated."""

import time

import ntptime
from micropython import const

_EVERY_S = const(86400)
_RETRY_S = const(60)  # doubled with each failure: without an internet each costs the publishing some 10 s
_MOST_RETRY_S = const(14400)
_FIRST_YEAR = const(2024)  # a clock before it or behind the last is no answer: a server without the time sends zeros
_LAST_YEAR = const(2035)


class TimeSync:
    """`known`: has the chip's clock been set by a time server?"""

    def __init__(self):
        self._due_s = 0
        self._retry_s = _RETRY_S
        self.known = False

    def poll(self, host, uptime_s):
        """Ask `host` ("" is none), where it is time. May wait as long as a name server takes, and a second more."""
        if not host or uptime_s < self._due_s:
            return
        self._due_s = uptime_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _MOST_RETRY_S)
        if self.ask(host):
            self._due_s = uptime_s + _EVERY_S
            self._retry_s = _RETRY_S

    def ask(self, host):
        """Set the clock by `host` now; returns whether that has worked. Takes as long as poll()."""
        ntptime.host = host
        try:
            ntptime.settime()
            self.known = _FIRST_YEAR <= time.gmtime(int(time.time()))[0] <= _LAST_YEAR
        except Exception:  # anybody may answer: OSError, and ValueError or IndexError of too few bytes, OverflowError
            return False
        return self.known
