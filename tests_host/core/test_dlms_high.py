"""A meter that must be convinced, and ciphers: each way of it against the simulated meter, the standard's own examples,
recorded conversations beside the clone, wrong passwords and keys, counters, and a line that does what it likes.
"""

import json
import os
import random
from pathlib import Path

import pytest
from support.unreliable_meter import Unreliable

from metering.dlms import association, high, own_cipher, xdlms
from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.dlms.high import High, Unconvinced
from metering.dlms.own_cipher import OwnCipher
from metering.dlms.security_options import SecurityOptions
from optoprobe.sessions.dlms import put_right
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, HIGH, MD5, SHA1, SHA256, Demands
from optoprobe.virtual.line import VirtualLine

KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))
TITLE = b"OPTtest1"
PASSWORD = "71043298"
STEP = 64
SESSIONS = int(os.environ.get("OPTOPROBE_DLMS_SESSIONS", "12"))
MAY_BE_ASKED = {0x60, 0xC0, 0xC3, 0x05}  # AARQ, GET, the proof's ACTION, READ
MAY_BE_SENT = MAY_BE_ASKED | {0xC8, 0xCB, 0x25, 0xD0, 0xD3, 0x45, 0xDB}
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "dlms_client"


class Kept:
    """What a flash keeps of counters; `writes` may fail."""

    def __init__(self, first=1):
        self.first = first
        self.writes = True

    def reserve(self, least):
        first = max(self.first, least)
        if not self.writes:
            return 0
        self.first = first + STEP
        return first


class Asked:
    def __init__(self, meter, options="", password="", keys=(KEY, AUTH_KEY), kept=None):
        self.meter = meter
        self.kept = kept or Kept(5000 if meter.has_short_names else 1)  # whose counter is not asked for
        self.listener = AskedValues()
        self.conversation = Conversation(self.listener, password=password)
        if keys:
            self.conversation.take_keys(*keys, TITLE, self.kept.reserve, STEP)
        self.conversation.take_options(
            options + " mode=IEC" * meter.has_sign_on + " type=SN" * meter.has_short_names
        )
        self.bench = Bench(meter, VirtualLine(meter.line))
        self.telegrams = []

    def read(self):
        self.telegrams = []
        return self.bench.converse(self.conversation.read_out(), on_telegram=self._note)

    def run(self, seconds):
        self.bench.converse(self.conversation.run(), until_s=self.bench.now_s + seconds, on_telegram=self._note)

    def _note(self, listener):
        self.telegrams.append({tuple(r.obis): (r.value, r.exponent) for r in listener.readings()})


def said(meter):
    numbers = {}
    for text, count, scaler, _ in meter.read:
        parts = text.replace("-", ".").replace(":", ".").replace("*", ".").split(".")
        numbers[tuple(map(int, parts))] = (count, scaler)
    return numbers


def demands(mechanism=GMAC, policy=0x30, **more):
    keys = {"key": KEY, "auth_key": AUTH_KEY} if mechanism == GMAC or policy else {}
    return Demands(mechanism, PASSWORD.encode() if mechanism != GMAC else b"", policy=policy, **(keys | more))


def plain(mechanism):
    return demands(mechanism, 0)


# --- each way ---------------------------------------------------------------------------------------------------------

WAYS = [
    *((plain(m), f"auth={name}", None) for m, name in ((HIGH, "HIGH"), (MD5, "HighMd5"), (SHA1, "HIGH_SHA1"))),
    (plain(SHA256), "auth=HIGHSHA256", None),
    (plain(GMAC), "security=NONE", (KEY, AUTH_KEY)),
    (demands(policy=0x10), "security=AUTHENTICATED", (KEY, AUTH_KEY)),
    (demands(policy=0x20), "security=ENCRYPTED", (KEY, AUTH_KEY)),
    (demands(), "", (KEY, AUTH_KEY)),
    (demands(), "ciphering=GENERAL", (KEY, AUTH_KEY)),
    (demands(), "ciphering=DEDICATED", (KEY, AUTH_KEY)),
    (demands(SHA1, 0x30), "auth=HIGHSHA1", (KEY, AUTH_KEY)),
]
IDS = [f"{way[0].mechanism}-{way[0].policy:02x} {way[1]}" for way in WAYS]


