"""LIS-200: answers of every form, requests against an independent library's, the conversation with a simulated meter.

Right values are those of the simulated meter, which prints by itself, and of the corpus beside the clone, whose session
is made up, as no recording of a meter is public.
"""

import ast
import json
import os
import random
import re
from decimal import Decimal
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from support.by_hand import pauses_of_one_that_nobody_answers
from support.corpus import recording

from metering import clock, protocols
from metering.characters import with_parity
from metering.iec62056_21 import iec_probe, lis200_poll
from metering.iec62056_21.exchange import BREAK
from metering.iec62056_21.lis200_answer import Lis200Answer, address_of_answer, refusal_of
from metering.iec62056_21.lis200_poll import Conversation, refusal_words
from metering.iec62056_21.programming_answers import command
from metering.line import EXPECT, LISTEN, SEND
from metering.listener import TELEGRAM
from metering.registers import describe
from optoprobe import Rejected, Telegram, capture_file, masking, sessions, transcript
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.lis200_meter import QUIRKS, Lis200Meter

IDENTIFICATION = b"/Els6EK270\r\n"
KEYS = {
    "1:180": "serial_number", "2:190": "firmware_version", "1:400": "meter_clock", "2:302": "gas_volume_base",
    "4:302": "gas_volume_measured", "2:310": "gas_flow_base", "4:310": "gas_flow_measured", "7:310": "gas_pressure",
    "6:310_1": "gas_temperature", "5:310": "gas_conversion_factor", "8:310": "gas_compressibility",
}  # fmt: skip


def frame(body, first=b"\x02"):
    body += b"\x03"
    return first + body + bytes((reduce(xor, body),))


def rows(listener):
    return {describe(reading).key: reading.text() for reading in listener.readings()}


def events(data, piece=None, listener=None):
    """What a listener says of the whole of `data`: a telegram as its rows, or the reason."""
    listener = listener or Lis200Answer()
    found = []
    at = 0
    while at < len(data) or not listener._ended:
        if at >= len(data):
            listener.finish()
        at += listener.feed(data, at, min(len(data), at + (piece or len(data))))
        while event := listener.next_event():
            found.append(rows(listener) if event == TELEGRAM else listener.reason)
    return found


def read(meter, *, attempts=1, echo=False, **options):
    """(conversation, telegrams, bench) of so many read-outs over the virtual line."""
    listener = Lis200Answer()
    conversation = Conversation(listener, **options)
    bench = Bench(meter, VirtualLine(meter.line, echo=echo))
    telegrams = []
    for _ in range(attempts):
        bench.converse(conversation.read_out(), on_telegram=lambda ear: telegrams.append(rows(ear)))
        bench.pass_until(bench.now_s + 3)
    return conversation, telegrams, bench


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"7-2:302.2(260.63*m3)", "2:302"),
        (b"1:0400.2(2019-06-04,12:34:56)", "1:400"),
        (b"6:310_1.0(1)", "6:310_1"),
        (b"2:302(1)", "2:302"),
        (b"(1)", ""),
        (b"", ""),
        (b"x" * 40 + b"(1)", ""),
    ],
)
def test_an_address_is_known_with_archive_zeros_and_index(body, address):
    assert address_of_answer(body) == address


def test_a_refusal_is_told_in_words():
    assert [refusal_of(body) for body in (b"(#0018)", b"2:302.0(#20)", b"(#)", b"(#12345)", b"(#1a)", b"(18)")] == [
        "18", "20", "", "", "", ""
    ]  # fmt: skip
    assert refusal_words("18") == "error 18: no right to read it" and refusal_words("20") == "error 20: locked"
    assert refusal_words("777") == "error 777"


