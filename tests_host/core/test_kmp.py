"""KMP: frames against an independent codec, answers of every form, and the conversation with a simulated meter.

Right values are those of the simulated meter, which encodes by itself, and of PyKMP's codec.
"""

import itertools
import os
import random
from decimal import Decimal

import pytest
from pykmp import client, codec, messages
from support.by_hand import converse, in_turn, pauses_of_one_that_nobody_answers

from metering import protocols
from metering.kmp import kmp_frame
from metering.kmp.kmp_answer import WANTED, KmpAnswer
from metering.kmp.kmp_poll import Conversation
from metering.line import Line
from metering.listener import TELEGRAM
from metering.obis import obis_text
from metering.register import unit_symbol
from metering.registers import describe
from optoprobe import capture_file, masking
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.kmp_meter import QUIRKS, KmpMeter, framed
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.serial_meter import SerialMeter

ONE = bytes.fromhex("3f10 003c 02 04 42 00 01 86 a0")  # 1000.00 kWh
CODEC = client.ClientCodec()


def events(listener, data, piece=None):
    """What a listener says of `data` that comes in pieces; a telegram as its rows."""
    found = []
    at = 0
    while at < len(data):
        at += listener.feed(data, at, min(len(data), at + (piece or len(data))))
        while event := listener.next_event():
            found.append(rows(listener) if event == TELEGRAM else listener.reason)
    return found


def rows(listener):
    return [(r.address or obis_text(r.obis).removesuffix("*255"), r.text(), unit_symbol(r.unit) or "")
            for r in listener.readings()]  # fmt: skip


def read(meter, *, attempts=1, echo=False, **options):
    """(conversation, telegrams) of so many read-outs over the virtual line."""
    listener = KmpAnswer()
    conversation = Conversation(listener, **options)
    bench = Bench(meter, VirtualLine(meter.line, echo=echo))
    telegrams = []
    for _ in range(attempts):
        bench.converse(conversation.read_out(), on_telegram=lambda ear: telegrams.append(rows(ear)))
    return conversation, telegrams


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_question_is_the_independent_clients():
    ask = messages.GetRegisterRequest(registers=[messages.RegisterID(number) for number in WANTED])
    body = bytes((0x10, len(WANTED))) + b"".join(number.to_bytes(2, "big") for number in WANTED)
    assert kmp_frame.question(body) == CODEC.encode(ask).physical_bytes
    assert kmp_frame.question(b"\x02") == CODEC.encode(messages.GetSerialRequest()).physical_bytes


@pytest.mark.parametrize("value", [0x80, 0x40, 0x0D, 0x06, 0x1B])
def test_each_escaped_byte_comes_back(value):
    frame = framed(bytes((value,)) * 3)
    plain = kmp_frame.unstuffed(frame, 1, len(frame) - 1)
    assert plain[:3] == bytes((value,)) * 3 and kmp_frame.crc16_xmodem(plain) == 0
    assert kmp_frame.question(bytes((value,)))[2:4] == bytes((0x1B, value ^ 0xFF))


@pytest.mark.parametrize("data", [b"\x1b", b"\x1b\x00", b"ab\x1b\xf3"])
def test_an_escape_that_stands_for_nothing_is_none(data):
    assert kmp_frame.unstuffed(data, 0, len(data)) == b""


def test_our_frames_are_the_independent_codecs():
    """Random bytes without 1b: PyKMP 0.0.2 undoes one escaped value after the other, and takes the halves of two for
    a third."""
    line = codec.DataLinkCodec()
    draw = random.Random(7)
    for _ in range(300):
        body = bytes((0x3F,)) + b"\x10" + draw.randbytes(draw.randrange(60)).replace(b"\x1b", b"")
        frame = framed(body)
        assert codec.PhysicalCodec(direction=codec.PhysicalDirection.FROM_METER).decode(frame)[:-2] == body
        parts = codec.DataLinkData(destination_address=body[0], application_bytes=body[1:])
        plain = line.encode(parts)
        assert kmp_frame.unstuffed(frame, 1, len(frame) - 1) == plain


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_register_is_exact():
    assert events(KmpAnswer(), framed(ONE)) == [[("6-0:1.0.0", "1000000", "Wh")]]


