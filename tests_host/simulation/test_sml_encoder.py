"""The SML encoder and the simulated meter against the standard's layout by hand and against two independent decoders.

smllib (X-25 and KERMIT, envelope only) and pysml (X-25, envelope and messages) read what we write; where one of them
cannot read a quirk that real meters have, the test says so and leaves it to the other.
"""

import random
from decimal import Decimal

import pytest
import sml as pysml
from smllib import SmlStreamReader
from smllib.builder import SmlObjBuilder, create_context
from smllib.const import UNITS
from smllib.sml import SmlListEntry

from optoprobe.virtual import sml_encoder as sml
from optoprobe.virtual.household import Household
from optoprobe.virtual.sml_encoder import Entry
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter, decimal_text

SERVER = bytes.fromhex("0a014f50540001126cff")


def crc_by_definition(data, init, final):
    """CRC-CCITT bit by bit, most significant bit first over mirrored bytes: another way than the encoder's table."""

    def mirror(value, n):
        return int(f"{value:0{n}b}"[::-1], 2)

    crc = mirror(init, 16)
    for byte in data:
        crc ^= mirror(byte, 8) << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return mirror(crc, 16) ^ final


class PlainEntries(SmlObjBuilder):
    """smllib's entries without its guess at text and its refusal of absent values."""

    BUILDS = SmlListEntry


def smllib_lists(telegram, crc="x25"):
    """The list responses of a telegram as smllib reads them: [[entry, ...], ...]."""
    reader = SmlStreamReader(build_ctx=create_context() | {SmlListEntry: PlainEntries()}, crc=crc)
    reader.add(telegram)
    frame = reader.get_frame()
    assert frame is not None
    assert reader.bytes == b""
    bodies = [message.message_body for message in frame.parse_frame()]
    return [body.val_list for body in bodies if hasattr(body, "val_list")]


def smllib_readings(telegram, crc="x25"):
    """(OBIS, exact decimal or hex, unit or None) of a telegram by smllib."""
    readings = []
    for entries in smllib_lists(telegram, crc):
        for entry in entries:
            value = text = entry.value  # octet strings are hex
            if value is None:
                continue
            if isinstance(value, bool):
                text = "true" if value else "false"
            elif isinstance(value, int):
                text = f"{Decimal(value).scaleb(entry.scaler or 0):f}"
            readings.append((entry.obis.obis_code, text, UNITS.get(entry.unit)))
    return readings


def pysml_lists(telegram):
    """The list responses of a telegram as pysml reads them."""
    end, frame = pysml.SmlBase.find_frame(telegram)
    assert end == len(telegram)
    assert frame is not None
    bodies = [message["messageBody"] for message in frame]
    return [body["valList"] for body in bodies if isinstance(body, dict) and "valList" in body]


def plain(readings):
    """Readings with values that have a unit as Decimal, so that 0.0 is 0."""
    return [(obis, Decimal(text) if unit else text, unit) for obis, text, unit in readings]


# --- by hand ---


def test_crc_check_values():
    assert sml.crc16(b"123456789", "x25") == 0x906E
    assert sml.crc16(b"123456789", "kermit") == 0x2189
    assert sml.crc_bytes(b"123456789", "x25") == b"\x6e\x90"  # low byte first
    assert sml.crc_bytes(b"123456789", "kermit") == b"\x21\x89"  # high byte first, as the old Holley
    data = random.Random(1).randbytes(500)
    assert sml.crc16(data, "x25") == crc_by_definition(data, 0xFFFF, 0xFFFF)
    assert sml.crc16(data, "kermit") == crc_by_definition(data, 0, 0)


