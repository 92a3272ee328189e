"""What is or was wrong with the network, in a sentence with its cure. Loaded for a moment, by the loop."""

import errno

import umqtt.simple as umqtt

from firmware.mqtt.sockets import NO_ADDRESS
from firmware.mqtt.wifi import NoWifi
from metering.unload import unload

_REFUSALS = {1: "protocol version", 2: "client id", 3: "server unavailable", 4: "user or password", 5: "not authorised"}
_CLOSED = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, -1)  # -1: umqtt's for one that is closed


def _detail(error):
    return error.args[0] if error.args else 0


def has_closed(error):
    """Was it the broker that ended the session, or refused it?"""
    return isinstance(error, OSError) and _detail(error) in _CLOSED


def sentence_of(error, was_session, settings):
    """Of the exception that a session or the way to it has ended with."""
    detail = _detail(error)
    broker = "the broker at %s:%d" % (settings["mqtt_host"], settings["mqtt_port"])
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
