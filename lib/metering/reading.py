"""One register's value as the meter sent it: an integer and a power of ten, exact until it is printed."""

from metering.compat import hex_text


def decimal_text(value, exponent):
    """The exact decimal text of value * 10**exponent, every sent digit kept: (14798112, -3) is "14798.112".

    `value` int of any size, `exponent` int in -128..127 (the scaler's range in SML and COSEM).
    """
    if exponent >= 0:
        return str(value) + ("0" * exponent if value else "")
    sign = ""
    if value < 0:
        sign = "-"
        value = -value
    digits = str(value)
    missing = 1 - exponent - len(digits)
    if missing > 0:
        digits = "0" * missing + digits
    return sign + digits[:exponent] + "." + digits[exponent:]


class Reading:
    """`obis` 6 bytes A B C D E F; `value` int, bool, bytes or str; `exponent` power of ten of an int; `unit` DLMS code.

    `unit` is the code of the COSEM unit enumeration (IEC 62056-6-2, 4.3.2: 27 W, 30 Wh ...), None where none was sent.
    `address` and `printed_unit` are texts where a meter prints (iec62056_21.printed), None where it sends codes.
    """

    address: "str | None" = None
    printed_unit: "str | None" = None
    is_companion = False  # True: it belongs to the register before or behind it, as the time of a maximum does

    def __init__(self, obis, value, exponent=0, unit=None):
        self.obis = obis
        self.value = value
        self.exponent = exponent
        self.unit = unit

    def text(self):
        """The value as sent: exact decimal, octets as lower-case hex, true or false, or the text itself."""
        value = self.value
        if value is True:
            return "true"
        if value is False:
            return "false"
        if isinstance(value, int):
            return decimal_text(value, self.exponent)
        if isinstance(value, str):
            return value
        return hex_text(value)
