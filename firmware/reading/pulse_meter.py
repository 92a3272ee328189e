"""A meter that only blinks: its LED's flashes from the head into totals that last, and from there to the outbox.

The UART's receive buffer is the recorder, one byte a flash (metering.pulses), so no flash waits for this code.
"""

import asyncio
import gc
import time

from micropython import const

from firmware.mqtt.homeassistant_blink import BlinkingMeter
from firmware.mqtt.outbox import member
from firmware.mqtt.retained import retained
from firmware.mqtt.time_sync import TimeSync
from firmware.reading.meter import Meter
from firmware.reading.persistent_totals import COUNTED, PersistentTotals
from metering.line import Line
from metering.protocols import BLINK
from metering.pulses import RATES, Pulses
from metering.reading import decimal_text

_LOOK_MS = const(10)
_PUBLISH_MS = const(2000)  # where pulses come
_PUBLISH_IDLE_MS = const(10000)
_NOTHING_SEEN_S = const(600)
_READING_REST_S = const(2)  # between two that are typed: each is written to flash
_SLUG = "meter"
_LIGHT_STEADY = "LED on: no consumption, or export"
_GHOSTS = {
    "": "",
    "shape": "several flashes within a byte, as of a remote control",
    "width": "a flash shorter or longer than the meter's, as of the sun",
    "flicker": "more flashes than the connection can carry, as of a lamp",
}