@pytest.mark.parametrize(
    ("sign", "mantissa", "unit", "expected"),
    [
        ("42", "000186a0", "02", ("1000000", "Wh")),
        ("45", "00000001", "02", ("0.01", "Wh")),
        ("c1", "0000000f", "25", ("-1.5", "°C")),
        ("80", "01", "25", ("-1", "°C")),
        ("03", "07", "08", ("7000000000000", "J")),
        ("7f", "01", "28", ("0." + "0" * 62 + "1", "m³")),
        ("00", "ffffffffffffffff", "28", ("18446744073709551615", "m³")),
        ("43", "00000400", "27", ("0.001024", "m³")),
    ],
)
def test_sign_exponent_and_unit(sign, mantissa, unit, expected):
    value = bytes.fromhex(mantissa)
    body = bytes.fromhex("3f10003c" + unit) + bytes((len(value),)) + bytes.fromhex(sign) + value
    assert events(KmpAnswer(), framed(body)) == [[("6-0:1.0.0", *expected)]]


def test_what_is_not_known_is_left_out_and_counted():
    """Of what has a unit but no code the number is shown to people, and not published."""
    unknown_unit = bytes.fromhex("0050 15 01 00 05")  # 21: W or kW
    no_unit = bytes.fromhex("0050 33 01 00 05")
    others = bytes.fromhex("7777 02 01 00 05 03ec 2e 02 00 0102 0071 33 01 00 03")
    listener = KmpAnswer()
    heat = ("6-0:1.0.0", "1000000", "Wh")
    assert events(listener, framed(ONE + unknown_unit + no_unit + others)) == [
        [heat, ("register 30583", "5000", "Wh"), ("register 1004", "258", "h"), ("register 113", "3", "")]
    ]
    assert listener.values_dropped == 5 and listener.n_values == 1
    assert [r.obis for r in listener.published_readings()] == [bytes((6, 0, 1, 0, 0, 255))]


@pytest.mark.parametrize(
    ("flow", "back", "power", "info", "told"),
    [
        (6845, 3112, 64, 0, {"10": "68.45", "11": "31.12", "8": "6400"}),
        (18500, 3112, 0, 0, {"11": "31.12"}),
        (6845, 18500, 0, 4, {"10": "68.45"}),
        (6845, 0, 0, 4, {"10": "68.45"}),
        (0, 3112, 0, 0, {"10": "0", "11": "31.12", "8": "0"}),
        (0, 3112, 64, 8, {"11": "31.12", "8": "6400"}),
        (18501, 3112, 64, 8, {"10": "185.01", "11": "31.12", "8": "6400"}),
    ],
)
def test_a_temperature_whose_sensor_has_failed_is_none(flow, back, power, info, told):
    """By the maker's descriptions it sends 185.00 or 0.00 °C then, and 0.0 kW."""
    body = b"".join((
        bytes.fromhex("0056 25 02 42") + flow.to_bytes(2, "big"),
        bytes.fromhex("0057 25 02 42") + back.to_bytes(2, "big"),
        bytes.fromhex("0050 16 02 41") + power.to_bytes(2, "big"),
        bytes.fromhex("0063 33 01 00") + bytes((info,)),
    ))  # fmt: skip
    listener = KmpAnswer()
    (found,) = events(listener, framed(b"\x3f\x10" + body))
    expected = {f"6-0:{c}.0.0": Decimal(value) for c, value in told.items()} | {"0-0:97.97.0": Decimal(info)}
    assert {code: Decimal(value) for code, value, _ in found} == expected
    assert listener.values_dropped == 4 - len(expected)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x3f\x10", "form"),
        (ONE[:-1], "form"),
        (ONE + b"\x00", "form"),
        (bytes.fromhex("3f10 003c 02 00 42"), "form"),
        (bytes.fromhex("3f10 003c 02 09 42") + bytes(9), "form"),
        (b"\x7f" + ONE[1:], "form"),
        (b"\x3f\x10" + ONE[2:] * 17, "form"),
        (b"\x3f", "form"),
    ],
)
def test_another_form_is_refused(body, reason):
    listener = KmpAnswer(400)
    assert events(listener, framed(body)) == [reason] and listener.accepted == 0


def test_registers_behind_other_answers_are_told_at_once():
    number = framed(b"\x3f\x02" + (60_027_013).to_bytes(4, "big"))
    listener = KmpAnswer()
    assert events(listener, number * 3 + framed(ONE) + number + framed(ONE)) == [[("6-0:1.0.0", "1000000", "Wh")]] * 2
    assert listener.numbers_told == 4 and listener.meter_id() == "60027013"


