"""Power cuts at random writes of a littlefs: old or new, never neither, and no total below one that was shown."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from optoprobe.environment import runtime
from optoprobe.virtual import board

SCRIPT = Path(__file__).parent / "on_micropython" / "power_cuts.py"
CUTS = 1000


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    paths = [str(path) for path in (runtime.REPO, runtime.REPO / "lib", board.FAKES)]
    command = [str(runtime.micropython()), "-X", "heapsize=1m", str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"MICROPYPATH": ":".join([*paths, ".frozen"]), "OPTOPROBE_RESET_CAUSE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)


def test_a_thousand_power_cuts_leave_the_old_or_the_new_and_no_lower_total() -> None:
    done = run(CUTS, 1)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    cuts, counts, highest = json.loads(done.stdout.splitlines()[-1])
    assert cuts == CUTS and highest > 100_000
    assert all(counts[name] > 100 for name in ("settings", "counters", "totals", "mount", "shown")), counts
    assert sum(counts[name] for name in ("settings", "counters", "totals", "mount")) == CUTS
    print(counts)


@pytest.mark.parametrize("planted", ["save over nothing", "grant nothing"])
def test_a_planted_fault_is_found(planted: str) -> None:
    done = run(150, 1, planted)
    assert done.returncode != 0 and "AssertionError" in done.stdout + done.stderr, done.stdout + done.stderr
