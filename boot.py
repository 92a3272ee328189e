"""Runs before main.py, without radio: counts restarts, leaves a way in when they come in a row, arms the watchdog."""

import gc
import sys

from micropython import kbd_intr

kbd_intr(-1)  # a 03 may come from a browser that sets the Wi-Fi: firmware.owner.console_watch tells it from a Ctrl-C
gc.threshold(2048)  # collecting early keeps what stays together, and the free heap in one piece
sys.path.insert(0, "probe")  # where compiled modules lie: optoprobe.building.flat_layout

try:
    from firmware.hardware import health

    health.note_start()
    del health.note_start  # its code is not needed again
except Exception as error:  # a torn copy: main.py will tell of it, and what hangs there must end in a restart too
    import machine

    sys.print_exception(error)
    machine.WDT(timeout=30000)