@pytest.mark.parametrize(
    ("kind", "length", "least", "type_bits", "wanted"),
    [
        (0x00, 14, 1, False, "0f"),  # 14 bytes and the TL itself: 15, the most one TL byte says
        (0x00, 15, 1, False, "8101"),  # 15 + 2 = 0x11
        (0x00, 48, 1, False, "8302"),  # the public key of EMH and Iskra
        (0x00, 253, 1, False, "8f0f"),
        (0x00, 254, 1, False, "818001"),  # 254 + 3 = 0x101
        (0x50, 1, 1, False, "52"),
        (0x60, 4, 1, False, "65"),
        (0x50, 8, 2, False, "d00a"),
        (0x50, 1, 3, False, "d08004"),
        (0x70, 7, 1, False, "77"),
        (0x70, 15, 1, False, "7f"),  # a list's length does not count the TL
        (0x70, 16, 1, False, "f100"),  # EasyMeter
        (0x70, 21, 1, False, "f105"),  # Holley
        (0x70, 22, 1, True, "f176"),  # Hager
        (0x70, 7, 3, True, "f0f077"),
    ],
)
def test_type_length(kind, length, least, type_bits, wanted):
    assert sml.type_length(kind, length, least, type_bits).hex() == wanted


@pytest.mark.parametrize(
    ("value", "width", "signed", "wanted"),
    [
        (0, None, True, "5200"),
        (127, None, True, "527f"),
        (128, None, True, "530080"),
        (-128, None, True, "5280"),
        (-129, None, True, "53ff7f"),
        (255, None, False, "62ff"),
        (256, None, False, "630100"),
        (-1, 3, True, "54ffffff"),
        (1, 5, True, "560000000001"),
        (2**63 - 1, None, True, "597fffffffffffffff"),
        (-(2**63), None, True, "598000000000000000"),
        (2**64 - 1, None, False, "69ffffffffffffffff"),
    ],
)
def test_integer(value, width, signed, wanted):
    assert sml.integer(value, width, signed).hex() == wanted


@pytest.mark.parametrize(
    ("value", "width", "signed"), [(128, 1, True), (-1, 4, False), (1, 9, True), (2**64, None, False)]
)
def test_integer_refuses_what_does_not_fit(value, width, signed):
    with pytest.raises(ValueError):
        sml.integer(value, width, signed)


def test_entry_by_hand():
    entry = Entry("1-0:1.8.0*255", 147981129, 8, True, -1, 30, 0x1C0104, 4, sml.sec_index(0x12345678))
    wanted = "77 070100010800ff 65001c0104 7262016512345678 621e 52ff 590000000008d20349 01"
    assert entry.encode() == bytes.fromhex(wanted)
    assert Entry("1-0:96.50.2*6", None).encode() == bytes.fromhex("77 07010060320206 01 01 01 01 01 01")
    assert Entry("1-0:96.5.1*255", True).encode().hex() == "77070100600501ff0101010142ff01"
    text = Entry(bytes.fromhex("8181c78203ff"), "OPT", unit=0, scaler=0, val_time=sml.SmlTime(1, 0, width=1))
    assert text.encode().hex() == "77078181c78203ff01726201620062005200044f505401"  # as DZG writes its octet strings


@pytest.mark.parametrize(
    ("time", "bare", "wanted"),
    [
        (sml.sec_index(1), False, "7262016500000001"),
        (sml.timestamp(0x65000000), False, "7262026565000000"),
        (sml.local_timestamp(0x65000000, 60, -60), False, "726203736565000000 53003c 53ffc4"),
        (sml.sec_index(1), True, "6500000001"),
    ],
)
def test_time(time, bare, wanted):
    assert time.encode(bare).hex() == wanted.replace(" ", "")


def test_obis_bytes():
    assert sml.obis_bytes("129-129:199.130.5*255").hex() == "8181c78205ff"
    for wrong in ("1.8.0", "1-0:1.8.0*256", "1-0:1.8.x*255", b"12345"):
        with pytest.raises(ValueError, match="OBIS"):
            sml.obis_bytes(wrong)


def test_message_and_transport_by_hand():
    message = sml.message(sml.CLOSE_RESPONSE, sml.close_response(), transaction_id=b"\x12\x34", group_no=5)
    inner = bytes.fromhex("76 03 1234 6205 6200 72 630201 7101")
    crc = crc_by_definition(inner, 0xFFFF, 0xFFFF)
    assert message == inner + bytes((0x63, crc & 0xFF, crc >> 8, 0x00))
    assert len(message) == 18  # so two fill bytes
    telegram = sml.transport(message)
    outer = bytes.fromhex("1b1b1b1b01010101") + message + bytes.fromhex("0000 1b1b1b1b 1a02")
    crc = crc_by_definition(outer, 0xFFFF, 0xFFFF)
    assert telegram == outer + bytes((crc & 0xFF, crc >> 8))


