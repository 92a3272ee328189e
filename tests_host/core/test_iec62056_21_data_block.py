"""The IEC 62056-21 listener. Any bytes: an event or a counted error, never an exception, never a stall.

A block with a check (BCC, CRC-16) comes out exactly as the meter printed it, or not at all. One without is taken only
when it has its end and every line of it is data sets; it is marked, and no reading comes from a line that is none.

A row is (name, bytes, expected readings, checked). Expected are (address, value, unit) as printed, one a bracket group:
the simulated meter's own, or written down by hand. Real captures, where they lie beside the clone, are compared with
what independent decoders read from them.
"""

import functools
import json
import random
import re

import pytest
from support.corpus import recorded
from support.iec_rows import (
    BY_NAME,
    END,
    ENERGY,
    ETX,
    HEX_TEXT,
    IDENT,
    LINES,
    LONG_ROW,
    NAMES,
    NEXT_EXPECTED,
    NEXT_TELEGRAM,
    ROWS,
    STX,
    Heard,
    begin_of,
    end_mark_of,
    framed,
    hear,
    make,
    p1,
    pushed,
    triple,
    wanted_of,
)
from support.listener_harness import in_pieces

from metering.characters import is_even, with_parity
from metering.iec62056_21.data_block import BUFFER_SIZE, Iec62056_21
from metering.line import Line
from metering.listener import NOTHING, REJECTED, TELEGRAM
from metering.obis import obis_text
from optoprobe.virtual.iec62056_21_meter import IecMeter

FLIPS_SAMPLED = 120  # of a row's some 3,000 bits; one row of each kind has every bit flipped
every_row = pytest.mark.parametrize(("name", "data", "expected", "checked"), ROWS, ids=NAMES)


def test_the_rows_are_many_and_have_names_of_their_own():
    assert len(set(NAMES)) == len(ROWS) > 45
    assert sum(not checked for *_, checked in ROWS) == 8
    for _, data, _, checked in ROWS:
        if ETX in data and checked:
            assert data[-1] != 0x2F  # a lost BCC would be found in the next telegram's /


@every_row
def test_whole_and_in_pieces(name, data, expected, checked):
    for step in (None, 1, 2, 7, 100):
        heard = hear(data, step)
        assert (heard.telegrams, heard.rejected, heard.checked) == ([expected], [], [checked]), step
        assert heard.offsets == [begin_of(data)]
        assert heard.listener.rejected == dict.fromkeys(Iec62056_21.REASONS, 0)
        assert heard.idents[0][0] == "OPT" and " " not in heard.idents[0][2]


@every_row
def test_split_at_every_point(name, data, expected, checked):
    for at in range(1, len(data)):
        heard = Heard([data[:at], data[at:]])
        assert (heard.telegrams, heard.rejected, heard.checked) == ([expected], [], [checked]), at


def noises_of(draw):
    noises = [draw.randbytes(n) for n in (1, 2, 3, 5, 50, 500, 5000)]
    noises += [bytes(draw.randrange(128, 256) for _ in range(n)) for n in (3, 300)]
    noises += [b"/" * n for n in (1, 2, 70)] + [b"\xaf" * 70, b"(" * 40, STX * 9, b"!\r\n", b"\n", b"/?!\r\n"]
    noises += [NEXT_TELEGRAM[draw.randrange(1, len(NEXT_TELEGRAM)) :] for _ in range(8)]  # came in the middle
    noises += [NEXT_TELEGRAM[: draw.randrange(1, len(NEXT_TELEGRAM))] for _ in range(8)]  # was cut
    return noises + [a + b"\x00" + b for a, b in zip(noises, reversed(noises), strict=True)]


@every_row
def test_after_noise(name, data, expected, checked):
    """What has no check, or no more than a BCC on a line with parity, is taken at once where the noise was no telegram
    that failed, else when it comes again."""
    for noise in noises_of(random.Random(name)):
        heard = hear(noise + data)
        if heard.rejected and (not checked or b"/OPT" not in data):
            heard = hear(noise + data + data)
            assert heard.reasons[-1] == "shape" and heard.offsets == [len(noise + data) + begin_of(data)], noise
        else:
            assert heard.offsets == [len(noise) + begin_of(data)], noise
        assert heard.telegrams == [expected], noise


@every_row
def test_cut_at_every_length(name, data, expected, checked):
    """Nothing comes of what is cut, and what follows it directly is read."""
    end_mark = end_mark_of(data)
    for n in range(len(data)):
        heard = hear(data[:n], finish=True)
        if n > end_mark and heard.telegrams:  # a block whose check alone is lost, or that has none
            assert (heard.telegrams, heard.checked[0] and not checked) == ([expected], False), n
        else:
            assert heard.telegrams == [], n
        begun = n > data.index(b"\n", begin_of(data))
        assert bool(heard.telegrams or heard.rejected) == begun, n  # counted
        heard = hear(data[:n] + NEXT_TELEGRAM)
        assert heard.telegrams[-1] == NEXT_EXPECTED, n
        assert heard.offsets[-1] == n
        if heard.telegrams[:-1]:
            assert (n > end_mark, heard.telegrams[:-1]) == (True, [expected]), n


def test_cut_with_parity_before_another_with_parity():
    """The next telegram's / with its parity bit stands where the BCC is due."""
    data, follows = BY_NAME["parity bits, framed"][0], with_parity(NEXT_TELEGRAM)
    for n in range(len(data)):
        for step in (None, 1):
            heard = hear(data[:n] + follows + follows, step)  # on a line with faults the first one must come again
            last = n if not heard.rejected else n + len(follows)
            assert (heard.telegrams[-1], heard.offsets[-1]) == (NEXT_EXPECTED, n + len(follows)), n
            assert heard.offsets[0] == last and heard.reasons[1:] in ([], ["shape"]), n


