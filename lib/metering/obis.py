"""OBIS codes (IEC 62056-6-1): six bytes A-B:C.D.E*F that name what a value measures."""


def obis_text(obis):
    """`obis` (6 bytes) in the standard's notation: b"\\x01\\x00\\x01\\x08\\x00\\xff" is "1-0:1.8.0*255"."""
    return "%d-%d:%d.%d.%d*%d" % (obis[0], obis[1], obis[2], obis[3], obis[4], obis[5])
