"""What memory is left. Python's heap grows by areas, which on the ESP32 it takes from Wi-Fi and never gives back.

Loaded for a moment at a time.
"""

import gc

from micropython import const

_WIFI_BLOCK_BYTES = const(2048)  # Wi-Fi and lwIP ask for more: 340 were seen where they went under, 5,816 where not
_AREA_BYTES = const(1024)  # what a new area has at the least
_FREE = const(1)  # of a region: (bytes, free, largest free block, least ever free)
_LARGEST = const(2)


def _regions():
    """Of the chip's own heap, () where it has none."""
    try:
        import esp32

        return esp32.idf_heap_info(esp32.HEAP_DATA)
    except (ImportError, AttributeError):
        return ()


def count_into(counts, seen):
    """Add what the diagnostics tell of it; `seen` is a list [areas, bytes of Python's heap], [0, 0] at first."""
    gc.collect()
    regions = _regions()
    free = gc.mem_free()
    if regions:
        largest = max([region[_LARGEST] for region in regions])
        free -= largest  # mem_free() counts the area that could still be added
        heap_bytes = gc.mem_alloc() + free
        if heap_bytes > seen[1] + _AREA_BYTES:
            seen[:] = seen[0] + 1, heap_bytes
        counts["heap_areas"] = seen[0]  # as many were seen to come
        counts["idf_free_bytes"] = sum([region[_FREE] for region in regions])
        counts["idf_largest_block_bytes"] = largest
    counts["free_heap_bytes"] = free


def restart_without_wifi_memory():
    """Restart where Wi-Fi has no memory left: nothing else gives it back."""
    regions = _regions()
    if regions and max([region[_LARGEST] for region in regions]) < _WIFI_BLOCK_BYTES:
        from firmware.hardware import restarts

        restarts.restart(restarts.OUT_OF_WIFI_MEMORY)
