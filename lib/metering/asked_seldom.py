"""What conversations with meters on a battery share: pauses that spare it, and the count of what failed and why.

Modbus, C12.18 and LIS-200 have a run() of their own: drawn together, each took 0.6 to 0.8 KB more of a board's heap.
"""

from metering.compat import const
from metering.line import WAIT

TYPE_CHECKING = const(0)

_INTERVAL_S = const(3600)
_LEAST_PAUSE_S = const(10)
_LOOK_S = const(300)
_SPARED = "the meter's battery is spared, as the probe has been restarted often: it is asked in %d min"
_PAUSES_S = (30, 120, 600, 3600, 21600)


class AskedSeldom:
    """A conversation whose read_out() makes one attempt; metering.protocols says what it tells.

    It sets REASONS, and SENTENCES, one for each of them but the last, "password refused", which no such meter says.
    `interval_s` between read-outs, 0: an hour. Of what does not answer, the pauses grow to six hours.
    """

    NAME = ""
    REASONS: "tuple[str, ...]" = ()
    SENTENCES: "tuple[str, ...]" = ()
    takes_options = False

    def __init__(self, listener, interval_s):
        self._listener = listener
        self._line = 0  # of the listener's LINES: the one that was answered last
        self.pause_s = interval_s or _INTERVAL_S
        self.budget = None  # whose wait_s(pause_s) says in how many seconds a read-out may begin, None: at any time
        self.answers = False
        self.password_withheld = False
        self.failures = self.failed_in_a_row = 0
        self.failed = dict.fromkeys(self.REASONS, 0)
        self.explanation = ""

    def run(self):
        """Generator of line actions, without end."""
        self.failed_in_a_row = 0
        while True:
            left_s = self.budget.wait_s(self.pause_s) if self.budget else 0
            if left_s:
                self.explanation = _SPARED % (left_s // 60 + 1)
                yield WAIT, min(left_s, _LOOK_S) * 1000
                continue
            if (yield from self.read_out()):
                self.failed_in_a_row = 0
                pause_s = max(self.pause_s, _LEAST_PAUSE_S)
            else:
                pause_s = _PAUSES_S[min(self.failed_in_a_row, len(_PAUSES_S) - 1)]
                self.failed_in_a_row += 1
            yield WAIT, pause_s * 1000

    if TYPE_CHECKING:

        def read_out(self, answer=b""):
            """Generator of line actions: one attempt. Returns True when all came."""
            raise NotImplementedError

    def _failed(self, reason):
        self.failures += 1
        self.failed[reason] += 1
        self.explanation = self.SENTENCES[self.REASONS.index(reason)]
        return False
