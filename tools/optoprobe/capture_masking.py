"""Takes out of a capture what names the meter, so that it can be shown to everybody and still be decoded.

What is kept is whole telegrams whose check holds (or that carry none and are whole and clean), and nothing around them.
They are found by the core's listeners, their numbers by the registers and fields that tell them:

    SML            server id, the serial number's and device id's entries, public key, signatures
    IEC 62056-21   0.0.x, 96.1.x (C.1.x), 96.13.0 and 1, 96.90.1, 42.0.0, of heat meters 9.20 and 9.21; long numbers in
                   the identification line; the same digits in any other text of the telegram
    DLMS           the same registers, every string with seven digits, the system title, the address of an HDLC server

Digits become zeros, the length stays, checks are made anew. Then a telegram must read as before but for these, and hold
the digits of no number found anywhere in the file, in whatever encoding; or it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from metering import protocols
from metering.characters import with_parity
from metering.checksum import ARC, CCITT, KERMIT_INIT, X25_INIT, crc16, crc_table
from metering.compat import ascii_text
from metering.dlms import hdlc
from metering.dlms.axdr import COMPACT, Malformed, ber_length, is_integer, size_of, string_at
from metering.dlms.cosem import Cosem
from metering.iec62056_21.block_check import xor_part
from metering.iec62056_21.printed import parse_code
from metering.listener import REJECTED, TELEGRAM
from metering.mbus import mbus_frame
from metering.power_direction import has_sign_fault

from . import decoding
from .capture_file import Capture, Part, Segment, counted

_SHORT_DIGITS = 5  # what may be a number of the meter, where a name stands
_SURE_DIGITS = 7  # what is one, wherever it stands: by chance 1 value of 10 million has these digits
_LARGE = range(1 << 24, 1 << 40)  # a number that is looked for in binary, too: smaller ones are in every telegram
_DISTINCT_BYTES = 4  # of what is looked for in binary: zeros, and 1B1B1B1B, are in every telegram
_FAULTY = (42_000_000, 55_000_000)  # of DZG DVS74, see metering.power_direction
_MAX_COMMENTS = 10  # of the recorder
_KEY_NEEDED = "key needed"
_DIGITS = re.compile(rb"[0-9]+")
_ARC_TABLE = crc_table(ARC)
_CCITT_TABLE = crc_table(CCITT)


class _Unsure(Exception):
    """This telegram cannot be masked surely."""


class _Telegram(NamedTuple):
    """Bytes start..end of a part are a telegram; `end` is before the flag that closes an HDLC frame."""

    start: int
    end: int
    protocol: str


class _Piece(NamedTuple):
    """What takes the place of bytes start..end."""

    start: int
    end: int
    data: bytes


def mask(capture: Capture) -> Capture:
    """`capture` without what names the meter.

    Of edges the lengths stay, not their order. Changes of the light stay where no telegram was found.
    """
    numbers = _Numbers()
    found = [(part, _telegrams(part)) for part in capture.parts()]
    for part, telegrams in found:
        for telegram in telegrams:
            _masked(part.data, telegram, numbers)
    chunks: dict[int, list[tuple[int, bytes]]] = {}  # by the segment's identity
    n_kept = n_unsure = 0
    n_left = len(capture.readable_bytes())
    ciphered = False
    for part, telegrams in found:
        pieces: list[_Piece] = []
        for telegram in telegrams:
            masked = _masked(part.data, telegram, numbers)
            if not masked or not _is_sure(part.data, telegram, masked, numbers):
                n_unsure += 1
                continue
            n_kept += 1
            ciphered = ciphered or _said(part.data[telegram.start :], telegram.protocol)[:1] == [_KEY_NEEDED]
            for piece in masked:
                last = pieces[-1].end if pieces else 0
                if piece.start < last:  # one flag closes a frame and opens the next
                    piece = _Piece(last, piece.end, piece.data[last - piece.start :])
                n_left -= piece.end - piece.start
                pieces.append(piece)
        chunks.update(_by_segment(part, pieces))

    segments = []
    for segment in capture.segments:
        kept = _lengths_only(segment) if segment.is_edges else chunks.get(id(segment), [])
        segments.append(Segment(segment.line, segment.is_edges, kept, [] if n_kept else segment.light))
    comments = [numbers.hidden(comment.encode()).decode() for comment in capture.comments[:_MAX_COMMENTS]]
    comments.append("masked: serial numbers and addresses are zeros, checks made anew")
    n_light = sum(len(segment.light) for segment in capture.segments) if n_kept else 0
    left_out = f"left out: {counted(n_left, 'byte')}, {counted(n_light, 'change')} of the light"
    comments.append(left_out + (f", {counted(n_unsure, 'telegram')} not surely masked" if n_unsure else ""))
    if ciphered:
        comments.append("encrypted telegrams: the system title is masked too, so they cannot be decrypted any more")
    return Capture(comments, segments, capture.end_ms)


def _lengths_only(segment: Segment) -> list[tuple[int, bytes]]:
    """How long the light was on, longest first: seen in their order, edges would spell the meter's bytes."""
    if not segment.chunks:
        return []
    zeros = sorted(((byte & -byte).bit_length() - 1 if byte else 8 for byte in segment.data), reverse=True)
    return [(segment.chunks[-1][0], bytes(0xFF << n & 0xFF for n in zeros))]


