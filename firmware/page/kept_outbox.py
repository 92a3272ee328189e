"""The outbox of a probe with a page: what was put last on each topic is kept for the page to show.

The payloads kept are the very ones that were put: only those that are not retained take memory beside the outbox's own.
"""

from micropython import const

from firmware.mqtt.outbox import Outbox

_MOST_TOPICS = const(10)  # as many as the outbox has


class KeptOutbox(Outbox):
    """`lives` counts messages with a meter's instantaneous values. The loop alone puts, removes and asks."""

    def __init__(self):
        super().__init__()
        self._kept = {}  # topic -> payload
        self.lives = 0
        self._most = _MOST_TOPICS

    def stop_keeping(self):
        """There is no page, or no more: the memory is wanted."""
        self._most = 0
        self._kept = {}

    def put(self, topic, payload, retain):
        super().put(topic, payload, retain)
        if topic in self._kept or len(self._kept) < self._most:
            self._kept[topic] = payload
        if topic.endswith(b"/live"):
            self.lives += 1

    def remove(self, topic):
        super().remove(topic)
        self._kept.pop(topic, None)

    def last(self, topic):
        """The payload (as it was) put last on `topic` (bytes), b"" for none."""
        return self._kept.get(topic) or b""
