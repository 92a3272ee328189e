"""The totals of a blinking meter over every kind of end: exact, and never lower than one that was published.

    what ended         where the totals go on from                   they are published again
    a reset            RTC memory, written at every batch of pulses  at once
    a loss of power    flash, and the broker's retained state where  at once, if the broker was there all the time;
                       that is further                               else when they have passed what may have been said
    all of it erased   the broker's retained state                   at once

Each write of flash grants pulses that may be published beyond what it holds: twice those between the last two writes.
It is written again when an hour has passed, and before more is published than is granted. So what may have been
published before a loss of power is known. Where flash cannot be written, nothing more is published.

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
_MOST_FILE_BYTES = const(512)  # a record fits RTC memory
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


class WriteAllowance:
    """How many pulses may be published beyond what flash holds, and when it is to be written."""

    def __init__(self):
        self.granted = 0
        self.unsaved = 0  # pulses since flash was written
        self.failed_writes = 0  # since the last that did not fail
        self._retry_at = 0  # pulses, where one failed
        self._written_s = 0

    def restore(self, granted, unsaved):
        self.granted, self.unsaved = granted, unsaved

    def close(self):
        """Something else than the count has changed: nothing is published until flash holds it."""
        self.granted, self.unsaved = 0, max(self.unsaved, 1)

    @property
    def covers_all(self):
        """May all that was counted be published?"""
        return self.unsaved <= self.granted

    def is_write_due(self, uptime_s):
        unsaved = self.unsaved
        if unsaved > max(self.granted, self._retry_at):
            return True
        return unsaved and uptime_s - self._written_s >= _HOUR_S

    def begin_write(self, pulses_per_kwh, uptime_s):
        """Flash is written now; returns the pulses to be granted with it."""
        self._written_s = uptime_s
        return max(pulses_per_kwh // _LEAST_GRANT, _LEAST_GRANT, 2 * self.unsaved)

    def end_write(self, granted):
        """It is written."""
        self.granted, self.unsaved, self._retry_at = granted, 0, 0
        self.failed_writes = 0

    def fail_write(self):
        """It could not be: the next attempt follows when twice as many pulses have come."""
        self._retry_at = 2 * self.unsaved
        self.failed_writes += 1


class BrokerHistory:
    """What may have been published before this run, and by what the broker shows it. Pulses are counted."""

    def __init__(self):
        self.unknown = 0  # may have been published beyond what is counted here
        self.since_start = 0  # since that is so, _SETTLED once the broker was asked
        self.is_new = 0  # 1 where nothing was found here and the broker was not asked yet
        self.was_offline = 0  # 1 where we were it in the last _SAVED_S

    def restore(self, unknown, since_start, is_new, was_offline):
        self.unknown, self.since_start = unknown, since_start
        self.is_new, self.was_offline = is_new, was_offline

    @property
    def is_settled(self):
        return self.since_start == _SETTLED

    def lose_power(self, granted):
        """So many pulses may have been published beyond what flash held."""
        self.unknown = max(self.unknown, granted)
        if self.is_settled:
            self.since_start = 0

    def count(self, n):
        self.unknown = max(0, self.unknown - n)
        if not self.is_settled:
            self.since_start += n

    def change(self, old, new):
        """A kWh has `new` pulses from now on, and had `old`."""
        self.unknown = -(-self.unknown * new // old)
        if not self.is_settled:
            self.since_start = -(-self.since_start * new // old)

    def missing(self, counted, published):
        """Pulses that `published`, (value, decimals) or None, is ahead of `counted`; None where it cannot be ours."""
        if published is None:
            return None
        missing = counted.pulses_to(published[0], published[1]) + self.since_start
        return None if missing > self.unknown + self.since_start else missing

    def settle(self):
        self.is_new = self.unknown = 0
        self.since_start = _SETTLED


class ReadingDialogue:
    """What the owner typed as the display's reading: taken, asked for again, or refused. `series`: of readings."""

    def __init__(self):
        self._waiting = None  # one that has to come again: (value, decimals, uptime_s, session)
        self._sentence = ""
        self._said_s = 0

    def explanation(self, uptime_s):
        """Why it was not set, for ten minutes; else ""."""
        return self._sentence if uptime_s - self._said_s < _CONFIRM_MOST_S else ""

    def judge(self, typed, reading, pulses_per_kwh, series, uptime_s, session):
        """(Total, value, decimals) to be set by `typed` (bytes, kWh): of `reading` (a Total or None) itself or of a new
        one, which begins another series; None where nothing is to be set.
        """
        waiting = self._waiting
        self._waiting = None
        self._said_s = uptime_s
        try:
            value, decimals = parse_kwh(typed)
        except ValueError as error:
            self._sentence = "%s: not set" % error
            return None
        self._sentence = ""
        total = reading or Total(pulses_per_kwh)
        if reading and reading.shows(value, decimals):
            return None
        rise = value * 10 ** (_KWH_DECIMALS - decimals) - total.exact()
        if reading and abs(rise) > _FAR_KWH * 10**_KWH_DECIMALS:
            lower = total.exact() + rise < total.highest()
            if not self._is_confirmed(waiting, value, decimals, uptime_s, session):
                self._ask_again(value, decimals, rise, lower)
                return None
            if lower and series == _MOST_SERIES:
                self._sentence = "no more than %d readings can begin anew" % _MOST_SERIES
                return None
            if lower:
                total = Total(pulses_per_kwh)
        return total, value, decimals

    def _is_confirmed(self, waiting, value, decimals, uptime_s, session):
        waited_s = uptime_s - waiting[2] if waiting else 0
        if not waiting or waiting[:2] != (value, decimals) or waiting[3] != session or waited_s > _CONFIRM_MOST_S:
            waited_s = 0
        if waited_s >= _CONFIRM_LEAST_S:
            return True
        self._waiting = (value, decimals, uptime_s, session)
        return False

    def _ask_again(self, value, decimals, rise, lower):
        become = "a new entity begins then" if lower else "Home Assistant books the difference then"
        self._sentence = "%s kWh is %s %s than counted: set it again within 10 minutes if it is right; %s" % (
            decimal_text(value, -decimals),
            decimal_text(abs(rise), -_KWH_DECIMALS),
            "less" if rise < 0 else "more",
            become,
        )


