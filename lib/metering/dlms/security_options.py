"""How a meter is to be convinced, and what is ciphered: words of its owner's, and what the settings hold beside."""

from metering.compat import const
from metering.dlms.association import HIGH, HIGH_GMAC, HIGH_MD5, HIGH_SHA1, HIGH_SHA256, LOW, NO_SECURITY

AUTHENTICATED = const(0x10)
ENCRYPTED = const(0x20)
GLOBAL = const(0)  # which services carry what is ciphered
GENERAL = const(1)
DEDICATED = const(2)
NOT_ASKED = const(-1)  # the counter is not read from the meter

_MECHANISMS = {
    "NONE": NO_SECURITY,
    "LOW": LOW,
    "HIGH": HIGH,
    "HIGHMD5": HIGH_MD5,
    "HIGHSHA1": HIGH_SHA1,
    "HIGHSHA256": HIGH_SHA256,
    "HIGHGMAC": HIGH_GMAC,
}
_HASHES = {HIGH_MD5: "md5", HIGH_SHA1: "sha1", HIGH_SHA256: "sha256"}
_POLICIES = {"NONE": 0, "AUTHENTICATED": AUTHENTICATED, "ENCRYPTED": ENCRYPTED, "BOTH": AUTHENTICATED | ENCRYPTED}
_SERVICES = {"GLOBAL": GLOBAL, "GENERAL": GENERAL, "DEDICATED": DEDICATED}
_TITLE = const(8)
_AES_BYTES = const(16)


class SecurityOptions:
    """`mechanism` of metering.dlms.association; `suite` 0; `policy` 0, AUTHENTICATED, ENCRYPTED or both; `services`
    GLOBAL, GENERAL or DEDICATED; `title` 8 bytes; `counter_object`: E of 0.0.43.1.E.255, or NOT_ASKED; `secret`: the
    password, as the meter knows it.
    """

    suite = 0

    def __init__(self, words, password, key, auth_key, title):
        """`words`: a list such as ["auth=HIGHMD5"]. Keys of 16 bytes or None; `title`: 8 bytes, where no word says
        another. Raises ValueError, which says what is wrong and shows no secret."""
        self.mechanism = -1
        self.policy = (AUTHENTICATED if auth_key else 0) | ENCRYPTED if key else 0
        self.services = GLOBAL
        self.title = title
        self.counter_object = 0
        self.secret = password
        is_hex = False
        for word in words:
            name, _, value = word.partition("=")
            if name == "auth":
                self.mechanism = _of(_MECHANISMS, name, value.upper().replace("_", ""))
            elif name == "security":
                self.policy = _of(_POLICIES, name, value.upper())
            elif name == "ciphering":
                self.services = _of(_SERVICES, name, value.upper())
            elif name == "system_title":
                self.title = value.encode() if len(value) == _TITLE else _hex(name, value)
            elif name == "counter":
                self.counter_object = _counter(value)
            else:
                is_hex = bool(_of({"TEXT": 0, "HEX": 1}, name, value.upper()))
        if is_hex:
            self.secret = _hex("with secret=HEX meter_password", password.decode())
        if self.mechanism < 0:
            self.mechanism = HIGH_GMAC if key and auth_key else LOW if password else NO_SECURITY
        self._check(key, auth_key)

    def _check(self, key, auth_key):
        mechanism = self.mechanism
        if len(self.title) != _TITLE:
            raise ValueError("system_title is 16 hexadecimal digits, or 8 letters")
        if mechanism == HIGH_GMAC:
            if not key or not auth_key:
                raise ValueError("auth=HIGHGMAC wants meter_key and meter_auth_key")
        elif mechanism and not self.secret:
            raise ValueError("auth other than NONE and HIGHGMAC wants meter_password")
        if mechanism == HIGH and len(self.secret) > _AES_BYTES:
            raise ValueError("auth=HIGH has a password of 16 bytes at the most")
        if self.policy and not key or self.policy & AUTHENTICATED and not auth_key:
            raise ValueError("security wants meter_key, where it authenticates meter_auth_key too")
        if self.services == DEDICATED and not self.policy:
            raise ValueError("ciphering=DEDICATED wants meter_key")
        name = _HASHES.get(mechanism)
        if name:
            import hashlib

            if not hasattr(hashlib, name):
                raise ValueError("this MicroPython has no %s, which auth asks for: read from a computer" % name)


def _of(choices, name, value):
    if value not in choices:
        raise ValueError("%s is one of %s" % (name, " ".join(sorted(choices))))
    return choices[value]


def _hex(name, text):
    try:
        return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])
    except ValueError:
        raise ValueError("%s is hexadecimal digits" % name)


def _counter(text):
    if text.upper() == "KEPT":
        return NOT_ASKED
    if not text.isdigit() or len(text) > 3 or int(text) > 255:
        raise ValueError("counter is KEPT, or 0 to 255 for 0.0.43.1.x.255")
    return int(text)
