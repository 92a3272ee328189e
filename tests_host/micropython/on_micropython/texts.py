"""Every text the core makes, for one list of values: the two runtimes must print the same. Runs on both.

    texts.py    prints a line a vector: what it is, and the text
"""

from on_both import heap_lock, heap_unlock

from metering.checksum import ARC, CCITT, KERMIT_INIT, X25_INIT, crc16, crc_table
from metering.compat import ascii_text, copy_bytes, signed
from metering.guard import REASONS, Guard
from metering.identifier import identifier_text
from metering.line import Line
from metering.obis import obis_text
from metering.reading import Reading, decimal_text
from metering.registers import describe

VALUES = (0, 1, -1, 9, 10, 127, -128, 999, 147981129, 16777217, 98765432, 2**30 - 1, 2**30, 2**31, -(2**31), 2**32 - 1)
WIDE = (2**53 + 1, 29416461614, 2**62 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 9223372036854775809)
EXPONENTS = (-128, -20, -19, -10, -4, -3, -2, -1, 0, 1, 2, 3, 4, 20, 127)
IDENTIFIERS = (
    b"\x0a\x01ABC\x00\x00\x12\xd6\x87",
    b"\x09\x01ABC\x00\x00\x12\xd6\x87",
    b"\x0a\x01ABC\xff\xff\xff\xff\xff",
    b"\x0a\x01abc\x00\x00\x12\xd6\x87",
    b"\x06EMH\x01\x02\x71\x38",
    b"1234567",
    b" 1234567 ",
    b"\x7f",
    b"\xc3\xa4",
    b"",
)


def numbers():
    for value in VALUES + WIDE:
        for exponent in EXPONENTS:
            print("decimal", exponent, decimal_text(value, exponent))
            reading = Reading(b"\x01\x00\x01\x08\x00\xff", value, exponent, 30)
            print("shown", describe(reading).display(reading))
    for bits in (8, 16, 24, 32, 40, 48, 56, 64):
        for value in (0, 1, (1 << (bits - 1)) - 1, 1 << (bits - 1), (1 << bits) - 1):
            print("signed", bits, signed(value, bits))
            octets = value.to_bytes(bits // 8, "big")
            print("from bytes", signed(int.from_bytes(octets, "big"), bits))


def codes():
    for a in (0, 1, 7, 129):
        for c in (0, 1, 2, 3, 9, 11, 13, 14, 15, 16, 21, 36, 52, 61, 76, 80, 81, 91, 96, 199):
            for d in (0, 1, 2, 7, 8, 50, 130):
                for e, f in ((0, 255), (1, 255), (2, 1), (26, 255), (5, 0)):
                    obis = bytes((a, a if a == 129 else 0, c, d, e, f))
                    for value in (5, b"EMH"):
                        reading = Reading(obis, value, -1, 30 if d == 8 else 27)
                        register = describe(reading)
                        print(
                            obis_text(obis),
                            register.key,
                            register.kind,
                            register.known,
                            register.name(),
                            register.unit,
                            (register.symbol() or "none").replace("\u00b0", "deg"),
                            register.display(reading),
                        )


def octets():
    for data in IDENTIFIERS:
        print("identifier", identifier_text(data), identifier_text(bytearray(data)), ascii_text(memoryview(data)))
        print("octets", Reading(b"\x01\x00\x60\x01\x00\xff", data).text())
    for value in (True, False, "text"):
        print("other", Reading(b"\x01\x00\x60\x05\x01\xff", value).text())
    data = bytes(range(256))
    table = crc_table(CCITT)
    print("crc", crc16(b"123456789", X25_INIT, table) ^ 0xFFFF, crc16(b"123456789", KERMIT_INIT, table))
    print("crc", crc16(data, X25_INIT, table), crc16(b"123456789", 0, crc_table(ARC)))
    for to, at, n in ((0, 1, 5), (0, 5, 3), (2, 2, 6), (0, 0, 0), (3, 7, 1)):
        buffer = bytearray(b"abcdefghij")
        copy_bytes(buffer, to, buffer, at, n)
        print("copy", bytes(buffer))
    for to, at, n in ((0, 1, 63), (5, 9, 40), (7, 7, 57), (0, 0, 64), (0, 32, 17)):  # those that are moved as a whole
        for lock in (False, True):
            buffer = bytearray(range(64))
            other = bytearray(64)
            source = bytes(range(64))
            if lock:
                heap_lock()
            copy_bytes(buffer, to, buffer, at, n)
            copy_bytes(other, to, source, at, n)
            if lock:
                heap_unlock()
            print("moved", len(buffer), bytes(buffer), len(other), bytes(other))
    for line in (Line(9600), Line(300, 7, "E"), Line(2400, 8, "O", 2, True)):
        print("line", line)


def guarded():
    """Stories at 64 bits: what passes, what is counted, what is said."""
    top = 2**63
    story = (
        (top, -4, 0),
        (top + 83000, -4, 1),
        (top + 82999, -4, 2),
        (top + 10**12, -4, 3),
        (top + 10**12 + 1, -4, 4),
        (top // 10**7 + 10**5, 3, 5),
        (1, -4, 6),
        (2**64 - 1, 3, 7),
    )
    guard = Guard(30000)
    for value, exponent, at_s in story:
        reading = Reading(b"\x01\x00\x01\x08\x00\xff", value, exponent, 30)
        print("counter", guard.admits(reading, describe(reading), at_s), guard.explanation)
    for value, exponent in ((300000, -1), (300001, -1), (-300001, -1), (31, 3), (30, 3), (2**64 - 1, -15)):
        reading = Reading(b"\x01\x00\x10\x07\x00\xff", value, exponent, 27)
        print("power", guard.admits(reading, describe(reading), 8), guard.explanation)
    for meter in ("a", "a", "b", "a", "b", "b", "b"):
        print("meter", guard.admits_meter(meter), guard.explanation)
    print("held", [guard.held[reason] for reason in REASONS])


numbers()
codes()
octets()
guarded()
