"""Under which names the broker and the hub know this probe, kept in a file: nothing stays under those of before.

    settings name another prefix or probe id    everything of before goes
    another discovery, or none                  the discovery of before goes, of the probe and its meters

Loaded once, at the start. What the broker keeps goes in a session of its own before the first; where that is cut off,
at the next start.
"""

from micropython import const

from firmware.store import load, save
from metering.unload import unload

FILE = "announced.json"  # [topics' prefix, probe id, discovery's prefix, discovery]
_NAMES = const(4)


def look(settings, mailbox, health, probe_id):
    """Note the names of now, and have what is kept under others forgotten, where there were any."""
    now = [settings["mqtt_prefix"], probe_id, settings["discovery_prefix"], settings["discovery"]]
    try:
        names = load(FILE)
    except MemoryError:  # the next start looks again
        return
    if names == now or not settings["mqtt_host"]:
        return
    is_known = isinstance(names, list) and len(names) == _NAMES
    for text in names if is_known else ():  # type: ignore[union-attr] - a list then
        # a wildcard would forget what others have left
        is_known = is_known and isinstance(text, str) and "+" not in text and "#" not in text
    if not is_known or names[:2] == now[:2] and names[3] == "off":  # type: ignore[index] - likewise
        save(FILE, now)
        return
    from firmware.mqtt.forget_topics import ALL, DISCOVERY, TopicsForgotten

    what = DISCOVERY if names[:2] == now[:2] else ALL  # type: ignore[index] - likewise
    forgotten = TopicsForgotten(health, what, names, lambda: save(FILE, now))
    unload("firmware.mqtt.forget_topics")
    next_one = mailbox.before_session  # a blinking meter's

    def before(client):
        mailbox.before_session = next_one  # one try a start: what cuts it off must not keep the probe off the broker
        forgotten.clean(client)
        if next_one:
            next_one(client)
            if mailbox.before_session is next_one:
                mailbox.before_session = None

    mailbox.before_session = before
