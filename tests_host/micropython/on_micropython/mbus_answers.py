"""Hear M-Bus answers in a file, in chunks, and print what came out, so that two runtimes can be compared. Runs on both.

mbus_answers.py CHUNK_BYTES FILE [KEY]
"""

import sys

from on_both import feed

from metering.listener import NOTHING, TELEGRAM
from metering.mbus.meter_reply import MeterReply


def drain(listener):
    while True:
        event = listener.next_event()
        if event == NOTHING:
            return
        if event != TELEGRAM:
            print("rejected", listener.reason, listener.offset, listener.detail)
            continue
        print(
            "telegram", listener.offset, listener.meter_id(), listener.n_values, listener.without_value, listener.more
        )
        print("clock", listener.date_time())
        for r in listener.readings():
            code = r.address or " ".join([str(part) for part in r.obis])
            place = (r.storage, r.tariff, r.subunit, r.function)
            print(code, r.text(), r.unit, r.printed_unit, *place, sep="|")
        print("published", len(list(listener.published_readings())))


def main():
    buffer = bytearray(int(sys.argv[1]))
    listener = MeterReply()
    if len(sys.argv) > 3:
        listener.set_keys(bytes([int(sys.argv[3][i : i + 2], 16) for i in range(0, 32, 2)]))
    feed(listener, sys.argv[2], buffer, drain)
    print("end", listener.accepted, listener.skipped)


main()