class PulseMeter(Meter):
    """Counts on the light into the outbox. `settings` are the owner's, `services` firmware.app.Services.

    Raises ValueError or OSError where the chip has no such UART.
    """

    protocol = BLINK

    def __init__(self, settings, services):
        self._driver = driver = services.driver
        self._health = services.health
        self._outbox = services.outbox
        self._announcer = announcer = services.announcer
        self._network = network = services.network
        self._mailbox = mailbox = network.mailbox
        self._published = services.on_published
        self._kept = kept = PersistentTotals(settings["pulses_per_kwh"])
        self._pulses = Pulses(settings["pulses_per_kwh"], settings["max_power_kw"] * 1000, kept.rate, kept.width)
        self._rate = kept.rate
        driver.open(Line(RATES[self._rate]))
        self._pulses.tick(time.ticks_ms(), False)  # flashes are recorded from now on
        self._taken = 0  # of what was counted
        self._odd = 0  # of what was counted as such
        self._put_at = None  # ticks_ms when something was published last, None: now
        self._news = True
        self._heard = None  # the broker's (state, status) from before this start, left here by the network's thread
        self._failures = 0  # of the network, of which is known
        self._meter = None
        self._announced = None  # its keys, as the hub was told of them
        self._out_of_memory = 0
        self.gone = False  # is another meter read now?
        self.command = command = announcer.topic(_SLUG, "reading", "set")
        self._command = command.decode()
        mailbox.subscribe(command, "reading", _READING_REST_S)
        mailbox.time_sync = mailbox.time_sync or TimeSync()
        if kept.settled:
            kept.was_offline(0)
        else:
            mailbox.before_session = self._read_back

    def _read_back(self, client):
        """Returns when that is settled and stored: the next session's last will must not vouch for what was before."""
        topics = self._announcer.topic(_SLUG, "state"), self._announcer.topic("status")
        if self.gone:
            return
        state, status = retained(client, topics)
        # the last will of this run's own session says nothing of what was before it
        self._heard = state, None if self._network.connects else status
        while self._heard and not self.gone:
            time.sleep_ms(_LOOK_MS)

    def report_to(self, presence, now_s):
        pulses = self._pulses
        presence.note(pulses.count, 0, now_s)
        n = pulses.ghosts["shape"] - self._odd  # several flashes in a byte are a telegram's, if there are many
        self._odd += n
        presence.note_light(n * 10000 // RATES[self._rate], pulses.steady, now_s)

    def slug(self):
        return _SLUG

    def add(self, flashes):
        """Flashes that were seen by others."""
        self._kept.add(flashes)
        self._kept.keep(self._health.uptime_s)

    def release(self):
        self.gone = True
        self._mailbox.unsubscribe(self.command)

    async def run(self):
        while True:
            try:
                self.look(time.ticks_ms())
            except MemoryError:  # what was not published now is in a moment
                self._out_of_memory += 1
                gc.collect()
            await asyncio.sleep_ms(_LOOK_MS)

    def look(self, ticks_ms):
        """Count what has come, keep it, and publish where it is time."""
        self._health.reader_progressed()
        driver, pulses, kept = self._driver, self._pulses, self._kept
        pulses.tick(ticks_ms, driver.light())
        n = driver.read()
        while n:
            pulses.end_read(time.ticks_ms())  # a stall may have come before the read: more flashes are in it then
            pulses.feed(driver.data, 0, n)
            n = driver.read()
        if pulses.rate != self._rate:
            self._rate = pulses.rate
            driver.open(Line(RATES[self._rate]))
        n = pulses.count - self._taken
        if n:
            kept.add(n)
            self._taken += n
            kept.rate, kept.width = pulses.rate, pulses.width
            kept.keep(self._health.uptime_s)
            self._news = True
        typed = self._mailbox.pop_command("reading")
        if self._heard or typed:
            self._answer(typed)
        if self._network.failures != self._failures:
            kept.was_offline(self._health.uptime_s)
            self._failures = self._network.failures
        due_ms = _PUBLISH_MS if self._news else _PUBLISH_IDLE_MS
        if self._put_at is None or time.ticks_diff(ticks_ms, self._put_at) >= due_ms:
            self._put_at = ticks_ms
            self._put()

    def _answer(self, typed):
        """What the network's thread has left, and a reading that was typed."""
        kept = self._kept
        if self._heard:
            state, status = self._heard
            kept.read_back(state, status, self._health.uptime_s)
            self._heard = None
        if typed:
            _, text, session = typed
            kept.set_reading(text, self._health.uptime_s, session)
        kept.keep(self._health.uptime_s)
        self._news = True
        self._put_at = None

    def _put(self):
        meter = self._announce()
        if self._news:
            self._kept.keep(self._health.uptime_s)
            counted, reading = self._kept.shown()
            if counted or reading:
                state = bytearray()
                if counted:
                    member(state, COUNTED, '"%s"' % counted)
                if reading:
                    member(state, self._kept.reading_key, '"%s"' % reading)
                state += b"}"
                self._outbox.put(self._announcer.state_topic(meter), state, True)
                self._published()
            self._news = False
        self._outbox.put(self._announcer.live_topic(meter), self._live(), False)

    def _announce(self):
        """The meter as the hub should know it; a new one when the reading's key changes."""
        key = self._kept.reading_key
        reading_key = key if self._kept.reading else None
        if self._announced != (key, reading_key):
            self._meter = BlinkingMeter(_SLUG, COUNTED, reading_key, key, self._command)
            self._outbox.announce(self._meter)
            self._announced = key, reading_key
        return self._meter

    def _live(self):
        pulses = self._pulses
        live = bytearray()
        pace = pulses.pace()
        if pace is not None:
            member(live, "power", '"%d"' % pulses.power_w)
            n, ms = pace
            member(live, "pulse_rate", '"%s"' % decimal_text((n * 6000000 + ms // 2) // ms, -2))
        age_ms = pulses.age_ms()
        if pulses.count and age_ms is not None and self._mailbox.time_sync.known:
            at = time.gmtime(int(time.time()) - age_ms // 1000)
            member(live, "last_pulse", '"%04d-%02d-%02dT%02d:%02d:%02d+00:00"' % at[:6])
        member(live, "light", '"%s"' % self._light())
        member(live, "ghosts", '"%d"' % sum(pulses.ghosts.values()))
        live += b"}"
        return live

    def _light(self):
        pulses = self._pulses
        if pulses.steady:
            return _LIGHT_STEADY
        return "blinking" if pulses.count and pulses.since_ms < _NOTHING_SEEN_S * 1000 else "dark"

    def received(self):
        return self._pulses.count, sum(self._pulses.ghosts.values())

    def notice(self):
        pulses, uptime_s = self._pulses, self._health.uptime_s
        if pulses.count == 0 and uptime_s > _NOTHING_SEEN_S and not pulses.steady:
            if pulses.last_ghost:
                return "no meter's flash seen, but %s: move the head over the LED" % _GHOSTS[pulses.last_ghost]
            return "no flash seen: move the head over the blinking LED"
        return self._kept.explanation(uptime_s)

    def count_into(self, counts):
        pulses = self._pulses
        counts["protocol"] = self.protocol
        counts["pulses"] = pulses.count
        counts["ghosts"] = sum(pulses.ghosts.values())
        counts["ghosts_by_reason"] = pulses.ghosts
        counts["ghosts_last"] = _GHOSTS[pulses.last_ghost]
        counts["flash_baud"] = RATES[pulses.rate]
        counts["energy_writes"] = self._kept.writes
        counts["out_of_memory"] = self._out_of_memory
