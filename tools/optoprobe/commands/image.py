"""`optoprobe image --board NAME`: MicroPython and the application as one file to write to address 0 of a chip.

Beside it goes the table that leads from the short names of its tracebacks back to the source's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..flashing.error import FlashError
from ..settings.given_files import BOARD_HELP, GivenFileError, board_file, check_settings

if TYPE_CHECKING:
    from ..flashing.image import Image


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "image",
        help="MicroPython and the application as one file for a chip's flash",
        description="Builds one file that holds MicroPython, the application, the board's description and your "
        "settings, to be written to address 0 of the board's flash. Without --micropython, MicroPython is fetched and "
        "kept.",
        epilog="Exit code 0 when it is written, 1 when MicroPython cannot be fetched, 2 for wrong usage or a file that "
        "cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("--board", required=True, metavar="NAME", help=BOARD_HELP)
    parser.add_argument("--settings", type=Path, metavar="FILE", help="your settings, a JSON file; they go in")
    parser.add_argument("--micropython", type=Path, metavar="FILE", help="MicroPython for the chip, a .bin file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (optoprobe-NAME.bin)")


def run(args: argparse.Namespace) -> int:
    from ..building.device_tree import BuildError

    try:
        _write_image(args)
    except (FlashError, GivenFileError, BuildError) as error:
        print(f"optoprobe image: {error}.", file=sys.stderr)
        return error.code if isinstance(error, FlashError) else 2
    return 0


def _write_image(args: argparse.Namespace) -> None:
    from .. import __version__
    from ..building.device_tree import name_map
    from ..flashing import download, image

    board = board_file(args.board)
    if args.settings is not None:
        for key in check_settings(args.settings):
            print(f"The setting {key} is not known to this version, and is written all the same.")
    stock_file = args.micropython
    if stock_file is None:
        chip = image.chip_of(board)
        if chip is None:
            raise FlashError(f"the board {args.board} names no chip: give MicroPython with --micropython FILE", 2)
        stock_file = download.micropython_for(chip)
    out = args.out or Path(f"optoprobe-{board.stem}.bin")
    if not out.name or out.is_dir():
        raise FlashError(f"{out} is a folder: name a file with --out", 2)
    given = [file for file in (stock_file, board, args.settings) if file is not None and file.exists()]
    if out.exists() and any(map(out.samefile, given)):
        raise FlashError(f"{out} is read for the image: name another file with --out", 2)
    built = image.build_image(board, args.settings, stock_file)
    table = out.with_suffix(".names.json")
    names = {"version": __version__, "image_sha256": built.sha256, "names": name_map().table()}
    _put(out, built.data, args.settings is not None)
    _put(table, (json.dumps(names, indent=1) + "\n").encode(), False)
    print("\n".join(_told(built, stock_file, out, table)))
    if args.settings is not None:
        print(f"Your passwords stand in {out}: give it to nobody.")


def _put(file: Path, data: bytes, is_secret: bool) -> None:
    """Write a whole file, or leave the one that was there."""
    new = file.with_name(file.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600 if is_secret else 0o666)) as stream:
            stream.write(data)
        new.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise FlashError(f"{file} cannot be written ({error.strerror}): choose another with --out", 2) from error


def _told(built: Image, stock_file: Path, out: Path, table: Path) -> list[str]:
    import hashlib

    from .. import __version__
    from ..flashing.image import rom_parts, spelt

    stock, files = built.stock, built.files
    parts = (*stock.parts, *rom_parts(stock, built.modules))
    rows = [(part.offset, len(part.data), part.what) for part in parts]
    size = sum(map(len, files.values()))
    rows.append((stock.vfs.offset, stock.vfs.size, f"file system with {len(files)} files of {size:,} bytes"))
    return [
        f"optoprobe {__version__} for an {spelt(stock.chip)} with {stock.flash_bytes // 2**20} MB of flash",
        *(f"  {offset:#9x}  {n:9,} bytes  {what}" for offset, n, what in rows),
        f"From {stock_file}, sha256 {hashlib.sha256(stock_file.read_bytes()).hexdigest()}",
        f"Into {out}, {len(built.data):,} bytes, sha256 {built.sha256}",
        f"Names for its tracebacks: {table} (optoprobe traceback --names {table})",
        f"Write it with: esptool --chip {stock.chip} write-flash 0 {out}",
    ]
