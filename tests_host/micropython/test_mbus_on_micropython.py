"""M-Bus answers on the runtime of a board say what they say on this computer's, digit for digit."""

import random

from support.core_on_micropython import install, printed, printed_by_cpython

from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.mbus_encoder import bcd, record
from optoprobe.virtual.mbus_meter import KEY


def answers() -> bytes:
    """Every kind of value, places, damage, and frames of anything."""
    rng = random.Random(3)
    rows = [
        record(0x0C, "06", bcd(1234567, 4)) + record(0x0B, "2D", bcd(-77, 3)) + record(0x0A, "5A", bcd(443, 2)),
        record(0x04, "6D", mbus.minute(2026, 1, 2, 3, 4)) + record(0x42, "6C", mbus.day(2025, 7, 9)),
        record(0x06, "6D", mbus.second(2026, 1, 2, 3, 4, 5)) + record(0x5C, "13", bcd(1, 4), difes="D1 62"),
        record(0x07, "13", b"\xff" * 8) + record(0x0D, "FD 11", mbus.text("Straße 7")) + b"\x1f\1\2",
        record(0x0C, "93 7B", bcd(15000, 4)) + record(0x0C, "FC 03 48 52 25 74", bcd(4560, 4)),
        record(0x0C, "FC A2 73 04 6C 61 67 69", bcd(75420826, 4)) + record(0x02, "2B", b"\7\0"),
        b"".join(record(5, "3E", rng.randbytes(4)) for _ in range(30)),
        record(5, "3E", b"\1\0\0\0") + record(5, "3E", b"\xff\xff\x7f\x7f"),
    ]
    frames = [mbus.frame(mbus.header(87654321, "XYZ", medium=4) + row) for row in rows]
    frames.append(mbus.frame(mbus.fixed(12345678, (1, -135), (0x29, 0x3E), medium=7, status=1)))
    turned = b"\x76" + bytes.fromhex("87654321 6333 01 04 07 00 0000") + record(0x04, "13", b"\0\0\1\2")
    frames.append(mbus.frame(turned + record(0x02, "6C", mbus.day(2015, 5, 17)[::-1])))
    frames.append(mbus.frame(mbus.header(1, "XYZ", medium=4, configuration=0x0520) + b"\x2f\x2f" + rows[0]))
    for row in rows[:3]:
        body = mbus.header(87654321, "XYZ", medium=4) + row
        frames += [mbus.frame(mbus.encrypted5(body, KEY)), mbus.frame(mbus.encrypted7(body, KEY, 5))]
        frames.append(mbus.frame(mbus.encrypted7(body, bytes(16), 5)))
    frames += [mbus.frame(b"\x72" + rng.randbytes(11) + b"\0" + rng.randbytes(60)) for _ in range(30)]
    return frames[0][:40] + b"\xe5\x68\x68" + b"".join(frames) + frames[1][:-1]


def test_both_runtimes_say_the_same(tmp_path):
    core = install(tmp_path / "core")
    (tmp_path / "answers.bin").write_bytes(answers())
    out = printed(core, "mbus_answers.py", 64, tmp_path / "answers.bin", KEY.hex())
    assert out == printed_by_cpython("mbus_answers.py", 64, tmp_path / "answers.bin", KEY.hex())
    assert out.count("telegram ") >= 14 and out.count("rejected key wrong") == 3 and "rejected structure" in out
    assert "Straße 7" in out and "volume, maximum, storage 67, tariff 9, subunit 3" in out
