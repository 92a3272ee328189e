"""What was found out about the meter, over restarts: detected.json. Loaded where it is needed, and dropped again.

    protocol asked baud bits parity invert   what was proven, and how; heard: the parity that the UART was set to
    seen line                                the same in words
    slug                                     the meter whose entities the hub has
"""

import json
import os

from metering import protocols
from metering.line import Line

_FILE = "detected.json"
_MAX_FILE_BYTES = 1024
_TOPIC_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def load():
    """The dict that save() was given; {} where there is none, or where it is not whole."""
    try:
        if os.stat(_FILE)[6] > _MAX_FILE_BYTES:
            return {}
        with open(_FILE) as file:
            kept = json.load(file)
        if _is_whole(kept):
            return kept
    except (OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError):
        pass
    return {}


def _is_whole(kept):
    """Can it be used? Raises KeyError, TypeError or ValueError where not, or says so."""
    if not isinstance(kept, dict):
        return False
    for byte in (kept.get("slug") or "").encode():
        if byte not in _TOPIC_CHARACTERS:
            return False
    if "protocol" not in kept:
        return True
    if type(kept["baud"]) is not int or type(kept["bits"]) is not int or not 300 <= kept["baud"] <= 115200:
        return False
    heard_line(kept)
    if kept["protocol"] not in protocols.names() and kept["protocol"] != protocols.BLINK:
        return False
    if kept["asked"] is not False and not (kept["asked"] is True and protocols.is_asked(kept["protocol"])):
        return False
    return kept["invert"] in (True, False) and isinstance(kept["seen"], str) and isinstance(kept["line"], str)


def save(kept):
    """Replace it; after a power cut it is the old one or the new."""
    try:
        with open(_FILE + ".new", "w") as file:
            json.dump(kept, file)
        os.rename(_FILE + ".new", _FILE)
    except OSError:  # it will be found again
        pass


def keep(kept, detection):
    """Put what was proven into `kept`; save it where that is news."""
    line = detection.line
    before = dict(kept)
    kept["protocol"] = detection.protocol
    kept["asked"] = bool(detection.conversation)
    kept["baud"] = line.baud
    kept["bits"] = line.bits
    kept["parity"] = line.parity
    kept["heard"] = detection.parity
    kept["invert"] = line.invert
    kept["line"] = "" if detection.protocol == protocols.BLINK else repr(line)
    kept["seen"] = detection.seen
    if kept != before:
        save(kept)


def take_up(kept, settings, head):
    """What was found is what the settings say from now on."""
    settings["protocol"] = kept["protocol"]
    settings["asked"] = kept["asked"]
    settings["line"] = None if kept["asked"] else heard_line(kept)
    head.turned = kept["invert"]


def heard_line(kept):
    """The line as it was heard when the meter was proven."""
    return Line(kept["baud"], kept["bits"], kept["parity"] if kept["bits"] == 7 else kept["heard"], 1)


def follow(kept, slug, outbox, announcer):
    """The meter `slug` is there; the entities of the one before it are no longer."""
    before = kept.get("slug")
    if before and before != slug:
        for level in ("state", "live"):
            outbox.remove(announcer.topic(before, level))
        outbox.put(announcer.topic(before, "status"), b"offline", True)
    outbox.put(announcer.topic(slug, "status"), b"online", True)
    if before != slug:
        kept["slug"] = slug
        save(kept)
