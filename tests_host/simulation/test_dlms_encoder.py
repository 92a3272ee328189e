"""The DLMS encoder and the simulated meters against the standards by hand, a reader of the tests' own and two decoders.

gurux-dlms takes whole telegrams (HDLC, block transfer, M-Bus, wrapper, security suite 0), dlms-cosem single APDUs and
frames; where one of them cannot read what real meters send, the test says so and leaves it to the reader here, which
shares nothing with encoder or core: checksums by another method, GCM through another interface, values by recursion.
"""

import re
import struct
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from optoprobe.virtual import dlms_encoder as dlms
from optoprobe.virtual.dlms_framing import FRAMINGS
from optoprobe.virtual.dlms_lists import LAYOUTS
from optoprobe.virtual.dlms_meter import KINDS, QUIRKS, SECURITY, DlmsMeter
from optoprobe.virtual.sml_meter import Household

TITLE = bytes.fromhex("4d4d4d0000bc614e")  # the Green Book's
KEY, AUTH_KEY = bytes(range(16)), bytes(range(0xD0, 0xE0))
COUNTER = 0x01234567
GET_REQUEST = bytes.fromhex("c0010000080000010000ff0200")


# --- a reader of few words -----------------------------------------------------------------------------------------


def x25_by_definition(data):
    """CRC-16/X-25 as a division of polynomials over mirrored bits: another way than the encoder's."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    n = len(bits)
    value = int(bits, 2) << 16 ^ 0xFFFF << n  # start FFFF: the first 16 bits inverted
    for k in range(n - 1, -1, -1):
        if value >> 16 + k & 1:
            value ^= 0x11021 << k
    return int(f"{value ^ 0xFFFF:016b}"[::-1], 2)


def arc_by_definition(data):
    """CRC-16/ARC likewise: polynomial 8005, start 0, nothing inverted."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    value = int(bits, 2) << 16
    for k in range(len(bits) - 1, -1, -1):
        if value >> 16 + k & 1:
            value ^= 0x18005 << k
    return int(f"{value:016b}"[::-1], 2)


