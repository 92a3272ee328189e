"""Which meter is read where the settings do not name its protocol: the one found last time, or one to be found now;
whether it is still there; and what becomes of its entities when another takes its place.

    firmware.reading.detected_meter tells what was found ---> it is read at once
    nothing known, or it has been lost -------> firmware.reading.meter_search, whose code is dropped again behind it

A meter is lost when it has been silent for several of its periods or has not answered twice in a row; a blinking one
also when something else comes often. What is known is tried all the while, also by the search.
"""
# `_meter` is a Search, a TelegramMeter or a PulseMeter:
# pyright: reportAttributeAccessIssue=false, reportOptionalSubscript=false, reportOptionalCall=false
# pyright: reportCallIssue=false

import asyncio
import gc

from micropython import const

from metering import protocols
from metering.unload import unload

_LOOK_MS = const(1000)
_AFTER_SHORTAGE_MS = const(5000)
_SILENCE_S = const(30)  # longer than a meter's pause, at the least
_PERIODS = const(4)
_UNHEARD_S = const(60)  # before the first telegram,
_MOST_SILENCE_S = const(120)  # and the second
_LONGEST_S = const(600)
_FAILURES = const(2)
_DARK_S = const(75)  # of a meter that blinks
_DARK_PERIODS = const(8)
_ODD_MS = const(80)  # of a second that was no flashes: a remote control's, or noise, unless it comes again and again
_ODD_SECONDS = const(4)
_FORGET_S = const(15)  # one of them


