"""A register's value that is a binary fraction, float32 or float64 (IEEE 754). Loaded where a meter sends such."""

from metering.binary_fraction import value_of
from metering.compat import const

_FLOAT32 = const(0x17)
_FLOAT64 = const(0x18)


def fraction(getter):
    """The value that `getter` (metering.dlms.getter) got last, without its power of ten, which is `getter.exponent`
    then; None for anything else.
    """
    data, at = getter.data, getter.at
    n = getter.end - at - 1
    if not (data[at] == _FLOAT32 and n == 4 or data[at] == _FLOAT64 and n == 8):
        return None
    found = value_of(int.from_bytes(bytes(data[at + 1 : getter.end]), "big"), 8 * n)
    if found is None:
        return None
    getter.exponent = found[1]
    return found[0]
