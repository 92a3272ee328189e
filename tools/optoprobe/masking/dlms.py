"""DLMS pushes: strings, registers that are no measurement, the system title, an HDLC server's address; checks anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from metering.checksum import X25_INIT, crc16
from metering.compat import ascii_text
from metering.dlms import hdlc
from metering.dlms.axdr import COMPACT, ber_length, is_integer, size_of, string_at
from metering.dlms.cosem import Cosem
from metering.mbus import mbus_frame

from . import iec62056_21
from .numbers import DIGITS, SURE_DIGITS, Numbers, Piece, Unsure, is_maker, names_meter, stays

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


def mask(data: bytes, start: int, end: int, numbers: Numbers) -> Iterator[Piece]:
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
        yield Piece(frame.at, frame.end, bytes(buf[frame.at : frame.end]))
    if frames[-1].first == _FLAG:
        yield Piece(frames[-1].end, frames[-1].end + 1, bytes((_FLAG,)))


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


def _mask_apdu(apdu: bytearray, numbers: Numbers) -> None:
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
        fresh = b"".join(piece.data for piece in iec62056_21.mask(bytes(apdu[:end]), at, end, numbers))
        if len(fresh) < end - at or fresh[end - at :].strip():
            raise Unsure
        apdu[at:end] = fresh[: end - at]
        return
    at += 5  # long invoke id and its tag
    if apdu[at] == 0x09:
        at += 1
    _mask_body(apdu, at + 1 + apdu[at], end, numbers)


def _mask_body(apdu: bytearray, at: int, end: int, numbers: Numbers) -> None:
    codes = _Codes()
    codes.parse(apdu, at, end)
    if codes.unknown_kinds:
        codes.learn_layout()
        codes.parse(apdu, at, end)
    strings: dict[int, bool] = {}  # place -> does it name the meter?
    for i in range(codes.axdr.count):
        element = codes.axdr.offsets[i]
        strings[element] = False
        if apdu[element] == COMPACT:
            behind = codes.axdr.offsets[i + 1] if i + 1 < codes.axdr.count else end
            apdu[element:behind] = _without_long_digits(bytes(apdu[element:behind]), numbers)
    for code, value in codes.pairs:
        obis = bytes(apdu[code : code + 6])
        if obis[2:5] in numbers.kept:
            strings.pop(value, None)
            continue
        if stays(obis, False) and not is_integer(apdu, value):
            strings.pop(value, None)
            continue
        named = names_meter(obis)
        strings[value] = named
        if is_integer(apdu, value) and not stays(obis, False, numbers.kept):
            n = size_of(apdu[value])
            if named:
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


def _masked_string(held: bytes, numbers: Numbers) -> bytes:
    """A string that no code names: a text, a system title, a date and time (which stays), or mere octets."""
    if ascii_text(held) is not None:
        return numbers.masked(held) if sum(map(len, DIGITS.findall(held))) >= SURE_DIGITS else numbers.blanked(held)
    if len(held) == _TITLE_BYTES and is_maker(held[:_MAKER]):
        return numbers.masked(held)
    return held if len(held) == _DATE_TIME else numbers.masked_where_found(held)


def _without_long_digits(held: bytes, numbers: Numbers) -> bytes:
    return DIGITS.sub(lambda run: numbers.masked(run[0]) if len(run[0]) >= SURE_DIGITS else run[0], held)