def _by_segment(part: Part, pieces: list[_Piece]) -> dict[int, list[tuple[int, bytes]]]:
    """By segment's identity its chunks, of what the pieces put into their place."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    start = 0
    for segment in part.segments:
        chunks = found[id(segment)] = []
        for ms, data in segment.chunks:
            end = start + len(data)
            kept = b""
            for piece in pieces:
                if piece.start < end and piece.end > start:
                    behind = len(piece.data) if piece.end <= end else end - piece.start
                    kept += piece.data[max(start - piece.start, 0) : behind]
            if kept:
                chunks.append((ms, kept))
            start = end
    return found


# --- which bytes are telegrams ---------------------------------------------------------------------------------------


def _telegrams(part: Part) -> list[_Telegram]:
    """The good telegrams of a part, in order, none in another."""
    data = part.data
    found = []
    for name in protocols.names():
        listener = decoding.new_listener(name)
        for event in decoding.hear(listener, data, part.pauses):
            if event == TELEGRAM or event == REJECTED and listener.reason == _KEY_NEEDED:
                found.append(_Telegram(listener.offset, listener._position + listener._used, name))
    apart = []
    for telegram in sorted(found):
        if not apart or telegram.start >= apart[-1].end:
            apart.append(telegram)
    return apart


def _said(data: bytes, protocol: str) -> list[object]:
    """What the telegram at the start of `data` says: numbers as they are, of texts and of what names the meter their
    length."""
    listener = decoding.new_listener(protocol)
    for event in decoding.hear(listener, data):
        if event == TELEGRAM:
            said: list[object] = [getattr(listener, "checked", True), listener.time_kind, listener.time_value]
            for reading in listener.readings():
                value, exponent = reading.value, reading.exponent
                if not isinstance(value, int):
                    value = len(value)
                elif names_meter(reading.obis):
                    value = None
                said.append((reading.obis, reading.address, value, exponent, reading.unit, reading.printed_unit))
            return said
        if listener.reason == _KEY_NEEDED:
            return [_KEY_NEEDED, listener.invocation_counter, listener.security_control]
        return []
    return []


def _is_sure(data: bytes, telegram: _Telegram, masked: list[_Piece], numbers: _Numbers) -> bool:
    fresh = b"".join(piece.data for piece in masked)
    before = _said(data[telegram.start :], telegram.protocol)
    return bool(before) and before == _said(fresh, telegram.protocol) and not numbers.are_in(fresh)


def _masked(data: bytes, telegram: _Telegram, numbers: _Numbers) -> list[_Piece]:
    """What takes the telegram's place, none where that is not sure; its numbers are noted."""
    how = {"sml": _mask_sml, "iec62056-21": _mask_printed, "dlms": _mask_dlms}
    try:
        return list(how[telegram.protocol](data, telegram.start, telegram.end, numbers))
    except (_Unsure, Malformed, IndexError, ValueError):
        return []


# --- numbers of meters -----------------------------------------------------------------------------------------------


def names_meter(obis: bytes) -> bool:
    """Is the register `obis` one that says which meter, or whose, it is?"""
    if len(obis) != 6:
        return False
    c, d, e = obis[2:5]
    if obis[:2] == b"\x81\x81":
        return (c, d, e) == (199, 130, 5)  # the public key
    if c == 96:  # 96.13: messages to the customer, 96.90.1: an address
        return d == 1 or d == 13 and e < 2 or (d, e) == (90, 1)
    return c == d == 0 or (c, d) == (42, 0) or c == 9 and d in (20, 21)


