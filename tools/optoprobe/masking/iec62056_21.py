"""IEC 62056-21 and P1: what is printed and is no measurement, in plain text or in hexadecimal; BCC and CRC anew."""

from __future__ import annotations

import re
from collections.abc import Iterator

from metering.characters import with_parity
from metering.checksum import ARC, crc16, crc_table
from metering.compat import ascii_text
from metering.iec62056_21.block_check import xor_part
from metering.iec62056_21.printed import parse_code

from .numbers import DIGITS, SURE_DIGITS, Numbers, Piece, Unsure, blank, names_meter, stays

ARC_TABLE = crc_table(ARC)

_STX, _ETX = 0x02, 0x03
_PARITY_SLASH = 0xAF
_SET = re.compile(rb"([^()\r\n]*)((?:\([^()]*\))+)")
_GROUP = re.compile(rb"\(([^()]*)\)")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_ABILITIES = re.compile(rb"(\\.)")
_UNIT = rb"(?:[kMG]?(?:W|Wh|VA|VAh|var|varh|J|Hz|A|V)|m3)"  # as a few makers print them behind a blank
_MEASURED = re.compile(rb"[-+0-9.,: ]*(?:\*[^*]{1,8}| " + _UNIT + rb")")  # a number with its unit
_PLAIN = re.compile(rb"[-+0-9.,:&/ SWsw]*")  # a number, a date or a time
_CODE = re.compile(rb"[0-9]+-[0-9]+:[0-9.*]+")
_GAS = 24  # of P1: its brackets hold codes and units too
_HEX_IDENTIFIER, _HEX_DIGITS = 8, 16  # of what P1 spells in hexadecimal at the least, the latter without a letter


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
    parity = data[start] == _PARITY_SLASH
    text = bytes(byte & 0x7F for byte in data[start:end]) if parity else data[start:end]
    behind = text.index(b"\n") + 1
    ident = text[:5] + _masked_identification(text[5:behind], numbers)
    stx = text.find(_STX, behind)
    if stx >= 0:  # what is between is an echo of ours, or the change of rate
        has_check = text[-2] == _ETX
        etx = len(text) - 2 if has_check else len(text)
        block = text[stx : stx + 1] + _masked_sets(text[stx + 1 : etx], numbers) + text[etx : etx + 1]
        if has_check:
            adds = text[-1] != xor_part(text, stx + 1, len(text) - 1, 0)  # Kamstrup's, else it were no telegram
            block += bytes((sum(block[1:]) & 0x7F if adds else xor_part(block, 1, len(block), 0),))
        pieces = [Piece(start, start + behind, ident), Piece(start + stx, end, block)]
    else:
        bang = text.rindex(b"!")
        block = ident + _masked_sets(text[behind:bang], numbers) + b"!"
        block += _crc_as_sent(block, text[bang + 1 :].strip())
        while end < len(data) and data[end] & 0x7F in b"\r\n":
            end += 1
        pieces = [Piece(start, end, block + b"\r\n")]
    for piece in pieces:
        yield Piece(piece.start, piece.end, with_parity(piece.data)) if parity else piece


def _crc_as_sent(block: bytes, sent: bytes) -> bytes:
    """The CRC behind a `!`, in the case and with the zeros that this meter prints."""
    if not sent:
        return b""
    if not _HEX.fullmatch(sent):
        raise Unsure
    fresh = b"%04X" % crc16(block, 0, ARC_TABLE)
    if len(sent) < 4:
        fresh = fresh.lstrip(b"0") or b"0"
    return fresh.lower() if sent != sent.upper() else fresh


def _masked_identification(line: bytes, numbers: Numbers) -> bytes:
    """What stands behind the baud character: a model's name or whatever else; \\2 says what the meter can do beside."""
    text = line.rstrip(b"\r\n")
    if numbers.keeps_ident:
        return numbers.hidden(line)
    fresh = b""
    for part in _ABILITIES.split(text):
        if part[:1] != b"\\":
            if sum(map(len, DIGITS.findall(part))) >= SURE_DIGITS:
                numbers.note(part)
            part = blank(part)
        fresh += part
    return fresh + line[len(text) :]


def _masked_sets(block: bytes, numbers: Numbers) -> bytes:
    """The data sets of `block`; a group without an address belongs to the set before it."""
    code = bytearray(6)
    has_code = False

    def masked_set(found: re.Match[bytes]) -> bytes:
        nonlocal has_code
        address = found[1].strip()
        if address:
            code[:] = bytes(6)
            has_code = bool(parse_code(address, 0, len(address), code))
        return found[1] + _GROUP.sub(masked_group, found[2])

    def masked_group(found: re.Match[bytes]) -> bytes:
        value = found[1]
        obis = bytes(code if has_code else ())
        named = names_meter(obis) and obis[2:5] not in numbers.kept
        measured = _MEASURED.fullmatch(value)
        if stays(obis, bool(measured), numbers.kept) and (has_code or measured):
            plain = measured or obis[2:5] in numbers.kept or obis[2] == _GAS or _PLAIN.fullmatch(value)
            fresh = (value if measured else numbers.hidden(value)) if plain else blank(value)
        elif named or _is_private(obis, value):
            fresh = _masked_value(value, numbers)
        else:
            number = value.partition(b"*")[0] if measured else value
            fresh = value if _CODE.fullmatch(value) else blank(number) + value[len(number) :]
        return b"(" + fresh + b")"

    return b"".join(
        _SET.sub(masked_set, line) if b"(" in line else blank(line) for line in block.splitlines(keepends=True)
    )


def _is_private(obis: bytes, value: bytes) -> bool:
    """May it be a number by which the meter is known, in a register that does not say so? Not in logs and peaks."""
    n = sum(map(len, DIGITS.findall(value)))
    return not obis or obis[2] not in (98, 99) and obis[3] != 6 and n >= SURE_DIGITS


def _masked_value(value: bytes, numbers: Numbers) -> bytes:
    """A number as printed, in hex (the text of P1's identifiers, or mere octets), or as it is."""
    least = _HEX_DIGITS if value.isdigit() else _HEX_IDENTIFIER
    if len(value) < least or len(value) % 2 or not _HEX.fullmatch(value):
        return numbers.masked(value)
    octets = bytes.fromhex(value.decode())
    if ascii_text(octets) is not None:
        numbers.note(octets)
        return (b"30" if len(value) >= _HEX_DIGITS else b"00") * len(octets)
    numbers.note(value)
    if not value.isdigit():
        numbers.note(octets)
    return b"0" * len(value)
