"""The probe forgets its owner: what the broker keeps of it, its files but board.json, and RTC memory. Then it restarts.

    loop: run() --- a file, restart --> no meter, no page: there is room (firmware.composition)
    loop: run() --- before_session --> thread: until the broker keeps nothing --> loop: files, restart
                    a broker that is not there for a minute is left as it is

The file says that it is due until all of it is done: what a power cut has ended goes on at the next start.
"""

import asyncio
import os

from micropython import const

from firmware.hardware import restarts
from firmware.mqtt.forget_topics import WIPE, TopicsForgotten

DUE_FILE = "wipe.due"  # firmware.composition looks for it
# The secrets first: a power cut between two of them leaves none.
FILES = (
    "settings.json change.json counters.json detected.json scale.json energy.json capture.txt restart.txt"
    " announced.json modbus_map.json asked.json reads.json " + DUE_FILE
)
_TLS_KEYS = ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key")
_LONGEST_S = const(60)
_LOOK_MS = const(100)
_ANSWERED_MS = const(500)  # for the page's answer to have left


class Wipe:
    """Of the probe of `services` (firmware.app.Services). run() ends in a restart."""

    def __init__(self, services):
        self._services = services

    async def run(self):
        """Started by firmware.owner.orders, or the page."""
        services = self._services
        network, health = services.network, services.health
        settings = network.settings
        try:
            os.stat(DUE_FILE)
        except OSError:
            try:
                open(DUE_FILE, "w").close()
                await asyncio.sleep_ms(_ANSWERED_MS)
                restarts.restart(restarts.BY_OWNER)
            except OSError:  # then with what memory there is
                pass
        said = "no broker is set"
        if settings["wifi_ssid"] and settings["mqtt_host"]:
            began_s = health.uptime_s
            names = settings["mqtt_prefix"], network.probe_id, settings["discovery_prefix"]
            forgotten = TopicsForgotten(health, WIPE, names)
            network.mailbox.before_session = forgotten.clean
            while not forgotten.done and health.uptime_s - began_s < _LONGEST_S:
                await asyncio.sleep_ms(_LOOK_MS)
            said = "the broker keeps nothing" if forgotten.done else "the broker was not there"
        names = FILES.split()
        for key in _TLS_KEYS:
            if settings[key]:
                names.insert(0, settings[key])
        for name in names:
            for path in (name, name + ".new"):
                try:
                    os.remove(path)
                except OSError:
                    pass
        print("optoprobe: wiped; " + said)
        restarts.forget()
        restarts.restart(restarts.BY_OWNER)
