"""A package index for MicroPython's `mip` as files any web server gives: `python -m optoprobe.building.mip_index DIR`

    DIR/package/6/optoprobe/latest.json        the application, for the root of a board (--target /)
    DIR/package/6/optoprobe-core/latest.json   the core alone (`import metering...`), for /lib
    DIR/file/ab/abcdef01                       each file once, by its hash
    DIR/package.json  DIR/core/package.json    the same two, for whoever names the file instead of the index

All is compiled (6 is the format of the .mpy), as a board has not the memory to compile the application itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .. import __version__, source_tree
from ..settings.given_files import GivenFileError, board_file
from . import device_tree

APPLICATION, CORE = "optoprobe", "optoprobe-core"
_MPY_FORMAT = 6
_HASH_DIGITS = 8  # as micropython-lib's own index has them


def write(folder: Path, board: Path | None = None) -> dict[str, int]:
    """Write the index into `folder`, with the board file in the application where one is given; returns how many files
    each package has. Raises device_tree.BuildError."""
    packages = {APPLICATION: _application(board), CORE: _core()}
    try:
        for name, files in packages.items():
            _write_package(folder, name, files)
    except OSError as error:
        raise device_tree.BuildError(f"{folder} cannot be written ({error.strerror}): choose another") from error
    return {name: len(files) for name, files in packages.items()}


def _write_package(folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    hashes = {place: hashlib.sha256(content).hexdigest()[:_HASH_DIGITS] for place, content in files.items()}
    for place, digest in hashes.items():
        file = folder / "file" / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files[place])
    by_name = {"v": 1, "version": __version__, "hashes": list(hashes.items())}
    index = folder / "package" / str(_MPY_FORMAT) / name
    index.mkdir(parents=True, exist_ok=True)
    for file in (index / "latest.json", index / f"{__version__}.json"):
        file.write_text(json.dumps(by_name) + "\n")
    up = "" if name == APPLICATION else "../"
    urls = [(place, f"{up}file/{digest[:2]}/{digest}") for place, digest in hashes.items()]
    direct = folder if name == APPLICATION else folder / "core"
    direct.mkdir(exist_ok=True)
    (direct / "package.json").write_text(json.dumps({"version": __version__, "urls": urls}, indent=1) + "\n")


def _application(board: Path | None) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="optoprobe-") as name:
        tree = Path(name)
        built = device_tree.build(tree, board or {}, None)
        left_out = device_tree.BOARD_FILE if board is None else None
        return {file.as_posix(): (tree / file).read_bytes() for file in built if file.as_posix() != left_out}


def _core() -> dict[str, bytes]:
    """The core's modules by their full names, as docs/library.md has them."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:
        for name in source_tree.device_modules():
            if name.is_relative_to(source_tree.CORE):
                output = device_tree.install(source_tree.source(name), Path(folder))
                found[name.relative_to("lib").with_suffix(".mpy").as_posix()] = output.read_bytes()
    return found


def main(arguments: list[str]) -> int:
    name = "python -m optoprobe.building.mip_index"
    parser = argparse.ArgumentParser(prog=name, description="A package index for mip.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--board", metavar="NAME", help="put this board's file into the application")
    args = parser.parse_args(arguments)
    try:
        counts = write(args.folder, board_file(args.board) if args.board else None)
    except (GivenFileError, device_tree.BuildError) as error:
        print(f"optoprobe mip_index: {error}.", file=sys.stderr)
        return 2
    for name, n in counts.items():
        print(f"{name}: {n} files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
