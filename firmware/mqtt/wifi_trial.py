"""The Wi-Fi's networks, or a trial to join one, in a thread of its own: both take seconds, and metering waits for none.

The Wi-Fi is the network thread's where there is one. For a trial, and for a scan while nothing is joined, the thread
is given a `_Parked` in place of its Wi-Fi: it ends its session, waits there, and goes on with its own afterwards.
"""

import _thread
import sys
import time

import network as chip_network
from micropython import const

from firmware.mqtt.wifi import NoWifi, Wifi

_STACK_BYTES = const(8192)
_COMPUTERS_STACK_BYTES = const(65536)
_STEP_MS = const(100)
_PARK_MS = const(25000)  # the network thread may be resolving a name
_LEAVE_MS = const(2000)
_STAT_IDLE = const(1000)  # of status(), below it are reasons of a failure
_LOOKS = const(3)  # a second each: the next try is then on its way
_BUSY_MS = const(1000)
_TRIES = const(3)  # a password is wrong at once, but an access point may be busy
_MOST_NETWORKS = const(24)
_DBM = const(3)  # in a row of scan(): name, BSSID, channel, dBm, security, hidden
_SECURITY = const(4)


class _Parked:
    """What the network thread takes for its Wi-Fi while another has the chip's: it hurries here, and waits."""

    hurries = True

    def __init__(self, health):
        self._health = health
        self.is_there = self.is_over = False

    def join(self, anew):
        self.is_there = True
        while not self.is_over:
            self._health.network_progressed()
            time.sleep_ms(_STEP_MS)
        raise NoWifi

    def is_joined(self):
        return False

    def rssi_dbm(self):
        return None


class WifiTrial:
    """`given`: (name, password) to be tried, None for a scan. Once `is_done`: was it joined, or which networks are
    there, (name as bytes, dBm, has it a password?), the strongest first.
    """

    def __init__(self, network, health, given):
        self._network = network
        self._health = health
        self._given = given
        self.is_done = self.is_joined = False
        self.networks = []
        self.when_joined = None  # called in the thread, while the Wi-Fi is the trial's

    def start(self, more_stack_bytes=0):
        try:
            stack_bytes = _STACK_BYTES + more_stack_bytes
            _thread.stack_size(stack_bytes if sys.platform == "esp32" else _COMPUTERS_STACK_BYTES)
            _thread.start_new_thread(self._run, ())
        except (OSError, RuntimeError, MemoryError):
            self.is_done = True

    def _run(self):
        try:
            self._with_wifi()
        except Exception:  # the driver's; what was not joined is told as such
            pass
        self.is_done = True

    def _with_wifi(self):
        network = self._network
        wifi = network.wifi
        wlan = chip_network.WLAN(chip_network.STA_IF)
        if self._given is None and wifi.is_joined():
            self._scan(wlan)
            return
        left_ms = _PARK_MS
        while network.wifi.hurries:  # another's trial goes on
            left_ms -= _STEP_MS
            if left_ms < 0:
                return
            time.sleep_ms(_STEP_MS)
        wifi = network.wifi
        parked = network.wifi = _Parked(self._health)
        try:
            left_ms = _PARK_MS
            if not (network.settings["wifi_ssid"] and network.settings["mqtt_host"]):  # no thread
                parked.is_there = True
            while not parked.is_there and left_ms > 0:
                left_ms -= _STEP_MS
                time.sleep_ms(_STEP_MS)
            if parked.is_there:
                self._scan_or_join(wlan, wifi)
        finally:
            network.wifi = wifi
            parked.is_over = True

    def _scan_or_join(self, wlan, wifi):
        wlan.active(True)
        self._leave(wlan)
        if self._given is None:
            self._scan(wlan)
            return
        if wlan.isconnected():  # to the old one: nothing would be tried
            return

        before = wlan.status()  # a reason of before stays until there is another, or something is joined
        seen = 0

        def rest(ms):
            nonlocal before, seen
            time.sleep_ms(ms)
            reason = wlan.status()  # also while the driver tries again
            if reason != before:
                before = 0
            seen = seen + 1 if not before and 0 < reason < _STAT_IDLE else 0
            if seen == _LOOKS:
                raise OSError

        try:
            _try_for(wlan, _TRIES)
            Wifi(self._given[0], self._given[1], wifi.hostname, rest).join(False)
            self.is_joined = True
            if self.when_joined:
                self.when_joined()
        except NoWifi:
            self._leave(wlan)  # else the driver goes on trying
        finally:
            _try_for(wlan, -1)

    @staticmethod
    def _leave(wlan):
        """A driver that tries to join lists no networks; one that is joined stays so for a moment."""
        wlan.disconnect()
        left_ms = _LEAVE_MS
        while wlan.isconnected() and left_ms > 0:
            left_ms -= _STEP_MS
            time.sleep_ms(_STEP_MS)

    def _scan(self, wlan):
        strongest = {}
        found = wlan.scan()
        if not found:  # so a driver answers that is busy
            time.sleep_ms(_BUSY_MS)
            found = wlan.scan()
        for row in found:
            name = bytes(row[0])
            if name and row[_DBM] > strongest.get(name, (-999,))[0]:
                strongest[name] = row[_DBM], bool(row[_SECURITY])
        rows = [(dbm, name, has_password) for name, (dbm, has_password) in strongest.items()]
        rows.sort(reverse=True)
        self.networks = [(name, dbm, has_password) for dbm, name, has_password in rows[:_MOST_NETWORKS]]


def _try_for(wlan, times):
    """Let the driver give up behind so many tries anew: by itself (-1) it never does."""
    try:
        wlan.config(reconnects=times)
    except (OSError, RuntimeError):  # then it takes its 20 s
        pass
