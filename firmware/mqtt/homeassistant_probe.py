"""What Home Assistant is told of the probe itself, beside firmware.mqtt.homeassistant.

It stands in a text, of which a line at a time is in memory: all of it took 2 KB where the heap is fullest.
"""

import json

from firmware import VERSION

_FILE = __file__[: __file__.rfind("homeassistant_probe")] + "probe_entities.txt"


def _page_address(announcer):
    """The URL of the probe's page, where its settings have a password for one."""
    port = announcer.settings["page_port"]
    return "http://%s.local" % announcer.probe_id.replace("_", "-") + (":%d" % port if port != 80 else "")


def device(announcer, _meter):
    """What the hub is told of the probe's hardware and firmware."""
    told = {
        "ids": [announcer.object_id(None)],
        "name": announcer.probe_name,
        "mf": "optoprobe",
        "mdl": "optoprobe",
        "hw": announcer.board_name or "unknown",
        "sw": VERSION,
    }
    if announcer.settings.get("device_password"):  # there is a page then
        told["cu"] = _page_address(announcer)
    return told


def sensors(announcer, _meter):
    """Yields (key, component): what helps to place the head, a recording for somebody far away, and the diagnostics.

    Nothing where the text is not there, and no line that is torn.
    """
    prefix = announcer.topic("").decode()
    try:
        file = open(_FILE)
    except OSError:
        print("optoprobe: %s is missing: deploy the probe anew" % _FILE)
        return
    with file:
        for line in file:
            if line[0] == "#":
                continue
            try:
                when, key, platform, line = line.split(" ", 3)  # the longest texts make room at once
                component = json.loads(line)
                line = None
            except ValueError:  # torn
                continue
            asks = announcer.asks if when == "a" else True
            if when == ("b" if announcer.telegrams else "t") or asks is False:
                yield key, platform
                continue
            if asks is None:  # most meters push
                component["en"] = False
            component["p"] = platform
            for name, value in component.items():
                if value == "=":
                    value = announcer.settings.get(key)
                    component[name] = str(value) if key != "meter_key" else "given" if value else "none"
                elif isinstance(value, str) and value[:1] == "~":
                    component[name] = prefix + value[1:]
            if key == "capture_result":  # on the page, where there is one
                has_page = announcer.settings.get("device_password")
                component["val_tpl"] %= _page_address(announcer) + "/api/capture" if has_page else prefix + "capture"
            yield key, component
