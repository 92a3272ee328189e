"""A DLMS meter that answers anything: no exception, no stall, no growth, and it is always left properly.

One conversation goes through all runs of a way, so that what it keeps would pile up. OPTOPROBE_DLMS_HOSTILE says how
many runs there are (300; 5,000 have been made).
"""

import os
import random
import sys

import pytest
from support.dlms_attempt import attempt

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter

RUNS = int(os.environ.get("OPTOPROBE_DLMS_HOSTILE", "300"))
JOBS = "obis_job=1.0.1.8.0.255:2,1.0.1.4.0.255:3,1.0.9.9.9.255:2,0.0.96.1.0.255:2"
WAYS = {
    "long names": ({}, ""),
    "short names": ({"short_names": True}, "type=SN " + JOBS),
    "blocks": ({"quirks": ("blocks",)}, JOBS),
    "sign-on": ({"sign_on": True, "quirks": ("segments",)}, "mode=IEC " + JOBS),
    "wrapper": ({"wrapped": True}, "mode=DLMS-WRAPPER " + JOBS),
}
READ_ONLY = {0x60, 0x62, 0xC0, 0x05}  # AARQ, release, GET, READ


class Hostile(AskedDlmsMeter):
    """`says` anything in place of three of ten answers: of a service within a good frame, or any bytes at all."""

    def __init__(self, draw, **ways):
        super().__init__(**ways)
        self.draw = draw
        self.is_hostile = True

    def _serve(self, apdu, at_s):
        return self.changed(super()._serve(apdu, at_s), 0.15)

    def _say(self, at_s, data, behind=None, ends=False):
        super()._say(at_s, self.changed(data, 0.05), behind, ends)

    def changed(self, said, rate):
        draw = self.draw
        if not self.is_hostile or draw.random() >= rate:
            return said
        kind = draw.randrange(5)
        k = draw.randrange(len(said) + 1)
        if kind == 0:
            return bytes(draw.randrange(256) for _ in range(draw.randrange(1, 300)))
        if kind == 1:
            return said[:k] or b"\x00"
        if kind == 2:
            return said[:k] + bytes((draw.randrange(256),)) + said[k + 1 :]
        return said + (said if kind == 3 else bytes(draw.randrange(700)))


def size_of(thing, seen):
    """Bytes that `thing` keeps, as far as our own objects and plain containers go."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    n = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return n + sum(size_of(part, seen) for item in thing.items() for part in item)
    if isinstance(thing, (list, tuple)):
        return n + sum(size_of(part, seen) for part in thing)
    if type(thing).__module__.startswith("metering"):
        return n + size_of(vars(thing), seen)
    return n


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_meter_answers(way):
    ways, words = WAYS[way]
    draw = random.Random(way)
    conversation = Conversation(AskedValues())
    conversation.take_options(words)
    largest, read, most_s = 0, 0, 0.0
    runs = max(RUNS // len(WAYS), 20)
    for k in range(runs):
        meter = Hostile(draw, **ways)
        sent, took_s = attempt(conversation, meter)
        most_s = max(most_s, took_s)
        read += bool(conversation._listener._values)
        assert meter.served <= READ_ONLY and not conversation.FAREWELL
        if meter.served:  # it had a link: the last word is the farewell, and then silence
            assert sent[-1] == conversation._link.farewell()
        size = size_of(conversation, set())
        if k < runs // 2:
            largest = max(largest, size)
        conversation._registers.wanted.rest(86400)
    assert size <= largest + 2048
    assert 0 < read and most_s < 600
    conversation._registers.getter.forget()
    for _ in range(2):  # and it reads on: another meter may have been thought to be there
        attempt(conversation, AskedDlmsMeter(**ways))
    assert conversation._listener._values and conversation.explanation == conversation._registers.wanted.told


@pytest.mark.parametrize("short_names", [False, True])
def test_blocks_without_end_are_no_value(short_names):
    """The first one holds all of a value, and none of those behind it says that it is the last."""

    class Endless(AskedDlmsMeter):
        asked = 0

        def _serve(self, apdu, at_s):
            n = AskedDlmsMeter._serve(self, apdu, at_s)
            if apdu[:3] == b"\x05\x01\x05" or apdu[:2] == b"\xc0\x02":
                self.asked += 1
                self.block += 1
            elif n[:3] == b"\x0c\x01\x00" and n[3] == 6 or n[:2] == b"\xc4\x01" and n[3:5] == b"\x00\x06":
                self.block, self.value = 1, n[1:] if short_names else n[4:]
            else:
                return n
            value, self.value = self.value, b""
            head = b"\x0c\x01\x02\x00" if short_names else b"\xc4\x02" + apdu[2:3] + b"\x00\x00\x00"
            is_good = b"" if short_names else b"\x00"
            return head + self.block.to_bytes(2, "big") + is_good + bytes((len(value),)) + value

    conversation = Conversation(listener := AskedValues())
    conversation.take_options("type=SN " * short_names + "obis_job=1.0.1.8.0.255:2")
    attempt(conversation, meter := Endless(short_names=short_names))
    assert 50 < meter.asked < 1000 and not list(listener.readings())
