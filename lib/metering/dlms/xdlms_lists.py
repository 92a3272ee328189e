"""Questions for several at once, as metering.dlms.xdlms draws them: READ of short names, GET with a list."""

from metering.compat import const
from metering.dlms.xdlms import BLOCK, BY_NAME, GET_REQUEST, LIST, READ_REQUEST, item

MAX_ITEMS = const(32)  # asked in one request


def get_list(invoke, items):
    """A GET of several: (class, obis, attribute) each. ValueError for none or more than MAX_ITEMS."""
    _count(items)
    data = bytes((GET_REQUEST, LIST, invoke, len(items)))
    for class_id, obis, attribute in items:
        data += item(class_id, obis, attribute)
    return data


def _count(items):
    if not 0 < len(items) <= MAX_ITEMS:
        raise ValueError("1 to %d are asked in one request" % MAX_ITEMS)


def read(names):
    """A READ of short names. ValueError for none or more than MAX_ITEMS."""
    _count(names)
    data = bytes((READ_REQUEST, len(names)))
    for name in names:
        data += bytes((BY_NAME, name >> 8, name & 0xFF))
    return data


def read_next(block):
    """A READ of the block that follows number `block`."""
    return bytes((READ_REQUEST, 1, BLOCK, block >> 8, block & 0xFF))
