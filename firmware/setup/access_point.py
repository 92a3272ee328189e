"""The Wi-Fi that the probe itself opens for the set-up: WPA2 with a password of its own, and nothing without one."""

import os

import network
from micropython import const

_WPA2 = const(3)  # network.AUTH_WPA2_PSK
_MOST_STATIONS = const(4)  # a phone, and another: each takes memory of the chip's
_LETTERS = b"abcdefghjkmnpqrstuvwxyz23456789"  # 31: none that is taken for another
_FAIR = const(248)  # 8 times 31: the bytes above would make some letters likelier
_CHARACTERS = const(12)  # 59 bits


def make_password():
    """A new one, from the chip's source of random numbers, which is a good one while the radio is on (ESP-IDF, "Random
    Number Generation").
    """
    try:
        network.WLAN(network.STA_IF).active(True)
    except (OSError, RuntimeError):  # then there will be no access point either
        pass
    made = bytearray()
    while len(made) < _CHARACTERS:
        for byte in os.urandom(_CHARACTERS):
            if byte < _FAIR and len(made) < _CHARACTERS:
                made.append(_LETTERS[byte % len(_LETTERS)])
    return made.decode()


def open_access_point(name, password):
    """Open it; returns its address as text. Raises OSError where there is none with WPA2: then it is closed again."""
    wlan = network.WLAN(network.AP_IF)
    try:
        try:
            _set(wlan, name, password)
            wlan.active(True)
        except (OSError, RuntimeError):  # an image that takes it only of an interface that is on; nobody listens yet
            wlan.active(True)
            _set(wlan, name, password)
        if wlan.config("security") != _WPA2:
            raise OSError("it would be open")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        close_access_point()
        raise OSError(str(error))
    return wlan.ifconfig()[0]


def _set(wlan, name, password):
    wlan.config(ssid=name, key=password, security=_WPA2, max_clients=_MOST_STATIONS)


def close_access_point():
    try:
        network.WLAN(network.AP_IF).active(False)
    except (OSError, RuntimeError):  # the driver has no memory left: the restart that follows closes it
        pass
