"""Asking a DLMS meter: the conversation on the bit-accurate line, against a simulated meter, a bad line, a hostile one.

What must come out is the simulated meter's own rows; its frames are made by another code than ours.
"""

import os
import random
from decimal import Decimal

import pytest
from support.unreliable_meter import Unreliable

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.dlms.client_options import Options
from metering.dlms.hdlc_link import frame_end
from metering.iec62056_21 import poll
from metering.iec62056_21.data_block import Iec62056_21
from metering.line import EXPECT, LISTEN, MAX_SENT, SEND, WAIT, Line
from optoprobe.capture_file import Capture, Segment
from optoprobe.masking import mask
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import QUIRKS, AskedDlmsMeter
from optoprobe.virtual.line import VirtualLine

PASSWORD = "71043298"
SESSIONS = int(os.environ.get("OPTOPROBE_DLMS_SESSIONS", "24"))
READ_ONLY = {0x60, 0xC0}  # AARQ and GET, or READ by short names: all that this conversation says


class Asked:
    """One meter, and who asks it, on a line."""

    def __init__(self, meter, options="", password="", echo=False):
        self.meter = meter
        self.listener = AskedValues()
        self.conversation = Conversation(self.listener, password=password)
        usual = "mode=IEC " * meter.has_sign_on + "type=SN" * meter.has_short_names
        self.conversation.take_options(options or usual)
        self.bench = Bench(meter, VirtualLine(meter.line, echo=echo))
        self.telegrams = []

    def read(self):
        self.telegrams = []
        good = self.bench.converse(self.conversation.read_out(), on_telegram=self._note)
        assert all(len(said) <= MAX_SENT for said in self.bench.sent)
        return good

    def run(self, seconds):
        self.bench.converse(self.conversation.run(), until_s=self.bench.now_s + seconds, on_telegram=self._note)

    def _note(self, listener):
        self.telegrams.append({code_of(reading): reading.text() for reading in listener.readings()})

    @property
    def reason(self):
        return ", ".join(reason for reason, n in self.conversation.failed.items() if n)


def code_of(reading):
    return "{}-{}:{}.{}.{}*{}".format(*reading.obis)


def shown(rows):
    texts = {}
    for code, count, scaler, _ in rows:
        digits = str(count).rjust(1 - scaler, "0")
        texts[code] = digits[:scaler] + "." + digits[scaler:] if scaler else digits
    return texts


@pytest.mark.parametrize("ways", [{}, {"sign_on": True}, {"short_names": True}], ids=["HDLC", "mode E", "short names"])
@pytest.mark.parametrize("quirks", [(), *((quirk,) for quirk in QUIRKS), ("segments", "blocks", "drop", "double")])
def test_a_meter_is_read_exactly_and_left_properly(ways, quirks):
    if "read_out" in quirks:
        return  # its own test
    asked = Asked(meter := AskedDlmsMeter(**ways, quirks=quirks))
    for _ in range(2):
        asked.bench.wait(1000)
        assert asked.read(), asked.conversation.explanation
        wanted = shown(row for row in meter.read if row[3] != 35 or "odd" not in quirks)
        assert len(wanted) == (10 if "odd" in quirks else 13)
        if "floats" in quirks:  # they do not say how many digits they have
            volts = ("1-0:32.7.0*255", "1-0:52.7.0*255", "1-0:72.7.0*255")
            wanted |= {code: wanted[code].removesuffix(".0") for code in volts}
        assert asked.telegrams == [wanted]
        assert asked.listener.meter_id() == ("OPT" if "nameless" in quirks else "") + meter.number
        assert meter.events[-1].startswith("left properly") and not meter.is_linked
    odd = "the meter gives no 1.0.72.7.0.255 (data of an odd type): it is asked for again after a day"
    assert asked.conversation.failures == 0 and asked.conversation.explanation == odd * ("odd" in quirks)
    assert meter.served == ({0x60, 0x05} if ways.get("short_names") else READ_ONLY)


