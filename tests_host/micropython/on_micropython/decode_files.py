"""Decode files and print what came out, a line each, so that two runtimes can be compared. Runs on both.

    decode_files.py PROTOCOL CHUNK_BYTES BUFFER_BYTES FILE...     BUFFER_BYTES 0: the listener's own; else with history

    file NAME, telegram OFFSET METER_ID N_VALUES, OBIS|TEXT|UNIT, rejected REASON OFFSET, end GOOD REJECTED

Where the meter prints, OBIS|TEXT|UNIT is ADDRESS|VALUE|UNIT as printed, and what was made of it:
|OBIS|TEXT|UNIT|KEY|ASIDE; and the telegram's line goes on with CHECKED FLAG BAUD ID. Where it may be ciphered, both
telegram and rejected go on with TITLE COUNTER SECURITY_CONTROL AUTHENTICATED; the keys are in FILE.keys: KEY AUTH_KEY,
in hex, - for none.
"""

import gc
import sys

if hasattr(gc, "threshold"):  # not CPython's
    gc.threshold(2048)  # as boot.py sets it: what stays lies together

from binascii import hexlify, unhexlify

from on_both import feed

from metering import protocols
from metering.listener import NOTHING, TELEGRAM
from metering.obis import obis_text
from metering.register import unit_symbol
from metering.registers import describe


def cipher(listener):
    title = hexlify(listener.system_title or b"-").decode()
    return title, listener.invocation_counter, listener.security_control, listener.authenticated


def drain(listener):
    while True:
        event = listener.next_event()
        if event == NOTHING:
            return
        if event != TELEGRAM:
            about = (listener.reason, listener.offset)
            print("rejected", *(about + cipher(listener) if listener.NAME == "dlms" else about))
            continue
        about = (listener.offset, listener.meter_id() or "-", listener.n_values)
        if listener.NAME == "sml":
            print("telegram", *about)
        elif listener.NAME == "dlms":
            print("telegram", *(about + cipher(listener)))
        else:
            ident = (listener.ident_flag, listener.ident_baud, listener.ident_id)
            print("telegram", *about, listener.checked, *ident)
        for reading in listener.readings():
            code = obis_text(reading.obis) if len(reading.obis) == 6 else "none"
            made = (code, reading.text(), unit_symbol(reading.unit) or "")
            if reading.address is None:
                print("%s|%s|%s" % made)
            else:
                print("%s|%s|%s" % (reading.address, reading.printed, reading.printed_unit or ""), end="|")
                print("%s|%s|%s|%s|%s" % (made + (describe(reading).key, reading.is_companion)))


def decode(listener_class, size, path, buffer):
    listener = listener_class(size) if size else listener_class()
    listener.history = size > 0
    if listener.NAME == "dlms":
        with open(path + ".keys") as stream:
            keys = [None if word == "-" else unhexlify(word) for word in stream.read().split()]
        listener.set_keys(*keys)
    feed(listener, path, buffer, drain)
    print("end", listener.accepted, sum(listener.rejected.values()))


def main():
    listener_class = protocols.load(sys.argv[1])
    buffer = bytearray(int(sys.argv[2]))
    for path in sys.argv[4:]:
        print("file", path.split("/")[-1])
        decode(listener_class, int(sys.argv[3]), path, buffer)
        gc.collect()


main()
