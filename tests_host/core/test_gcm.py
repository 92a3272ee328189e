"""metering.dlms.aes and metering.dlms.gcm against published vectors and `cryptography`'s own AES-GCM, on both Pythons.

GHASH is made in two ways, for boards and for computers; here every check runs the board's way on CPython too.
"""

import os
import random
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.core_on_micropython import SCRIPTS

from metering.dlms import aes, gcm
from metering.dlms.gcm import Gcm
from optoprobe.environment import runtime

SCRIPT = SCRIPTS / "gcm_vectors.py"

# key, nonce, AAD, plaintext, ciphertext, tag
GREEN_BOOK = (
    "000102030405060708090a0b0c0d0e0f",
    "4d4d4d0000bc614e01234567",
    "30d0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
    "c0010000080000010000ff0200",
    "411312ff935a47566827c467bc",
    "7d825c3be4a77c3fcc056b6b",
)
P3 = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
C3 = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
)
K3, N3 = "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888"
VECTORS = [
    GREEN_BOOK,
    # The GCM proposal to NIST, test cases 1 to 4
    ("00" * 16, "00" * 12, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
    ("00" * 16, "00" * 12, "", "00" * 16, "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"),
    (K3, N3, "", P3, C3, "4d5c2af327cd64a62cf35abd2ba6fab4"),
    (K3, N3, "feedfacedeadbeef" * 2 + "abaddad2", P3[:-8], C3[:-8], "5bc94fbc3221a5db94fae95ae7121a47"),
    # NIST CAVP gcmEncryptExtIV128, the first of three sections
    (
        "cf063a34d4a9a76c2c86787d3f96db71",
        "113b9785971864c83b01c787",
        "",
        "",
        "",
        "72ac8493e3a5228b5d130a69d2510e42",
    ),
    (
        "77be63708971c4e240d1cb79e8d77feb",
        "e0e00f19fed7ba0136a797f3",
        "7a43ec1d9c0a5a78a0b16533a6213cab",
        "",
        "",
        "209fcc8d3675ed938e9c7166709dd946",
    ),
    (
        "7fddb57453c241d03efbed3ac44e371c",
        "ee283a3fc75575e33efd4887",
        "",
        "d5de42b461646c255c87bd2962d3b9a2",
        "2ccda4a5415cb91e135c2a0f78c9b2fd",
        "b36d1df9b9d5e596f83e8b7f52971cb3",
    ),
]

# Measured on the 32-bit unix port 1.25 from .mpy, and 15 % to spare.
OBJECT_BYTES = 992
TABLES_BYTES = 1_500


@pytest.fixture(params=["computer", "board"])
def way(request, monkeypatch):
    """Both ways of GHASH and of mixing in the key stream; compat.copy_bytes has its own tests."""
    monkeypatch.setattr(gcm, "SLICES_ARE_CHEAP", request.param == "computer")
    return request.param


def random_vectors(seed: int, count: int, longest: int = 600):
    """(key, nonce, AAD, plaintext, ciphertext, tag of 16) by `cryptography`; a key serves some messages."""
    rng = random.Random(seed)
    key = rng.randbytes(16)
    for n in range(count):
        if n % 25 == 0:
            key = rng.randbytes(16)
        nonce, aad = rng.randbytes(12), rng.randbytes(rng.choice((0, 1, 15, 16, 17, rng.randrange(80))))
        plain = rng.randbytes(rng.randrange(longest + 1))
        sent = AESGCM(key).encrypt(nonce, plain, aad)
        yield key, nonce, aad, plain, sent[:-16], sent[-16:]


def unhex(row):
    return tuple(map(bytes.fromhex, row))


# --- the block cipher ------------------------------------------------------------------------------------------------


def test_aes_of_fips_197():
    cipher = aes.cipher(bytes(range(16)))
    buf = bytearray.fromhex("00112233445566778899aabbccddeeff" * 3)
    out = bytearray(64)
    cipher.encrypt_blocks(buf, out)
    assert out.hex() == "69c4e0d86a7b0430d8cdb78070b4c55a" * 3 + "00" * 16
    cipher.encrypt_blocks(buf, buf)
    assert buf == out[:48]


@pytest.mark.parametrize("n", [0, 8, 15, 17, 24, 31])
def test_a_key_has_16_bytes(n):
    with pytest.raises(ValueError, match="16 bytes"):
        Gcm(bytes(n))


# --- published vectors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", VECTORS)
def test_published_vectors(way, row):
    key, nonce, aad, plain, sent, tag = unhex(row)
    assert AESGCM(key).encrypt(nonce, plain, aad)[: len(sent) + len(tag)] == sent + tag  # copied rightly
    subject = Gcm(key)
    for wrap in (bytes, bytearray, memoryview):
        buf = bytearray(sent)
        assert subject.tag_holds(buf, 0, len(buf), nonce[:8], nonce[8:], wrap(aad), wrap(tag))
        assert buf == sent
        subject.decrypt(buf, 0, len(buf), wrap(nonce[:8]), wrap(nonce[8:]))
        assert buf == plain


def test_only_authenticated(way):
    """Security control 0x10: the text is part of the AAD."""
    key, nonce = bytes(range(16)), bytes(range(12))
    aad = b"\x10" + bytes(range(0xD0, 0xE0)) + b"\x0f\x00\x00\x00\x01\x00" * 40
    tag = AESGCM(key).encrypt(nonce, b"", aad)[:12]
    assert Gcm(key).tag_holds(bytearray(99), 7, 0, nonce[:8], nonce[8:], aad, tag)
    assert not Gcm(key).tag_holds(bytearray(99), 7, 0, nonce[:8], nonce[8:], aad[:-1], tag)


# --- against another implementation ----------------------------------------------------------------------------------


def test_10_000_random_messages(way):
    rng = random.Random(5)
    last = subject = None
    for key, nonce, aad, plain, sent, tag in random_vectors(2026, 10_000):
        if key != last:
            last, subject = key, Gcm(key)
        assert subject
        title, counter, n = nonce[:8], nonce[8:], len(sent)
        at = rng.randrange(20)
        before, behind = rng.randbytes(at), rng.randbytes(rng.randrange(20))
        buf = bytearray(before + sent + behind)
        assert subject.tag_holds(buf, at, n, title, counter, aad, tag[:12])
        subject.decrypt(buf, at, n, title, counter)
        assert buf == before + plain + behind


@pytest.mark.parametrize("n", [*range(34), 255, 256, 257, 511, 512, 513, 4096, 70_001])
def test_every_length_at_every_offset(way, n):
    """70,001 bytes are 4,376 blocks: more than one byte of the count."""
    key, nonce, plain = bytes(range(16)), bytes(range(12)), random.Random(n).randbytes(n)
    sent = AESGCM(key).encrypt(nonce, plain, None)
    subject = Gcm(key)
    for at in (0, 1, 3, 16):
        buf = bytearray(at) + sent
        assert subject.tag_holds(buf, at, n, nonce[:8], nonce[8:], b"", sent[n:])
        subject.decrypt(buf, at, n, nonce[:8], nonce[8:])
        assert buf == bytes(at) + plain + sent[n:]


# --- what must not hold ----------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_refused(way):
    key, nonce, aad, plain, sent, tag = unhex(VECTORS[4])
    tag = tag[:12]
    subject = Gcm(key)

    def holds(sent, aad, tag, nonce):
        return subject.tag_holds(bytearray(sent), 0, len(sent), nonce[:8], nonce[8:], aad, tag)

    def flips(data):
        for bit in range(8 * len(data)):
            yield (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")

    assert holds(sent, aad, tag, nonce)
    assert not any(holds(flipped, aad, tag, nonce) for flipped in flips(sent))
    assert not any(holds(sent, flipped, tag, nonce) for flipped in flips(aad))
    assert not any(holds(sent, aad, flipped, nonce) for flipped in flips(tag))
    assert not any(holds(sent, aad, tag, flipped) for flipped in flips(nonce))
    assert holds(sent, aad, tag, nonce)  # the object itself is unharmed


def test_lengths_are_part_of_the_tag(way):
    """Zeros at an end, and bytes that move from the AAD to the ciphertext, would fill the same blocks."""
    key, nonce = bytes(16), bytes(12)
    sent, tag = bytearray(16), AESGCM(key).encrypt(nonce, b"", bytes(16))
    subject = Gcm(key)
    assert subject.tag_holds(sent, 0, 0, nonce[:8], nonce[8:], bytes(16), tag)
    for n, n_aad in ((16, 0), (1, 16), (0, 15), (0, 17), (16, 16)):
        assert not subject.tag_holds(sent, 0, n, nonce[:8], nonce[8:], bytes(n_aad), tag)


@pytest.mark.parametrize("n", [*range(12), 17])
def test_a_tag_of_too_few_or_too_many_bytes_does_not_hold(way, n):
    sent = AESGCM(bytes(16)).encrypt(bytes(12), b"text", None)
    subject = Gcm(bytes(16))
    assert subject.tag_holds(bytearray(sent), 0, 4, bytes(8), bytes(4), b"", sent[4:16])
    assert not subject.tag_holds(bytearray(sent), 0, 4, bytes(8), bytes(4), b"", (sent[4:] + b"\0")[:n])


@pytest.mark.parametrize(("title", "counter"), [(7, 4), (9, 4), (0, 4), (8, 3), (8, 5), (12, 0)])
def test_a_nonce_has_12_bytes(title, counter):
    subject = Gcm(bytes(16))
    with pytest.raises(ValueError, match="nonce"):
        subject.decrypt(bytearray(9), 0, 9, bytes(title), bytes(counter))
    with pytest.raises(ValueError, match="nonce"):
        subject.tag_holds(bytearray(9), 0, 9, bytes(title), bytes(counter), b"", bytes(12))


# --- on MicroPython --------------------------------------------------------------------------------------------------


def micropython(core, *arguments):
    command = [str(runtime.micropython()), "-X", "heapsize=64k", str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"MICROPYPATH": f"{core}:.frozen"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def write_vectors(path, rows):
    with path.open("w") as stream:
        for key, nonce, aad, plain, sent, tag in rows:
            words = (key, nonce, aad, sent, tag, plain)
            print(*(word.hex() or "-" for word in words), file=stream)
    return path


def test_the_same_on_micropython(core, tmp_path):
    rows = [*map(unhex, VECTORS), *random_vectors(7, 300)]
    path = write_vectors(tmp_path / "vectors.txt", rows)
    done = micropython(core, path)
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    assert done.stdout.splitlines() == [f"{n} 1 0 1" for n in range(len(rows))]
    environment = os.environ | {"PYTHONPATH": str(runtime.REPO / "lib")}
    command = [sys.executable, SCRIPT, path]
    assert done.stdout == subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120).stdout


# Name, bytes of ciphertext, milliseconds on the line: optical 9600 8N1 (105 bytes), wired 2400 8E1 (282 bytes)
TELEGRAMS = [("optical", 74, 105 * 10 * 1000 / 9600), ("wired", 243, 282 * 11 * 1000 / 2400)]


@pytest.mark.parametrize(("name", "n", "line_ms"), TELEGRAMS)
def test_no_telegram_leaves_garbage_on_micropython(core, tmp_path, name, n, line_ms):
    """Also with the heap locked; what an object keeps is bounded. The times are printed (-s), not judged."""
    key, nonce, aad, plain = bytes(range(16)), bytes(range(12)), b"\x30" + bytes(16), bytes(n)
    sent = AESGCM(key).encrypt(nonce, plain, aad)
    path = write_vectors(tmp_path / "one.txt", [(key, nonce, aad, plain, sent[:n], sent[n : n + 12])])
    done = micropython(core, path, "figures")
    assert done.returncode == 0, done.stderr + done.stdout
    figures = {word: int(number) for word, number in (line.split() for line in done.stdout.splitlines())}
    shares = {k: f"{figures[k] / line_ms / 10:.2f} %" for k in ("tag_us", "decrypt_us")}
    print(f"\n{name}: {figures}, of its {line_ms:.0f} ms on the line {shares}")
    assert figures["tag_garbage_bytes"] == figures["decrypt_garbage_bytes"] == 0
    if not os.environ.get(runtime.MICROPYTHON_OVERRIDE):
        assert 0 < figures["object_bytes"] <= OBJECT_BYTES * 1.15
        assert 0 < figures["tables_bytes"] <= TABLES_BYTES * 1.15
    done = micropython(core, path, "plant")
    assert done.returncode and "heap is locked" in done.stderr + done.stdout