def _is_maker(octets: bytes) -> bool:
    return len(octets) == 3 and all(0x41 <= byte <= 0x5A for byte in octets)


def _zeros(octets: bytes) -> bytes:
    """`octets` that name a meter with zeros for what tells it from others of its maker."""
    if ascii_text(octets) is not None:
        is_type = len(octets) == 18 and octets[:2] == b"68"  # Kamstrup's, which says the scale
        head = octets[:3] if is_type else b""
        return head + _DIGITS.sub(lambda found: b"0" * len(found[0]), octets[len(head) :])
    n = len(octets)
    if n == 10 and octets[0] in (9, 10) and _is_maker(octets[2:5]):  # DIN 43863-5
        if has_sign_fault(octets):  # it sends its power wrongly, as its number tells: the other such range's first
            low, high = (first.to_bytes(5, "big") for first in _FAULTY)
            return octets if octets[5:] in (low, high) else octets[:5] + (low if octets[5:] > high else high)
        return octets[:6] + bytes(4)
    for at in (0, 1, 2):
        if n > at + 3 and _is_maker(octets[at : at + 3]):
            return octets[: at + 3] + bytes(n - at - 3)
    return bytes(n)


class _Numbers:
    """The numbers of meters found in a capture: runs of digits without leading zeros, and octets."""

    def __init__(self) -> None:
        self._runs: set[bytes] = set()
        self._octets: set[bytes] = set()

    def note(self, octets: bytes) -> None:
        """`octets` name a meter, in text or else."""
        if ascii_text(octets) is None:
            self.note_octets(octets)
        else:
            self._note_runs(octets)

    def _note_runs(self, text: bytes) -> None:
        runs = (run.lstrip(b"0") for run in _DIGITS.findall(text))
        self._runs.update(run for run in runs if len(run) >= _SHORT_DIGITS)

    def note_octets(self, octets: bytes) -> None:
        """`octets` name a meter in binary: as a whole, and where a maker is named by the number at their end."""
        octets = octets.lstrip(b"\0")
        if len(set(octets)) < _DISTINCT_BYTES:
            return
        self._octets.add(octets)
        if any(_is_maker(octets[at : at + 3]) for at in range(3)):
            number = int.from_bytes(octets[-4:], "big")
            self._note_runs(b"%d %d" % (number, number & 0x0FFFFFFF))  # the latter as system titles have it

    def hidden(self, text: bytes) -> bytes:
        """`text` with zeros in the place of every number found."""

        def zeros(found: re.Match[bytes]) -> bytes:
            run = found[0].lstrip(b"0")
            held = run in self._runs or any(len(own) >= _SURE_DIGITS and own in run for own in self._runs)
            return b"0" * len(found[0]) if held else found[0]

        return _DIGITS.sub(zeros, text)

    def masked(self, octets: bytes) -> bytes:
        """`octets` that name a meter, noted, and without their digits; the maker's letters stay."""
        zeros = _zeros(octets)
        if zeros != octets:
            self.note(octets)
        return zeros

    def masked_where_found(self, octets: bytes) -> bytes:
        """`octets` that name nothing by themselves, without the numbers found elsewhere."""
        if ascii_text(octets) is not None:
            return self.hidden(octets)
        return bytes(len(octets)) if any(own in octets for own in self._octets) else octets

    def are_in(self, data: bytes) -> bool:
        """Does `data` hold a number found: printed, in hex, in BCD or in binary?"""
        printed = bytes(byte & 0x7F for byte in data)
        in_hex = data.hex()
        for own in self._octets:
            if own in data or own[::-1] in data or own.hex().upper().encode() in printed.upper():
                return True
        for run in self._runs:
            if len(run) < _SURE_DIGITS:
                continue
            digits = run.decode()
            pairs = digits.rjust(len(digits) + len(digits) % 2, "0")
            backwards = bytes.fromhex(pairs)[::-1].hex()
            if run in data or run in printed or digits in in_hex or backwards in in_hex:
                return True
            if run.hex().encode() in printed:
                return True
            number = int(run)
            if number in _LARGE:
                octets = number.to_bytes(4 if number < 1 << 32 else 5, "big")
                if octets in data or octets[::-1] in data:
                    return True
        return False


