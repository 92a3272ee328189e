"""What Home Assistant is told of the probe itself, beside firmware.mqtt.homeassistant."""

import json

from micropython import const

from firmware.mqtt.homeassistant import page_address

_EXPIRE_S = const(180)  # three of the diagnostics, one a minute

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
-wifi_rssi_dbm,Wi-Fi signal,dBm,signal_strength
"""
_OF_TELEGRAMS = const(5)  # of these, at their head

# platform, key, name, the rest; their orders are those of firmware.owner.orders. A setting's state is what it was when
# it was announced, as it is changed by a restart alone; of a secret it says only whether there is one.
_CONTROLS = """button,restart,Restart,"pl_prs":"restart","dev_cla":"restart"
button,search,Search again,"pl_prs":"search","ic":"mdi:magnify"
button,read,Read now,"pl_prs":"read","ic":"mdi:refresh"
number,publish_interval_s,Publish interval,"min":0,"max":3600,"mode":"box","unit_of_meas":"s"
number,pulses_per_kwh,Impulses per kWh,"min":1,"max":100000,"mode":"box","ic":"mdi:led-on"
select,protocol,Protocol,"ops":["auto","sml","iec62056-21","dlms","dlms-client","kmp","mbus","lis200","modbus","c1218","blink"]
text,meter_key,Meter key,"mode":"password","max":64,"ic":"mdi:key"
"""


def sensors(announcer, _meter):
    """Yields (key, component): what helps to place the head, a recording for somebody far away, and the diagnostics."""
    prefix = announcer.topic("").decode()
    topic = prefix + "alignment"
    yield "alignment_mode", {
        "p": "switch",
        "name": "Alignment mode",
        "stat_t": topic,
        "val_tpl": "{{ value_json.mode }}",
        "cmd_t": topic + "/set",
        "ent_cat": "config",
        "ic": "mdi:target",
    }
    yield "alignment", {
        "name": "Alignment",
        "stat_t": topic,
        "val_tpl": "{{ value_json.score if value_json.mode == 'ON' else 0 }}",
        "json_attr_t": topic,
        "unit_of_meas": "%",
        "ent_cat": "diagnostic",
        "ic": "mdi:target",
    }
    topic = prefix + "capture/set"
    yield "capture", {"p": "button", "name": "Capture", "cmd_t": topic, "ent_cat": "diagnostic", "ic": "mdi:record-rec"}
    settings = announcer.settings
    place = topic[:-4]
    if settings.get("device_password"):  # there is a page, and the file on it
        place = page_address(announcer) + "/api/capture"
    yield "capture_result", {
        "name": "Last capture",
        "stat_t": prefix + "diagnostics",
        "val_tpl": "{{ value_json.capture_bytes ~ ' bytes: %s' if value_json.capture_bytes else 'none' }}" % place,
        "ent_cat": "diagnostic",
        "ic": "mdi:file-document-outline",
    }
    topic = prefix + "status"
    yield "connectivity", {
        "p": "binary_sensor",
        "name": "Connectivity",
        "stat_t": topic,
        "val_tpl": "{{ value }}",
        "pl_on": "online",
        "pl_off": "offline",
        "avty_t": topic,
        "avty_tpl": "online",  # that it is not there is its state
        "dev_cla": "connectivity",
        "ent_cat": "diagnostic",
    }
    topic = prefix + "diagnostics"
    at = 0
    while at < len(_CONTROLS):  # a line at a time, as a list of all would stand in memory where it is fullest
        end = _CONTROLS.find("\n", at)
        platform, key, name, more = _CONTROLS[at:end].split(",", 3)
        at = end + 1
        if key == "pulses_per_kwh" and announcer.telegrams or key == "meter_key" and not announcer.telegrams:
            yield key, platform
            continue
        if key == "read" and announcer.asks is False:
            yield key, platform
            continue
        component = json.loads("{%s}" % more)
        if key == "read" and announcer.asks is None:  # most meters push
            component["en"] = False
        component.update({"p": platform, "name": name, "cmd_t": prefix + "order/set", "ent_cat": "config"})
        if platform != "button":
            value = settings.get(key)
            component["stat_t"] = topic
            component["val_tpl"] = str(value) if key != "meter_key" else "given" if value else "none"
            component["cmd_tpl"] = key + ("={{ value | int }}" if platform == "number" else "={{ value }}")
        yield key, component
    yield "last_telegram", {
        "name": "Last telegram",
        "stat_t": topic,
        "val_tpl": "{{ (now() - timedelta(seconds=value_json.published_ago_s)).replace(second=0, microsecond=0)"
        ".isoformat() if value_json.published_ago_s is number else None }}",
        "dev_cla": "timestamp",
        "ent_cat": "diagnostic",
    }
    at = n = 0
    while at < len(_DIAGNOSTICS):
        end = _DIAGNOSTICS.find("\n", at)
        line = _DIAGNOSTICS[at:end]
        at = end + 1
        n += 1
        key, name, unit, device_class = line[1:].split(",")
        if n <= _OF_TELEGRAMS and not announcer.telegrams:
            yield key, "sensor"
            continue
        component = {"name": name, "stat_t": topic, "ent_cat": "diagnostic", "exp_aft": _EXPIRE_S}
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
