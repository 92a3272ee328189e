"""Our own encoder for DLMS/COSEM as household meters push it; shares nothing with the decoder.

Source: IEC 62056-5-3 / DLMS UA 1000-2 Green Book (APDUs, A-XDR, general-block-transfer, security suite 0),
IEC 62056-46 (HDLC), EN 13757-2 (M-Bus long frame), IEC 62056-47 (wrapper); what meters really send by the captures in
the corpus. Four layers, each a few functions here, bottom up:

    value    A-XDR: tag, length or count where the type has one (BER), content
                 02 03  09 06 01 00 01 07 FF  06 00 00 0F BB  02 02 0F 00 16 1B     structure of three: OBIS, u32, ...
    APDU     0F  iiiiiiii  date-time  value                             DataNotification
             DB  08 title  BER length  SC IC(4)  ciphertext  [tag(12)]  general-glo-ciphering (DC: the dedicated key)
             E0  control  block(2)  acknowledged(2)  BER length  data   general-block-transfer
    link     7E A0+length(2) destination source control HCS(2) [E6 E7 00] information FCS(2) 7E      HDLC type 3
             68 L L 68 53 FF CI 01 67 data checksum 16                                               M-Bus long frame
             0001 source(2) destination(2) length(2) APDU                                            wrapper
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime

from .sml_encoder import crc_bytes  # X-25, here too

DATA_NOTIFICATION = 0x0F
GENERAL_GLO, GENERAL_DED, GENERAL_BLOCK = 0xDB, 0xDC, 0xE0
LLC_PUSH = b"\xe6\xe7\x00"  # the meter's direction; E6 E6 00 is the client's
AUTHENTICATED, ENCRYPTED = 0x10, 0x20  # bits of the security control byte; the low 4 are the suite
TAG_BYTES = 12
FLAG = b"\x7e"

INT8, INT16, INT32, INT64 = 0x0F, 0x10, 0x05, 0x14
UINT8, UINT16, UINT32, UINT64 = 0x11, 0x12, 0x06, 0x15
ENUM = 0x16

_NUMBERS = {  # tag: (bytes, signed)
    INT8: (1, True),
    INT16: (2, True),
    INT32: (4, True),
    INT64: (8, True),
    UINT8: (1, False),
    UINT16: (2, False),
    UINT32: (4, False),
    UINT64: (8, False),
    ENUM: (1, False),
}
_DEVIATION_UNKNOWN = 0x8000


# --- lengths and checksums -----------------------------------------------------------------------------------------


def ber_length(n: int, least: int = 0) -> bytes:
    """A BER length: one byte below 128, else 81 xx, 82 xxxx, 84 xxxxxxxx.

    `least` bytes at least after the 8x (0: as short as possible; meters write 82 where 81 would do).
    """
    if n < 0 or n >= 1 << 32:
        raise ValueError(f"a length from 0 to 4 GiB, not {n}")
    width = 0 if n < 128 else -(-n.bit_length() // 8)
    width = max(width, least)
    return bytes((n,)) if not width else bytes((0x80 | width,)) + n.to_bytes(width, "big")


# --- A-XDR values --------------------------------------------------------------------------------------------------

NULL = b"\x00"
DONT_CARE = b"\xff"


def boolean(value: bool) -> bytes:
    """03 01 or 03 00."""
    return b"\x03\x01" if value else b"\x03\x00"


def number(tag: int, value: int) -> bytes:
    """An integer of the type `tag` (INT8 .. UINT64, ENUM). ValueError when it does not fit."""
    width, signed = _NUMBERS[tag]
    try:
        return bytes((tag,)) + value.to_bytes(width, "big", signed=signed)
    except OverflowError:
        raise ValueError(f"{value} does not fit the type {tag:02x}") from None


def enum(value: int) -> bytes:
    """16 xx."""
    return number(ENUM, value)


def bcd(value: int) -> bytes:
    """0D xx: two decimal digits."""
    return bytes((0x0D, value // 10 << 4 | value % 10))


def octets(data: bytes, least: int = 0) -> bytes:
    """Octet-string, 09; `least` as in ber_length."""
    return b"\x09" + ber_length(len(data), least) + data


def visible(text: str) -> bytes:
    """Visible-string, 0A (ASCII)."""
    data = text.encode("ascii")
    return b"\x0a" + ber_length(len(data)) + data


def utf8(text: str) -> bytes:
    """UTF8-string, 0C; the length counts bytes."""
    data = text.encode()
    return b"\x0c" + ber_length(len(data)) + data


def bit_string(bits: str) -> bytes:
    """Bit-string, 04, from text of 0 and 1; the length counts bits, the first is the highest of its byte."""
    padded = bits + "0" * (-len(bits) % 8)
    return b"\x04" + ber_length(len(bits)) + bytes(int(padded[k : k + 8], 2) for k in range(0, len(padded), 8))


def float32(value: float) -> bytes:
    """17 and IEEE 754 single."""
    return b"\x17" + struct.pack(">f", value)


def float64(value: float) -> bytes:
    """18 and IEEE 754 double."""
    return b"\x18" + struct.pack(">d", value)


def array(items: Iterable[bytes]) -> bytes:
    """01 count items; the items are encoded values, all of one type by the standard."""
    items = list(items)
    return b"\x01" + ber_length(len(items)) + b"".join(items)


def structure(items: Iterable[bytes]) -> bytes:
    """02 count items."""
    items = list(items)
    return b"\x02" + ber_length(len(items)) + b"".join(items)


def compact_array(description: bytes, contents: Sequence[bytes]) -> bytes:
    """13 type-description length contents: the contents are values WITHOUT their tags, concatenated.

    `description` is a tag, or 02 n tag.. for structures, or 01 count(2) tag for arrays; strings keep their length.
    """
    data = b"".join(contents)
    return b"\x13" + description + ber_length(len(data)) + data


def date_time_octets(
    when: datetime, *, deviation: int | None = None, status: int = 0, hundredths: int = 0xFF, weekday: int | None = None
) -> bytes:
    """The 12 bytes: year(2) month day weekday hour minute second hundredths deviation(2) status.

    The deviation is UTC - local time in minutes: -120 in Vienna in summer; None is "not specified". Monday is 1.
    """
    out = struct.pack(">HBBB", when.year, when.month, when.day, when.isoweekday() if weekday is None else weekday)
    out += bytes((when.hour, when.minute, when.second, hundredths))
    return out + (_DEVIATION_UNKNOWN if deviation is None else deviation & 0xFFFF).to_bytes(2, "big") + bytes((status,))


def date_time(twelve: bytes) -> bytes:
    """Type 19, which pushes seldom use: clocks come as octet-strings."""
    return b"\x19" + _exactly(twelve, 12)


def date(five: bytes) -> bytes:
    """Type 1A: year(2) month day weekday."""
    return b"\x1a" + _exactly(five, 5)


def time(four: bytes) -> bytes:
    """Type 1B: hour minute second hundredths."""
    return b"\x1b" + _exactly(four, 4)


def _exactly(data: bytes, n: int) -> bytes:
    if len(data) != n:
        raise ValueError(f"{n} bytes, not {len(data)}")
    return data


def obis_bytes(obis: str) -> bytes:
    """Six bytes from "A-B:C.D.E*F". ValueError when it is none."""
    parts = obis.replace("-", ".").replace(":", ".").replace("*", ".").split(".")
    if len(parts) != 6 or not all(p.isdigit() and int(p) < 256 for p in parts):
        raise ValueError(f"an OBIS code is six numbers 0..255, A-B:C.D.E*F, not {obis!r}")
    return bytes(int(p) for p in parts)


def scaler_unit(scaler: int, unit: int) -> bytes:
    """02 02 0F scaler 16 unit: value x 10**scaler; unit codes of DLMS UA 1000-1, 4.3.2 (30 Wh, 27 W, 255 none)."""
    return structure((number(INT8, scaler), enum(unit)))


# --- APDUs ---------------------------------------------------------------------------------------------------------


def data_notification(
    body: bytes, *, invoke_id: int = 0, when: bytes | None = None, when_form: str = "0c", tag: int = DATA_NOTIFICATION
) -> bytes:
    """0F long-invoke-id-and-priority(4) date-time body.

    `when` are 12 bytes, None: absent (00). `when_form` "0c": 0C and the 12 bytes, the usual one; "090c": an
    octet-string with its tag (Kaifa in Norway, Kamstrup in 2017).
    """
    if when is None:
        head = b"\x00"
    else:
        head = {"0c": b"\x0c", "090c": b"\x09\x0c"}[when_form] + _exactly(when, 12)
    return bytes((tag,)) + (invoke_id & 0xFFFFFFFF).to_bytes(4, "big") + head + body


def protect(plain: bytes, security: int, key: bytes, auth_key: bytes, title: bytes, counter: int) -> bytes:
    """SC IC and what follows them: the plain APDU by security suite 0 (AES-128-GCM, tag cut to 12 bytes).

        30  ciphertext tag     AAD is SC || AK
        10  plain text tag     AAD is SC || AK || plain text, and nothing is encrypted
        20  ciphertext         counter mode only, from counter block 2 on; no tag
        00  plain text

    The nonce is title(8) || counter(4). The low bits (0x21: "suite 1" of Kaifa, which still is AES-128) change only SC.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = bytes((security,)) + counter.to_bytes(4, "big")
    nonce = _exactly(title, 8) + counter.to_bytes(4, "big")
    aad = bytes((security,)) + auth_key
    if security & ENCRYPTED and security & AUTHENTICATED:
        sealed = AESGCM(key).encrypt(nonce, plain, aad)
        return head + sealed[: len(plain) + TAG_BYTES]
    if security & AUTHENTICATED:
        return head + plain + AESGCM(key).encrypt(nonce, b"", aad + plain)[:TAG_BYTES]
    if security & ENCRYPTED:
        counter_mode = Cipher(algorithms.AES(key), modes.CTR(nonce + b"\x00\x00\x00\x02")).encryptor()
        return head + counter_mode.update(plain) + counter_mode.finalize()
    return head + plain


