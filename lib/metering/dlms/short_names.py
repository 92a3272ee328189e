"""Gets attributes by short names: READ of a base name and 8 for each attribute (Green Book, 9.5.3; Blue Book, 4.4.3).

The base names are firmware's, and stand in the object list of Association SN (FA00, attribute 2): some kilobytes, read
once, in pieces, of which the names wanted are kept. Each entry has 18 bytes:

    02 04 | 10 base name 2 | 12 class 2 | 11 version | 09 06 OBIS 6
"""

from metering.compat import const
from metering.dlms.axdr import ARRAY, Malformed, ber_length
from metering.dlms.getter import LOST, OTHER, Getter
from metering.dlms.hdlc_link import MAX_APDU
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.xdlms import EXCEPTION, READ_RESPONSE, SERVICE_ERROR, result_at
from metering.dlms.xdlms_read import read, read_next

_OBJECT_LIST = const(0xFA08)
_ENTRY = const(18)
_STEP = const(8)  # of a name, from one attribute to the next
_UNDEFINED = const(4)  # data-access-result of an object that is not in the list
_MOST_BLOCKS = const(256)


class ShortNameGetter(Getter):
    """`wanted`: a list of the OBIS codes that will be asked for. `names`: OBIS -> (class, base name). `memory`: as
    metering.dlms.meter_memory has it, or None.
    """

    def __init__(self, link, wanted, memory=None):
        Getter.__init__(self, link)
        self.wanted = wanted
        self.names = {}
        self._memory = memory
        self._is_known = False
        self._rest = bytearray()  # of the list, not taken apart yet
        self._left = -1  # entries to come, -1: how many is not known

    def forget(self):
        self._is_known = False

    def get(self, class_id, obis, attribute):
        if not self._is_known:
            if self._memory:
                from metering.dlms.kept_names import learn_names

                self._is_known = yield from learn_names(self._memory, self)
            else:
                self._is_known = yield from self.read_list()
            if not self._is_known:
                return LOST
        found = self.names.get(obis)
        if found is None or found[0] != class_id:
            return _UNDEFINED
        return (yield from self.get_named(found[1] + _STEP * (attribute - 1) & 0xFFFF))

    def get_named(self, name):
        """The same of the short `name` of an attribute."""
        result = yield from self._read(read([name]))
        if result or self._answer.block < 0:
            return result
        return (yield from self._gather_blocks())

    def _gather_blocks(self):
        """The first block of one result is in hand, the others are asked for."""
        answer = self._answer
        data = bytearray()
        block = 1
        while block < _MOST_BLOCKS and len(data) + self.end - self.at <= MAX_APDU:
            if answer.block != block:
                self.link.why = "a block is missing"
                return LOST
            data.extend(self.data[self.at : self.end])
            if answer.is_last:
                break
            result = yield from self._read(read_next(block))
            if result:
                return result
            block += 1
        else:
            return OTHER
        self.data, self.end = data, len(data)
        try:
            result, self.at = result_at(data, 1, self.end)
        except Malformed:
            return OTHER
        return result if self.at < self.end else OTHER

    def _read(self, message):
        """A data-access-result, LOST, or 0 with data in hand, of a block too."""
        link, answer = self.link, self._answer
        if not (yield from link.request(message)):
            return LOST
        at = len(ANSWER_LLC)
        try:
            if link.apdu[at] in (EXCEPTION, SERVICE_ERROR):
                return OTHER
            if link.apdu[at] != READ_RESPONSE:
                raise Malformed("its answer is of another service")
            answer.take(link.apdu, at, link.n)
            self.data, self.at, self.end = link.apdu, answer.at, answer.end
            if answer.block >= 0:
                return 0
            result, self.at = result_at(link.apdu, answer.at, answer.end)
            if not result and self.at >= self.end:
                raise Malformed("its answer holds no data")
            return result
        except Malformed as error:
            link.why = str(error)
            return LOST

    def read_list(self):
        """Generator of line actions: is the list read, to its end?"""
        self.names = {}
        self._rest = bytearray()
        self._left = -1
        message = read([_OBJECT_LIST])
        for block in range(1, _MOST_BLOCKS):
            result = yield from self._read(message)
            if result:
                if result != LOST:
                    self.link.why = "it refuses its list of short names"
                return False
            answer = self._answer
            if answer.block >= 0 and answer.block != block:
                self.link.why = "a block is missing"
                return False
            self._rest.extend(self.data[self.at : self.end])
            try:
                self._take_entries(answer.block >= 0)
            except Malformed as error:
                self.link.why = str(error)
                return False
            if answer.block < 0 or answer.is_last:
                break
            message = read_next(block)
        if self._left:
            self.link.why = "its list of short names has no end"
        return not self._left

    def _take_entries(self, is_block):
        rest = self._rest
        at = 0
        if self._left < 0:
            if is_block and rest[:2] == b"\x01\x00":  # a result's list begins with how many, and that it is good
                at = 2
            if len(rest) < at + 4:
                return
            if rest[at] != ARRAY:
                raise Malformed("its list of short names is none")
            self._left, at = ber_length(rest, at + 1, len(rest))
        while self._left and len(rest) - at >= _ENTRY:
            entry = bytes(rest[at : at + _ENTRY])
            head = entry[:2] + entry[5:6] + entry[8:9] + entry[10:12]
            if head != b"\x02\x04\x12\x11\x09\x06" or entry[2] not in b"\x10\x12":
                raise Malformed("its list of short names has another form")
            if entry[12:] in self.wanted:
                self.names[entry[12:]] = entry[6] << 8 | entry[7], entry[3] << 8 | entry[4]
            self._left -= 1
            at += _ENTRY
        self._rest = rest[at:]
