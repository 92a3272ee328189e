"""From the head to the outbox: drives the listener, asks the guard, composes what is published."""

import asyncio
import gc
import json

from micropython import const

from firmware.homeassistant import Meter, slug
from metering.guard import MAX_REGISTERS
from metering.listener import NOTHING, TELEGRAM
from metering.registers import IDENTIFIER, INSTANTANEOUS, describe

_POLL_MS = const(10)  # 10 bytes at 9600 baud; the UART's buffer outlasts 17 s of anything

_PIN_NEEDED = "PIN needed: until it is entered at the meter, the meter sends only whole kWh and no power"


class Reader:
    """Owns the line. Counts are the listener's and the guard's; `notice` is one sentence for the owner or ""."""

    def __init__(self, head, listener, guard, outbox, announcer, health, on_telegram):
        head.open(listener.LINES[0])  # raises ValueError or OSError where the chip has no such UART
        self._head = head
        self.listener = listener
        self.guard = guard
        self._outbox = outbox
        self._announcer = announcer
        self._health = health
        self._on_telegram = on_telegram
        self.meter = None  # homeassistant.Meter, replaced when anything of it changes
        self._registers = {}  # OBIS -> Register, its text the one admitted last
        self._order = []  # the same as the meter sends them; a dict has no order here
        self._state = b""
        self.beyond_limit = 0  # readings of registers past MAX_REGISTERS
        self.out_of_memory = 0  # telegrams not published for want of heap
        self.notice = ""

    async def run(self):
        """Started by the app, runs for ever."""
        head, listener = self._head, self.listener
        while True:
            self._health.reader_progressed()
            n = head.read()
            if not n:
                await asyncio.sleep_ms(_POLL_MS)
                continue
            start = 0
            while start < n:
                start += listener.feed(head.data, start, n)
                while self._take_event():
                    await asyncio.sleep_ms(0)

    def _take_event(self):
        """Deal with what the listener has found; False when it has found nothing more."""
        try:
            event = self.listener.next_event()
            if event == TELEGRAM:
                self._take_telegram()
            return event != NOTHING
        except MemoryError:  # the network side composes something large; the next telegram will do
            self.out_of_memory += 1
            gc.collect()
            return True

    def _take_telegram(self):
        """Hand the telegram in hand to the outbox, as far as the guard lets it by."""
        if not self.listener.n_values:  # an attention message: nothing to publish, and it may not name the meter
            return
        meter_id = self.listener.meter_id()
        if not self.guard.admits_meter(meter_id):
            return
        if self.meter is None or self.meter.meter_id != meter_id:
            self.meter = Meter(meter_id, slug(meter_id), "", ())
            self._registers = {}
            self._order = []
            gc.collect()  # what is made now stays: let it lie together
            for reading in self.listener.readings():
                self._register(reading)
            gc.collect()
        maker = self.meter.maker
        live = []
        for reading in self.listener.readings():
            register = self._register(reading)
            if register is None or not self.guard.admits(reading, register, self._health.uptime_s):
                continue
            text = register.display(reading)
            if register.kind == INSTANTANEOUS:
                live.append('"%s": "%s"' % (register.key, text))  # a number: nothing to escape
                continue
            register.text = text
            if register.kind == IDENTIFIER and register.key.startswith("manufacturer"):
                maker = text
        if len(self._order) != len(self.meter.registers) or maker != self.meter.maker:
            self.meter = Meter(meter_id, self.meter.slug, maker, tuple(self._order))
            self._outbox.announce(self.meter)
        self._put(live)
        self.notice = _PIN_NEEDED if self.listener.pin_needed else ""
        self._on_telegram()

    def _register(self, reading):
        """The reading's register, made at its first appearance; None past the limit."""
        register = self._registers.get(reading.obis)
        if register is None:
            if len(self._order) >= MAX_REGISTERS:
                self.beyond_limit += 1
                return None
            register = describe(reading)
            self._order.append(register)
            self._registers[reading.obis] = register
        return register

    def _put(self, live):
        state = []
        for register in self._order:
            if register.text is not None:
                state.append('"%s": %s' % (register.key, json.dumps(register.text)))
        payload = ("{%s}" % ", ".join(state)).encode()
        if state and payload != self._state:
            self._outbox.put(self._announcer.state_topic(self.meter), payload, True)
            self._state = payload
        if live:
            self._outbox.put(self._announcer.live_topic(self.meter), ("{%s}" % ", ".join(live)).encode(), False)
