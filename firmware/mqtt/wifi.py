"""The Wi-Fi: joined, and joined anew where that is in name only."""

import network
from micropython import const

_JOIN_S = const(20)


class NoWifi(Exception):
    """The access point did not let us in within the time; args[0]: we were in, and it is lost."""


class Wifi:
    """The router knows us by `hostname`. `rest(ms)` is called while an answer is waited for, which takes up to 20 s."""

    hurries = False  # another one's thread wants the chip's Wi-Fi: firmware.mqtt.wifi_trial

    def __init__(self, ssid, password, hostname, rest):
        self._ssid = ssid
        self._password = password
        self.hostname = hostname
        self._rest = rest
        self._wlan = None

    def join(self, anew):
        """Be in the Wi-Fi; `anew`: whatever the driver says. Raises NoWifi, also for the driver's own errors, which are
        an OSError, or a RuntimeError where MicroPython has no words for one.
        """
        try:
            wlan = self._wlan
            if wlan is None:
                network.hostname(self.hostname)
                self._wlan = wlan = network.WLAN(network.STA_IF)
            if anew:
                wlan.active(False)  # joined in name only, perhaps
            wlan.active(True)
            if wlan.isconnected():
                return
            wlan.disconnect()  # the driver may be trying by itself; connect() fails then
            wlan.connect(self._ssid, self._password)
            for _ in range(_JOIN_S):
                self._rest(1000)
                if wlan.isconnected():
                    return
        except (OSError, RuntimeError):
            pass
        raise NoWifi

    def is_joined(self):
        return self._wlan is not None and self._wlan.isconnected()

    def rssi_dbm(self):
        """The signal, None while there is none."""
        try:
            return self._wlan.status("rssi") if self._wlan else None
        except (OSError, RuntimeError):
            return None
