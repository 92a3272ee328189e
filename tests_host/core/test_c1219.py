"""ANSI C12.19: standard tables of a simulated meter, which encodes by itself, in both orders of bytes.

What is not told beyond doubt is left out, and why is said.
"""

import os
import random

import pytest

from metering.c1218.c1218_poll import Conversation
from metering.c1218.c1218_values import C1218Values
from metering.c1218.c1219_tables import C1219Tables
from metering.obis import obis_text
from metering.register import unit_symbol
from optoprobe.virtual import c1219_contents as made
from optoprobe.virtual.c1218_meter import C1218Meter
from optoprobe.virtual.c1219_contents import Q1, Q2, Q3, Q4, VA, VAR, WATT, C1219Contents, Source
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.line import VirtualLine

ALL = Q1 | Q2 | Q3 | Q4
ENERGY = Source(WATT, Q1 | Q4, "1-0:1.8.0*255", grows_by=0)


def rows(readings):
    return [(obis_text(r.obis), r.text(), unit_symbol(r.unit)) for r in readings]


def read(meter, **options):
    """(conversation, rows, number, clock) of one session over the virtual line."""
    listener = C1218Values()
    conversation = Conversation(listener, **options)
    told = []
    bench = Bench(meter, VirtualLine(meter.line))
    bench.converse(conversation.read_out(), on_telegram=lambda ear: told.append((rows(ear.readings()), ear.meter_id())))
    (found, number) = told[0] if told else ([], "")
    return conversation, found, number, listener.time_value


def decoded(contents, change=lambda tables: None):
    """The tables as they are, without a line: (C1219Tables, tables asked for)."""
    tables = contents.tables(0)
    change(tables)
    decoder, asked = C1219Tables(), []
    while decoder.table >= 0:
        number = decoder.table
        offset, count, _ = decoder.wanted()
        data = tables.get(number)
        asked.append(number)
        if data is None:
            decoder.take(None, 0, "it does not know it")
        else:
            decoder.take(data[offset : offset + count] if count else data, offset)
    return decoder, asked


