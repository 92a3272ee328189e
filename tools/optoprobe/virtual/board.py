"""The virtual board: the unmodified boot.py, main.py and firmware under the MicroPython unix port, hardware faked.

    simulated meter ─► virtual line ─► optical server ─loopback─► fakes/machine.UART ─► firmware ─► a real MQTT broker

The device's file tree is built as for a real board (compiled .mpy), in a directory of its own that is the device's
root. `runtime="cpython"` runs the same sources under CPython where no MicroPython is to be had; it proves less.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from optoprobe import simulated, source_tree
from optoprobe.building import cache, device_tree, rom_image
from optoprobe.building.name_mapping import EVERYWHERE, NameMap
from optoprobe.environment import runtime
from optoprobe.virtual.broker import tied
from optoprobe.virtual.console import Console

FAKES = Path(__file__).parent / "fakes"
HEAP_BUDGET = 64 * 1024  # of the whole firmware
# What stands in the virtual board's heap and in an ESP32's flash: the fakes, and umqtt.simple.
# tests_host/device/test_firmware_memory.py measures that it is no less.
HARDWARE_BYTES = 8448
# What the firmware takes beyond the budget, as docs/figures.md has it measured, and 2 KiB: with SML; to find the meter,
# beside that. What another protocol takes beside that stands with its simulated meter.
BEYOND_BYTES = 9 * 1024
DETECTION_BYTES = 18 * 1024
TLS_BYTES = 8 * 1024  # of Python's heap; what Mbed TLS takes is the process's
PAGE_BYTES = 27 * 1024  # of the probe's own page, judged while the code that makes the parts is still there
# A chip's heap begins with one area, and what the firmware takes beyond it lies in a second one: no object in both. So
# a block lies between the two here, which is no part of either.
FIRST_AREA_BYTES = 56 * 1024  # of a classic ESP32; 64 KiB of others
_BETWEEN_BYTES = 1024  # it must not fit into a hole before it
_BEGUN_BYTES = 1800  # in use when the program begins
_AREAS = "import gc\nbuf = bytearray(%d)\ndata = bytearray(%d)\ndel buf\ngc.collect()\n"  # names that stand in flash
_START = "import boot, main"
# MicroPython mounts ROMFS before boot.py. The image lies outside its heap here too, as in a chip's flash.
_ROM_FILE = "rom.img"
_MOUNT_ROM = f"""
import ffi, uctypes, vfs
with open("{_ROM_FILE}", "rb") as file:
    size = file.seek(0, 2)
    data = ffi.open(None).func("p", "mmap", "pIiiii")(0, size, 1, 2, file.fileno(), 0)
