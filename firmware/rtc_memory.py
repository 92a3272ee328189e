"""RTC memory, which survives all but a loss of power, shared out between those who keep something there.

    0..5      health: see firmware.health
    6..       a record in two places: see firmware.rtc_record
"""

import machine
from micropython import const

HEALTH_BYTES = const(6)
SIZE = const(646)

kept = None  # the whole of it (bytearray), where somebody needs it for good


def whole():
    """All of it as a bytearray; zeros where something else was there."""
    if kept is not None:
        return kept
    memory = machine.RTC().memory()
    return bytearray(memory if len(memory) == SIZE else SIZE)


def read_health():
    """Health's bytes, zeros where there are none."""
    return bytes(whole()[:HEALTH_BYTES])


def write_health(data):
    """Keep health's bytes, all else as it is."""
    memory = whole()
    memory[:HEALTH_BYTES] = data
    machine.RTC().memory(memory)
