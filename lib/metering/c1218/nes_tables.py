"""Tables of NES (Echelon, Networked Energy Services) meters of the OSGP kind, whose values have fixed units.

    23, first 8 bytes    forward and reverse active energy, Wh
    28, first 40 bytes   forward and reverse active power, W; two reactive powers, left out; three currents, mA;
                         three voltages, mV

Each value has four bytes without a sign, low byte first. Source: a session of an NES 83334, its values known. Of the
two reactive powers no capture tells which is which.
"""

from metering.compat import const
from metering.reading import Reading

WANTED = ((23, 8), (28, 40))  # (table, bytes from its begin)

_WH = const(30)
_W = const(27)
_A = const(33)
_V = const(35)
_NONE = const(0xFFFFFFFF)  # memory that holds nothing: neither 4.3 GWh nor as many volts are measured
# (table, offset, C of 1-0:C.D.0, D, exponent, unit code of IEC 62056-6-2, 4.3.2)
_ROWS = (
    (23, 0, 1, 8, 0, _WH),
    (23, 4, 2, 8, 0, _WH),
    (28, 0, 1, 7, 0, _W),
    (28, 4, 2, 7, 0, _W),
    (28, 16, 31, 7, -3, _A),
    (28, 20, 51, 7, -3, _A),
    (28, 24, 71, 7, -3, _A),
    (28, 28, 32, 7, -3, _V),
    (28, 32, 52, 7, -3, _V),
    (28, 36, 72, 7, -3, _V),
)
_IDENT = b"\x00\x00\x10\x00\x07\x0f\x11"  # OK, C12.18, version 1.0, a feature that names the device
_IDENT_TEXT = 30  # bytes of the name behind it


def number_of(ident):
    """The number that such a meter's reply to IDENT tells, "" where it tells none or is another kind of meter's."""
    n = len(_IDENT)
    if len(ident) != n + _IDENT_TEXT or ident[:n] != _IDENT:
        return ""
    text = ident[n:].strip(b"\x00 ")
    for byte in text:
        if not 0x21 <= byte <= 0x7E:
            return ""
    return text.decode()


def is_nes(ident):
    """Is that a reply to IDENT of such a meter?"""
    return len(ident) == len(_IDENT) + _IDENT_TEXT and ident[: len(_IDENT)] == _IDENT


def readings(table, data):
    """What the bytes of one of WANTED say."""
    for number, at, c, d, exponent, unit in _ROWS:
        if number == table:
            value = int.from_bytes(data[at : at + 4], "little")
            if value == _NONE:
                continue
            yield Reading(bytes((1, 0, c, d, 0, 255)), value, exponent, unit)
