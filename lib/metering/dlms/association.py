"""The association: who asks, how it is proved, and what the meter lets it do (DLMS UA 1000-2, 9.4; ISO 8650).

60 length | A1 context | A6 title | 8A 8B mechanism | AC 80 password or challenge | BE 04 request           AARQ
61 length | A1 context | A2 result | A3 diagnostic | A4 title | 89 mechanism | AA challenge | BE 04 response  AARE
62, 63 length ..                                                                            release, and its answer

01 00 00 00 06 | 5F 1F 04 00 conformance 3 | PDU size 2            what is asked for; ciphered it is 21
08 00 06 | 5F 1F 04 00 conformance 3 | PDU size 2 | names 2        what is given; 28. Names: 0007 long, FA00 short
"""

from metering.compat import const
from metering.dlms.axdr import Malformed, ber_length
from metering.unload import unload

AARQ = const(0x60)
AARE = const(0x61)
RELEASE = const(0x62)
RELEASED = const(0x63)

LN = const(1)  # application contexts
SN = const(2)
LN_CIPHERED = const(3)
SN_CIPHERED = const(4)

NO_SECURITY = const(0)  # mechanisms
LOW = const(1)
HIGH = const(2)
HIGH_MD5 = const(3)
HIGH_SHA1 = const(4)
HIGH_GMAC = const(5)
HIGH_SHA256 = const(6)
HIGH_ECDSA = const(7)

_CONTEXT_OID = b"\x60\x85\x74\x05\x08\x01"
_MECHANISM_OID = b"\x60\x85\x74\x05\x08\x02"
_LN_CONFORMANCE = b"\x00\x12\x14"  # GET, in blocks, several in one, selective access: no SET
_SN_CONFORMANCE = b"\x10\x12\x20"  # READ, in blocks, several in one, parameterised access: no WRITE
_ACTION = const(1)  # of the last byte: where a challenge is to be answered
_GENERAL = const(0x40)  # of the first: general-glo and general-ded
_MAX_TITLE = const(8)
_MAX_SECRET = const(64)


def initiate(context, mechanism, max_pdu, dedicated=b"", is_general=False):
    """The initiate request of LN or SN, plain; `dedicated`: the 16 bytes of a key for this session alone."""
    conformance = _LN_CONFORMANCE if context == LN else _SN_CONFORMANCE
    first, last = conformance[0], conformance[2]
    if is_general:
        first |= _GENERAL
    if mechanism > LOW and context == LN:
        last |= _ACTION
    key = b"\x01" + bytes((len(dedicated),)) + dedicated if dedicated else b"\x00"
    rest = bytes((first, conformance[1], last, max_pdu >> 8, max_pdu & 0xFF))
    return b"\x01" + key + b"\x00\x00\x06\x5f\x1f\x04\x00" + rest


def request(context, mechanism=NO_SECURITY, secret=b"", max_pdu=0xFFFF, title=b"", wanted=b""):
    """An AARQ. `secret`: the password of LOW, the client's challenge of what is higher; `title` the client's;
    `wanted`: the initiate request, ciphered where the context is; b"": it is made. ValueError."""
    if context not in (LN, SN) and not wanted:
        raise ValueError("an association in the clear has context 1 or 2")
    if len(secret) > _MAX_SECRET:
        raise ValueError("a password or challenge has %d bytes at the most" % _MAX_SECRET)
    body = b"\xa1\x09\x06\x07" + _CONTEXT_OID + bytes((context,))
    if title:
        body += bytes((0xA6, len(title) + 2, 4, len(title))) + title
    if mechanism:
        n = len(secret)
        body += b"\x8a\x02\x07\x80\x8b\x07" + _MECHANISM_OID + bytes((mechanism, 0xAC, n + 2, 0x80, n)) + secret
    wanted = wanted or initiate(context, mechanism, max_pdu)
    body += bytes((0xBE, len(wanted) + 2, 4, len(wanted))) + wanted
    return (bytes((AARQ, len(body))) if len(body) < 0x80 else bytes((AARQ, 0x81, len(body)))) + body


def release():
    """The request to release the association."""
    return b"\x62\x03\x80\x01\x00"


class Association:
    """What an AARQ or an AARE says. `context`, `mechanism` 0 for none; `title` of who sends it, bytes or None;
    `result` 0 where it is accepted, `diagnostic` its number, `by_provider` True where the layer below refuses;
    `data_at`, `data_end`: the initiate request or response in the buffer; `max_pdu`; `conformance`, 24 bits.
    `detail`: the number of the error that comes in place of the response, -1 for none.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        self.context = self.mechanism = self.result = self.diagnostic = 0
        self.data_at = self.data_end = self.max_pdu = self.conformance = 0
        self.by_provider = False
        self.detail = -1
        self.title = None

    def take(self, buf, at, end):
        """Take the APDU buf[at:end] apart. Raises Malformed."""
        self.clear()
        self.result = -1 if buf[at] == AARE else 0
        n, at = ber_length(buf, at + 1, end)
        if n > end - at:
            raise Malformed("association truncated")
        end = at + n
        while at < end:
            tag = buf[at]
            n, at = ber_length(buf, at + 1, end)
            if n > end - at:
                raise Malformed("association truncated")
            self._take(buf, tag, at, at + n)
            at += n
        if self.result < 0:
            raise Malformed("association without a result")

    def _take(self, buf, tag, at, end):
        n = end - at
        if tag == 0xA1 and n == 9 and bytes(buf[at + 2 : at + 8]) == _CONTEXT_OID:
            self.context = buf[end - 1]
        elif tag in b"\x89\x8b" and n == 7 and bytes(buf[at : at + 6]) == _MECHANISM_OID:
            self.mechanism = buf[end - 1]
        elif tag in b"\xa4\xa6" and 2 < n <= 2 + _MAX_TITLE and buf[at] == 0x04 and buf[at + 1] == n - 2:
            self.title = bytes(buf[at + 2 : end])
        elif tag == 0xA2 and n == 3:
            self.result = buf[end - 1]
        elif tag == 0xA3 and n == 5:
            self.by_provider = buf[at] == 0xA2
            self.diagnostic = buf[end - 1]
        elif tag == 0xBE and n > 2 and buf[at] == 0x04:
            n, at = ber_length(buf, at + 1, end)
            if n != end - at:
                raise Malformed("initiate of another length")
            self.data_at, self.data_end = at, end
            if n == 4 and bytes(buf[at : at + 3]) == b"\x0e\x01\x06":  # a confirmedServiceError
                self.detail = buf[at + 3]

    def take_initiate(self, buf, at, end):
        """Read the plain initiate response buf[at:end]. Raises Malformed."""
        if buf[at] != 0x08 or not 13 <= end - at <= 15:  # older meters leave out the 1F, some add a quality of service
            raise Malformed("no initiate response")
        self.conformance = buf[end - 7] << 16 | buf[end - 6] << 8 | buf[end - 5]
        self.max_pdu = buf[end - 4] << 8 | buf[end - 3]

    def verdict(self):
        """In words: "accepted", or how and why it is refused."""
        from metering.dlms.association_words import verdict

        text = verdict(self)
        verdict = None
        unload("metering.dlms.association_words")
        return text
