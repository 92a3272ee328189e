"""How often a meter on a battery may be asked, over restarts: reads.json. Loaded for a moment at a time.

Its pause is counted in seconds that the probe is on: how long it was off nobody knows, and a clock may jump. A read-out
before that, behind a start, by a search or by hand, is one of six within a day of being on. Kept are

    [how many of the six are used, seconds left of their day, seconds left until the next read-out is due]

the last one where all six are used. Where the file cannot be written, a start waits as if they were.
"""

from micropython import const

from firmware.hardware.health import call

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Services

MOST = const(6)
_FILE = "reads.json"
_DAY_S = const(86400)
_MOST_PAUSE_S = const(604800)
_SAVE_S = const(300)  # at the least between two writes of nothing but passing time
_USED = const(0)  # of the list that is kept
_DAY = const(1)
_DUE = const(2)
_NOTED = const(3)  # uptime when the time was last taken off,
_SAVED = const(4)  # and when the file was written;
_BEGUN = const(5)  # whether the meter has been asked in this run


def _kept():
    """What the file holds; as of a new probe where it is none of ours."""
    kept = call("firmware.store", lambda store: store.load(_FILE))
    if isinstance(kept, list) and len(kept) == 3:
        for value, most in zip(kept, (MOST, _DAY_S, _MOST_PAUSE_S)):
            if type(value) is not int or not 0 <= value <= most:
                break
        else:
            return kept
    return [0, _DAY_S, 0]


def _budget(services: "Services"):
    """The list that the services have, up to date."""
    budget, now_s = services.read_by_hand, services.health.uptime_s
    if not isinstance(budget, list):
        budget = services.read_by_hand = _kept() + [0, 0, 0]
    passed_s = now_s - budget[_NOTED]
    budget[_NOTED] = now_s
    budget[_DUE] = max(0, budget[_DUE] - passed_s)
    budget[_DAY] -= passed_s
    if budget[_DAY] <= 0:
        budget[_DAY] = _DAY_S
        if budget[_USED]:
            budget[_USED] = 0
            _save(budget)
    return budget


def _save(budget):
    budget[_SAVED] = budget[_NOTED]
    return call("firmware.store", lambda store: store.save(_FILE, budget[:_NOTED]))


def _save_time(budget):
    """What has passed of the six's day is kept, but not all the time."""
    if budget[_NOTED] - budget[_SAVED] >= _SAVE_S:
        _save(budget)


def _count(budget):
    """One more of the six; was it written down?"""
    if not budget[_USED]:
        budget[_DAY] = _DAY_S
    budget[_USED] += 1
    return _save(budget)


def take(services):
    """May the meter be asked now, before it is due? It is counted then."""
    budget = _budget(services)
    may = budget[_USED] < MOST
    if may:
        budget[_BEGUN] = 1
        _count(budget)
    else:
        _save_time(budget)
    return may


def wait_s(services, pause_s):
    """In how many seconds a read-out may begin, whose next one follows after `pause_s`. 0: now, and that is counted.

    The first one of a run is one of the six, or waits until it is due; all others are due.
    """
    budget = _budget(services)
    if budget[_BEGUN]:
        budget[_DUE] = pause_s
        if budget[_USED]:
            _save_time(budget)
        return 0
    if services.driver.interactive:
        return 0
    if budget[_USED] >= MOST and budget[_DUE]:
        _save_time(budget)
        return budget[_DUE]
    budget[_DUE] = pause_s
    if budget[_USED] >= MOST:
        _save(budget)
    elif not _count(budget):
        budget[_USED] = MOST
        return pause_s
    budget[_BEGUN] = 1
    return 0


def spare(conversation, services):
    """Have the `conversation` ask wait_s() before each read-out."""
    from firmware.reading.spared_meter import SparedMeter

    conversation.budget = SparedMeter(services)
