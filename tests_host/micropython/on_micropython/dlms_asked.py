"""Ask a DLMS meter whose answers are in a file, and print what is said and what is read. Runs on both runtimes.

dlms_asked.py OPTIONS PASSWORD FILE      a line of FILE an EXPECT: what came, in hex
"""

import sys
from binascii import hexlify, unhexlify

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from metering.line import EXPECT, LISTEN, SEND


def main():
    listener = AskedValues()
    conversation = Conversation(listener, "", "" if sys.argv[2] == "-" else sys.argv[2])
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
                print("expects", action[2], action[3], action[1](answer, len(answer)))
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
