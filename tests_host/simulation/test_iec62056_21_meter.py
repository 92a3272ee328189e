"""The simulated IEC 62056-21 meters, asked over the virtual line by a small client of the tests' own, and over TCP.

What a meter says is read here by regular expression, so that nothing of the core's decoder vouches for it.
"""

import itertools
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from metering.line import EXPECT, MAX_SENT, SEND, SWITCH, WAIT, Line
from optoprobe.environment import runtime
from optoprobe.virtual.board import FAKES
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.iec62056_21_meter import MODES, IecMeter
from optoprobe.virtual.iec62056_21_talk import bcc, crc16_arc
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.uart import NS, duration_ns

SIGN_ON = Line(300, 7, "E")
ANSWER_MS = 2300
GAP_MS = 1700
BREAK = b"\x01B0\x03q"


# --- a client of few words ---


def bare(data):
    """Characters without their parity, which must be even."""
    assert all(byte.bit_count() % 2 == 0 for byte in data), "a character with the wrong parity"
    return bytes(byte & 0x7F for byte in data)


def until_lf(buffer, n):
    return bytes(buffer[:n]).find(b"\n") + 1


def never(buffer, n):
    return 0


def block_end(buffer, n):
    for k in range(n - 1):
        if buffer[k] & 0x7F in (3, 4):
            return k + 2
    return 1 if n and buffer[0] & 0x7F in (0x06, 0x15) else 0


def everything(gap_ms=GAP_MS, first_ms=ANSWER_MS):
    """All that comes until it is silent, as characters."""
    data = b""
    while True:
        piece = yield EXPECT, never, gap_ms if data else first_ms, gap_ms
        data += piece
        if len(piece) < 256:
            return bare(data)


def sign_on(address=b""):
    yield SWITCH, SIGN_ON
    yield SEND, b"/?" + address + b"!\r\n"
    return bare((yield EXPECT, until_lf, ANSWER_MS, GAP_MS))


def read_out(ack=b"\x06050\r\n", rate=9600, pause_ms=230, address=b""):
    """Sign-on, acknowledge after `pause_ms`, all that comes then: (identification, data)."""
    identification = yield from sign_on(address)
    if not identification:
        return b"", b""
    if ack is not None:
        yield WAIT, pause_ms
        yield SEND, ack
    if rate != 300:
        yield SWITCH, Line(rate, 7, "E")
    return identification, (yield from everything())


def command(code, operand=None):
    body = code + (b"" if operand is None else b"\x02" + operand) + b"\x03"
    return b"\x01" + body + bcc(body)


def programming(*messages, rate=9600):
    """Into programming mode, then each message's answer: [identification, P0 message, answers ...]."""
    answers = [(yield from sign_on())]
    yield WAIT, 230
    yield SEND, b"\x06051\r\n"
    yield SWITCH, Line(rate, 7, "E")
    answers.append(bare((yield EXPECT, block_end, ANSWER_MS, GAP_MS)))
    for message in messages:
        yield WAIT, 230
        yield SEND, message
        answers.append(bare((yield EXPECT, block_end, ANSWER_MS, GAP_MS)))
    return answers


def bench(mode="C", *, noise=None, echo=False, gap_ns=0, clock_ppm=0, **options):
    meter = IecMeter(mode, **options)
    return Bench(meter, VirtualLine(meter.line, noise=noise, echo=echo, gap_ns=gap_ns, clock_ppm=clock_ppm))


def parse(text):
    """Rows (address, value, unit) of data lines."""
    rows = []
    for line in text.replace(b"\r", b"").split(b"\n"):
        for address, groups in re.findall(r"([^()!]*)((?:\([^()]*\))+)", line.decode()):
            for group in re.findall(r"\(([^()]*)\)", groups):
                value, star, unit = group.partition("*")
                rows.append((address, group, None) if "*" in unit else (address, value, unit if star else None))
    return rows


