"""The SML listener. Any bytes: an event or a counted error, never an exception, never a stall.

A row is (name, bytes, expected readings). Rows come from our own encoder, which shares no code with the decoder and is
itself checked against smllib and pysml in test_sml_encoder.py; expected values come from the simulation, not from the
bytes. Real captures, where they lie beside the clone, are compared with what independent decoders read from them.
"""

import decimal
import json
import random
import re

import pytest
from support import listener_harness as hearing
from support.corpus import recorded

from metering.checksum import CCITT, X25_INIT, crc16, crc_table
from metering.listener import LOCAL_TIMESTAMP, NOTHING, SEC_INDEX, TELEGRAM, TIMESTAMP
from metering.obis import obis_text
from metering.register import unit_symbol
from metering.sml import BUFFER_SIZE, Sml
from optoprobe.virtual import sml_encoder as sml
from optoprobe.virtual.sml_encoder import Entry, SmlTime, Style
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

SERVER = bytes.fromhex("0a014f50540001126cff")
ENERGY = Entry("1-0:1.8.0*255", 147981129, 8, True, -1, 30)
FLIPS_SAMPLED = 120  # of a row's some 2,000 bits; one row has every bit flipped


# --- driving the listener --------------------------------------------------------------------------------------------


def triple(reading):
    return obis_text(reading.obis), reading.text(), unit_symbol(reading.unit)


class Heard(hearing.Heard):
    """What an SML listener, a new one unless given, made of a stream."""

    def __init__(self, chunks, finish=False, listener=None):
        hearing.Heard.__init__(self, listener or Sml(), chunks, triple, finish)


def hear(data, step=None, finish=False):
    return Heard(hearing.in_pieces(data, step), finish)


# --- the rows --------------------------------------------------------------------------------------------------------


def meter_row(name, *quirks, at_s=5, **options):
    meter = SmlMeter(3, quirks=quirks, **options)
    telegram = meter.telegram(at_s)
    return name, telegram, meter.expected()


def fifth_row(quirk):
    """Every fifth telegram of these meters holds no list."""
    meter = SmlMeter(3, quirks=[quirk])
    for at_s in range(4):
        meter.telegram(at_s)
    return f"{quirk}, the fifth", meter.telegram(5), []


def escape_rows():
    meter = SmlMeter(3, quirks=["escape_in_key"])
    for k in range(5):
        telegram = meter.telegram(k)
        yield f"escape_in_key {k}", telegram, meter.expected()


def style_row(name, **style):
    entries = [ENERGY, Entry("1-0:16.7.0*255", -2999, 2, True, -1, 27), Entry("1-0:96.1.0*255", SERVER)]
    expected = [
        ("1-0:1.8.0*255", "14798112.9", "Wh"),
        ("1-0:16.7.0*255", "-299.9", "W"),
        ("1-0:96.1.0*255", SERVER.hex(), None),
    ]
    return name, sml.telegram(entries, SERVER, sensor_time=sml.sec_index(9), style=Style(**style)), expected


def width_rows():
    """Integers of 1..8 bytes at their limits, and one byte's sign in every width."""
    for n in range(1, 9):
        values = [(-(1 << 8 * n - 1), True), ((1 << 8 * n - 1) - 1, True), (-1, True), ((1 << 8 * n) - 1, False)]
        entries = [Entry(f"1-0:96.50.3*{k}", v, n, signed, -k) for k, (v, signed) in enumerate(values)]
        digits = [decimal.Decimal(v).scaleb(-k, decimal.Context(prec=40)) for k, (v, _) in enumerate(values)]
        expected = [(f"1-0:96.50.3*{k}", f"{number:f}", None) for k, number in enumerate(digits)]
        yield f"{n} bytes", sml.telegram(entries, SERVER), expected


