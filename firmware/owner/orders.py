"""What the owner orders in a word: restart, search, or one setting as key=value. Loaded for a moment.

A setting passes the check of firmware.settings or is refused with its sentence; it is saved whole or not at all, and
holds from the restart behind it on. A restart waits for the first minute to be over: it is never one of a quick row.
"""

import sys

from micropython import const

from firmware.hardware.health import call
from firmware.owner import owner_actions
from metering.unload import unload

# What others on the broker may change: no address, no password, nothing that would lose the probe.
NUMBERS = ("pulses_per_kwh", "publish_interval_s")
CONTROLS = NUMBERS + ("protocol", "meter_key")
_SETTINGS_FILE = "settings.json"
_MAX_FILE_BYTES = const(8192)
_MAX_PAYLOAD_BYTES = const(96)  # the longest is a key, with blanks between its pairs
_MAX_DIGITS = const(9)
_LEAST_UPTIME_S = const(60)  # firmware.hardware.health ends a row of quick restarts
_SAY_S = const(3)  # for the sentence to get out
# What the check's code takes while it is loaded, measured on a 32-bit runtime, and what is composed meanwhile.
_CHECK_BYTES = const(13312)


def carry_out(payload, services, tell):
    """Carry out the order `payload` (bytes); tell(sentence) what came of it, never a value that is secret.

    Returns the uptime in s from which on the probe is to be restarted, None for not at all.
    """
    settings = services.network.settings
    try:
        text = payload.decode() if len(payload) <= _MAX_PAYLOAD_BYTES else ""
    except ValueError:
        text = ""
    key, _, value = text.partition("=")
    if text == "restart":
        tell("restart: as the owner has asked for")
    elif text == "search":
        refusal = owner_actions.search_refusal(settings["protocol"])
        if refusal:
            tell("search is refused: " + refusal)
            return None
        owner_actions.forget_meter()
        tell("search: the meter is looked for again, behind a restart")
    elif key in CONTROLS and "=" in text:
        sentence = _change(key, value)
        tell(sentence or "%s is changed: the probe restarts with it" % key)
        if sentence:
            return None
    else:
        tell("an order is refused: it is none of restart, search, %s" % ", ".join([name + "=" for name in CONTROLS]))
        return None
    return max(services.health.uptime_s + _SAY_S, _LEAST_UPTIME_S)


def _change(key, text):
    """Save the setting; returns "", or the sentence that says why not."""
    free = call("firmware.hardware.memory_figures", lambda figures: figures.room())
    if free < _CHECK_BYTES:
        return "%s is refused: %d bytes of memory are free, too few: use optoprobe config" % (key, free)
    value = int(text) if key in NUMBERS and text.encode().isdigit() and len(text) <= _MAX_DIGITS else text
    before = list(sys.modules)
    try:
        return call("firmware.settings", lambda settings: settings.change(_SETTINGS_FILE, key, value))
    finally:
        for name in list(sys.modules):
            if name not in before:
                unload(name)
