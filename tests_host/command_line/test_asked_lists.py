"""What a DLMS meter holds beyond its registers: its list of objects and its load profile, on the bit-accurate line."""

import argparse
import json
import random
import struct
import subprocess
from datetime import timedelta

import pytest
from support.command_line import start

from metering.dlms.asked_values import AskedValues
from metering.dlms.axdr import Malformed
from metering.line import EXPECT, LISTEN
from metering.obis import obis_text
from optoprobe.sessions.dlms import asked_lists, asked_session
from optoprobe.sessions.dlms.asked_lists import Asked, Items, object_list, value_at
from optoprobe.sessions.dlms.load_profile import Column, profile
from optoprobe.virtual import dlms_asked_profile
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.tcp_meter import TcpMeter

OBIS = bytes((1, 0, 99, 1, 0, 255))
WAYS = [{}, {"short_names": True}, {"quirks": ("segments", "blocks")}, {"sign_on": True, "quirks": ("drop",)}]


def asked_by(what, meter):
    asked = Asked(what, AskedValues())
    asked.take_options("mode=IEC " * meter.has_sign_on + "type=SN" * meter.has_short_names)
    Bench(meter, VirtualLine(meter.line)).converse(asked.read_out())
    assert not meter.is_linked and meter.served <= {0x60, 0xC0, 0x05}
    return asked


@pytest.mark.parametrize("way", WAYS)
def test_the_list_of_objects_is_handed_on_as_it_comes_and_not_held(way, monkeypatch):
    meter, found, requests, held = AskedDlmsMeter(**way), [], [], []
    taking = Items.take

    def take(items, piece):
        yield from taking(items, piece)
        held.append(len(items._held))

    monkeypatch.setattr(Items, "take", take)

    def on_entry(entry):
        found.append(entry)
        requests.append(len(held))

    asked = asked_by(object_list(on_entry), meter)
    assert asked.failures == 0, asked.explanation
    listed = meter._objects(0)
    listed.pop("0-0:40.0.0*255")
    entries = {obis_text(entry.obis): entry.class_id for entry in found}
    entries.pop("0-0:40.0.0*255", None)
    assert entries == {obis: class_id for obis, (class_id, _) in listed.items()}
    assert max(held) < 64 and (way.get("short_names") is None) == all(entry.base_name is None for entry in found)
    assert requests[0] < requests[-1] or "blocks" not in way.get("quirks", ())


def rows_of(meter):
    from optoprobe.virtual.dlms_asked_services import EPOCH

    return [(at, bought, sold) for at, bought, sold in dlms_asked_profile.rows(EPOCH)]


@pytest.mark.parametrize("last", [1, 5, 48, 100])
@pytest.mark.parametrize("way", WAYS)
def test_the_last_rows_of_a_profile_are_read_exactly(way, last):
    meter, came = AskedDlmsMeter(**way), []
    asked = asked_by(profile(OBIS, last, lambda columns, row: came.append((columns, row))), meter)
    assert asked.failures == 0, asked.explanation
    wanted = [
        ((at + timedelta(minutes=-60)).isoformat() + "Z", (str(bought), "Wh"), (str(sold), "Wh"))
        for at, bought, sold in rows_of(meter)[-last:]
    ]
    shown = [[column.shown(value) for column, value in zip(*pair, strict=True)] for pair in came]
    assert [(time, bought, sold) for (time, _), bought, sold in shown] == wanted


def test_a_meter_that_lets_no_rows_be_chosen_sends_all_and_the_last_are_kept():
    class Plain(AskedDlmsMeter):
        asked = 0

        def _get(self, item, at_s):
            if self._selector != b"\x00":
                self.asked += 1
                return b"\x01\x0d"
            return super()._get(item, at_s)

    came = []
    asked = asked_by(profile(OBIS, 3, lambda _, row: came.append(row[1])), meter := Plain())
    assert asked.failures == 0 and meter.asked == 1 and came == [row[1] for row in rows_of(meter)[-3:]]


