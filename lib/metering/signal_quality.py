"""How well an optical head sits on its meter: a score of 0 to 100, and what to do about it.

    score = what is left of the telegrams that are due, less each disturbance's share of it

    seen                                           leaves of 100, or costs of what is left
    a telegram that held                           leaves 100
    one that held behind something rejected        leaves 65
    one that came and did not hold                 leaves 30 at the most, by how much of it came
    light of bits (edges) and nothing else yet     leaves 30
    no telegram for the longest pause between      leaves 0, at once: the head was moved away, or it sees nothing but
    them, a quarter of that and a second           its own light
    bytes whose parity is odd (7E1)                cost 1 % for each percent of them
    light of a third of a bit: weak                costs 1 % for each percent of what was measured (edges)
    light of two thirds: weak                      costs 1/2 % for each percent
    light a third or two too long: saturated       costs 1/10 % for each percent: slow receivers see it so at best
    a few bytes by themselves: stray light         cost 10 % for each in a second, 30 % at the most
    light that no byte explains: ambient           costs 1 % for each percent of the time, from 5 on

What is left is smoothed: the newest telegram counts a third where less than 1.2 s pass between them, half where less
than 4 s, else three quarters. The costs are those of the last seconds in which there was something to see, each half
of the one behind it. So 100 is about ten whole telegrams in a row; where every fifth is damaged, the score swings about
85; where none holds it is 30 at the most, and the place with the most bytes is the best.
"""

from metering.compat import const

_PARTLY = const(30)  # what a telegram that did not hold leaves
_AMID = const(65)
_MANY = const(22 << 8)  # so much is left where more than a quarter of the bytes is lost
_WELL = const(90)
_SECOND_MS = const(1000)
_TICKS = const(0x3FFFFFFF)
_TICKS_HALF = const(0x1FFFFFFF)
_LATE_MS = const(100)  # a look that is later has not seen what was in between
_OVER_MS = const(300)  # a telegram is over: longer than the pauses between its parts
_ALONE_MS = const(60)  # and two characters: a computer gets bytes in lots, 16 to 50 ms apart
_STRAY = const(3)  # bytes that are none of a telegram's
_MOST_STRAY = const(3)  # a second: more of them run together
_FIRST_MS = const(11000)  # nothing is known of the meter: some push every 10 s
_LEAST = const(64)  # bytes; the shortest telegrams have some 100
_SAMPLE = const(64)  # bytes of a look that are measured: 115200 baud makes 345 of them
_ENDLESS = const(1024)  # bytes beyond four telegrams, and nothing holds; asked, 64 times that

# What is counted in a second, each with what it is a part of and what all of that costs.
_N_BYTES = const(0)
_N_ODD = const(1)
_N_EDGES = const(2)
_N_WEAK = const(3)  # in halves
_N_LONG = const(4)
_N_LOOKS = const(5)
_N_LIT = const(6)
_N_SECONDS = const(7)
_N_STRAY = const(8)
_KINDS = const(9)
_OF = b"\x00\x00\x02\x02\x02\x05\x05\x07\x07"
_NAMED = const(5)  # what costs so much is said to be the cause

# By what is counted; in the places of what costs nothing what is said otherwise.
_DARK = const(0)
_DAMAGED = const(1)
_WAIT = const(2)
_LOST = const(5)
_OWN = const(7)
_ECHO = const(9)
_FINE = const(10)