@pytest.mark.parametrize("ways", [{}, {"short_names": True}, {"sign_on": True, "quirks": ("segments", "blocks")}])
@pytest.mark.parametrize(("wanted", "options", "keys"), WAYS, ids=IDS)
def test_both_are_convinced_and_the_meter_is_read(wanted, options, keys, ways):
    asked = Asked(meter := AskedDlmsMeter(demands=wanted, **ways), options, wanted.password.decode(), keys)
    for _ in range(2):
        asked.bench.wait(1000)
        assert asked.read(), asked.conversation.explanation
        assert asked.telegrams == [said(meter)] and len(asked.telegrams[0]) == 13
        assert meter.events[-1] == "left properly, 13 values read" and not meter.is_linked
    assert asked.conversation.failures == 0 and asked.conversation.explanation == ""
    assert meter.served <= MAY_BE_ASKED and meter.sealed_tags <= MAY_BE_SENT
    heard = meter.security.heard_counters
    assert len(set(heard)) == len(heard) and bool(heard) == bool(keys)


def test_what_is_ciphered_is_not_in_the_clear_and_no_secret_ever_is():
    for wanted, options, keys in WAYS:
        asked = Asked(meter := AskedDlmsMeter(demands=wanted), options, wanted.password.decode(), keys)
        said_by_us = bytearray()
        send = asked.bench.send
        asked.bench.send = lambda data, send=send, said=said_by_us: (said.extend(data), send(data))[1]
        assert asked.read()
        for secret in (KEY, AUTH_KEY, PASSWORD.encode()):
            assert secret not in said_by_us
        if wanted.policy & 0x20:
            assert meter.sealed_tags.isdisjoint({0x05, 0xC3})


def test_low_goes_inside_a_ciphered_association_only_where_it_is_named():
    meter = AskedDlmsMeter(password=PASSWORD)
    asked = Asked(meter, "auth=LOW security=NONE client_address=32", PASSWORD)
    assert asked.read() and asked.telegrams == [said(meter)]


# --- the standard's examples, and recorded conversations --------------------------------------------------------------


def cipher(title=TITLE, policy="BOTH", first=1):
    options = SecurityOptions(["security=" + policy], b"", KEY, AUTH_KEY, title)
    return OwnCipher(options, KEY, AUTH_KEY, Kept(first).reserve, STEP)


def test_gmac_of_the_green_book():
    """DLMS UA 1000-2, the example of HLS with GMAC."""
    ours = cipher(bytes.fromhex("4d4d4d0000000001"))
    assert ours.proof(bytes.fromhex("503677524a323146")).hex() == "10000000011a52fe7dd3e72748973c1e28"


@pytest.mark.parametrize(
    ("policy", "apdu"),
    [
        ("AUTHENTICATED", "c81e1001234567c0010000080000010000ff020006725d910f9221d263877516"),
        ("ENCRYPTED", "c8122001234567411312ff935a47566827c467bc"),
        ("BOTH", "c81e3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b"),
    ],
)
def test_a_get_ciphered_as_in_the_green_book(policy, apdu):
    """DLMS UA 1000-2, table of the example "glo-get-request": clock, attribute 2."""
    ours = cipher(bytes.fromhex("4d4d4d0000bc614e"), policy, 0x01234567)
    ours.begin(b"")

    class Link:
        why = ""

    asked = xdlms.get(0x00, 8, bytes((0, 0, 1, 0, 0, 255)), 2)
    assert ours.seal(asked, Link).hex() == apdu


def _apdus(name):
    """(to the meter?, APDU) of a recorded conversation, HDLC in frames of their own or the wrapper."""
    file = CORPUS / f"{name}.txt"
    if not file.exists():
        pytest.skip("no recorded conversations beside the clone")
    for line in file.read_text().splitlines():
        if line[:1] in "<>":
            data = bytes.fromhex(line[1:].strip())
            if data[:1] != b"\x7e":
                yield line[0] == ">", put_right(data[8:])
            elif (at := max(data.find(b"\xe6\xe6\x00"), data.find(b"\xe6\xe7\x00"))) > 0:
                yield line[0] == ">", put_right(data[at + 3 : -3])


def _challenge(apdu):
    at = apdu.find(b"\x12\x80\x10")
    return apdu[at + 3 : at + 19]


class Replayed:
    """A link that knows what was answered, and wants to be asked as then."""

    def __init__(self, apdus):
        self.apdus = list(apdus)
        self.apdu = bytearray(515)
        self.n = 0
        self.why = ""
        self.cipher = None

    def request(self, apdu):
        apdu = self.cipher.seal(apdu, self) if self.cipher else apdu
        (_, asked), (_, answer) = self.apdus[:2]
        del self.apdus[:2]
        if apdu[0] != 0x60:
            assert apdu.hex() == asked.hex()
        self.apdu[: 3 + len(answer)] = b"\xe6\xe7\x00" + answer
        self.n = 3 + len(answer)
        return self.cipher is None or self.cipher.open(self)
        yield