def test_what_reads_like_an_identification_within_a_line_is_none():
    data = framed(LINES + b"0.3.0(1000*Imp/kWh\r\n" + LINES + END)
    heard = hear(data[:-1] + b"\x7f" + NEXT_TELEGRAM)  # /kWh has no baud character
    assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], ["checksum"])


def test_a_cut_block_and_noise_that_eight_bits_let_by():
    cut = STX + LINES + b"2.8.0(00"
    for noise in (b"\x80\x81", b"12", b"\r\n"):
        block = cut[1:] + noise + ETX
        chance = bytes((functools.reduce(int.__xor__, block),))
        heard = hear(IDENT + STX + block + chance + NEXT_TELEGRAM)
        assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], ["line"])


@every_row
def test_head_cut_at_every_length(name, data, expected, checked):
    for n in range(begin_of(data) + 1, len(data)):
        heard = hear(data[n:] + NEXT_TELEGRAM)
        assert (heard.telegrams, heard.offsets) == ([NEXT_EXPECTED], [len(data) - n]), n


def test_a_pushed_telegram_is_whole_with_its_end_mark_alone():
    for make_telegram in (pushed, p1):
        data = make_telegram(LINES, end=b"")
        assert hear(data).telegrams == []  # its check may be still to come
        assert hear(data, finish=True).telegrams == [ENERGY]
        for step in (None, 1):
            heard = hear(data + data + NEXT_TELEGRAM, step)
            assert (heard.telegrams, heard.rejected) == ([ENERGY, ENERGY, NEXT_EXPECTED], [])


def test_a_framed_block_stripped_of_its_check():
    """Reading programs store it so; nothing may follow that could be its check."""
    bare = IDENT + STX + LINES + END
    heard = hear(bare, finish=True)
    assert (heard.telegrams, heard.checked) == ([ENERGY], [False])
    assert hear(bare).telegrams == []
    assert hear(bare + b"x", finish=True).reasons == ["cut off"]
    assert hear(bare + ETX, finish=True).reasons == ["cut off"]
    assert hear(bare, finish=True, needs_check=True).reasons == ["no checksum"]
    assert hear(bare + NEXT_TELEGRAM).telegrams == [NEXT_EXPECTED]


# --- damage ----------------------------------------------------------------------------------------------------------


def flipped(data, bits):
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(damaged)


def check_flips(name, bits):
    """Of a row with a check: nothing comes out, or the very same; only a framed block's identification may differ."""
    data, expected, _ = BY_NAME[name]
    begin = begin_of(data)
    uncovered = range(begin, data.index(STX, begin) + 1) if STX in data[begin:] else range(0)
    ident = hear(data).idents[0]
    passed = 0
    for bit, damaged in flipped(data, bits):
        heard = hear(damaged + NEXT_TELEGRAM)
        assert (heard.telegrams[-1], heard.offsets[-1]) == (NEXT_EXPECTED, len(data)), f"bit {bit}"
        if heard.telegrams[:-1]:
            passed += 1
            assert heard.telegrams[:-1] == [expected], f"bit {bit}"
            assert heard.idents[0] == ident or bit // 8 in uncovered, f"bit {bit}"
    return passed


@pytest.mark.parametrize("name", ["C", "P1", "parity bits, framed", "CRC without leading zero, lower case"])
def test_every_single_bit_flipped(name):
    data = BY_NAME[name][0]
    passed = check_flips(name, range(8 * len(data)))
    # the identification's letters and what stands behind a CRC, its own case, the BCC's bit 7
    assert passed < 8 * 24


CHECKED = [name for name, (_, _, checked) in BY_NAME.items() if checked]
UNCHECKED = [name for name, (_, _, checked) in BY_NAME.items() if not checked]


@pytest.mark.parametrize("name", CHECKED)
def test_bits_flipped(name):
    data = BY_NAME[name][0]
    envelope = [*range(8 * len(IDENT) + 32), *range(8 * len(data) - 96, 8 * len(data))]
    sampled = random.Random(name).sample(range(8 * len(data)), min(FLIPS_SAMPLED, 8 * len(data)))
    check_flips(name, [bit for bit in envelope if bit < 8 * len(data)] + sampled)


SET = rb" *[A-Za-z0-9:.*& -]*(?:\([^()]*\))+ *"


def plain_reading(data):
    """What an unchecked telegram says, the simple way; None where a line of it is no data sets."""
    text = bytes(data)
    text = text[text.index(b"\n") + 1 : text.rindex(b"!")]
    found, address = [], None
    for line in re.split(rb"[\r\n]+", text):
        if not re.fullmatch(rb"(?:" + SET + rb")* *", line) or re.search(rb"[^\x20-\x7e]", line):
            return None
        for printed, groups in re.findall(rb"([^()]*)((?:\([^()]*\))+)", line):
            address = printed.strip() or address
            if address is None:
                return None
            for group in re.findall(rb"\(([^()]*)\)", groups):
                value, star, unit = group.partition(b"*")
                if b"*" in unit or not star:
                    value, unit = group, b""
                found.append((address.decode(), value.strip().decode(), unit.strip().decode() or None))
    return found


