"""Home Assistant's MQTT discovery, as pure functions: descriptions in, pieces of JSON out.

Everything here was held against a running Home Assistant: device-based discovery, origin, strict top-level keys.
A payload is produced in pieces and sent in pieces: a meter with sixty registers needs 20 KB that never stand in memory.
"""

import json

from micropython import const

from firmware import VERSION
from metering.register import CUMULATIVE, IDENTIFIER, INSTANTANEOUS, TEXT, lookup

_DIAGNOSTICS_EXPIRE_S = const(180)  # three of the one a minute

# symbol as published -> device class; there is none for angles and for kVAh
_CLASSES = (
    " W=power VA=apparent_power var=reactive_power kWh=energy kvarh=reactive_energy V=voltage A=current Hz=frequency"
    " °C=temperature GJ=energy m³=volume m³/h=volume_flow_rate h=duration "
)

# key, name, unit, device class; + before a count that grows, - before what is disabled at first
_DIAGNOSTICS = """+telegrams,Telegrams,,
+rejected,Telegrams rejected,,
+held,Values held back,,
+attempts_failed,Read-outs failed,,
-meter_clock_off_s,Meter clock deviation,s,duration
 notice,Notice,,
 seen,Detection,,
-uptime_s,Uptime,s,duration
-restarts,Restarts,,
-restart_cause,Restart cause,,
-free_heap_bytes,Free heap,B,data_size
-wifi_rssi_dbm,Wi-Fi signal,dBm,signal_strength"""
_OF_TELEGRAMS = const(5)  # of these, at their head


class Meter:
    """What is announced of a meter: `meter_id` its name, `slug` the same fit for topics, `maker` and `model` or "",
    `registers`, and after how many seconds without a telegram its instantaneous values are unknown again.
    `is_model_only`: `meter_id` is that of all meters of this model. `serial`: the number printed on it, where that is
    another than `meter_id`.
    """

    is_model_only = False
    serial = ""

    def __init__(self, meter_id, slug, maker, model, registers, live_expires_s):
        self.meter_id = meter_id
        self.slug = slug
        self.maker = maker
        self.model = model
        self.registers = registers
        self.live_expires_s = live_expires_s

    def components(self, state, live):
        """Yields (key, component) of each entity; `state` and `live` are the topics' texts.

        The component of one that was announced under another key before is None: it is to be taken away.
        """
        keys = [register.key for register in self.registers]
        for register in self.registers:
            if register.former_key:
                yield register.former_key, None
            component = register_component(register, state, live, self.live_expires_s)
            if register.tariff_of() in keys:
                component["en"] = False
            yield register.key, component


def slug(text):
    """`text` fit for a topic or an entity id; every other character becomes its hex code, so that none collide."""
    out = bytearray()
    for byte in text.encode():
        if 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A or byte == 0x2D:
            out.append(byte)
        else:
            out.extend(b"_%02x" % byte)
    return bytes(out).decode() or "unnamed"


class Announcer:
    """Discovery payloads of one probe; `prefix` and `probe_id` make its topics, `discovery_prefix` is the hub's.

    `telegrams` is to be False where none are read, but the flashes of an LED; `meters_come_and_go` True where each
    meter has a status of its own.
    """

    def __init__(self, prefix, probe_id, probe_name, discovery_prefix):
        self._prefix = prefix
        self._probe_id = probe_id
        self._probe_name = probe_name
        self.discovery_prefix = discovery_prefix
        self.telegrams = True
        self.meters_come_and_go = False

    def topic(self, *levels):
        """`prefix/probe id/level/...` as bytes."""
        return "/".join((self._prefix, self._probe_id) + levels).encode()

    def state_topic(self, meter):
        """Where the meter's counters and identifiers go, retained."""
        return self.topic(meter.slug, "state")

    def live_topic(self, meter):
        """Where the meter's instantaneous values go, not retained."""
        return self.topic(meter.slug, "live")

    def object_id(self, meter):
        """The name of the device in the hub's topics; of the probe for None."""
        return "_".join(["optoprobe", self._probe_id] + ([meter.slug] if meter else []))

    def _device(self, meter):
        if meter is None:
            return {"ids": [self.object_id(None)], "name": self._probe_name, "mdl": "optoprobe", "sw": VERSION}
        number = meter.serial or meter.meter_id
        device = {
            "ids": [self.object_id(meter)],
            "name": ("Meter " + number).strip(),
            "via_device": self.object_id(None),
        }
        if meter.is_model_only:
            device["name"] += " (model)"
        elif number:
            device["sn"] = number
        if meter.maker:
            device["mf"] = meter.maker
        if meter.model:
            device["mdl"] = meter.model
        return device

    def sensors(self, meter):
        """(key, component) of each entity, one at a time."""
        if meter is None:
            return _of_the_probe(self.topic("").decode(), 0 if self.telegrams else _OF_TELEGRAMS)
        return meter.components(self.state_topic(meter).decode(), self.live_topic(meter).decode())

    def component(self, key, component, object_id):
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

    def common(self, meter):
        """What every payload has, of a device or of one entity of it."""
        common = {"dev": self._device(meter), "o": {"name": "optoprobe", "sw": VERSION}}
        status = self.topic("status").decode()
        if meter and self.meters_come_and_go:
            common["avty"] = [{"t": status}, {"t": self.topic(meter.slug, "status").decode()}]
            common["avty_mode"] = "all"
        else:
            common["avty_t"] = status
        return common

    def device_payload(self, meter):
        """Yields the pieces (bytes) of the one payload that announces `meter`, or the probe itself for None."""
        object_id = self.object_id(meter)
        yield (json.dumps(self.common(meter))[:-1] + ', "cmps": {').encode()
        comma = ""
        for key, component in self.sensors(meter):
            opening = '%s"%s": {' % (comma, key)
            comma = ", "
            if component is None:
                yield (opening + '"p": "sensor"}').encode()
                continue
            for name, value in self.component(key, component, object_id).items():
                yield ('%s"%s": %s' % (opening, name, json.dumps(value))).encode()
                opening = ", "
            yield b"}"
        yield b"}}"

    def device_topic(self, meter):
        """The topic of device_payload()."""
        return ("%s/device/%s/config" % (self.discovery_prefix, self.object_id(meter))).encode()


