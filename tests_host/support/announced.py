"""What Home Assistant is told, as the object it gets."""

import json
from typing import Any


def sensors_of(device: Any, meter: Any) -> Any:
    """The generator of the entities of `meter`, of the probe for None."""
    return (device.homeassistant_probe if meter is None else device.homeassistant_registers).sensors


def announced(device: Any, announcer: Any, meter: Any) -> Any:
    """The payload that announces `meter`, or the probe for None."""
    pieces = list(device.homeassistant.device_payload(announcer, meter, sensors_of(device, meter)))
    assert all(isinstance(piece, bytes) for piece in pieces)
    return json.loads(b"".join(pieces))