@pytest.mark.parametrize("name", UNCHECKED)
def test_every_single_bit_flipped_of_what_has_no_check(name):
    data, expected, _ = BY_NAME[name]
    parity = b"/OPT" not in data
    if not parity:
        assert plain_reading(data) == expected
    taken = 0
    for bit, damaged in flipped(data, range(8 * len(data))):
        heard = hear(damaged + NEXT_TELEGRAM)
        assert heard.telegrams[-1] == NEXT_EXPECTED, f"bit {bit}"
        if heard.telegrams[:-1]:
            taken += 1
            assert heard.checked[0] is False
            # with parity every single flip is seen; behind the end mark it is not the telegram's any more
            assert heard.telegrams[0] == (expected if parity else plain_reading(damaged)), f"bit {bit}"
    assert parity or 0 < taken < 8 * len(data)


@every_row
def test_bytes_lost_and_doubled(name, data, expected, checked):
    """One byte lost or doubled: at most the telegram it belongs to is lost, and nothing false is read."""
    for at in range(len(data)):
        fewer = data[:at] + data[at + 1 :]
        more = data[:at] + data[at : at + 1] + data[at:]
        for damaged in (fewer, more):
            heard = hear(damaged + NEXT_TELEGRAM)
            assert heard.telegrams[-1] == NEXT_EXPECTED, at
            if heard.telegrams[:-1] and checked:
                assert heard.telegrams[:-1] == [expected], at
            elif heard.telegrams[:-1] and b"/OPT" in data:
                assert heard.telegrams[:-1] == [plain_reading(damaged)], at


NO_DATA_SETS = (
    b"hello", b"1.8.0(0012.345*kWh", b"1.8.0 0012.345*kWh)", b"1.8.0((0012.345*kWh)", b"1.8.0(0012.345*kWh))",
    b"1.8.0(12)(", b"1.8.0()(0012(3*kWh)", b"1.8.0(00\x8012)", b"1.8\x80.0(12)", b"\x801.8.0(12)",
    b"1.8.0(0\x0712*kWh)",
    b"1.8.0(12x4*kWh)", b"1.8.0(1.2.4*kWh)", b"1.8.0(--12*kWh)", b"1.8.0(12.*kWh)", b"1.8,0(12)", b"1.8.0[12]",
    b"\x01" b"16.7.0(12*W)", b"16.7.0(12*W)x", b"16.7.0(12*W)\x00", b"a long way to a bracket for an address(12)",
    b"1/8.0(1)", b"(12)", b"\x7f", b"x.7.0(1)",
)  # fmt: skip


@pytest.mark.parametrize("line", NO_DATA_SETS)
def test_without_a_check_one_line_that_is_no_data_set_spoils_the_telegram(line):
    for step in (None, 1):
        if line != b"(12)":  # belongs to the set before it, where there is one
            heard = hear(pushed(LINES + line + b"\r\n" + LINES) + NEXT_TELEGRAM, step)
            assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], ["line"])
            heard = hear(pushed(LINES + line + b"\r\n") + NEXT_TELEGRAM, step)
            assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], ["line"])
        heard = hear(pushed(line + b"\r\n" + LINES) + NEXT_TELEGRAM, step)
        assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], ["line"])
    # under a check it is what the meter sent: the lines beside it are read
    with_check = hear(framed(LINES + line + b"\r\n" + LINES + END))
    if with_check.telegrams:
        assert with_check.telegrams[0][0] == with_check.telegrams[0][-1] == ENERGY[0]
    else:  # no meter prints control characters: eight bits let that by
        assert with_check.reasons == ["line"] and re.search(rb"[^\x20-\x7e]", line)


def test_reasons():
    good = framed(LINES + END)
    wrong = good[:-1] + bytes((good[-1] ^ 1,))
    version = p1(b"1-3:0.2.8(50)\r\n" + LINES)
    parity = with_parity(good)
    odd = parity[:20] + bytes((parity[20] ^ 0x80,)) + parity[21:]
    for data, reason in (
        (wrong, "checksum"),
        (p1(LINES, digits="%05X"), "checksum"),
        (pushed(LINES, end=b"x\r\n"), "checksum"),
        (version[: version.index(b"!") + 1] + b"\r\n", "no checksum"),
        (odd, "parity"),
        (good[:-6], "cut off"),
        (IDENT + STX + b"\xfe" * (BUFFER_SIZE + 1), "too long"),
        (pushed(b"what\r\n" + LINES), "line"),
        (pushed(b""), "no data"),
        (framed(END), "no data"),
    ):
        heard = hear(data + NEXT_TELEGRAM)
        assert (heard.telegrams, heard.reasons) == ([NEXT_EXPECTED], [reason])
    heard = hear(good + framed(LINES * 2 + END) * 2, needs_check=True)  # two lost characters may cancel out
    assert (heard.telegrams, heard.reasons) == ([ENERGY, ENERGY * 2], ["shape"])
    told = {"checksum", "no checksum", "parity", "cut off", "too long", "line", "shape", "no data"}
    assert set(Iec62056_21.REASONS) == told


@pytest.mark.parametrize("step", [1, 256, None])
def test_no_end_of_a_line(step):
    for junk in (b"\x55" * 50_000, b"(" * 20_000, b")" * 20_000, b"/" * 20_000, b"\x03" * 20_000):
        heard = hear(IDENT + STX + junk + NEXT_TELEGRAM, step)
        assert heard.telegrams == [NEXT_EXPECTED]
        assert heard.rejected[0][1] == 0 and len(heard.rejected) <= len(junk) // 500 + 20


# --- any bytes -------------------------------------------------------------------------------------------------------


