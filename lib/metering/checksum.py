"""Checksums of the optical port's protocols, in 16 bits throughout so that no step allocates on a 32-bit board."""

from array import array

from metering.compat import SLICES_ARE_CHEAP, const

CCITT = const(0x8408)  # x**16 + x**12 + x**5 + 1, reflected: CRC-16/X-25, CRC-16/KERMIT
ARC = const(0xA001)  # x**16 + x**15 + x**2 + 1, reflected: CRC-16/ARC

X25_INIT = const(0xFFFF)
KERMIT_INIT = const(0x0000)


def crc_table(polynomial):
    """The table of a reflected polynomial, for crc16(). Allocates 512 bytes; a tuple takes 1 KiB on a 32-bit board."""
    entries = array("H", range(256))  # whole at once: one that grows needs its room twice
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ polynomial if crc & 1 else crc >> 1
        entries[byte] = crc
    return entries


def crc16(data, crc, table):
    """The reflected CRC register after the bytes of `data`, begun at `crc`. Allocates nothing.

    CRC-16/X-25 (ISO/IEC 13239, SML and HDLC): CCITT, begin at X25_INIT, invert the result: 0x906E over b"123456789".
    CRC-16/KERMIT (old Holley meters): CCITT, begin at KERMIT_INIT, result as it is: 0x2189.
    CRC-16/ARC (P1, DSMR 4 and later): ARC, begin at 0, result as it is: 0xBB3D.
    """
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.library_crc import crc16  # noqa: F401 - in place of the one above
