"""The parts of the DLMS listener, each by its table: reassembly, replays, forms, Kamstrup's scales, layouts, names.

Bodies follow public reports (amsreader-firmware, Tasmota, esphome: named beside each layout in metering.dlms.layouts)
with other numbers; what they must give was reckoned by hand.
"""

import pytest
from support.dlms_rows import AUTH_KEY, KEY, TITLE, Heard, energy_body, hear, in_hdlc, make, notification

from metering.checksum import X25_INIT, crc16
from metering.dlms.hdlc import X25_TABLE
from metering.dlms.push import UNKNOWN_LIST
from metering.dlms.reassembly import (
    COMPLETE,
    GATHER,
    MAX_APDU,
    NO_LAST,
    NO_START,
    OUT_OF_ORDER,
    TOO_LONG,
    UNNUMBERED,
    Reassembly,
)
from metering.dlms.security import ReplayWindow
from optoprobe.virtual import dlms_encoder as enc

U16, U32 = enc.UINT16, enc.UINT32


def structure(*values):
    return enc.structure(values)


def u16(*values):
    return [enc.number(U16, value) for value in values]


def u32(*values):
    return [enc.number(U32, value) for value in values]


def text(name):
    return enc.octets(name.encode())


def code(obis):
    return enc.octets(enc.obis_bytes(obis + "*255"))


CLOCK = enc.octets(bytes.fromhex("07ea021307020500ff800000"))

# --- reassembly: (begins, is_apdu, number, last) one after another, and the answers -----------------------------------

START, LAST_START = (True, True, UNNUMBERED, False), (True, True, UNNUMBERED, True)
NEXT, END = (False, False, UNNUMBERED, False), (False, False, UNNUMBERED, True)


def numbered(k, last=False, first=1):
    return k == first, True, k, last


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([START], [GATHER]),
        ([LAST_START], [COMPLETE]),
        ([(True, False, UNNUMBERED, True)], [NO_START]),
        ([NEXT], [NO_START]),
        ([numbered(2)], [NO_START]),
        ([START, NEXT, END], [GATHER, GATHER, COMPLETE]),
        ([numbered(1), numbered(2), numbered(3, True)], [GATHER, GATHER, COMPLETE]),
        ([numbered(0, first=0), numbered(1, True, 0)], [GATHER, COMPLETE]),
        ([START, START, END], [GATHER, NO_LAST, NO_START]),
        ([numbered(1), numbered(3)], [GATHER, OUT_OF_ORDER]),
        ([numbered(1), numbered(2), numbered(2)], [GATHER, GATHER, OUT_OF_ORDER]),
        ([START, numbered(2)], [GATHER, OUT_OF_ORDER]),
        ([numbered(1), END], [GATHER, OUT_OF_ORDER]),
    ],
)
def test_reassembly(parts, answers):
    reassembly, held = Reassembly(), 0
    found = []
    for part in parts:
        answer = reassembly.offer(held, 10, *part)
        found.append(answer)
        held = held + 10 if answer == GATHER else 0
    assert found == answers
    assert reassembly.needs_no_gap() == (answers[-1] == GATHER and parts[-1][2] == UNNUMBERED)


def test_an_apdu_that_is_too_long_is_lost_whole():
    reassembly = Reassembly()
    assert reassembly.offer(0, MAX_APDU, *START) == GATHER
    assert reassembly.offer(MAX_APDU, 1, *END) == TOO_LONG
    assert reassembly.offer(0, 1, *END) == NO_START
    assert reassembly.offer(0, MAX_APDU + 1, *LAST_START) == TOO_LONG


@pytest.mark.parametrize(
    ("strict", "heard", "admitted"),
    [
        (True, [("a", 1), ("a", 2), ("a", 2), ("a", 1), ("a", 3)], [True, True, False, False, True]),
        (False, [("a", 2), ("a", 2), ("a", 1)], [True, True, True]),
        (True, [("a", 9), ("b", 1), ("a", 8), ("b", 2)], [True, True, False, True]),
        (True, [(name, 1) for name in "abcde"], [True] * 4 + [False]),
        (False, [(name, 1) for name in "abcde"], [True] * 5),
    ],
)
def test_replay_window(strict, heard, admitted):
    window = ReplayWindow()
    assert [window.admits(title, counter, strict) for title, counter in heard] == admitted


# --- layouts and names -----------------------------------------------------------------------------------------------

WH, VARH, W, VAR = "Wh", "varh", "W", "var"


