"""Certificates made for a test. Start at a_pair()."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from proxyctl.domain.model import Tls

NOW = datetime.now(UTC)


def a_pair(
    folder: Path,
    name: str,
    *hosts: str,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=90),
    passphrase: bytes = b"",
) -> Tls:
    """A certificate that signs itself, for these hosts, and its key: NAME.crt and NAME.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .sign(key, SHA256())
    )
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return Tls(cert=str(cert_path), key=str(key_path))


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def as_docker_names_them(folder: Path, *hosts: str, ends: timedelta = timedelta(days=90)) -> Path:
    """ca.pem, cert.pem and key.pem: one that signs itself is the engine's, its client's and the authority."""
    folder.mkdir()
    pair = a_pair(folder, "engine", *hosts, ends=ends)
    for made, file in ((pair.cert, "ca.pem"), (pair.cert, "cert.pem"), (pair.key, "key.pem")):
        folder.joinpath(file).write_bytes(Path(made).read_bytes())
    return folder
