"""The access point of the virtual board's `network`: loopback, at the address in the file ap_address, else
at 127.0.0.1. The file access_point gets what it was told (a test plays the phone); without one nothing is open.
"""

import json
import os


class AccessPoint:
    def __init__(self):
        self._given = {}
        self._on = False

    def config(self, what=None, **given):
        if what:
            return self._given.get(what, 0)
        self._given.update(given)
        self._tell()

    def active(self, on=None):
        if on is None:
            return self._on
        self._on = on
        self._tell()

    def _tell(self):
        if self._on:
            with open("access_point", "w") as file:
                json.dump(self._given, file)
        elif "access_point" in os.listdir():
            os.remove("access_point")

    def ifconfig(self):
        address = "127.0.0.1"
        if "ap_address" in os.listdir():
            with open("ap_address") as file:
                address = file.read().strip()
        return address, "255.255.255.0", address, address


data = AccessPoint()  # a name of the firmware's: others are mapped
