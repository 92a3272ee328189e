"""Discovery for hubs that do not know the device-based one: each entity by itself."""

import json

from firmware.mqtt.homeassistant import common_of, component_of


def send(session, announcer, meter, described):
    """Announce `meter`, or the probe itself for None, over `session` (firmware.mqtt.session.MqttSession)."""
    for topic, payload in entities(announcer, meter, described):
        session.publish_pieces(topic, len(payload), (payload,))


def entities(announcer, meter, described):
    """Yields (topic, payload) of each entity of `meter`, of the probe for None (see firmware.mqtt.homeassistant)."""
    object_id = announcer.object_id(meter)
    common = common_of(announcer, meter, described)
    for key, component in described.sensors(announcer, meter):
        if isinstance(component, str):
            yield _topic(announcer, component, object_id, key), b""
            continue
        component = component_of(key, component, object_id)
        component.update(common)
        platform = component.pop("p")  # the topic says it
        yield _topic(announcer, platform, object_id, key), json.dumps(component).encode()


def _topic(announcer, platform, object_id, key):
    return ("%s/%s/%s/%s/config" % (announcer.discovery_prefix, platform, object_id, key)).encode()
