"""Asking a meter, in virtual time: the right values, or a failure that is counted and explained; never a wrong value.

Two ways to drive the conversation's generators: `Lab`, the simulated meter at the other end of a virtual line, with
whatever goes wrong on it; and `Script`, by hand, where a test says what a meter answers to every message. Each telegram
that a Lab's listener tells is compared with what the meter has said by then, from its simulation, not from the bytes.
"""

import json
import random
import re
import sys
import tracemalloc

import pytest
from support.by_hand import pauses_of_one_that_nobody_answers
from support.corpus import recording
from support.runs import times

from metering.characters import with_parity
from metering.iec62056_21 import poll
from metering.iec62056_21.data_block import BUFFER_SIZE, Iec62056_21
from metering.iec62056_21.exchange import BREAK, RateLimit
from metering.iec62056_21.poll import Conversation
from metering.iec62056_21.programming_answers import block_check, command, frame_end
from metering.line import ANSWER_BYTES, MAX_SENT, Line, perform
from metering.listener import NOTHING, TELEGRAM
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.iec62056_21_programming import ProgrammingMode
from optoprobe.virtual.iec62056_21_talk import SOH, STX, Talk
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.uart import NS, duration_ns

ETX, EOT, ACK, NAK = b"\x03", b"\x04", b"\x06", b"\x15"
SIGN_ON = b"/?!\r\n"
REGISTERS = [b"1.8.0", b"2.8.0", b"C.1.0"]
ATTEMPT_S = 120  # line time of one attempt at the most, whatever the meter does; but for long blocks at 300 baud
SLOW = {"offered": "0", "history": 3}  # a meter of 300 baud whose read-out takes minutes
FOR_EVER = 1 << 60  # ns

# All that may ever be sent. No W: nothing is written.
MAY_BE_SENT = re.compile(
    rb"/\?[0-9A-Za-z ]{0,32}!\r\n|\x060[0-6][01]\r\n|\x06|\x15|\x01B0\x03q|\x00{36}"
    rb"|\x01(P1|R1|R5)\x02[^\x00-\x1f]*\([^\x00-\x1f]*\)\x03[\x00-\x7f]",
    re.DOTALL,
)


# --- the two drivers -------------------------------------------------------------------------------------------------

SENT: list[bytes] = []  # by the test that runs


@pytest.fixture(autouse=True)
def nothing_is_written():
    """What every test has sent is a request to read."""
    SENT.clear()
    yield
    for message in SENT:
        assert MAY_BE_SENT.fullmatch(message), message
        assert not message.startswith(b"\x01W")
        assert len(message) <= MAX_SENT


def rows(listener):
    return [(reading.address, reading.printed, reading.printed_unit) for reading in listener.readings()]


class Lab(Bench):
    """A meter, a line, a conversation, and what came of it.

    `telegrams` are the rows of each telegram heard, at the line times `heard_s`; `log` holds (line time, message) of
    what was meant to be sent; `spoil(message)` may change that, None: it is lost. `ask`: the conversation's settings.
    """

    def __init__(self, mode="C", *, ask=None, noise=None, echo=False, latency_ms=0, meter=None, **options):
        self.meter = meter or IecMeter(mode, **options)
        super().__init__(self.meter, VirtualLine(self.meter.line, noise=noise, echo=echo), latency_ms=latency_ms)
        self.listener = Iec62056_21(32768 if options.get("history") else BUFFER_SIZE)
        self.listener.history = True
        self.conversation = Conversation(self.listener, **(ask or {}))
        self.telegrams, self.heard_s, self.log, self.blocks = [], [], [], []
        self.spoil = None
        said = self.meter.poll

        def poll(now_s, free_s):
            transmission = said(now_s, free_s)
            if transmission is not None and transmission.telegram and transmission.last and transmission.expected:
                self.blocks.append(list(transmission.expected))
            return transmission

        self.meter.poll = poll

    def send(self, data):
        SENT.append(bytes(data))
        self.log.append((self.now_s, bytes(data)))
        changed = self.spoil(bytes(data)) if self.spoil else data
        if changed is not None:
            super().send(changed)
            return
        self.wait(duration_ns(self._line, len(data)) / 10**6)

    def _tell(self, listener):
        """Never a wrong value: a whole block that the meter said, or registers that it read."""
        told = rows(listener)
        self.telegrams.append(told)
        self.heard_s.append(self.now_s)
        assert listener.checked or self.meter.mode == "D"
        assert told and (told in self.blocks or set(told) <= set(self.meter.reads)), told

    def attempt(self, generator=None, limit_s: float = ATTEMPT_S):
        """One attempt: True or False, and in the latter case counted and explained."""
        conversation = self.conversation
        failures, telegrams = conversation.failures, len(self.telegrams)
        came = self.converse(generator or conversation.read_out(), until_s=self.now_s + limit_s, on_telegram=self._tell)
        assert came in (True, False), f"a stall: not done after {limit_s} s of line time"
        if came:
            assert len(self.telegrams) == telegrams + 1
            assert conversation.failures == failures
        else:
            assert len(self.telegrams) == telegrams
            assert conversation.failures == failures + 1 == sum(conversation.failed.values())
            assert conversation.explanation
        return came

    def registers(self, addresses=REGISTERS, limit_s: float = ATTEMPT_S):
        return self.attempt(self.conversation.read_registers(list(addresses)), limit_s)

    def until_good(self, attempts, limit_s: float = ATTEMPT_S):
        """As many attempts as it takes, at most `attempts`; returns how many failed before the good one, or None."""
        for failed in range(attempts):
            if self.attempt(limit_s=limit_s):
                assert self.telegrams[-1] == self.meter.expected()
                return failed
            self.pass_until(self.now_s + 5)  # as run() does
        return None

    def run(self, seconds):
        assert self.converse(self.conversation.run(), until_s=self.now_s + seconds, on_telegram=self._tell) is None, (
            "run() has no end"
        )

    def times(self, message):
        return [at_s for at_s, sent in self.log if sent == message]

    @property
    def failed(self):
        return {reason: n for reason, n in self.conversation.failed.items() if n}


