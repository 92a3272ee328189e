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

What is real: all of firmware/ and lib/metering, fresh for every start and seen by nobody else (they are executed with
an import of their own, sys.modules stays as it is), but for mqtt_socket. What stands in: machine, network, umqtt, time
and asyncio, whose clock jumps from one task's turn to the next. The network's thread is one, which only runs between
the tasks' turns: when it has slept for long enough, or something waits for it; the broker is there from the start.
Whatever a task raises, run_until() raises, WatchdogBites where the watchdog was not fed in time, and RuntimeError where
the network has failed and not `may_fail`. Line, noise, echo and receivers are those of optoprobe.virtual.line, looked
at whenever the firmware looks.
"""

from __future__ import annotations

import builtins
import heapq
import json
import os
import random
import sys
import threading
import time
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import topic_matches_sub

from metering.line import Line
from optoprobe import runtime
from optoprobe.virtual.channel import Channel, Noise
from optoprobe.virtual.source import CaptureSource, MeterSource, Transmission, receiver_of
from optoprobe.virtual.uart import NS, MeterReceiver, Receiver, Transmitter, upright

MS = NS // 1000
PROBE_ID = "cellar"
_SETTINGS = {"publish_interval_s": 0, "wifi_ssid": "home", "mqtt_host": "broker", "probe_id": PROBE_ID, "ntp_host": ""}
_EPOCH_S = 1_780_000_000  # time.time() when the probe is switched on
_REST_MS = 100  # the network's thread looks about at least so often while it has nothing to do
_TICKS = 1 << 30  # time.ticks_ms() goes round
_STUCK = 100_000  # turns of tasks without any time passing
_PACKAGES = {"firmware": runtime.REPO / "firmware", "metering": runtime.REPO / "lib" / "metering"}


class Message(NamedTuple):
    """One that the probe has published, `at_s` of line time."""

    at_s: float
    topic: str
    payload: bytes
    retain: bool

    def object(self) -> dict[str, Any]:
        """The payload as the JSON object it has to be."""
        value = json.loads(self.payload)
        assert isinstance(value, dict)
        return value


class Sent(NamedTuple):
    """A telegram that has left from `begin_s` to `end_s`, and what a reader should make of it."""

    begin_s: float
    end_s: float
    expected: Any


class WatchdogBites(Exception):
    """The chip would have been reset."""


class LightOnly:
    """A source that sends nothing but light: `light` yields (on_ns, off_ns) in order, from the moment it is there."""

    def __init__(self, light: Any) -> None:
        self._light = iter(light)
        self._next: tuple[int, int] | None = next(self._light, None)

    def wake_s(self) -> float | None:
        return self._next[0] / NS if self._next else None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        transitions: list[tuple[int, int]] = []
        until_ns = now_s * NS
        while self._next and self._next[0] <= until_ns and len(transitions) < 512:
            transitions += [(self._next[0], 1), (self._next[1], 0)]
            self._next = next(self._light, None)
        if not transitions:
            return None
        return Transmission(transitions[0][0] / NS, b"", telegram=False, light=transitions)


# --- the line --------------------------------------------------------------------------------------------------------


class _OpticalMedium:
    """The meter, the light between it and the head, and the head's UART. `now_ns` is how far all of it has been lived.

    `received` is what the UART holds. `sent`: telegrams whose last bit has left; `said`: what the head's LED has sent.
    """

    def __init__(self, noise: Noise | None, echo: bool, clock_ppm: int, gap_ns: int) -> None:
        self.now_ns = 0
        self.invert = False
        self.received = bytearray()
        self.room = 1 << 30
        self.sent: list[Sent] = []
        self.said: list[tuple[int, bytes]] = []  # by the head, and when
        self.bytes_received = 0
        self._noise = noise
        self._echo = echo
        self._clock_ppm = clock_ppm
        self._gap_ns = gap_ns
        self._uart: Line | None = None
        self._receiver: Receiver | None = None
        self._led = Transmitter(Line(9600))
        self._led.wait_until(-(1 << 62))

    # the meter's side

    def mount(self, source: Any, line: Line | None, invert: bool, from_ns: int) -> None:
        """`source` stands before the head from `from_ns` on, which is 0 s of its own time; darkness till then."""
        if isinstance(source, (bytes, bytearray)):
            source = CaptureSource(bytes(source))
        its_line = line or getattr(source, "line", None) or Line(9600)
        if not hasattr(source, "poll"):
            source = MeterSource(source)
        self.source = source
        self._base_ns = from_ns
        self._line = its_line
        self._source_line = getattr(source, "line", None)
        self._wake_s = getattr(source, "wake_s", None)
        self._hear = receiver_of(source)
        self._meter = self._transmitter(self._line)
        self._meter.wait_until(from_ns)
        self._meter_receiver = self._receiver_with_its_clock(self._source_line or self._line)
        self._began_ns: int | None = None  # when the telegram being sent did
        self._ending: list[tuple[int, int, Any]] = []  # telegrams not yet fully sent
        before = self.channel.light ^ self.invert if hasattr(self, "channel") else None
        self.channel = Channel(self._noise, idle_light=self._meter.idle_light, start_ns=self.now_ns)
        self.invert = invert
        if self._receiver is not None:
            self._tune(before)

    def _transmitter(self, line: Line) -> Transmitter:
        return Transmitter(line, clock_ppm=self._clock_ppm, gap_ns=self._gap_ns)

    def _receiver_with_its_clock(self, line: Line) -> MeterReceiver:
        """The meter's receiver has the meter's clock."""
        return MeterReceiver(Line(line.baud * (10**6 + self._clock_ppm) // 10**6, line.bits, line.parity, line.stop))

    def _follow_source(self) -> None:
        line = getattr(self.source, "line", None)
        if line is not self._source_line:
            self._source_line = line
            line = line or self._line
            line = Line(line.baud * (10**6 + self._clock_ppm) // 10**6, line.bits, line.parity, line.stop)
            self._meter_receiver.set_line(line)

    # the head's side

    def tune(self, line: Line) -> None:
        """Settings for the UART, both directions; what was received is dropped."""
        self._uart = line
        self.received.clear()
        self._tune(None)
        before = self._led
        self._led = Transmitter(upright(line))
        self._led.go_on_from(before)

    def _tune(self, before: int | None) -> None:
        """`before`: the pin's light before it was another meter's."""
        line = self._uart
        assert line is not None
        seen = Line(line.baud, line.bits, line.parity, line.stop, line.invert ^ self.invert)
        light = self.channel.light
        self._receiver = Receiver(seen, light=light if before is None else before ^ self.invert)
        if before is not None and before ^ self.invert != light:
            self._receiver.receive([(self.now_ns, light)], self.now_ns)

    def head_sends(self, data: bytes) -> None:
        self.said.append((self.now_ns, data))
        light = self._led.send(data, self.now_ns)
        self._meter_receiver.put(light)
        if self._echo:
            self.channel.put_own(light)

    @property
    def all_sent(self) -> bool:
        """Has the last bit of what the head sends left?"""
        return self._led.idle_ns <= self.now_ns

    # time

    def advance(self, until_ns: int) -> None:
        """Live to `until_ns`, with a stop wherever the meter hears a byte or has something to do by itself."""
        while self.now_ns < until_ns:
            at_ns = until_ns
            due_ns = self._meter_receiver.due_ns
            if due_ns is not None and self.now_ns < due_ns < at_ns:
                at_ns = due_ns
            if self._wake_s is not None:
                wake_s = self._wake_s()
                wake_ns = 0 if wake_s is None else int(wake_s * NS) + 1 + self._base_ns
                if self.now_ns < wake_ns < at_ns:
                    at_ns = wake_ns
                if self.now_ns < self._meter.idle_ns < at_ns:
                    at_ns = self._meter.idle_ns
            self._pass(at_ns)

    def _pass(self, until_ns: int) -> None:
        if self._meter_receiver.due_ns is not None:
            for at_ns, value in self._meter_receiver.hear(until_ns):
                self._hear(value, (at_ns - self._base_ns) / NS)
                self._follow_source()
        if self._meter.idle_ns <= until_ns:
            self._send_from_source(until_ns)
            self._follow_source()
        transitions = self.channel.advance(until_ns)
        receiver = self._receiver
        self.now_ns = until_ns
        if receiver is not None and (transitions or receiver._start >= 0):
            got = receiver.receive(transitions, until_ns)
            if got:
                self.bytes_received += len(got)
                self.received += bytes([value for _, value in got])
                del self.received[self.room :]
        while self._ending and self._ending[0][0] <= until_ns:
            end_ns, began_ns, expected = self._ending.pop(0)
            self.sent.append(Sent(began_ns / NS, end_ns / NS, expected))

    def _send_from_source(self, until_ns: int) -> None:
        base_ns = self._base_ns
        while self._meter.idle_ns <= until_ns:
            free_ns = self._meter.idle_ns
            said = self.source.poll((until_ns - base_ns) / NS, (free_ns - base_ns) / NS)
            if said is None:
                return
            if said.line is not None and said.line is not self._line:
                before = self._meter
                self._line = said.line
                self._meter = self._transmitter(said.line)
                self._meter.go_on_from(before)
            at_ns = max(int(said.at_s * NS) + base_ns, free_ns, self.now_ns if self._began_ns is None else 0)
            if said.telegram and self._began_ns is None:
                self._began_ns = at_ns
            if said.light is None:
                light = self._meter.send(said.data, at_ns)
            else:
                light = [(ns + base_ns, on) for ns, on in said.light]
                self._meter.wait_until(light[-1][0])
            self.channel.put(light)
            if said.telegram and said.last and self._began_ns is not None:
                self._ending.append((self._meter.idle_ns, self._began_ns, said.expected))
                self._began_ns = None


# --- the modules -----------------------------------------------------------------------------------------------------

_code: dict[Path, Any] = {}  # compiled once: executing all of it takes 5 ms


class _Modules:
    """The firmware's own sys.modules: its packages executed anew, `given` in the place of what is not there."""

    def __init__(self, given: dict[str, Any], say: Callable[[str], None]) -> None:
        self.loaded: dict[str, Any] = {}
        self._given = given
        the_sys = types.ModuleType("sys")
        the_sys.__dict__.update(sys.__dict__)
        the_sys.modules = self.loaded  # type: ignore[attr-defined]
        given["sys"] = the_sys
        self._builtins = dict(vars(builtins))
        self._builtins["__import__"] = self._import
        self._builtins["print"] = lambda *words, **_: say(" ".join(map(str, words)))

    def load(self, name: str) -> Any:
        """The module `name` of firmware or metering, or one that stands in."""
        module = self.loaded.get(name)
        if module is not None:
            return module
        if name in self._given:
            return self._given[name]
        package, _, rest = name.rpartition(".")
        parent = self.load(package) if package else None
        path = _PACKAGES[name.split(".")[0]].joinpath(*name.split(".")[1:])
        is_package = path.is_dir()
        path = path / "__init__.py" if is_package else path.with_suffix(".py")
        if path not in _code:
            try:
                source = b"" if is_package and not path.exists() else path.read_bytes()
            except FileNotFoundError:
                raise ModuleNotFoundError(f"no module {name}", name=name) from None
            _code[path] = compile(source, str(path), "exec", dont_inherit=True)
        module = types.ModuleType(name)
        module.__dict__["__builtins__"] = self._builtins
        module.__file__ = str(path)
        module.__package__ = name if is_package else package
        self.loaded[name] = module
        try:
            exec(_code[path], module.__dict__)
        except BaseException:
            del self.loaded[name]
            raise
        if parent is not None:
            setattr(parent, rest, module)
        return module

    def _import(self, name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.split(".")[0]
        if top not in _PACKAGES and top not in self._given:
            return builtins.__import__(name, globals_, locals_, fromlist, level)
        if top == "micropython" and globals_ and globals_["__name__"].startswith("metering"):
            raise ImportError  # the core takes it for CPython, which it is
        module = self.load(name)
        if not fromlist:
            return self.load(top)
        for part in fromlist:
            if getattr(module, "__file__", "").endswith("__init__.py") and not hasattr(module, part):
                self.load(name + "." + part)
        return module


# --- tasks -----------------------------------------------------------------------------------------------------------


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


class _Tasks:
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


class _Thread:
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


# --- the probe -------------------------------------------------------------------------------------------------------


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
        self.published: list[Message] = []
        self.retained: dict[str, bytes] = {}
        self.log: list[str] = []
        self.started_s = 0.0
        self.may_fail = False
        self._random = random.Random(seed)
        self._late_ms = late_ms
        self._rtc = b""
        self._reset_cause = 1
        directory.mkdir(parents=True, exist_ok=True)
        if settings is not None or not (directory / "settings.json").exists():
            (directory / "settings.json").write_text(json.dumps(_SETTINGS | (settings or {})))
        board = board or json.loads((runtime.REPO / "board_configs" / "virtual.json").read_text())
        (directory / "board.json").write_text(json.dumps(board))
        self._direction = board["uart"].get("direction")
        self._direction_pin: Any = None
        self.line = _OpticalMedium(noise, echo, clock_ppm, gap_ns)
        self.line.now_ns = -int(phase_s * NS)
        self.line.mount(source, line, invert, self.line.now_ns)
        self.line.advance(0)
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
            self.line.advance(self.tasks.now_ms * MS)
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
    def sent(self) -> list[Sent]:
        return self.line.sent

    def diagnostics(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.app.diagnostics.counts()))

    def notice(self) -> str:
        return self.app.diagnostics.notice()

    def say(self, topic: str, payload: str | bytes) -> None:
        """A message from the broker, not retained; whoever has subscribed hears it at the network's next turn."""
        self._said.append((topic.encode(), payload.encode() if isinstance(payload, str) else payload))
        self._unread = True

    def swap(self, source: Any, *, line: Line | None = None, invert: bool = False, after_s: float = 1.0) -> None:
        """`source` stands before the head from `after_s` on, where its own time begins; it is dark till then."""
        now_ns = self.tasks.now_ms * MS
        self.line.advance(now_ns)
        self.line.mount(source, line, invert, now_ns + int(after_s * NS))

    def restart(self, *, power_cut: bool = True, off_s: float = 0.0) -> None:
        """Off, `off_s` of line time without it, and on again; without a power cut RTC memory is what it was."""
        self._end()
        if power_cut:
            self._rtc = b""
        self._reset_cause = 1 if power_cut else 2
        self._start(self.tasks.now_ms + round(off_s * 1000))

    # --- the firmware's life ---

    def _start(self, at_ms: int) -> None:
        self.tasks = _Tasks(at_ms, self._late_ms)
        self.started_s = at_ms / 1000
        self.line.advance(at_ms * MS)
        self.line.received.clear()
        self._said: list[tuple[bytes, bytes]] = []
        self._watchdog_ms: int | None = None  # None: not armed yet
        self._fed_ms = at_ms
        self._unread = False  # is there something that the network waits for?
        self._look_ms = at_ms
        self._done: Callable[[], Any] | None = None
        self._is_done = False
        self._will: tuple[bytes, bytes] | None = None
        self._thread: _Thread | None = None
        self.modules = _Modules(self._stand_ins(), self.log.append)
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
        self._session_ends()

    def _session_ends(self) -> None:
        """Without a word: the broker tells the last will."""
        if self._will is not None:
            self.retained[self._will[0].decode()] = self._will[1]
            self._will = None

    def _noticed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the outbox after which the network has something to do."""

        def called(*arguments: Any) -> Any:
            self._unread = True
            return method(*arguments)

        return called

    def _start_new_thread(self, function: Any, arguments: Any) -> int:
        self._thread = _Thread(lambda: function(*arguments))
        self._network = function.__self__
        self.tasks.create_task(self._thread)
        return 1

    def _between(self) -> bool:
        """After a task's turn: the network looks whether there is anything to do. Is the test's wish fulfilled?"""
        now_ms = self.tasks.now_ms
        if self._watchdog_ms and now_ms - self._fed_ms > self._watchdog_ms:
            raise WatchdogBites(f"nothing has fed it since {self._fed_ms} ms")
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

    def _publish(self, topic: bytes, payload: bytes, retain: bool = False) -> None:
        message = Message(self.now_s, bytes(topic).decode(), bytes(payload), retain)
        self.published.append(message)
        if retain and payload:
            self.retained[message.topic] = message.payload
        elif retain:  # MQTT 3.1.1, 3.3.1.3: forget it
            self.retained.pop(message.topic, None)

    # --- what stands in for hardware and libraries ---

    def _stand_ins(self) -> dict[str, Any]:
        def module(name: str, **members: Any) -> Any:
            made = types.ModuleType(name)
            made.__dict__.update(members)
            return made

        tasks = self.tasks
        start_ms = tasks.now_ms
        simple = module("umqtt.simple", MQTTClient=self._client_class(), MQTTException=Exception, socket=None)
        clock = module(
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
        waste = module(
            "gc",
            collect=lambda: None,
            mem_free=lambda: 100_000,
            mem_alloc=lambda: 50_000,
            threshold=lambda *_: None,
        )

        def sockets_of(timeout_s: int) -> _Sockets:
            return _Sockets(clock, self._session_ends)

        sockets = module("firmware.mqtt.sockets", MqttSockets=sockets_of, STEP_MS=15000, NO_ADDRESS=-202)

        class Lock:
            def __enter__(self) -> None: ...
            def __exit__(self, *_: object) -> None: ...

        threads = module(
            "_thread", allocate_lock=Lock, stack_size=lambda *_: 0, start_new_thread=self._start_new_thread
        )
        return {
            "machine": self._machine(module),
            "micropython": module("micropython", const=lambda value: value, kbd_intr=lambda character: None),
            "network": module("network", STA_IF=0, hostname=lambda name: None, WLAN=_Wlan),
            "ntptime": module("ntptime", settime=lambda: None, host=""),
            "umqtt": module("umqtt", simple=simple),
            "umqtt.simple": simple,
            "firmware.mqtt.sockets": sockets,
            "time": clock,
            "asyncio": tasks.module,
            "gc": waste,
            "_thread": threads,
            "random": self._random,
        }

    def _client_class(self) -> Any:
        probe = self

        class MQTTClient:
            def __init__(self, *_: Any) -> None:
                self.sock = _Socket(probe._publish)
                self._will: tuple[bytes, bytes] | None = None
                self._topics: list[bytes] = []
                self._kept: list[tuple[bytes, bytes]] = []

            def set_callback(self, heard: Any) -> None:
                self._heard = heard

            def set_last_will(self, topic: bytes, payload: bytes, retain: bool = False, qos: int = 0) -> None:
                self._will = topic, payload

            def connect(self, *_: Any) -> None:
                probe._will = self._will

            def ping(self) -> None: ...

            def subscribe(self, topic: bytes) -> None:
                self._topics.append(bytes(topic))
                for kept, payload in probe.retained.items():
                    if topic_matches_sub(bytes(topic).decode(), kept):
                        self._kept.append((kept.encode(), payload))

            def check_msg(self) -> None:
                kept, self._kept = self._kept, []
                said, probe._said = probe._said, []
                for retained, messages in ((True, kept), (False, said)):
                    probe.modules.load("firmware.mqtt.session").umqtt.socket.retained = retained
                    for topic, payload in messages:
                        if any(topic_matches_sub(wanted.decode(), topic.decode()) for wanted in self._topics):
                            self._heard(topic, payload)

            def publish(self, topic: bytes, payload: bytes, retain: bool = False, qos: int = 0) -> None:
                probe._publish(topic, payload, retain)

        return MQTTClient

    def _machine(self, module: Any) -> Any:
        probe = self
        air = self.line

        def now() -> _OpticalMedium:
            air.advance(probe.tasks.now_ms * MS)
            return air

        class RTC:
            def memory(self, data: bytes | None = None) -> bytes | None:
                if data is None:
                    return probe._rtc
                if len(data) > 2048:
                    raise ValueError("buffer too long")
                probe._rtc = bytes(data)
                return None

        class WDT:
            def __init__(self, timeout: int) -> None:
                probe._watchdog_ms = timeout
                self.feed()

            def feed(self) -> None:
                probe._fed_ms = probe.tasks.now_ms

        class Pin:
            IN, OUT, PULL_UP, PULL_DOWN = 1, 3, 2, 1

            def __init__(self, number: int, mode: int = 1, pull: int | None = None, invert: bool = False) -> None:
                self._out = mode == Pin.OUT
                self._value = 0
                if number == probe._direction:
                    probe._direction_pin = self

            def value(self, value: int | None = None) -> int | None:
                if value is not None:
                    if self is probe._direction_pin:
                        now().received.clear()  # of what comes while we send nothing is heard
                    self._value = value
                elif not self._out:
                    now()
                    return air.channel.light ^ 1 ^ air.invert  # no light is a high level
                return self._value

        class UART:
            INV_TX, INV_RX = 32, 4

            def __init__(self, number: int, **settings: Any) -> None:
                self.init(**settings)

            def init(self, baudrate: int, bits: int, parity: int | None, stop: int, invert: int, **others: Any) -> None:
                now()
                parity_letter = None if parity is None else "EO"[parity]
                air.room = others.get("rxbuf", air.room)
                air.tune(Line(baudrate, bits, parity_letter, stop, bool(invert & UART.INV_RX)))

            def any(self) -> int:
                now()
                return len(air.received)

            def readinto(self, buffer: Any) -> int | None:
                now()
                received = air.received
                if not received:
                    return None
                n = min(len(buffer), len(received))
                buffer[:n] = received[:n]
                del received[:n]
                return n

            def write(self, data: bytes) -> int:
                pin = probe._direction_pin
                if probe._direction is None or pin is not None and pin.value():
                    now().head_sends(bytes(data))
                return len(data)

            def txdone(self) -> bool:
                return now().all_sent

        return module(
            "machine",
            PWRON_RESET=1,
            HARD_RESET=2,
            WDT_RESET=3,
            DEEPSLEEP_RESET=4,
            SOFT_RESET=5,
            reset_cause=lambda: probe._reset_cause,
            unique_id=lambda: b"\x24\x0a\xc4\x0f\xab\x1e",
            RTC=RTC,
            WDT=WDT,
            Pin=Pin,
            Signal=Pin,
            UART=UART,
        )


class _Wlan:
    """In the Wi-Fi, always."""

    def __init__(self, interface: int) -> None: ...

    def active(self, on: bool) -> None: ...

    def isconnected(self) -> bool:
        return True

    def status(self, what: str) -> int:
        return -61


class _Sockets:
    """firmware.mqtt.sockets.MqttSockets over which something has always just come."""

    def __init__(self, clock: Any, ends: Callable[[], None]) -> None:
        self._clock = clock
        self.close = ends
        self.retained = False

    @property
    def received_at(self) -> int:
        return self._clock.ticks_ms()

    sent_at = received_at

    def connection(self) -> _Sockets:
        return self


    def flush(self) -> None: ...


class _Socket:
    """What a PUBLISH of many pieces is written to (MQTT 3.1.1, 3.3)."""

    def __init__(self, publish: Callable[[bytes, bytes, bool], None]) -> None:
        self._publish = publish
        self._written = bytearray()

    def write(self, data: bytes) -> None:
        self._written += data
        if len(self._written) < 2:
            return
        length = shift = 0
        for at in range(1, len(self._written)):
            length |= (self._written[at] & 0x7F) << shift
            shift += 7
            if self._written[at] < 0x80:
                break
        else:
            return
        body = bytes(self._written[at + 1 :])
        if len(body) < length:
            return
        topic_end = 2 + int.from_bytes(body[:2], "big")
        self._publish(body[2:topic_end], body[topic_end:length], bool(self._written[0] & 1))
        self._written.clear()

    def flush(self) -> None: ...

    def close(self) -> None: ...
