"""The totals of a blinking meter over every kind of end: exact, and never lower than one that was published.

    what ended         where the totals go on from                   they are published again
    a reset            RTC memory, written at every batch of pulses  at once
    a loss of power    flash, and the broker's retained state where  at once, if the broker was there all the time;
                       that is further                               else when they have passed what may have been said
    all of it erased   the broker's retained state                   at once

Flash is written when an hour has passed, and before more is published than was *granted* beyond what it holds: twice
what was counted between the last two writes. So what may have been published before a loss of power is known. Where
flash cannot be written, nothing more is published.

That the broker was there is told by our last will, which it then has published. Brokers save what is retained now and
then: one that fails with us, and had last saved itself while we were offline, has an older will beside an older state.
So for two hours after we were offline the will proves nothing.
"""

import json

from micropython import const

from firmware import store
from firmware.hardware.rtc_record import RtcRecord
from metering.energy_total import Total, parse_kwh
from metering.pulses import RATES, UNKNOWN
from metering.reading import decimal_text

COUNTED = "energy_counted"  # keys of the two totals
READING = "energy_import"

_FILE = "energy.json"
_HOUR_S = const(3600)
_LEAST_GRANT = const(10)  # a tenth of a kWh
_MOST = 10**16  # of any number kept: 10**9 kWh
_NUMBERS = const(10)  # of a record, in front of its totals
_MOST_SERIES = const(99)
_MOST_STATE_BYTES = const(256)  # retained; ours are shorter, and brackets in brackets ask for much memory
_SETTLED = const(-1)
_KWH_DECIMALS = const(7)  # of Total.origin
_FAR_KWH = const(10)  # a reading that is set farther away is set twice
_SAVED_S = const(7200)  # brokers save themselves more often
_CONFIRM_LEAST_S = const(2)
_CONFIRM_MOST_S = const(600)


def _is_count(number, least=0):
    return isinstance(number, int) and not isinstance(number, bool) and least <= number < _MOST


def _total(row, pulses_per_kwh):
    """A Total of a record's row; ValueError or TypeError for anything else."""
    origin, count, decimals, least = row
    if not all(_is_count(number) for number in row) or decimals > _KWH_DECIMALS:
        raise ValueError
    return Total(pulses_per_kwh, origin, count, decimals, least)


def _row(total):
    return [total.origin, total.count, total.decimals, total.least] if total else None


def _text(total):
    """What is shown of a total, None for nothing."""
    value = total.value() if total else None
    return None if value is None else decimal_text(value, -total.decimals)


def _published(state, key):
    """(value, decimals) of a key in the retained state, None where there is none."""
    try:
        return parse_kwh(state[key].encode())
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