def check_block(data, meter):
    """`data` is one data block, right, and says what the meter expects."""
    assert data[:1] == b"\x02" and data[-2:-1] == b"\x03"
    assert data.count(b"\x02") == data.count(b"\x03") == 1
    assert bcc(data[1:-1]) == data[-1:]
    body = data[1:-2]
    assert body.endswith((b"!\r\n", b"!\n"))
    assert parse(body) == meter.expected()
    assert meter.expected()


# --- read-out ---


def test_mode_a_reads_out_at_300_by_itself():
    line = bench("A")
    identification, data = line.converse(read_out(ack=None, rate=300))
    assert identification.startswith(b"/OPT-")
    check_block(data, line.meter)
    assert line.meter.events == ["sign-on"]


@pytest.mark.parametrize(("letter", "rate"), [("A", 600), ("C", 2400), ("F", 19200)])
def test_mode_b_changes_to_its_rate_without_being_asked(letter, rate):
    line = bench("B", offered=letter)
    identification, data = line.converse(read_out(ack=None, rate=rate))
    assert identification.startswith(b"/OPT" + letter.encode())
    check_block(data, line.meter)


@pytest.mark.parametrize("z", range(7))
def test_mode_c_reads_out_at_the_rate_asked(z):
    rate = (300, 600, 1200, 2400, 4800, 9600, 19200)[z]
    line = bench("C", offered="6", flag="OPt", seed=z)
    _, data = line.converse(read_out(b"\x060%d0\r\n" % z, rate, 40))
    check_block(data, line.meter)
    assert line.meter.events == ["sign-on", f"ack 0{z}0"]
    assert line.meter.line.baud == 300  # idle again


def test_reaction_times_are_the_standards_and_drawn_from_the_seed():
    seen = []
    for flag, lowest in (("OPT", 0.2), ("OPt", 0.02)):
        for seed in range(40):
            line = bench("C", flag=flag, seed=seed)
            began = duration_ns(SIGN_ON, 5) / NS
            identification = line.converse(sign_on())
            reaction = line.now_s - began - duration_ns(SIGN_ON, len(identification)) / NS
            assert lowest - 0.001 <= reaction <= 1.501
            seen.append(reaction)
    assert min(seen) < 0.1 and max(seen) > 1.4 and len(set(seen)) > 30


def test_an_acknowledge_that_does_not_come_is_waited_for_1500_ms_and_then_it_reads_out_at_300():
    line = bench("C", reaction_ms=200)
    line.converse(sign_on())
    began = line.now_s

    def listen():
        byte = yield EXPECT, lambda buffer, n: 1, 5000, 5000
        return byte + (yield from everything())

    data = line.converse(listen())
    check_block(bytes((data[0] & 0x7F,)) + data[1:], line.meter)
    assert line.meter.events == ["sign-on", "no ack"]
    assert line.now_s - began - GAP_MS / 1000 - 1.5 == pytest.approx(duration_ns(SIGN_ON, len(data)) / NS, abs=0.1)


@pytest.mark.parametrize(
    "ack", [b"\x06\x30", b"\x06050\n\r", b"\x06080\r\n", b"\x06250\r\n", b"\x06060\r\n", b"xyz", b"\x060\x7f0\r\n"]
)
def test_a_garbled_acknowledge_leaves_it_at_300(ack):
    line = bench("C")
    _, data = line.converse(read_out(ack, 300))
    check_block(data, line.meter)
    assert line.meter.events == ["sign-on", "ack garbled"]


def test_an_acknowledge_at_the_wrong_rate_or_parity_is_garbage():
    def client():
        yield from sign_on()
        yield SWITCH, Line(300)  # 8N1: the parity bit is a 0 that no UART of 7E1 takes
        yield SEND, b"\x06050\r\n"
        yield SWITCH, SIGN_ON
        return (yield from everything())

    line = bench("C")
    check_block(line.converse(client()), line.meter)
    assert line.meter.events == ["sign-on", "ack garbled"]


