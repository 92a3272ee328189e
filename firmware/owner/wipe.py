"""The probe forgets its owner: what the broker keeps of it, its files but board.json, and RTC memory. Then it restarts.

    loop: run() --- before_session --> thread: _clean() until the broker keeps nothing --> loop: files, restart
                    a broker that is not there for a minute is left as it is
"""

import asyncio
import os
import time

import umqtt.simple as umqtt
from machine import RTC
from micropython import const

from firmware.hardware import restarts

# The secrets first: a power cut between two of them leaves none.
FILES = "settings.json change.json counters.json detected.json scale.json energy.json capture.txt restart.txt"
_TLS_KEYS = ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key")
_LONGEST_S = const(60)
_LOOK_MS = const(100)
_QUIET_MS = const(1000)  # what is kept comes with a subscription's answer
_MOST_MS = const(10000)  # somebody may go on publishing there
_LISTEN_MS = const(10)
_MOST_METERS = const(8)


class Wipe:
    """Of the probe of `services` (firmware.app.Services). run() ends in a restart."""

    def __init__(self, services):
        self._services = services
        self._is_clean = False
        self._heard_at = 0
        self._slugs = []  # of the meters that the broker knows

    async def run(self):
        """Started by firmware.owner.orders."""
        services = self._services
        began_s = services.health.uptime_s
        services.network.mailbox.before_session = self._clean
        while not self._is_clean and services.health.uptime_s - began_s < _LONGEST_S:
            await asyncio.sleep_ms(_LOOK_MS)
        print("optoprobe: wiped; the broker %s" % ("keeps nothing" if self._is_clean else "was not there"))
        names = FILES.split()
        for key in _TLS_KEYS:
            if services.network.settings[key]:
                names.append(services.network.settings[key])
        for name in names:
            for path in (name, name + ".new"):
                try:
                    os.remove(path)
                except OSError:
                    pass
        RTC().memory(b"")
        restarts.restart(restarts.BY_OWNER)

    def _clean(self, client):
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
        self._is_clean = True
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
