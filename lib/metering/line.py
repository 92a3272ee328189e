"""How bytes stand on the light: the line settings of a head or a meter.

A byte is one start bit, `bits` data bits (lowest first), an optional parity bit and `stop` stop bits. On an optical
port (IEC 62056-21:2002, 4.1) no light is the idle level and a logical 1; a head's receiver shows that as a high RX pin
unless its electronics turn it round (`invert`).
"""


class Line:
    """Settings of one direction-less serial line.

    `baud` in bit/s, `bits` 7 or 8, `parity` None, "E" (even) or "O" (odd), `stop` 1 or 2,
    `invert` True where idle is a low level at the receiver's pin.
    """

    def __init__(self, baud, bits=8, parity=None, stop=1, invert=False):
        if bits not in (7, 8) or parity not in (None, "E", "O") or stop not in (1, 2) or baud <= 0:
            raise ValueError("line settings: 7 or 8 bits, parity None, E or O, 1 or 2 stop bits, baud above 0")
        self.baud = baud
        self.bits = bits
        self.parity = parity
        self.stop = stop
        self.invert = invert

    def __repr__(self):
        inverted = " inverted" if self.invert else ""
        return "%d %d%s%d%s" % (self.baud, self.bits, self.parity or "N", self.stop, inverted)
