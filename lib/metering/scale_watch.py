"""What one count of an energy is worth where the meter does not say: power times time against the counter's rise.

    power of a telegram * seconds to the next     watt-seconds, an integer; a pause of over _MOST_PAUSE_S begins anew
    rise of the counter meanwhile                 counts

Energy divided by counts is near one of 1, 10, 100, 1000 Wh (within a factor of two), or nothing is known. Clocks,
rounding and the counter's lag are far less than that, once there are enough counts:

    another than was taken for true    two hours and 20 counts        in doubt: energies are to be held
    any one, while in doubt            a day and 100 counts, or       proven
                                       six hours and 1,000 counts

What led to the doubt is no part of the proof: that begins anew.
"""

from metering.compat import const

_MOST_PAUSE_S = const(60)  # power may have been anything for longer
_DOUBT_S = const(7200)
_DOUBT_COUNTS = const(20)
_PROOF_S = const(86400)
_PROOF_COUNTS = const(100)
_RICH_S = const(21600)
_RICH_COUNTS = const(1000)
_SECONDS_PER_HOUR = const(3600)
FACTORS = (1, 10, 100, 1000)  # Wh

NOTHING = const(0)
DOUBTED = const(1)
PROVEN = const(2)


def factor_of(watt_seconds, counts):
    """The Wh that one count is worth, 0 where none of FACTORS is within a factor of two."""
    for factor in FACTORS:
        energy = factor * counts * _SECONDS_PER_HOUR
        if energy <= 2 * watt_seconds and watt_seconds <= 2 * energy:
            return factor
    return 0


class ScaleWatch:
    """`factor`: what is taken for true, in Wh; 0: nothing, the scale is in doubt. Give note() every telegram."""

    def __init__(self, factor):
        self.factor = factor
        self.proven = 0  # the factor that has been proven behind a doubt
        self._begin()
        self._power_w = 0
        self._power_s = None  # when that was told

    def _begin(self):
        self._watt_seconds = 0  # since the counter was first seen
        self._first = self._first_s = None  # the counter then, and when

    def doubt(self):
        """The scale has changed, or may have: only a proof tells it."""
        self.factor = self.proven = 0
        self._begin()

    def note(self, power_w, counts, now_s):
        """A telegram with an imported power in whole W and an imported energy in counts, either None where it has
        none. `now_s`: any clock in whole seconds that never goes back. DOUBTED and PROVEN are told once.
        """
        if self._power_s is not None:
            gap_s = now_s - self._power_s
            if gap_s > _MOST_PAUSE_S:
                self._begin()
                self._power_s = None
            elif power_w is not None or counts is not None:
                self._watt_seconds += self._power_w * gap_s
                self._power_s = now_s
        if power_w is not None:
            self._power_w = power_w
            self._power_s = now_s
        if counts is None or self._power_s is None:
            return NOTHING
        if self._first is None or counts < self._first:
            self._begin()
            self._first, self._first_s = counts, now_s
            return NOTHING
        return self._judge(counts - self._first, now_s - self._first_s)

    def _judge(self, rise, seconds):
        if self.factor or self.proven:
            if seconds < _DOUBT_S or rise < _DOUBT_COUNTS:
                return NOTHING
            factor = factor_of(self._watt_seconds, rise)
            self._begin()
            if not factor or factor == (self.factor or self.proven):
                return NOTHING
            self.doubt()
            return DOUBTED
        if not (seconds >= _PROOF_S and rise >= _PROOF_COUNTS or seconds >= _RICH_S and rise >= _RICH_COUNTS):
            return NOTHING
        self.proven = factor_of(self._watt_seconds, rise)
        self._begin()
        return PROVEN if self.proven else NOTHING
