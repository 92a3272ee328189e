"""AES-128-GCM (NIST SP 800-38D) with the 96-bit nonces of DLMS security suite 0, over a part of a buffer, in place.

The nonce is system title || invocation counter. AES comes from metering.dlms.aes; counter mode and GHASH are made here.

GHASH multiplies by the key's H in GF(2**128), where a number's first bit is the coefficient of x**0: by x is a shift to
the right, and what falls out comes back as 0xE1 << 120. On a board a number is five integers of 16, 28, 28, 28 and 28
bits, none of which needs the heap, and a multiplication takes a byte a step from two tables of 16 entries, one for each
half of the byte. Measured on the 32-bit unix port, over 18 blocks: 180 us and no byte of heap. Integers of 128 bits, by
four bits a step, take 250 us and leave 75 KB of garbage; by integer products 130 us and 74 KB; the five integers by
four bits 250 us; with tables of 256 entries 125 us for 5 KiB more.

There, of an optical telegram of 105 bytes (74 enciphered, 109 ms at 9600 8N1) the tag takes 92 us and the decryption
18 us, 0.1 % of its time on the line; of an M-Bus telegram of 282 bytes (243 enciphered, 1.3 s at 2400 8E1) they take
205 us and 60 us, 0.02 %.
"""

from array import array

from metering.compat import SLICES_ARE_CHEAP, const, copy_bytes
from metering.dlms.aes import BLOCK_BYTES, cipher

TITLE_BYTES = 8
COUNTER_BYTES = 4
TAG_BYTES = 12  # what a DLMS telegram carries of the tag

_WINDOW = const(256)  # bytes that are enciphered at once
_LEAST_TAG_BYTES = const(12)
_LIMB = const(0xFFFFFFF)


def _put_u32(block, at, value):
    block[at] = value >> 24 & 0xFF
    block[at + 1] = value >> 16 & 0xFF
    block[at + 2] = value >> 8 & 0xFF
    block[at + 3] = value & 0xFF


def _put_nonce(blocks, at, title, counter):
    copy_bytes(blocks, at, title, 0, TITLE_BYTES)
    copy_bytes(blocks, at + TITLE_BYTES, counter, 0, COUNTER_BYTES)


def _powers(h, n):
    """h, h * x, ... h * x**(n - 1) in GF(2**128)."""
    powers = []
    for _ in range(n):
        powers.append(h)
        h = h >> 1 ^ (0xE1 << 120 if h & 1 else 0)
    return powers


def _sums(weights):
    """The XOR of every choice of the weights, at the index whose bits, the highest first, say which are chosen."""
    sums = [0]
    for weight in reversed(weights):
        sums += [weight ^ chosen for chosen in sums]
    return sums


def _limbs(numbers):
    """Five arrays: the upper 16 bits of each of the numbers, and then 28 bits each."""
    parts = [array("H", [number >> 112 for number in numbers])]
    for shift in (84, 56, 28, 0):
        parts.append(array("I", [number >> shift & _LIMB for number in numbers]))
    return parts


class _Ghash:
    """1.4 KiB a key, and 0.1 ms on the 32-bit unix port."""

    def __init__(self, h):
        powers = _powers(int.from_bytes(h, "big"), 8)
        self._high = _limbs(_sums(powers[:4]))  # what the upper four bits of a byte give
        self._low = _limbs(_sums(powers[4:]))
        self._fallen = array("H", bytes(512))  # what the byte gives that a shift drops; made without a list
        for byte in range(256):
            for i in range(8):
                if byte & 0x80 >> i:
                    self._fallen[byte] ^= 0xE100 >> i
        self.state = bytearray(BLOCK_BYTES)

    def restart(self):
        for i in range(BLOCK_BYTES):
            self.state[i] = 0

    def absorb(self, data, at, n):
        """Take data[at:at + n], filled up with zeros to whole blocks. Allocates nothing."""
        state = self.state
        fallen = self._fallen
        high0, high1, high2, high3, high4 = self._high
        low0, low1, low2, low3, low4 = self._low
        while n > 0:
            z0 = z1 = z2 = z3 = z4 = 0
            i = BLOCK_BYTES
            while i:
                i -= 1
                low = state[i]
                if i < n:
                    low ^= data[at + i]
                high = low >> 4
                low &= 0x0F
                out = z4 & 0xFF
                z4 = (z4 >> 8 | (z3 & 0xFF) << 20) ^ high4[high] ^ low4[low]
                z3 = (z3 >> 8 | (z2 & 0xFF) << 20) ^ high3[high] ^ low3[low]
                z2 = (z2 >> 8 | (z1 & 0xFF) << 20) ^ high2[high] ^ low2[low]
                z1 = (z1 >> 8 | (z0 & 0xFF) << 20) ^ high1[high] ^ low1[low]
                z0 = z0 >> 8 ^ fallen[out] ^ high0[high] ^ low0[low]
            state[0] = z0 >> 8
            state[1] = z0 & 0xFF
            self._put_pair(2, z1, z2)
            self._put_pair(9, z3, z4)
            at += BLOCK_BYTES
            n -= BLOCK_BYTES

    def _put_pair(self, at, upper, lower):
        """56 bits."""
        state = self.state
        state[at] = upper >> 20
        state[at + 1] = upper >> 12 & 0xFF
        state[at + 2] = upper >> 4 & 0xFF
        state[at + 3] = (upper & 0x0F) << 4 | lower >> 24
        state[at + 4] = lower >> 16 & 0xFF
        state[at + 5] = lower >> 8 & 0xFF
        state[at + 6] = lower & 0xFF


