"""Which meter is read where the settings do not name its protocol: the one found last time, or one to be found now;
whether it is still there; and what becomes of its entities when another takes its place.

              nothing known                    found                      read
    start --> SEARCHING ---------------------> BUILDING ----------------> READING
              firmware.reading.meter_search    a meter of what was found  until firmware.reading.presence says: lost
              ^                                ^ known from last time     |
              |                                | start                    |
              +-------------- LOST <-----------------------------------------+
                              its code is dropped, for the search's room

A shortage of memory leaves the state as it is: what it was about is tried again. What is known of the meter is tried
all the while, also by the search.
"""

import asyncio
import gc

from micropython import const

from firmware.reading.meter import Meter, ReadingSettings
from firmware.reading.presence import BATTERY, POLLED, PUSH, Presence
from firmware.reading.presence import BLINK as BLINKS
from metering.line import Line
from metering.protocols import BLINK
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Services
    from firmware.reading.decoder_factory import Decoder
    from firmware.reading.meter_search import Search
    from metering.detection.candidates import Proven
    from metering.guard import Guard

SEARCHING = const(0)
BUILDING = const(1)
READING = const(2)
LOST = const(3)

_CODE_OF_METERS = (
    "firmware.reading.telegram_meter firmware.reading.publisher firmware.reading.invocation_counters"
    " firmware.reading.pulse_meter metering.pulses metering.pulse_parts metering.energy_total"
    " firmware.reading.persistent_totals firmware.mqtt.homeassistant_blink firmware.hardware.rtc_record"
    " firmware.reading.spared_meter"
)
_CODE_OF_SEARCH = (
    "firmware.reading.detected_meter firmware.reading.meter_search firmware.reading.decoder_factory firmware.store"
    " firmware.reading.line_answer metering.echo metering.detection metering.protocols"
)
_LOOK_MS = const(1000)
_AFTER_SHORTAGE_MS = const(5000)
_SAVE_S = const(600)  # at the least between two writes of which meter's entities there are: flash wears


class DetectedMeter:
    """What is known of the meter found last; firmware.reading.detected_meter keeps it over restarts.

    `protocol` is None where nothing has been found yet. `baud bits parity invert` are the line as the meter sends,
    `uart_parity` is the parity that the UART was set to when the meter was proven; `seen` and `line` say so in words.
    `slug` names the meter whose entities the hub has. `woken_s`: uptime at which a battery meter was knocked for last.
    """

    def __init__(self):
        self.protocol: str | None = None
        self.is_polled = False
        self.baud = 9600
        self.bits = 8
        self.parity: str | None = None
        self.uart_parity: str | None = None
        self.invert = False
        self.seen = self.line = self.slug = ""
        self.woken_s: int | None = None

    def uart_line(self):
        """The Line (metering.line) that the UART was set to when the meter was proven."""
        return Line(self.baud, self.bits, self.parity if self.bits == 7 else self.uart_parity, 1)


