"""HTTPS where what it takes is installed, and a clear word where it isn't."""

from typing import Any

from bootfw.errors import ConfigError


def tls() -> Any:
    """The module bootfw.net.certificate, which needs pyOpenSSL. It is loaded late: HTTPS is off as a rule.

    :raise ConfigError: pyOpenSSL is not there.
    """
    try:
        from bootfw.net import certificate
    except ImportError as error:
        raise ConfigError(f'HTTPS needs pyOpenSSL: pip install "bootfw[tls]" ({error})', ("https-listen",)) from error
    return certificate