# --- SML -------------------------------------------------------------------------------------------------------------

_START = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
_ESCAPE = b"\x1b\x1b\x1b\x1b"
_END = 0x1A
_OCTETS, _INTEGER, _UNSIGNED, _LIST = 0x00, 0x50, 0x60, 0x70
_MAX_DEPTH = 24  # a parameter tree nests some ten deep
_OPEN, _LIST_RESPONSE = 0x0101, 0x0701
_SERVER_AT = {_OPEN: 3, _LIST_RESPONSE: 1, 0x0301: 0, 0x0401: 0, 0x0501: 0, 0xFF01: 0}  # in the body, by its tag


class _Field(NamedTuple):
    """An element of SML: its type-length field at `first`, what it holds at..end."""

    kind: int
    first: int
    at: int
    end: int
    parts: list[_Field]


def _field(buf: bytearray, first: int, depth: int = 0) -> _Field:
    byte = buf[first]
    if not byte:  # the end of a message
        return _Field(_OCTETS, first, first + 1, first + 1, [])
    kind = byte & 0x70
    length = byte & 0x0F
    at = first + 1
    while byte & 0x80:
        byte = buf[at]
        length = length << 4 | byte & 0x0F
        at += 1
    if kind != _LIST:
        end = first + length
        if not at <= end <= len(buf):
            raise _Unsure
        return _Field(kind, first, at, end, [])
    if depth == _MAX_DEPTH or length > len(buf):
        raise _Unsure
    parts = []
    end = at
    for _ in range(length):
        parts.append(_field(buf, end, depth + 1))
        end = parts[-1].end
    return _Field(kind, first, at, end, parts)


def _mask_sml(data: bytes, start: int, end: int, numbers: _Numbers) -> Iterator[_Piece]:
    at = start + len(_START)
    while True:
        at = data.index(_ESCAPE, at)
        if data[at + 4] == _END:
            break
        at += 8
    sent = data[at + 6 : at + 8]
    kermit = _sml_crc(data[start : at + 6], True) == sent
    messages = bytearray(data[start + len(_START) : at].replace(_ESCAPE + _ESCAPE, _ESCAPE))
    found = []
    n = 0
    while n < len(messages):
        if not messages[n]:
            n += 1
            continue
        found.append(_field(messages, n))
        n = found[-1].end
    behind = found[-1].end
    before = len(messages)
    for message in reversed(found):  # a CRC may become longer
        _mask_message(messages, message, numbers)
    fill = messages[behind + len(messages) - before :]
    if len(messages) != before:
        del messages[len(messages) - len(fill) :]
        fill = bytes(-len(messages) % 4)
        messages += fill
        tail = bytes((_END, len(fill)))
    else:
        tail = data[at + 4 : at + 6]
    fresh = _START + bytes(messages).replace(_ESCAPE, _ESCAPE + _ESCAPE) + _ESCAPE + tail
    yield _Piece(start, end, fresh + _sml_crc(fresh, kermit))


def _sml_crc(data: bytes | bytearray, kermit: bool) -> bytes:
    if kermit:
        return crc16(data, KERMIT_INIT, _CCITT_TABLE).to_bytes(2, "big")
    return (crc16(data, X25_INIT, _CCITT_TABLE) ^ 0xFFFF).to_bytes(2, "little")


def _mask_message(buf: bytearray, message: _Field, numbers: _Numbers) -> None:
    body, crc = message.parts[3], message.parts[4]
    tag = int.from_bytes(buf[body.parts[0].at : body.parts[0].end], "big")
    sent = bytes(buf[crc.at : crc.end]).rjust(2, b"\0")
    right = [kermit for kermit in (False, True) if _sml_crc(buf[message.first : crc.first], kermit) == sent]

    fields = body.parts[1].parts
    if tag in _SERVER_AT:
        _mask_field(buf, fields[_SERVER_AT[tag]], numbers)
    if tag == _LIST_RESPONSE:
        _blank(buf, fields[5])
        for entry in fields[4].parts:
            if len(entry.parts) == 7:
                name = entry.parts[0]
                if names_meter(bytes(buf[name.at : name.end])):
                    _mask_field(buf, entry.parts[5], numbers)
                _blank(buf, entry.parts[6])
    _hide_found(buf, message, numbers)

    if right:
        fresh = _sml_crc(buf[message.first : crc.first], right[0])
        n = crc.end - crc.at
        if n == 1 and fresh[0]:
            buf[crc.first : crc.end] = b"\x63" + fresh
        else:
            buf[crc.at : crc.end] = fresh.rjust(n, b"\0")[-n:]