def test_the_first_reading_takes_seconds_and_then_a_scan_less_than_a_second_a_register():
    for sign_on, most_s in ((False, 6), (True, 12)):
        asked = Asked(AskedDlmsMeter(sign_on=sign_on))
        asked.read()
        assert asked.bench.now_s < most_s
        before_s, n = asked.bench.now_s, asked.meter.requests
        asked.read()
        assert asked.bench.now_s - before_s < 13 - 6
        assert asked.meter.requests - n == 1 + 13 + 1  # number, values, clock: no scale twice, nothing that was refused


def test_what_was_refused_is_asked_again_after_a_day_and_scales_are_another_meters_no_more():
    asked = Asked(AskedDlmsMeter())
    asked.read()
    n_refused = len(asked.meter.refused)
    assert n_refused == 13
    asked.read()
    assert len(asked.meter.refused) == n_refused
    asked.conversation._registers.wanted.rest(86400)
    asked.read()
    assert len(asked.meter.refused) == 2 * n_refused
    asked.meter.number = "99999999"
    n = asked.meter.requests
    asked.read()
    assert asked.listener.meter_id() == "99999999" and asked.meter.requests - n == 1 + 2 * 13 + 13 + 1


class Changing(AskedDlmsMeter):
    """Counts in tenths of what it counted in before, from one moment on; of a dead phase it tells nothing."""

    is_finer = is_dead = False

    def _rows(self, at_s):
        finer = self.is_finer
        return [(obis, n * 10 if finer else n, scaler - finer, unit) for obis, n, scaler, unit in super()._rows(at_s)]

    def _objects(self, at_s):
        found = super()._objects(at_s)
        if self.is_dead:
            found["1-0:52.7.0*255"][1][2] = b"\x00"
        return found


@pytest.mark.parametrize("hour", [False, True])
@pytest.mark.parametrize("nameless", [False, True])
@pytest.mark.parametrize("options", ["", "obis_job=1.0.1.8.0.255:2,1.0.32.7.0.255:2"])
def test_another_scale_is_heard_of_at_once_as_the_counts_leap(options, nameless, hour):
    asked = Asked(Changing(), options)
    if nameless:
        asked.meter._get = lambda item, at_s: (
            b"\x01\x03" if item[:2] == b"\x00\x01" else AskedDlmsMeter._get(asked.meter, item, at_s)
        )
    assert asked.read()
    asked.meter.is_finer = True
    if hour:
        asked.conversation._registers.wanted.rest(3600)
    asked.bench.wait(1000)
    assert asked.read()
    told = shown(asked.meter.read)
    assert told["1-0:32.7.0*255"][-3] == "."
    (read,) = asked.telegrams
    assert len(read) == (2 if options else 13)
    for code, text in read.items():  # nothing has leapt where it was nothing before
        assert text == told[code] or Decimal(text) == 0 == Decimal(told[code])


@pytest.mark.parametrize("options", ["", "obis_job=1.0.1.8.0.255:2,1.0.52.7.0.255:2"])
def test_a_register_that_holds_nothing_now_is_asked_for_again(options):
    asked = Asked(Changing(), options)
    for asked.meter.is_dead in (False, True, False):
        assert asked.read() and ("1-0:52.7.0*255" in asked.telegrams[0]) is not asked.meter.is_dead
        asked.bench.wait(1000)


def test_who_refuses_all_is_asked_again_after_an_hour():
    asked = Asked(meter := AskedDlmsMeter())
    meter._get = lambda item, at_s: b"\x01\x01" if item[:2] == b"\x00\x03" else AskedDlmsMeter._get(meter, item, at_s)
    assert not asked.read() and asked.reason == "nothing readable"
    del meter._get
    assert not asked.read()
    asked.conversation._registers.wanted.rest(3600)
    assert asked.read() and asked.telegrams == [shown(meter.read)]


def test_a_password_is_given_and_a_wrong_one_once_then_not_for_hours():
    asked = Asked(AskedDlmsMeter(password=PASSWORD), password=PASSWORD)
    assert asked.read() and asked.telegrams == [shown(asked.meter.read)]
    asked = Asked(AskedDlmsMeter(password=PASSWORD), password="12345678")
    asked.run(4 * 3600 - 60)
    assert asked.meter.wrong_passwords == 1 and asked.reason == "password refused"
    assert (
        "authentication failed" in asked.conversation.explanation and "12345678" not in asked.conversation.explanation
    )
    asked.run(20 * 3600)
    assert asked.meter.wrong_passwords == 2
    assert not asked.meter.is_linked