def answers_a_list(meter, said):
    """`meter`, which says `said` to a GET of a list."""

    class Other(type(meter)):
        def _serve(self, apdu, at_s):
            return said if apdu[:2] == b"\xc0\x03" else super()._serve(apdu, at_s)

    meter.__class__ = Other
    return meter


@pytest.mark.parametrize("quirks", [(), ("blocks",), ("segments",)])
def test_the_scales_of_a_profile_are_asked_in_one_list(quirks):
    columns = [(8, "0-0:1.0.0*255", 2), (3, "1-0:1.8.0*255", 2), (3, "1-0:2.8.0*255", 2)]
    came, sent = [], []
    meter = AskedDlmsMeter(quirks=quirks)
    serve = meter._serve
    meter._serve = lambda apdu, at_s: sent.append(bytes(apdu)) or serve(apdu, at_s)
    asked = asked_by(profile(OBIS, 2, lambda columns, _: came.append(columns)), meter)
    assert asked.failures == 0 and [(c.class_id, obis_text(c.obis), c.attribute) for c in came[0]] == columns
    assert [(c.exponent, c.unit) for c in came[0][1:]] == [(0, 30), (0, 30)]
    assert [apdu[3] for apdu in sent if apdu[:2] == b"\xc0\x03"] == [2]
    assert not [apdu for apdu in sent if apdu[:2] == b"\xc0\x01" and apdu[3:5] == b"\x00\x03"]


SCALE = b"\x00\x02\x02\x0f\x00\x16\x1e"


@pytest.mark.parametrize(
    "said",
    [
        b"\xd8\x01\x02",  # not at all
        b"\xc4\x01\xc1\x01\x0b",
        b"\xc4\x03\xc1\x01" + SCALE,  # the half of it
        b"\xc4\x03\xc1\x03" + 3 * SCALE,
        b"\xc4\x03\xc1\x02" + 2 * SCALE + b"\x00",
        b"\xc4\x03\xc1\x02" + SCALE + SCALE[:-2],
    ],
)
def test_what_is_no_answer_to_a_list_is_asked_one_by_one(said):
    came = []
    asked = asked_by(profile(OBIS, 2, lambda columns, _: came.append(columns)), answers_a_list(AskedDlmsMeter(), said))
    assert asked.failures == 0 and [(c.exponent, c.unit) for c in came[0][1:]] == [(0, 30), (0, 30)]


def test_a_register_whose_scale_is_refused_tells_no_value(capsys):
    meter = answers_a_list(AskedDlmsMeter(), b"\xc4\x03\xc1\x02\x01\x03" + SCALE)
    printer = asked_session._Printer(argparse.Namespace(json=False, profile=OBIS))
    asked = asked_by(profile(OBIS, 1, printer.row), meter)
    assert asked.failures == 0 and printer.unscaled == ["1-0:1.8.0*255"]
    sold = rows_of(meter)[-1][2]
    assert capsys.readouterr().out.endswith(f"Z   1-0:1.8.0*255 -   1-0:2.8.0*255 {sold} Wh\n")


def test_a_binary_fraction_of_a_profile_has_its_scale_and_unit():
    column = Column(3, bytes((1, 0, 1, 8, 0, 255)), 2, 3, 30)
    sent = [b"\x17" + struct.pack(">f", number) for number in (230.5, -0.25, 0.1, 1 / 3, float("nan"))]
    sent += [b"\x18" + struct.pack(">d", 0.1), b"\x05" + struct.pack(">i", 47)]
    shown = [column.shown(value_at(data, 0)[0]) for data in sent]
    exact = [("230500", "Wh"), ("-250", "Wh"), ("100", "Wh"), ("333.33334", "Wh"), (None, None)]
    assert shown == [*exact, ("100", "Wh"), ("47000", "Wh")]


def test_a_meter_that_grants_no_lists_is_asked_for_none():
    class Plain(AskedDlmsMeter):
        asked = 0

        def _initiate(self):
            return super()._initiate().replace(b"\x12\x14", b"\x10\x14")

        def _serve(self, apdu, at_s):
            self.asked += apdu[:2] == b"\xc0\x03"
            return super()._serve(apdu, at_s)

    asked = asked_by(profile(OBIS, 2, lambda *_: None), meter := Plain())
    assert asked.failures == 0 and meter.asked == 0


