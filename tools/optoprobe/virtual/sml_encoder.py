"""Our own encoder for SML (Smart Message Language) as household meters push it; shares nothing with the decoder.

Source: SML specification 1.03/1.04 (BSI TR-03109-1, annex IV): 6 binary encoding, 8 transport protocol version 1; the
quirks of real meters by the captures in the corpus.

A telegram on the line (an *SML file* in its transport envelope):

    1b 1b 1b 1b  01 01 01 01          start of transport version 1
    message message message ...       open response, list response(s), close response; 1b1b1b1b in it is sent twice
    00 ...                            0..3 fill bytes, so that what stands before the end is a multiple of 4
    1b 1b 1b 1b  1a PP CC CC          end: PP fill bytes, CRC over everything from the start up to and including PP

A message is a list of six (a message ends with 00):

    76                                list of 6
       05 xx xx xx xx                 transactionId, octet string
       62 gg                          groupNo, u8
       62 00                          abortOnError, u8
       72 63 07 01  77 ...            choice: tag (u16, or u32 65 00 00 07 01) and body
       63 CC CC                       crc16, u16, over the bytes from 76 to before this field
       00                             end of message

A field is a type-length (TL) and its data. TL bits: 7 another TL byte follows; 6..4 type (0 octet string, 4 boolean,
5 integer, 6 unsigned, 7 list); 3..0 length, four bits a TL byte, highest first. The length counts the TL bytes too,
except for lists, where it is the number of elements. 01 (an octet string of no bytes) stands for an absent field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

START = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
ESCAPE = b"\x1b\x1b\x1b\x1b"
ABSENT = b"\x01"
LIST_NAME = bytes.fromhex("0100620affff")  # 1-0:98.10.255*255, the list a meter pushes by itself

OPEN_RESPONSE = 0x0101
CLOSE_RESPONSE = 0x0201
PROC_PARAMETER_RESPONSE = 0x0501
LIST_RESPONSE = 0x0701
ATTENTION_RESPONSE = 0xFF01

_OCTETS, _INT, _UINT, _LIST = 0x00, 0x50, 0x60, 0x70

_CRC_KINDS: dict[str, tuple[int, int, Literal["little", "big"]]] = {  # init, final xor, byte order
    "x25": (0xFFFF, 0xFFFF, "little"),
    "kermit": (0x0000, 0x0000, "big"),
}


@dataclass(frozen=True)
class Style:
    """How one maker writes what the standard leaves open, or gets wrong.

    crc           "x25": init FFFF, final xor FFFF, sent low byte first. "kermit": init 0, no final xor, sent HIGH byte
                  first, in messages and envelope (old Holley DTZ541)
    tag_bytes     width of the message tag: 2 (63 07 01) or 4 (65 00 00 07 01: Holley, eBZ, Itron, EasyMeter)
    list_tl, octet_tl, int_tl   least number of TL bytes of a list, octet string, integer (1: as short as possible)
    tl_type_bits  repeat the type in continuation bytes (Hager: F1 76 for a list of 22) where the standard has 000
    bare_val_time valTime as a bare u32, without choice and list (Holley)
    narrow_crc    a message's crc16 whose first byte is 00 as u8, 62 CC instead of 63 00 CC (Iskra MT691)
    """

    crc: str = "x25"
    tag_bytes: int = 2
    list_tl: int = 1
    octet_tl: int = 1
    int_tl: int = 1
    tl_type_bits: bool = False
    bare_val_time: bool = False
    narrow_crc: bool = False

    def __post_init__(self) -> None:
        if self.crc not in _CRC_KINDS or self.tag_bytes not in (2, 4):
            raise ValueError("style: crc is x25 or kermit, tag_bytes 2 or 4")


PLAIN = Style()


# --- checksums -----------------------------------------------------------------------------------------------------


def _crc16_table() -> list[int]:
    """CRC-16-CCITT, reflected: x^16 + x^12 + x^5 + 1 as 0x8408."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc16_table()


def crc16(data: bytes, kind: str = "x25") -> int:
    """The checksum as a number. Over b"123456789": x25 0x906E, kermit 0x2189."""
    value, final, _ = _CRC_KINDS[kind]
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ final


