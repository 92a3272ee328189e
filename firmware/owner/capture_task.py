"""A recording of the meter's line, for somebody far away to look at: what came, when, with which settings.

    optoprobe capture 1
    # version 0.1.0, board Hichi IR WiFi v2, protocol sml
    line 9600 8N1                settings of the UART from here on
    12 1b1b1b1b0101              ms since the begin, and bytes that had come by then
    edges 28800 8N1              from here on the UART samples edges: zeros are thirds of a bit
    light 9100 1                 the light stays on
    end 30000

Written to a file as it comes, which is then published in pieces; what tools/optoprobe/capture_file.py reads. No setting
but the line's is in it.
"""

import asyncio
import binascii
import os
import time

from micropython import const

from firmware import VERSION
from metering.line import Line

_FILE = "capture.txt"
_MOST_BYTES = const(65000)
_MOST_S = const(120)
_USUAL_S = const(30)
_EDGES_MS = const(3000)
_STEADY_MS = const(500)
_LOOK_MS = const(20)
_PIECE = const(256)
_LOOKED_AT = (345600, 28800, 7200, 1800)  # no meter's rates: metering.detection.search_story looks for edges


class CaptureTask:
    """Records the line of `meter`, which the network then gets for `topic`. run() records for as many seconds as
    `payload` (bytes) tells, else 30, or until `stopped` is set; `services` are firmware.app.Services.
    """

    NAME = "capture"

    def __init__(self, services, meter, topic, payload, board_name):
        self._driver = services.driver
        self._meter = meter
        self._network = services.network
        self._topic = topic
        self._seconds = _USUAL_S
        if payload.isdigit() and len(payload) < 4:
            self._seconds = max(1, min(int(payload), _MOST_S))
        self._about = "# version %s, board %s, protocol %s\n" % (VERSION, board_name, meter.protocol)
        self._file = None
        self._began = 0
        self._size = 0
        self._line = None
        self._edges_due = True
        self._fault = None  # of the flash
        self.stopped = self.done = False

    def _say(self, text):
        self._size += len(text)
        if self._size <= _MOST_BYTES:  # what comes behind the first that has no room is left out
            assert self._file is not None
            self._file.write(text)

    def _now(self):
        return time.ticks_diff(time.ticks_ms(), self._began)

    def _intercept(self, data, n):
        line = self._driver.line
        ours = self._driver.is_lent
        try:
            if line is not self._line:
                self._say("%s %r\n" % ("edges" if ours or line.baud in _LOOKED_AT else "line", line))
                self._line = line
            if n:
                self._say("%d %s\n" % (self._now(), binascii.hexlify(bytes(memoryview(data)[:n])).decode()))
        except (OSError, MemoryError) as error:  # the flash is full: what is read is read all the same
            self.stopped = True
            self._fault = error if isinstance(error, OSError) else None
        return 0 if ours else n

    async def run(self):
        """Started by firmware.owner.owner_commands."""
        try:
            with open(_FILE, "w") as self._file:
                await self._record()
            if self._fault:
                raise self._fault
            size = os.stat(_FILE)[6]
            self._network.mailbox.large_message = self._topic, size, _pieces
        except (OSError, MemoryError) as error:
            print("optoprobe: the capture cannot be written (%s): free the device's memory" % error)
            try:
                os.remove(_FILE)  # the totals and the settings need the room
            except OSError:
                pass
        finally:
            self.done = True

    async def _record(self):
        driver = self._driver
        self._began = time.ticks_ms()  # pyrefly: ignore[bad-assignment] - ticks are ints
        self._say("optoprobe capture 1\n")
        self._say(self._about)
        lit = driver.light()
        self._say("light 0 %d\n" % lit)
        changed_ms = 0
        recorded = lit
        driver.interceptor = self._intercept
        self._meter.set_interactive(True)
        try:
            self._intercept(b"", 0)
            while self._now() < self._seconds * 1000 and not self.stopped:
                if self._edges_due and self._meter.is_push() and self._now() >= self._seconds * 1000 - _EDGES_MS:
                    self._edges_due = False
                    line = driver.line
                    driver.borrow(Line(3 * line.baud, 8, None, 1, line.invert))
                now = driver.light()
                if now != lit:
                    lit = now
                    changed_ms = self._now()
                elif lit != recorded and self._now() - changed_ms > _STEADY_MS:
                    recorded = lit
                    self._say("light %d %d\n" % (changed_ms, lit))
                await asyncio.sleep_ms(_LOOK_MS)
        finally:
            driver.interceptor = None
            driver.give_back()
            self._meter.set_interactive(False)
            assert self._file is not None
            self._file.write("end %d\n" % self._now())


def _pieces():
    """Yields the file's bytes; for the network's thread."""
    with open(_FILE, "rb") as file:
        while True:
            piece = file.read(_PIECE)
            if not piece:
                return
            yield piece
