"""Is the meter's clock right? Its time of day as printed, compared with a clock that is."""

from metering.compat import const

_QUARTER_S = const(900)  # time zones and daylight saving differ by whole quarters of an hour


def deviation_s(printed, now_s):
    """How many seconds the meter's clock is ahead of `now_s` (negative: behind), -450 to 449; None for no time of day.

    `printed` is hhmmss with or without colons (0.9.1), P1's YYMMDDhhmmss and its season letter, or LIS-200's
    YYYY-MM-DD,hh:mm:ss. Whole quarters of an hour do not show: the meter's time zone is not known. `now_s` counts from
    any full hour of UTC.
    """
    digits = [byte - 0x30 for byte in printed.encode() if 0x30 <= byte <= 0x39]
    if len(digits) == 12 or len(digits) == 14 and printed[10:11] == ",":
        digits = digits[-6:]
    if len(digits) != 6:
        return None
    seconds = (digits[2] * 10 + digits[3]) * 60 + digits[4] * 10 + digits[5]
    return (seconds - now_s + _QUARTER_S // 2) % _QUARTER_S - _QUARTER_S // 2
