"""What Home Assistant is told of a blinking meter, beside firmware.mqtt.homeassistant: two totals, power, the light,
and a number by which the owner sets the reading that the meter shows.
"""

from firmware.mqtt.announcer import Meter
from metering.register import CUMULATIVE, INSTANTANEOUS, Register

_WH, _W = 30, 27  # DLMS unit codes
_LIVE_EXPIRES_S = 60


class BlinkingMeter(Meter):
    """`counted_key` and `reading_key` are the totals' keys in `state`, the latter None until a reading was set."""

    def __init__(self, slug, counted_key, reading_key, number_key, command):
        """`number_key` is where the reading is or will be in `state`; `command` the topic (text) that sets it."""
        registers = [Register(counted_key, CUMULATIVE, _WH, True)]
        if reading_key:
            registers.append(Register(reading_key, CUMULATIVE, _WH, True))
        registers.append(Register("power", INSTANTANEOUS, _W, True))
        rate = Register("pulse_rate", INSTANTANEOUS, None, True)
        rate.printed_unit = "1/min"
        registers.append(rate)
        super().__init__("", slug, "", "", tuple(registers), _LIVE_EXPIRES_S)
        self._number_key = number_key
        self._has_reading = reading_key is not None
        self._command = command

    def more_components(self, state, live):
        # It is never unknown: what was counted from 0 on stands for a reading that was not set yet, and one that is
        # held back for a while stays as it was.
        other = "this.state | float('None')" if self._has_reading else "value_json.%s" % self.registers[0].key
        light = {"name": "Light", "exp_aft": _LIVE_EXPIRES_S}
        ghosts = {"name": "Ghosts rejected", "exp_aft": _LIVE_EXPIRES_S, "stat_cla": "total_increasing"}
        last = {"name": "Last pulse", "exp_aft": _LIVE_EXPIRES_S, "dev_cla": "timestamp", "en": False}
        for component in (light, ghosts, last):
            component["stat_t"] = live
            component["ent_cat"] = "diagnostic"
        number = {
            "p": "number",
            "name": "Reading on the display",
            "stat_t": state,
            "val_tpl": "{{ value_json.%s | default(%s) | default('None') }}" % (self._number_key, other),
            "cmd_t": self._command,
            "min": 0,
            "max": 99999999,
            "step": 0.001,
            "mode": "box",
            "unit_of_meas": "kWh",
            "ent_cat": "config",
        }
        return ("light", light), ("ghosts", ghosts), ("last_pulse", last), ("set_reading", number)
