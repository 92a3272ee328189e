"""Restarts and their cause, in RTC memory, which survives all but a loss of power. Loaded for a moment at a time.

    0..3   magic
    4      restarts since power-on
    5      lower half: quick restarts in a row; upper half: why we have restarted ourselves (index in _OWN_CAUSES), with
           _STARTED once the next run has begun: a run that ends before it has told the cause hands it to no other
    6..    firmware.hardware.rtc_record
"""

import time

import machine
from micropython import const, kbd_intr

_MAGIC = b"OPR1"
_BYTES = const(6)  # RTC_BYTES of firmware.hardware.health
_MOST = const(255)
_MOST_QUICK = const(15)
_QUICK_RESTARTS = const(5)
_SAFE_WAIT_S = const(10)
_COMPUTERS_MS = const(600000)  # nothing feeds the watchdog while somebody looks what is wrong
_LAST_WAIT_S = const(5)  # for a computer to step in
_STORY_FILE = "restart.txt"
_STORY_CHARACTERS = const(80)

BY_EXCEPTION = const(1)
OUT_OF_WIFI_MEMORY = const(2)
BY_OWNER = const(3)
SAFE_MODE_OVER = const(4)
FOR_SET_UP = const(5)  # the next run is the set-up alone
_STARTED = const(8)
_OWN_CAUSES = ("", "error", "memory for Wi-Fi ran out", "asked for", "safe mode is over", "asked for, to set it up")
_CAUSES = (
    (machine.PWRON_RESET, "power on"),  # or a brown-out: the chip does not tell them apart
    (machine.HARD_RESET, "reset or crash"),
    (machine.WDT_RESET, "watchdog"),
    (machine.SOFT_RESET, "soft reset"),
    (0, "reset by USB, or for an unknown reason"),  # machine has no name for it
)


def _read():
    """(restarts since power-on, quick restarts in a row, own cause with or without _STARTED)."""
    memory = machine.RTC().memory()
    if bytes(memory[:4]) != _MAGIC or len(memory) < _BYTES:
        return 0, 0, 0
    return memory[4], memory[5] & _MOST_QUICK, memory[5] >> 4


def _write(restarts, quick, own_cause=0):
    rtc = machine.RTC()
    counts = bytes((min(restarts, _MOST), min(quick, _MOST_QUICK) | own_cause << 4))
    rtc.memory(_MAGIC + counts + rtc.memory()[_BYTES:])


def note_start(watchdog_ms):
    """Called once by boot.py. The watchdog is armed first: whatever hangs from here on ends in a restart.

    Returns whether this start is a safe mode's, behind five restarts within a minute each: it waits then for a computer
    to step in; and whether the last run has asked for the set-up. What was asked for counts for no restart of the five;
    a loss of power that was so short that the memory has lasted does.
    """
    machine.WDT(timeout=watchdog_ms)
    restarts, quick, own_cause = _read()
    cause = machine.reset_cause()
    is_power_on = cause == machine.PWRON_RESET
    restarts = 0 if is_power_on else restarts + 1
    if is_power_on or own_cause & _STARTED:
        own_cause = 0
    if own_cause < BY_OWNER and cause != machine.SOFT_RESET and not (is_power_on and not machine.RTC().memory()):
        quick += 1  # a soft reset is somebody at a computer
    _write(restarts, quick, own_cause and own_cause | _STARTED)
    is_safe = quick >= _QUICK_RESTARTS
    if is_safe:
        kbd_intr(3)  # boot.py has it off
        print("optoprobe: %d quick restarts: safe mode in %d s, Ctrl-C stops here" % (quick, _SAFE_WAIT_S))
        try:
            time.sleep(_SAFE_WAIT_S)
        except KeyboardInterrupt:
            machine.WDT(timeout=_COMPUTERS_MS)
            raise
        kbd_intr(-1)
    return is_safe, own_cause == FOR_SET_UP


def end_row():
    """The run has lasted: the next quick restart is the first in a row."""
    _write(_read()[0], 0)


def told():
    """(restarts since power-on, cause of the last in words). The next restart has a cause of its own."""
    restarts, quick, own_cause = _read()
    if own_cause:
        _write(restarts, quick)
        own_cause &= ~_STARTED
    if own_cause == BY_EXCEPTION:
        return restarts, _story() or _OWN_CAUSES[own_cause]
    if 0 < own_cause < len(_OWN_CAUSES):
        return restarts, _OWN_CAUSES[own_cause]
    code = machine.reset_cause()
    for known, text in _CAUSES:
        if code == known:
            return restarts, text
    return restarts, "cause %d" % code


def was_soft():
    """Has the last reset left the radio as it was?"""
    return machine.reset_cause() == machine.SOFT_RESET


def forget():
    """Nothing of before is known to the next run."""
    machine.RTC().memory(b"")


def restart(own_cause, story=""):
    """Reset the chip; the next run is told the cause, which is `story` (str) where there is one. What was asked for
    ends a row of quick restarts.
    """
    restarts, quick, _ = _read()
    _write(restarts, 0 if own_cause >= BY_OWNER else quick, own_cause)
    if story:
        story = story[:_STORY_CHARACTERS]
        try:
            if _story() != story:  # the flash wears: a fault that comes again and again is written once
                with open(_STORY_FILE, "w") as file:
                    file.write(story)
        except (OSError, MemoryError):
            pass
    machine.reset()


def restart_by(error):
    """The program has ended by the exception `error`: the next run is told its type and place, as its text could quote
    a setting.
    """
    import io
    import sys

    traceback = io.StringIO()
    sys.print_exception(error, traceback)  # type: ignore[arg-type] - StringIO is a stream
    place = ""
    for line in traceback.getvalue().split("\n"):  # type: ignore[attr-defined] - the stubs lack it
        if line.startswith("  File "):
            place = line[7:].replace('"', "")
    time.sleep(_LAST_WAIT_S)
    restart(BY_EXCEPTION, "%s in %s" % (type(error).__name__, place))


def _story():
    try:
        with open(_STORY_FILE) as file:
            return file.read(_STORY_CHARACTERS)
    except (OSError, ValueError):
        return ""
