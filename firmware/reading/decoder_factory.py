"""Makes of a protocol's code what the settings want. Loaded for a moment, and dropped again."""

from micropython import const

from firmware.hardware.health import call
from metering import protocols

_DAY_S = const(86400)
_BATTERY_PAUSE_S = const(3600)  # a meter that is asked as rarely runs on a battery
_MOST_ASKED_BAUD = const(38400)  # of M-Bus; 19200 of IEC 62056-21, whose P1 pushes at 115200


class Decoder:
    """What hears a meter: `listener`, `conversation` (None where the meter is not asked), `counters`
    (firmware.reading.invocation_counters; None where none are kept).
    """

    def __init__(self, listener, conversation, counters):
        self.listener = listener
        self.conversation = conversation
        self.counters = counters


def build_decoder(reading, protocol, line, is_polled, services):
    """The Decoder of `protocol` under `reading` (firmware.reading.meter.ReadingSettings).

    `line` is a metering.line.Line or None for the protocol's usual one; `is_polled` says whether the meter is asked,
    None: where the protocol knows how. What is faster than any meter that is asked pushes: the code to ask it, 8 KB of
    IEC 62056-21, is not loaded. `services` as in firmware.app.
    """
    settings = reading.owner
    if is_polled is None and line is not None and line.baud > _MOST_ASKED_BAUD:
        is_polled = False
    listener = protocols.load(protocol)()
    if line is not None:
        listener.line = line
    counters = conversation = None
    if listener.keeps_counters:
        from firmware.reading.invocation_counters import Counters

        counters = Counters(listener, settings["meter_key"], settings["meter_auth_key"])
    elif listener.takes_keys:
        listener.set_keys(settings["meter_key"])
    conversation_class = None if is_polled is False else protocols.load_conversation(protocol)
    if conversation_class:
        conversation = conversation_class(
            listener,
            settings["meter_address"],
            reading.password,
            settings["wake_up"],
            settings["interval_s"],
        )
        if settings["modbus_map"]:
            call("firmware.reading.map_file", lambda file: file.give_map(conversation, settings["modbus_map"]))
        if settings["reads_a_day"]:
            conversation.pause_s = max(conversation.pause_s, _DAY_S // settings["reads_a_day"])
        conversation.answers = bool(is_polled)
        if settings["wake_up"] or conversation.pause_s >= _BATTERY_PAUSE_S:
            call("firmware.reading.read_budget", lambda budget: budget.spare(conversation, services))
        if conversation_class.takes_options:
            from firmware.reading.kept_answers import load_answers, save_answers

            conversation.keep_by(load_answers, save_answers)
            if settings["meter_key"]:
                from firmware.reading.own_counters import STEP, reserve, system_title

                keys = settings["meter_key"], settings["meter_auth_key"]
                conversation.take_keys(keys[0], keys[1], system_title(), reserve, STEP)
            conversation.take_options(reading.options)
    return Decoder(listener, conversation, counters)
