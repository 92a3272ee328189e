"""By which powers of ten a Kamstrup counts voltages and powers, as far as one telegram proves it.

Operators set up voltages in 0.01 V and powers in 0.1 W, and the meter's type does not tell it. Reported from Denmark
and Sweden, 2023 to 2025 (amsreader-firmware 421, 814, 970, 1002). Loaded with the first telegram of such a meter.
"""

from metering.compat import const
from metering.dlms.axdr import untagged

_MOST_VOLTS = const(1000)  # more is no voltage of a household
_PHASES = const(4)  # sum, L1, L2, L3: the C of a code is 20 times that, and the quantity
_LEAST_AMPERES = const(10)  # hundredths: below, rounding decides what voltage times current comes to
_SURE_VA = const(500)


class Kamstrup:
    """`voltage` and `power`: the powers of ten of the telegram weighed last."""

    def __init__(self):
        self.voltage = self.power = 0

    def weigh(self, buf, entries, current):
        """Weigh the registers in `entries`, whose currents count 10**current A.

        A voltage above 1,000 is one in 0.01 V unless voltage times current gives the power. A power three to twelve
        times what voltage and current can give, each current one step higher, is one in 0.1 W; that is remembered
        until a power of half of it and more at 500 VA shows the contrary.
        """
        volts = [0] * _PHASES
        amperes = [0] * _PHASES
        watts = 0
        for k in range(entries.n):
            at = entries.codes[k]
            c = buf[at + 2]
            if buf[at + 3] != 7 or not 0 < c <= 80:
                continue
            value = untagged(buf, entries.values[k], entries.tags[k]) or 0
            quantity = (c - 1) % 20 + 1
            if quantity == 12:
                volts[(c - 1) // 20] = value
            elif quantity == 11:
                amperes[(c - 1) // 20] = value
            elif c <= 2:
                watts = max(watts, value)
        places = -current
        self.voltage = 0
        if max(volts) > _MOST_VOLTS:
            product = sum([volts[k] * amperes[k] for k in range(_PHASES)])
            if not 0 < product <= 4 * watts * 10**places:
                self.voltage = -2
                places += 2
        if max(amperes) >= _LEAST_AMPERES and max(volts):
            most = sum([volts[k] * (amperes[k] + 1) for k in range(_PHASES)])  # volt-amperes, times 10**places
            watts *= 10**places
            if 3 * most < watts < 12 * most:
                self.power = -1
            elif most > _SURE_VA * 10**places and 2 * watts > most:
                self.power = 0
