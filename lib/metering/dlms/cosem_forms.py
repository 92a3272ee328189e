"""The forms of a body of COSEM data. Each takes what a Cosem has taken apart, and says whether it was of that form.

OBIS: octets of six whose last is 255, or class, code and attribute untagged. In the order in which FORMS tries them:

    compact         [code, value, [scaler, unit]] with their types once                some AM550
    object list     element 0 lists class, code, attribute of the elements behind it   Swiss L+G and Iskraemeco
    pairs           [code, value, [scaler, unit]] in an array or a structure           Aidon, AM550 Austria, Salzburg
                    code, value, [scaler, unit] | code, value ...                      Netz NOE, Kamstrup, Kaifa, L+G
    positional      no codes at all: metering.dlms.layouts                             Wiener Netze, Kaifa, Slovenia
    untagged        [class, code, attribute without tags, value]: no A-XDR             EG.D (XT211)
"""

from metering.compat import const
from metering.dlms.axdr import (
    ARRAY,
    COMPACT,
    OCTETS,
    STRUCTURE,
    is_integer,
    string_at,
)

_DATE_TIME = const(12)
_FLOATS = b"\x17\x18"
_LETTERS = b"0aaB.Hl..os.s..HHbh.HleffTDm"  # by tag; 8-byte unsigned ones as those of 4


def is_date(buf, at):
    return buf[at] == OCTETS and buf[at + 1] == _DATE_TIME and 7 <= buf[at + 2] <= 8


def take_compact(cosem, buf):
    """A compact array as the whole body."""
    at = cosem.axdr.offsets[0]
    if buf[at] != COMPACT:
        return False
    from metering.dlms.rare_forms import take_compact_array

    take_compact_array(cosem, buf, at + 1)
    return True


def take_object_list(cosem, buf):
    """Element 1 an array of [class, code, attribute, index ...] with as many elements behind it."""
    axdr = cosem.axdr
    offsets = axdr.offsets
    if axdr.count < 6 or buf[offsets[1]] != ARRAY or buf[offsets[2]] != STRUCTURE or not cosem.code_at(buf, 4):
        return False
    from metering.dlms.rare_forms import take_listed

    return take_listed(cosem, buf)


def take_untagged(cosem, buf, at, end):
    """EG.D's body, which is no A-XDR: 02 02 16 xx 01 n and what is listed. Where it ends, 0 where it is none."""
    if end - at < 8 or bytes(buf[at : at + 3]) != b"\x02\x02\x16" or buf[at + 4] != ARRAY or buf[at + 5] > 0x7F:
        return 0
    from metering.dlms.rare_forms import take_untagged_items

    return take_untagged_items(cosem, buf, at + 5, end)


def take_pairs(cosem, buf):
    """Codes with their values behind them: flat, or in structures."""
    tag = buf[cosem.axdr.offsets[0]]
    if tag == ARRAY or tag == STRUCTURE:
        _walk(cosem, buf, 0)
    return cosem.entries.n > 0


def _walk(cosem, buf, i):
    """The children of element `i`: codes with values behind them, or structures of these."""
    axdr, entries = cosem.axdr, cosem.entries
    offsets, ends = axdr.offsets, axdr.ends
    last = ends[i]
    k = i + 1
    stray = False  # an integer that is no code's: what follows may belong to what is before it
    while k < last:
        at = offsets[k]
        value = ends[k]
        if value < last and buf[at] == OCTETS and buf[at + 1] == 6 and buf[at + 7] == 0xFF:
            code = at + 2
            behind = ends[value]
            if buf[offsets[value]] == OCTETS and cosem.code_at(buf, value):  # one where the value is due: none was this
                k = value
                continue
            scale = 0
            if behind < last and buf[offsets[behind]] == STRUCTURE and cosem.is_scale(buf, behind):
                scale = offsets[behind]
            if not stray and (scale or behind == last or _may_follow(buf, axdr, behind)):
                cosem.take(buf, code, offsets[value], scale)
            k = ends[behind] if scale else behind
            continue
        tag = buf[at]
        if tag != STRUCTURE and is_integer(buf, at):
            stray = True
        if tag == COMPACT:
            from metering.dlms.rare_forms import take_compact_array

            take_compact_array(cosem, buf, at + 1)
        elif tag == STRUCTURE or tag == ARRAY:
            if k + 1 < ends[k] and cosem.code_at(buf, k + 1):
                _walk(cosem, buf, k)  # one level: what is inside it are no structures of codes
        elif not cosem.date_at and is_date(buf, at):
            cosem.date_at = at + 2
        elif k > i + 1 and ends[k] == last and not entries.id_at and string_at(buf, at, cosem.end)[1]:
            entries.id_at = at  # a lone string at the end
        k = ends[k]


def _may_follow(buf, axdr, i):
    """May element `i` stand behind a value? No number, alone or first in a structure: which were the value?"""
    offsets = axdr.offsets
    at = offsets[i]
    if (buf[at] == STRUCTURE or buf[at] == ARRAY) and axdr.ends[i] > i + 1:
        at = offsets[i + 1]
    return not is_integer(buf, at) and buf[at] not in _FLOATS


def take_positional(cosem, buf):
    """A list without codes whose kinds of elements are a layout's."""
    axdr, entries = cosem.axdr, cosem.entries
    tag = buf[axdr.offsets[0]]
    if tag != ARRAY and tag != STRUCTURE:
        return False
    kinds = bytearray()
    k = 1
    while k < axdr.ends[0]:
        at = axdr.offsets[k]
        tag = buf[at]
        kinds.append(0x74 if is_date(buf, at) else _LETTERS[tag] if tag < len(_LETTERS) else 0x2E)
        k = axdr.ends[k]
    text = kinds.decode()
    known = cosem.known_layouts
    if text not in known:
        cosem.unknown_kinds = text
        return False
    if not known[text]:
        return False
    cosem.family, codes = known[text]
    cosem.layout = codes.split()
    k = 1
    for position, code in enumerate(cosem.layout):
        at = axdr.offsets[k]
        if code == "T":
            cosem.date_at = at + 2
        elif code == "I":
            entries.id_at = at
        elif code != "-":
            entries.add(position, at + 1, buf[at], 0, 0)
        k = axdr.ends[k]
    return True


FORMS = (take_compact, take_object_list, take_pairs, take_positional)
