"""Takes out of a capture what tells whose meter it is, so that it can be shown to everybody and still be decoded.

What is kept is whole telegrams whose check holds (or that carry none and are whole and clean), and nothing around them.
In them stay measurements, the meter's clock, and what a reader needs to know the line's form; all other values become
zeros and X (see masking.numbers.stays):

    SML            server id, entries of numbers and texts, public key, signatures
    IEC 62056-21   numbers and texts, the identification's text, logs of power failures, the times of peaks
    DLMS           the same registers, strings, the system title, the address of an HDLC server
    KMP            nothing, where all registers measure; another answer is left out
    C12.18, Modbus, DLMS that is asked    everything: what the bytes hold only the question to them tells
    LIS-200        all values but measurements, factors, clock and version
    M-Bus          the number in the header, texts, numbers without a unit, dates but the clock, the maker's bytes

The length stays, checks are made anew. Then a telegram must read as before but for these, and hold the digits of no
number found anywhere in the file, in whatever encoding; or it is left out. One module a protocol, named as its row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from metering.dlms.axdr import Malformed
from metering.listener import REJECTED, TELEGRAM

from .. import decoding
from ..capture_file import Capture, Part, Segment, counted
from ..protocol_files import module_of
from .numbers import Numbers, Piece, Unsure, stays

_MAX_COMMENTS = 10  # of the recorder
_KEY_NEEDED = "key needed"
_SLASH = 0x2F  # of an identification, whose last line may have no end


class _Telegram(NamedTuple):
    """Bytes start..end of a part are a telegram; `end` is before the flag that closes an HDLC frame."""

    start: int
    end: int
    protocol: str


def mask(capture: Capture, keep: Iterable[str] = ()) -> Capture:
    """`capture` without what is neither a measurement nor the line's form.

    `keep` names what stays all the same: codes such as "C.2.1" or "0-0:96.13.0", or "ident" for the identification's
    text. ValueError for what is no code.

    Of edges the lengths stay, not their order. Changes of the light stay where no telegram was found.
    """
    numbers = Numbers(keep)
    found = [(part, _telegrams(part)) for part in capture.parts()]
    for part, telegrams in found:
        for telegram in telegrams:
            _masked(part.data, telegram, numbers)
    chunks: dict[int, list[tuple[int, bytes]]] = {}  # by the segment's identity
    n_kept = n_unsure = 0
    n_left = len(capture.readable_bytes())
    ciphered = False
    for part, telegrams in found:
        pieces: list[Piece] = []
        for telegram in telegrams:
            masked = _masked(part.data, telegram, numbers)
            if not masked or not _is_sure(part.data, telegram, masked, numbers):
                n_unsure += 1
                continue
            n_kept += 1
            said = _said(part.data[telegram.start : telegram.end], telegram.protocol, numbers)
            ciphered = ciphered or said[:1] == [_KEY_NEEDED]
            for piece in masked:
                last = pieces[-1].end if pieces else 0
                if piece.start < last:  # one flag closes a frame and opens the next
                    piece = Piece(last, piece.end, piece.data[last - piece.start :])
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


def _by_segment(part: Part, pieces: list[Piece]) -> dict[int, list[tuple[int, bytes]]]:
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
    for name in decoding.protocol_names()[1:]:
        listener = decoding.new_listener(name)
        for event in decoding.hear(listener, data, part.pauses):
            if event == TELEGRAM or event == REJECTED and listener.reason == _KEY_NEEDED:
                found.append(_Telegram(listener.offset, listener._position + listener._used, name))
    apart = []
    for telegram in sorted(found):
        if not apart or telegram.start >= apart[-1].end:
            apart.append(telegram)
    return apart


def _said(data: bytes, protocol: str, numbers: Numbers) -> list[object]:
    """What the telegram at the start of `data` says: numbers as they are, of texts and of what does not stay their
    length. It is heard twice, as what has no check must come twice; what has no end is heard alone."""
    before = data + (b"\r\n" if data[0] & 0x7F == _SLASH else b"")
    return _first_said(before + data, [len(before)], protocol, numbers) or _first_said(data, [], protocol, numbers)


def _first_said(data: bytes, pauses: list[int], protocol: str, numbers: Numbers) -> list[object]:
    listener = decoding.new_listener(protocol)
    for event in decoding.hear(listener, data, pauses):
        if event == TELEGRAM:
            said: list[object] = [getattr(listener, "checked", True), listener.time_kind, listener.time_value]
            for reading in listener.readings():
                value, exponent = reading.value, reading.exponent
                if not isinstance(value, int):
                    value = len(value)
                elif not stays(reading.obis, reading.unit is not None, numbers.kept):
                    value = None
                said.append((reading.obis, reading.address, value, exponent, reading.unit, reading.printed_unit))
            return said
        if listener.reason == _KEY_NEEDED:
            return [_KEY_NEEDED, listener.invocation_counter, listener.security_control]
        return []
    return []


def _is_sure(data: bytes, telegram: _Telegram, masked: list[Piece], numbers: Numbers) -> bool:
    fresh = b"".join(piece.data for piece in masked)
    before = _said(data[telegram.start : telegram.end], telegram.protocol, numbers)
    return bool(before) and before == _said(fresh, telegram.protocol, numbers) and not numbers.are_in(fresh)


def _masked(data: bytes, telegram: _Telegram, numbers: Numbers) -> list[Piece]:
    """What takes the telegram's place, none where that is not sure; its numbers are noted."""
    masking = module_of(__name__, telegram.protocol)  # without one nothing of a telegram stays
    if masking is None:
        return []
    try:
        return list(masking.mask(data, telegram.start, telegram.end, numbers))
    except (Unsure, Malformed, IndexError, ValueError):
        return []
