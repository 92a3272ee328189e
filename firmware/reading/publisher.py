"""From a telegram to the outbox: asks the guard, gives registers their names, composes what is published."""

import gc
import json

from micropython import const

from firmware.mqtt.announcer import Meter, slug
from firmware.mqtt.outbox import member
from metering.guard import MAX_REGISTERS
from metering.register import CLOCK, CUMULATIVE, IDENTIFIER, INSTANTANEOUS, TEXT, medium
from metering.unload import unload

_NAME_WAIT_S = const(12)  # Norwegian meters name themselves every 10 s
_MOST_NAME = const(64)  # characters of a meter's name: it stands in every topic, and in hex up to three times as long
_LIVE_EXPIRES_S = const(60)  # the slowest meter met that talks by itself sends every 30 s
_WATT = const(27)
_FALLS_TOLD = const(3)  # telegrams in a row of which all counters fell
_LEAST_CHANGE_W = const(100)  # a share of less is noise: 2 W of 8
PIN_NEEDED = "PIN needed: until it is entered at the meter, the meter sends only whole kWh and no power"


class RegisterList:
    """The registers that a meter has sent, each made at its first appearance.

    `shown`: what is announced, in the order sent. `beyond_limit` counts readings of registers past MAX_REGISTERS,
    `changes` what was added or became better known. `has_described`: is the code that does so loaded?
    """

    def __init__(self):
        self.shown = []  # a dict has no order here
        self._by_code = {}  # OBIS -> Register
        self._media = {}  # channel -> what its meter measures
        self.beyond_limit = 0
        self.changes = 0
        self.has_described = False

    def find(self, reading, is_vouched):
        """The reading's register; None past the limit, and for a code that no standard knows in a telegram that
        nothing vouches for yet.

        One that went by its code becomes better known with a number after texts, its unit, or its meter's medium.
        """
        obis = reading.obis
        measures = medium(reading) if is_vouched else None
        if measures:
            self._media[obis[1]] = measures
        register = self._by_code.get(obis)
        if register is not None:
            if is_vouched and self._is_better_known(register, reading):
                register = self._replace(register, reading)
            return register
        if len(self.shown) >= MAX_REGISTERS:
            self.beyond_limit += 1
            return None
        register = self._described(reading)
        if not register.known and not is_vouched:
            return None
        if register.kind != CLOCK:
            self.shown.append(register)
            self.changes += 1
        self._by_code[obis] = register
        return register

    def _described(self, reading):
        from metering.registers import describe, unnamed  # some 2.5 KB: publish() drops them

        self.has_described = True
        register = describe(reading, self._media.get(reading.obis[1]))
        name = register.name()
        for other in self.shown:
            if other.key == register.key:  # 0-0:97.97.0 beside 1-0:97.97.0
                return unnamed(reading)
            if other.name() == name:  # 1-1:1.8.0 beside 1-0:1.8.0
                register.is_named_in_full = True
        return register

    def drop_code(self):
        """What describes registers makes room, where it was loaded."""
        if self.has_described:
            self.has_described = False
            unload("metering.registers")

    def _is_better_known(self, register, reading):
        """May `reading` tell more of its register than was known when it was made?"""
        if not isinstance(reading.value, int) or isinstance(reading.value, bool):
            return False
        if register.unit is None and reading.unit is not None and register.kind in (CUMULATIVE, INSTANTANEOUS):
            return True
        if register.known:
            return register.key.startswith("mbus") and reading.obis[1] in self._media
        return register.kind == TEXT

    def _replace(self, register, reading):
        """Put in the place of `register` what is known of it now."""
        at = self.shown.index(register)
        self.shown.pop(at)
        better = self._described(reading)
        if better.key == register.key and better.kind == register.kind and better.unit == register.unit:
            better = register
        else:
            self.changes += 1
            if better.key != register.key:
                better.former_key = register.key
        self.shown.insert(at, better)
        self._by_code[reading.obis] = better
        return better


