"""What one run proves itself with to its nodes: a certificate for its own servers and a key that signs plans.

Made when the run starts, never written to a file, worthless afterwards.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "certify run")])
# Nodes pin this one certificate, and their clocks may be years off: its dates say nothing.
_FROM, _TO = datetime.datetime(1990, 1, 1), datetime.datetime(2099, 1, 1)


@dataclass(frozen=True)
class RunKeys:
    """``certificate`` is what nodes pin (PEM), ``public`` the key that their plans must be signed with (PEM)."""

    certificate: str
    public: str
    context: ssl.SSLContext
    _signer: ed25519.Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """Ed25519 (RFC 8032)."""
        return self._signer.sign(data)


def self_signed(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> tuple[bytes, bytes]:
    """A certificate that is its own authority, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(_NAME).issuer_name(_NAME).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(_FROM).not_valid_after(_TO)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    if addresses:
        names = x509.SubjectAlternativeName([x509.IPAddress(address) for address in addresses])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_keys() -> RunKeys:
    """New keys."""
    certificate, key = self_signed([])
    signer = ed25519.Ed25519PrivateKey.generate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(prefix="certify-") as file:  # the ssl module reads keys from files only
        Path(file.name).write_bytes(key + certificate)
        context.load_cert_chain(file.name)
    public = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return RunKeys(certificate.decode(), public.decode(), context, signer)
