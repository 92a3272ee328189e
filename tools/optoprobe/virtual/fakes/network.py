"""MicroPython's `network` on the virtual board: a Wi-Fi that is there unless a file `wifi_off` lies beside boot.py."""

import os

STA_IF, AP_IF = 0, 1


def hostname(name):
    pass


def WLAN(interface):
    if interface == AP_IF:
        from own_wifi import data

        return data
    return Station()


class Station:
    def __init__(self):
        self._joined = False

    def active(self, on):
        pass

    def connect(self, ssid, password):
        self._joined = True

    def disconnect(self):
        self._joined = False

    def isconnected(self):
        return self._joined and "wifi_off" not in os.listdir()

    def status(self, what):
        if not self._joined:
            raise OSError("Wifi Not Connected")
        return -61
