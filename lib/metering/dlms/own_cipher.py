"""Ciphers what we ask and deciphers what is answered (DLMS UA 1000-2, 9.2.7.2; 9.5 for the tags).

    C8 CB 25 | length | SC | counter 4 | text [tag 12]      glo: GET, ACTION, READ; CC CF 2C answer
    D0 D3 45 | ..                                           ded: the same by a key of this session alone; D4 D7 4C
    DB DC | 08 title 8 | length | ..                        general-glo, general-ded: whatever stands inside
    the proof of High goes by glo in any case, as Gurux's meters and clients have it; then comes ded
    21, 28 in the association: what is asked for and what is given

No counter is used twice: they are reserved before the first of them is used, and those left over are lost with the
power. A metering link calls seal() and open().
"""

from metering.compat import const
from metering.dlms.association import AARE, AARQ
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.gcm import TAG_BYTES, Gcm
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.high import Unconvinced
from metering.dlms.security_options import AUTHENTICATED, ENCRYPTED, GENERAL
from metering.dlms.xdlms import ACTION_REQUEST, EXCEPTION, GET_REQUEST, READ_REQUEST, SERVICE_ERROR

_ASKED = bytes((GET_REQUEST, ACTION_REQUEST, READ_REQUEST))  # what alone is ciphered
_ASKED_GLO = b"\xc8\xcb\x25"
_ASKED_DED = b"\xd0\xd3\x45"
_ANSWERED_GLO = b"\xcc\xcf\x2c\x2e"
_ANSWERED_DED = b"\xd4\xd7\x4c\x4e"
_INITIATE = const(0x21)
_INITIATED = const(0x28)
_GENERAL_GLO = const(0xDB)
_GENERAL_DED = const(0xDC)
_HEAD = const(5)  # SC and counter
_TITLE = const(8)
_LAST_COUNTER = const(0xFFFFFFFF)
_UNDECIPHERED = const(5)  # service errors of an exception
COUNTER_REFUSED = const(6)