def test_kermit_goes_high_byte_first_everywhere():
    style = sml.Style(crc="kermit", tag_bytes=4)
    message = sml.message(sml.CLOSE_RESPONSE, sml.close_response(), style=style)
    inner = bytes.fromhex("76 0500000001 6200 6200 72 6500000201 7101")
    crc = crc_by_definition(inner, 0, 0)
    assert message == inner + bytes((0x63, crc >> 8, crc & 0xFF, 0x00))
    telegram = sml.transport(message, "kermit")
    assert int.from_bytes(telegram[-2:], "big") == crc_by_definition(telegram[:-2], 0, 0)


def test_a_narrow_crc_is_one_byte_only_where_its_first_is_zero():
    seen = set()
    for k in range(2000):
        options = {"transaction_id": k.to_bytes(4, "big")}
        usual = sml.message(sml.CLOSE_RESPONSE, sml.close_response(), **options)
        narrow = sml.message(sml.CLOSE_RESPONSE, sml.close_response(), **options, style=sml.Style(narrow_crc=True))
        if usual[-3] == 0:
            assert narrow == usual[:-4] + b"\x62" + usual[-2:]
        else:
            assert narrow == usual
        seen.add(usual[-3] == 0)
    assert seen == {True, False}


def test_style_refuses_what_no_meter_does():
    for wrong in ({"crc": "arc"}, {"tag_bytes": 3}):
        with pytest.raises(ValueError, match="style"):
            sml.Style(**wrong)


# --- the envelope ---


@pytest.mark.parametrize("fill", range(4))
def test_every_count_of_fill_bytes(fill):
    seen = set()
    for n in range(4):
        telegram = sml.telegram([Entry("1-0:96.1.0*255", bytes(8 + n))], SERVER)
        assert len(telegram) % 4 == 0
        seen.add(telegram[-3])
        if telegram[-3] == fill:
            assert smllib_readings(telegram) == [("1-0:96.1.0*255", bytes(8 + n).hex(), None)]
    assert seen == {0, 1, 2, 3}


BAITS = [
    sml.ESCAPE,
    sml.ESCAPE * 2,
    sml.ESCAPE * 3,
    b"\x1b" * 5,
    b"\x1b" * 7,
    sml.START,
    sml.ESCAPE * 2 + b"\x01\x01\x01\x01",
    sml.ESCAPE + b"\x1a\x00\x12\x34",
]


@pytest.mark.parametrize("bait", BAITS, ids=bytes.hex)
@pytest.mark.parametrize("offset", range(8))
def test_escapes_at_every_alignment(bait, offset):
    key = bytes(0x40 + k for k in range(offset)) + bait + bytes(0x60 + k for k in range(12 - offset))
    telegram = sml.telegram([Entry("129-129:199.130.5*255", key), Entry("1-0:1.8.0*255", 1, 4, unit=30)], SERVER)
    assert sml.ESCAPE * 2 in telegram
    assert len(telegram) % 4 == 0
    (entries,) = smllib_lists(telegram)
    assert bytes.fromhex(entries[0].value) == key
    assert entries[1].value == 1
    (entries,) = pysml_lists(telegram)
    assert bytes.fromhex(entries[0]["value"]) == key


def test_escape_doubles_from_the_left():
    assert sml.escape(b"\x1b" * 3) == b"\x1b" * 3
    assert sml.escape(b"\x1b" * 4) == b"\x1b" * 8
    assert sml.escape(b"\x1b" * 7) == b"\x1b" * 11
    assert sml.escape(b"\x1b" * 8) == b"\x1b" * 16
    with pytest.raises(ValueError, match="1b"):
        sml.transport(b"abc\x1b")


# --- independent decoders ---

