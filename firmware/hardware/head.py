"""The optical head: a UART that moves bytes both ways and takes its own reflection out again. Decides nothing.

firmware.reading.line_driver alone opens it.
"""

import asyncio

from machine import UART
from micropython import const

from metering.line import MAX_SENT, Line

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.contracts import SerialPort
    from metering.echo import Echo

_CHUNK_BYTES = const(220)
_FIFO_BYTES = const(128)  # lost at a stroke when the receive buffer is full: the driver resets the FIFO
_TX_POLL_MS = const(1)


class Head:
    """One UART of the board. `data` holds what read() last brought, `line` the settings; `overruns` counts how often
    read() came too late. `may_be_echo` is True while bytes read could be our own: those belong into no recording.
    """

    def __init__(self, number, rx, tx, invert_rx, invert_tx, buffer_bytes, rx_pin):
        self._number = number
        self._rx_pin = rx_pin
        self._lit = 1 if invert_rx else 0  # level of the pin while there is light
        self._pins = {"rx": rx, "tx": tx}
        self._inverted = (UART.INV_RX if invert_rx else 0, UART.INV_RX if not invert_rx else 0)
        self.polarity_flipped = False  # True: light is received the other way round than the board says
        self._inverted_tx = UART.INV_TX if invert_tx else 0
        self._buffer_bytes = buffer_bytes
        self._uart: SerialPort | None = None
        self.line = Line(9600)
        self.data = bytearray(MAX_SENT + _CHUNK_BYTES)
        self._chunk = memoryview(self.data)[:_CHUNK_BYTES]
        self._adds_parity = False
        self._echo: Echo | None = None  # of what was sent, from a question on
        self.may_be_echo = False
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
            "invert": self._inverted[line.invert != self.polarity_flipped] | self._inverted_tx,
            "timeout": 0,  # both 0: each byte is there at once, and a read never waits
            "timeout_char": 0,
        }
        settings.update(self._pins)
        if self._uart is None:
            self._uart = UART(self._number, rxbuf=self._buffer_bytes, **settings)
        else:
            # With rxbuf MicroPython up to 1.26 sets up the driver anew: its memory, and for a moment the TX pin.
            self._uart.init(**settings)
            while self._uart.readinto(self._chunk):  # which it drops from 1.27 on
                pass
        self._echo = None
        self.may_be_echo = False

    def light(self):
        """Is there light on the head now? The pin can be read beside the UART."""
        return (self._rx_pin.value() == self._lit) != self.polarity_flipped

    def read(self):
        """Fetch what has arrived into data[0:n]; returns n, 0 for nothing. Never waits, allocates nothing."""
        uart = self._uart
        assert uart is not None, "open() comes first"
        if uart.any() >= self._buffer_bytes - _FIFO_BYTES:
            self.overruns += 1
        n = uart.readinto(self._chunk)
        if not n:
            return 0
        echo = self._echo
        if echo is None:
            return n
        n = echo.remove(self.data, n)
        self.may_be_echo = echo.foreign_bytes > 2  # an answer may begin like its question
        return n

    async def write(self, data):
        """Send up to MAX_SENT bytes; returns when the last bit has left. Raises ValueError for more."""
        if len(data) > MAX_SENT:
            raise ValueError("at most %d bytes at once" % MAX_SENT)
        if self._adds_parity:
            from metering.characters import with_parity  # loaded with a protocol that has it

            data = with_parity(data)
        if self._echo is None:
            from metering.echo import Echo

            self._echo = Echo()
        self.may_be_echo = False
        self._echo.expect(data)
        uart = self._uart
        assert uart is not None, "open() comes first"
        uart.write(data)
        while not uart.txdone():
            await asyncio.sleep_ms(_TX_POLL_MS)