def crc_bytes(data: bytes, kind: str = "x25") -> bytes:
    """The checksum as its two bytes stand on the line: x25 low byte first, kermit high byte first (old Holley)."""
    return crc16(data, kind).to_bytes(2, _CRC_KINDS[kind][2])


# --- fields --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def type_length(kind: int, length: int, least: int = 1, type_bits: bool = False) -> bytes:
    """A TL of `least` bytes or as many more as it takes.

    `length` is the number of elements of a list, else the number of data bytes (the TL's own bytes are added here).

        1tttllll [1000llll ...] 0000llll     continuation bytes carry the type instead of 000 with `type_bits`
    """
    n = max(1, least)
    while (length if kind == _LIST else length + n) >= 16**n:
        n += 1
    total = length if kind == _LIST else length + n
    out = bytearray()
    for k in range(n):
        more = 0x80 if k < n - 1 else 0
        out.append(more | (kind if k == 0 or type_bits else 0) | total >> 4 * (n - 1 - k) & 0xF)
    return bytes(out)


def octets(data: bytes | None, style: Style = PLAIN) -> bytes:
    """Octet string; None is an absent field, and so is an empty string whose TL is one byte."""
    if data is None:
        return ABSENT
    return type_length(_OCTETS, len(data), style.octet_tl, style.tl_type_bits) + data


def integer(value: int, width: int | None = None, signed: bool = True, style: Style = PLAIN) -> bytes:
    """Integer or unsigned of `width` bytes 1..8, or of as few as hold it. ValueError when it does not fit."""
    if width is None:
        width = min_width(value, signed)
    if not 1 <= width <= 8:
        raise ValueError(f"an SML integer has 1 to 8 bytes, not {width}")
    try:
        data = value.to_bytes(width, "big", signed=signed)
    except OverflowError:
        raise ValueError(f"{value} does not fit {width} {'signed' if signed else 'unsigned'} bytes") from None
    return type_length(_INT if signed else _UINT, width, style.int_tl, style.tl_type_bits) + data