@pytest.mark.parametrize("is_big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_a_meter_of_either_order_of_bytes_is_read_exactly(is_big, parts):
    contents = C1219Contents(is_big=is_big, parts=parts, clock=4)
    meter = C1218Meter(contents=contents, user_id=2, user=b"reader", password=b"secret")
    conversation, found, number, clock = read(meter, address="2:reader", password="secret")
    assert conversation.failures == 0 and number == contents.number and len(found) == 3
    assert [contents.expected(23, s) for s in range(20)].count(found) == 1
    assert 0 <= clock - 1_780_000_000 < 20
    assert set(meter.services) == {0x20, 0x60, 0x50, 0x51, 0x30, 0x52, 0x21} | ({0x3F} if parts else set())


@pytest.mark.parametrize("refused", [1, 2, 4, 6])
def test_without_longer_replies_tables_come_in_parts_that_tear_no_number(refused):
    energies = [ENERGY._replace(what=made.VOLT, code="")] * 10
    contents = C1219Contents([ENERGY, *energies], form=made.INT40)  # 50 bytes, and the five of the one that counts
    contents._values = lambda now_s: [(1 + int(now_s * 100) % 99) * 0x0101010101] * 11
    meter = C1218Meter(contents=contents, refuses={0x60: refused})
    conversation, found, _, _ = read(meter)
    assert conversation.failures == 0 and meter.services[0x3F] == 7 and len(found) == 1
    assert int(found[0][1]) > 0 and int(found[0][1]) % 0x0101010101 == 0


@pytest.mark.parametrize("quirk", ["damaged", "forgetful", "split", "deaf"])
def test_each_peculiarity_is_lived_with(quirk):
    contents = C1219Contents([ENERGY])
    assert read(C1218Meter(contents=contents, quirks=[quirk]))[1] == contents.expected(23, 0)


@pytest.mark.parametrize(
    ("form", "is_big"),
    [(form, is_big) for form in (7, 8, 9, 10, 11, made.INT32_4, made.CHAR12) for is_big in (False, True)]
    + [(form, is_big) for form in (made.FLOAT32, made.FLOAT64) for is_big in (False, True)]
    + [(form, True) for form in (made.BCD4, made.BCD6, made.BCD8)],
)
def test_each_form_of_numbers_is_exact(form, is_big):
    contents = C1219Contents([ENERGY._replace(power=-3), Source(WATT, Q2 | Q3, "1-0:2.8.0*255", power=3)],
                             form=form, is_big=is_big)  # fmt: skip
    decoder, _ = decoded(contents)
    assert rows(decoder.readings) == contents.expected(23, 0) and not decoder.why and len(decoder.readings) == 2


@pytest.mark.parametrize("raw", ["7ff0000000000000", "fff8000000000001", "0000000000000001", "7fe0000000000000"])
def test_a_binary_fraction_that_is_no_energy_is_left_out(raw):
    data = b"\x05" + bytes.fromhex(raw)
    decoder, _ = decoded(C1219Contents([ENERGY], form=made.FLOAT64, is_big=True), lambda t: t.update({23: data}))
    assert not decoder.readings and "no number beyond doubt" in decoder.why


def test_numbers_of_an_unknown_form_are_said():
    decoder, asked = decoded(C1219Contents([ENERGY]), lambda t: t.update({0: t[0][:2] + b"\x0e" + t[0][3:]}))
    assert "unknown form (NI_FORMAT1 14)" in decoder.why and asked == [0]


def test_each_scale_is_obeyed():
    for power in (0, 2, 3, 6, 9, -2, -3, -6):
        contents = C1219Contents([ENERGY._replace(power=power)])
        (reading,) = decoded(contents)[0].readings
        assert (reading.value, reading.exponent) == (1_234_567, power)


@pytest.mark.parametrize(
    ("what", "quadrants", "net", "code", "unit"),
    [
        (WATT, Q1 | Q4, False, 1, 30), (WATT, Q2 | Q3, True, 2, 30), (WATT, ALL, False, 15, 30),
        (WATT, ALL, True, 16, 30), (VAR, Q1 | Q2, False, 3, 32), (VAR, Q3 | Q4, False, 4, 32), (VAR, Q1, False, 5, 32),
        (VAR, Q2, False, 6, 32), (VAR, Q3, False, 7, 32), (VAR, Q4, False, 8, 32), (VA, Q1 | Q4, False, 9, 31),
        (VA, Q2 | Q3, False, 10, 31),
    ],
)  # fmt: skip
def test_what_is_counted_in_which_direction_is_its_code(what, quadrants, net, code, unit):
    (reading,) = decoded(C1219Contents([Source(what, quadrants, "", net=net)]))[0].readings
    assert (list(reading.obis), reading.unit) == ([1, 0, code, 8, 0, 255], unit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"link": 0x10}, "not clear"),
        ({"link": 0x01}, "counts pulses"),
        ({"link": 0x39}, "still to be applied"),
        ({"time_base": 1}, "something else"),
        ({"segment": 5}, "something else"),
        ({"what": 8}, "something else"),
        ({"quadrants": Q1}, "something else"),
        ({"quadrants": 0}, "something else"),
        ({"begin": -1}, "no number beyond doubt"),
    ],
)
def test_a_register_that_is_not_told_beyond_doubt_is_left_out_and_why_is_said(change, said):
    other = Source(WATT, Q2 | Q3, "1-0:2.8.0*255", grows_by=0)
    broken = ENERGY._replace(**change, code="")
    alone = decoded(C1219Contents([broken]))[0]
    assert not alone.readings and (said in alone.why or "no unit of measure" in alone.why)
    beside = decoded(C1219Contents([other, broken]))[0]
    assert rows(beside.readings) == [("1-0:2.8.0*255", "1234567", "Wh")] and said in beside.why


def test_a_summation_without_a_source_is_passed_over():
    contents = C1219Contents([ENERGY, ENERGY._replace(code="")])
    decoder, _ = decoded(contents, lambda t: t.update({22: b"\xff\x00"}))
    assert rows(decoder.readings) == contents.expected(23, 0) and not decoder.why
    decoder, asked = decoded(contents, lambda t: t.update({22: b"\xff\xff"}))
    assert not decoder.readings and "names no source" in decoder.why and asked[-1] == 22
    assert "does not exist" in decoded(contents, lambda t: t.update({22: b"\x02\x00"}))[0].why


def test_two_that_count_the_same_are_left_out():
    decoder, _ = decoded(C1219Contents([ENERGY, ENERGY]))
    assert not decoder.readings and "count the same" in decoder.why


def test_units_that_two_readings_of_the_standard_take_from_different_entries_are_left_out():
    """A source without a unit before it: is entry 1 of table 12 its own, or the next one's?"""
    decoder, _ = decoded(C1219Contents([ENERGY._replace(link=0x10), ENERGY, ENERGY._replace(power=3)]))
    assert not decoder.readings and "not clear" in decoder.why


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kind": 0}, "no electricity meter"),
     ({"form": made.BCD4}, "no number beyond doubt")],
)  # fmt: skip
def test_a_meter_of_which_nothing_is_certain_publishes_nothing_and_says_why(options, said):
    conversation, found, _, _ = read(C1218Meter(contents=C1219Contents([ENERGY], **options)))
    assert found == [] and said in conversation.explanation and conversation.failed["no values"] == 1


