"""ANSI C12.18: packets, requests, and the session with a simulated NES meter and a real one's capture.

Right values are those of the simulated meter, which encodes by itself, and of the capture beside the clone.
"""

import json
import os
import random
from decimal import Decimal

import pytest
from support.by_hand import converse
from support.corpus import recording

from metering.c1218 import nes_tables, psem_request
from metering.c1218.c1218_poll import Conversation
from metering.c1218.c1218_values import C1218Values
from metering.c1218.psem_frame import TOGGLE, answer_end, found, packet
from metering.c1218.psem_link import PsemLink
from metering.line import EXPECT, WAIT
from metering.obis import obis_text
from metering.register import unit_symbol
from optoprobe.virtual.c1218_meter import QUIRKS, C1218Meter, NesContents, framed, table_reply
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.serial_meter import SerialMeter

TURN_MS = 25  # in which nothing is awaited but our own light
READS = {0x20, 0x21, 0x30, 0x3F, 0x50, 0x51, 0x52, 0x60}


def rows(listener):
    return {
        obis_text(r.obis).removesuffix("*255"): (r.text(), unit_symbol(r.unit) or "") for r in listener.readings()
    }


def read(meter, *, attempts=1, echo=False, conversation=None, **options):
    """(conversation, telegrams) of so many sessions over the virtual line."""
    listener = conversation._listener if conversation else C1218Values()
    conversation = conversation or Conversation(listener, **options)
    bench = Bench(meter, VirtualLine(meter.line, echo=echo))
    telegrams = []
    for _ in range(attempts):
        bench.converse(conversation.read_out(), on_telegram=lambda ear: telegrams.append((ear.meter_id(), rows(ear))))
        bench.pass_until(bench.now_s + 10)
    return conversation, telegrams


def scripted(conversation, replies, sent=None):
    """Drive one session by hand: replies are the answers to each EXPECT, b"" behind the last. Returns (read?, rows)."""
    coming = iter(replies)
    has_read = converse(
        conversation.read_out(),
        lambda action: next(coming, b"") if action[2] > TURN_MS else b"",
        (sent if sent is not None else []).append,
    )
    return has_read, rows(conversation._listener) if has_read else {}


# --- packets ---------------------------------------------------------------------------------------------------------


def test_packets_are_the_simulated_meters():
    for data in (b"\x20", b"\x52", bytes(range(29))):
        for toggle in (0, TOGGLE):
            assert packet(data, toggle) == framed(data, toggle)
            assert found(b"\x06" + framed(data, toggle)) == framed(data, toggle)


def test_the_end_of_an_answer_is_found_at_any_length():
    whole = b"\x06" + framed(table_reply(bytes(40)), TOGGLE)
    assert [answer_end(whole, n) for n in range(len(whole))] == [0] * len(whole)
    assert answer_end(whole, len(whole)) == len(whole) == answer_end(whole + b"zz", len(whole) + 2)
    assert answer_end(b"\x00\x15", 2) == 2 and not found(b"\x00\x15")


def test_damage_is_refused():
    whole = framed(table_reply(bytes(range(8))))
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            assert not found(bytes(damaged))


def test_a_tables_count_and_checksum_must_hold():
    whole = table_reply(b"\x01\x02\x03")
    assert psem_request.table_data(whole) == b"\x01\x02\x03"
    for wrong in (b"", b"\x00", whole[:-1], whole + b"\x00", b"\x04" + whole[1:], whole[:-1] + b"\x00"):
        assert psem_request.table_data(wrong) is None


def test_every_request_reads():
    requests = [psem_request.IDENT, psem_request.TERMINATE, psem_request.LOGOFF]
    requests += [psem_request.logon(k, b"user") for k in (0, 65535)]
    requests += [psem_request.security(password) for password in (b"", b"p" * 20)]
    requests += [psem_request.read(t) for t in (0, 7, 65535)]
    requests += [psem_request.read_part(t, o, 8) for t in (0, 7, 2071) for o in (0, 0xABCDEF)]
    requests.append(psem_request.negotiate(128, 8))
    assert {request[0] for request in requests} == READS
    made = {name for name in vars(psem_request) if not name.startswith("_") and name != "const"}
    encoders = {"IDENT", "TERMINATE", "LOGOFF", "logon", "security", "read", "read_part", "negotiate"}
    assert made == encoders | {"refusal", "agreed", "table_data"}
    assert psem_request.read_part(0x1234, 0x56789A, 0xBCDE).hex() == "3f123456789abcde"