def random_stream(draw):
    """Bytes, brackets, slashes, starts, ends and pieces of telegrams, none of them whole."""
    parts = []
    for _ in range(draw.randrange(1, 8)):
        kind = draw.randrange(8)
        if kind == 0:
            parts.append(draw.randbytes(draw.randrange(80)))
        elif kind == 1:
            parts.append(bytes(draw.randrange(128, 256) for _ in range(draw.randrange(80))))
        elif kind == 2:
            one = draw.choice((b"/", b"\xaf", b"(", b")", b"*", STX, b"\x82", b"!", b"\n"))
            parts.append(one * draw.randrange(1, 30))
        elif kind == 3:
            parts.append(draw.choice((IDENT, with_parity(IDENT), b"/OPT5X1", STX, b"!\r\n", ETX)))
        elif kind == 4:
            parts.append(bytes(draw.choice(b"/!()*.:&-01289kWh\r\n\x02\x03") for _ in range(draw.randrange(60))))
        else:
            data = ROWS[draw.randrange(len(ROWS))][1]
            at = draw.randrange(1, len(data))
            parts.append(data[at : at + draw.randrange(1, 60)])
    return b"".join(parts)


def test_ten_thousand_random_streams():
    draw = random.Random(2026)
    listener = make()
    checked = unchecked = rejected = 0
    for _ in range(10_000):
        data = random_stream(draw)
        step = draw.choice((1, 5, 64, 4096))
        heard = Heard(in_pieces(data, step), listener=listener)
        checked += sum(heard.checked)
        unchecked += len(heard.checked) - sum(heard.checked)
        rejected += len(heard.rejected)
        for telegram, was_checked in zip(heard.telegrams, heard.checked, strict=True):
            # a short row's block may be whole among the pieces; nothing else passes with a check
            assert not was_checked or any(set(telegram) <= set(expected) for _, _, expected, _ in ROWS), telegram
    assert rejected > 1_500
    assert checked < 150 and unchecked < 30
    Heard([bytes(BUFFER_SIZE)], listener=listener)  # what was open is given up for too long a line
    assert Heard([NEXT_TELEGRAM], listener=listener).telegrams == [NEXT_EXPECTED]


def test_any_stream_means_the_same_in_any_pieces():
    draw = random.Random(99)
    for _ in range(400):
        whole = b"".join(draw.choice(ROWS)[1] for _ in range(draw.randrange(3)))
        data = random_stream(draw) + whole + random_stream(draw)
        for options in ({}, {"size": 1500}, {"history": False}):
            found = []
            for step in (None, 1, 37):
                heard = hear(data, step, finish=True, **options)
                dropped = heard.listener.values_dropped
                found.append((heard.telegrams, heard.checked, heard.offsets, heard.rejected, dropped))
            assert found[0] == found[1] == found[2], data


@pytest.mark.parametrize(
    "alphabet", [bytes(range(128, 256)), b"/", b"/A", b"(", b"\x02", b"\xaf", b"/OPT5\n", b"()!\n/AAA5"]
)
def test_noise_of_one_kind(alphabet):
    draw = random.Random(alphabet.hex())
    for prefix in (b"", IDENT, IDENT + STX, with_parity(IDENT)):
        noise = prefix + bytes(draw.choice(alphabet) for _ in range(12_000))
        for step in (1, 4096):
            heard = hear(noise + b"\n" + NEXT_TELEGRAM, step)
            assert heard.telegrams[-1] == NEXT_EXPECTED


def test_damage_under_a_right_check_never_raises():
    """The data sets may be anything here: the check is made anew after the damage."""
    draw = random.Random(7)
    listener = make()
    for _ in range(5_000):
        data, _, _ = BY_NAME[draw.choice(CHECKED)]
        if b"/OPT" not in data:
            continue
        data = bytearray(data[data.index(b"\n", begin_of(data)) + 1 : end_mark_of(data)].replace(STX, b""))
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(data))
            what = draw.randrange(3)
            if what == 0:
                data[at] = draw.choice(b"()*.!& \r\n\x00\x7f\x80\xff+-")
            elif what == 1:
                del data[at : at + draw.randrange(1, 5)]
            else:
                data[at:at] = draw.randbytes(draw.randrange(1, 5))
            data = data or bytearray(b"x")
        lines = bytes(data).replace(STX, b"").replace(ETX, b"").replace(b"/", b"").replace(b"\xaf", b"")
        for telegram in (framed(lines + END), p1(lines)):
            heard = Heard([telegram, NEXT_TELEGRAM], listener=listener)
            assert heard.telegrams[-1] == NEXT_EXPECTED
            for reading in heard.telegrams[0]:
                assert len(reading) == 3
    assert listener.accepted > 8_000


# --- bounded memory --------------------------------------------------------------------------------------------------


def test_a_whole_read_out_with_history_passes_through_the_usual_buffer():
    meter = IecMeter("C", full=True, history=15)
    block, expected = meter.block(9)
    data = meter.identification() + block
    assert len(data) > 9_000
    current = [row for row in expected if not re.search(r"\*\d\d?$", row[0])]
    assert 20 < len(current) < len(expected) / 5
    for step in (None, 1, 300):
        heard = hear(data, step, history=False)
        assert (heard.telegrams, heard.checked) == ([current], [True])
        assert (heard.listener.values_dropped, heard.lengths) == (0, [len(data)])
        heard = hear(data, step, size=16384)
        assert (heard.telegrams, heard.listener.values_dropped) == ([expected], 0)
    for bit in range(3, 8 * len(data), 997):
        ((_, damaged),) = flipped(data, [bit])
        heard = hear(damaged + NEXT_TELEGRAM, history=False)
        assert heard.telegrams in ([NEXT_EXPECTED], [current, NEXT_EXPECTED]), bit


def sets_of(readings):
    """How many sets the readings come from: a group of ten digits is the time of the maximum before it."""
    return sum(unit is not None or not re.fullmatch(r"\d{10}", value) for _, value, unit in readings)


