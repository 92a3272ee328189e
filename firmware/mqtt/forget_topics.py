"""What the broker keeps of a probe is taken off it: all below its own topics, and its and its meters' discovery."""

import time

import umqtt.simple as umqtt
from micropython import const

_LOOK_MS = const(100)
_QUIET_MS = const(1000)  # what is kept comes with a subscription's answer
_MOST_MS = const(10000)  # somebody may go on publishing there
_LISTEN_MS = const(10)
_MOST_METERS = const(8)


class TopicsForgotten:
    """Of the probe of `services` (firmware.app.Services). `done`: the broker keeps nothing of it."""

    def __init__(self, services):
        self._services = services
        self.done = False
        self._client: umqtt.MQTTClient = None  # type: ignore[assignment]  # until clean()
        self._heard_at = 0
        self._slugs = []  # of the meters that the broker knows

    def clean(self, client):
        """By the network's thread, with umqtt's client; does not return, as nothing is to be published any more."""
        announcer, settings = self._services.announcer, self._services.network.settings
        self._client = client
        client.set_callback(self._heard)
        client.connect()
        self._forget(announcer.topic("#"))
        ids = [announcer.object_id(None)]
        for slug in self._slugs:
            ids.append("%s_%s" % (ids[0], slug))
        for object_id in ids:
            for form in ("%s/device/%s/config", "%s/+/%s/+/config"):
                self._forget((form % (settings["discovery_prefix"], object_id)).encode())
        client.publish(announcer.topic("status"), b"", True)  # the last will of the session before
        client.sock.flush()
        client.sock.close()
        self.done = True
        while True:
            time.sleep_ms(_LOOK_MS)

    def _forget(self, topics):
        """Have the broker forget what it keeps of `topics` (bytes, with wildcards)."""
        client = self._client
        began = self._heard_at = time.ticks_ms()
        client.sock.step_at = began
        try:
            client.subscribe(topics)
        except umqtt.MQTTException:  # it lets nobody read them: what there is stays
            return
        while True:
            client.sock.step_at = now = time.ticks_ms()
            client.check_msg()
            quiet_ms = time.ticks_diff(now, self._heard_at)
            if quiet_ms > _QUIET_MS or time.ticks_diff(now, began) > _MOST_MS:
                return
            self._services.health.network_progressed()
            time.sleep_ms(_LISTEN_MS)

    def _heard(self, topic, payload):
        """`payload` is None where it was too long to be taken."""
        if payload == b"":  # what is forgotten comes back as such
            return
        self._heard_at = time.ticks_ms()
        self._client.publish(topic, b"", True)
        levels = topic.decode().split("/")
        if levels[-1] in ("state", "status") and levels[-2] != self._services.announcer.probe_id:
            if levels[-2] not in self._slugs and len(self._slugs) < _MOST_METERS:
                self._slugs.append(levels[-2])
