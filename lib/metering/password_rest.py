"""When a password, or a key, may be sent to a meter that locks: tried once, it rests for hours after a refusal."""

from metering.compat import const

_FIRST_S = const(14400)
_LATER_S = const(86400)
_MOST_UNJUDGED = const(2)  # sessions in a row that it was sent in and no verdict came


class PasswordRest:
    """Told what becomes of a password: `rests_s` says for how many seconds the meter is still to be left alone."""

    def __init__(self):
        self.rests_s = 0
        self._next_s = _FIRST_S
        self._is_good = False
        self._unjudged = 0

    def may_be_sent(self, is_withheld):
        """`is_withheld`: for now no password is tried; one that the meter has accepted goes on."""
        return self._is_good or not is_withheld

    def sent(self):
        self._unjudged += 1

    def lost(self):
        """No verdict came; the meter may have counted it all the same."""
        if self._unjudged >= _MOST_UNJUDGED and not self._is_good:
            self._unjudged = 0
            self._rest()

    def judged(self, is_good):
        """True: accepted; False: refused; None: neither, the meter has answered something else."""
        self._unjudged = 0
        if is_good:
            self._is_good = True
            self._next_s = _FIRST_S
        elif is_good is False:
            self._is_good = False
            self._rest()

    def _rest(self):
        self.rests_s = self._next_s
        self._next_s = _LATER_S

    def pass_time(self, seconds):
        self.rests_s = max(0, self.rests_s - seconds)
