"""A listener that gathers a telegram in pieces: what is kept of it is at the buffer's start, bytes not taken behind.

    _buf   | kept of the telegram ...|  free  | bytes not taken yet ... |  free  |
           0                    _staged      _at                       _n

The gap is closed when room is needed. `_position` is where _buf[_at] was in the stream.
"""

from metering.compat import const, copy_bytes
from metering.listener import Listener

_POSITION_MASK = const(0x3FFFFFFF)


class CompactingListener(Listener):
    """The buffer of such a listener; a protocol adds what every Listener needs."""

    def __init__(self, size):
        Listener.__init__(self, size)
        self._at = 0  # first byte not taken
        self._staged = 0  # bytes kept
        self._start = 0  # of the candidate in the stream

    def feed(self, data, start, end):
        self._release()
        n = end - start
        if n > len(self._buf) - self._n:
            self._close_gap()
            n = min(n, len(self._buf) - self._n)
        copy_bytes(self._buf, self._n, data, start, n)
        self._n += n
        return n

    def _close_gap(self):
        gap = self._at - self._staged
        if gap:
            copy_bytes(self._buf, self._staged, self._buf, self._at, self._n - self._at)
            self._at -= gap
            self._n -= gap

    def _drop(self, n):
        """Take n bytes."""
        self._at += n
        self._position = (self._position + n) & _POSITION_MASK

    def _release(self):
        if self._used:
            used = self._used
            self._used = 0
            self._staged = 0
            self._drop(used)

    def _fail(self, reason, detail, used):
        """The candidate is none; `used` more bytes are given up, what lies behind is looked at again."""
        self._staged = 0
        event = self._reject(reason, detail, used)
        self.offset = self._start
        return event

    def _believe(self, used):
        """The candidate is a telegram; `used` more bytes belong to it."""
        event = self._accept(used)
        self.offset = self._start
        return event

    def _since(self, at):
        """How many bytes of the stream lie between the candidate's start and _buf[at]."""
        return (self._position + at - self._at - self._start) & _POSITION_MASK
