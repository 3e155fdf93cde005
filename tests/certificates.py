"""Certificates for tests, made with cryptography."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.general_name import DNSName, IPAddress
from cryptography.x509.name import Name

DAY = datetime.timedelta(days=1)
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority. Its own certificate is ``pem``, and ``der``."""

    def __init__(self) -> None:
        # Firmware of before 2023 knows no elliptic curves.
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = _named("an authority")
        self._certificate = self._issue(self._name, self._key, (), 1, True)
        self.pem = self._certificate.public_bytes(Encoding.PEM)
        self.der = self._certificate.public_bytes(Encoding.DER)

    def issue(self, *names: str, days: int = 30, curve: bool = False, bits: int = 2048) -> tuple[bytes, bytes]:
        """(certificate with its issuer's, key), both PEM, for host names and addresses; *days* < 0: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, bits)
        certificate = self._issue(_named("a server"), key, names, days, False)
        return certificate.public_bytes(Encoding.PEM) + self.pem, pem_of(key)

    def revocations(self, chain: bytes) -> bytes:
        """The list of revoked certificates (CRL), PEM, with the first one of *chain*."""
        now = datetime.datetime.now(datetime.UTC)
        serial = x509.load_pem_x509_certificate(chain).serial_number
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).add_revoked_certificate(revoked)
        builder = builder.last_update(now - DAY).next_update(now + DAY)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _issue(
        self,
        subject: Name,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        names: tuple[str, ...],
        days: int,
        authority: bool,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        issuer = self._key.public_key()
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False)
        if authority:
            # RFC 5280 section 4.2.1.3; Python 3.13 insists on it.
            builder = builder.add_extension(_SIGNS_CERTIFICATES, True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
        return builder.sign(self._key, hashes.SHA256())


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    """A private key in PEM, encrypted if there is a password."""
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _named(name: str) -> Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> IPAddress | DNSName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
