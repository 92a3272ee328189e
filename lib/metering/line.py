"""How bytes stand on the light, and what a conversation asks of whoever drives the line.

A byte is one start bit, `bits` data bits (lowest first), an optional parity bit and `stop` stop bits. On an optical
port (IEC 62056-21:2002, 4.1) no light is the idle level and a logical 1; a head's receiver shows that as a high RX pin
unless its electronics turn it round (`invert`).

7 bits and a parity bit are the same light as 8 bits, and are driven so: the parity is put into bit 7 of what is sent,
and left there in what is received, for the protocol to check. No UART driver here tells of a wrong parity otherwise.

A *conversation* (we ask, the meter answers) is a generator that yields line actions, tuples of these, and is sent what
came of them; it runs alike on a head's UART, on a computer's serial port and on a virtual line:

    (SEND, data)                            up to MAX_SENT bytes; goes on, with None, when the last bit has left
    (SWITCH, line)                          other settings; what was received and not taken yet is dropped
    (WAIT, ms)                              what arrives meanwhile is kept
    (EXPECT, complete, first_ms, gap_ms)    gather an answer: complete(buffer, n) says how many bytes it takes, 0 while
                                            there is more to come (None: until a silence). Goes on with the answer as
                                            bytes, what lies behind is kept; or with what there was (b"" for nothing)
                                            after first_ms without a byte, gap_ms after the last one, at ANSWER_BYTES or
                                            after ANSWER_MS
    (LISTEN, listener, first_ms, gap_ms)    bytes go to the listener until it has an event, which the driver deals with
                                            first: goes on with TELEGRAM or REJECTED, or with NOTHING after a silence
                                            (None: no limit). What the listener has not taken is kept
    (WATCH, watcher, ms)                    watcher.look(ticks_ms, light, data, start, end) at each look, some 10 ms
                                            apart, until it says True or for so long: `light` on the head now (None
                                            where the driver cannot tell), data[start:end] what has come. For
                                            metering.detection.search_story and its drivers
"""

from metering.compat import const

SEND = const(1)
SWITCH = const(2)
WAIT = const(3)
EXPECT = const(4)
LISTEN = const(5)
WATCH = const(6)

MAX_SENT = const(132)  # bytes: the longest is a DLMS association, ciphered, with a key for itself, 129
ANSWER_MS = const(15000)  # as many bytes take 8.6 s at 300 baud
ANSWER_BYTES = const(256)  # a register's answer, a password's operand; whole read-outs go to a listener


class Line:
    """Settings of one direction-less serial line.

    `baud` in bit/s, `bits` 7 or 8, `parity` None, "E" (even) or "O" (odd), `stop` 1 or 2,
    `invert` True where idle is a low level at the receiver's pin.
    """

    def __init__(self, baud, bits=8, parity=None, stop=1, invert=False):
        if bits not in (7, 8) or parity not in (None, "E", "O") or stop not in (1, 2) or baud <= 0:
            raise ValueError("line settings: 7 or 8 bits, parity None, E or O, 1 or 2 stop bits, baud above 0")
        self.baud = baud
        self.bits = bits
        self.parity = parity
        self.stop = stop
        self.invert = invert

    def __repr__(self):
        inverted = " inverted" if self.invert else ""
        return "%d %d%s%d%s" % (self.baud, self.bits, self.parity or "N", self.stop, inverted)


def perform(action, driver):
    """Call the driver's method for a line action, and return what that returns: a coroutine, where the driver's methods
    are such. They are send(data), switch(line), wait(ms), expect(complete, first_ms, gap_ms), watch(watcher, ms) and
    listen(listener, first_ms, gap_ms). Raises ValueError for anything else.
    """
    kind = action[0]
    if kind == LISTEN:
        return driver.listen(action[1], action[2], action[3])
    if kind == SEND:
        return driver.send(action[1])
    if kind == SWITCH:
        return driver.switch(action[1])
    if kind == WAIT:
        return driver.wait(action[1])
    if kind == EXPECT:
        return driver.expect(action[1], action[2], action[3])
    if kind == WATCH:
        return driver.watch(action[1], action[2])
    raise ValueError("no line action: %r" % (action,))
