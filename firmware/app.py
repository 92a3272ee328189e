"""The composition root: settings and board in, the running device out."""

import asyncio
import gc
import json
import sys

from micropython import const

from firmware import VERSION
from firmware.health import Health, chip_number
from firmware.homeassistant import Announcer
from firmware.network import Network
from firmware.outbox import Outbox, member
from metering.protocols import BLINK

_SETTINGS_FILE = "settings.json"
_BOARD_FILE = "board.json"
_DIAGNOSTICS_S = const(60)
_LOOK_MS = const(500)


def _load_settings():
    """(values, problems); the code that checks them is dropped again."""
    from firmware import settings

    values, problems = settings.load(_SETTINGS_FILE)
    settings.convert(values)
    _forget("firmware", "settings")
    _forget("metering", "meter_key")
    return values, problems


def _load_board():
    """(name, head, led, problem) with None for what there is not; the code that reads the file is dropped again."""
    from firmware import board

    try:
        name, head, led = board.load(_BOARD_FILE)
        problem = None
    except board.BoardError as error:
        name = head = led = None
        problem = str(error)
    _forget("firmware", "board")
    return name, head, led, problem


def _forget(package, module):
    del sys.modules[package + "." + module]
    delattr(sys.modules[package], module)
    gc.collect()


class App:
    """One probe: what it is made of, and the diagnostics that tell how it fares."""

    def __init__(self):
        settings, problems = _load_settings()
        self._board_name, self._head, self._led, problem = _load_board()
        if problem:
            problems.append(problem)
        self._problems = problems
        probe_id = settings["probe_id"] or "probe_" + chip_number()
        self._health = Health()
        self._outbox = Outbox()
        self._announcer = Announcer(
            settings["mqtt_prefix"],
            probe_id,
            settings["probe_name"],
            settings["discovery_prefix"],
            settings["protocol"] != BLINK,
        )
        self._network = Network(settings, self._outbox, self._announcer, probe_id, self._health)
        self._meter = None
        if self._head is not None:
            if settings["protocol"] == BLINK:
                from firmware.pulse_meter import PulseMeter as Meter
            else:
                from firmware.telegram_meter import TelegramMeter as Meter
            parts = self._head, self._health, self._outbox, self._announcer, self._network, self._published
            try:
                self._meter = Meter(settings, *parts)
            except (ValueError, OSError) as error:
                problems.append("board: this chip has no such UART (%s): choose another board" % error)
        for sentence in problems:
            print("optoprobe: " + sentence)

    def _published(self):
        """Something was published."""
        if self._led is not None:
            self._led.value(not self._led.value())

    async def run(self):
        """Started by main(), runs for ever."""
        self._network.start()
        tasks = [self._health.run(), self._report()]
        if self._meter is not None:
            tasks.append(self._meter.run())
        await asyncio.gather(*tasks)

    async def _report(self):
        """Diagnostics every minute, and at once when the notice changes or the hub was told of us anew."""
        told = None
        due_s = 0
        while True:
            try:
                news = self.notice(), self._network.announcements
                if news != told or self._health.uptime_s >= due_s:
                    told = news
                    due_s = self._health.uptime_s + _DIAGNOSTICS_S
                    self._put_diagnostics()
            except MemoryError:  # tell it in the next minute
                gc.collect()
            if self._meter is None:
                self._health.reader_progressed()
            await asyncio.sleep_ms(_LOOK_MS)

    def _put_diagnostics(self):
        payload = bytearray()
        for key, value in self.diagnostics().items():
            member(payload, key, json.dumps(value))
        payload += b"}"
        self._outbox.put(self._announcer.topic("diagnostics"), payload, False)

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        if self._problems:
            return self._problems[0]
        return self._meter.notice() if self._meter else ""

    def diagnostics(self):
        """The object published as `diagnostics`: plain counts, texts and nothing secret."""
        counts = {
            "version": VERSION,
            "notice": self.notice() or "ok",
            "uptime_s": self._health.uptime_s,
            "restarts": self._health.restarts,
            "restart_cause": self._health.restart_cause,
            "longest_stall_ms": self._health.longest_stall_ms,
            "free_heap_bytes": self._health.free_heap_bytes(),
            "wifi_rssi_dbm": self._network.rssi_dbm(),
            "mqtt_connects": self._network.connects,
            "mqtt_failures": self._network.failures,
            "messages_replaced": self._outbox.replaced,
            "messages_refused": self._outbox.refused,
        }
        if self._meter is not None:
            counts["board"] = self._board_name
            counts["overruns"] = self._head.overruns
            self._meter.count_into(counts)
        return counts


def main():
    """Build the probe and run it."""
    asyncio.run(App().run())
