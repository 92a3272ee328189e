"""Register maps of meters that are asked for their registers (metering.modbus.modbus_map): one that comes along, by its
name, or the owner's own, by its file. A board gets the chosen one alone, as FILE, without what only people read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metering import protocols
from metering.modbus.modbus_map import ModbusMap

from ..decoding import AUTO
from ..source_tree import modbus_maps

KEY, FILE = "modbus_map", "modbus_map.json"
MOST_BYTES = 8192  # that the firmware reads of it
_FOR_PEOPLE = ("about", "source")


def choices() -> str:
    """What may be named, in words."""
    return f"{', '.join(modbus_maps())} or your own file.json"


def protocol_with_map() -> str:
    """The protocol whose meters are asked by a map."""
    return next(name for name in protocols.names() if takes_map(name))


def takes_map(protocol: object) -> bool:
    return protocol in protocols.names() and hasattr(protocols.load_conversation(protocol), "take_map")


def load(given: object, folder: Path = Path()) -> dict[str, Any]:
    """The map called `given`, or in the file of this name below `folder`. Raises ValueError, a sentence without its
    full stop."""
    if not isinstance(given, str):
        raise ValueError(f"{KEY}: give {choices()}")
    file = modbus_maps().get(given)
    if file is None:
        if not given.endswith(".json"):
            raise ValueError(f"{KEY}: there is no map {given}: give {choices()}")
        file = folder / given
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{KEY}: {file} cannot be read ({error.strerror}): check its name") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{KEY}: {file} is not JSON: correct it") from error
    ModbusMap(data)
    return {key: value for key, value in data.items() if key not in _FOR_PEOPLE}


def chosen(protocol: str, given: str | None) -> tuple[str, dict[str, Any] | None]:
    """(the protocol, the map called `given`) of `optoprobe read`, for a protocol that has one. Raises ValueError."""
    if not given:
        if takes_map(protocol):
            raise ValueError(f"name the meter's registers with --modbus-map: {choices()}")
        return protocol, None
    asked = protocol_with_map()
    if protocol not in (AUTO, asked):
        raise ValueError(f"--modbus-map and {protocol} do not belong together: it is for {asked} alone")
    return asked, load(given)


def placed(settings: Mapping[str, Any], folder: Path, is_all: bool) -> tuple[dict[str, Any], dict[str, bytes]]:
    """As certificates.placed(). Raises ValueError likewise."""
    values = dict(settings)
    if not values.get(KEY):
        if is_all and takes_map(values.get("protocol")):
            raise ValueError(f"{KEY} is missing: give {choices()}")
        return values, {}
    content = json.dumps(load(values[KEY], folder), ensure_ascii=False, separators=(",", ":")).encode()
    if len(content) > MOST_BYTES:
        raise ValueError(f"{KEY}: it is larger than {MOST_BYTES} bytes: leave out registers")
    values[KEY] = FILE
    return values, {FILE: content}
