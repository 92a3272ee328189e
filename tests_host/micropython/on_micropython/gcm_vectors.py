"""AES-128-GCM of metering.dlms.gcm over vectors in a file: what it says of them, and what it takes of heap and time.

    gcm_vectors.py FILE            prints "N TAG WRONG PLAIN" a vector: 1 if the tag holds; how many damaged copies
                                   were let through; 1 if it decrypts. Runs on both Pythons
    gcm_vectors.py FILE figures    MicroPython: prints NAME NUMBER a line, by the first vector
    gcm_vectors.py FILE plant      MicroPython: what allocates under a locked heap must fail, or `figures` could not

A line of the file is KEY NONCE AAD CIPHERTEXT TAG PLAINTEXT, in hex, "-" where there is none.
"""

import sys
from binascii import unhexlify

from metering.dlms.gcm import Gcm

_ODD = 3  # where in a buffer a telegram begins
_RUNS = 20


def unhex(word):
    return b"" if word == "-" else unhexlify(word)


def vectors(path):
    with open(path) as stream:
        for line in stream:
            yield [unhex(word) for word in line.split()]


def damaged(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0x10
    return changed


def check(path):
    for n, (key, nonce, aad, sent, tag, plain) in enumerate(vectors(path)):
        gcm = Gcm(key)
        title = nonce[:8]
        counter = nonce[8:]
        buf = bytearray(_ODD) + sent + b"\xa5\x5a"
        holds = gcm.tag_holds(buf, _ODD, len(sent), title, counter, aad, tag)
        wrong = gcm.tag_holds(buf, _ODD, len(sent), title, counter, aad, damaged(tag))
        if aad:
            wrong += gcm.tag_holds(buf, _ODD, len(sent), title, counter, damaged(aad), tag)
        if sent:
            wrong += gcm.tag_holds(damaged(sent), 0, len(sent), title, counter, aad, tag)
        gcm.decrypt(buf, _ODD, len(sent), title, counter)
        print(n, int(holds), int(wrong), int(buf == bytearray(_ODD) + plain + b"\xa5\x5a"))


def used():
    import gc

    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def figures(path, planted):
    import gc
    import time

    import micropython

    key, nonce, aad, sent, tag, _ = next(vectors(path))
    title = nonce[:8]
    counter = nonce[8:]
    buf = bytearray(sent)
    n = len(buf)
    took = [0] * 4
    numbers = [0] * 4
    used()
    before = used()
    gcm = Gcm(key, False)
    took[0] = used() - before
    gcm = None
    gcm = Gcm(key)
    took[1] = used() - before - took[0]

    micropython.heap_lock()
    if planted:
        planted = [n]
    holds = gcm.tag_holds(buf, 0, n, title, counter, aad, tag)
    gcm.decrypt(buf, 0, n, title, counter)
    micropython.heap_unlock()
    if not holds:
        raise ValueError("the tag does not hold")

    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    gcm.tag_holds(buf, 0, n, title, counter, aad, tag)
    took[2] = gc.mem_alloc() - before
    before = gc.mem_alloc()
    gcm.decrypt(buf, 0, n, title, counter)
    took[3] = gc.mem_alloc() - before
    gc.enable()

    at = time.ticks_us()
    for _ in range(_RUNS):
        gcm.tag_holds(buf, 0, n, title, counter, aad, tag)
    numbers[0] = time.ticks_diff(time.ticks_us(), at) // _RUNS
    at = time.ticks_us()
    for _ in range(_RUNS):
        gcm.decrypt(buf, 0, n, title, counter)
    numbers[1] = time.ticks_diff(time.ticks_us(), at) // _RUNS
    print("object_bytes", took[0])
    print("tables_bytes", took[1])
    print("tag_garbage_bytes", took[2])
    print("decrypt_garbage_bytes", took[3])
    print("tag_us", numbers[0])
    print("decrypt_us", numbers[1])


if sys.argv[2:]:
    figures(sys.argv[1], sys.argv[2] == "plant")
else:
    check(sys.argv[1])
