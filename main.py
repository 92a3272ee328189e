"""The probe: settings and board are loaded, then it reads and publishes for ever."""

from firmware.app import main

main()
