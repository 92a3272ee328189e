"""Asking over M-Bus: what is told is what the simulated meter has told twice, whatever happens on the line."""

import contextlib
import itertools
import os
import random
from decimal import Decimal

import pytest
from support.by_hand import pauses_of_one_that_nobody_answers

from metering.line import EXPECT, LISTEN, SEND
from metering.listener import TELEGRAM
from metering.mbus.mbus_poll import Conversation
from metering.mbus.meter_reply import MeterReply
from metering.obis import obis_text
from metering.register import unit_symbol
from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.mbus_meter import MbusMeter
from optoprobe.virtual.source import Transmission
from optoprobe.virtual.uart import NS


def rows(listener):
    return [(obis_text(r.obis).removesuffix("*255"), r.text(), unit_symbol(r.unit) or "")
            for r in listener.published_readings() if len(r.obis) == 6]  # fmt: skip


def values(found):
    return sorted((code, Decimal(value), unit) for code, value, unit in found)


class Reader:
    """A conversation with `meter` on the virtual line; `told`: (what came out, what the meter had said) each time."""

    def __init__(self, meter, *, echo=False, noise=None, **options):
        self.listener = MeterReply()
        self.meter = meter
        self.conversation = Conversation(self.listener, **options)
        self.bench = Bench(meter, VirtualLine(meter.line, echo=echo, noise=noise))
        self.told = []

    def read_out(self, attempts=1):
        good = 0
        for _ in range(attempts):
            good += bool(self.bench.converse(
                self.conversation.read_out(),
                on_telegram=lambda ear: self.told.append((rows(ear), list(self.meter.said))),
            ))  # fmt: skip
        return good

    def all_right(self):
        return all(values(found) == values(said) for found, said in self.told)


@pytest.mark.parametrize("kind", ["heat", "water", "gas"])
@pytest.mark.parametrize("echo", [False, True])
def test_a_meter_is_read_exactly_and_asked_twice(kind, echo):
    meter = MbusMeter(kind)
    reader = Reader(meter, echo=echo)
    assert reader.read_out(2) == 2 and len(reader.told) == 2 and reader.all_right()
    assert meter.n_answers == 4 and reader.told[0][0]
    assert reader.listener.meter_id() == f"OPT-{meter.number}-1-{ {'heat': 4, 'water': 7, 'gas': 3}[kind] }"
    assert reader.conversation.explanation == "" and reader.conversation.failures == 0


def test_an_eye_that_sleeps_is_woken():
    meter = MbusMeter(quirks=["sleepy"])
    mute = Reader(meter)
    assert mute.read_out() == 0 and mute.conversation.failed["no answer"] == 1
    assert "wake-up" in mute.conversation.explanation and meter.woken == 0
    meter = MbusMeter(quirks=["sleepy"])
    reader = Reader(meter, wake_up=True)
    assert reader.read_out() == 1 and reader.all_right() and meter.woken == 1
    sent = b"".join(reader.bench.sent)
    assert sent.startswith(b"\x55" * 528 + b"\x10\x40") and sent.count(b"\x55") == 528


@pytest.mark.parametrize("baud", [300, 9600])
def test_another_rate_is_found(baud):
    reader = Reader(MbusMeter(baud=baud))
    assert reader.read_out(3) == 3 and reader.all_right()
    assert len(reader.bench.switches) == 3 + (1 if baud == 300 else 2)


def test_three_telegrams_by_the_frame_count_bit():
    reader = Reader(MbusMeter(quirks=["many"]))
    assert reader.read_out(2) == 2 and len(reader.told) == 6
    assert reader.told[1][0] == [("6-0:12.0.0", "37.3", "K")] and values(reader.told[0][0]) == values(reader.told[0][1])


def test_a_value_that_moves_between_two_answers_waits():
    reader = Reader(MbusMeter(quirks=["moving"]))
    assert reader.read_out() == 1 and reader.all_right()
    assert "6-0:9.0.0" not in [code for code, _, _ in reader.told[0][0]]


@pytest.mark.parametrize(
    ("address", "answered"),
    [("", True), ("5", True), ("6", False), ("21436588", True), ("2143FFFF", True), ("99999999", False)],
)
def test_by_address_and_by_number(address, answered):
    reader = Reader(MbusMeter(), address=address)
    assert reader.read_out() == answered and reader.all_right()


