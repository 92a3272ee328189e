"""What Home Assistant is told, as the object it gets."""

import json
from typing import Any


def described_by(device: Any, meter: Any) -> Any:
    """The module that describes `meter`, the probe for None."""
    return device.homeassistant_probe if meter is None else device.homeassistant_registers


def announced(device: Any, announcer: Any, meter: Any) -> Any:
    """The payload that announces `meter`, or the probe for None."""
    pieces = list(device.homeassistant.device_payload(announcer, meter, described_by(device, meter)))
    assert all(isinstance(piece, bytes) for piece in pieces)
    return json.loads(b"".join(pieces))