def test_a_heat_meters_volume_is_heats_where_each_answer_tells_one_register() -> None:
    volume = framed(bytes.fromhex("3f10 0044 28 04 43 00 00 03 e8"))
    first, other = (framed(b"\x3f\x02" + number.to_bytes(4, "big")) for number in (60_027_013, 60_027_014))
    told = events(KmpAnswer(), first + framed(ONE) + volume + first + volume + other + volume)
    assert [row[0][0] for row in told] == ["6-0:1.0.0", "6-0:2.0.0", "6-0:2.0.0", "8-0:1.0.0"]


def test_a_frame_cut_off_leaves_the_next_one_whole():
    assert events(KmpAnswer(), framed(ONE)[:9] + framed(ONE)) == ["length", [("6-0:1.0.0", "1000000", "Wh")]]


@pytest.mark.parametrize("size", [250, 400])
def test_a_frame_without_end_is_given_up(size):
    assert events(KmpAnswer(size), b"\x40" + bytes(300)) == ["length"]


def test_any_damage_is_refused_in_every_split():
    whole = framed(ONE)
    for at in range(1, len(whole) - 1):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            for piece in (1, 7, None):
                assert not any(isinstance(event, list) for event in events(KmpAnswer(), bytes(damaged), piece))


def test_any_bytes_are_an_event_or_nothing():
    draw = random.Random(5)
    n = int(os.environ.get("OPTOPROBE_KMP", "3000"))
    whole = framed(ONE + ONE[2:] * 3)
    for _ in range(n):
        data = bytearray(whole * 2)
        for _ in range(draw.randrange(1, 6)):
            kind, at = draw.randrange(3), draw.randrange(len(data))
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at : at + draw.randrange(9)]
            else:
                data[at:at] = draw.randbytes(draw.randrange(9))
            if not data:
                data = bytearray(b"\x40")
        listener = KmpAnswer()
        for event in events(listener, bytes(data), draw.choice((1, 5, None))):
            assert event in KmpAnswer.REASONS or event == [("6-0:1.0.0", "1000000", "Wh")] * 4
        assert listener._n <= 250


# --- the conversation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["heat", "cooling", "water"])
@pytest.mark.parametrize("echo", [False, True])
def test_a_meter_is_read_exactly(kind, echo):
    class Noting(KmpMeter):
        def poll(self, now_s, free_s):
            said = super().poll(now_s, free_s)
            if said and said.telegram:
                told.append(said.expected)
            return said

    told = []
    meter = Noting(kind)
    conversation, telegrams = read(meter, attempts=2, echo=echo)
    assert [values(found) for found in telegrams] == [values(rows) for rows in told] and len(told) == 2
    assert conversation.failures == 0 and conversation.answers and meter.questions == {0x02: 2, 0x10: 2}


def values(found):
    return sorted((code, Decimal(value), unit) for code, value, unit in found)


def test_every_name_of_a_reading_is_one_of_the_contract():
    named = {}
    for kind in ("heat", "cooling", "water"):
        listener = KmpAnswer()
        meter = KmpMeter(kind)
        bench = Bench(meter, VirtualLine(meter.line))
        bench.converse(Conversation(listener).read_out())
        named.update({obis_text(reading.obis): describe(reading).key for reading in listener.readings()})
    assert {code.removesuffix("*255"): key for code, key in named.items()} == {
        "6-0:1.0.0": "heat_energy", "6-0:2.0.0": "heat_volume", "6-0:8.0.0": "heat_power", "6-0:9.0.0": "heat_flow",
        "6-0:10.0.0": "heat_flow_temperature", "6-0:11.0.0": "heat_return_temperature",
        "5-0:1.0.0": "cooling_energy", "8-0:1.0.0": "water_volume", "8-0:2.0.0": "water_flow",
        "0-0:97.97.0": "error_register",
    }  # fmt: skip


@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_peculiarity_is_lived_with(quirk):
    conversation, telegrams = read(KmpMeter(quirks=[quirk]), attempts=4)
    assert len(telegrams) >= 3 and all(len(found) in (7, 4) for found in telegrams)
    assert conversation.failures == 4 - len(telegrams)


def test_who_does_not_answer_is_asked_at_both_rates_and_ever_more_rarely():
    class Mute(KmpMeter):
        def poll(self, now_s, free_s):
            return None

    meter = Mute()
    conversation, telegrams = read(meter, attempts=3)
    assert telegrams == [] and conversation.failed["no answer"] == 3 and not conversation.answers
    assert "magnet" in conversation.explanation
    pauses = pauses_of_one_that_nobody_answers(Conversation(KmpAnswer()).run(), 6)
    assert pauses == [30, 120, 600, 3600, 21600, 21600]


