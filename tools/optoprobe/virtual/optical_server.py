"""A meter on the virtual line in real time, served over loopback to the fake UART of a virtual board.

    source ─► Transmitter ─┬► Channel (noise, echo) ─► Receiver (the board's settings) ─► TCP ─► board
    (meter, capture)       └► ... one channel and receiver for every board connected
    source.receive() ◄─ MeterReceiver (settings of the moment) ◄─ Transmitter (the board's) ◄─ TCP ◄─ board

Protocol: the board connects to 127.0.0.1:port and sends first one ASCII line

    uart <id> <baud> <bits> <parity N|E|O> <stop> <invert 0|1>\\n

then raw bytes both ways: to the board what its UART receives with those settings, from the board what its LED sends.
A connection that says `light <id>` is told the level before that UART instead, at each change: 1 for light, 0 for none.
New settings are a new connection: one with the id of a board that has left goes on in its place (heads). Bytes reach
the board when the UART would have them, up to `_STEP_S` later, the first behind a pause up to `_PAUSE_STEP_S`. A source
with a `line` changes it as it likes, sends with it and is heard with it from that instant (placed_meter).

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
from dataclasses import dataclass
from typing import Any

from metering.line import Line

from .channel import Noise
from .heads import Head, Heads
from .placed_meter import PlacedMeter
from .uart import NS

QUEUE_LIMIT = 64 * 1024
_STEP_S = 0.01
_PAUSE_STEP_S = 0.025  # while nobody sends: dozens of servers stand side by side in the tests
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
    """One connection, and the bytes on their way to it. `head`: its place on the line, None until the header came."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.header = bytearray()
        self.head: Head | None = None
        self.queue = bytearray()


def parse_header(line: bytes) -> Line | None:
    """Line settings from a connection's first line (without its newline); None when it is not one."""
    match = _HEADER.match(line)
    if match is None or int(match[1]) == 0:
        return None
    parity = match[3].decode()
    return Line(int(match[1]), int(match[2]), None if parity == "N" else parity, int(match[4]), match[5] == b"1")


class OpticalServer:
    """Runs a source on the line in a thread and serves boards on `port` of 127.0.0.1 (chosen when None is asked for).

    `source`, `line`, `clock_ppm`, `gap_ns`: see PlacedMeter. `speed`: line time that passes in a second of real time.
    `noise` disturbs what every head sees, `echo` lets a head see its own LED. Usable in a `with`.

    `telegrams_sent`: telegrams that began after a board had connected and whose last bit has left with it still there.
    `late_ms`: how long line time stood still at the most, as on a busy machine; what was to come then came at once.
    `log`: the newest `log_size` of them, in order. `overruns`: bytes dropped. `refused`: connections whose first line
    was wrong. Telegrams without readings (attention) count too.
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
        self.meter = PlacedMeter(source, line, clock_ppm=clock_ppm, gap_ns=gap_ns)
        self.heads = Heads(self.meter, noise, echo)
        self.speed = speed
        self.telegrams_sent = 0
        self.log: deque[Sent] = deque(maxlen=log_size)
        self.overruns = 0
        self.refused = 0
        self.late_ms = 0
        self._boards: list[_Board] = []
        self._watchers: list[_Watcher] = []
        self._now_ns = 0
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
        return len(self.heads.here)

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                sockets = [self._listener, *(board.connection for board in self._boards)]
                readable, _, _ = select.select(sockets, [], [], _STEP_S if self._is_busy() else _PAUSE_STEP_S)
                self._step(int((time.monotonic() - self._start_s) * self.speed * NS))
                for board in [b for b in self._boards if b.connection in readable]:
                    self._hear(board)
                if self._listener in readable:
                    self._accept()
        except Exception as error:  # handed to whoever stops us: a thread has no one else to tell
            self._error = error

    def _is_busy(self) -> bool:
        """Somebody sends, or has not been heard to the end."""
        return (
            self.meter.led.idle_ns > self._now_ns
            or any(head.led.idle_ns > self._now_ns for head in self.heads.here)
            or any(board.queue for board in self._boards)
        )

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
        self._boards.remove(board)
        if board.head is not None:
            self.heads.leave(board.head)

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
        if board.head is None:
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
            board.head = self.heads.come(head.split()[1], line, self._now_ns)
            data = rest
        if data:
            self.heads.say(board.head, data, self._now_ns)

    def _step(self, until_ns: int) -> None:
        """Line time passes to `until_ns`, with a stop wherever a source that says so has something to do."""
        if self._boards:
            self.late_ms = max(self.late_ms, int((until_ns - self._now_ns) / self.speed) // 1_000_000)
        while self._now_ns < until_ns:
            self._pass(self.meter.stop_before(self._now_ns, until_ns))

    def _pass(self, until_ns: int) -> None:
        self.heads.advance_meter(self._now_ns, until_ns)
        self._now_ns = until_ns
        self.heads.advance_left(until_ns)
        for board in list(self._boards):
            if board.head is not None:
                self._serve(board, board.head, until_ns)
        self._tell_light()
        for ended in self.meter.ended(until_ns):
            if any(head.since_ns <= ended.began_ns for head in self.heads.here):
                at_s = self._start_s + ended.end_ns / NS / self.speed
                self.log.append(Sent(at_s, ended.expected, ended.n_bytes))
                self.telegrams_sent += 1

    def _tell_light(self) -> None:
        light = {head.name: head.channel.light for head in self.heads.on_the_line()}
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

    def _serve(self, board: _Board, head: Head, until_ns: int) -> None:
        """What one board's UART has received by now goes to it."""
        received = head.receiver.receive(head.channel.advance(until_ns), until_ns)
        room = QUEUE_LIMIT - len(board.queue)
        self.overruns += max(0, len(received) - room)
        board.queue += bytes(value for _, value in received[: max(0, room)])
        if board.queue:
            try:
                n = board.connection.send(board.queue)
                del board.queue[:n]
            except BlockingIOError:
                pass  # the board does not read: the queue keeps what it can
            except OSError:
                self._drop(board)
