"""Where a board has a partition for ROMFS: `optoprobe deploy` by the real mpremote (in this process) onto a board whose
partition takes what an ESP32's takes, and the firmware run from an image. Few modules stand for all, to be quick.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import mpremote.main
import pytest
from mpremote.transport import TransportError
from support.broker import Listener
from support.pty_board import PtyBoard

from optoprobe import source_tree
from optoprobe.building import device_tree, rom_image
from optoprobe.commands import deploy
from optoprobe.commands.deploy import DeployError
from optoprobe.virtual.board import FIRST_AREA_BYTES, HARDWARE_BYTES, VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

ROM_BYTES = 16 * 1024
LONG = f"text = {'0123456789' * 500!r}"  # so that an image has two of the flash's blocks
MODULES = {"probe/dlms/gcm.mpy": "", "probe/guard.mpy": LONG}
BESIDE = ("board.json", "boot.py", "main.py", "probe/page.gz")
FILES = sorted(map(Path, (*MODULES, *BESIDE)))
CUT_AT = 4500  # of a power cut: in the second block

# As a probe of files has it, one of an earlier layout, and what is the owner's.
EARLIER = """
import os
for folder in ("probe", "probe/dlms", "firmware", "lib"):
    os.mkdir(folder)
for path in ("probe/guard.mpy", "probe/dlms/gcm.mpy", "firmware/app.py", "lib/mine.py", "settings.json", "boot.py"):
    with open(path, "w") as file:
        file.write(path)
"""
LIST = """
import os
def walk(folder):
    for entry in os.ilistdir(folder or "/"):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            walk(path)
        else:
            print(path[1:])
walk("")
"""
# What a start of the chip does: MicroPython mounts what it finds, and boot.py says where modules come from.
START = """
import os, sys, vfs
with open("boot.py") as file:
    for line in file:
        if "sys.path" in line:
            exec(line)
try:
    vfs.mount(vfs.VfsRom(vfs.rom_ioctl(2, 0)), "/rom")
except (AttributeError, OSError):
    pass
import guard, dlms.gcm
print(guard.__file__, dlms.gcm.__file__)
for name in ("guard", "dlms", "dlms.gcm"):
    del sys.modules[name]
sys.path.pop(0)
if "rom" in os.listdir("/"):
    vfs.umount("/rom")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A device's files, but two modules for all."""
    tree = tmp_path / "tree"
    (tree / "probe" / "dlms").mkdir(parents=True)
    for name in BESIDE:
        (tree / name).write_text(source_tree.source(name).read_text() if name.endswith(".py") else "{}")
    for name, text in MODULES.items():
        device_tree.install(source_tree.source("boot.py"), tree / Path(name).parent, True, text, Path(name).stem)
    return tree


@pytest.fixture
def board() -> Iterator[PtyBoard]:
    board = PtyBoard(ROM_BYTES)
    yield board
    if board.is_running:
        board.stop()


def by_mpremote(arguments: Sequence[str]) -> str:
    """deploy._mpremote without the second that a process of its own takes."""
    said = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", ["mpremote", *arguments])
        try:
            code: object = mpremote.main.main()
        except SystemExit as error:
            code = error.code
        except TransportError as error:
            code = error
    text = said.buffer.getvalue().decode()
    if code:
        raise DeployError(f"{code}: {text}", 1)
    return text


class Deployment:
    """Deploys onto `board` as often as is asked."""

    def __init__(self, board: PtyBoard, tree: Path, patch: pytest.MonkeyPatch) -> None:
        self.board = board
        self._tree = tree
        self.called: list[str] = []
        self.spoilt = ""  # what happens to the flash behind the writing
        patch.setattr(deploy, "_mpremote", self._called)

    def _called(self, arguments: Sequence[str]) -> str:
        self.called.append(" ".join(arguments[3:5]))
        said = by_mpremote(arguments)
        if self.spoilt and "romfs" in arguments:
            self.ask(self.spoilt)
        return said

    def ask(self, code: str) -> str:
        return by_mpremote(("connect", self.board.port, "resume", "exec", code))

    def carry_out(self) -> None:
        """As optoprobe.commands.deploy.run() has it."""
        self.called.clear()
        with tempfile.TemporaryDirectory() as name:
            tree, image = Path(name, "tree"), Path(name, "probe.romfs")
            shutil.copytree(self._tree, tree)
            image.write_bytes(rom_image.image(tree, FILES))
            deploy._carry_out(self.board.port, tree, FILES, image)

    def files(self) -> set[str]:
        return set(self.ask(LIST).split())

    def has_written(self) -> bool:
        return any(call.startswith("romfs") for call in self.called)


