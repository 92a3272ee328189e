"""What the device would publish of a recording: its own publisher, guard and announcer, run here on the telegrams.

Only the line and the network are left out. Telegrams are taken to be `period_s` apart, whatever their own clocks say.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metering import protocols
from metering.listener import TELEGRAM

from ..decoding import hear, signatures
from ..settings.device_check import device_modules

PROBE_ID = "recording"


class Message(NamedTuple):
    """One that would go to the broker; `payload` an object where it is JSON, else a text."""

    topic: str
    retain: bool
    payload: Any


class Summary(NamedTuple):
    """How the recording fared: telegrams `good` and `rejected`, values `held` back, the sentence for the owner."""

    good: int
    rejected: int
    held: int
    notice: str


class SettingsError(Exception):
    """The settings are not accepted; the text is a sentence without its full stop."""


def published(
    parts: Sequence[tuple[bytes, Sequence[int]]],
    protocol: str | None,
    keys: tuple[bytes | None, bytes | None],
    settings_file: Path | None = None,
    period_s: int = 10,
) -> tuple[list[Message], Summary]:
    """What is published of `parts`, each (bytes, offsets of pauses).

    `protocol` None: the one whose telegrams come out. `keys` go before those in `settings_file`. Raises SettingsError.
    """
    with device_modules():
        settings = _settings(settings_file, keys)
        names = [protocol] if protocol else _candidates(parts)
        runs = (_Run(name, settings, period_s) for name in names)
        best = None
        for run in runs:
            run.play_all(parts)
            if best is None or run.listener.accepted > best.listener.accepted:
                best = run
        assert best is not None
        return best.messages, best.summary()


def _candidates(parts: Sequence[tuple[bytes, Sequence[int]]]) -> list[str]:
    whole = b"".join(data for data, _ in parts)
    return signatures(whole) or protocols.searched()


def _settings(file: Path | None, keys: tuple[bytes | None, bytes | None]) -> dict[str, Any]:
    module = importlib.import_module("firmware.settings")
    values, problems = module.load(str(file)) if file else module.check({})
    if problems:
        raise SettingsError("; ".join(problems))
    module.convert(values)
    for name, key in zip(("meter_key", "meter_auth_key"), keys, strict=True):
        if key is not None:
            values[name] = key
    return values


class _Run:
    """One listener's telegrams on their way through the device's own code."""

    def __init__(self, protocol: str, settings: dict[str, Any], period_s: int) -> None:
        def module(name: str) -> Any:
            return importlib.import_module("firmware." + name)

        files: dict[str, Any] = {}  # of the board: nothing is read or written beside the recording
        store = module("store")
        store.load = files.get
        store.save = lambda path, value: files.update({path: value}) or True
        self._period_s = period_s
        self._uptime_s = 0
        self._announced: Any = None
        self.messages: list[Message] = []
        self.listener = protocols.load(protocol)()
        if self.listener.takes_keys and settings["meter_key"]:
            self.listener.set_keys(settings["meter_key"], settings["meter_auth_key"] or None)
        self._outbox = module("mqtt.outbox").Outbox()
        self._homeassistant = module("mqtt.homeassistant")
        self._described = module("mqtt.homeassistant_registers")
        self._announcer = module("mqtt.announcer").Announcer(
            settings["mqtt_prefix"],
            settings["probe_id"] or PROBE_ID,
            settings["probe_name"],
            settings["discovery_prefix"],
        )
        self._guard = importlib.import_module("metering.guard").Guard(settings["max_power_kw"] * 1000)
        publisher = module("reading.publisher")
        pace = publisher.Pace(settings["publish_interval_s"], settings["publish_change_percent"])
        parts = self.listener, self._guard, self._outbox, self._announcer, pace
        self._publisher = publisher.Publisher(*parts, settings["energy_factor"])

    def play_all(self, parts: Sequence[tuple[bytes, Sequence[int]]]) -> None:
        """Take the recording; one of a lone telegram without a check three times, as its meter would send others:
        nothing of the first is believed alone (metering.middle_of_three).
        """
        for data, pauses in parts:
            self.play(data, pauses)
        listener = self.listener
        is_alone = listener.accepted + sum(listener.rejected.values()) <= 1
        if is_alone and not (listener.proven and listener.vouched):
            for data, pauses in (*parts, *parts):
                self.play(data, pauses)

    def play(self, data: bytes, pauses: Sequence[int]) -> None:
        """Take one part of the recording."""
        for event in hear(self.listener, data, pauses):
            if event == TELEGRAM:
                self._publisher.publish(self._uptime_s)
                self._uptime_s += self._period_s
                self.messages += self._sent()

    def _sent(self) -> Iterator[Message]:
        """What the network would send now: announcements first."""
        meter = self._outbox.meter()
        if meter is not None and meter is not self._announced:
            self._announced = meter
            payload = b"".join(self._homeassistant.device_payload(self._announcer, meter, self._described))
            yield Message(self._homeassistant.device_topic(self._announcer, meter).decode(), True, json.loads(payload))
        while (message := self._outbox.pop_unsent()) is not None:
            topic, payload, retain = message
            yield Message(bytes(topic).decode(), retain, _object_or_text(bytes(payload)))

    def summary(self) -> Summary:
        listener, guard = self.listener, self._guard
        notice = self._publisher.notice or listener.advice
        return Summary(listener.accepted, sum(listener.rejected.values()), sum(guard.held.values()), notice)


def _object_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
