"""What a published message says, member by member, without its text ever standing in memory twice."""

from micropython import const

NO_POINT = const(-0x1FFFFFFF)  # of the graph: the power is not known
_QUOTE = const(0x22)
_BACKSLASH = const(0x5C)


def members(payload):
    """Yields (key, value) of a JSON object of texts as firmware.mqtt.outbox.member makes it, both as bytes with their
    escapes. Anything else in it is passed over.
    """
    key = None
    begin = 0  # of the text, behind its quote; 0 outside one
    is_escaped = False
    for at in range(len(payload)):
        byte = payload[at]
        if is_escaped:
            is_escaped = False
        elif byte == _BACKSLASH:
            is_escaped = True
        elif byte != _QUOTE:
            pass
        elif not begin:
            begin = at + 1
        else:
            text = bytes(memoryview(payload)[begin:at])
            begin = 0
            if key is None:
                key = text
            else:
                yield key, text
                key = None


def watts(live):
    """The power in `live` in whole W, what is fed in below zero; None where there is none."""
    power = taken = fed_in = None
    for key, text in members(live):
        if key == b"power":
            power = _whole(text)
        elif key == b"power_import":
            taken = _whole(text)
        elif key == b"power_export":
            fed_in = _whole(text)
    if power is None and taken is not None:
        return taken - (fed_in or 0)
    return power


def _whole(text):
    try:
        return int(text.split(b".")[0])
    except ValueError:
        return None
