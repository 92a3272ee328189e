"""What names a meter or its owner, what is a measurement, and the numbers found, which may stand nowhere else."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import NamedTuple

from metering.compat import ascii_text
from metering.iec62056_21.printed import parse_code
from metering.power_direction import has_sign_fault

SHORT_DIGITS = 5  # what may be a number of the meter, where a name stands
SURE_DIGITS = 7  # what is one, wherever it stands: by chance 1 value of 10 million has these digits
_LARGE = range(1 << 24, 1 << 40)  # a number that is looked for in binary, too: smaller ones are in every telegram
_DISTINCT_BYTES = 4  # of what is looked for in binary: zeros, and 1B1B1B1B, are in every telegram
_FAULTY = (42_000_000, 55_000_000)  # of DZG DVS74, see metering.sml
DIGITS = re.compile(rb"[0-9]+")
FORM = re.compile(rb"[A-Za-z]{2,10}_?V?[0-9]{3,5}")  # Kamstrup_V0001, AIDON_V0001, KFM_001: what a list is called
_LETTERS = re.compile(rb"[^\x00-\x1f\x21-\x40\x5b-\x60\x7b-\x7f]")  # and the blank
IDENT = "ident"
_MAKER = re.compile(rb"([A-Z]{3})(?=[0-9]{5})")


class Unsure(Exception):
    """This telegram cannot be masked surely."""


class Piece(NamedTuple):
    """What takes the place of bytes start..end."""

    start: int
    end: int
    data: bytes


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


def stays(obis: bytes, has_unit: bool, kept: Container[bytes] = ()) -> bool:
    """Is the value of the register `obis` a measurement, the clock or the line's form, or one of `kept` (C D E each)?

    Whatever has a unit is measured, but in logs; without one it must be in a register of energy, power and their kind.
    """
    if len(obis) != 6:
        return has_unit
    if obis[2:5] in kept:
        return True
    a, _, c, d, e = obis[:5]
    if names_meter(obis) or c == 99 or c == 98 and not has_unit:  # logs: of power failures, when peaks were
        return False
    if has_unit or c == 97 or (c, d) == (96, 14):  # errors, and the tariff
        return True
    if c == 0 or c > 95:
        return c == 0 and d in (2, 9) or obis[:5] == b"\x81\x81\xc7\x82\x03"  # version, clock; SML's maker
    if a == 0:
        return (c, d, e) == (1, 0, 0) or c == 24 and d in (1, 2, 3)  # P1's clock; a sub-meter's kind and counter
    return d != 6  # the time of a peak


def blank(octets: bytes) -> bytes:
    """A text with zeros for its digits and X for its letters and the blanks in it; punctuation is form."""
    core = octets.strip(b" ")
    fresh = _LETTERS.sub(b"X", DIGITS.sub(lambda found: b"0" * len(found[0]), core))
    at = octets.index(core)
    return octets[:at] + fresh + octets[at + len(core) :]


def is_maker(octets: bytes) -> bool:
    return len(octets) == 3 and all(0x41 <= byte <= 0x5A for byte in octets)


def _zeros(octets: bytes) -> bytes:
    """`octets` that name a meter with zeros for what tells it from others of its maker."""
    if ascii_text(octets) is not None:
        is_type = len(octets) == 18 and octets[:2] == b"68"  # Kamstrup's, which says the scale
        maker = _MAKER.match(octets)  # what a maker's meters have in common
        head = octets[:3] if is_type else maker[1] if maker else b""
        return octets if FORM.fullmatch(octets) else head + blank(octets[len(head) :])
    n = len(octets)
    if n == 10 and octets[0] in (9, 10) and is_maker(octets[2:5]):  # DIN 43863-5
        if has_sign_fault(octets):  # it sends its power wrongly, as its number tells: the other such range's first
            low, high = (first.to_bytes(5, "big") for first in _FAULTY)
            return octets if octets[5:] in (low, high) else octets[:5] + (low if octets[5:] > high else high)
        return octets[:6] + bytes(4)
    for at in (0, 1, 2):
        if n > at + 3 and is_maker(octets[at : at + 3]):
            return octets[: at + 3] + bytes(n - at - 3)
    return bytes(n)


class Numbers:
    """The numbers of meters found in a capture: runs of digits without leading zeros, and octets."""

    def __init__(self, keep: Iterable[str] = ()) -> None:
        self.kept = {_code_of(text) for text in keep if text != IDENT}
        self.keeps_ident = IDENT in keep
        self._runs: set[bytes] = set()
        self._octets: set[bytes] = set()

    def note(self, octets: bytes) -> None:
        """`octets` name a meter, in text or else."""
        if ascii_text(octets) is None:
            self.note_octets(octets)
        else:
            self._note_runs(octets)

    def _note_runs(self, text: bytes) -> None:
        runs = (run.lstrip(b"0") for run in DIGITS.findall(text))
        self._runs.update(run for run in runs if len(run) >= SHORT_DIGITS)

    def note_octets(self, octets: bytes) -> None:
        """`octets` name a meter in binary: as a whole, and where a maker is named by the number at their end."""
        octets = octets.lstrip(b"\0")
        if len(set(octets)) < _DISTINCT_BYTES:
            return
        self._octets.add(octets)
        if any(is_maker(octets[at : at + 3]) for at in range(3)):
            number = int.from_bytes(octets[-4:], "big")
            self._note_runs(b"%d %d" % (number, number & 0x0FFFFFFF))  # the latter as system titles have it

    def hidden(self, text: bytes) -> bytes:
        """`text` with zeros in the place of every number found."""

        def zeros(found: re.Match[bytes]) -> bytes:
            run = found[0].lstrip(b"0")
            held = run in self._runs or any(len(own) >= SURE_DIGITS and own in run for own in self._runs)
            return b"0" * len(found[0]) if held else found[0]

        return DIGITS.sub(zeros, text)

    def masked(self, octets: bytes) -> bytes:
        """`octets` that name a meter, noted, and without their digits; the maker's letters stay."""
        zeros = _zeros(octets)
        if zeros != octets:
            self.note(octets)
        return zeros

    def blanked(self, text: bytes) -> bytes:
        """A text, but for what a list is called."""
        return text if FORM.fullmatch(text) else blank(text)

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
            if len(run) < SURE_DIGITS:
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


def _code_of(text: str) -> bytes:
    """C, D and E of a code as printed. Raises ValueError."""
    code = bytearray(6)
    octets = text.encode()
    if not parse_code(octets, 0, len(octets), code):
        raise ValueError(f"--keep {text!r}: give a code such as C.2.1 or 0-0:96.13.0, or {IDENT}")
    return bytes(code[2:5])
