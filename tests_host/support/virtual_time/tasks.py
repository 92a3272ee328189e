"""asyncio and threads whose clock jumps from one task's turn to the next."""

from __future__ import annotations

import heapq
import threading
import types
from collections.abc import Callable, Generator
from typing import Any

_STUCK = 100_000  # turns of tasks without any time passing


class CancelledError(BaseException):
    """What a cancelled task is thrown."""


class _Task:
    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine
        self.ended = False
        self.result: Any = None
        self.waiting: list[_Task] = []
        self.thrown: BaseException | None = None

    def done(self) -> bool:
        return self.ended


@types.coroutine
def _sleep_ms(ms: int) -> Generator[Any, Any, None]:
    yield ms if ms > 0 else 0


class Tasks:
    """As much of asyncio as the firmware uses. `now_ms` is the time, `between` is called after every turn of a task."""

    def __init__(self, start_ms: int, late_ms: Callable[[], int] | None) -> None:
        self.now_ms = start_ms
        self._late_ms = late_ms
        self.current: _Task | None = None
        self._order = 0
        self._turns: list[tuple[int, int, _Task]] = []  # a heap
        self.module = module = types.ModuleType("asyncio")
        module.sleep_ms = _sleep_ms  # type: ignore[attr-defined]
        module.sleep = lambda s: _sleep_ms(round(s * 1000))  # type: ignore[attr-defined]
        module.create_task = self.create_task  # type: ignore[attr-defined]
        module.gather = self._gather  # type: ignore[attr-defined]
        module.CancelledError = CancelledError  # type: ignore[attr-defined]

    def create_task(self, coroutine: Any) -> _Task:
        task = _Task(coroutine)
        task.cancel = lambda: self._cancel(task)  # type: ignore[attr-defined]
        self._at(self.now_ms, task)
        return task

    def _cancel(self, task: _Task) -> None:
        if not task.ended:
            task.thrown = CancelledError()
            self._turns = [turn for turn in self._turns if turn[2] is not task]
            heapq.heapify(self._turns)
            self._at(self.now_ms, task)

    async def _gather(self, *coroutines: Any) -> list[Any]:
        tasks = [self.create_task(coroutine) for coroutine in coroutines]
        for task in tasks:
            await self._end_of(task)
        return [task.result for task in tasks]

    @types.coroutine
    def _end_of(self, task: _Task) -> Generator[Any, Any, None]:
        while not task.ended:
            assert self.current is not None
            task.waiting.append(self.current)
            yield None

    def _at(self, ms: int, task: _Task) -> None:
        self._order += 1
        heapq.heappush(self._turns, (ms, self._order, task))

    def run(self, until_ms: int, between: Callable[[], bool]) -> None:
        """Time passes to `until_ms`, or until `between` is True."""
        stuck = 0
        while self._turns and self._turns[0][0] <= until_ms:
            at_ms, _, task = heapq.heappop(self._turns)
            if at_ms > self.now_ms:
                self.now_ms = at_ms
                stuck = 0
            stuck += 1
            if stuck > _STUCK:
                raise RuntimeError(f"tasks take turns, and time stands still at {self.now_ms} ms")
            self.current = task
            try:
                if task.thrown is None:
                    wait_ms = task.coroutine.send(None)
                else:
                    thrown, task.thrown = task.thrown, None
                    wait_ms = task.coroutine.throw(thrown)
                if wait_ms is not None:
                    late_ms = self._late_ms() if self._late_ms and wait_ms else 0
                    self._at(self.now_ms + wait_ms + late_ms, task)
            except (StopIteration, CancelledError) as end:
                task.ended = True
                task.result = getattr(end, "value", None)
                for waiting in task.waiting:
                    self._at(self.now_ms, waiting)
            finally:
                self.current = None
            if between():
                return
        self.now_ms = max(self.now_ms, until_ms)


class _Stopped(BaseException):
    """The end of the network's thread."""


class Thread:
    """A thread that runs only while send() waits for it, and so a task among the others: it sleeps where they wait.

    `rests`: it sleeps between two looks of Network._turn in firmware.mqtt.session, and may be woken at any time.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.rests = False
        self.ended = False
        self._function = function
        self._slept_ms: int | None = 0
        self._stopping = False
        self._error: BaseException | None = None
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._stopping:
                self._function()
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
        self.ended = True
        self._back.release()

    @property
    def runs(self) -> bool:
        return threading.current_thread() is self._thread

    def sleep(self, ms: int, rests: bool) -> None:
        """Called in it: everybody else goes on."""
        self.rests = rests
        self._slept_ms = None if rests else ms
        self._back.release()
        self._go.acquire()
        if self._stopping:
            raise _Stopped

    def send(self, _: None) -> int | None:
        """Let it run until it sleeps; for how long, None while it rests."""
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error
        if self.ended:
            raise StopIteration
        return self._slept_ms

    def close(self) -> None:
        self._stopping = True
        if not self.ended:
            self._go.release()
            self._thread.join()
