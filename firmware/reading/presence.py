"""Is the meter still there? Judged by its silence, its refusals to answer, or light that is not an LED's.

kind      lost after silence of ...                                            or after
PUSH      60 s before any telegram, 120 s behind a single one,
          then 4 of its longest pauses, but at the least 30 s, at the most 600 s
POLLED                                                                         2 read-outs in a row unanswered
BATTERY                                                                        the same, and a day without an answer
BLINK     8 of its longest pauses, but at the least 75 s                       4 s within a minute of other light,
                                                                               8 s the next time, 16 s ...
"""

from micropython import const

PUSH = const(0)
POLLED = const(1)
BLINK = const(2)
BATTERY = const(3)

# A row a kind: s of silence before any sign of life; behind a single one; then at the least; its longest pauses; s at
# the most; failures in a row. 0 in front: silence does not tell.
_LIMITS = ((60, 120, 30, 4, 600, 0), (0, 0, 0, 0, 0, 2), (75, 75, 75, 8, 4800, 0), (0, 0, 86400, 0, 0, 2))
_LONGEST_PAUSE_S = const(600)
_NON_FLASH_MS = const(80)  # of a second: a remote control's, or noise, unless it comes again and again
_NON_FLASH_SECONDS = const(4)
_FORGET_S = const(15)  # one of them


class Presence:
    """Follows one meter after the other; all times are uptime in whole seconds."""

    def __init__(self):
        self._meter = None  # what tells the meter that is followed from another
        self._kind = PUSH
        self._n: int | None = None  # signs of life so far, None before they were noted
        self._is_again = False
        self._has_spoken = False
        self._heard_s = self._pause_s = 0
        self._failures = self._failures_before = 0
        self._non_flash_seconds = self._forgot_s = 0
        self._most_non_flash = _NON_FLASH_SECONDS

    def follow(self, meter, kind, now_s):
        """Watch the meter from now on; `meter` (a protocol's name) that was followed before keeps its longest pause."""
        self._kind = kind
        self._n = None
        self._failures = self._failures_before = self._non_flash_seconds = 0
        self._forgot_s = now_s
        self._is_again = self._meter == meter
        if not self._is_again:
            self._meter = meter
            self._heard_s = now_s
            self._pause_s = 0
            self._most_non_flash = _NON_FLASH_SECONDS

    def note(self, n, failures, now_s):
        """So many telegrams or flashes have come, and so many read-outs were not answered, since the meter is read.

        What had come when it is noted first was the search's to find.
        """
        self._failures = failures
        if self._n is None:
            self._has_spoken = n > 0 or self._is_again and self._kind == BLINK
            if self._is_again and self._has_spoken:
                self._hear(now_s)
        elif n != self._n:
            self._hear(now_s)
            self._has_spoken = True
        self._n = n

    def _hear(self, now_s):
        if self._has_spoken or self._pause_s:
            self._pause_s = max(self._pause_s, min(now_s - self._heard_s, _LONGEST_PAUSE_S))
        self._heard_s = now_s
        self._failures_before = self._failures

    def note_light(self, non_flash_ms, is_steady, now_s):
        """Of an LED, once a second: for how long was there light that is no flash, and is it on all the time, as a
        meter's where nothing is consumed?
        """
        if is_steady:
            self._heard_s = now_s
        self._non_flash_seconds += non_flash_ms >= _NON_FLASH_MS
        if now_s - self._forgot_s >= _FORGET_S:
            self._forgot_s = now_s
            self._non_flash_seconds = max(self._non_flash_seconds - 1, 0)

    def is_lost(self, now_s):
        """Is it time to look for the meter anew?"""
        unheard_s, once_s, least_s, pauses, most_s, failures = _LIMITS[self._kind]
        if failures:
            return self._failures - self._failures_before >= failures and now_s - self._heard_s >= least_s
        if self._non_flash_seconds >= self._most_non_flash:
            self._most_non_flash *= 2  # it may be noise again
            return True
        if self._pause_s:
            limit_s = max(least_s, min(pauses * self._pause_s, most_s))
        else:
            limit_s = once_s if self._has_spoken else unheard_s
        return now_s - self._heard_s > limit_s
