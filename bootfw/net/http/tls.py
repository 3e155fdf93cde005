"""Loads the support for HTTPS, or names the package that is missing."""

from collections.abc import Callable
from typing import Any

from bootfw.config.settings import HTTPSettings
from bootfw.errors import ConfigError
from bootfw.events import Event
from bootfw.net.http.urls import WebURLs


def tls() -> Any:
    """The module bootfw.net.http.certificate, which needs pyOpenSSL. It is loaded late: HTTPS is off as a rule.

    :raise ConfigError: pyOpenSSL is not there.
    """
    try:
        from bootfw.net.http import certificate
    except ImportError as error:
        raise ConfigError(f'HTTPS needs pyOpenSSL: pip install "bootfw[tls]" ({error})', ("https-listen",)) from error
    return certificate


def renewed_certificate(reactor: Any, settings: HTTPSettings, publish: Callable[[Event], None], urls: WebURLs) -> Any:
    """A RenewedCertificate whose names *urls* knows.

    :raise ConfigError: with its whole path.
    """
    try:
        made = tls().RenewedCertificate(reactor, settings, publish, urls.certified)
    except ConfigError as error:
        raise error.under("http") from error
    urls.renew = made.renew
    return made
