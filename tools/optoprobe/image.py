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

from . import device_tree
from .flasher_error import FlashError
from .flasher_files import pack
from .flasher_stock import BLOCK, Stock, StockError, parse

_SIZE_AT = 3  # in the loader's header; its upper four bits
_MB = 1024 * 1024
_MOST_BYTES = 32 * _MB  # of a stock image: the largest flash there is


@dataclass(frozen=True)
class Image:
    """`data` goes to address 0 of a chip that `stock` is for; `files` are those of its file system, by path."""

    data: bytes
    stock: Stock
    files: dict[str, bytes]

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
    flash_bytes = _MB << (stock.parts[0].data[_SIZE_AT] >> 4)
    if stock.flash_bytes > flash_bytes:
        why = f"{file}: its files end at {stock.flash_bytes / _MB:g} MB, and its loader is for {flash_bytes // _MB} MB"
        raise FlashError(f"{why} of flash: fetch the file again", 2)
    return stock


def build_files(board: Path, settings: Path | None) -> dict[str, bytes]:
    """What the board's file system will hold: path -> content. Raises device_tree.BuildError."""
    with tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:  # readable for its owner only
        tree = Path(folder)
        return {name.as_posix(): (tree / name).read_bytes() for name in device_tree.build(tree, board, settings)}


def build_image(board: Path, settings: Path | None, stock_file: Path) -> Image:
    """The image for a board file that has passed its check. Raises FlashError and device_tree.BuildError."""
    for name in ("esptool", "littlefs"):
        if importlib.util.find_spec(name) is None:
            raise FlashError(f"{name} is missing: pip install 'optoprobe[flash]'", 2)
    stock = read_stock(stock_file, chip_of(board))
    files = build_files(board, settings)
    n_blocks = stock.vfs.size // BLOCK
    try:
        vfs = pack(files, n_blocks)
    except FlashError as error:
        size = sum(map(len, files.values()))
        why = f"{size:,} bytes of files do not fit into the {n_blocks * BLOCK:,} that {stock_file} has for files"
        raise FlashError(f"{why}: take a MicroPython with a larger vfs partition", 2) from error
    return Image(_merge(stock, vfs), stock, files)


def _merge(stock: Stock, vfs: bytes) -> bytes:
    """All parts at their places, by esptool."""
    from esptool import cmds
    from esptool.logger import log

    log.set_verbosity("silent")
    parts = [(part.offset, part.data) for part in stock.parts]
    merged = cmds.merge_bin([*parts, (stock.vfs.offset, vfs)], stock.chip)
    assert merged is not None  # without a file of output it gives the bytes
    return merged
