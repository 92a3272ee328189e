"""Asks firmware.reading.read_budget before each read-out of a meter on a battery: metering.asked_seldom's `budget`."""

from firmware.hardware.health import call


class SparedMeter:
    """`services` as in firmware.app."""

    def __init__(self, services):
        self._services = services

    def wait_s(self, pause_s):
        """In how many seconds the meter may be asked, whose read-outs are so far apart. 0: now, and that is counted."""
        return call("firmware.reading.read_budget", lambda budget: budget.wait_s(self._services, pause_s))
