"""A-XDR (IEC 61334-6), the encoding of COSEM data: checked as a whole in one pass that notes where each element stands.

Walked with a stack of its own, of bounded depth; every count and length is held against the bytes left before it is
used. Nothing is built: an element is an index into two arrays, `offsets` (where its tag is) and `ends` (the index
behind all it contains).
"""

from array import array

from metering.compat import const, signed

MAX_ELEMENTS = const(320)  # a Danish list of 65 items has 68, an object list of 16 entries 102
MAX_DEPTH = const(8)  # object lists nest three deep

ARRAY = const(0x01)
STRUCTURE = const(0x02)
OCTETS = const(0x09)
VISIBLE = const(0x0A)
UTF8 = const(0x0C)
ENUM = const(0x16)
INT8 = const(0x0F)
INT64 = const(0x14)
_BITS = const(0x04)
COMPACT = const(0x13)

# tag -> bytes of its value, 255 where it has a length of its own or is unknown
_SIZES = (
    b"\x00\xff\xff\x01\xff\x04\x04\xff\xff\xff\xff\xff\xff\x01\xff\x01\x02\x01\x02\xff\x08\x08\x01\x04\x08\x0c\x05\x04"
)
_N_SIZES = len(_SIZES)
_STRINGS = (OCTETS, VISIBLE, UTF8)
_INTEGERS = b"\x05\x06\x0f\x10\x11\x12\x14\x15\x16"
_SIGNED = b"\x05\x0f\x10\x14"


class Malformed(Exception):
    """The bytes are no A-XDR; the text says what is wrong."""


def ber_length(buf, at, end):
    """(length, where its contents begin) of the BER length at `at`. Raises Malformed."""
    if at >= end:
        raise Malformed("A-XDR ends before a length")
    n = buf[at]
    at += 1
    if n < 0x80:
        return n, at
    count = n & 0x7F
    if not 0 < count <= 4 or at + count > end:
        raise Malformed("A-XDR length of %d bytes" % count)
    n = 0
    for _ in range(count):
        n = n << 8 | buf[at]
        at += 1
    return n, at


class Axdr:
    """One value taken apart. `count` elements; 0 is the value itself."""

    def __init__(self):
        self.offsets = array("H", bytes(2 * MAX_ELEMENTS))
        self.ends = array("H", bytes(2 * MAX_ELEMENTS))
        self.count = 0
        self._left = array("H", bytes(2 * MAX_DEPTH))
        self._open = array("H", bytes(2 * MAX_DEPTH))

    def parse(self, buf, at, end):
        """Take apart the value that begins at buf[at]; returns where it ends, `end` at the most. Raises Malformed."""
        left, opened, depth = self._left, self._open, 0
        offsets, ends = self.offsets, self.ends
        self.count = i = 0
        while True:
            if at >= end:
                raise Malformed("A-XDR truncated")
            if i == MAX_ELEMENTS:
                raise Malformed("A-XDR has more than %d elements" % MAX_ELEMENTS)
            tag = buf[at]
            offsets[i] = at
            at += 1
            if tag == ARRAY or tag == STRUCTURE:
                n, at = ber_length(buf, at, end)
                if n > end - at:
                    raise Malformed("A-XDR counts more elements than bytes")
                if n:
                    if depth == MAX_DEPTH:
                        raise Malformed("A-XDR too deep")
                    left[depth] = n
                    opened[depth] = i
                    depth += 1
                    i += 1
                    continue
            else:
                size = _SIZES[tag] if tag < _N_SIZES else 255
                if size == 255 and tag == OCTETS and at < end and buf[at] < 0x80:
                    size = buf[at] + 1
                if size == 255 or size > end - at:
                    at = self._skip(buf, at, end, tag)
                else:
                    at += size
            ends[i] = i + 1
            i += 1
            while depth:
                n = left[depth - 1] - 1
                if n:
                    left[depth - 1] = n
                    break
                depth -= 1
                ends[opened[depth]] = i
            if not depth:
                self.count = i
                return at

    def _skip(self, buf, at, end, tag):
        size = _SIZES[tag] if tag < len(_SIZES) else 0 if tag == 0xFF else 255
        if size == 255:
            if tag == COMPACT:
                at = self._skip_description(buf, at, end)
            elif tag not in _STRINGS and tag != _BITS and tag != 0x0D:
                raise Malformed("A-XDR unknown tag %02x" % tag)
            size, at = ber_length(buf, at, end)
            if tag == _BITS:
                size = (size + 7) // 8
        if size > end - at:
            raise Malformed("A-XDR truncated string" if tag in _STRINGS else "A-XDR truncated")
        return at + size

    def _skip_description(self, buf, at, end):
        """A compact array's type description: tags, with counts behind those of arrays (2 bytes) and structures."""
        todo = 1
        while todo:
            todo -= 1
            if at + 2 > end:
                raise Malformed("A-XDR truncated")
            tag = buf[at]
            at += 1
            if tag == ARRAY:
                at += 2
                todo += 1
            elif tag == STRUCTURE:
                todo += buf[at]
                at += 1
            if todo > end - at:
                raise Malformed("A-XDR counts more elements than bytes")
        return at


def is_integer(buf, at):
    """Is the element at buf[at] an integer or an enum?"""
    return buf[at] in _INTEGERS


def integer(buf, at):
    """The integer whose tag is buf[at]; None for anything else."""
    return untagged(buf, at + 1, buf[at])


def untagged(buf, at, tag):
    """The integer of type `tag` at buf[at]; None for anything else."""
    if tag not in _INTEGERS:
        return None
    size = _SIZES[tag]
    value = 0
    for i in range(at, at + size):  # a slice would be two allocations
        value = value << 8 | buf[i]
    return signed(value, 8 * size) if tag in _SIGNED else value


def size_of(tag):
    """Bytes of a value of type `tag`, 255 where it says itself or is none."""
    return _SIZES[tag] if tag < len(_SIZES) else 255


def string_at(buf, at, end):
    """(first byte, length) of the string whose tag is buf[at]; (0, 0) for anything else."""
    if buf[at] not in _STRINGS:
        return 0, 0
    n, at = ber_length(buf, at + 1, end)
    return at, n
