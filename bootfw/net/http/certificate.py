"""The certificate that HTTPS is served with, read again when its file changes. Needs pyOpenSSL: ``bootfw[tls]``."""

import os
import re
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from inspect import signature
from typing import Any

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, __version__
from OpenSSL.crypto import X509, PKey
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from bootfw.config.settings import HTTPSettings
from bootfw.errors import ConfigError
from bootfw.events import CertificateLoaded, CertificateProblem, Event

_TAKES_VALUES_OF_CRYPTOGRAPHY = tuple(map(int, __version__.split(".")[:2])) >= (24, 3)
"""pyOpenSSL takes certificates and keys as they are. Before, only in wrappers of its own; Debian 12 has 23.0."""

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
"""A certificate among others. cryptography before 39 reads only the first one; Debian 12 has 38."""


@frozen
class Certificate:
    """A certificate with its key, ready for use."""

    context: SSL.Context = field(repr=False)
    names: tuple[str, ...]
    """The host names and addresses that it is for (its subject alternative names)."""
    begins: datetime
    ends: datetime

    def problem(self, now: float) -> str:
        """Return why clients will refuse it, for the operator; "": it is valid.

        :param now: seconds since the epoch.
        """
        moment = datetime.fromtimestamp(now, UTC)
        if moment > self.ends:
            return f"expired on {self.ends:%Y-%m-%d %H:%M} UTC: clients refuse it"
        return f"is not valid before {self.begins:%Y-%m-%d %H:%M} UTC" if moment < self.begins else ""


def load(settings: HTTPSettings) -> Certificate:
    """Load the files that ``certificate`` and ``key`` name.

    :raise ConfigError: its path is the key below ``[http]`` that is wrong.
    """
    chain_path, key_path = settings.certificate, settings.key or settings.certificate
    key_setting = "key" if settings.key else "certificate"
    chain = _chain(_read(chain_path, "certificate"), chain_path)
    key = _key(_read(key_path, key_setting), key_path, key_setting)
    if _public(chain[0]) != _public(key):
        raise ConfigError(
            f'the key in "{key_path}" does not belong to the first certificate in "{chain_path}"', ("key",)
        )
    try:
        context = _context(chain, key)
    except SSL.Error as error:
        reason = (
            ", ".join(entry[-1] for entry in error.args[0]) if error.args and error.args[0] else "OpenSSL refuses it"
        )
        raise ConfigError(f'"{chain_path}" can\'t be used: {reason}', ("certificate",)) from error
    return Certificate(context, _names(chain[0]), *_validity(chain[0]))


