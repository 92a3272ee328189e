"""Meter identifiers as people know them: the text printed on the meter where the bytes follow a known form.

A 10-byte server id of the cross-manufacturer form (DIN 43863-5:2012), as SML meters send it:

    0A | 01     | 41 42 43     | 00                | 00 12 D6 87
    len| medium | maker, ASCII | fabrication block | number, big endian      -> 1ABC0001234567, "1 ABC00 0123 4567"

The older form differs in its first byte (09). Every other identifier is its ASCII text, or lower-case hex.
"""

from metering.compat import ascii_text, hex_text


def _is_upper(data):
    for byte in data:
        if not 0x41 <= byte <= 0x5A:
            return False
    return True


def identifier_text(octets):
    """The readable form of an identifier's bytes; "" for none."""
    if len(octets) == 10 and octets[0] in (0x09, 0x0A) and octets[1] < 10 and _is_upper(octets[2:5]):
        number = int.from_bytes(octets[6:10], "big")
        if number < 100000000:  # eight digits are printed on the meter
            return "%d%s%02X%08d" % (octets[1], bytes(octets[2:5]).decode(), octets[5], number)
    text = ascii_text(octets)
    return hex_text(octets) if text is None else text.strip()