def test_each_refusal_that_a_reading_may_meet_has_words():
    library = pytest.importorskip("iec62056_21.lis200", reason="iec62056-21 is not installed")
    of_writes = {6, 9, 11, 13, 14, 180, 223, 249}
    codes = [re.match(r"Code[:,]? ?(\d+)", error.__doc__ or "") for error in vars(library).values()
             if isinstance(error, type)]  # fmt: skip
    numbers = {int(code[1]) for code in codes if code}
    assert len(numbers) > 20 and of_writes < numbers
    assert {n for n in numbers if ": " in refusal_words(str(n))} == numbers - of_writes


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"7-2:302.2(260.63*m3)", {"gas_volume_base": "260.63"}),
        (b"7-4:302.2(00260*m3)", {"gas_volume_measured": "260"}),
        (b"7-6:310_1.2(-0.5*{C)", {"gas_temperature": "-0.5"}),
        (b"7-6:310_1.2(285.15*K)", {"gas_temperature": "285.15"}),
        (b"7-7:310.2(4.2010*bar)", {"gas_pressure": "4.2010"}),
        (b"7-5:310.2(4.1532)", {"gas_conversion_factor": "4.1532"}),
        (b"1:180.2(12345678)", {"serial_number": "12345678"}),
    ],
)
def test_a_value_is_exact(body, expected):
    assert events(IDENTIFICATION + frame(body)) == [expected]


@pytest.mark.parametrize(
    "body",
    [
        b"7-2:302.2(260.63)",  # without its unit,
        b"7-2:302.2(260.63*kWh)",  # with another,
        b"7-7:310.2(60.9*psi)",
        b"7-6:310_1.2(41*F)",
        b"7-5:310.2(4.1*m3)",
        b"7-2:302.2(26O.63*m3)",  # no number
        b"7-2:302.2(2.6e5*m3)",
        b"7-2:302.2(*m3)",
        b"7-2:302.2()",
        b"1:180.2()",
        b"9:999.2(1)",  # of no register known
        b"7-2:302.2(#0018)",
    ],
)
def test_what_it_cannot_be_is_left_out(body):
    listener = Lis200Answer()
    assert events(IDENTIFICATION + frame(b"7-4:302.2(1*m3)") + frame(body), listener=listener) == [
        {"gas_volume_measured": "1"}
    ]
    assert listener.values_dropped == (b"#" not in body)


def test_sessions_are_told_apart_by_their_begin():
    first = IDENTIFICATION + frame(b"P0\x02(1)", b"\x01") + frame(b"7-2:302.2(1*m3)") + frame(b"7-4:302.2(2*m3)")
    second = IDENTIFICATION + frame(b"P0\x02(1)", b"\x01") + frame(b"7-2:302.2(3*m3)")
    parted = [{"gas_volume_base": "1", "gas_volume_measured": "2"}, {"gas_volume_base": "3"}]
    for piece in (1, 7, None):
        assert events(first + second, piece) == parted
        assert events(with_parity(first + second), piece) == parted
        assert events(first + second[12:], piece) == parted  # its identification was lost


def test_values_of_nobody_are_no_telegram():
    assert events(frame(b"7-2:302.2(1*m3)")) == []
    assert events(b"/ISK5MT174\r\n" + frame(b"7-2:302.2(1*m3)")) == []


@pytest.mark.parametrize("parity", [False, True])
def test_any_damage_of_one_bit_is_refused(parity):
    whole = frame(b"7-2:302.2(260.63*m3)")
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(with_parity(whole) if parity else whole)
            damaged[at] ^= 1 << bit
            for piece in (1, None):
                found = events(IDENTIFICATION + bytes(damaged), piece)
                assert not any(isinstance(event, dict) for event in found), (at, bit, found)


def test_a_frame_without_end_is_given_up():
    assert "length" in events(b"\x02" + b"1" * 600)


def damaged(data, draw):
    """`data` with up to five faults: characters changed, lost and added."""
    data = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        kind, at = draw.randrange(4), draw.randrange(len(data) or 1)
        if kind == 0 and data:
            data[at] = draw.randrange(256)
        elif kind == 1 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at : at + draw.randrange(1, 9)]
        else:
            data[at:at] = draw.randbytes(draw.randrange(9))
    return bytes(data)


def test_any_bytes_are_an_event_or_nothing():
    draw = random.Random(11)
    whole = with_parity(IDENTIFICATION + frame(b"1:180.2(12345678)") + frame(b"7-2:302.2(260.63*m3)") * 3)
    for _ in range(1000):
        listener = Lis200Answer()
        found = events(damaged(whole, draw), draw.choice((5, None)), listener)
        assert all(isinstance(event, dict) or event in Lis200Answer.REASONS for event in found)
        assert listener._n <= 250 and len(listener._values) <= 11


