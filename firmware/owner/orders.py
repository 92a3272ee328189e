"""What the owner orders in a word: restart, search, read, log, wipe=NAME, key=value of a setting. Loaded for a moment.

A setting passes the check of firmware.settings or is refused with its sentence; it is saved whole or not at all, and
holds from the restart behind it on. Where memory is too short for the check, that is made at the restart. A restart
waits for the first minute to be over: it is never one of a quick row.
"""

import asyncio
import sys

from micropython import const

from firmware.hardware.health import call
from firmware.owner import owner_actions
from metering.unload import unload

# What others on the broker may change: no address, no password, nothing that would lose the probe.
NUMBERS = ("pulses_per_kwh", "publish_interval_s")
CONTROLS = NUMBERS + ("protocol", "meter_key")
_SETTINGS_FILE = "settings.json"
_CHANGE_FILE = "change.json"  # CHANGE_FILE of firmware.settings
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
    elif text == "read":
        refusal = _read_now(services)
        tell("read is refused: " + refusal if refusal else "read: the meter is asked now")
        return None
    elif text == "log":
        mailbox = services.network.mailbox
        if mailbox.large_message:
            tell("log is refused: a capture is still being sent")
        else:
            mailbox.large_message = call("firmware.hardware.log_ring", lambda ring: _log(ring, services))
        return None
    elif key == "wipe" and value == services.announcer.probe_id:
        from firmware.owner.wipe import Wipe

        asyncio.create_task(Wipe(services).run())
        return None
    elif key in CONTROLS and "=" in text:
        sentence = _change(key, value)
        tell(sentence or "%s is changed: the probe restarts with it" % key)
        if sentence:
            return None
    else:
        controls = ", ".join([name + "=" for name in CONTROLS])
        tell("an order is refused: it is none of restart, search, read, log, " + controls)
        return None
    return max(services.health.uptime_s + _SAY_S, _LEAST_UPTIME_S)


def _log(ring, services):
    """The log as a large message: what is kept now, made again for each try."""
    kept = ring.kept()
    size = 0
    for piece in ring.pieces(kept):
        size += len(piece)
    return services.announcer.topic("log"), size, lambda: ring.pieces(kept)


def _read_now(services):
    """End the pause between two read-outs; returns "", or why not."""
    driver = services.driver
    if not driver or not driver.rests:
        return "no meter rests between two read-outs now"
    if not call("firmware.reading.read_budget", lambda budget: budget.take(services)):
        return "six times a day, restarts counted, are enough for a meter's battery: its next read-out comes by itself"
    driver.rests = False
    return ""


def _change(key, text):
    """Save the setting, or leave it for the next start; returns "", or the sentence that says why not."""
    value = int(text) if key in NUMBERS and text.encode().isdigit() and len(text) <= _MAX_DIGITS else text
    before = list(sys.modules)
    free = call("firmware.hardware.memory_figures", lambda figures: figures.room())
    try:
        if free >= _CHECK_BYTES:
            return call("firmware.settings", lambda settings: settings.change(_SETTINGS_FILE, key, value))
        is_left = call("firmware.store", lambda store: store.save(_CHANGE_FILE, (key, value)))
        return "" if is_left else "%s is not changed: %s cannot be written" % (key, _CHANGE_FILE)
    finally:
        for name in list(sys.modules):
            if name not in before:
                unload(name)
