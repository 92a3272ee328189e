"""How well a probe's head sits, as the probe itself says in its alignment mode, over MQTT."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable

from ..broker_client import BrokerClient, ProbeAddress
from ..terminal import printable

_AGAIN_S = 5.0  # without a word of the probe: it is told once more
_SILENT_S = 20.0
_OFF_S = 2.0
_STATUS = "status"
_ALIGNMENT = "alignment"


class ProbeSilent(Exception):
    """The probe says nothing; the text is one sentence without its full stop."""


class ProbeAlignment:
    """A probe's alignment mode, switched on until close(). Raises ProbeSilent."""

    def __init__(self, probe: ProbeAddress) -> None:
        self._name = probe.name
        self._topic = probe.topic
        self._set_topic = probe.topic + _ALIGNMENT + "/set"
        self._arrived: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()  # last level of the topic, payload
        topics = ((probe.topic + _STATUS, 1), (probe.topic + _ALIGNMENT, 0))
        self._ready = False
        self._client = BrokerClient(
            probe.broker, probe.user, probe.password, topics, self._message,
            on_subscribed=self._subscribed, will=(self._set_topic, "OFF"), ca=probe.ca,
        )  # fmt: skip
        self._ready = True
        self._switch_on()

    def _subscribed(self) -> None:
        """Also when the broker is back after an outage."""
        if self._ready:
            self._switch_on()

    def _message(self, topic: str, payload: bytes, _: bool) -> None:
        self._arrived.put((topic.rpartition("/")[2], payload))

    def _switch_on(self) -> None:
        self._client.publish(self._set_topic, "ON", qos=1)

    def watch(self, show: Callable[[int, int, str], None], for_s: float | None) -> None:
        """Hand over what the probe says, for so long (None: for ever)."""
        began_s = heard_s = told_s = time.monotonic()
        until_s = began_s + for_s if for_s else float("inf")
        while time.monotonic() < until_s:
            try:
                level, payload = self._arrived.get(timeout=0.2)
            except queue.Empty:
                level, payload = "", b""
            now_s = time.monotonic()
            said = _said(payload) if level == _ALIGNMENT else None
            if said is not None:
                heard_s = told_s = now_s
                show(*said)
            elif level == _STATUS and payload == b"offline" and heard_s == began_s:
                raise ProbeSilent(f"the probe {self._name} is offline: check its power and its Wi-Fi")
            elif now_s - told_s >= _AGAIN_S:  # it has restarted, or the word was lost
                told_s = now_s
                self._switch_on()
            if now_s - heard_s >= _SILENT_S:
                raise ProbeSilent(
                    f"the probe {self._name} has said nothing on {self._topic}{_ALIGNMENT} for {_SILENT_S:.0f} s: "
                    "check --probe and --prefix, and that its firmware has an alignment mode"
                )

    def close(self) -> None:
        """Switch the mode off and go."""
        self._client.publish_surely(self._set_topic, "OFF", _OFF_S)
        self._client.close()


def _said(payload: bytes) -> tuple[int, int, str] | None:
    """(score, best, words) of a probe's message, None where it is none."""
    try:
        said = json.loads(payload)
        score, best, words = said["score"], said["best"], said["words"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    for number in (score, best):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 100:
            return None
    if not isinstance(words, str):
        return None
    return score, best, printable(words)
