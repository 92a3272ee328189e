"""What is new of the network, for people: a session, or what has ended one. Loaded for a moment, by the loop.

The sentences of failures are in a module of their own: a session's first moment is one of the fullest.
"""

from micropython import const

from metering.unload import unload

_TAKEN_OVER = const(3)  # so many sessions in a row, none of a minute, ended by the broker


def explain(network):
    """Put the news of `network` (firmware.mqtt.session.Network) into its words; print a session and another fault."""
    network.has_news = False
    fault = network.fault
    settings = network.settings
    if fault is not None:
        network.fault = None
        error, was_session = fault
        from firmware.mqtt import fault_sentence

        said = fault_sentence.sentence_of(error, was_session, settings)
        by_broker = fault_sentence.has_closed(error)
        fault_sentence = None
        unload("firmware.mqtt.fault_sentence")
        if said != network.last_fault:
            network.last_fault = said
            print("optoprobe: " + said)
        if was_session:
            network.ended_early = network.ended_early + 1 if by_broker else 0
    elif network.opened_s is not None:
        where = settings["wifi_ssid"], settings["mqtt_host"], settings["mqtt_port"]
        print("optoprobe: connected: the Wi-Fi %s, the broker at %s:%d" % where)
    network.notice = ""
    if network.ended_early >= _TAKEN_OVER:
        network.notice = "the broker ends each session soon: another probe or program has the probe_id %s" % (
            network.probe_id
        )
    elif network.session.refused_topic:
        topic = network.session.refused_topic.decode()
        network.notice = "the broker refuses the subscription to %s: let the probe read it" % topic
