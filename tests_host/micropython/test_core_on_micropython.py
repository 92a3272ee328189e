"""The core on the MicroPython runtime it is written for: 32 bits, 64 KiB of heap, compiled by mpy-cross as on a board.

The scripts in on_micropython/ run in subprocesses; those that are plain Python run on CPython too, and both must print
the same. The unix port computes floats in double precision, an ESP32 in single: no text here may come by way of either.
"""

import functools
import json
import os
import re
from decimal import Decimal

import pytest
from support import dlms_rows, iec_rows, two_pythons
from support.core_on_micropython import micropython, printed, printed_by_cpython
from support.corpus import recorded, recording

from metering import protocols
from metering.characters import with_parity
from metering.iec62056_21 import data_block as iec62056_21
from metering.listener import NOTHING
from metering.sml import BUFFER_SIZE
from optoprobe.environment import runtime
from optoprobe.virtual import dlms_encoder as dlms
from optoprobe.virtual import sml_encoder as sml
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_encoder import Entry
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

DLMS_HEAP = "80k"  # what few meters need is loaded with the first of each: here they come one behind the other
ROOMY = "256k"  # where a script holds a whole stream
IEC_BUFFER = 12 * 1024  # holds the longest read-out of the corpus, 9,528 bytes, with its history

# Bytes measured on the 32-bit unix port 1.25 from .mpy, and 15 % to spare. What the README quotes comes from here.
MEASURED = {
    "listens": 12_944,  # the listener's module and what it imports
    "rest_of_core": 13_856,  # guard, obis, protocols, register, registers; the pool of names doubles here
    "listener": 1_968,  # with its buffer of 1,536
    "telegram_in_hand": 2_224,  # 22 readings kept at a time
    "guard_and_registers": 2_400,  # following these 22
}


IEC_MEASURED = {
    "listens": 29_584,  # metering.iec62056_21.data_block and what it imports
    "rest_of_core": 12_064,
    "listener": 3_776,  # with its buffer of 3,072
    "telegram_in_hand": 7_568,  # 37 readings kept at a time
    "guard_and_registers": 4_800,  # following these 37
}
DLMS_MEASURED = {
    "listens": 33_296,  # metering.dlms.push and what it imports
    "rest_of_core": 11_792,
    "listener": 20_560,  # its buffer of 3,072, dlms.security, gcm with its tables; the pool of names doubles here
    "telegram_in_hand": 1_120,  # 11 readings kept at a time
    "guard_and_registers": 1_328,  # following these 11
}
HIGH_WATER = 43_296  # the module, a listener with a buffer of 12 KiB, and the longest read-out of the corpus


def test_this_is_micropython_and_its_core_is_bytecode(core):
    code, out, errors = micropython(core, "where.py")
    assert code == 0, errors
    implementation, word_bits, came_from = out.split()
    assert (implementation, came_from) == ("micropython", "metering/sml.mpy")
    assert word_bits == "32" or os.environ.get(runtime.MICROPYTHON_OVERRIDE)


# --- the same results ------------------------------------------------------------------------------------------------


def parsed(out):
    """What decode_files.py printed: {file name: [[(OBIS or address, text, unit or None), ...], ...]}."""
    files, telegrams = {}, []
    for line in out.splitlines():
        word = line.split(" ")[0]
        if word == "file":
            telegrams = files[line[5:]] = []
        elif word == "telegram":
            telegrams.append([])
        elif "|" in line:
            obis, text, unit = line.split("|")[:3]
            telegrams[-1].append((obis, text, unit or None))
    return files


def rows():
    """(file name, bytes, expected) of every quirk; five telegrams each, as some quirks move."""
    for quirk in (None, *QUIRKS):
        meter = SmlMeter(11, quirks=[quirk] if quirk else [], pv_peak_w=4000)
        telegrams, expected = [], []
        for k in range(5):
            telegrams.append(meter.telegram(60 * k))
            expected.append(meter.expected())
        yield f"{quirk or 'plain'}.bin", b"\x1b\x1b".join(telegrams) + telegrams[0][:99], expected


