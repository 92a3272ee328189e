"""What a simulated DLMS meter wants to be convinced of, and how it ciphers: by `cryptography` and hashlib, not by ours.

Source: DLMS UA 1000-2 (Green Book), 9.2.2.2.2 and 9.2.7.2.
"""

from __future__ import annotations

import hashlib
import random
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import dlms_encoder as enc

HIGH, MD5, SHA1, GMAC, SHA256, ECDSA = 2, 3, 4, 5, 6, 7
_GLO = {0xC8: 0xCC, 0xCB: 0xCF, 0x25: 0x2C}
_DED = {0xD0: 0xD4, 0xD3: 0xD7, 0x45: 0x4C}
_UNDECIPHERED, _COUNTER_REFUSED = b"\xd8\x01\x05", b"\xd8\x01\x06"
_PROVE = b"\x01\x00\x0f\x00\x00\x28\x00\x00\xff\x01\x01\x09"
_PROVE_BY_NAME = b"\x05\x01\x04\xfa\x58\x00\x09"


class Demands(NamedTuple):
    """`policy`: the control byte of all that is said, without the suite; 0 in the clear. `signs` the meter's key and
    `signed_by` the client's, both of one curve.
    """

    mechanism: int
    password: bytes = b""
    key: bytes = b""
    auth_key: bytes = b""
    policy: int = 0
    title: bytes = b"OPT\x00\x00\x00\x10\x07"
    counter: int = 4000  # the client's that it has heard last
    suite: int = 0
    signs: ec.EllipticCurvePrivateKey | None = None
    signed_by: ec.EllipticCurvePublicKey | None = None


