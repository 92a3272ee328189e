"""HighEcdsa and the security suites 1 and 2 of DLMS on a computer (DLMS UA 1000-2, 9.2.2.2.2.5, 9.2.3.2, 9.2.7.2).

    suite 1   AES-128-GCM, ECDSA by P-256 and SHA-256        suite 2   AES-256-GCM, ECDSA by P-384 and SHA-384

    proof     r | s of title of who proves | title of the other | challenge | own challenge

Keys of AES are given, never agreed upon: that would be an ACTION. Nothing is compressed. A board loads none of it: a
signature by P-256 in Python would take it seconds.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import load_pem_x509_certificate

from metering.dlms.association import HIGH_ECDSA
from metering.dlms.high import High
from metering.dlms.security_options import SecurityOptions

_TITLE = 8
_CHALLENGE_BYTES = 32  # the least of HighEcdsa
_KEY_BYTES = {0: 16, 1: 16, 2: 32}
_CURVES = {"secp256r1": (32, hashes.SHA256, 1), "secp384r1": (48, hashes.SHA384, 2)}  # bytes, hash, suite


class Signer:
    """Signs by `own` and checks by `theirs`, of one curve of _CURVES. Raises ValueError where they are not."""

    def __init__(self, own, theirs):
        name = own.curve.name
        if name not in _CURVES or theirs.curve.name != name:
            raise ValueError("signing_key and meter_certificate are of one curve, P-256 or P-384")
        self._own, self._theirs = own, theirs
        self._n, make_hash, self.suite = _CURVES[name]
        self._algorithm = ec.ECDSA(make_hash())

    def sign(self, data):
        """r and s of `data`, each as long as a number of the curve."""
        r, s = utils.decode_dss_signature(self._own.sign(data, self._algorithm))
        return r.to_bytes(self._n, "big") + s.to_bytes(self._n, "big")

    def holds(self, signature, data):
        """Is `signature` the other's of `data`?"""
        n = self._n
        if len(signature) != 2 * n:
            return False
        r, s = int.from_bytes(signature[:n], "big"), int.from_bytes(signature[n:], "big")
        try:
            self._theirs.verify(utils.encode_dss_signature(r, s), data, self._algorithm)
        except InvalidSignature:
            return False
        return True


class SuiteOptions(SecurityOptions):
    """As SecurityOptions; `suite` 0 to 2; `signer` a Signer or None.

    Words beside its own: suite=1, auth=HIGHECDSA with signing_key=FILE (ours, PEM without a password) and
    meter_certificate=FILE (PEM, a certificate or a public key).
    """

    def __init__(self, words, password, key, auth_key, title):
        """As SecurityOptions; keys of 32 bytes in suite 2."""
        files = {}
        suite = ""
        is_signed = False
        others = []
        for word in words:
            name, _, value = word.partition("=")
            if name in ("signing_key", "meter_certificate"):
                files[name] = value
            elif name == "suite":
                suite = value
            elif name == "auth" and value.upper().replace("_", "") == "HIGHECDSA":
                is_signed = True
                others.append("auth=NONE")
            else:
                others.append(word)
        if suite not in ("", "0", "1", "2"):
            raise ValueError("suite is 0, 1 or 2")
        SecurityOptions.__init__(self, others, password, key, auth_key, title)
        self.suite = int(suite or 0)
        self.signer = None
        n = _KEY_BYTES[self.suite]
        if any(given is not None and len(given) != n for given in (key, auth_key)):
            raise ValueError("suite=%d wants keys of %d hexadecimal digits" % (self.suite, 2 * n))
        if bool(files) != is_signed or is_signed and len(files) != 2:
            raise ValueError("auth=HIGHECDSA, signing_key=FILE and meter_certificate=FILE belong together")
        if is_signed:
            self.mechanism = HIGH_ECDSA
            own = _read("signing_key", files["signing_key"], _private)
            self.signer = Signer(own, _read("meter_certificate", files["meter_certificate"], _public))
            if self.suite and self.suite != self.signer.suite:
                raise ValueError("suite=1 goes with keys of P-256, suite=2 with keys of P-384")


def _private(data):
    return serialization.load_pem_private_key(data, None)


def _public(data):
    if b"BEGIN CERTIFICATE" in data:
        return load_pem_x509_certificate(data).public_key()
    return serialization.load_pem_public_key(data)


def _read(name, file, load):
    try:
        with open(file, "rb") as opened:
            found = load(opened.read())
    except OSError as error:
        raise ValueError("%s: %s cannot be read (%s)" % (name, file, error.strerror)) from None
    except Exception:  # of many kinds; its text may show what is in the file
        raise ValueError("%s: %s is no key in PEM, or has a password" % (name, file)) from None
    if not isinstance(found, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        raise ValueError("%s: %s is not of an elliptic curve" % (name, file))
    return found


class SigningHigh(High):
    """As High, by the mechanisms of SuiteOptions too."""

    def __init__(self, link, context, max_apdu, options, cipher):
        High.__init__(self, link, context, max_apdu, options, cipher)
        self._signer = options.signer
        self.SESSION_KEY_BYTES = _KEY_BYTES[options.suite]
        if options.signer:
            self.CHALLENGE_BYTES = _CHALLENGE_BYTES

    def _proof(self, challenge, other, title, others_title):
        if not self._signer:
            return High._proof(self, challenge, other, title, others_title)
        return self._signer.sign(title + others_title + challenge + other)

    def _holds(self, theirs, challenge, title):
        if not self._signer:
            return High._holds(self, theirs, challenge, title)
        return len(title) == _TITLE and self._signer.holds(theirs, title + self._title + self._own + challenge)
