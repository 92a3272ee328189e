"""A meter that sends telegrams: what hears it, what asks it, what judges its values, and how that fares."""

import time

from firmware.publisher import Publisher
from firmware.reader import Reader
from metering import protocols
from metering.guard import Guard


class TelegramMeter:
    """Reads telegrams on `head` into the outbox. `published` is called without arguments when something of one went.
    `run` makes the coroutine that does so for ever.

    Raises ValueError or OSError where the chip has no such UART.
    """

    def __init__(self, settings, head, health, outbox, announcer, network, published):
        self._head = head
        self._health = health
        self._network = network
        self._published = published
        self._listener = listener = protocols.load(settings["protocol"])()
        if settings["line"]:
            listener.line = settings["line"]
        self._counters = None
        if hasattr(listener, "set_keys"):
            from firmware.store import Counters

            self._counters = Counters(listener, settings["meter_key"], settings["meter_auth_key"])
        conversation = protocols.load_conversation(settings["protocol"])
        if conversation:
            conversation = conversation(
                listener,
                settings["meter_address"],
                settings["meter_password"],
                settings["wake_up"],
                settings["interval_s"],
            )
        self._conversation = conversation
        self._guard = Guard(settings["max_power_kw"] * 1000)
        self._publisher = Publisher(listener, self._guard, outbox, announcer)
        self._clock_off_s = None
        self._reader = Reader(head, listener, conversation or listener, health, self._take)
        self.run = self._reader.run

    def _take(self):
        """A telegram is in the listener's hand."""
        publisher = self._publisher
        if self._conversation:
            publisher.pause_s = self._conversation.pause_s
        if self._counters:
            self._counters.keep()
        if not publisher.take(self._health.uptime_s):
            return
        if publisher.clock:
            if not self._network.ask_time:
                from firmware.time_server import ask

                self._network.ask_time = ask
            if self._network.time_known:
                from metering.clock import deviation_s

                self._clock_off_s = deviation_s(publisher.clock, int(time.time()))
        self._published()

    def notice(self):
        """The one sentence the owner should read now, "" if all is well."""
        if self._conversation:
            return self._publisher.notice or self._conversation.explanation
        return self._publisher.notice or self._listener.advice

    def count_into(self, counts):
        """Add what is told of it in the diagnostics."""
        listener, guard = self._listener, self._guard
        counts["protocol"] = listener.NAME
        counts["telegrams"] = listener.good
        counts["rejected"] = sum(listener.rejected.values())
        counts["rejected_by_reason"] = listener.rejected
        counts["skipped_bytes"] = listener.skipped
        counts["held"] = sum(guard.held.values())
        counts["held_by_reason"] = guard.held
        counts["held_last"] = guard.explanation
        counts["registers_beyond_limit"] = self._publisher.beyond_limit + listener.unkept
        counts["out_of_memory"] = self._reader.out_of_memory
        counts["meter_clock_off_s"] = self._clock_off_s
        counts["attempts_failed"] = 0
        if self._conversation:
            counts["attempts_failed"] = self._conversation.failures
            counts["failed_by_reason"] = self._conversation.failed
