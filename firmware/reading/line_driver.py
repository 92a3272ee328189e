"""Drives the line: the one owner of the head. It carries out line actions (metering.line), hands over each telegram,
and lends the light to whoever helps to place the head, or records.
"""

import asyncio
import gc
import time

from micropython import const

from metering.line import perform
from metering.listener import NOTHING, TELEGRAM

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.contracts import ByteInterceptor, OnTelegram
    from metering.line import Line

_POLL_MS = const(10)  # 10 bytes at 9600 baud; the UART's buffer outlasts 17 s of anything
_WAIT_STEP_MS = const(1000)
_INTERACTIVE_MS = const(3000)
_SHORTAGE_REST_MS = const(200)
_MOST_SHORTAGES = const(10)  # of a listener in a row, then whoever makes the actions begins anew
_AFTER_SHORTAGE_MS = const(5000)


class LineDriver:
    """The head's driver. `data` holds what read() last brought, `interactive` cuts long pauses short, `out_of_memory`
    counts telegrams not published for want of heap. `rests`: is this a long pause? Whoever sets it False ends it.

    `interceptor`, None or a firmware.contracts.ByteInterceptor, is called with what is received, but for what may be
    our own echo. Raises ValueError or OSError from open() where the chip has no such UART.
    """

    def __init__(self, head, health):
        self._head = head
        self._health = health
        self.data = head.data
        self.start = self.end = 0  # data[start:end] is what no action has taken
        self.answer = b""  # firmware.reading.line_answer's
        self._on_telegram: OnTelegram | None = None
        self._meter_line: Line | None = None  # while the light is lent, and until it has been opened again
        self.is_lent = False
        self.interceptor: ByteInterceptor | None = None
        self.interactive = False
        self.rests = False
        self.out_of_memory = 0

    # --- the light, for whoever asks ---

    @property
    def line(self):
        """The settings (metering.line.Line) that the head is opened with."""
        return self._head.line

    def overruns(self):
        """How often the head was read too late."""
        return self._head.overruns

    def light(self):
        """Is there light on the head now?"""
        return self._head.light()

    def flip_polarity(self, flipped):
        """`flipped`: is the light received the other way round than the board says? Counts from the next open()."""
        self._head.polarity_flipped = flipped

    def open(self, line):
        """Listen with the settings of `line` from now on, whoever had borrowed the light."""
        self.start = self.end = 0
        self.is_lent = False
        self._meter_line = None
        self._head.open(line)

    def read(self):
        """Fetch what has arrived into data[0:n]; returns n, 0 for nothing. Never waits."""
        if self._meter_line is not None and not self.is_lent:
            self._restore()
        n = self._head.read()
        if n and self.interceptor is not None and not self._head.may_be_echo:
            n = self.interceptor(self.data, n)
        return n

    def borrow(self, line):
        """Listen with the settings of `line` until give_back(), or until the meter's line is opened anew; what comes
        is the interceptor's.
        """
        if self._meter_line is None:
            self._meter_line = self._head.line
        self.is_lent = True
        self._head.open(line)

    def give_back(self):
        """End what borrow() has begun. Never raises: read() tries again where the meter's line cannot be opened now."""
        if self.is_lent:
            self.is_lent = False
            self._restore()

    def _restore(self):
        try:
            self._head.open(self._meter_line)
            self._meter_line = None
        except (MemoryError, OSError):
            gc.collect()

    # --- line actions ---

    async def run(self, source, on_telegram):
        """Carry out source.run() for ever; `source` is a conversation, or a listener for a meter that is not asked.

        `on_telegram()` is called for each telegram in a listener's hand.
        """
        self.answer = b""
        while True:
            try:
                await self.carry_out(source.run(), on_telegram)
            except MemoryError:  # begin anew
                self.count_shortage()
            await self.wait(_AFTER_SHORTAGE_MS)

    async def carry_out(self, actions, on_telegram):
        """Carry out what the generator `actions` yields until it ends. Raises MemoryError."""
        self._on_telegram = on_telegram
        answer = None
        while True:
            try:
                action = actions.send(answer)
            except StopIteration:
                self._on_telegram = None  # or it keeps whom it belongs to, and all the code of theirs
                return
            answer = await perform(action, self)

    def count_shortage(self):
        """The network side composes something large, most likely; the next telegram will do."""
        self.out_of_memory += 1
        gc.collect()

    async def send(self, data):
        """Carry out SEND."""
        await self._head.write(data)

    async def switch(self, line):
        """Carry out SWITCH."""
        self.open(line)

    async def wait(self, ms):
        """Carry out WAIT."""
        while ms > 0:
            self._health.reader_progressed()
            if self.interactive:
                ms = min(ms, _INTERACTIVE_MS)
            self.rests = ms > _INTERACTIVE_MS
            step = min(ms, _WAIT_STEP_MS)
            await asyncio.sleep_ms(step)
            if ms > _INTERACTIVE_MS and not self.rests:  # it was ended
                break
            ms -= step
        self.rests = False

    async def has_received(self, limit_ms, since):
        """Wait for bytes no action has taken; False when none came within limit_ms (None: no limit) of `since`."""
        while self.start == self.end:
            self._health.reader_progressed()
            self.start = 0
            self.end = self.read()
            if self.end:
                break
            if limit_ms is not None and time.ticks_diff(time.ticks_ms(), since) >= limit_ms:
                return False
            await asyncio.sleep_ms(_POLL_MS)
        return True

    async def listen(self, listener, first_ms, gap_ms):
        """Carry out LISTEN. The event is asked for first: the listener may hold bytes from before.

        A shortage of memory is followed by a rest, so that whoever holds the memory can go on; raises MemoryError where
        that does not help.
        """
        limit_ms = first_ms
        since = time.ticks_ms()
        shortages = 0
        while True:
            event = self._hand_over(listener)
            if event is None:
                shortages += 1
                if shortages >= _MOST_SHORTAGES:
                    raise MemoryError
                self._health.reader_progressed()
                await asyncio.sleep_ms(_SHORTAGE_REST_MS)
                continue
            shortages = 0
            if event != NOTHING:
                await asyncio.sleep_ms(0)
                return event
            if not await self.has_received(limit_ms, since):
                return NOTHING
            limit_ms = gap_ms
            since = time.ticks_ms()
            self.start += listener.feed(self.data, self.start, self.end)

    def _hand_over(self, listener):
        """The listener's next event, a telegram handed over at once; None where memory ran out before there was one."""
        event = None
        try:
            event = listener.next_event()
            if event == TELEGRAM and self._on_telegram is not None:
                self._on_telegram()
        except MemoryError:
            self.count_shortage()
        return event

    async def watch(self, watcher, ms):
        """Carry out WATCH: `watcher` is a firmware.contracts.LightObserver."""
        until = time.ticks_add(time.ticks_ms(), ms)
        while True:
            self._health.reader_progressed()
            n = self.read()
            now = time.ticks_ms()
            if watcher.look(now, self._head.light(), self.data, 0, n):
                return True
            if time.ticks_diff(now, until) >= 0:
                return False
            if not n:
                await asyncio.sleep_ms(_POLL_MS)

    def expect(self, complete, first_ms, gap_ms):
        """Carry out EXPECT: `complete` is None or a firmware.contracts.AnswerComplete."""
        from firmware.reading.line_answer import answer_of

        return answer_of(self, complete, first_ms, gap_ms)
