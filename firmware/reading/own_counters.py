"""Invocation counters of our own, reserved in flash before the first of them is used: whatever the power does, none is
used twice under a key. Loaded where a DLMS meter is asked with keys.
"""

import os

from machine import unique_id
from micropython import const

from metering.unload import unload

STEP = const(4096)  # counters reserved at once: some hours of reading by the minute; those left over are never used
_FILE = "own_counter.json"  # holds a list of the first counter that nobody may have used
_MOST_FILE_BYTES = const(32)
_FAR = const(0x40000000)  # behind all that are used in a probe's life


def system_title():
    """Ours: OPT and the chip's number."""
    return b"OPT" + (bytes(5) + unique_id())[-5:]


def reserve(least):
    """The first of STEP counters that nobody has used, none below `least`; 0 where the flash cannot be written.

    Where the file is damaged nobody knows which were used: they go on far behind those, at a place drawn at random.
    """
    from firmware.store import read_json, save

    first = max(least, 1)
    try:
        kept = read_json(_FILE, _MOST_FILE_BYTES)
    except OSError:  # none was used yet
        kept = [first]
    except ValueError:
        kept = None
    if isinstance(kept, list) and len(kept) == 1 and type(kept[0]) is int and kept[0] > 0:
        first = max(first, kept[0])
    else:
        first = max(first, _FAR + int.from_bytes(os.urandom(4), "big") % _FAR)
    is_saved = save(_FILE, [first + STEP])
    read_json = save = None
    unload("firmware.store")
    return first if is_saved else 0
