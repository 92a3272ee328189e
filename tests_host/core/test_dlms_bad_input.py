"""What a DLMS meter refuses or answers oddly is one sentence, the same in a notice and by `optoprobe read`; what was
read before it stays.

`read` is the command itself, in virtual time: its line alone is the bench's.
"""

import argparse

import pytest

from metering.dlms import result_words
from metering.line import EXPECT, WAIT
from optoprobe import cli
from optoprobe.commands import read as read_command
from optoprobe.virtual import dlms_encoder as enc
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, MD5, Demands
from optoprobe.virtual.line import VirtualLine

PASSWORD = "71043298"
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))
KEYS = ["--key", KEY.hex(), "--auth-key", AUTH_KEY.hex()]
JOBS = "obis_job=1.0.1.8.0.255:2,1.0.32.7.0.255:2,1.0.14.7.0.255:2"
NAMED = "the meter gives no 1.0.32.7.0.255 (%s): it is asked for again after a day"
ASSOCIATION = "the meter refuses the association (%s): it may want another client_address or a password"
SECRET = "the meter refuses the password or key (%s): it is not tried again for hours, as meters lock"
BROKEN = "the conversation with the meter broke off: %s"


class BenchLine:
    """As optoprobe.serial_line.SerialLine, but for the bytes."""

    name, trouble, asked = "the bench", "", False

    def __init__(self, meter):
        self._bench = Bench(meter, VirtualLine(meter.line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def drive(self, conversation, on_telegram, on_progress):
        def watched():
            answer = None
            while True:
                try:
                    action = conversation.send(answer)
                except StopIteration as end:
                    return end.value
                if action[0] in (EXPECT, WAIT):
                    on_progress(b"")
                answer = yield action

        return self._bench.converse(watched(), on_telegram=on_telegram)


@pytest.fixture
def read(monkeypatch, capsys, tmp_path):
    """read(meter, options, password, *words): (readings printed, sentences)."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(meter, options="", password="", *words):
        monkeypatch.setenv("OPTOPROBE_METER_PASSWORD", password)

        def line(args: argparse.Namespace):
            return BenchLine(meter)

        monkeypatch.setattr(read_command, "_line", line)
        more = ["--meter-options", options] if options else []
        code = cli.main(["read", "--port", "bench", "--protocol", "dlms-client", *more, *words])
        said = capsys.readouterr()
        n = said.out.count("1-0:")
        assert code == (0 if n else 1) and not meter.is_linked
        return n, [text.removeprefix("optoprobe read: ") for text in said.err.splitlines()]

    return run


def answer(result, diagnostic, by_provider=False, more=b""):
    body = b"\xa1\x09\x06\x07\x60\x85\x74\x05\x08\x01\x01\xa2\x03\x02\x01" + bytes((result,))
    body += b"\xa3\x05" + (b"\xa2" if by_provider else b"\xa1") + b"\x03\x02\x01" + bytes((diagnostic,)) + more
    return bytes((0x61, len(body))) + body


def refusing(said, **ways):
    meter = AskedDlmsMeter(**ways)
    meter._associate = lambda apdu: said
    return meter


WORDS = {
    0: "",
    1: "no reason given",
    2: "application context not supported",
    3: "calling AP title not recognised",
    4: "calling AP invocation identifier not recognised",
    5: "calling AE qualifier not recognised",
    6: "calling AE invocation identifier not recognised",
    7: "called AP title not recognised",
    8: "called AP invocation identifier not recognised",
    9: "called AE qualifier not recognised",
    10: "called AE invocation identifier not recognised",
    11: "authentication mechanism not recognised",
    12: "authentication mechanism required",
    13: "authentication failed",
    14: "authentication required",
    15: "diagnostic 15",
}
OF_PROVIDER = {
    0: "",
    1: "no reason given",
    2: "no common version of the association's protocol",
    3: "diagnostic 3 of the provider",
}
ERROR = b"\xbe\x06\x04\x04\x0e\x01\x06"
ANSWERS = {
    **{f"user {n}": (answer(1, n), f"refused for good: {text}") for n, text in WORDS.items()},
    **{f"provider {n}": (answer(1, n, True), f"refused for good: {text}") for n, text in OF_PROVIDER.items()},
    "for now": (answer(2, 13), "refused for now: authentication failed"),
    "another result": (answer(7, 0), "refused (result 7)"),
    "mechanism": (
        answer(1, 13, more=b"\x89\x07\x60\x85\x74\x05\x08\x02\x05"),
        "refused for good: authentication failed, by mechanism 5, HighGmac",
    ),
    "initiate": (
        answer(1, 1, more=ERROR + b"\x03"),
        "refused for good: no reason given, our PDUs are too small for it",
    ),
    "initiate alone": (answer(1, 0, more=ERROR + b"\x09"), "refused for good: initiate error 9"),
    "exception": (b"\xd8\x01\x02", "by an exception"),
    "service error": (b"\x0e\x01\x06\x01", "by an exception"),
}


WITH_PASSWORD = ("user 1", "user 13", "provider 1", "for now", "mechanism", "initiate", "exception")


@pytest.mark.parametrize(
    ("name", "password"), [*((name, "") for name in ANSWERS), *((name, PASSWORD) for name in WITH_PASSWORD)]
)
def test_each_way_to_refuse_an_association_is_told_in_words(read, name, password):
    said, words = ANSWERS[name]
    words = words.removesuffix(": ")
    meter = refusing(said, client=32 if password else 16)
    assert read(meter, "", password) == (0, [(SECRET if password else ASSOCIATION) % words + "."])
    assert len(meter.read) == 0 and meter.events[0] == "left properly, 0 values read"


def locked():
    meter = AskedDlmsMeter(password=PASSWORD)
    meter.wrong_passwords = 3
    return meter


MD5_METER = Demands(MD5, PASSWORD.encode())
KEYS_METER = Demands(GMAC, key=KEY, auth_key=AUTH_KEY, policy=0x30, counter=70_000)
FAILED = "refused for good: authentication failed"
REFUSALS = {
    "wrong password": (lambda: AskedDlmsMeter(password=PASSWORD), "", "87654321", [], SECRET % FAILED),
    "locked": (locked, "", PASSWORD, [], SECRET % FAILED),
    "no password": (
        lambda: AskedDlmsMeter(password=PASSWORD, client=16), "", "", [],
        ASSOCIATION % "refused for good: authentication required",
    ),
    "long names of a meter of short ones": (
        lambda: AskedDlmsMeter(short_names=True), "", "", [],
        ASSOCIATION % "refused for good: application context not supported",
    ),
    "unknown mechanism": (
        lambda: AskedDlmsMeter(demands=MD5_METER), "auth=HIGHSHA1", PASSWORD, [],
        SECRET % "refused for good: authentication mechanism not recognised",
    ),
    "Low in place of High": (
        lambda: AskedDlmsMeter(demands=MD5_METER, client=32), "", PASSWORD, [],
        SECRET % "refused for good: authentication mechanism not recognised",
    ),
    "a proof that is none": (
        lambda: AskedDlmsMeter(demands=MD5_METER), "auth=HIGHMD5", "87654321", [],
        SECRET % "our proof: access denied",
    ),
    "the same by short names": (
        lambda: AskedDlmsMeter(demands=MD5_METER, short_names=True), "auth=HIGHMD5 type=SN", "87654321", [],
        SECRET % "our proof: access denied",
    ),
    "another key": (
        lambda: AskedDlmsMeter(demands=KEYS_METER), "", "", ["--key", AUTH_KEY.hex(), "--auth-key", KEY.hex()],
        SECRET % FAILED,
    ),
    "a counter that is too low": (
        lambda: AskedDlmsMeter(demands=KEYS_METER), "counter=KEPT", "", KEYS,
        SECRET % FAILED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_who_is_not_let_in_is_told_why_in_one_sentence(read, name):
    make, options, password, words, wanted = REFUSALS[name]
    n, said = read(make(), options, password, *words)
    assert n == 0 and said == [wanted + "."], said
    assert not any(secret in said[0] for secret in (PASSWORD, "87654321", KEY.hex(), AUTH_KEY.hex()))


class Odd(AskedDlmsMeter):
    """Of one register it gives `instead` in place of the value: a result, or none."""

    instead = b""

    def _serve_plain(self, apdu, at_s):
        said = super()._serve_plain(apdu, at_s)
        if apdu[:2] == b"\xc0\x01" and apdu[5:12] == enc.obis_bytes("1-0:32.7.0*255") + b"\x02":
            self.read = [row for row in self.read if row[0] != "1-0:32.7.0*255"]
            return said[:3] + self.instead
        return said


RESULTS = {
    **{
        text: (bytes((1, n)), NAMED % text)
        for n, text in zip(result_words._NUMBERS, result_words._TEXTS, strict=True)
        if n not in (2, 250, 251)
    },
    "result 77": (b"\x01\x4d", NAMED % "result 77"),
    "other reason": (b"\x01\xfa", NAMED % "other reason"),
    "a bit string": (b"\x00\x04\x08\x55", NAMED % "data of an odd type"),
    "an array": (b"\x00\x01\x01\x12\x00\x01", NAMED % "data of an odd type"),
    "temporary failure": (b"\x01\x02", ""),
    "null-data": (b"\x00\x00", ""),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_register_that_is_not_to_be_had_is_told_and_the_others_stay(read, name):
    meter = Odd()
    meter.instead, wanted = RESULTS[name]
    n, said = read(meter, JOBS)
    assert (n, said) == (2, [wanted + "."] if wanted else []) and meter.events == ["left properly, 2 values read"]


def test_a_counter_that_is_refused_later_is_told_and_what_was_read_stays(read):
    class Overtaken(Odd):
        """Another client of the same keys has used higher counters."""

        def _get(self, item, at_s):
            if item[2:8] == enc.obis_bytes("1-0:32.7.0*255"):
                self.security.highest += 10_000
            return super()._get(item, at_s)

    n, said = read(meter := Overtaken(demands=KEYS_METER), JOBS, "", *KEYS)
    assert n == 1 and said == [BROKEN % "it refuses our invocation counter, as it has seen a higher one" + "."]
    assert "refuses the counter" in meter.events


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        (b"\x00\x09\x82\x02\x58" + bytes(600), "it sends more than was agreed"),
        (b"\x00", "result truncated"),
        (b"\x05\x00", "result of kind 5"),
    ],
    ids=["too long", "cut", "another result"],
)
def test_what_ends_the_conversation_is_told_and_what_was_read_stays(read, instead, words):
    meter = Odd()
    meter.instead = instead
    n, said = read(meter, JOBS)
    assert (n, said) == (1, [BROKEN % words + "."])