def test_each_refusal_has_words():
    words = ["err", "sns", "isc", "onp", "iar", "bsy", "dnr", "dlk", "rno", "isss"]
    assert all(f"({word})" in psem_request.refusal(k + 1) for k, word in enumerate(words))
    assert psem_request.refusal(0) == "" and psem_request.refusal(255) == "code ff"


# --- the session -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [False, True])
def test_a_meter_is_read_exactly(echo):
    meter = C1218Meter(user_id=99, user=b"reader", password=b"secret")
    conversation, telegrams = read(meter, attempts=2, echo=echo, address="99:reader", password="secret")
    assert conversation.failures == 0 and conversation.answers and len(telegrams) == 2
    number, told = telegrams[0]
    assert number == meter.number and meter.passwords == [b"secret".ljust(20, b"\0")] * 2
    energy, unit = told.pop("1-0:1.8.0")
    assert 12_345_678 <= int(energy) < 12_345_690 and unit == "Wh"
    energy, unit = told.pop("1-0:2.8.0")
    assert 901_234 <= int(energy) < 901_240 and unit == "Wh"
    power, unit = told.pop("1-0:1.7.0")
    assert 1_500 <= int(power) < 1_509 and unit == "W"
    assert told == {
        "1-0:2.7.0": ("0", "W"), "1-0:31.7.0": ("2.201", "A"), "1-0:51.7.0": ("1.950", "A"),
        "1-0:71.7.0": ("3.333", "A"), "1-0:32.7.0": ("230.101", "V"), "1-0:52.7.0": ("229.877", "V"),
        "1-0:72.7.0": ("231.004", "V"),
    }  # fmt: skip
    assert set(meter.services) == {0x20, 0x50, 0x51, 0x3F, 0x52, 0x21}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_peculiarity_is_lived_with(quirk):
    conversation, telegrams = read(C1218Meter(quirks=[quirk]), attempts=3)
    assert len(telegrams) == 3 and all(len(told) == 10 for _, told in telegrams), conversation.explanation


def test_a_wrong_password_is_one_try():
    meter = C1218Meter(password=b"right")
    conversation = Conversation(C1218Values(), password="wrong")
    _, telegrams = read(meter, conversation=conversation)
    assert not telegrams and len(meter.passwords) == 1 and conversation.failed["password refused"] == 1
    assert "(isc)" in conversation.explanation and "wrong" not in conversation.explanation and conversation.is_resting
    steps = conversation.run()
    rested, action = 0, next(steps)
    while action[0] == WAIT:
        rested += action[1]
        action = next(steps)
    assert rested == 4 * 3600 * 1000


def test_a_password_without_a_verdict_is_sent_once_a_session_and_rests_behind_two():
    conversation = Conversation(C1218Values(), password="pw")
    meter = C1218Meter()
    replies = [b"\x06" + framed(meter.ident), b"\x06" + framed(b"\x00", TOGGLE)]
    for n in (1, 2):
        sent = []
        assert scripted(conversation, replies, sent) == (False, {})
        assert sum(frame[6:7] == b"\x51" for frame in sent) == 1 and conversation.is_resting == (n == 2)


def test_a_withheld_password_is_not_sent():
    conversation = Conversation(C1218Values(), password="pw")
    conversation.password_withheld = True
    meter = C1218Meter(password=b"pw")
    _, telegrams = read(meter, conversation=conversation)
    assert not telegrams and not meter.passwords and conversation.failures == 0 and conversation.answers


def test_what_one_table_refuses_does_not_lose_the_other():
    meter = C1218Meter(refuses={(0x3F, 28): 8})
    conversation, telegrams = read(meter)
    assert [set(told) for _, told in telegrams] == [{"1-0:1.8.0", "1-0:2.8.0"}]
    assert "(dlk)" in conversation.explanation and conversation.failed["service refused"] == 1


@pytest.mark.parametrize("code", range(1, 12))
def test_a_refused_logon_is_told_in_words(code):
    conversation, telegrams = read(C1218Meter(refuses={0x50: code}))
    assert not telegrams and psem_request.refusal(code) in conversation.explanation


