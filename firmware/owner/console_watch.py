"""The console's port while a browser may set the Wi-Fi on it (Improv via serial): listened to by the loop, a look at a
time. Loaded for the first minutes, and for as long as no Wi-Fi is set.

Each command of Improv holds a byte 03, its type. MicroPython takes that for Ctrl-C, and would end the program: so
boot.py and main.py have it look for none, and this task does. A 03 behind Improv's header is data, any other ends the
program as before, and what comes behind it is left to the REPL. Bytes that belong to no packet are nobody's.
"""

import asyncio
import gc
import select
import sys

from micropython import const, kbd_intr

from metering.unload import unload

_HEADER = b"IMPROV\x01"  # and the version; no byte but the first is like the first
_CTRL_C = const(3)
_LISTEN_S = const(180)
_LOOK_MS = const(20)
_MOST_BYTES = const(256)  # of one look: others wait meanwhile


async def watch(services):
    """Listen until the minutes are over, or there is no console. A Ctrl-C ends it, and the program, by
    KeyboardInterrupt.
    """
    settings = services.network.settings
    console = select.poll()
    if not hasattr(console, "ipoll"):  # a computer's Python
        return
    console.register(sys.stdin, select.POLLIN)
    stdin = sys.stdin.buffer
    one = bytearray(1)
    matched = 0
    improv = None
    until_s = _LISTEN_S
    try:
        while improv or not settings["wifi_ssid"] or services.health.uptime_s < until_s:
            for _ in range(_MOST_BYTES):
                is_there = False
                for _ in console.ipoll(0):
                    is_there = True
                if not is_there:
                    break
                if not stdin.readinto(one):
                    return
                byte = one[0]
                if byte == _HEADER[matched]:
                    matched += 1
                elif byte == _CTRL_C:
                    raise KeyboardInterrupt
                else:
                    matched = 1 if byte == _HEADER[0] else 0
                if matched == len(_HEADER):
                    matched = 0
                    until_s = services.health.uptime_s + _LISTEN_S
                    try:
                        if improv is None:
                            from firmware.owner.improv import Improv

                            improv = Improv(services)
                        await improv.take(console, stdin)
                    except MemoryError:
                        gc.collect()
                        print("optoprobe: memory: none is left for Improv, restart the probe and try again")
                    break
            if improv and improv.is_over():
                improv = Improv = None
                _unload_improv()
            await asyncio.sleep_ms(_LOOK_MS)
    except (OSError, MemoryError):  # the console is gone, or nothing is left for it: the probe goes on
        pass
    finally:
        kbd_intr(_CTRL_C)
        improv = Improv = None
        _unload_improv()
        unload("firmware.owner.console_watch")


def _unload_improv():
    for module in ("firmware.owner.improv", "firmware.mqtt.wifi_trial", "firmware.store"):
        unload(module)
