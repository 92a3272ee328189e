"""A client on the broker that hears everything, and what the plainest simulated meter's telegrams look like there."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
import pytest

from optoprobe.virtual.broker import free_port
from optoprobe.virtual.sml_meter import Expected
from optoprobe.virtual.source import MeterSource, Transmission

_LOOK_S = 0.05
PASSWORD = "correct horse"

# What the simulated meter's plainest registers are called in the MQTT contract, and whether they go into `state`.
STATE_KEYS = {
    "1-0:96.50.1*1": "manufacturer",
    "1-0:96.1.0*255": "serial_number",
    "1-0:1.8.0*255": "energy_import",
    "1-0:2.8.0*255": "energy_export",
}
LIVE_KEYS = {"1-0:16.7.0*255": "power"}


class Message(NamedTuple):
    """One that came from the broker at `at_s` (time.monotonic()); `retained` if it was there before we asked."""

    at_s: float
    topic: str
    payload: bytes
    retained: bool

    def object(self) -> dict[str, Any]:
        """The payload as the JSON object it has to be."""
        value = json.loads(self.payload)
        assert isinstance(value, dict)
        return value


class Listener:
    """Hears everything on the broker at `port` of 127.0.0.1 within a `with`; comes back after an outage by itself."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None, ca: Path | None = None) -> None:
        self.messages: list[Message] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if user is not None:
            self._client.username_pw_set(user, password)
        if ca is not None:
            self._client.tls_set(str(ca))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#")
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._hear
        self._client.connect_async("127.0.0.1", port)

    def _hear(self, _client: Any, _data: Any, message: Any) -> None:
        self.messages.append(Message(time.monotonic(), message.topic, message.payload, message.retain))

    def __enter__(self) -> "Listener":
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribed(self, within_s: float = 5) -> None:
        """Wait until the broker has taken our subscription for the first time."""
        assert self._subscribed.wait(within_s), "the broker does not take a subscription"

    def of(self, ending: str) -> list[Message]:
        """Messages so far whose topic ends so."""
        return [message for message in list(self.messages) if message.topic.endswith(ending)]

    def wait_for(self, ending: str, within_s: float, since_s: float = 0.0) -> Message:
        """The first message after `since_s` (monotonic) whose topic ends so."""
        got: list[Message] = []

        def has_come() -> bool:
            got.extend(message for message in self.of(ending) if message.at_s > since_s)
            return bool(got)

        wait_until(has_come, within_s, f"nothing came on {ending}")
        return got[0]

    def ask_until(self, is_enough: Callable[[dict[str, Any]], bool], within_s: float) -> None:
        """Have the probe tell its diagnostics, again and again until they are enough, or the time is over."""
        asked_again = time.monotonic()
        until = asked_again + within_s
        while time.monotonic() < until:
            if time.monotonic() >= asked_again:
                asked_again += 20
                self.publish("homeassistant/status", "online")  # upon which it tells all anew
            time.sleep(1)
            told = self.of("/diagnostics")
            if told and is_enough(told[-1].object()):
                return

    def publish(self, topic: str, payload: str) -> None:
        """Say something ourselves, as Home Assistant does when it starts."""
        self._client.publish(topic, payload).wait_for_publish(5)

    def keep(self, topic: str, payload: str) -> None:
        """Have the broker keep it."""
        self._client.publish(topic, payload, retain=True).wait_for_publish(5)


class PausableMeter(MeterSource):
    """A simulated meter that can be held back between two telegrams, so that nothing is on its way."""

    paused = False

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        return None if self.paused else super().poll(now_s, free_s)


def wait_until(is_so: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Return as soon as it is so; the test fails with `otherwise` when it is not within the time."""
    until = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > until:
            pytest.fail(f"{otherwise} within {within_s:g} s")
        time.sleep(_LOOK_S)


def users(*names: str) -> str:
    """Mosquitto's password file for these users, whose password is PASSWORD."""
    salt = b"0123456789ab"
    digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, 101)
    hashed = f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
    return "".join(f"{name}:{hashed}\n" for name in names)


def retained(
    port: int, for_s: float = 1.0, ca: Path | None = None, user: str | None = None, password: str | None = None
) -> dict[str, bytes]:
    """What the broker keeps: topic -> payload, as a client sees it that has just come."""
    with Listener(port, user, password, ca) as listener:
        listener.subscribed()
        time.sleep(for_s)
        return {message.topic: message.payload for message in listener.messages if message.retained}


def published(expected: Expected) -> tuple[dict[str, str], dict[str, str]]:
    """What (state, live) must hold for a telegram of the plain meter: texts, energy in kWh with every digit."""
    state: dict[str, str] = {}
    live: dict[str, str] = {}
    for obis, value, unit in expected:
        if obis in LIVE_KEYS:
            live[LIVE_KEYS[obis]] = value
        elif unit == "Wh":
            state[STATE_KEYS[obis]] = format(Decimal(value).scaleb(-3), "f")
        elif obis == "1-0:96.1.0*255":
            octets = bytes.fromhex(value)
            state["serial_number"] = f"1{octets[2:5].decode()}00{int.from_bytes(octets[6:], 'big'):08d}"
        else:
            state[STATE_KEYS[obis]] = bytes.fromhex(value).decode()
    return state, live


closed_port = free_port  # nobody listens there
