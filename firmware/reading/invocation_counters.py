"""Invocation counters of a meter that pushes encrypted telegrams, in flash. Loaded where there is one."""

from micropython import const

from metering.unload import unload

_FILE = "counters.json"
_TITLE_BYTES = const(8)
_STEP = const(1024)  # telegrams between two writes: 84 a day at one a second


def _checked(row, key_check):
    """(title, counter) of a row of the file; (None, 0) of anything else, and where another key counts anew."""
    try:
        text, counter, check = row
        title = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None, 0
    if check != key_check or len(title) != _TITLE_BYTES or not isinstance(counter, int) or not 0 <= counter < 1 << 32:
        return None, 0
    return title, counter


class Counters:
    """Invocation counters kept over restarts, so that an old telegram is not taken for a new one after one.

    Written at every 1,024th telegram: of what came since, up to so many could be replayed after a loss of power.
    """

    def __init__(self, listener, key, auth_key):
        """`listener` gets the meter's keys (bytes or None), and the counters kept of telegrams under this key."""
        listener.set_keys(key, auth_key)
        listener.refuses_replays = True
        self._listener = listener
        self._kept = {}
        from firmware.store import load

        rows = load(_FILE)
        load = None
        unload("firmware.store")
        for row in rows if isinstance(rows, list) else ():
            title, counter = _checked(row, listener.key_check)
            if title:
                listener.restore_counter(title, counter)
                self._kept[title] = counter

    def keep(self):
        """Called with a telegram in the listener's hand."""
        title, counter = self._listener.system_title, self._listener.invocation_counter
        if title is None or 0 <= counter - self._kept.get(title, -_STEP) < _STEP:
            return
        self._kept[title] = counter
        check = self._listener.key_check
        from firmware.store import save

        save(_FILE, [["".join("%02x" % b for b in t), c, check] for t, c in self._kept.items()])
        save = None
        unload("firmware.store")
