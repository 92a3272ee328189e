"""`optoprobe deploy --port PORT --board NAME`: the application onto a board that runs MicroPython.

The plan that --dry-run prints and the plan that is carried out are the same list of steps. Three things about a board
that is already a probe shape it (from the ports' sources; not yet seen on hardware):

- Its watchdog cannot be stopped and nothing feeds it once the program is interrupted, so the first step gives it a
  time that outlasts the copying.
- Its network thread goes on after Ctrl-C and may print into mpremote's conversation, so a soft reset ends it; boot.py
  runs then, which arms the watchdog anew, so it is given that time again. Its count of restarts is cleared first, or
  its safe mode could keep us waiting. No other step resets.
- A .py file is imported before the .mpy of the same name, so what an earlier version left is removed.

Where MicroPython has a partition for ROMFS (rom_image) that is large enough, the modules go there. What starts the
probe is taken away before it is written and copied again when it was compared: in between, a power cut leaves a board
that waits for the next deployment and runs nothing, as a torn module could hang before the watchdog is armed.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..flashing.stock_format import LEAST_VERSION
from ..settings.given_files import BOARD_HELP, GivenFileError, board_file, check_settings
from ..source_tree import STARTERS

_PLATFORM = "esp32"  # sys.platform of every chip of the family
_PORT_UNSAID = "PORT"  # stands for the port in a plan without one
_STEP_TIMEOUT_S = 600
_SAY_VERSION = """\
import sys
print(sys.platform, sys.implementation.name, *sys.implementation.version[:2])
"""

# Prints the size of the partition for ROMFS, its begin and the SHA-256 of its first bytes; nothing where there is none.
_ASK_ROM = """\
try:
    import vfs
    rom = memoryview(vfs.rom_ioctl(2, 0) if vfs.rom_ioctl(1) > 0 else b"")
except (ImportError, AttributeError, OSError):  # most have not got it
    rom = b""
if rom:
    import hashlib
    print("rom", len(rom), bytes(rom[:{n_begin}]).hex(), hashlib.sha256(rom[:{n_bytes}]).digest().hex())
"""

_TAKE_STARTERS = """\
import os
for name in {starters}:
    if name in os.listdir():
        os.remove(name)
"""

_REMOVE_STALE = """\
import os
def clean(folder, keep):
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            clean(path, keep)
            if not list(os.ilistdir(path)):
                os.rmdir(path)
        elif path not in keep:
            os.remove(path)
            print("removed", path)
for folder in {folders}:
    try:
        clean(folder, {keep})
        os.rmdir(folder)
    except OSError:  # there is none, or it is not empty
        pass
"""


class DeployError(Exception):
    """Stops the deployment; the text is one sentence with the cure. `code` is the command's exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Step:
    """One call of mpremote: what for, and its arguments. `checks_board`: its output says what the board runs;
    `checks_rom`: and what its ROMFS holds.
    """

    purpose: str
    arguments: tuple[str, ...]
    checks_board: bool = False
    checks_rom: bool = False


@dataclass(frozen=True)
class Rom:
    """A board's partition for ROMFS: its bytes, 0 for none, and whether it holds the image, or one that is not ours."""

    n_bytes: int
    is_there: bool
    is_anothers: bool


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "deploy",
        help="the application onto a board that runs MicroPython",
        description="Compiles the application and copies it, with the board's description and your settings, onto a "
        "board that runs MicroPython 1.25 or newer. Without --settings the board keeps the settings it has.",
        epilog="Exit code 0 when it is done, 1 when the board would not, 2 for wrong usage or a file that cannot be "
        "used.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", help="serial port of the board, such as /dev/ttyACM0 or COM3")
    parser.add_argument("--board", required=True, metavar="NAME", help=BOARD_HELP)
    parser.add_argument("--settings", type=Path, metavar="FILE", help="your settings, a JSON file")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done and touch nothing")


def run(args: argparse.Namespace) -> int:
    from ..building import rom_image
    from ..building.device_tree import BuildError, build

    try:
        if not args.port and not args.dry_run:
            raise DeployError("name the board's serial port with --port, or see the plan alone with --dry-run")
        board = board_file(args.board)
        if args.settings is not None:
            unknown = check_settings(args.settings)
            if unknown:
                print(f"Settings this version does not know are copied all the same: {', '.join(unknown)}.")
        with tempfile.TemporaryDirectory(prefix="optoprobe-") as folder:  # readable for its owner only
            tree = Path(folder, "tree")
            files = build(tree, board, args.settings)
            image = Path(folder, "probe.romfs")
            image.write_bytes(rom_image.image(tree, files))
            if args.dry_run:
                print("\n".join(_plan_text(plan(args.port or _PORT_UNSAID, tree, files, image), tree, files, image)))
            else:
                _carry_out(args.port, tree, files, image)
    except (DeployError, GivenFileError, BuildError) as error:
        print(f"optoprobe deploy: {error}.", file=sys.stderr)
        return error.code if isinstance(error, DeployError) else 2
    return 0


