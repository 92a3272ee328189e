"""A general block transfer (DLMS UA 1000-2, 9.4.6.13): one APDU of any service in numbered blocks, from each side.

    E0 | last 80, streaming 40, window 3F | block number 2 | number acknowledged 2 | length, data
"""

from __future__ import annotations

from metering.dlms.axdr import Malformed, ber_length

GENERAL_BLOCKS = 0xE0
_LAST = 0x80
_HEAD = 6


class GeneralBlocks:
    """The blocks of one side."""

    def __init__(self, most: int) -> None:
        self._most = most  # bytes of all
        self.forget()

    def forget(self) -> None:
        self._gathered = b""
        self._number = 0  # of the last one

    def take(self, apdu: bytes) -> bytes:
        """The whole APDU with its last block, else b"". Raises Malformed, and begins anew."""
        if len(apdu) <= _HEAD:
            raise Malformed("general block truncated")
        number = apdu[2] << 8 | apdu[3]
        n, at = ber_length(apdu, _HEAD, len(apdu))
        if n != len(apdu) - at:
            raise Malformed("general block of another length")
        if number == 1:
            self.forget()
        if not n or number == self._number:  # an acknowledge, or sent again
            return b""
        if number != self._number + 1 or len(self._gathered) + n > self._most:
            self.forget()
            raise Malformed(f"general block {number} is not due, or too long")
        self._number = number
        self._gathered += apdu[at:]
        if not apdu[1] & _LAST:
            return b""
        whole = self._gathered
        self.forget()
        return whole