def _mask_field(buf: bytearray, held: _Field, numbers: _Numbers) -> None:
    if held.kind == _OCTETS and held.end > held.at:
        buf[held.at : held.end] = numbers.masked(bytes(buf[held.at : held.end]))
    elif held.kind in (_INTEGER, _UNSIGNED):
        numbers.note(b"%d" % int.from_bytes(buf[held.at : held.end], "big"))
        _blank(buf, held)


def _blank(buf: bytearray, held: _Field) -> None:
    buf[held.at : held.end] = bytes(held.end - held.at)


def _hide_found(buf: bytearray, held: _Field, numbers: _Numbers) -> None:
    for part in held.parts:
        _hide_found(buf, part, numbers)
    if held.kind == _OCTETS and held.end > held.at:
        buf[held.at : held.end] = numbers.masked_where_found(bytes(buf[held.at : held.end]))


# --- IEC 62056-21 ----------------------------------------------------------------------------------------------------

_STX, _ETX = 0x02, 0x03
_PARITY_SLASH = 0xAF
_SET = re.compile(rb"([^()\r\n]*)((?:\([^()]*\))+)")
_GROUP = re.compile(rb"\(([^()]*)\)")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_HEX_IDENTIFIER, _HEX_DIGITS = 8, 16  # of what P1 spells in hexadecimal at the least, the latter without a letter


def _mask_printed(data: bytes, start: int, end: int, numbers: _Numbers) -> Iterator[_Piece]:
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
            block += bytes((xor_part(block, 1, len(block), 0),))
        pieces = [_Piece(start, start + behind, ident), _Piece(start + stx, end, block)]
    else:
        bang = text.rindex(b"!")
        block = ident + _masked_sets(text[behind:bang], numbers) + b"!"
        block += _crc_as_sent(block, text[bang + 1 :].strip())
        while end < len(data) and data[end] & 0x7F in b"\r\n":
            end += 1
        pieces = [_Piece(start, end, block + b"\r\n")]
    for piece in pieces:
        yield _Piece(piece.start, piece.end, with_parity(piece.data)) if parity else piece


def _crc_as_sent(block: bytes, sent: bytes) -> bytes:
    """The CRC behind a `!`, in the case and with the zeros that this meter prints."""
    if not sent:
        return b""
    if not _HEX.fullmatch(sent):
        raise _Unsure
    fresh = b"%04X" % crc16(block, 0, _ARC_TABLE)
    if len(sent) < 4:
        fresh = fresh.lstrip(b"0") or b"0"
    return fresh.lower() if sent != sent.upper() else fresh


def _masked_identification(line: bytes, numbers: _Numbers) -> bytes:
    """What stands behind the baud character: a model's name, and numbers in it."""

    def zeros(found: re.Match[bytes]) -> bytes:
        run = found[0]
        kept = 1 if line[found.start() - 1 : found.start()] == b"\\" else 0  # \2: what else the meter can do
        if len(run) - kept < _SURE_DIGITS:
            return run[:kept] + numbers.hidden(run[kept:])
        numbers.note(run[kept:])
        return run[:kept] + b"0" * (len(run) - kept)

    return _DIGITS.sub(zeros, line)


def _masked_sets(block: bytes, numbers: _Numbers) -> bytes:
    """The data sets of `block`; a group without an address belongs to the set before it."""
    code = bytearray(6)
    is_number = False

    def masked_set(found: re.Match[bytes]) -> bytes:
        nonlocal is_number
        address = found[1].strip()
        if address:
            is_number = parse_code(address, 0, len(address), code) and names_meter(bytes(code))
        return found[1] + _GROUP.sub(masked_group, found[2])

    def masked_group(found: re.Match[bytes]) -> bytes:
        value = found[1]
        if is_number:
            return b"(" + _masked_value(value, numbers) + b")"
        return found[0] if b"*" in value else b"(" + numbers.hidden(value) + b")"

    return b"".join(
        _SET.sub(masked_set, line) if b"(" in line else _without_long_digits(line, numbers)
        for line in block.splitlines(keepends=True)
    )