def quantities(codes, values, units):
    return [(f"1-0:{c}*255", v, u) for c, v, u in zip(codes.split(), values.split(), units.split(), strict=True)]


TOTALS = "1.8.0 2.8.0 3.8.0 4.8.0"
POWERS = "1.7.0 2.7.0 3.7.0 4.7.0"
LISTS = [
    (
        "Vienna, 125 bytes",
        structure(text("SMS1030000000001"), CLOCK, *u32(5123456, 7, 120345, 830456, 321, 0, 5, 6)),
        quantities(f"{TOTALS} {POWERS}", "5123456 7 120345 830456 321 0 5 6", "Wh Wh varh varh W W var var"),
        "",
    ),
    (
        "Burgenland, 11 items",
        structure(*u16(228, 226, 230, 781, 1482, 643), *u32(5432, 0, 40091000, 12), text("30000001")),
        quantities(
            "32.7.0 52.7.0 72.7.0 31.7.0 51.7.0 71.7.0 1.7.0 2.7.0 1.8.0 2.8.0",
            "228 226 230 7.81 14.82 6.43 5432 0 40091000 12",
            "V V V A A A W W Wh Wh",
        ),
        "30000001",
    ),
    (
        "Kaernten Netz",
        structure(text("x"), text("1121300001"), text("y"), text("z"), *u32(14370048, 420837, 1455864, 2293936, 0, 9),
                  text("v"), text("w")),
        quantities(f"{TOTALS} 1.7.0 2.7.0", "14370048 420837 1455864 2293936 0 9", "Wh Wh varh varh W W"),
        "1121300001",
    ),
    (
        "Wels",
        structure(*map(text, "abcd"), *u32(1000, 2000, 3000, 4000, 50, 60)),
        quantities(f"{TOTALS} 1.7.0 2.7.0", "1000 2000 3000 4000 50 60", "Wh Wh varh varh W W"),
        "",
    ),
    (
        "Slovenia, 10 items",
        structure(text("ISK1030700001"), text("16820306"), *u32(1, 2, 3, 4, 5, 6, 7, 8)),
        quantities("1.8.1 1.8.2 2.8.1 2.8.2 3.8.1 3.8.2 4.8.1 4.8.2", "1 2 3 4 5 6 7 8",
                   "Wh Wh Wh Wh varh varh varh varh"),
        "ISK1030700001",
    ),
    (
        "Slovenia, 8 items",
        structure(text("ISK1030700001"), text("16820306"), *u16(2301, 512), *u32(1, 2, 3, 4)),
        quantities(f"32.7.0 31.7.0 {POWERS}", "230.1 5.12 1 2 3 4", "V A W W var var"),
        "ISK1030700001",
    ),
    ("Thurgau", structure(*u32(21040168, 0)), quantities("1.8.0 2.8.0", "21040168 0", "Wh Wh"), ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wanted", "number"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS])
def test_lists_without_codes(body, wanted, number):
    heard = hear(in_hdlc(notification(body)) * 2)
    assert (heard.telegrams, heard.ids) == ([wanted] * 2, [number] * 2)
    assert heard.listener.advice == ""


IMPORT = code("1-1:1.8.0")


def one_number(name, value):
    return structure(code("0-0:42.0.0") if name == "42" else code(name), value, code("1-0:1.8.0"), *u32(7))


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (one_number("0-0:96.1.0", enc.visible("13000001" + "\0" * 8)), "13000001"),
        (one_number("0-0:96.1.0", enc.visible("  13000001  ")), "13000001"),
        (one_number("0-0:96.1.0", text("\0\0")), ""),
        (one_number("0-0:96.1.1", text("21000017")), "21000017"),
        (one_number("1-1:0.0.1", u32(21000001)[0]), "21000001"),
        (one_number("1-1:0.0.5", text("5706567300000001")), "5706567300000001"),
        (one_number("0-0:96.1.0", text("31323334353637383930")), "1234567890"),
        (one_number("0-0:96.1.0", text("3132333435363738393a")), "3132333435363738393a"),
        (one_number("0-0:96.1.0", text("31323334")), "31323334"),
        (one_number("42", text("LGZ1030000000001")), "LGZ1030000000001"),
        (one_number("0-1:96.1.0", text("11111111")), ""),
        (structure(text("Kamstrup_V0001"), code("0-0:96.1.1"), text("6841138BN245101090"), IMPORT, *u32(7)), ""),
    ],
)  # fmt: skip
def test_what_names_the_meter(body, number):
    assert hear(in_hdlc(notification(body))).ids == [number]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (structure(*u32(1, 2, 3)), True),
        (structure(enc.float32(2.5), text("x")), True),
        (structure(enc.boolean(True), enc.boolean(False), enc.enum(1), text("relays")), False),
        (structure(code("0-0:96.3.10"), enc.boolean(True)), False),
        (structure(), False),
        (energy_body(), False),
    ],
)
def test_a_list_that_is_not_known_is_told(body, told):
    heard = hear(in_hdlc(notification(body)))
    assert heard.listener.accepted == 1
    assert heard.listener.advice == (UNKNOWN_LIST if told else "")
    behind_a_known_one = hear(in_hdlc(notification(energy_body())) + in_hdlc(notification(body)))
    assert behind_a_known_one.listener.advice == ""


