"""Finds out what a meter speaks, as a generator of line actions (metering.line): look, listen, ask.

    hearing  9600 8N1, in the polarity of the idle level: most optical meters are read from their first telegram on
             bytes with a protocol's signature ----> its listener hears them; a telegram whose check holds is the proof
             bytes that mean nothing --------------> looking
             three flashes alike, by themselves ---> blink
             nothing ------------------------------> asking, each time after a longer pause; and where nobody answers,
                                                     knocking (metering.detection.knocks)
    looking  the UART is the edge sampler: 8N1 at three times a rate, so that the zeros behind the start bit tell how
             long the light was: 2, 5 and 8 of them for one, two and more bits of that rate, 5 and 8 of half of it
    hearing  again, at the rate found; then with seven bits if it looks so, in the other polarity, with a parity bit

A UART is used for looking since nothing else on every chip is as exact: Python sees an edge some 20 us late, and two
bits of 115200 baud are over by then. It records while the program does something else, too.

Nothing is claimed but by a proof: a telegram whose check holds (the parity of all its characters is one), or two in a
row where a protocol has none; an encrypted one without a key by the check of its frame.

A line of 8E1 is heard as 8N1: what tells it, up to 4800 baud, is that a byte takes 11 bits. So it is where a pause of a
bit stands behind each byte; therefore it is only told, and what is heard is what was proven.
"""

from metering import protocols
from metering.compat import const
from metering.detection.arrivals import (
    GAP_MS,
    SHORT_MS,
    TELLING_BYTES,
    Bursts,
    CharacterTime,
    Clock,
    Flashes,
    IdleLevel,
)
from metering.detection.candidates import Candidates, Proof, Proven, line_as_sent, line_words, load_probes, signature
from metering.line import SWITCH, WATCH, Line
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.detection.candidates import Asking
    from metering.listener import Listener

_HOME = const(9600)
_FAST = const(115200)

_WATCH_MS = const(60000)
_SILENCE_MS = const(300)  # longer than the pauses inside a telegram
_WHOLE_BYTES = const(2048)  # without a signature, where there is no pause between telegrams
_MUTE_BURSTS = const(2)  # without a signature
_LONG_MS = const(150)  # so long are only telegrams
_USUAL = const(2)  # sample (light_runs) that is taken first
_LEAST_RUNS = const(6)  # bytes of light that may tell a rate
_BURSTS = const(4)  # with one, but without a proof
_MOST_BYTES = const(6144)  # the same: three of the longest telegrams met

# Of darkness before a question: what pushes every 10 s comes first.
_ASK_MS = (10300, 12000, 16000, 30000, 60000, 120000)
_BEFORE_ASKING_MS = const(1000)
_BAUDS_FOUND = const(3)  # rates found that put a question off: noise seems to have some, too
_KNOCKED_MS = const(590)  # what a knock takes
_FLASH_MS = const(60000)  # without a flash, where one was seen

# What follows from what was seen: the step that run() goes on with. Numbers, as a method bound is an allocation.
_WATCHING = const(0)
_SAMPLING = const(1)
_JUDGING_SAMPLES = const(2)
_SAMPLES_ENDED = const(3)
_FLIPPING_POLARITY = const(4)
_GOING_HOME = const(5)
_ASKING = const(6)
_GUESSING = const(7)
_NEXT_VARIANT = const(8)
_LISTENING = const(9)
_PROVEN = const(10)