class PersistentTotals:
    """`counted`: the pulses' energy since the first one; `reading`: the meter's, None until it was set once.

    Both are metering.energy_total.Total. `rate` and `width` are the owner's, to be kept too.
    `writes` to flash in this run.
    """

    def __init__(self, pulses_per_kwh):
        self._rtc = RtcRecord()
        self._written_s = 0
        self._asked = None  # a reading that waits to be set again: (value, decimals, uptime_s, session)
        self._sentence = ""
        self._said_s = 0
        self.writes = 0
        self.failed_writes = 0  # since the last that did not fail
        self._retry = 0  # pulses, when to try again
        self._offline_s = 0  # when a session ended or began last
        record = None
        try:
            record = json.loads(self._rtc.data) if self._rtc.data else None
        except ValueError:
            pass
        if not self._restore(record):
            if not self._restore(store.load(_FILE)):
                self._restore([pulses_per_kwh, 0, 0, UNKNOWN, 0, 0, 0, 0, 1, 0, [0, 0, 0, 0], None])
            else:
                self.rate, self.width = 0, UNKNOWN  # the head may have been moved meanwhile
                self._doubt = max(self._doubt, self._granted)
                if self._since == _SETTLED:
                    self._since = 0
        if pulses_per_kwh != self.counted.pulses_per_kwh:
            self._change(pulses_per_kwh)

    def _restore(self, record):
        """Take over what _record() made; False where it is none."""
        try:
            for i in range(_NUMBERS):
                if not _is_count(record[i], UNKNOWN):
                    return False
            pulses_per_kwh, series, rate, width, granted, spent, doubt, since, fresh, offline = record[:_NUMBERS]
            if min(rate, series, granted, spent, doubt) < 0 or since < _SETTLED:
                return False
            self.counted = _total(record[_NUMBERS], pulses_per_kwh)
            self.reading = _total(record[-1], pulses_per_kwh) if record[-1] else None
        except (ValueError, TypeError, IndexError, KeyError):
            return False
        if rate >= len(RATES) or width > 8 or series > _MOST_SERIES:
            return False
        self._series = series  # of the reading: another one where it was set lower than it had been
        self.rate = rate
        self.width = width
        self._granted = granted  # pulses that may be published beyond what flash holds
        self._spent = spent  # of them
        self._doubt = doubt  # pulses that may have been published beyond `counted`
        self._since = since  # pulses since that doubt arose, _SETTLED once the broker was asked
        self._fresh = fresh  # 1 where nothing was found here and the broker was not asked yet
        self._offline = offline  # 1 where we were it in the last _SAVED_S
        return True

    def _record(self, granted, spent):
        numbers = [self.counted.pulses_per_kwh, self._series, self.rate, self.width, granted, spent]
        numbers += [self._doubt, self._since, self._fresh, self._offline]
        return numbers + [_row(self.counted), _row(self.reading)]

    def _totals(self):
        return (self.counted, self.reading) if self.reading else (self.counted,)

    def _change(self, pulses_per_kwh):
        old = self.counted.pulses_per_kwh
        for total in self._totals():
            total.change(pulses_per_kwh)
        self._doubt = -(-self._doubt * pulses_per_kwh // old)
        if self._since != _SETTLED:
            self._since = -(-self._since * pulses_per_kwh // old)
        self._store_first()
        self._write(0)

    def _store_first(self):
        """Something else than the count has changed: nothing is published until flash holds it."""
        self._granted, self._spent = 0, max(self._spent, 1)

    # -- counting and keeping

    def add(self, n):
        """`n` more pulses."""
        counted, reading = self.counted, self.reading
        count = counted.count + n  # whatever may want memory comes first
        count_of_reading = reading.count + n if reading else 0
        counted.count = count
        if reading:
            reading.count = count_of_reading
        self._spent += n
        self._doubt = max(0, self._doubt - n)
        if self._since != _SETTLED:
            self._since += n

    def was_offline(self, uptime_s):
        """A session has ended or begun. To be called before anything is published in a new one."""
        self._offline_s = uptime_s
        if not self._offline:
            self._offline = 1
            self._store_first()
            self._write(uptime_s)

    def keep(self, uptime_s):
        """Store what has changed, in RTC memory and where that is due in flash. To be called before it is published."""
        if self._spent > max(self._granted, self._retry) or self._spent and uptime_s - self._written_s >= _HOUR_S:
            self._write(uptime_s)
        else:
            self._keep_in_rtc()

    def _keep_in_rtc(self):
        self._rtc.write(json.dumps(self._record(self._granted, self._spent)).encode())

    def _write(self, uptime_s):
        self._keep_in_rtc()  # first, so that flash never is ahead of it
        spent = self._spent
        granted = max(self.counted.pulses_per_kwh // _LEAST_GRANT, _LEAST_GRANT, 2 * spent)
        if uptime_s - self._offline_s > _SAVED_S:
            self._offline = 0
        self._written_s = uptime_s
        self.writes += 1
        try:
            written = store.save(_FILE, self._record(granted, 0))
        except MemoryError:
            written = False
        if not written:
            self._retry = 2 * spent
            self.failed_writes += 1
            return
        self._granted, self._spent, self._retry = granted, 0, 0
        self.failed_writes = 0
        self._keep_in_rtc()

    # -- what was published before

    @property
    def settled(self):
        """Is it known what was published before? Else nothing is shown, and read_back() is waited for."""
        return self._since == _SETTLED

    def read_back(self, state, status, uptime_s):
        """What the broker has kept of the topics `state` and `status`, bytes or None, before this run said anything.

        Whatever it is interrupted by, it can be called again.
        """
        if self.settled:
            return
        try:
            state = json.loads(state) if state and len(state) <= _MOST_STATE_BYTES else None
        except ValueError:
            state = None
        published = _published(state, COUNTED)
        if self._fresh:
            self._take_over(state, published)
        else:
            missing = self.counted.pulses_to(published[0], published[1]) + self._since if published else None
            if missing is not None and missing > self._doubt + self._since:  # more than we can have said: not ours
                missing = None
            n = max(missing or 0, 0)
            if missing is None or status != b"offline" or self._offline:
                for total in self._totals():
                    total.stands(max(n, self._doubt))
            self.add(n)
        self._fresh = self._doubt = 0
        self._since = _SETTLED
        self.was_offline(uptime_s)
        self._write(uptime_s)

    def _take_over(self, state, counted):
        """Nothing was kept here: go on from what was published."""
        pulses_per_kwh = self.counted.pulses_per_kwh
        for series in range(_MOST_SERIES, -1, -1):
            published = _published(state, _reading_key(series))
            if published:
                self._series = series
                self.reading = Total(pulses_per_kwh)
                self.reading.go_on(published[0], published[1], self._since)
                break
        if counted:
            self.counted.go_on(counted[0], counted[1], self._since)

    # -- what is shown, and set

    @property
    def reading_key(self):
        """The key of the reading; another one whenever it has been set lower than it was."""
        return _reading_key(self._series)

    def shown(self):
        """(energy counted, reading) as exact texts in kWh, None for what is not to be published."""
        if not self.settled or self._spent > self._granted:
            return None, None
        return _text(self.counted), _text(self.reading)

    def set_reading(self, typed, uptime_s, session):
        """The display shows `typed` (bytes) kWh. Where that is not the reading then, explanation() says why.

        `session`: a number of the connection it came by: what comes again by itself confirms nothing.
        """
        asked = self._asked
        self._asked = None
        self._said_s = uptime_s
        try:
            value, decimals = parse_kwh(typed)
        except ValueError as error:
            self._sentence = "%s: not set" % error
            return
        reading = self.reading or Total(self.counted.pulses_per_kwh)
        exact = value * 10 ** (_KWH_DECIMALS - decimals)
        rise = exact - reading.exact()
        lower = exact < reading.highest()
        text = decimal_text(value, -decimals)
        if self.reading and reading.shows(value, decimals):
            self._sentence = ""
            return
        if self.reading and abs(rise) > _FAR_KWH * 10**_KWH_DECIMALS:
            waited_s = uptime_s - asked[2] if asked else 0
            if not asked or asked[:2] != (value, decimals) or asked[3] != session or waited_s > _CONFIRM_MOST_S:
                waited_s = 0
            if waited_s < _CONFIRM_LEAST_S:
                self._asked = (value, decimals, uptime_s, session)
                become = "a new entity begins then" if lower else "Home Assistant books the difference then"
                self._sentence = "%s kWh is %s %s than counted: set it again within 10 minutes if it is right; %s" % (
                    text,
                    decimal_text(abs(rise), -_KWH_DECIMALS),
                    "less" if rise < 0 else "more",
                    become,
                )
                return
            if lower and self._series == _MOST_SERIES:
                self._sentence = "no more than %d readings can begin anew" % _MOST_SERIES
                return
            if lower:
                reading = Total(self.counted.pulses_per_kwh)
        self._store_first()
        reading.set(value, decimals)
        if reading is not self.reading and self.reading:
            self._series += 1
        self.reading = reading
        self._sentence = ""
        self._write(uptime_s)

    def explanation(self, uptime_s):
        """One sentence for the owner: why something was not set, is not shown or not stored; "" where all is well."""
        if self._sentence and uptime_s - self._said_s < _CONFIRM_MOST_S:
            return self._sentence
        if self.failed_writes:
            return "the totals wait, flash cannot be written: restart the probe, or copy the firmware onto another chip"
        if self.settled:
            for total in self._totals():
                if total.value() is None:
                    tenths = -((total.exact() - total.least) // 10 ** (_KWH_DECIMALS - 1))
                    return "a total stands for up to %s kWh more, as so much may have been published; just wait" % (
                        decimal_text(tenths, -1)  # coarse: each new sentence is a line in the hub's log book
                    )
        return ""


def _reading_key(series):
    return "%s_s%d" % (READING, series + 1) if series else READING
