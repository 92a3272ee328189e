"""Characters in a buffer, for protocols that print: parity, alphabet and text.

Here the two Pythons are told apart where it pays: on MicroPython a slice is an allocation, on CPython a loop is dear.
"""

from metering.compat import SLICES_ARE_CHEAP

try:
    from functools import lru_cache  # pyrefly: ignore[missing-module-attribute] - a computer has it

    # for a pure function of bytes that is asked the same again and again
    remembered = lru_cache(1024)  # type: ignore[assignment]
except ImportError:  # MicroPython, where memory is dearer than time

    def remembered(function):
        return function


def is_made_of(data, at, end, alphabet):
    """Are all of data[at:end] (a bytearray) among the bytes `alphabet`? Allocates nothing on MicroPython."""
    if SLICES_ARE_CHEAP:
        return not data[at:end].strip(alphabet)
    for i in range(at, end):
        if data[i] not in alphabet:
            return False
    return True


def latin_text(data):
    """`data` as text, each byte the character of that number (MicroPython has no latin-1)."""
    if SLICES_ARE_CHEAP:
        return str(data, "latin-1")
    for byte in data:
        if byte >= 0x80:
            break
    else:
        return bytes(data).decode()
    utf8 = bytearray()
    for byte in data:
        if byte < 0x80:
            utf8.append(byte)
        else:
            utf8.append(0xC0 | byte >> 6)
            utf8.append(0x80 | byte & 0x3F)
    return bytes(utf8).decode()


def is_even(byte):
    """Has `byte` (0..255) an even number of ones? Allocates nothing."""
    return not 0x6996 >> ((byte ^ byte >> 4) & 0x0F) & 1


def with_parity(data):
    """`data` (7-bit characters) with the even parity of each in its bit 7."""
    out = bytearray(data)
    for i in range(len(out)):
        if not is_even(out[i]):
            out[i] |= 0x80
    return bytes(out)


def without_parity(data):
    """`data` with bit 7 taken off, or None where the parity of a byte is not even."""
    out = bytearray(data)
    for i in range(len(out)):
        if not is_even(out[i]):
            return None
        out[i] &= 0x7F
    return bytes(out)