def _masked_value(value: bytes, numbers: _Numbers) -> bytes:
    """A number as printed, in hex (the text of P1's identifiers, or mere octets), or as it is."""
    least = _HEX_DIGITS if value.isdigit() else _HEX_IDENTIFIER
    if len(value) < least or len(value) % 2 or not _HEX.fullmatch(value):
        return numbers.masked(value)
    octets = bytes.fromhex(value.decode())
    if ascii_text(octets) is not None:
        fresh = numbers.masked(octets).hex().encode()
        return fresh.upper() if value == value.upper() else fresh
    numbers.note(value)
    if not value.isdigit():
        numbers.note(octets)
    return b"0" * len(value)


# --- DLMS ------------------------------------------------------------------------------------------------------------

_FLAG = 0x7E
_LLC = 3
_WRAPPER_HEAD = 8
_BLOCK, _BLOCK_HEAD, _LAST_BLOCK = 0xE0, 6, 0x80
_GLO, _DED = 0xDB, 0xDC
_TITLE_AT, _TITLE_BYTES, _MAKER = 2, 8, 3
_ENCRYPTED, _AUTHENTICATED, _TAG = 0x20, 0x10, 12
_DATE_TIME = 12
_LONG_ADDRESS = 4  # upper and lower HDLC address, two bytes each


