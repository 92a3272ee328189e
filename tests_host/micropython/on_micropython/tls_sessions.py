"""Sessions of the firmware's own over MicroPython's tls: argv[1] names a JSON list of settings with a key `deed` each.

Prints one JSON list: of each the fault's sentence, or "session", and how many files the process has open afterwards.
"""

import json
import os
import sys

import ntptime

from firmware.mqtt import fault_sentence, session

DEFAULTS = {"wifi_ssid": "home", "mqtt_user": "", "mqtt_password": "", "discovery": "off", "ntp_host": "time"}
DEFAULTS.update({"discovery_prefix": "homeassistant", "mqtt_tls_cert": "", "mqtt_tls_key": ""})
asked = []


class NoMemory:
    def wrap_socket(self, *_, **__):
        raise OSError(12)


class Announcer:
    def topic(self, *levels):
        return ("optoprobe/p/" + "/".join(levels)).encode()


class Mailbox:
    before_session = time_sync = None
    changes = 0

    def topics(self):
        return [b"optoprobe/p/alignment/set"]


class Health:
    uptime_s = 0

    def network_progressed(self):
        pass


def settime():
    asked.append(ntptime.host)
    if ntptime.host == "silent":
        raise OSError(110)


def told(settings):
    made = session.MqttSession(settings, "p", Announcer(), Mailbox(), Health())
    if settings["deed"] == "frozen":
        made._sockets._timeout_s = 0.5
    elif settings["deed"] == "no memory":
        made._sockets._context = NoMemory()
    try:
        for _ in range(2):  # the second one with what the first has left
            made.open()
            made.publish((b"optoprobe/p/live", b"x" * settings.get("bytes", 10), False))
            made.listen()
        return "session"
    except Exception as error:
        return fault_sentence.sentence_of(error, False, settings)
    finally:
        made.close()


ntptime.settime = settime
answers = []
with open(sys.argv[1]) as file:
    cases = json.load(file)
for case in cases:
    settings = dict(DEFAULTS)
    settings.update(case)
    answers.append((told(settings), len(os.listdir("/proc/self/fd"))))
print(json.dumps([answers, asked, "metering.unload" in sys.modules, "firmware.mqtt.tls_sentence" in sys.modules]))
