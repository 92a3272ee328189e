"""Puts together how a meter is to be convinced, by the owner's options and keys. Loaded for a moment, and dropped."""

from metering.dlms.association import HIGH_GMAC
from metering.dlms.hdlc_link import MAX_APDU
from metering.dlms.security_options import SecurityOptions
from metering.unload import unload

_NO_KEYS = None, None, b"OPTPROBE", None, 0
_OF_COMPUTER = ("suite", "signing_key", "meter_certificate")
_OF_KEYS = 1  # client that reads with keys, unless the owner names another


def convinces_by(options, password, keys):
    """`keys` as Conversation.take_keys() has them, or None. Returns what makes a metering.dlms.high.High of a link and
    a context. Raises ValueError, which says what is wrong with the `options`."""
    from metering.dlms.high import High

    key, auth_key, title, reserve, step = keys or _NO_KEYS
    words = options.security + options.auth
    make_options, make_high = SecurityOptions, High
    if _wants_computer(words):
        try:
            from metering.on_computer.signed_suites import SigningHigh, SuiteOptions
        except ImportError:
            raise ValueError("HighEcdsa and the suites 1 and 2 are for a computer alone: optoprobe read")
        make_options, make_high = SuiteOptions, SigningHigh
    wanted = make_options(words, password, key, auth_key, title)
    has_cipher = wanted.policy or wanted.mechanism == HIGH_GMAC
    if has_cipher:
        options.numbers.setdefault("client_address", _OF_KEYS)
    unload("metering.dlms.security_options")
    unload("metering.dlms.high_setup")

    def make(link, context):
        cipher = None
        if has_cipher:
            from metering.dlms.own_cipher import OwnCipher

            cipher = link.cipher = OwnCipher(wanted, key, auth_key, reserve, step)
        return make_high(link, context, MAX_APDU, wanted, cipher)

    return make


def _wants_computer(words):
    for word in words:
        name, _, value = word.partition("=")
        if name in _OF_COMPUTER or name == "auth" and value.upper().replace("_", "") == "HIGHECDSA":
            return True
    return False