def test_what_does_not_fit_is_counted_and_the_check_still_decides():
    meter = IecMeter("C", full=True, history=15)
    block, expected = meter.block(9)
    data = meter.identification() + block
    for size in (1400, 2000, 4096):
        listener = make(size)
        heard = Heard([data], listener=listener)
        kept = heard.telegrams[0]
        assert kept == expected[: len(kept)] and heard.checked == [True]
        assert listener.values_dropped == sets_of(expected) - sets_of(kept) > 0
        wrong = data[:-1] + bytes((data[-1] ^ 1,))
        assert hear(wrong, size=size).telegrams == []
        assert hear(data[:3000] + b"(" + data[3000:], size=size).telegrams == []


@pytest.mark.parametrize("step", [None, 1, 500])
def test_one_line_without_line_ends_longer_than_the_room(step):
    sets = [(f"1.{k % 256}.0", f"{k:06d}.5", "kWh") for k in range(400)]
    line = b"".join(b"%s(%s*%s)" % tuple(part.encode() for part in row) for row in sets)
    assert len(line) > BUFFER_SIZE
    for data in (framed(line + b"!"), framed(line + END), framed(line), p1(line), pushed(line)):
        heard = hear(data, step, size=16384, finish=True)
        assert heard.telegrams == [sets]
        heard = hear(data, step, finish=True)
        kept = heard.telegrams[0]
        assert kept == sets[: len(kept)] and len(kept) > 50 and heard.listener.values_dropped == len(sets) - len(kept)
    profile = framed(b"P.01(1)" + b"".join(b"(%04d)" % k for k in range(2000)))
    heard = hear(profile, step, size=16384)
    assert [value for _, value, _ in heard.telegrams[0]] == ["1", *(f"{k:04d}" for k in range(2000))]


def test_a_long_text():
    name, data, expected, checked = LONG_ROW
    assert len(HEX_TEXT) == 1022
    for step in (None, 1, 64):
        heard = hear(data, step)
        assert (heard.telegrams, heard.checked) == ([expected], [checked])
    full = p1(b"".join(b"1-0:1.8.%d(%0100d.5*kWh)\r\n" % (k, k) for k in range(60)) + data[len(IDENT) + 2 : -7])
    heard = hear(full, 64)
    assert heard.listener.values_dropped and heard.checked == [True]


# --- when a check must come ------------------------------------------------------------------------------------------


def test_once_checked_never_again_unchecked():
    checked, bare, other = p1(LINES), pushed(LINES), pushed(LINES, b"/OPT5X2\r\n")
    heard = hear(bare + checked + bare + other + other + checked)
    assert heard.telegrams == [ENERGY] * 4
    assert heard.checked == [False, True, False, True]
    at = len(bare + checked)
    assert heard.rejected == [("no checksum", at), ("shape", at + len(bare))]
    heard = hear(framed(LINES + END) + bare + framed(LINES + END), 1)
    assert (heard.checked, heard.reasons) == ([True, True], ["no checksum"])


def test_needs_check():
    for data in (pushed(LINES), with_parity(pushed(LINES)), p1(LINES)[: -len("1234\r\n")] + b"\r\n"):
        assert hear(data).telegrams == [ENERGY]
        heard = hear(data + NEXT_TELEGRAM * 2, needs_check=True)
        assert (heard.telegrams[-1], heard.reasons[0]) == (NEXT_EXPECTED, "no checksum")
    assert hear(p1(LINES), needs_check=True).telegrams == [ENERGY]


def test_p1_versions_that_must_have_a_crc():
    must_have = {"40": True, "42": True, "50": True, "50217": True, "22": False, "3": False, "": False}
    for version, must in must_have.items():
        lines = b"1-3:0.2.8(%s)\r\n" % version.encode() + LINES
        expected = [("1-3:0.2.8", version, None), *ENERGY]
        heard = hear(pushed(lines) + NEXT_TELEGRAM)
        assert heard.telegrams == ([NEXT_EXPECTED] if must else [expected, NEXT_EXPECTED]), version
        assert heard.reasons == (["no checksum"] if must else [])
        assert hear(p1(lines)).telegrams == [expected]


# --- what the telegram says beside its readings ----------------------------------------------------------------------


def telegram_ready(data, **options):
    """A listener with this telegram in hand."""
    listener = make(**options)
    assert listener.feed(data, 0, len(data)) == len(data)
    assert listener.next_event() == TELEGRAM
    return listener


@pytest.mark.parametrize(
    ("ident", "parts"),
    [
        (b"/OPT5X1\r\n", ("OPT", "5", "X1")),
        (b"/ISk5\\2MT382-1003\r\n", ("ISk", "5", "\\2MT382-1003")),
        (b"/OPT5\\@V10.04     \r\n", ("OPT", "5", "\\@V10.04")),
        (b"/LUGCUH50\r\n", ("LUG", "C", "UH50")),
        (b"/OPT-\n", ("OPT", "-", "")),
        (b"/OPT  a b\r\n", ("OPT", " ", "a b")),
        (b"/OPT5/D3-METER\r\n", ("OPT", "5", "/D3-METER")),
        (b"/OPT5/X\r\n", ("OPT", "5", "/X")),
    ],
)
def test_the_identification(ident, parts):
    for data in (framed(LINES + END, ident), with_parity(framed(LINES + END, ident))):
        listener = telegram_ready(data)
        assert (listener.ident_flag, listener.ident_baud, listener.ident_id) == parts
        assert (listener.maker(), listener.model()) == (parts[0].upper(), parts[2])
        assert listener.length == len(data)


