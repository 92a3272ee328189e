"""Our simulated DLMS meter in the hands of a client that is not ours: gurux-dlms from PyPI, unmodified."""

import socket
from typing import Any

import pytest
from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, ObjectType

from optoprobe.virtual.dlms_asked_meter import QUIRKS, AskedDlmsMeter
from optoprobe.virtual.tcp_meter import TcpMeter


class Client:
    """Gurux's client with frames handed to and fro, a second for each."""

    def __init__(self, meter: AskedDlmsMeter, client: int, password: str) -> None:
        level = Authentication.LOW if password else Authentication.NONE
        kind = InterfaceType.WRAPPER if meter.wrapper else InterfaceType.HDLC
        self.gurux = GXDLMSClient(not meter.has_short_names, client, 1, level, password or None, kind)
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


class TcpClient(Client):
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


BY_SHORT_NAMES = [(True, ()), (True, ("segments",))]  # it asks for the next block of those with the tag 00, not 05


@pytest.mark.parametrize(
    ("short_names", "quirks"),
    [*BY_SHORT_NAMES, *((False, quirks) for quirks in ((), ("segments",), ("blocks",), ("segments", "blocks")))],
)
@pytest.mark.parametrize("password", ["", "71043298"])
def test_gurux_reads_its_object_list_and_every_register(
    quirks: tuple[str, ...], password: str, short_names: bool
) -> None:
    meter = AskedDlmsMeter(password=password, quirks=quirks, short_names=short_names)
    client = Client(meter, 32 if password else 16, password)
    read_all(client, meter)
    client.ask(client.gurux.disconnectRequest())
    assert meter.events == ["left properly, 13 values read"] and meter.served == {0x60, 0x05 if short_names else 0xC0}


@pytest.mark.parametrize(
    ("short_names", "quirks", "password"), [(False, (), ""), (False, ("blocks",), "71043298"), (True, (), "71043298")]
)
def test_gurux_reads_it_over_tcp_too(short_names: bool, quirks: tuple[str, ...], password: str) -> None:
    meter = AskedDlmsMeter(password=password, quirks=quirks, short_names=short_names, wrapped=True)
    with TcpMeter(meter) as listening:
        client = TcpClient(listening.path, meter, 32 if password else 16, password)
        with client.socket:
            read_all(client, meter)
            client.ask(client.gurux.releaseRequest())
        listening.check()
    assert meter.events == ["left properly, 13 values read"]
    assert meter.served == {0x60, 0x62, 0x05 if short_names else 0xC0}


def read_all(client: Client, meter: AskedDlmsMeter) -> None:
    """Associate, read the object list and every register, and compare."""
    client.associate()
    objects = client.gurux.parseObjects(client.ask(client.gurux.getObjectsRequest()).data, True)
    registers = [found for found in objects if found.objectType == ObjectType.REGISTER]
    assert len(objects) >= 16 and len(registers) == 13
    for register in registers:
        for attribute in (3, 2):
            value = client.ask(client.gurux.read(register, attribute)).value
            client.gurux.updateValue(register, attribute, value)
    said = {"{}.{}.{}.{}.{}.{}".format(*code_of(row[0])): row for row in meter.read}
    for register in registers:
        _, count, scaler, unit = said[register.logicalName]
        assert register.value == pytest.approx(count * 10**scaler) and int(register.unit) == unit


def code_of(text: str) -> list[int]:
    return [int(part) for part in text.replace("-", ".").replace(":", ".").replace("*", ".").split(".")]


def test_gurux_is_refused_with_a_wrong_password_and_locked_out_after_three() -> None:
    meter = AskedDlmsMeter(password="71043298")
    for _ in range(3):
        with pytest.raises(Exception, match="(?i)authentication"):
            Client(meter, 32, "wrong").associate()
    assert meter.events[-1] == "refuses a password and locks"
    with pytest.raises(Exception, match="(?i)authentication"):
        Client(meter, 32, "71043298").associate()


def test_what_writes_is_refused() -> None:
    meter = AskedDlmsMeter()
    client = Client(meter, 16, "")
    client.associate()
    objects = client.gurux.parseObjects(client.ask(client.gurux.getObjectsRequest()).data, True)
    objects[2].value = 1
    with pytest.raises(Exception):  # noqa: B017 - Gurux's own kinds
        reply = client.ask(client.gurux.write(objects[2], 2))
        assert reply.error == 0
    assert 0xC1 in meter.served


def test_a_wrong_quirk_is_told() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        AskedDlmsMeter(quirks=["nonsense"])
    assert len(QUIRKS) > 8
