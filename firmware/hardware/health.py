"""Is the device well: progress of both sides, the watchdog that lives on it, and the clock in whole seconds."""

import asyncio
import binascii
import gc
import time

import machine
from micropython import const

from metering.unload import unload

RTC_BYTES = const(6)  # of RTC memory: firmware.hardware.restarts; behind them firmware.hardware.rtc_record
_QUICK_S = const(60)  # a run of a minute ends the row of quick restarts

_CHECK_MS = const(1000)
_WATCHDOG_MS = const(30000)
_READER_STALL_S = const(10)
_NETWORK_STALL_S = const(120)  # more than any step: DNS 20, a message in pieces 60 and a wait of 10
_SESSION_LOST_S = const(180)
_LOOK_AGAIN_S = const(60)

NO_WIFI = const(1)  # in the settings
SAFE_MODE = const(2)
ASKED_FOR = const(3)
_SETTINGS_BYTES = const(8192)

why_alone = 0  # the set-up is alone, and metering not loaded; 0: it is
_heap = [0, 0]  # areas, bytes: held for ever, as firmware.hardware.heap_area says


def chip_number():
    """Six hex digits that tell this chip from the owner's others."""
    return binascii.hexlify(machine.unique_id()[-3:]).decode()


def call(path, ask):
    """What `ask`, a function of the module at `path`, returns; the module's code is in memory only as long."""
    try:
        return ask(__import__(path, None, None, (path,)))
    finally:
        unload(path)


def note_start():
    """Called once by boot.py: arms the watchdog first, says what this start is for (`why_alone`), and gives metering
    the heap that the meter's protocol needs.
    """
    global _heap, why_alone

    def without_wifi(store):
        """Do the settings name no Wi-Fi, or can nobody read them?"""
        try:
            given = store.read_json("settings.json", _SETTINGS_BYTES)
            return not (isinstance(given, dict) and isinstance(given.get("wifi_ssid"), str) and given["wifi_ssid"])
        except (OSError, ValueError, MemoryError):
            return True

    is_safe, for_set_up = call("firmware.hardware.restarts", lambda restarts: restarts.note_start(_WATCHDOG_MS))
    if is_safe:
        why_alone = SAFE_MODE
    elif for_set_up:
        why_alone = ASKED_FOR
    elif call("firmware.store", without_wifi):
        why_alone = NO_WIFI
    else:
        _heap = call("firmware.hardware.heap_area", lambda heap_area: heap_area.grow())


class Health:
    """Counts of this run. `uptime_s` is also the clock of the guard: whole seconds, never going back."""

    def __init__(self):
        self.restarts, self.restart_cause = call("firmware.hardware.restarts", lambda restarts: restarts.told())
        self.uptime_s = 0
        self.longest_stall_ms = 0
        self._reader_s = 0
        self._network_s = 0
        self._network_used = False
        self.session_s = 0  # uptime when a session with the broker was well
        self.heap = _heap  # firmware.hardware.memory_figures'

    def reader_progressed(self):
        """The metering side has been round its loop."""
        self._reader_s = self.uptime_s

    def network_progressed(self):
        """The network side has been round its loop, or has begun or ended a step that may wait."""
        self._network_s = self.uptime_s
        self._network_used = True

    def well(self):
        """Have both sides moved lately? The network side counts once it has been started."""
        reader_moves = self.uptime_s - self._reader_s <= _READER_STALL_S
        network_moves = not self._network_used or self.uptime_s - self._network_s <= _NETWORK_STALL_S
        return reader_moves and network_moves

    async def run(self):
        """The watchdog's task: started by the app, runs for ever."""
        watchdog = machine.WDT(timeout=_WATCHDOG_MS)
        last = time.ticks_ms()
        part_ms = 0
        row_ended = False
        while True:
            await asyncio.sleep_ms(_CHECK_MS)
            now = time.ticks_ms()
            gone = time.ticks_diff(now, last)
            last = now
            self.longest_stall_ms = max(self.longest_stall_ms, gone - _CHECK_MS)
            part_ms += gone
            while part_ms >= 1000:
                part_ms -= 1000
                self.uptime_s += 1
            if self.well():
                watchdog.feed()
            try:
                if not row_ended and self.uptime_s >= _QUICK_S:
                    call("firmware.hardware.restarts", lambda restarts: restarts.end_row())
                    row_ended = True
                if self._network_used and self.uptime_s - self.session_s >= _SESSION_LOST_S:
                    self.session_s += _LOOK_AGAIN_S
                    call("firmware.hardware.memory_figures", lambda figures: figures.restart_without_wifi_memory())
            except MemoryError:  # for their code; in a second there may be some
                gc.collect()
