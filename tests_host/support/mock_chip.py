"""A chip of the ESP32 family on a pty: esp32-mock-bootloader plays its boot ROM and esptool's stub, and remembers what
was written. Each opening of the port is a new connection, as a real chip is reset by it.

What it does not show: reset lines, baud rates, the time that flash takes, and reading after the stub is loaded (its
`read-flash` through the stub fails mostly).
"""

import os
import pty
import select
import threading
import tty
from collections.abc import Callable

from esp32_mock_bootloader import server

server._FLASH_END_IDLE_SEC = 1e9  # a stub stays loaded while its port is open, on however slow a machine
# What esptool-js knows a chip by; esptool asks a newer chip for its number, and the mock has these of old chips alone.
_MAGIC_AT = 0x40001000
_MAGIC = {"esp32c3": 0x1B31506F, "esp32s3": 9}
_read_register = server._read_reg_value_for_chip


def _register(address: int, chip: str) -> int:
    return _MAGIC[chip] if address == _MAGIC_AT and chip in _MAGIC else _read_register(address, chip)


server._read_reg_value_for_chip = _register


class MockChip:
    """At `port`; `flash` is its content. With `console` set, the next opening finds what that callable writes to it."""

    def __init__(self, chip: str, flash_bytes: int = 4 << 20) -> None:
        self._chip = chip
        self.flash = server.FlashImage()
        self.flash.data = bytearray(b"\xff" * flash_bytes)
        self.openings = 0
        self.console: Callable[[int], object] | None = None  # given the pty's file descriptor
        self.is_free = threading.Event()  # nobody has the port open, and the console may begin
        self.unplug_after: int | None = None  # writes to flash; then the line is dead
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave: int | None = slave
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "MockChip":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        for fd in (self._master, self._slave):
            if fd is not None:
                os.close(fd)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._slave is None:
                self._slave = os.open(self.port, os.O_RDWR | os.O_NOCTTY)
            if not select.select([self._master], [], [], 0.05)[0] and self.console is None:
                continue
            if self.console is not None and self.openings:
                self.is_free.set()
                self.console(self._master)
                return
            self.openings += 1
            transport = _Transport(self._master, self._slave, self)
            line = server.BootloaderConnection(pty=transport)
            server.handle_client(line, self._stop, self._chip, exit_on_disconnect=True, flash=self.flash)
            self._slave = None if transport._slave_released else self._slave


class _Transport(server.PtyMasterTransport):
    """Lets go of its own end of the line, so that the program's closing the port is seen."""

    def __init__(self, master: int, slave: int, chip: MockChip) -> None:
        super().__init__(master, slave, track_disconnect=True)
        self._of = chip
        self._written = 0

    def recv(self, size: int) -> bytes:
        chunk = super().recv(size)
        if self._of.unplug_after is not None:
            # a block of data: plain, where compressing did not pay, or compressed
            self._written += chunk.count(b"\xc0\x00\x03") + chunk.count(b"\xc0\x00\x11")
            if self._written > self._of.unplug_after:
                return b""
        return chunk
