"""The running device: what its parts (firmware.composition) do side by side, and the diagnostics."""

import asyncio
import gc
import json

from micropython import const

from firmware.hardware.health import call
from metering.unload import unload

_DIAGNOSTICS_S = const(60)
_RETRY_S = const(5)  # after a shortage of memory
_AGAIN_S = const(10)  # behind an announcement: a busy hub subscribes late
_PIECE_BYTES = const(96)  # and one count more, of the 1.3 KB that seldom find a place in one
_LOOK_MS = const(500)
_LEND_MS = const(50)  # how soon the network's thread is lent the code it wants
_TOLD_S = const(180)
_SET_UP_LOOKS = const(6)  # 3 s of the button
_WIPE_LOOKS = const(20)  # 10 s of it
_AWAY_S = const(600)
_ORDERS = "firmware.owner.orders"
_SET_UP = "firmware.setup.setup_beside"
# The hub's switch must not stay unknown till somebody uses it.
_ALIGNMENT_OFF = b'{"mode": "OFF", "score": "", "best": "", "words": ""}'


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
        self.published_s = None  # uptime when a value went to the outbox, None before
        self.read_by_hand: list[int] | tuple[int, int] = (0, 0)  # a list of firmware.reading.read_budget's


class App:
    """One probe: its parts, and what they do side by side."""

    def __init__(self):
        self._tool_runs = False  # the LED is its own then
        call("firmware.composition", self._compose)

    def _compose(self, composition):
        """Make the parts by that module, whose code is dropped again."""
        settings, problems, board_name, self._led, self._button, self._mailbox, parts = composition.make_parts(
            self._on_published
        )
        self.services = services = Services(*parts)
        self._meter = composition.make_meter(settings, services, problems)
        self.diagnostics = Diagnostics(services, self._meter, board_name, problems)
        composition.forget_names(settings, services)
        composition.drop_constructors(self, services, self.diagnostics)
        self._page = composition.make_page(settings, services, self._meter, self.diagnostics)
        for sentence in problems:
            print("optoprobe: " + sentence)

    def _on_published(self):
        services = self.services
        if services.published_s is None:
            print("optoprobe: first reading: %d s after the start" % services.health.uptime_s)
        services.published_s = services.health.uptime_s
        self._blink(False)

    def _blink(self, has_failed):
        """Change the LED, where it stands for that: for a fault of Wi-Fi or broker by itself, else for a value."""
        if self._led is not None and not self._tool_runs and bool(self.services.network.failed_in_a_row) == has_failed:
            self._led.value(not self._led.value())

    async def run(self):
        """Started by main(), runs for ever."""
        services, meter = self.services, self._meter
        services.network.start()
        self._watch_console()
        if self._page is not None:
            asyncio.create_task(self._page.run())
            self._page = None  # it goes when it ends
        if meter is None:
            await asyncio.gather(services.health.run(), self.diagnostics.run(), self._obey(None))
        else:
            await asyncio.gather(services.health.run(), self.diagnostics.run(), self._obey(meter), meter.run())

    def _watch_console(self):
        from firmware.owner.console_watch import watch

        asyncio.create_task(watch(self.services))

    async def _obey(self, meter):
        """Carry out what the owner asks for by a button or a switch; the code that does so is loaded while it lasts."""
        services, diagnostics = self.services, self.diagnostics
        tell = diagnostics.tell
        announcements = 0
        restart_s = None
        held = away_s = 0
        while True:
            was_held = held
            held = self._held(held)
            if held == _WIPE_LOOKS:
                restart_s = self._order(("wipe=" + services.announcer.probe_id).encode(), restart_s)
            elif not held and _SET_UP_LOOKS <= was_held < _WIPE_LOOKS:
                self._order("button", restart_s, _SET_UP)
            if services.network.wifi.is_joined():
                away_s = services.health.uptime_s
            elif services.health.uptime_s - away_s >= _AWAY_S:
                away_s = services.health.uptime_s
                self._order("away", restart_s, _SET_UP)
            if restart_s is not None and services.health.uptime_s >= restart_s:
                call("firmware.hardware.restarts", lambda restarts: restarts.restart(restarts.BY_OWNER))
            if announcements != services.network.discovery.announcements:
                announcements = services.network.discovery.announcements
                services.outbox.put(services.announcer.topic("alignment"), _ALIGNMENT_OFF, True)
            command = self._mailbox.pop_command("alignment", "capture", "order")
            if command is not None and command[0] == "order":
                restart_s = self._order(command[1], restart_s)
            elif command is not None and meter is not None:
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
            self._blink(True)
            await asyncio.sleep_ms(_LOOK_MS)

    def _held(self, looks):
        """For how many looks in a row the board's button is held; `looks` before."""
        if self._button is None or self._button.value():
            return 0
        return looks + 1

    def _order(self, payload, restart_s, module=_ORDERS):
        """The uptime in s of the next restart behind that order, `restart_s` before; None for none."""
        services, tell = self.services, self.diagnostics.tell
        try:
            due_s = call(module, lambda orders: orders.carry_out(payload, services, tell))
        except MemoryError:
            gc.collect()
            tell("an order is refused: memory has run out, use optoprobe config")
            due_s = None
        unload("firmware.owner.owner_actions")
        return restart_s if due_s is None else due_s


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
        """Publish every minute, at once when the notice changes, and at once and once more when the hub was told of us
        anew. Never ends.
        """
        network, health = self._services.network, self._services.health
        last_reported = None
        announcements = 0
        due_s = retry_s = 0
        fault = ""
        self._note("started: " + health.restart_cause)
        while True:
            if network.has_ended:  # where it cannot be begun, this ends too, and the chip restarts
                network.start()
                self.tell("the network's thread had ended, it is begun anew")
            try:
                is_lent = network.discovery.lend()  # what else is loaded for a moment waits: there is room for one
                if network.has_news and not is_lent:
                    call("firmware.mqtt.session_news", lambda news: news.explain(network))
                    before, fault = fault, network.last_fault if network.failed_in_a_row else ""
                    if fault and fault != before:
                        self._note(fault)
                news = self.notice(), network.discovery.announcements
                uptime_s = health.uptime_s
                if not is_lent and uptime_s >= retry_s and (news != last_reported or uptime_s >= due_s):
                    retry_s = uptime_s + _RETRY_S
                    if news[0] and (last_reported is None or news[0] != last_reported[0]):
                        self._note(news[0])
                    self._publish()
                    last_reported = news
                    due_s = uptime_s + (_DIAGNOSTICS_S if news[1] == announcements else _AGAIN_S)
                    announcements = news[1]
                    retry_s = 0
            except MemoryError:  # tell it in a moment
                gc.collect()
                await asyncio.sleep_ms(_LOOK_MS)
            if self._meter is None:
                health.reader_progressed()
            for _ in range(_LOOK_MS // _LEND_MS):
                await asyncio.sleep_ms(_LEND_MS)
                if network.discovery.wants_code():
                    break

    def _note(self, sentence):
        """Keep it in the log that outlasts a reset."""
        uptime_s = self._services.health.uptime_s
        try:
            call("firmware.hardware.log_ring", lambda log_ring: log_ring.note(sentence, uptime_s))
        except MemoryError:
            gc.collect()

    def _publish(self):
        pieces = []
        opening = "{"
        for key, value in self.counts().items():
            text = '%s"%s": %s' % (opening, key, json.dumps(value))
            opening = ", "
            if pieces and len(pieces[-1]) < _PIECE_BYTES:
                pieces[-1] += text.encode()
            else:
                pieces.append(bytearray(text.encode()))
        pieces[-1] += b"}"
        self._services.outbox.put(self._services.announcer.topic("diagnostics"), pieces, False)

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
        services, notice = self._services, self.notice()
        health = services.health
        counts = call("firmware.device_counts", lambda device_counts: device_counts.counts_of(services, notice))
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
