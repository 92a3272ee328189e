"""Modbus RTU: frames against independent implementations, floats, maps, and the conversation with a simulated meter.

Right values are those of the simulated meter, which encodes by itself, and of pymodbus and minimalmodbus.
"""

import asyncio
import contextlib
import json
import os
import random
import select
import struct
import threading
import tty
from decimal import Decimal
from fractions import Fraction

import minimalmodbus
import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice
from support.by_hand import converse
from support.runs import times

from metering import protocols
from metering.binary_fraction import decimal_of
from metering.modbus import modbus_frame
from metering.modbus.modbus_answer import ModbusAnswer
from metering.modbus.modbus_map import MapError, ModbusMap
from metering.modbus.modbus_poll import Conversation
from metering.obis import obis_text
from metering.reading import decimal_text
from metering.register import unit_symbol
from optoprobe.serial_line import SerialLine
from optoprobe.source_tree import modbus_maps
from optoprobe.virtual.conversation_bench import Bench
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.modbus_meter import ModbusMeter, crc, framed
from optoprobe.virtual.serial_meter import SerialMeter

MAPS = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in modbus_maps().items()}
EVERY = pytest.mark.parametrize("name", MAPS)


def rows(listener):
    return [(obis_text(r.obis).removesuffix("*255"), r.text(), unit_symbol(r.unit) or "") for r in listener.readings()]


def values(found):
    return sorted((code, Decimal(value), unit) for code, value, unit in found)


def read(meter, name, *, attempts=1, echo=False, address="1"):
    """(conversation, listener, telegrams) of so many read-outs over the virtual line."""
    listener = ModbusAnswer()
    conversation = Conversation(listener, address)
    conversation.take_map(MAPS[name])
    bench = Bench(meter, VirtualLine(meter.line, echo=echo))
    telegrams = []
    for _ in range(attempts):
        bench.converse(conversation.read_out(), on_telegram=lambda ear: telegrams.append(rows(ear)))
    return conversation, listener, telegrams


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_question_is_the_independent_ones():
    framer = FramerRTU(DecodePDU(False))
    for function, kind in ((3, ReadHoldingRegistersRequest), (4, ReadInputRegistersRequest)):
        ask = kind(address=0x1234, count=7, dev_id=17)
        pdu = bytes((ask.function_code,)) + ask.encode()
        assert modbus_frame.question(17, function, 0x1234, 7) == framer.encode(pdu, 17, 0)
    assert modbus_frame.crc(b"123456789") == 0x4B37 and crc(b"123456789") == b"\x37\x4b"


def test_no_function_but_those_that_read_is_encoded():
    """Every function code of a byte, every kind of question: what comes out reads."""
    encoded = set()
    for function in range(256):
        try:
            encoded.add(modbus_frame.question(1, function, 0, 1)[1])
        except ValueError as error:
            assert "function" in str(error)
    assert encoded == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "ask",
    [(0, 3, 0, 1), (248, 3, 0, 1), (1, 3, 0, 0), (1, 3, 0, 126), (1, 3, 65535, 2), (1, 1, 0, 2001), (1, 4, -1, 1)],
)
def test_what_is_no_question_is_refused(ask):
    with pytest.raises(ValueError):
        modbus_frame.question(*ask)


def test_an_answer_is_what_was_asked_for_or_refused():
    good = framed(bytes.fromhex("11 03 04 00 01 86 a0"))
    assert modbus_frame.judge(good, 17, 3, 2) == (bytes.fromhex("000186a0"), 0, "")
    assert modbus_frame.judge(framed(b"\x11\x83\x02"), 17, 3, 2) == (b"", 2, "")
    for answer, reason in (
        (good[:-1], "length"), (b"", "length"), (good + b"\x00", "length"), (good[:-1] + b"\x00", "checksum"),
        (framed(b"\x12" + good[1:-2]), "address"), (framed(b"\x11\x04" + good[2:-2]), "form"),
        (framed(bytes.fromhex("1103020001")), "form"), (framed(b"\x11\x84\x02"), "form"),
        (framed(b"\x11\x83\x00"), "form"),
    ):  # fmt: skip
        assert modbus_frame.judge(answer, 17, 3, 2) == (b"", 0, reason)


def test_the_silence_is_three_and_a_half_characters():
    for baud in (1200, 2400, 4800, 9600, 19200):
        assert modbus_frame.silence_ms(baud) * baud >= 3.5 * 11 * 1000 > (modbus_frame.silence_ms(baud) - 1.01) * baud
    assert modbus_frame.silence_ms(38400) == modbus_frame.silence_ms(115200) == 2


