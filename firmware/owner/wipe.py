"""The probe forgets its owner: what the broker keeps of it, its files but board.json, and RTC memory. Then it restarts.

    loop: run() --- before_session --> thread: until the broker keeps nothing --> loop: files, restart
                    a broker that is not there for a minute is left as it is
"""

import asyncio
import os

from micropython import const

from firmware.hardware import restarts
from firmware.mqtt.forget_topics import TopicsForgotten

# The secrets first: a power cut between two of them leaves none.
FILES = "settings.json change.json counters.json detected.json scale.json energy.json capture.txt restart.txt"
_TLS_KEYS = ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key")
_LONGEST_S = const(60)
_LOOK_MS = const(100)


class Wipe:
    """Of the probe of `services` (firmware.app.Services). run() ends in a restart."""

    def __init__(self, services):
        self._services = services

    async def run(self):
        """Started by firmware.owner.orders."""
        services = self._services
        began_s = services.health.uptime_s
        forgotten = TopicsForgotten(services)
        services.network.mailbox.before_session = forgotten.clean
        while not forgotten.done and services.health.uptime_s - began_s < _LONGEST_S:
            await asyncio.sleep_ms(_LOOK_MS)
        print("optoprobe: wiped; the broker %s" % ("keeps nothing" if forgotten.done else "was not there"))
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
        restarts.forget()
        restarts.restart(restarts.BY_OWNER)
