"""Runs before main.py, without radio: counts restarts, leaves a way in when they come in a row, arms the watchdog."""

import gc
import sys

gc.threshold(2048)  # collecting early keeps what stays together, and the free heap in one piece
sys.path.insert(0, "probe")  # where compiled modules lie: optoprobe.flat_layout

from firmware.hardware import health  # noqa: E402 - the threshold must hold while the firmware is loaded

health.note_start()
del health.note_start  # its code is not needed again
