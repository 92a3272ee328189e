"""`optoprobe webflash DIR`: a static site from which a browser puts a probe onto a board, and sets its Wi-Fi.

With --serve it is opened on this machine, where browsers give a page the USB port as they do over https.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..flashing.error import FlashError
from ..settings.given_files import BOARD_HELP, GivenFileError, board_file

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

_PORT = 8070


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "webflash",
        help="a site that puts a probe onto a board from a browser",
        description="Writes a static site into DIR: a browser that opens it (Chrome, Edge or Opera on a computer, over "
        "https or on this machine) writes MicroPython and the application into a board at its USB port, sets its Wi-Fi "
        "and its broker. MicroPython and ESP Web Tools are fetched and kept. No settings go into it.",
        epilog="Exit code 0 when it is written, 1 when something cannot be fetched, 2 for wrong usage or a file that "
        "cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="a new folder, or that of an earlier site")
    parser.add_argument(
        "--board", nargs="+", action="extend", metavar="NAME", help=f"{BOARD_HELP.partition(', or custom')[0]} "
        "(without it: each that comes along)",
    )  # fmt: skip
    parser.add_argument("--micropython", nargs="+", type=Path, metavar="FILE", help=".bin files, one for each chip")
    parser.add_argument(
        "--serve", nargs="?", type=int, const=_PORT, metavar="PORT", help=f"open it on this machine (port {_PORT})"
    )
    parser.add_argument("--no-open", action="store_true", help="with --serve: start no browser")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="refused: a site is for everybody who opens it")


def run(args: argparse.Namespace) -> int:
    from ..building.device_tree import BuildError

    try:
        _webflash(args)
    except (FlashError, GivenFileError, BuildError) as error:
        print(f"optoprobe webflash: {error}.", file=sys.stderr)
        return error.code if isinstance(error, FlashError) else 2
    return 0


def _webflash(args: argparse.Namespace) -> None:
    from ..webflash import static_site

    if args.settings is not None:
        why = "settings hold your passwords, and whoever opens the site gets its images"
        raise FlashError(f"{why}: leave --settings out, the page asks for Wi-Fi and broker over the cable", 2)
    if args.folder is None and args.serve is None:
        raise FlashError("name a folder to write the site into, or open it on this machine with --serve", 2)
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optoprobe-")), "site")
        static_site.check_folder(folder)
        server = None if args.serve is None else stack.enter_context(static_site.server(folder, args.serve))
        boards = _boards(args.board)
        stock = _stock_files(args.micropython or [], boards)
        tools = _tools()
        print(f"Building {len(boards)} images" if len(boards) > 1 else "Building the image")
        static_site.build(folder, boards, stock, tools, print)
        if args.folder is not None:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"Written into {folder}: {size:,} bytes; a web server with https serves it as it is")
        if server is not None:
            _serve(server, not args.no_open)


def _boards(named: list[str] | None) -> dict[str, Path]:
    """The boards of the site by their names, each checked."""
    from ..source_tree import board_files

    if not named:
        named = [name for name, file in board_files().items() if "chip" in json.loads(file.read_text(encoding="utf-8"))]
    if "custom" in named:
        raise FlashError("a board of your own is named by its file: --board mine.json", 2)
    found: dict[str, Path] = {}
    for text in named:
        file = board_file(text)
        if not json.loads(file.read_text(encoding="utf-8")).get("chip"):
            raise FlashError(f'the board {text} names no chip: add "chip" to its file', 2)
        if found.setdefault(file.stem, file) != file:
            raise FlashError(f"two boards are called {file.stem}: rename one of the files", 2)
    return found


def _stock_files(given: list[Path], boards: dict[str, Path]) -> dict[str, Path]:
    """MicroPython for each chip of the boards: the files that were given, fetched where none is."""
    from ..flashing import download, image

    found: dict[str, Path] = {}
    for file in given:
        chip = image.read_stock(file, None).chip
        if chip in found:
            raise FlashError(f"{found[chip]} and {file} are both for an {image.spelt(chip)}: give one of them", 2)
        found[chip] = file
    wanted = {image.chip_of(board) or "" for board in boards.values()}
    for chip in sorted(set(found) - wanted):
        raise FlashError(f"{found[chip]} is for an {image.spelt(chip)}, which none of the boards has: leave it out", 2)
    return {chip: found.get(chip) or download.micropython_for(chip) for chip in sorted(wanted)}


def _tools() -> dict[str, bytes]:
    """The files of ESP Web Tools by their names, fetched where they are not kept yet."""
    from ..environment import runtime

    said: list[str] = []
    runtime.setup(said.append, ("webtools",))
    try:
        folder = runtime.webtools() / "esp-web-tools"
    except runtime.SetupError as error:
        reasons = [line.partition("not available: ")[2] for line in said if "not available: " in line]
        raise FlashError((reasons or [str(error)])[0].strip().rstrip(".")) from error
    wanted = [folder / "LICENSE", *(folder / "dist" / "web").glob("*.js")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in wanted}


def _serve(server: ThreadingHTTPServer, opens: bool) -> None:
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    print(f"Open {address} in Chrome, Edge or Opera; Ctrl-C ends it", flush=True)
    if opens:
        import webbrowser

        webbrowser.open(address)
    server.serve_forever()