def hdlc_frames(data):
    """(more, information) of every frame whose flags, length and checksums hold, wherever it stands in the bytes."""
    at = 0
    while at + 9 <= len(data):
        length = (data[at + 1] & 7) << 8 | data[at + 2]
        end = at + 1 + length
        frame = data[at + 1 : end]
        good = data[at] == 0x7E and data[at + 1] >> 4 == 10 and end < len(data) and data[end] == 0x7E
        if not good or length < 7 or x25_by_definition(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            at += 1
            continue
        k = 2
        for _ in range(2):  # two addresses
            while not frame[k] & 1:
                k += 1
            k += 1
        if len(frame) > k + 3:
            assert x25_by_definition(frame[: k + 1]) == int.from_bytes(frame[k + 1 : k + 3], "little")
            yield bool(data[at + 1] & 8), frame[k + 3 : -2]
        at = end


def mbus_frames(data):
    """(CI, data) of every long frame whose length and checksum hold."""
    at = 0
    while at + 9 <= len(data):
        head = data[at : at + 4]
        for length in (head[1], head[1] + 256):
            body, end = data[at + 4 : at + 4 + length], at + 4 + length
            if head == bytes((0x68, head[1], head[1], 0x68)) and data[end : end + 2] == bytes((sum(body) & 0xFF, 0x16)):
                assert body[:2] == b"\x53\xff" and body[3:5] == b"\x01\x67"
                yield body[2], body[5:]
                at = end + 2
                break
        else:
            at += 1


def ber(data, at):
    """(length, where it ends)."""
    if data[at] < 0x80:
        return data[at], at + 1
    width = data[at] & 0x7F
    return int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width


def apdus(data, framing):
    """The APDUs in a stream, as far as framing and block numbers hold."""
    if framing == "raw":
        yield data
    elif framing == "wrapper":
        while data:
            version, _, _, n = struct.unpack(">HHHH", data[:8])
            assert version == 1
            yield data[8 : 8 + n]
            data = data[8 + n :]
    elif framing == "mbus":
        whole, expected = b"", 0
        for ci, piece in mbus_frames(data):
            if ci & 0x0F == 0:
                whole, expected = b"", 0
            if ci & 0x0F != expected:
                continue
            whole, expected = whole + piece, expected + 1
            if ci & 0x10:
                yield whole
                expected = -1
    else:
        whole = blocks = None
        number = 0
        for more, piece in hdlc_frames(data):
            if piece.startswith(b"\xe6\xe7\x00"):
                whole, piece = b"", piece[3:]
            elif framing == "gbt":
                whole = b""
            if whole is None:
                continue
            whole += piece
            if more:
                continue
            piece, whole = whole, None
            if piece[0] != 0xE0:
                yield piece
                continue
            control, k, _ = struct.unpack(">BHH", piece[1:6])
            n, at = ber(piece, 6)
            assert at + n == len(piece)
            if k == 1:
                blocks, number = b"", 0
            if blocks is None or k != number + 1:
                blocks = None
                continue
            blocks, number = blocks + piece[at:], k
            if control & 0x80:
                yield blocks
                blocks = None


def deciphered(apdu, key, auth_key):
    """(plain APDU, title, counter) of a ciphered one; ValueError or InvalidTag when it does not hold."""
    if apdu[0] == 0x0F:
        return apdu, None, None
    if apdu[0] not in (0xDB, 0xDC) or apdu[1] != 8:
        raise ValueError("no push")
    n, at = ber(apdu, 10)
    if at + n > len(apdu):
        raise ValueError("short")
    title, sealed = apdu[2:10], apdu[at : at + n]
    control, counter = sealed[0], sealed[1:5]
    tag = sealed[-12:] if control & 0x10 else None
    body = sealed[5:-12] if tag else sealed[5:]
    gcm = Cipher(algorithms.AES(key), modes.GCM(title + counter, tag, min_tag_length=12)).decryptor()
    if tag:
        gcm.authenticate_additional_data(bytes((control,)) + auth_key + (b"" if control & 0x20 else body))
    if control & 0x20:
        body = gcm.update(body)
    if tag:
        gcm.finalize()
    if body[:1] != b"\x0f":
        raise ValueError("wrong key")
    return body, title, int.from_bytes(counter, "big")


NUMBER_TYPES = {15: ">b", 16: ">h", 5: ">i", 20: ">q", 17: ">B", 18: ">H", 6: ">I", 21: ">Q", 22: ">B"}
NUMBER_TYPES |= {23: ">f", 24: ">d"}


def untagged(data, at, description):
    """(value, where it ends, the rest of the description) of one element of a compact array."""
    tag = description[0]
    if tag == 2:
        rest, values = description[2:], []
        for _ in range(description[1]):
            value, at, rest = untagged(data, at, rest)
            values.append(value)
        return values, at, rest
    value, at = content(data, at, tag)
    return value, at, description[1:]


def content(data, at, tag):
    if tag in NUMBER_TYPES:
        width = struct.calcsize(NUMBER_TYPES[tag])
        if at + width > len(data):
            raise ValueError("short")
        return struct.unpack(NUMBER_TYPES[tag], data[at : at + width])[0], at + width
    if tag in (0, 255):
        return None, at
    if tag in (3, 13):
        return (bool(data[at]) if tag == 3 else (data[at] >> 4) * 10 + (data[at] & 15)), at + 1
    if tag in (25, 26, 27):
        n = {25: 12, 26: 5, 27: 4}[tag]
        return data[at : at + n], at + n
    n, at = ber(data, at)
    if tag in (1, 2):
        values = []
        for _ in range(n):
            value, at = axdr(data, at)
            values.append(value)
        return values, at
    if tag == 4:
        return "".join(f"{byte:08b}" for byte in data[at : at + (n + 7) // 8])[:n], at + (n + 7) // 8
    if at + n > len(data) or tag not in (9, 10, 12):
        raise ValueError("short, or an unknown type")
    return (data[at : at + n] if tag == 9 else data[at : at + n].decode()), at + n


def axdr(data, at=0):
    """(value, where it ends). IndexError or ValueError when the bytes do not last."""
    tag = data[at]
    if tag == 19:
        structure_end = at + 1 + 2 + (data[at + 2] if data[at + 1] == 2 else 0)
        assert data[at + 1] == 2
        # the description of a structure of plain types and one nested structure of two
        fields, k = 0, at + 3
        while fields < data[at + 2]:
            fields += 1
            k += 4 if data[k] == 2 else 1
        assert k >= structure_end
        description = data[at + 1 : k]
        n, at = ber(data, k)
        end, values = at + n, []
        while at < end:
            value, at, _ = untagged(data, at, description)
            values.append(value)
        assert at == end
        return values, end
    return content(data, at + 1, tag)


def notification(apdu):
    """(invoke id, 12 bytes of date-time or None, body's tree, nothing left) of a DataNotification."""
    invoke, at = int.from_bytes(apdu[1:5], "big"), 6
    when = None
    if apdu[5] == 9:
        at += 1
    if apdu[5]:
        assert apdu[at - 1] == 12
        when, at = apdu[at : at + 12], at + 12
    if apdu[at : at + 2] == b"\x02\x02" and apdu[at + 2] == 0x16 and apdu[at + 4] == 1:  # EG.D
        values, count, at = [], apdu[at + 5], at + 6
        for _ in range(count):
            assert apdu[at : at + 2] == b"\x02\x02"
            name = apdu[at + 4 : at + 10]
            assert apdu[at + 2] == 0 and apdu[at + 3] in (1, 3, 40, 70, 71) and apdu[at + 10] in (1, 2, 3)
            value, at = axdr(apdu, at + 11)
            values.append([name, value])
        tree = [1, values]
    else:
        tree, at = axdr(apdu, at)
    if at != len(apdu):
        raise ValueError("something is left over")
    return invoke, when, tree


def read(data, meter):
    """Every telegram of a stream that holds: (title, counter, invoke id, date-time, tree)."""
    out = []
    for apdu in apdus(data, meter.framing):
        try:
            plain, title, counter = deciphered(apdu, meter.key, meter.auth_key)
            out.append((title, counter, *notification(plain)))
        except (ValueError, IndexError, InvalidTag, AssertionError):
            continue
    return out


# --- what the trees say, by the tables of the corpus ---

UNITS = {30: "Wh", 27: "W", 29: "var", 32: "varh", 33: "A", 35: "V", 44: "Hz", 255: None}
QUANTITY = {1: "W", 2: "W", 3: "var", 4: "var", 11: "A", 12: "V", 13: None, 14: "Hz", 16: "W"}
SCALES = {  # what no telegram says: powers of ten of current, voltage, power factor, energy
    "kamstrup": (-2, 0, -2, 1),
    "kaifa": (-3, -1, -3, 0),
    "lg": (-2, 0, -3, 0),
    "lg_e360": (-2, -1, -3, 0),
    "lg_e570": (0, 0, -3, 0),
    "iskra": (-2, -1, -3, 0),
    "wienernetze": (0, 0, 0, 0),
    "burgenland": (-2, 0, 0, 0),
    "egd": (0, 0, 0, 0),
}
KAIFA_HEAD = "- - - 1.7 2.7 3.7 4.7"
VOLTAGES, CURRENTS, QUADRANTS = "32.7 52.7 72.7", "31.7 51.7 71.7", "5.8 6.8 7.8 8.8"
PHASES = "21.7 41.7 61.7 22.7 42.7 62.7"
POSITIONS = {
    "wienernetze9": "- 1.8 2.8 3.8 4.8 1.7 2.7 3.7 4.7",
    "burgenland14": f"{VOLTAGES} {CURRENTS} 1.7 2.7 1.8 2.8 - - - -",
    "kaifa1": "1.7",
    "kaifa9": f"{KAIFA_HEAD} 31.7 32.7",
    "kaifa13": f"{KAIFA_HEAD} {CURRENTS} {VOLTAGES}",
    "kaifa14": f"{KAIFA_HEAD} 31.7 32.7 - 1.8 2.8 3.8 4.8",
    "kaifa18": f"{KAIFA_HEAD} {CURRENTS} {VOLTAGES} - 1.8 2.8 3.8 4.8",
    "kaifa18_u64": f"{KAIFA_HEAD} {CURRENTS} {VOLTAGES} - 1.8 2.8 3.8 4.8",
    "iskra4": "- - 1.8 2.8",
    "iskra9": "- - 1.7 2.7 3.7 4.7 32.7 2.8.1 2.8.2",
    "iskra9e": "- 1.7 2.7 1.8 1.8.1 1.8.2 2.8 2.8.1 2.8.2",
    "iskra10": "- - 1.7 2.7 3.7 4.7 32.7 31.7 21.7 22.7",
    "iskra12e": "- - 96.3.10 - 1.8 1.8.1 1.8.2 2.8 2.8.1 2.8.2 3.8 4.8",
    "iskra12b": "- - - - 1.8 1.8.1 1.8.2 2.8 2.8.1 2.8.2 3.8 4.8",
    "iskra12p": f"- - {VOLTAGES} {CURRENTS} 1.7 2.7 3.7 4.7",
    "iskra18": f"- - 1.7 2.7 3.7 4.7 {VOLTAGES} {CURRENTS} {PHASES}",
    "iskra33": f"- - - 1.8 1.8.1 1.8.2 2.8 2.8.1 2.8.2 {QUADRANTS} 1.7 2.7 13.7 {PHASES} {VOLTAGES} {CURRENTS}"
    + 5 * " -",
}


def is_obis(value):
    return isinstance(value, bytes) and len(value) == 6 and value[5] == 255


def dotted(code):
    return "{}-{}:{}.{}.{}*{}".format(*code)


def by_rule(name, raw, layout):
    """A row of a value whose scale no telegram says."""
    c, d = name[2], name[3]
    if name[0] == 0:
        return dotted(name), Decimal(raw), None
    rule = max((key for key in SCALES if layout.startswith(key)), key=len)
    current, voltage, factor, energy = SCALES[rule]
    if d == 8:
        return dotted(name), Decimal(raw).scaleb(energy), "Wh" if c % 20 in (1, 2) else "varh"
    scale = {11: current, 12: voltage, 13: factor}.get(c % 20, 0)
    return dotted(name), Decimal(raw).scaleb(scale), QUANTITY[c % 20]


def rows(tree, layout):
    """(OBIS, value, unit) of the numbers in a tree."""
    if layout in POSITIONS:
        positions = POSITIONS[layout].split()
        assert len(positions) == len(tree)
        out = []
        for position, value in zip(positions, tree, strict=True):
            if position != "-":
                code = [int(part) for part in position.split(".")]
                name = bytes([0 if code[0] == 96 else 1, 0, *code, *([0] * (3 - len(code))), 255])
                out.append(by_rule(name, value, layout))
        return out
    out = []
    if isinstance(tree[0], list) and len(tree[0]) > 1 and isinstance(tree[0][0], list) and len(tree[0][0]) == 4:
        assert len(tree[0]) == len(tree) and tree[0][0][0] == 40 and tree[0][0][2] == 2
        pairs = [(entry[1], value) for entry, value in zip(tree[0][1:], tree[1:], strict=True)]
    elif layout == "egd":
        pairs = tree[1]
    else:
        flat = []
        for item in tree:
            flat += item if isinstance(item, list) and is_obis(item[0]) else [item]
        pairs = []
        for k, item in enumerate(flat[:-1]):
            if is_obis(item):
                after = flat[k + 2] if k + 2 < len(flat) else None
                if isinstance(after, list):
                    out.append((dotted(item), Decimal(flat[k + 1]).scaleb(after[0]), UNITS[after[1]]))
                else:
                    pairs.append((item, flat[k + 1]))
    return out + [by_rule(name, value, layout) for name, value in pairs if isinstance(value, int)]


def plain(expected):
    return [(obis, Decimal(text), unit) for obis, text, unit in expected]


def clock_text(twelve):
    year, month, day, weekday, hour, minute, second, _, deviation, _ = struct.unpack(">HBBBBBBBhB", twelve)
    zone = None if deviation == -0x8000 else timezone(timedelta(minutes=-deviation))
    when = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    assert when.isoweekday() == weekday
    return when.isoformat()


# --- by hand ---


def test_crc_check_value_and_definition():
    assert dlms.crc_bytes(b"123456789") == b"\x6e\x90"
    for data in (b"123456789", *(bytes(k * 37 & 0xFF for k in range(n)) for n in (1, 2, 3, 64, 581))):
        assert dlms.crc_bytes(data) == x25_by_definition(data).to_bytes(2, "little")
        assert x25_by_definition(data + dlms.crc_bytes(data)) == 0x0F47  # X-25's residue F0B8, inverted


@pytest.mark.parametrize(
    ("n", "least", "wanted"),
    [
        (0, 0, "00"),
        (127, 0, "7f"),
        (128, 0, "8180"),
        (255, 0, "81ff"),
        (256, 0, "820100"),
        (0x010000, 0, "83010000"),
        (5, 1, "8105"),
        (0x010F, 2, "82010f"),
        (0x010F, 4, "840000010f"),
        (0xFFFFFFFF, 0, "84ffffffff"),
    ],
)
def test_ber_length(n, least, wanted):
    assert dlms.ber_length(n, least).hex() == wanted
    assert ber(bytes.fromhex(wanted), 0) == (n, len(wanted) // 2)


VALUES = [
    (dlms.NULL, "00", None),
    (dlms.DONT_CARE, "ff", None),
    (dlms.boolean(True), "0301", True),
    (dlms.boolean(False), "0300", False),
    (dlms.number(dlms.INT8, -1), "0fff", -1),
    (dlms.number(dlms.INT16, -2), "10fffe", -2),
    (dlms.number(dlms.INT32, -3), "05fffffffd", -3),
    (dlms.number(dlms.INT64, -(2**63)), "148000000000000000", -(2**63)),
    (dlms.number(dlms.UINT8, 200), "11c8", 200),
    (dlms.number(dlms.UINT16, 2330), "12091a", 2330),
    (dlms.number(dlms.UINT32, 10955225), "0600a729d9", 10955225),
    (dlms.number(dlms.UINT64, 2**64 - 1), "15ffffffffffffffff", 2**64 - 1),
    (dlms.enum(27), "161b", 27),
    (dlms.bcd(42), "0d42", 42),
    (dlms.float32(-1.5), "17bfc00000", -1.5),
    (dlms.float64(0.1), "183fb999999999999a", 0.1),
    (dlms.octets(b"\x01\x00"), "09020100", b"\x01\x00"),
    (dlms.octets(b"ab", 2), "098200026162", b"ab"),
    (dlms.visible("AB"), "0a024142", "AB"),
    (dlms.utf8("°C"), "0c03c2b043", "°C"),
    (dlms.bit_string("1010000011"), "040aa0c0", "1010000011"),
    (dlms.array([dlms.enum(1), dlms.enum(2)]), "010216011602", [1, 2]),
    (dlms.structure([]), "0200", []),
    (dlms.scaler_unit(-1, 35), "02020fff1623", [-1, 35]),
    (dlms.date_time(bytes(12)), "19" + "00" * 12, bytes(12)),
    (dlms.date(bytes(5)), "1a0000000000", bytes(5)),
    (dlms.time(bytes(4)), "1b00000000", bytes(4)),
    (
        dlms.compact_array(b"\x02\x02\x11\x12", [b"\x01\x00\x02", b"\x03\x00\x04"]),
        "130202111206010002030004",
        [[1, 2], [3, 4]],
    ),
]


@pytest.mark.parametrize(("data", "wanted", "value"), VALUES, ids=lambda v: v if isinstance(v, str) else "")
def test_values_by_hand(data, wanted, value):
    assert data.hex() == wanted
    assert axdr(data) == (value, len(data))


def test_long_values_and_what_does_not_fit():
    assert dlms.octets(bytes(200))[:3].hex() == "0981c8"
    assert dlms.array([dlms.NULL] * 300)[:4].hex() == "0182012c"
    for wrong in (
        lambda: dlms.number(dlms.UINT8, 256),
        lambda: dlms.number(dlms.INT16, -32769),
        lambda: dlms.date_time(bytes(11)),
        lambda: dlms.obis_bytes("1.8.0"),
        lambda: dlms.obis_bytes("1-0:1.8.256*255"),
        lambda: dlms.ber_length(-1),
        lambda: dlms.hdlc_address(0x80),
        lambda: dlms.hdlc_address(1, 1, 1),
        lambda: dlms.hdlc_address(1, width=3),
        lambda: dlms.hdlc_frame(bytes(2040)),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_clock_octets():
    summer = datetime(2021, 9, 27, 9, 47, 15)
    assert dlms.date_time_octets(summer, deviation=-120, status=0x80, hundredths=0).hex() == "07e5091b01092f0f00ff8880"
    winter = dlms.date_time_octets(datetime(2021, 12, 10, 16, 57), deviation=-60)
    assert winter.hex() == "07e50c0a05103900ffffc400"
    assert clock_text(winter) == "2021-12-10T16:57:00+01:00"
    unknown = dlms.date_time_octets(datetime(2021, 12, 10, 16, 57), status=0xFF)
    assert unknown.hex() == "07e50c0a05103900ff8000ff"
    assert clock_text(unknown) == "2021-12-10T16:57:00"


def test_data_notification_forms():
    when, body = bytes(range(12)), dlms.enum(1)
    assert dlms.data_notification(body, invoke_id=0x40000000).hex() == "0f40000000001601"
    assert dlms.data_notification(body, when=when).hex() == "0f00000000" + "0c" + when.hex() + "1601"
    assert (
        dlms.data_notification(body, when=when, when_form="090c").hex() == "0f00000000" + "090c" + when.hex() + "1601"
    )


def test_green_book_vector():
    sealed = dlms.protect(GET_REQUEST, 0x30, KEY, AUTH_KEY, TITLE, COUNTER)
    assert sealed.hex() == "30" + "01234567" + "411312ff935a47566827c467bc" + "7d825c3be4a77c3fcc056b6b"
    assert dlms.service_ciphering(sealed, 0xC8).hex() == "c81e" + sealed.hex()
    assert dlms.general_ciphering(sealed, TITLE).hex() == "db08" + TITLE.hex() + "1e" + sealed.hex()
    only_tag = dlms.protect(GET_REQUEST, 0x10, KEY, AUTH_KEY, TITLE, COUNTER)
    assert only_tag.hex() == "1001234567" + GET_REQUEST.hex() + "06725d910f9221d263877516"  # the Green Book's too
    no_tag = dlms.protect(GET_REQUEST, 0x20, KEY, AUTH_KEY, TITLE, COUNTER)
    assert no_tag.hex() == "2001234567" + "411312ff935a47566827c467bc"
    assert dlms.protect(GET_REQUEST, 0x21, KEY, AUTH_KEY, TITLE, COUNTER)[1:] == no_tag[1:]


def test_gbt_blocks_by_hand():
    blocks = dlms.gbt_blocks(bytes(range(10)), 4, first_size=3)
    assert [block.hex() for block in blocks] == [
        "e04000010000" + "03" + "000102",
        "e04000020000" + "04" + "03040506",
        "e0c000030000" + "03" + "070809",
    ]
    assert dlms.gbt_blocks(b"\x01", 4, streaming=False, window=3, first=9) == [bytes.fromhex("e08300090000" + "0101")]


def test_hdlc_by_hand():
    assert dlms.hdlc_address(0x20) == b"\x41"
    assert dlms.hdlc_address(1, 0x11, 2) == b"\x02\x23"
    assert dlms.hdlc_address(0x4081, width=4) == bytes.fromhex("00020203")
    assert dlms.hdlc_address(1, 2, 4) == bytes.fromhex("00020005")
    frame = dlms.hdlc_frame(b"\x01\x02\x03", destination=b"\x41", source=b"\x08\x83")
    head = bytes.fromhex("a00d41088313")
    hcs = x25_by_definition(head).to_bytes(2, "little")
    fcs = x25_by_definition(head + hcs + b"\x01\x02\x03").to_bytes(2, "little")
    assert frame == head + hcs + b"\x01\x02\x03" + fcs
    assert len(frame) == 0x0D
    empty = dlms.hdlc_frame(b"", destination=b"\x41", source=b"\x03", control=0x73)
    assert empty[:5].hex() == "a007410373" and len(empty) == 7
    assert dlms.between_flags([frame, empty]).count(b"\x7e") == 4
    assert dlms.between_flags([frame, empty], shared=True) == b"\x7e" + frame + b"\x7e" + empty + b"\x7e"
    assert len(dlms.hdlc_frame(bytes(2047 - 10))) == 2047


def test_segments_carry_one_llc_and_a_bit():
    frames = dlms.hdlc_segments(bytes(range(100)), 40, more_control=0x03)
    assert [frame[0] for frame in frames] == [0xA8, 0xA8, 0xA0]
    assert [frame[5] for frame in frames] == [0x03, 0x03, 0x13]
    pieces = list(hdlc_frames(dlms.between_flags(frames)))
    assert [more for more, _ in pieces] == [True, True, False]
    assert b"".join(piece for _, piece in pieces) == b"\xe6\xe7\x00" + bytes(range(100))


def test_mbus_by_hand():
    assert dlms.mbus_frame(b"\x0f\x01", ci=0x10).hex() == "68070768" + "53ff1001670f01" + "da" + "16"
    frames = dlms.mbus_frames(bytes(600))
    assert [frame[6] for frame in frames] == [0x00, 0x01, 0x12]
    assert frames[0][:4].hex() == "68fafa68"
    long_one = dlms.mbus_frame(bytes(252), ci=0x10)
    assert long_one[:4].hex() == "68010168" and len(long_one) == 257 + 6
    assert list(mbus_frames(long_one)) == [(0x10, bytes(252))]


def test_wrapper_by_hand():
    assert dlms.wrapper(b"\x0f\x00", 1, 0x67).hex() == "00010001006700020f00"


# --- the meters, read back ---


def test_the_four_kinds_are_what_the_issue_asks_for():
    sizes = {}
    for kind in KINDS:
        meter = DlmsMeter(kind)
        sizes[kind] = len(meter.telegram(5))
    assert sizes["optical"] == 105 and sizes["mbus"] == 282  # to the byte as long as the captures
    lines = {kind: repr(DlmsMeter(kind).line) for kind in KINDS}
    assert lines == {"optical": "9600 8N1", "hdlc": "2400 8E1", "mbus": "2400 8E1", "gbt": "2400 8E1"}
    for kind in KINDS:
        meter = DlmsMeter(kind)
        bits = 11 if meter.line.parity else 10
        assert sizes[kind] * bits / meter.line.baud < meter.period_s / 2
    assert [DlmsMeter(kind).security for kind in KINDS] == [0x20, 0x00, 0x20, 0x30]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_reads_as_the_simulation_says(kind):
    meter = DlmsMeter(kind, seed=3, pv_peak_w=6000, start_s=6 * 3600)
    counters = []
    for k in range(40):
        data = meter.telegram(k * 2161)
        ((title, counter, invoke, when, tree),) = read(data, meter)
        assert rows(tree, meter.layout) == plain(meter.expected())
        assert len(meter.expected()) >= 8
        assert invoke == meter.invoke_id
        if when is not None:
            assert clock_text(when) == meter.timestamp
        if meter.security:
            assert title == meter.title == b"OPT\x67" + meter.serial.to_bytes(4, "big")
            assert counter == meter.counter
            counters.append(counter)
        assert not meter.stale
    assert counters == list(range(meter.first_counter, meter.first_counter + 40)) or not meter.security


NOTIFICATIONS = [name for name in LAYOUTS if name != "p1"]


@pytest.mark.parametrize("layout", NOTIFICATIONS)
def test_every_layout_reads_as_the_simulation_says(layout):
    meter = DlmsMeter("hdlc", seed=7, layout=layout, pv_peak_w=5000)
    for k in range(2):
        data = meter.telegram(k * 7001)
        ((_, _, _, _, tree),) = read(data, meter)
        assert rows(tree, layout) == plain(meter.expected())
    assert meter.expected()
    if meter.meter_id is not None:
        assert meter.meter_id.encode() in data
    for text in meter.texts.values():
        assert text.encode() in data or text == meter.timestamp or bytes.fromhex(text) in data
    assert meter.timestamp is None or clock_text(bytes(meter._body.clock())) == meter.timestamp


@pytest.mark.parametrize("security", SECURITY)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_security_over_every_framing(framing, security):
    for layout in ("wienernetze9", "lg", "aidon_se"):
        meter = DlmsMeter("hdlc", framing=framing, layout=layout, security=security, key=KEY, auth_key=AUTH_KEY)
        data = meter.telegram(60)
        assert meter.security == security
        ((_, _, _, _, tree),) = read(data, meter)
        assert rows(tree, layout) == plain(meter.expected())
        if security & 0x10:
            meter.auth_key = KEY
            assert read(data, meter) == []
        if security:
            meter.key = AUTH_KEY
            assert read(data, meter) == []


def test_a_ciphered_p1_telegram():
    meter = DlmsMeter("hdlc", framing="raw", layout="p1")
    sealed = meter.telegram(3661)
    assert meter.security == 0x30
    title, counter = meter.title, meter.counter.to_bytes(4, "big")
    gcm = Cipher(algorithms.AES(meter.key), modes.GCM(title + counter, sealed[-12:], min_tag_length=12)).decryptor()
    gcm.authenticate_additional_data(b"\x30" + meter.auth_key)
    text = gcm.update(sealed[sealed.index(title) + 8 + 3 + 5 : -12]) + gcm.finalize()
    assert text == meter.apdu
    body, _, check = text.partition(b"!")
    assert check == b"%04X\r\n" % arc_by_definition(body + b"!")
    lines = body.decode().split("\r\n")
    assert lines[0].startswith("/OPT5") and lines[2] == "0-0:1.0.0(260528123101S)"
    found = [re.fullmatch(r"(1-0:[0-9.]+)\((\d{9})\*(\w+)\)", line) for line in lines[3:-1]]
    assert [(m[1] + "*255", str(int(m[2])), m[3]) for m in found if m] == meter.expected() and len(found) == 12


def test_segmented_hdlc():
    for size in (30, 166, 500):
        meter = DlmsMeter("hdlc", segment_bytes=size)
        data = meter.telegram(5)
        ((_, _, _, _, tree),) = read(data, meter)
        assert rows(tree, meter.layout) == plain(meter.expected())
    assert len(list(hdlc_frames(DlmsMeter("hdlc", segment_bytes=166).telegram(5)))) == 3


# --- quirks ---

HOSTS = {  # what a quirk needs, where that is not every kind
    "tag_wrong": ("gbt",),
    "ded": ("optical", "mbus", "gbt"),
    "long_length": ("optical", "mbus", "gbt"),
    "counter_reset": ("optical", "mbus", "gbt"),
    "mbus_257": ("mbus",),
    "shared_flag": ("optical", "hdlc", "gbt"),
    "idle_flags": ("optical", "hdlc", "gbt"),
    "ua_frame": ("optical", "hdlc", "gbt"),
    "lost_part": ("mbus", "gbt", "segmented"),
    "repeated_part": ("mbus", "gbt", "segmented"),
    "aborted_run": ("mbus", "gbt", "segmented"),
}
CASES = [(quirk, kind) for quirk in QUIRKS for kind in HOSTS.get(quirk, tuple(KINDS))]


def meter_with(quirk, kind, **options):
    if kind == "segmented":
        return DlmsMeter("hdlc", quirks=[quirk], segment_bytes=100, **options)
    return DlmsMeter(kind, quirks=[quirk], **options)


@pytest.mark.parametrize(("quirk", "kind"), CASES)
def test_every_quirk_in_one_stream(quirk, kind):
    meter = meter_with(quirk, kind)
    stream, wanted, stale = b"", [], []
    for k in range(11):
        stream += meter.telegram(k * 61)
        stale.append(meter.stale)
        if meter.expected():
            wanted.append(plain(meter.expected()))
    assert [rows(tree, meter.layout) for *_, tree in read(stream, meter)] == wanted
    silent = {"bad_fcs_once": 1, "tag_wrong": 2, "torn": 2, "lost_part": 2, "repeated_part": 2}.get(quirk, 0)
    if (quirk, kind) == ("repeated_part", "mbus"):
        silent = 0  # the repeated frame is the last one
    assert len(wanted) == 11 - silent
    replayed = [k + 1 for k in range(11) if stale[k]]
    if not meter.security:
        assert replayed == []
    elif quirk == "counter_reset":
        assert replayed == [5, 6, 7, 8, 10, 11]
    else:
        assert replayed == ([5, 10] if quirk == "replay" else [])


def test_shape_of_quirks():
    replay = DlmsMeter("optical", quirks=["replay"])
    telegrams = [replay.telegram(k) for k in range(10)]
    assert telegrams[4] == telegrams[3] and telegrams[9] == telegrams[8] and len(set(telegrams)) == 8
    inside = DlmsMeter("hdlc", quirks=["seven_e_inside"]).telegram(5)
    assert b"\x7e" * 4 in inside[1:-1]
    assert b"\x7e\x7e" in DlmsMeter("optical", quirks=["seven_e_inside"]).telegram(5)[2:-2]
    assert DlmsMeter("mbus", quirks=["mbus_257"]).telegram(5)[:4].hex() == "68010168"
    for kind in KINDS:
        assert DlmsMeter(kind, quirks=["no_date_time"], security=0).telegram(5)
    untimed = DlmsMeter("optical", quirks=["no_date_time"])
    untimed.telegram(5)
    assert untimed.apdu[5] == 0 and untimed.timestamp is not None  # the body's clock
    tagged = DlmsMeter("optical", quirks=["tagged_date_time"])
    tagged.telegram(5)
    assert tagged.apdu[5:7] == b"\x09\x0c"
    assert DlmsMeter("optical", quirks=["ded"]).telegram(5)[12] == dlms.GENERAL_DED
    assert b"\x84\x00\x00\x00" in DlmsMeter("optical", quirks=["long_length"]).telegram(5)


def test_a_flipped_bit_only_the_tag_finds():
    meter = DlmsMeter("gbt", quirks=["tag_wrong"])
    for k in range(5):
        data = meter.telegram(k)
    assert len(list(hdlc_frames(data))) == 4  # every frame holds
    assert read(data, meter) == [] and meter.expected() == []


# --- the simulation ---


def test_registers_are_the_integral_of_the_power():
    meter = DlmsMeter("hdlc", layout="scaled", seed=4, pv_peak_w=5000, energy_wh=0, export_wh=0, start_s=0)
    home = Household(4, pv_peak_w=5000, start_s=0)
    at, imported, exported = 0, 0, 0
    for until in [*range(0, 86_400, 1731), 86_400]:
        for second in range(at, until):
            power_dw = sum(home.phases_dw(second))
            imported, exported = imported + max(power_dw, 0), exported + max(-power_dw, 0)
        at = until
        meter.telegram(until)
        values = {obis: text for obis, text, unit in meter.expected()}
        assert Decimal(values["1-0:1.8.0*255"]) == Decimal(imported // 36) / 1000  # mWh = 36 dWs
        assert Decimal(values["1-0:2.8.0*255"]) == Decimal(exported // 36) / 1000
        tariffs = Decimal(values["1-0:1.8.1*255"]) + Decimal(values["1-0:1.8.2*255"])
        assert 0 <= Decimal(values["1-0:1.8.0*255"]) - tariffs < 20
    assert imported > 0 and exported > 0


def test_quadrants_add_up_and_never_go_back():
    meter, other = (DlmsMeter("hdlc", layout=name, pv_peak_w=6000) for name in ("lg", "wienernetze9"))
    last = {}
    for k in range(60):
        meter.telegram(k * 1801)
        other.telegram(k * 1801)
        now = {obis[4:]: int(text) for obis, text, unit in meter.expected() if unit in ("Wh", "varh")}
        now |= {obis[4:]: int(text) for obis, text, unit in other.expected() if unit == "varh"}
        assert 0 <= now["3.8.0*255"] - now["5.8.0*255"] - now["6.8.0*255"] <= 1
        assert 0 <= now["4.8.0*255"] - now["7.8.0*255"] - now["8.8.0*255"] <= 1
        assert all(now[obis] >= before for obis, before in last.items())
        last = now
    assert last["7.8.0*255"] > 0 and last["5.8.0*255"] > 0


def test_times_between_telegrams_do_not_matter():
    often, seldom = DlmsMeter("hdlc", seed=4), DlmsMeter("hdlc", seed=4)
    for k in range(1000):
        often.telegram(k * 0.731)
    often.telegram(900.123)
    seldom.telegram(900.123)
    assert often.expected() == seldom.expected()
    with pytest.raises(ValueError, match="go back"):
        often.telegram(900)


def test_the_same_seed_is_the_same_meter():
    one, two, other = DlmsMeter(seed=9), DlmsMeter(seed=9), DlmsMeter(seed=10)
    assert [one.telegram(k) for k in (0, 1, 500)] == [two.telegram(k) for k in (0, 1, 500)]
    assert one.key == two.key != other.key != other.auth_key
    assert len(one.key) == len(one.auth_key) == 16
    assert DlmsMeter(key=KEY, auth_key=AUTH_KEY).key == KEY


def test_meter_refuses_what_is_no_meter():
    for options, text in (
        ({"kind": "sml"}, "kind"),
        ({"layout": "none"}, "layout"),
        ({"framing": "tcp"}, "framing"),
        ({"security": 0x40}, "security"),
        ({"key": b"short"}, "16 bytes"),
        ({"quirks": ["tornn"]}, "tornn"),
        ({"quirks": ["tag_wrong"]}, "tag_wrong"),
        ({"kind": "mbus", "quirks": ["ua_frame"]}, "ua_frame"),
        ({"kind": "hdlc", "quirks": ["ded"]}, "ded"),
        ({"kind": "hdlc", "quirks": ["lost_part"]}, "lost_part"),
        ({"framing": "raw", "quirks": ["bad_fcs_once"]}, "bad_fcs_once"),
        ({"kind": "hdlc", "layout": "p1", "security": 0}, "IecMeter"),
        ({"period_s": 0}, "period_s"),
        ({"energy_wh": -1}, "energies"),
    ):
        with pytest.raises(ValueError, match=text):
            DlmsMeter(**options)


# --- independent decoders ---


def gurux_values(data, meter):
    """The body of a telegram as gurux-dlms reads it, its types as Python's; None when it finds no telegram."""
    gurux = pytest.importorskip("gurux_dlms")
    from gurux_dlms.enums import Authentication, InterfaceType
    from gurux_dlms.secure import GXDLMSSecureClient

    interfaces = {"mbus": InterfaceType.WIRED_MBUS, "wrapper": InterfaceType.WRAPPER}
    interface = interfaces.get(meter.framing, InterfaceType.HDLC)
    client = GXDLMSSecureClient(True, 1, 1, Authentication.NONE, None, interface)
    if meter.security:
        client.ciphering.blockCipherKey = meter.key
        client.ciphering.authenticationKey = meter.auth_key
    reply, pushed = gurux.GXReplyData(), gurux.GXReplyData()
    buffer = gurux.GXByteBuffer(data)
    while buffer.position < buffer.size:
        before = buffer.position
        client.getData(buffer, reply, pushed)
        if buffer.position == before:
            break

    def tidy(value):
        if isinstance(value, (list, tuple)):
            return [tidy(item) for item in value]
        return bytes(value) if isinstance(value, (bytes, bytearray)) else value

    return tidy(pushed.value)


@pytest.mark.parametrize("layout", [name for name in NOTIFICATIONS if name != "egd"])  # whose body is no A-XDR
def test_gurux_reads_every_layout(layout, capsys):
    # It takes the frames of Kaifa (control byte 10) for answers it has not asked for, and 09 0C for no date-time.
    framing = "wrapper" if layout.startswith("kaifa") else "hdlc"
    quirks = ["no_date_time"] if LAYOUTS[layout].when == "090c" else []
    meter = DlmsMeter("hdlc", framing=framing, layout=layout, quirks=quirks)
    data = meter.telegram(100)
    ((_, _, _, _, tree),) = read(data, meter)
    assert gurux_values(data, meter) == tree


@pytest.mark.parametrize("security", [0x00, 0x10, 0x20, 0x30, 0x21])  # 0x31 is suite 1 to it, with longer keys
@pytest.mark.parametrize("framing", ["hdlc", "gbt", "mbus", "wrapper"])
def test_gurux_reads_every_framing_and_security(framing, security, capsys):
    for layout in ("wienernetze9", "lg"):
        if (framing, layout) == ("mbus", "lg"):  # it does not go on after the first M-Bus frame, nor over captures
            continue
        meter = DlmsMeter("hdlc", framing=framing, layout=layout, security=security)
        data = meter.telegram(100)
        ((_, _, _, _, tree),) = read(data, meter)
        assert gurux_values(data, meter) == tree


def test_gurux_joins_segments(capsys):
    meter = DlmsMeter("hdlc", segment_bytes=166)
    data = meter.telegram(100)
    ((_, _, _, _, tree),) = read(data, meter)
    assert gurux_values(data, meter) == tree


def test_dlms_cosem_reads_apdus_and_frames():
    xdlms = pytest.importorskip("dlms_cosem.protocol.xdlms")
    from dlms_cosem import security, utils
    from dlms_cosem.hdlc.frames import UnnumberedInformationFrame

    read_by_it = 0
    for layout, habits in LAYOUTS.items():
        # It cannot convert visible-strings, null-data and compact arrays, nor read a date-time with its tag.
        if layout.startswith("kamstrup") or layout in ("compact", "egd", "p1") or habits.when == "090c":
            continue
        if any(item.tag == 0x0A for item in habits.items):
            continue
        meter = DlmsMeter("hdlc", layout=layout)
        data = meter.telegram(100)
        if layout.startswith("aidon"):  # others have client addresses of two bytes, which it refuses, or control 10
            assert UnnumberedInformationFrame.from_bytes(data).information[3:] == meter.apdu
        ours = notification(meter.apdu)
        theirs = xdlms.DataNotification.from_bytes(meter.apdu)
        assert utils.parse_as_dlms_data(theirs.body) == ours[2]
        if ours[1] is not None:
            assert theirs.date_time.isoformat() == meter.timestamp
        read_by_it += 1
    assert read_by_it >= 18
    meter = DlmsMeter("gbt", framing="raw")
    apdu = xdlms.GeneralGlobalCipher.from_bytes(meter.telegram(100))
    assert apdu.system_title == meter.title and apdu.invocation_counter == meter.counter
    arguments = (apdu.security_control, apdu.system_title, apdu.invocation_counter)
    assert security.decrypt(*arguments, meter.key, apdu.ciphered_text, meter.auth_key) == meter.apdu
