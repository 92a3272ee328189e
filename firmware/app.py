"""The composition root: settings and board in, the running device out."""

import asyncio
import gc
import json

from micropython import const

from firmware import VERSION
from firmware.hardware.health import Health, call, chip_number
from firmware.mqtt.homeassistant import Announcer
from firmware.mqtt.outbox import Mailbox, Outbox, member
from firmware.mqtt.session import Network
from firmware.reading.line_driver import LineDriver
from metering.line import Line
from metering.protocols import BLINK
from metering.unload import unload

_SETTINGS_FILE = "settings.json"
_BOARD_FILE = "board.json"
_DIAGNOSTICS_S = const(60)
_LOOK_MS = const(500)
_ALIGNMENT_REST_S = const(10)  # between two commands in the long run: a battery meter is asked often while it is on
_ALIGNMENT_OFF = b'{"mode": "OFF", "score": "", "best": "", "words": ""}'
_CAPTURE_REST_S = const(120)  # each writes up to 64 KiB to flash


def _load_settings():
    """(values, problems); the code that checks them is dropped again."""
    from firmware import settings

    values, problems = settings.load(_SETTINGS_FILE)
    settings.convert(values)
    settings = None
    unload("firmware.settings")
    unload("firmware.store")
    unload("metering.dlms")
    return values, problems


def _load_board():
    """(name, head, led, problem) with None for what there is not; the code that reads the file is dropped again."""
    from firmware.hardware import board

    try:
        name, head, led = board.load(_BOARD_FILE)
        problem = None
    except board.BoardError as error:
        name = head = led = None
        problem = str(error)
    board = None
    unload("firmware.hardware.board")
    unload("firmware.store")
    return name, head, led, problem


class Services:
    """What a meter's reader uses of the device, given to whoever reads: `driver` is None where there is no head."""

    def __init__(self, driver, health, outbox, announcer, network, on_published):
        self.driver = driver
        self.health = health
        self.outbox = outbox
        self.announcer = announcer
        self.network = network
        self.on_published = on_published  # called without arguments when a value went to the outbox


def _meter_of(settings, services):
    """What reads the meter that the settings name, or whichever there is (firmware.reading.meter.Meter)."""
    if settings["protocol"] == "auto":
        from firmware.reading.supervisor import MeterSupervisor

        return MeterSupervisor(settings, services)
    if settings["protocol"] == BLINK:
        from firmware.reading.pulse_meter import PulseMeter

        return PulseMeter(settings, services)
    from firmware.reading.meter import ReadingSettings
    from firmware.reading.telegram_meter import TelegramMeter

    return TelegramMeter(ReadingSettings(settings), services)


class App:
    """One probe: what it is made of, and the diagnostics that tell how it fares."""

    def __init__(self):
        settings, problems = _load_settings()
        self.board_name, self.head, self.led, problem = _load_board()
        if problem:
            problems.append(problem)
        self._problems = problems
        probe_id = settings["probe_id"] or "probe_" + chip_number()
        self.health = Health()
        self.outbox = Outbox()
        self.announcer = Announcer(
            settings["mqtt_prefix"], probe_id, settings["probe_name"], settings["discovery_prefix"]
        )
        self.announcer.telegrams = settings["protocol"] != BLINK
        self.mailbox = Mailbox()
        self.network = Network(settings, self.outbox, self.mailbox, self.announcer, probe_id, self.health)
        self.meter = None
        self.aid = None  # alignment or capture, while somebody wants it (firmware.owner.owner_commands)
        self.wanted = None  # (its name, what was said)
        for name, rest_s in (("alignment", _ALIGNMENT_REST_S), ("capture", _CAPTURE_REST_S)):
            self.mailbox.subscribe(self.announcer.topic(name, "set"), name, rest_s)
        if self.head is not None:
            self.driver = driver = LineDriver(self.head, self.health)
            services = Services(driver, self.health, self.outbox, self.announcer, self.network, self._published)
            try:
                driver.open(Line(9600))
                self.meter = _meter_of(settings, services)
            except (ValueError, OSError) as error:
                problems.append("board: this chip has no such UART (%s): choose another board" % error)
        for sentence in problems:
            print("optoprobe: " + sentence)

    def _help(self):
        """Begin or end what helps to place the head, or a recording."""
        aid = self.aid
        if not self.wanted:
            command = self.mailbox.pop_command("alignment", "capture")
            self.wanted = command and command[:2]
        if self.wanted or aid is not None and aid.done:
            from firmware.owner import owner_commands

            owner_commands.attend(self)
            owner_commands = None
            unload("firmware.owner.owner_commands")

    def _published(self):
        """Something was published."""
        if self.led is not None and self.aid is None:
            self.led.value(not self.led.value())

    async def run(self):
        """Started by main(), runs for ever."""
        self.network.start()
        if self.meter is None:
            await asyncio.gather(self.health.run(), self._report())
        else:
            await asyncio.gather(self.health.run(), self._report(), self.meter.run())

    async def _report(self):
        """Diagnostics every minute, and at once when the notice changes or the hub was told of us anew."""
        told = None
        due_s = announcements = 0
        while True:
            try:
                if self.network.has_news:
                    call("firmware.mqtt.fault_sentence", lambda sentence: sentence.explain(self.network))
                self._help()
                if announcements != self.network.discovery.announcements:
                    announcements = self.network.discovery.announcements
                    if self.aid is None:  # the hub's switch must not stay unknown till somebody uses it
                        self.outbox.put(self.announcer.topic("alignment"), _ALIGNMENT_OFF, False)
                news = self.notice(), announcements
                if news != told or self.health.uptime_s >= due_s:
                    told = news
                    due_s = self.health.uptime_s + _DIAGNOSTICS_S
                    self._put_diagnostics()
            except MemoryError:  # tell it in the next minute
                gc.collect()
            if self.meter is None:
                self.health.reader_progressed()
            await asyncio.sleep_ms(_LOOK_MS)

    def _put_diagnostics(self):
        payload = bytearray()
        for key, value in self.diagnostics().items():
            member(payload, key, json.dumps(value))
        payload += b"}"
        self.outbox.put(self.announcer.topic("diagnostics"), payload, False)

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        if self._problems:
            return self._problems[0]
        return self.network.notice or (self.meter.notice() if self.meter else "")

    def diagnostics(self):
        """The object published as `diagnostics`: plain counts, texts and nothing secret."""
        counts = {
            "version": VERSION,
            "notice": self.notice() or "ok",
            "uptime_s": self.health.uptime_s,
            "restarts": self.health.restarts,
            "restart_cause": self.health.restart_cause,
            "longest_stall_ms": self.health.longest_stall_ms,
            "wifi_rssi_dbm": self.network.rssi_dbm(),
            "mqtt_connects": self.network.connects,
            "mqtt_failures": self.network.failures,
            "mqtt_last_fault": self.network.last_fault,
            "mqtt_ignored_by_reason": self.mailbox.ignored,
            "mqtt_given_up": self.mailbox.given_up,
            "messages_replaced": self.outbox.replaced,
            "messages_refused": self.outbox.refused,
        }
        call("firmware.hardware.memory_figures", lambda figures: figures.count_into(counts, self.health.heap))
        if self.meter is not None:
            counts["board"] = self.board_name
            counts["overruns"] = self.head.overruns
            self.meter.count_into(counts)
        return counts


def main():
    """Build the probe and run it."""
    asyncio.run(App().run())
