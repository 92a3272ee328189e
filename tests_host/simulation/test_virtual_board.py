"""The virtual board's threads take turns, as those of a chip with its global interpreter lock do."""

from pathlib import Path

from support.broker import wait_until

from optoprobe.building import device_tree
from optoprobe.virtual.board import VirtualBoard

ROUNDS = 50
# Where two ran at once, one would see the other's mark.
START = f"""
import boot, sys, time, _thread
{device_tree.on_board("from firmware.mqtt import session")}
marks = [0, 0]
seen = 0
rounds = [0, 0]
def work(own, other):
    global seen
    for _ in range({ROUNDS}):
        marks[own] = 1
        for _ in range(300):
            seen += marks[other]
        marks[own] = 0
        rounds[own] += 1
        time.sleep_ms(1)
_thread.start_new_thread(work, (1, 0))
work(0, 1)
while rounds[1] < {ROUNDS}:
    time.sleep_ms(1)
print("seen", seen, "of", rounds, session._thread is sys.modules["threads"])
"""


def test_one_thread_runs_at_a_time(tmp_path: Path) -> None:
    with VirtualBoard(tmp_path, {}, 1, heap_bytes=200_000, start=START) as board:
        wait_until(lambda: not board.running, 60, "it does not end")
    assert board.log == [f"seen 0 of [{ROUNDS}, {ROUNDS}] True"]
