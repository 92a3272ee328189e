"""A protocol's parts as the settings want them."""

from metering import protocols


def make(settings, asked):
    """(listener, conversation or None, counters or None) of settings["protocol"].

    `asked`: is the meter asked? None: as far as the protocol knows how. The counters (firmware.store) are an encrypted
    one's.
    """
    name = settings["protocol"]
    listener = protocols.load(name)()
    if settings["line"]:
        listener.line = settings["line"]
    counters = conversation = None
    if listener.takes_keys:
        from firmware.store import Counters

        counters = Counters(listener, settings["meter_key"], settings["meter_auth_key"])
    made = None if asked is False else protocols.load_conversation(name)
    if made:
        conversation = made(
            listener,
            settings["meter_address"],
            settings["meter_password"],
            settings["wake_up"],
            settings["interval_s"],
        )
        conversation.answers = bool(asked)
    return listener, conversation, counters
