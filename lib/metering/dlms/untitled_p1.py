"""P1 telegrams of Polish meters, ciphered without a system title. Loaded where a stream has a P1 header.

    / 3 letters .. CR LF CR LF | 00 | length | SC | counter 4 | ciphertext, tag 12 | ! | four digits | CR LF

The digits are CRC-16/X-25 over all from / to !, its low byte first: told by real frames of a GAMA 350. The nonce has
eight zeros for a title. What was ciphered are the lines between header and exclamation mark.
"""

from metering.checksum import ARC, X25_INIT, crc16, crc_table
from metering.compat import const, copy_bytes
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.hdlc import FCS, NONE, SHORT, X25_TABLE
from metering.dlms.reassembly import MAX_APDU

_HEAD_END = b"\r\n\r\n\x00"
_MAX_HEADER = const(64)
_LEAST = const(17)  # SC, counter and tag
_HEX = b"0123456789ABCDEFabcdef"


def find(finder, buf, view, at, n, over):
    """Judge what begins at buf[at] for `finder` (metering.dlms.frames): the bytes it takes without its line end, with
    finder.info_end at the exclamation mark; SHORT, NONE or what finder.refuse() answers."""
    head = buf.find(_HEAD_END, at, min(n, at + _MAX_HEADER))
    if head < 0:
        return NONE if n - at >= _MAX_HEADER else SHORT
    try:
        length, end = ber_length(buf, head + 5, n)
    except Malformed:
        return NONE if n - head > _MAX_HEADER else SHORT
    end += length
    if not _LEAST <= length <= MAX_APDU:
        return NONE
    if n < end + 5:
        return finder.refuse("incomplete", "ciphered P1 telegram truncated") if over else SHORT
    for i in range(end + 1, end + 5):
        if buf[i] not in _HEX:
            return finder.refuse("structure", "ciphered P1 telegram: no CRC at the announced length")
    crc = crc16(view[at : end + 1], X25_INIT, X25_TABLE) ^ 0xFFFF
    if bytes(view[end + 1 : end + 5]).upper() != b"%02X%02X" % (crc & 0xFF, crc >> 8):
        return finder.refuse("checksum", "CRC of the ciphered P1 telegram")
    finder.check_bits = FCS
    finder.info_end = end
    return end + 5 - at


def head_length(buf, end):
    """Length of the header that begins buf[:end], with the 00 behind it; 0 where it is none."""
    return buf.find(_HEAD_END, 0, end) + len(_HEAD_END)


def open_text(buf, view, at, end):
    """Put the plain lines buf[at:end] behind the header at the buffer's start, and the end that P1 wants, whose CRC is
    made here: that of the frame held over the ciphertext. Returns its length, 0 where they are no text."""
    for i in range(at, end):
        if not 0x20 <= buf[i] <= 0x7E and buf[i] not in b"\r\n":
            return 0
    head = head_length(buf, end) - 1
    copy_bytes(buf, head, buf, at, end - at)
    end += head - at
    buf[end] = 0x21
    end += 1
    text = b"%04X\r\n" % crc16(view[:end], 0, crc_table(ARC))
    copy_bytes(buf, end, text, 0, len(text))
    return end + len(text)
