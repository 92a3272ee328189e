"""The wrapper of DLMS over TCP (IEC 62056-4-7) as a meter has it: 00 01 | from 2 | to 2 | length 2 | APDU."""

from __future__ import annotations

from collections.abc import Iterator

_HEAD = 8


class Unwrapping:
    """`meter` and `clients`: the ports heeded; what is for others, or no wrapper, is dropped. `partner`: who has spoken
    last of the clients.
    """

    def __init__(self, meter: int, *clients: int) -> None:
        self.meter, self.clients = meter, clients
        self.partner = clients[0]
        self._heard = bytearray()

    def heard(self, value: int) -> Iterator[bytes]:
        """The APDUs that are whole with the byte `value`."""
        heard = self._heard
        heard.append(value)
        if heard[:2] != b"\x00\x01"[: len(heard)]:
            heard.clear()
        elif len(heard) > _HEAD and len(heard) == _HEAD + int.from_bytes(heard[6:8], "big"):
            ports = int.from_bytes(heard[2:4], "big"), int.from_bytes(heard[4:6], "big")
            apdu = bytes(heard[_HEAD:])
            heard.clear()
            if ports[0] in self.clients and ports[1] == self.meter:
                self.partner = ports[0]
                yield apdu

    def wrapped(self, apdu: bytes) -> bytes:
        ports = self.meter.to_bytes(2, "big") + self.partner.to_bytes(2, "big")
        return b"\x00\x01" + ports + len(apdu).to_bytes(2, "big") + apdu
