"""What a meter's reader hands on to the one after it."""

from types import SimpleNamespace
from typing import Any

import pytest

from metering.iec62056_21.data_block import Iec62056_21
from metering.listener import TELEGRAM


def reader(device: Any, listener: Any) -> Any:
    """A TelegramMeter with a telegram in its listener's hand, everything about it a stand-in."""
    module = device.telegram_meter
    meter = module.TelegramMeter.__new__(module.TelegramMeter)
    meter.listener, meter.conversation, meter._counters = listener, None, None
    meter._publisher = SimpleNamespace(publish=lambda uptime_s: True, clock="")
    meter._services = SimpleNamespace(health=SimpleNamespace(uptime_s=7), on_published=lambda: None)
    meter.guard = meter._judge = object()
    return meter


@pytest.mark.parametrize(("register", "is_kept"), [("1-0:0.0.0(87654321)", True), ("1-0:0.0.0(00000000)", False)])
def test_two_meters_of_a_model_inherit_no_counters(device: Any, register: str, is_kept: bool) -> None:
    """Where no register tells a number, the name is every such meter's: the next one is judged anew."""
    listener = Iec62056_21()
    text = f"/ABC5MODEL\r\n\r\n{register}\r\n1-0:1.8.0(000123.4*kWh)\r\n!\r\n".encode()
    listener.feed(text, 0, len(text))
    assert listener.next_event() == TELEGRAM
    meter = reader(device, listener)
    judge = meter.guard
    meter.publish()
    assert meter.guard is (judge if is_kept else None)
    assert meter._judge is judge  # its counts are told all the same