def test_a_late_acknowledge_is_not_heard():
    line = bench("C")
    _, data = line.converse(read_out(pause_ms=1700, rate=300))
    assert line.meter.events == ["sign-on", "no ack", "ack late"]
    assert parse(data[data.index(b"\r\n") :])[-1] == line.meter.expected()[-1]


@pytest.mark.parametrize("late", [False, True])
def test_silent_without_an_acknowledge(late):
    line = bench("C", silent_without_ack=True)
    _, data = line.converse(read_out(None if not late else b"\x06050\r\n", 300, 1700))
    assert data == b""
    check_block(line.converse(read_out())[1], line.meter)  # idle: a new sign-on is heard
    assert line.meter.events == ["sign-on", "no ack", "sign-on", "ack 050"]


def test_only_000():
    line = bench("C", only_000=True)
    assert line.converse(read_out())[1] == b""
    check_block(line.converse(read_out(b"\x06000\r\n", 300))[1], line.meter)
    assert line.meter.events == ["sign-on", "ack 050", "ack ignored", "sign-on", "ack 000"]


def test_follows_a_lower_rate_than_it_offers():
    line = bench("C", follows="4")
    assert line.converse(read_out())[1] == b""
    check_block(line.converse(read_out(b"\x06040\r\n", 4800))[1], line.meter)


def test_nak_brings_the_same_block_again_and_ack_ends_it():
    def client():
        _, first = yield from read_out()
        yield SEND, b"\x15"  # too late: it has fallen idle
        assert (yield from everything()) == b""
        yield from sign_on()
        yield WAIT, 230
        yield SEND, b"\x06050\r\n"
        yield SWITCH, Line(9600, 7, "E")
        blocks = []
        for answer in (b"\x15", b"\x15", b"\x06"):
            blocks.append((yield from everything(300)))
            yield SEND, answer
        assert (yield from everything()) == b""
        return blocks

    line = bench("C", reaction_ms=250)
    blocks = line.converse(client())
    assert len(blocks) == 3 and len(set(blocks)) == 1
    check_block(blocks[0], line.meter)
    assert line.meter.events[2:] == ["sign-on", "ack 050", "nak", "nak", "ack"]


def test_the_serial_number_addresses_it_with_and_without_zeros():
    line = bench("C", address="00012345", needs_address=True)
    for address in (b"12345", b"00012345", b"000000012345"):
        assert line.converse(sign_on(address))
        line.pass_until(line.now_s + 60)
    for address in (b"", b"12346", b"123450", b"0"):
        assert line.converse(sign_on(address)) == b""
    assert [event for event in line.meter.events if event.startswith("not")] == [
        "not addressed: ''",
        "not addressed: '12346'",
        "not addressed: '123450'",
        "not addressed: '0'",
    ]


def test_history_makes_a_block_of_nine_and_a_half_kilobytes():
    line = bench("C", history=15, full=True, offered="6")
    _, data = line.converse(read_out(b"\x06060\r\n", 19200))
    check_block(data, line.meter)
    assert 9000 < len(data) < 10500
    assert ("1-0:1.8.0*15", *line.meter.expected()[0][1:]) != line.meter.expected()[0]
    assert any(address == "1-0:1.6.0*07" and unit is None for address, _, unit in line.meter.expected())


def test_registers_are_the_household_s_and_never_go_back():
    line = bench("C", flag="OPt", pv_peak_w=9000)
    energies = []
    for _ in range(4):
        check_block(line.converse(read_out())[1], line.meter)
        rows = {address: value for address, value, _ in line.meter.expected()}
        energies.append((float(rows["1.8.0"]), float(rows["2.8.0"])))
        assert re.fullmatch(r"\d{7}\.\d{3}", rows["1.8.0"])
        assert re.fullmatch(r"-\d\d\.\d{3}|\d{3}\.\d{3}", rows["16.7.0"])
        line.pass_until(line.now_s + 1800)
    assert energies == sorted(energies) and energies[0] != energies[-1]


