"""A stock MicroPython image (.bin) for a chip of the ESP32 family, taken apart and checked.

    loader (0x1000 or 0x0)      its header names the chip and the flash's size
    partition table (0x8000)    32 bytes a row, closed by its MD5
    application (factory or ota_0)

The file begins with the loader and ends with the application; it does not fill what `nvs` and `vfs` name.
From 1.26 on the table has no `vfs`: MicroPython makes one of the flash behind the last partition, up to the end that
the flash itself tells (ports/esp32/main.c). Our table names it, up to the end that the loader is for: MicroPython takes
that one, and a file system made for it is mounted on a board with more flash too.
Loader and application each carry a check byte and, where their header says so, a SHA-256.
Formats: ESP-IDF, "App Image Format" and "Partition Tables"; numbers of chips as in esptool 5.6.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass

from .error import FlashError

LEAST_VERSION = (1, 25)  # of MicroPython, whatever puts us there
BLOCK = 4096  # what flash is erased in
TABLE_AT = 0x8000
MOST_FLASH = 32 * 1024 * 1024  # of the largest chip of the family
_TABLE_BYTES = 0xC00
_ROW = struct.Struct("<2sBBII16sI")
_HEADER = struct.Struct("<BBBBI")
_CHIPS = {0: "esp32", 2: "esp32s2", 5: "esp32c3", 9: "esp32s3", 12: "esp32c2", 13: "esp32c6"}
_LOADER_AT = {"esp32": 0x1000, "esp32s2": 0x1000}  # of the others 0
_MAGIC = 0xE9
_MB = 1024 * 1024
_SIZE_AT = 3  # in the loader's header; its upper four bits
_FAT = 0x81  # of a place for files, whatever file system it has
_HEADER_BYTES, _HASH_FLAG_AT, _CHIP_ID_AT, _REVISIONS_AT = 24, 23, 12, 15
_CHECK_START = 0xEF
_MOST_SEGMENTS = 16


class StockError(FlashError):
    """The file is no MicroPython that can be used; the text is one sentence without its full stop."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


@dataclass(frozen=True)
class Partition:
    """A row of the table; offset and size in bytes of the flash."""

    name: str
    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class Part:
    """Bytes and where in the flash they go."""

    what: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Stock:
    """`chip` as esptool names it; `parts` of the file without what fills the places between; `vfs` for the files; `rom`
    for ROMFS, which a few builds have.
    """

    chip: str
    version: tuple[int, int]
    parts: tuple[Part, ...]
    vfs: Partition
    rom: Partition | None

    @property
    def flash_bytes(self) -> int:
        """How much flash there must be."""
        return max(place.offset + place.size for place in (self.vfs, self.rom) if place)

    @property
    def revisions(self) -> tuple[int, int]:
        """The least and the last revision of the chip that it runs on, 3 of v0.3 and 101 of v1.1."""
        least, last = struct.unpack_from("<HH", self.parts[0].data, _REVISIONS_AT)
        return (least, last) if last else (0, 0xFFFF)


def parse(data: bytes) -> Stock:
    """Take `data`, a whole .bin file, apart. Raises StockError."""
    if len(data) < TABLE_AT or data[0] != _MAGIC:
        raise StockError("this is no MicroPython for an ESP32: take the .bin file for the board's chip")
    chip_id = int.from_bytes(data[_CHIP_ID_AT : _CHIP_ID_AT + 2], "little")
    chip = _CHIPS.get(chip_id)
    if chip is None:
        raise StockError(f"this MicroPython is for a chip with the number {chip_id}, which no known board has")
    loader_at = _LOADER_AT.get(chip, 0)
    table_at = TABLE_AT - loader_at
    partitions = parse_table(data[table_at : table_at + _TABLE_BYTES])
    application = next((p for p in partitions if p.kind == 0), None)
    loader = data[: image_bytes(data[:table_at], "boot loader")]
    vfs = place_for_files(partitions, loader_flash_bytes(loader))
    if application is None or vfs is None:
        raise StockError("its partition table names no application or no place for files (vfs): take a stock image")
    _check_places(application, vfs)
    begin = application.offset - loader_at
    size = image_bytes(data[begin:], "application")
    if size > application.size:
        raise StockError("its application is larger than its partition: fetch the file again")
    said = re.search(rb"MicroPython v(\d+)\.(\d+)", data[begin : begin + size])
    if said is None:
        raise StockError("its application is no MicroPython: take the .bin file for the board's chip")
    version = int(said[1]), int(said[2])
    if version < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise StockError(f"it is MicroPython {version[0]}.{version[1]}: take {least} or newer")
    table = data[table_at : table_at + BLOCK]
    if vfs not in partitions:
        table = _with_row(table, len(partitions), vfs)
    rom = next((p for p in partitions if p.name == "romfs" and p.kind), None)
    if rom is not None and (b"rom_ioctl" not in data[begin : begin + size] or rom.offset % BLOCK):
        rom = None
    parts = (
        Part("boot loader", loader_at, loader),
        Part("partition table", TABLE_AT, table),
        Part(f"MicroPython {version[0]}.{version[1]}", application.offset, data[begin : begin + size]),
    )
    return Stock(chip, version, parts, vfs, rom)


