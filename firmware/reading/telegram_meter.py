"""A meter that sends telegrams: what hears it, what asks it, what judges its values, and how that fares."""

import time

from firmware.reading.line_driver import LineDriver
from firmware.reading.publisher import Publisher
from metering.guard import Guard
from metering.unload import unload


class TelegramMeter:
    """Reads telegrams on `head` into the outbox. `published` is called without arguments when something of one went.
    `run` makes the coroutine that does so for ever.

    `settings["asked"]` says whether it is asked or talks by itself, None where that is not known. `found`: what
    decoder_factory has made of them, None where that is to be done; `guard` has followed the meter before.
    """

    def __init__(self, settings, head, health, outbox, announcer, network, published, found=None, guard=None):
        self._health = health
        self._network = network
        self._published = published
        if found is None:
            from firmware.reading.decoder_factory import make

            found = make(settings, settings["asked"])
            make = None
            unload("firmware.reading.decoder_factory")
        self.listener, self.conversation, self._counters = found
        self.guard = guard or Guard(settings["max_power_kw"] * 1000)
        self._publisher = Publisher(self.listener, self.guard, outbox, announcer)
        self._clock_off_s = None
        asks = bool(self.conversation)
        self._reader = LineDriver(head, self.conversation or self.listener, asks, health, self.take)
        self.run = self._reader.run

    @property
    def recognised(self):
        """How many telegrams have come, those without a key among them."""
        return self.listener.recognised

    def slug(self):
        """The meter's name fit for topics, "" where it is not known yet."""
        return self._publisher.meter.slug if self._publisher.meter else ""

    def take(self):
        """A telegram is in the listener's hand."""
        publisher = self._publisher
        if self.conversation:
            publisher.pause_s = self.conversation.pause_s
        if self._counters:
            self._counters.keep()
        if not publisher.take(self._health.uptime_s):
            return
        if publisher.clock:
            mailbox = self._network.mailbox
            if not mailbox.time_sync:
                from firmware.mqtt.time_sync import TimeSync

                mailbox.time_sync = TimeSync()
            if mailbox.time_sync.known:
                from metering.clock import deviation_s

                self._clock_off_s = deviation_s(publisher.clock, int(time.time()))
        self._published()

    def is_push(self):
        """Does the meter talk by itself?"""
        return not self.conversation

    def set_interactive(self, interactive):
        """Ask without long pauses, and without a password: somebody moves the head, or records."""
        self._reader.interactive = interactive
        if self.conversation:
            self.conversation.password_withheld = interactive

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        if self.conversation:
            return self._publisher.notice or self.conversation.explanation
        return self._publisher.notice or self.listener.advice

    def count_into(self, counts):
        """Add what is told of it in the diagnostics."""
        listener, guard = self.listener, self.guard
        counts["protocol"] = listener.NAME
        counts["telegrams"] = listener.accepted
        counts["rejected"] = sum(listener.rejected.values())
        counts["rejected_by_reason"] = listener.rejected
        counts["skipped_bytes"] = listener.skipped
        counts["held"] = sum(guard.held.values())
        counts["held_by_reason"] = guard.held
        counts["held_last"] = guard.explanation
        counts["registers_beyond_limit"] = self._publisher.beyond_limit + listener.values_dropped
        counts["out_of_memory"] = self._reader.out_of_memory
        counts["meter_clock_off_s"] = self._clock_off_s
        counts["attempts_failed"] = 0
        if self.conversation:
            counts["attempts_failed"] = self.conversation.failures
            counts["failed_by_reason"] = self.conversation.failed