# --- several APDUs in one frame --------------------------------------------------------------------------------------


def test_several_apdus_in_one_frame_are_as_many_telegrams():
    apdus = [notification(energy_body(value)) for value in (1, 2, 3)]
    stream = in_hdlc(enc.LLC_PUSH.join(apdus)) + in_hdlc(apdus[0])
    for step in (1, 7, None):
        heard = hear(stream, step)
        assert [found[0][1] for found in heard.telegrams] == ["1", "2", "3", "1"]
        assert heard.rejected == []
    broken = hear(in_hdlc(enc.LLC_PUSH.join([*apdus, apdus[0][:-3]])) + in_hdlc(apdus[0]))
    assert [found[0][1] for found in broken.telegrams] == ["1", "2", "3", "1"]
    assert broken.reasons == ["A-XDR"]


def test_several_ciphered_apdus_in_one_frame():
    sealed = [
        enc.general_ciphering(enc.protect(notification(energy_body(k)), 0x30, KEY, AUTH_KEY, TITLE, k), TITLE)
        for k in (1, 2, 3)
    ]
    listener = make(KEY, AUTH_KEY)
    listener.refuses_replays = True
    heard = Heard([in_hdlc(enc.LLC_PUSH.join(sealed)), in_hdlc(sealed[2])], listener=listener)
    assert [found[0][1] for found in heard.telegrams] == ["1", "2", "3"]
    assert (heard.authenticated, heard.reasons) == ([True] * 3, ["replay"])


# --- P1 without a title ----------------------------------------------------------------------------------------------

HEAD = b"/EGM5G15\r\n\r\n"
LINES = b"0-0:1.0.0(260410150553S)\r\n1-0:1.8.0(012345.035*kWh)\r\n1-0:1.7.0(00.278*kW)\r\n"


def untitled(lines=LINES, security=0x30, head=HEAD):
    sealed = enc.protect(lines, security, KEY, AUTH_KEY, bytes(8), 0)
    frame = head + b"\x00" + enc.ber_length(len(sealed), 2) + sealed + b"!"
    crc = crc16(frame, X25_INIT, X25_TABLE) ^ 0xFFFF
    return frame + b"%02X%02X\r\n" % (crc & 0xFF, crc >> 8)


def test_p1_ciphered_without_a_title():
    wanted = [("1-0:1.8.0*255", "12345035", "Wh"), ("1-0:1.7.0*255", "278", "W")]
    for keys in ((KEY, None), (KEY, AUTH_KEY)):
        for step in (1, 50, None):
            heard = hear(untitled() * 3, step, True, *keys)
            assert (heard.telegrams, heard.rejected) == ([wanted] * 3, [])
    listener = make(KEY)
    listener.refuses_replays = True  # its counter is 0 for ever
    assert len(Heard([untitled() * 3], listener=listener).telegrams) == 3
    assert (listener.system_title, listener.invocation_counter) == (None, None)


def test_p1_ciphered_without_a_title_is_refused_in_words():
    data = untitled()
    heard = hear(data, None, True)
    assert heard.reasons == ["key needed"] and "meter_key" in heard.listener.advice
    heard = hear(data, None, True, bytes(16))
    assert heard.reasons == ["key wrong"]
    heard = hear(data, None, True, KEY, bytes(16))
    assert heard.reasons == ["tag"]
    for n in range(20, len(data) - 7, 9):
        assert hear(data[:n], None, True, KEY).reasons[:1] == ["incomplete"], n
    (right,) = hear(data, None, True, KEY).telegrams
    for bit in range(8 * 13, 8 * (len(data) - 2)):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        heard = hear(bytes(damaged) + data, None, True, KEY)
        assert all(found == right for found in heard.telegrams), bit  # one bit is a digit's capital letter