def test_where_the_head_is_being_placed_no_password_is_tried():
    asked = Asked(AskedDlmsMeter(password=PASSWORD), password="12345678")
    asked.conversation.password_withheld = True
    assert not asked.read() and asked.meter.wrong_passwords == 0
    assert asked.meter.events == ["left properly, 0 values read"] and not asked.conversation.failures


def test_a_password_without_a_verdict_is_tried_twice_at_the_most():
    class Mute(AskedDlmsMeter):
        tried = 0

        def _associate(self, apdu):
            self.tried += 1
            self.quirks = frozenset()
            return super()._associate(apdu)[:0]

    asked = Asked(Mute(password=PASSWORD), password=PASSWORD)
    asked.run(3 * 3600)
    assert asked.meter.tried == 2


@pytest.mark.parametrize(
    ("meter", "options", "reason", "words"),
    [
        ({"password": PASSWORD, "client": 16}, "", "association refused", "authentication required"),
        ({"server": b"\x02\x23"}, "", "no answer", "their own address"),
        ({"sign_on": True}, "mode=DLMS", "no answer", "mode=IEC"),
        ({}, "mode=IEC", "no answer", "does not answer"),
    ],
)
def test_a_failure_is_one_sentence(meter, options, reason, words):
    asked = Asked(AskedDlmsMeter(**meter), options)
    assert not asked.read() and asked.telegrams == []
    assert asked.reason == reason and words in asked.conversation.explanation
    assert asked.conversation.explanation.count("\n") == 0


@pytest.mark.parametrize(
    ("meter", "options"),
    [
        ({"server": b"\x02\x23"}, "physical_address=17"),
        ({"server": b"\x00\x02\x00\x23"}, "physical_address=17 address_size=4"),
        ({"server": bytes.fromhex("000224eb"), "client": 32}, "serial_number=77311421 client_address=32"),
        ({"client": 100}, "client_address=100 auth=NONE"),
    ],
)
def test_addresses_are_those_of_the_options(meter, options):
    asked = Asked(AskedDlmsMeter(**meter), options)
    assert asked.read() and asked.telegrams == [shown(asked.meter.read)]


def test_short_names_are_read_once_and_are_another_meters_no_more():
    asked = Asked(meter := AskedDlmsMeter(short_names=True))
    assert asked.read()
    first = meter.requests
    assert asked.read() and meter.requests - first == 1 + 13 + 1
    before = meter.requests
    meter.number = "99999999"
    assert not asked.read() and "another meter" in asked.conversation.explanation and asked.telegrams == []
    assert asked.read() and asked.listener.meter_id() == "99999999" and meter.requests - before >= 30


def test_short_names_of_a_meter_that_tells_no_number_are_read_each_time():
    asked = Asked(meter := AskedDlmsMeter(short_names=True, quirks=["nameless"]))
    meter._objects = lambda at_s: {
        code: row for code, row in AskedDlmsMeter._objects(meter, at_s).items() if code != "0-0:42.0.0*255"
    }
    for meter.first_name in (0x7000, 0x6F00):
        assert asked.read() and asked.telegrams == [shown(meter.read)]
        asked.bench.wait(1000)


def test_elgama_is_addressed_by_its_serial_number_and_asked_by_short_names_behind_a_sign_on():
    """Serial addressing (physical = serial % 10000 + 1000), client 32, Low, mode E: GAMA 100 and 300."""
    server = bytes.fromhex("000224eb")
    meter = AskedDlmsMeter(server=server, sign_on=True, short_names=True, password=PASSWORD)
    asked = Asked(meter, "serial_number=77311421 client_address=32 mode=IEC type=SN", PASSWORD)
    assert asked.read() and asked.telegrams == [shown(meter.read)]