def drive(conversation):
    try:
        while True:
            next(conversation)
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(("name", "auth"), [("ln_hdlc_md5", "HIGHMD5"), ("ln_wrapper_sha1", "HIGHSHA1")])
def test_recorded_proofs_are_ours_with_their_challenges(monkeypatch, name, auth):
    apdus = list(_apdus(name))
    monkeypatch.setattr(high.os, "urandom", lambda n: _challenge(apdus[0][1]))
    link = Replayed(apdus)
    options = SecurityOptions(["auth=" + auth], b"12345678", None, None, TITLE)
    ours = High(link, association.LN, 512, options, None)
    assert drive(ours.associate()) == "" and ours.detail == ""
    assert link.apdus[0][1][0] == 0xC0  # what comes next is a GET


def test_a_recorded_ciphered_conversation_is_ours_with_its_challenges_and_counters(monkeypatch):
    apdus = list(_apdus("ln_wrapper_gmac_ae"))
    security = json.loads((CORPUS / "ln_wrapper_gmac_ae.json").read_text())["security"]
    keys = [bytes.fromhex(security[name]) for name in ("guek", "gak")]
    title = bytes.fromhex(security["client_system_title"])
    monkeypatch.setattr(high.os, "urandom", lambda n: _challenge(apdus[0][1]))
    options = SecurityOptions(["ciphering=GLOBAL"], b"", *keys, title)
    link = Replayed(apdus)
    link.cipher = OwnCipher(options, *keys, Kept(0x190).reserve, STEP)
    ours = High(link, association.LN, 512, options, link.cipher)
    assert drive(ours.associate()) == "" and ours.detail == ""
    link.cipher._services = 1  # its other questions are of general-glo
    for item in ((1, (0, 0, 42, 0, 0, 255)), (3, (1, 1, 21, 25, 0, 255), 3), (3, (1, 1, 21, 25, 0, 255), 2)):
        class_id, obis, attribute = (*item, 2)[:3]
        assert drive(link.request(xdlms.get(0xC1, class_id, bytes(obis), attribute)))
        assert link.apdu[3] == 0xC4
    assert link.apdu[7 : link.n][-1] == 52


# --- nothing that writes ----------------------------------------------------------------------------------------------


def test_nothing_but_questions_and_the_proof_is_ciphered():
    ours = cipher()
    ours.begin(b"")
    allowed = {0x60} | set(own_cipher._ASKED)
    assert allowed == MAY_BE_ASKED
    for tag in range(256):
        apdu = bytes((tag, 1)) + bytes(20)
        if tag in allowed:
            assert ours.seal(apdu, None)
        else:
            with pytest.raises(KeyError):
                ours.seal(apdu, None)
    assert set(own_cipher._ASKED_GLO + own_cipher._ASKED_DED) | {0xDB} == MAY_BE_SENT - MAY_BE_ASKED


# --- wrong passwords, wrong keys, refusals ----------------------------------------------------------------------------

OTHER = bytes(16)
REFUSALS = [
    (plain(MD5), "auth=HIGHMD5", "12345678", None, "access denied"),
    (plain(SHA256), "auth=HIGHSHA256", "12345678", None, "access denied"),
    (plain(MD5), "auth=HIGHSHA1", PASSWORD, None, "mechanism not recognised"),
    (plain(MD5), "auth=LOW", PASSWORD, None, "mechanism not recognised"),
    (plain(GMAC), "security=NONE", "", (KEY, OTHER), "access denied"),
    (demands(), "", "", (OTHER, AUTH_KEY), "authentication failed"),
    (demands(), "", "", (KEY, OTHER), "authentication failed"),
    (demands(), "security=NONE", "", (KEY, AUTH_KEY), "context not supported"),
]


