"""Ciphering of whole APDUs: keys, tags, invocation counters. Loaded with keys, or at the first APDU that is ciphered.

Source: DLMS UA 1000-2 (Green Book) 9.2.

    DB|DC | 08 title 8 | length | SC | counter 4 | ciphertext [tag 12]     general-glo- and general-ded-ciphering
                    00 | length | SC | counter 4 | ciphertext tag 12       behind a P1 header, in Poland

Without a title the nonce has eight zeros in its place.
SC: bits 3..0 suite, 10 authenticated, 20 encrypted, 80 compressed.
"""

from metering.checksum import X25_INIT, crc16
from metering.compat import const, hex_text
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.frames import is_llc
from metering.dlms.hdlc import X25_TABLE

_TITLE = const(8)
_TAG = const(12)
_HEAD = const(5)  # SC and counter
_AUTHENTICATED = const(0x10)
_ENCRYPTED = const(0x20)
_COMPRESSED = const(0x80)
_SUITE = const(0x0F)
_MAX_METERS = const(4)  # whose counters are followed


class ReplayWindow:
    """The last invocation counter of each meter heard, four at the most."""

    def __init__(self):
        self._last = []  # [title, counter]

    def restore(self, title, counter):
        """Take `counter` for the last one heard of the meter `title`."""
        if len(self._last) < _MAX_METERS:
            self._last.append([title, counter])

    def admits(self, title, counter, strict):
        """Is the counter above the last one of this meter? Remembers it. `strict`: a fifth meter is not believed."""
        for row in self._last:
            if row[0] == title:
                if strict and counter <= row[1]:
                    return False
                row[1] = counter
                return True
        if strict and len(self._last) == _MAX_METERS:
            return False
        self.restore(title, counter)
        return True


class Security:
    """Takes the ciphering off. Of the APDU last unwrapped: `title` (bytes, None behind a P1 header), `counter`,
    `control`, `authenticated` True where its tag has held, `plain_at` and `plain_end`; `detail` where it failed.
    """

    title: "bytes | None"
    counter: "int | None"

    def __init__(self):
        self._gcm = None
        self._auth_key = None
        self.replays = ReplayWindow()
        self.title = self.counter = None
        self.control = 0
        self.authenticated = False
        self.plain_at = self.plain_end = self.behind = 0  # behind: where another APDU may stand
        self.detail = ""

    def set_keys(self, key, auth_key):
        """The meter's keys, 16 bytes each or None; write-only. Returns what tells one key from another, and no more."""
        self._gcm = None
        self._auth_key = auth_key
        if key is not None:
            from metering.dlms.gcm import Gcm

            self._gcm = Gcm(key, auth_key is not None)
        return crc16((key or b"") + (auth_key or b""), X25_INIT, X25_TABLE)

    def unwrap(self, buf, view, at, end):
        """Decipher the APDU buf[at:end] in place; "" where it is plain now, else the reason. An APDU with its LLC may
        stand behind it."""
        self.title = self.counter = None
        self.control = 0
        self.authenticated = False
        if buf[at + 1] != _TITLE or end - at < 2 + _TITLE:
            return self._refuse("security", "no system title")
        title = bytes(view[at + 2 : at + 2 + _TITLE])
        return self._unwrap(buf, view, at + 2 + _TITLE, end, title)

    def unwrap_untitled(self, buf, view, at, end):
        """The same behind a P1 header, whose length begins at buf[at]."""
        reason = self._unwrap(buf, view, at, end, None)
        self.counter = None  # it never changes
        return reason

    def _unwrap(self, buf, view, at, end, title):
        try:
            length, at = ber_length(buf, at, end)
            if length > end - at or length < _HEAD:
                raise Malformed("ciphered length longer than data")
        except Malformed as error:
            return self._refuse("structure", str(error))
        behind = at + length
        if behind < end and not is_llc(buf, behind, end):  # a segment came twice
            return self._refuse("structure", "ciphered length shorter than data")
        end = behind
        control = buf[at]
        counter = bytes(view[at + 1 : at + _HEAD])
        self.title = title
        self.control = control
        self.counter = int.from_bytes(counter, "big")
        at += _HEAD
        if control & _COMPRESSED or control & _SUITE > 1:
            return self._refuse("security", "security control 0x%02X is not known" % control)
        gcm = self._gcm
        if control & _ENCRYPTED and gcm is None:
            return self._refuse("key needed", "encrypted, key needed (%s)" % self.title_text())
        nonce = title or bytes(_TITLE)
        if control & _AUTHENTICATED:
            end -= _TAG
            if end < at:
                return self._refuse("structure", "no room for the tag")
            if self._auth_key is not None and gcm is not None:
                aad = bytes((control,)) + self._auth_key
                n = end - at
                if not control & _ENCRYPTED:
                    aad += bytes(view[at:end])
                    n = 0
                if not gcm.tag_holds(buf, at, n, nonce, counter, aad, bytes(view[end : end + _TAG])):
                    return self._refuse("tag", "key wrong or telegram changed: GCM tag mismatch")
                self.authenticated = True
        if gcm is not None:
            if control & _ENCRYPTED:
                gcm.decrypt(buf, at, end - at, nonce, counter)
            elif not self.authenticated:
                return self._refuse("security", "neither encrypted nor with a tag that holds, though there is a key")
        self.plain_at, self.plain_end = at, end
        self.behind = behind
        return ""

    def _refuse(self, reason, detail):
        self.detail = detail
        return reason

    def is_new(self, strict):
        """Is this counter above the last one of its meter, or has the APDU none?"""
        return self.title is None or self.replays.admits(self.title, self.counter, strict)

    def title_text(self):
        return "system title " + hex_text(self.title) if self.title else "no system title"
