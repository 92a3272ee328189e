"""The device application: what drives the protocol core on an ESP32 and publishes what it reads."""

VERSION = "0.1.0"
