"""`optoprobe flash`: MicroPython and the application onto a board, in one go, and what the probe says then.

    find the port, ask the chip  ──►  keep the owner's files  ──►  write, compare  ──►  watch

What cannot go well is refused before anything is written. What the board has beside our own files (settings, totals,
counters) is read first and written again; a flash that was cut short finds it on this computer the next time.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import terminal
from ..flashing.error import FlashError
from ..flashing.image import build_files, chip_of, read_stock, rom_parts, spelt
from ..flashing.stock_format import BLOCK, Part, Partition, Stock, StockError
from ..settings.given_files import GivenFileError, board_file, check_settings

_WATCH_S = 120.0
_SETTINGS = "settings.json"
_MOST_SHOWN = 4  # of the kept files


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "flash",
        help="MicroPython and the application onto a new board",
        description="Writes MicroPython, the application, the board's description and your settings into a board of "
        "the ESP32 family, and shows what the probe says at its first start. What is not given is asked. Settings that "
        "the board has stay, unless you give others or --erase.",
        epilog="Exit code 0 when the probe has reached its broker (or with --no-watch, when all is written and "
        "verified), 1 when the board or the probe would not, 2 for wrong usage or a file that cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", help="serial port of the board, such as /dev/ttyACM0 or COM3")
    parser.add_argument("--board", metavar="NAME", help="a board that comes along, or your own file")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="your settings, a JSON file")
    parser.add_argument("--micropython", type=Path, metavar="FILE", help="a .bin for the chip (else it is fetched)")
    parser.add_argument("--erase", action="store_true", help="erase everything first, the board's settings too")
    parser.add_argument("--no-watch", action="store_true", help="end when all is written and verified")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done and touch nothing")


def run(args: argparse.Namespace) -> int:
    from ..building.device_tree import BuildError

    try:
        return _flash(args)
    except (FlashError, GivenFileError, BuildError) as error:
        print(f"optoprobe flash: {error}.", file=sys.stderr)
        return error.code if isinstance(error, FlashError) else 2


def _flash(args: argparse.Namespace) -> int:
    began_s = time.monotonic()
    if args.dry_run and args.board == "custom":
        raise FlashError("a plan asks nothing: name a board, or your own file.json, with --board", 2)
    board = board_file(args.board) if args.board else None
    if args.settings is not None:
        for key in check_settings(args.settings):
            print(f"The setting {key} is not known to this version, and is written all the same.")
    stock = _micropython(args.micropython, None if board is None else chip_of(board))
    if args.dry_run:
        if stock is None:
            cure = "name a board that tells its chip, such as --board hichi_c3, or a file with --micropython"
            raise FlashError(f"a plan needs a chip: {cure}", 2)
        print("\n".join(_plan(args, board, stock)))
        return 0
    from ..flashing.esp_chip import Chip

    with Chip(args.port or _find_port()) as chip:
        print(f"{chip.name} with {chip.flash_bytes // 2**20} MB of flash at {chip.port}")
        stock = stock or _fetched(chip.chip)
        _check_fit(chip, stock)
        board = board or _ask_board(chip.chip)
        if chip_of(board) not in (None, chip.chip):
            is_for = f"{board.name} is for an {spelt(chip_of(board) or '')}, and the board has an {chip.name}"
            raise FlashError(f"wrong chip: {is_for}: name another with --board", 2)
        _write(args, chip, board, stock)
        port = chip.port
    return 0 if args.no_watch else _watch(port, began_s)


def _write(args: argparse.Namespace, chip: Any, board: Path, stock: Stock) -> None:
    from ..building import rom_image
    from ..flashing.file_system import Keeping, pack

    keeping = Keeping(chip.number)
    kept, place = ({}, None) if args.erase else _owners_files(chip, keeping)
    if args.settings is None and _SETTINGS not in kept:
        asked = _asked_settings()
        if asked is not None:
            kept[_SETTINGS] = asked
    before = kept.pop(_SETTINGS, None) if args.settings is not None else None
    rom = stock.rom
    if rom and not args.erase and rom_image.is_anothers(chip.read(rom.offset, rom_image.BEGIN_BYTES)):
        print("The board's ROMFS holds what is not ours, and is left alone: the modules go into files")
        rom = None
    ours, modules = build_files(board, args.settings, rom)
    files = kept | ours
    if args.settings is not None:
        files[_SETTINGS] = _with_setup_password(files[_SETTINGS], before)
    image = pack(files, stock.vfs.size // BLOCK)
    parts = [*stock.parts, *rom_parts(stock, modules), Part("files", stock.vfs.offset, image)]
    if args.erase:
        with _Progress("erase everything") as progress:
            chip.erase()
            progress(1, 1)
    last_kept = parts[-1] if place in (None, stock.vfs) else parts[0]
    for part in parts:
        if part is last_kept and not args.erase:  # from here on the board's own may be gone; before, they are newer
            keeping.save(kept)
        with _Progress(f"write {part.what}") as progress:
            chip.write(part, progress)
    with _Progress("verify") as progress:
        chip.verify(parts)
        progress(1, 1)
    keeping.drop()
    chip.restart()
    print("All is written and verified; the board restarts as a probe.", flush=True)


def _owners_files(chip: Any, keeping: Any) -> tuple[dict[str, bytes], Partition | None]:
    """What the board has beside our own files, or what an earlier flash has kept of them that was cut short while they
    were written; and the place of the board's files, None where that is not known."""
    from ..flashing.file_system import NoFiles, owners_files
    from ..flashing.stock_format import TABLE_AT, parse_table, place_for_files

    kept = keeping.load()
    if kept:
        print(f"An earlier flash of this board was cut short: its files are taken from {keeping.file}")
        return kept, None
    try:
        vfs = place_for_files(parse_table(chip.read(TABLE_AT, 0xC00)), chip.flash_bytes)
        if vfs is None:
            raise NoFiles
        found = owners_files(lambda at, size: chip.read(vfs.offset + at, size), vfs.size // BLOCK)
    except (StockError, NoFiles):  # new, or it runs something else
        print("The board has no files of a probe's that can be read: none are kept")
        return {}, None
    if found:
        names = ", ".join(sorted(found)[:_MOST_SHOWN])
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        print(f"Kept of the board: {names}{more}")
    return found, vfs


# --- what is checked -------------------------------------------------------------------------------------------------


def _micropython(file: Path | None, chip: str | None) -> Stock | None:
    """MicroPython from the owner's file, else the one for `chip`, fetched; None where neither is known yet."""
    if file is not None:
        return read_stock(file, chip)
    return None if chip is None else _fetched(chip)


def _fetched(chip: str) -> Stock:
    from ..flashing import download

    try:
        return read_stock(download.micropython_for(chip), chip)
    except KeyError as error:
        raise FlashError(f"give a MicroPython for an {spelt(chip)} with --micropython", 2) from error


def _check_fit(chip: Any, stock: Stock) -> None:
    if chip.chip != stock.chip:
        why = f"wrong chip: the board at {chip.port} has an {chip.name}, and the MicroPython is for an"
        raise FlashError(f"{why} {spelt(stock.chip)}: take the other file, or another --port")
    least, last = stock.revisions
    if not least <= chip.revision <= last:
        runs_on = " to ".join(f"v{number // 100}.{number % 100}" for number in (least, last))
        is_one = f"the chip is of v{chip.revision // 100}.{chip.revision % 100}, and this MicroPython for {runs_on}"
        raise FlashError(f"wrong revision: {is_one}: take another version with --micropython, or another board")
    if chip.flash_bytes < stock.flash_bytes:
        needs = f"this MicroPython needs {stock.flash_bytes // 2**20} MB"
        has = f"{chip.flash_bytes / 2**20:g} MB" if chip.flash_bytes else "of a size it does not say"
        raise FlashError(f"wrong flash size: the flash is {has}, and {needs}: take another board")


# --- what is asked ---------------------------------------------------------------------------------------------------


def _asks() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _find_port() -> str:
    from ..flashing.esp_chip import find_ports

    ports = find_ports()
    if not ports:
        cure = "plug it in with a cable that carries data, not one for charging alone, or name its port with --port"
        raise FlashError(f"no port of a board is found: {cure}")
    if len(ports) == 1:
        return ports[0][0]
    if not _asks():
        raise FlashError(f"there are several ports: name one with --port ({', '.join(port for port, _ in ports)})", 2)
    return ports[_choose("Which port is the board's?", [f"{port}  {about}" for port, about in ports])][0]


def _ask_board(chip: str) -> Path:
    from ..source_tree import board_files

    rows = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in board_files().items()}
    rows = {name: row for name, row in rows.items() if row.get("chip") == chip}
    if not _asks():
        raise FlashError(f"name the board with --board ({', '.join(rows) or 'your own file.json'})", 2)
    shown = [f"{row['name']}{'' if row['confirmed'] else '*'}: {row['about']}" for row in rows.values()]
    question = "Which board is it? (*: its pins are its maker's or other projects', no chip has confirmed them yet)"
    return board_file([*rows, "custom"][_choose(question, [*shown, "another one: you are asked for its pins"])])