@pytest.mark.parametrize(
    ("address", "body", "detail"),
    [
        ("5", b"\x78" + mbus.record(0x04, "13", bytes(4)), "its address is 1"),
        ("21436588", mbus.header(21436589, "OPT", medium=4) + mbus.record(0x04, "13", bytes(4)), "is 21436589"),
        ("2143FFF8", mbus.header(21446588, "OPT", medium=4) + mbus.record(0x04, "13", bytes(4)), "is 21446588"),
        ("21436588", mbus.fixed(21436587, (1, 135), (0x29, 0x3E), medium=7), "is 21436587"),
        ("21436588", mbus.short_header() + mbus.record(0x04, "13", bytes(4)), "is not told"),
    ],
)
def test_of_another_meter_than_the_one_asked_nothing_is_told(address, body, detail):
    class Other(MbusMeter):
        def _answer(self, at_s):
            self._answers.append((at_s, mbus.frame(body), False))

    reader = Reader(Other(), address=address)
    assert reader.read_out() == 0 and reader.told == []
    assert reader.conversation.failed["another meter"] == 1 and detail in reader.conversation.explanation
    assert reader.listener.rejected["another meter"] == 3
    whoever = Reader(Other())
    assert whoever.read_out() == 1 and len(whoever.told) == 1


class Crowd:
    """Meters that answer at once: there is light where any of them sends a 0, and no parity tells."""

    def __init__(self, *meters):
        self.meters = meters
        self.line = meters[0].line
        self.said = []

    def receive(self, value, at_s):
        for meter in self.meters:
            meter.receive(value, at_s)

    def wake_s(self):
        return self.meters[0].wake_s()

    def poll(self, now_s, free_s):
        parts = [part for meter in self.meters if (part := meter.poll(now_s, free_s))]
        if not parts:
            return None
        data = bytearray(b"\xff" * max(len(part.data) for part in parts))
        for part in parts:
            for i, value in enumerate(part.data):
                data[i] &= value
        return Transmission(parts[0].at_s, bytes(data), telegram=False)


@pytest.mark.parametrize("address", ["", "5", "2143FFFF"])
def test_of_meters_that_answer_at_once_nothing_is_told(address):
    reader = Reader(Crowd(MbusMeter(seed=1), MbusMeter(seed=2)), address=address)
    assert reader.read_out(3) == 0 and reader.told == []
    assert reader.conversation.failures == 3 and reader.listener.rejected["checksum"] > 0
    assert sum(reader.conversation.failed.values()) == 3


@pytest.mark.parametrize("address", ["0", "251", "1234567", "ABCDEFGH", "-1", "x"])
def test_an_address_that_is_none_is_said_and_nothing_is_sent(address):
    reader = Reader(MbusMeter(), address=address)
    assert reader.read_out() == 0 and not reader.bench.sent
    assert "1 to 250, or its number of eight digits" in reader.conversation.explanation


@pytest.mark.parametrize("quirk", ["flipping", "lossy"])
def test_damage_that_its_sum_does_not_show_is_not_told(quirk):
    reader = Reader(MbusMeter(quirks=[quirk]))
    good = reader.read_out(30)
    assert good >= 25 and len(reader.told) == good
    for found, said in reader.told:
        assert set(values(found)) <= set(values(said))


@pytest.mark.parametrize("seed", range(12))
def test_noise_makes_no_wrong_value(seed):
    reader = Reader(MbusMeter(seed=seed), noise=Noise(seed=seed, glitch_hz=3.0, glitch_ns=300_000))
    assert reader.read_out(10) == len(reader.told) > 0
    for found, said in reader.told:
        assert set(values(found)) <= set(values(said))


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (mbus.header(1, "OPT", medium=4, configuration=0x0500) + bytes(16), "encrypted", "encrypts"),
        (b"\x70\x09", "error of the meter", "too often today (code 09: it was read too often)"),
        (b"\x70\x08\x08", "error of the meter", "(code 08: it is busy)"),
        (b"\x70\x31", "error of the meter", "(code 31)"),
        (b"\x70", "error of the meter", "(without a code)"),
        (b"\x99" + bytes(20), "bad data", "damaged"),
    ],
)
def test_what_cannot_be_read_is_said(body, reason, said):
    class Other(MbusMeter):
        def _answer(self, at_s):
            self._answers.append((at_s, mbus.frame(body), False))

    reader = Reader(Other())
    assert reader.read_out() == 0 and reader.told == []
    assert reader.conversation.failed[reason] == 1 and said in reader.conversation.explanation


def test_a_meter_that_has_lost_its_way_is_reset_once():
    reader = Reader(MbusMeter(quirks=["lost"]))
    assert reader.read_out(2) == 2 and reader.all_right() and reader.meter.resets == 1
    assert [frame for frame in reader.bench.sent if frame[:1] == b"\x68"] == [bytes.fromhex("6803036853fe50a116")]


@pytest.mark.parametrize("body", [mbus.header(21436587, "OPT", medium=4, status=0x10), b"\x78", b"\x78\x0f\x01"])
def test_an_answer_with_nothing_but_status_is_a_read_out_without_values(body):
    class Bare(MbusMeter):
        def _answer(self, at_s):
            self._answers.append((at_s, mbus.frame(body), False))

    reader = Reader(Bare())
    assert reader.read_out() == 1 and reader.told == [([], [])] and reader.conversation.failures == 0


