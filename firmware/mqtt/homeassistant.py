"""Home Assistant's MQTT discovery, as pure functions: descriptions in, pieces of JSON out.

Everything here was held against a running Home Assistant: device-based discovery, origin, strict top-level keys.
A payload is produced in pieces and sent in pieces: a meter with sixty registers needs 20 KB that never stand in memory.
Nor does this code, but while it is needed (firmware.mqtt.discovery). What there is to announce says `described`, the
module homeassistant_probe or homeassistant_registers: its device() the device, its sensors() yields (key, component) of
each entity, one at a time. Of one that is to be taken away the component is its platform's name alone.
"""

import json

from firmware import VERSION


def component_of(key, component, object_id):
    """The component of an entity, made whole."""
    component.setdefault("p", "sensor")
    component["uniq_id"] = "%s_%s" % (object_id, key)
    component["def_ent_id"] = ("%s.%s_%s" % (component["p"], object_id, key)).lower().replace("-", "_")
    if "dev_cla" not in component:  # whose picture the hub knows
        component.setdefault("ic", "mdi:counter" if "unit_of_meas" in component else "mdi:information")
    if component["p"] != "button":
        template = "{{ value_json.%s | default('') }}" % key
        if component["p"] == "sensor" and "stat_cla" not in component and "unit_of_meas" not in component:
            # the hub takes an empty text for a state, and only an empty number for none
            template = "{{ value_json.%s if '%s' in value_json else this.state }}" % (key, key)
        component.setdefault("val_tpl", template)
    return component


def common_of(announcer, meter, described):
    """What every payload has, of a device or of one entity of it."""
    common = {"dev": described.device(announcer, meter), "o": {"name": "optoprobe", "sw": VERSION}}
    status = announcer.topic("status").decode()
    if meter and announcer.meters_come_and_go:
        common["avty"] = [{"t": status}, {"t": announcer.topic(meter.slug, "status").decode()}]
        common["avty_mode"] = "all"
    else:
        common["avty_t"] = status
    return common


def device_payload(announcer, meter, described):
    """Yields the pieces (bytes) of the one payload that announces `meter`, or the probe itself for None."""
    object_id = announcer.object_id(meter)
    opening = "{"
    for name, value in common_of(announcer, meter, described).items():
        yield ('%s"%s": %s' % (opening, name, json.dumps(value))).encode()
        opening = ", "
    yield b', "cmps": {'
    comma = ""
    for key, component in described.sensors(announcer, meter):
        opening = '%s"%s": {' % (comma, key)
        comma = ", "
        if isinstance(component, str):
            yield ('%s"p": "%s"}' % (opening, component)).encode()
            continue
        for name, value in component_of(key, component, object_id).items():
            yield ('%s"%s": %s' % (opening, name, json.dumps(value))).encode()
            opening = ", "
        yield b"}"
    yield b"}}"


def device_topic(announcer, meter):
    """The topic of device_payload()."""
    return ("%s/device/%s/config" % (announcer.discovery_prefix, announcer.object_id(meter))).encode()


def send(session, announcer, meter, described):
    """Announce `meter`, or the probe itself for None, over `session` (firmware.mqtt.session.MqttSession)."""
    size = 0
    for piece in device_payload(announcer, meter, described):
        size += len(piece)
    session.publish_pieces(device_topic(announcer, meter), size, device_payload(announcer, meter, described))