def test_our_own_rows(core, tmp_path):
    wanted = {}
    for name, data, expected in rows():
        (tmp_path / name).write_bytes(data)
        wanted[name] = expected
    paths = sorted(tmp_path.glob("*.bin"))
    for chunk in (1, 100):
        out = printed(core, "decode_files.py", "sml", chunk, 0, *paths)
        assert parsed(out) == wanted
        assert out.count("end 5 1\n") == len(wanted)
        assert out == printed_by_cpython("decode_files.py", "sml", chunk, 0, *paths)


def test_our_own_rows_of_printed_registers(core, tmp_path):
    wanted = {}
    for k, (name, data, expected, _) in enumerate([*iec_rows.ROWS, iec_rows.LONG_ROW]):
        (tmp_path / f"{k:02d}.bin").write_bytes(data + data[:-9])
        wanted[f"{k:02d}.bin"] = [expected]
        assert name
    paths = sorted(tmp_path.glob("*.bin"))
    for chunk in (1, 100):
        out = printed(core, "decode_files.py", "iec62056-21", chunk, IEC_BUFFER, *paths)
        assert parsed(out) == wanted
        assert out.count("end 1 1\n") == len(wanted)
        assert out == printed_by_cpython("decode_files.py", "iec62056-21", chunk, IEC_BUFFER, *paths)


def norm(value):
    """Decimals compare as numbers: the corpus may write 0.0 where we write 0."""
    text = str(value)
    return Decimal(text).normalize() if re.fullmatch(r"[+-]?\d{1,25}(\.\d+)?", text) else text.lower()


def test_corpus(core):
    captures = recorded("sml/*.bin")
    out = printed(core, "decode_files.py", "sml", 256, 0, *captures)
    found = parsed(out)
    for capture in captures:
        content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
        wanted = [
            [(r["obis"], norm(r["value"]), r.get("unit") or None) for r in t["readings"] if r["type"] != "null"]
            for t in content["telegrams"]
            if t["crc_ok"]
        ]
        got = [[(obis, norm(text), unit) for obis, text, unit in t] for t in found[capture.name]]
        assert got == wanted, capture.name
    assert (len(found), sum(map(len, found.values()))) == (34, 179)
    assert out == printed_by_cpython("decode_files.py", "sml", 256, 0, *captures)


def test_corpus_of_printed_registers(core):
    captures = recorded("iec62056_21/*.bin")
    out = printed(core, "decode_files.py", "iec62056-21", 256, IEC_BUFFER, *captures)
    found = parsed(out)
    sets = 0
    for capture in captures:
        content = json.loads(capture.with_name(capture.stem + ".expected.json").read_text())
        good = [t for t in content["telegrams"] if t["accept"] is True]
        assert found[capture.name] == [iec_rows.wanted_of(t) for t in good], capture.name
        sets += sum(len(t["readings"]) for t in good)
    assert (len(found), sum(map(len, found.values())), sets) == (44, 59, 2080)
    assert out == printed_by_cpython("decode_files.py", "iec62056-21", 256, IEC_BUFFER, *captures)


def decoded_dlms(core, folder, chunk, telegrams, heap=DLMS_HEAP):
    """What both runtimes print of `telegrams`, (name, bytes, key, auth_key) each."""
    paths = []
    for name, data, key, auth_key in telegrams:
        paths.append(folder / name)
        paths[-1].write_bytes(data)
        (folder / f"{name}.keys").write_text(" ".join(k.hex() if k else "-" for k in (key, auth_key)))
    out = ""
    for k in range(0, len(paths), 8):  # few enough that their names do not fill the heap
        out += printed(core, "decode_files.py", "dlms", chunk, 0, *paths[k : k + 8], heap=heap)
    assert out == printed_by_cpython("decode_files.py", "dlms", chunk, 0, *paths)
    return out


def test_our_own_rows_of_dlms(core, tmp_path):
    rows = [row for row in dlms_rows.ROWS if row.has_check]
    telegrams = [(f"{k:02d}.bin", r.data + r.data[:40], r.meter.key, r.meter.auth_key) for k, r in enumerate(rows)]
    for chunk in (1, 100):
        found = parsed(decoded_dlms(core, tmp_path, chunk, telegrams))
        assert found == {f"{k:02d}.bin": [r.expected] for k, r in enumerate(rows)}


