"""What an asked DLMS meter has told of itself, in flash (metering.dlms.meter_memory). Loaded where one is asked."""

from metering.unload import unload

_FILE = "asked.json"


def load_answers():
    """What save_answers() was given last; None for nothing."""
    from firmware.store import load

    try:
        kept = load(_FILE)
    except MemoryError:  # it is asked again
        kept = None
    load = None
    unload("firmware.store")
    return kept


def save_answers(kept):
    from firmware.store import save

    save(_FILE, kept)
    save = None
    unload("firmware.store")