def test_gaps_between_characters_and_the_meters_clock():
    line = bench("C", gap_ms=1400, clock_ppm=15_000, gap_ns=50_000)
    check_block(line.converse(read_out())[1], line.meter)


def test_echo_is_taken_out_by_the_head():
    line = bench("C", echo=True)
    identification, data = line.converse(read_out())
    assert identification.startswith(b"/OPT5")
    check_block(data, line.meter)
    assert line.sent == [b"/?!\r\n", b"\x06050\r\n"]


def test_a_slow_phototransistor_follows_300_and_2400_but_not_9600():
    for rate, z, right in ((300, 0, True), (2400, 3, True), (9600, 5, False)):
        line = bench("C", noise=Noise(stretch_ns=70_000))

        def client(z=z, rate=rate):
            yield from sign_on()
            yield WAIT, 230
            yield SEND, b"\x060%d0\r\n" % z
            yield SWITCH, Line(rate, 7, "E")
            data = b""
            while piece := (yield EXPECT, never, ANSWER_MS, GAP_MS):
                data += piece
            return data

        data = line.converse(client())
        assert data
        if right:
            check_block(bare(data), line.meter)
        else:
            assert bcc(data[1:-1]) != data[-1:] and line.meter.blocks == 1


# --- quirks ---


def test_bad_bcc_once_is_right_after_a_nak_and_bad_again_in_the_next_session():
    def client():
        for _ in range(2):
            yield from sign_on()
            yield WAIT, 230
            yield SEND, b"\x06050\r\n"
            yield SWITCH, Line(9600, 7, "E")
            blocks.append((yield from everything(300)))
            yield SEND, b"\x15"
            blocks.append((yield from everything()))

    for quirk, right in (("bad_bcc_once", [False, True, False, True]), ("bad_bcc", [False] * 4)):
        blocks = []
        line = bench("C", quirks=(quirk,), reaction_ms=250)
        line.converse(client())
        assert [bcc(block[1:-1]) == block[-1:] for block in blocks] == right
        if any(right):
            check_block(blocks[-1], line.meter)
        else:
            assert line.meter.expected() == []


def test_lf_only_and_junk_after_the_switch():
    line = bench("C", quirks=("lf_only", "junk_after_switch"))
    identification, data = line.converse(read_out())
    assert identification.endswith(b"\n") and b"\r" not in identification + data[8:-2]
    stx = data.index(b"\x02")
    assert 2 <= stx <= 4
    check_block(data[stx:], line.meter)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "E"},
        {"quirks": ("sun",)},
        {"offered": "7"},
        {"mode": "B", "offered": "5"},
        {"history": -1},
        {"refusal": "shout"},
        {"programming": "maybe"},
        {"flag": "OP"},
        {"mode": "D", "quirks": ("bad_bcc",)},
    ],
)
def test_options_that_make_no_meter(options):
    with pytest.raises(ValueError):
        IecMeter(**options)


# --- programming mode ---


def test_registers_are_read_without_a_password_where_none_is_needed():
    line = bench("C")
    answers = line.converse(
        programming(
            command(b"R5", b"1.8.0()"),
            command(b"R1", b"1-0:16.7.0*255(1)"),
            command(b"R5", b"77.7.7()"),
            command(b"W5", b"0.9.1(120000)"),
            BREAK,
        )
    )
    assert answers[1] == command(b"P0", b"()")
    for answer in answers[2:5]:
        assert bcc(answer[1:-1]) == answer[-1:]
    rows = [parse(answer[1:-2])[0] for answer in answers[2:4]]
    assert [row[0] for row in rows] == ["1.8.0", "1-0:16.7.0*255"]
    assert rows == line.meter.reads
    assert answers[4][1:-2] == answers[5][1:-2] == b"(ERROR)"
    assert answers[6] == b""
    assert line.meter.events == [
        "sign-on",
        "ack 051",
        "programming",
        "R5 1.8.0",
        "R1 1-0:16.7.0*255",
        "unknown 77.7.7",
        "write refused",
        "break",
    ]
    assert line.converse(sign_on())  # idle at 300 at once


