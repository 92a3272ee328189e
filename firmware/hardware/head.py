"""The optical head: a UART that moves bytes both ways and takes its own reflection out again. Decides nothing."""

import asyncio

from machine import UART
from micropython import const

from metering.compat import copy_bytes
from metering.line import MAX_SENT

_CHUNK_BYTES = const(256)
_FIFO_BYTES = const(128)  # lost at a stroke when the receive buffer is full: the driver resets the FIFO
_TX_POLL_MS = const(1)


class Head:
    """One UART of the board. `data` holds what read() last brought, `line` the settings; `overruns` counts how often it
    came too late. `tap`, where there is one, is called with (data, n) of each read and says how many go on.
    """

    def __init__(self, number, rx, tx, invert_rx, invert_tx, buffer_bytes, rx_pin):
        self._number = number
        self._rx_pin = rx_pin
        self._lit = 1 if invert_rx else 0  # level of the pin while there is light
        self._pins = {"rx": rx, "tx": tx}
        self._inverted = (UART.INV_RX if invert_rx else 0, UART.INV_RX if not invert_rx else 0)
        self.turned = False  # is what is received the other way round than the board says?
        self._inverted_tx = UART.INV_TX if invert_tx else 0
        self._buffer_bytes = buffer_bytes
        self._uart = None
        self.line = None
        self.tap = None
        self.data = bytearray(MAX_SENT + _CHUNK_BYTES)
        self._chunk = memoryview(self.data)[:_CHUNK_BYTES]
        self._adds_parity = False
        self._echo = b""  # what was sent and may come back
        self._echoed = 0  # how much of it has come back
        self._spoilt = False  # may what comes be our own? Then it is in no recording
        self.overruns = 0

    def open(self, line):
        """Listen with the settings of `line` (metering.line.Line). What was received before is dropped.

        7E1 is driven as 8N1: bit 7 of what is received is the parity bit, see metering.line.
        """
        self.line = line
        self._adds_parity = line.bits == 7 and line.parity == "E"
        settings = {
            "baudrate": line.baud,
            "bits": 8 if self._adds_parity else line.bits,
            "parity": None if self._adds_parity else {None: None, "E": 0, "O": 1}[line.parity],
            "stop": line.stop,
            "invert": self._inverted[line.invert != self.turned] | self._inverted_tx,
            "rxbuf": self._buffer_bytes,
            "timeout": 0,  # both 0: each byte is there at once, and a read never waits
            "timeout_char": 0,
        }
        settings.update(self._pins)
        if self._uart is None:
            self._uart = UART(self._number, **settings)
        else:
            self._uart.init(**settings)
        self._echo = b""
        self._spoilt = False

    def light(self):
        """Is there light on the head now? The pin can be read beside the UART."""
        return (self._rx_pin.value() == self._lit) != self.turned

    def read(self):
        """Fetch what has arrived into data[0:n]; returns n, 0 for nothing. Never waits, allocates nothing."""
        uart = self._uart
        if uart.any() >= self._buffer_bytes - _FIFO_BYTES:
            self.overruns += 1
        n = uart.readinto(self._chunk)
        if not n:
            return 0
        if self._echo:
            n = self._without_echo(n)
        return self.tap(self.data, n) if self.tap and not self._spoilt else n

    def _without_echo(self, n):
        """Take from data[0:n] what repeats the bytes last sent: a passive head sees its own light.

        What only began like them was the meter's, and is put back in front.
        """
        data, echo = self.data, self._echo
        begun = self._echoed
        i = 0
        while i < n and begun + i < len(echo) and data[i] == echo[begun + i]:
            i += 1
        if begun + i == len(echo):  # all of it came back
            self._echo = b""
            copy_bytes(data, 0, data, i, n - i)
            return n - i
        if i == n:
            self._echoed = begun + n
            return 0
        self._echo = b""
        self._spoilt = begun + i > 2  # an answer may begin like its question
        for k in range(n - 1, -1, -1):
            data[begun + k] = data[k]
        for k in range(begun):
            data[k] = echo[k]
        return begun + n

    async def write(self, data):
        """Send up to MAX_SENT bytes; returns when the last bit has left. Raises ValueError for more."""
        if len(data) > MAX_SENT:
            raise ValueError("at most %d bytes at once" % MAX_SENT)
        self._spoilt = False
        self._echo = bytes(data)
        if self._adds_parity:
            from metering.characters import with_parity  # loaded with a protocol that has it

            self._echo = with_parity(data)
        self._echoed = 0
        self._uart.write(self._echo)
        while not self._uart.txdone():
            await asyncio.sleep_ms(_TX_POLL_MS)
