"""Answers of a meter in Modbus RTU, gathered to one telegram: see metering.modbus.modbus_frame and modbus_map.

The CRC of 16 bits covers each answer, as SML's and KMP's does: an answer comes once, and the guard's rules stand behind
it. Address, function and length must be those that were asked for as well.
"""

from metering.compat import const
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.modbus.modbus_frame import judge
from metering.reading import Reading

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.modbus.modbus_map import ModbusMap

_MOST_BYTES = const(256)


class ModbusAnswer(Listener):
    """Hears the answers to a map's questions; the telegram is the last one's. begin(map, address) for each read-out,
    then ask(i) before the answer to question i is fed whole. `exception` of the answer last judged, 0 for none: what
    that question asked for is left out, and counted."""

    NAME = "modbus"
    LINES = (Line(19200, 8, "E", 1), Line(9600, 8, None, 1), Line(9600, 8, None, 2))
    SOURCE = "MODBUS Application Protocol V1.1b3"
    REASONS = ("length", "checksum", "address", "form")

    def __init__(self, size=_MOST_BYTES):
        Listener.__init__(self, size)
        self._map: ModbusMap | None = None
        self._address = 0
        self._blocks = []  # of each question: the registers' bytes, None while or where there are none
        self._asked = -1
        self.exception = 0

    def begin(self, modbus_map, address):
        """A new read-out: nothing of the one before is left."""
        self.abandon()
        self._map = modbus_map
        self.names_model_only = modbus_map.serial < 0
        self._address = address
        self._blocks = [None] * len(modbus_map.questions)

    def ask(self, i):
        """The next answer is that to question i."""
        self.abandon()
        self._asked = i
        self.exception = 0

    def abandon(self):
        self._release()
        self._skip_noise(self._n)
        self._asked = -1

    def _judge(self):
        n = self._n
        if not n:
            return NOTHING
        if self._asked < 0:  # nobody has asked
            self._skip_noise(n)
            return NOTHING
        i, self._asked = self._asked, -1
        known = self._map
        assert known is not None, "begin() comes first"
        count = known.questions[i][1]
        data, self.exception, reason = judge(bytes(self._view[:n]), self._address, known.function, count)
        if reason:
            return self._reject(reason, "", n)
        self._blocks[i] = data or None
        if i < len(self._blocks) - 1 or not any(self._blocks):
            self._skip_noise(n)
            return NOTHING
        self._reset_telegram()
        for _ in self.readings():
            self.n_values += 1
        self.values_dropped += len(known.rows) - self.n_values
        return self._accept(n)

    def _bytes_at(self, questions, address):
        """(block, place) of a register, (None, 0) where no answer brought it."""
        for i in range(len(questions)):
            first, count = questions[i]
            if first <= address < first + count and self._blocks[i] is not None:
                return self._blocks[i], 2 * (address - first)
        return None, 0

    def readings(self):
        known = self._map
        assert known is not None, "begin() comes first"
        for row in known.rows:
            block, at = self._bytes_at(known.questions, row[0])
            found = None if block is None else known.value(row, block, at)
            if found is not None:
                yield Reading(row[4], found[0], found[1], row[3])

    def meter_id(self):
        """The meter's number; what it is called, where its map names no register of it."""
        known = self._map
        if known is None:
            return ""
        if known.serial < 0:
            return known.name
        block, at = self._bytes_at(known.questions, known.serial)
        number = 0 if block is None else known.number_at(block, at, 2)
        return str(number) if 0 < number < 0xFFFFFFFF else ""

    def printed_id(self):
        return "" if self.names_model_only else self.meter_id()

    def maker(self):
        return self._map.maker if self._map else ""

    def model(self):
        return self._map.name if self._map else ""


LISTENER = ModbusAnswer
