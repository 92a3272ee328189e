"""What comes, and how long nothing does: bytes in bursts, flashes, the level between them. Parts of
metering.detection.search_story, which passes the time to them once; none allocates behind its making.
"""

from metering.compat import const, copy_bytes

_TICKS = const(0x3FFFFFFF)
_MOST_MS = const(0x1FFFFFFF)
_NONE = const(-1)

GAP_MS = const(50)  # longer than most pauses inside a telegram; it only tells where to look again
SHORT_MS = const(40)  # so short are bursts of noise, and telegrams at high rates
_KEPT_BYTES = const(256)  # of a burst, until it is recognised: all that a driver brings at once
TELLING_BYTES = const(24)  # of a burst: noise is shorter

_PACED_BAUD = const(4800)  # up to here the time of some bytes tells how many bits they have
_LEAST_PACED = const(24)
_PACED = const(500)

_LONE_MS = const(21)  # more than 46 flashes a second are no meter's
_MOST_FLASH_MS = const(250)
_SHORT_FLASH_MS = const(40)
_FLASHES = const(3)
_LONG_FLASHES = const(4)  # shadows and torches last as long at times
_MOST_DISTURBANCES = const(12)

_IDLE_MS = const(400)  # a level that lasts so long is the idle one: no flash does, no byte


class Clock:
    """How long nothing has come, by the driver's ticks."""

    def __init__(self):
        self.ticks = None  # of the last look, None before the first
        self.quiet_ms = 0  # since the last byte
        self.dark_ms = 0  # since there was anything like a telegram
        self.away_ms = 0  # the same, or since this line was chosen
        self.is_idle_told = False  # has the listener been told of this silence?

    def pass_time(self, ticks_ms):
        """Milliseconds since the last look; 0 where the ticks went back."""
        gap_ms = 0
        if self.ticks is not None:
            gap_ms = (ticks_ms - self.ticks) & _TICKS
            if gap_ms > _MOST_MS:
                gap_ms = 0
        self.ticks = ticks_ms
        self.quiet_ms = min(self.quiet_ms + gap_ms, _MOST_MS)
        self.dark_ms = min(self.dark_ms + gap_ms, _MOST_MS)
        self.away_ms = min(self.away_ms + gap_ms, _MOST_MS)
        return gap_ms

    def end_quiet(self):
        """Bytes have come; returns how long nothing had."""
        quiet_ms = self.quiet_ms
        self.quiet_ms = 0
        self.is_idle_told = False
        return quiet_ms


class Bursts:
    """What has come since the line was chosen. `data`[:`n`] is kept of the burst that is on, `n` 0: none is.

    `ms` from its first read to its last; `is_begun`: did it follow a silence? `is_whole`: and is its first byte still
    kept? `count` bursts have ended that may have been telegrams, `n_bytes` have come, `n_zeros` of them were 0
    and `n_high` above 127.
    """

    def __init__(self):
        self.data = bytearray(_KEPT_BYTES)
        self.is_begun = self.is_whole = False
        self.ms = 0
        self.clear()

    def clear(self):
        """Another line: what came on the one before is nothing any more."""
        self.n = self.count = 0
        self.is_begun = False
        self.ms = 0
        self.forget_bytes()

    def forget_bytes(self):
        """What came was nothing: it is not counted."""
        self.n_bytes = self.n_zeros = self.n_high = 0
        self._n_before = 0  # bytes of the bursts before this one

    def begin(self, quiet_ms):
        """The first bytes of a burst have come, behind so much silence."""
        self.is_begun = self.is_whole = quiet_ms >= GAP_MS
        self.ms = 0

    def keep(self, data, start, end):
        """data[start:end] is the burst's; the last bytes are kept, as many as there is room for. Needs no memory."""
        self.n_bytes += end - start
        for i in range(start, end):
            self.n_zeros += not data[i]
            self.n_high += data[i] > 0x7F
        start = max(start, end - _KEPT_BYTES)
        over = self.n + end - start - _KEPT_BYTES
        if over > 0:
            copy_bytes(self.data, 0, self.data, over, self.n - over)
            self.n -= over
            self.is_whole = False
        copy_bytes(self.data, self.n, data, start, end - start)
        self.n += end - start

    def count_only(self, n_bytes):
        """So many bytes are the burst's, and a listener has them."""
        self.n_bytes += n_bytes
        self.n = 1

    def is_mostly_dark(self):
        """Are nine of ten bytes 0? No protocol's are: the rate is wrong."""
        return 10 * self.n_zeros > 9 * self.n_bytes

    def may_be_seven(self):
        """May the characters be of seven bits, without parity? Then bit 7 is the stop bit, 1 but where a byte is out of
        step with them: in 73 % of a P1 telegram sent without pauses, in half of anything else.
        """
        return 5 * self.n_high >= 3 * self.n_bytes

    def end_heard(self):
        """A silence behind a burst that a listener has; True where it may have been a telegram."""
        counts = self.ms >= SHORT_MS or self.n_bytes - self._n_before >= TELLING_BYTES
        self._n_before = self.n_bytes
        self.n = 0
        self.count += counts
        return counts

    def end_unknown(self):
        """A silence behind a burst of nobody; True where it may have been a telegram."""
        n = self.n
        self.n = 0
        counts = self.is_begun and (self.ms >= SHORT_MS or n >= TELLING_BYTES and 2 * self.n_zeros < self.n_bytes)
        self.count += counts
        return counts


