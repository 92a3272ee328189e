"""Our own light, seen by a passive head, is taken out of what is received. Loaded by who sends."""

from metering.compat import copy_bytes


class Echo:
    """Takes out of what is received the bytes last sent: a passive head sees its own light.

    `foreign_bytes`: how many bytes began like ours and were not, when remove() found that; 0 otherwise.
    """

    def __init__(self, mask=0xFF):
        """`mask`: the bits that are compared, 0x7F where the parity bits of an echo cannot be relied on."""
        self._mask = mask
        self._sent = bytearray()
        self._returned = 0  # bytes of it that have come back
        self.foreign_bytes = 0

    def expect(self, data):
        """`data` (up to metering.line.MAX_SENT bytes as they stand on the light) has been sent; b"" expects nothing."""
        self._sent = bytearray(data)
        self._returned = self.foreign_bytes = 0

    def is_awaited(self):
        """Has it neither come back whole nor been told from what the meter says?"""
        return bool(self._sent)

    def remove(self, data, n):
        """Take the echo out of data[0:n]; returns how many bytes are left. `data` has room for MAX_SENT bytes more:
        what only began like an echo was the meter's, and is put back in front. Needs no memory.
        """
        sent, mask = self._sent, self._mask
        if not sent:
            return n
        begun = self._returned
        i = 0
        while i < n and begun + i < len(sent) and not (data[i] ^ sent[begun + i]) & mask:
            sent[begun + i] = data[i]  # with the parity bit that came
            i += 1
        self._returned = begun + i
        if self._returned == len(sent):  # all of it came back
            self._sent = bytearray()
            copy_bytes(data, 0, data, i, n - i)
            return n - i
        if i == n:
            return 0
        self._sent = bytearray()
        self.foreign_bytes = begun + i
        for k in range(n - 1, -1, -1):
            data[begun + k] = data[k]
        for k in range(begun):
            data[k] = sent[k]
        return begun + n
