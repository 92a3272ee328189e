"""The sockets that umqtt.simple opens, made ours: set as its module's `socket`, so that its code stays as it comes.

What stock umqtt lacks and gets here: a time limit on every step that survives its setblocking(True), and on a step of
several packets as a whole; one write per packet (it writes four to five times, 44 ms each through Nagle's algorithm);
the broker's address kept for when DNS is down; the times of the last byte received and sent (its ping is never
checked); the retain bit of what came; and a limit on what a broker may send.
"""

import errno
import select
import socket
import time

from micropython import const

NO_ADDRESS = const(-202)  # in an OSError: the broker's name is not resolved
_OUT_BYTES = const(256)
_MAX_READ_BYTES = const(4096)  # longest topic or payload taken, a longer one is None; only short ones are subscribed to
_MAX_SKIPPED_BYTES = const(262144)  # the longest passed over
STEP_MS = const(15000)
_MAX_SINGLES = const(6)  # reads of one byte in a packet: up to four of its length, a topic's, a payload's
_RETAIN = const(1)  # bit of a PUBLISH's first byte (MQTT 3.1.1, 3.3.1.3)


class MqttSocket:
    """One connection, with the methods umqtt.simple calls. Any may raise OSError, after `timeout_s` at the latest.

    `received_at` and `sent_at`: ticks_ms of the last byte. What is read and sent from `step_at` (ticks_ms) on may
    take `step_ms`, and one write beyond it. `retained`: had the broker kept the message that came last?
    """

    def __init__(self, timeout_s):
        self._socket = socket.socket()
        self._socket.settimeout(timeout_s)
        self._wait_ms = int(timeout_s * 1000)
        self._poll = select.poll()
        self._waits = True
        self._out = bytearray(_OUT_BYTES)
        self._pending = 0
        self._byte = self._first = 0  # the last read alone; that which began the packet that came last
        self._singles = 0
        self.received_at = self.sent_at = self.step_at = time.ticks_ms()
        self.step_ms = STEP_MS

    @property
    def retained(self):
        return bool(self._first & _RETAIN)

    def connect(self, address):
        self._socket.connect(address)
        self._poll.register(self._socket, select.POLLIN)

    def settimeout(self, timeout_s):
        """umqtt.simple 1.8 asks for none at all; ours stands."""

    def setblocking(self, waits):
        """umqtt.simple calls it with True behind the first byte of each packet."""
        self._waits = waits
        self._first = self._byte
        self._singles = 0

    def write(self, data, n=None):
        """Collect data[:n]; it leaves with the next flush() or read()."""
        n = len(data) if n is None else n
        if self._pending + n > _OUT_BYTES:
            self.flush()
        if n > _OUT_BYTES:
            self._send(memoryview(data)[:n])
        else:
            self._out[self._pending : self._pending + n] = data[:n]
            self._pending += n
        return n

    def flush(self):
        """Send what was collected, in one piece."""
        n = self._pending
        self._pending = 0
        if n:
            self._send(memoryview(self._out)[:n])

    def _send(self, view):
        while len(view):
            sent = self._socket.send(view)
            self.sent_at = time.ticks_ms()
            if time.ticks_diff(self.sent_at, self.step_at) > self.step_ms:
                raise OSError(errno.ETIMEDOUT)
            if sent == len(view):
                return
            view = view[sent:]

    def read(self, n):
        """Exactly n bytes; b"" where the broker has closed; None where nothing is there after setblocking(False), or
        where n bytes were too many to be taken and are passed over.
        """
        self.flush()
        if n == 0:
            return b""  # an empty payload; the ESP32's recv(0) would take it for the end of the connection
        if not self._waits and not self._poll.poll(0):
            return None
        if n == 1:
            self._singles += 1
        if not 0 < n <= _MAX_SKIPPED_BYTES or self._singles > _MAX_SINGLES:  # a length without an end
            raise OSError(errno.EINVAL)
        data = b"" if n <= _MAX_READ_BYTES else None
        left = n
        while left:
            left_ms = self.step_ms - time.ticks_diff(time.ticks_ms(), self.step_at)
            if left_ms <= 0 or not self._poll.poll(min(left_ms, self._wait_ms)):
                raise OSError(errno.ETIMEDOUT)
            more = self._socket.recv(min(left, _OUT_BYTES if n > _MAX_READ_BYTES else left))
            if not more:
                if left < n:
                    raise OSError(errno.ECONNRESET)
                return more
            left -= len(more)
            if data is not None:
                data = data + more if data else more
            self.received_at = time.ticks_ms()
        if n == 1 and data:
            self._byte = data[0]
        return data

    def close(self):
        self._socket.close()


class MqttSockets:
    """Stands where umqtt.simple expects the socket module. `last` is the connection opened last, None before."""

    def __init__(self, timeout_s):
        self._timeout_s = timeout_s
        self._addresses = None
        self.last = None

    def socket(self):
        self.close()
        self.last = MqttSocket(self._timeout_s)
        return self.last

    def connection(self):
        """The one opened last; OSError where it is closed."""
        if self.last is None:
            raise OSError(errno.ECONNRESET)
        return self.last

    def close(self):
        """Close the connection opened last."""
        if self.last is not None:
            self.last.close()
            self.last = None

    def getaddrinfo(self, host, port):
        try:
            self._addresses = socket.getaddrinfo(host, port)
        except OSError:
            if self._addresses is None:
                raise OSError(NO_ADDRESS)
        return self._addresses
