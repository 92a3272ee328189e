"""A probe's log, asked for over MQTT: what was wrong lately, each cause once, beyond its last restarts."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from typing import Any

from ..broker_client import BrokerClient, ProbeAddress
from ..terminal import printable
from .probe_alignment import ProbeSilent

_LOG, _ORDER = "log", "order/set"
_AGAIN_S = 15.0  # a probe takes an order every 10 s
_SILENT_S = 40.0


def ask_log(probe: ProbeAddress) -> list[str]:
    """Its lines, the latest last. Raises ProbeSilent, BrokerUnreachable."""
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def take(_topic: str, payload: bytes, _retained: bool) -> None:
        arrived.put(payload)

    topics = ((probe.topic + _LOG, 0),)
    client = BrokerClient(probe.broker, probe.user, probe.password, topics, take, ca=probe.ca)
    with contextlib.closing(client):
        give_up_s = time.monotonic() + _SILENT_S
        while time.monotonic() < give_up_s:
            client.publish(probe.topic + _ORDER, _LOG, qos=1)
            with contextlib.suppress(queue.Empty):
                while True:
                    lines = _lines(arrived.get(timeout=_AGAIN_S))
                    if lines is not None:
                        return lines
    raise ProbeSilent(
        f"the probe {probe.name} has said nothing on {probe.topic}{_LOG} for {_SILENT_S:.0f} s: check --probe and "
        "--prefix, that it is online, and that the broker lets you write there"
    )


def _lines(payload: bytes) -> list[str] | None:
    """A probe's log in words, None for what is none."""
    try:
        return [_sentence(*line) for line in json.loads(payload)]
    except (ValueError, TypeError, RecursionError):
        return None


def _sentence(text: Any, count: Any, starts: Any, minutes: Any) -> str:
    """`starts` ago, `minutes` behind that start."""
    for number in (count, starts, minutes):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(number)
    if not isinstance(text, str):
        raise TypeError(text)
    when = "this start" if not starts else "the last start" if starts == 1 else f"{starts} starts ago"
    often = f", {count} times" if count > 1 else ""
    return f"{when} + {minutes} min  {printable(text)}{often}"
