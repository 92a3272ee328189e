"""Between the loop that meters and the thread that publishes: the latest message per topic, bounded."""

import _thread

from micropython import const

_MAX_TOPICS = const(10)  # state, live and status of two meters, diagnostics, and a margin

_TOPIC = const(0)  # of a slot
_PAYLOAD = const(1)
_RETAIN = const(2)
_UNSENT = const(3)


def member(payload, key, value):
    """Make `payload` (bytearray) one member longer on its way to a JSON object: `value` (JSON text) under `key`.

    A message grows in place, and lacks its closing brace till the last: its parts never stand in memory beside it.
    """
    payload += b'%s"%s": %s' % (b", " if payload else b"{", key.encode(), value.encode())


class Outbox:
    """`replaced` counts messages that a newer one of their topic overtook unsent, `refused` those beyond the limit."""

    def __init__(self):
        self._lock = _thread.allocate_lock()  # held for a few instructions only
        self._slots = []
        self._meter = None
        self.replaced = 0
        self.refused = 0

    def put(self, topic, payload, retain):
        """Leave `payload` (bytes or bytearray) for `topic` (bytes); a retained one is kept for after a reconnect."""
        with self._lock:
            for slot in self._slots:
                if slot[_TOPIC] == topic:
                    if slot[_UNSENT]:
                        self.replaced += 1
                    slot[_PAYLOAD] = payload
                    slot[_UNSENT] = True
                    return
            if len(self._slots) >= _MAX_TOPICS:  # a meter that has gone has been told of
                for slot in self._slots:
                    if slot[_PAYLOAD] == b"offline" and not slot[_UNSENT]:
                        self._slots.remove(slot)
                        break
            if len(self._slots) < _MAX_TOPICS:
                self._slots.append([topic, payload, retain, True])
            else:
                self.refused += 1

    def remove(self, topic):
        """Nothing is to be sent there any more."""
        with self._lock:
            for slot in self._slots:
                if slot[_TOPIC] == topic:
                    self._slots.remove(slot)
                    return

    def pop_unsent(self):
        """The next unsent (topic, payload, retain) or None. It counts as sent unless again() is called."""
        with self._lock:
            for slot in self._slots:
                if slot[_UNSENT]:
                    slot[_UNSENT] = False
                    message = slot[_TOPIC], slot[_PAYLOAD], slot[_RETAIN]
                    if not slot[_RETAIN]:
                        slot[_PAYLOAD] = None
                    return message
        return None

    def discard_volatile(self):
        """A new connection: what was not retained and not sent by now is no longer true."""
        with self._lock:
            for slot in self._slots:
                if not slot[_RETAIN]:
                    slot[_UNSENT] = False
                    slot[_PAYLOAD] = None

    def resend_retained(self):
        """A new connection, or a hub that has just started: everything retained is to be sent once more."""
        with self._lock:
            for slot in self._slots:
                if slot[_RETAIN]:
                    slot[_UNSENT] = True

    def announce(self, meter):
        """Make `meter` (homeassistant.Meter, not changed afterwards) the one whose entities are announced."""
        with self._lock:
            self._meter = meter

    def meter(self):
        """The meter announced last, None before the first telegram."""
        with self._lock:
            return self._meter
