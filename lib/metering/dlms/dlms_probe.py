"""What a search must know of DLMS/COSEM pushes: see metering.protocols."""

question = None


def signature(data, n, begun):
    """Is there in data[:n] the begin of a frame (HDLC, M-Bus), or of an APDU: by its LLC, by a system title's tag and
    length, and behind a silence by its own begin or a wrapper's? Or one behind a P1 header, as Polish meters send?"""
    at = data.find(b"\x7e", 0, n)
    while 0 <= at < n - 4:
        if data[at + 1] & 0xF0 == 0xA0 and (data[at + 3] & 1 or data[at + 4] & 1):
            return True
        at = data.find(b"\x7e", at + 1, n)
    at = data.find(b"\x68", 0, n)
    while 0 <= at < n - 4:
        if data[at + 1] == data[at + 2] and data[at + 3] == 0x68:
            return True
        at = data.find(b"\x68", at + 1, n)
    if data.find(b"\xe6\xe7\x00", 0, n) >= 0 or data.find(b"\xdb\x08", 0, n) >= 0:
        return True
    at = data.find(b"\r\n\r\n\x00", 0, n)
    if at >= 0 and data.find(b"/", 0, at) >= 0:
        return True
    if begun and n >= 12 and data[0] == 0x0F and data[5] in b"\x00\x09\x0c":
        return True
    return begun and n >= 9 and data[0] == 0 and data[1] == 1 and data[8] in b"\x0f\xdb\xdc\xe0\xe6"
