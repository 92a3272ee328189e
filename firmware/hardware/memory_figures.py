"""What memory is left. Python's heap grows by areas, which on the ESP32 it takes from Wi-Fi: see heap_area.

Loaded for a moment at a time.
"""

import gc

from micropython import const

_WIFI_BLOCK_BYTES = const(2048)  # Wi-Fi and lwIP ask for more: 340 were seen where they went under, 5,816 where not
_WIFI_BYTES = const(12288)  # with 12,452 left it was joined and connected
_AREA_BYTES = const(1024)  # what a new area has at the least
_FREE = const(1)  # of a region: (bytes, free, largest free block, least ever free)
_LARGEST = const(2)


def regions():
    """Of the chip's own heap, () where it has none."""
    try:
        import esp32

        return esp32.idf_heap_info(esp32.HEAP_DATA)
    except (ImportError, AttributeError):
        return ()


def largest_block():
    """Bytes of the largest free block of the chip's own heap, 0 where it has none."""
    largest = 0
    for region in regions():
        largest = max(largest, region[_LARGEST])
    return largest


def own_free():
    """Bytes that are free in the areas of Python's heap."""
    gc.collect()
    return gc.mem_free() - largest_block()  # mem_free() counts the area that could still be added


def room():
    """Bytes that may be taken: what is free in Python's heap, and the area it would add, where Wi-Fi can spare it."""
    free = own_free()
    largest = largest_block()
    area = min(gc.mem_alloc() + free, largest)
    return free + area if largest - area >= _WIFI_BYTES else free


def count_into(counts, seen):
    """Add what the diagnostics tell of it; `seen` is a list [areas, bytes of Python's heap], [0, 0] at first.

    Returns a sentence where the heap has grown since it was last looked at, else "".
    """
    free = own_free()
    chip_free = sum([region[_FREE] for region in regions()])
    sentence = ""
    if chip_free:
        heap_bytes = gc.mem_alloc() + free
        if heap_bytes > seen[1] + _AREA_BYTES:
            if seen[0]:
                sentence = "memory: Python's heap has grown to %d bytes, %d are left for Wi-Fi" % (
                    heap_bytes,
                    chip_free,
                )
            seen[:] = seen[0] + 1, heap_bytes
        counts["heap_areas"] = seen[0]  # as many were seen to come
        counts["heap_bytes"] = seen[1]
        counts["idf_free_bytes"] = chip_free
        counts["idf_largest_block_bytes"] = largest_block()
    counts["free_heap_bytes"] = free
    return sentence


def restart_without_wifi_memory():
    """Restart where Wi-Fi has no memory left: nothing else gives it back."""
    if regions() and largest_block() < _WIFI_BLOCK_BYTES:
        from firmware.hardware import restarts

        restarts.restart(restarts.OUT_OF_WIFI_MEMORY)
