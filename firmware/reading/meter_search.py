"""Carries out the search for the meter: metering.detection.search_story on the head. Loaded while it lasts."""

import asyncio
import time

from micropython import const

from firmware.reading import detected_meter
from firmware.reading.decoder_factory import make
from firmware.reading.line_driver import LineDriver
from metering.detection.search_story import Detection
from metering.protocols import BLINK

_LOOK_MS = const(10)
_AFTER_SHORTAGE_MS = const(2000)
_SHORTAGES = const(3)  # fewer are the network side's, which composes something large at times
_WATT_MS = 3600000000  # of a kWh


def _say(text):
    """Whoever stands at the console sees how it reasons."""
    print("optoprobe: " + text)


class Search(LineDriver):
    """To firmware.reading.supervisor a meter not there yet. run() ends when it is found: `settings` and `kept` then say
    what it is, `found` are its parts (decoder_factory), of an LED how many flashes were seen; `telegram_ready` tells
    whether the listener has a telegram in hand.

    `kept` is what is known of the last one (firmware.reading.detected_meter).
    """

    slug = None

    def __init__(self, settings, head, health, kept):
        self._settings = settings
        self._kept = kept
        self.found = ()
        self.telegram_ready = False
        line = None
        if kept.get("protocol") and not kept["asked"]:
            line = detected_meter.heard_line(kept)
            line.invert = kept["invert"]
        lone_ms = _WATT_MS // (settings["max_power_kw"] * 1000) // settings["pulses_per_kwh"]
        known = kept.get("protocol"), line
        asked = settings["meter_address"], settings["wake_up"]
        self._detection = Detection(self._make, known, True, _say, lone_ms, *asked)
        LineDriver.__init__(self, head, self._detection, True, health, self._take)

    def _make(self, name, asked):
        """The protocol as it would be used."""
        self._settings["protocol"] = name
        self._settings["line"] = None
        self.found = ()  # first, for the room
        self.found = make(self._settings, asked)
        if asked:
            self.found[1].answers = False
        return self.found[:2]

    def _take(self):
        """A telegram is in the listener's hand, and stays there until the detection believes it."""

    async def run(self):  # pyright: ignore[reportIncompatibleMethodOverride] - the reader's never ends
        detection = self._detection
        self._head.turned = False
        while not detection.protocol:
            try:
                await self.carry_out(detection.run())
            except MemoryError:  # begin anew
                self._shortage()
                await self._wait(_AFTER_SHORTAGE_MS)
        detected_meter.keep(self._kept, detection)
        detected_meter.take_up(self._kept, self._settings, self._head)
        self.telegram_ready = detection.telegram_ready
        if detection.protocol == BLINK:
            self.found = (detection.flashes,)
        else:
            listener = detection.listener
            listener.line = self._settings["line"]  # pyright: ignore[reportOptionalMemberAccess] - it is proven

    async def _watch(self, watcher, ms):
        """Carry out WATCH."""
        head = self._head
        until = time.ticks_add(time.ticks_ms(), ms)
        while True:
            self._health.reader_progressed()
            n = head.read()
            now = time.ticks_ms()
            if watcher.look(now, head.light(), head.data, 0, n):
                return True
            if time.ticks_diff(now, until) >= 0:
                return False
            if not n:
                await asyncio.sleep_ms(_LOOK_MS)

    def is_push(self):
        """Does it send bytes by itself, as far as is known?"""
        return False

    def set_interactive(self, interactive):
        """It does not wait anyway."""

    def notice(self):
        """What was seen so far, and what is done about it."""
        if self.out_of_memory >= _SHORTAGES:
            return "memory ran out %d times in looking for the meter (%s): name its protocol in the settings" % (
                self.out_of_memory,
                self._detection.seen,
            )
        return "looking for the meter: " + self._detection.seen

    def count_into(self, counts):
        """Add what is told of it in the diagnostics."""
        counts["protocol"] = "searching"
        counts["line"] = ""
        counts["seen"] = self._detection.seen
        counts["out_of_memory"] = self.out_of_memory