class Script:
    """Drives by hand: `answer(message)` says what comes back; counts line time and keeps what was sent.

    `answer` gets every message sent, and b"" when a silence would begin (and answers b"" for silence).
    """

    def __init__(self, conversation, listener, answer):
        self.conversation, self.listener = conversation, listener
        self._answer = answer
        self._pending = bytearray()
        self.sent, self.switches = [], []
        self.telegrams = []
        self.line_s = 0.0
        self._line = Line(300, 7, "E")

    def drive(self, generator, limit_s: float = ATTEMPT_S):
        answer = None
        while True:
            try:
                action = generator.send(answer)
            except StopIteration as end:
                return end.value
            answer = perform(action, self)
            assert self.line_s < limit_s, f"a stall: not done after {limit_s} s of line time"

    def _pass(self, n):
        self.line_s += duration_ns(self._line, n) / NS

    def send(self, data):
        data = bytes(data)
        assert 0 < len(data) <= MAX_SENT
        SENT.append(data)
        self.sent.append(data)
        self._pass(len(data))
        self._pending += self._answer(data)

    def switch(self, line):
        self._line = line
        self.switches.append(line)
        if self._pending and not self.sent[-1].startswith(ACK):  # an answer to an acknowledge comes at the new rate
            self._pending.clear()

    def wait(self, ms):
        self.line_s += ms / 1000

    def _more(self, silence_ms):
        if not self._pending:
            self._pending += self._answer(b"")
        if not self._pending:
            self.line_s += silence_ms / 1000
        return bool(self._pending)

    def expect(self, complete, first_ms, gap_ms):
        got = bytearray()
        while len(got) < ANSWER_BYTES:
            if not self._more(gap_ms if got else first_ms):
                return bytes(got)
            got.append(self._pending.pop(0))
            self._pass(1)
            n = complete and complete(bytes(got), len(got))
            if n:
                self._pending[:0] = got[n:]
                return bytes(got[:n])
        return bytes(got)

    def listen(self, listener, first_ms, gap_ms):
        assert first_ms is not None and gap_ms is not None
        event = listener.next_event()
        while event == NOTHING:
            if not self._more(gap_ms):
                return NOTHING
            taken = listener.feed(self._pending, 0, min(16, len(self._pending)))
            assert taken > 0
            self._pass(taken)
            del self._pending[:taken]
            event = listener.next_event()
        if event == TELEGRAM:
            assert listener.checked
            self.telegrams.append(rows(listener))
        return event


def script(answer, **settings):
    listener = Iec62056_21(BUFFER_SIZE)
    return Script(Conversation(listener, **settings), listener, answer)


def bcc(data):
    """Of our own: the exclusive or of what follows the first character."""
    check = 0
    for byte in data[1:]:
        check ^= byte
    return data + bytes((check,))


# --- the messages ----------------------------------------------------------------------------------------------------


def test_messages_as_the_standard_prints_them():
    assert BREAK == bcc(SOH + b"B0" + ETX)
    assert command(b"R5", b"1.8.0()") == bcc(b"\x01R5\x021.8.0()\x03")
    assert block_check(b"") == 0
    for answer, n in (
        (b"", 0),
        (ACK, 1),
        (NAK, 1),
        (b"\x00?" + ACK + b"x", 3),
        (b"\x02(1)\x03", 0),
        (b"\x02(1)\x03x", 6),
        (b"\x02(1)\x04xyz", 6),
        (with_parity(b"\x01P0\x02()\x03`"), 8),
    ):
        assert frame_end(answer, len(answer)) == n, answer


@pytest.mark.parametrize(
    ("events", "rate"),
    [
        ([], 5),
        (["damaged"], 4),
        (["damaged", "damaged"], 3),
        (["damaged"] * 6, 5),  # from 300 baud to the highest again, one below what is offered there
        (["silent"], 4),
        (["silent", "silent"], 0),
        (["silent", "silent", "silent"], 5),
        (["silent", "damaged"], 3),
    ],
)
def test_the_rate_that_is_not_exceeded(events, rate):
    limit = RateLimit()
    for event in events:
        at = limit.rate_for(5)
        if event == "damaged":
            limit.lower(at)
        else:
            limit.hear_nothing(at)
    assert limit.rate_for(5) == rate


# An exchange of a Swiss meter of the LEM group in the standard's form: what we say, what it says; the values are
# 2013-01-03 for the date (0.9.2) and 10:14:15 for the time (0.9.1), the password the maker's default.
EXCHANGE = [
    ("to", SIGN_ON),
    ("from", b"/EMH5\\@D4EM4TIIW001--\r\n"),
    ("to", ACK + b"051\r\n"),
    ("from", bcc(SOH + b"P0" + STX + b"()" + ETX)),
    ("to", bcc(SOH + b"P1" + STX + b"(00000000)" + ETX)),
    ("from", ACK),
    ("to", bcc(SOH + b"R5" + STX + b"0.9.2()" + ETX)),
    ("from", bcc(STX + b"0.9.2(130103)" + ETX)),
    ("to", bcc(SOH + b"R5" + STX + b"0.9.1()" + ETX)),
    ("from", bcc(STX + b"0.9.1(101415)" + ETX)),
    ("to", bcc(SOH + b"B0" + ETX)),
]
EXCHANGED = [("0.9.2", "130103", None), ("0.9.1", "101415", None)]


def converse_exactly(steps, parity):
    """Feed what the meter said and compare, byte for byte, what is sent; returns the telegrams."""
    steps = list(steps)

    def answer(message):
        if not message:
            return b""
        way, wanted = steps.pop(0)
        assert way == "to" and message == wanted
        said = b""
        while steps and steps[0][0] == "from":
            said += steps.pop(0)[1]
        return with_parity(said) if parity else said

    driver = script(answer, password="00000000")
    assert driver.drive(driver.conversation.read_registers([b"0.9.2", b"0.9.1"])) is True
    assert not steps
    assert [repr(line) for line in driver.switches] == ["300 7E1", "9600 7E1"]
    return driver.telegrams