@implementer(IOpenSSLServerConnectionCreator)
class RenewedCertificate:
    """The certificate for new connections, reloaded when its files change: a renewal needs no restart.

    A new certificate that can't be used is reported once, and the previous one stays: the two files are not replaced at
    the same moment, and after privileges were dropped we may not be allowed to read the key.

    :param reactor: IReactorTime.
    :param publish: called with a CertificateLoaded or CertificateProblem.
    :param names_changed: called with the names of each certificate that is loaded.
    :param wall: the time of day, in seconds since the epoch.
    :raise ConfigError: see load().
    """

    def __init__(
        self,
        reactor: Any,
        settings: HTTPSettings,
        publish: Callable[[Event], None],
        names_changed: Callable[[Sequence[str]], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._publish = publish
        self._names_changed = names_changed
        self._wall = wall
        self._loaded_files = self._file_identities()
        self._reported = ""
        self._use(load(settings))

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See IOpenSSLServerConnectionCreator."""
        # The files are looked at for each connection, by two stat(2). With a timer, clients would get the old
        # certificate until it fires.
        self.renew()
        self._check()
        return SSL.Connection(self._current.context, None)

    def renew(self) -> None:
        """Reload the certificate if a file has changed."""
        # The files are looked at before they are read: a change in between is found the next time.
        identities = self._file_identities()
        if identities != self._loaded_files:
            self._loaded_files = identities
            try:
                self._use(load(self._settings))
            except ConfigError as error:
                self._report(f"{error.message}; the previous one stays in use")

    def tls_factory(self, site: Any) -> Any:
        """Return a protocol factory that serves *site* by TLS."""
        site.explain = refusal
        factory = TLSMemoryBIOFactory(self, False, site, **_clock(self._reactor))
        factory.noisy = False
        return factory

    def _use(self, certificate: Certificate) -> None:
        self._current = certificate
        self._reported = ""
        ends = certificate.ends.timestamp()
        self._publish(CertificateLoaded(self._reactor.seconds(), self._settings.certificate, certificate.names, ends))
        self._names_changed(certificate.names)
        self._check()

    def _check(self) -> None:
        problem = self._current.problem(self._wall())
        if problem:
            self._report(problem)

    def _report(self, problem: str) -> None:
        if problem != self._reported:
            self._reported = problem
            self._publish(CertificateProblem(self._reactor.seconds(), self._settings.certificate, problem))

    def _file_identities(self) -> list[tuple[int, ...]]:
        """Return what differs after each change of one of the two files; for a file that is not there, its errno."""
        identities: list[tuple[int, ...]] = []
        for path in (self._settings.certificate, self._settings.key or self._settings.certificate):
            try:
                # certbot's files are symbolic links, and a renewal replaces their targets: stat(2) follows them.
                status = os.stat(path)
                identities.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError as error:
                identities.append((error.errno or 0,))
        return identities


_REFUSALS = {
    "unknown ca": "it does not trust the issuer of the certificate",
    "certificate expired": "it takes the certificate for expired; is its clock right?",
    "bad certificate": "it refuses the certificate; is it for the name or address in the URL?",
    "certificate unknown": "it refuses the certificate; is it for the name or address in the URL?",
    "http request": "it speaks HTTP on the port of HTTPS",
    "no shared cipher": "it has no cipher in common with us",
    "unsupported protocol": "it has no TLS 1.2",
}


_CLOSED = (
    "it closed the connection during the handshake; does it trust the issuer of the certificate, and is the "
    "certificate for the name or address in the URL?"
)
"""EDK2 closes the connection without an alert, so the reason can only be guessed."""


def refusal(error: BaseException, transport: Any) -> str:
    """Return why a TLS handshake failed, for the operator; "": the connection ended for another reason.

    :param error: the reason of connectionLost().
    :param transport: of the connection that is lost.
    """
    entries = error.args[0] if isinstance(error, SSL.Error) and error.args else None
    if not entries or not isinstance(entries, list):
        connection = transport.getHandle()
        # A port scanner closes the connection before its ClientHello, and any client may close it after the handshake.
        has_client_hello = connection is not None and connection.client_random() is not None
        return _CLOSED if has_client_hello and connection.get_peer_finished() is None else ""
    reason = str(entries[-1][-1])
    meaning = next((text for openssl_text, text in _REFUSALS.items() if openssl_text in reason), "")
    return f"{meaning} ({reason})" if meaning else reason


def _read(path: str, setting: str) -> bytes:
    try:
        with open(path, "rb") as file:
            # An editor of Windows puts a byte order mark before the first line, and PEM has none.
            return file.read().removeprefix(BOM_UTF8)
    except OSError as error:
        raise ConfigError(f'"{path}" can\'t be read: {error.strerror}', (setting,)) from error


def _chain(pem: bytes, path: str) -> list[x509.Certificate]:
    try:
        if hasattr(x509, "load_pem_x509_certificates"):
            return x509.load_pem_x509_certificates(pem)
        return [x509.load_pem_x509_certificate(block) for block in _BLOCK.findall(pem) or [b""]]
    except ValueError as error:
        raise ConfigError(f'"{path}" holds no certificate in PEM form', ("certificate",)) from error


def _key(pem: bytes, path: str, setting: str) -> Any:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigError(
            f'the key in "{path}" is encrypted, and a server can not be given the password', (setting,)
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        missing = ', which needs a key = "...pem" beside it' if setting == "certificate" else ""
        raise ConfigError(f'"{path}" holds no private key in PEM form{missing}', (setting,)) from error


def _public(holder: Any) -> bytes:
    encoded: bytes = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _clock(reactor: Any) -> dict[str, Any]:
    # For the delay in which small writes are joined, which Twisted before 23.8 does not have.
    return {"clock": reactor} if "clock" in signature(TLSMemoryBIOFactory).parameters else {}


def _validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # cryptography before 42; Debian 12 has 38. The times are in UTC, without a tzinfo.
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def _context(chain: Sequence[x509.Certificate], key: Any) -> SSL.Context:
    # OpenSSL's own list of ciphers, which for TLS 1.2 still has those with RSA key exchange: EDK2 before 2023 and iPXE
    # know no elliptic curves. No firmware needs a version before 1.2.
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    certificates: Sequence[Any] = chain
    if not _TAKES_VALUES_OF_CRYPTOGRAPHY:
        certificates, key = [X509.from_cryptography(each) for each in chain], PKey.from_cryptography_key(key)
    context.use_certificate(certificates[0])
    for issuer in certificates[1:]:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(key)
    return context