@pytest.mark.parametrize(("wanted", "options", "password", "keys", "words"), REFUSALS)
def test_a_wrong_password_or_key_is_tried_once_and_then_not_for_hours(wanted, options, password, keys, words):
    asked = Asked(AskedDlmsMeter(demands=wanted), options, password, keys)
    tried = []
    serve = asked.meter._associate
    asked.meter._associate = lambda apdu: (tried.append(asked.meter._is_public), serve(apdu))[1]
    asked.run(4 * 3600 - 60)
    assert tried.count(False) == 1 and asked.telegrams == []
    explanation = asked.conversation.explanation
    assert words in explanation and "refuses the password or key" in explanation
    assert all(secret not in explanation for secret in (PASSWORD, "12345678", KEY.hex()))
    asked.run(3600)
    assert tried.count(False) == 2 and not asked.meter.is_linked


def test_where_the_head_is_being_placed_no_key_is_tried():
    asked = Asked(AskedDlmsMeter(demands=demands()), keys=(OTHER, AUTH_KEY))
    asked.conversation.password_withheld = True
    assert not asked.read() and asked.meter.wrong_passwords == 0 and asked.meter.security.heard_counters == []


class Doctored(AskedDlmsMeter):
    """`change(answer)` is what it says in place of the answer, from answer number `first` on."""

    def __init__(self, change, first=0, **more):
        super().__init__(**more)
        self.change, self.left = change, first

    def _serve(self, apdu, at_s):
        answer = super()._serve(apdu, at_s)
        self.left -= not self._is_public
        return answer if self._is_public or self.left >= 0 else self.change(answer)


def flip(answer):
    return answer[:-1] + bytes((answer[-1] ^ 1,))


class Repeating:
    last = b""

    def __call__(self, answer):
        self.last = self.last or answer
        return self.last


@pytest.mark.parametrize(
    ("change", "first", "wanted", "options", "words"),
    [
        (flip, 1, plain(MD5), "auth=HIGHMD5", "own proof does not hold"),
        (flip, 1, plain(GMAC), "security=NONE", "own proof does not hold"),
        (lambda a: b"\xc7\x01\xc1\x00\x00", 1, plain(MD5), "auth=HIGHMD5", "no proof of its own"),
        (lambda a: a.replace(b"\xaa\x12\x80\x10", b"\xab\x12\x80\x10"), 0, plain(MD5), "auth=HIGHMD5", "challenge"),
        (lambda a: b"\xd8\x01\x05", 1, demands(), "", "cannot decipher"),
        (lambda a: b"\xd8\x01\x02", 1, demands(), "", "an exception"),
        (lambda a: b"\x61\x03\x00", 0, demands(), "", "damaged"),
        (flip, 1, demands(), "", "tag does not hold"),
        (flip, 2, demands(), "", "tag does not hold"),
        (lambda a: b"\xc4\x01\xc1\x00\x06\x00\x00\x00\x07", 3, demands(), "", "in the clear"),
        (Repeating(), 4, demands(), "", "counter falls"),
        (lambda a: a[:2] + b"\x20" + a[3:], 3, demands(), "", "another way"),
        (lambda a: a + bytes(600), 3, demands(), "", "more than was agreed"),
        (lambda a: b"\xdb\x08" + bytes(8) + a[1:], 3, demands(), "ciphering=GENERAL", "another system title"),
    ],
)
def test_what_a_meter_says_that_cannot_be_believed_is_no_reading(change, first, wanted, options, words):
    meter = Doctored(change, first, demands=wanted)
    keys = (KEY, AUTH_KEY) if wanted.key else None
    asked = Asked(meter, options, wanted.password.decode(), keys)
    asked.read()
    assert words in asked.conversation.explanation
    good = said(meter)
    assert all(good.get(code) == number for telegram in asked.telegrams for code, number in telegram.items())


def test_what_is_wrong_in_the_options_is_told_and_no_password_goes_out_then():
    for options, words in (
        ("auth=HIGHMD6", "auth is one of HIGH HIGHGMAC"),
        ("auth=HIGHMD5 secret=HEX", "hexadecimal"),
        ("auth=HIGHGMAC", "meter_key"),
        ("auth=HIGHECDSA", "signing_key=FILE"),
        ("security=BOTH auth=LOW", "meter_key"),
        ("ciphering=DEDICATED auth=LOW", "meter_key"),
        ("auth=HIGHSHA1 system_title=12", "16 hexadecimal"),
        ("auth=HIGHSHA1 system_title=zz", "hexadecimal digits"),
        ("auth=HIGHSHA1 counter=256", "counter is"),
    ):
        meter = AskedDlmsMeter(password=PASSWORD)
        asked = Asked(meter, options, PASSWORD[:-1] + "x", keys=None)
        assert words in asked.conversation.explanation, (options, asked.conversation.explanation)
        asked.read()
        assert meter.wrong_passwords == 0
    with pytest.raises(ValueError, match="16 bytes at the most"):
        SecurityOptions(["auth=HIGH"], b"x" * 17, None, None, TITLE)
    options = SecurityOptions(["auth=HIGH", "secret=HEX"], b"00ff" * 8, None, None, TITLE)
    assert options.secret == b"\x00\xff" * 8