@pytest.mark.parametrize("damage", ["entry", "array", "cut", "refused", "block"])
def test_a_list_of_short_names_that_is_none_is_a_named_failure(damage):
    class Odd(AskedDlmsMeter):
        def _read_name(self, name, at_s):
            listed = super()._read_name(name, at_s)
            if name != 0xFA08 or not damage:
                return listed
            at = {"entry": 3 + 18 + 2, "array": 1, "cut": 2}.get(damage)
            if damage == "refused":
                return b"\x01\x03"
            return listed if at is None else listed[:at] + bytes((listed[at] ^ 0x44,)) + listed[at + 1 :]

        def _next_read_block(self):
            said = super()._next_read_block()
            return said[:5] + bytes((said[5] + 1,)) + said[6:] if damage == "block" else said

    asked = Asked(Odd(short_names=True, quirks=("blocks",) if damage == "block" else ()))
    assert not asked.read() and asked.reason == "bad data" and asked.telegrams == []
    words = "a block is missing" if damage == "block" else "list of short names"
    assert words in asked.conversation.explanation and not asked.meter.is_linked


def test_jobs_are_read_in_place_of_the_usual_registers():
    asked = Asked(AskedDlmsMeter(), "obis_job=1.0.1.8.0.255:2,1.0.9.9.9.255,1.0.14.7.0.255")
    assert asked.read()
    assert list(asked.telegrams[0]) == ["1-0:1.8.0*255", "1-0:14.7.0*255"]
    said = "the meter gives no 1.0.9.9.9.255 (object undefined): it is asked for again after a day"
    assert asked.conversation.explanation == said
    asked.bench.wait(3000)
    assert asked.read() and asked.conversation.explanation == said


@pytest.mark.parametrize(
    "text",
    ["client_address=128", "client_address", "physical_address=x", "nonsense", "mode=SN", "type=XN",
     "obis_job=1.8.0", "obis_job=1.0.1.8.0.999", "address_size=3", "serial_number=12345678901"],
)  # fmt: skip
def test_wrong_options_are_told_and_not_heeded(text):
    with pytest.raises(ValueError, match=text.partition("=")[0].split("_")[0]):
        Options(text)
    asked = Asked(AskedDlmsMeter(), text)
    assert text.partition("=")[0].split("_")[0] in asked.conversation.explanation
    assert asked.read() and asked.conversation.explanation == ""


def test_our_own_light_seen_by_the_head_is_no_answer():
    for sign_on in (False, True):
        asked = Asked(AskedDlmsMeter(sign_on=sign_on), echo=True)
        assert asked.read() and asked.telegrams == [shown(asked.meter.read)]


def test_our_own_light_alone_is_no_answer():
    conversation = Conversation(AskedValues())
    actions = conversation.read_out()
    answer, said = None, b""
    while True:
        try:
            action = actions.send(answer)
        except StopIteration:
            break
        answer = None
        if action[0] == SEND:
            said = action[1]
        elif action[0] == EXPECT:
            answer, said = said, b""
    assert conversation.failed["no answer"] == 1 and "does not answer" in conversation.explanation


def test_a_read_out_in_place_of_hdlc_is_taken():
    asked = Asked(AskedDlmsMeter(sign_on=True, quirks=("read_out",)))
    assert asked.read(), asked.conversation.explanation
    assert asked.telegrams[-1]["1-0:1.8.0*255"] == "000123.4" and asked.listener.meter_id() == asked.meter.number


def test_a_meter_that_offers_mode_e_and_is_mute_in_mode_c_is_told_so():
    """As AUX5 of Hungary: /AUX5\\2..., acknowledged as of mode C, sends nothing."""
    bench = Bench(meter := AskedDlmsMeter(sign_on=True), VirtualLine(meter.line))
    conversation = poll.Conversation(Iec62056_21())
    assert not bench.converse(conversation.read_out())
    assert conversation.offers_mode_e and conversation.failed["no data"] == 1
    assert "sends no data block: it speaks DLMS" in conversation.explanation


def test_a_lost_link_keeps_what_was_read():
    class Leaving(AskedDlmsMeter):
        def _get(self, item, at_s):
            if self.requests > 8:
                self.quirks = frozenset(("drop",))
                self._answer = lambda *_, **__: None
            return super()._get(item, at_s)

    asked = Asked(Leaving())
    assert asked.read() and len(asked.telegrams[0]) == 3
    assert asked.reason == "bad data" and asked.conversation.explanation.endswith("its answers fail to come")


