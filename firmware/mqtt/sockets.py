"""The sockets that umqtt.simple opens, made ours: set as its module's `socket`, so that its code stays as it comes.

What stock umqtt lacks and gets here: a time limit on every step that survives its setblocking(True), one write per
packet (it writes four to five times, 44 ms each through Nagle's algorithm), the broker's address kept for when DNS is
down, the time of the last byte received (its ping is never checked), and a limit on what a broker may send.
"""

import errno
import select
import socket
import time

from micropython import const

_OUT_BYTES = const(256)
_MAX_READ_BYTES = const(4096)  # longest topic or payload taken, a longer one is b""; only short ones are subscribed to
_MAX_SKIPPED_BYTES = const(262144)  # the longest passed over


class MqttSocket:
    """One connection, with the methods umqtt.simple calls. Any may raise OSError, after `timeout_s` at the latest."""

    def __init__(self, timeout_s):
        self._socket = socket.socket()
        self._socket.settimeout(timeout_s)
        self._poll = select.poll()
        self._waits = True
        self._out = bytearray(_OUT_BYTES)
        self._pending = 0
        self.received_at = time.ticks_ms()

    def connect(self, address):
        self._socket.connect(address)
        self._poll.register(self._socket, select.POLLIN)

    def settimeout(self, timeout_s):
        """umqtt.simple 1.8 asks for none at all; ours stands."""

    def setblocking(self, waits):
        self._waits = waits

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
            if sent == len(view):
                return
            view = view[sent:]

    def read(self, n):
        """Exactly n bytes; b"" where the broker has closed; None where nothing is there after setblocking(False)."""
        self.flush()
        if n == 0:
            return b""  # an empty payload; the ESP32's recv(0) would take it for the end of the connection
        if not self._waits and not self._poll.poll(0):
            return None
        if not 0 < n <= _MAX_SKIPPED_BYTES:
            raise OSError(errno.EINVAL)
        data = b""
        left = n
        while left:
            more = self._socket.recv(min(left, _OUT_BYTES if n > _MAX_READ_BYTES else left))
            if not more:
                if left < n:
                    raise OSError(errno.ECONNRESET)
                return more
            left -= len(more)
            if n <= _MAX_READ_BYTES:
                data = data + more if data else more
        self.received_at = time.ticks_ms()
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
                raise
        return self._addresses