@pytest.mark.parametrize("table", [0, 11, 12, 16, 21, 22, 23])
def test_a_table_that_is_refused_is_named_with_the_reason(table):
    meter = C1218Meter(contents=C1219Contents([ENERGY]), refuses={(0x30, table): 3, (0x3F, table): 3})
    conversation, found, _, _ = read(meter)
    assert found == [] and f"table {table}: its security" in conversation.explanation and meter.services[0x52] == 1


def test_the_number_is_table_1s_or_else_table_5s_and_may_be_bcd():
    contents = C1219Contents([ENERGY])
    assert (decoded(contents)[0].number, decoded(contents)[1]) == (contents.number, [0, 1, 21, 22, 11, 16, 12, 23])
    for change in (lambda t: t.pop(1), lambda t: t.update({1: t[1][:16] + b" " * 16})):
        decoder, asked = decoded(contents, change)
        assert decoder.number == contents.number and 5 in asked and 6 not in asked
    assert decoded(C1219Contents([ENERGY], bcd_id=True))[0].number == contents.number


@pytest.mark.parametrize("is_big", [False, True])
def test_an_independent_decoder_reads_the_simulated_tables(is_big):
    """The c1219 package that termineter 1.0.6 brings knows tables 0, 1 and 5."""
    general = pytest.importorskip("c1219.access.general", reason="termineter is not installed: pip install termineter")
    contents = C1219Contents([ENERGY], is_big=is_big)
    tables = contents.tables(0)

    class Connection:
        c1219_endian = ">" if is_big else "<"

        @staticmethod
        def get_table_data(table):
            if table not in tables:
                raise general.C1218ReadTableError("onp")
            return tables[table]

    found = general.C1219GeneralAccess(Connection())
    said = (found.mfg_serial_no, found.device_id, found.manufacturer, found.nameplate_type)
    assert said == (contents.number, contents.number, "OPT", "Electric")


@pytest.mark.parametrize("form", [1, 2, 3, 4])
@pytest.mark.parametrize("is_big", [False, True])
def test_the_clock_is_told_where_it_is_in_utc(form, is_big):
    contents = C1219Contents([ENERGY], clock=form, is_big=is_big)
    assert decoded(contents)[0].clock == 1_780_000_000
    assert decoded(contents, lambda t: t.update({52: t[52][:-1] + b"\0"}))[0].clock is None
    assert decoded(contents, lambda t: t.pop(52))[0].readings, "a clock refused loses no value"


def test_any_tables_are_right_values_or_a_reason():
    """Lengths, counts and indices are checked: bytes that are not these tables' end in words."""
    draw = random.Random(11)
    n = int(os.environ.get("OPTOPROBE_C1219", "2000"))
    for _ in range(n):
        contents = C1219Contents(is_big=draw.random() < 0.5, parts=draw.random() < 0.5, clock=draw.randrange(5))

        def change(tables):
            table = draw.choice(list(tables))
            data = bytearray(tables[table])
            kind = draw.randrange(3)
            if kind == 0:
                del data[draw.randrange(len(data)) :]
            elif kind == 1:
                data[draw.randrange(len(data))] = draw.randrange(256)
            else:
                data = bytearray(draw.randbytes(draw.randrange(40)))
            tables[table] = bytes(data)

        decoder, asked = decoded(contents, change)
        assert len(asked) <= 10 and (decoder.readings or decoder.why) and len(decoder.readings) <= 32


class Slow(C1218Meter):
    """Answers one question a moment too late, so that it comes twice, and then that as well, as if it were another."""

    slow_at = 0

    def _take(self, frame, at_s):
        self._last_mark = b""
        n_before = len(self._answers)
        super()._take(frame, at_s)
        late_s = {self.slow_at: 2.04, self.slow_at + 1: 0.3}.get(self._n_heard, 0)
        self._answers[n_before:] = [(at + late_s, *rest) for at, *rest in self._answers[n_before:]]


def test_what_is_answered_twice_is_no_reply_to_the_next_question():
    """Table 12, its units, has as many bytes here as table 23 has, its values."""
    contents = C1219Contents([source._replace(grows_by=0) for source in made.USUAL], resets=False)
    outcomes = set()
    for slow_at in range(1, 13):
        meter = Slow(contents=contents)
        meter.slow_at = slow_at
        outcomes.add(tuple(read(meter)[1]))
    assert outcomes == {tuple(contents.expected(23, 0))}
