"""Certificates: read, checked and copied into a generation, so that nginx never reads a pair that is half renewed.

Checked are the match of certificate and key, the order of the chain, the time and the hosts. Start at read().
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxyctl.adapters.nginx.generations.sources import FileRefused, text_of
from proxyctl.domain.model import Tls, UpstreamTls


def read(tls: Tls, hosts: tuple[str, ...], now: datetime) -> tuple[str, str]:
    """A chain, the certificate first, and its key, that clients of these hosts can use now. Raises FileRefused."""
    chain, key = text_of(tls.cert), text_of(tls.key)
    certificates = _parsed(tls.cert, chain)
    _refuse_another_key(certificates[0], tls, key)
    _refuse_disorder(certificates, tls.cert)
    _refuse_the_time(certificates[0], tls.cert, now)
    _refuse_other_hosts(certificates[0], tls.cert, hosts)
    return chain, key


def read_client(tls: UpstreamTls, now: datetime) -> tuple[str, str]:
    """A chain and its key, with which replicas may know us now. Raises FileRefused."""
    chain, key = text_of(tls.cert), text_of(tls.key)
    certificates = _parsed(tls.cert, chain)
    _refuse_another_key(certificates[0], tls, key)
    _refuse_disorder(certificates, tls.cert)
    _refuse_the_time(certificates[0], tls.cert, now)
    return chain, key


def read_issuers(path: str, now: datetime) -> str:
    """Certificates that may be believed now. Raises FileRefused."""
    text = text_of(path)
    for certificate in _parsed(path, text):
        _refuse_the_time(certificate, path, now)
    return text


def end_of(chain: str) -> datetime:
    return x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc


def _parsed(path: str, chain: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain.encode())
    except ValueError as error:
        raise FileRefused(f"{path} holds no certificate in PEM") from error


def _refuse_another_key(certificate: x509.Certificate, tls: Tls | UpstreamTls, text: str) -> None:
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError as error:
        raise FileRefused(f"{tls.key} is encrypted; nginx needs it without a passphrase") from error
    except ValueError as error:
        raise FileRefused(f"{tls.key} holds no private key in PEM") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise FileRefused(f"{tls.key} is not the key of {tls.cert}")


def _refuse_disorder(certificates: list[x509.Certificate], path: str) -> None:
    for number, (one, issuer) in enumerate(pairwise(certificates), start=2):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            what = f"certificate {number} in {path} did not issue the one before it"
            raise FileRefused(f"{what}; write the host's first, then its issuers in order") from error


def _refuse_the_time(certificate: x509.Certificate, path: str, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise FileRefused(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise FileRefused(f"{path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def _refuse_other_hosts(certificate: x509.Certificate, path: str, hosts: tuple[str, ...]) -> None:
    names = set(_names(certificate))
    for host in hosts:
        if host not in names and f"*.{host.partition('.')[2]}" not in names:
            raise FileRefused(f"{path} is not for {host} but for {', '.join(sorted(names)) or 'no host'}")


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    yield from (name.lower() for name in found.value.get_values_for_type(x509.DNSName))
