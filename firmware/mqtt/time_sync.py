"""The time of day, for the few meters whose own is compared or whose pulses are dated."""

import ntptime


def ask(host):
    """Set the chip's clock by the time server `host`; True where it answered. May wait. "" is no host."""
    if not host:
        return False
    ntptime.host = host
    try:
        ntptime.settime()
    except OSError:
        return False
    return True