class Detection:
    """One search. `make(name, asked)` makes (listener, conversation or None) of a protocol, as they will be used.

    `known`: (protocol, Line) found last time, None where there is none; it is heard first. `asking`: the
    metering.detection.candidates.Asking where something may be sent, else None. `say` is called with each new sentence.
    `lone_ms`: flashes cannot be closer than that.

    run() ends when something is proven; `proven` says what (metering.detection.candidates.Proven), None until then.
    `seen` says at any time in a sentence what was seen and what is done about it, without figures that only count.
    """

    def __init__(self, make, known=(None, None), asking=None, say=None, lone_ms=0):
        self._make = make
        self.asking: Asking | None = asking
        self._report = say
        self.seen = ""
        self.say("nothing seen yet")
        self.proven: Proven | None = None
        self.line = Line(_HOME)
        self.listener: Listener | None = None
        self._conversation = None
        self._probes = None  # of every protocol, while none of them is listened for
        self._signature = ""
        self._candidates = Candidates()
        self._is_known_to_blink = known[0] == protocols.BLINK  # and does so still, if nothing else is heard
        if known[1] and not self._is_known_to_blink:
            line = known[1]
            if line.bits == 7 and line.parity:  # received as 8 bits, the last of which is the parity
                line = Line(line.baud, 8, None, 1, line.invert)
            self.line = line
            self._candidates.use_known()
        self._step = _WATCHING
        self._is_sampling = False
        self._runs = None  # metering.detection.light_runs.LightRuns, from the first sample to the next listener
        self._idle = IdleLevel(self.line.invert)
        self._flashes = Flashes(lone_ms, self._is_known_to_blink)
        self._bursts = Bursts()
        self._pace = CharacterTime()
        self._proof = Proof()
        self._clock = Clock()

    # -- what is done: methods that give line actions

    def run(self):
        """Generator of line actions; ends with something proven. Broken off, it may be called again."""
        yield from self._switch(self.line)
        while self.proven is None:
            self._step = _WATCHING
            self._clock.ticks = None
            if self.listener is None and self._probes is None:
                self._probes = load_probes()
            yield WATCH, self, _WATCH_MS
            yield from self._follow()

    def _follow(self):
        """The line actions of the step that follows from what was seen."""
        step = self._step
        if step == _SAMPLING:
            self._candidates.is_short = self._bursts.ms < SHORT_MS
            return self._sample(_USUAL)
        if step == _JUDGING_SAMPLES:
            return self._judge_samples()
        if step == _SAMPLES_ENDED:
            return self._end_samples()
        if step == _FLIPPING_POLARITY:
            return self._flip_polarity()
        if step == _GOING_HOME:
            return self._go_home()
        if step == _ASKING:
            return self._ask()
        if step == _GUESSING:
            return self._guess()
        if step == _NEXT_VARIANT:
            return self._try_next_variant()
        if step == _LISTENING:
            return self._listen()
        return ()  # _WATCHING, _PROVEN

    def say(self, text):
        if text != self.seen:
            self.seen = text
            if self._report:
                self._report(text)

    def _switch(self, line):
        """Other settings; what was heard with the old ones is over."""
        self.line = line
        self._bursts.clear()
        self._pace.clear()
        self._proof.clear()
        self._flashes.forget_open()
        self._clock.away_ms = 0
        if self.listener is not None:
            self.unload()
        return ((SWITCH, line),)

    def unload(self):
        """No listener, no conversation, no probe; nor their code."""
        self._probes = self.listener = self._conversation = None
        protocols.unload_protocols()

    def load(self, name, asked):
        """(listener, conversation) of protocol `name`, the latter where it is `asked`; nothing else of any protocol."""
        self.unload()
        if not self._is_sampling:
            self._runs = None
            unload("metering.detection.light_runs")
        made = self._make(name, asked)
        self.listener, self._conversation = made
        return made

    def _hear(self, baud):
        self._is_sampling = False
        return self._switch(self._candidates.first(baud, self._idle.is_lit))

    def _go_home(self):
        self._candidates.baud_known = False
        return self._hear(_HOME)

    def _flip_polarity(self):
        """The idle level is the other one."""
        self._idle.follow()
        if self._idle.is_lit:
            self.say("the light stays on: the line is inverted, or the sun is in the head: shade it")
        else:
            self.say("dark")
        return self._hear(self.line.baud)

    def _sample(self, index):
        if self._runs is None:
            from metering.detection.light_runs import LightRuns

            self._runs = LightRuns()
        self._is_sampling = True
        self._candidates.baud_known = False
        return self._switch(Line(self._runs.start(index), 8, None, 1, self._idle.is_lit))

    def _judge_samples(self):
        """What the light runs tell: the rate, or where to sample next."""
        candidates, runs = self._candidates, self._runs
        if runs is None:
            return self._go_home()
        verdict = runs.verdict(candidates.rejected_baud)
        if verdict > 0:
            return self._find(verdict)
        candidates.rejected_baud = 0
        if verdict < 0:
            index = -1 - verdict
            if index < runs.index and self._clock.quiet_ms >= GAP_MS:  # it is over: the next is not to be missed
                return self._guess()
            return self._sample(index)
        self.say("light seen, but not of bytes: lamps, the sun and remote controls look so")
        return self._go_home()

    def _end_samples(self):
        """The bytes ended amid a sample: what is known by now has to do."""
        runs = self._runs
        if runs is None or runs.count >= _LEAST_RUNS:
            return self._judge_samples()
        return self._guess() if runs.index < _USUAL or self._candidates.is_short else self._go_home()

    def _find(self, baud):
        self.say("light seen: %d baud" % baud)
        self._candidates.find()
        self._put_off_questions()
        return self._hear(baud)

    def _put_off_questions(self):
        """There may be a telegram soon: no question for now."""
        if self._candidates.found < _BAUDS_FOUND:
            self._candidates.found += 1
            self._clock.dark_ms = 0

    def _guess(self):
        """It was over too soon for a sample: the usual rate is tried, or the next burst is sampled for a fast one."""
        guess = self._candidates.guess()
        self._put_off_questions()
        if guess:
            return self._sample(guess - 1)
        self.say("light seen: %d baud" % _FAST)
        return self._hear(_FAST)

    def _try_next_variant(self):
        """Whole bursts came and were nothing: the same rate in another form; else anew."""
        line = self._candidates.next(self.line.baud, self._idle.is_lit, self._bursts.may_be_seven())
        return self._go_home() if line is None else self._switch(line)

    def _listen(self):
        """A signature was there: its listener gets what has been kept."""
        self.say("light seen: %d baud, perhaps %s" % (self.line.baud, self._signature.upper()))
        listener, _ = self.load(self._signature, False)
        listener.needs_check = False
        self._clock.dark_ms = 0
        self._feed(self._bursts.data, 0, self._bursts.n)
        return ()

    def _ask(self):
        """Nothing is heard: perhaps the meter waits for a question."""
        from metering.detection.questions import ask

        asking, clock = self.asking, self._clock
        assert asking is not None
        asking.count += 1
        clock.dark_ms = 0
        explanation = ""
        if not asking.wake_up or asking.may_wake():
            explanation = yield from ask(self, self._idle.is_lit)
        if explanation:
            asking.count = 0
        if self.proven is None and asking.knocks and (asking.offers_mode_e or not explanation):
            from metering.detection.knocks import ask_others

            n = yield from ask_others(self, self._idle.is_lit)
            ask_others = None
            unload("metering.detection.knocks")
            clock.dark_ms = n * _KNOCKED_MS  # the next question is as soon as without
        ask = None
        unload("metering.detection.questions")
        if self.proven is not None:
            return
        if self._is_known_to_blink:  # while it is asked flashes are missed
            self.asking = None
        yield from self._go_home()

    # -- what is seen

    def look(self, ticks_ms, light, data, start, end):
        """A look of the driver's (WATCH); True when something follows from it."""
        gap_ms = self._clock.pass_time(ticks_ms)
        is_lit = self._idle.pass_time(gap_ms, light)
        if self._flashes.pass_time(gap_ms, is_lit):
            self._claim_blink()
        if self._step == _WATCHING:
            if end > start:
                self._take_bytes(data, start, end, gap_ms)
            else:
                self._take_silence()
        return self._step != _WATCHING

    def _take_silence(self):
        """Nothing has come: what follows from that."""
        clock, flashes = self._clock, self._flashes
        quiet_ms = clock.quiet_ms
        if quiet_ms >= _SILENCE_MS and self.listener is not None and not clock.is_idle_told:
            clock.is_idle_told = True
            self.listener.on_idle()
        if quiet_ms >= GAP_MS and self._bursts.n:
            self._end_burst()
        elif (
            quiet_ms >= GAP_MS
            and self._is_sampling
            and (self._candidates.is_short or self._runs and self._runs.count)
        ):
            self._step = _SAMPLES_ENDED
        elif self._idle.is_other(quiet_ms):
            self._step = _FLIPPING_POLARITY
        elif clock.away_ms >= self._candidates.stay_ms and (self.line.baud != _HOME or self._is_sampling):
            self._step = _GOING_HOME
        elif self._is_known_to_blink and flashes.count and clock.dark_ms >= _ASK_MS[0]:
            self._claim_blink()
        elif self.asking is not None and quiet_ms >= (_FLASH_MS if flashes.count else _BEFORE_ASKING_MS):
            if clock.dark_ms >= _ASK_MS[min(self.asking.count, len(_ASK_MS) - 1)]:
                self._step = _ASKING

    def _take_bytes(self, data, start, end, gap_ms):
        """Bytes have come: what follows from them."""
        n = end - start
        bursts = self._bursts
        quiet_ms = self._clock.end_quiet() - n * 10000 // self.line.baud  # they took some of it
        if self._is_sampling and self._runs is not None:
            if self._runs.add(data, start, end):
                self._step = _JUDGING_SAMPLES
            return
        if bursts.n and quiet_ms >= GAP_MS:  # seen late
            self._end_burst()
            if self._step != _WATCHING:
                return
        if bursts.n:
            self._pace.add(n, gap_ms)
            bursts.ms += gap_ms
        else:
            is_unknown = not self._candidates.baud_known and self.listener is None
            if not self._flashes.end() and n == 1 and not data[start] and is_unknown and self._flashes.begin(quiet_ms):
                return
            bursts.begin(quiet_ms)
            self._pace.begin()
        if self.listener is not None:
            bursts.count_only(n)
            self._feed(data, start, end)
            if bursts.n_bytes >= _MOST_BYTES and self._step == _WATCHING:
                self._step = _NEXT_VARIANT
            return
        bursts.keep(data, start, end)
        self._signature = signature(self._probes, bursts.data, bursts.n, bursts.is_whole)
        if self._signature:
            self._step = _LISTENING
        elif bursts.n_bytes >= TELLING_BYTES and (not self._candidates.baud_known or bursts.is_mostly_dark()):
            self._step = _SAMPLING
        elif bursts.n_bytes >= _WHOLE_BYTES:
            self._step = _NEXT_VARIANT

    def _end_burst(self):
        """A silence behind bytes: what follows from them."""
        bursts, clock = self._bursts, self._clock
        self._pace.end(self.line)
        if bursts.ms >= _LONG_MS:
            clock.dark_ms = 0
        if self.listener is not None:
            if bursts.end_heard():
                clock.away_ms = 0
            if bursts.count >= _BURSTS or bursts.n_bytes >= _MOST_BYTES:
                self._step = _NEXT_VARIANT
            return
        self._flashes.disturb()
        n = bursts.n
        if self._candidates.baud_known:
            if bursts.end_unknown():
                clock.away_ms = 0
                if bursts.count >= _MUTE_BURSTS:
                    self._step = _NEXT_VARIANT
            return
        bursts.n = 0
        bursts.forget_bytes()
        if n >= _LEAST_RUNS and bursts.ms >= SHORT_MS:
            self._step = _SAMPLING
        elif n >= _LEAST_RUNS and self._candidates.follows_short_burst() and not self._flashes.count:
            self._step = _GUESSING

    # -- what is proven

    def _feed(self, data, start, end):
        """The listener gets data[start:end]."""
        listener, line = self.listener, self.line
        if self._proof.feed(listener, line, data, start, end):
            sent = line_as_sent(listener, line, self._pace)
            self.say("light seen: %s, %s push" % (line_words(sent), self._signature.upper()))
            self.prove(Proven(self._signature, sent, line.parity), self._proof.telegram_ready)

    def _claim_blink(self):
        self.say("flashes seen of an LED, no telegram")
        self.prove(Proven(protocols.BLINK, Line(_HOME, 8, None, 1, self._idle.is_lit)), False)

    def prove(self, proven, telegram_ready):
        proven.listener, proven.conversation = self.listener, self._conversation
        proven.telegram_ready = telegram_ready
        proven.flashes = self._flashes.count
        proven.seen = self.seen
        self.proven = proven
        self._step = _PROVEN
