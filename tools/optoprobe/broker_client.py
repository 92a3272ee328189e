"""A connection to an MQTT broker, as demo, capture and monitor have one: it is there or a sentence says why not."""

from __future__ import annotations

import queue
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

_REACHED_S = 5.0
_ANSWER_S = 15.0  # a small computer with other work
_KEEP_ALIVE_S = 20


class BrokerUnreachable(Exception):
    """The text is one sentence without its full stop."""


class ProbeAddress(NamedTuple):
    """Where a probe is: its broker (host and port), what is needed there, its id, and how its topics begin."""

    broker: tuple[str, int]
    user: str | None
    password: str | None
    ca: Path | None
    name: str
    topic: str


class BrokerClient:
    """Connected to `address` (host and port) and subscribed to `topics` (each with its quality of service), again
    after an outage.

    `on_message(topic, payload, retained)` and `on_subscribed()` are called by the client's thread. `will` is the topic
    and payload of a last will. `options` names what a wrong password is corrected in. With `ca`, a PEM file, it
    is TLS: the broker's certificate and its name are checked. Raises BrokerUnreachable.
    """

    def __init__(
        self,
        address: tuple[str, int],
        user: str | None,
        password: str | None,
        topics: Sequence[tuple[str, int]],
        on_message: Callable[[str, bytes, bool], None],
        *,
        on_subscribed: Callable[[], None] | None = None,
        will: tuple[str, str] | None = None,
        options: str = "--user and --password-file",
        ca: Path | None = None,
    ) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        host, port = address
        self.where = f"the broker at {host}:{port}"
        self._topics = list(topics)
        self._options = options
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()  # "" or why we were refused
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.connect_timeout = _REACHED_S
        if will is not None:
            self._client.will_set(*will, qos=1)
        if user:
            self._client.username_pw_set(user, password)
        if ca is not None:
            try:
                self._client.tls_set_context(ssl.create_default_context(cafile=str(ca)))
            except OSError as error:
                raise BrokerUnreachable(f"{ca} cannot be used: give --tls-ca a CA's certificate, PEM") from error
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message
        self._reach(host, port, ca)
        self._client.loop_start()
        self._await_answer(address, ca)

    def _reach(self, host: str, port: int, ca: Path | None) -> None:
        try:
            self._client.connect(host, port, keepalive=_KEEP_ALIVE_S)
        except ssl.SSLCertVerificationError as error:
            cure = "check --tls-ca and the broker's name in --broker"
            raise BrokerUnreachable(f"{self.where} is not the one ({error.verify_message}): {cure}") from error
        except (OSError, ValueError) as error:
            if ca is not None and isinstance(error, ssl.SSLError | ConnectionResetError):
                raise BrokerUnreachable(f"{self.where} does not speak TLS at this port: leave --tls-ca out") from error
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise BrokerUnreachable(f"{self.where} cannot be reached ({reason}): check --broker") from error

    def _await_answer(self, address: tuple[str, int], ca: Path | None) -> None:
        try:
            refusal = self._answer.get(timeout=_ANSWER_S)
        except queue.Empty:
            refusal = f"does not answer within {_ANSWER_S:.0f} s: check that --broker is an MQTT broker"
        if refusal:
            self.close()
            if ca is None and _speaks_tls(address):
                refusal = "speaks TLS alone: give --tls-ca FILE, the CA that has signed its certificate"
            raise BrokerUnreachable(f"{self.where} {refusal}")

    def _connected(self, client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._answer.put(f"refuses us ({reason}): check {self._options}")
        else:
            client.subscribe(self._topics)

    def _disconnected(self, *_: object) -> None:
        self._answer.put("closes the connection: check that --broker is an MQTT broker")

    def _subscribed(self, *_: object) -> None:
        if self._on_subscribed is not None:
            self._on_subscribed()
        self._answer.put("")

    def _message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload), message.retain)

    def subscribe(self, topic: str) -> None:
        """One more, once."""
        if topic not in [name for name, _ in self._topics]:
            self._topics.append((topic, 0))
            self._client.subscribe(topic)

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> None:
        """Hand a message over; it is on its way or lost."""
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def publish_surely(self, topic: str, payload: bytes | str, within_s: float, *, retain: bool = False) -> bool:
        """Wait until the broker has it; False where it has not got it within that time."""
        try:
            self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(within_s)
            return self._client.is_connected()
        except (RuntimeError, ValueError):  # paho's, when there is no connection
            return False

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _speaks_tls(address: tuple[str, int]) -> bool:
    """Does a TLS handshake succeed there? Whoever it is: nothing is said but that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=_REACHED_S) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as wrapped,
        ):
            return wrapped.version() is not None
    except OSError:
        return False
