"""The device application: what drives the protocol core on an ESP32 and publishes what it reads."""

VERSION = "0.1.0"
unwritten = []  # files that could not be written when that was tried last: firmware.store's