@pytest.mark.parametrize(
    "ident", [b"/OP15X1\r\n", b"/OPT\r\n", b"/OPT\n", b"/OPT5(1)\r\n", b"/OPT5!\r\n", b"/OPT5%064d\r\n" % 0, b"/?!\r\n",
              b"/OPT5/OPT\r\n", b"/OPT55/D3\r\n", b"/OPT5//D3\r\n", b"/OPT/D3-METER\r\n"],
)  # fmt: skip
def test_what_is_no_identification(ident):
    heard = hear(framed(LINES + END, ident) + NEXT_TELEGRAM)
    assert (heard.telegrams, heard.rejected) == ([NEXT_EXPECTED], [])


def test_kamstrup_adds_where_others_take_an_exclusive_or():
    block = b"0.0(00000012345)\r\n6.8(00012.34*GJ)\r\n6.26(00567.8*m3)!\r\n\x03"
    added = bytes((sum(block) & 0x7F,))
    assert added != framed(block[:-1])[-1:]
    for ident in (b"/KAM MC\r\n", b"/KAM0MCC\r\n", b"/KAM 1-2\r\n", b"/OPT MC\r\n", b"/OPT5/KAM\r\n"):
        data = ident + b"\x02" + block + added
        for sent in (data, with_parity(data)):
            heard = hear(sent + NEXT_TELEGRAM)
            assert len(heard.telegrams) == 1 + ident.startswith(b"/KAM"), (ident, heard.rejected)
        if ident.startswith(b"/KAM"):
            assert len(hear(framed(block[:-1], ident)).telegrams) == 1
            wrong = data[:-1] + bytes((data[-1] ^ 1,))
            for damaged in (data.replace(b"567", b"568"), data.replace(b".34", b"34"), wrong):
                assert hear(damaged).telegrams == []


def test_meter_id():
    for lines, text in (
        (LINES, "OPT X1"),
        (b"0.0.0(  12345678)\r\n" + LINES, "12345678"),
        (b"C.1.0(11)\r\n0.0.0(22)\r\n", "11"),
        (b"0.0.0(22)\r\nC.1.0(11)\r\n", "11"),
        (b"0.0.0(00000000)\r\n" + LINES, "OPT X1"),
        (b"0.0.0()\r\n" + LINES, "OPT X1"),
        (b"0-0:42.0.0(ABC1)\r\n0-0:96.1.0(ER23)\r\n", "ABC1"),
        (b"0-0:42.0.0(ABC1)\r\n0-0:96.1.0(ER234)\r\n", "ER234"),
        (b"C.1.0(00)\r\n0.0.0(22)\r\n", "22"),
        (b"1-0:0.0.0*255(1ABC00)\r\n", "1ABC00"),
        (b"1-0:96.1.0*255(1ABC01)\r\n", "1ABC01"),
        (b"9.20(66935074)\r\n9.21(12)\r\n", "66935074"),
        (b"9.21(12)\r\n", "12"),
        (b"0-0:96.1.1(453030)\r\n", "453030"),  # too few digits to be spelled in hex
        (b"0-0:96.1.1(4530303433303036)\r\n", "E0043006"),
        (b"0-0:96.1.1(4530303433303036393938383130383136)\r\n", "E0043006998810816"),
        (b"0-0:96.1.1(FFFFFFFFFFFFFFFFFFFFFFFF)\r\n", "FFFFFFFFFFFFFFFFFFFFFFFF"),
        (b"0-0:96.1.1(453030343330303639393838313038313X)\r\n", "453030343330303639393838313038313X"),
        (b"0-1:96.1.0(3738)\r\n" + LINES, "OPT X1"),  # the gas meter's
        (b"1-1:0.0.0(001OPT0050000005)\r\n1-1:1.8.0(1.5*kWh)\r\n", "001OPT0050000005"),
        (b"1-2:0.0.0(5)\r\n" + LINES, "OPT X1"),
        (b"0-0:42.0.0(4F505431303030303030303030303131)\r\n" + LINES, "OPT1000000000011"),  # Luxembourg
        (b"0-0:96.1.1(31323334353637392020202020202020)\r\n", "12345679"),  # padded with blanks, and digits only
        (b"0-0:96.1.1(313233343536373900000000)\r\n", "12345679"),
        (b"0-0:96.1.0(383930303830303030303030303131)\r\n", "890080000000011"),  # in another register than 96.1.1
        (b"0.0.0(31323334)\r\n", "31323334"),  # a number that could be spelled so
        (b"C.1.0(1234567890123456)\r\n", "1234567890123456"),
        (b"0(12345670)\r\n8.0(1.5*kWh)\r\n", "12345670"),  # VDEW
        (b"0-1:96.1.0(3738)\r\n0-0:96.1.1(55)\r\n", "55"),
    ):
        assert telegram_ready(framed(lines + END)).meter_id() == text, lines


def test_what_detection_must_know():
    parity = telegram_ready(with_parity(framed(LINES + END)))
    assert repr(parity.line_as_sent(Line(9600))) == "9600 7E1"
    assert repr(telegram_ready(pushed(LINES)).line_as_sent(Line(9600, 8, "E"))) == "9600 8E1"
    assert parity.is_reply(Line(300)) and not parity.is_reply(Line(9600))  # ZPA GH305 pushes it with its identification
    assert not telegram_ready(pushed(LINES)).is_reply(Line(300))
    assert parity.identity_for_proof() == "OPT X1" and not parity.takes_keys


