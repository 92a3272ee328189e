"""Asking a DLMS meter on the runtime of a board says, and reads, the same as on this computer, byte for byte."""

import random

import pytest
from support.core_on_micropython import printed, printed_by_cpython

from metering.dlms import high
from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.line import EXPECT
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, HIGH, MD5, SHA256, Demands
from optoprobe.virtual.line import VirtualLine

PASSWORD = "71043298"


class Drawn:
    """For random bytes."""

    def urandom(self, n):
        return bytes(range(7, 7 + n))


def answers(options, sign_on, quirks, draw, demands=None):
    """What came at each EXPECT of three sessions; of the last one every fourth is damaged."""
    more = {"short_names": "type=SN" in options, "quirks": quirks, "demands": demands}
    meter = AskedDlmsMeter(sign_on=sign_on, password="" if demands else PASSWORD, **more)
    conversation = Conversation(AskedValues(), "", PASSWORD)
    if demands and demands.key:
        keys = demands.key, demands.auth_key
        conversation.take_keys(*keys, b"OPTtest1", lambda least: max(least, 1), 4096)
    kept = []
    conversation.keep_by(lambda: kept[-1] if kept else None, kept.append)
    conversation.take_options(options)
    bench = Bench(meter, VirtualLine(meter.line))
    found = []

    def noted(actions, damages):
        answer = None
        while True:
            try:
                action = actions.send(answer)
            except StopIteration as end:
                return end.value
            answer = yield action
            if action[0] == EXPECT:
                if answer and damages and draw.random() < 0.25:
                    k = draw.randrange(len(answer))
                    answer = draw.choice((answer[:k], answer[:k] + bytes((answer[k] ^ 0x10,)) + answer[k + 1 :]))
                found.append(answer)

    for damages in (False, False, True):
        bench.converse(noted(conversation.read_out(), damages))
    return found


@pytest.mark.parametrize(
    ("options", "sign_on", "quirks"),
    [("-", False, ("segments", "blocks")), ("mode=IEC", True, ("double", "floats")), ("type=SN", False, ())],
)
def test_both_runtimes_say_and_read_the_same(tmp_path, core, options, sign_on, quirks):
    came = answers(options.strip("-"), sign_on, quirks, random.Random(18))
    file = tmp_path / "answers.txt"
    file.write_text("".join(answer.hex() + "\n" for answer in came))
    out = printed(core, "dlms_asked.py", options, PASSWORD, file)
    assert out == printed_by_cpython("dlms_asked.py", options, PASSWORD, file)
    assert out.count("telegram 1") >= 2 and out.count("\nsays ") > 50 and "1 0 1 8 0 255 4712" in out
    assert "keeps [[" in out  # which registers are refused, and which short names there are


SECURED = [
    (Demands(MD5, PASSWORD.encode()), "auth=HIGHMD5"),
    (Demands(SHA256, PASSWORD.encode()), "auth=HIGHSHA256"),
    (Demands(HIGH, PASSWORD.encode()), "auth=HIGH"),
    (Demands(GMAC, key=bytes(range(16)), auth_key=bytes(range(0xD0, 0xE0)), policy=0x30), "ciphering=GLOBAL"),
]


@pytest.mark.parametrize(("demands", "options"), SECURED)
def test_both_runtimes_convince_and_cipher_the_same(tmp_path, core, monkeypatch, demands, options):
    monkeypatch.setattr(high, "os", Drawn())
    keys = ["keys"] * bool(demands.key)
    if not keys:
        options += " type=LN"
    came = answers(options, False, (), random.Random(18), demands)
    file = tmp_path / "answers.txt"
    file.write_text("".join(answer.hex() + "\n" for answer in came))
    out = printed(core, "dlms_asked.py", options, PASSWORD, file, *(keys or ["drawn"]), heap="96k")
    assert out == printed_by_cpython("dlms_asked.py", options, PASSWORD, file, *(keys or ["drawn"]))
    assert out.count("telegram 1") >= 2 and "1 0 1 8 0 255 4712" in out