class _Codes(Cosem):
    """Notes which code each value stands behind: `pairs` of places in the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[int, int]] = []

    def take(self, buf, code, value, scale):
        self.pairs.append((code, value))
        super().take(buf, code, value, scale)


class _Frame(NamedTuple):
    """Bytes at..end are a frame, info_at..info_end what it carries; `first` byte tells its kind."""

    first: int
    at: int
    end: int
    info_at: int
    info_end: int
    more: bool
    segment: int


def _frames(buf: bytearray, start: int, end: int) -> Iterator[_Frame]:
    """The frames that carry something; what is between them is noise."""
    view = memoryview(buf)
    if buf[start] not in (_FLAG, 0x68):
        info = start + _WRAPPER_HEAD if buf[start] == 0 else start
        yield _Frame(0, start, end, info, end, False, -1)
        return
    of_hdlc, of_mbus = hdlc.Frame(), mbus_frame.Frame()
    at = start
    while at < end:
        used = 0
        frame: hdlc.Frame | mbus_frame.Frame = of_hdlc
        if buf[at] == _FLAG:
            used = of_hdlc.find(buf, view, at, len(buf))
        elif buf[at] == 0x68:
            frame = of_mbus
            used = of_mbus.find(buf, at, len(buf), True)
        if used <= 0:
            at += 1
            continue
        if frame.info_at < frame.info_end:
            yield _Frame(buf[at], at, at + used, frame.info_at, frame.info_end, frame.more, frame.segment)
        at += used


def _mask_dlms(data: bytes, start: int, end: int, numbers: _Numbers) -> Iterator[_Piece]:
    buf = bytearray(data)
    frames = list(_frames(buf, start, end))
    places: list[int] = []  # of the APDU's bytes
    more = False
    numbered = False
    for frame in frames:
        at, behind = frame.info_at, frame.info_end
        llc = behind - at > _LLC and buf[at] == 0xE6 and buf[at + 1] in b"\xe6\xe7" and buf[at + 2] == 0
        if llc:
            at += _LLC
        begins = frame.segment == 0 if frame.segment >= 0 else llc or not more or numbered
        more, numbered = frame.more, False
        if begins and buf[at] == _BLOCK and behind - at > _BLOCK_HEAD:
            more, numbered = not buf[at + 1] & _LAST_BLOCK, True
            length, at = ber_length(buf, at + _BLOCK_HEAD, behind)
            behind = at + length
        places += range(at, behind)
    apdu = bytearray(buf[place] for place in places)
    _mask_apdu(apdu, numbers)
    for place, byte in zip(places, apdu, strict=True):
        buf[place] = byte
    for frame in frames:
        if frame.first == _FLAG:
            _mask_address(buf, frame)
            _repair(buf, frame.at + 1, frame.info_at - 2)
            _repair(buf, frame.at + 1, frame.end - 2)
        elif frame.first:
            buf[frame.end - 2] = sum(buf[frame.at + 4 : frame.end - 2]) & 0xFF
        yield _Piece(frame.at, frame.end, bytes(buf[frame.at : frame.end]))
    if frames[-1].first == _FLAG:
        yield _Piece(frames[-1].end, frames[-1].end + 1, bytes((_FLAG,)))


def _repair(buf: bytearray, at: int, end: int) -> None:
    """The CRC behind at..end."""
    buf[end : end + 2] = (crc16(buf[at:end], X25_INIT, hdlc.X25_TABLE) ^ 0xFFFF).to_bytes(2, "little")


def _mask_address(buf: bytearray, frame: _Frame) -> None:
    """The lower address of a server that has one of two bytes: often the end of its serial number."""
    first = at = frame.at + 3
    for _ in range(2):
        first = at
        while not buf[at] & 1:
            at += 1
        at += 1
    if at - first == _LONG_ADDRESS:
        buf[at - 2 : at] = b"\x00\x01"


def _mask_apdu(apdu: bytearray, numbers: _Numbers) -> None:
    at, end = 0, len(apdu)
    if apdu[0] in (_GLO, _DED):
        title = bytes(apdu[_TITLE_AT : _TITLE_AT + _TITLE_BYTES])
        head = _MAKER if title[:_MAKER].isalpha() else 0
        if any(title[head:]):
            numbers.note_octets(title)
        apdu[_TITLE_AT + head : _TITLE_AT + _TITLE_BYTES] = bytes(_TITLE_BYTES - head)
        length, at = ber_length(apdu, _TITLE_AT + _TITLE_BYTES, end)
        end = at + length
        control = apdu[at]
        at += 5
        if control & _ENCRYPTED:
            return
        if control & _AUTHENTICATED:
            end -= _TAG
    if apdu[at] == 0x2F:  # a P1 telegram
        fresh = b"".join(piece.data for piece in _mask_printed(bytes(apdu[:end]), at, end, numbers))
        if len(fresh) < end - at or fresh[end - at :].strip():
            raise _Unsure
        apdu[at:end] = fresh[: end - at]
        return
    at += 5  # long invoke id and its tag
    if apdu[at] == 0x09:
        at += 1
    _mask_body(apdu, at + 1 + apdu[at], end, numbers)


def _mask_body(apdu: bytearray, at: int, end: int, numbers: _Numbers) -> None:
    codes = _Codes()
    codes.parse(apdu, at, end)
    strings: dict[int, bool] = {}  # place -> does it name the meter?
    for i in range(codes.axdr.count):
        element = codes.axdr.offsets[i]
        strings[element] = False
        if apdu[element] == COMPACT:
            behind = codes.axdr.offsets[i + 1] if i + 1 < codes.axdr.count else end
            apdu[element:behind] = _without_long_digits(bytes(apdu[element:behind]), numbers)
    for code, value in codes.pairs:
        named = names_meter(bytes(apdu[code : code + 6]))
        strings[value] = named
        if named and is_integer(apdu, value):
            n = size_of(apdu[value])
            numbers.note(b"%d" % int.from_bytes(apdu[value + 1 : value + 1 + n], "big"))
            apdu[value + 1 : value + 1 + n] = bytes(n)
    if codes.entries.id_at:
        strings[codes.entries.id_at] = True
    for value, named in strings.items():
        first, n = string_at(apdu, value, end)
        held = bytes(apdu[first : first + n])
        if named:
            apdu[first : first + n] = numbers.masked(held)
        elif n and not (n == 6 and held[5] == 0xFF):
            apdu[first : first + n] = _masked_string(held, numbers)


def _masked_string(held: bytes, numbers: _Numbers) -> bytes:
    """A string that no code names: a meter's number if it has that many digits, or is a system title."""
    if ascii_text(held) is not None:
        return numbers.masked(held) if sum(map(len, _DIGITS.findall(held))) >= _SURE_DIGITS else numbers.hidden(held)
    if len(held) == _TITLE_BYTES and _is_maker(held[:_MAKER]):
        return numbers.masked(held)
    return held if len(held) == _DATE_TIME else numbers.masked_where_found(held)


def _without_long_digits(held: bytes, numbers: _Numbers) -> bytes:
    return _DIGITS.sub(lambda run: numbers.masked(run[0]) if len(run[0]) >= _SURE_DIGITS else run[0], held)
