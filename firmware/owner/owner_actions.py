"""What the owner may have done to the probe as a whole, by whatever way it was asked for. Loaded for a moment."""

import os

_DETECTED_FILE = "detected.json"


def restart():
    """Restart the chip; does not return."""
    from firmware.hardware import restarts

    restarts.restart(restarts.BY_OWNER)


def search_refusal(protocol):
    """Why the meter cannot be looked for anew, "" where it can; `protocol` is the setting."""
    return "" if protocol == "auto" else "the settings name the protocol: set it to auto first"


def forget_meter():
    """The next start looks for the meter again."""
    try:
        os.remove(_DETECTED_FILE)
    except OSError:  # none was found yet
        pass