ROWS = [
    Entry("1-0:1.8.0*255", 29416461614, 8, False, -4, 30, 0x182, 2),
    Entry("1-0:2.8.0*255", 2**40 - 1, 5, False, -1, 30, 1, 1),
    Entry("1-0:16.7.0*255", -2**23, 3, True, 0, 27, 0x1C0904, 3),
    Entry("1-0:36.7.0*255", -1, 4, True, -2, 27, 2**63, 8),
    Entry("1-0:32.7.0*255", 2301, 2, False, -1, 35),
    Entry("1-0:31.7.0*255", 0, 2, False, -2, 33),
    Entry("1-0:14.7.0*255", 500, 2, True, -1, 44),
    Entry("1-0:1.8.1*255", 16, 1, True, 3, 30),
    Entry("1-0:1.8.2*255", -(2**63), 8, True, 0, 30),
    Entry("1-0:1.8.3*255", 2**64 - 1, 8, False, 1, 30),
    Entry("1-0:81.7.1*255", 120, 6, True, None, 8),
    Entry("1-0:96.9.1*1", 215, 7, True, -1, 9, val_time=sml.timestamp(1_700_000_000)),
    Entry("1-0:96.1.0*255", SERVER),
    Entry("1-0:96.50.1*1", "OPT"),
    Entry("129-129:199.130.5*255", bytes(range(0xC0, 0xF0)), signature=bytes(40)),
]
STYLES = [
    {},
    {"crc": "kermit"},
    {"tag_bytes": 4},
    {"list_tl": 2},
    {"octet_tl": 2},
    {"octet_tl": 3, "int_tl": 3, "list_tl": 3},
    {"tl_type_bits": True, "list_tl": 2},
    {"bare_val_time": True},
    {"crc": "kermit", "tag_bytes": 4, "bare_val_time": True},
    {"narrow_crc": True},
]


def expected_of(entry):
    value, unit = entry.value, UNITS.get(entry.unit)
    if isinstance(value, int):
        return (entry.obis, decimal_text(value, entry.scaler or 0), unit)
    return (entry.obis, (value.encode() if isinstance(value, str) else value).hex(), unit)


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_smllib_reads_what_we_write(style):
    telegram = sml.telegram(ROWS, SERVER, sensor_time=sml.sec_index(99), signature=bytes(64), **style)
    assert plain(smllib_readings(telegram, style.get("crc", "x25"))) == plain(expected_of(row) for row in ROWS)
    (entries,) = smllib_lists(telegram, style.get("crc", "x25"))
    assert [entry.status for entry in entries] == [row.status for row in ROWS]
    assert [entry.value_signature for entry in entries] == [row.signature and row.signature.hex() for row in ROWS]


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_pysml_reads_what_we_write(style):
    telegram = sml.telegram(ROWS, SERVER, sensor_time=sml.sec_index(99), **style)
    if style.get("crc") == "kermit":  # pysml knows X-25 only
        assert pysml.SmlBase.find_frame(telegram)[1] is None
        return
    if style.get("tl_type_bits"):  # and wants 000 in continuation bytes
        with pytest.raises(pysml.SmlParserError, match="TL syntax"):
            pysml.SmlBase.find_frame(telegram)
        return
    (entries,) = pysml_lists(telegram)
    assert [entry["objName"] for entry in entries] == [row.obis for row in ROWS]
    for entry, row in zip(entries, ROWS, strict=True):
        if isinstance(row.value, int):
            assert entry["value"] == pytest.approx(float(Decimal(row.value).scaleb(row.scaler or 0)), rel=1e-12)
            assert entry["unit"] == UNITS[row.unit]
            assert entry.get("status") == row.status
    assert entries[12]["value"] == "1 OPT00 1798 4767"  # 0x01126cff = 17,984,767, printed by DIN 43863-5
    assert entries[14]["value"] == bytes(range(0xC0, 0xF0)).hex()


def test_bool_and_long_list():
    entries = [Entry("1-0:96.5.1*255", True), Entry("1-0:96.5.2*255", False)]
    entries += [Entry(f"1-0:1.8.{k}*255", k, unit=30) for k in range(255)]
    telegram = sml.telegram(entries, SERVER)
    readings = smllib_readings(telegram)
    assert [text for _, text, _ in readings[:2]] == ["true", "false"]
    assert [int(text) for _, text, _ in readings[2:]] == list(range(255))