def test_corpus_of_dlms(core, tmp_path):
    captures = list(dlms_rows.captures())  # skips where there is none
    telegrams = [(name, data, content["key"], content["auth_key"]) for name, data, content in captures]
    holds_p1 = [content.get("inner") == "p1" for _, _, content in captures]  # its decoder is needed besides
    out = decoded_dlms(core, tmp_path, 256, [t for t, p1 in zip(telegrams, holds_p1, strict=True) if not p1])
    out += decoded_dlms(core, tmp_path, 256, [t for t, p1 in zip(telegrams, holds_p1, strict=True) if p1], ROOMY)
    found = parsed(out)
    for name, _, content in captures:
        wanted = map(dlms_rows.wanted_of, content["telegrams"]) if dlms_rows.is_read(content) else ()
        assert dlms_rows.as_numbers(found[name]) == list(wanted), name
    assert (len(found), out.count("rejected key needed 0 ")) == (84, 7)


@pytest.mark.parametrize("name", ["SML", "P1, CRC", "iec_mode_c.hex", "DLMS raw lg", "DLMS hdlc kaifa18"])
def test_damaged_telegrams_give_the_same_events(core, name):
    """A hundred of each; `python -m support.two_pythons` takes 100,000 of all."""
    source = next(source for source in two_pythons.sources() if source.name == name)
    telegrams, rejected, told = two_pythons.compare(source, core, 100, 2)
    assert not told, "\n".join(told)
    assert telegrams > 20 and rejected > 20


def test_texts_are_the_same_and_exact(core):
    out = printed(core, "texts.py")
    assert out == printed_by_cpython("texts.py")
    lines = set(out.splitlines())
    for line in (  # by hand; a float of either precision would round each of them
        "decimal -4 922337203685477.5807",
        "decimal -1 -922337203685477580.8",
        "decimal 3 18446744073709551615000",
        "decimal -4 2941646.1614",
        "decimal -3 98765.432",
        "decimal 0 16777217",
        "shown 14798.1129",
        "shown 16777.217",
        "shown 9007199254740.993",
        "signed 64 -9223372036854775808",
        "identifier 1ABC0001234567 1ABC0001234567 None",
        "crc 36974 8585",
        f"crc {sml.crc16(bytes(range(256))) ^ 0xFFFF} 47933",
    ):
        assert line in lines


# --- the heap --------------------------------------------------------------------------------------------------------


def noisy_stream():
    """Telegrams, noise, a telegram that is cut, one with a wrong checksum: every way through feed and next_event."""
    meter = SmlMeter(4, quirks=["escape_in_key", "phases"])
    telegrams = [meter.telegram(k) for k in range(6)]
    damaged = bytearray(telegrams[3])
    damaged[100] ^= 4
    return b"".join(
        (
            b"\x00\xff" * 700,
            b"\x1b" * 7,
            telegrams[0],
            telegrams[1],
            b"\x1b\x1b\x1b\x1b\x01\x01",
            telegrams[2],
            telegrams[3][:200],
            telegrams[4],
            bytes(damaged),
            telegrams[5],
            bytes(3000),
        )
    )


def noisy_read_outs():
    """The same of what meters print: asked and pushed, with and without parity, with CRC and without."""
    asked = IecMeter("C", full=True, history=3, seed=4)
    read_out = asked.identification() + asked.block(5)[0]
    damaged = bytearray(read_out)
    damaged[300] ^= 4
    p1, pushing = IecMeter("P1", seed=4), IecMeter("D", seed=4)
    return b"".join(
        (
            b"\x00\xff/\xaf" * 300,
            b"/?!\r\n",
            read_out,
            with_parity(read_out),  # another identification as it comes: the second one is taken
            with_parity(read_out),
            p1.telegram(3),
            bytes(damaged),
            pushing.telegram(4),
            read_out[:700],
            read_out,
            p1.telegram(5)[:300],
            pushing.telegram(8),
            with_parity(pushing.telegram(9)),
            with_parity(pushing.telegram(10)),  # of no check, on a line with faults: the second of its form is taken
            bytes(3000),
        )
    )


