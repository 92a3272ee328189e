"""MicroPython's `network` on a virtual board where only the networks of the file air.json, beside boot.py, are there:
rows of name, dBm and password. `wifi_log` gets a line for each thing it was told to do, no password.

As on a chip (ports/esp32/network_wlan.c): nothing is joined at once; a driver that tries to join finds no networks, and
refuses to begin anew; one that was joined stays so for a moment; status() tells why a try has failed while the next is
on its way, and goes on telling so until something is joined or a try is broken off; one that is given a number of tries
gives up behind them.
"""

import json
import time

STA_IF, AP_IF = 0, 1
_JOIN_MS = 1100  # longer than a look
_LEAVE_MS = 200
_FAIL_MS = 300
_GIVE_UP_MS = 500
_IDLE, _CONNECTING, _GOT_IP = 1000, 1001, 1010
_NO_AP_FOUND, _AUTH_FAIL = 201, 202

_rows = json.load(open("air.json"))
# is active, tries to join, what it will join, since, left at, tries, why the last has failed, why this one will
_state = [False, False, None, None, None, -1, 0, 0]


def _note(*words):
    with open("wifi_log", "a") as file:
        print(*words, file=file)


def hostname(name):
    if len(name) > 32:
        raise ValueError
    _note("hostname", name)


def WLAN(interface):
    if interface == AP_IF:
        from own_wifi import data

        return data
    return Station()


def _tried_ms():
    return time.ticks_diff(time.ticks_ms(), _state[3])


def _is_over():
    """Has the driver given up?"""
    return _state[2] is None and _state[5] >= 0 and _tried_ms() > _GIVE_UP_MS


class Station:
    def active(self, on):
        if not on and _state[0]:
            self.disconnect()
        _state[0] = on

    def connect(self, ssid, password):
        if not _state[0]:
            raise OSError("Wifi Not Started")
        if _state[1] and not _is_over():
            raise OSError("Wifi Internal Error")
        _state[1], _state[2], _state[3], _state[7] = True, None, time.ticks_ms(), _NO_AP_FOUND
        for name, _, needed in _rows:
            if name == ssid:
                _state[7] = _AUTH_FAIL
                if needed == password:
                    _state[2] = name
        _note("connect", ssid)

    def disconnect(self):
        if not _state[0]:
            raise OSError("Wifi Not Started")
        self.status()
        if self.isconnected():
            _state[4] = time.ticks_ms()
        if _state[1] and not _is_over():
            _state[6] = 0
        _state[1], _state[2] = False, None
        _note("disconnect")

    def isconnected(self):
        if _state[4] is not None and time.ticks_diff(time.ticks_ms(), _state[4]) < _LEAVE_MS:
            return True
        _state[4] = None
        return _state[2] is not None and _tried_ms() >= _JOIN_MS

    def scan(self):
        if not _state[0]:
            raise OSError("STA must be active")
        if _state[1] and not self.isconnected() and not _is_over():
            return []
        _note("scan")
        time.sleep_ms(300)
        return [(name.encode(), bytes(6), 1, dbm, 3 if needed else 0, False) for name, dbm, needed in _rows]

    def config(self, reconnects):
        _state[5] = reconnects

    def status(self, what=None):
        if what:
            if not self.isconnected():
                raise OSError("Wifi Not Connected")
            return -61
        if self.isconnected():
            _state[6] = 0
            return _GOT_IP
        if _state[1] and _state[2] is None and _tried_ms() > _FAIL_MS:
            _state[6] = _state[7]
        return _state[6] or (_CONNECTING if _state[1] else _IDLE)
