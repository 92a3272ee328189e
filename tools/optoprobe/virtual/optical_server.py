"""A meter on the virtual line in real time, served over loopback to the fake UART of a virtual board.

    source ─► Transmitter ─┬► Channel (noise, echo) ─► Receiver (the board's settings) ─► TCP ─► board
    (meter, capture)       └► ... one channel and receiver for every board connected
    source.receive() ◄─ MeterReceiver (settings of the moment) ◄─ Transmitter (the board's) ◄─ TCP ◄─ board

Protocol: the board connects to 127.0.0.1:port and sends first one ASCII line

    uart <id> <baud> <bits> <parity N|E|O> <stop> <invert 0|1>\\n

then raw bytes both ways: to the board what its UART receives with those settings, from the board what its LED sends.
A connection that says `light <id>` is told the level before that UART instead, at each change: 1 for light, 0 for none.
New settings are a new connection: one with the id of a board that has left goes on in its place, in the same air
(noise, light) and with what its LED was still sending. Bytes reach the board when the UART would have them, up to
`_STEP_S` later. A source with a `line` changes it as it likes, sends with it and is heard with it from that instant.

A meter sends whether or not it is listened to: sends never block, each board has a queue of 64 KiB and what comes past
it is dropped and counted in `overruns`. In front of it stand the kernel's socket buffers (hundreds of KiB), so a board
that does not read loses bytes much later here than with the 16 KiB of a real head.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metering.line import Line

from .channel import Channel, Noise
from .source import CaptureSource, MeterSource, Source, receiver_of
from .uart import NS, MeterReceiver, Receiver, Transition, Transmitter, upright

QUEUE_LIMIT = 64 * 1024
_STEP_S = 0.005
_HEADER_LIMIT = 80
_LIGHT = b"light "
_HEADER = re.compile(rb"uart \S+ (\d{1,7}) ([78]) ([NEO]) ([12]) ([01])\r?$")


@dataclass(frozen=True)
class Sent:
    """A telegram whose last bit has left at `monotonic_s` (time.monotonic()), and what a reader should make of it."""

    monotonic_s: float
    expected: Any
    n_bytes: int


@dataclass
class _Watcher:
    """A connection that is told the light before the UART `id`."""

    connection: socket.socket
    id: bytes
    told: int | None = None


class _Board:
    """One connection: the air in front of this head, its UART, and the bytes on their way to it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.header = bytearray()
        self.id = b""
        self.line: Line | None = None  # None until the header has come
        self.since_ns = 0
        self.queue = bytearray()

    def switch_on(self, line: Line, channel: Channel, meter_receiver: MeterReceiver, led_idle_ns: int = 0) -> None:
        """The board's settings are known. `meter_receiver` hears this head's LED, which is busy until `led_idle_ns`."""
        self.line = line
        self.since_ns = channel.now_ns
        self.channel = channel
        self.receiver = Receiver(line, light=channel.light)
        self.led = Transmitter(upright(line))
        self.led.wait_until(led_idle_ns)
        self.meter_receiver = meter_receiver


def parse_header(line: bytes) -> Line | None:
    """Line settings from a connection's first line (without its newline); None when it is not one."""
    match = _HEADER.match(line)
    if match is None or int(match[1]) == 0:
        return None
    parity = match[3].decode()
    return Line(int(match[1]), int(match[2]), None if parity == "N" else parity, int(match[4]), match[5] == b"1")