def test_several_lists_and_other_messages():
    bodies = [
        (sml.LIST_RESPONSE, sml.list_response([Entry("1-0:1.8.0*255", 5, unit=30)], SERVER)),
        (sml.PROC_PARAMETER_RESPONSE, sml.proc_parameter_response(SERVER, "129-129:199.130.3*255", b"OPT")),
        (sml.ATTENTION_RESPONSE, sml.attention_response(SERVER, text=b"busy")),
        (sml.LIST_RESPONSE, sml.list_response([Entry("1-0:2.8.0*255", 6, unit=30)], SERVER)),
    ]
    telegram = sml.sml_file(bodies, SERVER, counter=7)
    lists = pysml_lists(telegram)
    assert [[(e["objName"], e["value"]) for e in entries] for entries in lists] == [
        [("1-0:1.8.0*255", 5)],
        [("1-0:2.8.0*255", 6)],
    ]
    _, frame = pysml.SmlBase.find_frame(telegram)
    attention = [item.value for item in frame[3]["messageBody"][1].value]
    assert attention == [SERVER, bytes.fromhex("8181c7c7fe00"), b"busy", b""]
    tree = frame[2]["messageBody"][1].value[2].value
    assert tree[0].value.hex() == "8181c78203ff"
    assert tree[1].value[1].value == b"OPT"
    assert len({message["transactionId"].value for message in frame}) == 6


# --- the simulated meter ---

NO_SMLLIB = {"attention", "proc_parameter"}  # it raises at these
NO_PYSML = {"kermit", "list_type_bits", "boolean"}


def meter_of(*quirks):
    return SmlMeter(3, quirks=quirks, pv_peak_w=6000, start_s=6 * 3600, energy_wh=16_000)


@pytest.mark.parametrize("quirk", ["", *sorted(QUIRKS)])
def test_every_quirk_reads_as_the_simulation_says(quirk):
    meter = meter_of(*filter(None, [quirk]))
    for k in range(10):
        telegram = meter.telegram(k * 8991)  # 25 hours in all, so nights too
        expected = meter.expected()
        assert len(telegram) < 1024
        if quirk not in NO_SMLLIB and quirk != "dzg_dvs74":
            assert plain(smllib_readings(telegram, "kermit" if quirk == "kermit" else "x25")) == plain(expected)
        if quirk not in NO_PYSML:
            got = [entry for entries in pysml_lists(telegram) for entry in entries if "value" in entry]
            assert [entry["objName"] for entry in got] == [obis for obis, _, _ in expected]
            for entry, (_, text, unit) in zip(got, expected, strict=True):
                if isinstance(entry["value"], (int, float)):
                    assert entry["value"] == pytest.approx(float(text), rel=1e-12)
                    assert entry.get("unit") == unit
    if quirk in ("attention", "proc_parameter"):
        assert expected == []  # the tenth


def test_dzg_fault_and_its_sibling():
    faulty, sibling = meter_of("dzg_dvs74"), meter_of("dzg_sibling")
    assert 42_000_000 <= int.from_bytes(faulty.server_id[5:], "big") <= 48_999_999
    number = int.from_bytes(sibling.server_id[5:], "big")
    assert not (42_000_000 <= number <= 48_999_999 or 55_000_000 <= number <= 58_999_999)
    assert faulty.server_id[2:5] == sibling.server_id[2:5] == b"DZG"
    wrong = negative = sibling_negative = 0
    for k in range(0, 1440, 2):
        telegram, true = faulty.telegram(k * 60), Decimal(faulty.expected()[-1][1])
        sent = Decimal(smllib_readings(telegram)[-1][1])
        if sent != true:
            assert sent < 0 < true
            assert true - sent in (Decimal(256) / 100, Decimal(65536) / 100, Decimal(16777216) / 100)
            wrong += 1
        elif true < 0:
            negative += 1
        telegram = sibling.telegram(k * 60)
        assert Decimal(smllib_readings(telegram)[-1][1]) == Decimal(sibling.expected()[-1][1])
        sibling_negative += Decimal(sibling.expected()[-1][1]) < 0
    assert min(wrong, negative, sibling_negative) > 20


