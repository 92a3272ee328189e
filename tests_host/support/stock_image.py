"""A stand-in for a stock MicroPython .bin: valid header, partition table and hashes around bytes that mean nothing.

No registry has a real one. Where real ones lie (`../shared/images/*.bin` beside the clone, or $OPTOPROBE_IMAGES),
real_images() names them.
"""

import hashlib
import os
import random
import struct
from pathlib import Path

from optoprobe.environment import runtime

CHIP_IDS = {"esp32": 0, "esp32s2": 2, "esp32c3": 5, "esp32s3": 9}
LOADER_AT = {"esp32": 0x1000, "esp32s2": 0x1000}
VFS_AT, VFS_BLOCKS = 0x200000, 512


def image(chip, payload, seed=1):
    """A loader or an application: header, two segments, check byte, SHA-256."""
    filler = random.Random(seed).randbytes(700)
    segments = (payload, filler)
    # magic, segments, mode DIO, size 4 MB and 40 MHz, entry; pins; chip's number; no revisions; with a hash
    data = struct.pack("<BBBBI", 0xE9, len(segments), 2, 0x20, 0x40080000) + b"\xee\0\0\0"
    data += CHIP_IDS[chip].to_bytes(2, "little") + b"\0" * 9 + b"\1"
    check = 0xEF
    for address, segment in zip((0x3F400020, 0x3FFB0000), segments, strict=True):
        segment += b"\0" * (-len(segment) % 4)
        data += struct.pack("<II", address, len(segment)) + segment
        for byte in segment:
            check ^= byte
    data += b"\0" * (15 - len(data) % 16) + bytes((check,))
    return data + hashlib.sha256(data).digest()


def table(vfs_blocks=VFS_BLOCKS, vfs_at=VFS_AT, rom_bytes=0):
    """The partition table of a stock image for 4 MB, without a place for files where `vfs_blocks` is None, as from 1.26
    on (then they are at `vfs_at`, behind the last partition); of a build of one's own that has ROMFS.
    """
    rows = [(1, 2, 0x9000, 0x6000, b"nvs"), (1, 1, 0xF000, 0x1000, b"phy_init")]
    rows.append((0, 0, 0x10000, (vfs_at - rom_bytes if vfs_blocks is None else VFS_AT) - 0x10000, b"factory"))
    if rom_bytes:
        rows.append((1, 0x8F, vfs_at - rom_bytes, rom_bytes, b"romfs"))
    if vfs_blocks is not None:
        rows.append((1, 0x81, vfs_at, int(vfs_blocks * 4096), b"vfs"))
    data = b"".join(struct.pack("<2sBBII16sI", b"\xaa\x50", *row, 0) for row in rows)
    data += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(data).digest()
    return data + b"\xff" * (4096 - len(data))


def make(chip="esp32c3", version="1.26.1", app_bytes=40_000, vfs_blocks=VFS_BLOCKS, vfs_at=VFS_AT, rom_bytes=0):
    """The whole file."""
    at = LOADER_AT.get(chip, 0)
    app = random.Random(version).randbytes(app_bytes) + f"MicroPython v{version} on 2025-09-11".encode()
    app += b"\0rom_ioctl\0" if rom_bytes else b""
    data = image(chip, b"loader", 2)
    data += b"\xff" * (0x8000 - at - len(data)) + table(vfs_blocks, vfs_at, rom_bytes)
    data += b"\xff" * (0x10000 - at - len(data)) + image(chip, app)
    return data


def real_images():
    """Files of MicroPython that lie on this machine."""
    folder = os.environ.get("OPTOPROBE_IMAGES") or runtime.REPO.parent / "shared" / "images"
    return sorted(Path(folder).glob("*.bin"))
