"""Carries out the search for the meter: metering.detection.search_story on the light. Loaded while it lasts."""

from micropython import const

from firmware.hardware.health import call
from firmware.reading.decoder_factory import build_decoder
from firmware.reading.meter import Meter
from metering.detection.candidates import Asking
from metering.detection.search_story import Detection

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Services
    from firmware.reading.decoder_factory import Decoder
    from firmware.reading.meter import ReadingSettings
    from firmware.reading.supervisor import DetectedMeter
    from metering.detection.candidates import Proven

_AFTER_SHORTAGE_MS = const(2000)
_WAKE_S = const(86400)
_SHORTAGES = const(3)  # fewer are the network side's, which composes something large at times
_WATT_MS = 3600000000  # of a kWh


def _say(text):
    """Whoever stands at the console sees how it reasons."""
    print("optoprobe: " + text)


class Search(Meter):
    """The meter while none is known. run() ends when one is found: `proven` then says what, and `decoder` hears it (but
    for an LED).
    """

    def __init__(self, reading: "ReadingSettings", services: "Services", detected: "DetectedMeter"):
        """`detected` is what is known of the meter found last."""
        self._reading = reading
        self._driver = driver = services.driver
        self._detected = detected
        self._services = services
        self._health = services.health
        self._shortages_before = driver.out_of_memory
        self.decoder: Decoder | None = None
        self.proven: Proven | None = None
        line = None
        if detected.protocol and not detected.is_polled:
            line = detected.uart_line()
            line.invert = detected.invert
        settings = reading.owner
        lone_ms = _WATT_MS // (settings["max_power_kw"] * 1000) // settings["pulses_per_kwh"]
        known = detected.protocol, line
        asking = Asking(
            settings["meter_address"],
            settings["wake_up"],
            settings["meter_options"],
            bool(settings["meter_password"]),
            not detected.protocol or detected.is_polled,
            self._may_wake,
        )
        self._detection = Detection(self._build, known, asking, _say, lone_ms)

    def _build(self, name, is_polled):
        """(listener, conversation or None) of the protocol as it would be used."""
        self.decoder = None  # first, for the room
        self.decoder = decoder = build_decoder(self._reading, name, None, is_polled, self._services)
        if decoder.conversation is not None:
            decoder.conversation.answers = False
        return decoder.listener, decoder.conversation

    def _may_wake(self):
        """May a meter that lives on a battery be woken? Once a day, also where one search follows the other; and
        behind a restart where firmware.reading.read_budget says so."""
        detected, now_s = self._detected, self._health.uptime_s
        if detected.woken_s is None:
            if not call("firmware.reading.read_budget", lambda budget: budget.take(self._services)):
                return False
        elif now_s - detected.woken_s < _WAKE_S:
            return False
        detected.woken_s = now_s
        return True

    def _leave_telegram(self):
        """A telegram stays in the listener's hand until the detection believes it."""

    async def run(self):
        detection, driver = self._detection, self._driver
        driver.flip_polarity(False)
        while detection.proven is None:
            try:
                await driver.carry_out(detection.run(), self._leave_telegram)
            except MemoryError:  # begin anew
                driver.count_shortage()
                await driver.wait(_AFTER_SHORTAGE_MS)
        self.proven = detection.proven

    def notice(self):
        shortages = self._driver.out_of_memory - self._shortages_before
        if shortages >= _SHORTAGES:
            return "memory ran out %d times in looking for the meter (%s): name its protocol in the settings" % (
                shortages,
                self._detection.seen,
            )
        return "looking for the meter: " + self._detection.seen

    def count_into(self, counts):
        counts["protocol"] = self.protocol
        counts["line"] = ""
        counts["seen"] = self._detection.seen
        counts["out_of_memory"] = self._driver.out_of_memory
