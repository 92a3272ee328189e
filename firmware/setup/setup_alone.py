"""The set-up without metering: a probe without Wi-Fi settings, or one that has restarted too often too soon.

The app is not loaded and Python's heap not grown, so that the chip's memory is there for the access point, the Wi-Fi
and TLS. The console is listened to as ever (Improv, Ctrl-C), and the button held for 10 s wipes. A safe mode ends with
a change, or by itself.
"""

import asyncio
import os

from micropython import const

from firmware.hardware.health import ASKED_FOR, NO_WIFI, SAFE_MODE, Health, call, chip_number
from firmware.mqtt.wifi import Wifi
from metering.unload import unload

_ALONE_S = const(600)  # then metering is tried again: what ended it may have been a brown-out
_IDLE_S = const(60)
_LOOK_MS = const(500)
_WIPE_LOOKS = const(20)  # 10 s of the button, as in firmware.app
_SAFE_MODE = (
    "safe mode: the probe has restarted five times, each within a minute of its start (the last: %s);"
    " metering is tried again in %d minutes"
)
_WIFI_CURE = "give it on this port, by a browser (Improv) or by optoprobe config --set wifi_ssid=NAME"


class _Network:
    """What firmware.owner.improv and the trials know of firmware.mqtt.session.Network: none runs."""

    def __init__(self, values):
        self.settings = values
        self.probe_id = values["probe_id"] or "probe_" + chip_number()
        self.wifi = Wifi("", "", self.probe_id.replace("_", "-"), None)
        values["wifi_ssid"] = ""  # no thread joins it, and the console is listened to for as long as this lasts


class _Services:
    def __init__(self, values):
        self.network = _Network(values)
        self.health = Health()


def _load_settings():
    from firmware import settings

    loaded = settings.load("settings.json")
    settings = None
    unload("firmware.settings")
    unload("metering.dlms")
    return loaded


async def _end_wipe(services):
    """Remove what a wipe has left that a power cut, or a safe mode, has ended; restarts then."""
    try:
        os.stat("wipe.due")  # firmware.owner.wipe's
    except OSError:
        return
    from firmware.owner.wipe import Wipe

    await Wipe(services).run()


async def _heed_button(services):
    """Wipe once the board's button has been held for 10 s; restarts then."""
    button = call("firmware.hardware.board", lambda board: board.button("board.json"))
    unload("firmware.hardware.head")
    unload("firmware.store")
    held = 0
    while button is not None and held < _WIPE_LOOKS:
        await asyncio.sleep_ms(_LOOK_MS)
        held = 0 if button.value() else held + 1
    if button is not None:
        from firmware.owner.wipe import Wipe

        await Wipe(services).run()


def main(why):
    """`why`: firmware.hardware.health.why_alone. Never returns."""
    asyncio.run(_run(why))


async def _run(why):
    values, problems = _load_settings()
    services = _Services(values)
    health = services.health
    sentence = problems[0] if problems else ""
    for problem in problems:
        print("optoprobe: " + problem)
    if why == SAFE_MODE:
        sentence = _SAFE_MODE % (health.restart_cause, _ALONE_S // 60)
        call("firmware.hardware.log_ring", lambda log_ring: log_ring.note(sentence, health.uptime_s))
        print("optoprobe: " + sentence)
    elif why == ASKED_FOR:
        print("optoprobe: set-up: asked for; metering goes on in %d minutes at the latest" % (_ALONE_S // 60))
    from firmware.owner.console_watch import watch

    asyncio.create_task(watch(services))
    asyncio.create_task(health.run())
    asyncio.create_task(_heed_button(services))
    if why != ASKED_FOR:  # else the app wipes, with the broker
        await _end_wipe(services)
    from firmware.setup import set_up

    word = "safe" if why == SAFE_MODE else "button" if why == ASKED_FOR else "damaged" if problems else "new"
    opened = set_up.SetUp(services, word, lambda: sentence)
    try:
        told = opened.open(call("firmware.setup.setup_form", set_up.password_of))
        print("optoprobe: set-up: " + told)
        opened.scan()
    except OSError as error:
        print("optoprobe: set-up: there is no access point (%s): use this port" % error)
        opened.close()  # it may be open, with no page in it
        opened = None
    if why == NO_WIFI:  # what optoprobe flash waits for comes last
        print("optoprobe: settings: no Wi-Fi is set, so nothing is published: " + _WIFI_CURE)

    def goes_on():
        health.reader_progressed()
        return why == NO_WIFI or health.uptime_s < _ALONE_S or opened is not None and not opened.is_idle(_IDLE_S)

    if opened:
        await set_up.look_every_few_ms(opened, goes_on)
    while goes_on():
        await asyncio.sleep_ms(500)

    def restart(restarts):
        restarts.restart(restarts.SAFE_MODE_OVER if why == SAFE_MODE else restarts.BY_OWNER)

    call("firmware.hardware.restarts", restart)