def _choose(question: str, answers: list[str]) -> int:
    print(question)
    for number, answer in enumerate(answers, 1):
        print(f"  {number}  {answer}")
    while True:
        text = input(f"1 to {len(answers)}: ").strip()
        if text.isdecimal() and 1 <= int(text) <= len(answers):
            return int(text) - 1


def _asked_settings() -> bytes | None:
    """Wi-Fi and broker, as the owner types them; passwords are not shown. None where they are given later."""
    from ..settings.device_check import settings_problems
    from ..settings.on_board import made_password

    if not _asks():
        raise FlashError("the board has no settings yet: give your Wi-Fi and broker with --settings FILE", 2)
    while True:
        print("Your Wi-Fi (2.4 GHz) and your MQTT broker (in Home Assistant: the add-on Mosquitto):")
        given: dict[str, object] = {"wifi_ssid": input("  Wi-Fi's name (empty: you give it later): ").strip()}
        if not given["wifi_ssid"]:
            return None
        given["wifi_password"] = getpass.getpass("  Wi-Fi's password (not shown): ")
        given["mqtt_host"] = input("  broker's name or address: ").strip()
        given["mqtt_user"] = input("  broker's user (empty for none): ").strip()
        given["mqtt_password"] = getpass.getpass("  broker's password (not shown): ") if given["mqtt_user"] else ""
        given["setup_password"] = made_password()
        content = json.dumps(given, ensure_ascii=False, indent=1).encode() + b"\n"
        with tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:
            file = Path(folder, _SETTINGS)
            file.write_bytes(content)
            problems, _ = settings_problems(file)
        if not problems:
            _tell_setup_password(given["setup_password"])
            return content
        print(f"{'; '.join(problems)}.")


