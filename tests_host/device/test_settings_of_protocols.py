"""Whatever its owner has set for the reading, beside each protocol: the probe begins, and goes on."""

from pathlib import Path
from typing import Any

import pytest
from support.virtual_time import LightOnly, Probe

from metering import protocols

GIVEN: list[dict[str, Any]] = [
    {"interval_s": 1}, {"interval_s": 86400}, {"reads_a_day": 1}, {"reads_a_day": 86400, "wake_up": True},
    {"meter_address": "2:reader", "meter_password": "12345678"}, {"meter_options": "mode=IEC scan_rate_ms=500"},
    {"meter_key": "00" * 16, "meter_auth_key": "11" * 16}, {"line": "300 7E1"}, {"line": "115200 8N1"},
    {"modbus_map": "none.json"}, {"energy_factor": 1000, "max_power_kw": 1}, {"publish_interval_s": 3600},
]  # fmt: skip


@pytest.mark.parametrize("protocol", ["auto", *protocols.names(), protocols.BLINK])
def test_it_begins_and_goes_on(tmp_path: Path, protocol: str) -> None:
    for n, given in enumerate(GIVEN):
        with Probe(tmp_path / str(n), LightOnly([]), given | {"protocol": protocol}) as probe:
            probe.run_for(3)  # raises what a task ends by
            assert probe.diagnostics()["protocol"] == ("searching" if protocol == "auto" else protocol), given
