"""A float of 32 bits (IEEE 754) as an exact decimal: an integer and a power of ten, in integers throughout.

Published are as few digits as name this float and no other: of the decimals of n digits the nearest one, for the least
n whose nearest one rounds to the same 32 bits again. Nine are always enough.
"""

from metering.compat import const

_SIGN = const(31)
_FRACTION_BITS = const(23)
_HIDDEN = const(0x800000)
_NO_NUMBER = const(255)  # the exponent of infinities and of what is none
_LEAST = const(-149)  # the power of two of the least bit
_BIAS = const(150)


def decimal_of(bits):
    """(value, exponent of ten) of the float with these 32 bits; None for an infinity and for what is no number."""
    power = bits >> _FRACTION_BITS & 0xFF
    whole = bits & _HIDDEN - 1
    if power == _NO_NUMBER:
        return None
    if power:
        whole |= _HIDDEN
        power -= _BIAS
    else:
        power = _LEAST
    if not whole:
        return 0, 0
    # In quarters of the least bit: half a bit up; down too, but for a power of two, whose lower neighbours lie closer
    at = whole * 4
    up = 2
    down = 1 if whole == _HIDDEN and power > _LEAST else 2
    inside = 0 if whole & 1 else 1  # ties go to the even one
    scale = 1
    power -= 2
    if power > 0:
        at <<= power
        up <<= power
        down <<= power
    else:
        scale <<= -power
    ten, exponent = 1, 0  # of the last digit; at most one digit stands before it
    while at >= 10 * ten * scale:
        ten *= 10
        exponent += 1
    while at < ten * scale:
        at *= 10
        up *= 10
        down *= 10
        exponent -= 1
    while True:
        unit = ten * scale
        digits = (2 * at + unit) // (2 * unit)
        off = digits * unit - at
        if -down - inside < off < up + inside:
            return (-digits if bits >> _SIGN else digits), exponent
        if ten > 1:
            ten //= 10
        else:
            at *= 10
            up *= 10
            down *= 10
        exponent -= 1
