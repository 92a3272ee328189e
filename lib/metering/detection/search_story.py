"""Finds out what a meter speaks, as a generator of line actions (metering.line): look, listen, ask.

    hearing  9600 8N1, in the polarity of the idle level: most optical meters are read from their first telegram on
             bytes with a protocol's signature ----> its listener hears them; a telegram whose check holds is the proof
             bytes that mean nothing --------------> looking
             three flashes alike, by themselves ---> blink
             nothing ------------------------------> asking, each time after a longer pause
    looking  the UART is the edge sampler: 8N1 at three times a rate, so that the zeros behind the start bit tell how
             long the light was: 2, 5 and 8 of them for one, two and more bits of that rate, 5 and 8 of half of it
    hearing  again, at the rate found; then in the other polarity, then with a parity bit

A UART is used for looking since nothing else on every chip is as exact: Python sees an edge some 20 us late, and two
bits of 115200 baud are over by then. It records while the program does something else, too.

Nothing is claimed but by a proof: a telegram whose check holds (the parity of all its characters is one), or two in a
row where a protocol has none; an encrypted one without a key by the check of its frame.

A line of 8E1 is heard as 8N1: what tells it, up to 4800 baud, is that a byte takes 11 bits. So it is where a pause of a
bit stands behind each byte; therefore it is only told, and what is heard is what was proven.
"""

from metering import protocols
from metering.compat import const, copy_bytes
from metering.line import SWITCH, WATCH, Line
from metering.listener import TELEGRAM

_HOME = const(9600)
_FAST = const(115200)
_RUNGS = (345600, 115200, 28800, 7200, 1800)  # what is looked at: three times a rate, six times half of it
_USUAL = const(2)
_LAST_CANDIDATE = const(2)

_TICKS = const(0x3FFFFFFF)
_TICKS_HALF = const(0x1FFFFFFF)
_NONE = const(-1)
_WATCH_MS = const(60000)
_BURST_GAP_MS = const(50)  # longer than most pauses inside a telegram; it only tells where to look again
_ODD_BYTES = const(24)  # that mean nothing: the rate is looked at
_RUNS = const(12)  # light runs that are enough to tell; where there is more time, twice as many
_LEAST_RUNS = const(6)
_SHORT_MS = const(40)  # so short are bursts of noise, and telegrams at high rates
_LONG_MS = const(150)  # and so long are only telegrams
_KEPT = const(256)  # bytes of a burst, until they are recognised: all that a driver brings at once
_SILENCE_MS = const(300)  # longer than the pauses inside a telegram
_WHOLE_BYTES = const(2048)  # without a signature, where there is no pause between telegrams
_MUTE_BURSTS = const(2)  # without a signature
_BURSTS = const(4)  # with one, but without a proof
_MOST_BYTES = const(6144)  # the same: three of the longest telegrams met
_AWAY_MS = const(40000)  # at another line than home; the slowest meter met pushes every 30 s
_GUESS_MS = const(12000)  # the same where it is only guessed; most push every 10 s
_SHORTS = const(8)  # bursts over too soon: two of so many are followed
_IDLE_MS = const(400)  # a level that lasts so long is the idle one: no flash does, no byte
_PACED_BAUD = const(4800)  # up to here the time of some bytes tells how many bits they have
_LEAST_PACED = const(24)
_PACED = const(500)

_LONE_MS = const(21)  # more than 46 flashes a second are no meter's
_MOST_FLASH_MS = const(250)
_SHORT_FLASH_MS = const(40)
_FLASHES = const(3)
_LONG_FLASHES = const(4)  # shadows and torches last as long at times
_MOST_ODD = const(12)

# Of darkness before a question: what pushes every 10 s comes first.
_ASK_MS = (10300, 12000, 16000, 30000, 60000, 120000)
_BEFORE_ASKING_MS = const(1000)
_READ_OUTS = const(6)
_FINDS = const(3)  # rates found that put a question off: noise seems to have some, too
_FLASH_MS = const(60000)  # without a flash, where one was seen


