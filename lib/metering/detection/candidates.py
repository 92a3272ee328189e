"""What may be there: which protocol the bytes look like, which line is tried next; and what is proven to be there.
Parts of metering.detection.search_story.
"""

from metering import protocols
from metering.compat import const
from metering.line import Line
from metering.listener import TELEGRAM

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.listener import Listener

_AWAY_MS = const(40000)  # at another line than home; the slowest meter met pushes every 30 s
_GUESS_MS = const(12000)  # the same where it is only guessed; most push every 10 s
_SHORT_BURSTS = const(8)  # over too soon: two of so many are followed

# What is tried at a rate, behind 8N1 in the polarity of the idle level.
_SEVEN_BITS = const(1)  # only where the bytes looked so
_OTHER_POLARITY = const(2)
_EIGHT_EVEN = const(3)


def signature(probes, data, n, begun):
    """The name of the protocol that data[:n] may be part of, "" for none: the first of `probes` that thinks so.

    `probes`: (name, module) of each (load_probes); `begun`: did data[0] follow a silence? Proves nothing.
    """
    for name, probe in probes:
        if probe.signature(data, n, begun):
            return name
    return ""


def load_probes():
    """(name, module) of each protocol's probe, for signature()."""
    return tuple([(name, protocols.load_probe(name)) for name in protocols.searched()])


class Asking:
    """Whom to ask, and what came of it. `address`, `wake_up` and `options` as in the settings; `has_password`: is one
    set? `knocks`: may others be knocked for than who has a question of its own (metering.detection.knocks)? `wakes()`
    says, and notes, whether a meter that lives on a battery may be woken now; None: at any time.
    """

    def __init__(self, address="", wake_up=False, options="", has_password=False, knocks=True, wakes=None):
        self.address = address
        self.wake_up = wake_up
        self.options = options
        self.has_password = has_password
        self.knocks = knocks
        self._wakes = wakes
        self._may_wake = False
        self.count = 0  # questions since a meter answered
        self.offers_mode_e = False  # who was asked last, and sends no data block
        self.verdict = ""  # of a meter that answers and cannot be read, in a sentence

    def may_wake(self):
        """May it? To be asked once a question, and heeded."""
        self._may_wake = self._wakes is None or self._wakes()
        return self._may_wake

    def is_awake(self):
        """The same, behind a question."""
        return self._may_wake if self.wake_up else self.may_wake()


class Candidates:
    """Which line is tried next. `baud_known`: a rate was found, not guessed or at home."""

    def __init__(self):
        self.baud_known = False
        self._variant = 0  # which polarity, parity and number of bits are tried at the rate
        self.rejected_baud = 0  # at which nothing was understood
        self.found = 0  # rates found
        self.is_short = False  # was what is sampled over soon?
        self.stay_ms = _AWAY_MS  # how long a line is kept without anything like a telegram
        self._guesses = 0  # of rates, where all was over too soon
        self._short_bursts = 0  # bursts over too soon for a sample

    def use_known(self):
        """The line is the one found last time: there is nothing else to try of it."""
        self.baud_known = True
        self._variant = _EIGHT_EVEN

    def first(self, baud, idle_lit):
        """The Line to hear `baud` with first."""
        self._variant = 0
        return Line(baud, 8, None, 1, idle_lit)

    def next(self, baud, idle_lit, may_be_seven):
        """The Line to hear `baud` with next, None where nothing is left. `may_be_seven`: may they be of seven bits?"""
        self._variant += 1
        if self._variant == _SEVEN_BITS and not may_be_seven:
            self._variant += 1
        variant = self._variant
        if variant > _EIGHT_EVEN:
            self.rejected_baud = baud if self.rejected_baud != baud else 0
            return None
        if variant == _SEVEN_BITS:
            return Line(baud, 7, None, 1, idle_lit)
        return Line(baud, 8, "E" if variant == _EIGHT_EVEN else None, 1, idle_lit != (variant == _OTHER_POLARITY))

    def find(self):
        """A rate was found."""
        self.baud_known = True
        self.is_short = False
        self.stay_ms = _AWAY_MS

    def guess(self):
        """What comes is over too soon to be sampled: 0 to try the usual fast rate, else 1 + the sample's index."""
        self._guesses += 1
        if self._guesses % 3 == 1:
            self.find()
            self.stay_ms = _GUESS_MS
            return 0
        self.is_short = False
        self.stay_ms = _AWAY_MS
        return 2 if self._guesses % 3 else 1  # index 1 and 0 in turn

    def follows_short_burst(self):
        """A burst was over too soon: is it worth a guess? Noise has many of them."""
        self._short_bursts += 1
        return (self._short_bursts - 1) % _SHORT_BURSTS < 2


class Proven:
    """What a search has found: `protocol` its name, `line` the Line that the meter sends with, `uart_parity` what the
    UART was set to. `listener` has a telegram in hand where `telegram_ready` says so; `conversation` is the one that
    asked for it, None where the meter pushes. Of an LED neither, and `flashes` were seen.
    """

    def __init__(self, protocol, line, uart_parity=None):
        self.protocol = protocol
        self.line = line
        self.uart_parity = uart_parity
        self.listener: Listener | None = None
        self.conversation = None
        self.telegram_ready = False
        self.flashes = 0
        self.seen = ""  # what was seen, in a sentence


class Proof:
    """Hears with a listener until a telegram proves something: by its check, or by the same meter twice in a row."""

    def __init__(self):
        self.telegram_ready = False
        self._recognised = 0
        self._identity = None  # of the meter of the last telegram without a check

    def clear(self):
        """Another line, or another listener."""
        self._recognised = 0

    def feed(self, listener, line, data, start, end):
        """The listener, on `line`, gets data[start:end]; True as soon as it is proven that it understands them."""
        while start < end:
            start += listener.feed(data, start, end)
            event = listener.next_event()
            while event:
                if listener.recognised > self._recognised:
                    self._recognised = listener.recognised
                    self.telegram_ready = event == TELEGRAM
                    if self._is_proof(listener, line):
                        return True
                event = listener.next_event()
        return False

    def _is_proof(self, listener, line):
        """A telegram is in hand, or was recognised but for its key."""
        if not listener.proven:
            identity = listener.identity_for_proof()
            same = identity is not None and identity == self._identity
            self._identity = identity
            if not same:
                return False
        return not (self.telegram_ready and listener.is_reply(line))


def line_as_sent(listener, line, pace):
    """The Line that a meter sends with whose telegram `listener` received on `line`, at such a CharacterTime.

    A line of 8E1 is recognised by its character of eleven bits; the UART goes on with the 8N1 that gave the proof.
    """
    sent = listener.line_as_sent(line)
    if sent is None:
        parity = "E" if pace.has_parity_bit(line) else line.parity
        sent = Line(line.baud, line.bits, parity, line.stop, line.invert)
    return sent


def line_words(line):
    """Such as "9600 baud, 8N1 inverted"."""
    inverted = " inverted" if line.invert else ""
    return "%d baud, %d%s%d%s" % (line.baud, line.bits, line.parity or "N", line.stop, inverted)