class AlignmentScore:
    """Follows one line, at `baud`; `parity` True where bit 7 carries even parity. Both may be set when the line is.

    At each look, some 10 ms after the last: feed() or edges() what has come, telegrams() once the listener has been fed
    too, then look(). None of them allocates. `score` and `best` (the highest so far) are of the last second that is
    over, `words` says what is wrong and what to do.
    """

    def __init__(self, baud, parity=False):
        self.baud = baud
        self.parity = parity
        self.score = self.best = 0
        self._cause = _DARK
        self._left = 0  # smoothed, in 1/256
        self._new = [0] * _KINDS  # counted in this second
        self._seen = [0] * _KINDS  # and in those before, in 1/16
        self._ticks = None
        self._window_ms = 0  # of this second
        self._quiet_ms = 0  # since the last byte
        self._dark_ms = 0  # without a byte, since the last telegram
        self._gap_ms = 0  # the most of that between telegrams, forgotten slowly; 1: there was one telegram
        self._n = 0  # bytes since the last telegram
        self._length = _LEAST  # of the last telegram that held, until then the most that came at a time
        self._burst_bytes = 0  # bytes since the last silence of some characters
        self._fresh = False  # did something come since the last look?
        self._begun = True  # did these bytes begin behind a silence?
        self._cut = False  # was a part of the time spent on edges?
        self._asked = False
        # Was something rejected since the last telegram? None: no matter, what came was cut.
        self._refused: bool | None = False
        self._good = self._refusals = -1
        self._echo = _DARK

    @property
    def words(self):
        """What is wrong and what to do about it, in one sentence."""
        return (
            "no light from the meter: set the head on its eye, cable down\n"
            "some bytes are lost or damaged: turn the head a little\n"
            "light is seen: hold still and wait\n"
            "weak edges: move the head nearer or turn it\n"
            "edges too long: move the head away or shade it\n"
            "many bytes are lost: turn the head, the cable hangs down on most meters\n"
            "too much ambient light: shade the head\n"
            "only its own light is seen: turn it until its receiver faces the meter\n"
            "stray light: shade the head, cable down\n"
            "own echo is damaged: press the head flat on the meter\n"
            "well placed"
        ).split("\n")[self._cause]

    # -- what comes

    def feed(self, data, start, end):
        """Bytes data[start:end], received with the line's settings."""
        n = end - start
        if n <= 0:
            return
        self._new[_N_BYTES] += n
        self._n += n
        self._burst_bytes += n
        self._fresh = True
        if self.parity:
            odd = 0
            for i in range(start, end):
                byte = data[i]
                odd += 0x6996 >> ((byte ^ byte >> 4) & 0x0F) & 1
            self._new[_N_ODD] += odd

    def edges(self, data, start, end):
        """Bytes data[start:end], received as 8N1 at three times the line's rate: a bit is a third of one of the line's.

        So light of one bit is two zeros behind the start bit, two are five, more are eight.
        """
        n = end - start
        if n <= 0:
            return
        new = self._new
        new[_N_EDGES] += n
        step = 1 + n // _SAMPLE
        while start < end:
            byte = data[start]
            start += step
            zeros = 0
            while zeros < 8 and not byte & 1:
                byte >>= 1
                zeros += 1
            if zeros < 2:
                new[_N_WEAK] += (2 - zeros) * step
            elif zeros % 3 != 2:
                new[_N_LONG] += step
        self._fresh = self._cut = True
        self._dark_ms = 0
        self._left = max(self._left, _PARTLY << 8)

    def telegrams(self, good, rejected):
        """How many telegrams have held and how many candidates have not, so far; to be told at once.

        Encrypted ones without their key have held, as far as light is concerned.
        """
        if self._good >= 0:
            if rejected != self._refusals and self._refused is not None:
                self._refused = True
            if good != self._good:
                self._judge(True)
        self._good = good
        self._refusals = rejected

    def sent(self, n, echo=0):
        """We have sent n bytes, `echo` of which have come back right; told once they would have."""
        self._asked = True
        self._echo = _OWN if echo == n else _ECHO if echo else _DARK
        if self._echo == _ECHO:
            self._n = max(self._n - n, 0)  # they were taken for the meter's

    def look(self, ticks_ms, light):
        """A look at `ticks_ms` (modulo 2**30); is there `light`, other than the idle level? None where nobody can tell.

        True when a second is over: `score`, `best` and `words` are new.
        """
        new = self._new
        if self._ticks is None:
            self._ticks = ticks_ms
        gap = (ticks_ms - self._ticks) & _TICKS
        if gap > _TICKS_HALF:  # it went back
            gap = 0
        self._ticks = ticks_ms
        new[_N_LOOKS] += 1
        if light:
            new[_N_LIT] += 1
        if self._fresh:
            self._fresh = False
            self._quiet_ms = 0
            if self._n > 4 * self._length + _ENDLESS * (1 + 63 * self._asked):
                self._judge(False)
        else:
            self._rest(min(gap, _LATE_MS))
        self._window_ms += gap
        if self._window_ms < _SECOND_MS:
            return False
        self._window_ms = 0
        self._end()
        return True

    def _rest(self, ms):
        """Nothing has come for so long."""
        self._quiet_ms += ms  # small ints for 12 days
        self._dark_ms += ms
        if self._burst_bytes and self._quiet_ms > _ALONE_MS + 20000 // self.baud:
            if 4 * self._burst_bytes < self._length and not (self._asked or self._cut):
                self._new[_N_STRAY] += 1
            self._burst_bytes = 0
        if self._quiet_ms <= _OVER_MS:
            return
        n = self._n
        if self._cut:
            self._n = 0
            self._refused = None
        elif n <= _STRAY or not self._begun and 2 * n < self._length:
            self._n = 0  # what stands behind a telegram
        elif self._refused or not self._asked:
            self._judge(False)
        self._cut = False
        self._begun = True

    # -- what follows from it

    def _judge(self, held):
        """A telegram is over; has it held?"""
        n, length, refused = self._n, self._length, self._refused
        self._n = 0
        self._refused = False
        if held:
            value = _AMID if refused else 100
            self._asked = self._begun = False
            if not (refused or self._cut):
                self._length = max(n, self._length * 3 // 4)  # some send short ones too
            self._burst_bytes = self._length  # what follows closely is a part of it
        else:
            if self.best <= _PARTLY:  # none has held so far
                length = self._length = max(n, length)
            if refused is None:  # the listener may have begun with a telegram that was cut
                self._dark_ms = 0
                return
            if 4 * n < length:
                return
            value = _PARTLY * min(n, length) // max(n, length)
            if self._gap_ms or self._asked:
                self._cause = _DAMAGED
            else:  # the first: we came in the middle of it
                value = 0
        since, period = self._dark_ms, self._gap_ms
        self._dark_ms = 0
        if not self._asked:  # it has held, or nobody need ask
            if period < 2:
                period = max(since, 2) if period else 1
            elif since < period:
                period -= (period - since) // 4
            else:
                period = since if self._left else min(since, 2 * period + _SECOND_MS)
            self._gap_ms = period
        twelfths = 9 if period >= 4000 else 6 if period >= 1200 or period == 1 else 4
        self._left += ((value << 8) - self._left) * twelfths // 12

    def _end(self):
        """A second is over."""
        new, counts = self._new, self._seen
        period = self._gap_ms if self._gap_ms > 1 else _FIRST_MS
        limit_ms = period + period // 4 + _SECOND_MS
        if self._dark_ms > limit_ms and self._n > _STRAY:
            self._judge(False)
        if self._dark_ms > limit_ms:
            self._left = 0
        new[_N_SECONDS] = 1
        busy = (3 * new[_N_BYTES] + 2 * new[_N_EDGES]) * 1000 // (3 * self.baud)  # percent of the time
        if self._burst_bytes > new[_N_BYTES] and self._n > _STRAY and busy < 50 and not self._asked:
            new[_N_STRAY] = _MOST_STRAY  # no pause, but too few bytes for a telegram
        new[_N_STRAY] = min(new[_N_STRAY], _MOST_STRAY)
        new[_N_LIT] = max(new[_N_LIT] - new[_N_LOOKS] * (busy + 5) // 100, 0)
        for i in range(_KINDS - 1, -1, -1):  # from the last, as what a count is a part of stands before it
            if new[_OF[i]]:
                counts[i] = counts[i] // 2 + (new[i] << 4)
                new[i] = 0
        score = left = self._left
        cause = most = 0
        for i in range(_KINDS):
            cost = min(counts[i] * b"\x00\x64\x00\x32\x0a\x00\x64\x00\x0a"[i] // max(counts[_OF[i]], 1), 100)
            score = score * (100 - cost) // 100
            if cost > most and (left or i > _N_LOOKS):
                cause, most = i, cost
        self.score = (score + 255) >> 8
        self.best = max(self.best, self.score)
        if self.score >= _WELL:
            cause = _FINE
        elif most < _NAMED:
            if not left:
                cause = self._echo or (_WAIT if self._n > _STRAY else _DARK)
            elif self._cause not in (_LOST, _DAMAGED):  # nothing has failed since it was dark
                cause = _WAIT
            else:
                cause = _LOST if left < _MANY else _DAMAGED
        self._cause = cause
