"""What a search must know of IEC 62056-21: see metering.protocols."""

from metering.characters import is_even
from metering.compat import const
from metering.line import EXPECT, SEND, SWITCH, Line

_TEXT = const(32)  # characters that make a text
_IDENTIFICATION = const(6)  # characters behind the /: three letters, and three more
_ANSWER_MS = const(4000)  # t_r is 1.5 s at the most; the / may be held back, as an echo's, until the next has come
_GAP_MS = const(1700)  # t_a, between two characters: 1.5 s at the most


def signature(data, n, begun):
    """Is the end of data[:n] a text, or is there an identification in it? All with even parity, or without."""
    for slash in (b"/", b"\xaf"):
        at = data.find(slash, 0, n)
        while 0 <= at < n - _IDENTIFICATION:
            if _identifies(data, at):
                return data.find(b"\r\n\r\n\x00", at, n) < 0  # behind it is ciphered: DLMS, without a title
            at = data.find(slash, at + 1, n)
    if n < _TEXT:
        return False
    plain = paired = brackets = 0
    for i in range(n - _TEXT, n):
        byte = data[i]
        character = byte & 0x7F
        if not (0x20 <= character < 0x7F or character in b"\r\n"):
            return False
        plain += byte < 0x80
        paired += is_even(byte)
        brackets += character in b"(*)"
    return brackets > 0 and (plain == _TEXT or paired >= _TEXT - 1)


def _identifies(data, at):
    """Does an identification begin at the / in data[at]: three letters, printable characters, and its parity?"""
    for i in range(at + 1, at + 1 + _IDENTIFICATION):
        if data[at] == 0x2F and data[i] > 0x7F or data[at] > 0x7F and not is_even(data[i]):
            return False
        character = data[i] & 0x7F
        if i - at <= 3 and not 0x41 <= character & 0x5F <= 0x5A:
            return False
        if not (0x20 <= character < 0x7F or character in b"\r\n"):
            return False
    return True


def question(address):
    """The sign-on at 300 baud (6.3.1), to any meter or to the one of `address`; comes back with what answers."""
    while len(address) > 1 and address[:1] == "0":  # 6.3.2: leading zeros are not sent
        address = address[1:]
    yield SWITCH, Line(300, 7, "E")
    yield SEND, b"/?" + address.encode() + b"!\r\n"
    return (yield EXPECT, _identification_end, _ANSWER_MS, _GAP_MS)


def _identification_end(buffer, n):
    """For EXPECT: behind the line feed that ends a line with an identification in it; 0 for none yet."""
    at = max(buffer.rfind(b"/", 0, n), buffer.rfind(b"\xaf", 0, n))
    return buffer.find(b"\n", at, n) + 1 if at >= 0 else 0


def is_corrector(identification):
    """Is it the identification (from the / on, plain or with parity bits) of a gas volume corrector that speaks
    LIS-200: Els, and behind the baud character EK2, DL2 or TC2?"""
    text = bytes([byte & 0x7F for byte in identification[:8]])
    return text[1:4].lower() == b"els" and text[5:7] in (b"EK", b"DL", b"TC") and text[7:8] == b"2"


def answered_by(answer):
    """An identification is IEC 62056-21's, whatever it offers besides; but for those that speak LIS-200."""
    at = max(answer.rfind(b"/"), answer.rfind(b"\xaf"))
    if not 0 <= at < len(answer) - _IDENTIFICATION or not _identifies(answer, at):
        return ""
    return "lis200" if is_corrector(answer[at:]) else "iec62056-21"
