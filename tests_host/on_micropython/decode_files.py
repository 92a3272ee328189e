"""Decode files and print what came out, a line each, so that two runtimes can be compared. Runs on both.

    decode_files.py CHUNK_BYTES FILE...

    file NAME, telegram OFFSET METER_ID N_VALUES, OBIS|TEXT|UNIT, rejected REASON OFFSET, end GOOD REJECTED
"""

import sys

from metering.listener import NOTHING, TELEGRAM
from metering.obis import obis_text
from metering.registers import unit_symbol
from metering.sml import Sml


def drain(listener):
    while True:
        event = listener.next_event()
        if event == NOTHING:
            return
        if event != TELEGRAM:
            print("rejected", listener.reason, listener.offset)
            continue
        print("telegram", listener.offset, listener.meter_id() or "-", listener.n_values)
        for reading in listener.readings():
            print("%s|%s|%s" % (obis_text(reading.obis), reading.text(), unit_symbol(reading.unit) or ""))


def decode(path, buffer):
    listener = Sml()
    with open(path, "rb") as stream:
        while True:
            n = stream.readinto(buffer)
            if not n:
                break
            at = 0
            while at < n:
                at += listener.feed(buffer, at, n)
                drain(listener)
    listener.finish()
    drain(listener)
    print("end", listener.good, sum(listener.rejected.values()))


def main():
    buffer = bytearray(int(sys.argv[1]))
    for path in sys.argv[2:]:
        print("file", path.split("/")[-1])
        decode(path, buffer)


main()