def general_ciphering(protected: bytes, title: bytes, *, tag: int = GENERAL_GLO, least: int = 0) -> bytes:
    """DB (or DC: dedicated key) 08 title length, then what `protect` gave. `least` as in ber_length."""
    return bytes((tag, len(title))) + title + ber_length(len(protected), least) + protected


def service_ciphering(protected: bytes, tag: int, *, least: int = 0) -> bytes:
    """A service-specific APDU without a title: tag (C8 glo-get-request, CC glo-get-response, D0.. ded-) length ..."""
    return bytes((tag,)) + ber_length(len(protected), least) + protected


def gbt_blocks(
    apdu: bytes, size: int, *, first_size: int = 0, window: int = 0, streaming: bool = True, first: int = 1
) -> list[bytes]:
    """The APDU in general-block-transfer APDUs of `size` bytes each, `first_size` (0: as many) in the first.

    E0 control number(2) acknowledged(2) length data; control bit 7 the last block, bit 6 streaming, 5..0 the window.
    """
    head = first_size or size
    pieces = [apdu[:head], *(apdu[k : k + size] for k in range(head, len(apdu), size))]
    blocks = []
    for k, piece in enumerate(pieces):
        control = (0x80 if k == len(pieces) - 1 else 0) | (0x40 if streaming else 0) | window & 0x3F
        numbers = (first + k & 0xFFFF).to_bytes(2, "big") + b"\x00\x00"
        blocks.append(bytes((GENERAL_BLOCK, control)) + numbers + ber_length(len(piece)) + piece)
    return blocks