def test_tables_of_nes_meters_are_believed_of_none_but_these():
    contents = NesContents()
    contents.ident = bytes.fromhex("0000010000")
    meter = C1218Meter(contents=contents)
    conversation, telegrams = read(meter)
    assert not telegrams and conversation.failed["no values"] == 1 and 0x3F not in meter.services


def test_bits_that_are_all_set_are_no_value():
    told = list(nes_tables.readings(23, bytes.fromhex("ffffffff feffffff")))
    assert [(obis_text(r.obis), r.value) for r in told] == [("1-0:2.8.0*255", 0xFFFFFFFE)]


@pytest.mark.parametrize("address", ["x", "65536", "1:elevenchars", "-1"])
def test_a_bad_address_asks_nothing(address):
    conversation, telegrams = read(C1218Meter(), address=address)
    assert not telegrams and conversation.failed["bad settings"] == 1


def test_a_session_behind_one_that_broke_off_is_not_taken_for_the_same_question():
    """The meter has answered an IDENT, and drops what has the same toggle and CRC."""
    conversation = Conversation(C1218Values())
    sent = []
    scripted(conversation, [], sent)  # three times the same, and TERMINATE is not said
    scripted(conversation, [], sent)
    assert [frame[2] for frame in sent] == [0] * 3 + [TOGGLE] * 3


def test_our_own_light_is_no_reply_and_not_acknowledged():
    meter = C1218Meter()
    data = meter.tables(0)
    replies = [meter.ident, b"\x00", table_reply(data[23]), table_reply(data[28]), b"\x00", b"\x00"]
    asked = [b"\x20", psem_request.logon(0, b""), psem_request.read_part(23, 0, 8), psem_request.read_part(28, 0, 40)]
    asked += [psem_request.LOGOFF, psem_request.TERMINATE]
    answers = []
    for k, (request, reply) in enumerate(zip(asked, replies, strict=True)):
        answers += [b"\x06" + framed(request, TOGGLE * (k % 2)), b"\x06" + framed(reply, TOGGLE * (k % 2))]
    sent = []
    is_read, told = scripted(Conversation(C1218Values()), answers, sent)
    assert is_read and len(told) == 10 and sent.count(b"\x06") == len(replies) and len(sent) == 2 * len(replies)


def test_packets_out_of_order_are_no_reply():
    meter = C1218Meter()
    pieces = [framed(meter.ident[:9], 0xC0, 2), framed(meter.ident[9:], 0xA0, 0)]
    conversation = Conversation(C1218Values())
    assert scripted(conversation, pieces) == (False, {}) and "not in order" in conversation.explanation


def test_a_reply_without_end_is_given_up():
    pieces = [framed(bytes(230), 0xC0 if k == 5 else 0x80 | (k % 2) << 5, k) for k in (5, 4, 3, 2, 1, 0)]
    link = PsemLink()
    steps = link.request(b"\x20")
    coming = iter(pieces)
    given = None
    with pytest.raises(StopIteration) as stop:
        while True:
            given = next(coming, b"") if steps.send(given)[0] == EXPECT else None
    assert stop.value.value is False and link.reply == b"" and "too long" in link.why


def test_a_verdict_forgets_the_sessions_without_one():
    conversation = Conversation(C1218Values(), password="pw")
    meter = C1218Meter(password=b"pw")
    mute = [b"\x06" + framed(meter.ident), b"\x06" + framed(b"\x00", TOGGLE)]
    other = C1218Meter(refuses={0x51: 3})
    scripted(conversation, mute)
    read(other, conversation=conversation)
    assert conversation.failed["password refused"] == 1
    conversation._rest.rests_s = 0
    scripted(conversation, mute)
    assert not conversation.is_resting


