"""An M-Bus answer of mode 2 (CI 76; EN 1434-3:1997, 6.1), high bytes first: brought into the order of mode 1.

Loaded when one comes. Sources beside the standard: Apator's LQM-III in the tests of ganehag/particle-mbus, whose values
these are, and ELF in rscada/libmbus, issue 150.
"""

from metering.compat import const
from metering.mbus.records import Malformed, walk

_MODE = const(0x1F)
_HEADER = ((1, 5), (5, 7), (11, 13))  # number, maker, configuration


def turn_around(buf, ci_at, at, end):
    """Turn header and records over in place, of the answer whose CI is buf[ci_at] and whose records are buf[at:end].
    The maker's bytes stay. Raises Malformed."""
    for first, behind in _HEADER:
        _turn(buf, ci_at + first, ci_at + behind)
    if buf[at - 1] & _MODE:
        raise Malformed("ciphered, and high byte first")
    for record in walk(buf, at, end):
        if not record.is_tail:
            _turn(buf, record.at, record.end)


def _turn(buf, at, end):
    for i in range((end - at) // 2):
        buf[at + i], buf[end - 1 - i] = buf[end - 1 - i], buf[at + i]
