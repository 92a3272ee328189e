"""Gets attributes of a DLMS meter's objects: GET by logical name, in blocks where the meter wants that."""

from metering.compat import const, signed
from metering.dlms.axdr import ENUM, INT8, STRUCTURE, Malformed, integer, size_of, string_at
from metering.dlms.hdlc_link import MAX_APDU
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.xdlms import EXCEPTION, GET_RESPONSE, SERVICE_ERROR, Answer, get, get_next, result_at

LOST = const(-1)  # an outcome beside data-access-results and 0: the link is lost
OTHER = const(250)  # other reason
_HIGHEST_POWER = const(9)  # of a scaler: giga, nano
_MOST_BLOCKS = const(64)
_DATE_TIME = const(0x19)
_FLOATS = b"\x17\x18"


class Getter:
    """Gets attributes over `link`. Of the last one: `data[at:end]`."""

    def __init__(self, link):
        self.link = link
        self._answer = Answer()
        self._invoke = 0
        self.data: bytes | bytearray = b""
        self.at = self.end = self.exponent = 0

    def number(self):
        """The integer got last, None for anything else."""
        data, at = self.data, self.at
        return integer(data, at) if self.end - at == 1 + size_of(data[at]) else None

    def is_nothing(self):
        """Is it what a register holds that has no value now, null-data or a fraction that is no number?"""
        tag = self.data[self.at]
        return not tag or tag in _FLOATS

    def value(self):
        """The number got last, without its power of ten (`exponent`), which only a binary fraction has; None for
        anything else.
        """
        self.exponent = 0
        value = self.number()
        if value is None and self.data[self.at] in _FLOATS:  # not for each text, and null-data
            from metering.dlms.fraction import fraction

            value = fraction(self)
        return value

    def take(self, wanted, k):
        """Is it a scaler, of a power that a meter may have, and a unit? Then it is that of register `k` in `wanted`."""
        data, at = self.data, self.at
        if self.end - at != 6 or data[at] != STRUCTURE or data[at + 2] != INT8 or data[at + 4] != ENUM:
            return False
        wanted.exponents[k], wanted.units[k] = data[at + 3], data[at + 5]
        return -_HIGHEST_POWER <= signed(data[at + 3], 8) <= _HIGHEST_POWER

    def text(self):
        """The octets or characters got last, the digits of a number; b"" for anything else."""
        data, at = self.data, self.at
        number = self.number()
        if number is not None:
            return b"%d" % number
        if data[at] == _DATE_TIME:
            return bytes(data[at + 1 : self.end])
        try:
            at, n = string_at(data, at, self.end)
        except Malformed:
            return b""
        return bytes(data[at : at + n]) if at + n == self.end else b""

    def forget(self):
        """Another meter is there: what only the last one had."""

    def get(self, class_id, obis, attribute):
        """GET one attribute, in blocks where the meter wants that: 0 with the data in hand, a data-access-result, or
        LOST."""
        link, answer = self.link, self._answer
        self._invoke = (self._invoke + 1) & 0x0F
        invoke = 0xC0 | self._invoke
        message = get(invoke, class_id, obis, attribute)
        blocks = None
        for block in range(1, _MOST_BLOCKS):
            if not (yield from link.request(message)):
                return LOST
            at = len(ANSWER_LLC)
            try:
                if link.apdu[at] in (EXCEPTION, SERVICE_ERROR):
                    return OTHER
                if link.apdu[at] != GET_RESPONSE:
                    raise Malformed("its answer is of another service")
                answer.take(link.apdu, at, link.n)
                if answer.invoke != self._invoke and not (answer.n and link.apdu[answer.at] == 1):  # as Gurux refuses
                    raise Malformed("its answer is to another question")
                if answer.result:
                    return answer.result
                if answer.block < 0 and blocks is None:
                    result, self.at = result_at(link.apdu, answer.at, answer.end)
                    self.data, self.end = link.apdu, answer.end
                    if not result and self.at >= self.end:
                        raise Malformed("its answer holds no data")
                    return result
                if answer.block != block:
                    raise Malformed("a block is missing")
            except Malformed as error:
                link.why = str(error)
                return LOST
            blocks = blocks or bytearray()
            if len(blocks) + answer.end - answer.at > MAX_APDU:
                return OTHER
            blocks.extend(link.apdu[answer.at : answer.end])
            if answer.is_last:
                self.data, self.at, self.end = blocks, 0, len(blocks)
                return 0 if blocks else OTHER
            message = get_next(invoke, block)
        return OTHER
