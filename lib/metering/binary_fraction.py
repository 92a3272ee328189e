"""A binary fraction (IEEE 754, 32 or 64 bits) as an exact decimal: an integer and a power of ten, integers throughout.

Published are as few digits as name this number and no other: of the decimals of n digits the nearest one, for the least
n whose nearest one rounds to the same bits again. Nine are always enough for 32 bits, seventeen for 64.
"""

from metering.compat import const

_SINGLE = const(32)
_MOST_PLACES = const(18)  # behind the last digit, or before it: what has more is no meter's value


def value_of(bits, width=_SINGLE):
    """As decimal_of(), and known to its last digit: the power of ten is 0 or less. None too for what no meter means."""
    found = decimal_of(bits, width)
    if found is None or abs(found[1]) > _MOST_PLACES:
        return None
    return (found[0] * 10 ** found[1], 0) if found[1] > 0 else found


def decimal_of(bits, width=_SINGLE):
    """(value, exponent of ten) of the number with these bits, `width` 32 or 64 of them; None for an infinity and for
    what is no number."""
    fraction_bits = 23 if width == _SINGLE else 52
    no_number = (1 << width - 1 - fraction_bits) - 1  # the exponent of infinities and of what is none
    hidden = 1 << fraction_bits
    power = bits >> fraction_bits & no_number
    whole = bits & hidden - 1
    if power == no_number:
        return None
    least = 1 - (no_number >> 1) - fraction_bits  # the power of two of the least bit
    if power:
        whole |= hidden
        power += least - 1
    else:
        power = least
    if not whole:
        return 0, 0
    # In quarters of the least bit: half a bit up; down too, but for a power of two, whose lower neighbours lie closer
    at = whole * 4
    up = 2
    down = 1 if whole == hidden and power > least else 2
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
            return (-digits if bits >> width - 1 else digits), exponent
        if ten > 1:
            ten //= 10
        else:
            at *= 10
            up *= 10
            down *= 10
        exponent -= 1
