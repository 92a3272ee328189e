"""Every event of a file of telegrams as a running CRC-32, so that two runtimes can be compared. Runs on both.

    events_of.py PROTOCOL KEY AUTH_KEY A_LISTENER A_LINE FILE [RECORD]

FILE: records of a length (2 bytes, high first) and that many bytes, a telegram or more, damaged or not. KEY, AUTH_KEY:
in hex, "-" for none. A_LISTENER: records for a listener, which then ends; A_LINE: records for a line of output: number
of the last one, telegrams, rejected, CRC of all events so far. With RECORD the events of that record are printed as
they are.
"""

import gc
import sys
from binascii import crc32, hexlify, unhexlify

from metering import protocols
from metering.listener import NOTHING, TELEGRAM


class Events:
    """Of a file: how many of each, and their CRC; `shows` True: each is printed."""

    def __init__(self):
        self.telegrams = self.rejected = self.crc = 0
        self.shows = False

    def note(self, *words):
        text = " ".join([str(word) for word in words])
        if self.shows:
            print(text)
        self.crc = crc32(text.encode(), self.crc)

    def drain(self, listener):
        while True:
            event = listener.next_event()
            if event == NOTHING:
                return
            listening = (listener.offset, listener.skipped, listener.advice, listener.proven)
            if listener.NAME == "dlms":
                title = hexlify(listener.system_title or b"").decode()
                listening += (title, listener.invocation_counter, listener.security_control, listener.authenticated)
            if event != TELEGRAM:
                self.rejected += 1
                self.note("rejected", listener.reason, listener.detail, *listening)
                continue
            self.telegrams += 1
            self.note("telegram", listener.meter_id(), listener.n_values, listener.time_kind, listener.time_value)
            self.note(listener.pin_needed, listener.vouched, listener.sealed, listener.maker(), listener.model())
            self.note(*listening)
            if listener.NAME == "dlms":
                self.note(listener.date_time(), listener.printed_id())
            for reading in listener.published_readings():
                self.note(hexlify(reading.obis).decode(), reading.text(), reading.exponent, reading.unit)
                if reading.address is not None:
                    self.note(reading.address, reading.printed_unit, reading.is_companion, type(reading.value) is int)


def main():
    name, key, auth_key, a_listener, a_line, path = sys.argv[1:7]
    shown = int(sys.argv[7]) if len(sys.argv) > 7 else -1
    events = Events()
    listener = None
    k = 0
    with open(path, "rb") as file:
        while True:
            head = file.read(2)
            if len(head) < 2:
                break
            record = file.read(head[0] << 8 | head[1])
            events.shows = k == shown
            if listener is None:
                listener = protocols.load(name)()
                if key != "-":
                    listener.set_keys(unhexlify(key), None if auth_key == "-" else unhexlify(auth_key))
            at = 0
            while at < len(record):
                at += listener.feed(record, at, len(record))
                events.drain(listener)
            listener.on_idle()
            k += 1
            if k % int(a_listener) == 0:
                listener.finish()
                events.drain(listener)
                listener = None
                gc.collect()
            if k % int(a_line) == 0:
                print(k, events.telegrams, events.rejected, events.crc & 0xFFFFFFFF)
    print(k, events.telegrams, events.rejected, events.crc & 0xFFFFFFFF)


main()
