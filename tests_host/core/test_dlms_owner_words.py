"""What the owner says of a DLMS meter: profiles of makers, jobs of any class, times; against a meter of those ways."""

import sys

import pytest

from metering.dlms import meter_profiles
from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.dlms.client_options import Options
from optoprobe.virtual import dlms_encoder as enc
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.line import VirtualLine

PASSWORD = "71043298"
GAMA = bytes.fromhex("000224eb")


class Rich(AskedDlmsMeter):
    """It has an extended register, a demand register, data, and one whose scaler is none."""

    def _objects(self, at_s):
        found = super()._objects(at_s)
        found["1-0:1.6.0*255"] = (4, {2: enc.number(enc.UINT32, 4321), 3: enc.scaler_unit(-2, 27)})
        found["1-0:1.4.0*255"] = (
            5,
            {2: enc.number(enc.UINT32, 111), 3: enc.number(enc.UINT32, 222), 4: enc.scaler_unit(1, 27)},
        )
        found["0-0:96.14.0*255"] = (1, {2: enc.octets(b"T2")})
        found["0-0:96.7.0*255"] = (1, {2: enc.number(enc.UINT16, 7)})
        found["0-0:96.8.0*255"] = (1, {2: enc.float32(1.5)})
        found["1-0:9.9.9*255"] = (3, {2: enc.number(enc.UINT16, 7), 3: enc.octets(b"x")})
        found["1-0:9.9.8*255"] = (1, {2: b"\x04\x08\x55"})
        return found

    def _get(self, item, at_s):
        value = super()._get(item, at_s) if item[:2] != b"\x00\x03" or item[8] != 2 else None
        if value is not None:
            return value
        found = self._objects(at_s).get("{}-{}:{}.{}.{}*{}".format(*item[2:8]))
        return b"\x00" + found[1][2] if found and found[0] == 3 else b"\x01\x04"


def conversation_with(meter, words, password=""):
    conversation = Conversation(AskedValues(), password=password)
    conversation.take_options(words)
    assert conversation.explanation == ""
    return conversation, Bench(meter, VirtualLine(meter.line, echo=True))


JOBS = {
    "1.0.1.8.0.255:2": None,
    "1.0.1.6.0.255": ("43.21", 27),
    "1.0.1.4.0.255:2": ("1110", 27),
    "1.0.1.4.0.255:3": ("2220", 27),
    "0.0.96.14.0.255:2": ("5432", None),
    "0.0.96.7.0.255:2": ("7", None),
    "0.0.96.8.0.255:2": ("1.5", None),
}


@pytest.mark.parametrize("short_names", [False, True])
def test_jobs_of_any_class_are_read_and_the_class_is_found_out_once(short_names):
    meter = Rich(short_names=short_names)
    odd = ",1.0.9.9.9.255:2,1.0.9.9.8.255:2,1.0.7.7.7.255:2"
    conversation, bench = conversation_with(meter, "obis_job=" + ",".join(JOBS) + odd + " type=SN" * short_names)
    assert bench.converse(conversation.read_out()), conversation.explanation
    values = list(conversation._listener._values)
    wanted = [value for value in JOBS.values() if value]
    assert [(reading.text(), reading.unit) for reading in values[1:]] == wanted
    assert values[0].unit == 30 and len(values) == len(JOBS)
    requests = meter.requests
    bench.wait(3000)
    assert bench.converse(conversation.read_out())
    assert meter.requests - requests == 1 + len(JOBS) + 1  # the number, a value each, the clock


def test_a_text_loads_nothing_of_what_reads_fractions(monkeypatch):
    """2.5 KB of a board's heap."""
    monkeypatch.setitem(sys.modules, "metering.dlms.fraction", None)
    conversation, bench = conversation_with(Rich(), "obis_job=0.0.96.14.0.255:2")
    assert bench.converse(conversation.read_out()), conversation.explanation


WAYS = {
    "energomera": ({"client": 32, "password": PASSWORD}, ""),
    "gama": (
        {"server": GAMA, "client": 32, "password": PASSWORD, "sign_on": True, "short_names": True},
        "serial_number=77311421",
    ),
    "iskraemeco": ({}, ""),
    "kamstrup": ({}, ""),
    "landis-gyr": ({"sign_on": True, "short_names": True}, ""),
}


@pytest.mark.parametrize("name", meter_profiles.names())
def test_a_meter_of_each_profile_is_read_through_an_eye_that_echoes(name):
    ways, more = WAYS[name]
    meter = AskedDlmsMeter(**ways)
    conversation, bench = conversation_with(meter, f"profile={name} {more}".strip(), ways.get("password", ""))
    assert bench.converse(conversation.read_out()), conversation.explanation
    assert len(conversation._listener._values) == 13 and not meter.is_linked
    if name == "gama":  # a frame of the field: SNRM of client 32 to a meter whose number ends with 1421
        assert bytes.fromhex("7ea00a000224eb4193aa257e") in bench.sent


def test_what_is_said_itself_holds_against_the_profile():
    options = Options("client_address=100 profile=energomera mode=IEC")
    assert options.numbers["client_address"] == 100 and options.has_sign_on and options.numbers["logical_address"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile=nobody", "profile is one of energomera, gama"),
        ("profile=gama profile=gama", "profile is one of"),
        ("mode=SN", "mode is IEC, DLMS, DLMS-HDLC or DLMS-WRAPPER"),
        ("type=XN", "type is LN or SN"),
        ("password=geheim", "password is a setting of its own, meter_password"),
        ("pasword=geheim", "pasword is not known"),
        ("scan_rate_ms=1e3", "scan_rate_ms is a whole number up to 86400000"),
        ("reconnect_time=86401", "reconnect_time is a whole number up to 86400"),
        ("timeout_ms=10000", "timeout_ms is a whole number up to 9999"),
        ("retry_counter=10", "retry_counter is a whole number up to 9"),
        ("obis_job=1.0.1.8.0.255:1", "obis_job names an attribute from 2 to 15"),
        ("obis_job=1.0.1.8.0.255:x", "obis_job is such as"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_its_key_and_no_secret(text, said):
    with pytest.raises(ValueError) as caught:
        Options(text)
    assert str(caught.value).startswith(said) and "geheim" not in str(caught.value)


def test_times_are_the_owners():
    conversation, bench = conversation_with(AskedDlmsMeter(), "scan_rate_ms=30500 reconnect_time=7")
    assert conversation.pause_s == 31
    bench.converse(conversation.run(), until_s=100)
    assert bench.meter.sessions == 3
    deaf = AskedDlmsMeter(client=99)
    conversation, bench = conversation_with(deaf, "reconnect_time=90 timeout_ms=500 retry_counter=0")
    bench.converse(conversation.run(), until_s=200)
    assert len(bench.sent) in (5, 6)  # SNRM and DISC of each attempt, 91 s apart