def test_shape_of_quirks():
    def telegram(*quirks):
        return meter_of(*quirks).telegram(5)

    assert b"\xf1\x76" in telegram("list_type_bits")
    assert b"\xf1\x05" in telegram("long_list")
    assert bytes.fromhex("6500000701") in telegram("u32_tag")
    assert bytes.fromhex("77 07010060320206 01 01 01 01 01 01") in telegram("absent_value")
    assert bytes.fromhex("8302") in telegram("key")
    assert telegram("two_lists").count(bytes.fromhex("63070177")) == 2
    assert bytes.fromhex("7262037365") in telegram("val_time_local")
    assert meter_of("ascii_id_7").server_id.isdigit() and len(meter_of("ascii_id_7").server_id) == 7
    assert meter_of("ascii_id_8").server_id.isdigit() and len(meter_of("ascii_id_8").server_id) == 8
    attention = meter_of("attention")
    assert [bytes.fromhex("63ff01") in attention.telegram(k) for k in range(6)] == [False] * 4 + [True, False]
    escaped = meter_of("escape_in_key")
    assert all(sml.ESCAPE * 2 in escaped.telegram(k) for k in range(10))
    varying = meter_of("varying_width")
    telegrams = [varying.telegram(k * 60) for k in range(600)]
    assert len({len(t) for t in telegrams}) > 1
    assert len({t[-3] for t in telegrams}) > 1  # and so do the fill bytes
    no_pin = meter_of("no_pin")
    no_pin.telegram(5)
    assert no_pin.expected()[2:] == [("1-0:1.8.0*255", "16000", "Wh"), ("1-0:2.8.0*255", "612000", "Wh")]


def test_default_server_id_is_din_43863_5():
    meter = SmlMeter(1)
    assert meter.server_id[:6] == b"\x0a\x01OPT\x00"
    assert len(meter.server_id) == 10
    assert meter.meter_id == meter.server_id.hex()
    assert SmlMeter(2).server_id != meter.server_id


def test_registers_are_the_integral_of_the_power():
    meter = SmlMeter(4, pv_peak_w=5000, energy_wh=0, export_wh=0, start_s=0)
    home = Household(4, pv_peak_w=5000, start_s=0)
    at, imported, exported = 0, 0, 0
    last = (Decimal(0), Decimal(0))
    for until in [*range(0, 86_400, 1731), 86_400]:
        for second in range(at, until):
            power_dw = sum(home.phases_dw(second))
            imported, exported = imported + max(power_dw, 0), exported + max(-power_dw, 0)
        at = until
        meter.telegram(until)
        values = {obis: Decimal(text) for obis, text, unit in meter.expected() if unit == "Wh"}
        now = (values["1-0:1.8.0*255"], values["1-0:2.8.0*255"])
        assert now == (Decimal(imported // 3600) / 10, Decimal(exported // 3600) / 10)  # 0.1 Wh = 3600 dWs
        assert now >= last and now[1] >= last[1]
        last = now
    assert 2000 < last[0] < 20_000  # a household's day, in Wh
    assert 5000 < last[1] < 50_000


def test_times_between_telegrams_do_not_matter():
    often, seldom = SmlMeter(4), SmlMeter(4)
    for k in range(2000):
        often.telegram(k * 0.731)
    often.telegram(1500.123)
    seldom.telegram(1500.123)
    assert often.expected() == seldom.expected()
    with pytest.raises(ValueError, match="go back"):
        often.telegram(1500)


def test_the_same_seed_is_the_same_meter():
    assert [SmlMeter(9).telegram(k) for k in (0, 1, 500)] == [SmlMeter(9).telegram(k) for k in (0, 1, 500)]
    assert SmlMeter(9).telegram(0) != SmlMeter(10).telegram(0)


def test_meter_refuses_what_is_no_meter():
    for wrong, text in (
        ({"quirks": ["kermitt"]}, "kermitt"),
        ({"period_s": 0}, "period_s"),
        ({"energy_wh": -1}, "energies"),
        ({"maker": b"LONG"}, "maker"),
        ({"pv_peak_w": -1}, "pv_peak_w"),
    ):
        with pytest.raises(ValueError, match=text):
            SmlMeter(1, **wrong)


@pytest.mark.parametrize(
    ("mantissa", "scaler", "text"),
    [
        (0, 0, "0"),
        (0, -1, "0.0"),
        (147, -1, "14.7"),
        (-5, -2, "-0.05"),
        (16, 3, "16000"),
        (29416461614, -4, "2941646.1614"),
    ],
)
def test_decimal_text(mantissa, scaler, text):
    assert decimal_text(mantissa, scaler) == text
