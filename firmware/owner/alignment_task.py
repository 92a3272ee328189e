"""Alignment mode: the live score of metering.signal_quality while somebody moves the head, on MQTT and as the pace of
the board's LED. The meter is read all the while; of one that talks by itself every fourth telegram goes to the
measurement of edges.
"""

import asyncio
import time

from micropython import const

from firmware.mqtt.outbox import member
from metering.line import Line
from metering.signal_quality import AlignmentScore

_LOOK_MS = const(20)
_LONGEST_S = const(600)  # nobody stands in a cellar for longer
_EDGES_EVERY = const(3)  # telegrams: so many are left whole
_EDGES_MS = const(400)  # of light
_DARK_MS = const(11000)  # and before it: some push every 10 s
_EDGE_BYTES = const(24)
_SLOWEST_MS = const(1000)  # between two changes of the LED at a score of 0
_FASTEST_MS = const(50)  # and at one of 100
_MOST_BAUD = const(115200)  # the highest of which every UART does three times as much


class AlignmentTask:
    """Scores how `meter` is received, once a second to `topic`. run() ends after ten minutes, or when `stopped` is set;
    `services` are firmware.app.Services, `led` may be None.
    """

    NAME = "alignment"

    def __init__(self, services, meter, topic, led):
        self._driver = driver = services.driver
        self._meter = meter
        self._outbox = services.outbox
        self._topic = topic
        self._led = led
        self._health = services.health
        line = driver.line
        self._alignment = AlignmentScore(line.baud, line.bits == 7)
        self._edge_bytes = 0
        self._edges_at = 0  # ticks: the light was borrowed, or the first of it has come
        self._due_telegrams = _EDGES_EVERY
        self._lit = True
        self._led_due = time.ticks_ms()
        self.stopped = self.done = False

    def _intercept(self, data, n):
        if not self._driver.is_lent:
            self._alignment.feed(data, 0, n)
            return n
        self._alignment.edges(data, 0, n)
        if not self._edge_bytes:
            self._edges_at = time.ticks_ms()  # pyrefly: ignore[bad-assignment] - ticks are ints
        self._edge_bytes += n
        return 0

    async def run(self):
        """Started by firmware.owner.owner_commands."""
        driver = self._driver
        driver.interceptor = self._intercept
        began_s = self._health.uptime_s
        try:
            while not self.stopped and self._health.uptime_s - began_s < _LONGEST_S:
                await self._score_once()
        finally:
            driver.interceptor = None
            self.done = True
            driver.give_back()
            self._meter.set_interactive(False)
            self._put("OFF")

    async def _score_once(self):
        """Until there is a new score, about a second."""
        alignment, driver, meter = self._alignment, self._driver, self._meter
        meter.set_interactive(True)
        is_push = meter.is_push()
        wants_edges = is_push and driver.line.baud <= _MOST_BAUD and meter.received()[0] >= self._due_telegrams
        is_new = False
        while not is_new:
            now = time.ticks_ms()
            if driver.is_lent:
                most_ms = _EDGES_MS if self._edge_bytes else _DARK_MS
                if self._edge_bytes >= _EDGE_BYTES or time.ticks_diff(now, self._edges_at) > most_ms:
                    driver.give_back()
            elif wants_edges:
                wants_edges = False
                self._due_telegrams = meter.received()[0] + _EDGES_EVERY
                self._edge_bytes = 0
                self._edges_at = now  # pyrefly: ignore[bad-assignment] - ticks are ints
                line = driver.line
                driver.borrow(Line(3 * line.baud, 8, None, 1, line.invert))
            else:
                line = driver.line
                alignment.baud, alignment.parity = line.baud, line.bits == 7
                alignment.telegrams(*meter.received())
            is_new = alignment.look(now, driver.light() if is_push else None)  # one that is asked is often silent
            if self._led is not None and time.ticks_diff(now, self._led_due) >= 0:
                self._lit = not self._lit
                self._led.value(self._lit)
                self._led_due = time.ticks_add(now, _SLOWEST_MS - (_SLOWEST_MS - _FASTEST_MS) * alignment.score // 100)
            await asyncio.sleep_ms(_LOOK_MS)
        self._put("ON")

    def _put(self, mode):
        alignment = self._alignment
        payload = bytearray()
        member(payload, "mode", '"%s"' % mode)
        member(payload, "score", "%d" % alignment.score)
        member(payload, "best", "%d" % alignment.best)
        member(payload, "words", '"%s"' % alignment.words)
        payload += b"}"
        self._outbox.put(self._topic, payload, False)
