"""READ, by which registers are asked for by their short names, as metering.dlms.xdlms draws it."""

from metering.compat import const
from metering.dlms.xdlms import BLOCK, BY_NAME, READ_REQUEST

MAX_ITEMS = const(32)  # asked in one request


def read(names):
    """A READ of short names. ValueError for none or more than MAX_ITEMS."""
    if not 0 < len(names) <= MAX_ITEMS:
        raise ValueError("1 to %d are asked in one request" % MAX_ITEMS)
    data = bytes((READ_REQUEST, len(names)))
    for name in names:
        data += bytes((BY_NAME, name >> 8, name & 0xFF))
    return data


def read_next(block):
    """A READ of the block that follows number `block`."""
    return bytes((READ_REQUEST, 1, BLOCK, block >> 8, block & 0xFF))
