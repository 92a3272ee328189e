"""Convinces a meter of a password or keys without saying them, and has it convince us (DLMS UA 1000-2, 9.2.2.2, 9.2.7).

    AARQ  our challenge                                AARE  the meter's
    ACTION 15/0.0.40.0.0.255 method 1, or READ of FA58: our proof      its own proof comes back

What proves, to who has made `challenge` (`|` joins):

    HIGH         AES-128-ECB of the challenge, by the password; both filled up with zeros. It is each maker's own; so
                 do Gurux's meters
    HIGH_MD5     MD5(challenge | password); HIGH_SHA1 likewise
    HIGH_SHA256  SHA-256(password | title of who proves | title of the other | challenge | own challenge)
    HIGH_GMAC    10 | counter 4 | tag 12 of 10, authentication key and challenge

Loaded where meter_options or keys ask for it. Ciphering: metering.dlms.own_cipher.
"""

import os

from metering.compat import const
from metering.dlms.association import (
    AARE,
    HIGH,
    HIGH_GMAC,
    HIGH_MD5,
    HIGH_SHA256,
    LN,
    LN_CIPHERED,
    LOW,
    SN,
    SN_CIPHERED,
    Association,
    initiate,
    request,
)
from metering.dlms.axdr import OCTETS, Malformed
from metering.dlms.hdlc_station import ANSWER_LLC
from metering.dlms.security_options import DEDICATED, GENERAL, NOT_ASKED
from metering.dlms.xdlms import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    EXCEPTION,
    NORMAL,
    READ_REQUEST,
    READ_RESPONSE,
    SERVICE_ERROR,
)
from metering.unload import unload

_INVOKE = const(0xC1)
_DATA = const(1)
_VALUE = const(2)
_LEAST_CHALLENGE = const(8)
_MOST_CHALLENGE = const(64)
_OVERHEAD = const(32)  # of a ciphered answer: tag, length, title, control, counter, tag
_AES_BYTES = const(16)
COUNTER_REFUSED = const(6)  # of an exception, as metering.dlms.own_cipher has it
_REQUIRED = const(14)  # diagnostic of an association that waits for the proof
_PROVE = b"\x00\x0f\x00\x00\x28\x00\x00\xff\x01\x01\x09"
_PROVE_BY_NAME = b"\x04\xfa\x58\x00\x09"  # method 8 of Association SN
_MAX_PROOF = const(96)  # a signature by P-384


def prove(invoke, proof):
    """The ACTION that answers the meter's challenge: the only one there is. ValueError."""
    return bytes((ACTION_REQUEST, NORMAL, invoke)) + _PROVE + _sized(proof)


def prove_by_name(proof):
    """The same by short names: a READ with the proof as its parameter. ValueError."""
    return bytes((READ_REQUEST, 1)) + _PROVE_BY_NAME + _sized(proof)


def _sized(proof):
    if len(proof) > _MAX_PROOF:
        raise ValueError("a proof has %d bytes at the most" % _MAX_PROOF)
    return bytes((len(proof),)) + proof


class Unconvinced(Exception):
    """The meter cannot be believed, or not be asked: the text, which a board keeps, says why."""


class _Answer(Association):
    """`challenge` too."""

    def clear(self):
        Association.clear(self)
        self.challenge = b""

    def _take(self, buf, tag, at, end):
        if tag == 0xAA and end - at > 2 and buf[at] == 0x80 and buf[at + 1] == end - at - 2:
            self.challenge = bytes(buf[at + 2 : end])
        Association._take(self, buf, tag, at, end)