def test_who_does_not_answer_is_asked_ever_more_rarely():
    pauses = pauses_of_one_that_nobody_answers(Conversation(MeterReply()).run(), 6)
    assert pauses == [30, 120, 600, 3600, 21600, 21600]


@pytest.mark.parametrize("seed", range(60))
def test_a_hostile_meter_makes_no_exception(seed):
    draw = random.Random(seed)

    class Hostile(MbusMeter):
        def _answer(self, at_s):
            super()._answer(at_s)
            at_s, good, told = self._answers.pop()
            body = draw.choice((mbus.header(1, "OPT", medium=4), b"\x78", b"\x73")) + draw.randbytes(draw.randrange(60))
            data = draw.choice((good, mbus.frame(body), draw.randbytes(draw.randrange(400)), b"\x68" * 300,
                                good[: draw.randrange(len(good))], good * 4))  # fmt: skip
            self._answers.append((at_s + draw.random() * 3, data, told))

    reader = Reader(Hostile())
    reader.read_out(4)
    assert sum(reader.conversation.failed.values()) == reader.conversation.failures
    assert reader.bench.virtual_line.now_ns < 400 * NS


@pytest.mark.parametrize("n", [0, 245, 246, 250, 253])
def test_the_longest_answers_are_taken_whole(n):
    """A frame of up to 261 bytes, of which a line action gathers 256."""

    class Long(MbusMeter):
        def parts(self, now_s):
            records = mbus.record(0x0C, "13", mbus.bcd(1234567, 4))
            body = records + b"\x2f" * max(0, n - 15 - len(records))
            return [(body, [("6-0:2.0.0", "1234.567", "m³")])]

    reader = Reader(Long())
    assert reader.read_out() == 1 and len(reader.told) == 1 and reader.all_right()


def test_light_that_never_ends_is_over_for_it():
    class Flicker(MbusMeter):
        def poll(self, now_s, free_s):
            return Transmission(free_s, bytes(random.Random(int(now_s * 1000)).randbytes(64)))

    reader = Reader(Flicker())
    assert reader.read_out() == 0 and reader.told == [] and reader.bench.now_s < 300
    assert sum(reader.conversation.failed.values()) == 1


def damaged(draw, data):
    """Some bits turned, bytes lost or come: what light does."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 2, 3, 6))):
        kind, at = draw.randrange(6), draw.randrange(len(data))
        if kind < 4:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 4:
            data[at] = draw.randrange(256)
        else:
            del data[at : at + draw.randrange(1, 3)]
    return bytes(data)


def test_of_two_damaged_answers_nothing_wrong_is_told():
    """OPTOPROBE_MBUS=500000 runs as many; of 500,000 pairs, either of them or both damaged, none told a wrong value."""
    draw = random.Random(11)
    meter = MbusMeter()
    ((records, said),) = meter.parts(0)
    right = set(values(said))
    told = 0
    for k in range(int(os.environ.get("OPTOPROBE_MBUS", "3000"))):
        first, second = (
            mbus.frame(mbus.header(12345678, "OPT", medium=4, access=k + n & 0xFF) + records) for n in (0, 1)
        )
        which = draw.randrange(3)
        listener = MeterReply()
        listener.hold()
        for data in (damaged(draw, first) if which else first, damaged(draw, second) if which != 1 else second):
            listener.feed(data, 0, len(data))
            while event := listener.next_event():
                if event == TELEGRAM and listener.number == "12345678":
                    told += 1
                    assert set(values(rows(listener))) <= right, (k, first.hex(), data.hex())
    assert told < 0.02 * k


def test_it_is_read_only():
    """What is sent is SND_NKE, REQ_UD2, a selection by number, the wake-up, and to errors an application reset."""
    answers = (b"", b"\xe5", mbus.frame(b"\x78" + mbus.record(0x04, "13", bytes(4)) + b"\x1f"), b"\x68\x03")
    sent = set()
    for address, heard in itertools.product(("", "7", "12345678"), itertools.product(answers, repeat=4)):
        listener = MeterReply()
        coming = itertools.chain(heard, itertools.repeat(heard[-1]))
        steps = Conversation(listener, address, wake_up=address == "7").read_out()
        action = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                given = None
                if action[0] == SEND:
                    sent.add(action[1])
                elif action[0] == EXPECT:
                    given = next(coming)
                elif action[0] == LISTEN:
                    given = listener.next_event()
                action = steps.send(given)
    kinds = {frame[1] for frame in sent if frame[0] == 0x10}
    others = {frame for frame in sent if frame[0] != 0x10 and set(frame) != {0x55}}
    assert kinds == {0x40, 0x7B, 0x5B}
    assert others == {bytes.fromhex("680b0b6853fd5278563412ffffffffb216")}
