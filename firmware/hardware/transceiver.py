"""A head that is a transceiver of RS-485: a pin says when it sends. Loaded where the board file names that pin.

A meter may answer 3.5 characters behind the question, 1.75 ms at the least (MODBUS over Serial Line V1.02, 2.5.1.1),
and another task may keep the loop for 50 ms. So the last 40 ms of what is sent are waited for without giving the loop
away, and the pin goes low behind the last bit.
"""

import time

from micropython import const

from firmware.hardware.head import Head

_HELD_MS = const(40)
_LOOK_US = const(100)


class _TransceiverUart:
    """The UART `uart` and the pin that is high while it sends. What Head wants of a UART."""

    def __init__(self, uart, pin):
        self._uart = uart
        self._pin = pin
        self._is_sending = False
        self._until = 0  # ticks_ms, about when the last bit leaves
        self._byte_us = 0
        self.readinto = uart.readinto

    def init(self, **settings):
        self.listen()
        self._uart.init(**settings)

    def tune(self, line):
        self._byte_us = 1000000 * (1 + line.bits + (1 if line.parity else 0) + line.stop) // line.baud

    def listen(self):
        self._pin.value(0)
        self._is_sending = False

    def any(self):
        if self._is_sending and self._uart.txdone():  # whoever sent was cancelled
            self.listen()
        return self._uart.any()

    def write(self, data):
        self._until = time.ticks_add(time.ticks_ms(), len(data) * self._byte_us // 1000)  # pyrefly: ignore[bad-assignment] - ticks are ints
        self._is_sending = True
        self._pin.value(1)
        return self._uart.write(data)

    def txdone(self):
        uart = self._uart
        if self._is_sending:
            if time.ticks_diff(self._until, time.ticks_ms()) > _HELD_MS and not uart.txdone():
                return False
            while not uart.txdone():
                time.sleep_us(_LOOK_US)
            self.listen()
        return True


class TransceiverHead(Head):
    """As Head, `pin` a machine.Pin that is an output."""

    def __init__(self, pin, *parts):
        Head.__init__(self, *parts)
        self._pin = pin
        pin.value(0)

    def open(self, line):
        Head.open(self, line)
        if not isinstance(self._uart, _TransceiverUart):
            self._uart = _TransceiverUart(self._uart, self._pin)
        self._uart.tune(line)