def test_the_clock_is_told():
    asked = Asked(AskedDlmsMeter())
    asked.read()
    assert asked.listener.date_time()[:5] == (2026, 3, 2, 11, 30) and asked.listener.date_time()[6] == -60
    assert [reading.text()[:10] for reading in asked.listener.published_readings()][-1] == "2603021130"


def test_bytes_alone_are_no_telegram():
    listener = AskedValues()
    assert listener.feed(bytes(range(256)), 0, 256) == 256 and listener.next_event() == 0 and listener.skipped == 256
    assert list(listener.readings()) == [] and listener.meter_id() == ""


def test_a_frame_is_gathered_to_its_end():
    frame = bytes.fromhex("7ea007032193 0f01 7e".replace(" ", ""))
    for junk in (b"", b"\x7e", b"\x00\xff\x7e\x7e", b"\x7e\x12"):
        for n in range(len(junk) + len(frame)):
            assert frame_end(junk + frame, n) == 0
        assert frame_end(junk + frame + b"\x7e\xa0", len(junk + frame) + 2) == len(junk + frame)


# --- whatever the line and the meter do -------------------------------------------------------------------------------


def test_a_bad_line_brings_right_values_or_a_named_failure():
    draw = random.Random(18)
    good = 0
    for k in range(SESSIONS):
        quirks = [quirk for quirk in ("segments", "blocks", "no_confirm") if draw.random() < 0.4]
        ways = {"sign_on": k % 4 == 0, "short_names": k % 3 == 0}
        asked = Asked(Unreliable(draw, draw.choice((0.03, 0.2, 0.6)), **ways, quirks=quirks))
        read = asked.read()
        good += read
        assert read or asked.reason in asked.conversation.failed, k
        assert bool(asked.conversation.explanation) == bool(asked.conversation.failures)
        said = {item for row in asked.meter.read for item in shown([row]).items()}
        assert all(set(telegram.items()) <= said for telegram in asked.telegrams)
        assert not asked.conversation.FAREWELL  # it thinks it has left
        assert asked.meter.served <= READ_ONLY | {0x05}
    assert good > SESSIONS // 3


def test_a_hostile_meter_makes_no_exception_and_no_stall():
    draw = random.Random(81)
    for k in range(SESSIONS):
        asked = Asked(Unreliable(draw, draw.choice((0.0, 0.3)), hostile=True, short_names=k % 2 == 0))
        asked.read()
        asked.read()
        assert asked.bench.now_s < 2400
        assert len(asked.listener._values) <= 26 and len(asked.conversation._registers.getter.data) <= 1024
        assert asked.meter.served <= READ_ONLY | {0x05}


def test_any_answer_at_all_to_any_question():
    """Bytes at random in the place of the driver's answers, thousands of actions: neither an exception nor an end."""
    draw = random.Random(3)
    for options in ("", "mode=IEC", "type=SN"):
        conversation = Conversation(AskedValues(), password=PASSWORD)
        conversation.take_options(options)
        actions = conversation.run()
        answer = None
        for _ in range(4000):
            action = actions.send(answer)
            answer = None
            if action[0] == EXPECT:
                answer = bytes(draw.randrange(256) for _ in range(draw.choice((0, 0, 1, 9, 60, 256))))
                if draw.random() < 0.3:
                    answer = b"/OPT5\\2X\r\n"
            elif action[0] == LISTEN:
                answer = 0
            elif action[0] == SEND:
                assert len(action[1]) <= MAX_SENT
            else:
                assert action[0] == WAIT or isinstance(action[1], Line)
        actions.close()


def test_nothing_of_a_session_leaves_in_a_masked_capture():
    """Its number stands in it as text: without a file that masks it no byte is let out, and no protocol takes it."""

    class Recorded(AskedDlmsMeter):
        said = b""

        def poll(self, now_s, free_s):
            piece = super().poll(now_s, free_s)
            if piece is not None:
                self.said += piece.data
            return piece

    for short_names in (False, True):
        asked = Asked(meter := Recorded(short_names=short_names))
        asked.read()
        assert meter.number.encode() in meter.said and len(meter.said) > 700
        capture = Capture(segments=[Segment(Line(9600), chunks=[(0, meter.said)])], end_ms=9000)
        masked = mask(capture)
        assert masked.readable_bytes() == b"" and meter.number not in "".join(masked.comments)