class PersistentTotals:
    """`counted`: the pulses' energy since the first one; `reading`: the meter's, None until it was set once.

    Both are metering.energy_total.Total. `rate` and `width` are the owner's, to be kept too.
    `writes` to flash in this run.
    """

    def __init__(self, pulses_per_kwh):
        self._rtc = RtcRecord()
        self._allowance = WriteAllowance()
        self._history = BrokerHistory()
        self._dialogue = ReadingDialogue()
        self.writes = 0
        self._offline_s = 0  # when a session ended or began last
        record = None
        try:
            record = json.loads(self._rtc.data) if self._rtc.data else None
        except ValueError:
            pass
        if not self._restore(record):
            if not self._restore(store.load(_FILE, _MOST_FILE_BYTES)):
                self._restore([pulses_per_kwh, 0, 0, UNKNOWN, 0, 0, 0, 0, 1, 0, [0, 0, 0, 0], None])
            else:
                self.rate, self.width = 0, UNKNOWN  # the head may have been moved meanwhile
                self._history.lose_power(self._allowance.granted)
        if pulses_per_kwh != self.counted.pulses_per_kwh:
            self._change(pulses_per_kwh)

    def _restore(self, record):
        """Take over what _record() made; False where it is none."""
        try:
            for i in range(_NUMBERS):
                if not _is_count(record[i], UNKNOWN):
                    return False
            pulses_per_kwh, series, rate, width, granted, unsaved, unknown, since_start, is_new, offline = record[
                :_NUMBERS
            ]
            if min(rate, series, granted, unsaved, unknown) < 0 or since_start < _SETTLED:
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
        self._allowance.restore(granted, unsaved)
        self._history.restore(unknown, since_start, is_new, offline)
        return True

    def _record(self, granted, unsaved):
        history = self._history
        numbers = [self.counted.pulses_per_kwh, self._series, self.rate, self.width, granted, unsaved]
        numbers += [history.unknown, history.since_start, history.is_new, history.was_offline]
        return numbers + [_row(self.counted), _row(self.reading)]

    def _totals(self):
        return (self.counted, self.reading) if self.reading else (self.counted,)

    def _change(self, pulses_per_kwh):
        old = self.counted.pulses_per_kwh
        for total in self._totals():
            total.change(pulses_per_kwh)
        self._history.change(old, pulses_per_kwh)
        self._allowance.close()
        self._write(0)

    # -- counting and keeping

    def add(self, n):
        """`n` more pulses."""
        counted, reading = self.counted, self.reading
        count = counted.count + n  # whatever may want memory comes first
        count_of_reading = reading.count + n if reading else 0
        counted.count = count
        if reading:
            reading.count = count_of_reading
        self._allowance.unsaved += n
        self._history.count(n)

    def was_offline(self, uptime_s):
        """A session has ended or begun. To be called before anything is published in a new one."""
        self._offline_s = uptime_s
        if not self._history.was_offline:
            self._history.was_offline = 1
            self._allowance.close()
            self._write(uptime_s)

    def keep(self, uptime_s):
        """Store what has changed, in RTC memory and where that is due in flash. To be called before it is published."""
        if self._allowance.is_write_due(uptime_s):
            self._write(uptime_s)
        else:
            self._keep_in_rtc()

    def _keep_in_rtc(self):
        allowance = self._allowance
        self._rtc.write(json.dumps(self._record(allowance.granted, allowance.unsaved)).encode())

    def _write(self, uptime_s):
        """RTC memory, flash, RTC memory: flash never is ahead of it, nor what is granted ahead of flash."""
        self._keep_in_rtc()
        granted = self._allowance.begin_write(self.counted.pulses_per_kwh, uptime_s)
        if uptime_s - self._offline_s > _SAVED_S:
            self._history.was_offline = 0
        self.writes += 1
        try:
            written = store.save(_FILE, self._record(granted, 0))
        except MemoryError:
            written = False
        if not written:
            self._allowance.fail_write()
            return
        self._allowance.end_write(granted)
        self._keep_in_rtc()

    # -- what was published before

    @property
    def settled(self):
        """Is it known what was published before? Else nothing is shown, and read_back() is waited for."""
        return self._history.is_settled

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
        history = self._history
        if history.is_new:
            self._take_over(state, published)
        else:
            missing = history.missing(self.counted, published)
            n = max(missing or 0, 0)
            if missing is None or status != b"offline" or history.was_offline:
                for total in self._totals():
                    total.stands(max(n, history.unknown))
            self.add(n)
        history.settle()
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
                self.reading.go_on(published[0], published[1], self._history.since_start)
                break
        if counted:
            self.counted.go_on(counted[0], counted[1], self._history.since_start)

    # -- what is shown, and set

    @property
    def reading_key(self):
        """The key of the reading; another one whenever it has been set lower than it was."""
        return _reading_key(self._series)

    def shown(self):
        """(energy counted, reading) as exact texts in kWh, None for what is not to be published."""
        if not self.settled or not self._allowance.covers_all:
            return None, None
        return _text(self.counted), _text(self.reading)

    def set_reading(self, typed, uptime_s, session):
        """The display shows `typed` (bytes) kWh. Where that is not the reading then, explanation() says why.

        `session`: a number of the connection it came by: what comes again by itself confirms nothing.
        """
        judged = self._dialogue.judge(
            typed, self.reading, self.counted.pulses_per_kwh, self._series, uptime_s, session
        )
        if judged is None:
            return
        reading, value, decimals = judged
        self._allowance.close()
        reading.set(value, decimals)
        if reading is not self.reading and self.reading:
            self._series += 1
        self.reading = reading
        self._write(uptime_s)

    def explanation(self, uptime_s):
        """One sentence for the owner: why something was not set, is not shown or not stored; "" where all is well."""
        sentence = self._dialogue.explanation(uptime_s)
        if sentence:
            return sentence
        if self._allowance.failed_writes:
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