ROWS = [
    meter_row("plain"),
    *(meter_row(quirk, quirk) for quirk in QUIRKS),
    *(fifth_row(quirk) for quirk in ("attention", "proc_parameter")),
    *escape_rows(),
    meter_row("exporting", "phases", at_s=7200, pv_peak_w=9000),
    meter_row("DZG exporting", "dzg_dvs74", at_s=7200, pv_peak_w=9000),
    meter_row("DZG sibling exporting", "dzg_sibling", at_s=7200, pv_peak_w=9000),
    meter_row("near 64 bits", energy_wh=900_000_000_000_000_000 // 10),
    style_row("wide lists", list_tl=4),
    style_row("wide octets", octet_tl=5),
    style_row("wide integers", int_tl=8),
    style_row("all wide, type bits in each byte", list_tl=2, octet_tl=2, int_tl=2, tl_type_bits=True),
    style_row("u32 tags, KERMIT", tag_bytes=4, crc="kermit"),
    style_row("narrow CRC", narrow_crc=True),
    *width_rows(),
    ("no entries", sml.telegram([], SERVER), []),
    ("no server id", sml.telegram([ENERGY], b""), [("1-0:1.8.0*255", "14798112.9", "Wh")]),
]
NAMES = [row[0] for row in ROWS]
NEXT = SmlMeter(77, quirks=["two_tariffs"])
NEXT_TELEGRAM = NEXT.telegram(60)
NEXT_EXPECTED = NEXT.expected()
every_row = pytest.mark.parametrize(("name", "telegram", "expected"), ROWS, ids=NAMES)


def test_the_rows_are_many_and_have_names_of_their_own():
    assert len(set(NAMES)) == len(ROWS) > len(QUIRKS) + 20
    assert sum(not expected for _, _, expected in ROWS) == 3  # attention, proc-parameter, no entries


@every_row
def test_whole_and_in_pieces(name, telegram, expected):
    for step in (None, 1, 2, 7, 100):
        heard = hear(telegram, step)
        assert (heard.telegrams, heard.rejected, heard.listener.skipped) == ([expected], [], 0), step


@every_row
def test_split_at_every_point(name, telegram, expected):
    for at in range(1, len(telegram)):
        heard = Heard([telegram[:at], telegram[at:]])
        assert (heard.telegrams, heard.rejected) == ([expected], []), at


@every_row
def test_after_noise(name, telegram, expected):
    draw = random.Random(name)
    noises = [draw.randbytes(n) for n in (1, 2, 3, 5, 50, 500, 5000)]
    noises += [b"\x1b" * n for n in range(1, 13)]  # a lone run of 1b before a start is no escape
    noises += [b"\x1b\x1b\x1b\x1b\x01" * n for n in (1, 3)] + [b"\x01", b"\x00" * 40]
    noises += [NEXT_TELEGRAM[draw.randrange(1, len(NEXT_TELEGRAM)) :] for _ in range(8)]  # came in the middle
    noises += [NEXT_TELEGRAM[: draw.randrange(1, len(NEXT_TELEGRAM))] for _ in range(8)]  # was cut
    noises += [a + b"\x00" + b for a, b in zip(noises, reversed(noises), strict=True)]
    for noise in noises:
        heard = hear(noise + telegram)
        assert heard.telegrams == [expected], noise.hex()
        assert heard.offsets == [len(noise)], noise.hex()


@every_row
def test_tail_cut_at_every_length(name, telegram, expected):
    for n in range(len(telegram)):
        heard = hear(telegram[:n], finish=True)
        assert heard.telegrams == [], n
        assert bool(heard.rejected) == (n >= len(sml.START)), n  # begun: counted
        heard = hear(telegram[:n] + NEXT_TELEGRAM)
        if telegram[n:].strip(b"\x1b"):
            assert (heard.telegrams, heard.offsets) == ([NEXT_EXPECTED], [n]), n
        else:  # only 1b is missing, and that follows: the telegram is whole, and the next one too
            assert (heard.telegrams, heard.offsets) == ([expected, NEXT_EXPECTED], [0, n]), n


@every_row
def test_head_cut_at_every_length(name, telegram, expected):
    for n in range(1, len(telegram)):
        heard = hear(telegram[n:] + NEXT_TELEGRAM)
        assert (heard.telegrams, heard.offsets) == ([NEXT_EXPECTED], [len(telegram) - n]), n


def flipped(telegram, bits):
    for bit in bits:
        damaged = bytearray(telegram)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(damaged)


def check_flips(telegram, expected, bits):
    for bit, damaged in flipped(telegram, bits):
        heard = hear(damaged + NEXT_TELEGRAM)
        assert heard.telegrams == [NEXT_EXPECTED], f"bit {bit}"
        assert heard.offsets == [len(telegram)], f"bit {bit}"
        if bit >= 8 * len(sml.START):
            assert heard.rejected[0][1] == 0, f"bit {bit}"  # a candidate from byte 0 that was counted


def test_every_single_bit_flipped():
    _, telegram, expected = ROWS[0]
    check_flips(telegram, expected, range(8 * len(telegram)))


@every_row
def test_bits_flipped(name, telegram, expected):
    envelope = [*range(64), *range(8 * len(telegram) - 64, 8 * len(telegram))]
    check_flips(telegram, expected, envelope)
    check_flips(telegram, expected, random.Random(name).sample(range(8 * len(telegram)), FLIPS_SAMPLED))


@every_row
def test_bytes_lost_and_doubled(name, telegram, expected):
    """One byte lost at every place: at most the telegram it belongs to is lost, and nothing false is read."""
    for at in range(len(telegram)):
        fewer = telegram[:at] + telegram[at + 1 :]
        more = telegram[:at] + telegram[at : at + 1] + telegram[at:]
        for damaged in (fewer, more):
            found = hear(damaged + NEXT_TELEGRAM).telegrams
            # a 1b doubled in front of the start, or the same byte beside itself lost, leaves the telegram whole
            assert found in ([NEXT_EXPECTED], [expected, NEXT_EXPECTED]), at


def test_a_stream_of_all_rows():
    stream = b"".join(telegram for _, telegram, _ in ROWS)
    for step in (None, 1, 13, 4096):
        heard = hear(stream, step)
        assert heard.telegrams == [expected for _, _, expected in ROWS]
        assert heard.rejected == []


# --- finding telegrams -----------------------------------------------------------------------------------------------


def test_two_telegrams_nested_by_lost_bytes():
    _, first, first_expected = ROWS[0]
    for lost_from in range(8, len(first), 7):
        heard = hear(first[:lost_from] + NEXT_TELEGRAM + first[lost_from:] + first)
        assert heard.telegrams == [NEXT_EXPECTED, first_expected], lost_from
        # inside an escape the bytes may read as another kind of damage; it is counted all the same
        assert len(heard.rejected) == 1 and heard.rejected[0][1] == 0
    heard = hear(first[:100] + NEXT_TELEGRAM)
    assert heard.rejected == [("cut off", 0)]


def test_a_start_inside_the_data_stands_in_a_literal_escape_and_is_none():
    for bait in (sml.START, sml.START * 3, b"\x1b" * 7 + b"\x01" * 4, sml.ESCAPE + b"\x1a\x00\x12\x34", b"\x1b" * 8):
        for shift in range(5):
            value = b"\x40" * shift + bait + b"\x40"
            telegram = sml.telegram([Entry("129-129:199.130.5*255", value), ENERGY], SERVER)
            heard = hear(telegram, 3)
            readings = [("129-129:199.130.5*255", value.hex(), None), ("1-0:1.8.0*255", "14798112.9", "Wh")]
            assert (heard.telegrams, heard.rejected) == ([readings], []), (bait, shift)


def test_an_escape_that_means_nothing_is_counted():
    telegram = bytearray(ROWS[0][1])
    telegram[40:48] = sml.ESCAPE + b"\x02\x02\x02\x02"  # version 2, which no meter sends
    heard = hear(bytes(telegram) + NEXT_TELEGRAM)
    assert heard.telegrams == [NEXT_EXPECTED]
    assert heard.rejected == [("escape", 0)]
    four_fill_bytes = sml.START + b"\x00" * 8 + sml.ESCAPE + b"\x1a\x04"
    assert hear(four_fill_bytes + sml.crc_bytes(four_fill_bytes) + NEXT_TELEGRAM).reasons == ["escape"]


@pytest.mark.parametrize("step", [1, 256, None])
def test_too_long(step):
    heard = hear(sml.START + b"\x55" * 2040 + NEXT_TELEGRAM, step)
    assert heard.telegrams == [NEXT_EXPECTED]
    assert heard.rejected == [("too long", 0)]
    heard = hear(sml.START + b"\x55" * 50_000 + NEXT_TELEGRAM, step)
    assert (heard.telegrams, heard.rejected) == ([NEXT_EXPECTED], [("too long", 0)])


def test_the_longest_telegram_is_as_long_as_the_buffer():
    def sized(n):
        for fill in range(n):
            entries = [Entry("1-0:96.50.3*1", b"A" * (n - 140)), Entry("1-0:96.50.3*2", b"A" * fill)]
            telegram = sml.telegram(entries, b"")
            if len(telegram) == n:
                return telegram
        raise AssertionError(n)

    fits, beyond = sized(BUFFER_SIZE), sized(BUFFER_SIZE + 4)
    assert len(hear(fits, 100).telegrams) == 1
    heard = hear(beyond + NEXT_TELEGRAM, 100)
    assert (heard.telegrams, heard.rejected[0]) == ([NEXT_EXPECTED], ("too long", 0))


def telegram_with_checksum(wanted):
    """A telegram with the two bytes `wanted` for its checksum: the last message's own is chosen so; no one reads it."""
    telegram = sml.telegram([ENERGY], SERVER)
    at = telegram.rindex(b"\x63", 0, -8) + 1
    table = crc_table(CCITT)
    begun = crc16(telegram[:at], X25_INIT, table)
    for number in range(1 << 16):  # one of them, as the CRC maps 16 bits one to one
        chosen = number.to_bytes(2, "big") + telegram[at + 2 : -2]
        if crc16(chosen, begun, table) ^ 0xFFFF == int.from_bytes(wanted, "little"):
            made = telegram[:at] + chosen
            assert sml.crc_bytes(made) == wanted
            return made + wanted, [("1-0:1.8.0*255", "14798112.9", "Wh")]
    raise AssertionError("no such checksum")


def test_a_checksum_of_1b_where_its_last_bytes_are_lost():
    """The next start stands in for the lost 1b, and is still a start."""
    one, one_expected = telegram_with_checksum(b"\x42\x1b")
    both, both_expected = telegram_with_checksum(b"\x1b\x1b")
    for telegram, expected, lost in ((one, one_expected, 1), (both, both_expected, 1), (both, both_expected, 2)):
        for step in (None, 1):
            cut = telegram[:-lost]
            assert hear(telegram + NEXT_TELEGRAM, step).telegrams == [expected, NEXT_EXPECTED]
            heard = hear(cut + NEXT_TELEGRAM, step)
            assert (heard.telegrams, heard.offsets) == ([expected, NEXT_EXPECTED], [0, len(cut)])


def test_a_bad_checksum_loses_one_telegram():
    _, telegram, expected = ROWS[0]
    damaged = bytearray(telegram)
    damaged[60] ^= 0x55
    heard = hear(telegram + bytes(damaged) + telegram)
    assert heard.telegrams == [expected, expected]
    assert heard.rejected == [("checksum", len(telegram))]
    assert "computed" in heard.listener.detail


def test_kermit_and_x25_in_one_stream():
    """Either kind is taken at any time; which kind held last only says which is tried first."""
    x25, kermit = ROWS[0], next(row for row in ROWS if row[0] == "kermit")
    order = [x25, kermit, kermit, x25, x25, kermit]
    heard = hear(b"".join(row[1] for row in order))
    assert heard.telegrams == [row[2] for row in order]
    assert heard.rejected == []
    swapped = kermit[1][:-2] + kermit[1][:-3:-1]  # the right KERMIT in the wrong order
    assert hear(swapped).reasons == ["checksum"]
    swapped = x25[1][:-2] + x25[1][:-3:-1]
    assert hear(swapped).reasons == ["checksum"]


def test_finish_says_what_was_open():
    _, telegram, _ = ROWS[0]
    assert hear(telegram, finish=True).rejected == []
    assert hear(telegram[:100], finish=True).rejected == [("cut off", 0)]
    assert hear(telegram + telegram[:8], finish=True).rejected == [("cut off", len(telegram))]
    heard = hear(b"\x1b\x1b\x1b\x1b\x01", finish=True)  # not yet a start
    assert (heard.rejected, heard.listener.skipped) == ([], 5)
    assert hear(telegram[:100]).rejected == []  # the stream goes on: nothing is judged yet


def test_counters_and_offsets():
    _, telegram, _ = ROWS[0]
    damaged = telegram[:-1] + bytes([telegram[-1] ^ 1])
    listener = Sml()
    Heard([b"noise" + telegram + damaged + b"more" + telegram], listener=listener)
    assert listener.accepted == 2
    assert listener.rejected == {**dict.fromkeys(Sml.REASONS, 0), "checksum": 1}
    # every byte is in a telegram, in what a rejected candidate gave up (its first byte), or skipped
    assert listener.skipped == len(b"noise") + len(damaged) - 1 + len(b"more")
    assert listener.offset == len(b"noise") + 2 * len(telegram) + len(b"more")


# --- any bytes -------------------------------------------------------------------------------------------------------


def random_stream(draw):
    """Bytes, 1b runs, starts, ends and pieces of telegrams, none of them whole."""
    parts = []
    for _ in range(draw.randrange(1, 8)):
        kind = draw.randrange(6)
        if kind == 0:
            parts.append(draw.randbytes(draw.randrange(80)))
        elif kind == 1:
            parts.append(b"\x1b" * draw.randrange(1, 10))
        elif kind == 2:
            parts.append(sml.START)
        elif kind == 3:
            parts.append(sml.ESCAPE + b"\x1a" + draw.randbytes(3))
        else:
            telegram = ROWS[draw.randrange(len(ROWS))][1]
            at = draw.randrange(1, len(telegram))
            parts.append(telegram[at : at + draw.randrange(1, 60)])
    return b"".join(parts)


def test_ten_thousand_random_streams():
    draw = random.Random(2026)
    listener = Sml()
    accepted = rejected = 0
    for _ in range(10_000):
        data = random_stream(draw)
        step = draw.choice((1, 5, 64, 4096))
        heard = Heard([data[k : k + step] for k in range(0, len(data), step)], listener=listener)
        accepted += len(heard.telegrams)
        rejected += len(heard.rejected)
    # 16 bits let one in 65,536 by, twice that with two kinds of CRC: none of this seed's
    assert accepted == 0
    assert rejected > 5_000
    Heard([bytes(4096)], listener=listener)  # what was open is given up for too long a telegram
    assert Heard([NEXT_TELEGRAM], listener=listener).telegrams == [NEXT_EXPECTED]


def messages_of(telegram):
    """What stands between start and end of a telegram without literal escapes."""
    return telegram[8:-8]


def test_damage_under_a_right_checksum_never_raises():
    """The walker meets any structure here: the CRC is made anew after the damage."""
    draw = random.Random(7)
    plain = [messages_of(t) for name, t, _ in ROWS if "escape" not in name and sml.ESCAPE not in messages_of(t)]
    listener = Sml()
    for _ in range(10_000):
        data = bytearray(draw.choice(plain))
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(data))
            what = draw.randrange(4)
            if what == 0:
                data[at] = draw.choice((0x00, 0x01, 0x0F, 0x1A, 0x42, 0x59, 0x70, 0x7F, 0x80, 0xF1, 0xFF))
            elif what == 1:
                data[at] ^= 1 << draw.randrange(8)
            elif what == 2:
                del data[at : at + draw.randrange(1, 5)]
            else:
                data[at:at] = draw.randbytes(draw.randrange(1, 5))
        heard = Heard([sml.transport(bytes(data) + b"\x00")], listener=listener)
        assert len(heard.telegrams) + len(heard.rejected) == 1
        assert not heard.rejected or heard.reasons == ["structure"]
    assert listener.rejected["structure"] > 2_000
    assert listener.accepted > 1_000  # damage inside values; the checksum made anew covers it


