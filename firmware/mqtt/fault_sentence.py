"""What is or was wrong with the network, in a sentence with its cure. Loaded for a moment, by the loop."""

import errno

import umqtt.simple as umqtt
from micropython import const

from firmware.mqtt.sockets import NO_ADDRESS
from firmware.mqtt.wifi import NoWifi
from metering.unload import unload

_TAKEN_OVER = const(3)  # so many sessions in a row, none of a minute, ended by the broker
_REFUSALS = {1: "protocol version", 2: "client id", 3: "server unavailable", 4: "user or password", 5: "not authorised"}
_CLOSED = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, -1)  # -1: umqtt's for one that is closed


def explain(network):
    """Put the news of `network` (firmware.mqtt.session.Network) into its words; print a session and another fault."""
    network.has_news = False
    fault = network.fault
    if fault is not None:
        network.fault = None
        error, was_session = fault
        said = sentence_of(error, was_session, network.settings)
        if said != network.last_fault:
            network.last_fault = said
            print("optoprobe: " + said)
        if was_session:
            by_broker = isinstance(error, OSError) and _detail(error) in _CLOSED
            network.ended_early = network.ended_early + 1 if by_broker else 0
    elif network.opened_s is not None:
        print("optoprobe: " + _connected(network.settings))
    network.notice = ""
    if network.ended_early >= _TAKEN_OVER:
        network.notice = "the broker ends each session soon: another probe or program has the probe_id %s" % (
            network.probe_id
        )
    elif network.session.refused_topic:
        topic = network.session.refused_topic.decode()
        network.notice = "the broker refuses the subscription to %s: let the probe read it" % topic


def _connected(settings):
    return "connected: the Wi-Fi %s, %s" % (settings["wifi_ssid"], _broker(settings))


def _broker(settings):
    return "the broker at %s:%d" % (settings["mqtt_host"], settings["mqtt_port"])


def _detail(error):
    return error.args[0] if error.args else 0


def sentence_of(error, was_session, settings):
    """Of the exception that a session or the way to it has ended with."""
    detail = _detail(error)
    broker = _broker(settings)
    if settings["mqtt_tls_ca"]:
        from firmware.mqtt import tls_sentence

        said = tls_sentence.of(error, broker, settings)
        tls_sentence = None
        unload("firmware.mqtt.tls_sentence")
        if said:
            return said
    if isinstance(error, NoWifi) and error.args:
        return "the Wi-Fi %s was lost" % settings["wifi_ssid"]
    if isinstance(error, NoWifi):
        return "the Wi-Fi %s cannot be joined: check its name and password" % settings["wifi_ssid"]
    if isinstance(error, umqtt.MQTTException) and detail in _REFUSALS:
        return "%s refuses: %s" % (broker, _REFUSALS[detail])
    if isinstance(error, MemoryError):
        return "the network has no memory left"
    if not isinstance(error, OSError):
        return "%s answers oddly (%s)" % (broker, type(error).__name__)
    if detail == errno.EINVAL:
        return "%s answers oddly (a packet too long)" % broker
    if detail == NO_ADDRESS:
        return "the broker's name %s is not resolved: check it and the name server" % settings["mqtt_host"]
    if detail in _CLOSED:
        return "%s %s the connection" % (broker, "has closed" if was_session else "refuses or has closed")
    if was_session:
        return "%s does not answer any more" % broker
    return "%s cannot be reached or does not answer (%s)" % (broker, error)
