"""Our simulated DLMS meter in the hands of a third client: dlms-cosem 25.1.0 (PyPI, .runtime/cosem), unmodified.

It knows long names, None, Low and HighGmac (with general-glo; dedicated keys it has not), GET by itself, in a list, in
blocks, and of a profile by times. It cannot: mode E's sign-on, short names, the other mechanisms but by code of one's
own, and the sizes of a UA (it sends frames of 128 bytes to a meter that takes 32). Its proof of HighGmac is refused
by our meter as it comes: the tests count for it. The bytes are handed to it an answer at a time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optoprobe.environment import runtime
from optoprobe.virtual import dlms_asked_profile
from optoprobe.virtual.dlms_asked_services import EPOCH

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "cosem_client.py"
LEFT = "left properly, 2 values read"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """Of each way what came out."""
    try:
        path = runtime.cosem()
    except runtime.SetupError as error:
        pytest.skip(f"{error}")
    environment = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


READ = ["None", "Low", "GMAC", "list", "blocks"]


@pytest.mark.parametrize(
    "way", [f"{link} {way}" for link in ("HDLC", "wrapper") for way in READ] + ["TCP Low", "TCP GMAC"]
)
def test_it_reads_registers_as_the_meter_has_them(told: dict[str, Any], way: str) -> None:
    of = told[way]
    assert (of["error"], of["read"]) == ("", of["sent"]) and len(of["sent"]) == 2
    assert of["events"] == [LEFT]
    assert set(of["tags"]) == {0x60, 0x62, 0xC0} | ({0xC3} if "GMAC" in way else set())


@pytest.mark.parametrize("link", ["HDLC", "wrapper"])
def test_it_reads_a_profile_and_rows_of_it_by_their_times(told: dict[str, Any], link: str) -> None:
    rows = [[bought, sold] for _, bought, sold in dlms_asked_profile.rows(EPOCH)]
    assert (told[f"{link} rows"]["error"], told[f"{link} rows"]["read"]) == ("", rows)
    assert (told[f"{link} range"]["error"], told[f"{link} range"]["read"]) == ("", rows[-3:])


@pytest.mark.parametrize("link", ["HDLC", "wrapper"])
def test_it_is_refused(told: dict[str, Any], link: str) -> None:
    assert "AUTHENTICATION_FAILED" in told[f"{link} wrong"]["error"]
    assert told[f"{link} wrong"]["events"] == ["refuses a password"]
    assert "HLSError" in told[f"{link} counter"]["error"]
    assert told[f"{link} counter"]["events"] == ["refuses a password"]
    assert "Short Name referencing" in told["HDLC short names"]["error"]
