"""MicroPython's `network` on a virtual board where only the networks of the file air.json, beside boot.py, are there:
rows of name, dBm and password. As on a chip nothing is joined at once, a driver that tries to join refuses to scan, one
that was joined stays so for a moment, and one that is given a number of tries gives up and says why. `wifi_log` gets a
line for each thing it was told to do, no password.
"""

import json
import time

STA_IF, AP_IF = 0, 1
_JOIN_MS = 300
_LEAVE_MS = 200
_GIVE_UP_MS = 500

_rows = json.load(open("air.json"))
_state = [False, False, None, None, None, -1]  # is active, tries to join, what it will join, since, left at, tries


def _note(*words):
    with open("wifi_log", "a") as file:
        print(*words, file=file)


def hostname(name):
    _note("hostname", name)


def WLAN(interface):
    if interface == AP_IF:
        from own_wifi import data

        return data
    return Station()


class Station:
    def active(self, on):
        if not on:
            self.disconnect()
        _state[0] = on

    def connect(self, ssid, password):
        if not _state[0] or _state[1]:
            raise OSError("Wifi Internal State Error")
        _state[1], _state[2], _state[3] = True, None, time.ticks_ms()
        for name, _, needed in _rows:
            if name == ssid and needed == password:
                _state[2] = name
        _note("connect", ssid)

    def disconnect(self):
        if self.isconnected():
            _state[4] = time.ticks_ms()
        _state[1], _state[2] = False, None
        _note("disconnect")

    def isconnected(self):
        if _state[4] is not None and time.ticks_diff(time.ticks_ms(), _state[4]) < _LEAVE_MS:
            return True
        _state[4] = None
        return _state[2] is not None and time.ticks_diff(time.ticks_ms(), _state[3]) >= _JOIN_MS

    def scan(self):
        if not _state[0] or _state[1] and not self.isconnected():
            raise OSError("Wifi Internal State Error")
        _note("scan")
        time.sleep_ms(300)
        return [(name.encode(), bytes(6), 1, dbm, 3 if needed else 0, False) for name, dbm, needed in _rows]

    def config(self, reconnects):
        _state[5] = reconnects

    def status(self, what=None):
        if what:
            return -61
        if self.isconnected():
            return 1010
        failed = _state[1] and _state[2] is None and _state[5] >= 0
        return 202 if failed and time.ticks_diff(time.ticks_ms(), _state[3]) > _GIVE_UP_MS else 1001
