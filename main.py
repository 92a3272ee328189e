"""The probe: settings and board are loaded, then it reads and publishes for ever. Nothing but a computer stops it."""

import sys
import time

import machine

try:
    from firmware.app import main

    main()
except Exception as error:  # Ctrl-C is none
    sys.print_exception(error)
    try:
        from firmware.hardware.restarts import restart_by

        restart_by(error)
    except Exception:  # not even that: of memory, or the files are damaged
        pass
time.sleep(10)  # a computer gets its turn
machine.reset()