class Pace:
    """When messages are due: every `interval_s` seconds, and at once where a power has changed by `change_percent` of
    what was published last (of 100 W at the least). Integers only; 0 s: every telegram.
    """

    def __init__(self, interval_s, change_percent):
        self._interval_s = interval_s
        self._change_percent = change_percent
        self._sent_s = 0
        self._powers = {}  # OBIS -> [value, exponent] published last, then those of this telegram
        self._is_due = True

    def begin(self, uptime_s):
        """A telegram has come."""
        self._is_due = self._is_due or uptime_s - self._sent_s >= self._interval_s

    def note(self, reading):
        """It holds this value, which may be published."""
        if reading.unit != _WATT or not self._interval_s:
            return
        power = self._powers.get(reading.obis)
        if power is None:
            self._powers[reading.obis] = [0, 0, reading.value, reading.exponent]
            self._is_due = True
            return
        power[2] = reading.value
        power[3] = reading.exponent
        shift = max(-power[1], -power[3], 0)
        last = power[0] * 10 ** (power[1] + shift)
        change = abs(power[2] * 10 ** (power[3] + shift) - last)
        if change * 100 >= self._change_percent * max(abs(last), _LEAST_CHANGE_W * 10**shift):
            self._is_due = True

    def take_due(self, uptime_s):
        """Are the telegram's messages due? Then they count as published."""
        if not self._is_due:
            return False
        self._is_due = False
        self._sent_s = uptime_s
        for power in self._powers.values():
            power[0] = power[2]
            power[1] = power[3]
        return True


