"""Our simulated DLMS meter in the hands of a client that is not ours: gurux-dlms from PyPI, unmodified."""

import pytest
from gurux_dlms.enums import Authentication, ObjectType
from support.gurux_client import GuruxClient, GuruxTcpClient

from optoprobe.virtual.dlms_asked_meter import QUIRKS, AskedDlmsMeter
from optoprobe.virtual.tcp_meter import TcpMeter


def client_of(meter: AskedDlmsMeter, client: int, password: str) -> GuruxClient:
    return GuruxClient(meter, client, Authentication.LOW if password else Authentication.NONE, password.encode())


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
    client = client_of(meter, 32 if password else 16, password)
    read_all(client, meter)
    client.ask(client.gurux.disconnectRequest())
    assert meter.events == ["left properly, 13 values read"] and meter.served == {0x60, 0x05 if short_names else 0xC0}


@pytest.mark.parametrize(
    ("short_names", "quirks", "password"), [(False, (), ""), (False, ("blocks",), "71043298"), (True, (), "71043298")]
)
def test_gurux_reads_it_over_tcp_too(short_names: bool, quirks: tuple[str, ...], password: str) -> None:
    meter = AskedDlmsMeter(password=password, quirks=quirks, short_names=short_names, wrapped=True)
    with TcpMeter(meter) as listening:
        level = Authentication.LOW if password else Authentication.NONE
        client = GuruxTcpClient(listening.path, meter, 32 if password else 16, level, password.encode())
        with client.socket:
            read_all(client, meter)
            client.ask(client.gurux.releaseRequest())
        listening.check()
    assert meter.events == ["left properly, 13 values read"]
    assert meter.served == {0x60, 0x62, 0x05 if short_names else 0xC0}


def read_all(client: GuruxClient, meter: AskedDlmsMeter) -> None:
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
            client_of(meter, 32, "wrong").associate()
    assert meter.events[-1] == "refuses a password and locks"
    with pytest.raises(Exception, match="(?i)authentication"):
        client_of(meter, 32, "71043298").associate()


def test_what_writes_is_refused() -> None:
    meter = AskedDlmsMeter()
    client = client_of(meter, 16, "")
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
