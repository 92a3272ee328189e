"""What Home Assistant is told of a meter's registers, beside firmware.mqtt.homeassistant."""

from metering.register import CUMULATIVE, IDENTIFIER, INSTANTANEOUS, TEXT, lookup

# symbol as published -> device class; there is none for angles and for kVAh
_CLASSES = (
    " W=power VA=apparent_power var=reactive_power kWh=energy kvarh=reactive_energy V=voltage A=current Hz=frequency"
    " °C=temperature GJ=energy m³=volume m³/h=volume_flow_rate h=duration bar=pressure "
)


def device(announcer, meter):
    """What the hub is told of the meter itself."""
    number = meter.serial or meter.meter_id
    told = {
        "ids": [announcer.object_id(meter)],
        "name": ("Meter " + number).strip(),
        "via_device": announcer.object_id(None),
    }
    if meter.is_model_only:
        told["name"] += " (model)"
    elif number:
        told["sn"] = number
    if meter.maker:
        told["mf"] = meter.maker
    if meter.model:
        told["mdl"] = meter.model
    return told


def sensors(announcer, meter):
    """Yields (key, component) of each entity of `meter`.

    Of one that was announced under another key before it is "sensor": it is to be taken away.
    """
    state, live = announcer.state_topic(meter).decode(), announcer.live_topic(meter).decode()
    keys = [register.key for register in meter.registers]
    for register in meter.registers:
        if register.former_key:
            yield register.former_key, "sensor"
        component = _component(register, state, live, meter.live_expires_s)
        if register.tariff_of() in keys:
            component["en"] = False
        yield register.key, component
    for more in meter.more_components(state, live):  # noqa: UP028 - a generator within another takes more stack
        yield more


def _component(register, state, live, live_expires_s):
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