def test_a_runtime_without_a_hash_says_so(monkeypatch):
    import hashlib

    monkeypatch.delattr(hashlib, "md5")
    asked = Asked(AskedDlmsMeter(demands=plain(MD5)), "auth=HIGHMD5", PASSWORD, None)
    assert "has no md5" in asked.conversation.explanation


# --- counters ---------------------------------------------------------------------------------------------------------


def test_the_counter_is_the_meters_own_where_it_tells_it_and_else_the_one_kept():
    kept = Kept(1)
    asked = Asked(meter := AskedDlmsMeter(demands=demands(counter=900_000)), kept=kept)
    assert asked.read() and meter.security.heard_counters[0] == 900_001 and kept.first >= 900_001 + STEP
    asked = Asked(meter := AskedDlmsMeter(demands=demands(counter=4000)), "counter=KEPT", kept=Kept(5000))
    assert asked.read() and meter.security.heard_counters[0] == 5000
    assert meter.events == ["left properly, 13 values read"]  # nobody else has asked


def test_a_counter_that_is_refused_is_named_and_the_next_one_is_above_what_the_meter_tells():
    """The meter has its proof's counter refused: it hears the ciphered services' only behind a higher one."""
    meter = AskedDlmsMeter(demands=demands(counter=4000))
    asked = Asked(meter, "counter=KEPT")
    meter.security._opened = lambda data, key, opened=meter.security._opened: opened(data, key) or b""
    meter.security.initiate = lambda data: b"\x01\x00"  # lets the association in
    assert not asked.read() and "refuses our invocation counter" in asked.conversation.explanation
    del meter.security.initiate
    assert asked.read(), asked.conversation.explanation
    assert asked.telegrams == [said(meter)]


def test_no_counter_is_used_twice_whenever_the_power_goes():
    """Cut at every action of two sessions, and on: what the flash keeps is all that is left."""
    kept = Kept()
    meter = AskedDlmsMeter(demands=demands())
    draw = random.Random(5)
    for _ in range(SESSIONS):
        asked = Asked(meter, "counter=KEPT" if draw.random() < 0.5 else "", kept=kept)
        asked.run(draw.choice((0.3, 0.7, 1.1, 2.0, 5.0, 9.0)))
        asked.bench.wait(31_000)
    heard = meter.security.heard_counters
    assert len(heard) > 60 and heard == sorted(set(heard), key=heard.index)


def test_a_flash_that_cannot_be_written_stops_what_needs_a_counter():
    kept = Kept()
    kept.writes = False
    asked = Asked(meter := AskedDlmsMeter(demands=demands()), kept=kept)
    assert not asked.read() and "no invocation counter" in asked.conversation.explanation
    assert meter.security.heard_counters == []
    ours = OwnCipher(SecurityOptions([], b"", KEY, AUTH_KEY, TITLE), KEY, AUTH_KEY, lambda least: 1 << 32, STEP)
    with pytest.raises(Unconvinced):
        ours.counter()


# --- whatever the line and the meter do -------------------------------------------------------------------------------


def test_a_bad_line_or_a_hostile_meter_brings_right_values_or_a_named_failure():
    draw = random.Random(180)
    good = 0
    for k in range(SESSIONS * 2):
        wanted, options, keys = WAYS[k % len(WAYS)]
        hostile = k % 2 == 1
        meter = Unreliable(draw, draw.choice((0.0, 0.05, 0.3)), hostile, demands=wanted, short_names=k % 3 == 0)
        asked = Asked(meter, options, wanted.password.decode(), keys)
        read = asked.read()
        good += read
        assert read or asked.conversation.failures == 1, k
        assert not asked.conversation.FAREWELL and meter.served <= MAY_BE_ASKED
        assert meter.sealed_tags <= MAY_BE_SENT
        heard = meter.security.heard_counters
        assert len(set(heard)) == len(heard)
        if wanted.policy & 0x10 or not hostile:  # a tag stands between a hostile line and a value
            values = said(meter)
            assert all(values[code] == number for telegram in asked.telegrams for code, number in telegram.items())
    assert good > SESSIONS // 2
