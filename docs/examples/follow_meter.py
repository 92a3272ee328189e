"""Print what a meter pushes, and is plausible: stty -F PORT 9600 raw; python3 follow_meter.py < PORT."""

import sys
import time

from metering.guard import Guard
from metering.listener import NOTHING, TELEGRAM
from metering.protocols import load
from metering.registers import describe

listener = load("sml")()
guard = Guard(max_power_w=44_000)  # what the connection can carry
while data := sys.stdin.buffer.read1(256):
    fed = 0
    while fed < len(data):
        fed += listener.feed(data, fed, len(data))
        while (event := listener.next_event()) != NOTHING:
            if event != TELEGRAM or not guard.admits_meter(listener.meter_id()):
                continue
            for reading in listener.readings():
                register, now_s = describe(reading), int(time.monotonic())
                if guard.admits(reading, register, now_s, listener.proven, listener.sealed):
                    print(register.name(), register.display(reading), register.symbol() or "", flush=True)
