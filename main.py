"""The probe: settings and board are loaded, then it reads and publishes for ever; without a Wi-Fi in its settings, the
set-up alone.

Whatever ends it ends in a restart: by an exception, with its place kept; else by the watchdog, which boot.py has armed.
"""

import gc
import sys

from micropython import kbd_intr

kbd_intr(-1)  # as in boot.py: MicroPython begins each file anew
try:
    from firmware.hardware.health import why_alone

    if why_alone:
        from firmware.setup.setup_alone import main as run

        run(why_alone)
    else:
        from firmware.app import main

        main()
except Exception as error:  # Ctrl-C is none: a computer has stopped it
    kbd_intr(3)
    sys.print_exception(error)
    gc.collect()  # memory may be what it has ended for
    from firmware.hardware.restarts import restart_by

    restart_by(error)