class CharacterTime:
    """Does a byte take ten bits, or eleven? The time of bytes between which was no pause, from one look to another."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Another line."""
        self._n = self._ms = 0  # of the bursts that have ended
        self.begin()

    def begin(self):
        """The first bytes of a burst have come: how long they took is not known."""
        self._burst_n = self._burst_ms = 0  # of this burst, behind what came first
        self._sure_n = self._sure_ms = 0  # the same up to the read before the last: no pause was there

    def add(self, n, gap_ms):
        """So many bytes more, so long after the last ones."""
        self._sure_n, self._sure_ms = self._burst_n, self._burst_ms
        self._burst_n += n
        self._burst_ms += gap_ms

    def end(self, line):
        """The burst on `line` is over, or what it tells is wanted."""
        if self._sure_n >= _LEAST_PACED and line.baud <= _PACED_BAUD and not line.parity and self._n < _PACED:
            self._n += self._sure_n
            self._ms += self._sure_ms
        self._sure_n = 0

    def has_parity_bit(self, line):
        """Has a byte on `line`, which is received as 8N1, eleven bits?"""
        self.end(line)
        return self._n >= _LEAST_PACED and 2 * self._ms * line.baud >= 21 * 1000 * self._n


class Flashes:
    """Flashes of an LED: bytes of nothing but light, each by itself. `count` is how many alike came in a row.

    `lone_ms`: flashes cannot be closer than that. `expected` True: the meter is known to blink, and any flash counts.
    """

    def __init__(self, lone_ms, expected):
        self._lone_ms = max(lone_ms, _LONE_MS)
        self._expected = expected
        self.count = 0
        self._since_ms = _NONE  # since the byte that may be a flash; _NONE: there is none
        self._width_ms = self._last_width_ms = 0
        self._apart_ms = self._last_apart_ms = 0  # from one flash to the next
        self._disturbances = 0  # what came that is no flash

    def pass_time(self, gap_ms, is_lit):
        """So much time has passed, and the light is on now (by the idle level). True when it is an LED's blinking."""
        self._apart_ms = min(self._apart_ms + gap_ms, _MOST_MS)
        if self._since_ms == _NONE:
            return False
        self._since_ms += gap_ms
        if is_lit:
            self._width_ms = self._since_ms
        return self._judge(is_lit)

    def begin(self, quiet_ms):
        """A byte of nothing but light has come behind so much silence; True where it may be a flash by itself."""
        if quiet_ms < self._lone_ms:
            return False
        self._since_ms = self._width_ms = 0
        return True

    def disturb(self):
        """Something has come that is no flash."""
        self._disturbances = min(self._disturbances + 1, _MOST_DISTURBANCES)

    def end(self):
        """Bytes have come: what may have been a flash was none. True where there was one."""
        if self._since_ms == _NONE:
            return False
        self._since_ms = _NONE
        self.disturb()
        return True

    def forget_open(self):
        """Other settings: what may have been a flash is not known any more."""
        self._since_ms = _NONE

    def _judge(self, is_lit):
        """Was the byte a flash, by itself?"""
        if self._width_ms > _MOST_FLASH_MS:
            self.count = 0
            self.disturb()
            self._since_ms = _NONE
            return False
        if self._since_ms < self._lone_ms or is_lit:
            return False
        self._since_ms = _NONE
        alike = abs(self._width_ms - self._last_width_ms) <= _LONE_MS
        apart_ms = self._apart_ms
        self._apart_ms = 0
        alike = alike and (self.count < 2 or apart_ms < 2 * self._last_apart_ms < 4 * apart_ms)
        self._last_apart_ms = apart_ms
        self._last_width_ms = self._width_ms
        self.count = self.count + 1 if alike or self._expected else 1
        wanted = _FLASHES if self._width_ms <= _SHORT_FLASH_MS else _LONG_FLASHES
        return self.count >= wanted + self._disturbances and not self._expected


class IdleLevel:
    """Which level means that nothing comes: `is_lit` True where the light is on then, or seems so."""

    def __init__(self, is_lit):
        self.is_lit = is_lit
        self._seen = False  # the level seen last, and for how long
        self._seen_ms = 0

    def pass_time(self, gap_ms, light):
        """So much time has passed, and the light is on, off or (None) not known. True where a flash or a byte is on."""
        if light is None:
            return False
        self._seen_ms = min(self._seen_ms + gap_ms, _MOST_MS) if light == self._seen else 0
        self._seen = light
        return light != self.is_lit

    def is_other(self, quiet_ms):
        """Has the other level lasted so long, in so much silence, that it must be the idle one?"""
        return self._seen != self.is_lit and self._seen_ms >= _IDLE_MS and quiet_ms >= _IDLE_MS

    def follow(self):
        """The level seen is the idle one."""
        self.is_lit = self._seen
