"""MicroPython's `machine` on the virtual board: thin, so that the heap measured is the firmware's own.

Runs on the MicroPython unix port and, for the demo's fall-back, on CPython. The UART is a loopback connection to the
optical server, and so is an input pin, which is taken for the one of the UART's receiver. What the fake does not show:
a full receive buffer (loopback holds more than 16 KiB) and the LED. The watchdog bites: it is the alarm clock of the
process, which ends it; and a reset ends it with RESET. optoprobe.virtual.board starts it again.
"""

import os
import socket
import sys
import time

try:
    import ffi

    _alarm = ffi.open(None).func("I", "alarm", "I")
except ImportError:  # CPython
    from signal import alarm as _alarm

RESET = 77  # exit status

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5


def reset_cause():
    return int(os.getenv("OPTOPROBE_RESET_CAUSE"))


def unique_id():
    return b"\x24\x0a\xc4\x0f\xab\x1e"


class RTC:
    def memory(self, data=None):  # a file beside boot.py survives the process as RTC memory survives a reset
        if data is None:
            try:
                with open("rtc_memory", "rb") as file:
                    return file.read()
            except OSError:
                return b""
        if len(data) > 2048:
            raise ValueError("buffer too long")
        with open("rtc_memory", "wb") as file:
            file.write(data)


def reset():
    sys.exit(RESET)


class WDT:
    def __init__(self, timeout):
        self._seconds = timeout // 1000
        self.feed()

    def feed(self):
        _alarm(self._seconds)


class Pin:
    IN, OUT, PULL_UP, PULL_DOWN = 1, 3, 2, 1

    def __init__(self, id, mode=None, pull=None, invert=False):
        self._value = 1  # no light
        self._input = mode == self.IN
        self._socket = None

    def value(self, value=None):
        if value is not None:
            self._value = value
        elif self._input:
            self._look()
        return self._value

    def _look(self):
        if self._socket is None:
            self._socket = _connection("light %d\n" % UART.last)
            self._level = bytearray(1)
        while _received(self._socket, self._level):
            self._value = self._level[0] ^ 0x31  # "1" is light, a low level


Signal = Pin


def _connection(says):
    server = socket.socket()
    server.connect(socket.getaddrinfo("127.0.0.1", int(os.getenv("OPTOPROBE_LINE_PORT")))[0][-1])
    server.send(says.encode())
    server.setblocking(False)
    return server


def _received(connection, buffer):
    if hasattr(connection, "readinto"):  # MicroPython's answers None when nothing is there
        return connection.readinto(buffer)
    try:
        return connection.recv_into(buffer)
    except OSError:
        return None


class UART:
    INV_TX, INV_RX = 32, 4
    last = 0  # the id of the one made last

    def __init__(self, id, **settings):
        self._id = UART.last = id
        self._socket = None
        self.init(**settings)

    def init(self, baudrate, bits, parity, stop, invert, **others):
        if self._socket is not None:
            self._socket.close()
        parity = "N" if parity is None else "EO"[parity]
        inverted = 1 if invert & self.INV_RX else 0
        self._socket = _connection("uart %d %d %d %s %d %d\n" % (self._id, baudrate, bits, parity, stop, inverted))
        self.bits = 1 + bits + (parity != "N") + stop  # of one byte; all three names are interned without us
        self.baudrate = baudrate
        self.done = time.ticks_ms()  # when the last bit has left

    def any(self):
        return 0

    def readinto(self, buffer):
        return _received(self._socket, buffer)

    def write(self, data):
        if self.txdone():
            self.done = time.ticks_ms()
        self.done = time.ticks_add(self.done, len(data) * self.bits * 1000 // self.baudrate + 1)
        return self._socket.send(data)

    def txdone(self):
        return time.ticks_diff(time.ticks_ms(), self.done) >= 0
