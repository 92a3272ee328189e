"""M-Bus answers that are encrypted: read with the right key, named without it, never a wrong value with another one.

They are made by another library (virtual.mbus_encoder, by `cryptography`); pymbusparser, where it is installed, reads
what we make in mode 5, and the CMAC's right values are those of RFC 4493, 4.
"""

import struct
from typing import Any

import pytest
from support.virtual_time import Probe

from metering.listener import NOTHING, TELEGRAM
from metering.mbus import answer_cipher
from metering.mbus.meter_reply import LISTENER, MeterReply
from optoprobe import decoding
from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.mbus_encoder import bcd, record
from optoprobe.virtual.mbus_meter import KEY, MbusMeter

OTHER = bytes(range(16))
RECORDS = record(0x0C, "06", bcd(1234567, 4)) + record(0x0C, "13", bcd(7654321, 4)) + record(0x0A, "5A", bcd(443, 2))
PLAIN = mbus.header(21436587, "ABC", medium=mbus.HEAT, access=0xA7) + RECORDS
VALUES = ["1234567000", "7654.321", "44.3"]
WAYS = {
    "mode 5": mbus.encrypted5(PLAIN, KEY),
    "mode 7": mbus.encrypted7(PLAIN, KEY, 77),
    "mode 7, 16 bytes of MAC, its length told": mbus.encrypted7(PLAIN, KEY, 1 << 31, mac_bytes=16, with_length=True),
    "mode 7 without a MAC": mbus.encrypted7(PLAIN, KEY, 0, mac_bytes=0),
}


def said(body: bytes, key: bytes | None) -> tuple[str, list[str]]:
    """(reason, values) of one answer, by both listeners."""
    found = []
    for made in (MeterReply, LISTENER):
        listener = made()
        listener.set_keys(key)
        data = mbus.frame(body)
        listener.feed(data, 0, len(data))
        event = listener.next_event()
        values = [reading.text() for reading in listener.readings()] if event == TELEGRAM else []
        found.append(("" if event == TELEGRAM else listener.reason, values))
        assert listener.next_event() == NOTHING
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("way", WAYS)
def test_the_key_opens_what_it_closed(way: str) -> None:
    assert said(WAYS[way], KEY) == ("", VALUES)
    assert said(WAYS[way], None) == ("encrypted", [])
    assert said(WAYS[way], OTHER) == ("key wrong", [])


@pytest.mark.parametrize("configuration", [struct.pack("<H", 0x0540), struct.pack("<HB", 0x0730, 0x10)])
def test_what_somebody_deciphered_on_the_way_is_read_where_no_key_is_set(configuration: bytes) -> None:
    """Its header still tells the mode; two fillers stand where the ciphered bytes began. A key wants a ciphered one."""
    head = PLAIN[:11] + configuration
    assert said(head + b"\x2f\x2f" + RECORDS, None) == ("", VALUES)
    assert said(mbus.short_header()[:3] + configuration + b"\x2f\x2f" + RECORDS, None) == ("", VALUES)
    assert said(head + b"\x2f\x2f" + RECORDS, KEY)[1] == []
    assert said(head + b"\x2f" + RECORDS, None) == ("encrypted", [])
    assert said(head + b"\x2f", None) == ("encrypted", [])


def test_an_independent_decoder_reads_the_same() -> None:
    parser = pytest.importorskip("pymbusparser")
    found = parser.parse(mbus.frame(WAYS["mode 5"]), key=KEY)
    assert "1234567" in str(found) and "7654321" in str(found)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (mbus.header(1, "ABC", medium=4, configuration=0x0500) + bytes(16), "structure"),  # no block
        (mbus.header(1, "ABC", medium=4, configuration=0x0520) + bytes(16), "structure"),  # more than there are
        (mbus.header(1, "ABC", medium=4, configuration=0x0710) + b"\x10" + bytes(16), "encrypted"),  # no counter
        (mbus.header(1, "ABC", medium=4, configuration=0x0D10) + bytes(16), "encrypted"),
        (mbus.short_header(configuration=0x0510) + bytes(16), "encrypted"),  # whose number it is, is not said
        (WAYS["mode 7"][:30] + b"\x20" + WAYS["mode 7"][31:], "encrypted"),  # the key is made in another way
        (b"\x90", "structure"),
        (b"\x90\xff\x00\x2c\x25", "structure"),
        (b"\x90\x05\x00\x6c" + WAYS["mode 7"][4:], "structure"),  # one of several fragments
        (b"\x90\x0f\x00\x2c\x28" + WAYS["mode 7"][5:], "structure"),  # another kind of MAC
        (b"\x90\x0e" + WAYS["mode 7"][2:], "structure"),
        (b"\x90\x02\x00\x00" + PLAIN, "structure"),
    ],
)
def test_what_cannot_be_opened_is_said(body: bytes, reason: str) -> None:
    assert said(body, KEY) == (reason, [])


@pytest.mark.parametrize("way", WAYS)
def test_of_a_damaged_one_nothing_is_told_twice(way: str) -> None:
    """Any byte changed, the sum made to fit: told are, of the held answer and the damaged one, right values alone."""
    accepted = []
    for at in range(len(WAYS[way])):
        body = bytearray(WAYS[way])
        body[at] ^= 0x15
        listener = LISTENER()
        listener.set_keys(KEY)
        listener.hold()
        for data in (mbus.frame(WAYS[way]), mbus.frame(bytes(body))):
            listener.feed(data, 0, len(data))
            while event := listener.next_event():
                if event == TELEGRAM:
                    assert {reading.text() for reading in listener.readings()} <= set(VALUES), at
        accepted += [at] * listener.accepted
    if way in ("mode 7", "mode 7, 16 bytes of MAC, its length told"):
        assert accepted == [2]  # the layer's number, which its MAC does not cover


def test_the_codes_are_those_of_the_rfc() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    text = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    codes = {0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c"}
    codes |= {40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe"}
    for n, code in codes.items():
        assert answer_cipher.cmac(key, text[:n]).hex() == code


@pytest.mark.parametrize("quirk", ["mode5", "mode7"])
def test_a_meter_that_encrypts_comes_up_to_the_hub(tmp_path: Any, quirk: str) -> None:
    settings = {"protocol": "mbus", "interval_s": 60}
    with Probe(tmp_path, MbusMeter("water", quirks=[quirk]), {**settings, "meter_key": KEY.hex()}) as probe:
        assert probe.run_until(40, done=lambda: probe.of("/state")), (probe.log, probe.diagnostics())
        assert probe.of("/state")[0].object()["water_volume"] == "4213.370"
        told = probe.diagnostics()
        assert told["rejected"] == 0 and KEY.hex() not in probe.log
    with Probe(tmp_path / "without", MbusMeter(quirks=[quirk]), settings) as probe:
        assert probe.run_until(60, done=lambda: "enter the key" in probe.diagnostics().get("notice", "")), probe.log


def test_decode_takes_the_key() -> None:
    (read,) = decoding.decode(mbus.frame(WAYS["mode 7"]), "mbus", KEY.hex())
    (refused,) = decoding.decode(mbus.frame(WAYS["mode 7"]), "mbus")
    assert isinstance(read, decoding.Telegram) and len(read.readings) == 3
    assert isinstance(refused, decoding.Rejected) and refused.reason == "encrypted"