@pytest.mark.parametrize("parity", [False, True], ids=["plain", "parity"])
def test_exchange_of_a_lem_meter(parity):
    assert converse_exactly(EXCHANGE, parity) == [EXCHANGED]


@pytest.mark.parametrize("parity", [False, True], ids=["plain", "parity"])
def test_exchange_of_a_lem_meter_as_captured(parity):
    for exchange in json.loads(recording("iec62056_21/exchange_LEM_EM4Tii.json").read_text())["exchanges"]:
        steps = [(way, bytes.fromhex(data)) for step in exchange["steps"] for way, data in step.items()]
        told = converse_exactly(steps, parity)
        values = [re.findall(rb"\x02([^()\x02]+)\(([^()]*)\)\x03", data) for way, data in steps if way == "from"]
        pairs = [(address.decode(), value.decode(), None) for found in values for address, value in found]
        assert told == [pairs] and len(pairs) == 2


# --- what goes well --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("wake_up", "longest_s"), [(False, 300), (True, 3600)])
def test_who_does_not_answer_is_asked_ever_more_rarely(wake_up, longest_s):
    """One whose battery each attempt may cost, once an hour."""
    pauses = pauses_of_one_that_nobody_answers(Conversation(Iec62056_21(), wake_up=wake_up).run(), 10)
    assert pauses == [10, 20, 40, 80, 160, 300, *[longest_s] * 4]  # behind one of 5 s


BATTERY = {"battery": True, "ask": {"wake_up": True}}
GOOD = {
    "A": ("A", {}),
    "B": ("B", {}),
    "C": ("C", {}),
    **{f"B at {character}": ("B", {"offered": character}) for character in "ABCDEF"},
    **{f"C at {character}": ("C", {"offered": character}) for character in "0123456"},
    "C junk": ("C", {"quirks": ["junk_after_switch"]}),
    "B junk": ("B", {"quirks": ["junk_after_switch"]}),
    "C battery": ("C", BATTERY),
    "B battery": ("B", BATTERY),
    "A battery": ("A", BATTERY),
    "C E": ("C", {"ident": "\\2MT382-1003"}),
    "C history": ("C", {"history": 15, "full": True}),
    "C number": ("C", {"address": "12345678", "needs_address": True, "ask": {"address": "0012345678"}}),
    "C number 0": ("C", {"address": "00123", "needs_address": True, "ask": {"address": "123"}}),
    "C without ack": ("C", {"offered": "0", "reaction_ms": 1500}),
}
for _mode in "ABC":
    GOOD[f"{_mode} lf"] = (_mode, {"quirks": ["lf_only"]})
    GOOD[f"{_mode} full"] = (_mode, {"full": True})
    for _ms in (200, 1500):
        GOOD[f"{_mode} {_ms} ms"] = (_mode, {"reaction_ms": _ms})
    for _ms in (20, 1500):
        GOOD[f"{_mode} small letter {_ms} ms"] = (_mode, {"reaction_ms": _ms, "flag": "OPt"})
    GOOD[f"{_mode} gaps"] = (_mode, {"gap_ms": 1500})
    GOOD[f"{_mode} gaps, slow"] = (_mode, {"gap_ms": 1500, "reaction_ms": 1500, "quirks": ["lf_only"]})


@pytest.mark.parametrize("echo", [False, True], ids=["", "echo"])
@pytest.mark.parametrize("name", GOOD)
def test_read_at_the_first_attempt(name, echo):
    mode, options = GOOD[name]
    it = Lab(mode, echo=echo, **options)
    assert it.attempt()
    assert it.telegrams == [it.meter.expected()]
    assert NAK not in it.sent and not any(it.listener.rejected.values())
    assert it.conversation.explanation == "" and not it.failed
    assert it.bytes_received == it.virtual_line.meter.bytes_sent
    wanted = {"A": "-", "B": "C"}.get(mode, "5") if "offered" not in options else options["offered"]
    assert it.listener.ident_baud == wanted
    it.pass_until(it.now_s + 5)
    assert it.attempt()  # and again


def test_the_number_is_sent_without_leading_zeros():
    for address, sent in (("0012345678", b"12345678"), ("0", b"0"), ("000", b"0"), ("A0", b"A0"), ("", b"")):
        driver = script(lambda message: b"", address=address)
        assert driver.drive(driver.conversation.read_out()) is False
        assert driver.sent == [b"/?" + sent + b"!\r\n"]


def test_mode_c_loses_no_byte():
    """Reaction times and gaps anywhere inside the standard's limits, all rates. OPTOPROBE_TIMES=4: a thousand runs."""
    for seed in range(times(120)):
        draw = random.Random(seed)
        flag = draw.choice(("OPT", "OPt"))
        limits = sorted(draw.choice((20 if flag == "OPt" else 200, 1500, draw.uniform(200, 1500))) for _ in range(2))
        gap_ms = draw.choice((0, 0, 50, 1500, draw.uniform(0, 1500)))
        it = Lab(
            seed=seed,
            flag=flag,
            reaction_ms=tuple(limits),
            gap_ms=gap_ms,
            offered=draw.choice("0123456555"),
            echo=draw.random() < 0.3,
            quirks=["lf_only"] if draw.random() < 0.2 else (),
        )
        assert it.attempt(limit_s=600), (seed, it.conversation.explanation)
        assert it.telegrams == [it.meter.expected()], seed
        assert not any(it.listener.rejected.values()) and NAK not in it.sent, seed
        assert it.bytes_received == it.virtual_line.meter.bytes_sent, seed
        assert it.switches[-1].baud == (300, 600, 1200, 2400, 4800, 9600, 19200)[int(it.meter.offered)]