class MeterSupervisor(Meter):
    """Reads the meter in front of the head; run() never ends. `settings` are the owner's, as they were loaded."""

    def __init__(self, settings, services: "Services"):
        self._reading = ReadingSettings(settings)
        self._services = services
        self._presence = Presence()
        self._guard: Guard | None = None  # of the meter that was lost
        self._decoder: Decoder | None = None  # what the search has made of it,
        self._proven: Proven | None = None  # and what it has proven, until that is built
        self._meter: Meter | None = None
        self._search: Search | None = None
        self._task = None  # of _meter
        self._announced_slug = ""
        self._saved_s: int | None = None  # when detected.json was written last for a slug
        services.announcer.meters_come_and_go = True
        self._detected = detected = DetectedMeter()
        self._detected_file().load(detected)
        if not detected.protocol:
            self._unload_search()
            self._state = SEARCHING
            self._begin_search()
            return
        self._detected_file().apply(detected, self._reading, services.driver)
        self._unload_search()
        self._state = BUILDING
        self._build()

    # --- what is loaded for a while ---

    @staticmethod
    def _detected_file():
        from firmware.reading import detected_meter

        return detected_meter

    @staticmethod
    def _unload_search():
        for module in _CODE_OF_SEARCH.split():
            unload(module)

    def _begin_search(self):
        from firmware.reading.meter_search import Search

        self._search = Search(self._reading, self._services, self._detected)

    # --- the states ---

    async def run(self):
        while True:
            try:
                if self._state == SEARCHING:
                    await self._look_for_meter()
                elif self._state == BUILDING:
                    self._unload_search()  # first, for the room
                    self._build()
                elif self._state == READING:
                    await self._read_until_lost()
                else:
                    self._release_meter()
            except MemoryError:
                gc.collect()
                await asyncio.sleep_ms(_AFTER_SHORTAGE_MS)

    async def _look_for_meter(self):
        """SEARCHING, to BUILDING."""
        if self._search is None:
            self._begin_search()
        search = self._search
        assert search is not None
        await search.run()
        self._decoder, self._proven = search.decoder, search.proven
        self._search = search = None
        self._state = BUILDING

    def _note_proven(self, proven):
        """What the search has proven is what is read from now on, also after a restart."""
        detected, reading, file = self._detected, self._reading, self._detected_file()
        protocol = detected.protocol
        file.record(detected, proven)
        file.apply(detected, reading, self._services.driver)
        if detected.protocol != protocol:
            self._guard = None
        if proven.listener is None:
            self._decoder = None
        else:
            proven.listener.line = reading.line

    def _build(self):
        """BUILDING, to READING: the meter as `_reading` says."""
        reading, services, proven = self._reading, self._services, self._proven
        if proven is not None:
            self._note_proven(proven)
            self._unload_search()
        services.announcer.telegrams = reading.protocol != BLINK
        if reading.protocol == BLINK:
            from firmware.reading.pulse_meter import PulseMeter

            meter = PulseMeter(reading.owner, services)
            if proven is not None and proven.flashes:
                meter.add(proven.flashes)
        else:
            from firmware.reading.telegram_meter import TelegramMeter

            meter = TelegramMeter(reading, services, self._decoder, self._guard)
            unload("metering.protocols")  # no other one is asked for, while it is there
            if proven is not None and proven.telegram_ready:
                proven.telegram_ready = False  # whatever becomes of it, not twice
                meter.publish()
        self._decoder = self._proven = None
        self._meter = meter
        self.protocol = meter.protocol
        self._state = READING

    async def _read_until_lost(self):
        """READING, to LOST."""
        meter, presence, health = self._meter, self._presence, self._services.health
        assert meter is not None
        if self._task is None:
            self._task = asyncio.create_task(meter.run())
            kind = BLINKS if self._reading.protocol == BLINK else POLLED if self._detected.is_polled else PUSH
            if kind == POLLED and meter.spares_battery():
                kind = BATTERY
            presence.follow(self._detected.protocol, kind, health.uptime_s)
            meter.report_to(presence, health.uptime_s)
        while not presence.is_lost(health.uptime_s) and not self._task.done():
            await asyncio.sleep_ms(_LOOK_MS)
            now_s = health.uptime_s
            self._note_slug(meter.slug(), now_s)
            meter.report_to(presence, now_s)
        self._task.cancel()
        self._task = None
        self._state = LOST

    def _release_meter(self):
        """LOST, to SEARCHING: what outlasts the meter is kept, its code makes room for the search."""
        meter = self._meter
        assert meter is not None
        self._meter = None
        self.protocol = Meter.protocol
        self._guard = meter.guard
        meter.release()
        meter = None
        for module in _CODE_OF_METERS.split():
            unload(module)
        from metering.protocols import unload_protocols

        unload_protocols()
        self._state = SEARCHING

    def _note_slug(self, slug, now_s):
        """The meter is named `slug` ("": not yet): the hub hears of it, and detected.json, but not all the time."""
        detected = self._detected
        if slug and slug != self._announced_slug:
            before = self._announced_slug or detected.slug
            self._detected_file().announce_replacement(before, slug, self._services.outbox, self._services.announcer)
            self._announced_slug = slug
            self._unload_search()
        if self._announced_slug and self._announced_slug != detected.slug:
            if self._saved_s is None or now_s - self._saved_s >= _SAVE_S:
                self._saved_s = now_s
                detected.slug = self._announced_slug
                self._detected_file().save(detected)
                self._unload_search()

    # --- as a meter ---

    def received(self):
        return self._meter.received() if self._meter else (0, 0)

    def is_push(self):
        return self._meter is not None and self._meter.is_push()

    def spares_battery(self):
        return self._meter is not None and self._meter.spares_battery()

    def set_interactive(self, interactive):
        if self._meter:
            self._meter.set_interactive(interactive)

    def notice(self):
        meter = self._meter or self._search
        return meter.notice() if meter else ""

    def count_into(self, counts):
        counts["line"] = self._detected.line
        counts["seen"] = self._detected.seen
        meter = self._meter or self._search
        if meter:
            meter.count_into(counts)