def _with_setup_password(content: bytes, before: bytes | None) -> bytes:
    """The settings with a password for the probe's own Wi-Fi: theirs, else that of `before`, else a new one."""
    from ..settings.on_board import made_password

    given = json.loads(content)
    if "setup_password" in given:
        return content
    try:
        kept = json.loads(before or b"{}")["setup_password"]
    except (ValueError, LookupError, TypeError):
        kept = None
    given["setup_password"] = kept or made_password()
    if not kept:
        _tell_setup_password(given["setup_password"])
    return json.dumps(given, ensure_ascii=False, indent=1).encode() + b"\n"


def _tell_setup_password(password: object) -> None:
    print("Should your Wi-Fi ever be away, the probe opens one of its own, to be set up anew: note down its")
    print(f"password {password}")


# --- what is shown ---------------------------------------------------------------------------------------------------


def _plan(args: argparse.Namespace, board: Path | None, stock: Stock) -> list[str]:
    from ..flashing.esp_chip import FAST_BAUD, copying_s
    from ..flashing.file_system import pack

    chip = f"an {spelt(stock.chip)} with {stock.flash_bytes // 2**20} MB of flash"
    keep = "Erase everything" if args.erase else "Read the board's own files (settings, totals), to keep them"
    shown = ["Plan:", f" 1. See that {chip} is at {args.port or 'the port'}", f" 2. {keep}"]
    rows = [(part.what, part.offset, len(part.data)) for part in stock.parts]
    if board is not None:
        files, modules = build_files(board, args.settings, stock.rom)
        pack(files, stock.vfs.size // BLOCK)
        rows += [(part.what, part.offset, len(part.data)) for part in rom_parts(stock, modules)]
        rows.append((f"{len(files)} files for {board.stem}", stock.vfs.offset, sum(map(len, files.values()))))
    else:
        rows.append(("files for the board that you will be asked for", stock.vfs.offset, stock.vfs.size))
    shown.append(" 3. Write, a piece of 64 KB erased at a time:")
    shown += [f"      {offset:#9x}  {size:9,} bytes  {what}" for what, offset, size in rows]
    shown.append(f"    Over the cable at {FAST_BAUD} baud: {copying_s(sum(size for *_, size in rows)):.0f} s at most")
    settings = args.settings or ("asked" if args.erase else "those that the board has, else asked")
    shown.append(f"    Settings: {settings}")
    shown.append(" 4. Verify each by its MD5, computed by the chip")
    shown.append(" 5. Restart" + ("" if args.no_watch else f", and show for {_WATCH_S:.0f} s what the probe says"))
    return [*shown, "Nothing was touched."]


class _Progress:
    """A bar that is written over on a terminal, a line at the end elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = terminal.LiveLines() if terminal.is_terminal() else None

    def __enter__(self) -> _Progress:
        if self._live is not None:
            self._live.show([f"{self._what} ..."])
        return self

    def __call__(self, done: int, total: int) -> None:
        if self._live is not None:
            full = 30 * done // total
            mark = "#" if self._live.is_ascii else "█"
            self._live.show([f"{mark * full:30} {100 * done // total:3} %  {self._what}"])
        elif done == total:
            print(f"{self._what}: done", flush=True)

    def __exit__(self, *_: object) -> None: ...


def _watch(port: str, began_s: float) -> int:
    from ..flashing.board_console import watch

    print(f"What the probe says (up to {_WATCH_S:.0f} s, Ctrl-C ends):", flush=True)
    heard = watch(port, _WATCH_S, lambda sentence: print(f"  {sentence}", flush=True))
    if heard.connected:
        light = f"the light: {heard.light}" if heard.light else ""
        print("Done: " + "; ".join(filter(None, (heard.connected, light, heard.reading))) + ".")
        if heard.reading:
            print(f"From the command to the first reading: {time.monotonic() - began_s:.0f} s.")
        return 0
    if heard.waits:
        given = f"give it by optoprobe config --port {port}, in a browser, or with a phone in the probe's own Wi-Fi"
        print(f"Done: the probe waits for its Wi-Fi; {given}.")
        return 0
    if heard.trouble:
        raise FlashError(f"the probe runs, but {heard.trouble}; correct it with optoprobe config --port {port}")
    cure = f"press RESET and see what it says with optoprobe monitor --console {port}"
    raise FlashError(f"the probe has not told of its broker within {_WATCH_S:.0f} s: {cure}")
