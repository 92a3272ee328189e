"""The device's modules as one image for ROMFS, MicroPython's file system in flash that code is run from where it lies.

    /boot.py /main.py /board.json /settings.json /probe/*.gz    files, as on every board
    /rom/probe/*.mpy /rom/probe/probe_entities.txt              the image, in a partition of its own

MicroPython mounts a partition at /rom that has an image's first bytes, whole or torn. Nothing of ours is imported from
there but by a boot.py that says so, and `optoprobe deploy` copies that one when the image was compared.

The bytes are made by mpremote's own VfsRomWriter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .device_tree import BuildError
from .flat_layout import FOLDER

BEGIN_BYTES = 20  # in which an image names its first folder (extmod/vfs_rom.c)
_MAGIC = b"\xd2\xcd\x31"
_PAGES = ".gz"  # sent as they are, by their names in the root
_MODULES_IN_FILES, _MODULES_IN_ROM = f'sys.path.insert(0, "{FOLDER}")', f'sys.path.insert(0, "/rom/{FOLDER}")'


def in_rom(files: Iterable[Path]) -> list[Path]:
    """Those of a device's files (device_tree.build) that go into the image."""
    return [name for name in files if name.parts[0] == FOLDER and name.suffix != _PAGES]


def image(tree: Path, files: Iterable[Path]) -> bytes:
    """The image of the modules among `files` below `tree`, the same bytes for the same files."""
    from mpremote.romfs import VfsRomWriter

    writer = VfsRomWriter()
    names = in_rom(files)

    def add(folder: Path) -> None:
        writer.opendir(folder.name)
        for name in names:
            if name.parent == folder:
                writer.mkfile(name.name, (tree / name).read_bytes())
        for inner in sorted({name.parent for name in names if name.parent.parent == folder}):
            add(inner)
        writer.closedir()

    add(Path(FOLDER))
    return writer.finalise()


def is_anothers(begin: bytes) -> bool:
    """Are these, the first BEGIN_BYTES of a partition or more, of an image that is not ours?"""
    return begin.startswith(_MAGIC) and b"%c%s" % (len(FOLDER), FOLDER.encode()) not in begin[:BEGIN_BYTES]


def take_out(tree: Path, files: Sequence[Path]) -> list[Path]:
    """Have the tree below `tree` be that of a board with the image: without the modules, and with a boot.py that has
    them imported from there. Returns the files that are left. Raises BuildError.
    """
    boot = tree / "boot.py"
    text = boot.read_text(encoding="utf-8")
    if text.count(_MODULES_IN_FILES) != 1:
        raise BuildError(f"boot.py must say {_MODULES_IN_FILES} once: else no module in the board's ROMFS is found")
    boot.write_text(text.replace(_MODULES_IN_FILES, _MODULES_IN_ROM), encoding="utf-8")
    modules = in_rom(files)
    for name in modules:
        (tree / name).unlink()
    for folder in sorted({name.parent for name in modules} - {Path(FOLDER)}, reverse=True):
        (tree / folder).rmdir()
    return [name for name in files if name not in modules]