@pytest.mark.parametrize(("answers", "shown"), [("bare", ""), ("printed", "1-0:1.8.0*255"), ("asked", "1.8.0")])
def test_a_register_is_answered_with_this_address(answers, shown):
    line = bench("C", full=True, answers=answers)
    answer = line.converse(programming(command(b"R5", b"1.8.0()")))[-1]
    assert parse(answer[1:-2])[0][0] == shown


def test_the_password():
    read = command(b"R5", b"1.8.0()")
    line = bench("C", password="00000042", operand="12345678")
    answers = line.converse(programming(read, command(b"P1", b"(00000042)"), read, BREAK))
    assert answers[1] == command(b"P0", b"(12345678)")
    assert answers[2][1:-2] == b"(ERROR)"
    assert answers[3] == b"\x06"
    assert answers[4].startswith(b"\x021.8.0(")
    assert line.meter.events[3:] == ["refused 1.8.0", "password", "R5 1.8.0", "break"]


@pytest.mark.parametrize(
    ("refusal", "answer"), [("err", b"\x02(ERR)\x03"), ("nak", b"\x15"), ("break", b"\x01B0\x03q")]
)
def test_wrong_passwords_lock_it(refusal, answer):
    line = bench("C", password="00000042", refusal=refusal)
    for _ in range(3):
        got = line.converse(programming(command(b"P1", b"(1)")))[-1]
        assert got.startswith(answer)
        line.pass_until(line.now_s + 61)
    assert line.meter.wrong_passwords == 3
    assert line.converse(programming(command(b"P1", b"(00000042)")))[-1].startswith(answer)
    assert line.meter.events[-1] == "locked"
    assert line.meter.wrong_passwords == 3


@pytest.mark.parametrize(
    ("how", "answer"), [("break", b"\x01B0\x03q"), ("silent", b""), ("readout", b"\x02F.F(00000000)")]
)
def test_programming_mode_may_be_refused(how, answer):
    line = bench("C", programming=how)
    assert line.converse(programming())[-1][: len(answer) or None] == answer


def test_long_answers_come_in_parts():
    line = bench("C", partial_blocks=10, full=True, answers="printed")
    answers = line.converse(programming(command(b"R5", b"1.8.0()"), b"\x06", b"\x15", b"\x06", b"\x06", BREAK))[2:]
    assert answers[1] == answers[2]
    parts = [answers[0], answers[1], answers[3]]
    for part, end in zip(parts, b"\x04\x04\x03", strict=True):
        assert part[:1] == b"\x02" and part[-2] == end and bcc(part[1:-1]) == part[-1:]
    whole = b"".join(part[1:-2] for part in parts)
    assert parse(whole) == line.meter.reads
    assert re.fullmatch(rb"1-0:1\.8\.0\*255\(\d{7}\.\d{3}\*kWh\)", whole)


def test_a_command_with_a_bad_bcc_is_answered_by_nak_and_a_damaged_answer_repeated():
    line = bench("C", quirks=("bad_bcc_once",))  # the first message with a check is P0
    read = command(b"R5", b"1.8.0()")
    answers = line.converse(programming(b"\x15", read[:-1] + b"!", read, b"\x15"))
    assert answers[1] != answers[2] == command(b"P0", b"()")
    assert answers[3] == b"\x15"
    assert answers[4] == answers[5] and bcc(answers[4][1:-1]) == answers[4][-1:]