def min_width(value: int, signed: bool) -> int:
    """The fewest bytes that hold `value`; at least 1."""
    bits = (value if value >= 0 else ~value).bit_length() + (1 if signed else 0)
    return max(1, -(-bits // 8))


def boolean(value: bool) -> bytes:
    """42 00 false, 42 ff true (the standard: 00 is false, anything else true)."""
    return b"\x42\xff" if value else b"\x42\x00"


def sequence(items: Iterable[bytes], style: Style = PLAIN) -> bytes:
    """A list of fields already encoded."""
    items = list(items)
    return type_length(_LIST, len(items), style.list_tl, style.tl_type_bits) + b"".join(items)


@dataclass(frozen=True)
class SmlTime:
    """SML_Time: a choice of secIndex (1, seconds of operation), timestamp (2, Unix seconds) or local timestamp (3).

        72  62 01  65 ssssssss                   1 secIndex
        72  62 02  65 ssssssss                   2 timestamp, UTC
        72  62 03  73 65 ssssssss 53 oooo 53 ssss   3 with local and summer offset in minutes
                   65 ssssssss                   bare: choice and list missing (Holley)
    """

    choice: int
    seconds: int
    local_offset_min: int = 0
    season_offset_min: int = 0
    width: int = 4  # bytes of `seconds`: DZG sends 62 00

    def encode(self, bare: bool = False) -> bytes:
        number = integer(self.seconds, self.width, signed=False)
        if bare:
            return number
        if self.choice == 3:
            offsets = integer(self.local_offset_min, 2) + integer(self.season_offset_min, 2)
            number = b"\x73" + number + offsets
        return b"\x72" + integer(self.choice, 1, signed=False) + number


def sec_index(seconds: int) -> SmlTime:
    """Seconds the meter has run."""
    return SmlTime(1, seconds)


def timestamp(seconds: int) -> SmlTime:
    """Seconds since 1970, UTC."""
    return SmlTime(2, seconds)


def local_timestamp(seconds: int, local_offset_min: int, season_offset_min: int) -> SmlTime:
    """Seconds since 1970 with the offsets of zone and summer time in minutes."""
    return SmlTime(3, seconds, local_offset_min, season_offset_min)


def _time(value: SmlTime | None, bare: bool = False) -> bytes:
    return ABSENT if value is None else value.encode(bare)


# --- list entries --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def obis_bytes(obis: bytes | str) -> bytes:
    """Six bytes from "A-B:C.D.E*F" (as they are if bytes). ValueError when it is neither."""
    if isinstance(obis, bytes):
        if len(obis) == 6:
            return obis
    else:
        parts = obis.replace("-", ".").replace(":", ".").replace("*", ".").split(".")
        if len(parts) == 6 and all(p.isdigit() and int(p) < 256 for p in parts):
            return bytes(int(p) for p in parts)
    raise ValueError(f"an OBIS code is six numbers 0..255, A-B:C.D.E*F, not {obis!r}")


@dataclass(frozen=True)
class Entry:
    """One SML_ListEntry. None is an absent field, `value` included.

        77
           07 01 00 01 08 00 ff    objName
           65 00 1c 01 04          status, unsigned of `status_width` bytes (default: as few as hold it), optional
           72 62 01 65 ........    valTime, optional
           62 1e                   unit, u8, optional (30 Wh, 27 W, 33 A, 35 V, 44 Hz; DLMS UA 1000-1)
           52 ff                   scaler, i8, optional: power of ten
           55 ........             value: integer of `width` bytes (default: as few as hold it), `signed` or not,
                                   octet string (bytes or ASCII text), boolean
           01                      valueSignature, optional
    """

    obis: bytes | str
    value: int | bool | bytes | str | None
    width: int | None = None
    signed: bool = True
    scaler: int | None = None
    unit: int | None = None
    status: int | None = None
    status_width: int | None = None
    val_time: SmlTime | None = None
    signature: bytes | None = None

    def encode(self, style: Style = PLAIN) -> bytes:
        """The entry's bytes. ValueError when a number does not fit its width."""
        value = self.value
        if value is None:
            data = ABSENT
        elif isinstance(value, bool):
            data = boolean(value)
        elif isinstance(value, int):
            data = integer(value, self.width, self.signed, style)
        else:
            data = octets(value.encode("ascii") if isinstance(value, str) else value, style)
        return sequence(
            (
                octets(obis_bytes(self.obis)),
                ABSENT if self.status is None else integer(self.status, self.status_width, signed=False),
                _time(self.val_time, style.bare_val_time),
                ABSENT if self.unit is None else integer(self.unit, 1, signed=False),
                ABSENT if self.scaler is None else integer(self.scaler, 1),
                data,
                octets(self.signature, style),
            )
        )


# --- messages ------------------------------------------------------------------------------------------------------


def message(
    tag: int, body: bytes, *, transaction_id: bytes = b"\x00\x00\x00\x01", group_no: int = 0, style: Style = PLAIN
) -> bytes:
    """One message round an encoded body, with its CRC and end."""
    data = (
        b"\x76"
        + octets(transaction_id)
        + integer(group_no, 1, signed=False)
        + b"\x62\x00"
        + b"\x72"
        + integer(tag, style.tag_bytes, signed=False)
        + body
    )
    crc = crc_bytes(data, style.crc)
    if style.narrow_crc and crc[0] == 0:
        crc = crc[1:]
    return data + integer(int.from_bytes(crc, "big"), len(crc), signed=False) + b"\x00"


def open_response(
    server_id: bytes,
    *,
    file_id: bytes = b"\x00\x00\x00\x01",
    client_id: bytes | None = None,
    codepage: bytes | None = None,
    ref_time: SmlTime | None = None,
    version: int | None = None,
) -> bytes:
    """Body of SML_PublicOpen.Res: 76 codepage clientId reqFileId serverId refTime smlVersion."""
    return sequence(
        (
            octets(codepage),
            octets(client_id),
            octets(file_id),
            octets(server_id),
            _time(ref_time),
            ABSENT if version is None else integer(version, 1, signed=False),
        )
    )


def list_response(
    entries: Sequence[Entry],
    server_id: bytes,
    *,
    client_id: bytes | None = None,
    list_name: bytes | None = LIST_NAME,
    sensor_time: SmlTime | None = None,
    signature: bytes | None = None,
    gateway_time: SmlTime | None = None,
    style: Style = PLAIN,
) -> bytes:
    """Body of SML_GetList.Res: 77 clientId serverId listName actSensorTime valList listSignature actGatewayTime."""
    return sequence(
        (
            octets(client_id),
            octets(server_id),
            octets(list_name),
            _time(sensor_time),
            sequence((entry.encode(style) for entry in entries), style),
            octets(signature, style),
            _time(gateway_time),
        )
    )


def close_response(signature: bytes | None = None, style: Style = PLAIN) -> bytes:
    """Body of SML_PublicClose.Res: 71 globalSignature."""
    return sequence((octets(signature, style),))


def attention_response(
    server_id: bytes, number: bytes = bytes.fromhex("8181c7c7fe00"), text: bytes | None = None
) -> bytes:
    """Body of SML_Attention.Res: 74 serverId attentionNo attentionMsg attentionDetails. 81 81 c7 c7 fe xx: an error."""
    return sequence((octets(server_id), octets(number), octets(text), ABSENT))


def proc_parameter_response(server_id: bytes, path: bytes | str, value: int | bytes, style: Style = PLAIN) -> bytes:
    """Body of SML_GetProcParameter.Res with one parameter: 73 serverId path tree.

    73  serverId  71 07 path  73 07 path  72 62 01 value  01        tree: name, choice 1 (a value), no children
    """
    name = octets(obis_bytes(path))
    data = integer(value, style=style) if isinstance(value, int) else octets(value, style)
    tree = sequence((name, b"\x72\x62\x01" + data, ABSENT))
    return sequence((octets(server_id), sequence((name,)), tree))


# --- transport -----------------------------------------------------------------------------------------------------


def escape(data: bytes) -> bytes:
    """Every 1b1b1b1b, searched from the left and without overlap, sent twice."""
    return data.replace(ESCAPE, ESCAPE + ESCAPE)


def transport(messages: bytes, crc: str = "x25") -> bytes:
    """The envelope of transport version 1 round messages, see the drawing at the top of this file.

    The data of an SML file ends with 00. Other data that ends with 1b would run into the end sequence: ValueError.
    """
    fill = -len(messages) % 4
    if not fill and messages.endswith(b"\x1b"):
        raise ValueError("data that ends with 1b cannot be told from the end sequence")
    data = START + escape(messages) + bytes(fill) + ESCAPE + b"\x1a" + bytes((fill,))
    return data + crc_bytes(data, crc)


def sml_file(bodies: Sequence[tuple[int, bytes]], server_id: bytes, *, counter: int = 1, style: Style = PLAIN) -> bytes:
    """Open response, a message for each (tag, body), close response, in the envelope. `counter` makes the ids."""

    def transaction(k: int) -> bytes:
        return (counter * 16 + k & 0xFFFFFFFF).to_bytes(4, "big")

    opened = open_response(server_id, file_id=(counter & 0xFFFFFFFF).to_bytes(4, "big"))
    all_bodies = [(OPEN_RESPONSE, opened), *bodies, (CLOSE_RESPONSE, close_response())]
    messages = [
        message(tag, body, transaction_id=transaction(k), style=style) for k, (tag, body) in enumerate(all_bodies)
    ]
    return transport(b"".join(messages), style.crc)


def telegram(
    entries: Sequence[Entry],
    server_id: bytes,
    *,
    counter: int = 1,
    list_name: bytes | None = LIST_NAME,
    sensor_time: SmlTime | None = None,
    signature: bytes | None = None,
    style: Style = PLAIN,
    **quirks: Any,
) -> bytes:
    """A whole telegram with one list response. `quirks` are fields of Style by name: `telegram(e, i, crc="kermit")`."""
    style = replace(style, **quirks)
    body = list_response(
        entries, server_id, list_name=list_name, sensor_time=sensor_time, signature=signature, style=style
    )
    return sml_file([(LIST_RESPONSE, body)], server_id, counter=counter, style=style)
