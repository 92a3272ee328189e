"""Invocation counters of our own, reserved in flash before the first of them is used: whatever the power does, none is
used twice under a key. Loaded where a DLMS meter is asked with keys.
"""

from machine import unique_id
from micropython import const

from metering.unload import unload

STEP = const(4096)  # counters reserved at once: some hours of reading by the minute; those left over are never used
_FILE = "own_counter.json"  # holds a list of the first counter that nobody may have used


def system_title():
    """Ours: OPT and the chip's number."""
    return b"OPT" + (bytes(5) + unique_id())[-5:]


def reserve(least):
    """The first of STEP counters that nobody has used, none below `least`; 0 where the flash cannot be written."""
    from firmware.store import load, save

    kept = load(_FILE)
    first = max(least, 1)
    if isinstance(kept, list) and len(kept) == 1 and isinstance(kept[0], int):
        first = max(first, kept[0])
    is_saved = save(_FILE, [first + STEP])
    load = save = None
    unload("firmware.store")
    return first if is_saved else 0