def test_it_gives_up_waiting_for_commands():
    line = bench("C", patience_s=20)
    line.converse(programming())
    line.pass_until(line.now_s + 15)
    assert line.meter.line.baud == 9600
    assert line.converse(sign_on()) == b""  # not heard at 9600
    line.pass_until(line.now_s + 6)
    assert line.meter.events[-1] == "gave up waiting"
    assert line.converse(sign_on())


# --- battery meters ---


def wake_up(nuls, pause_ms):
    yield SWITCH, SIGN_ON
    for _ in range(nuls // 36):
        yield SEND, bytes(36)
    yield WAIT, pause_ms


def test_a_battery_meter_sleeps():
    def client(nuls=72, pause_ms=1600):
        yield from wake_up(nuls, pause_ms)
        return (yield from read_out(None, 2400))

    line = bench("B", battery=True)
    assert line.converse(sign_on()) == b""
    assert line.converse(client(nuls=36)) == (b"", b"")
    assert line.converse(client(pause_ms=1000)) == (b"", b"")
    assert line.converse(client(pause_ms=2000)) == (b"", b"")
    assert line.meter.events == ["wake-up too short", "wake-up: wrong pause", "wake-up: wrong pause"]
    identification, data = line.converse(client())
    assert identification == b"/OPTCUH50\r\n"
    check_block(data, line.meter)
    assert max(text.count(b")") for text in data.split(b"\r\n")) >= 3
    rows = {address: (value, unit) for address, value, unit in line.meter.expected()}
    assert rows["6.8"] == ("0326.062", "MWh") and rows["9.4"] == ("108.5*C&088.1*C", None)
    line.pass_until(line.now_s + 5)
    assert line.converse(sign_on()) == b""  # asleep again
    assert line.converse(client())[0] == identification


# --- push ---


@pytest.mark.parametrize(("baud", "character"), [(2400, "3"), (9600, "5")])
def test_mode_d_pushes(baud, character):
    line = bench("D", baud=baud, period_s=4, full=True)

    def client():
        yield SWITCH, Line(baud, 7, "E")
        telegrams = []
        for _ in range(3):
            telegrams.append((yield from everything(500, 5000)))
            times.append(line.now_s)
            expected.append(line.meter.expected())
        return telegrams

    times, expected = [], []
    telegrams = line.converse(client())
    for telegram, rows in zip(telegrams, expected, strict=True):
        assert telegram.startswith(f"/OPT{character}".encode()) and telegram.endswith(b"\r\n!\r\n")
        assert telegram.split(b"\r\n")[1] == b"" and b"\x02" not in telegram and b"\x03" not in telegram
        assert parse(telegram.partition(b"\r\n")[2]) == rows
    assert telegrams[0] != telegrams[1]
    assert all(b - a == pytest.approx(4, abs=0.1) for a, b in itertools.pairwise(times))


def test_p1_pushes_every_second_with_its_crc():
    line = bench("P1", pv_peak_w=9000)

    def client():
        yield SWITCH, Line(115200)
        telegrams = []
        for _ in range(3):
            data = b""
            while piece := (yield EXPECT, never, 1200, 20):
                data += piece
                if len(piece) < 256:
                    break
            telegrams.append(data)
            assert parse(data.partition(b"\r\n")[2].rpartition(b"!")[0]) == line.meter.expected()
        return telegrams

    for telegram in line.converse(client(), until_s=10):
        text, mark, crc = telegram.rpartition(b"!")
        assert int(crc, 16) == crc16_arc(text + mark) and re.fullmatch(rb"[0-9A-F]{4}\r\n", crc)
        assert b"1-0:2.8.2(000612.3" in text
    assert crc16_arc(b"123456789") == 0xBB3D
    assert line.now_s < 4


def test_p1_with_a_wrong_crc_says_nothing():
    meter = IecMeter("P1", quirks=("bad_bcc_once",))
    first = meter.poll(0, 0)
    assert first.expected == [] and meter.expected() == []
    assert crc16_arc(first.data[: first.data.index(b"!") + 1]) != int(first.data[-6:-2], 16)
    second = meter.poll(1, 0.1)
    assert second.expected == meter.expected() != []


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same(mode):
    runs = []
    for _ in range(2):
        meter = IecMeter(mode, seed=7)
        runs.append((meter.serial, meter.identification(), meter.rows(100.0), meter.rows(200.5)))
    assert runs[0] == runs[1]
    assert runs[0][2] != runs[0][3]


# --- the bench ---


def test_a_hundred_read_outs_at_random_reaction_times_lose_nothing():
    # 100 here; the thousand of the count are the conversation's own test.
    began = time.process_time()
    for seed in range(100):
        line = bench("C", seed=seed, flag="OPt" if seed % 2 else "OPT", echo=seed % 3 == 0)
        check_block(line.converse(read_out(pause_ms=40 if seed % 2 else 230))[1], line.meter)
    # 5 ms each measured; a crowded machine may take ten times that
    assert time.process_time() - began < 5


def test_the_bench_ends_and_closes_what_does_not_end():
    closed = []

    def endless():
        try:
            while True:
                yield WAIT, 1000
        finally:
            closed.append(True)

    line = bench("C")
    assert line.converse(endless(), until_s=5) is None
    assert closed and 4.9 < line.now_s < 6.1
    with pytest.raises(ValueError, match=f"{MAX_SENT} bytes"):
        line.converse(iter_of((SEND, bytes(MAX_SENT + 1))), until_s=100)
    with pytest.raises(ValueError, match="line action"):
        line.converse(iter_of((99,)), until_s=100)


def iter_of(*actions):
    yield from actions


# --- the server, in real time ---


def connect(server, settings):
    board = socket.create_connection(("127.0.0.1", server.port))
    board.sendall(f"uart {settings}\n".encode())
    board.settimeout(0.02)
    return board


def read_until(board, complete, within_s=10.0):
    data, until = b"", time.monotonic() + within_s
    while not complete(data):
        assert time.monotonic() < until, f"only {data!r} came"
        try:
            data += board.recv(4096)
        except TimeoutError:
            continue
    return data


def parity(data):
    return bytes(byte | (byte.bit_count() & 1) << 7 for byte in data)


def ask_and_switch(server, ack=b"\x06050\r\n", settings="1 9600 8 N 1 0", wait=True):
    """As a board does it: the old connection is closed as soon as the acknowledge has left, or still before."""
    board = connect(server, "1 300 8 N 1 0")
    board.sendall(parity(b"/?!\r\n"))
    identification = bare(read_until(board, lambda data: data.endswith(b"\x0a")))
    board.sendall(parity(ack))
    if wait:
        time.sleep(duration_ns(SIGN_ON, len(ack)) / NS / server.speed)
    board.close()
    return identification, connect(server, settings)


def test_server_follows_the_meter_through_its_change_of_rate():
    meter = IecMeter("C", flag="OPt", reaction_ms=(500, 700))  # a busy machine needs it to change its rate
    with OpticalServer(meter) as server:
        for n in (1, 2):  # the second time from the meter that has fallen idle
            identification, board = ask_and_switch(server)
            assert identification == meter.identification()
            data = bare(read_until(board, lambda data: len(data) > 1 and data[-2] & 0x7F == 3))
            check_block(data, meter)
            board.sendall(parity(b"\x06"))
            time.sleep(0.05)
            board.close()
            assert server.telegrams_sent == n and server.log[-1].expected == meter.expected()
            assert server.log[-1].n_bytes == len(data)
            assert meter.line.baud == 300
    assert meter.events == ["sign-on", "ack 050", "ack"] * 2
    assert server.meter.led.line.baud == 9600  # what it sent with last


def test_what_a_board_sent_before_it_left_still_reaches_the_meter():
    meter = IecMeter("C", flag="OPt", reaction_ms=20)
    with OpticalServer(meter) as server:
        _, board = ask_and_switch(server, wait=False)
        board.sendall(parity(b"!"))  # from the same LED, so behind the acknowledge: a meter that talks is deaf
        read_until(board, lambda data: len(data) > 1 and data[-2] & 0x7F == 3)
        board.close()
    assert meter.events == ["sign-on", "ack 050"]


def test_server_nak_at_the_new_rate():
    meter = IecMeter("C", flag="OPt", reaction_ms=(500, 700), quirks=("bad_bcc_once",))
    with OpticalServer(meter) as server:
        _, board = ask_and_switch(server)
        bad = bare(read_until(board, lambda data: len(data) > 1 and data[-2] & 0x7F == 3))
        board.sendall(parity(b"\x15"))
        good = bare(read_until(board, lambda data: len(data) > 1 and data[-2] & 0x7F == 3))
        board.close()
    assert bcc(bad[1:-1]) != bad[-1:]
    check_block(good, meter)


def test_server_gives_garbage_after_a_change_the_meter_did_not_make():
    meter = IecMeter("C", flag="OPt", reaction_ms=20)
    with OpticalServer(meter, speed=4) as server:
        _, board = ask_and_switch(server, b"\x06000\r\n")
        data = read_until(board, lambda data: len(data) > 100)
        assert b"1.8.0" not in bytes(byte & 0x7F for byte in data)
        board.close()


def test_a_board_that_comes_back_is_in_the_same_air():
    with OpticalServer(IecMeter("C"), noise=Noise(glitch_hz=100, glitch_ns=4_000_000, seed=3)) as server:
        channels = set()
        for _ in range(4):
            board = connect(server, "1 300 8 N 1 0")
            read_until(board, lambda data: len(data) > 2)
            channels |= {head.channel for head in server.heads.here}
            board.close()
        assert len(channels) == 1
        assert server.heads.noise_counts()["glitch"] == next(iter(channels)).counts["glitch"] > 2


_UART_SCRIPT = """
import time
import machine
uart = machine.UART(1, baudrate=300, bits=7, parity=0, stop=1, invert=0)
began = time.ticks_ms()
uart.write(b"12345")
assert not uart.txdone()
uart.write(b"67890x")
polls = 0
while not uart.txdone():
    polls += 1
    time.sleep_ms(1)
print("took", time.ticks_diff(time.ticks_ms(), began), polls)
uart.init(baudrate=9600, bits=7, parity=0, stop=1, invert=0)
assert uart.txdone()
uart.write(b"!")
"""


@pytest.mark.parametrize("runtime_name", ["micropython", "cpython"])
def test_the_fake_uart_says_truly_when_the_last_bit_has_left(runtime_name):
    class Ears:
        line = SIGN_ON
        heard = b""

        def poll(self, now_s, free_s):
            return None

        def receive(self, byte, at_s):
            self.heard += bytes((byte,))
            if len(self.heard) == 11:
                self.line = Line(9600, 7, "E")

    source = Ears()
    with OpticalServer(source) as server:
        environment = {**os.environ, "OPTOPROBE_LINE_PORT": str(server.port)}
        if runtime_name == "micropython":
            environment["MICROPYPATH"] = str(FAKES)
            command = [str(runtime.micropython()), "-c", _UART_SCRIPT]
        else:
            environment["PYTHONPATH"] = str(FAKES)
            command = [sys.executable, "-c", "import on_cpython" + _UART_SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        until = time.monotonic() + 5
        while len(source.heard) < 12 and time.monotonic() < until:
            time.sleep(0.01)
    assert done.returncode == 0, done.stderr
    word, took_ms, polls = done.stdout.split()
    assert word == "took" and int(took_ms) >= 366 and int(polls) > 0  # 11 bytes of 10 bits at 300 baud
    assert len(source.heard) == 12 and source.heard[-1:] == b"!"