# --- what goes wrong on the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("latency_ms", [1000, 1300, 1600, 2500])
def test_late_acknowledge(latency_ms, seed):
    """The meter has begun to read out at 300 by itself: good within seven attempts, one for each lower rate."""
    it = Lab(latency_ms=latency_ms, seed=seed)
    failed = it.until_good(7, 300)
    assert failed is not None, (it.failed, it.conversation.explanation)
    assert set(it.failed) <= {"no data", "bad data"}


def test_late_acknowledge_to_a_meter_that_then_falls_silent():
    it = Lab(latency_ms=1600, silent_without_ack=True)
    assert it.until_good(9) is None
    assert it.failed == {"no data": 9}


def test_late_acknowledge_of_one_attempt():
    """The head's side was busy once."""
    it = Lab()
    late = [True]

    def spoil(message):
        if message.startswith(b"\x060") and late:
            late.clear()
            it.pass_until(it.now_s + 1.6)
        return message

    it.spoil = spoil
    assert it.until_good(2) is not None
    assert "ack late" in it.meter.events or "no ack" in it.meter.events


def garbled(message, draw):
    """An acknowledge as it may arrive: changed, cut, or with more."""
    kind = draw.randrange(4)
    if kind == 0 and len(message) > 1:
        return message[: draw.randrange(1, len(message))]
    if kind == 1:
        return bytes(draw.randrange(128) for _ in range(len(message)))
    at = draw.randrange(len(message))
    if kind == 2:
        return message[:at] + bytes((message[at] ^ 1 << draw.randrange(7),)) + message[at + 1 :]
    return message[:at] + bytes((draw.randrange(128),)) + message[at:]


@pytest.mark.parametrize("silent", [False, True], ids=["reads out", "silent"])
@pytest.mark.parametrize("seed", range(30))
def test_garbled_acknowledge(seed, silent):
    """Once: good within three attempts."""
    draw = random.Random(seed)
    it = Lab(seed=seed, silent_without_ack=silent)
    garble = [True]

    def spoil(message):
        if message.startswith(b"\x060") and garble:
            garble.clear()
            return garbled(message, draw)
        return message

    it.spoil = spoil
    assert it.until_good(3) is not None, (it.failed, it.conversation.explanation)


@pytest.mark.parametrize("lost", [1, 2, 5])
@pytest.mark.parametrize("silent", [False, True], ids=["reads out", "silent"])
def test_acknowledge_lost(lost, silent):
    """`lost` times, one after the other: one failure each at the most, and then a good reading."""
    it = Lab(silent_without_ack=silent)
    left = [lost]

    def spoil(message):
        if message.startswith(b"\x060") and left[0]:
            left[0] -= 1
            return None
        return message

    it.spoil = spoil
    failed = it.until_good(lost + 1, 300)
    assert failed is not None and failed <= lost
    if silent:
        assert it.failed == {"no data": lost}


def test_acknowledge_never_arrives():
    it = Lab()
    it.spoil = lambda message: None if message.startswith(b"\x060") else message
    for _ in range(10):  # the meter reads out at 300, and that is heard at the second try at the latest
        it.attempt(limit_s=300)
        it.pass_until(it.now_s + 5)
    assert len(it.telegrams) >= 5
    it = Lab(silent_without_ack=True)
    it.spoil = lambda message: None if message.startswith(b"\x060") else message
    assert it.until_good(10, 300) is None
    assert it.failed == {"no data": 10}


@pytest.mark.parametrize("mode", ["A", "B", "C"])
def test_bytes_lost(mode):
    """The light blocked for 2 to 500 ms at any moment from the sign-on to the end: good within three attempts."""
    undisturbed = Lab(mode)
    assert undisturbed.attempt()
    for seed in range(times(20)):
        draw = random.Random(seed)
        it = Lab(mode)
        from_s = draw.uniform(0, undisturbed.now_s)
        length_s = draw.choice((0.002, 0.01, 0.05, 0.5))
        it.virtual_line.channel.hold("dropout", int(from_s * NS), int((from_s + length_s) * NS))
        assert it.until_good(3) is not None, (seed, it.failed, it.conversation.explanation)


@pytest.mark.parametrize("mode", ["A", "B", "C"])
def test_bad_check_once(mode):
    it = Lab(mode, quirks=["bad_bcc_once"])
    assert it.until_good(1) == 0
    # the first block on a line that has shown a fault is believed when it comes a second time
    assert it.sent.count(NAK) == 2 and it.listener.rejected["checksum"] == it.listener.rejected["shape"] == 1


@pytest.mark.parametrize("mode", ["A", "B", "C"])
def test_bad_check_always(mode):
    it = Lab(mode, quirks=["bad_bcc"])
    assert it.until_good(4) is None
    assert it.failed == {"bad data": 4} and "damaged 3 times (checksum)" in it.conversation.explanation
    assert it.sent.count(NAK) == 8  # two an attempt


@pytest.mark.parametrize(("stretch_ns", "attempts", "baud"), [(70_000, 3, 4800), (150_000, 4, 2400)])
def test_a_head_that_cannot_follow(stretch_ns, attempts, baud):
    """Its phototransistor is too slow for what the meter offers: lower rates are asked for, and kept."""
    for seed in range(10):
        it = Lab(seed=seed, noise=Noise(stretch_ns=stretch_ns))
        assert it.until_good(attempts) is not None, (seed, it.failed, it.conversation.explanation)
        assert it.switches[-1].baud in (baud, 300)
        for _ in range(3):
            it.pass_until(it.now_s + 5)
            assert it.attempt(), (seed, it.conversation.explanation)


@pytest.mark.parametrize("options", [{"follows": "4"}, {"follows": "3"}, {"only_000": True}])
@pytest.mark.parametrize("silent", [False, True], ids=["", "silent"])
def test_a_meter_that_cannot_follow(options, silent):
    """It offers 9600 and falls idle when asked for it."""
    it = Lab(silent_without_ack=silent, **options)
    assert it.until_good(4) is not None, (it.failed, it.conversation.explanation)
    for _ in range(3):
        it.pass_until(it.now_s + 5)
        assert it.attempt()


