"""The virtual board that starts from what lies in a flash: MicroPython mounts its file system as an ESP32's boot does.

Its console is a pty, and where a Ctrl-C has ended the program there is a raw REPL (raw_repl).
"""

from pathlib import Path

from support import raw_repl, stock_image

from optoprobe.virtual.board import Network, VirtualBoard

_START = """
import os, sys, vfs
class Flash:
    def __init__(self):
        self.file = open("flash.bin", "r+b")
    def readblocks(self, n, buf, off=0):
        self.file.seek(%d + n * 4096 + off)
        self.file.readinto(buf)
    def writeblocks(self, n, buf, off=None):
        self.file.seek(%d + n * 4096 + (off or 0))
        self.file.write(buf)
        self.file.flush()
    def ioctl(self, op, arg):
        return %d if op == 4 else 4096 if op == 5 else 0
flash = Flash()
vfs.mount(vfs.VfsPosix(os.getcwd()), "/host")
vfs.umount("/")
vfs.mount(flash, "/")
sys.path[:] = ["", "/lib", "/host/hardware", ".frozen"]
# What the hardware's fakes keep lies outside the flash.
import builtins
_open = open
def open_there(name, *more):
    return _open("/host/" + name if name in ("air.json", "wifi_log", "rtc_memory") else name, *more)
builtins.open = open_there
print("mounted", sorted(os.listdir("/")))
"""
_HEAP_BYTES = 200 * 1024  # for the fakes and the raw REPL beside the firmware


def board_from(flash: bytes, folder: Path, line_port: int, air: list[Network]) -> VirtualBoard:
    """It has the files in `flash` alone; `air` are the Wi-Fi networks around it."""
    start = _START % (stock_image.VFS_AT, stock_image.VFS_AT, stock_image.VFS_BLOCKS) + raw_repl.START
    board = VirtualBoard(folder, None, line_port, has_console=True, air=air, heap_bytes=_HEAP_BYTES, start=start)
    for path in folder.iterdir():  # only the hardware stays
        if path.name not in ("hardware", "air.json"):
            path.rename(folder.parent / f"unused-{path.name}")
    (folder / "flash.bin").write_bytes(flash)
    return board
