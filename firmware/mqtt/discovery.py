"""What the hub is told of the probe and its meter, and when: at a session's begin, when the meter or what is known of
it changes, and when the hub says that it has started.

The code that composes it (firmware.mqtt.homeassistant and its neighbours, 4 KB at a time) is in memory only as long.
The network's thread cannot load it, as an import takes more stack than it has: the loop does, and lends it.

    thread: something is due --> wanted --> loop: lend() --> lent --> thread: it announces, or the session ends
"""

import gc
import random
import time

from micropython import const

from metering.unload import unload

_HUB_READY_S = const(2)  # a hub that has just said online needs a moment; up to 2 s more at random
_HUB_LEAST_S = const(30)  # between two announcements that it asks for
_SUBSCRIBED_MS = const(500)  # it subscribes to a new entity's topics 150 ms after the announcement
_AGAIN_S = const(5)  # after a shortage of memory
_PUT_OFF_S = const(60)  # after one of announcing: values are worth more
_LENT_S = const(10)  # messages wait for so long to be behind their announcement, where memory is short

_CODE = (
    "firmware.mqtt.homeassistant_registers firmware.mqtt.homeassistant_probe firmware.mqtt.homeassistant_entities"
    " firmware.mqtt.homeassistant"
)

_PROBE = const(1)  # whose entities the code is wanted for
_METER = const(2)


def _unload():
    for module in _CODE.split():
        unload(module)


class DiscoveryPublisher:
    """Announces over `session` (firmware.mqtt.session.MqttSession). `announcements` counts those of everything."""

    def __init__(self, settings, announcer, outbox, session, health):
        self._announcer = announcer
        self._outbox = outbox
        self._session = session
        self._health = health
        self._form = settings["discovery"]
        self._announced = None  # the meter whose entities the hub knows
        self._tells_all = False  # everything is being announced:
        self._is_due = False  # the probe's entities are next; then the meter's, then what is retained
        self._due_s = None  # uptime of an announcement the hub has asked for, None for none
        self._least_s = 0  # and of the earliest that it may have
        self._wanted = 0  # _PROBE or _METER: the code wanted; only the thread sets it,
        self._wanted_s = 0  # uptime since when,
        self._lent = None  # and (for what, send(), the module that describes it): the code lent
        self._again_s = 0  # uptime when the loop may try to load it
        self._put_off_s = 0  # and before which nothing is announced
        self.announcements = 0

    # --- the loop's side ---

    def wants_code(self):
        """Does the thread wait for lend()?"""
        return self._wanted and self._lent is None and self._health.uptime_s >= self._again_s

    def lend(self):
        """Load the code where it is wanted. Returns whether it is in use: nothing else is loaded for a while then."""
        if self.wants_code():
            wanted = self._wanted
            try:
                self._lent = (wanted,) + self._load(wanted == _METER)
            except MemoryError:  # what else has to be told of it goes on
                self._again_s = self._health.uptime_s + _AGAIN_S
            _unload()
            if not self._wanted:  # the session has ended meanwhile
                self._lent = None
        return self._lent is not None

    def _load(self, of_meter):
        """send(), and the module that describes what is announced."""
        if of_meter:
            from firmware.mqtt import homeassistant_registers as what
        else:
            from firmware.mqtt import homeassistant_probe as what
        if self._form == "entity":
            from firmware.mqtt import homeassistant_entities as how
        else:
            from firmware.mqtt import homeassistant as how
        return how.send, what

    # --- the thread's side ---

    def begin(self):
        """A session has begun: everything is due."""
        self._tells_all = self._is_due = True
        self.end()

    def end(self):
        """No session any more, or announced: what was lent goes."""
        self._wanted = 0
        self._lent = None

    def poll(self):
        """Announce, where it is time. Returns whether messages should wait for it.

        Raises MemoryError where there is too little; it is tried again later, and messages do not wait for that.
        """
        uptime_s = self._health.uptime_s
        if self._session.hub_has_started:
            self._session.hub_has_started = False
            if self._due_s is None:
                self._due_s = max(uptime_s + _HUB_READY_S + random.getrandbits(16) % 3, self._least_s)
        if self._due_s is not None and uptime_s >= self._due_s:
            self._due_s = None
            self._least_s = uptime_s + _HUB_LEAST_S
            self._session.say_online()
            self._tells_all = self._is_due = True
        meter = None if self._is_due else self._outbox.meter()
        if not self._is_due and meter is self._announced:
            if self._tells_all:
                self._tells_all = False
                time.sleep_ms(_SUBSCRIBED_MS)
                self._outbox.resend_retained()
                self.announcements += 1
                return True  # a meter may have come meanwhile
            return False
        if self._form != "off":
            if uptime_s < self._put_off_s:
                return False
            wanted = _PROBE if meter is None else _METER
            lent = self._lent
            if lent is None or lent[0] != wanted:
                if self._wanted != wanted:
                    self._lent = None
                    self._wanted_s = uptime_s
                    self._wanted = wanted
                return uptime_s - self._wanted_s < _LENT_S
            gc.collect()
            self._put_off_s = uptime_s + _PUT_OFF_S  # if it fails
            lent[1](self._session, self._announcer, meter, lent[2])
            self._put_off_s = 0
            lent = None
            self.end()
        self._announced = meter
        if self._is_due:
            self._is_due = False
        elif not self._tells_all:
            time.sleep_ms(_SUBSCRIBED_MS)  # a meter asked once an hour has no second message soon
        return True
