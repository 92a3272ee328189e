"""Checksums of the optical port's protocols, in 16 bits throughout so that no step allocates on a 32-bit board."""

from array import array

from metering.compat import const

_POLYNOMIAL = const(0x8408)  # x**16 + x**12 + x**5 + 1, reflected: CRC-16/X-25, CRC-16/KERMIT

X25_INIT = const(0xFFFF)
KERMIT_INIT = const(0x0000)


def _table():
    entries = array("H")  # 512 bytes; a tuple takes 1 KiB on a 32-bit board
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1
        entries.append(crc)
    return entries


_TABLE = _table()


def crc16(data, crc):
    """The reflected CCITT CRC register after the bytes of `data`, begun at `crc`. Allocates nothing.

    CRC-16/X-25 (ISO/IEC 13239, SML and HDLC): begin at X25_INIT, invert the result: 0x906E over b"123456789".
    CRC-16/KERMIT (old Holley meters): begin at KERMIT_INIT, result as it is: 0x2189.
    """
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc
