"""What a computer does in its own way gives what the definition gives: any bytes, the same events and readings."""

import random
import runpy
from array import array

import pytest
from support import iec_rows
from support.runs import times

from metering import compat, sml
from metering.checksum import ARC, CCITT, crc_table
from metering.dlms import cosem, push
from metering.iec62056_21 import data_block, data_sets
from metering.kmp import kmp_frame
from metering.listener import NOTHING, TELEGRAM, Listener
from metering.mbus import meter_reply
from metering.on_computer import cosem_learned, library_crc, printed_runs
from optoprobe.virtual import mbus_encoder
from optoprobe.virtual.dlms_lists import LAYOUTS
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter


def events(listener: Listener, stream: bytes, chunk: int) -> list[object]:
    """All that a listener tells of a stream."""
    told: list[object] = []
    at = 0
    while True:
        while (event := listener.next_event()) != NOTHING:
            told.append((event, listener.offset, listener.reason, listener.detail, listener.n_values))
            if event == TELEGRAM:
                told.append((listener.meter_id(), listener.vouched, listener.proven))
                told += [tuple(sorted(vars(reading).items())) for reading in listener.readings()]
        if at == len(stream):
            return [*told, listener.skipped, dict(listener.rejected), listener.values_dropped]
        at += listener.feed(stream, at, min(len(stream), at + chunk))
        if at == len(stream):
            listener.finish()


def mutated(telegrams: list[bytes], chance: random.Random) -> bytes:
    """A few telegrams of one meter, some with bytes changed, lost, doubled or put in from another."""
    stream = bytearray()
    for _ in range(4):
        telegram = bytearray(chance.choice(telegrams))
        for _ in range(chance.choice((0, 0, 1, 2, 5))):
            at = chance.randrange(len(telegram))
            kind = chance.randrange(4)
            if kind == 0:
                telegram[at] = chance.choice(
                    b"()*&!/. 0169-:AFk\r\n\x02\x03\x1b\x77\x62" + bytes((chance.randrange(256),))
                )
            elif kind == 1:
                del telegram[at : at + chance.choice((1, 2, 20))]
            elif kind == 2:
                telegram[at:at] = telegram[at : at + chance.choice((1, 9, 40))]
            else:
                telegram[at:at] = chance.choice(
                    (b"(1)", b"6", b" ", b"*00", b"\r\n", b"(1.5 kWh)", b".5", b"1-3:0.2.8(50)")
                )
            telegram = telegram or bytearray(b"/")
        stream += telegram
    return bytes(stream)


@pytest.mark.parametrize("polynomial", [CCITT, ARC, 0x8810])
@pytest.mark.parametrize("with_library", [True, False])
def test_checksums(polynomial, with_library, monkeypatch):
    if not with_library:
        monkeypatch.setattr(library_crc, "arc", None)
    elif library_crc.arc is None:
        pytest.skip("fastcrc is not installed")
    table = crc_table(polynomial)
    chance = random.Random(polynomial)
    for n in (0, 1, 2, 3, 9, 100, 1001):
        data, begun = chance.randbytes(n), chance.randrange(65536)
        crc = begun
        for byte in data:
            crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        assert library_crc.crc16(memoryview(data), begun, table) == crc
        assert library_crc.crc16(array("B", data), begun, table) == crc


def printed_meters() -> list[list[bytes]]:
    """Telegrams of one meter each."""
    meters = [[data] for _, data, _, _ in iec_rows.ROWS]
    for seed in range(4):
        asked = IecMeter("C", seed=seed, full=bool(seed % 2), history=seed % 3)
        meters.append([asked.identification() + asked.block(60 * k)[0] for k in range(2)])
    return meters


def without_check(telegram: bytes) -> bytes:
    """The same with no block check, so that whatever is changed of it is looked at."""
    return telegram.partition(b"!")[0].replace(b"\x02", b"") + b"!\r\n" if b"\x02" in telegram else telegram


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("size", [3072, 1700])
def test_printed_registers(monkeypatch, history, size):
    chance = random.Random(size + history)
    meters = printed_meters()
    telegrams = [*meters, *([without_check(one) for one in meter] for meter in meters)]
    n_told = 0
    for meter in telegrams:
        for _ in range(times(3)):
            stream, chunk = mutated(meter, chance), chance.choice((1, 64, 5000))
            told = []
            for sets in (printed_runs.DataSets, data_sets.DataSets):
                monkeypatch.setattr(data_block, "DataSets", sets)
                listener = data_block.Iec62056_21(size)
                listener.history = history
                told.append(events(listener, stream, chunk))
            assert told[0] == told[1], stream
            n_told += len(told[0])
    assert n_told > times(1250)


def test_sets_of_several_groups():
    """The sums of a maximum, a list of failures: whatever stands in the brackets, and without the definition's help."""
    chance = random.Random(7)
    addresses = "1-0:99.97.0 0-0:98.1.0 1-0:1.8.0 1.8.0 1.6.1*01 0-1:24.2.1 0-1:24.3.0 9.20 6.8 XX 1-0:13.7.0".split()
    usual = "(2) (0-0:96.7.19) (240523144934S) (0005564711*s) (03.695*kW) (1*x) ()".split()
    other = ["(.5*kW)", "(5.*kW)", "(+1*A)", "(*kW)", "(1**kW)", "(1*kW&2)", "( 1*kW)", "(a*kW)", f"({'9' * 33}*kWh)"]
    n_known = 0
    for k in range(400):
        groups = "".join(chance.choice(usual + other * (k % 4 == 0)) for _ in range(chance.randrange(1, 7)))
        kept = (chance.choice(addresses) + groups).encode() * chance.choice((1, 1, 2))
        told = []
        for kind in (printed_runs.DataSets, data_sets.DataSets):
            buffer = bytearray(kept + bytes(64))
            sets = kind(buffer, memoryview(buffer))
            sets.end, sets.heat = len(kept), k % 3 == 0
            told.append([sorted(vars(reading).items()) for reading in sets.readings()])
        assert told[0] == told[1], kept
        n_known += len(told[0]) > 2 and all(row[0] for row in printed_runs._rows(kept.decode(), False))
    assert n_known > 100


def with_crc_held(monkeypatch):
    """Any CRC of an SML telegram holds, so that whatever is changed of it is looked at."""
    monkeypatch.setattr(
        sml, "crc16", lambda data, crc, table: 0xFFFF ^ int.from_bytes(data.obj[len(data) :][:2], "little")
    )


@pytest.mark.parametrize("any_crc", [False, True])
def test_sml(monkeypatch, any_crc):
    if any_crc:
        with_crc_held(monkeypatch)
    chance = random.Random(any_crc)
    n_told = n_values = 0
    for quirk in (None, *QUIRKS):
        meter = SmlMeter(5, quirks=[quirk] if quirk else [])
        telegrams = [meter.telegram(60 * k) for k in range(3)]
        for _ in range(25):
            stream, chunk = mutated(telegrams, chance), chance.choice((1, 64, 5000))
            told = [events(kind(), stream, chunk) for kind in (sml.LISTENER, sml.Sml)]
            assert told[0] == told[1], stream.hex()
            n_told += len(told[0])
            n_values += sum(isinstance(one, tuple) and len(one) == 4 for one in told[0])
    assert n_told > 2000 and n_values > 500


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "p1"])
def test_dlms(monkeypatch, layout):
    """Any byte of an APDU without a check, changed: what is compared with a form is read as what is taken apart."""
    meter = DlmsMeter(framing="raw", layout=layout, security=0, seed=5)
    telegrams = [meter.telegram(60 * k) for k in range(3)]
    chance = random.Random(layout)
    stream = b"".join(telegrams)
    for at in range(5, len(telegrams[0])):
        telegram = bytearray(chance.choice(telegrams))
        telegram[min(at, len(telegram) - 1)] ^= 1 << chance.randrange(8)
        stream += bytes(telegram) * 2 + telegrams[at % 3]
    told = []
    for kind in (cosem_learned.Cosem, cosem.Cosem):
        monkeypatch.setattr(push, "Cosem", kind)
        told.append(events(push.Dlms(), stream, 5000))
    assert told[0] == told[1]


def test_forms_of_dlms_come_again(monkeypatch):
    """A meter's next telegram is of the form learned, with other numbers and another clock; nothing is taken apart."""
    meter = DlmsMeter(framing="hdlc", layout="kaifa18", security=0, seed=5)
    listener = push.Dlms()
    for k in range(2):
        events(listener, meter.telegram(k), 5000)
    monkeypatch.setattr(cosem.Cosem, "parse", None)
    for k in range(2, 6):
        told = events(listener, meter.telegram(60 * k), 5000)
        assert sum(isinstance(one, tuple) and len(one) == 4 for one in told) > 10


def test_kmp_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(compat, "SLICES_ARE_CHEAP", False)
        definition = runpy.run_path(str(kmp_frame.__file__))["crc16_xmodem"]
    chance = random.Random(2)
    for data in (b"", b"123456789", *map(chance.randbytes, (1, 2, 60, 250))):
        assert kmp_frame.crc16_xmodem(data) == definition(data)
    assert definition(b"123456789") == 0x31C3 and kmp_frame.crc16_xmodem is library_crc.crc16_xmodem


def mbus_frame_of_anything(chance: random.Random) -> bytes:
    """Records of every kind of head and data, some cut, some of anything; its sum holds."""
    body = bytearray()
    for _ in range(chance.randrange(12)):
        dif = chance.choice(b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x14\x4c\x3c\x2f\x8c\xc4")
        body.append(dif)
        if dif & 0x80:
            body.append(chance.randrange(128))
        heads = "06 13 5A 6C 6D 933A 937B FD17 FB01 7C026162 9311 9041 DA6F 78 93FF01"
        head = bytes.fromhex(chance.choice(heads.split()))
        n = (0, 1, 2, 3, 4, 4, 6, 8, 0, 1, 2, 3, 4, 3, 6, 0)[dif & 0x0F]
        data = chance.choice((bytes(n), chance.randbytes(n), b"\x11\x22\x33\x44\x19\x66\x77\x18"[:n]))
        body += head + (b"\x02" + data[:2] if dif & 0x0F == 0x0D else data)
    if chance.random() < 0.3:
        del body[chance.randrange(len(body) + 1) :]
    body += chance.choice((b"", b"", b"\x0f\1\2", b"\x1f", chance.randbytes(9)))
    medium = chance.choice((3, 4, 7, 10))
    return mbus_encoder.frame(mbus_encoder.header(21436587, "ABC", medium=medium) + bytes(body)[:220])


def mbus_events(listener: meter_reply.MeterReply, stream: bytes) -> list[object]:
    told: list[object] = []
    listener.feed(stream, 0, len(stream))
    listener.finish()
    while (event := listener.next_event()) != NOTHING:
        told.append((event, listener.offset, listener.reason, listener.detail, listener.n_values, listener.more))
        for read in (listener.readings, listener.published_readings) if event == TELEGRAM else ():
            told += [tuple(sorted(vars(reading).items())) for reading in read()]
    return [*told, listener.without_value, listener.date_time(), listener.skipped]


def test_mbus_answers() -> None:
    assert meter_reply.LISTENER is not meter_reply.MeterReply
    chance = random.Random(19)
    told = 0
    for _ in range(600):
        frame = mbus_frame_of_anything(chance)
        again = bytearray(frame)
        if len(frame) > 30 and chance.random() < 0.5:
            again[-4] ^= 1
            again[-2] ^= 1 if (again[-4] & 1) else 0xFF
        stream = frame + bytes(again)
        pair = [meter_reply.MeterReply(), meter_reply.LISTENER()]
        if chance.random() < 0.5:
            for listener in pair:
                listener.hold()
        left, right = (mbus_events(listener, stream) for listener in pair)
        assert left == right, frame.hex()
        told += len(left)
    assert told > 900
