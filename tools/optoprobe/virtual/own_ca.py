"""A certificate authority of our own, made on the spot, and the certificates it signs: for the demo and the tests.

Elliptic curve P-256, as most of today's; keys and certificates are PEM files in a directory of the caller's.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 30


class Signed(NamedTuple):
    """Files of a certificate and of its key."""

    certificate: Path
    key: Path


class OwnCa:
    """Called `name`; its certificate is the file `certificate` in `directory`."""

    def __init__(self, directory: Path, name: str = "ca", to_day: int = _DAYS) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._subject = _name(f"optoprobe's own {name}")
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = _begun(self._subject, self._subject, self._key, min(-1, to_day - 1), to_day)
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = directory / f"{name}.pem"
        self.certificate.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def sign(self, stem: str, *names: str, from_day: int = -1, to_day: int = _DAYS) -> Signed:
        """A certificate for `names`, which may be addresses; valid from and up to so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _begun(_name(names[0]), self._subject, key, from_day, to_day)
        certificate = certificate.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
        signed = Signed(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        signed.certificate.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        signed.key.touch(mode=0o600)
        signed.key.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        return signed


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, from_day: int, to_day: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=from_day))
        .not_valid_after(now + datetime.timedelta(days=to_day))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