class MeterSecurity:
    """Of one meter. `wrong` counts proofs and keys refused, `heard_counters` holds every counter that came with a tag
    or ciphered, in order; `asked` the plain APDUs.
    """

    def __init__(self, demands: Demands, seed: int = 1) -> None:
        self.demands = demands
        self.highest = demands.counter  # of the client's counters
        self.wrong = 0
        self.heard_counters: list[int] = []
        self.client_title = b""
        self._draw = random.Random(seed)
        self._own_counter = 100
        self._answers_by = 0, b""
        self._theirs = self._ours = b""  # challenges
        self._dedicated = b""
        self.waits_for_proof = False

    # --- the association ---

    def initiate(self, data: bytes) -> bytes | None:
        """The plain initiate request of what stands in an AARQ; None: not to be deciphered."""
        plain: bytes | None = data
        if data[:1] == b"\x21":
            plain = self._opened(data[2:], self.demands.key)
        elif self.demands.policy:
            plain = None
        self._dedicated = plain[3 : 3 + plain[2]] if plain and plain[1] else b""
        return plain

    def challenge(self, theirs: bytes) -> bytes:
        self._theirs = theirs
        self._ours = self._draw.randbytes(16)
        self.waits_for_proof = True
        return self._ours

    def granted(self, initiate: bytes) -> bytes:
        return self._sealed(b"\x28", initiate, self.demands.key) if self.demands.policy else initiate

    def proven(self, apdu: bytes) -> bytes:
        """The answer to the APDU that should prove it."""
        by_name = apdu.startswith(_PROVE_BY_NAME)
        if not by_name and (apdu[:1] != b"\xc3" or apdu[3:14] != _PROVE[1:]):
            return b"\xd8\x01\x02"
        proof = apdu[8:] if by_name else apdu[15:]
        if not self._is_proof(proof):
            self.wrong += 1
            return b"\x0c\x01\x01\x03" if by_name else b"\xc7\x01" + apdu[2:3] + b"\x03\x00"
        self.waits_for_proof = False
        own = self._proof(self._theirs, self._ours, self.demands.title, self.client_title, b"")
        if by_name:
            return b"\x0c\x01\x00" + enc.octets(own)
        return b"\xc7\x01" + apdu[2:3] + b"\x00\x01\x00" + enc.octets(own)

    def _is_proof(self, proof: bytes) -> bool:
        """Of the client's."""
        demands, by, to = self.demands, self.client_title, self.demands.title
        if demands.mechanism != ECDSA:
            return proof == self._proof(self._ours, self._theirs, by, to, proof)
        assert demands.signed_by is not None
        n = len(proof) // 2
        pair = int.from_bytes(proof[:n], "big"), int.from_bytes(proof[n:], "big")
        try:
            signed = by + to + self._ours + self._theirs
            demands.signed_by.verify(utils.encode_dss_signature(*pair), signed, _ecdsa(demands.signed_by.curve))
        except InvalidSignature:
            return False
        return n == (demands.signed_by.curve.key_size + 7) // 8

    def _proof(self, challenge: bytes, other: bytes, by: bytes, to: bytes, heard: bytes) -> bytes:
        """`heard`: what is to be compared, b"" of the meter's own."""
        demands, password = self.demands, self.demands.password
        if demands.mechanism == HIGH:
            encryptor = Cipher(algorithms.AES(password.ljust(16, b"\0")), modes.ECB()).encryptor()
            return encryptor.update(challenge.ljust(-(-len(challenge) // 16) * 16, b"\0"))
        if demands.mechanism == MD5:
            return hashlib.md5(challenge + password, usedforsecurity=False).digest()
        if demands.mechanism == SHA1:
            return hashlib.sha1(challenge + password, usedforsecurity=False).digest()
        if demands.mechanism == SHA256:
            return hashlib.sha256(password + by + to + challenge + other).digest()
        if demands.mechanism == ECDSA:
            assert demands.signs is not None
            signature = demands.signs.sign(by + to + challenge + other, _ecdsa(demands.signs.curve))
            n = (demands.signs.curve.key_size + 7) // 8
            return b"".join(part.to_bytes(n, "big") for part in utils.decode_dss_signature(signature))
        if heard and not self._admits_proof(heard[1:5]):
            return b""
        counter = heard[1:5] if heard else self._next_counter()
        head = bytes((0x10 | demands.suite,))
        aad = head + demands.auth_key + challenge
        return head + counter + AESGCM(demands.key).encrypt(by + counter, b"", aad)[:12]

    def _admits_proof(self, counter: bytes) -> bool:
        """A proof is made before the service that carries it is ciphered: its counter is the lower one."""
        number = int.from_bytes(counter, "big")
        before = self.heard_counters[:-1] if self.demands.policy else self.heard_counters
        is_new = number > max(before, default=self.demands.counter) and number not in self.heard_counters
        self.heard_counters.append(number)
        self.highest = max(self.highest, number)
        return is_new

    def _next_counter(self) -> bytes:
        self._own_counter += 1
        return self._own_counter.to_bytes(4, "big")

    def _admits(self, counter: bytes) -> bool:
        number = int.from_bytes(counter, "big")
        self.heard_counters.append(number)
        if number <= self.highest:
            return False
        self.highest = number
        return True

    # --- services ---

    def opened(self, apdu: bytes) -> tuple[bytes, bytes]:
        """(the plain APDU, b"") or (b"", the exception that is answered)."""
        if not self.demands.policy:
            return apdu, b""
        tag, rest, key = apdu[0], apdu[1:], self.demands.key
        if tag in (0xDB, 0xDC):
            if rest[1:9] != self.client_title:
                return b"", _UNDECIPHERED
            rest = rest[9:]
        elif tag not in _GLO and tag not in _DED:
            return b"", b"\xd8\x01\x02"
        if tag == 0xDC or tag in _DED:
            key = self._dedicated
        if len(rest) < 6 or not key or self.waits_for_proof and tag not in (*_GLO, 0xDB):
            return b"", _UNDECIPHERED
        if int.from_bytes(rest[2:6], "big") <= self.highest:
            return b"", _COUNTER_REFUSED + self.highest.to_bytes(4, "big")
        self._answers_by = tag, key
        plain = self._opened(rest[1:] if rest[0] < 0x80 else rest[2:], key)
        return (plain, b"") if plain else (b"", _UNDECIPHERED)

    def sealed(self, apdu: bytes) -> bytes:
        if not self.demands.policy or apdu[0] in (0xD8, 0x61, 0x63):
            return apdu
        tag, key = self._answers_by
        if tag == 0xDB:
            head = b"\xdb\x08" + self.demands.title
        else:
            head = bytes(((_GLO | _DED)[tag],))
        return self._sealed(head, apdu, key)

    def _opened(self, data: bytes, key: bytes) -> bytes | None:
        control, counter, text = data[0], data[1:5], data[5:]
        if control != self.demands.policy | self.demands.suite or not self._admits(counter):
            return None
        nonce, aad = self.client_title + counter, bytes((control,)) + self.demands.auth_key
        gcm = AESGCM(key)
        if not control & 0x20:
            is_good = gcm.encrypt(nonce, b"", aad + text[:-12])[:12] == text[-12:]
            return text[:-12] if is_good else None
        n = len(text) - (12 if control & 0x10 else 0)
        plain = gcm.encrypt(nonce, text[:n], None)[:n]
        if control & 0x10 and gcm.encrypt(nonce, plain, aad)[n : n + 12] != text[n:]:
            self.wrong += 1
            return None
        return plain

    def _sealed(self, head: bytes, plain: bytes, key: bytes) -> bytes:
        control, counter = self.demands.policy | self.demands.suite, self._next_counter()
        nonce, aad = self.demands.title + counter, bytes((control,)) + self.demands.auth_key
        gcm = AESGCM(key)
        if not control & 0x20:
            text = plain + gcm.encrypt(nonce, b"", aad + plain)[:12]
        else:
            text = gcm.encrypt(nonce, plain, aad)[: len(plain) + (12 if control & 0x10 else 0)]
        return head + enc.ber_length(len(text) + 5) + bytes((control,)) + counter + text


def _ecdsa(curve: ec.EllipticCurve) -> ec.ECDSA:
    return ec.ECDSA(hashes.SHA256() if curve.key_size == 256 else hashes.SHA384())
