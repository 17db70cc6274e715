"""Certificates and keys for a federation on one computer; real ones come from each house's own people (docs/federated.md)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

DAYS = 30
CURVE = ec.SECP384R1()


def make_certificate(folder: Path) -> None:
    """Write ``authority.pem``, ``server.pem`` and ``server.key``, valid on this computer for :data:`DAYS` days."""
    authority_key, server_key = ec.generate_private_key(CURVE), ec.generate_private_key(CURVE)
    authority = _named("veridice simulation")
    here = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    root = _certificate(authority, authority, authority_key, authority_key, x509.BasicConstraints(ca=True, path_length=0))
    leaf = _certificate(_named("localhost"), authority, server_key, authority_key, here)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "authority.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "server.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    _private(folder / "server.key", server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def make_key(file: Path) -> None:
    """Write a site's private key, and its public one beside it, ``.pub``."""
    key = ec.generate_private_key(CURVE)
    file.parent.mkdir(parents=True, exist_ok=True)
    _private(file, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    file.with_suffix(".pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    made = made.not_valid_after(now + timedelta(days=DAYS)).add_extension(
        extension, critical=isinstance(extension, x509.BasicConstraints)
    )
    return made.sign(signer, hashes.SHA384())


def _private(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