def test_any_bytes_are_a_reason_or_the_right_values():
    n = int(os.environ.get("OPTOPROBE_C1218", "400"))
    draw = random.Random(3)
    meter = C1218Meter()
    data = meter.tables(0)
    replies = [meter.ident, b"\x00", table_reply(data[23]), table_reply(data[28]), b"\x00", b"\x00"]
    whole = [b"\x06" + framed(reply, TOGGLE * (k % 2)) for k, reply in enumerate(replies)]
    right = scripted(Conversation(C1218Values()), whole)[1]
    assert len(right) == 10
    for _ in range(n):
        broken = list(whole)
        for _ in range(draw.randrange(1, 4)):
            k = draw.randrange(len(broken))
            frame = bytearray(broken[k])
            kind, at = draw.randrange(4), draw.randrange(len(frame))
            if kind == 0:
                frame[at] = draw.randrange(256)
            elif kind == 1:
                del frame[at : at + draw.randrange(9)]
            elif kind == 2:
                frame[at:at] = draw.randbytes(draw.randrange(9))
            else:
                frame = bytearray(draw.randbytes(draw.randrange(1, 60)))
            broken[k] = bytes(frame) or b"\x06"
            if draw.randrange(3) == 0:
                broken.insert(k, whole[k % len(whole)])
        sent = []
        conversation = Conversation(C1218Values())
        _, told = scripted(conversation, broken, sent)
        assert told.items() <= right.items() and len(sent) < 100
        assert {frame[6] for frame in sent if len(frame) > 1} <= READS
        assert sum(conversation.failed.values()) == conversation.failures


def test_an_independent_client_reads_the_simulated_meter():
    """The c1218 package that termineter 1.0.6 brings."""
    connection = pytest.importorskip("c1218.connection", reason="termineter is not installed: pip install termineter")
    meter = C1218Meter(user_id=7, user=b"reader", password=b"secret", refuses={(0x30, 5): 4}, reaction_ms=5)
    settings = {
        "parity": "N", "baudrate": 9600, "bytesize": 8, "xonxoff": False, "interCharTimeout": None, "rtscts": False,
        "timeout": 20, "stopbits": 1, "dsrdtr": False, "writeTimeout": None,
    }  # fmt: skip
    with SerialMeter(meter) as simulated:
        reader = connection.Connection(simulated.path, {"pktsize": 128, "nbrpkts": 1}, settings)
        assert reader.start() and reader.login("reader", 7, "secret")
        whole = reader.get_table_data(28)
        part = reader.get_table_data(23, 4, 4)
        with pytest.raises(Exception, match="onp"):
            reader.get_table_data(5)
        assert reader.logoff()
        reader.serial_h.close()
        simulated.check()
    assert whole[16:] == meter.tables(0)[28][16:] and int.from_bytes(part, "little") - 901_234 in range(600)


def test_a_real_session_byte_for_byte():
    """Its owner has altered the ident's name and the password: these two packets get a CRC of their own."""
    said = {"<": [], ">": []}
    for line in recording("c1218/nes83334_osgp_session.txt").read_text().splitlines():
        if line[:2] in ("< ", "> "):
            said[line[0]].append(bytes.fromhex(line[2:]))
    facts = json.loads(recording("c1218/nes83334_osgp_session.json").read_text())
    asked = [frame[:-2] for frame in said[">"]]
    password = said[">"][2][7:-2].decode()
    ident = said["<"][0]
    assert not found(ident)
    said["<"][0] = b"\x06" + framed(ident[7:-2])
    sent = []
    conversation = Conversation(C1218Values(), f"{facts['user_id']}:{facts['user']}", password)
    is_read, told = scripted(conversation, said["<"], sent)
    ours = [frame for frame in sent if frame != b"\x06"]
    assert is_read and conversation.failures == 0 and [frame[:-2] for frame in ours] == asked
    assert [frame for k, frame in enumerate(ours) if k != 2] == [f for k, f in enumerate(said[">"]) if k != 2]
    values = facts["values"]
    want = {
        "1-0:1.8.0": [values["energy_fwd_kwh"], 1000], "1-0:2.8.0": [values["energy_rev_kwh"], 1000],
        "1-0:1.7.0": [values["power_fwd_w"], 1], "1-0:2.7.0": [values["power_rev_w"], 1],
    }  # fmt: skip
    for k, c in enumerate((31, 51, 71)):
        want[f"1-0:{c}.7.0"] = [values["current_a"][k], 1]
        want[f"1-0:{c + 1}.7.0"] = [values["voltage_v"][k], 1]
    assert {code: Decimal(value) for code, (value, _) in told.items()} == {
        code: Decimal(str(value)) * factor for code, (value, factor) in want.items()
    }
    assert nes_tables.number_of(said["<"][0][7:-2])