def test_damaged_answers_are_refused():
    """A CRC of 16 bits lets one in 65,536 of arbitrary damage by; up to three turned bits none."""
    n = int(os.environ.get("OPTOPROBE_MODBUS", "2000"))
    draw = random.Random(20)
    good = framed(bytes((1, 4, 36)) + draw.randbytes(36))
    wrong = 0
    for _ in range(n):
        answer = bytearray(good)
        kind = draw.randrange(3)
        if kind == 0:
            for bit in draw.sample(range(8 * len(answer)), draw.randrange(1, 4)):
                answer[bit // 8] ^= 1 << bit % 8
            assert modbus_frame.judge(bytes(answer), 1, 4, 18)[2]
            continue
        if kind == 1:
            at = draw.randrange(len(answer))
            answer[at : at + 6] = draw.randbytes(min(6, len(answer) - at))
        else:
            answer[3:] = draw.randbytes(len(answer) - 3)
        wrong += answer != good and not modbus_frame.judge(bytes(answer), 1, 4, 18)[2]
    assert wrong <= max(1, n * 1.5e-5)


# --- floats ----------------------------------------------------------------------------------------------------------


def exactly(bits):
    return Fraction(struct.unpack(">f", bits.to_bytes(4, "big"))[0])


def names(value, exponent, bits):
    """Does this decimal round to these 32 bits? By the neighbours' exact halves."""
    at = abs(value) * Fraction(10) ** exponent
    bits &= 0x7FFFFFFF
    low = (exactly(bits) + exactly(bits - 1)) / 2 if bits else Fraction(0)
    above = exactly(bits + 1) if bits + 1 < 0x7F800000 else exactly(bits) * 2 - exactly(bits - 1)
    high = (exactly(bits) + above) / 2
    return low <= at <= high if not bits & 1 else low < at < high


def test_a_float_is_named_by_the_fewest_digits():
    draw = random.Random(32)
    some = [0x00000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x4B800000, 0x4B800001, 0x43661999, 0xC2F6E979]
    some += [1 << 23 | 1, *(power << 23 for power in range(1, 255, 7))]
    for bits in some + [draw.randrange(1 << 32) for _ in range(1500)]:
        found = decimal_of(bits)
        if bits >> 23 & 0xFF == 255:
            assert found is None
            continue
        value, exponent = found
        assert (value < 0) == bool(bits >> 31 and value) and names(value, exponent, bits), hex(bits)
        n = len(str(abs(value)))
        assert n <= 9
        if n > 1:  # one digit less: the nearest such decimal is another float's
            unit = Fraction(10) ** (exponent + 1)
            assert not names(round(abs(exactly(bits)) / unit), exponent + 1, bits), hex(bits)


def test_one_of_64_bits_is_what_python_prints():
    draw = random.Random(64)
    for bits in [1, 1 << 52, 0x7FEFFFFFFFFFFFFF] + [draw.randrange(1 << 64) for _ in range(times(200))]:
        (number,) = struct.unpack(">d", bits.to_bytes(8, "big"))
        found = decimal_of(bits, 64)
        if number != number or abs(number) == float("inf"):
            assert found is None
        else:
            assert Decimal(found[0]).scaleb(found[1]) == Decimal(repr(number)), hex(bits)


@pytest.mark.parametrize("text", ["230.1", "0.1", "16777216", "52133.8", "0", "-0.25", "49.98", "100", "1234567.9"])
def test_what_a_meter_means_comes_back(text):
    bits = int.from_bytes(struct.pack(">f", float(text)), "big")
    assert Decimal(decimal_text(*decimal_of(bits))) == Decimal(text)


# --- maps ------------------------------------------------------------------------------------------------------------


def test_there_are_three_maps_with_two_sources_each():
    assert set(MAPS) == {"abb_b23", "carlo_gavazzi_em340", "eastron_sdm630"}
    for data in MAPS.values():
        assert len(data["source"]) >= 2 and "no device has confirmed it" in data["about"]
        assert len(ModbusMap(data).questions) <= 6 and len(ModbusMap(data).rows) == 13


def changed(**keys):
    return json.loads(json.dumps(MAPS["eastron_sdm630"])) | keys


def register(**keys):
    return {"address": 0, "type": "u16", "unit": "V", "obis": "1-0:32.7.0"} | keys


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ([], "the map"),
        (changed(nmae=1), "nmae"),
        (changed(name=""), "name"),
        (changed(name="x" * 41), "name"),
        (changed(maker=7), "maker"),
        (changed(line="9600 7E1"), "line"),
        (changed(line="9601 8N1"), "line"),
        (changed(line=9600), "line"),
        (changed(function=16), "function"),
        (changed(function=1), "function"),
        (changed(function=True), "function"),
        (changed(order="CDAB"), "order"),
        (changed(registers=[]), "registers"),
        (changed(registers=[register()] * 41), "registers"),
        (changed(registers=[3]), "registers[0]"),
        (changed(registers=[register(adress=1)]), "adress"),
        (changed(registers=[register(address=70000)]), "registers[0].address"),
        (changed(registers=[register(address=65535, type="u32")]), "registers[0].address"),
        (changed(registers=[register(address="0")]), "registers[0].address"),
        (changed(registers=[register(type="f64")]), "registers[0].type"),
        (changed(registers=[register(type=["u16"])]), "registers[0].type"),
        (changed(registers=[register(unit="furlong")]), "registers[0].unit"),
        (changed(registers=[register(exponent=13)]), "registers[0].exponent"),
        (changed(registers=[register(exponent=0.1)]), "registers[0].exponent"),
        (changed(registers=[register(obis="1.8.0")]), "registers[0].obis"),
        (changed(registers=[register(obis="1-0:256.7.0")]), "registers[0].obis"),
        (changed(registers=[register(obis="1:0-1.7.0")]), "registers[0].obis"),
        (changed(registers=[register(), register(address=9)]), "registers[1].obis"),
        (changed(registers=[register(type="u32"), register(address=1, obis="1-0:52.7.0")]), "registers[1].address"),
        (changed(registers=[register()], serial=0), "overlaps"),
        (changed(serial=70000), "serial"),
    ],
)
def test_a_map_that_cannot_be_is_refused_with_its_key(data, key):
    with pytest.raises(MapError) as refused:
        ModbusMap(data)
    assert key in str(refused.value)