class Publisher:
    """Publishes one listener's telegrams. `notice` is one sentence for the owner or ""."""

    def __init__(self, listener, guard, outbox, announcer, pace, energy_factor=0):
        """`energy_factor`: the owner's, in Wh; 0: none."""
        self._listener = listener
        self._energy_factor = energy_factor
        self._scale = None  # firmware.reading.energy_scale, where the meter does not say its own
        self._guard = guard
        self._outbox = outbox
        self._announcer = announcer
        self._pace = pace
        self.meter = None  # announcer.Meter, replaced when anything of it changes
        self.pause_s = 0  # between two read-outs of a meter that is asked
        self._series = 0  # of the guard
        self._falls = 0  # telegrams in a row of which all counters fell that are not 0 as before,
        self._fall_notice = ""  # and what the owner must decide about it
        self._peak_times = None  # firmware.reading.peak_times, where the meter tells of maxima
        self._nameless_s = None  # when the first telegram came, if it did not name the meter
        self._registers = RegisterList()
        self._announced_changes = 0
        self._texts = {}  # key -> text admitted last, of what goes into `state`
        self._state: bytes | bytearray = b""
        self.clock = ""  # the meter's time of day in this telegram, as printed
        self.notice = ""

    @property
    def beyond_limit(self):
        """Readings of registers past MAX_REGISTERS."""
        return self._registers.beyond_limit

    def publish(self, uptime_s):
        """Hand the telegram in hand to the outbox, as far as the guard lets it by; True when the guard took any of it.

        Between two messages that are due nothing is put: the next one holds the newest values.
        """
        listener = self._listener
        if not listener.n_values:  # an attention message: nothing to publish, and it may not name the meter
            return False
        meter_id = listener.meter_id()[:_MOST_NAME]
        if not meter_id and self.meter is None and listener.name_may_follow:
            if self._nameless_s is None:
                self._nameless_s = uptime_s
            if uptime_s - self._nameless_s < _NAME_WAIT_S:
                return False
        if not self._guard.admits_meter(meter_id):
            return False
        meter = self.meter
        if meter is None or self._series != self._guard.series:
            meter = self._begin_series(meter_id)
        live = bytearray()
        maker, is_blank = self._take_values(live, uptime_s)
        maker = maker or meter.maker
        self._registers.drop_code()
        self._announce_changes(meter, maker)
        if not is_blank and self._pace.take_due(uptime_s):
            if live:
                live += b"}"
                self._outbox.put(self._announcer.live_topic(self.meter), live, False)
            self._put_state()
        notice = self._scale.notice if self._scale else ""
        self.notice = PIN_NEEDED if listener.pin_needed else notice or self._guard.notice
        if self._falls >= _FALLS_TOLD:
            self.notice = self.notice or self._fall_notice
        return not is_blank

    def _begin_series(self, meter_id):
        """Another meter is read from now on; returns it, not announced yet. Where memory runs out it is begun anew."""
        meter = Meter(meter_id, slug(meter_id), "", "", (), 0)
        self._falls = 0
        self._peak_times = None
        self._registers = registers = RegisterList()
        self._announced_changes = 0
        self._texts = {}
        self._scale = None
        if self._listener.assumed_energy_factor():
            from firmware.reading.energy_scale import EnergyScale

            self._scale = EnergyScale(self._listener, meter_id, self._energy_factor)
        gc.collect()  # what is made now stays: let it lie together
        listener = self._listener
        for reading in listener.published_readings():
            if not reading.is_companion:
                registers.find(reading, listener.vouched)
        registers.drop_code()
        gc.collect()
        self._series = self._guard.series
        self.meter = meter
        return meter

    def _take_values(self, live, uptime_s):
        """Put what the guard admits into `live` and the texts of the state.

        Returns (the maker, where it tells one; is it blank: it has counters, none is admitted, and all is 0?).
        """
        listener = self._listener
        maker = listener.maker()
        self.clock = ""
        self._pace.begin(uptime_s)
        is_vouched = listener.proven and listener.vouched
        scale = self._scale
        held = self._guard.held
        n_fell = held["went back"]
        has_counters = has_stood = False
        is_blank = True
        for reading in listener.published_readings():
            if scale and scale.holds(reading):
                held["scale"] += 1
                continue
            register = None
            if not reading.is_companion:
                register = self._registers.find(reading, listener.vouched)
            elif reading.obis[3:4] == b"\x06":  # D: of a maximum
                if self._peak_times is None:
                    from firmware.reading.peak_times import PeakTimes

                    self._peak_times = PeakTimes(self._registers)
                reading, register = self._peak_times.take(reading)
            if register is None:
                continue
            is_counter = register.kind == CUMULATIVE
            has_counters = has_counters or is_counter
            if reading.value and (is_counter or register.kind == INSTANTANEOUS):
                is_blank = False
            if not self._guard.admits(reading, register, uptime_s, is_vouched, listener.sealed):
                continue
            if is_counter:
                is_blank = False
                has_stood = has_stood or reading.value != 0
            text = register.display(reading)
            if register.kind == INSTANTANEOUS:
                member(live, register.key, '"%s"' % text)  # a number: nothing to escape
                self._pace.note(reading)
            elif register.kind == CLOCK:
                self.clock = text
            else:
                self._texts[register.key] = text
                if register.kind == IDENTIFIER and register.key.startswith("manufacturer"):
                    maker = text
        n_fell = held["went back"] - n_fell
        self._falls = self._falls + 1 if n_fell and not has_stood else 0
        if self._falls == _FALLS_TOLD:
            from metering.verdicts import fall_notice

            self._fall_notice = fall_notice(listener.names_model_only)
            fall_notice = None
            unload("metering.verdicts")
        if scale:
            scale.end_telegram(uptime_s, bool(self._guard.notice))
        return maker, has_counters and is_blank

    def _announce_changes(self, meter, maker):
        """Announce the meter where anything of it is new."""
        expires_s = max(_LIVE_EXPIRES_S, 3 * self.pause_s)
        changes = self._registers.changes
        if changes != self._announced_changes or maker != meter.maker or expires_s != meter.live_expires_s:
            self._announced_changes = changes
            listener = self._listener
            model = listener.model() or meter.model
            number = listener.printed_id()[:_MOST_NAME] if listener.sealed else ""
            serial = meter.serial if number in ("", listener.meter_id()) else number
            shown = tuple(self._registers.shown)
            self.meter = meter = Meter(self._guard.meter_id, meter.slug, maker, model, shown, expires_s)
            meter.serial = serial
            meter.is_model_only = listener.names_model_only
            self._outbox.announce(meter)

    def _put_state(self):
        state = bytearray()
        for register in self._registers.shown:
            text = self._texts.get(register.key)
            if text is not None:
                member(state, register.key, json.dumps(text))
        if not state:
            return
        state += b"}"
        if state != self._state:
            self._outbox.put(self._announcer.state_topic(self.meter), state, True)
            self._state = state