def noisy_pushes():
    """The same of DLMS: HDLC, segments and M-Bus frames, with keys and a tag, without, and with another meter's key."""
    meter = functools.partial(DlmsMeter, seed=4, key=dlms_rows.KEY, auth_key=dlms_rows.AUTH_KEY)
    optical, tagged = meter("optical"), meter("hdlc", security=0x30)
    mbus, plain = meter("mbus"), meter("hdlc", segment_bytes=90)
    damaged = bytearray(plain.telegram(1))
    damaged[100] ^= 4
    return b"".join(
        (
            b"\x55\xff" * 300,
            b"\x7e\xa1\x68\x68",
            optical.telegram(1),
            tagged.telegram(1),
            bytes(damaged),
            plain.telegram(2),
            mbus.telegram(1),
            mbus.telegram(2)[:270],
            mbus.telegram(3),
            DlmsMeter("optical", seed=9).telegram(1),
            plain.telegram(3)[:200],
            plain.telegram(4),
            tagged.telegram(5)[:200],
            tagged.telegram(6),
            optical.telegram(7),
            bytes(3000),
        )
    )


STREAMS = {"sml": (noisy_stream, 5, 2), "iec62056-21": (noisy_read_outs, 6, 6), "dlms": (noisy_pushes, 8, 5)}


def events_due(protocol, data):
    """After how many bytes each event is due, fed byte by byte."""
    listener = protocols.load(protocol)()
    if protocol == "dlms":
        listener.set_keys(dlms_rows.KEY, dlms_rows.AUTH_KEY)
    due = []
    for k in range(len(data)):
        listener.feed(data, k, k + 1)
        while listener.next_event() != NOTHING:
            due.append(k + 1)
    _, good, rejected = STREAMS[protocol]
    assert listener.accepted == good and sum(listener.rejected.values()) >= rejected
    return due


@pytest.mark.parametrize("protocol", STREAMS)
@pytest.mark.parametrize("chunk", [1, 7, 64, 256])
def test_feeding_needs_no_memory(core, tmp_path, chunk, protocol):
    data = STREAMS[protocol][0]()
    due = events_due(protocol, data)
    (tmp_path / "stream.bin").write_bytes(data)
    arguments = (protocol, tmp_path / "stream.bin", chunk, ",".join(map(str, due)))
    words = printed(core, "heap_locked.py", *arguments, heap=ROOMY).split()
    assert (words[0], int(words[1]), words[2]) == ("events", len(due), "locked")
    assert int(words[3]) >= 2 * len(data) // chunk
    code, _, errors = micropython(core, "heap_locked.py", *arguments, "plant", heap=ROOMY)
    assert code != 0 and "heap is locked" in errors


def heap_figures(core, protocol, path, size=0):
    module = protocols.module_path(protocol, 1)
    lines = printed(core, "heap_used.py", module, size, path, heap=ROOMY).splitlines()
    return {name: int(text) for name, text in (line.split() for line in lines)}


def check_heap(figures, measured):
    assert figures.keys() == measured.keys()
    if os.environ.get(runtime.MICROPYTHON_OVERRIDE):
        pytest.skip("another MicroPython than the one the bounds were measured on is named")
    for name, bound in measured.items():
        assert 0 < figures[name] <= bound * 1.15 + 64, (name, figures[name], bound)


def test_heap_taken(core, tmp_path):
    """The telegram is the longest household meters send without a maker's key: 22 entries, as Hager's."""
    telegram = SmlMeter(4, quirks=["list_type_bits", "phases"]).telegram(5)
    (tmp_path / "telegram.bin").write_bytes(telegram)
    figures = heap_figures(core, "sml", tmp_path / "telegram.bin")
    assert figures.pop("readings") == 22
    print(f"\nheap, bytes (32-bit, from .mpy; telegram of {len(telegram)} bytes): {figures}")
    print("core + SML + listener + one telegram in hand:", sum(figures.values()))
    check_heap(figures, MEASURED)
    assert figures["listener"] > BUFFER_SIZE


