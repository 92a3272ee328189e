"""From a telegram to the outbox: asks the guard, gives registers their names, composes what is published."""

import gc
import json

from micropython import const

from firmware.mqtt.homeassistant import Meter, slug
from firmware.mqtt.outbox import member
from metering.guard import MAX_REGISTERS
from metering.registers import CLOCK, IDENTIFIER, INSTANTANEOUS, TEXT, describe, medium, unnamed

_NAME_WAIT_S = const(12)  # Norwegian meters name themselves every 10 s
_LIVE_EXPIRES_S = const(60)  # the slowest meter met that talks by itself sends every 30 s
PIN_NEEDED = "PIN needed: until it is entered at the meter, the meter sends only whole kWh and no power"


class Publisher:
    """Publishes one listener's telegrams. `notice` is one sentence for the owner or ""."""

    def __init__(self, listener, guard, outbox, announcer):
        self._listener = listener
        self._guard = guard
        self._outbox = outbox
        self._announcer = announcer
        self.meter = None  # homeassistant.Meter, replaced when anything of it changes
        self.pause_s = 0  # between two read-outs of a meter that is asked
        self._series = 0  # of the guard
        self._nameless_s = None  # when the first telegram came, if it did not name the meter
        self._registers = {}  # OBIS -> Register, its text the one admitted last
        self._order = []  # the same as the meter sends them; a dict has no order here
        self._media = {}  # channel -> what its meter measures
        self._is_changed = False  # has a register become better known since the announcement?
        self._state = b""
        self.beyond_limit = 0  # readings of registers past MAX_REGISTERS
        self.clock = ""  # the meter's time of day in this telegram, as printed
        self.notice = ""

    def take(self, uptime_s):
        """Hand the telegram in hand to the outbox, as far as the guard lets it by; True when anything of it went."""
        listener = self._listener
        if not listener.n_values:  # an attention message: nothing to publish, and it may not name the meter
            return False
        meter_id = listener.meter_id()
        if not meter_id and self.meter is None and listener.name_may_follow:
            if self._nameless_s is None:
                self._nameless_s = uptime_s
            if uptime_s - self._nameless_s < _NAME_WAIT_S:
                return False
        if not self._guard.admits_meter(meter_id):
            return False
        if self.meter is None or self._series != self._guard.series:
            self._series = self._guard.series
            self.meter = Meter(meter_id, slug(meter_id), "", "", (), 0)
            self._registers = {}
            self._order = []
            self._media = {}
            gc.collect()  # what is made now stays: let it lie together
            for reading in listener.published_readings():
                if not reading.is_companion:
                    self._register(reading)
            gc.collect()
        maker = listener.maker() or self.meter.maker
        self.clock = ""
        live = bytearray()
        is_vouched = listener.proven and listener.vouched
        for reading in listener.published_readings():
            register = None if reading.is_companion else self._register(reading)
            if register is None or not self._guard.admits(reading, register, uptime_s, is_vouched):
                continue
            text = register.display(reading)
            if register.kind == INSTANTANEOUS:
                member(live, register.key, '"%s"' % text)  # a number: nothing to escape
            elif register.kind == CLOCK:
                self.clock = text
            else:
                register.text = text
                if register.kind == IDENTIFIER and register.key.startswith("manufacturer"):
                    maker = text
        meter = self.meter
        expires_s = max(_LIVE_EXPIRES_S, 3 * self.pause_s)
        changed = self._is_changed or len(self._order) != len(meter.registers)
        if changed or maker != meter.maker or expires_s != meter.live_expires_s:
            self._is_changed = False
            model = listener.model() or meter.model
            self.meter = Meter(self._guard.meter_id, meter.slug, maker, model, tuple(self._order), expires_s)
            self._outbox.announce(self.meter)
        if live:
            live += b"}"
            self._outbox.put(self._announcer.live_topic(meter), live, False)
        self._put_state()
        self.notice = PIN_NEEDED if listener.pin_needed else self._guard.notice
        return True

    def _register(self, reading):
        """The reading's register, made at its first appearance; None past the limit, and for a code that no standard
        knows in a telegram that nothing vouches for yet.

        One that went by its code becomes better known with a number after texts, its unit, or its meter's medium.
        """
        obis = reading.obis
        measures = medium(reading)
        is_vouched = self._listener.vouched
        if measures and is_vouched:
            self._media[obis[1]] = measures
        register = self._registers.get(obis)
        if register is not None:
            if is_vouched and self._is_better_known(register, reading):
                self._replace(register, reading)
            return self._registers[obis]
        if len(self._order) >= MAX_REGISTERS:
            self.beyond_limit += 1
            return None
        register = self._described(reading)
        if not register.known and not is_vouched:
            return None
        if register.kind != CLOCK:
            self._order.append(register)
        self._registers[obis] = register
        return register

    def _described(self, reading):
        register = describe(reading, self._media.get(reading.obis[1]))
        for other in self._order:
            if other.key == register.key:  # 0-0:97.97.0 beside 1-0:97.97.0
                return unnamed(reading)
        return register

    def _is_better_known(self, register, reading):
        """May `reading` tell more of its register than was known when it was made?"""
        if not isinstance(reading.value, int) or isinstance(reading.value, bool):
            return False
        if register.known:
            return register.key.startswith("mbus") and reading.obis[1] in self._media
        return register.kind == TEXT or register.unit is None and reading.unit is not None

    def _replace(self, register, reading):
        """Put in the place of `register` what is known of it now, and have it announced."""
        at = self._order.index(register)
        self._order.pop(at)
        better = self._described(reading)
        if better.key == register.key and better.kind == register.kind and better.unit == register.unit:
            better = register
        else:
            self._is_changed = True
            if better.key != register.key:
                better.former_key = register.key
        self._order.insert(at, better)
        self._registers[reading.obis] = better

    def _put_state(self):
        state = bytearray()
        for register in self._order:
            if register.text is not None:
                member(state, register.key, json.dumps(register.text))
        if not state:
            return
        state += b"}"
        if state != self._state:
            self._outbox.put(self._announcer.state_topic(self.meter), state, True)
            self._state = state