# What follows from what was seen, in the order of the steps in run(): numbers, as a method bound is an allocation.
_LOOK = const(1)
_JUDGE = const(2)
_END_LOOK = const(3)
_TURN = const(4)
_GO_HOME = const(5)
_ASK = const(6)
_TRY_FAST = const(7)
_TRY_OTHERWISE = const(8)
_LISTEN = const(9)
_END = const(10)


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
    return tuple([(name, protocols.load_probe(name)) for name in protocols.names()])


class Detection:
    """One search. `make(name, asked)` makes (listener, conversation or None) of a protocol, as they will be used.

    `known`: (protocol, Line) found last time, None where there is none; it is heard first. `asks`: may something be
    sent? `say` is called with each new sentence. `address`, `wake_up` as in the settings: whom to ask, and whether it
    sleeps. `lone_ms`: flashes cannot be closer than that.

    run() ends when something is proven; then `protocol` is its name, `line` its Line, `listener` has the telegram in
    hand where `telegram_ready` says so, `conversation` is the one that asked for it, None where the meter pushes;
    `flashes` were seen of an LED. `seen` says at any time in a sentence what was seen and what is done about it.
    `parity` is what the UART was set to when it was proven: a line of 8E1 is told by its pace, but heard as 8N1.
    """

    def __init__(self, make, known=(None, None), asks=True, say=None, lone_ms=_LONE_MS, address="", wake_up=False):
        self._make = make
        self._asks = asks
        self._address = address
        self._wake_up = wake_up
        self._lone_ms = max(lone_ms, _LONE_MS)
        self.protocol = ""
        self.line = Line(_HOME)
        self.listener = self.conversation = None
        self._probes = None  # of every protocol, while none of them is listened for
        self._loaded = False  # may there be code of a protocol?
        self.telegram_ready = False
        self.parity = None
        self.flashes = 0
        self._say_it = say
        self.seen = ""
        self._say("nothing seen yet")
        self._blinked = known[0] == protocols.BLINK  # and does so still, if nothing else is heard
        self._sure = False  # of the rate
        self._candidate = 0  # which polarity and parity are tried at it
        if known[1] and not self._blinked:
            line = known[1]
            self.line = Line(line.baud, 8, line.parity if line.bits == 8 else None, 1, line.invert)
            self._sure = True
            self._candidate = _LAST_CANDIDATE
        self._decision = 0  # what follows from what was seen
        self._looking = False
        self._rung = 0
        self._finds = 0  # rates found
        self._short = False  # was what is looked at over soon?
        self._guesses = 0  # of rates, where all was over too soon
        self._mute = 0  # baud at which nothing was understood
        self._shorts = 0  # bursts over too soon for a look
        self._runs = [0] * 9  # looking: how many light runs had so many zeros
        self._ticks = None
        self._signature = ""
        self._buf = bytearray(_KEPT)  # of this burst
        self._n = 0
        self._bytes = self._zeros = 0  # of this line: bytes heard, and how many of them were 0
        self._counted = 0  # bytes of the bursts before this one
        self._burst_bytes = self._burst_ms = 0  # of this burst, behind what came first
        self._sure_bytes = self._sure_ms = 0  # the same, behind which there was no pause
        self._begun = False  # did this burst begin behind a silence,
        self._whole = False  # and is its begin still kept?
        self._silent = False  # has the listener been told of it?
        self._bursts = 0  # whole ones heard with these settings
        self._good = 0
        self._identity = None  # of the meter of the last telegram without a check
        self._paced_ms = self._paced = 0  # time and number of bytes, to tell how many bits they have
        self._quiet_ms = 0  # since the last byte
        self._dark_ms = 0  # since there was anything like a telegram
        self._away_ms = 0  # the same, or since this line was chosen,
        self._stay_ms = _AWAY_MS  # and how long it is kept without
        self._asked = 0  # times
        self._lit = False  # the level seen last, and for how long
        self._lit_ms = 0
        self._idle_lit = self.line.invert
        self._flash_ms = _NONE  # since a byte that may be a flash
        self._width_ms = self._last_width_ms = 0
        self._apart_ms = self._last_apart_ms = 0  # from one flash to the next
        self._odd = 0  # what came that is no flash

    # -- what is done: methods that give line actions

    def run(self):
        """Generator of line actions; ends with something proven. Broken off, it may be called again."""
        steps = (
            self._look,
            self._judge_look,
            self._end_look,
            self._turn,
            self._go_home,
            self._ask,
            self._try_fast,
            self._try_otherwise,
            self._listen,
        )
        yield from self._switch(self.line)
        while not self.protocol:
            self._decision = 0
            self._ticks = None
            if self.listener is None and self._probes is None:
                self._loaded = True
                self._probes = load_probes()
            yield WATCH, self, _WATCH_MS
            if 0 < self._decision <= len(steps):
                yield from steps[self._decision - 1]()

    def _say(self, text):
        if text != self.seen:
            self.seen = text
            if self._say_it:
                self._say_it(text)

    def _switch(self, line):
        """Other settings; what was heard with the old ones is over."""
        self.line = line
        self._n = self._bytes = self._counted = self._zeros = self._bursts = self._good = 0
        self._burst_bytes = self._burst_ms = self._sure_bytes = self._paced = self._paced_ms = 0
        self._begun = False
        self._flash_ms = _NONE
        self._away_ms = 0
        if self.listener is not None:
            self._unload()
        return ((SWITCH, line),)

    def _unload(self):
        """No listener, no conversation, no probe; nor their code."""
        if self._loaded:
            self._loaded = False
            self._probes = self.listener = self.conversation = None
            protocols.unload_protocols()

    def _load(self, name, asked):
        """The listener of protocol `name`, and its conversation where it is `asked`; nothing else of any protocol."""
        self._unload()
        self._loaded = True
        self.listener, self.conversation = self._make(name, asked)

    def _hear(self, baud):
        self._looking = False
        self._candidate = 0
        return self._switch(Line(baud, 8, None, 1, self._idle_lit))

    def _go_home(self):
        self._sure = False
        return self._hear(_HOME)

    def _turn(self):
        """The idle level is the other one."""
        self._idle_lit = self._lit
        if self._lit:
            self._say("the light stays on: the line is inverted, or the sun is in the head: shade it")
        else:
            self._say("dark")
        return self._hear(self.line.baud)

    def _look(self):
        self._short = self._burst_ms < _SHORT_MS
        self._rung = _USUAL
        return self._look_at()

    def _look_at(self):
        for k in range(len(self._runs)):
            self._runs[k] = 0
        self._looking = True
        self._sure = False
        return self._switch(Line(_RUNGS[self._rung], 8, None, 1, self._idle_lit))

    def _judge_look(self):
        """What the light runs tell: the rate, or where to look next.

        A rate needs four fifths of them on its comb, and an eighth or a sixth of them as short as a bit.
        """
        runs = self._runs
        n = sum(runs)
        baud = _RUNGS[self._rung]
        for late in (0, 1, -1):  # a slow receiver makes all of them longer, a weak light shorter
            one, two = runs[2 + late], runs[5 + late]
            more = runs[8] + (runs[7] if late < 0 else 0)
            if 8 * one >= n and 5 * (one + two + more) >= 4 * n and baud // 3 != self._mute:
                return self._found(baud // 3)
            if 6 * two >= n > 12 * one and 5 * (two + more) >= 4 * n and baud // 6 != self._mute:
                return self._found(baud // 6)
        self._mute = 0
        if 5 * runs[8] >= 4 * n:
            if _USUAL <= self._rung < len(_RUNGS) - 1:
                self._rung += 1
                return self._look_at()
        elif 0 < self._rung <= _USUAL:
            if self._quiet_ms >= _BURST_GAP_MS:  # it is over: the next is not to be missed
                return self._try_fast()
            self._rung -= 1
            return self._look_at()
        self._say("light seen, but not of bytes: lamps, the sun and remote controls look so")
        return self._go_home()

    def _end_look(self):
        """The bytes ended amid a look: what is known by now has to do."""
        if sum(self._runs) >= _LEAST_RUNS:
            return self._judge_look()
        return self._try_fast() if self._rung < _USUAL or self._short else self._go_home()

    def _found(self, baud):
        self._say("light seen: %d baud" % baud)
        self._sure = True
        self._short = False
        self._stay_ms = _AWAY_MS
        self._put_off()
        return self._hear(baud)

    def _put_off(self):
        """There may be a telegram soon: no question for now."""
        if self._finds < _FINDS:
            self._finds += 1
            self._dark_ms = 0

    def _try_fast(self):
        """It was over too soon for a look: the usual rate is tried, or the next burst is looked at for a fast one."""
        self._guesses += 1
        if self._guesses % 3 == 1:
            actions = self._found(_FAST)
            self._stay_ms = _GUESS_MS
            return actions
        self._short = False
        self._stay_ms = _AWAY_MS
        self._rung = self._guesses % 3 - 1 & 1  # 1 and 0 in turn
        self._put_off()
        return self._look_at()

    def _try_otherwise(self):
        """Whole bursts came and were nothing: the same rate turned round, then with a parity bit; else anew."""
        candidate = self._candidate + 1
        if candidate > _LAST_CANDIDATE:
            self._mute = self.line.baud if self._mute != self.line.baud else 0
            return self._go_home()
        self._candidate = candidate
        parity = "E" if candidate == _LAST_CANDIDATE else None
        return self._switch(Line(self.line.baud, 8, parity, 1, self._idle_lit != (candidate == 1)))

    def _listen(self):
        """A signature was there: its listener gets what has been kept."""
        self._say("light seen: %d baud, perhaps %s" % (self.line.baud, self._signature.upper()))
        self._load(self._signature, False)
        self.listener.needs_check = False
        self._dark_ms = 0
        self._prove(self._buf, 0, self._n)
        return ()

    def _ask(self):
        """Nothing is heard: perhaps the meter waits for a question."""
        self._asked += 1
        self._dark_ms = 0
        for name in protocols.names():
            self._unload()
            self._loaded = True
            probe = protocols.load_probe(name)
            if probe.question is None:
                continue
            self._say("dark: asking by %s" % name.upper())
            answer = b""
            if not self._wake_up:  # else its conversation asks, which knows how to wake it
                answer = yield from self._in_polarity(probe.question(self._address), True)
                name = probe.answered_by(answer)
            probe = None
            if name and (yield from self._read_out(name, answer)):
                return
            if self._blinked:  # while it is asked flashes are missed
                self._asks = False
            if self.conversation is not None and self.conversation.answers:
                self._say(self.conversation.explanation)
                self._asked = 0
            else:
                self._say("dark: no light comes from the meter, and it does not answer")
        yield from self._go_home()

    def _read_out(self, name, answer):
        """The proof of an answer: what its conversation reads from the meter. True when it is proven."""
        self._load(name, True)
        for _ in range(_READ_OUTS):  # one that answers may have to be read at a lower rate
            self.conversation.answers = False
            if (yield from self._in_polarity(self.conversation.read_out(answer), not answer)):
                self.protocol = name
                self.telegram_ready = True
                self._say("answers when asked: %s, %s" % (_words(self.line), name.upper()))
                return True
            if not self.conversation.answers:
                return False
            answer = b""
        return False

    def _in_polarity(self, actions, opens):
        """Generator of the same line actions for a receiver whose level is the idle one's. `opens`: the first line it
        switches to is the one to tell."""
        answer = None
        while True:
            try:
                action = actions.send(answer)
            except StopIteration as end:
                return end.value
            if action[0] == SWITCH:
                line = action[1]
                line = Line(line.baud, line.bits, line.parity, line.stop, line.invert != self._idle_lit)
                action = SWITCH, line
                if opens:
                    self.line = line
                    opens = False
            answer = yield action

    # -- what is seen

    def look(self, ticks_ms, light, data, start, end):
        """A look of the driver's (WATCH); True when something follows from it."""
        gap = 0
        if self._ticks is not None:
            gap = (ticks_ms - self._ticks) & _TICKS
            if gap > _TICKS_HALF:  # it went back
                gap = 0
        self._ticks = ticks_ms
        self._quiet_ms = min(self._quiet_ms + gap, _TICKS_HALF)
        self._dark_ms = min(self._dark_ms + gap, _TICKS_HALF)
        self._away_ms = min(self._away_ms + gap, _TICKS_HALF)
        self._apart_ms = min(self._apart_ms + gap, _TICKS_HALF)
        if self._flash_ms != _NONE:
            self._flash_ms += gap
            if light == (not self._idle_lit):
                self._width_ms = self._flash_ms
        if light is not None:
            self._lit_ms = min(self._lit_ms + gap, _TICKS_HALF) if light == self._lit else 0
            self._lit = light
        if self._flash_ms != _NONE:
            self._judge_flash(light)
        if end > start and not self._decision:
            self._take(data, start, end, gap)
        elif not self._decision:
            self._rest()
        return self._decision > 0

    def _rest(self):
        """Nothing has come: what follows from that."""
        quiet_ms = self._quiet_ms
        if quiet_ms >= _SILENCE_MS and self.listener is not None and not self._silent:
            self._silent = True
            self.listener.on_idle()
        if quiet_ms >= _BURST_GAP_MS and self._n:
            self._end_burst()
        elif quiet_ms >= _BURST_GAP_MS and self._looking and (self._short or sum(self._runs)):
            self._decision = _END_LOOK
        elif self._lit != self._idle_lit and self._lit_ms >= _IDLE_MS and quiet_ms >= _IDLE_MS:
            self._decision = _TURN
        elif self._away_ms >= self._stay_ms and (self.line.baud != _HOME or self._looking):
            self._decision = _GO_HOME
        elif self._blinked and self.flashes and self._dark_ms >= _ASK_MS[0]:
            self._claim_blink()
        elif self._asks and quiet_ms >= (_FLASH_MS if self.flashes else _BEFORE_ASKING_MS):
            if self._dark_ms >= _ASK_MS[min(self._asked, len(_ASK_MS) - 1)]:
                self._decision = _ASK

    def _take(self, data, start, end, gap):
        """Bytes have come."""
        n = end - start
        quiet_ms = self._quiet_ms - n * 10000 // self.line.baud  # they took some of it
        self._quiet_ms = 0
        self._silent = False
        if self._looking:
            for i in range(start, end):
                zeros = 0
                while zeros < 8 and not data[i] >> zeros & 1:
                    zeros += 1
                self._runs[zeros] += 1
            if sum(self._runs) >= (_RUNS if self._rung <= _USUAL else 2 * _RUNS):
                self._decision = _JUDGE
            return
        if self._n and quiet_ms >= _BURST_GAP_MS:  # seen late
            self._end_burst()
            if self._decision:
                return
        if self._n:
            self._sure_ms, self._sure_bytes = self._burst_ms, self._burst_bytes
            self._burst_ms += gap
            self._burst_bytes += n
        else:
            if self._flash_ms != _NONE:
                self._flash_ms = _NONE
                self._be_odd()
            elif n == 1 and not data[start] and quiet_ms >= self._lone_ms and not self._sure and not self.listener:
                self._flash_ms = self._width_ms = 0
                return
            self._begun = quiet_ms >= _BURST_GAP_MS
            self._whole = self._begun
            self._burst_ms = self._burst_bytes = self._sure_ms = self._sure_bytes = 0
        self._bytes += n
        if self.listener is not None:
            self._n = 1  # there is a burst; its bytes are with the listener
            self._prove(data, start, end)
            if self._bytes >= _MOST_BYTES and not self._decision:
                self._decision = _TRY_OTHERWISE
            return
        for i in range(start, end):
            self._zeros += not data[i]
        self._keep(data, start, end)
        self._signature = signature(self._probes, self._buf, self._n, self._whole)
        if self._signature:
            self._decision = _LISTEN
        elif self._bytes >= _ODD_BYTES and (not self._sure or 10 * self._zeros > 9 * self._bytes):
            self._decision = _LOOK
        elif self._bytes >= _WHOLE_BYTES:
            self._decision = _TRY_OTHERWISE

    def _keep(self, data, start, end):
        """The last bytes of this burst, as many as there is room for."""
        buf = self._buf
        start = max(start, end - _KEPT)
        over = self._n + end - start - _KEPT
        if over > 0:
            copy_bytes(buf, 0, buf, over, self._n - over)
            self._n -= over
            self._whole = False
        copy_bytes(buf, self._n, data, start, end - start)
        self._n += end - start

    def _end_burst(self):
        """A silence behind bytes."""
        self._end_pace()
        n = self._n
        self._n = 0
        if self._burst_ms >= _LONG_MS:
            self._dark_ms = 0
        if self.listener is not None:
            if self._burst_ms >= _SHORT_MS or self._bytes - self._counted >= _ODD_BYTES:
                self._bursts += 1
                self._away_ms = 0
            self._counted = self._bytes
            if self._bursts >= _BURSTS or self._bytes >= _MOST_BYTES:
                self._decision = _TRY_OTHERWISE
            return
        self._be_odd()
        if not self._sure:
            self._bytes = self._zeros = 0
            if n >= _LEAST_RUNS and self._burst_ms >= _SHORT_MS:
                self._decision = _LOOK
            elif n >= _LEAST_RUNS:
                if self._shorts % _SHORTS < 2 and not self.flashes:
                    self._decision = _TRY_FAST
                self._shorts += 1
        elif self._begun and (self._burst_ms >= _SHORT_MS or n >= _ODD_BYTES and 2 * self._zeros < self._bytes):
            self._bursts += 1
            self._away_ms = 0
            if self._bursts >= _MUTE_BURSTS:
                self._decision = _TRY_OTHERWISE

    # -- does a byte take ten bits, or eleven?

    def _end_pace(self):
        """What this burst's time tells of it: exact from one look to another, as there were bytes all the while."""
        line = self.line
        if self._sure_bytes >= _LEAST_PACED and line.baud <= _PACED_BAUD and not line.parity and self._paced < _PACED:
            self._paced += self._sure_bytes
            self._paced_ms += self._sure_ms
        self._sure_bytes = 0

    def _takes_parity(self):
        self._end_pace()
        return self._paced >= _LEAST_PACED and 2 * self._paced_ms * self.line.baud >= 21 * 1000 * self._paced

    # -- proof

    def _prove(self, data, start, end):
        """The listener gets data[start:end]."""
        listener = self.listener
        while start < end and not self.protocol:
            start += listener.feed(data, start, end)
            event = listener.next_event()
            while event and not self.protocol:
                if listener.recognised > self._good:
                    self._good = listener.recognised
                    self._believe(event == TELEGRAM)
                if not self.protocol:
                    event = listener.next_event()

    def _believe(self, telegram_ready):
        """A telegram, in hand or recognised but for its key."""
        listener = self.listener
        if not listener.proven:  # nothing but the same meter twice in a row is believed
            identity = listener.identity_for_proof()
            same = identity is not None and identity == self._identity
            self._identity = identity
            if not same:
                return
        line = self.line
        if telegram_ready and listener.is_reply(line):
            return
        self.parity = line.parity
        sent = listener.line_as_sent(line)
        if sent is None:
            parity = "E" if self._takes_parity() else line.parity
            sent = Line(line.baud, line.bits, parity, line.stop, line.invert)
        self.line = sent
        self.protocol = self._signature
        self.telegram_ready = telegram_ready
        self._say("light seen: %s, %s push" % (_words(sent), self.protocol.upper()))
        self._decision = _END

    # -- flashes

    def _be_odd(self):
        self._odd = min(self._odd + 1, _MOST_ODD)

    def _judge_flash(self, light):
        """Was the byte a flash, by itself?"""
        if self._width_ms > _MOST_FLASH_MS:
            self.flashes = 0
            self._be_odd()
        elif self._flash_ms < self._lone_ms or light == (not self._idle_lit):
            return
        else:
            alike = abs(self._width_ms - self._last_width_ms) <= _LONE_MS
            apart_ms = self._apart_ms
            self._apart_ms = 0
            alike = alike and (self.flashes < 2 or apart_ms < 2 * self._last_apart_ms < 4 * apart_ms)
            self._last_apart_ms = apart_ms
            self._last_width_ms = self._width_ms
            self.flashes = self.flashes + 1 if alike or self._blinked else 1
            wanted = _FLASHES if self._width_ms <= _SHORT_FLASH_MS else _LONG_FLASHES
            if self.flashes >= wanted + self._odd and not self._blinked:
                self._claim_blink()
        self._flash_ms = _NONE

    def _claim_blink(self):
        self.protocol = protocols.BLINK
        self.line = Line(_HOME, 8, None, 1, self._idle_lit)
        self._say("flashes seen of an LED, no telegram")
        self._decision = _END


def _words(line):
    """Such as "9600 baud, 8N1 inverted"."""
    inverted = " inverted" if line.invert else ""
    return "%d baud, %d%s%d%s" % (line.baud, line.bits, line.parity or "N", line.stop, inverted)
