"""A chip of the ESP32 family on a serial port, through esptool: what it is, what it holds, and writing into it.

Its boot ROM reads and the stub that esptool loads writes. What is written goes in pieces: each is erased, written and
compared by its MD5 before the next is touched, and one that stands there already is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..board_port import port_fault
from .error import FlashError
from .stock_format import Part

FAST_BAUD = 460_800
_ROM_BAUD = 115_200
_PIECE_BYTES = 64 * 1024  # what flash erases fastest
_CONNECT_ATTEMPTS = 3
# Makers of the USB bridges on such boards: Espressif, Silicon Labs, WCH, FTDI.
_USB_MAKERS = (0x303A, 0x10C4, 0x1A86, 0x0403)

_AGAIN = "; run this again, and if it fails again the flash or the supply is bad: try another cable, then another board"

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def copying_s(n_bytes: int) -> float:
    """Seconds that so many bytes take over the cable, ten bits each; esptool packs them, so that it is less."""
    return n_bytes * 10 / FAST_BAUD


def find_ports() -> list[tuple[str, str]]:
    """(device, what it says it is) of each serial port that may be a board's."""
    from serial.tools import list_ports

    return sorted((port.device, port.description or "") for port in list_ports.comports() if port.vid in _USB_MAKERS)


def boot_mode_cure(port: str) -> str:
    """How a board is brought to listen."""
    return (
        f"hold the button BOOT (on boards without the word: 0 on a classic ESP32, 9 on a C3), press RESET or plug the "
        f"board in anew, let go after a second, and run this again with --port {port}"
    )


class Chip:
    """The chip at `port`. Every method may raise FlashError."""

    def __init__(self, port: str) -> None:
        check_port(port)
        try:
            from esptool import cmds
            from esptool.logger import log
        except ImportError as error:
            raise FlashError("esptool is missing: pip install 'optoprobe[flash]'", 2) from error
        log.set_verbosity("silent")
        self._cmds = cmds
        self.port = port
        with self._told("connecting"):
            self._rom = self._esp = cmds.detect_chip(port, _ROM_BAUD, connect_attempts=_CONNECT_ATTEMPTS)
            cmds.attach_flash(self._esp)
            self._size = cmds.detect_flash_size(self._esp)
            if self._size is not None:
                self._esp.flash_set_parameters(self.flash_bytes)
            self.number = bytes(self._esp.read_mac("BASE_MAC")).hex()
            self.revision: int = self._esp.get_chip_revision()  # 101 of v1.1
        self.name: str = self._esp.CHIP_NAME
        self.chip: str = self.name.lower().replace("-", "")

    def __enter__(self) -> Chip:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            if not self._esp.IS_STUB:  # nothing was written: a probe goes on, it would wait in its boot ROM for ever
                self.restart()
        with contextlib.suppress(Exception):
            self._esp._port.close()

    @property
    def flash_bytes(self) -> int:
        """The flash's size, 0 where it does not say."""
        text = self._size or "0KB"
        return int(text[:-2]) * {"KB": 1024, "MB": 1024 * 1024}[text[-2:]]

    def read(self, offset: int, size: int) -> bytes:
        """Some bytes of the flash, by the boot ROM: only before the first write."""
        with self._told("reading"):
            return self._rom.read_flash(offset, size)

    def _begin_writing(self) -> None:
        if self._esp.IS_STUB:
            return
        with self._told("loading the writer"):
            self._esp = self._cmds.run_stub(self._esp)
            self._esp.change_baud(FAST_BAUD)
            self._cmds.attach_flash(self._esp)
            self._esp.flash_set_parameters(self.flash_bytes)

    def erase(self) -> None:
        """Everything, settings and what other programs left too."""
        self._begin_writing()
        with self._told("erasing"):
            self._cmds.erase_flash(self._esp)

    def write(self, part: Part, progress: Progress) -> None:
        self._begin_writing()
        for at in range(0, len(part.data), _PIECE_BYTES):
            piece = part.data[at : at + _PIECE_BYTES]
            with self._told(f"writing {part.what}"):
                self._cmds.write_flash(self._esp, [(part.offset + at, piece)], no_progress=True, skip_flashed=True)
            progress(at + len(piece), len(part.data))

    def verify(self, parts: Sequence[Part]) -> None:
        """Have the chip compute what it holds. Raises FlashError for what differs."""
        for part in parts:
            data = part.data + b"\xff" * (-len(part.data) % 4)
            with self._told(f"verifying {part.what}"):
                found = self._esp.flash_md5sum(part.offset, len(data))
            if found != hashlib.md5(data).hexdigest():
                raise FlashError(f"verify failed: the {part.what} at {part.offset:#x} is not what was written{_AGAIN}")

    def restart(self) -> None:
        with self._told("restarting"):
            self._cmds.reset_chip(self._esp, "hard-reset")

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn whatever goes wrong in the line into one sentence."""
        from esptool.util import FatalError
        from serial import SerialException

        try:
            yield
        except (FatalError, SerialException, OSError, _termios_error()) as error:
            raise FlashError(_sentence(doing, self.port, str(error))) from error


def _termios_error() -> Any:
    """What a port that has gone raises beside OSError, where there is such a thing."""
    try:
        import termios
    except ImportError:
        return OSError
    return termios.error


def check_port(port: str) -> None:
    """Raises FlashError where the port cannot be opened at all."""
    fault = port_fault(port)
    if fault:
        raise FlashError(fault)


def _sentence(doing: str, port: str, said: str) -> str:
    if "Verif" in said or "MD5" in said or "match" in said and doing.startswith("writing"):
        return f"verify failed in {doing}{_AGAIN}"
    if doing == "connecting":
        if "busy" in said or "exclusively" in said:
            return f"another program uses {port}: close it and run this again"
        return f"no chip answers at {port}: {boot_mode_cure(port)}"
    first = said.strip().splitlines()[0].rstrip(".") if said.strip() else "no answer"
    cure = "plug it in firmly and run the same command again, it goes on where it was"
    return f"the board was lost in {doing} ({first}): {cure}"
