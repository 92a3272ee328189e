"""Asking in the wrapper of TCP: against the simulated meter, and against answers that are none."""

import sys

import pytest

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.line import EXPECT, LISTEN, MAX_SENT, SEND
from metering.listener import TELEGRAM
from optoprobe.tcp_line import host_and_port
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, Demands

PASSWORD = "71043298"
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))


class Asked:
    """A meter and who asks it; `change(said)` is done to all that the meter says behind its `n`th answer."""

    def __init__(self, options="", change=None, n=0, **meter):
        self.meter = AskedDlmsMeter(wrapped=True, **meter)
        self.conversation = Conversation(AskedValues(), password=meter.get("password", ""))
        if meter.get("demands"):
            self.conversation.take_keys(KEY, AUTH_KEY, b"OPTtest1", lambda least: max(least, 1), 64)
        self.conversation.take_options("mode=DLMS-WRAPPER " + options)
        self.change = change or (lambda said: said)
        self.n = n

    def read(self):
        """Carry out one attempt, each action a second."""
        actions = self.conversation.read_out()
        answer, now_s, heard, n_answers = None, 0.0, b"", 0
        while True:
            try:
                action = actions.send(answer)
            except StopIteration as end:
                return end.value
            now_s += 1
            answer = None
            if action[0] == SEND:
                assert len(action[1]) <= MAX_SENT
                for value in action[1]:
                    self.meter.receive(value, now_s)
                while (said := self.meter.poll(now_s + 9, now_s)) is not None:
                    heard += self.change(said.data) if n_answers >= self.n else said.data
                    n_answers += 1
            elif action[0] == EXPECT:
                taken = action[1](heard[:256], len(heard[:256])) or len(heard[:256])
                answer, heard = heard[:taken], heard[taken:]
            elif action[0] == LISTEN:
                answer = action[1].next_event()
                assert answer == TELEGRAM


@pytest.mark.parametrize("meter", [{}, {"quirks": ("blocks",)}, {"short_names": True}, {"password": PASSWORD}])
def test_a_meter_is_read_and_released(meter):
    asked = Asked("type=SN" if meter.get("short_names") else "", **meter)
    assert asked.read() and asked.meter.events == ["left properly, 13 values read"]
    assert asked.meter.served == {0x60, 0x62, 0x05 if meter.get("short_names") else 0xC0}
    values = asked.conversation._listener._values
    read = {"{}-{}:{}.{}.{}*{}".format(*reading.obis): reading.value for reading in values}
    assert read == {row[0]: row[1] for row in asked.meter.read}


@pytest.mark.parametrize("ciphering", ["GLOBAL", "GENERAL", "DEDICATED"])
def test_a_meter_is_convinced_by_keys_and_the_public_client_asks_for_the_counter_first(ciphering):
    wanted = Demands(GMAC, key=KEY, auth_key=AUTH_KEY, policy=0x30, counter=70_000)
    asked = Asked("ciphering=" + ciphering, demands=wanted)
    assert asked.read(), asked.conversation.explanation
    assert asked.meter.events == ["left properly, 0 values read", "left properly, 13 values read"]
    heard = asked.meter.security.heard_counters
    assert heard[0] == 70_001 and len(set(heard)) == len(heard)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: b"", "its answers fail to come"),
        (lambda said: said[:5], "cut off"),
        (lambda said: said[:-1], "cut off"),
        (lambda said: b"\x7e" + said, "in no wrapper"),
        (lambda said: said[:6] + b"\xff\xff" + said[8:], "more than was agreed"),
        (lambda said: said[:6] + b"\x00\x00", "empty"),
        (lambda said: said[:3] + b"\x09" + said[4:], "its answers fail to come"),
        (lambda said: (said[:3] + b"\x09" + said[4:]) * 9, "others'"),
    ],
)
def test_what_comes_in_place_of_an_answer_is_one_sentence(change, words):
    asked = Asked(change=change, n=3)
    assert not asked.read()
    assert words in asked.conversation.explanation and asked.conversation.failed["bad data"] == 1
    assert asked.meter.events[-1].startswith("left properly") and not asked.conversation.FAREWELL


def test_an_answer_to_another_comes_before_ours_and_is_passed_over():
    asked = Asked(change=lambda said: said[:3] + b"\x09" + said[4:] + said)
    assert asked.read()


def test_who_is_not_let_in_is_told_what_may_be_wrong():
    asked = Asked("client_address=17")
    assert not asked.read() and "another client_address" in asked.conversation.explanation


def test_a_board_has_no_wrapper_and_says_so(monkeypatch):
    conversation = Conversation(AskedValues())
    monkeypatch.setitem(sys.modules, "metering.on_computer.wrapper_link", None)
    conversation.take_options("mode=DLMS-WRAPPER")
    assert "optoprobe read --tcp" in conversation.explanation and conversation.FAREWELL == b""


@pytest.mark.parametrize(
    ("text", "found"),
    [("meter", ("meter", 4059)), ("10.1.2.3:4061", ("10.1.2.3", 4061)), ("[fe80::1]:5", ("fe80::1", 5)),
     ("fe80::1", ("fe80::1", 4059)), ("[::1]", ("::1", 4059))],
)  # fmt: skip
def test_where_the_meter_is(text, found):
    assert host_and_port(text) == found


@pytest.mark.parametrize("text", ["", ":4059", "meter:", "meter:0", "meter:70000", "meter:x"])
def test_what_names_no_meter_is_told(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        host_and_port(text)
