"""Takes the ciphering off an M-Bus answer: modes 5 and 7 (EN 13757-7:2018, 7), by AES-128-CBC and the meter's key.

    mode 5    IV: maker 2, number 4, version, medium, eight times the access number
    mode 7    IV: zeros; key: the CMAC by the meter's key of 00, message counter 4, number 4, seven times 07

Mode 7's counter stands in a layer of its own before the header (the AFL, clause 6):

    90 | length | fragments 2 | MCL | [key information 2] | [message counter 4] | [MAC] | [message length 2]

Its MAC is the CMAC of MCL, counter, length and all behind the layer, by a key that is made likewise from 01. What is
deciphered begins with 2F 2F, and so tells a wrong key in 65,535 cases of 65,536. Loaded with a key.
"""

from metering.compat import const

try:
    from cryptolib import aes
except ImportError:  # CPython
    aes = None

_BLOCK = const(16)
_ECB = const(1)
_CBC = const(2)
_MODE_5 = const(5)
_MODE_7 = const(7)
_KEY_MADE = const(0x30)  # bits of mode 7's third byte: how the key is made
_BY_COUNTER = const(0x10)
_PROOF = b"\x2f\x2f"

_MORE = const(0x40)  # bits of the layer's second fragment byte: another fragment follows,
_HAS_CONTROL = const(0x20)
_HAS_LENGTH = const(0x10)
_HAS_COUNTER = const(0x08)
_HAS_MAC = const(0x04)
_HAS_KEY = const(0x02)
_MAC_BYTES = b"\0\0\0\x02\x04\x08\x0c\x10"  # by the kind of authentication: CMAC cut to so many

_TO_ENCRYPT = b"\0"
_TO_PROVE = b"\1"


def _encrypted_block(key, block):
    if aes:
        return aes(key, _ECB).encrypt(block)
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def _decrypted(key, iv, data):
    if aes:
        return aes(key, _CBC, iv).decrypt(data)
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(data)


def _doubled(number):
    number <<= 1
    return number ^ (1 << 128 | 0x87) if number >> 128 else number


def cmac(key, data):
    """AES-CMAC (RFC 4493) of `data`, 16 bytes."""
    mask = _doubled(int.from_bytes(_encrypted_block(key, bytes(_BLOCK)), "big"))
    whole = max(0, len(data) - 1) // _BLOCK * _BLOCK  # what stands before the last block
    last = data[whole:]
    if len(last) < _BLOCK:
        last = last + b"\x80" + bytes(_BLOCK - 1 - len(last))
        mask = _doubled(mask)
    state = bytes(_BLOCK)
    for at in range(0, whole + _BLOCK, _BLOCK):
        block = int.from_bytes(data[at : at + _BLOCK], "big") if at < whole else int.from_bytes(last, "big") ^ mask
        state = _encrypted_block(key, (block ^ int.from_bytes(state, "big")).to_bytes(_BLOCK, "big"))
    return state


class AnswerCipher:
    """Deciphers answers by one meter's `key`, 16 bytes."""

    def __init__(self, key):
        self._key = key
        self.forget_layer()

    def forget_layer(self):
        """A new answer begins."""
        self._counter = self._mac = self._proven = b""  # of mode 7's layer; what the MAC is of, before the header

    def read_layer(self, buf, at, end):
        """Take the layer whose 90 is buf[at]; returns where the header's CI is, 0 where it does not fit."""
        if end - at < 4:
            return 0
        behind = at + 2 + buf[at + 1]
        flags = buf[at + 3]
        if behind >= end or flags & _MORE or not flags & _HAS_CONTROL:
            return 0
        control = buf[at + 4]
        at += 5
        if flags & _HAS_KEY:
            at += 2
        if flags & _HAS_COUNTER:
            self._counter = bytes(buf[at : at + 4])
            at += 4
        self._proven = bytes((control,)) + self._counter
        if flags & _HAS_MAC:
            kind = control & 0x0F
            n = _MAC_BYTES[kind] if kind < len(_MAC_BYTES) else 0
            if not n:
                return 0
            self._mac = bytes(buf[at : at + n])
            at += n
        if flags & _HAS_LENGTH:
            self._proven += bytes(buf[at : at + 2])
            at += 2
        return behind if at == behind else 0

    def open(self, buf, ci_at, at, end):
        """Decipher in place what follows the long header whose CI is buf[ci_at], behind its configuration, buf[at:end].

        Returns (where the records begin, ""), or (0, the reason why not).
        """
        mode = buf[at - 1] & 0x1F
        n = (buf[at - 2] >> 4) * _BLOCK
        number = bytes(buf[ci_at + 1 : ci_at + 5])
        if mode == _MODE_5:
            key = self._key
            iv = bytes(buf[ci_at + 5 : ci_at + 7]) + number + bytes(buf[ci_at + 7 : ci_at + 9])
            iv += bytes((buf[ci_at + 9],)) * 8
        elif mode == _MODE_7 and self._counter and at < end and buf[at] & _KEY_MADE == _BY_COUNTER:
            at += 1  # the configuration's third byte
            rest = self._counter + number + b"\7" * 7
            if self._mac:
                proof = cmac(cmac(self._key, _TO_PROVE + rest), self._proven + bytes(buf[ci_at:end]))
                if proof[: len(self._mac)] != self._mac:
                    return 0, "key wrong"
            key = cmac(self._key, _TO_ENCRYPT + rest)
            iv = bytes(_BLOCK)
        else:
            return 0, "encrypted"
        if not n or at + n > end:
            return 0, "structure"
        plain = _decrypted(key, iv, bytes(buf[at : at + n]))
        if plain[:2] != _PROOF:
            return 0, "key wrong"
        buf[at : at + n] = plain
        return at, ""
