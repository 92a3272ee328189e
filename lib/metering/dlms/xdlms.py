"""What a meter is asked, and how it answers: GET by logical name, READ by short name (Green Book 9.5; IEC 62056-5-3).

    C0 01 id | class 2 | obis 6 | attribute | 00             C4 01 id | 00 data, 01 result
    C0 02 id | block 4                                       C4 02 id | last | block 4 | 00 length data, 01 result
    C0 03 id | n | (class, obis, attribute, 00) ..           C4 03 id | n | (00 data, 01 result) ..
    05 n | 02 name 2 ..                                      0C n | 00 data, 01 result ..
    05 01 | 05 block 2                                       0C 01 | 02 last | block 2 | length data
    C3 01 id | 000F 0000280000FF 01 01 | 09 length proof     C7 01 id | result | 01 | 00 data
    05 01 | 04 FA58 00 | 09 length proof                     0C 01 | 00 09 length proof

Read only: what is built is GET, here, a list of them in metering.on_computer.get_list, READ in metering.dlms.xdlms_read
and the one ACTION that proves a password in metering.dlms.high, by short names a READ too. There is no SET, no WRITE.
"""

from metering.compat import const
from metering.dlms.axdr import Malformed, ber_length

GET_REQUEST = const(0xC0)
GET_RESPONSE = const(0xC4)
READ_REQUEST = const(0x05)
READ_RESPONSE = const(0x0C)
ACTION_REQUEST = const(0xC3)
ACTION_RESPONSE = const(0xC7)
EXCEPTION = const(0xD8)
SERVICE_ERROR = const(0x0E)

NORMAL = const(1)  # of GET; the others are NEXT and LIST
NEXT = const(2)
LIST = const(3)
BY_NAME = const(2)  # of READ; the others are PARAMETERS and BLOCK
PARAMETERS = const(4)
BLOCK = const(5)


def get(invoke, class_id, obis, attribute):
    """A GET of one attribute; `obis` 6 bytes, `invoke` the byte of id and priority."""
    return bytes((GET_REQUEST, NORMAL, invoke)) + item(class_id, obis, attribute)


def get_next(invoke, block):
    """A GET of what follows block number `block`."""
    return bytes((GET_REQUEST, NEXT, invoke, block >> 24 & 0xFF, block >> 16 & 0xFF, block >> 8 & 0xFF, block & 0xFF))


def item(class_id, obis, attribute):
    """The attribute of an object, as a GET names it."""
    return bytes((class_id >> 8, class_id & 0xFF)) + obis + bytes((attribute, 0))


class Answer:
    """What a response brings. `invoke` GET's id, -1 of READ; `block` its number, -1 for what is no block, `is_last`;
    `at`, `end`: the data in the buffer, `n` results of it; `result` of a single or a block that failed, else 0.
    """

    def __init__(self):
        self.invoke = self.block = -1
        self.is_last = True
        self.at = self.end = self.n = self.result = 0

    def take(self, buf, at, end):
        """Take the response buf[at:end] apart. With n > 0 the data are n results (result_at). Raises Malformed."""
        self.invoke = self.block = -1
        self.is_last = True
        self.n = self.result = 0
        self.end = end
        if end - at < 4:
            raise Malformed("response truncated")
        if buf[at] == READ_RESPONSE:
            self._take_read(buf, at + 1, end)
            return
        kind = buf[at + 1]
        self.invoke = buf[at + 2] & 0x0F
        at += 3
        if kind == NORMAL:
            self.n = 1
            self.at = at
        elif kind == LIST:
            self.n = buf[at]
            self.at = at + 1
        elif kind == NEXT and end - at >= 7:
            self.is_last = buf[at] != 0
            self.block = buf[at + 1] << 24 | buf[at + 2] << 16 | buf[at + 3] << 8 | buf[at + 4]
            if buf[at + 5]:
                self.result = buf[at + 6] or 250
                self.is_last = True
                return
            self._take_block(buf, at + 6, end)
        else:
            raise Malformed("response of kind %d" % kind)

    def _take_read(self, buf, at, end):
        self.n = buf[at]
        self.at = at + 1
        if self.n == 1 and buf[at + 1] == 2:
            if end - at < 6:
                raise Malformed("response truncated")
            self.n = 0
            self.is_last = buf[at + 2] != 0
            self.block = buf[at + 3] << 8 | buf[at + 4]
            self._take_block(buf, at + 5, end)

    def _take_block(self, buf, at, end):
        n, self.at = ber_length(buf, at, end)
        if n != end - self.at:
            raise Malformed("block of another length")


def result_at(buf, at, end):
    """(0, where the data begin) of a result, else (data-access-result, where it ends). Raises Malformed."""
    if end - at < 2:
        raise Malformed("result truncated")
    if buf[at] == 0:
        return 0, at + 1
    if buf[at] != 1:
        raise Malformed("result of kind %d" % buf[at])
    return buf[at + 1] or 250, at + 2