def plan(port: str, tree: Path, files: Sequence[Path], image: Path, rom: Rom | None = None) -> list[Step]:
    """The calls of mpremote that bring `files` below `tree` onto the board at `port`; with `rom` beside what is in
    `image`, which the board's ROMFS gets unless it is there.
    """
    from ..building import rom_image
    from ..building.device_tree import FOLDERS
    from ..settings.on_board import BEGIN

    def step(purpose: str, *arguments: str, resume: bool = True, **checks: bool) -> Step:
        # `resume` keeps mpremote from soft-resetting the board before each call.
        return Step(purpose, ("connect", port, *(["resume"] if resume else []), *arguments), **checks)

    top = [str(tree / name) for name in files if len(name.parts) == 1]
    folders = sorted({name.parts[0] for name in files if len(name.parts) > 1})
    keep = tuple(name.as_posix() for name in files if len(name.parts) > 1)
    remove_stale = _REMOVE_STALE.format(folders=FOLDERS, keep=keep)
    ask_rom = _ASK_ROM.format(n_begin=rom_image.BEGIN_BYTES, n_bytes=image.stat().st_size)
    look = _SAY_VERSION + BEGIN + ask_rom
    end = [step("End what is running", "soft-reset", "exec", BEGIN, resume=False)]
    if rom is not None and not rom.is_there:
        take = _TAKE_STARTERS.format(starters=STARTERS)
        end = [
            step("Take away what starts the probe, and end what is running", "exec", take, "soft-reset"),
            step("Write the modules into ROMFS", "romfs", "deploy", str(image)),
            step("Compare what is there", "exec", ask_rom, checks_rom=True),
        ]
    return [
        step("See what the board runs, and have its watchdog wait", "exec", look, checks_board=True),
        *end,
        *(step(f"Copy {name}/", "fs", "cp", "-r", str(tree / name), ":") for name in folders),
        step("Copy what starts it and describes it", "fs", "cp", *top, ":"),
        step("Remove files of an earlier version", "exec", remove_stale),
        step("Restart the board", "reset"),
    ]


def _plan_text(steps: Sequence[Step], tree: Path, files: Sequence[Path], image: Path) -> list[str]:
    lines = ["Files (TREE is where they are built):"]
    sizes = [(tree / name).stat().st_size for name in files]
    lines += [f"  {size:7,} bytes  {name.as_posix()}" for name, size in zip(files, sizes, strict=True)]
    lines += [f"  {sum(sizes):7,} bytes  in {len(files)} files", "Steps:"]
    for number, step in enumerate(steps, 1):
        lines.append(f"{number}. {step.purpose}")
        command = shlex.join(["mpremote", *step.arguments]).replace(str(tree), "TREE")
        lines += [f"     {line}" for line in command.splitlines()]
    lines.append(f"Where the board has {image.stat().st_size:,} bytes for ROMFS the modules go there instead.")
    return lines + ["Nothing was touched."]


def _carry_out(port: str, tree: Path, files: Sequence[Path], image: Path) -> None:
    from ..building.rom_image import take_out

    steps = plan(port, tree, files, image)
    number = 0
    while number < len(steps):
        step = steps[number]
        number += 1
        print(f"{number}/{len(steps)} {step.purpose} ...", flush=True)
        output = _mpremote(step.arguments)
        if step.checks_board:
            _check_version(output)
            rom = _fitting_rom(output, image)
            if rom is not None:
                steps = plan(port, tree, take_out(tree, files), image, rom)
        elif step.checks_rom and not _rom(output, image).is_there:
            cure = "run this again, and if it fails again the flash is bad"
            raise DeployError(f"the board's ROMFS does not hold what was written, so nothing starts there: {cure}", 1)
    print("Done: the board restarts as a probe.")


def _rom(output: str, image: Path) -> Rom:
    """What `output` of _ASK_ROM tells."""
    from ..building.rom_image import is_anothers

    found = re.search(r"^rom (\d+) ([0-9a-f]+) ([0-9a-f]{64})\s*$", output, re.MULTILINE)
    if found is None:
        return Rom(0, False, False)
    is_there = found[3] == hashlib.sha256(image.read_bytes()).hexdigest()
    return Rom(int(found[1]), is_there, is_anothers(bytes.fromhex(found[2])))


def _fitting_rom(output: str, image: Path) -> Rom | None:
    """The board's ROMFS, None where the modules do not go there; says where they go."""
    rom = _rom(output, image)
    n_bytes = image.stat().st_size
    if rom.is_anothers:
        print("The board's ROMFS holds what is not ours, and is left alone: the modules go into files.")
        return None
    if rom.n_bytes >= n_bytes:
        print("The modules " + ("are in the board's ROMFS already." if rom.is_there else "go into the board's ROMFS."))
        return rom
    if rom.n_bytes:
        print(f"The board has {rom.n_bytes:,} bytes for ROMFS, and the modules take {n_bytes:,}: they go into files.")
    return None


def _mpremote(arguments: Sequence[str]) -> str:
    """Call the mpremote installed beside us (not whichever is first on PATH); returns what it printed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        cure = "unplug the board, plug it in and run this again"
        raise DeployError(f"no answer within {_STEP_TIMEOUT_S} s: {cure}", 1) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        cure = "check the cable and the port, close other programs that use it, and run this again"
        raise DeployError(f"{said.rstrip('.')}; {cure}", 1)
    return done.stdout


def _check_version(output: str) -> None:
    """Raises DeployError unless `output` of the first step names an ESP32 and a version that is new enough."""
    found = re.search(r"^(\w+) micropython (\d+) (\d+)\s*$", output, re.MULTILINE)
    if found is None:
        raise DeployError("what answers is no MicroPython: put all onto the board with optoprobe flash", 1)
    if found[1] != _PLATFORM:
        raise DeployError(f"the board is an {found[1]}: choose the port of an ESP32", 1)
    if (int(found[2]), int(found[3])) < LEAST_VERSION:
        runs, least = f"{found[2]}.{found[3]}", ".".join(map(str, LEAST_VERSION))
        raise DeployError(f"the board runs MicroPython {runs}: put {least} or newer onto it with optoprobe flash", 1)
