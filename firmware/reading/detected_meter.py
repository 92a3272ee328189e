"""What was found out about the meter, over restarts: detected.json. Loaded where it is needed, and dropped again.

Its keys are the attributes of firmware.reading.supervisor.DetectedMeter, but for two: `asked` is is_polled, `heard`
uart_parity. Arguments named `detected` are a DetectedMeter.
"""

from firmware import store
from metering import protocols

_FILE = "detected.json"
_MAX_FILE_BYTES = 1024
_TOPIC_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_OTHER_KEYS = (("is_polled", "asked"), ("uart_parity", "heard"))
_ATTRIBUTES = ("protocol", "is_polled", "baud", "bits", "parity", "uart_parity", "invert", "seen", "line", "slug")


def _key(name):
    return dict(_OTHER_KEYS).get(name, name)


def load(detected):
    """Put into `detected` what save() has written; nothing where there is no such file, or where it is not whole."""
    try:
        record = store.load(_FILE, _MAX_FILE_BYTES)
        if record is None or not _is_usable(record):
            return
    except (ValueError, TypeError, KeyError, AttributeError, MemoryError):
        return
    for name in _ATTRIBUTES if "protocol" in record else ("slug",):
        value = record.get(_key(name))
        if value is not None:
            setattr(detected, name, value)


def _is_usable(record):
    """Can it be used? Raises KeyError, TypeError or ValueError where not, or says so."""
    if not isinstance(record, dict):
        return False
    for byte in record.get("slug", "").encode():
        if byte not in _TOPIC_CHARACTERS:
            return False
    if "protocol" not in record:
        return True
    baud, bits = record["baud"], record["bits"]
    if type(baud) is not int or type(bits) is not int or bits not in (7, 8) or not 300 <= baud <= 115200:
        return False
    for parity in (record["parity"], record["heard"]):
        if parity not in (None, "E", "O"):
            return False
    protocol = record["protocol"]
    if protocol not in protocols.names() and protocol != protocols.BLINK:
        return False
    if record["asked"] is not False and not (record["asked"] is True and protocols.is_asked(protocol)):
        return False
    return isinstance(record["invert"], bool) and isinstance(record["seen"], str) and isinstance(record["line"], str)


def save(detected):
    """Replace the file; after a power cut it is the old one or the new. Where it cannot be written, the meter will be
    found again.
    """
    record = {}
    for name in _ATTRIBUTES:
        record[_key(name)] = getattr(detected, name)
    if not detected.protocol:
        del record["protocol"]
    store.save(_FILE, record)


def record(detected, proven):
    """Put what was proven into `detected`; save it where that is news."""
    line = proven.line
    is_blinking = proven.protocol == protocols.BLINK
    is_news = False
    for name, value in (
        ("protocol", proven.protocol),
        ("is_polled", bool(proven.conversation)),
        ("baud", line.baud),
        ("bits", line.bits),
        ("parity", line.parity),
        ("uart_parity", proven.uart_parity),
        ("invert", line.invert),
        ("line", "" if is_blinking else repr(line)),
        ("seen", proven.seen),
    ):
        if getattr(detected, name) != value:
            setattr(detected, name, value)
            is_news = True
    if is_news:
        save(detected)


def apply(detected, reading, driver):
    """Read what was found from now on: into `reading` (ReadingSettings) and the line driver."""
    reading.protocol = detected.protocol
    reading.is_polled = detected.is_polled
    reading.line = None if detected.is_polled else detected.uart_line()
    if detected.is_polled and detected.bits == 7 and "mode=" not in reading.options:
        reading.options = (reading.options + " mode=IEC").strip()  # for DLMS, behind its sign-on
    driver.flip_polarity(detected.invert)


def announce_replacement(before, slug, outbox, announcer):
    """The meter `slug` is there; the entities of the one before it ("": none) are no longer."""
    if before and before != slug:
        for level in ("state", "live"):
            outbox.remove(announcer.topic(before, level))
        outbox.put(announcer.topic(before, "status"), b"offline", True)
    outbox.put(announcer.topic(slug, "status"), b"online", True)
