"""One flash image for one board: a stock MicroPython and, in its partition `vfs`, our files.

    stock .bin (loader, partition table, application)  ──┐
    device_tree.build ──► littlefs of the partition's blocks ──┴─► esptool merge-bin ──► the image, from address 0

The same input gives the same bytes. What lies between the parts is FF, so writing an image takes what `nvs` held.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..building import device_tree, rom_image
from .error import FlashError
from .file_system import pack
from .stock_format import BLOCK, Part, Partition, Stock, StockError, loader_flash_bytes, parse

_MB = 1024 * 1024
_MOST_BYTES = 32 * _MB  # of a stock image: the largest flash there is


@dataclass(frozen=True)
class Image:
    """`data` goes to address 0 of a chip that `stock` is for; `files` are those of its file system, by path; `modules`
    what its ROMFS holds, where it has one.
    """

    data: bytes
    stock: Stock
    files: dict[str, bytes]
    modules: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def spelt(chip: str) -> str:
    """esp32c3 as its maker writes it, ESP32-C3."""
    return "ESP32" + ("-" + chip[5:].upper() if chip[5:] else "")


def chip_of(board: Path) -> str | None:
    """The chip that a board file, already checked, names."""
    return json.loads(board.read_text(encoding="utf-8")).get("chip")


def read_stock(file: Path, chip: str | None) -> Stock:
    """The stock image in `file`, for `chip` where that is not None. Raises FlashError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FlashError(f"{file} cannot be read ({error.strerror}): check its name", 2) from error
    if len(data) > _MOST_BYTES:
        raise FlashError(f"{file} is larger than any flash: take the .bin file for the board's chip", 2)
    try:
        stock = parse(data)
    except StockError as error:
        raise FlashError(f"{file}: {error}", 2) from error
    if chip not in (None, stock.chip):
        why = f"{file} is MicroPython for an {spelt(stock.chip)}, and the board has an {spelt(chip or '')}"
        raise FlashError(f"{why}: take the .bin file for an {spelt(chip or '')}", 2)
    flash_bytes = loader_flash_bytes(stock.parts[0].data)
    if stock.flash_bytes > flash_bytes:
        why = f"{file}: its files end at {stock.flash_bytes / _MB:g} MB, and its loader is for {flash_bytes // _MB} MB"
        raise FlashError(f"{why} of flash: fetch the file again", 2)
    return stock


def build_files(board: Path, settings: Path | None, rom: Partition | None = None) -> tuple[dict[str, bytes], bytes]:
    """What the board's file system will hold, path -> content, and what its ROMFS will: the modules, where they fit in.

    Raises device_tree.BuildError.
    """
    with tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:  # readable for its owner only
        tree = Path(folder)
        names = device_tree.build(tree, board, settings)
        modules = rom_image.image(tree, names) if rom else b""
        if rom and len(modules) <= rom.size:
            names = rom_image.take_out(tree, names)
        else:
            modules = b""
        return {name.as_posix(): (tree / name).read_bytes() for name in names}, modules


def build_image(board: Path, settings: Path | None, stock_file: Path) -> Image:
    """The image for a board file that has passed its check. Raises FlashError and device_tree.BuildError."""
    for name in ("esptool", "littlefs"):
        if importlib.util.find_spec(name) is None:
            raise FlashError(f"{name} is missing: pip install 'optoprobe[flash]'", 2)
    stock = read_stock(stock_file, chip_of(board))
    files, modules = build_files(board, settings, stock.rom)
    n_blocks = stock.vfs.size // BLOCK
    try:
        vfs = pack(files, n_blocks)
    except FlashError as error:
        size = sum(map(len, files.values()))
        why = f"{size:,} bytes of files do not fit into the {n_blocks * BLOCK:,} that {stock_file} has for files"
        raise FlashError(f"{why}: take a MicroPython with a larger vfs partition", 2) from error
    merged = _merge([*stock.parts, *rom_parts(stock, modules), Part("files", stock.vfs.offset, vfs)], stock.chip)
    return Image(merged, stock, files, modules)


def rom_parts(stock: Stock, modules: bytes) -> list[Part]:
    """What is written for `modules` (build_files): one part or none."""
    return [Part("modules", stock.rom.offset, modules)] if stock.rom and modules else []


def _merge(parts: list[Part], chip: str) -> bytes:
    """All parts at their places, by esptool."""
    from esptool import cmds
    from esptool.logger import log

    log.set_verbosity("silent")
    merged = cmds.merge_bin([(part.offset, part.data) for part in parts], chip)
    assert merged is not None  # without a file of output it gives the bytes
    return merged
