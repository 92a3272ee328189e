"""The broker, and the network and client by which the probe talks to it: all of it is always there."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt.client import topic_matches_sub


class Message(NamedTuple):
    """One that the probe has published, `at_s` of line time."""

    at_s: float
    topic: str
    payload: bytes
    retain: bool

    def object(self) -> dict[str, Any]:
        """The payload as the JSON object it has to be."""
        value = json.loads(self.payload)
        assert isinstance(value, dict)
        return value


class Broker:
    """`published`: what it was told, in order; `retained`: what it keeps, topic -> payload. `now_s` tells line time."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.published: list[Message] = []
        self.retained: dict[str, bytes] = {}
        self._now_s = now_s
        self._said: list[tuple[bytes, bytes]] = []  # to whoever has subscribed
        self._will: tuple[bytes, bytes] | None = None

    def say(self, topic: str, payload: str | bytes) -> None:
        """A message that is not retained."""
        self._said.append((topic.encode(), payload.encode() if isinstance(payload, str) else payload))

    def session_ends(self) -> None:
        """Without a word: the last will is published."""
        if self._will is not None:
            self.retained[self._will[0].decode()] = self._will[1]
            self._will = None

    def forget_said(self) -> None:
        """What nobody has heard yet is lost, as with the connection."""
        self._said.clear()

    def _publish(self, topic: bytes, payload: bytes, retain: bool = False) -> None:
        message = Message(self._now_s(), bytes(topic).decode(), bytes(payload), retain)
        self.published.append(message)
        if retain and payload:
            self.retained[message.topic] = message.payload
        elif retain:  # MQTT 3.1.1, 3.3.1.3: forget it
            self.retained.pop(message.topic, None)

    def modules(self, clock: Any) -> dict[str, Any]:
        """What stands in for the network and for umqtt, `clock` being the firmware's time."""
        simple = types.ModuleType("umqtt.simple")
        simple.__dict__.update(MQTTClient=self._client_class(simple), MQTTException=Exception, socket=None)
        umqtt = types.ModuleType("umqtt")
        umqtt.simple = simple  # type: ignore[attr-defined]
        network = types.ModuleType("network")
        network.__dict__.update(STA_IF=0, hostname=lambda name: None, WLAN=_Wlan)
        sockets = types.ModuleType("firmware.mqtt.sockets")
        sockets.__dict__.update(
            MqttSockets=lambda timeout_s: _Sockets(clock, self.session_ends), STEP_MS=15000, NO_ADDRESS=-202
        )
        return {"umqtt": umqtt, "umqtt.simple": simple, "network": network, "firmware.mqtt.sockets": sockets}

    def _client_class(self, simple: Any) -> Any:
        broker = self

        class MQTTClient:
            def __init__(self, *_: Any) -> None:
                self.sock = _Socket(broker._publish)
                self._will: tuple[bytes, bytes] | None = None
                self._topics: list[bytes] = []
                self._kept: list[tuple[bytes, bytes]] = []

            def set_callback(self, heard: Any) -> None:
                self._heard = heard

            def set_last_will(self, topic: bytes, payload: bytes, retain: bool = False, qos: int = 0) -> None:
                self._will = topic, payload

            def connect(self, *_: Any) -> None:
                broker._will = self._will

            def ping(self) -> None: ...

            def subscribe(self, topic: bytes) -> None:
                self._topics.append(bytes(topic))
                for kept, payload in broker.retained.items():
                    if topic_matches_sub(bytes(topic).decode(), kept):
                        self._kept.append((kept.encode(), payload))

            def check_msg(self) -> None:
                kept, self._kept = self._kept, []
                said, broker._said = broker._said, []
                for retained, messages in ((True, kept), (False, said)):
                    simple.socket.retained = retained
                    for topic, payload in messages:
                        if any(topic_matches_sub(wanted.decode(), topic.decode()) for wanted in self._topics):
                            self._heard(topic, payload)

            def publish(self, topic: bytes, payload: bytes, retain: bool = False, qos: int = 0) -> None:
                broker._publish(topic, payload, retain)

        return MQTTClient


class _Wlan:
    """In the Wi-Fi, always."""

    def __init__(self, interface: int) -> None: ...

    def active(self, on: bool) -> None: ...

    def isconnected(self) -> bool:
        return True

    def status(self, what: str) -> int:
        return -61


class _Sockets:
    """firmware.mqtt.sockets.MqttSockets over which something has always just come."""

    def __init__(self, clock: Any, ends: Callable[[], None]) -> None:
        self._clock = clock
        self.close = ends
        self.retained = False

    @property
    def received_at(self) -> int:
        return self._clock.ticks_ms()

    sent_at = received_at

    def connection(self) -> _Sockets:
        return self

    def flush(self) -> None: ...


class _Socket:
    """What a PUBLISH of many pieces is written to (MQTT 3.1.1, 3.3)."""

    def __init__(self, publish: Callable[[bytes, bytes, bool], None]) -> None:
        self._publish = publish
        self._written = bytearray()

    def write(self, data: bytes) -> None:
        self._written += data
        if len(self._written) < 2:
            return
        length = shift = 0
        for at in range(1, len(self._written)):
            length |= (self._written[at] & 0x7F) << shift
            shift += 7
            if self._written[at] < 0x80:
                break
        else:
            return
        body = bytes(self._written[at + 1 :])
        if len(body) < length:
            return
        topic_end = 2 + int.from_bytes(body[:2], "big")
        self._publish(body[2:topic_end], body[topic_end:length], bool(self._written[0] & 1))
        self._written.clear()

    def flush(self) -> None: ...

    def close(self) -> None: ...