def test_energy_without_a_unit_is_kwh():
    def value(line):
        reading = next(telegram_ready(framed(line + b"\r\n" + END)).readings())
        return reading.value, reading.exponent, reading.unit, reading.printed_unit

    assert value(b"1-0:1.8.0*255(014798.1129)") == (147981129, -1, 30, None)
    assert value(b"1.8.1(014798.5)") == (147985, 2, 30, None)
    assert value(b"2.8.0(1.5)") == (15, 2, 30, None)
    assert value(b"3.8.0(1.5)") == (15, 2, 32, None)
    assert value(b"1.8.0(014798)") == ("014798", 0, None, None)  # Wh or kWh: not known
    assert value(b"1.7.0(1.5)") == ("1.5", 0, None, None)
    assert value(b"1.8.0*01(1.5)") == ("1.5", 0, None, None)
    assert value(b"1.8.0*00(1.5)") == (15, 2, 30, None)
    assert value(b"13.7.0(0.98)") == (98, -2, None, None)  # a power factor
    assert value(b"1-0:33.7.0(0.98)") == (98, -2, None, None)
    assert value(b"14.7.0(0000.049*kHz)") == (49, 0, 44, "kHz")
    assert value(b"1.8.0(1.5*kWh)") == (15, 2, 30, "kWh")
    assert value(b"1.8.0(1.5*xyz)") == (15, -1, None, "xyz")
    assert value(b"16.7.0(-0.250*kW)") == (-250, 0, 27, "kW")
    assert value(b"1.6(000012,5*kW)") == (125, 2, 27, "kW")


def test_what_is_published_and_what_stands_aside():
    def aside(line):
        return [reading.is_companion for reading in telegram_ready(framed(line + b"\r\n" + END)).readings()]

    assert aside(b"1.6.1(09.48*kW)(16-03-14,18:45)") == [False, True]
    assert aside(b"0-1:24.2.1(240111090000W)(00112.384*m3)") == [True, False]
    assert aside(b"0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00024.123)") == [True] * 6 + [False]
    assert aside(b"0-1:24.2.1(632525252525S)(00000.000)") == [True, True]  # not heard yet
    assert aside(b"0-1:24.1.0(003)") == [False]
    assert aside(b"0.0.0(1)") == [False]


def codes_of(lines, **options):
    """obis, value, exponent and unit code of each reading."""
    readings = telegram_ready(framed(lines + END), **options).readings()
    return [(obis_text(r.obis), r.value, r.exponent, r.unit) for r in readings]


def test_a_total_of_the_billing_period_0():
    """Pafal and Apator EC3 print nothing else; Landis+Gyr ZMD310 has it as an empty place of its history."""
    running = "1-0:1.8.0*255"
    for history in (False, True):
        assert codes_of(b"1.8.0*00(019.5)\r\n2.8.0*00(023.5)\r\n", history=history) == [
            (running, 195, 2, 30), ("1-0:2.8.0*255", 235, 2, 30),
        ]  # fmt: skip
        assert codes_of(b"1.8.1&00(019.5*kWh)\r\n", history=history) == [("1-0:1.8.1*255", 195, 2, 30)]
        for lines in (b"1.8.0(1.5*kWh)\r\n1.8.0*00(0.0)\r\n", b"1.8.0*00(0.0)\r\n1.8.0(1.5*kWh)\r\n"):
            codes = codes_of(lines, history=history)
            assert (running, 15, 2, 30) in codes and (running, 0, 2, 30) not in codes
        empty = b"1-1:1.8.0(94.5*kWh)\r\n" + b"1-1:1.8.0*00(00.0)\r\n" * 15
        assert [code for code, *_ in codes_of(empty, history=history)].count("1-1:1.8.0*255") == 1
        twice = codes_of(b"1.8.0*00(1.5)\r\n1.8.0*00(2.5)\r\n", history=history)  # which of them?
        assert {code for code, *_ in twice} == {"1-0:1.8.0*0"}
        assert codes_of(b"11.8.0(5.5*kWh)\r\n1.8.0*00(1.5)\r\n", history=history)[1] == (running, 15, 2, 30)
    assert telegram_ready(framed(b"1.8.0(1.5*kWh)\r\n1.8.0*00(0.0)\r\n" + END), history=False).n_values == 1
    assert codes_of(b"1.6.0*00(1.5*kW)\r\n" + LINES, history=False) == codes_of(LINES)


def test_a_profile_with_the_addresses_of_now():
    """Holley's P1 meters print the month before between brackets of their own; a recording is told as printed."""
    month = b"0-0:1.0.0(250501000000T)\r\n1-0:1.8.0(00001.250*kWh  )\r\n1-0:1.6.0(03.500*kW)"
    for opened in (b"0-0:98.1.0\r\n(\r\n", b"0-0:98.1.0(\r\n"):
        for closed in (b"\r\n)\r\n", b")\r\n"):
            lines = b"1-0:1.8.0(00031.500*kWh)\r\n" + opened + month + closed + b"1-0:2.8.0(00002.500*kWh)\r\n"
            now = [("1-0:1.8.0*255", 31500, 0, 30), ("1-0:2.8.0*255", 2500, 0, 30)]
            assert codes_of(lines, history=False) == now, lines
            assert now[0] in codes_of(lines) and ("1-0:1.8.0*255", 1250, 0, 30) in codes_of(lines)
            heard = hear(p1(lines) + p1(LINES), history=False)
            assert [len(telegram) for telegram in heard.telegrams] == [2, LINES.count(b"(")]


def test_a_message_that_nobody_has_written():
    for fill in b"\xff", b"F":
        lines = b"0-0:96.13.1(A)\r\n0-0:96.13.0(" + fill * 1024 + b")\r\n1-0:2.8.0(00002.500*kWh)\r\n"
        assert [code for code, *_ in codes_of(lines, history=False)] == ["0-0:96.13.1*255", "1-0:2.8.0*255"]
        assert [len(reading.text()) for reading in telegram_ready(p1(lines), history=True).readings()] == [1, 1024, 9]
    word = b"0-0:97.97.0(FFFFFFFFFFFFFFFF)\r\n"
    assert [code for code, *_ in codes_of(word, history=False)] == ["0-0:97.97.0*255"]


