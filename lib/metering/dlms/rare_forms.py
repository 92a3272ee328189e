"""Forms of a body that few meters send, each loaded with the first such telegram: see metering.dlms.cosem_forms."""

from metering.compat import const
from metering.dlms.axdr import (
    ARRAY,
    ENUM,
    INT8,
    OCTETS,
    STRUCTURE,
    ber_length,
    integer,
    size_of,
    untagged,
)

_MAX_FIELDS = const(8)  # of a compact array's items
_LG_SETUP = const(8)  # Landis+Gyr's is 0-8:25.9.0, also where no name says whose it is
_PUSH_SETUP = const(40)  # class of an object list's entry for itself
_VALUE = const(2)  # attributes of a register
_SCALER_UNIT = const(3)
_ONE_VALUE = (3, 4, 8)  # classes of which no other attribute is a value: register, extended register, clock


def take_compact_array(cosem, buf, at):
    """A compact array of structures of a code, a number, and perhaps scaler and unit: their types once, untagged.

    Its extent was checked when it was taken apart; each field is held against that again.
    """
    types = bytearray()
    todo = 1
    while todo:
        todo -= 1
        tag = buf[at]
        at += 1
        if tag == ARRAY or len(types) == _MAX_FIELDS:
            return
        if tag == STRUCTURE:
            todo += buf[at]
            at += 1
        else:
            types.append(tag)
    n, at = ber_length(buf, at, cosem.end)
    end = at + n
    while at < end:
        began = at
        code = value = scaler = unit = value_tag = numbers = 0
        for tag in types:
            first = at
            if tag == OCTETS:
                n, first = ber_length(buf, at, end)
                if n == 6 and first + 6 <= end and buf[first + 5] == 0xFF:
                    code = first
                at = first + n
            else:
                if size_of(tag) == 255:
                    return
                at += size_of(tag)
                if tag == INT8:
                    scaler = first
                elif tag == ENUM:
                    unit = first
                elif untagged(buf, first, tag) is not None:
                    value, value_tag = first, tag
                    numbers += 1
            if at > end:
                return
        if at == began:  # of types without bytes
            return
        if code and numbers == 1:  # of two, which would it be?
            cosem.entries.add(code, value, value_tag, scaler if unit else 0, unit)


def take_listed(cosem, buf):
    """What element 1 lists is behind it. False where an entry is no [class, code, attribute, index ...]."""
    axdr = cosem.axdr
    offsets, ends = axdr.offsets, axdr.ends
    value = ends[1]
    k = 2
    while k < ends[1] and value < ends[0]:
        if ends[k] < k + 4 or integer(buf, offsets[k + 1]) is None:
            return False
        code = cosem.code_at(buf, k + 2)
        attribute = integer(buf, offsets[k + 3])
        class_id = integer(buf, offsets[k + 1])
        setup = class_id == _PUSH_SETUP
        if setup and not cosem.family and buf[code + 1] == _LG_SETUP:
            cosem.family = "lg"
        if setup and not cosem.code_at(buf, value):  # it lists itself by two attributes and sends one
            k = ends[k]
            continue
        last_is = cosem.entries.last_is
        if code and attribute == _SCALER_UNIT and cosem.is_scale(buf, value):
            if last_is(buf, code):
                cosem.entries.set_scale(offsets[value])
        elif code and (attribute == _VALUE or class_id not in _ONE_VALUE and not last_is(buf, code)):
            cosem.take(buf, code, offsets[value], 0)
        value = ends[value]
        k = ends[k]
    return True


def take_untagged_items(cosem, buf, at, end):
    """The items of EG.D's body, counted at buf[at]: 02 02 class code attribute untagged, and a value.

    Returns where they end, 0 where they are none.
    """
    items = buf[at]
    at += 1
    for _ in range(items):
        if end - at < 12 or buf[at] != STRUCTURE or buf[at + 1] != 2:
            return 0
        class_id = buf[at + 2] << 8 | buf[at + 3]
        code, value = at + 4, at + 11
        at = cosem.axdr.parse(buf, value, end)
        if class_id != _PUSH_SETUP:
            cosem.take(buf, code, value, 0)
    cosem.axdr.count = 0  # only the last value is in it
    return at
