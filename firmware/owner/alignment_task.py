"""Alignment mode: the live score of metering.signal_quality while somebody moves the head, on MQTT and as the pace of
the board's LED. The meter is read all the while; of one that talks by itself every third telegram or so goes to the
measurement of edges.
"""

import asyncio
import time

from micropython import const

from firmware.mqtt.outbox import member
from firmware.owner.owner_commands import reopen
from metering.line import Line
from metering.signal_quality import AlignmentScore
from metering.unload import unload

_LOOK_MS = const(20)
_LONGEST_S = const(600)  # nobody stands in a cellar for longer
_EDGES_EVERY = const(3)  # telegrams: so many are whole
_EDGES_MS = const(400)
_EDGE_BYTES = const(24)
_OF_A_KEY = ("key needed", "key wrong", "tag", "security", "replay")  # a meter without its key is heard well
_SLOWEST_MS = const(1000)  # the LED changes so often at a score of 0,
_FASTEST_MS = const(50)  # and of 100
_MOST_BAUD = const(115200)  # three times as much is what every UART does


class AlignmentTask:
    """Of `app` (firmware.app) it needs the head, the meter's counts, the outbox, the LED and the clock. `run` ends
    after ten minutes, or when `stopped` is set.
    """

    NAME = "alignment"

    def __init__(self, app, topic, said):
        self._head = app.head
        self._meter = app.meter
        self._outbox = app.outbox
        self._topic = topic
        self._led = app.led
        self._health = app.health
        line = app.head.line
        self._alignment = AlignmentScore(line.baud, line.bits == 7)
        self._line = self._edge_line = None  # the meter's while edges are measured, and that of the edges
        self._edges = 0
        self._due_telegrams = _EDGES_EVERY
        self._lit = True
        self._due = time.ticks_ms()
        self.stopped = self.done = False

    def _tap(self, data, n):
        if self._head.line is not self._edge_line:
            self._alignment.feed(data, 0, n)
            return n
        self._alignment.edges(data, 0, n)
        self._edges += n
        return 0

    async def run(self):
        """Started by the app."""
        self._head.tap = self._tap
        began_s = self._health.uptime_s
        try:
            while not self.stopped and self._health.uptime_s - began_s < _LONGEST_S:
                await self._second()
        finally:
            self._head.tap = None
            self.done = True
            self._meter.set_interactive(False)
            self._end_edges()
            self._put("OFF")
            unload("metering.signal_quality")

    async def _second(self):
        """Until there is a new score."""
        alignment, head = self._alignment, self._head
        self._meter.set_interactive(True)
        counts = {}
        self._meter.count_into(counts)
        began = time.ticks_ms()
        talks = self._meter.is_push()
        edges = talks and head.line.baud <= _MOST_BAUD and counts.get("telegrams", 0) >= self._due_telegrams
        news = False
        while not news:
            now = time.ticks_ms()
            if self._line is not None:
                if self._edges >= _EDGE_BYTES or time.ticks_diff(now, began) > _EDGES_MS:
                    self._end_edges()
            elif edges:
                edges = False
                self._due_telegrams = counts["telegrams"] + _EDGES_EVERY
                self._line = head.line
                self._edges = 0
                self._edge_line = Line(3 * head.line.baud, 8, None, 1, head.line.invert)
                head.open(self._edge_line)
            else:
                alignment.baud, alignment.parity = head.line.baud, head.line.bits == 7
                self._meter.count_into(counts)
                good = counts.get("telegrams", counts.get("pulses", 0))
                bad = counts.get("rejected", counts.get("ghosts", 0))
                reasons = counts.get("rejected_by_reason", {})
                for reason in _OF_A_KEY:  # the light was right
                    good += reasons.get(reason, 0)
                    bad -= reasons.get(reason, 0)
                alignment.telegrams(good, bad)
            news = alignment.look(now, head.light() if talks else None)  # asked, it is not always heard
            if self._led is not None and time.ticks_diff(now, self._due) >= 0:
                self._lit = not self._lit
                self._led.value(self._lit)
                self._due = time.ticks_add(now, _SLOWEST_MS - (_SLOWEST_MS - _FASTEST_MS) * alignment.score // 100)
            await asyncio.sleep_ms(_LOOK_MS)
        self._put("ON")

    def _end_edges(self):
        line = self._line
        self._line = None
        if line is not None and self._head.line is self._edge_line:  # nobody has opened another since
            reopen(self._head, line)

    def _put(self, mode):
        alignment = self._alignment
        payload = bytearray()
        member(payload, "mode", '"%s"' % mode)
        member(payload, "score", "%d" % alignment.score)
        member(payload, "best", "%d" % alignment.best)
        member(payload, "words", '"%s"' % alignment.words)
        payload += b"}"
        self._outbox.put(self._topic, payload, False)

