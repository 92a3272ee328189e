"""A password as it is kept: PBKDF2-HMAC-SHA256 (RFC 8018, 5.2), one block of 32 bytes.

    pbkdf2:1000:<salt, 32 hex digits>:<key, 64 hex digits>

It is computed in slices of a few milliseconds, so that metering goes on. 1,000 iterations are what a chip can do while
somebody waits: a word that stands in a list is found all the same by who has this text and a computer.
"""

import asyncio
import hashlib
import os

from micropython import const

from metering.unload import unload

_SETTINGS_FILE = "settings.json"
_SETTING = "device_password"
_MOST_FILE_BYTES = const(8192)
_NAME = "pbkdf2"
_ITERATIONS = const(1000)
_MOST_ITERATIONS = const(100000)
_SALT_BYTES = const(16)
_KEY_BYTES = const(32)
_BLOCK_BYTES = const(64)  # of SHA-256
_SLICE = const(8)  # iterations between two looks of the others


def is_hash(text):
    """Is `text` a password as it is kept?"""
    return _parts(text) is not None


def _parts(text):
    """(iterations, salt, key) of the text, None where it is none."""
    words = text.split(":")
    if len(words) != 4 or words[0] != _NAME or not words[1].isdigit() or len(words[1]) > 6:
        return None
    try:
        salt, key = bytes.fromhex(words[2]), bytes.fromhex(words[3])
    except ValueError:
        return None
    iterations = int(words[1])
    if len(salt) != _SALT_BYTES or len(key) != _KEY_BYTES or not 0 < iterations <= _MOST_ITERATIONS:
        return None
    return iterations, salt, key


def _digest(first, second):
    digest = hashlib.sha256(first)
    digest.update(second)
    return digest.digest()


async def derive(password, salt, iterations):
    """The key of `password` (str)."""
    secret = password.encode()
    if len(secret) > _BLOCK_BYTES:
        secret = hashlib.sha256(secret).digest()
    secret += bytes(_BLOCK_BYTES - len(secret))
    inner = bytes([byte ^ 0x36 for byte in secret])
    outer = bytes([byte ^ 0x5C for byte in secret])
    block = _digest(outer, _digest(inner, salt + b"\x00\x00\x00\x01"))
    key = int.from_bytes(block, "big")
    for n in range(1, iterations):
        if n % _SLICE == 0:
            await asyncio.sleep_ms(0)
        block = _digest(outer, _digest(inner, block))
        key ^= int.from_bytes(block, "big")
    return key.to_bytes(_KEY_BYTES, "big")


async def is_right(password, kept):
    """Is `password` the one that `kept` (pbkdf2:...) was made of?"""
    parts = _parts(kept)
    if parts is None:
        return False
    iterations, salt, key = parts
    derived = await derive(password, salt, iterations)
    differ = 0  # takes as long whatever they hold
    for i in range(_KEY_BYTES):
        differ |= derived[i] ^ key[i]
    return not differ


def keep(given, kept):
    """Put `kept` in the place of the password `given` in the settings' file."""
    from firmware import store

    try:
        values = store.read_json(_SETTINGS_FILE, _MOST_FILE_BYTES)
    except (OSError, ValueError):
        return
    if isinstance(values, dict) and values.get(_SETTING) == given:
        values[_SETTING] = kept
        store.save(_SETTINGS_FILE, values)
    values = None
    unload("firmware.store")


async def hashed(password):
    """`password` as it is to be kept, with a salt of its own."""
    salt = os.urandom(_SALT_BYTES)
    key = await derive(password, salt, _ITERATIONS)
    return "%s:%d:%s:%s" % (_NAME, _ITERATIONS, salt.hex(), key.hex())