KEPT = {"lib/mine.py", "settings.json"}
IN_ROM = KEPT | set(BESIDE)


def test_modules_go_into_romfs_whatever_happens_between(
    board: PtyBoard, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A power cut, a bad flash, a second deployment, a smaller partition, a stock image: after each the board runs what
    was deployed last or nothing at all, and the next deployment mends it.
    """
    probe = Deployment(board, tree, monkeypatch)
    probe.ask(EARLIER)
    probe.ask(f"import vfs; type(vfs.rom).cut_at = {CUT_AT}")
    with pytest.raises(DeployError, match="no power"):
        probe.carry_out()
    assert probe.files() == KEPT | {"probe/guard.mpy", "probe/dlms/gcm.mpy", "firmware/app.py"}, "nothing starts"

    probe.spoilt = "vfs.rom[100] ^= 1"
    with pytest.raises(DeployError, match="ROMFS does not hold what was written"):
        probe.carry_out()
    assert not {"boot.py", "main.py"} & probe.files()

    probe.spoilt = ""
    probe.carry_out()
    assert probe.files() == IN_ROM and probe.has_written()
    assert probe.ask("import os; print(os.listdir('probe'))") == "['page.gz']\n"
    assert probe.ask(START).split() == ["/rom/probe/guard.mpy", "/rom/probe/dlms/gcm.mpy"]

    probe.carry_out()
    assert probe.files() == IN_ROM and not probe.has_written()

    probe.ask("kept = vfs.rom[:20]; vfs.rom[:20] = b'\\xd2\\xcd\\x31\\x08\\x04\\x06\\x04mine' + bytes(9)")
    capsys.readouterr()
    probe.carry_out()
    assert "ROMFS holds what is not ours" in capsys.readouterr().out and not probe.has_written()
    assert probe.ask("print(bytes(vfs.rom[7:11]))") == "b'mine'\n" and set(MODULES) < probe.files()

    probe.ask("vfs.rom[:20] = kept")
    probe.carry_out()
    assert probe.files() == IN_ROM and not probe.has_written(), "ours is there again"

    probe.ask("size = vfs.rom_ioctl; vfs.rom_ioctl = lambda op, n=0: vfs.rom[:4096] if op == 2 else size(op, n)")
    capsys.readouterr()
    probe.carry_out()
    said = capsys.readouterr().out
    assert "The board has 4,096 bytes for ROMFS, and the modules take 5," in said
    in_files = probe.files()
    assert in_files == IN_ROM | set(MODULES) and not probe.has_written()
    assert probe.ask(START).split() == ["probe/guard.mpy", "probe/dlms/gcm.mpy"]


def test_the_firmware_is_run_from_romfs(tmp_path: Path) -> None:
    """The unmodified one, on a heap that would not do for it from files."""
    heap_bytes = HARDWARE_BYTES + FIRST_AREA_BYTES
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter(1))) as server:
        settings = {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "wifi_ssid": "home", "protocol": "sml"}
        board = VirtualBoard(tmp_path / "device", settings, server.port, heap_bytes=heap_bytes, in_rom=True)
        assert not list((tmp_path / "device" / "probe").rglob("*.mpy"))
        with Listener(broker.port) as listener:
            listener.subscribed()
            with board:
                assert listener.wait_for("/live", 60).object(), board.log
                assert board.running
    assert not [line for line in board.log if "memory" in line.lower()], board.log
