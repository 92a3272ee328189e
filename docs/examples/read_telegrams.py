"""Print the registers in a recording: python3 read_telegrams.py FILE. Runs on both Pythons."""

import sys

from metering.listener import NOTHING, TELEGRAM
from metering.protocols import load
from metering.registers import describe

listener = load("sml")()
with open(sys.argv[1], "rb") as recording:
    data = recording.read()
fed = 0
while fed < len(data):
    fed += listener.feed(data, fed, len(data))
    event = listener.next_event()
    while event != NOTHING:
        if event == TELEGRAM:
            for reading in listener.readings():
                register = describe(reading)
                print(register.name(), register.display(reading), register.symbol() or "")
        event = listener.next_event()
