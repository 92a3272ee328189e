"""A board's file system (littlefs) made on the computer, and the owner's files of the one that a board has.

MicroPython mounts a file system only where it has exactly as many blocks as the partition.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..building.device_tree import FOLDERS
from ..source_tree import STARTERS
from .error import FlashError
from .stock_format import BLOCK

Files = dict[str, bytes]  # path on the device, such as "firmware/app.mpy", to its content

_PIECE = 512  # what is read at once: of a block mostly the first bytes tell all
_MOST_BYTES = 512 * 1024  # of one owner's file
_MOST_DEPTH = 8  # folders in folders
_OURS = (*FOLDERS, *STARTERS, "board.json")


class NoFiles(Exception):
    """There is no file system that can be read."""


class _TooMuch(Exception):
    """More than is kept over a flash; the text says of what."""


def pack(files: Mapping[str, bytes], n_blocks: int) -> bytes:
    """The file system of `n_blocks` that holds `files`, the same bytes for the same files. Raises FlashError."""
    from littlefs import LittleFS, LittleFSError

    try:
        fs = LittleFS(block_size=BLOCK, block_count=n_blocks)
        for path, content in sorted(files.items()):
            folder = path.rpartition("/")[0]
            if folder:
                fs.makedirs(folder, exist_ok=True)
            with fs.open(path, "wb") as file:
                file.write(content)
    except LittleFSError as error:
        size = sum(map(len, files.values()))
        raise FlashError(
            f"{size:,} bytes of files do not fit into the board's {n_blocks * BLOCK:,}: with --erase the board's own "
            "files are left out", 2
        ) from error  # fmt: skip
    return bytes(fs.context.buffer)


def owners_files(read: Callable[[int, int], bytes], n_blocks: int) -> Files:
    """What a file system holds beside our own files; read(offset, size) reads some of it. Raises NoFiles, and what
    read() raises."""
    from littlefs import LittleFS, LittleFSError

    reader: Any = _Reader(read)
    fs = LittleFS(
        context=reader, mount=False, block_size=BLOCK, block_count=n_blocks,
        read_size=_PIECE, prog_size=_PIECE, cache_size=_PIECE,  # else whole blocks are read
    )  # fmt: skip
    found: Files | None = None
    unreadable = ""
    try:
        fs.mount()
        found = {}
        for path, content in _walk(fs, "", n_blocks * BLOCK):
            found[path] = content
    except (LittleFSError, UnicodeDecodeError, _TooMuch) as error:
        unreadable = str(error)
    if reader.failure is not None:
        raise reader.failure
    if found is None:
        raise NoFiles
    if unreadable:
        why = f"the board's files cannot all be read ({unreadable})"
        raise FlashError(f"{why}: copy what you need by mpremote and let go of them with --erase", 2)
    return found


def _walk(fs: Any, folder: str, most_bytes: int, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    if depth > _MOST_DEPTH:
        raise _TooMuch(f"folders in more than {_MOST_DEPTH} folders")
    for entry in fs.scandir("/" + folder):
        path = f"{folder}/{entry.name}".lstrip("/")
        if path in _OURS:
            continue
        if entry.type == 2:
            yield from _walk(fs, path, most_bytes, depth + 1)
        elif entry.size > min(_MOST_BYTES, most_bytes):
            raise _TooMuch(f"{path} has {entry.size:,} bytes")
        else:
            with fs.open("/" + path, "rb") as file:
                yield path, file.read()


class _Reader:
    """What littlefs calls to read a board's flash; each piece comes over the line once.

    It ignores what is raised here and goes on with what it has: `failure` is the first of it.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._pieces: dict[int, bytes] = {}
        self.failure: Exception | None = None

    def read(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        if self.failure is None:
            try:
                return self._piece(cfg, block, off, size)
            except Exception as error:
                self.failure = error
        return bytearray(size)

    def _piece(self, cfg: Any, block: int, off: int, size: int) -> bytearray:
        begin = block * cfg.block_size + off
        first, last = begin // _PIECE, (begin + size - 1) // _PIECE
        for k in range(first, last + 1):
            if k not in self._pieces:
                self._pieces[k] = self._read(k * _PIECE, _PIECE)
        whole = b"".join(self._pieces[k] for k in range(first, last + 1))
        return bytearray(whole[begin - first * _PIECE :][:size])

    def prog(self, *_: object) -> int:
        return -5  # EIO: nothing is written

    def erase(self, *_: object) -> int:
        return -5

    def sync(self, *_: object) -> int:
        return 0


class Keeping:
    """The owner's files of one chip while its file system is written anew: a flash cut short can be repeated."""

    def __init__(self, chip_id: str) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.file = cache / "optoprobe" / f"kept-{chip_id}.json"

    def load(self) -> Files | None:
        """What a flash that was cut short has left; None for none."""
        try:
            kept = json.loads(self.file.read_text())
            return {str(path): base64.b64decode(content) for path, content in kept.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return None

    def save(self, files: Files) -> None:
        """Put `files` where only this user can read them. Raises FlashError."""
        content = json.dumps({path: base64.b64encode(data).decode() for path, data in files.items()})
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            new = self.file.with_suffix(".new")
            with open(new, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content)
            new.replace(self.file)
        except OSError as error:
            why = f"the board's settings cannot be kept in {self.file} ({error.strerror})"
            raise FlashError(f"{why}: free the place, or let go of them with --erase", 2) from error

    def drop(self) -> None:
        self.file.unlink(missing_ok=True)
