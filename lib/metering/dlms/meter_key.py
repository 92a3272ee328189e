"""Meter keys as people paste them: with blanks, 0x and in any case."""

from metering.compat import const

KEY_DIGITS = const(32)  # AES-128


def key_digits(text):
    """The hexadecimal digits of a key as pasted, in small letters; ValueError where there is anything else in it."""
    text = text.lower()
    for between in ("0x", " ", ":", "-", "_", ",", "\t", "\r", "\n"):
        text = text.replace(between, "")
    for byte in text.encode():
        if byte not in b"0123456789abcdef":
            raise ValueError("not hexadecimal")
    return text


def key_bytes(text):
    """The 16 bytes of a key as pasted, None for an empty one. Raises ValueError, which never shows the key."""
    digits = key_digits(text)
    if not digits:
        return None
    if len(digits) != KEY_DIGITS:
        raise ValueError("%d digits, %d are needed" % (len(digits), KEY_DIGITS))
    return bytes([int(digits[i : i + 2], 16) for i in range(0, KEY_DIGITS, 2)])