class High:
    """One meter's. `detail` says why it has failed; `wants_counter`: it should be asked first for the counter.

    HighEcdsa and suites 1 and 2: metering.on_computer.signed_suites.
    """

    CHALLENGE_BYTES = 16
    SESSION_KEY_BYTES = 16

    def __init__(self, link, context, max_apdu, options, cipher):
        """`options` SecurityOptions, `cipher` an OwnCipher or None."""
        self._link = link
        self._context = context
        self._max_apdu = max_apdu
        self._mechanism = options.mechanism
        self._secret = options.secret
        self._title = options.title
        self._is_ciphered = options.policy > 0
        self._services = options.services
        self._counter_object = options.counter_object
        self._cipher = cipher
        self._own = b""  # challenge
        self.wants_counter = bool(cipher) and context == LN and options.counter_object != NOT_ASKED
        self.detail = ""

    def learn_counter(self, getter):
        """Generator of line actions: the public client asks for the counter that the meter has heard last; what goes
        wrong is left. The link is down before and behind it."""
        link = self._link
        self.wants_counter = False
        own, link.client, cipher, link.cipher = link.client, link.PUBLIC, link.cipher, None
        try:
            if (yield from link.connect()) and (yield from link.request(request(LN))):
                answer = Association()
                try:
                    answer.take(link.apdu, len(ANSWER_LLC), link.n)
                except Malformed:
                    answer.result = 1
                if not answer.result and not answer.diagnostic:
                    name = bytes((0, 0, 43, 1, self._counter_object, 255))
                    if (yield from getter.get(_DATA, name, _VALUE)) == 0:
                        self._cipher.raise_counter((getter.number() or 0) + 1)
            yield from link.disconnect()
        finally:
            link.client = own
            link.cipher = cipher

    def associate(self):
        """Generator of line actions: "" where both are convinced, else the reason; None: the link is lost."""
        message = self._request()
        outcome = None
        if message and (yield from self._link.request(message)):
            outcome = yield from self._finish()
        cipher = self._cipher
        if cipher and outcome == "":
            cipher.end_proof()
        if outcome is None and cipher and cipher.refusal:
            refusal, cipher.refusal = cipher.refusal, 0
            if refusal != COUNTER_REFUSED:
                return self._refused(self._link.why)
            cipher.raise_counter(cipher.highest + 1)
            self.wants_counter = self._context == LN and self._counter_object != NOT_ASKED
        return outcome

    def _request(self):
        """The AARQ; b"" where there is no counter for it, and the link is told."""
        mechanism, context = self._mechanism, self._context
        self._own = os.urandom(self.CHALLENGE_BYTES)
        cipher = self._cipher
        dedicated = os.urandom(self.SESSION_KEY_BYTES) if self._services == DEDICATED else b""
        if cipher:
            cipher.begin(dedicated)
        size = self._max_apdu - _OVERHEAD if self._is_ciphered else self._max_apdu
        wanted = initiate(context, mechanism, size, dedicated, self._services == GENERAL)
        if self._is_ciphered:
            context = LN_CIPHERED if context == LN else SN_CIPHERED
            try:
                wanted = cipher.initiate(wanted)
            except Unconvinced as error:
                self._link.why = str(error)
                return b""
        has_title = cipher or mechanism >= HIGH_SHA256
        secret = self._own if mechanism > LOW else self._secret
        secret = secret if mechanism else b""
        return request(context, mechanism, secret, size, self._title if has_title else b"", wanted)

    def _finish(self):
        """The same, with the answer to the request in the link."""
        link, at = self._link, len(ANSWER_LLC)
        answer = _Answer()
        try:
            if link.apdu[at] in (EXCEPTION, SERVICE_ERROR):
                return self._refused("by an exception")
            if link.apdu[at] != AARE:
                raise Unconvinced("no answer to the association")
            answer.take(link.apdu, at, link.n)
            if answer.result:
                return self._refused(answer.verdict())
            title = answer.title or b""
            if self._cipher:
                self._cipher.meter_title = title
            if answer.data_at:
                at, end = answer.data_at, answer.data_end
                if self._is_ciphered:
                    at, end = self._cipher.open_initiate(link.apdu, at, end)
                answer.take_initiate(link.apdu, at, end)
            elif self._is_ciphered:
                raise Unconvinced("it does not say what it grants")
            if self._mechanism <= LOW:
                return "" if answer.diagnostic != _REQUIRED else self._refused(answer.verdict())
            if answer.mechanism != self._mechanism:
                return self._refused("it wants mechanism %d" % answer.mechanism)
            if not _LEAST_CHALLENGE <= len(answer.challenge) <= _MOST_CHALLENGE or answer.challenge == self._own:
                raise Unconvinced("its challenge is none")
            return (yield from self._prove(answer.challenge, title))
        except Unconvinced as error:
            return self._refused(str(error))
        except Malformed:
            return self._refused("its answer is damaged")

    def _refused(self, detail):
        self.detail = detail
        return "password refused"

    def _prove(self, challenge, title):
        link, at = self._link, len(ANSWER_LLC)
        if self._mechanism == HIGH_GMAC:
            try:
                proof = self._cipher.proof(challenge)
            except Unconvinced as error:
                link.why = str(error)
                return None
        else:
            proof = self._proof(challenge, self._own, self._title, title)
        message = prove(_INVOKE, proof) if self._context == LN else prove_by_name(proof)
        if not (yield from link.request(message)):
            return None
        buf, end = link.apdu, link.n
        if buf[at] in (EXCEPTION, SERVICE_ERROR):
            return self._refused("by an exception")
        if buf[at] == ACTION_RESPONSE and self._context == LN and end - at > 3:
            result = buf[at + 3]
            at += 4
        elif buf[at] == READ_RESPONSE and self._context == SN and end - at > 3:
            result = buf[at + 3] if buf[at + 2] else 0
            at += 1
        else:
            raise Unconvinced("its answer is of another service")
        if result:
            from metering.dlms.result_words import result_text

            detail = "our proof: " + result_text(result)
            result_text = None
            unload("metering.dlms.result_words")
            return self._refused(detail)
        # 01 | 00 | octets
        if end - at < 4 or buf[at] != 1 or buf[at + 1] or buf[at + 2] != OCTETS or buf[at + 3] != end - at - 4:
            raise Unconvinced("it brings no proof of its own")
        theirs = bytes(buf[at + 4 : end])
        return "" if self._holds(theirs, challenge, title) else self._refused("its own proof does not hold")

    def _holds(self, theirs, challenge, title):
        """Is this the proof of who has the `title` and has made `challenge`?"""
        if self._mechanism == HIGH_GMAC:
            return self._cipher.holds(theirs, self._own)
        return theirs == self._proof(self._own, challenge, title, self._title)

    def _proof(self, challenge, other, title, others_title):
        """What proves the password to who has made `challenge`."""
        mechanism, secret = self._mechanism, self._secret
        if mechanism == HIGH:
            from metering.dlms.aes import cipher

            n = -(-len(challenge) // _AES_BYTES) * _AES_BYTES
            data = bytearray(challenge + bytes(n - len(challenge)))
            cipher(secret + bytes(_AES_BYTES - len(secret))).encrypt_blocks(data, data)
            return bytes(data)
        import hashlib

        if mechanism == HIGH_SHA256:
            return hashlib.sha256(secret + title + others_title + challenge + other).digest()
        make = hashlib.md5 if mechanism == HIGH_MD5 else hashlib.sha1
        return make(challenge + secret).digest()