class MeterSupervisor:
    """Reads the meter on `head`; the arguments are firmware.reading.telegram_meter's. `run` never ends."""

    def __init__(self, settings, head, *parts):
        self._settings = settings
        self._head = head
        self._parts = parts  # health, outbox, announcer, network, published
        self._guard = None  # of the meter that was lost
        self._told = None  # the meter that is known to be there
        self._found = None  # what the search has found, until a meter is made of it
        self._task = None  # of the meter
        self._odd_seconds = _ODD_SECONDS
        self._protocol = None  # of the meter that is followed,
        self._heard_s = self._period_s = 0  # when it was heard last, and its longest pause
        parts[2].meters_come_and_go = True
        self._kept = self._remembered().load()  # firmware.reading.detected_meter tells what
        if not self._kept.get("protocol"):
            self._meter = self._search()
            return
        self._remembered().take_up(self._kept, settings, head)
        self._unload_search()
        parts[2].telegrams = settings["protocol"] != protocols.BLINK
        self._meter = self._made(None)

    def _made(self, found):
        """The meter as the settings now say; `found` is what the search has found of it, None without one."""
        if self._settings["protocol"] == protocols.BLINK:
            from firmware.reading.pulse_meter import PulseMeter

            meter = PulseMeter(self._settings, self._head, *self._parts)
            if found:
                meter.add(found[0])
            return meter
        from firmware.reading.telegram_meter import TelegramMeter

        return TelegramMeter(self._settings, self._head, *self._parts, found, self._guard)

    @staticmethod
    def _remembered():
        from firmware.reading import detected_meter

        return detected_meter

    @staticmethod
    def _unload_search():
        for module in ("detected_meter", "meter_search", "decoder_factory"):
            unload("firmware.reading." + module)
        unload("metering.detection")

    def _search(self):
        from firmware.reading.meter_search import Search

        return Search(self._settings, self._head, self._parts[0], self._kept)

    async def run(self):
        """Started by the app, runs for ever."""
        while True:
            try:
                if self._task is None:
                    await self._begin()
                await self._until_lost()
                self._task.cancel()
                self._task = None
                self._let_go()
            except MemoryError:  # go on where it was
                gc.collect()
                await asyncio.sleep_ms(_AFTER_SHORTAGE_MS)

    async def _begin(self):
        """Find the meter, if need be, and read it."""
        if self._meter is None and self._found is None:
            self._meter = self._search()
        if self._meter is not None and self._meter.slug is None:
            search = self._meter
            protocol = self._kept.get("protocol")
            await search.run()
            if self._kept["protocol"] != protocol:
                self._guard = None
            self._found = search.found, search.telegram_ready
            self._meter = search = None
        if self._meter is None:
            self._unload_search()  # first, for the room
            meter = self._made(self._found[0])
            if self._found[1]:
                meter.take()
            self._meter = meter
            self._found = None
        self._task = asyncio.create_task(self._meter.run())

    def _let_go(self):
        """What outlasts the meter that was lost; its code makes room for the search."""
        meter = self._meter
        self._meter = None
        if self._kept["protocol"] == protocols.BLINK:
            meter.gone = True
            self._parts[3].mailbox.unsubscribe(meter.command)
            return
        self._guard = meter.guard
        if meter.conversation and meter.conversation.failed["password refused"]:
            self._settings["meter_password"] = ""  # meters lock: not again in this run
        meter = None
        unload("firmware.reading.telegram_meter")
        unload("firmware.reading.publisher")
        protocols.unload_protocols()

    async def _until_lost(self):
        """Returns when the meter is to be looked for anew."""
        health, meter = self._parts[0], self._meter
        heard = meter.recognised
        forgot_s = health.uptime_s
        odd_s = failures = 0
        if self._protocol != self._kept["protocol"]:
            self._protocol = self._kept["protocol"]
            self._heard_s = health.uptime_s
            self._period_s = 0
            self._odd_seconds = _ODD_SECONDS
        elif heard or self._protocol == protocols.BLINK:  # found again by what it has sent
            self._hear()
        lost = False
        while not lost:
            await asyncio.sleep_ms(_LOOK_MS)
            now_s = health.uptime_s
            slug = meter.slug()
            if slug != self._told and slug:
                self._remembered().follow(self._kept, slug, self._parts[1], self._parts[2])
                self._told = slug
                self._unload_search()
            if meter.recognised != heard:
                if heard or self._period_s:
                    self._hear()
                self._heard_s = now_s
                heard = meter.recognised
                failures = 0 if self._protocol == protocols.BLINK else self._unanswered()
            silence_s = now_s - self._heard_s
            if self._protocol == protocols.BLINK:
                odd_s += meter.odd_ms() >= _ODD_MS
                if now_s - forgot_s >= _FORGET_S:
                    forgot_s = now_s
                    odd_s = max(odd_s - 1, 0)
                if odd_s >= self._odd_seconds:
                    self._odd_seconds *= 2  # it may be noise again
                    return
                if meter.steady():
                    self._heard_s = now_s
                lost = silence_s > max(_DARK_S, _DARK_PERIODS * self._period_s)
            elif self._kept["asked"]:
                lost = self._unanswered() - failures >= _FAILURES
            else:
                least_s = _SILENCE_S if self._period_s else _MOST_SILENCE_S if heard else _UNHEARD_S
                lost = silence_s > max(least_s, min(_PERIODS * self._period_s, _LONGEST_S))
            lost = lost or self._task.done()

    def _hear(self):
        """The meter is heard again: how long it can pause."""
        now_s = self._parts[0].uptime_s
        self._period_s = max(self._period_s, min(now_s - self._heard_s, _LONGEST_S))
        self._heard_s = now_s

    def _unanswered(self):
        """How often the meter has not answered, or not with its name: damaged blocks come from one that is there."""
        conversation = self._meter.conversation
        return conversation.failed["no answer"] + conversation.failed["no identification"] if conversation else 0

    def is_push(self):
        """Does the meter talk by itself?"""
        return self._meter is not None and self._meter.is_push()

    def set_interactive(self, interactive):
        """Ask without long pauses, and without a password: somebody moves the head, or records."""
        if self._meter:
            self._meter.set_interactive(interactive)

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        return self._meter.notice() if self._meter else ""

    def count_into(self, counts):
        """Add what is told of it in the diagnostics."""
        counts["line"] = self._kept.get("line", "")
        counts["seen"] = self._kept.get("seen", "")
        if self._meter:
            self._meter.count_into(counts)
        if counts["seen"] and "telegrams" in counts:
            counts["seen"] += "; %d telegrams good, %d bad" % (counts["telegrams"], counts["rejected"])
