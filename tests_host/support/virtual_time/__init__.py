"""The unmodified firmware on CPython, in virtual time, in front of the bit-accurate line: a minute of it takes 0.1 s.

    with Probe(tmp_path, SmlMeter(), {"protocol": "sml"}, noise=Noise(burst_hz=0.5)) as probe:
        probe.run_until(60, done=lambda: probe.of("/live"))    # line time in s, from the probe's first start
        probe.published[0]                                     # Message(at_s, topic, payload, retain), in order
        probe.of("/state")                                     # those whose topic ends so; .object() is their JSON
        probe.sent                                             # the meter's telegrams: Sent(begin_s, end_s, expected)
        probe.diagnostics()                                    # the App's, now; probe.notice() likewise
        probe.retained                                         # what the broker keeps: topic -> payload
        probe.say("homeassistant/status", "online")            # a message from the broker
        probe.swap(IecMeter("C"), invert=True)                 # another meter stands there from now on
        probe.restart()                                        # of the firmware, with the files that are there
        probe.now_s, probe.started_s, probe.log, probe.line    # ... its last start; what it printed; the light

`source` is a meter of tools/optoprobe/virtual, any Source (virtual.source), or bytes, played in a loop. `invert`: the
head's electronics turn the light round, so no light is a low pin. `phase_s`: for how long the meter has been there when
the probe is switched on. `settings` lie over a Wi-Fi, a broker and the probe id "cellar"; None leaves the file that is
there. `board` is what board.json holds, else that of the virtual board; with a `direction`, nothing
is sent while its pin is low, and nothing heard while it is high. `late_ms()` is asked how many ms later than it
wished a sleeping task gets its turn, on a chip that has other things to do.

What is real: all of firmware/ and lib/metering, fresh for every start and seen by nobody else (modules), but for
firmware.mqtt.sockets. What stands in: machine (chip), network and umqtt (broker), time, and asyncio (tasks), whose
clock jumps from one task's turn to the next. The network's thread only runs between the tasks' turns: when it has slept
for long enough, or something waits for it; the broker is there from the start. Whatever a task raises, run_until()
raises, WatchdogBites where the watchdog was not fed in time, and RuntimeError where the network has failed and not
`may_fail`. Line, noise, echo and receivers (medium) are those of optoprobe.virtual, looked at whenever the firmware
looks.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metering.line import Line
from optoprobe.environment import runtime
from optoprobe.virtual.channel import Noise

from .broker import Broker, Message
from .chip import Chip, WatchdogBites
from .medium import MS, NS, LightOnly, OpticalMedium, Sent
from .modules import Modules
from .tasks import Tasks, Thread

__all__ = ["MS", "LightOnly", "Message", "OpticalMedium", "Probe", "Sent", "WatchdogBites"]

PROBE_ID = "cellar"
_SETTINGS = {"publish_interval_s": 0, "wifi_ssid": "home", "mqtt_host": "broker", "probe_id": PROBE_ID, "ntp_host": ""}
_EPOCH_S = 1_780_000_000  # time.time() when the probe is switched on
_REST_MS = 100  # the network's thread looks about at least so often while it has nothing to do
_TICKS = 1 << 30  # time.ticks_ms() goes round


class Probe:
    """See the top of this file. To be used in a `with`, in which the working directory is `directory`."""

    def __init__(
        self,
        directory: Path,
        source: Any,
        settings: dict[str, Any] | None = None,
        *,
        line: Line | None = None,
        invert: bool = False,
        noise: Noise | None = None,
        echo: bool = False,
        clock_ppm: int = 0,
        gap_ns: int = 0,
        phase_s: float = 0.0,
        board: dict[str, Any] | None = None,
        late_ms: Callable[[], int] | None = None,
        seed: int = 1,
    ) -> None:
        self.directory = directory
        self.broker = Broker(lambda: self.now_s)
        self.log: list[str] = []
        self.started_s = 0.0
        self.may_fail = False
        self._random = random.Random(seed)
        self._late_ms = late_ms
        directory.mkdir(parents=True, exist_ok=True)
        if settings is not None or not (directory / "settings.json").exists():
            (directory / "settings.json").write_text(json.dumps(_SETTINGS | (settings or {})))
        board = board or json.loads((runtime.REPO / "board_configs" / "virtual.json").read_text())
        (directory / "board.json").write_text(json.dumps(board))
        self.line = OpticalMedium(noise, echo, clock_ppm, gap_ns)
        self.line.now_ns = -int(phase_s * NS)
        self.line.mount(source, line, invert, self.line.now_ns)
        self.line.advance(0)
        self.chip = Chip(self.line, board["uart"].get("direction"), lambda: self.tasks.now_ms)
        self._before: str | None = None

    def __enter__(self) -> Probe:
        self._before = os.getcwd()
        os.chdir(self.directory)
        try:
            self._start(0)
        except BaseException:
            os.chdir(self._before)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._before is not None
        self._end()
        os.chdir(self._before)

    # --- what a test does ---

    @property
    def now_s(self) -> float:
        """Line time since the probe's first start."""
        return self.tasks.now_ms / 1000

    def run_until(self, until_s: float, done: Callable[[], Any] | None = None) -> bool:
        """Time passes to `until_s`, or until `done()`, asked when something was published and every 100 ms; was it?"""
        if done is not None and done():
            return True
        self._done = done
        self._is_done = False
        self.tasks.run(round(until_s * 1000), self._between)
        if not self._is_done:
            self.line.advance_ms(self.tasks.now_ms)
        return self._is_done

    def run_for(self, seconds: float, done: Callable[[], Any] | None = None) -> bool:
        """The same, from now on."""
        return self.run_until(self.now_s + seconds, done)

    def of(self, ending: str, since_s: float = 0.0) -> list[Message]:
        """What was published from `since_s` on under a topic that ends so."""
        return [message for message in self.published if message.topic.endswith(ending) and message.at_s >= since_s]

    def newest(self) -> dict[str, str]:
        """The newest value of each key of the meter's messages."""
        found: dict[str, str] = {}
        for message in self.of("/state") + self.of("/live"):
            found |= message.object()
        return found

    @property
    def published(self) -> list[Message]:
        return self.broker.published

    @property
    def retained(self) -> dict[str, bytes]:
        return self.broker.retained

    @property
    def sent(self) -> list[Sent]:
        return self.line.sent

    def diagnostics(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.app.diagnostics.counts()))

    def notice(self) -> str:
        return self.app.diagnostics.notice()

    def say(self, topic: str, payload: str | bytes) -> None:
        """A message from the broker, not retained; whoever has subscribed hears it at the network's next turn."""
        self.broker.say(topic, payload)
        self._unread = True

    def swap(self, source: Any, *, line: Line | None = None, invert: bool = False, after_s: float = 1.0) -> None:
        """`source` stands before the head from `after_s` on, where its own time begins; it is dark till then."""
        now_ns = self.tasks.now_ms * MS
        self.line.advance(now_ns)
        self.line.mount(source, line, invert, now_ns + int(after_s * NS))

    def restart(self, *, power_cut: bool = True, off_s: float = 0.0) -> None:
        """Off, `off_s` of line time without it, and on again; without a power cut RTC memory is what it was."""
        self._end()
        self.chip.switch_off(power_cut)
        self._start(self.tasks.now_ms + round(off_s * 1000))

    # --- the firmware's life ---

    def _start(self, at_ms: int) -> None:
        self.tasks = Tasks(at_ms, self._late_ms)
        self.started_s = at_ms / 1000
        self.chip.switch_on()
        self.broker.forget_said()
        self._unread = False  # is there something that the network waits for?
        self._look_ms = at_ms
        self._done: Callable[[], Any] | None = None
        self._is_done = False
        self._thread: Thread | None = None
        self.modules = Modules(self._stand_ins(), self.log.append)
        outbox = self.modules.load("firmware.mqtt.outbox").Outbox
        for name in [name for name in vars(outbox) if not name.startswith("_") and name not in ("pop_unsent", "meter")]:
            setattr(outbox, name, self._noticed(getattr(outbox, name)))
        self.app = self.modules.load("firmware.app").App()
        self.tasks.create_task(self.app.run())

    def _end(self) -> None:
        for coroutine in [task.coroutine for _, _, task in self.tasks._turns]:
            coroutine.close()
        if self._thread is not None:
            self._thread.close()
        self.broker.session_ends()

    def _noticed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the outbox after which the network has something to do."""

        def called(*arguments: Any) -> Any:
            self._unread = True
            return method(*arguments)

        return called

    def _start_new_thread(self, function: Any, arguments: Any) -> int:
        self._thread = Thread(lambda: function(*arguments))
        self._network = function.__self__
        self.tasks.create_task(self._thread)
        return 1

    def _between(self) -> bool:
        """After a task's turn: the network looks whether there is anything to do. Is the test's wish fulfilled?"""
        now_ms = self.tasks.now_ms
        self.chip.check_watchdog(now_ms)
        if not self._unread and now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + _REST_MS
        self._unread = False
        thread = self._thread
        if thread is not None:
            if thread.rests:
                thread.rests = False
                self.tasks.create_task(thread)  # its turn is next
            if self._network.failures and not self.may_fail:
                raise RuntimeError(f"the network has failed: {self._network.fault}")
        if self._done is not None and self._done():
            self._is_done = True
        return self._is_done

    def _sleep(self, ms: int) -> None:
        """time.sleep_ms: of the network's thread, while which the loop goes on, or of the loop, which stalls."""
        if self._thread is not None and self._thread.runs:
            self._thread.sleep(ms, sys._getframe(1).f_code.co_name == "_turn")
        else:
            self.tasks.now_ms += ms

    # --- what stands in for hardware and libraries ---

    def _stand_ins(self) -> dict[str, Any]:
        clock = self._clock(self.tasks, self.tasks.now_ms)
        return {
            **self.broker.modules(clock),
            "machine": self.chip.machine(),
            "micropython": _module("micropython", const=lambda value: value, kbd_intr=lambda character: None),
            "ntptime": _module("ntptime", settime=lambda: None, host=""),
            "time": clock,
            "asyncio": self.tasks.module,
            "gc": _module(
                "gc",
                collect=lambda: None,
                mem_free=lambda: 100_000,
                mem_alloc=lambda: 50_000,
                threshold=lambda *_: None,
            ),
            "_thread": _module(
                "_thread",
                allocate_lock=contextlib.nullcontext,
                stack_size=lambda *_: 0,
                start_new_thread=self._start_new_thread,
            ),
            "random": self._random,
        }

    def _clock(self, tasks: Tasks, start_ms: int) -> Any:
        """The firmware's time: ticks from its start on, which go round."""
        return _module(
            "time",
            ticks_ms=lambda: (tasks.now_ms - start_ms) % _TICKS,
            ticks_diff=lambda later, earlier: (later - earlier + _TICKS // 2) % _TICKS - _TICKS // 2,
            ticks_add=lambda ticks, ms: (ticks + ms) % _TICKS,
            sleep_ms=self._sleep,
            sleep_us=lambda us: self._sleep(-(-us // 1000)),
            sleep=lambda s: self._sleep(round(s * 1000)),
            time=lambda: _EPOCH_S + tasks.now_ms // 1000,
            gmtime=time.gmtime,
            localtime=time.gmtime,
        )


def _module(name: str, **members: Any) -> Any:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made
