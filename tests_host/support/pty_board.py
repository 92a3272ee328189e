"""A board that runs MicroPython, on a pty: the unix port behind a raw REPL, its file system a littlefs in RAM."""

import os
import pty
import subprocess
import sys
import threading
import tty

from optoprobe.environment import runtime

# Runs on the unix port: executes what comes on stdin (length in a line, then the code) and answers as a raw REPL does.
# Written to stderr: what the board was asked to do to itself.
BOARD = r"""
import io, sys, time, vfs

class Flash:
    SIZE = 512
    def __init__(self, blocks):
        self.data = bytearray(blocks * self.SIZE)
    def readblocks(self, n, buf, off=0):
        at = n * self.SIZE + off
        buf[:] = self.data[at : at + len(buf)]
    def writeblocks(self, n, buf, off=None):
        at = n * self.SIZE + (off or 0)
        self.data[at : at + len(buf)] = buf
    def ioctl(self, op, arg):
        return len(self.data) // self.SIZE if op == 4 else self.SIZE if op == 5 else 0

class Named:
    def __init__(self, **names):
        self.__dict__.update(names)

def note(*words):
    print(*words, file=sys.stderr)

class Gone(Exception):
    pass

class Loop:
    # a UART with a mirror before it: what is sent comes back, of 300 baud nothing does where `blind`, and on a pin that
    # was not made one for signals nothing at all
    blind = False
    late = b""
    def __init__(self, id, **settings):
        self.settings = settings
        self.got = b""
    def write(self, data):
        if self.settings["rx"] in Machine.inputs and not (Loop.blind and self.settings["baudrate"] == 300):
            self.got += data
        return len(data)
    def txdone(self):
        return True
    def sendbreak(self):
        self.got += b"\0"
    def init(self, **settings):
        self.settings.update(settings)
        self.got = self.late  # a bit that was still on its way
    def any(self):
        return len(self.got)
    def read(self, n=None):
        got, self.got = self.got, b""
        return got or None
    def deinit(self):
        pass

class Machine:
    WDT_RESET = 3
    INV = 0
    cause = 1
    rtc = b""
    bites_ms = None  # when a short watchdog bites
    UART = Loop
    inputs = ()
    class Pin:
        IN = 1
        def __init__(self, number, mode):
            Machine.inputs += (number,)
    def reset(self):
        note("reset")
        Machine.inputs = ()
        Machine.cause = 2
        Machine.rtc = b"OPR1\1\1" + Machine.rtc[6:]  # boot.py counts it
        raise Gone()
    def reset_cause(self):
        if Machine.bites_ms is not None and time.ticks_diff(time.ticks_ms(), Machine.bites_ms) >= 0:
            return 3
        return Machine.cause
    def WDT(self, timeout):
        note("watchdog", timeout)
        if timeout < 10000:  # nothing feeds it
            Machine.bites_ms = time.ticks_add(time.ticks_ms(), timeout)
            raise Gone()
    def RTC(self):
        return self
    def memory(self, data=None):
        if data is None:
            return Machine.rtc
        note("memory", data)
        Machine.rtc = data

class Network:
    STA_IF = 0
    joined = False
    def WLAN(self, interface):
        return self
    def active(self, on):
        return True
    def connect(self, ssid, password):
        note("joins", ssid)
        self.joined = True
    def isconnected(self):
        return self.joined
    def status(self, what):
        return -61

class Partition(bytearray):
    # an ESP32's for ROMFS: what is written was erased before; `cut_at` is a power cut
    cut_at = -1
    def ioctl(self, op, arg):
        if op == 6:
            note("erase", arg)
            self[arg * 4096 : arg * 4096 + 4096] = b"\xff" * 4096
        return len(self) // 4096 if op == 4 else 4096 if op == 5 else 0
    def writeblocks(self, n, buf, off):
        at = n * 4096 + off
        assert self[at : at + len(buf)] == b"\xff" * len(buf)
        if at <= Partition.cut_at < at + len(buf):
            buf = buf[: Partition.cut_at - at]
            Partition.cut_at = -1
            self[at : at + len(buf)] = buf
            raise OSError("no power")
        self[at : at + len(buf)] = buf

class Vfs:
    def __init__(self, rom):
        self.VfsRom, self.mount, self.umount, self.rom = vfs.VfsRom, vfs.mount, vfs.umount, rom
        self.rom_ioctl = lambda op, number=0: 1 if op == 1 else rom if op == 2 else -22

class System:
    platform = "esp32"
    implementation = sys.implementation
    path = sys.path
    modules = sys.modules

real = sys
flash = Flash(1000)
vfs.VfsLfs2.mkfs(flash)
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash), "/")
real.path[:] = ["", "/lib"]
real.modules["machine"] = Machine()
real.modules["network"] = Network()
real.modules["sys"] = System()
if ROM_BYTES:
    real.modules["vfs"] = Vfs(Partition(ROM_BYTES))
scope = {}
while True:
    line = real.stdin.buffer.readline()
    if not line:
        break
    code = real.stdin.buffer.read(int(line))
    real.stdout.buffer.write(b"OK")
    error = io.StringIO()
    try:
        exec(code, scope)
    except Gone:  # a board that resets says nothing more
        continue
    except Exception as e:
        real.print_exception(e, error)
    real.stdout.buffer.write(b"\x04" + error.getvalue().encode() + b"\x04>")
"""
RAW = b"raw REPL; CTRL-B to exit\r\n>"


class PtyBoard:
    """A board at `port`, with so many bytes for ROMFS. `soft_resets`: how often it was asked for one."""

    def __init__(self, rom_bytes=0):
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.soft_resets = 0
        self._board = subprocess.Popen(
            [runtime.micropython(), "-X", "heapsize=2m", "-c", f"ROM_BYTES = {rom_bytes}\n{BOARD}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._answer)]
        for thread in self._threads:
            thread.start()

    def _listen(self):
        """The raw REPL's control characters; code goes to the board."""
        assert self._board.stdin is not None
        code = bytearray()
        raw = False
        while True:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # closed
                return
            for byte in data:
                if byte == 0x01:  # Ctrl-A; behind Ctrl-E it is the end of a request for raw paste, which we decline
                    raw = True
                    if code[:1] == b"\x05":
                        os.write(self._master, b"R\x00")
                    else:
                        os.write(self._master, RAW)
                    code.clear()
                elif byte == 0x02:
                    raw = False
                    code.clear()
                elif byte == 0x03:
                    code.clear()
                elif byte == 0x04 and raw and not code:
                    self.soft_resets += 1
                    os.write(self._master, b"OK\r\nMPY: soft reboot\r\n" + RAW)
                elif byte == 0x04 and raw:
                    self._board.stdin.write(b"%d\n" % len(code) + code)
                    self._board.stdin.flush()
                    code.clear()
                elif raw and (code or byte not in b"\r"):
                    code.append(byte)

    def _answer(self):
        assert self._board.stdout is not None
        while data := os.read(self._board.stdout.fileno(), 4096):
            os.write(self._master, data)

    @property
    def is_running(self):
        return self._board.poll() is None

    def ask(self, code):
        """What `code` prints on the board, through mpremote."""
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", self.port, "resume", "exec", code],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self):
        """Ends it; returns what it was asked to do to itself, a line each."""
        assert self._board.stdin is not None and self._board.stderr is not None
        self._board.stdin.close()
        notes = self._board.stderr.read().decode().splitlines()
        self._board.wait(10)
        self._threads[1].join(10)
        os.close(self._slave)
        os.close(self._master)
        return notes