def test_a_profile_that_is_not_there_is_a_sentence():
    asked = asked_by(profile(OBIS[:2] + b"\x05" + OBIS[3:], 3, lambda *_: None), AskedDlmsMeter())
    assert "it has no profile 1-0:5.1.0*255" in asked.explanation


@pytest.mark.parametrize("cut", [1, 6, 40])
def test_a_list_that_ends_too_early_is_a_sentence(cut):
    class Cutting(AskedDlmsMeter):
        def _get(self, item, at_s):
            value = super()._get(item, at_s)
            return value[:-cut] if item[:2] == b"\x00\x0f" else value

    found = []
    asked = asked_by(object_list(found.append), Cutting())
    assert "cut off" in asked.explanation and 10 < len(found) < 18


def test_any_bytes_are_values_or_malformed():
    draw = random.Random(7)
    for _ in range(3000):
        items = Items()
        for _ in range(draw.randrange(1, 4)):
            piece = bytes(draw.choice((1, 2, 4, 6, 9, 18, 23, 0, draw.randrange(256))) for _ in range(40))
            try:
                list(items.take(piece if items.left >= 0 else b"\x01" + piece))
            except Malformed:
                break
    value = struct.pack(">f", 230.5)
    assert value_at(b"\x02\x03\x17" + value + b"\x09\x01\xaa\x0f\xff", 0) == ([(2305, -1), b"\xaa", -1], 12)


@pytest.mark.parametrize("what", [object_list(lambda _: None), profile(OBIS, 3, lambda *_: None)])
def test_any_answer_at_all_ends_with_a_sentence(what, monkeypatch):
    """A link that hands on anything, where a meter would have answered."""
    draw = random.Random(11)

    def request(self, _apdu):
        kind = draw.choice((b"\xc4\x01\xc1\x00", b"\xc4\x02\xc1\x00\x00\x00\x00\x01\x00\x10", b"\xd8\x01\x02"))
        kind = kind if draw.random() < 0.9 else b""
        said = kind + bytes(draw.choice((1, 2, 4, 6, 9, 18, 0, 255, draw.randrange(256))) for _ in range(60))
        self.apdu[3 : 3 + len(said)] = said
        self.n = 3 + len(said)
        return draw.random() < 0.95
        yield

    monkeypatch.setattr("metering.dlms.hdlc_link.HdlcLink.request", request)
    for _ in range(300):
        asked = Asked(what, AskedValues())
        asked.take_options("")
        for action in (actions := asked._read_all()):
            assert action[0] not in (EXPECT, LISTEN)
        assert actions.gi_frame is None


def ask(meter, *words):
    """(exit code, stdout, stderr) of `optoprobe read` over TCP."""
    with TcpMeter(meter) as listening:
        process: subprocess.Popen[str] = start("read", "--tcp", listening.path, *words)
        out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def test_both_are_read_by_the_command():
    meter = AskedDlmsMeter(wrapped=True)
    code, out, err = ask(meter, "--objects", "--json")
    assert (code, err) == (0, "") and len(out.splitlines()) == 18
    assert json.loads(out.splitlines()[3]) == {"class": 3, "version": 0, "obis": "1-0:1.8.0*255"}
    code, out, err = ask(meter, "--profile", "1.0.99.1.0.255", "--last", "2")
    assert (code, err) == (0, "") and out.count("1-0:1.8.0*255 47") == 2
    assert meter.events == ["left properly, 0 values read"] * 2
    code, out, err = ask(meter, "--last", "2")
    assert (code, out) == (2, "") and "--last is for --profile" in err


def test_the_classes_have_names():
    assert asked_lists.CLASSES[7] == "profile generic"


def test_binary_fractions_of_a_structure_are_shown_as_decimals():
    value, end = value_at(bytes.fromhex("0202 17 3dcccccd 17 bf000000"), 0)
    assert end == 12 and Column(1, bytes(6), 2).shown(value) == ("[0.1, -0.5]", None)
