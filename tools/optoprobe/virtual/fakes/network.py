"""MicroPython's `network` on the virtual board: a Wi-Fi that is there unless a file `wifi_off` lies beside boot.py."""

import os

STA_IF = 0
AP_IF = 1


def hostname(name=None):
    return name


def _off():
    try:
        os.stat("wifi_off")
    except OSError:
        return False
    return True


class WLAN:
    def __init__(self, interface=STA_IF):
        self._joined = False

    def active(self, on=None):
        return True

    def connect(self, ssid=None, password=None):
        self._joined = True

    def disconnect(self):
        self._joined = False

    def isconnected(self):
        return self._joined and not _off()

    def status(self, what=None):
        return -61 if what == "rssi" else 1010