NOISES = {
    "glitches": {"glitch_hz": 2},
    "many glitches": {"glitch_hz": 20},
    "long glitches": {"glitch_hz": 1, "glitch_ns": 2_000_000},
    "dropouts": {"dropout_hz": 0.5},
    "flicker": {"burst_hz": 0.3},
    "ambient light": {"ambient_hz": 0.3},
    "all": {"glitch_hz": 1, "dropout_hz": 0.2, "burst_hz": 0.2, "ambient_hz": 0.2},
}


def read_in_noise(mode, seed, per_second, **noise):
    """Up to eight attempts; True for a good one. Lab asserts that every value is right and every failure explained."""
    scaled = {key: rate * per_second if key.endswith("_hz") else rate for key, rate in noise.items()}
    it = Lab(mode, seed=seed, noise=Noise(seed=seed, **scaled))
    return it.until_good(8, 400) is not None


@pytest.mark.parametrize("mode", ["A", "B", "C"])
@pytest.mark.parametrize("name", NOISES)
def test_noise(name, mode):
    """A block takes half a second, or 12 at 300 baud, where there is less of it."""
    seeds = range(times(10))
    good = sum(read_in_noise(mode, seed, 0.1 if mode == "A" else 1, **NOISES[name]) for seed in seeds)
    assert 10 * good >= (1 if (name, mode) == ("many glitches", "B") else 8) * len(seeds), good


@pytest.mark.parametrize("name", ["flicker", "ambient light", "all"])
def test_much_noise_at_300_baud(name):
    """Ten disturbances a block: one damaged block in some hundred has a right BCC all the same."""
    for seed in range(times(10)):
        read_in_noise("A", seed, 1, **NOISES[name])


# --- for ever --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "options", "first_s", "period_s"),
    [
        ("D", {}, 12, 4),  # 2400; its telegram takes longer than the 2 s between two
        ("D", {"baud": 9600}, 6, 4),
        ("P1", {}, 8, 2),
        ("P1", {"period_s": 10}, 125, 11),  # DSMR 4 and earlier: found after three sign-ons
        ("P1", {"baud": 9600, "period_s": 10}, 125, 11),
        ("D", {"baud": 2400, "period_s": 10}, 125, 11),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_run_finds_what_is_pushed(mode, options, first_s, period_s, seed):
    it = Lab(mode, seed=seed, **options)
    it.pass_until(seed * 3.37)  # it may begin at any moment
    began_s = it.now_s
    it.run(200)
    assert it.heard_s and it.heard_s[0] - began_s <= first_s, it.heard_s[:1]
    later = it.heard_s[1:]
    assert len(later) > 5
    assert all(b - a < period_s for a, b in zip(later, later[1:], strict=False))
    assert it.conversation.explanation == ""
    assert len(it.sent) <= 3 if options.get("period_s") else it.sent == []


@pytest.mark.parametrize("interval_s", [0, 10, 300])
@pytest.mark.parametrize("mode", ["A", "B", "C"])
def test_run_asks_at_its_interval(mode, interval_s):
    it = Lab(mode, ask={"interval_s": interval_s})
    every_s = interval_s or 60
    it.run(every_s * 5.5)
    asked = it.times(SIGN_ON)
    assert asked[0] < 5
    assert len(asked) >= 3
    for a, b in zip(asked, asked[1:], strict=False):
        assert every_s <= b - a < every_s + 20
    assert len(it.telegrams) in (len(asked), len(asked) - 1) and not it.failed


def test_run_spares_a_battery():
    it = Lab("C", **BATTERY)
    it.run(3 * 3600)
    asked = it.times(SIGN_ON)
    assert [round((b - a) / 3600) for a, b in zip(asked, asked[1:], strict=False)] == [1] * (len(asked) - 1)
    assert len(asked) == 3 == len(it.telegrams)
    assert it.meter.events.count("wake-up") == 3
    it = Lab("C", battery=True, ask={"wake_up": True, "interval_s": 600})  # its owner wants more
    it.run(1900)
    assert len(it.telegrams) in (3, 4)


def test_run_pauses_longer_after_every_failure():
    it = Lab(address="123", needs_address=True)
    it.run(3000)
    asked = it.times(SIGN_ON)
    pauses = [b - a for a, b in zip(asked, asked[1:], strict=False)]
    for pause_s, wanted_s in zip(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300], strict=False):
        assert wanted_s <= pause_s <= wanted_s + 20  # it listens for pushes in between
    assert len(pauses) >= 9
    assert it.failed == {"no answer": len(asked)} or it.failed == {"no answer": len(asked) - 1}
    assert "does not answer" in it.conversation.explanation


def test_run_begins_anew_after_a_good_reading():
    it = Lab()
    it.spoil = lambda message: None if 20 < it.now_s < 200 else message
    it.run(1000)
    assert it.failed and it.conversation.explanation == ""
    later = [at_s for at_s in it.times(SIGN_ON) if at_s > 500]
    assert all(60 <= b - a < 70 for a, b in zip(later, later[1:], strict=False)) and len(later) > 5


@pytest.mark.parametrize("refusal", ["err", "nak", "break"])
def test_wrong_password_is_tried_once_then_not_for_hours(refusal):
    """A meter that locks after three has a day to forget each; meanwhile it is read as a whole."""
    it = Lab(password="12345678", refusal=refusal, ask={"password": "8765x4321", "interval_s": 1800}, **SLOW)
    it.run(13_000)
    assert it.meter.wrong_passwords == 1
    assert it.failed == {"password refused": 1}
    assert "password" in it.conversation.explanation  # the reason why it takes so long stays
    assert len(it.telegrams) >= 6 and it.telegrams[-1] in it.blocks
    it.run(110_000)  # hours count what is paused, not what is read out at 300 baud
    tried = [at_s for at_s, message in it.log if b"8765x4321" in message]
    assert it.meter.wrong_passwords == len(tried) == it.conversation.failed["password refused"] == 3
    assert 14_400 <= tried[1] - tried[0] < 20_000 and 86_400 <= tried[2] - tried[1] < 100_000
    for text in (it.conversation.explanation, *it.conversation.failed, it.listener.reason, it.listener.detail):
        assert "8765x4321" not in text


