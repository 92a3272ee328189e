"""Python's heap is given a second area of a chosen size before the app is imported. Loaded once, at the start.

The heap of an ESP32 begins with one area (56 KiB on the classic one, 64 KiB on C3, S3 and C6). When it is full,
MicroPython (py/gc.c) adds another as large as all there is, or the largest free block of the chip's own heap if that
is smaller, and gives it back only when it is empty. Wi-Fi and TLS live on what is left. Seen on an emulated classic
ESP32 with MicroPython 1.25: the heap doubled to 112 KiB and 12 KB were left with Wi-Fi joined, too few for TLS, which
takes 30. With an area of 22 KB in its place 74 KB were left.

So the largest free block is made as small as the area ought to be while it comes: UARTs' receive buffers lie in the
chip's own heap, and deinit() gives them back. An area with nothing in it would be given back at the next collection;
the list that grow() returns keeps 16 bytes of it.
"""

import sys

from micropython import const

from metering.unload import unload

_MOST_BUFFER = const(65535)  # the driver takes 16 bits
_LEAST_BUFFER = const(256)  # it must be larger than the UART's own 128
_DRIVER_BYTES = const(1024)  # of a UART beside its receive buffer: 580 were seen
_UARTS = (2, 1)  # 0 may be the console's; a chip with two has no 2, and a C6's 2 is of low power, with pins of its own
_MAX_FILE_BYTES = const(4096)
_TAKEN_BY_AREA = const(2048)  # what MicroPython adds to a block that needs a new area
_LEAST_AREA = const(8192)
_PIECE_BYTES = const(1024)
# KiB that all of Python's heap takes. Of SML the least on 32-bit MicroPython (two areas, 71.0), and 5 more.
# The others are not measured so closely: they get what the doubling would give them, but for 2 KiB, as too little is
# worse than none: a third area takes all that is left. `auto` may end as any of them.
# Less, where code lies in flash (ROMFS): then SML takes 46.5, and what is most (DLMS that is found) 65.0.
_SML_IN_ROM_KIB = const(24)
_IN_ROM_KIB = const(38)
_PAGE_KIB = const(26)  # beside that, where there is a page: its code, and one request
_NEEDED_KIB = {"sml": 76, "blink": 110, "iec62056-21": 110, "dlms": 110, "dlms-client": 110, "auto": 110}
_NEEDED_KIB.update({"mbus": 110, "kmp": 110, "lis200": 110, "modbus": 110, "c1218": 110})


def _object_in(path):
    """The object in the JSON file `path`, an empty one where there is none of use."""
    from firmware.store import read_json

    try:
        found = read_json(path, _MAX_FILE_BYTES)
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def _hold(uarts, board, figures, wanted):
    """Append UARTs to `uarts` until no free block is much larger than `wanted`. `board`: the board file's `uart`."""
    from machine import UART

    rx, tx = board.get("rx"), board.get("tx")
    if not isinstance(rx, int) or not isinstance(tx, int):
        return  # the driver would take pins of its own, on some chips the flash's
    invert = UART.INV_TX if board.get("invert_tx") else 0
    for number in _UARTS[1:] if "C6" in getattr(sys.implementation, "_machine", "") else _UARTS:
        held = min(_MOST_BUFFER, figures.largest_block() - wanted - _DRIVER_BYTES)
        if held < _LEAST_BUFFER:
            return
        try:
            uarts.append(UART(number, 9600, rx=rx, tx=tx, invert=invert, rxbuf=held))
        except (ValueError, OSError):  # this chip has not got it
            pass


def _list_of(slots):
    return [None] * slots


def _list_in_new_area(own_bytes, size):
    """An empty list whose items stand in a new area of `size` bytes, which came for them; `own_bytes` are free in the
    areas there are. A collection may throw the area away when the list goes.
    """
    left = size // 4
    filling = None
    for _ in range((own_bytes - left) // _PIECE_BYTES):
        filling = (filling, bytearray(_PIECE_BYTES))
    heap = _list_of((size - left - _TAKEN_BY_AREA) // 4)  # more than is left, of four bytes each
    filling = None
    heap.clear()  # the items shrink where they are
    return heap


def grow():
    """[areas, bytes] of Python's heap as they are now, which firmware.hardware.memory_figures goes on with: its owner
    keeps this list for ever, as it holds the new area. Whatever fails, the start goes on with the heap as it was.
    """
    from firmware.hardware import memory_figures as figures

    heap = [0, 0]
    figures.count_into({}, heap)
    uarts = []
    try:
        if heap[0]:
            settings = _object_in("settings.json")
            protocol = settings.get("protocol", "auto")
            needed_kib = _NEEDED_KIB.get(protocol, 0)
            if needed_kib and settings.get("device_password"):
                needed_kib += _PAGE_KIB
            if __file__[:4] == "/rom":
                needed_kib -= _SML_IN_ROM_KIB if protocol == "sml" else _IN_ROM_KIB
            wanted = (needed_kib << 10) - heap[1]
            board = _object_in("board.json").get("uart")
            if wanted > 0 and isinstance(board, dict):
                wanted = max(wanted, _LEAST_AREA)
                _hold(uarts, board, figures, wanted)
                size = figures.largest_block()
                if wanted <= size < heap[1]:  # else the heap's own way takes no more from Wi-Fi
                    grown = _list_in_new_area(figures.own_free(), size)
                    grown.extend(heap)
                    heap = grown
    except (ValueError, TypeError, AttributeError, OSError, MemoryError):
        pass
    for uart in uarts:
        uart.deinit()
    figures.count_into({}, heap)
    figures = None
    unload("firmware.hardware.memory_figures")
    unload("firmware.store")
    return heap
