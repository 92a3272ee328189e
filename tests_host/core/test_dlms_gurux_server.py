"""We ask a meter that is not ours: the server class of gurux-dlms from PyPI (support.gurux_meter).

What it cannot: HighSha256 (it proves without the titles), HighGmac and ciphering (its answer to the association is made
with an error), and GET of an object that it has not (it answers under another number): those are left out.
"""

import pytest
from gurux_dlms.enums import Authentication
from support.dlms_attempt import attempt
from support.gurux_meter import GuruxMeter

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation

PASSWORD = "71043298"
REGISTERS = {"1.0.1.8.0.255": (4711, 0, 30), "1.0.32.7.0.255": (2301, -1, 35)}
LEVELS = {
    "NONE": Authentication.NONE,
    "LOW": Authentication.LOW,
    "HIGH": Authentication.HIGH,
    "HIGHMD5": Authentication.HIGH_MD5,
    "HIGHSHA1": Authentication.HIGH_SHA1,
}


def asked(meter: GuruxMeter, auth: str, password: str = PASSWORD) -> Conversation:
    conversation = Conversation(AskedValues(), password=password)
    words = [f"auth={auth}", "obis_job=" + ",".join(REGISTERS)]
    words += ["type=SN"] * meter.has_short_names + ["mode=DLMS-WRAPPER"] * meter.is_wrapped
    conversation.take_options(" ".join(words))
    assert conversation.explanation == ""
    attempt(conversation, meter)
    return conversation


@pytest.mark.parametrize("auth", LEVELS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["HDLC", "wrapper"])
@pytest.mark.parametrize("short_names", [False, True], ids=["LN", "SN"])
def test_its_registers_are_read(short_names: bool, wrapped: bool, auth: str) -> None:
    meter = GuruxMeter(
        REGISTERS, "12345678", level=LEVELS[auth], password=PASSWORD, short_names=short_names, wrapped=wrapped
    )
    conversation = asked(meter, auth)
    assert conversation.explanation == "" and not conversation.FAREWELL
    values = [(reading.text(), reading.unit) for reading in conversation._listener._values]
    assert values == [("4711", 30), ("230.1", 35)]
    assert conversation._listener._id == "12345678"


@pytest.mark.parametrize("auth", ["LOW", "HIGH", "HIGHMD5"])
def test_it_refuses_a_wrong_password(auth: str) -> None:
    meter = GuruxMeter(REGISTERS, "12345678", level=LEVELS[auth], password=PASSWORD)
    conversation = asked(meter, auth, "12345678")
    assert conversation.failed["password refused"] == 1 and not conversation._listener._values
    assert asked(meter, auth).explanation == ""
