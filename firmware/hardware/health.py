"""Is the device well: restarts and their cause, progress of both sides, and the watchdog that lives on it."""

import asyncio
import binascii
import gc
import time

import machine
from micropython import const

_MAGIC = b"OPR1"  # in RTC memory: magic, restarts since power-on (1 byte), quick restarts in a row (1 byte)
RTC_BYTES = const(6)  # behind them: firmware.hardware.rtc_record
_QUICK_RESTARTS = const(5)
_QUICK_S = const(60)  # a run of a minute ends the row
_SAFE_WAIT_S = const(30)

_CHECK_MS = const(1000)
_WATCHDOG_MS = const(30000)
_READER_STALL_S = const(10)
_NETWORK_STALL_S = const(120)  # more than DNS (20), connect (10) and two unanswered packets (2 x 10) in a row

_CAUSES = (
    (machine.PWRON_RESET, "power on"),  # or a brown-out: the chip does not tell them apart
    (machine.HARD_RESET, "reset or crash"),
    (machine.WDT_RESET, "watchdog"),
    (machine.SOFT_RESET, "soft reset"),
)


def chip_number():
    """Six hex digits that tell this chip from the owner's others."""
    return binascii.hexlify(machine.unique_id()[-3:]).decode()


def _cause():
    code = machine.reset_cause()
    for known, text in _CAUSES:
        if code == known:
            return text
    return "cause %d" % code


def _restarts():
    """(restarts since power-on, quick restarts in a row) from RTC memory, which survives all but a loss of power."""
    memory = machine.RTC().memory()
    if bytes(memory[:4]) != _MAGIC or len(memory) < RTC_BYTES:
        return 0, 0
    return memory[4], memory[5]


def _remember(restarts, quick):
    rtc = machine.RTC()
    rtc.memory(_MAGIC + bytes((min(restarts, 255), min(quick, 255))) + rtc.memory()[RTC_BYTES:])


def note_start():
    """Called once by boot.py. After five restarts within a minute each it waits, for a computer to step in."""
    if _cause() == "power on":
        _remember(0, 0)
        return
    restarts, quick = _restarts()
    if machine.reset_cause() != machine.SOFT_RESET:  # that is somebody at a computer
        quick += 1
    _remember(restarts + 1, quick)
    if quick >= _QUICK_RESTARTS:
        print("optoprobe: %d quick restarts; starting in %d s, Ctrl-C stops here" % (quick, _SAFE_WAIT_S))
        time.sleep(_SAFE_WAIT_S)


class Health:
    """Counts of this run. `uptime_s` is also the clock of the guard: whole seconds, never going back."""

    def __init__(self):
        self.restarts = _restarts()[0]
        self.restart_cause = _cause()
        self.uptime_s = 0
        self.longest_stall_ms = 0
        self._reader_s = 0
        self._network_s = 0
        self._network_used = False

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
                if self.uptime_s == _QUICK_S:
                    _remember(self.restarts, 0)
            if self.well():
                watchdog.feed()

    def free_heap_bytes(self):
        """What a collection leaves free now."""
        gc.collect()
        return gc.mem_free()
