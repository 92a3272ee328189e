"""The set-up beside metering: the board's button asks for it, or the known Wi-Fi has been away for long.

Metering goes first. Where the memory does not carry both the set-up is not opened beside it: for the button the probe
restarts as the set-up alone (firmware.setup.setup_alone), for a Wi-Fi that is away it says so and meters on.
"""

import asyncio
import gc
import sys
import time

import network as chip_network
from micropython import const

from firmware.hardware.health import call
from firmware.mqtt.wifi import NoWifi
from metering.unload import unload

# What its code takes with a request and a trial, measured on a 32-bit runtime: 33,296; 36,592 where that is over TLS.
_SETUP_BYTES = const(36864)
_WIFI_BLOCK_BYTES = const(24576)  # for the access point, of the chip's own; no chip has shown how much that takes
_IDLE_S = const(600)  # without a client: opened by the button it is closed then
_CLIENT_S = const(60)  # a client is taken to be there for so long behind a request
_BETWEEN_TRIES_S = const(60)  # of the known Wi-Fi
_MOST_S = const(600)  # whoever is in the access point holds no try back for longer


class _SeldomWifi:
    """What the network's thread takes for its Wi-Fi meanwhile. It is looked for seldom, and not while somebody uses the
    page: the chip has one radio, and leaves the access point's channel as long as it looks.
    """

    hurries = False

    def __init__(self, services, set_up):
        self._network = services.network
        self._health = services.health
        self._set_up = set_up
        self.wifi = services.network.wifi
        self.hostname = self.wifi.hostname
        self._tried_s = services.health.uptime_s
        # Else a trial alone has left it, or it is being joined just now.
        self._is_away = services.network.failed_in_a_row > 0 and not self.wifi.is_joined()

    def join(self, anew):
        """As firmware.mqtt.wifi.Wifi.join()."""
        if self._is_away and not self.wifi.is_joined():
            self._wait()
        self._tried_s = self._health.uptime_s
        try:
            self.wifi.join(anew)
            self._is_away = False
        except NoWifi:
            self._is_away = True
            try:
                chip_network.WLAN(chip_network.STA_IF).disconnect()  # the driver would go on by itself
            except (OSError, RuntimeError):  # it has not even begun
                pass
            raise

    def _wait(self):
        while True:
            since_s = self._health.uptime_s - self._tried_s
            if since_s >= _MOST_S or since_s >= _BETWEEN_TRIES_S and self._set_up.is_idle(_CLIENT_S):
                return
            if self._network.wifi is not self:  # a trial wants the chip's Wi-Fi, or the set-up is closed
                raise NoWifi
            self._health.network_progressed()
            time.sleep_ms(1000)

    def is_joined(self):
        return self.wifi.is_joined()

    def rssi_dbm(self):
        return self.wifi.rssi_dbm()


def carry_out(why, services, tell):
    """Open it and start its task, unless it is open; `why` is button or away. tell(sentence) the owner where it cannot
    be. As firmware.owner.orders.carry_out(), but no restart is due.
    """
    if why == "away" and not services.network.settings["mqtt_host"]:
        why = "broker"
    if "firmware.setup.set_up" in sys.modules:  # it is open; of the driver, what a soft reset has left may be
        return
    short = call("firmware.hardware.memory_figures", _shortage)
    if not short:
        asyncio.create_task(_run(services, why, tell))
    elif why == "button":
        print("optoprobe: set-up: %s: restarting as the set-up alone" % short)
        call("firmware.hardware.restarts", lambda restarts: restarts.restart(restarts.FOR_SET_UP))
    else:
        tell("set-up: the known Wi-Fi is away, and beside this meter's protocol %s: press the button" % short)


def _shortage(figures):
    """What the memory lacks in words, "" for nothing."""
    room = figures.room()
    if room < _SETUP_BYTES:
        return "%d bytes of memory are free, and the probe's own Wi-Fi needs %d" % (room, _SETUP_BYTES)
    if figures.regions() and figures.largest_block() < _WIFI_BLOCK_BYTES:
        left = figures.largest_block()
        return "%d bytes are left for Wi-Fi, and the probe's own needs %d" % (left, _WIFI_BLOCK_BYTES)
    return ""


async def _run(services, why, tell):
    """Ends when it is closed: by the button's ten minutes without a client, or when the known Wi-Fi is back."""
    network = services.network
    opened = seldom = None
    try:
        from firmware.setup import set_up

        opened = is_open = set_up.SetUp(services, why, lambda: network.last_fault)
        print("optoprobe: set-up: " + opened.open(call("firmware.setup.setup_form", set_up.password_of)))
        seldom = network.wifi = _SeldomWifi(services, opened)
        opened.scan()

        def goes_on():
            if why == "button":
                return not is_open.is_idle(_IDLE_S)
            return not (network.wifi.is_joined() and is_open.is_idle(_CLIENT_S))

        await set_up.look_every_few_ms(opened, goes_on)
        print("optoprobe: set-up: closed")
    except (OSError, MemoryError) as error:
        gc.collect()
        tell("set-up: the probe's own Wi-Fi cannot be opened (%s); metering goes on" % error)
    finally:
        if seldom and network.wifi is seldom:
            network.wifi = seldom.wifi
        if opened:
            opened.close()
        unload("firmware.setup")
