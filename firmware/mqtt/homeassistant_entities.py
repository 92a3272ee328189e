"""Discovery for hubs that do not know the device-based one: each entity by itself."""

import json


def entities(announcer, meter):
    """Yields (topic, payload) of each entity of `meter`, of the probe for None (see firmware.mqtt.homeassistant)."""
    object_id = announcer.object_id(meter)
    common = announcer.common(meter)
    for key, component in announcer.sensors(meter):
        if component is None:
            yield _topic(announcer, "sensor", object_id, key), b""
            continue
        component = announcer.component(key, component, object_id)
        component.update(common)
        platform = component.pop("p")  # the topic says it
        yield _topic(announcer, platform, object_id, key), json.dumps(component).encode()


def _topic(announcer, platform, object_id, key):
    return ("%s/%s/%s/%s/config" % (announcer.discovery_prefix, platform, object_id, key)).encode()
