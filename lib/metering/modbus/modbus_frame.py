"""Frames of Modbus RTU: questions that read, and what a device answers.

Source: MODBUS Application Protocol V1.1b3 (6.1 to 6.4, 7) and MODBUS over Serial Line V1.02 (2.5.1), modbus.org.

    address | function 1 to 4 | first (2 bytes) | count (2 bytes) | CRC      -->
            <--      address | function | bytes | data ... | CRC
            <--      address | function + 80 | exception | CRC               where it refuses

Two bytes stand high byte first, the CRC low byte first: polynomial A001, begun with FFFF. An answer does not say which
registers it tells: the asker lets a late one pass before it asks again. Reading only: no other function is encoded.
"""

from metering.checksum import ARC, crc16, crc_table
from metering.compat import const

READ_COILS = const(1)
READ_DISCRETE_INPUTS = const(2)
READ_HOLDING = const(3)
READ_INPUT = const(4)
MOST_REGISTERS = const(125)  # of an answer: 255 bytes
_MOST_BITS = const(2000)
_LAST = const(0xFFFF)
_MOST_ADDRESS = const(247)
_REFUSED = const(0x80)
_INIT = const(0xFFFF)
_FAST_BAUD = const(19200)

_EXCEPTIONS = {
    1: "it does not know this function",
    2: "it has no such registers",
    3: "it does not take this count",
    4: "it failed",
    5: "it needs more time",
    6: "it is busy",
    8: "its memory is damaged",
    10: "the gateway has no path to it",
    11: "behind the gateway nobody answers",
}


def crc(data):
    """CRC-16/MODBUS of `data`: 0 where its own stands behind it."""
    return crc16(data, _INIT, crc_table(ARC))


def question(address, function, first, count):
    """The frame that asks for `count` registers (bits with functions 1 and 2) from `first` on. Raises ValueError for
    anything else than a reading of what exists."""
    if not 1 <= address <= _MOST_ADDRESS:
        raise ValueError("meter_address: a number from 1 to %d" % _MOST_ADDRESS)
    if not READ_COILS <= function <= READ_INPUT:
        raise ValueError("function: 1 to 4")
    most = MOST_REGISTERS if function >= READ_HOLDING else _MOST_BITS
    if not 1 <= count <= most or not 0 <= first <= _LAST + 1 - count:
        raise ValueError("registers: %d from %d on" % (count, first))
    body = bytes((address, function, first >> 8, first & 0xFF, count >> 8, count & 0xFF))
    check = crc(body)
    return body + bytes((check & 0xFF, check >> 8))


def answer_bytes(function, count):
    """How many bytes of data answer such a question."""
    return 2 * count if function >= READ_HOLDING else count + 7 >> 3


def answer_end(buffer, n):
    """For metering.line.EXPECT: the end of the answer in buffer[:n], 0 while there is none. A length damaged on the
    way ends by silence, and judge() refuses what there is."""
    if n < 5:
        return 0
    end = 5 if buffer[1] & _REFUSED else 5 + buffer[2]
    return end if n >= end else 0


def judge(answer, address, function, count):
    """(data, exception, reason) of an `answer` to that question: data b"" where there is none, exception 0 likewise,
    reason "" or "length", "checksum", "address", "form"."""
    if len(answer) < 5 or len(answer) != answer_end(answer, len(answer)):
        return b"", 0, "length"
    if crc(answer):
        return b"", 0, "checksum"
    if answer[0] != address:
        return b"", 0, "address"
    if answer[1] == function | _REFUSED and answer[2]:
        return b"", answer[2], ""
    if answer[1] != function or answer[2] != answer_bytes(function, count):
        return b"", 0, "form"
    return answer[3:-2], 0, ""


def exception_words(code):
    """What a device says with this exception."""
    return _EXCEPTIONS.get(code) or "exception %d" % code


def silence_ms(baud):
    """At least 3.5 characters of 11 bits, 1.75 ms above 19200 baud (Serial Line, 2.5.1.1), in whole ms."""
    return 2 if baud > _FAST_BAUD else 38500 // baud + 1
