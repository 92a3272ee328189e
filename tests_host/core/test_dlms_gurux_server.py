"""We ask a meter that is not ours: the server class of gurux-dlms from PyPI (support.gurux_meter).

What it cannot: HighSha256 (it proves without the titles), HighGmac and ciphering (its answer to the association is made
with an error), blocks (of which it sends a length or a frame that is none): those are left out. An object that it has
not it refuses under another number than it was asked by.
"""

from datetime import datetime
from typing import Any

import pytest
from gurux_dlms import GXDateTime
from gurux_dlms.enums import Authentication, DataType
from gurux_dlms.objects import GXDLMSClock, GXDLMSExtendedRegister, GXDLMSProfileGeneric, GXDLMSRegister
from gurux_dlms.objects.GXDLMSCaptureObject import GXDLMSCaptureObject
from support.dlms_attempt import attempt
from support.gurux_meter import DemandRegister, GuruxMeter

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from optoprobe.sessions.dlms.asked_lists import Asked, Entry, object_list
from optoprobe.sessions.dlms.load_profile import Column, profile

PASSWORD = "71043298"
REGISTERS = {"1.0.1.8.0.255": (4711, 0, 30), "1.0.32.7.0.255": (2301, -1, 35)}
LEVELS = {
    "NONE": Authentication.NONE,
    "LOW": Authentication.LOW,
    "HIGH": Authentication.HIGH,
    "HIGHMD5": Authentication.HIGH_MD5,
    "HIGHSHA1": Authentication.HIGH_SHA1,
}


def asked(meter: GuruxMeter, auth: str, password: str = PASSWORD, jobs: str = ",".join(REGISTERS)) -> Conversation:
    conversation = Conversation(AskedValues(), password=password)
    words = [f"auth={auth}", "obis_job=" + jobs]
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


WAYS = {"LN": (False, False), "LN, wrapper": (False, True), "SN": (True, False), "SN, wrapper": (True, True)}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def rich(request: pytest.FixtureRequest) -> GuruxMeter:
    """It has an extended register, a demand register and a load profile too."""
    extended, demand, clock = GXDLMSExtendedRegister("1.0.1.6.0.255"), DemandRegister("1.0.1.4.0.255"), GXDLMSClock()
    extended.value, extended.scaler, extended.unit = 4321, 0.01, 27
    extended.setDataType(2, DataType.UINT32)
    demand.currentAverageValue, demand.lastAverageValue, demand.scaler, demand.unit = 111, 222, 10, 27
    for attribute in (2, 3):
        demand.setDataType(attribute, DataType.UINT32)
    energy, profile = GXDLMSRegister("1.0.1.8.0.255"), GXDLMSProfileGeneric("1.0.99.1.0.255")
    profile.capturePeriod, profile.profileEntries, profile.entriesInUse = 3600, 100, 8
    profile.captureObjects = [(clock, GXDLMSCaptureObject(2, 0)), (energy, GXDLMSCaptureObject(2, 0))]
    profile.buffer = [[GXDateTime(datetime(2026, 3, 2, hour)), 1000 + hour] for hour in range(8)]
    short_names, wrapped = request.param
    more = extended, demand, profile
    return GuruxMeter(REGISTERS, "12345678", short_names=short_names, wrapped=wrapped, more=more)


def test_its_extended_and_demand_registers_are_read(rich: GuruxMeter) -> None:
    conversation = asked(rich, "NONE", jobs="1.0.1.6.0.255,1.0.1.4.0.255:2,1.0.1.4.0.255:3,1.0.32.7.0.255")
    assert conversation.explanation == ""
    values = [(reading.text(), reading.unit) for reading in conversation._listener._values]
    assert values == [("43.21", 27), ("1110", 27), ("2220", 27), ("230.1", 35)]


def test_the_last_rows_of_its_profile_and_its_objects_are_read(rich: GuruxMeter) -> None:
    came: list[Any] = []

    def note(columns: list[Column], row: list[Any]) -> None:
        came.append([column.shown(value) for column, value in zip(columns, row, strict=True)])

    words = " ".join(["type=SN"] * rich.has_short_names + ["mode=DLMS-WRAPPER"] * rich.is_wrapped)
    entries: list[Entry] = []
    for what in (profile(bytes((1, 0, 99, 1, 0, 255)), 3, note), object_list(entries.append)):
        reader = Asked(what, AskedValues())
        reader.take_options(words)
        attempt(reader, rich)
        assert reader.explanation == ""
    assert [row[1] for row in came] == [("1005", "Wh"), ("1006", "Wh"), ("1007", "Wh")]
    assert [row[0][0][:13] for row in came] == ["2026-03-02T05", "2026-03-02T06", "2026-03-02T07"]
    assert {entry.class_id for entry in entries} >= {1, 3, 4, 5, 7, 8} and len(entries) >= 7


@pytest.mark.parametrize("auth", ["LOW", "HIGH", "HIGHMD5"])
def test_it_refuses_a_wrong_password(auth: str) -> None:
    meter = GuruxMeter(REGISTERS, "12345678", level=LEVELS[auth], password=PASSWORD)
    conversation = asked(meter, auth, "12345678")
    assert conversation.failed["password refused"] == 1 and not conversation._listener._values
    assert asked(meter, auth).explanation == ""
