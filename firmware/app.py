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
_RETRY_S = const(5)  # after a shortage of memory
_LOOK_MS = const(500)
_TOLD_S = const(180)
_ALIGNMENT_REST_S = const(10)  # between two commands in the long run: a battery meter is asked often while it is on
# The hub's switch must not stay unknown till somebody uses it.
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
        self.rested_s = 0  # uptime when a battery meter has rested from being asked often


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
    """One probe: its parts, and what they do side by side."""

    def __init__(self):
        settings, problems = _load_settings()
        board_name, head, self._led, problem = _load_board()
        if problem:
            problems.append(problem)
        probe_id = settings["probe_id"] or "probe_" + chip_number()
        health = Health()
        outbox = Outbox()
        announcer = Announcer(settings["mqtt_prefix"], probe_id, settings["probe_name"], settings["discovery_prefix"])
        announcer.telegrams = settings["protocol"] != BLINK
        self._mailbox = mailbox = Mailbox()
        network = Network(settings, outbox, mailbox, announcer, probe_id, health)
        for name, rest_s in (("alignment", _ALIGNMENT_REST_S), ("capture", _CAPTURE_REST_S)):
            mailbox.subscribe(announcer.topic(name, "set"), name, rest_s)
        driver = None if head is None else LineDriver(head, health)
        self.services = services = Services(driver, health, outbox, announcer, network, self._on_published)
        self._meter = None
        self._tool_runs = False  # the LED is its own then
        if driver is not None:
            try:
                if settings["protocol"] != BLINK:  # it opens its own: what is opened anew loses flashes
                    driver.open(Line(9600))
                self._meter = _meter_of(settings, services)
            except (ValueError, OSError) as error:
                problems.append("board: this chip has no such UART (%s): choose another board" % error)
        self.diagnostics = Diagnostics(services, self._meter, board_name, problems)
        for sentence in problems:
            print("optoprobe: " + sentence)

    def _on_published(self):
        if self._led is not None and not self._tool_runs:
            self._led.value(not self._led.value())

    async def run(self):
        """Started by main(), runs for ever."""
        services, meter = self.services, self._meter
        services.network.start()
        if meter is None:
            await asyncio.gather(services.health.run(), self.diagnostics.run(), self._obey(None))
        else:
            await asyncio.gather(services.health.run(), self.diagnostics.run(), self._obey(meter), meter.run())

    async def _obey(self, meter):
        """Carry out what the owner asks for by a button or a switch; the code that does so is loaded while it lasts."""
        services, diagnostics = self.services, self.diagnostics
        tell = diagnostics.tell
        announcements = 0
        while True:
            if announcements != services.network.discovery.announcements:
                announcements = services.network.discovery.announcements
                services.outbox.put(services.announcer.topic("alignment"), _ALIGNMENT_OFF, False)
            command = self._mailbox.pop_command("alignment", "capture")
            if command is not None and meter is not None:
                self._tool_runs = True
                try:
                    from firmware.owner.owner_commands import OwnerCommands

                    await OwnerCommands(services, meter, self._led, diagnostics.board_name, tell).run(command)
                except MemoryError:
                    gc.collect()
                    tell("%s is refused: memory has run out, restart the probe and try again" % command[0])
                OwnerCommands = command = None
                unload("firmware.owner.owner_commands")
                self._tool_runs = False
            await asyncio.sleep_ms(_LOOK_MS)


class Diagnostics:
    """Tells how the probe fares. Nobody takes anything from it: it is a message, and no input."""

    def __init__(self, services, meter, board_name, problems):
        """`meter` is None where none is read; `problems` are sentences about the settings and the board."""
        self._services = services
        self._meter = meter
        self.board_name = board_name
        self._problems = problems
        self._told = ""  # what tell() was told,
        self._told_until_s = 0  # and for how long it is of interest

    async def run(self):
        """Publish every minute, and at once when the notice changes or the hub was told of us anew. Never ends."""
        network, health = self._services.network, self._services.health
        last_reported = None
        due_s = retry_s = 0
        while True:
            try:
                if network.has_news:
                    call("firmware.mqtt.fault_sentence", lambda sentence: sentence.explain(network))
                news = self.notice(), network.discovery.announcements
                uptime_s = health.uptime_s
                if uptime_s >= retry_s and (news != last_reported or uptime_s >= due_s):
                    retry_s = uptime_s + _RETRY_S
                    self._publish()
                    last_reported = news
                    due_s = uptime_s + _DIAGNOSTICS_S
                    retry_s = 0
            except MemoryError:  # tell it in a moment
                gc.collect()
            if self._meter is None:
                health.reader_progressed()
            await asyncio.sleep_ms(_LOOK_MS)

    def _publish(self):
        payload = bytearray()
        for key, value in self.counts().items():
            member(payload, key, json.dumps(value))
        payload += b"}"
        self._services.outbox.put(self._services.announcer.topic("diagnostics"), payload, False)

    def tell(self, sentence):
        """The owner should read `sentence` in the next minutes."""
        print("optoprobe: " + sentence)
        self._told = sentence
        self._told_until_s = self._services.health.uptime_s + _TOLD_S

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        if self._problems:
            return self._problems[0]
        if self._told and self._services.health.uptime_s < self._told_until_s:
            return self._told
        return self._services.network.notice or (self._meter.notice() if self._meter else "")

    def counts(self):
        """The object published as `diagnostics`: plain counts, texts and nothing secret."""
        services = self._services
        health, network, outbox = services.health, services.network, services.outbox
        counts = {
            "version": VERSION,
            "notice": self.notice() or "ok",
            "uptime_s": health.uptime_s,
            "restarts": health.restarts,
            "restart_cause": health.restart_cause,
            "longest_stall_ms": health.longest_stall_ms,
            "wifi_rssi_dbm": network.rssi_dbm(),
            "mqtt_connects": network.connects,
            "mqtt_failures": network.failures,
            "mqtt_last_fault": network.last_fault,
            "mqtt_ignored_by_reason": network.mailbox.ignored,
            "mqtt_given_up": network.mailbox.given_up,
            "messages_replaced": outbox.replaced,
            "messages_refused": outbox.refused,
        }
        grown = call("firmware.hardware.memory_figures", lambda figures: figures.count_into(counts, health.heap))
        if grown:
            self.tell(grown)
        if self._meter is not None:
            counts["board"] = self.board_name
            counts["overruns"] = services.driver.overruns()
            self._meter.count_into(counts)
        return counts


def main():
    """Build the probe and run it."""
    asyncio.run(App().run())