# --- no check of 16 bits ---------------------------------------------------------------------------------------------


def bare(value, invoke=1, scaler=0, obis="1-0:1.8.0"):
    entry = enc.structure([code(obis), *u32(value), enc.scaler_unit(scaler, 30)])
    return notification(enc.array([entry]), invoke_id=invoke)


def test_what_has_no_check_must_keep_its_form():
    for wrap in (bytes, enc.wrapper, lambda apdu: b"".join(enc.mbus_frames(apdu))):
        good = [wrap(bare(value, value)) for value in (100, 101, 102)]
        odd = [wrap(bare(100, scaler=1)), wrap(bare(100, obis="1-0:1.9.0")), wrap(bare(100 + (1 << 24)))]
        for one in odd:
            heard = hear(good[0] + good[1] + one + good[2])
            assert [found[0][1] for found in heard.telegrams] == ["100", "101", "102"]
            assert heard.reasons == ["shape"]
        heard = hear(good[0] + odd[0] + good[1] + odd[0] + odd[0] + good[2])  # lists that take turns
        assert [found[0][1] for found in heard.telegrams] == ["100", "101", "1000", "1000", "102"]
        assert heard.reasons == ["shape"]


def test_a_check_of_16_bits_or_a_tag_excuses_from_the_form():
    heard = hear(in_hdlc(bare(100)) + in_hdlc(bare(100, scaler=1)) + in_hdlc(energy_body_of_two()))
    assert (len(heard.telegrams), heard.rejected) == (3, [])
    sealed = [
        enc.general_ciphering(enc.protect(apdu, 0x30, KEY, AUTH_KEY, TITLE, k), TITLE)
        for k, apdu in enumerate((bare(100), bare(100, scaler=1)), 1)
    ]
    heard = hear(b"".join(sealed), None, False, KEY, AUTH_KEY)
    assert (len(heard.telegrams), heard.rejected) == (2, [])


def energy_body_of_two():
    return notification(structure(code("1-0:1.8.0"), *u32(5), code("1-0:2.8.0"), *u32(6)))


# --- Kamstrup ---------------------------------------------------------------------------------------------------------


def kamstrup(volts, amperes, watts):
    pairs = [(f"1-1:{32 + 20 * k}.7.0", v) for k, v in enumerate(volts)]
    pairs += [(f"1-1:{31 + 20 * k}.7.0", a) for k, a in enumerate(amperes)]
    pairs += [("1-1:1.7.0", watts), ("1-1:2.7.0", 0)]
    return notification(structure(text("Kamstrup_V0001"), *(part for c, v in pairs for part in (code(c), *u32(v)))))


@pytest.mark.parametrize(
    ("lists", "volts", "watts"),
    [
        ([((230, 231, 229), (145, 145, 146), 1000)], "230", "1000"),
        ([((23012, 23108, 22987), (145, 145, 146), 1000)], "230.12", "1000"),
        ([((23012,), (), 1000)], "230.12", "1000"),
        ([((23012,), (0,), 3)], "230.12", "3"),
        ([((6350, 6350, 6350), (1000, 1000, 1000), 180000)], "6350", "180000"),  # through voltage transformers
        ([((230, 231, 229), (145, 145, 146), 10000)], "230", "1000.0"),
        ([((23012, 23108, 22987), (145, 145, 146), 10000)], "230.12", "1000.0"),
        ([((230, 231, 229), (145, 145, 146), 10000), ((230, 231, 229), (2, 1, 1), 35)], "230", "3.5"),
        ([((230, 231, 229), (145, 145, 146), 10000), ((230, 231, 229), (145, 145, 146), 1000)], "230", "1000"),
        ([((230, 231, 229), (2, 1, 1), 35)], "230", "35"),  # rounding decides: no proof
        ([((230,), (54,), 5146)], "230", "5146"),  # more than ten times: other phases carry it
    ],
)
def test_what_one_kamstrup_telegram_proves(lists, volts, watts):
    found = hear(b"".join(in_hdlc(kamstrup(*one)) for one in lists)).telegrams[-1]
    told = {obis: text for obis, text, _ in found}
    assert (told["1-1:32.7.0*255"], told["1-1:1.7.0*255"]) == (volts, watts)
