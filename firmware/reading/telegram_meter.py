"""A meter that sends telegrams: what hears it, what asks it, what judges its values, and how that fares."""

import time

from micropython import const

from firmware.hardware.health import call
from firmware.reading.meter import Meter
from firmware.reading.publisher import Pace, Publisher
from metering.guard import Guard
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Services
    from firmware.reading.decoder_factory import Decoder
    from firmware.reading.meter import ReadingSettings

_BATTERY_PAUSE_S = const(3600)  # a meter that is asked as rarely runs on a battery


class TelegramMeter(Meter):
    """Reads telegrams on the line into the outbox. run() does so for ever."""

    def __init__(
        self,
        reading: "ReadingSettings",
        services: "Services",
        decoder: "Decoder | None" = None,
        guard: "Guard | None" = None,
    ):
        """`decoder`: what the search has made, None where it is to be made; `guard` has followed the meter before."""
        self._services = services
        if decoder is None:
            from firmware.reading.decoder_factory import build_decoder

            decoder = build_decoder(reading, reading.protocol, reading.line, reading.is_polled, services)
            build_decoder = None
            unload("firmware.reading.decoder_factory")
        self.listener = listener = decoder.listener
        self.conversation = decoder.conversation
        self._counters = decoder.counters
        self._reading = reading
        self.protocol = listener.NAME
        self.guard = self._judge = guard or Guard(reading.owner["max_power_kw"] * 1000)
        self._publisher = Publisher(
            listener,
            self.guard,
            services.outbox,
            services.announcer,
            Pace(reading.owner["publish_interval_s"], reading.owner["publish_change_percent"]),
            reading.owner["energy_factor"],
        )
        self._clock_off_s = None

    async def run(self):
        await self._services.driver.run(self.conversation or self.listener, self.publish)

    def slug(self):
        return self._publisher.meter.slug if self._publisher.meter else ""

    def publish(self):
        """Hand the telegram in the listener's hand to the outbox."""
        publisher = self._publisher
        services = self._services
        if self.conversation:
            publisher.pause_s = self.conversation.pause_s
        if self._counters:
            self._counters.keep()
        if not publisher.publish(services.health.uptime_s):
            return
        if self.listener.names_model_only:
            self.guard = None  # the next one of this name may be another meter: it inherits no counters
        if publisher.clock:
            mailbox = services.network.mailbox
            if not mailbox.time_sync:
                from firmware.mqtt.time_sync import TimeSync

                mailbox.time_sync = TimeSync()
            if mailbox.time_sync.known:
                from metering.clock import deviation_s

                self._clock_off_s = deviation_s(publisher.clock, int(time.time()))
        services.on_published()

    def is_push(self):
        return not self.conversation

    def set_interactive(self, interactive):
        self._services.driver.interactive = interactive
        if self.conversation:
            self.conversation.password_withheld = interactive

    def spares_battery(self):
        conversation = self.conversation
        return bool(conversation) and (self._reading.owner["wake_up"] or conversation.pause_s >= _BATTERY_PAUSE_S)

    def received(self):
        listener = self.listener
        whole = listener.recognised  # those refused for want of a key among them
        return whole, sum(listener.rejected.values()) + listener.accepted - whole

    def report_to(self, presence, now_s):
        failures = 0
        if self.conversation:  # damaged blocks come from a meter that is there
            failed = self.conversation.failed
            failures = failed["no answer"] + failed["no identification"]
        presence.note(self.listener.recognised, failures, now_s)

    def release(self):
        if self.conversation and self.conversation.failed["password refused"]:
            self._reading.password = ""  # meters lock: not again in this run

    def notice(self):
        if self.conversation:
            return self._publisher.notice or self.conversation.explanation
        return self._publisher.notice or self.listener.advice

    def count_into(self, counts):
        listener = self.listener
        counts["registers_beyond_limit"] = self._publisher.beyond_limit + listener.values_dropped
        counts["out_of_memory"] = self._services.driver.out_of_memory
        counts["meter_clock_off_s"] = self._clock_off_s
        call(
            "firmware.reading.telegram_counts",
            lambda telegram_counts: telegram_counts.count_into(counts, listener, self._judge, self.conversation),
        )
