"""An energy that pulses add to, and the reading of a display as its owner types it: integers throughout."""

from metering.compat import const

_DECIMALS = const(7)  # of a kWh; 1/640 kWh has as many
_POINT = const(0x2E)
_MOST_DIGITS = const(24)  # of a reading as typed, zeros at its end and the point among them
_MOST_WHOLE = const(8)
_TYPED = "a reading is given in kWh, such as 14798.1"


class Total:
    """An energy that pulses add to, exact: `origin` in 10**-7 kWh, and `count` pulses of 1 / `pulses_per_kwh` since.

    It is shown with `decimals`: as many as a pulse has where 1 / `pulses_per_kwh` comes to an end, else one more than
    the constant has digits (the rest is cut off, but kept in `count`); never fewer than before. All that is shown
    grows; but where more may have been shown before than is known now, as after a loss of power, `least` (10**-7 kWh)
    says how much, and below it is not to be shown.
    """

    def __init__(self, pulses_per_kwh, origin=0, count=0, decimals=0, least=0):
        """Raises ValueError for no positive constant."""
        self.origin = origin
        self.count = count
        self.least = least
        self._count_in(pulses_per_kwh, decimals)

    def _count_in(self, pulses_per_kwh, decimals):
        if pulses_per_kwh <= 0:
            raise ValueError("pulses per kWh: above 0")
        self.pulses_per_kwh = pulses_per_kwh
        own = min(len(str(pulses_per_kwh)) + 1, _DECIMALS)
        for n in range(_DECIMALS + 1):
            if 10**n % pulses_per_kwh == 0:
                own = n
                break
        self.decimals = max(own, decimals)

    def exact(self):
        """The energy in 10**-7 kWh, the rest cut off."""
        return self.origin + self.count * 10**_DECIMALS // self.pulses_per_kwh

    def value(self):
        """The energy as an integer of 10**-decimals kWh; None where it is not to be shown."""
        exact = self.exact()
        return exact // 10 ** (_DECIMALS - self.decimals) if exact >= self.least else None

    def pulses_to(self, value, decimals):
        """How many pulses are missing until value * 10**-decimals kWh is shown; none or less where it has been."""
        missing = value * 10 ** (_DECIMALS - decimals) - self.origin
        return -(-missing * self.pulses_per_kwh // 10**_DECIMALS) - self.count

    def shows(self, value, decimals):
        """Is value * 10**-decimals kWh what a display with so many decimals shows now?"""
        return self.exact() // 10 ** (_DECIMALS - decimals) == value

    def highest(self):
        """What was shown so far, in 10**-7 kWh."""
        value = self.value()
        return self.least if value is None else value * 10 ** (_DECIMALS - self.decimals)

    def stands(self, pulses):
        """It is not to be shown until so many more pulses have come."""
        self.least = max(self.least, self.origin + (self.count + pulses) * 10**_DECIMALS // self.pulses_per_kwh)

    def set(self, value, decimals):
        """The display shows value * 10**-decimals kWh now; what was shown so far stays the least."""
        self.least = self.highest()
        self.go_on(value, decimals, 0)

    def go_on(self, value, decimals, count):
        """It was value * 10**-decimals kWh, shown so, `count` pulses ago."""
        self.origin = value * 10 ** (_DECIMALS - decimals)
        self.count = count
        self.decimals = max(self.decimals, decimals)

    def change(self, pulses_per_kwh):
        """Another constant holds from now on; what was counted so far stays what it was. ValueError as when made."""
        exact = self.exact()
        self._count_in(pulses_per_kwh, self.decimals)
        self.origin = exact
        self.count = 0


def parse_kwh(data):
    """(value, decimals) of a reading as typed, b"14798.1" is (147981, 1). Raises ValueError for all else.

    No sign, no exponent; up to 8 digits before the point and 7 behind it, where zeros at the end are dropped.
    """
    value = decimals = zeros = 0
    point = -1
    for i, byte in enumerate(data):
        if byte == _POINT and point < 0 and i:
            point = i
        elif 0x30 <= byte <= 0x39 and i < _MOST_DIGITS:
            value = value * 10 + byte - 0x30
            decimals += point >= 0
            zeros = zeros + 1 if byte == 0x30 else 0
        else:
            raise ValueError(_TYPED)
    zeros = min(zeros, decimals)
    whole = len(data) if point < 0 else point
    if not 0 < whole <= _MOST_WHOLE or point == len(data) - 1 or decimals - zeros > _DECIMALS:
        raise ValueError(_TYPED)
    return value // 10**zeros, decimals - zeros