def loader_flash_bytes(loader: bytes) -> int:
    """The size of the flash that a loader is for: nothing behind it is reached before MicroPython runs."""
    return _MB << (loader[_SIZE_AT] >> 4)


def place_for_files(partitions: list[Partition], flash_bytes: int) -> Partition | None:
    """Where MicroPython has its files in a flash of that size."""
    found = next((p for p in partitions if p.name == "vfs"), None)
    if found or any(p.name == "ffat" for p in partitions):
        return found
    end = max((p.offset + p.size for p in partitions), default=flash_bytes)
    return Partition("vfs", 1, end, flash_bytes - end) if end < flash_bytes else None


def _with_row(table: bytes, n_rows: int, place: Partition) -> bytes:
    """The block of a table with one more row, of data, behind its rows."""
    rows = table[: n_rows * _ROW.size]
    rows += _ROW.pack(b"\xaa\x50", place.kind, _FAT, place.offset, place.size, place.name.encode(), 0)
    rows += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(rows).digest()
    return rows + b"\xff" * (BLOCK - len(rows))


def _check_places(application: Partition, vfs: Partition) -> None:
    """Application and files each have a place of whole blocks behind the table, and none in the other's."""
    for place in (application, vfs):
        is_whole = not place.offset % BLOCK and not place.size % BLOCK and place.size >= 2 * BLOCK
        if not is_whole or place.offset < TABLE_AT + BLOCK or place.offset + place.size > MOST_FLASH:
            raise StockError(f"its partition table gives {place.name} no place that can be: fetch the file again")
    if application.offset < vfs.offset + vfs.size and vfs.offset < application.offset + application.size:
        raise StockError("its application and its files lie in one another: fetch the file again")


def parse_table(table: bytes) -> list[Partition]:
    """The rows of a partition table. Raises StockError where its MD5 does not fit or there is none."""
    rows = []
    for at in range(0, len(table) - _ROW.size + 1, _ROW.size):
        magic, kind, _, offset, size, name, _ = _ROW.unpack_from(table, at)
        if magic == b"\xeb\xeb":
            if table[at + 16 : at + 32] != hashlib.md5(table[:at]).digest():
                break
            return rows
        if magic != b"\xaa\x50":
            break
        rows.append(Partition(name.partition(b"\0")[0].decode("ascii", "replace"), kind, offset, size))
    raise StockError("its partition table is damaged: fetch the file again")


def image_bytes(data: bytes, what: str) -> int:
    """How many bytes of `data` the image at its begin takes, checked. Raises StockError."""
    torn = StockError(f"its {what} is damaged or cut short: fetch the file again")
    if len(data) < _HEADER_BYTES or data[0] != _MAGIC or not 0 < data[1] <= _MOST_SEGMENTS:
        raise torn
    at = _HEADER_BYTES
    check = _CHECK_START
    for _ in range(data[1]):
        if at + 8 > len(data):
            raise torn
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        segment = data[at + 8 : at + 8 + size]
        if len(segment) < size:
            raise torn
        folded = int.from_bytes(segment, "little")
        check ^= _folded(folded, size)
        at += 8 + size
    at |= 15  # the check byte is the last of 16
    if at >= len(data) or data[at] != check:
        raise torn
    at += 1
    if data[_HASH_FLAG_AT]:
        if hashlib.sha256(data[:at]).digest() != data[at : at + 32]:
            raise torn
        at += 32
    return at


def _folded(number: int, n: int) -> int:
    """All n bytes of `number` XORed; by halves, as a megabyte byte by byte takes a while."""
    while n > 1:
        half = n // 2
        rest = n - half
        number = (number >> (8 * half)) ^ (number & ((1 << (8 * half)) - 1))
        n = rest
    return number