def test_password_whose_answer_is_lost_is_not_sent_again():
    it = Lab(password="12345678", ask={"password": "12345678"})
    it.spoil = lambda message: None if b"P1" in message else message
    assert it.registers() is False
    assert it.failed == {"password refused": 1}
    assert len([message for message in it.sent + [m for _, m in it.log] if b"P1" in message]) == 1
    it.spoil = None
    it.pass_until(it.now_s + 90)
    assert it.attempt()


def test_right_password():
    it = Lab(password="12345678", ask={"password": "12345678"}, **SLOW)
    it.run(2000)
    assert not it.failed and it.meter.wrong_passwords == 0
    assert "R5 1.8.0" in it.meter.events


def test_single_registers_after_a_slow_read_out():
    """And all of it every 60th time."""
    it = Lab(ask={"interval_s": 30}, **SLOW)
    it.run(10500)
    assert not it.failed
    whole = [k for k, told in enumerate(it.telegrams) if told in it.blocks]
    assert whole[:3] == [0, 61, 122], whole
    full = it.telegrams[0]
    singles = it.telegrams[1]
    assert len(singles) == 16 < len(full)
    addresses = [row[0] for row in full]
    assert all(row[0] in addresses and "*" not in row[0] for row in singles)
    assert ("1.8.0", "kWh") in [(address, unit) for address, _, unit in singles]
    starts = it.times(SIGN_ON)
    took = [at_s - max(start_s for start_s in starts if start_s < at_s) for at_s in it.heard_s]
    assert took[0] > 70 and max(took[1:61]) < 50, took  # seconds


def test_a_quick_read_out_is_always_whole(monkeypatch):
    """And what would choose its registers is not even loaded: 3 KB, at every read-out."""
    monkeypatch.setitem(sys.modules, "metering.registers", None)
    it = Lab()
    it.run(400)
    assert all(told in it.blocks for told in it.telegrams) and len(it.telegrams) >= 5


def test_the_same_block_chooses_its_registers_once(monkeypatch):
    """None is worth asking for, so that it is read as a whole each time: 3 KB are loaded for the first alone."""
    chosen = []
    monkeypatch.setattr(poll, "unload", chosen.append)  # behind each choice
    it = Lab(offered="0")
    it.run(400)
    assert len(it.telegrams) >= 3 and all(told in it.blocks for told in it.telegrams)
    assert chosen == ["metering.registers"]


# --- programming mode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", ["asked", "printed", "bare"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("partial_blocks", [0, 3, 8])
def test_single_registers(answers, full, partial_blocks):
    for options in ({}, {"gap_ms": 1500}, {"reaction_ms": 1500}, {"reaction_ms": 20, "flag": "OPt"}, {"echo": True}):
        it = Lab(answers=answers, full=full, partial_blocks=partial_blocks, **options)
        assert it.registers(limit_s=300)
        assert it.telegrams == [it.meter.reads]
        assert [row[0] for row in it.meter.reads][0].endswith("1.8.0*255" if answers == "printed" and full else "1.8.0")
        assert it.sent[-1] == BREAK and it.meter.events[-1] == "break"


@pytest.mark.parametrize("error", ["(ERROR)", "(ERR)", "(ERR1)", "(#02)", "(#)", "ERROR", ""])
def test_an_error_is_no_reading(error):
    it = Lab(error=error)
    assert it.registers([b"9.9.9", b"1.8.0", b"1.8.9"])
    assert it.telegrams == [it.meter.reads] == [[row for row in it.telegrams[0] if row[0] == "1.8.0"]]
    it = Lab(error=error)
    assert it.registers([b"9.9.9", b"1.8.9"]) is False
    assert it.failed == {"registers refused": 1}
    assert it.telegrams == []


@pytest.mark.parametrize("shown", [b"", b"1.8.0"])
@pytest.mark.parametrize("error", [b"(ERROR)", b"(ERR01)", b"(#03)"])
def test_an_error_with_an_address_is_no_reading(shown, error):
    def answer(message):
        if message.startswith(b"/?"):
            return b"/OPT5x\r\n"
        if message == b"\x06051\r\n":
            return bcc(b"\x01P0\x02()\x03")
        return bcc(STX + shown + error + ETX) if b"R" in message else b""

    driver = script(answer)
    assert driver.drive(driver.conversation.read_registers(REGISTERS)) is False
    assert driver.telegrams == []
    assert driver.conversation.failed["registers refused"] == 1


@pytest.mark.parametrize("programming", ["break", "silent", "readout"])
def test_programming_refused(programming):
    """It is read as a whole from then on, and that succeeds."""
    it = Lab(programming=programming, **SLOW)
    it.run(2500)
    assert it.failed == {"registers refused": 2}
    assert len(it.telegrams) >= 7 and all(told in it.blocks for told in it.telegrams)
    assert len([message for message in it.sent if message == b"\x06001\r\n"]) == 2  # once is no proof
    assert it.conversation.explanation == ""


class OnlyR1(ProgrammingMode):
    """It does not know R5, and says so with `refusal`."""

    refusal = b""

    def obey(self, command, data, at_s):
        if command != "R5":
            super().obey(command, data, at_s)
        elif self.refusal == NAK:
            self.say_character(at_s, NAK)
        elif self.refusal:
            self.say_data(at_s, self.refusal)
        else:
            self.await_command(at_s)


@pytest.mark.parametrize("refusal", [NAK, b"(ERR1)", b"(ERROR)", b""])
def test_a_meter_that_wants_r1(refusal):
    meter = type("Meter", (IecMeter,), {"programming_mode": type("Mode", (OnlyR1,), {"refusal": refusal})})()
    it = Lab(meter=meter)
    for _ in range(2):
        assert it.registers()
        assert it.telegrams[-1] == meter.reads and len(meter.reads) == 3
        it.pass_until(it.now_s + 5)
    assert sum(b"R5" in message for message in it.sent) <= 3 and not it.failed


