"""Keys of one cluster: a certificate authority and what it signs, made on the host.

Files live in the cluster's state directory with mode 0600, one pair ``<name>.crt`` (``.pub`` for
SSH) and ``<name>.key`` each; they are made once per cluster and read again after that.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from xk8s.util.paths import write_private

_YEARS = datetime.timedelta(days=3650)
_BACKDATE = datetime.timedelta(days=1)
"""A restored or slow guest clock may be behind the host's."""

SSH_SERVER, SSH_CLIENT = "ssh-server", "ssh-client"
"""Names of the `Keys.ssh_key` of all nodes of a cluster, and of the user that logs in as root."""


@frozen(kw_only=True)
class Pair:
    """A certificate and its private key, both PEM."""

    cert: bytes
    key: bytes = field(repr=False)


@frozen(kw_only=True)
class Described:
    """A key of a cluster as it may be shown. ``subject`` and ``issuer`` are RFC 4514 names, "" for
    a key pair without a certificate; ``sha256`` is the fingerprint of the certificate (or of the
    public key) in DER, as OpenSSL and browsers show it; times are UTC.
    """

    name: str
    kind: Literal["authority", "certificate", "signing key"]
    subject: str = ""
    issuer: str = ""
    sans: tuple[str, ...] = ()
    not_before: datetime.datetime | None = None
    not_after: datetime.datetime | None = None
    sha256: str


def describe(directory: Path) -> tuple[Described, ...]:
    """List what `Keys` made in a directory, authorities first; private keys are not read."""
    found = [_describe(path) for path in directory.glob("*.crt")]
    kinds = ("authority", "certificate", "signing key")
    return tuple(sorted(found, key=lambda key: (kinds.index(key.kind), key.name)))


class Keys:
    """Get or create CAs, certificates, key pairs and tokens below ``directory``."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is created with mode 0700 together with the first key."""
        self.directory = directory

    def ca(self, name: str, *, common_name: str | None = None) -> Pair:
        """Return the certificate authority ``name`` (ECDSA P-256, path length 0)."""

        def make() -> Pair:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _name(common_name or name, ())
            cert = (
                _builder(subject, subject, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(ca=True), critical=True)
                .add_extension(
                    x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
                )
                .sign(key, hashes.SHA256())
            )
            return Pair(cert=_pem(cert), key=_key_pem(key))

        return self._pair(name, make)

    def cert(
        self,
        ca: str,
        name: str,
        *,
        common_name: str,
        organizations: Sequence[str] = (),
        sans: Sequence[str] = (),
        server: bool = False,
        client: bool = True,
    ) -> Pair:
        """Return a certificate signed by CA ``ca`` (created if missing). ``sans`` are DNS names or
        IP addresses, distinguished by their form.
        """
        authority = self.ca(ca)

        def make() -> Pair:
            ca_cert = x509.load_pem_x509_certificate(authority.cert)
            ca_key = serialization.load_pem_private_key(authority.key, password=None)
            assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
            key = ec.generate_private_key(ec.SECP256R1())
            usages = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
            usages += [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
            builder = (
                _builder(_name(common_name, organizations), ca_cert.subject, key.public_key())
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_usage(ca=False), critical=True)
                .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                    critical=False,
                )
            )
            if sans:
                names = x509.SubjectAlternativeName([_san(san) for san in sans])
                builder = builder.add_extension(names, critical=False)
            return Pair(cert=_pem(builder.sign(ca_key, hashes.SHA256())), key=_key_pem(key))

        return self._pair(name, make)

    def signing_key(self, name: str) -> Pair:
        """An RSA key pair for tokens; ``cert`` holds the public key in PEM."""

        def make() -> Pair:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            return Pair(cert=public, key=_key_pem(key))

        return self._pair(name, make)

    def ssh_key(self, name: str) -> Pair:
        """An Ed25519 key of SSH; ``cert`` is its public half, both as OpenSSH has them."""

        def make() -> Pair:
            key = ed25519.Ed25519PrivateKey.generate()
            public = key.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
            private = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            )
            return Pair(cert=public + b"\n", key=private)

        return self._pair(name, make, public="pub")

    def _pair(self, name: str, make: Callable[[], Pair], *, public: str = "crt") -> Pair:
        cert, key = self.directory / f"{name}.{public}", self.directory / f"{name}.key"
        if cert.exists() and key.exists():
            return Pair(cert=cert.read_bytes(), key=key.read_bytes())
        pair = make()
        write_private(key, pair.key)
        write_private(cert, pair.cert)
        return pair


def _describe(path: Path) -> Described:
    data = path.read_bytes()
    if b"BEGIN CERTIFICATE" not in data:
        public = serialization.load_pem_public_key(data).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Described(
            name=path.stem, kind="signing key", sha256=hashlib.sha256(public).hexdigest()
        )
    cert = x509.load_pem_x509_certificate(data)
    authority = cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        sans = tuple(str(name.value) for name in names)
    except x509.ExtensionNotFound:
        sans = ()
    return Described(
        name=path.stem,
        kind="authority" if authority else "certificate",
        subject=cert.subject.rfc4514_string(),
        issuer=cert.issuer.rfc4514_string(),
        sans=sans,
        not_before=cert.not_valid_before_utc,
        not_after=cert.not_valid_after_utc,
        sha256=cert.fingerprint(hashes.SHA256()).hex(),
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _YEARS)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _san(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
