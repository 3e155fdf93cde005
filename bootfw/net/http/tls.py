"""Loads the support for HTTPS, or names the package that is missing."""

from collections.abc import Callable
from typing import Any

from bootfw.config.settings import HTTPSettings
from bootfw.errors import ConfigError
from bootfw.events import Event
from bootfw.net.http.urls import WebURLs


def tls() -> Any:
    """Return the module bootfw.net.http.certificate. It needs pyOpenSSL, so it is imported only where HTTPS is on.

    :raise ConfigError: pyOpenSSL is not installed.
    """
    try:
        from bootfw.net.http import certificate
    except ImportError as error:
        raise ConfigError(f'HTTPS needs pyOpenSSL: pip install "bootfw[tls]" ({error})', ("https-listen",)) from error
    return certificate


def renewed_certificate(reactor: Any, settings: HTTPSettings, publish: Callable[[Event], None], urls: WebURLs) -> Any:
    """Return a RenewedCertificate. *urls* gets the names that it is for.

    :raise ConfigError: see RenewedCertificate; its path begins with ``http``.
    """
    try:
        certificate = tls().RenewedCertificate(reactor, settings, publish, urls.certified)
    except ConfigError as error:
        raise error.under("http") from error
    urls.renew = certificate.renew
    return certificate