def test_what_adjoins_is_one_question_and_none_is_too_long():
    assert ModbusMap(MAPS["eastron_sdm630"]).questions == [(0, 18), (52, 2), (70, 6)]
    codes = [f"1-0:{c}.8.0" for c in range(40)]
    many = [register(address=4 * i, type="u64", unit="Wh", obis=code) for i, code in enumerate(codes)]
    assert ModbusMap(changed(registers=many)).questions == [(0, 124), (124, 36)]


@pytest.mark.parametrize(
    ("kind", "exponent", "order", "data", "expected"),
    [
        ("u16", -1, "high", "0901", (2305, -1)),
        ("s16", 0, "high", "ffff", (-1, 0)),
        ("u16", 0, "high", "ffff", None),
        ("s16", 0, "low", "7fff", None),
        ("u32", 0, "high", "0001 86a0", (100000, 0)),
        ("u32", 0, "low", "86a0 0001", (100000, 0)),
        ("s32", -2, "high", "ffff fffe", (-2, -2)),
        ("s32", 0, "high", "8000 0000", None),
        ("s16", 0, "high", "8000", None),
        ("s32", 0, "high", "8000 0001", (1 - (1 << 31), 0)),
        ("s32", 0, "low", "ffff 7fff", None),
        ("u64", 0, "low", "0004 0003 0002 0001", (0x0001000200030004, 0)),
        ("u64", 0, "high", "ffff ffff ffff ffff", None),
        ("f32", 0, "high", "4366 199a", (2301, -1)),
        ("f32", 2, "low", "199a 4366", (2301, 1)),
        ("f32", -1, "high", "4c00 0000", (33554432, -1)),
        ("f32", 0, "high", "474b 2000", (52000, 0)),
        ("f32", 0, "high", "7fc0 0000", None),
        ("f32", 0, "high", "199a 4366", None),
        ("f32", 0, "high", "0000 4366", None),
        ("f32", 0, "low", "0000 7f00", None),
        ("f32", 0, "high", "a97f 0000", None),
        ("f32", 0, "high", "ff80 0000", None),
    ],
)
def test_each_type_is_exact(kind, exponent, order, data, expected):
    row = register(type=kind, exponent=exponent)
    found = ModbusMap(changed(order=order, registers=[row]))
    assert found.value(found.rows[0], bytes.fromhex(data), 0) == expected


def test_no_search_asks_for_it():
    assert protocols.is_asked("modbus")
    assert "modbus" not in [*protocols.searched(), *protocols.knocked_for()]


