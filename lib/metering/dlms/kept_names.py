"""The short names of a meter, kept over restarts: [.., [check, device, firmware, names]] (metering.dlms.meter_memory).

Short names are those of a firmware: they hold for one logical device name (the reserved FD00) while 1-0:0.2.0*255, read
by its kept name, says the same. A meter that tells no firmware is asked for its list at each start.
"""

from metering.compat import const, hex_text
from metering.dlms.getter import LOST
from metering.dlms.meter_memory import check_of, kept_parts
from metering.unload import unload

_DATA = const(1)
_DEVICE_NAME = const(0xFD08)  # attribute 2
_FIRMWARE = b"\x01\x00\x00\x02\x00\xff"
_ENTRY = const(10)  # OBIS code, class 2, base name 2
_LONGEST = const(128)  # of both texts


def learn_names(memory, getter):
    """Generator of line actions: are the short names known to `getter` (ShortNameGetter), of old or anew?"""
    is_known = yield from _learn(memory, getter)
    unload("metering.dlms.kept_names")
    unload("metering.dlms.meter_memory")
    return is_known


def _learn(memory, getter):
    device = yield from _text(getter, _DEVICE_NAME)
    if device is None:
        return False
    if _FIRMWARE not in getter.wanted:
        getter.wanted.append(_FIRMWARE)
    part = kept_parts(memory)[1]
    names = _names_of(part, getter.wanted, device)
    if names:
        firmware = yield from _text(getter, names[_FIRMWARE][1] + 8 & 0xFFFF)
        if firmware is None:
            return False
        if firmware and hex_text(firmware) == part[2]:
            getter.names = names
            return True
    if not (yield from getter.read_list()):
        return False
    found = getter.names.get(_FIRMWARE)
    if device and found and found[0] == _DATA:
        firmware = yield from _text(getter, found[1] + 8 & 0xFFFF)
        if firmware is None:
            return False
        if firmware and len(device) + len(firmware) <= _LONGEST:
            memory[1]([kept_parts(memory)[0], _part_of(getter, device, firmware)])
    return True


def _text(getter, name):
    """The text by a short name; b"" where it is refused or is none, None where the link is lost."""
    result = yield from getter.get_named(name)
    return None if result == LOST else b"" if result else getter.text()


def _part_of(getter, device, firmware):
    names = b""
    for code in getter.wanted:
        if code in getter.names:
            class_id, base = getter.names[code]
            names += code + bytes((class_id >> 8, class_id & 0xFF, base >> 8, base & 0xFF))
    check = check_of(b"".join(getter.wanted), device, firmware, names)
    return [check, hex_text(device), hex_text(firmware), hex_text(names)]


def _names_of(part, wanted, device):
    """OBIS -> (class, base name) of the part; None where it is not of this `device` and of these codes."""
    try:
        check, kept_device, firmware, names = part
        firmware, names = bytes.fromhex(firmware), bytes.fromhex(names)
    except (TypeError, ValueError):
        return None
    if not device or kept_device != hex_text(device) or check != check_of(b"".join(wanted), device, firmware, names):
        return None
    found = {}
    for at in range(0, len(names) - _ENTRY + 1, _ENTRY):
        class_id = names[at + 6] << 8 | names[at + 7]
        found[names[at : at + 6]] = class_id, names[at + 8] << 8 | names[at + 9]
    return found if _FIRMWARE in found else None