def test_a_meter_at_2400_baud_is_asked_there_from_then_on():
    class Fast(KmpMeter):
        line = Line(2400, 8, None, 2)

    meter = Fast("water")
    conversation, telegrams = read(meter, attempts=3)
    assert len(telegrams) == 3 and conversation.failures == 0 and meter.questions == {0x02: 3, 0x10: 3}


def test_a_number_that_comes_twice_is_not_taken_for_the_registers():
    """Its eye wakes slowly: both questions for the number are answered, one behind that for the registers."""

    class Slow(KmpMeter):
        def _answer(self, frame, at_s):
            late_s = (1.55, 0.45)[len(asked)] if len(asked) < 2 else 0
            asked.append(frame)
            super()._answer(frame, at_s + late_s)

    asked = []
    meter = Slow("heat")
    conversation, telegrams = read(meter)
    assert meter.questions == {0x02: 2, 0x10: 1}
    assert len(telegrams) == 1 and len(telegrams[0]) == 7
    assert (conversation.failures, conversation.explanation) == (0, "")


def test_another_answer_than_the_number_is_told():
    class Nameless(KmpMeter):
        def _answer(self, frame, at_s):
            self._answers.append((at_s + 0.1, framed(b"\x3f\x01\x00\x01\x07\x01"), False))

    conversation, telegrams = read(Nameless())
    assert telegrams == [] and conversation.failed["no identification"] == 1 and "number" in conversation.explanation


@pytest.mark.parametrize("seed", range(40))
def test_a_hostile_meter_makes_no_exception(seed):
    draw = random.Random(seed)

    class Hostile(KmpMeter):
        def _answer(self, frame, at_s):
            body = bytes((draw.choice((0x3F, 0x3F, draw.randrange(256))), draw.choice((1, 2, 0x10))))
            data = framed(body + draw.randbytes(draw.randrange(40)))
            data = draw.choice((data, draw.randbytes(draw.randrange(300)), data[:5], b"\x40" * 300, data * 5))
            self._answers.append((at_s + draw.random() * 3, data, False))

    conversation, _ = read(Hostile(), attempts=4)
    assert sum(conversation.failed.values()) == conversation.failures


def test_a_mask_keeps_measurements_alone():
    """Another reader may have asked for the customer's number (register 1010): nothing of its answer stays."""

    def masked(*registers):
        frame = framed(b"\x3f\x10" + b"".join(registers))
        writer = capture_file.CaptureWriter("of a test")
        writer.settings(KmpAnswer.LINES[0], False)
        writer.take(500, frame)
        writer.end(2000)
        fresh = masking.mask(capture_file.parse(writer.text().encode())).readable_bytes()
        assert fresh in (frame, b"")
        return fresh

    customer = bytes.fromhex("03f2 33 04 00 04a5f1d3")
    assert masked(ONE[2:]) and not masked(ONE[2:], customer) and not masked(customer, ONE[2:])


def test_it_is_read_only():
    """Whatever comes, what is sent asks for the number or for registers."""
    answers = (b"", framed(b"\x3f\x02\x00\x00\x00\x07"), framed(ONE), framed(b"\x3f\x01"))
    sent = set()
    for heard in itertools.product(answers, repeat=4):
        converse(
            Conversation(KmpAnswer()).read_out(),
            in_turn(heard),
            lambda data: sent.add(kmp_frame.unstuffed(data, 1, len(data) - 1)[1]),
        )
    assert sent == {0x02, 0x10}


def test_a_search_does_not_ask_for_it():
    assert "kmp" in protocols.names() and "kmp" not in protocols.searched()
    assert protocols.is_asked("kmp") and KmpAnswer.LINES[0].stop == 2


def test_an_independent_client_reads_the_simulated_meter():
    meter = KmpMeter(reaction_ms=50)
    with SerialMeter(meter) as simulated:
        reader = client.PySerialClientCommunicator(serial_device=simulated.path, timeout_seconds=20)
        number = reader.send_request(message=messages.GetSerialRequest())
        assert number.serial == str(meter.serial_number)
        ask = messages.GetRegisterRequest(registers=[messages.RegisterID(60), messages.RegisterID(87)])
        found = reader.send_request(message=ask).registers
        simulated.check()
    assert [int(number) for number in found] == [60, 87]