def test_programming_mode_entered_unheard():
    """It is left all the same, not waited for until the meter gives up."""
    it = Lab()
    dark = it.virtual_line.channel

    def spoil(message):
        if message == b"\x06051\r\n":
            dark.hold("dropout", dark.now_ns + NS // 2, dark.now_ns + 9 * NS)
        return message

    it.spoil = spoil
    assert it.registers() is False
    assert it.failed == {"registers refused": 1} and it.meter.events[-1] == "break"
    it.pass_until(it.now_s + 5)
    assert it.attempt()


def test_no_programming_mode_at_all():
    for mode in "AB":
        it = Lab(mode)
        assert it.registers() is False
        assert "no programming mode" in it.conversation.explanation
        assert it.until_good(2) is not None


def test_a_password_is_wanted_and_none_is_set():
    it = Lab(password="1", **SLOW)
    it.run(1500)
    assert it.failed == {"registers refused": 2} and len(it.telegrams) >= 4


class Changing(ProgrammingMode):
    """The value of a register is another one at each request, so that an old answer shows."""

    requests = 0

    def find(self, address, at_s):
        self.requests += 1
        row = super().find(address, at_s)
        return row and (row[0], ((f"{self.requests:07d}.{address[0]}{address[-1]}{self.requests % 10}", "kWh"),))


class ChangingMeter(IecMeter):
    programming_mode = Changing


@pytest.mark.parametrize("answers", ["asked", "bare"])
@pytest.mark.parametrize("partial_blocks", [0, 3, 5])
@pytest.mark.parametrize("quirks", [(), ("bad_bcc",), ("bad_bcc_once",)], ids=["", "bad bcc", "bad bcc once"])
def test_no_value_is_taken_for_anothers(answers, partial_blocks, quirks):
    """Requests and acknowledges lost or garbled, answers damaged: a NAK would bring the answer before."""
    good = 0
    seeds = range(times(24))
    for seed in seeds:
        draw = random.Random(seed)
        meter = ChangingMeter(seed=seed, answers=answers, partial_blocks=partial_blocks, quirks=quirks)
        noise = Noise(seed=seed, dropout_hz=0.4, glitch_hz=0.4) if seed % 3 == 0 else None
        it = Lab(meter=meter, noise=noise)

        def spoil(message, draw=draw):
            if message[:2] in (b"/?", b"\x060") or draw.random() > 0.25:
                return message
            return None if draw.random() < 0.5 else garbled(message, draw)

        it.spoil = spoil
        good += it.registers([b"1.8.0", b"2.8.0", b"1.8.1", b"1.8.2"], 300)
    assert good >= (0 if quirks == ("bad_bcc",) else len(seeds) // 2), good


@pytest.mark.parametrize("way", ["twice", "late"])
def test_what_comes_twice_is_not_the_next_registers(way):
    """Values without an address: the meter says each twice, or the first so late that it was asked for again."""
    values = {b"1.8.0": b"1.1", b"2.8.0": b"2.2", b"1.7.0": b"3.3"}
    late = []  # what is still to come, and till when

    def answer(message):
        if message.startswith(b"/?"):
            return b"/OPT5x\r\n"
        if message == b"\x06051\r\n":
            return bcc(b"\x01P0\x02()\x03")
        for address, value in values.items():
            if address in message:
                said = bcc(STX + b"(" + value + b"*kWh)" + ETX)
                if way == "twice":
                    return 2 * said
                late.append((said, driver.line_s + 3))
                before, until_s = late[1] if len(late) == 3 else (b"", 0)
                return b"" if len(late) == 1 else before + said if driver.line_s < until_s else said
        return b""

    driver = script(answer)
    assert driver.drive(driver.conversation.read_registers(list(values)))
    assert [(row[0].encode(), row[1].encode()) for row in driver.telegrams[0]] == list(values.items())


def test_answers_without_end_are_bounded():
    """Every part announces another, in every register: some KB at the most."""
    part = b"".join((STX, b"x" * 250, EOT))

    def answer(message):
        if message.startswith(b"/?"):
            return b"/OPT5x\r\n"
        if message == b"\x06051\r\n":
            return bcc(b"\x01P0\x02()\x03")
        return bcc(part) if message == ACK or b"R" in message else b""

    driver = script(answer)
    tracemalloc.start()
    assert driver.drive(driver.conversation.read_registers([b"1.8.0"] * 16)) is False
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000
    assert driver.conversation.failed["registers refused"] == 1


# --- meters that do what no meter should -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["read_out", "read_registers"])
@pytest.mark.parametrize("mode", ["A", "B", "C"])
def test_a_meter_that_falls_silent(what, mode):
    """Its light is gone from any moment on: a named reason within ATTEMPT_S of line time."""

    def attempt(it):
        return it.registers() if what == "read_registers" else it.attempt()

    undisturbed = Lab(mode)
    attempt(undisturbed)
    reasons = set()
    for k in range(50):
        from_s = undisturbed.now_s * k / 50
        it = Lab(mode)
        it.virtual_line.channel.hold("dropout", int(from_s * NS), FOR_EVER)
        if k < 5:  # nothing has come yet
            assert attempt(it) is False
        else:
            attempt(it)
        reasons |= it.failed.keys()
        assert it.attempt() is False  # later, too
        assert it.conversation.explanation.startswith("the meter does not answer")
    if what == "read_out":
        assert {"no answer", "no identification", "no data"} & reasons and len(reasons) >= 2


def test_run_with_a_meter_that_falls_silent():
    for mode, options in (("C", {}), ("D", {})):
        it = Lab(mode, **options)
        it.virtual_line.channel.hold("dropout", 120 * NS, 500 * NS)
        it.run(800)  # the longest pause is 300 s
        assert it.failed["no answer"] >= 4
        assert [at_s for at_s in it.heard_s if at_s < 121] and [at_s for at_s in it.heard_s if at_s > 500]
        assert it.conversation.explanation == ""


ALPHABETS = (
    bytes(range(128)),
    b"\x01\x02\x03\x04\x06\x15/!()*.0123456789\r\n?",
    b"\x02\x03\x04\r\n1(2)!",
    b"/OPT5abc\r\n\x02\x03",
    b"\x00",
    b"\x7f",
)


def rubbish(draw):
    return bytes(draw.choices(draw.choice(ALPHABETS), k=draw.choice((1, 2, 7, 30, 300, 5000))))


class HostileTalk(Talk):
    """From its `honest`-th message on it says anything, or sometimes the right thing."""

    honest = 0
    other = random.Random(0)

    def say(self, at_s, data, then, *, rows=None, reaction=True, spoil=False):
        self.honest -= 1
        if self.honest < 0 and self.other.random() < 0.8:
            kind = self.other.randrange(3)
            at = self.other.randrange(len(data))
            data = rubbish(self.other) if kind == 0 else data[:at] + rubbish(self.other) if kind == 1 else data + data
            rows = rows if kind == 2 else None
        super().say(at_s, data, then, rows=rows, reaction=reaction, spoil=spoil)


class Hostile(IecMeter):
    talk = HostileTalk

    def draw_from(self, seed, limit):
        self._talk.other = random.Random(seed)
        self._talk.honest = self._talk.other.randrange(limit)


class Trusting(Lab):
    """What a hostile meter says with a right check cannot be told from a reading."""

    def _tell(self, listener):
        assert listener.checked or self.meter.mode == "D"
        self.telegrams.append(rows(listener))


def test_hostile_meters():
    """300 of them: no exception, no stall, nothing told that has no check."""
    for seed in range(300):
        meter = Hostile("ABC"[seed % 3] if seed % 4 else "C", seed=seed, password="1" if seed % 5 == 0 else "")
        meter.draw_from(seed, 8)
        it = Trusting(meter=meter, ask={"password": "1" if seed % 2 else ""})
        limit_s = 1500  # 5,000 bytes at 300 baud, three times
        if seed % 2:
            it.registers(limit_s=limit_s)
        else:
            it.attempt(limit_s=limit_s)
        assert len(it.listener._buf) == BUFFER_SIZE


def test_hostile_meters_for_ever():
    for seed in range(times(6)):
        meter = Hostile("ABCCCC"[seed % 6], seed=seed, **(SLOW if seed % 6 > 3 else {}))
        meter.draw_from(seed, 12)
        it = Trusting(meter=meter, ask={"password": "1" if seed % 2 else ""})
        it.run(1500)
        assert sum(it.conversation.failed.values()) == it.conversation.failures
        assert len(it.log) < 1000


def honest(password=""):
    """What a meter answers to each message: for a Script."""
    block = bcc(STX + b"1.8.0(0012345.678*kWh)\r\n0.0.0(12345678)\r\n!\r\n" + ETX)

    def answer(message):
        if message.startswith(b"/?"):
            return b"/OPT5x\r\n"
        if message.endswith(b"1\r\n"):
            return bcc(b"\x01P0\x02()\x03")
        if message.endswith(b"0\r\n"):
            return block
        if b"P1" in message:
            return ACK
        if b"R" in message:
            return bcc(STX + b"(0012345.678*kWh)" + ETX)
        return b""

    return answer


@pytest.mark.parametrize("what", ["read_out", "read_registers", "run"])
@pytest.mark.parametrize("parity", [False, True], ids=["plain", "parity"])
def test_fuzzed_answers(what, parity):
    """Answers cut, doubled, replaced, turned round, with and without parity: no exception, no stall, no wrong value."""
    right = {("1.8.0", "0012345.678", "kWh"), ("0.0.0", "12345678", None), ("2.8.0", "0012345.678", "kWh")}
    for seed in range(times(45)):
        draw = random.Random(seed)
        truth = honest()

        def answer(message, draw=draw, truth=truth):
            said = truth(message)
            said = with_parity(said) if parity else said
            kind = draw.randrange(9)
            if not said or kind < 3:
                return said
            at = draw.randrange(len(said))
            if kind == 3:
                return said[:at]
            if kind == 4:
                return said[at:] + said
            if kind == 5:
                return said + said
            if kind == 6:
                return said[:at] + bytes((said[at] ^ 1 << draw.randrange(8),)) + said[at + 1 :]
            if kind == 7:
                return bytes(draw.randrange(256) for _ in range(draw.choice((1, 3, 20, 300))))
            return bytes((draw.choice((0x06, 0x15, 0x86, 0x95, 0x82, 0x81, 0x2F, 0xAF)),))

        driver = script(answer, password="1" if seed % 2 else "")
        if what == "run":
            generator = driver.conversation.run()
            with pytest.raises(AssertionError, match="a stall"):  # it has no end: by hand there is only a limit
                driver.drive(generator, 400)
        elif what == "read_out":
            driver.drive(driver.conversation.read_out())
        else:
            driver.drive(driver.conversation.read_registers([b"1.8.0", b"2.8.0"]))
        for told in driver.telegrams:
            assert set(told) <= right, (seed, told)


@pytest.mark.parametrize("noise_hz", [2, 5, 20, 200])
@pytest.mark.parametrize("what", ["read_out", "read_registers", "run"])
def test_noise_without_end_is_no_stall(what, noise_hz):
    """Flickering light brings a byte every now and then for ever: the attempt ends all the same."""
    for seed in range(3):
        it = Lab("C", noise=Noise(glitch_hz=noise_hz, glitch_ns=150_000, seed=seed))
        if what == "run":
            it.run(600 if seed < 2 else 100)
            assert seed > 1 or it.conversation.failures or it.telegrams
        elif what == "read_out":
            it.attempt(limit_s=900)
        else:
            it.registers(limit_s=900)
