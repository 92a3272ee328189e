"""The few places where MicroPython and CPython differ, for the core. What only printing protocols need of these is in
metering.characters and metering.iec62056_21.block_check; who else walks over bytes asks SLICES_ARE_CHEAP.
"""

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


_FEW = const(16)
SLICES_ARE_CHEAP = hasattr(memoryview, "tobytes")  # False: MicroPython, where every slice is an allocation


def copy_bytes(target, at, source, start, n):
    """Copy source[start:start + n] over target[at:at + n]; both may be the same buffer if at <= start.

    Needs no memory on MicroPython: of more than _FEW bytes it is a move of some 48 bytes of garbage where there is room
    for these, twenty times as fast as the loop, and the loop where there is none.
    """
    if SLICES_ARE_CHEAP:
        target[at : at + n] = source if n == len(source) else source[start : start + n]
        return
    if n > _FEW:
        try:
            target[at : at + n] = source if n == len(source) else memoryview(source)[start : start + n]
            return
        except MemoryError:
            pass
    end = start + n
    at -= start
    for i in range(start, end):
        target[at + i] = source[i]


def signed(value, bits):
    """The two's complement reading of an unsigned `value` of `bits` bits (int.from_bytes is unsigned only there)."""
    if value >> (bits - 1):
        return value - (1 << bits)
    return value


def hex_text(data):
    """`data` as lower-case hex (MicroPython's b"".hex() is bytes)."""
    return bytes(data).hex() if len(data) else ""


def ascii_text(data):
    """`data` as text if every byte is printable ASCII (0x20..0x7E) and there is at least one, else None."""
    for byte in data:
        if not 0x20 <= byte <= 0x7E:
            return None
    return bytes(data).decode() if len(data) else None
