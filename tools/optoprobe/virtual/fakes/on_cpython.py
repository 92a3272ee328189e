"""Lends CPython what the firmware expects of MicroPython, for the demo's fall-back. Imported before boot.py."""

import _thread
import asyncio
import binascii
import errno  # noqa: F401 - MicroPython code imports it by this name too
import gc
import socket
import struct
import sys
import time
import traceback
import types

_WRAP = 1 << 30


def _ticks_ms():
    return int(time.monotonic() * 1000) % _WRAP


def _ticks_diff(later, earlier):
    return (later - earlier + _WRAP // 2) % _WRAP - _WRAP // 2


def _ticks_add(ticks, delta):
    return (ticks + delta) % _WRAP


async def _sleep_ms(ms):
    await asyncio.sleep(ms / 1000)


asyncio.sleep_ms = _sleep_ms
time.ticks_ms, time.ticks_diff, time.ticks_add = _ticks_ms, _ticks_diff, _ticks_add
time.sleep_ms = lambda ms: time.sleep(ms / 1000)
gc.mem_free, gc.mem_alloc = lambda: 1 << 20, lambda: 0  # there is room for everything
sys.print_exception = lambda error, file=None: traceback.print_exception(error, file=file)
gc.threshold = lambda n: None
sys.modules["usocket"], sys.modules["ustruct"], sys.modules["ubinascii"] = socket, struct, binascii

micropython = types.ModuleType("micropython")
micropython.const = lambda value: value
micropython.kbd_intr = lambda character: None
sys.modules["micropython"] = micropython
_thread.stack_size = lambda size=0: 0  # the firmware's 8 KiB are less than CPython accepts