class OpticalServer:
    """Runs a source on the line in a thread and serves boards on `port` of 127.0.0.1 (chosen when None is asked for).

    `source`: a Source, a simulated meter, or a capture's bytes (played in a loop). `speed`: line time that passes in a
    second of real time. `noise` disturbs what every head sees, `echo` lets a head see its own LED, `clock_ppm` and
    `gap_ns` are the meter's. Usable in a `with`.

    `telegrams_sent`: telegrams that began after a board had connected and whose last bit has left with it still there.
    `late_ms`: how long line time stood still at the most, as on a busy machine; what was to come then came at once.
    `log`: the newest `log_size` of them, in order. `bytes_sent`, `bytes_to_boards`, `overruns` (bytes dropped),
    `refused` (connections whose first line was wrong). Telegrams without readings (attention) count too.
    """

    def __init__(
        self,
        source: Any,
        line: Line | None = None,
        *,
        speed: float = 1,
        noise: Noise | None = None,
        echo: bool = False,
        clock_ppm: int = 0,
        gap_ns: int = 0,
        log_size: int = 4096,
        port: int = 0,
    ) -> None:
        if speed <= 0:
            raise ValueError("speed: above 0")
        if isinstance(source, (bytes, bytearray)):
            source = CaptureSource(bytes(source))
        elif not hasattr(source, "poll"):
            source = MeterSource(source)
        self.source: Source = source
        self._source_line: Line | None = getattr(source, "line", None)
        self.line = line or self._source_line or Line(9600)
        self.speed = speed
        self.echo = echo
        self.telegrams_sent = 0
        self.log: deque[Sent] = deque(maxlen=log_size)
        self.bytes_sent = 0
        self.bytes_to_boards = 0
        self.overruns = 0
        self.refused = 0
        self.late_ms = 0
        self._noise = noise
        self._clock_ppm = clock_ppm
        self._gap_ns = gap_ns
        self._meter = Transmitter(self.line, clock_ppm=clock_ppm, gap_ns=gap_ns)
        self._wake_s: Callable[[], float | None] | None = getattr(source, "wake_s", None)
        self._receive = receiver_of(source)
        self._light = self._meter.idle_light  # of the meter, now
        self._pending: list[Transition] = []  # light of the meter still to come
        self._boards: list[_Board] = []
        self._left: dict[bytes, _Board] = {}  # boards that have gone, by the id of their UART: they may come back
        self._watchers: list[_Watcher] = []
        self._counts: dict[str, int] = {}
        self._now_ns = 0
        self._began_ns: int | None = None  # when the telegram being sent began
        self._telegram_bytes = 0
        self._ending: deque[tuple[int, int, Any, int]] = deque()  # (end, begin, expected, bytes) not yet fully sent
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._start_s = 0.0

    # --- the caller's side ---

    def start(self) -> OpticalServer:
        """Line time begins to pass. Returns itself. RuntimeError when started before."""
        if self._thread is not None:
            raise RuntimeError("an optical server is started once")
        self._start_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="optical-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and close every connection. What went wrong in the thread is raised here."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for board in self._boards:
            board.connection.close()
        for watcher in self._watchers:
            watcher.connection.close()
        self._boards.clear()
        self._listener.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise RuntimeError(f"the optical server broke down: {error!r}") from error

    def __enter__(self) -> OpticalServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def boards(self) -> int:
        """Boards connected whose settings are known."""
        return sum(board.line is not None for board in list(self._boards))

    @property
    def noise_counts(self) -> dict[str, int]:
        """How often each disturbance has begun, over all boards so far."""
        total = dict(self._counts)
        for board in list(self._boards) + list(self._left.values()):
            if board.line is not None:
                for kind, n in board.channel.counts.items():
                    total[kind] = total.get(kind, 0) + n
        return total

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                sockets = [self._listener, *(board.connection for board in self._boards)]
                readable, _, _ = select.select(sockets, [], [], _STEP_S)
                self._step(int((time.monotonic() - self._start_s) * self.speed * NS))
                for board in [b for b in self._boards if b.connection in readable]:
                    self._hear(board)
                if self._listener in readable:
                    self._accept()
        except Exception as error:  # handed to whoever stops us: a thread has no one else to tell
            self._error = error

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return  # gone again already
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._boards.append(_Board(connection))

    def _drop(self, board: _Board) -> None:
        board.connection.close()
        if board not in self._boards:
            return
        self._boards.remove(board)
        if board.line is None:
            return
        forgotten = self._left.pop(board.id, None)
        self._left[board.id] = board
        if forgotten is not None:
            for kind, n in forgotten.channel.counts.items():
                self._counts[kind] = self._counts.get(kind, 0) + n

    def _switch_on(self, board: _Board, line: Line) -> None:
        """A board has said its settings: in the place of the one with its id that has left, or a new one."""
        before = self._left.pop(board.id, None)
        if before is not None:
            board.switch_on(line, before.channel, before.meter_receiver, before.led.idle_ns)
            return
        channel = Channel(self._noise, idle_light=self._light, start_ns=self._now_ns)
        channel.put(list(self._pending))
        board.switch_on(line, channel, MeterReceiver(self._source_line or self.line))

    def _hear(self, board: _Board) -> None:
        """Bytes from a board: its settings first, then what its LED sends."""
        try:
            data = board.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(board)
            return
        if board.line is None:
            head, newline, rest = bytes(board.header + data).partition(b"\n")
            if not newline and len(head) <= _HEADER_LIMIT:
                board.header += data
                return
            if newline and head.startswith(_LIGHT):
                self._boards.remove(board)
                self._watchers.append(_Watcher(board.connection, head.removeprefix(_LIGHT).strip()))
                return
            line = parse_header(head) if newline else None
            if line is None:
                self.refused += 1
                self._drop(board)
                return
            board.id = head.split()[1]
            self._switch_on(board, line)
            data = rest
        if data:
            light = board.led.send(data, self._now_ns)
            board.meter_receiver.put(light)
            if self.echo:
                board.channel.put_own(light)

    def _on_the_line(self) -> list[_Board]:
        """Every head whose air and LED are to be looked after, the ones that have left included."""
        return [board for board in self._boards if board.line is not None] + list(self._left.values())

    def _step(self, until_ns: int) -> None:
        """Line time passes to `until_ns`, with a stop wherever a source that says so has something to do."""
        if self._boards:
            self.late_ms = max(self.late_ms, int((until_ns - self._now_ns) / self.speed) // 1_000_000)
        while self._now_ns < until_ns:
            at_ns = until_ns
            if self._wake_s is not None:
                wake_s = self._wake_s()
                wake_ns = 0 if wake_s is None else int(wake_s * NS) + 1
                for event_ns in (wake_ns, self._meter.idle_ns):
                    if self._now_ns < event_ns < at_ns:
                        at_ns = event_ns
            self._pass(at_ns)

    def _pass(self, until_ns: int) -> None:
        heads = self._on_the_line()
        self._listen(heads, until_ns)
        self._send_from_source(until_ns)
        self._follow_source(heads)
        passed = 0
        while passed < len(self._pending) and self._pending[passed][0] <= until_ns:
            passed += 1
        if passed:
            self._light = self._pending[passed - 1][1]
            del self._pending[:passed]
        self._now_ns = until_ns
        for board in heads:
            if board in self._boards:
                self._serve(board, until_ns)
            else:
                board.channel.advance(until_ns)
        self._tell_light(heads)
        while self._ending and self._ending[0][0] <= until_ns:
            end_ns, began_ns, expected, n_bytes = self._ending.popleft()
            if any(b.line is not None and b.since_ns <= began_ns for b in self._boards):
                self.log.append(Sent(self._start_s + end_ns / NS / self.speed, expected, n_bytes))
                self.telegrams_sent += 1

    def _tell_light(self, heads: list[_Board]) -> None:
        light = {head.id: head.channel.light for head in heads}
        for watcher in list(self._watchers):
            now = light.get(watcher.id, 0)
            if now == watcher.told:
                continue
            try:
                watcher.connection.send(b"1" if now else b"0")
                watcher.told = now
            except OSError:
                watcher.connection.close()
                self._watchers.remove(watcher)

    def _listen(self, heads: list[_Board], until_ns: int) -> None:
        """What the LEDs have sent reaches the source byte by byte: any of them may change its settings."""
        while True:
            next_ns, board = min(
                ((due_ns, k) for k, head in enumerate(heads) if (due_ns := head.meter_receiver.due_ns) is not None),
                default=(until_ns + 1, -1),
            )
            if next_ns > until_ns:
                return
            for at_ns, value in heads[board].meter_receiver.hear(next_ns):
                self._receive(value, at_ns / NS)
            self._follow_source(heads)

    def _follow_source(self, heads: list[_Board]) -> None:
        line = getattr(self.source, "line", None)
        if line is not self._source_line:
            self._source_line = line
            for head in heads:
                head.meter_receiver.set_line(line or self.line)

    def _send_from_source(self, until_ns: int) -> None:
        while self._meter.idle_ns <= until_ns:
            free_ns = max(self._meter.idle_ns, 0)
            transmission = self.source.poll(until_ns / NS, free_ns / NS)
            if transmission is None:
                return
            if transmission.line is not None and transmission.line is not self.line:
                before = self._meter
                self.line = transmission.line
                self._meter = Transmitter(self.line, clock_ppm=self._clock_ppm, gap_ns=self._gap_ns)
                self._meter.go_on_from(before)
            at_ns = max(int(transmission.at_s * NS), free_ns, self._now_ns if self._began_ns is None else 0)
            if self._began_ns is None and transmission.telegram:
                self._began_ns = at_ns
            if transmission.light is None:
                light = self._meter.send(transmission.data, at_ns)
            else:
                light = list(transmission.light)
                self._meter.wait_until(light[-1][0])
            self._pending += light
            for board in self._on_the_line():
                board.channel.put(light)
            self.bytes_sent += len(transmission.data)
            if not transmission.telegram or self._began_ns is None:
                continue
            self._telegram_bytes += len(transmission.data)
            if transmission.last:
                self._ending.append((self._meter.idle_ns, self._began_ns, transmission.expected, self._telegram_bytes))
                self._began_ns = None
                self._telegram_bytes = 0

    def _serve(self, board: _Board, until_ns: int) -> None:
        """What one board's UART has received by now goes to it."""
        received = board.receiver.receive(board.channel.advance(until_ns), until_ns)
        room = QUEUE_LIMIT - len(board.queue)
        self.overruns += max(0, len(received) - room)
        board.queue += bytes(value for _, value in received[: max(0, room)])
        if board.queue:
            try:
                n = board.connection.send(board.queue)
                del board.queue[:n]
                self.bytes_to_boards += n
            except BlockingIOError:
                pass  # the board does not read: the queue keeps what it can
            except OSError:
                self._drop(board)
