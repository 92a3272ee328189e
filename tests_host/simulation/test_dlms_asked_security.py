"""Our simulated DLMS meter and a client that is not ours convince each other: gurux-dlms from PyPI, unmodified."""

import pytest
from gurux_dlms.enums import Authentication, ObjectType
from support.gurux_client import convinced_client

from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_asked_security import GMAC, HIGH, MD5, SHA1, SHA256, Demands

PASSWORD = b"71043298"
KEYS = {"key": bytes(range(16)), "auth_key": bytes(range(0xD0, 0xE0))}
LEVELS = {
    HIGH: Authentication.HIGH,
    MD5: Authentication.HIGH_MD5,
    SHA1: Authentication.HIGH_SHA1,
    SHA256: Authentication.HIGH_SHA256,
    GMAC: Authentication.HIGH_GMAC,
}


# By short names it proves by a WRITE, where the standard, jDLMS and Gurux's own library in C have a READ.
@pytest.mark.parametrize("ways", [{}, {"wrapped": True}], ids=["HDLC", "wrapper"])
@pytest.mark.parametrize(
    "demands",
    [
        *(Demands(mechanism, PASSWORD) for mechanism in (HIGH, MD5, SHA1, SHA256)),
        *(Demands(GMAC, policy=policy, **KEYS) for policy in (0, 0x10, 0x20, 0x30)),
    ],
    ids=lambda demands: f"{demands.mechanism}-{demands.policy:02x}",
)
def test_gurux_convinces_and_is_convinced_and_reads(demands: Demands, ways: dict[str, bool]) -> None:
    meter = AskedDlmsMeter(demands=demands, **ways)
    client = convinced_client(meter, LEVELS[demands.mechanism])
    client.associate()
    assert meter.is_associated
    register = client.gurux.createObject(ObjectType.REGISTER)
    register.logicalName = "1.0.1.8.0.255"
    for attribute in (3, 2):
        value = client.ask(client.gurux.read(register, attribute)).value
        client.gurux.updateValue(register, attribute, value)
    _, count, scaler, unit = meter.read[0]
    assert register.value == pytest.approx(count * 10**scaler) and int(register.unit) == unit
    farewell = client.gurux.releaseRequest if meter.wrapper else client.gurux.disconnectRequest
    client.ask(farewell())
    assert meter.events == ["left properly, 1 values read"] and meter.served - {0x62} == {0x60, 0xC3, 0xC0}
