"""A name server that knows one address: whatever a phone asks for, it is sent to the set-up's page.

Of a query (RFC 1035, 4) the header and its one question are looked at, 512 bytes at the most; what is no such query is
dropped without an answer, so that nothing comes back larger than what a stranger has sent, but for one record.
"""

import select
import socket

from micropython import const

_PORT = const(53)
_MOST_BYTES = const(512)
_MOST_A_LOOK = const(4)  # others wait meanwhile
_HEADER_BYTES = const(12)
_MOST_NAME_BYTES = const(255)
_MOST_LABEL_BYTES = const(63)
_NOT_A_QUERY = const(0xF8)  # QR, and an opcode other than 0, in the third byte
_ONE = b"\x00\x01"  # one question; type A; class IN
_TTL_S = const(5)


def answer(query, address):
    """The answer to `query` (bytes) with the four bytes `address`; None where there is none to give."""
    n = len(query)
    if not _HEADER_BYTES < n <= _MOST_BYTES or query[2] & _NOT_A_QUERY or query[4:6] != _ONE:
        return None
    at = _HEADER_BYTES
    while at < n and query[at]:
        if query[at] > _MOST_LABEL_BYTES:  # a pointer, which a question has not
            return None
        at += query[at] + 1
    end = at + 5  # the name's end, type, class
    if end > n or at - _HEADER_BYTES >= _MOST_NAME_BYTES or query[at + 3 : end] != _ONE:
        return None
    is_a = query[at + 1 : at + 3] == _ONE  # of another type there is nothing, which is an answer too
    flags = bytes((0x84 | query[2] & 1, 0))
    head = query[:2] + flags + _ONE + (_ONE if is_a else b"\x00\x00") + b"\x00\x00\x00\x00"
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00" + bytes((_TTL_S, 0, 4)) + address if is_a else b""
    return head + query[_HEADER_BYTES:end] + record


class NameServer:
    """Answers at `address` (text). Raises OSError where it cannot listen there."""

    def __init__(self, address):
        self._address = bytes([int(part) for part in address.split(".")])
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(socket.getaddrinfo(address, _PORT)[0][-1])
        except OSError:
            self._socket.close()
            raise
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)

    def look(self):
        """Answer what has come, a few at a time."""
        for _ in range(_MOST_A_LOOK):
            if not self._poller.poll(0):
                return
            try:
                query, asker = self._socket.recvfrom(_MOST_BYTES + 1)
                said = answer(query, self._address)
                if said:
                    self._socket.sendto(said, asker)
            except OSError:  # who has asked is gone
                return

    def close(self):
        self._socket.close()
