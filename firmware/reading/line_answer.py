"""Gathers the meter's answer to a question. Loaded with the first one: most meters talk by themselves."""

import time

from metering.compat import copy_bytes
from metering.line import ANSWER_BYTES, ANSWER_MS


async def answer_of(driver, complete, first_ms, gap_ms):
    """Carry out EXPECT (metering.line) for a firmware.reading.line_driver.LineDriver."""
    if not driver.answer:
        driver.answer = bytearray(ANSWER_BYTES)
    answer = driver.answer
    n = 0
    limit_ms = first_ms
    begun = since = time.ticks_ms()
    while n < ANSWER_BYTES and await driver.has_received(limit_ms, since):
        limit_ms = gap_ms
        since = time.ticks_ms()
        if time.ticks_diff(since, begun) > ANSWER_MS:  # stray light that never ends
            break
        room = min(driver.end - driver.start, ANSWER_BYTES - n)
        copy_bytes(answer, n, driver.data, driver.start, room)
        used = complete and complete(answer, n + room)
        if used:
            driver.start += used - n
            n = used
            break
        driver.start += room
        n += room
    return bytes(memoryview(answer)[:n])