# --- the conversation ------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("echo", [False, True])
def test_a_meter_is_read_exactly(name, echo):
    meter = ModbusMeter(MAPS[name], address=5)
    conversation, listener, telegrams = read(meter, name, attempts=2, echo=echo, address="5")
    assert [values(found) for found in telegrams] == [values(meter.expected(at_s)) for at_s in (0, 1)]
    assert conversation.failures == 0 and conversation.explanation == "" and listener.values_dropped == 0
    assert meter.functions == {MAPS[name]["function"]: 2 * len(ModbusMap(MAPS[name]).questions)}
    has_number = name == "abb_b23"
    assert listener.meter_id() == ("40271313" if has_number else MAPS[name]["name"])
    assert listener.printed_id() == ("40271313" if has_number else "") and listener.names_model_only is not has_number
    assert listener.maker() == MAPS[name]["maker"] and listener.model() == MAPS[name]["name"]


def test_damage_costs_a_second_attempt_and_no_wrong_value():
    meter = ModbusMeter(MAPS["eastron_sdm630"], quirks=["damaged"])
    conversation, listener, telegrams = read(meter, "eastron_sdm630")
    assert len(telegrams) == 1 and conversation.failures == 0 and listener.rejected["checksum"] == 1
    assert {code for code, _, _ in telegrams[0]} == {row["obis"] for row in MAPS["eastron_sdm630"]["registers"]}


class Doubling(ModbusMeter):
    """Says all twice: a gateway's doing, or another reader's question on the bus."""

    def _answer(self, question, at_s):
        super()._answer(question, at_s)
        self._answers += self._answers[-1:]


class Slow(ModbusMeter):
    """Answers the first question once it has come for the second time, and then that."""

    def _answer(self, question, at_s):
        super()._answer(question, at_s + (0 if self._n else 3.0))


@pytest.mark.parametrize("late", [ModbusMeter, Doubling, Slow])
def test_a_late_answer_is_not_taken_for_the_next_ones(late):
    """Questions of one length: the answer to the first comes while the second waits."""
    places = ((0, "1-0:32.7.0"), (9, "1-0:52.7.0"), (20, "1-0:72.7.0"))
    data = changed(registers=[register(address=address, exponent=-1, obis=obis) for address, obis in places])
    meter = late(data, quirks=["late"] if late is ModbusMeter else [])
    listener = ModbusAnswer()
    conversation = Conversation(listener)
    conversation.take_map(data)
    found = []
    bench = Bench(meter, VirtualLine(meter.line))
    bench.converse(conversation.read_out(), on_telegram=lambda ear: found.extend(rows(ear)))
    told = {code: Decimal(value) for code, value, _ in found}
    whole = {code: int(value) for code, value in told.items()}
    assert whole == {"1-0:32.7.0": 232, "1-0:52.7.0": 234, "1-0:72.7.0": 236}
    assert conversation.failures == 0 and meter.functions == {4: {ModbusMeter: 4, Doubling: 3, Slow: 4}[late]}


def test_what_another_master_is_answered_is_not_taken_for_ours():
    """It has asked the same meter for as many registers, just before us: the meter answers it in 200 ms, and not us."""
    due_ms, others, ours = 200, framed(bytes((1, 4, 2, 0x03, 0xE8))), framed(bytes((1, 4, 2, 0x09, 0x10)))
    asked = []

    def heard(action):
        nonlocal due_ms
        if due_ms is None:
            return ours if asked else b""
        if action[2] < due_ms:
            due_ms -= action[2]
            return b""
        due_ms = None
        return others

    listener = ModbusAnswer()
    conversation = Conversation(listener)
    conversation.take_map(changed(registers=[register(exponent=-1, obis="1-0:32.7.0")]))
    assert converse(conversation.read_out(), heard, asked.append) is True
    assert len(asked) == 1 and [value for _, value, _ in rows(listener)] == ["232.0"]


def test_a_bus_that_is_never_silent_is_not_asked_and_said():
    asked = []
    conversation = Conversation(ModbusAnswer())
    conversation.take_map(MAPS["abb_b23"])
    converse(conversation.read_out(), lambda action: b"\0", asked.append)
    assert not asked and conversation.failed["busy bus"] == 1 and "another master" in conversation.explanation


def test_a_refused_part_is_left_out_counted_and_told():
    meter = ModbusMeter(MAPS["eastron_sdm630"], quirks=["unknown"])
    conversation, listener, telegrams = read(meter, "eastron_sdm630")
    assert len(telegrams[0]) == 4 and listener.values_dropped == 9
    assert "register 0: it has no such registers" in conversation.explanation and conversation.failures == 0


def test_whoever_is_busy_is_asked_later():
    conversation, _, telegrams = read(ModbusMeter(MAPS["abb_b23"], quirks=["busy"]), "abb_b23")
    assert telegrams == [] and conversation.failed["refused"] == 1 and "busy" in conversation.explanation