def test_damaged_answers_tell_no_wrong_value():
    """Each third answer is damaged: read-outs without one are right, those with one leave values out."""
    draw = random.Random(11)
    said = {"1:180": b"1:180.2(12345678)", "2:302": b"7-2:302.2(260055.63*m3)", "4:302": b"7-4:302.2(1042.55*m3)",
            "7:310": b"7-7:310.2(4.2011*bar)"}  # fmt: skip
    right = {"serial_number": "12345678", "gas_volume_base": "260055.63", "gas_volume_measured": "1042.55",
             "gas_pressure": "4.2011"}  # fmt: skip
    n, read_outs, wrong, values = int(os.environ.get("OPTOPROBE_LIS200", "120")), 0, 0, 0
    listener = Lis200Answer()
    conversation = Conversation(listener)
    while read_outs < n:
        read_outs += 1
        steps = conversation.read_out(with_parity(IDENTIFICATION))
        action, given = next(steps), b""
        try:
            while True:
                answer = None
                if action[0] == SEND:
                    given = answer_to(action[1], said)
                    given = damaged(given, draw) if given and draw.random() < 0.33 else given
                elif action[0] == EXPECT:
                    answer, given = given[: action[1] and action[1](given, len(given)) or len(given)], b""
                elif action[0] == LISTEN:
                    answer = listener.next_event()
                    found = rows(listener)
                    values += len(found)
                    wrong += not found.items() <= right.items()
                action = steps.send(answer)
        except StopIteration:
            pass
    assert values > n and wrong <= n * 15 // 1_000_000, (values, wrong)


def answer_to(sent, said):
    if sent[:1] == b"\x06":
        return with_parity(frame(b"P0\x02(1234567)", b"\x01"))
    if sent[:3] != b"\x01R1":
        return b""
    return with_parity(frame(said.get(address_of_answer(sent[4:]), b"(#0002)")))


def test_whether_characters_had_parity_is_told():
    listener = Lis200Answer()
    for data, sealed in ((with_parity(IDENTIFICATION + frame(b"7-2:302.2(1*m3)")), True), (IDENTIFICATION, False)):
        events(data, listener=listener)
        assert listener.sealed is sealed


# --- against the corpus ----------------------------------------------------------------------------------------------


def test_requests_are_the_independent_librarys():
    requests = {
        name: bytes.fromhex(data)
        for name, data in json.loads(recording("lis200/requests.json").read_text())["requests"].items()
    }
    _, _, bench = read(Lis200Meter(offered="5"))
    for name in ("signon", "ack_programming_9600", "read_clock", "read_std_volume_total"):
        assert requests[name] in bench.sent, name
    assert bench.sent[-1] == requests["break"] == BREAK
    _, _, bench = read(Lis200Meter(quirks=["locked"]))
    assert requests["supplier_lock_status"] in bench.sent
    assert {data[:3] for data in bench.sent if data[:1] == b"\x01"} == {b"\x01R1", b"\x01B0"}
    assert command(b"R3", b"3:V.3(3;;;10)") == requests["archive3_units"]


def test_a_session_of_the_corpus_is_read_to_the_byte():
    said = recording("lis200/ek270_shape.txt").read_bytes()
    (telegram,) = list(sessions.reader("lis200")(transcript.parse(said)))
    wanted = json.loads(recording("lis200/ek270_shape.json").read_text())
    told = {row.name: (row.value, row.unit) for row in telegram.readings}
    assert (Decimal(told["Gas volume base"][0]), told["Gas volume base"][1]) == (
        Decimal(str(wanted["values"]["2:302"]["value"])), "m³"
    )  # fmt: skip
    assert told["Meter clock"][0].replace(",", "T") == wanted["values"]["1:400"]
    answers = [burst for burst in transcript.parse(said) if not burst.to_meter]
    assert b"".join(frame(b[1:-2]) for b in (a.data for a in answers) if b[:1] == b"\x02") == b"".join(
        a.data for a in answers if a.data[:1] == b"\x02"
    )


