"""What is believed of telegrams that no strong check covers: of each register the middle of its last three values.

A lone damaged value is never the middle one, or it lies between two right ones. So what passes was sent, or is bounded
by what was sent before and behind it. Nothing needs a threshold, and no register falls silent: each telegram brings one
value, one telegram late. What lasts for one telegram only is left out. Texts are compared as they are sorted: one that
stays passes, one that changes passes with the next telegram.

    a register's      value                    passes
    first             of the first telegram    as it is
    first             later                    nothing: it may be a damaged one's
    second            equal to the first       as it is
    second            of a counter             the lower one
    second            other                    nothing
    third and later   any                      the middle of three
    any               of another type or unit  nothing: it begins anew, as if it were the first

Loaded by metering.guard with the first telegram of that kind: D0 and P1 without a CRC, blocks with a BCC but no parity,
M-Bus frames, wrappers and APDUs without a frame, without a tag.
"""

from metering.compat import const
from metering.reading import decimal_text

MAX_REGISTERS = const(64)  # as many as metering.guard follows counters


def _order(a, a_exponent, b, b_exponent):
    """-1, 0 or 1 where b is below, as or above a; two numbers exactly, two texts as they are sorted."""
    if a_exponent != b_exponent:
        exponent = min(a_exponent, b_exponent)
        a *= 10 ** (a_exponent - exponent)
        b *= 10 ** (b_exponent - exponent)
    return (b > a) - (b < a)


class MiddleOfThree:
    """Remembers the two values before of each register; one list of five a register."""

    def __init__(self):
        self._seen = {}  # OBIS -> [newer value, exponent, older value or None, exponent, unit]
        self._is_first = True  # has no register come twice yet?

    def settle(self, reading, is_counter):
        """Put the value that passes into `reading`; False where none does."""
        obis, value, exponent = reading.obis, reading.value, reading.exponent
        seen = self._seen.get(obis)
        if seen is None:
            if len(self._seen) >= MAX_REGISTERS:
                return False
            self._seen[obis] = [value, exponent, None, 0, reading.unit]
            return self._is_first
        self._is_first = False
        newer, newer_exponent, older, older_exponent, unit = seen
        seen[0], seen[1], seen[2], seen[3] = value, exponent, newer, newer_exponent
        if type(value) is not type(newer) or reading.unit != unit:
            seen[2] = None
            seen[4] = reading.unit
            return False
        rise = _order(newer, newer_exponent, value, exponent)
        if not rise:
            return True  # two of three are this
        if older is None:
            if not is_counter:
                return False
            if rise > 0:
                _put(reading, newer, newer_exponent)
            return True
        before = _order(older, older_exponent, newer, newer_exponent)
        if before * rise >= 0:
            _put(reading, newer, newer_exponent)
        elif before * _order(older, older_exponent, value, exponent) < 0:
            _put(reading, older, older_exponent)
        return True


def _put(reading, value, exponent):
    reading.value = value
    reading.exponent = exponent
    if reading.address is not None:  # it is printed
        reading.printed = decimal_text(value, exponent) if isinstance(value, int) else value
