"""What the hub is told of the probe and its meter, and when: at a session's begin, when the meter or what is known of
it changes, and when the hub says that it has started.
"""

import gc
import random
import time

from micropython import const

_HUB_READY_S = const(2)  # a hub that has just said online needs a moment; up to 2 s more at random
_HUB_LEAST_S = const(30)  # between two announcements that it asks for
_SUBSCRIBED_MS = const(500)  # it subscribes to a new entity's topics 150 ms after the announcement


class DiscoveryPublisher:
    """Announces over `session` (firmware.mqtt.session.MqttSession). `announcements` counts those of everything."""

    def __init__(self, settings, announcer, outbox, session, health):
        self._announcer = announcer
        self._outbox = outbox
        self._session = session
        self._health = health
        self._entities = None
        self._is_on = settings["discovery"] != "off"
        if settings["discovery"] == "entity":  # here, as an import takes more stack than the thread has
            from firmware.mqtt.homeassistant_entities import entities

            self._entities = entities
        self._announced = None  # the meter whose entities the hub knows
        self._due_s = None  # uptime of an announcement the hub has asked for, None for none
        self._least_s = 0  # and of the earliest that it may have
        self.announcements = 0

    def poll(self):
        """Announce, where it is time."""
        uptime_s = self._health.uptime_s
        if self._session.hub_has_started:
            self._session.hub_has_started = False
            if self._due_s is None:
                self._due_s = max(uptime_s + _HUB_READY_S + random.getrandbits(16) % 3, self._least_s)
        if self._due_s is not None and uptime_s >= self._due_s:
            self._least_s = uptime_s + _HUB_LEAST_S
            self._session.say_online()
            self.announce_all()
        elif self._outbox.meter() is not self._announced:
            self._announce_meter()
            time.sleep_ms(_SUBSCRIBED_MS)  # a meter asked once an hour has no second message soon

    def announce_all(self):
        """The probe's and the meter's entities, and then whatever is retained once more."""
        self._due_s = None
        self._announce(None)
        self._announced = None
        self._announce_meter()
        time.sleep_ms(_SUBSCRIBED_MS)
        self._outbox.resend_retained()
        self.announcements += 1

    def _announce_meter(self):
        meter = self._outbox.meter()
        if meter is not None:
            self._announce(meter)
        self._announced = meter

    def _announce(self, meter):
        gc.collect()
        session, announcer = self._session, self._announcer
        if self._entities:
            for topic, payload in self._entities(announcer, meter):
                session.publish_pieces(topic, len(payload), (payload,))
        elif self._is_on:
            pieces = announcer.device_payload
            size = 0
            for piece in pieces(meter):
                size += len(piece)
            session.publish_pieces(announcer.device_topic(meter), size, pieces(meter))
