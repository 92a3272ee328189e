"""AES-128 of single blocks: the one primitive of DLMS security that is not ours.

A board has it as cryptolib.aes (C, or the ESP32's AES unit). Its firmware as it is distributed has ECB and CBC, not the
counter mode, so metering.dlms.gcm makes that mode from ECB. On a computer the primitive is that of `cryptography`.
"""

try:
    from cryptolib import aes
except ImportError:  # CPython
    aes = None

KEY_BYTES = 16
BLOCK_BYTES = 16
_ECB = 1  # cryptolib.MODE_ECB, which boards do not name


class _OfBoard:
    def __init__(self, key, make):
        self._encrypt = make(key, _ECB).encrypt

    def encrypt_blocks(self, buf, out):
        self._encrypt(buf, out)


class _OfComputer:
    def __init__(self, key):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._encrypt = Cipher(algorithms.AES(bytes(key)), modes.ECB()).encryptor().update

    def encrypt_blocks(self, buf, out):
        out[: len(buf)] = self._encrypt(buf)


def cipher(key):
    """An object whose encrypt_blocks(buf, out) encrypts each 16 bytes of `buf`, a multiple of 16, by `key` into `out`.

    `out` is a bytearray at least as long; it may be `buf`. Allocates nothing on MicroPython. ValueError unless the key
    (bytes) has 16 bytes: the longer keys of AES are not what this project's meters use.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("an AES-128 key has 16 bytes")
    return _OfBoard(key, aes) if aes else _OfComputer(key)