class OwnCipher:
    """`meter_title` is the meter's as it has said it; `is_dedicated`: the session's own key is in use. `refusal`: the
    error of an exception that speaks of ciphering, 0 for none; `highest`: the counter it tells.
    `reserve(least)` gives the first of `step` counters that are nobody's, from `least` on; 0: none to be had.
    """

    def __init__(self, options, key, auth_key, reserve, step):
        self._title = options.title
        self._policy = options.policy
        self._control = options.policy | options.suite
        self._proves = bytes((AUTHENTICATED | options.suite,))
        self._services = options.services
        self._auth_key = auth_key or b""
        self._gcm = Gcm(key, bool(auth_key))
        self._session_gcm = None
        self.is_dedicated = False
        self._reserve = reserve
        self._step = step
        self._next = self._end = 0
        self._heard = -1  # the meter's last counter
        self.meter_title = b""
        self.highest = self.refusal = 0

    def raise_counter(self, least):
        """No counter below `least` is used from now on."""
        if least > self._next:
            self._next = self._end = least

    def counter(self):
        """Four bytes that are never used again. Raises Unconvinced where there are none to be had."""
        if self._next == self._end:
            self._next = self._reserve(self._next)
            self._end = self._next + self._step
        if not 0 < self._next <= _LAST_COUNTER:
            self._next = self._end = 0
            raise Unconvinced("no invocation counter is to be had: they cannot be written, or all are used")
        self._next += 1
        return (self._next - 1).to_bytes(4, "big")

    def begin(self, dedicated):
        """A session begins, by a key of its own where `dedicated` holds one."""
        self.meter_title = b""
        self.is_dedicated = False
        self._session_gcm = Gcm(dedicated, bool(self._auth_key)) if dedicated else None

    def end_proof(self):
        """Both are convinced: from now on by the key of this session, where there is one."""
        self.is_dedicated = self._session_gcm is not None

    # -- proofs

    def proof(self, challenge):
        """Our proof by GMAC: 10, a counter, a tag."""
        counter = self.counter()
        return self._proves + counter + self._tag(self._title, counter, challenge)

    def holds(self, proof, challenge):
        """Is this the meter's proof of the keys?"""
        if len(proof) != 1 + 4 + TAG_BYTES or proof[:1] != self._proves or len(self.meter_title) != _TITLE:
            return False
        aad = self._proves + self._auth_key + challenge
        return self._gcm.tag_holds(b"", 0, 0, self.meter_title, proof[1:_HEAD], aad, proof[_HEAD:])

    def _tag(self, title, counter, challenge):
        aad = self._proves + self._auth_key + challenge
        return self._gcm.make_tag(b"", 0, 0, title, counter, aad)[:TAG_BYTES]

    # -- what is said

    def initiate(self, plain):
        """The initiate request ciphered."""
        return self._sealed(bytes((_INITIATE,)), plain, self._gcm)

    def seal(self, apdu, link):
        """`apdu` as sent; b"" where there is no counter for it, which `link` is told. KeyError unless it reads."""
        if apdu[0] == AARQ or not self._policy:
            return apdu
        at = _ASKED.find(apdu[:1])
        if at < 0:
            raise KeyError("this service is never asked for")
        head = (_ASKED_DED if self.is_dedicated else _ASKED_GLO)[at : at + 1]
        if self._services == GENERAL:
            head = bytes((_GENERAL_GLO, _TITLE)) + self._title
        try:
            return self._sealed(head, apdu, self._session_gcm if self.is_dedicated else self._gcm)
        except Unconvinced as error:
            link.why = str(error)
            return b""

    def _sealed(self, head, plain, gcm):
        counter = self.counter()
        policy = self._policy
        text = bytearray(plain)
        n = len(text)
        tag = b""
        if policy & ENCRYPTED:
            gcm.decrypt(text, 0, n, self._title, counter)
        if policy & AUTHENTICATED:
            aad = bytes((self._control,)) + self._auth_key
            if not policy & ENCRYPTED:
                aad += plain
                n = 0
            tag = gcm.make_tag(text, 0, n, self._title, counter, aad)[:TAG_BYTES]
        n = _HEAD + len(text) + len(tag)
        length = bytes((n,)) if n < 0x80 else bytes((0x81, n))
        return head + length + bytes((self._control,)) + counter + bytes(text) + tag

    # -- what is answered

    def open(self, link):
        """Decipher the answer in `link` in its place; False where it cannot be believed, and link.why says why."""
        buf, at = link.apdu, len(ANSWER_LLC)
        tag = buf[at]
        if tag == EXCEPTION and link.n > at + 2 and buf[at + 2] in (_UNDECIPHERED, COUNTER_REFUSED):
            link.why = self._refusal(buf, at, link.n)
            return False
        if tag in (AARE, EXCEPTION, SERVICE_ERROR) or not self._policy:
            return True
        try:
            begun = at + 1
            if tag in (_GENERAL_GLO, _GENERAL_DED):
                if link.n - begun <= _TITLE or buf[begun] != _TITLE:
                    raise Unconvinced("its answer has no system title")
                if buf[begun + 1 : begun + 1 + _TITLE] != self.meter_title:
                    raise Unconvinced("its answer has another system title")
                begun += 1 + _TITLE
            elif tag not in (_ANSWERED_DED if self.is_dedicated else _ANSWERED_GLO):
                raise Unconvinced("it answers in the clear, or by another key")
            is_global = tag == _GENERAL_GLO or not self.is_dedicated
            at, end = self._opened(buf, begun, link.n, self._gcm if is_global else self._session_gcm)
        except (Malformed, Unconvinced) as error:
            link.why = str(error) or "its ciphered answer is damaged"
            return False
        first = len(ANSWER_LLC)
        for i in range(end - at):
            buf[first + i] = buf[at + i]
        link.n = first + end - at
        return True

    def _refusal(self, buf, at, end):
        self.refusal = buf[at + 2]
        if self.refusal != COUNTER_REFUSED:
            return "it cannot decipher what it is asked: meter_key or meter_auth_key is wrong"
        if end - at >= 7:
            self.highest = int.from_bytes(bytes(buf[at + 3 : at + 7]), "big")
        return "it refuses our invocation counter, as it has seen a higher one"

    def open_initiate(self, buf, at, end):
        """(where the plain initiate response begins, where it ends), in place. Raises Malformed, Unconvinced."""
        if buf[at] != _INITIATED:
            raise Unconvinced("what it grants is not ciphered")
        return self._opened(buf, at + 1, end, self._gcm)

    def _opened(self, buf, at, end, gcm):
        title = self.meter_title
        n, at = ber_length(buf, at, end)
        if n != end - at or n <= _HEAD + (TAG_BYTES if self._policy & AUTHENTICATED else 0) or len(title) != _TITLE:
            raise Unconvinced("its ciphered answer has another length, or no system title")
        control = buf[at]
        if control != self._control:
            raise Unconvinced("its answer is ciphered in another way (0x%02X) than asked" % control)
        counter = bytes(buf[at + 1 : at + _HEAD])
        at += _HEAD
        if control & AUTHENTICATED:
            end -= TAG_BYTES
            aad = bytes((control,)) + self._auth_key
            n = end - at
            if not control & ENCRYPTED:
                aad += bytes(buf[at:end])
                n = 0
            if not gcm.tag_holds(buf, at, n, title, counter, aad, bytes(buf[end : end + TAG_BYTES])):
                raise Unconvinced("its answer's tag does not hold: meter_key or meter_auth_key is wrong")
        number = int.from_bytes(counter, "big")
        if number <= self._heard:
            raise Unconvinced("its invocation counter falls: a replay?")
        if control & AUTHENTICATED:
            self._heard = number
        if control & ENCRYPTED:
            gcm.decrypt(buf, at, end - at, title, counter)
        return at, end