def test_another_meters_conversation_is_not_taken_and_damage_is_told():
    def told(text):
        return list(sessions.reader("lis200")(transcript.parse(text.encode())))

    assert told(f"> 2f3f210d0a\n< {b'/ISK5MT174'.hex()}0d0a\n< {frame(b'2:302.0(1*m3)').hex()}\n") == []
    good = f"> 2f3f210d0a\n< {IDENTIFICATION.hex()}\n"
    found = told(good + f"< {frame(b'7-2:302.2(1*m3)').hex()}\n< 0\n< {frame(b'7-4:302.2(1*m3)')[:-1].hex()}00\n")
    assert [type(event) for event in found] == [Rejected, Rejected, Telegram]
    assert {event.reason for event in found[:2]} == {"bad line", "checksum"}
    rows = frame(b"(1)(2026-11-29,12:00:00)(5.5)\r\n" * 20)
    asked = f"> {command(b'R3', b'3:V.0(3;;;10)').hex()}\n< {rows.hex()}\n> 06\n< {rows.hex()}\n> 0142300371\n"
    left_out, telegram = told(good + f"< {frame(b'7-4:302.2(1*m3)').hex()}\n" + asked)
    assert left_out.reason == "left out" and "3:V.0" in left_out.detail and len(telegram.readings) == 1
    refused, telegram = told(good + f"< {frame(b'(#0018)').hex()}\n< {frame(b'7-4:302.2(1*m3)').hex()}\n")
    assert (refused.reason, refused.detail) == ("refused", "error 18: no right to read it")
    assert len(telegram.readings) == 1


@pytest.mark.parametrize("parity", [False, True])
def test_masking_leaves_what_is_measured_and_nothing_else(parity):
    said = IDENTIFICATION + b"\x01P0\x02(1234567)\x03P" + frame(b"1:180.2(40271313)") + frame(b"7-2:302.2(260.63*m3)")
    said += frame(b"(#0018)") + frame(b"1:400.2(2026-11-29,12:34:56)") + frame(b"9:777.2(Main street 7)")
    said += frame(b"7-5:310.2(1.0129)") + b"\x01B0\x03q"
    writer = capture_file.CaptureWriter("of a test")
    writer.settings(Lis200Answer.LINES[0], False)
    writer.take(500, with_parity(said) if parity else said)
    writer.end(2000)
    fresh = masking.mask(capture_file.parse(writer.text().encode())).readable_bytes()
    plain = bytes(byte & 0x7F for byte in fresh)
    assert b"40271313" not in plain and b"street" not in plain and b"EK270" in plain and (fresh != plain) == parity
    listener = Lis200Answer()
    listener.feed(fresh, 0, len(fresh))
    listener.finish()
    assert listener.next_event() == TELEGRAM and listener.offset == 0
    assert rows(listener) == {"serial_number": "00000000", "gas_volume_base": "260.63", "meter_clock":
                              "2026-11-29,12:34:56", "gas_conversion_factor": "1.0129"}  # fmt: skip


# --- the conversation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("offered", ["0", "5", "6"])
def test_a_meter_is_read_exactly(echo, offered):
    meter = Lis200Meter(offered=offered, seed=3)
    conversation, telegrams, bench = read(meter, attempts=2, echo=echo)
    told = {KEYS[address]: value for address, value, _ in meter.reads}
    assert len(told) == 10 and telegrams[-1] == {**told, "firmware_version": "1.30"} and len(telegrams) == 2
    assert conversation.failures == 0 and conversation.answers and not conversation.explanation
    assert not any("refused" in event or "write" in event for event in meter.events)
    assert bench.switches[-1].baud == {"0": 300, "5": 9600, "6": 19200}[offered]


def test_its_firmware_is_asked_for_once():
    meter = Lis200Meter()
    read(meter, attempts=3)
    assert meter.events.count("R1 2:190") == 2 and meter.events.count("R1 1:180") == 4  # each twice at first


def test_another_meters_firmware_is_not_the_first_ones():
    meter = Lis200Meter()
    conversation, (before,), bench = read(meter)
    rows_of = meter._programming_mode._rows
    other = {"1:180": "40271313", "2:190": "9.99"}

    def rows_now(at_s):
        return [(name, ((other.get(name, groups[0][0]), groups[0][1]), *groups[1:])) for name, groups in rows_of(at_s)]

    meter._programming_mode._rows = rows_now
    telegrams = []
    bench.converse(conversation.read_out(), on_telegram=lambda ear: telegrams.append(rows(ear)))
    assert before["firmware_version"] == "1.30"
    assert (telegrams[0]["serial_number"], telegrams[0]["firmware_version"]) == ("40271313", "9.99")