# --- structure under a right checksum --------------------------------------------------------------------------------


class Counted(Sml):
    """Counts how often a type-length field is read."""

    fields = 0

    def _field(self, at):
        self.fields += 1
        return super()._field(at)


def list_body(entries=b"\x70", time=b"\x01", server=b"\x01"):
    return b"\x77\x01" + server + b"\x01" + time + entries + b"\x01\x01"


def envelope(body, tag=sml.LIST_RESPONSE):
    return sml.transport(sml.message(tag, body))


def entry(value=b"\x52\x01", obis=b"\x07\x01\x00\x01\x08\x00\xff", status=b"\x01", time=b"\x01", unit=b"\x01\x01"):
    return b"\x77" + obis + status + time + unit + value + b"\x01"


BROKEN = {
    "a list of 255 where one entry is": envelope(list_body(b"\xff\x0f" + entry())),
    "a list of 2 where one entry is": envelope(list_body(b"\x72" + entry())),
    "a list of four thousand million": envelope(list_body(b"\xff\x8f\x8f\x8f\x8f\x8f\x8f\x0f")),
    "20 continuation bytes": envelope(list_body(b"\xf0" + b"\x80" * 19 + b"\x01" + entry())),
    "20 continuation bytes in a skipped field": envelope(b"\x80" * 20 + b"\x01", tag=0x0101),
    "a length field that runs into the end": sml.transport(b"\x76\x01\x01\x01\x80\x80\x80"),
    "lists nested to 200 that end there": envelope(b"\x71" * 200, tag=0x0101),
    "lists of 15 nested to 200": envelope(b"\x7f" * 200, tag=0x0101),
    "200 lists in the place of messages": sml.transport(b"\x71" * 200 + b"\x01\x00"),
    "entries nested in entries": envelope(list_body(b"\x71" + b"\x77" * 200)),
    "a value of 9 bytes": envelope(list_body(b"\x71" + entry(b"\x5a" + bytes(9)))),
    "an unsigned value of 9 bytes": envelope(list_body(b"\x71" + entry(b"\x6a" + bytes(9)))),
    "a boolean of 2 bytes": envelope(list_body(b"\x71" + entry(b"\x43\x00\x01"))),
    "a scaler of 2 bytes": envelope(list_body(b"\x71" + entry(unit=b"\x62\x1e\x53\x00\x01"))),
    "a unit that is text": envelope(list_body(b"\x71" + entry(unit=b"\x02\x41\x01"))),
    "an unknown type": envelope(list_body(b"\x71" + entry(b"\x12\x01"))),
    "an octet string past the end": envelope(list_body(b"\x71" + entry(b"\x8f\x0f"))),
    "a length of nothing": envelope(list_body(b"\x71" + entry(b"\x00"))),
    "a sensor time of three parts": envelope(list_body(time=b"\x73\x62\x01\x62\x01\x62\x01")),
    "a sensor time that is text": envelope(list_body(time=b"\x02\x41")),
    "a server id that is a number": envelope(list_body(server=b"\x62\x01")),
    "a message of five": sml.transport(b"\x75\x01\x01\x01\x72\x63\x07\x01\x01\x01\x00"),
    "a message without its end": sml.transport(sml.message(0x0101, b"\x01")[:-1] + b"\x01"),
    "a list response of six": envelope(b"\x76\x01\x01\x01\x01\x70\x01"),
    "a tag of 8 bytes": sml.transport(b"\x76\x01\x01\x01\x72\x69" + bytes(7) + b"\x01\x01\x01\x00"),
    "text": sml.transport(b"this is no SML at all: 1-0:1.8.0*255(014798.1129*kWh)\r\n"),
    "a message that ends in the middle of a field": sml.transport(b"\x76\x05\x00\x00"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken_structure_is_rejected_in_bounded_steps(data):
    listener = Counted()
    heard = Heard([data, NEXT_TELEGRAM], listener=listener)
    assert heard.telegrams == [NEXT_EXPECTED]
    assert heard.rejected == [("structure", 0)]
    assert re.search(r"at byte \d+|before byte \d+", listener.detail)
    listener = Counted()
    Heard([data], listener=listener)
    assert listener.fields <= len(data)


def test_what_is_unknown_but_well_formed_is_stepped_over():
    """Elements we do not read may be of any kind and depth; the values beside them are read."""
    deep = b"\x71" * 200 + b"\x01"
    wanted = [("1-0:1.8.0*255", "1", None)]
    for data in (
        envelope(list_body(b"\x71" + entry(time=deep))),
        envelope(list_body(b"\x71" + entry(status=deep))),
        envelope(list_body(b"\x72" + b"\x73\x01\x01" + deep + entry())),  # an entry of three
        envelope(list_body(b"\x72" + entry(obis=b"\x03\x41\x42") + entry())),  # a name that is no OBIS code
        envelope(list_body(b"\x72" + entry(value=deep) + entry())),  # a value that is a list
        envelope(list_body(b"\x72" + entry(value=b"\x01") + entry())),  # absent
        sml.transport(sml.message(0x4711, deep) + sml.message(sml.LIST_RESPONSE, list_body(b"\x71" + entry()))),
    ):
        listener = Counted()
        heard = Heard([data], listener=listener)
        assert (heard.telegrams, heard.rejected) == ([wanted], [])
        assert listener.fields <= 2 * len(data)  # once to check, once to read


def test_numbers_of_every_kind_and_width_by_hand():
    for sent, text in (
        ("527f", "127"),
        ("5280", "-128"),
        ("62ff", "255"),
        ("53ff7f", "-129"),
        ("54ff8000", "-32768"),
        ("56ffffffffff", "-1"),
        ("5900000002540be400", "10000000000"),
        ("598000000000000000", "-9223372036854775808"),
        ("69ffffffffffffffff", "18446744073709551615"),
        ("d0037f", "127"),  # two bytes of type and length
        ("4200", "false"),
        ("4201", "true"),
        ("42ff", "true"),
        ("03abcd", "abcd"),
    ):
        heard = hear(envelope(list_body(b"\x71" + entry(bytes.fromhex(sent)))))
        assert heard.telegrams == [[("1-0:1.8.0*255", text, None)]], sent


def test_scalers_are_exact():
    least = "0." + "0" * 127 + "7"
    for scaler, text in ((-128, least), (-4, "0.0007"), (-1, "0.7"), (0, "7"), (3, "7000"), (None, "7")):
        heard = hear(sml.telegram([Entry("1-0:1.8.0*255", 7, 1, True, scaler, 30)], SERVER))
        assert heard.telegrams == [[("1-0:1.8.0*255", text, "Wh")]]
    heard = hear(sml.telegram([Entry("1-0:1.8.0*255", 7, 1, True, 127, 30)], SERVER))
    assert heard.telegrams[0][0][1] == "7" + "0" * 127


# --- what the telegram says beside its readings ----------------------------------------------------------------------


def telegram_ready(telegram):
    """A listener with this telegram in hand."""
    listener = Sml()
    assert listener.feed(telegram, 0, len(telegram)) == len(telegram)
    assert listener.next_event() == TELEGRAM
    return listener


DZG = b"\x0a\x01DZG"


@pytest.mark.parametrize(
    ("serial", "faulty"),
    [
        (41_999_999, False),
        (42_000_000, True),
        (48_999_999, True),
        (49_000_000, False),
        (54_999_999, False),
        (55_000_000, True),
        (58_999_999, True),
        (59_000_000, False),
        (0, False),
        (2**40 - 1, False),
        (2**32 + 42_000_000, False),  # five bytes count, not four
    ],
)
def test_dzg_sign_fault_by_serial_range_only(serial, faulty):
    """356.24 W is sent as 53 8b28, read -299.12 W; the capture's values, see the source in sml.py."""
    number = serial.to_bytes(5, "big")

    def powers(server, entries):
        return [text for obis, text, _ in hear(sml.telegram(entries, server)).telegrams[0] if "7.0*" in obis]

    for mantissa, width, right, as_sent in (
        (-29912, 2, "356.24", "-299.12"),
        (-1, 1, "2.55", "-0.01"),
        (-1, 3, "167772.15", "-0.01"),
        (-29912, 4, "-299.12", "-299.12"),  # the faulty ones' genuine negatives
        (12345, 2, "123.45", "123.45"),
    ):
        power = Entry("1-0:16.7.0*255", mantissa, width, True, -2, 27)
        other = Entry("1-0:36.7.0*255", mantissa, width, True, -2, 27)  # only 16.7.0 has the fault
        wanted = [right if faulty else as_sent, as_sent]
        assert powers(DZG + number, [power, other]) == wanted
        # the serial number in 1-0:96.1.0 says it as well, where it comes first
        assert powers(b"1234567", [Entry("1-0:96.1.0*255", DZG + number), power, other]) == wanted
        assert powers(b"\x0a\x01EMH" + number, [power, other]) == [as_sent, as_sent]
        assert powers(b"", [power, other]) == [as_sent, as_sent]


def test_the_sign_fault_does_not_outlive_its_telegram():
    power = Entry("1-0:16.7.0*255", -29912, 2, True, -2, 27)
    faulty = sml.telegram([Entry("1-0:96.1.0*255", DZG + (42_000_000).to_bytes(5, "big")), power], b"1234567")
    other = sml.telegram([power], b"1234567")
    texts = [telegram[-1][1] for telegram in hear(faulty + other + faulty).telegrams]
    assert texts == ["356.24", "-299.12", "356.24"]


IMPORTING, EXPORTING = 0x1C0104, 0x1C0904  # FNN status words: bit 11 says export
EDL_IMPORTING, EDL_EXPORTING = 0x0182, 0x01A2  # EDL21: bit 5


def powers_of(maker, status, *powers, number=40_000_000, width=4, volts=None):
    """The powers as decoded: `powers` are (code, mantissa, bytes) in W, the status word that of 1.8.0."""
    entries = [Entry("1-0:1.8.0*255", 16_086_522, 4, False, -1, 30, status, width)]
    entries += [Entry(f"1-0:{code}*255", mantissa, n, True, 0, 27) for code, mantissa, n in powers]
    if volts is not None:
        entries += [Entry("1-0:32.7.0*255", volts, 2, False, -1, 35), Entry("1-0:31.7.0*255", 73, 1, False, -2, 33)]
    server = b"\x0a\x01" + maker + number.to_bytes(5, "big")
    return [text for obis, text, _ in hear(sml.telegram(entries, server)).telegrams[0] if "6.7.0*" in obis]


@pytest.mark.parametrize(
    ("maker", "status", "powers", "meant"),
    [
        # DZG: negative in few bytes with the status of import is positive, whatever the number of the meter
        (b"DZG", IMPORTING, [("16.7.0", -29912, 2)], ["35624"]),
        (b"DZG", IMPORTING, [("16.7.0", -1, 1)], ["255"]),
        (b"DZG", IMPORTING, [("16.7.0", -1, 3)], ["16777215"]),
        (b"DZG", IMPORTING, [("36.7.0", -14836, 2)], ["50700"]),
        (b"DZG", IMPORTING, [("16.7.0", -29912, 4)], ["-29912"]),
        (b"DZG", IMPORTING, [("16.7.0", 12345, 2)], ["12345"]),
        (b"DZG", EXPORTING, [("16.7.0", -29912, 2)], ["-29912"]),
        # of several phases one may export
        (b"DZG", IMPORTING, [("36.7.0", -50, 2), ("56.7.0", 400, 2)], ["-50", "400"]),
        (b"EMH", IMPORTING, [("16.7.0", -29912, 2)], ["-29912"]),
        # Holley: positive with the status of export is negative
        (b"HLY", EXPORTING, [("16.7.0", 425, 2)], ["-425"]),
        (b"HLY", EXPORTING, [("16.7.0", -425, 2)], ["-425"]),
        (b"HLY", EXPORTING, [("16.7.0", 0, 2)], ["0"]),
        (b"HLY", IMPORTING, [("16.7.0", 425, 2)], ["425"]),
        (b"HLY", 0x0182, [("16.7.0", 425, 2)], ["425"]),
        (b"HLY", None, [("16.7.0", 425, 2)], ["425"]),
        (b"ISK", EXPORTING, [("16.7.0", 425, 2)], ["425"]),
        # EFR: the low byte alone, where it is told that it exports
        (b"EFR", EXPORTING, [("16.7.0", 0xC7, 2)], ["-57"]),
        (b"EFR", EXPORTING, [("16.7.0", 0x7F, 2)], ["127"]),
        (b"EFR", EXPORTING, [("16.7.0", 0x100, 2)], ["256"]),
        (b"EFR", EXPORTING, [("16.7.0", 0xC7, 4)], ["199"]),
        (b"EFR", EXPORTING, [("36.7.0", 0xC7, 2)], ["199"]),
        (b"EFR", IMPORTING, [("16.7.0", 0xC7, 2)], ["199"]),
        (b"EFR", None, [("16.7.0", 0xC7, 2)], ["199"]),
    ],
)
def test_the_status_word_says_which_way_the_power_flows(maker, status, powers, meant):
    assert powers_of(maker, status, *powers) == meant
    assert powers_of(maker, status, *powers, width=3) == meant


def test_an_efr_cannot_draw_more_than_voltage_times_current():
    """230.9 V and 0.73 A are 168.6 VA: 145 W may be drawn, 199 W may not, so that its byte is meant as -57."""
    assert powers_of(b"EFR", IMPORTING, ("16.7.0", 145, 2), volts=2309) == ["145"]
    assert powers_of(b"EFR", IMPORTING, ("16.7.0", 168, 2), volts=2309) == ["168"]
    assert powers_of(b"EFR", IMPORTING, ("16.7.0", 169, 2), volts=2309) == ["-87"]
    assert powers_of(b"EFR", IMPORTING, ("16.7.0", 199, 2), volts=2309) == ["-57"]
    assert powers_of(b"EFR", IMPORTING, ("16.7.0", 199, 2), volts=0) == ["199"]  # proves nothing


@pytest.mark.parametrize(
    ("status", "sent", "told"),
    [
        (EXPORTING, (86, 1, False, -1, 30), (-86, 0, 27)),
        (IMPORTING, (640, 2, False, -1, 30), (640, 0, 27)),
        (EDL_EXPORTING, (640, 2, False, -1, 30), (640, -1, 30)),
        (None, (640, 2, False, -1, 30), (640, -1, 30)),
        (EXPORTING, (640, 2, False, -1, 27), (640, -1, 27)),
        (EXPORTING, (640, 2, False, 0, 30), (640, 0, 30)),
        (EXPORTING, (640, 2, True, -1, 30), (640, -1, 30)),
    ],
)
@pytest.mark.parametrize("width", [2, 3])
def test_a_power_with_the_unit_and_the_scaler_of_an_energy(status, sent, told, width):
    """Honeywell's AS2020; its energies stay what they are."""
    if status is not None:
        status &= (1 << 8 * width) - 1
    energy = Entry("1-0:1.8.0*255", 16_086_522, 4, False, -1, 30, status, width)
    ready = telegram_ready(sml.telegram([energy, Entry("1-0:16.7.0*255", *sent)], SERVER))
    for readings in (ready.readings, ready.published_readings, ready.readings):
        energy, power = readings()
        assert (energy.value, energy.exponent, energy.unit) == (16_086_522, -1, 30)
        assert (power.value, power.exponent, power.unit) == told


def test_the_status_word_counts_more_than_the_number_of_a_dzg():
    assert powers_of(b"DZG", EXPORTING, ("16.7.0", -29912, 2), number=42_000_000) == ["-29912"]
    assert powers_of(b"DZG", None, ("16.7.0", -29912, 2), number=42_000_000) == ["35624"]
    assert powers_of(b"DZG", 0x010180, ("16.7.0", -29912, 2), number=42_000_000) == ["35624"]


@pytest.mark.parametrize(
    ("status", "width", "published"),
    [
        (EDL_IMPORTING, 2, [("0f", 1919), ("10", 1919)]),
        (EDL_EXPORTING, 2, [("0f", 1919), ("10", -1919)]),
        (0x01A0, 2, [("0f", 1919), ("10", -1919)]),
        (0x000101A2, 4, [("0f", 1919), ("10", -1919)]),
        (0x0200, 2, [("0f", 1919)]),
        (0xA2, 1, [("0f", 1919)]),
        (IMPORTING, 4, [("0f", 1919)]),
        (None, None, [("0f", 1919)]),
    ],
)
def test_15_7_0_is_published_with_its_sign_too(status, width, published):
    energy = Entry("1-0:1.8.0*255", 53_784_990, 5, True, -1, 30, status, width)
    entries = [energy, Entry("1-0:15.7.0*255", 1919, 4, True, -1, 27)]
    ready = telegram_ready(sml.telegram(entries, SERVER))
    assert [(r.obis[2:3].hex(), r.value) for r in ready.published_readings()][1:] == published
    assert [(r.obis[2:3].hex(), r.value) for r in ready.readings()][1:] == published[:1]  # as sent
    with_both = [*entries, Entry("1-0:16.7.0*255", 5, 4, True, -1, 27)]
    ready = telegram_ready(sml.telegram(with_both, SERVER))
    assert [r.value for r in ready.published_readings()][1:] == [1919, 5]


def test_a_status_word_does_not_outlive_its_telegram():
    with_status = sml.telegram([Entry("1-0:1.8.0*255", 1, 4, False, -1, 30, EDL_EXPORTING, 2)], SERVER)
    without = sml.telegram([Entry("1-0:15.7.0*255", 1919, 4, True, -1, 27)], SERVER)
    listener = telegram_ready(with_status)
    assert listener.next_event() == NOTHING
    assert listener.feed(without, 0, len(without)) == len(without) and listener.next_event() == TELEGRAM
    assert len(list(listener.published_readings())) == 1


def test_pin_needed():
    def needed(*entries):
        return telegram_ready(sml.telegram(entries, SERVER)).pin_needed

    coarse = Entry("1-0:1.8.0*255", 14798, 8, True, 3, 30)
    power = Entry("1-0:16.7.0*255", 1, 2, True, -1, 27)
    text = Entry("1-0:96.1.0*255", SERVER)
    assert needed(text, coarse)
    assert needed(text, coarse, Entry("1-0:2.8.0*255", 0, 8, True, 3, 30))
    assert not needed(text, coarse, power)
    assert not needed(text, ENERGY)
    assert not needed(coarse, Entry("1-0:2.8.0*255", 0, 8, True, -1, 30))
    assert not needed(text)
    assert not needed()
    assert telegram_ready(meter_row("", "no_pin")[1]).pin_needed
    listener = telegram_ready(meter_row("", "no_pin")[1])
    Heard([ROWS[0][1]], listener=listener)
    assert not listener.pin_needed  # entered now


def test_meter_id_forms():
    for server, text in (
        (bytes.fromhex("0a014142430000 12d687"), "1ABC0001234567"),
        (bytes.fromhex("09014142430000 12d687"), "1ABC0001234567"),
        (b"1234567", "1234567"),  # EMH eHZ361
        (b"12345678", "12345678"),  # EMH eHZ-G
        (bytes.fromhex("0413c2250001a8ff"), "0413c2250001a8ff"),
        (bytes.fromhex("06454d4801027138"), "06454d4801027138"),  # EDL21
        (bytes.fromhex("0a01414243ffffffffff"), "0a01414243ffffffffff"),  # more digits than the meter prints
        (b"", ""),
    ):
        listener = telegram_ready(sml.telegram([ENERGY], server))
        assert listener.meter_id() == text
        assert listener.server_id == (server or None)


@pytest.mark.parametrize(
    ("sent", "kind", "value"),
    [
        (None, None, None),
        (sml.sec_index(106_267_790), SEC_INDEX, 106_267_790),
        (sml.sec_index(2**32 - 1), SEC_INDEX, 2**32 - 1),
        (sml.timestamp(1_780_000_000), TIMESTAMP, 1_780_000_000),
        (sml.local_timestamp(1_780_000_000, 60, 60), LOCAL_TIMESTAMP, 1_780_000_000),
        (SmlTime(1, 0, width=1), SEC_INDEX, 0),
    ],
)
def test_sensor_time_forms(sent, kind, value):
    listener = telegram_ready(sml.telegram([ENERGY], SERVER, sensor_time=sent))
    assert (listener.time_kind, listener.time_value) == (kind, value)
    assert [triple(r) for r in listener.readings()] == [("1-0:1.8.0*255", "14798112.9", "Wh")]


def test_sensor_time_as_a_bare_number():
    listener = telegram_ready(envelope(list_body(b"\x71" + entry(), time=b"\x65\x06\x55\x85\x4e")))
    assert (listener.time_kind, listener.time_value) == (SEC_INDEX, 0x0655854E)
    assert len(list(listener.readings())) == 1


def test_what_a_telegram_said_is_forgotten_with_the_next():
    listener = telegram_ready(sml.telegram([ENERGY], SERVER, sensor_time=sml.sec_index(5)))
    Heard([sml.telegram([ENERGY], b"")], listener=listener)
    assert (listener.server_id, listener.time_kind, listener.time_value, listener.meter_id()) == (None, None, None, "")


def test_the_readings_may_be_walked_twice_and_left_half_way():
    _, telegram, expected = ROWS[0]
    listener = telegram_ready(telegram + telegram)
    next(listener.readings())
    assert [triple(r) for r in listener.readings()] == expected
    assert [triple(r) for r in listener.readings()] == expected
    next(listener.readings())
    assert listener.next_event() == TELEGRAM
    assert [triple(r) for r in listener.readings()] == expected


def test_a_smaller_buffer():
    _, telegram, expected = ROWS[0]
    heard = Heard([telegram], listener=Sml(len(telegram)))
    assert heard.telegrams == [expected]
    heard = Heard([telegram, telegram], listener=Sml(len(telegram) - 1))
    assert heard.telegrams == []
    assert heard.rejected[0] == ("too long", 0)


# --- the corpus ------------------------------------------------------------------------------------------------------


def norm(value):
    """Decimals compare as numbers: the corpus may write 0.0 where we write 0."""
    text = str(value)
    return decimal.Decimal(text).normalize() if re.fullmatch(r"[+-]?\d{1,25}(\.\d+)?", text) else text.lower()


def test_corpus_exactly_in_any_chunks():
    telegrams = 0
    captures = recorded("sml/*.bin")
    for capture in captures:
        content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
        good = [t for t in content["telegrams"] if t["crc_ok"]]
        wanted = [
            [(r["obis"], norm(r["value"]), r.get("unit") or None) for r in t["readings"] if r["type"] != "null"]
            for t in good
        ]
        data = capture.read_bytes()
        for step in (1, 7, 256, len(data)):
            heard = hear(data, step, finish=True)
            found = [[(obis, norm(text), unit) for obis, text, unit in t] for t in heard.telegrams]
            assert found == wanted, (capture.name, step)
            assert heard.offsets == [t["offset"] for t in good], (capture.name, step)
        telegrams += len(wanted)
    assert (len(captures), telegrams) == (34, 179)