def test_tariffs_of_heat():
    heat = codes_of(b"6.8(0002.227*MWh)\r\n6.8.1(0001.000*MWh)6.8.2(0001.227*MWh)6.8.3()\r\n9.21.1(5)\r\n")
    assert [code for code, *_ in heat] == [
        "6-0:6.8.0*255", "6-0:6.8.1*255", "6-0:6.8.2*255", "6-0:6.8.3*255", "6-0:9.21.1*255",
    ]  # fmt: skip
    electric = codes_of(b"1.8.0(1.5*kWh)\r\n6.8.1(1.0*kvarh)\r\n1-0:6.8.2(1.0*kvarh)\r\n")
    assert [code for code, *_ in electric][1:] == ["1-0:6.8.1*255", "1-0:6.8.2*255"]


def test_a_unit_in_a_bracket_of_its_own():
    """DSMR 2.2 and 3.0: as printed it has none, and it is a number of m3."""
    *others, last = telegram_ready(
        pushed(b"0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00024.123)\r\n" + LINES)
    ).readings()
    gas = others[6]
    assert (gas.value, gas.exponent, gas.unit, gas.printed_unit, gas.is_companion) == (24123, -3, 13, None, False)
    assert all(reading.is_companion for reading in others[:6]) and last.unit == 30
    ((*_, unknown),) = [codes_of(b"0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.1)(xx)(00024.123)\r\n")]
    assert unknown == ("0-1:24.3.0*255", "00024.123", 0, None)


def test_what_a_telegram_said_is_forgotten_with_the_next():
    listener = telegram_ready(framed(b"6.8(1.5*MWh)\r\n9.21(5)\r\n" + END))
    assert listener.heat and listener.checked and listener.meter_id() == "5"
    data = pushed(LINES, b"/OPT5Y\r\n")
    assert listener.feed(data + data, 0, 2 * len(data)) == 2 * len(data)
    assert (listener.next_event(), listener.next_event()) == (REJECTED, TELEGRAM)
    assert (listener.heat, listener.checked, listener.meter_id()) == (False, False, "OPT Y")


def test_the_readings_may_be_walked_twice_and_left_half_way():
    data, expected, _ = BY_NAME["C"]
    listener = telegram_ready(data + data)
    next(listener.readings())
    assert [triple(r) for r in listener.readings()] == expected
    assert [triple(r) for r in listener.readings()] == expected
    next(listener.readings())
    assert listener.next_event() == TELEGRAM
    assert [triple(r) for r in listener.readings()] == expected


def test_abandon():
    data, expected, _ = BY_NAME["C"]
    for n in (0, 5, 40, 200, len(data) - 1):
        listener = make()
        heard = Heard([data[:n]], listener=listener)
        assert heard.telegrams == []
        begun = n > len("/OPT5OP000\r\n")
        listener.abandon()
        assert listener.rejected["cut off"] == begun
        assert Heard([data], listener=listener).telegrams == [expected]
    listener = telegram_ready(data + data)
    listener.abandon()  # the second, though it lies in the buffer already
    assert listener.next_event() == NOTHING
    assert Heard([NEXT_TELEGRAM], listener=listener).telegrams == [NEXT_EXPECTED]


def test_counters_offsets_and_lengths():
    good = framed(LINES + END)
    damaged = good[:-1] + bytes((good[-1] ^ 1,))
    listener = make()
    heard = Heard([b"noise" + good + damaged + b"more" + good], listener=listener)
    assert (listener.accepted, heard.lengths) == (2, [len(good)] * 2)
    assert listener.rejected == {**dict.fromkeys(Iec62056_21.REASONS, 0), "checksum": 1}
    assert listener.skipped == len(b"noise") + 1 + len(b"more")  # the wrong BCC could begin something
    assert heard.offsets == [5, 5 + 2 * len(good) + 4]
    assert "computed" in listener.detail


def test_a_stream_of_all_rows():
    stream = b"".join(data for _, data, _, checked in ROWS if checked)
    for step in (None, 1, 13, 4096):
        listener = make()
        listener.compares_form = False  # one identification, and hardly two rows alike
        heard = Heard(in_pieces(stream, step), listener=listener)
        assert heard.telegrams == [expected for _, _, expected, checked in ROWS if checked]
        assert heard.rejected == []


def test_even_parity():
    assert all(is_even(byte) for byte in with_parity(bytes(range(128))))


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_corpus_exactly_in_any_chunks():
    telegrams = readings = 0
    captures = recorded("iec62056_21/*.bin")
    for capture in captures:
        content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
        good = [t for t in content["telegrams"] if t["accept"] is True]
        damaged = {t["offset"] for t in content["telegrams"] if t["accept"] is False}
        data = capture.read_bytes()
        for step in (1, 7, 256, len(data)):
            heard = hear(data, step, finish=True, size=12 * 1024)
            assert heard.telegrams == [wanted_of(t) for t in good], (capture.name, step)
            assert heard.offsets == [t["offset"] for t in good] and not damaged & set(heard.offsets)
            assert heard.checked == [t["check_ok"] is True for t in good]
            idents = [(t["ident"]["flag"], t["ident"]["baud_char"], t["ident"]["id"].strip()) for t in good]
            assert heard.idents == idents
        telegrams += len(good)
        readings += sum(len(t["readings"]) for t in good)
    assert (len(captures), telegrams, readings) == (44, 59, 2080)
