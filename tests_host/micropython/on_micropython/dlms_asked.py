"""Ask a DLMS meter whose answers are in a file, and print what is said and what is read. Runs on both runtimes.

dlms_asked.py OPTIONS PASSWORD FILE [keys|drawn]   a line of FILE an EXPECT: what came, in hex

With `keys` it has keys and a counter; with either its random bytes are 7, 8, 9 .., as the test's are.
"""

import sys
from binascii import hexlify, unhexlify

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.line import EXPECT, LISTEN, SEND


class Flash:
    """What is kept of the meter; as firmware.reading.kept_answers has it."""

    kept = None

    def load(self):
        return self.kept

    def save(self, value):
        print("keeps", value)
        self.kept = value


class Drawn:
    def urandom(self, n):
        return bytes(range(7, 7 + n))


def main():
    listener = AskedValues()
    flash = Flash()
    conversation = Conversation(listener, "", "" if sys.argv[2] == "-" else sys.argv[2])
    if len(sys.argv) > 4:
        from metering.dlms import high

        high.os = Drawn()
        is_keyed = sys.argv[4] == "keys"
        keys = bytes(range(16)), bytes(range(0xD0, 0xE0))
        if is_keyed:
            conversation.take_keys(keys[0], keys[1], b"OPTtest1", lambda least: max(least, 1), 4096)
    conversation.keep_by(flash.load, flash.save)
    conversation.take_options("" if sys.argv[1] == "-" else sys.argv[1])
    with open(sys.argv[3]) as lines:
        actions = conversation.read_out()
        answer = None
        while True:
            try:
                action = actions.send(answer)
            except StopIteration:
                print("ended", conversation.failures, conversation.explanation)
                actions = conversation.read_out()
                answer = None
                continue
            answer = None
            if action[0] == EXPECT:
                line = lines.readline()
                if not line:
                    return
                answer = unhexlify(line.strip())
                print("expects", action[2], action[3], action[1] and action[1](answer, len(answer)))
            elif action[0] == LISTEN:
                answer = listener.next_event()
                print("telegram", answer, listener.meter_id(), listener.date_time())
                for r in listener.published_readings():
                    print(" ".join([str(part) for part in r.obis]), r.text(), r.unit)
            elif action[0] == SEND:
                print("says", hexlify(action[1]).decode())
            else:
                print("does", action[0], action[1])


main()