# --- HDLC ----------------------------------------------------------------------------------------------------------


def hdlc_address(upper: int, lower: int | None = None, width: int = 1) -> bytes:
    """An HDLC address of `width` 1, 2 or 4 bytes: 7 bits a byte, bit 0 set in the last one only.

    With `lower` the upper and lower addresses take half each; without it one number takes all.
    """
    if width not in (1, 2, 4) or lower is not None and width == 1:
        raise ValueError("an HDLC address has 1, 2 or 4 bytes; two parts take 2 or 4")
    if lower is None:
        value = upper
    else:
        half = 7 * width // 2
        value = upper << half | lower
    if value >= 1 << 7 * width:
        raise ValueError(f"{value} does not fit {width} bytes of 7 bits")
    parts = [value >> 7 * k & 0x7F for k in reversed(range(width))]
    return bytes(part << 1 for part in parts[:-1]) + bytes((parts[-1] << 1 | 1,))


def hdlc_frame(
    information: bytes,
    *,
    destination: bytes = b"\xce\xff",
    source: bytes = b"\x03",
    control: int = 0x13,
    more: bool = False,
) -> bytes:
    """What stands between the flags: format type 3, length, addresses, control, HCS, information, FCS.

    `more` sets the segmentation bit 0x0800. A frame without information has no HCS of its own. ValueError above the
    2047 bytes a length has room for.
    """
    head_bytes = 2 + len(destination) + len(source) + 1
    total = head_bytes + 2 + (len(information) + 2 if information else 0)
    if total > 0x7FF:
        raise ValueError(f"an HDLC frame has at most 2047 bytes, not {total}")
    out = (0xA000 | (0x0800 if more else 0) | total).to_bytes(2, "big") + destination + source + bytes((control,))
    if information:
        out += crc_bytes(out) + information
    return out + crc_bytes(out)