class Gcm:
    """Decryption and tags by one key of 16 bytes; ValueError when it has another length.

    On a 32-bit board it takes 1 KiB, and 1.4 KiB more `with_tags`, without which tag_holds() is not to be asked. After
    that no call makes an object there: a telegram leaves nothing on the heap, and can be read with the heap locked.
    """

    def __init__(self, key, with_tags=True):
        self._cipher = cipher(key)
        self._counters = bytearray(_WINDOW)
        self._stream = bytearray(_WINDOW)
        self._block = bytearray(BLOCK_BYTES)
        self._ghash = None
        if with_tags:
            h = bytearray(BLOCK_BYTES)
            self._cipher.encrypt_blocks(h, h)
            self._ghash = _Ghash(h)

    def decrypt(self, buf, at, n, title, counter):
        """Decrypt buf[at:at + n] (a bytearray) in place, or encrypt it, which is the same.

        `title` has 8 bytes and `counter` 4, as sent: else ValueError. What is not authenticated decrypts to noise
        under a wrong key: that is for the caller to see.
        """
        _check(title, counter)
        counters = self._counters
        stream = self._stream
        block_at = 0
        while block_at < _WINDOW and block_at < n:
            _put_nonce(counters, block_at, title, counter)
            block_at += BLOCK_BYTES
        count = 2  # 1 is the tag's
        while n > 0:
            some = min(n, _WINDOW)
            block_at = 0
            while block_at < some:
                _put_u32(counters, block_at + 12, count)
                count += 1
                block_at += BLOCK_BYTES
            self._cipher.encrypt_blocks(counters, stream)
            for i in range(some):
                buf[at + i] ^= stream[i]
            at += some
            n -= some

    def tag_holds(self, buf, at, n, title, counter, aad, tag):
        """Is `tag` (bytes, at least 12 and at most 16 of them) that of the ciphertext buf[at:at + n] and of `aad`?

        Ask before decrypt(). A telegram that is only authenticated has n = 0 and its text in `aad`. The comparison
        takes the same time wherever a difference is. `title` and `counter` as for decrypt().
        """
        ghash = self._ghash
        if ghash is None or not _LEAST_TAG_BYTES <= len(tag) <= BLOCK_BYTES:
            return False
        mine = self._tag(ghash, buf, at, n, title, counter, aad)
        difference = 0
        for i in range(len(tag)):
            difference |= tag[i] ^ mine[i]
        return not difference

    def make_tag(self, buf, at, n, title, counter, aad):
        """The tag of the ciphertext buf[at:at + n] and of `aad`, 16 bytes; `with_tags` only."""
        if self._ghash is None:
            raise ValueError("it was made without tags")
        return bytes(self._tag(self._ghash, buf, at, n, title, counter, aad))

    def _tag(self, ghash, buf, at, n, title, counter, aad):
        _check(title, counter)
        block = self._block
        ghash.restart()
        ghash.absorb(aad, 0, len(aad))
        ghash.absorb(buf, at, n)
        for i in range(BLOCK_BYTES):
            block[i] = 0
        _put_u32(block, 4, 8 * len(aad))
        _put_u32(block, 12, 8 * n)
        ghash.absorb(block, 0, BLOCK_BYTES)
        _put_nonce(block, 0, title, counter)
        _put_u32(block, 12, 1)
        self._cipher.encrypt_blocks(block, block)
        state = ghash.state
        for i in range(BLOCK_BYTES):
            block[i] ^= state[i]
        return block


def _check(title, counter):
    if len(title) != TITLE_BYTES or len(counter) != COUNTER_BYTES:
        raise ValueError("a nonce is a title of 8 bytes and a counter of 4")


if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer import library_gcm

    globals()["Gcm"] = library_gcm.Gcm  # in place of the one above