vfs.mount(vfs.VfsRom(uctypes.bytearray_at(data, size)), "/rom")
del ffi, uctypes, vfs, file, size, data
"""
_START_ON_CPYTHON = "import on_cpython, boot, main"
_STOP_S = 3
_RESET = 77  # exit status of fakes.machine.reset()
_HARD_RESET, _WDT_RESET = 2, 3  # of machine.reset_cause()
_LOG_LINES = 1000

Network = tuple[str, int, str]  # a Wi-Fi's name, dBm, password ("" for an open one)


def granted_bytes(protocol: str) -> int:
    """What the firmware is given to read a meter of `protocol`, "auto" to find it, without what a chip has in flash."""
    more = simulated.heap_bytes(protocol) + (DETECTION_BYTES if protocol == "auto" else 0)
    return HEAP_BUDGET + BEYOND_BYTES + more


def _fakes(compiled: bool) -> list[Path]:
    return sorted([*FAKES.glob("*.py"), *(FAKES.glob("one_at_a_time/*.py") if compiled else ())])


@functools.cache
def _texts_in_flash(umqtt: Path) -> dict[str, str]:
    """The fakes and umqtt, whose names stand in a chip's flash: those that our files do not say go where they cost
    nothing here either. Else they would fill the string pool on the heap, which doubles where a chip's does not.
    """
    files = {source.as_posix(): source for source in (*_fakes(compiled=True), umqtt)}
    sources = {path: file.read_text(encoding="utf-8") for path, file in files.items()}
    names = (*source_tree.STARTERS, *source_tree.device_modules())
    ours = [source_tree.source(name).read_text(encoding="utf-8") for name in names]

    def mapped() -> dict[str, str]:
        with device_tree.MAPPING:
            name_map = NameMap(sources, ["\n".join(_said(ours))], on_esp32=False, kept=(EVERYWHERE,))
            return {path: name_map.apply(path, text) for path, text in sources.items()}

    return cache.kept(mapped, [Path(__file__).read_text(encoding="utf-8"), *sources, *sources.values(), *ours])


def _said(texts: Iterable[str]) -> list[str]:
    said: set[str] = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            words = (value for key, value in ast.iter_fields(node) if key in ("attr", "arg", "name", "value"))
            said |= {word for word in words if isinstance(word, str) and word.isidentifier()}
    return sorted(said)


class VirtualBoard:
    """A device in `directory`, its head on the optical server at `line_port`. `log` holds what it printed.

    With `has_console` its console is at `console.port`; `air` are the networks that are there. `in_rom`: its modules
    are run from ROMFS (rom_image), as a few boards of custom builds can.

    Where its program resets the chip or its watchdog bites it is started again, and `resets` has the cause (of
    machine.reset_cause()) appended.
    """

    def __init__(
        self,
        directory: Path,
        settings: dict[str, object] | None,
        line_port: int,
        *,
        board: dict[str, object] | Path | None = None,
        runtime_name: str = "micropython",
        heap_bytes: int | None = None,
        reset_cause: int = 1,
        start: str | None = None,
        has_console: bool = False,
        air: list[Network] | None = None,
        in_rom: bool = False,
    ) -> None:
        if runtime_name not in ("micropython", "cpython"):
            raise ValueError("the runtime is micropython or cpython")
        self.directory = directory
        self.line_port = line_port
        self.log: list[str] = []
        self.reset_cause = reset_cause
        self.resets: list[int] = []
        self._on = self._has_spoken = False
        self._switching = threading.Lock()
        self._runtime = runtime_name
        if settings is not None:  # a screen shows every telegram, as a hub should not
            settings = {"publish_interval_s": 0} | dict(settings)
        protocol = settings.get("protocol") if settings else None
        more = TLS_BYTES if settings and settings.get("mqtt_tls_ca") else 0
        more += PAGE_BYTES if settings and settings.get("device_password") else 0
        self._heap_bytes = heap_bytes or HARDWARE_BYTES + granted_bytes(str(protocol or "auto")) + more
        self._start = start
        self._mount = _MOUNT_ROM if in_rom else ""
        self.console = Console(self._write, self._interrupts) if has_console else None
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True)
        board = board if board is not None else source_tree.board_files()["virtual"]
        compiled = runtime_name == "micropython"
        files = device_tree.build(directory, board, settings, compiled=compiled, on_esp32=False)
        if in_rom:
            (directory / _ROM_FILE).write_bytes(rom_image.image(directory, files))
            rom_image.take_out(directory, files)
        hardware = directory / "hardware"  # what an ESP32 has in its flash image: machine, network, umqtt
        (hardware / "umqtt").mkdir(parents=True, exist_ok=True)
        umqtt = runtime.umqtt() / "umqtt" / "simple.py"
        in_flash = _texts_in_flash(umqtt) if compiled else {}
        for source in _fakes(compiled):
            device_tree.install(source, hardware, compiled, in_flash.get(source.as_posix()))
        if air is not None:  # else any Wi-Fi is there, and any password is right
            device_tree.install(FAKES / "air" / "network.py", hardware, compiled=compiled)
            (directory / "air.json").write_text(json.dumps(air))
        device_tree.install(umqtt, hardware / "umqtt", compiled, in_flash.get(umqtt.as_posix()))

    def start(self) -> VirtualBoard:
        """Power on."""
        self._on = True
        self._launch(self.reset_cause)
        self._pump = threading.Thread(target=self._live, daemon=True)
        self._pump.start()
        return self

    def _launch(self, reset_cause: int) -> None:
        paths = ["", "lib", "hardware"]  # beneath the working directory, as on the device
        environment = dict(os.environ, OPTOPROBE_LINE_PORT=str(self.line_port))
        environment["OPTOPROBE_RESET_CAUSE"] = str(reset_cause)
        if self._runtime == "micropython":
            environment["MICROPYPATH"] = ":".join([*paths, ".frozen"])
            heap_bytes, start = self._heap_bytes, self._mount + (self._start or _START)
            if heap_bytes > FIRST_AREA_BYTES + HARDWARE_BYTES and not self._start:
                first = (FIRST_AREA_BYTES + HARDWARE_BYTES) * 128 // 131  # the rest is the collector's table
                heap_bytes += _BETWEEN_BYTES
                start = _AREAS % (first - _BEGUN_BYTES, _BETWEEN_BYTES) + start
            command = [str(runtime.micropython()), "-X", f"heapsize={heap_bytes}", "-c", start]
        else:
            environment["PYTHONPATH"] = ":".join(paths)
            environment["PYTHONUNBUFFERED"] = "1"
            command = [sys.executable, "-c", self._start or _START_ON_CPYTHON]
        self._has_spoken = False
        self._process = subprocess.Popen(
            tied(command),
            cwd=self.directory,
            env=environment,
            stdin=subprocess.PIPE if self.console else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def _live(self) -> None:
        """Read what it prints, and start it again when it has reset itself."""
        while True:
            process = self._process
            assert process is not None and process.stdout is not None
            rest = b""
            while data := os.read(process.stdout.fileno(), 4096):
                self._has_spoken = True
                if self.console:
                    self.console.say(data)
                *lines, rest = (rest + data).split(b"\n")
                self._note(lines)
            self._note([rest] if rest else [])
            cause = {_RESET: _HARD_RESET, -signal.SIGALRM: _WDT_RESET}.get(process.wait())
            with self._switching:
                if cause is None or not self._on:
                    return
                self.resets.append(cause)
                self._launch(cause)

    def _note(self, lines: list[bytes]) -> None:
        self.log += [line.decode("utf-8", "replace") for line in lines[: _LOG_LINES - len(self.log)]]

    def _write(self, data: bytes) -> None:
        """What somebody types on the console goes to the program."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):  # it has just ended
                process.stdin.write(data)

    def _interrupts(self) -> bool:
        """A Ctrl-C has come: where the program has MicroPython look for one (kbd_intr), it gets a KeyboardInterrupt.

        None before the program has said anything: a chip is through boot.py's first lines in microseconds, a busy
        computer is not, and a browser that looks for Improv types a 03 a second.
        """
        process = self._process
        if process is None or not self._has_spoken:
            return False
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)
            if caught >> (signal.SIGINT - 1) & 1:
                process.send_signal(signal.SIGINT)
                return True
        return False

    @property
    def running(self) -> bool:
        """Is the device's program still alive?"""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """Nothing runs any more, as in a stall of everything, until thaw()."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Power off at this very instant."""
        with self._switching:
            self._on = False
        self._signal(signal.SIGKILL)
        self.stop()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Power off."""
        if self._process is None:
            return
        with self._switching:
            self._on = False
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._pump is not None:
            self._pump.join(_STOP_S)
        self._process = None
        if self.console:
            self.console.close()

    def __enter__(self) -> VirtualBoard:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
