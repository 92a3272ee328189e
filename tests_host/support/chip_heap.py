"""The memory of an ESP32 with a stock MicroPython: the chip's own heap, and Python's areas that are taken from it.

Python's heap begins with one area. What fits into none brings another (py/gc.c, gc_try_add_heap): as large as all there
is, or the largest free block if that is smaller. An area but the first is given back at a collection that finds
nothing in it. Areas and blocks are in one piece here: what fragments they have is not shown.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

CLASSIC_AREA = 56 * 1024
CLASSIC_REGIONS = (110_592, 15_000, 14_000)  # free in each, 139,592 in all, after boot.py on an emulated classic ESP32
WIFI_BYTES = 60_000  # of the chip's heap: active, joined and connected
DRIVER_BYTES = 580  # of a UART beside its buffer
_BLOCK = 16


class Area:
    def __init__(self, size: int, region: int) -> None:
        self.size = size
        self.region = region
        self.used = 0


class ChipHeap:
    """`free` holds what is free in each region of the chip's own heap."""

    def __init__(
        self,
        first_area: int = CLASSIC_AREA,
        regions: tuple[int, ...] = CLASSIC_REGIONS,
        uarts: tuple[int, ...] = (1, 2),
    ) -> None:
        self.free = list(regions)
        self.areas = [Area(first_area, -1)]
        self.areas[0].used = 7400  # boot.py
        self.uarts = uarts
        self.held: dict[int, tuple[int, int]] = {}  # UART -> (region, bytes)
        self.pins: list[tuple[int, object, object]] = []

    # --- the chip's own ---

    def _from_chip(self, size: int) -> int:
        for region, free in enumerate(self.free):
            if free >= size:
                self.free[region] -= size
                return region
        raise OSError(12)

    def wifi(self) -> None:
        """Joined and connected, piece by piece."""
        for _ in range(WIFI_BYTES // 1000):
            self._from_chip(1000)

    @property
    def largest(self) -> int:
        return max(self.free)

    @property
    def sizes(self) -> list[int]:
        return [area.size for area in self.areas]

    # --- Python's ---

    def take(self, size: int) -> Area:
        """An allocation of Python's. Raises MemoryError."""
        size = -(-size // _BLOCK) * _BLOCK
        for area in self.areas:
            if area.size - area.used >= size:
                area.used += size
                return area
        self.collect()
        needed = size + max(2048, size * 13 // 512)
        if self.largest < needed:
            raise MemoryError
        grown = min(max(sum(self.sizes), needed), self.largest)
        self.areas.append(Area(grown, self._from_chip(grown)))
        self.areas[-1].used = size
        return self.areas[-1]

    def collect(self) -> None:
        for area in self.areas[1:]:
            if not area.used:
                self.free[area.region] += area.size
                self.areas.remove(area)

    def modules(self) -> dict[str, Any]:
        """What a program on the chip imports: esp32 and gc. `machine.UART` is uart()."""
        gc = SimpleNamespace(
            collect=self.collect,
            mem_alloc=lambda: sum(area.used for area in self.areas),
            mem_free=lambda: sum(area.size - area.used for area in self.areas) + self.largest,
        )
        info = lambda _: [(size + 1000, size, size, size) for size in self.free]  # noqa: E731
        return {"gc": gc, "esp32": SimpleNamespace(HEAP_DATA=4, idf_heap_info=info)}

    def uart(self) -> type:
        chip = self

        class UART:
            INV_TX = 32

            def __init__(self, number: int, baudrate: int, rx: object, tx: object, invert: int, rxbuf: int) -> None:
                if number not in chip.uarts:
                    raise ValueError(f"UART({number}) does not exist")
                chip.pins.append((number, rx, tx))
                size = rxbuf + DRIVER_BYTES
                chip.held[number] = chip._from_chip(size), size
                self.number = number

            def deinit(self) -> None:
                region, size = chip.held.pop(self.number)
                chip.free[region] += size

        return UART

    # --- objects of a program that is watched ---

    def bytearray_of(self) -> type:
        """In the place of `bytearray`: it takes its bytes, and gives them back when it goes."""
        chip = self

        class Bytes:
            def __init__(self, size: int) -> None:
                self.size = -(-size // _BLOCK) * _BLOCK
                self.area = chip.take(size)

            def __del__(self) -> None:
                if hasattr(self, "area"):
                    self.area.used -= self.size

        return Bytes

    def list_of(self, slots: int) -> Any:
        """A list of so many items of four bytes each, which clear() shrinks to four items where they are."""
        chip = self

        class Items(list):
            def clear(self) -> None:
                super().clear()
                area.used -= size - _BLOCK
                self.shrunk = True

            def __del__(self) -> None:
                area.used -= _BLOCK if hasattr(self, "shrunk") else size

        size = -(-slots * 4 // _BLOCK) * _BLOCK
        area = chip.take(size)
        return Items([None] * slots)
