"""A protocol that lives in the tests only: a5 5a, eight characters for the meter, Wh in four bytes, their sum."""

from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.reading import Reading

START = b"\xa5\x5a"
LENGTH = 15  # a5 5a, eight characters, four bytes of energy, sum


class Toy(Listener):
    """Its listener."""

    NAME = "toy"
    LINES = (Line(4800),)
    SOURCE = "nobody's"
    REASONS = ("checksum",)

    def __init__(self, size=64):
        Listener.__init__(self, size)

    def _judge(self):
        buf = self._buf
        at = buf.find(START, 0, self._n)
        if at != 0:
            self._skip_noise(at if at > 0 else max(self._n - 1, 0))
        if self._n < LENGTH:
            return NOTHING
        if sum(buf[2 : LENGTH - 1]) & 0xFF != buf[LENGTH - 1]:
            return self._reject("checksum", "", 1)
        self._reset_telegram()
        self.n_values = 1
        return self._accept(LENGTH)

    def readings(self):
        yield Reading(b"\x01\x00\x01\x08\x00\xff", int.from_bytes(self._buf[10:14], "big"), 0, 30)

    def meter_id(self):
        return bytes(self._buf[2:10]).decode() if self.n_values else ""


LISTENER = Toy
