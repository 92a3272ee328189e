"""What Home Assistant is told of the probe itself, beside firmware.mqtt.homeassistant."""

from micropython import const

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
-wifi_rssi_dbm,Wi-Fi signal,dBm,signal_strength"""
_OF_TELEGRAMS = const(5)  # of these, at their head


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
    topic = prefix + "diagnostics"
    for line in _DIAGNOSTICS.split("\n")[0 if announcer.telegrams else _OF_TELEGRAMS :]:
        key, name, unit, device_class = line[1:].split(",")
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