@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_peculiarity_is_lived_with(quirk):
    meter = Lis200Meter(quirks=[quirk])
    conversation, telegrams, _ = read(meter, attempts=4)
    assert len(telegrams) == 4 - conversation.failures >= 3
    assert all(Decimal(told.get("gas_pressure", "4.2")).__round__(0) == 4 for told in telegrams)
    assert ("no right to read" in conversation.explanation) is (quirk == "locked")
    assert ("supplier's" in conversation.explanation) is (quirk == "locked")
    assert not any("write" in event for event in meter.events)


def test_a_battery_meter_is_woken():
    conversation, telegrams, _ = read(Lis200Meter(battery=True), wake_up=True)
    assert conversation.failures == 0 and "gas_volume_base" in telegrams[0]


def test_another_meter_is_told():
    conversation, telegrams, _ = read(IecMeter("C", seed=4))
    assert telegrams == [] and conversation.failed["no identification"] == 1
    assert "set protocol to auto" in conversation.explanation


def test_silence_is_told_and_asked_again_ever_more_rarely():
    meter = Lis200Meter(address="1234", needs_address=True)
    conversation, _, _ = read(meter)
    assert conversation.failed["no answer"] == 1 and not conversation.answers
    pauses = pauses_of_one_that_nobody_answers(Conversation(Lis200Answer()).run(), 6)
    assert pauses == [30, 120, 600, 3600, 21600, 21600]
    assert Conversation(Lis200Answer()).pause_s == 3600


def test_a_meter_that_does_not_enter_its_programming_mode_is_told():
    conversation, telegrams, _ = read(Lis200Meter(programming="silent"), attempts=2)
    assert telegrams == [] and conversation.failed["no data"] == 2 and "programming mode" in conversation.explanation


def test_a_meter_that_refuses_all_is_told():
    class Refusing(Lis200Meter):
        def rows(self, now_s):
            return []

    conversation, telegrams, _ = read(Refusing())
    assert telegrams == [] and conversation.failed["registers refused"] == 1
    assert "refuses to tell its values (error 2: no such object)" in conversation.explanation


@pytest.mark.parametrize("seed", range(20))
def test_a_hostile_meter_makes_no_exception(seed):
    draw = random.Random(seed)
    steps = Conversation(Lis200Answer()).read_out(IDENTIFICATION)
    answers = (b"", b"\x06", b"\x15", frame(b"P0\x02(1)", b"\x01"), frame(b"7-2:302.2(1*m3)"), frame(b"(#0018)"))
    action, sent, n = next(steps), [], 0
    while n < 3000:
        n += 1
        if action[0] == SEND:
            sent.append(action[1])
        data = draw.choice(answers + (draw.randbytes(draw.randrange(20)),) + (answers[3],) * (n < 9) * 9)
        try:
            action = steps.send(data if action[0] in (EXPECT, LISTEN) else None)
        except StopIteration:
            break
    assert {data[:3] for data in sent if data[:1] == b"\x01"} <= {b"\x01R1", b"\x01B0"} and n < 3000


def test_nothing_that_writes_can_be_said():
    """All command codes that stand in the family's code: what reads, the password and the break."""
    codes = set()
    for path in Path(lis200_poll.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                codes |= set(re.findall(rb"(?:^|\x01)([A-Z][0-9])(?=$|[\x02\x03])", node.value))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command":
                assert not (isinstance(node.args[0], ast.Constant) and node.args[0].value[:1] == b"W")
    assert codes == {b"R1", b"R5", b"P0", b"P1", b"B0"}


# --- who it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identification", "protocol"),
    [
        (b"/Els6EK270\r\n", "lis200"),
        (b"/ELS5EK220\r\n", "lis200"),
        (b"/Els6DL230\r\n", "lis200"),
        (b"/Els6TC220\r\n", "lis200"),
        (b"/ELS5\\@V10.04     \r\n", "iec62056-21"),  # an electricity meter of the same maker
        (b"/ISK5MT174-0001\r\n", "iec62056-21"),
        (b"/Xyz6EK270\r\n", "iec62056-21"),
    ],
)
def test_a_sign_on_is_routed_by_what_answers(identification, protocol):
    for answer in (identification, b"\x00/?!\r\n" + identification, with_parity(identification)):
        assert iec_probe.answered_by(answer) == protocol
    assert protocols.is_asked("lis200") and "lis200" not in protocols.searched()


def test_its_clock_is_compared():
    assert clock.deviation_s("2019-06-04,12:34:56", 34 * 60 + 50) == 6