def _of_the_probe(prefix, first):
    """Yields (key, component): what helps to place the head, a recording for somebody far away, and the diagnostics."""
    topic = prefix + "alignment"
    yield (
        "alignment_mode",
        {
            "p": "switch",
            "name": "Alignment mode",
            "stat_t": topic,
            "val_tpl": "{{ value_json.mode }}",
            "cmd_t": topic + "/set",
            "ent_cat": "config",
            "ic": "mdi:target",
        },
    )
    yield (
        "alignment",
        {
            "name": "Alignment",
            "stat_t": topic,
            "val_tpl": "{{ value_json.score if value_json.mode == 'ON' else 0 }}",
            "json_attr_t": topic,
            "unit_of_meas": "%",
            "ent_cat": "diagnostic",
            "ic": "mdi:target",
        },
    )
    topic = prefix + "capture/set"
    yield "capture", {"p": "button", "name": "Capture", "cmd_t": topic, "ent_cat": "diagnostic", "ic": "mdi:record-rec"}
    topic = prefix + "diagnostics"
    for line in _DIAGNOSTICS.split("\n")[first:]:
        key, name, unit, device_class = line[1:].split(",")
        component = {"name": name, "stat_t": topic, "ent_cat": "diagnostic", "exp_aft": _DIAGNOSTICS_EXPIRE_S}
        if unit:
            component["unit_of_meas"] = unit
        if device_class:
            component["dev_cla"] = device_class
        if line.startswith("+"):
            component["stat_cla"] = "total_increasing"
        if line.startswith("-"):
            component["en"] = False
        if key == "seen":
            component["val_tpl"] = "{{ value_json.seen | default('not looked for') }}"
        yield key, component


def register_component(register, state, live, live_expires_s):
    """What a register is to the hub."""
    component = {"name": register.name()}
    if register.kind == INSTANTANEOUS:
        component["stat_t"] = live
        component["exp_aft"] = live_expires_s
    else:
        component["stat_t"] = state
    if register.kind in (CUMULATIVE, INSTANTANEOUS):
        symbol = register.symbol()
        if symbol:
            component["unit_of_meas"] = symbol
        device_class = lookup(_CLASSES, symbol)
        word = register.key.split("_")[0]
        if symbol in ("m³", "L") and word in ("gas", "water"):  # the hub's energy dashboard takes no volume
            device_class = word
        elif not symbol and register.key.startswith("power_factor"):
            device_class = "power_factor"
        decimals = register.decimals()
        if decimals is not None:
            component["sug_dsp_prc"] = decimals
        if register.kind == CUMULATIVE:
            component["stat_cla"] = "total_increasing"
        elif symbol in ("kWh", "kvarh", "kVAh", "GJ", "m³"):
            component["stat_cla"] = "total"  # a net or a period's energy may fall
        else:
            component["stat_cla"] = "measurement"
        if device_class:
            component["dev_cla"] = device_class
    else:
        component["ent_cat"] = "diagnostic"
        if register.kind == IDENTIFIER:
            component["ic"] = "mdi:identifier"
        if register.kind == TEXT and "_max_time" not in register.key:
            component["en"] = False
    if not register.known:
        component["ent_cat"] = "diagnostic"
        component["en"] = False
    return component
