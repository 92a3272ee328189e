"""What a probe's MQTT topics have said so far, as the demo shows it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from ..terminal import printable

HUB = "homeassistant"


@dataclass
class Register:
    """One value of a meter as it arrived last, at `at_s` (monotonic); `since_s`: the first time."""

    meter: str
    key: str
    value: str
    at_s: float
    since_s: float
    name: str = ""
    unit: str = ""
    printed: str = ""
    printed_s: float = -math.inf


@dataclass
class Picture:
    """What a probe's topics have said so far. Fed with messages, knows nothing of connections."""

    probe_id: str
    registers: dict[tuple[str, str], Register] = field(default_factory=dict)
    described: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    diagnostics_s: float = 0.0
    status: str = ""
    messages: int = 0  # with readings
    by_topic: dict[str, int] = field(default_factory=dict)  # the same
    odd: int = 0  # that are not what the contract says

    @property
    def meters(self) -> list[str]:
        """Topic levels of the meters met, in order."""
        return list(dict.fromkeys(meter for meter, _ in self.registers))

    def discovery_topic(self, meter: str | None) -> str:
        """Where `meter`, or the probe itself for None, is announced."""
        return f"{HUB}/device/optoprobe_{self.probe_id}{'_' + meter if meter else ''}/config"

    def retained_topics(self) -> list[str]:
        """Every topic where this probe leaves something at the broker."""
        topics = [f"optoprobe/{self.probe_id}/{level}" for level in ("status", "alignment")]
        topics.append(self.discovery_topic(None))
        for meter in self.meters:
            topics += [f"optoprobe/{self.probe_id}/{meter}/state", self.discovery_topic(meter)]
        return topics

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """One message."""
        levels = topic.split("/")
        if levels[-1] == "status":
            self.status = payload.decode(errors="replace")
            return
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError):
            self.odd += 1
            return
        if not isinstance(said, dict):
            self.odd += 1
        elif levels[-1] == "diagnostics":
            self.diagnostics, self.diagnostics_s = said, now_s
        elif levels[-1] == "config":
            self._describe(levels[-2], said)
        elif levels[-1] in ("state", "live") and len(levels) == 4:
            self.messages += 1
            self.by_topic[topic] = self.by_topic.get(topic, 0) + 1
            for key, value in said.items():
                register = self.registers.setdefault(
                    (levels[2], key), Register(levels[2], printable(key), "", now_s, now_s)
                )
                register.value, register.at_s = printable(str(value)), now_s
        for where, (name, unit) in self.described.items():
            if where in self.registers:
                self.registers[where].name, self.registers[where].unit = name, unit

    def _describe(self, object_id: str, said: dict[str, Any]) -> None:
        meter = object_id.removeprefix(f"optoprobe_{self.probe_id}").removeprefix("_")
        for key, component in said.get("cmps", {}).items():
            unit = component.get("unit_of_meas", "")
            self.described[meter, key] = printable(component.get("name", key)), printable(unit)

    def telegrams(self) -> int:
        """How many telegrams have brought readings, as far as their messages tell: `state` comes again at times."""
        live = [n for topic, n in self.by_topic.items() if topic.endswith("/live")]
        return max(live or self.by_topic.values(), default=0)

    def notice(self) -> str:
        """The firmware's sentence for the owner, "" before it has told one."""
        return printable(str(self.diagnostics.get("notice", "")))

    def in_order(self) -> list[Register]:
        """The registers, those first that the owner looks for: energies, powers, other counters, the rest."""
        return sorted(self.registers.values(), key=_rank)

    def counters(self, now_s: float) -> str:
        """The firmware's own counters in one line."""
        if not self.diagnostics:
            return "the firmware has not told its counts yet"
        age = f"told {now_s - self.diagnostics_s:.0f} s ago"
        if "pulses" in self.diagnostics:
            return f"pulses: {self.diagnostics['pulses']} counted{_by_reason(self.diagnostics, 'ghosts')} ({age})"
        rejected = _by_reason(self.diagnostics, "rejected")
        held = self.diagnostics.get("held", 0)
        kept = f", {held} values held back" if held else ""
        good = max(self.diagnostics.get("telegrams", 0), self.telegrams())  # the latter is newer
        return f"telegrams: {good} good{rejected}{kept} ({age})"


def _by_reason(diagnostics: dict[str, Any], name: str) -> str:
    """", 3 rejected (crc 2, length 1)" of a count told by reason."""
    reasons = diagnostics.get(f"{name}_by_reason", {})
    named = ", ".join(f"{printable(reason)} {n}" for reason, n in reasons.items() if n)
    return f", {diagnostics.get(name, 0)} {name}" + (f" ({named})" if named else "")


def _rank(register: Register) -> int:
    if register.unit == "kWh" or register.key.startswith("energy"):
        return 0
    if register.unit in ("W", "kW") or register.key.startswith("power"):
        return 1
    return 2 if register.unit in ("m³", "GJ", "MJ") else 3
