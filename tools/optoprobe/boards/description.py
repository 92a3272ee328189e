"""A board file held against schema.json, then its pins against those of its chip.

Sources of the chips' pins: Espressif's datasheets, chapters "Pin Definitions" and "Strapping Pins"; ESP-IDF "GPIO & RTC
GPIO" of each chip.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

ALIKE = 0.75  # as difflib counts: wifi_sid and wifi_ssid

_KINDS: dict[str, type] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


@dataclass(frozen=True)
class Chip:
    """What each pin of a chip is good for. `strapping`: the level at the start decides whether and from where it starts
    (not those that only turn a log off or choose a debugger). `console`: what its USB, or UART0, talks over. UART 0 is
    the console's on each, beside the USB: so MicroPython's generic images have it (mpconfigboard.h).
    """

    pins: frozenset[int]
    flash: frozenset[int]
    strapping: frozenset[int]
    console: frozenset[int]
    input_only: frozenset[int] = frozenset()
    n_uarts: int = 2


def _pins(*parts: int | tuple[int, int]) -> frozenset[int]:
    """Numbers and ranges (both ends included)."""
    return frozenset(n for part in parts for n in (range(part[0], part[1] + 1) if isinstance(part, tuple) else (part,)))


CHIPS = {
    "esp32": Chip(
        pins=_pins((0, 23), (25, 27), (32, 39)),
        flash=_pins((6, 11)),
        strapping=_pins(0, 2, 12),
        console=_pins(1, 3),
        input_only=_pins((34, 39)),
        n_uarts=3,
    ),
    "esp32s2": Chip(_pins((0, 21), (26, 46)), _pins((26, 32)), _pins(0, 45, 46), _pins(19, 20), _pins(46)),
    "esp32s3": Chip(_pins((0, 21), (26, 48)), _pins((26, 32)), _pins(0, 45, 46), _pins(19, 20), n_uarts=3),
    "esp32c3": Chip(_pins((0, 21)), _pins((11, 17)), _pins(2, 8, 9), _pins(18, 19)),
    "esp32c6": Chip(_pins((0, 30)), _pins((24, 30)), _pins(8, 9), _pins(12, 13)),
}


def problems(board: Mapping[str, Any]) -> list[str]:
    """Sentences without their full stop, each with its key, none for a file that keeps to the schema and its chip."""
    found = list(schema_problems(board))
    return found or [*_pins_used_twice(board), *_chip_problems(board)]


@functools.cache
def schema() -> dict[str, Any]:
    """The schema; it uses no more of JSON Schema than schema_problems() knows."""
    text = resources.files("optoprobe.boards").joinpath("schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def schema_problems(value: Any, rule: Mapping[str, Any] | None = None, key: str = "") -> Iterator[str]:
    """What `value`, of `key` in the file, has against `rule` (all of the schema)."""
    rule = _rule_of(schema() if rule is None else rule)
    if not _is_of(value, rule):
        yield f"{key or 'the file'} {rule['errorMessage']}"
    elif isinstance(value, dict):
        prefix = key and key + "."
        known = rule["properties"]
        for name in rule.get("required", ()):
            if name not in value:
                yield f"{prefix}{name} is missing: it {_rule_of(known[name])['errorMessage']}"
        for name in sorted(set(value) - set(known)):
            yield unknown(name, known, prefix)
        for name in sorted(set(value) & set(known)):
            yield from schema_problems(value[name], known[name], prefix + name)
    elif isinstance(value, list):
        for item in value:
            yield from schema_problems(item, rule["items"], key)


def _rule_of(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema()["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule


def _is_of(value: Any, rule: Mapping[str, Any]) -> bool:
    """Does `value` itself, not what it holds, keep to `rule`?"""
    if "enum" in rule:
        return isinstance(value, str) and value in rule["enum"]
    kind = _KINDS[rule["type"]]
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        return False
    if isinstance(value, (str, list)):
        noun = "Length" if isinstance(value, str) else "Items"
        return rule.get("min" + noun, 0) <= len(value) <= rule.get("max" + noun, len(value))
    if kind is int:
        return rule["minimum"] <= value <= rule["maximum"]
    return True


def unknown(key: str, known: Mapping[str, Any] | set[str], prefix: str) -> str:
    """The sentence about a key that nobody reads."""
    alike = difflib.get_close_matches(key, known, 1, ALIKE)
    meant = f"did you mean {prefix}{alike[0]}?" if alike else "remove it"
    return f"{prefix}{key} is nothing that is read: {meant}"


def _named_pins(board: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(key, pin) of each pin that is named; led.pin may be one of led.rgb."""
    led = board.get("led", {})
    rgb = led.get("rgb", [])
    yield "uart.rx", board["uart"]["rx"]
    yield "uart.tx", board["uart"]["tx"]
    if "direction" in board["uart"]:
        yield "uart.direction", board["uart"]["direction"]
    if "button" in board:
        yield "button", board["button"]
    if led and led["pin"] not in rgb:
        yield "led.pin", led["pin"]
    for pin in rgb:
        yield "led.rgb", pin


def _pins_used_twice(board: Mapping[str, Any]) -> Iterator[str]:
    by_pin: dict[int, list[str]] = {}
    for key, pin in _named_pins(board):
        by_pin.setdefault(pin, []).append(key)
    for pin, keys in by_pin.items():
        if len(keys) > 1:
            yield f"{' and '.join(keys)} name the same pin {pin}"


def _chip_problems(board: Mapping[str, Any]) -> Iterator[str]:
    name = board.get("chip")
    if name is None:
        return
    chip = CHIPS[name]
    uart = board["uart"]
    if uart["id"] == 0:
        yield f"uart.id is 0, the console of an {name}: take 1"
    if uart["id"] >= chip.n_uarts:
        yield f"uart.id is {uart['id']}, and an {name} has {chip.n_uarts} UARTs: take 1"
    for key, pin in _named_pins(board):
        is_output = key not in ("uart.rx", "button")
        if pin not in chip.pins:
            yield f"{key} is pin {pin}, which an {name} has not got: name another"
        elif pin in chip.flash:
            yield f"{key} is pin {pin}, which an {name} reads its flash by: name another"
        elif pin in chip.console:
            yield f"{key} is pin {pin}, the console of an {name}: name another"
        elif is_output and pin in chip.input_only:
            yield f"{key} is pin {pin}, which is an input alone on an {name}: name another"
        elif key.startswith("uart.") and pin in chip.strapping:
            yield f"{key} is pin {pin}, whose level decides how an {name} starts, and a head changes it: name another"
    if uart.get("rx_pull", "none") != "none" and uart["rx"] in chip.input_only:
        yield f"uart.rx_pull is {uart['rx_pull']}, and pin {uart['rx']} of an {name} has no pulls: give none"