def test_heap_taken_by_printed_registers(core, tmp_path):
    """A read-out of some 9.5 KB with 15 months of history, in the usual buffer without them: what is published."""
    meter = IecMeter("C", full=True, history=15, seed=4)
    read_out = meter.identification() + meter.block(5)[0]
    (tmp_path / "read_out.bin").write_bytes(read_out)
    figures = heap_figures(core, "iec62056-21", tmp_path / "read_out.bin")
    readings = figures.pop("readings")
    print(f"\nheap, bytes (32-bit, from .mpy; read-out of {len(read_out)} bytes, {readings} readings): {figures}")
    print("core + IEC 62056-21 + listener + one read-out in hand:", sum(figures.values()))
    assert readings == len([row for row in meter.block(5)[1] if not re.search(r"\*\d\d?$", row[0])])
    check_heap(figures, IEC_MEASURED)
    assert figures["listener"] > iec62056_21.BUFFER_SIZE


def test_heap_taken_by_dlms(core, tmp_path):
    """A telegram in two M-Bus frames, encrypted and with a tag, so that every table of the keys is made."""
    meter = DlmsMeter("mbus", security=0x30, seed=4, key=dlms_rows.KEY, auth_key=dlms_rows.AUTH_KEY)
    telegram = meter.telegram(5)
    (tmp_path / "telegram.bin").write_bytes(telegram)
    figures = heap_figures(core, "dlms", tmp_path / "telegram.bin")
    readings = figures.pop("readings")
    print(f"\nheap, bytes (32-bit, from .mpy; telegram of {len(telegram)} bytes, {readings} readings): {figures}")
    print("core + DLMS + listener + one telegram in hand:", sum(figures.values()))
    assert readings == len(meter.expected())
    check_heap(figures, DLMS_MEASURED)


def test_heap_high_water(core):
    """The largest read-out of the corpus with its whole history, its readings walked one at a time."""
    path = recording("iec62056_21/ISK_MT174_full.bin")
    figures = heap_figures(core, "iec62056-21", path, IEC_BUFFER)
    print(f"\nhigh-water mark: {figures} for {path.stat().st_size} bytes with a buffer of {IEC_BUFFER}")
    assert figures["readings"] == 405
    assert figures["high_water"] <= HIGH_WATER * 1.15


# --- the stack -------------------------------------------------------------------------------------------------------


def test_the_deepest_nesting_fits_the_small_stack_of_an_esp32_thread(core, tmp_path):
    _, out, _ = micropython(core, "small_stack.py", "recurse")
    depth = max(int(line) for line in out.split() if line.isdigit())
    assert 10 < depth < 100  # of the usual stack 135
    deep = b"\x71" * 1400 + b"\x01"
    good = sml.telegram([Entry("1-0:1.8.0*255", 1)], b"1234567")
    unknown_message = sml.transport(sml.message(0x4711, deep))  # well formed: stepped over
    not_ended = sml.transport(sml.message(0x4711, b"\x71" * 1400))
    (tmp_path / "deep.bin").write_bytes(unknown_message + not_ended + good)
    assert printed(core, "small_stack.py", tmp_path / "deep.bin", "sml").strip() == "telegrams 2 rejected 1"


def test_dlms_bombs_fit_that_stack_too(core, tmp_path):
    """Nested values, in the clear, ciphered, by segments; behind each a telegram."""
    good = dlms_rows.PLAIN.data
    data, n = b"", 0
    for body in dlms_rows.bombs():
        apdu = dlms.data_notification(body)
        size = 1000 if len(apdu) > 2000 else 0
        data += dlms.between_flags(dlms.hdlc_segments(apdu, size)) + good
        n += 1
    (tmp_path / "bombs.bin").write_bytes(data)
    telegrams, rejected = printed(core, "small_stack.py", tmp_path / "bombs.bin", "dlms", heap=ROOMY).split()[1::2]
    heard = dlms_rows.hear(data)
    assert (int(telegrams), int(rejected)) == (len(heard.telegrams), len(heard.rejected))
    assert int(telegrams) >= n and int(rejected) > n // 2
