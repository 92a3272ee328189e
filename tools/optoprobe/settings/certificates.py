"""Certificates for TLS with the broker, brought from the owner's files into the form in which a board keeps them.

In the settings on a computer `mqtt_tls_ca`, `mqtt_tls_cert` and `mqtt_tls_key` name files, or hold a PEM text; on a
board they name the files of FILES. One certificate or key is kept as DER, which is smallest; several certificates stay
PEM, as Mbed TLS takes no two of them in DER.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CA, CERTIFICATE, KEY = "mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key"
FILES = {CA: "mqtt_ca.der", CERTIFICATE: "mqtt_cert.der", KEY: "mqtt_key.der"}
_MOST_BYTES = 8192  # that the firmware reads of a file
_PEM = b"-----BEGIN "


class CertificateError(Exception):
    """The text is one sentence without its full stop; nothing of a key is in it."""


def is_text(given: str) -> bool:
    """Is it a certificate or key itself, rather than a file's name?"""
    return given.lstrip().startswith(_PEM.decode())


def placed(settings: Mapping[str, Any], folder: Path, is_all: bool = True) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(the settings as a board has them, content of its files by their name); `folder` is where relative names begin.

    `is_all`: the board will have these settings and no others. Raises CertificateError.
    """
    values = dict(settings)
    files: dict[str, bytes] = {}
    for key, name in FILES.items():
        given = values.get(key)
        if not given:
            continue
        if not isinstance(given, str):
            raise CertificateError(f"{key}: give the name of a PEM or DER file")
        content = given.encode() if is_text(given) else _read(key, folder / given)
        files[name] = _KINDS[key](key, content)
        if len(files[name]) > _MOST_BYTES:
            raise CertificateError(f"{key}: it is larger than {_MOST_BYTES} bytes: leave out what the broker needs not")
        values[key] = name
    if bool(values.get(CERTIFICATE)) != bool(values.get(KEY)):
        raise CertificateError(f"{CERTIFICATE} and {KEY} belong together: give both or none")
    if FILES[CERTIFICATE] in files and FILES[KEY] in files:
        _check_pair(files[FILES[CERTIFICATE]], files[FILES[KEY]])
    if is_all and values.get(CERTIFICATE) and not values.get(CA):
        raise CertificateError(f"{CERTIFICATE} needs {CA} too: give the CA that has signed the broker's certificate")
    return values, files


def _read(key: str, file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(1 << 20)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or "no such name"
        raise CertificateError(f"{key}: the file cannot be read ({reason}): check its name") from error


def _certificates(key: str, content: bytes) -> list[Any]:
    from cryptography import x509

    try:
        if _PEM in content:
            return list(x509.load_pem_x509_certificates(content.strip() + b"\n"))
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        what = "a private key" if b"PRIVATE KEY" in content else "no whole certificate"
        raise CertificateError(f"{key}: it is {what}: give a certificate, PEM or DER") from error


def _kept(certificates: Iterable[Any]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    several = list(certificates)
    if len(several) == 1:
        return bytes(several[0].public_bytes(Encoding.DER))
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in several)


def _ca(key: str, content: bytes) -> bytes:
    from cryptography import x509

    certificates = _certificates(key, content)
    for certificate in certificates:
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            is_ca = False
        if not is_ca and certificate.issuer != certificate.subject:
            who = certificate.issuer.rfc4514_string()
            raise CertificateError(f"{key}: it is no CA's certificate: give that of its issuer, {who}")
        _check_dates(key, certificate)
    return _kept(certificates)


def _check_dates(key: str, certificate: Any) -> None:
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise CertificateError(f"{key}: it has expired ({certificate.not_valid_after_utc:%Y-%m-%d}): have it renewed")


def _own_certificate(key: str, content: bytes) -> bytes:
    certificates = _certificates(key, content)
    _check_dates(key, certificates[0])
    return _kept(certificates)


def _own_key(key: str, content: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_private_key if _PEM in content else serialization.load_der_private_key
    try:
        private = load(content.strip() if _PEM in content else content, None)
    except TypeError as error:
        raise CertificateError(f"{key}: it is behind a password: give the key without one") from error
    except Exception as error:  # UnsupportedAlgorithm too; its text may quote the key
        raise CertificateError(f"{key}: it is no whole private key: give one, PEM or DER") from error
    encoding, form = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return bytes(private.private_bytes(encoding, form, serialization.NoEncryption()))


def _check_pair(certificate: bytes, key: bytes) -> None:
    from cryptography.hazmat.primitives import serialization

    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    own = _certificates(CERTIFICATE, certificate)[0].public_key().public_bytes(encoding, form)
    if own != serialization.load_der_private_key(key, None).public_key().public_bytes(encoding, form):
        raise CertificateError(f"{KEY} is not the key of {CERTIFICATE}: give those that belong together")


_KINDS = {CA: _ca, CERTIFICATE: _own_certificate, KEY: _own_key}
