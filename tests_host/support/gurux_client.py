"""The client of gurux-dlms (PyPI), unmodified, in front of a simulated DLMS meter."""

import socket
from typing import Any

from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, Security
from gurux_dlms.objects.enums import SecuritySuite
from gurux_dlms.secure import GXDLMSSecureClient

from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter


class GuruxClient:
    """Frames handed to and fro, a second for each."""

    def __init__(self, meter: AskedDlmsMeter, client: int, level: Any, password: bytes = b"") -> None:
        kind = InterfaceType.WRAPPER if meter.wrapper else InterfaceType.HDLC
        self.gurux = GXDLMSSecureClient(not meter.has_short_names, client, 1, level, password or None, kind)
        self._is_proven = level > Authentication.LOW
        self._meter = meter
        self._now_s = 0.0

    def ask(self, frames: Any) -> GXReplyData:
        reply = GXReplyData()
        for frame in frames if isinstance(frames, list) else [frames]:
            self._exchange(frame, reply)
        while reply.isMoreData():
            self._exchange(self.gurux.receiverReady(reply), reply)
        return reply

    def _exchange(self, frame: Any, reply: GXReplyData) -> None:
        self._now_s += 1
        for byte in bytes(frame):
            self._meter.receive(byte, self._now_s)
        said = b""
        while (piece := self._meter.poll(self._now_s + 9, self._now_s + 9)) is not None:
            said += piece.data
        assert self.gurux.getData(GXByteBuffer(said), reply, GXReplyData()), said.hex()

    def associate(self) -> None:
        if not self._meter.wrapper:
            self.gurux.parseUAResponse(self.ask(self.gurux.snrmRequest()).data)
        self.gurux.parseAareResponse(self.ask(self.gurux.aarqRequest()).data)
        if self._is_proven:
            proof = self.ask(self.gurux.getApplicationAssociationRequest())
            self.gurux.parseApplicationAssociationResponse(proof.data)


class GuruxTcpClient(GuruxClient):
    """The same over a socket."""

    def __init__(self, path: str, *client: Any) -> None:
        super().__init__(*client)
        host, _, port = path.partition(":")
        self.socket = socket.create_connection((host, int(port)), 60)

    def _exchange(self, frame: Any, reply: GXReplyData) -> None:
        self.socket.sendall(bytes(frame))
        said = GXByteBuffer(self.socket.recv(4096))
        while not self.gurux.getData(said, reply, GXReplyData()):
            said.set(self.socket.recv(4096))


def convinced_client(meter: AskedDlmsMeter, level: Any) -> GuruxClient:
    """With what the `meter` demands."""
    assert meter.security is not None
    demands = meter.security.demands
    client = GuruxClient(meter, meter.client[0] >> 1, level, demands.password)
    ciphering = client.gurux.ciphering
    ciphering.systemTitle = b"OPTtest1"
    ciphering.securitySuite = SecuritySuite(demands.suite)
    ciphering.security = Security(demands.policy)
    ciphering.invocationCounter = demands.counter + 1
    if demands.key:
        ciphering.blockCipherKey, ciphering.authenticationKey = demands.key, demands.auth_key
    return client
