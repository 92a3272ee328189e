"""Drives the line: carries out a conversation's line actions on the head, and hands over each telegram."""

import asyncio
import gc
import time

from micropython import const

from metering.compat import copy_bytes
from metering.line import ANSWER_BYTES, ANSWER_MS, EXPECT, LISTEN, SEND, SWITCH, WAIT
from metering.listener import NOTHING, TELEGRAM

_POLL_MS = const(10)  # 10 bytes at 9600 baud; the UART's buffer outlasts 17 s of anything
_WAIT_STEP_MS = const(1000)
_HURRIED_MS = const(3000)
_AFTER_SHORTAGE_MS = const(5000)


class LineDriver:
    """Owns the head. `source` makes the line actions: a conversation, or a listener for a meter that talks by itself.

    `take` is called, without arguments, for each telegram in a listener's hand.
    """

    def __init__(self, head, source, asks, health, take):
        """`asks`: does `source` wait for answers?"""
        self._head = head
        self._source = source
        self._health = health
        self._take = take
        self._start = self._end = 0  # bytes in head.data that no action has taken
        self._answer = bytearray(ANSWER_BYTES if asks else 0)
        self.interactive = False  # are long pauses cut short?
        self.out_of_memory = 0  # telegrams not published for want of heap

    async def run(self):
        """Started by the app, runs for ever."""
        while True:
            try:
                await self.carry_out(self._source.run())
            except MemoryError:  # begin anew
                self._shortage()
            await self._wait(_AFTER_SHORTAGE_MS)

    async def carry_out(self, actions):
        """Until there are no more."""
        answer = None
        while True:
            try:
                action = actions.send(answer)
            except StopIteration:
                return
            kind = action[0]
            if kind == LISTEN:
                answer = await self._listen(action[1], action[2], action[3])
            elif kind == SEND:
                answer = await self._head.write(action[1])
            elif kind == SWITCH:
                self._start = self._end = 0
                answer = self._head.open(action[1])
            elif kind == WAIT:
                answer = await self._wait(action[1])
            elif kind == EXPECT:
                answer = await self._expect(action[1], action[2], action[3])
            else:
                answer = await self._watch(action[1], action[2])

    def _shortage(self):
        """The network side composes something large, most likely; the next telegram will do."""
        self.out_of_memory += 1
        gc.collect()

    async def _wait(self, ms):
        while ms > 0:
            self._health.reader_progressed()
            if self.interactive:
                ms = min(ms, _HURRIED_MS)
            step = min(ms, _WAIT_STEP_MS)
            await asyncio.sleep_ms(step)
            ms -= step

    async def _received(self, limit_ms, since):
        """Wait for bytes no action has taken; False when none came within limit_ms (None: no limit) of `since`."""
        while self._start == self._end:
            self._health.reader_progressed()
            self._start = 0
            self._end = self._head.read()
            if self._end:
                break
            if limit_ms is not None and time.ticks_diff(time.ticks_ms(), since) >= limit_ms:
                return False
            await asyncio.sleep_ms(_POLL_MS)
        return True

    async def _listen(self, listener, first_ms, gap_ms):
        limit_ms = first_ms
        since = time.ticks_ms()
        while True:
            event = self._event(listener)
            if event != NOTHING:
                await asyncio.sleep_ms(0)
                return event
            if not await self._received(limit_ms, since):
                return NOTHING
            limit_ms = gap_ms
            since = time.ticks_ms()
            self._start += listener.feed(self._head.data, self._start, self._end)

    def _event(self, listener):
        """What the listener has found; a telegram is handed over at once."""
        event = NOTHING
        try:
            event = listener.next_event()
            if event == TELEGRAM:
                self._take()
        except MemoryError:
            self._shortage()
        return event

    async def _watch(self, watcher, ms):
        raise NotImplementedError  # firmware.reading.meter_search

    async def _expect(self, complete, first_ms, gap_ms):
        answer = self._answer
        n = 0
        limit_ms = first_ms
        begun = since = time.ticks_ms()
        while n < ANSWER_BYTES and await self._received(limit_ms, since):
            limit_ms = gap_ms
            since = time.ticks_ms()
            if time.ticks_diff(since, begun) > ANSWER_MS:  # stray light that never ends
                break
            room = min(self._end - self._start, ANSWER_BYTES - n)
            copy_bytes(answer, n, self._head.data, self._start, room)
            used = complete(answer, n + room)
            if used:
                self._start += used - n
                n = used
                break
            self._start += room
            n += room
        return bytes(memoryview(answer)[:n])