def test_whoever_is_busy_at_the_last_question_has_told_the_others():
    two = changed(registers=[register(), register(address=9, obis="1-0:52.7.0")])
    listener = ModbusAnswer()
    conversation = Conversation(listener)
    conversation.take_map(two)
    meter = ModbusMeter(two, quirks=["busy"])
    assert Bench(meter, VirtualLine(meter.line)).converse(conversation.read_out()) is True
    assert listener.accepted == 1 and listener.values_dropped == 1 and "busy" in conversation.explanation


def test_a_value_that_is_none_is_left_out():
    for name in MAPS:
        _, listener, telegrams = read(ModbusMeter(MAPS[name], quirks=["nothing"]), name)
        assert len(telegrams[0]) == 12 and listener.values_dropped == 1


def test_nobody_answers_and_there_is_no_map():
    conversation, _, telegrams = read(ModbusMeter(MAPS["abb_b23"], address=9), "abb_b23", attempts=2)
    assert telegrams == [] and conversation.failed["no answer"] == 2 and "address" in conversation.explanation
    unmapped = Conversation(ModbusAnswer())
    with pytest.raises(StopIteration):
        next(unmapped.read_out())
    assert unmapped.failed["no map"] == 1
    for address in ("0", "248", "x"):
        with pytest.raises(ValueError, match="meter_address"):
            Conversation(ModbusAnswer(), address).take_map(MAPS["abb_b23"])


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_only_readings_are_asked_for(seed):
    draw = random.Random(seed)
    conversation = Conversation(ModbusAnswer())
    conversation.take_map(MAPS["abb_b23"])
    asked = []

    def answer(_):
        n = 2 * asked[-1][5] if asked else 0
        body = bytes((1, draw.choice((3, 3, 0x83, draw.randrange(256))), n)) + draw.randbytes(n)
        noise = draw.randbytes(draw.randrange(256))
        return draw.choice((framed(body), framed(body), framed(body[:3]), noise, b""))

    converse(conversation.read_out(), answer, asked.append)
    assert {question[1] for question in asked} <= {1, 2, 3, 4}
    assert sum(conversation.failed.values()) == conversation.failures <= 1


def test_an_independent_client_reads_the_simulated_meter():
    meter = ModbusMeter(MAPS["eastron_sdm630"], reaction_ms=20)
    with SerialMeter(meter) as simulated:
        client = minimalmodbus.Instrument(simulated.path, 1)
        client.serial.baudrate = 9600
        client.serial.timeout = 20
        told = client.read_float(52, functioncode=4)
        client.serial.close()
        simulated.check()
    expected = {code: value for code, value, _ in meter.expected(0)}["1-0:16.7.0"]
    assert abs(told - float(expected)) < 1  # the last digit follows the clock


@contextlib.contextmanager
def joined_ports():
    """Two serial ports' names: what goes into one comes out of the other."""
    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    over = threading.Event()

    def carry():
        masters = [master for master, _ in ends]
        while not over.is_set():
            for master in select.select(masters, [], [], 0.05)[0]:
                os.write(masters[1 - masters.index(master)], os.read(master, 1024))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    try:
        yield [os.ttyname(slave) for _, slave in ends]
    finally:
        over.set()
        thread.join()
        for master, slave in ends:
            os.close(master)
            os.close(slave)


@contextlib.contextmanager
def served(port, device):
    """pymodbus's server on `port`, in a thread."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve():
        server = ModbusSerialServer(device, port=port, baudrate=9600)
        await server.serve_forever(background=True)
        ready.set()
        return server

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    try:
        assert ready.wait(60)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.shutdown(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def test_an_independent_server_is_read():
    """pymodbus encodes the floats, and refuses what it does not hold."""
    phases = [230.1, 229.9, 231.4, 1.03, 0.5, 12.25, 236.9, 115.0, -2834.7]
    device = SimDevice(
        3,
        [
            SimData(0, values=phases, datatype=DataType.FLOAT32),
            SimData(52, values=-2482.8, datatype=DataType.FLOAT32),
        ],
    )
    listener = ModbusAnswer()
    conversation = Conversation(listener, "3")
    conversation.take_map(MAPS["eastron_sdm630"])
    found = []
    with joined_ports() as (theirs, ours), served(theirs, device), SerialLine(ours) as line:
        line.drive(conversation.read_out(), lambda ear: found.extend(rows(ear)))
    assert [Decimal(value) for _, value, _ in found] == [Decimal(str(value)) for value in [*phases, -2482.8]]
    assert listener.values_dropped == 3 and "register 70: it has no such registers" in conversation.explanation
