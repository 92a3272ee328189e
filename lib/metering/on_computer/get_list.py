"""GET of several attributes in one request, as metering.dlms.xdlms draws it. A board asks for one at a time."""

from metering.dlms.xdlms import GET_REQUEST, LIST, item

MULTIPLE_REFERENCES = 0x200  # of the conformance: the meter takes such a request (Green Book, 9.4.6.1)
MAX_ITEMS = 12  # in one request, which then fits a frame of 128 bytes


def get_list(invoke, items):
    """A GET of (class, OBIS code, attribute) each. ValueError for none or more than MAX_ITEMS."""
    if not 0 < len(items) <= MAX_ITEMS:
        raise ValueError("1 to %d are asked in one request" % MAX_ITEMS)
    return bytes((GET_REQUEST, LIST, invoke, len(items))) + b"".join([item(*each) for each in items])