def between_flags(frames: Iterable[bytes], *, shared: bool = False) -> bytes:
    """Frames with a 7E before and after each; `shared`: one 7E closes a frame and opens the next."""
    frames = list(frames)
    if shared:
        return FLAG + b"".join(frame + FLAG for frame in frames)
    return b"".join(FLAG + frame + FLAG for frame in frames)


def hdlc_segments(
    apdu: bytes,
    size: int = 0,
    *,
    destination: bytes = b"\xce\xff",
    source: bytes = b"\x03",
    control: int = 0x13,
    more_control: int | None = None,
    llc: bytes = LLC_PUSH,
) -> list[bytes]:
    """LLC and APDU in frames of at most `size` bytes of information (0: one frame). The LLC is in the first only.

    `more_control`: control byte of all but the last frame (0x03: UI, not final), None: as the last.
    """
    data = llc + apdu
    pieces = [data[k : k + size] for k in range(0, len(data), size)] if size else [data]
    last = len(pieces) - 1
    controls = [control if more_control is None else more_control] * last + [control]
    return [
        hdlc_frame(piece, destination=destination, source=source, control=controls[k], more=k < last)
        for k, piece in enumerate(pieces)
    ]


# --- M-Bus and wrapper ---------------------------------------------------------------------------------------------


def mbus_frame(data: bytes, *, ci: int, control: int = 0x53, address: int = 0xFF, saps: bytes = b"\x01\x67") -> bytes:
    """One long frame: 68 L L 68 C A CI STSAP DTSAP data checksum 16.

    L counts from C to the data; more than 255 are written modulo 256, as the Sagemcom T210-D does.
    """
    body = bytes((control, address, ci)) + saps + data
    length = len(body) & 0xFF
    return bytes((0x68, length, length, 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


def mbus_frames(apdu: bytes, sizes: Sequence[int] = (245,), *, control: int = 0x53) -> list[bytes]:
    """The APDU in long frames, the k-th with at most sizes[k] bytes of it (the last size holds on); no LLC.

    CI: the low four bits number the segments from 0, 0x10 marks the last one.
    """
    pieces = []
    at = 0
    while at < len(apdu) or not pieces:
        size = sizes[min(len(pieces), len(sizes) - 1)]
        pieces.append(apdu[at : at + size])
        at += size
    last = len(pieces) - 1
    return [
        mbus_frame(piece, ci=k & 0x0F | (0x10 if k == last else 0), control=control) for k, piece in enumerate(pieces)
    ]


def wrapper(apdu: bytes, source: int = 1, destination: int = 1) -> bytes:
    """0001 source destination length APDU, 16 bits each, high byte first."""
    return struct.pack(">HHHH", 1, source, destination, len(apdu)) + apdu
