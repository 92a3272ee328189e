"""What a request of a recorded session asks: the side that metering.dlms.xdlms builds, taken apart."""

from __future__ import annotations

from metering.dlms.axdr import Malformed
from metering.dlms.xdlms import BLOCK, BY_NAME, LIST, NEXT, NORMAL, PARAMETERS, READ_REQUEST
from metering.dlms.xdlms_read import MAX_ITEMS

_ITEM = 10  # bytes of a GET's item, with its 00


class Asked:
    """What a request asks. `items`: (class, obis, attribute, with selector) of GET, (0, b"", name, with parameters) of
    READ. `invoke`: GET's id, -1 of READ. `is_next`: it goes on with what was asked before.
    """

    def __init__(self) -> None:
        self.items: list[tuple[int, bytes, int, bool]] = []
        self.invoke = -1
        self.is_next = self.is_list = False

    def is_as(self, other: Asked) -> bool:
        """Is it the same question, so that an answer to one answers the other?"""
        known = (self.invoke, self.is_list, self.is_next)
        if any(selected for *_, selected in self.items):  # which rows, is not held
            return False
        return known == (other.invoke, other.is_list, other.is_next) and self.items == other.items

    def take(self, buf: bytes | bytearray, at: int, end: int) -> None:
        """Take the request buf[at:end] apart; a list ends at an item with a selector. Raises Malformed."""
        self.items = []
        self.is_next = self.is_list = False
        if buf[at] == READ_REQUEST:
            self.invoke = -1
            self._take_names(buf, at + 1, end)
            return
        if end - at < 4:
            raise Malformed("request truncated")
        kind = buf[at + 1]
        self.invoke = buf[at + 2] & 0x0F
        at += 3
        if kind == NEXT:
            self.is_next = True
            return
        n = 1
        if kind == LIST:
            self.is_list = True
            n = buf[at]
            at += 1
        elif kind != NORMAL:
            raise Malformed(f"request of kind {kind}")
        if not 0 < n <= MAX_ITEMS:
            raise Malformed(f"request of {n} items")
        for _ in range(n):
            if end - at < _ITEM:
                raise Malformed("request truncated")
            selected = buf[at + 9] != 0
            if selected and n > 1:
                raise Malformed("a list with a selector")
            self.items.append((buf[at] << 8 | buf[at + 1], bytes(buf[at + 2 : at + 8]), buf[at + 8], selected))
            at += _ITEM

    def _take_names(self, buf: bytes | bytearray, at: int, end: int) -> None:
        if at >= end or not 0 < buf[at] <= MAX_ITEMS:
            raise Malformed("request of no items or too many")
        n = buf[at]
        at += 1
        self.is_list = True
        for _ in range(n):
            if end - at < 3:
                raise Malformed("request truncated")
            kind = buf[at]
            if kind == BLOCK and n == 1:
                self.is_next = True
                return
            if kind != BY_NAME and not (kind == PARAMETERS and n == 1):
                raise Malformed(f"item of kind {kind}")
            self.items.append((0, b"", buf[at + 1] << 8 | buf[at + 2], kind == PARAMETERS))
            at += 3
