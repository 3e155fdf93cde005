"""Placeholders in the names of boot files."""

import re
from collections.abc import Callable, Mapping

from bootfw.errors import BootRefused, ConfigError
from bootfw.values import BootRequest

PLACEHOLDERS: Mapping[str, Callable[[BootRequest], str | None]] = {
    "http": lambda request: request.http_url,
    "https": lambda request: request.https_url,
    # In a URL an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
    "server": lambda request: f"[{request.server}]" if ":" in request.server else request.server,
    "mac": lambda request: request.mac,
    "uuid": lambda request: request.uuid,
    "architecture": lambda request: request.architecture,
}
"""Name -> function that returns its value for a request; None or "": the request has none."""

LISTEN_KEYS: Mapping[str, str] = {"http": "listen", "https": "https-listen"}
"""Placeholder -> the key of ``[http]`` that makes us serve it."""

# iPXE has variables of its own, such as ${net0/mac}.
_PLACEHOLDER = re.compile(r"(?<!\$)\{([^{}]*)\}")


def expand(text: str, request: BootRequest) -> str:
    """Return *text* with the values of its PLACEHOLDERS; everything else stays as it is.

    :raise BootRefused: the request does not have what a placeholder stands for, or we don't serve it.
    """

    def value(match: "re.Match[str]") -> str:
        get = PLACEHOLDERS.get(match[1])
        if get is None:
            return match[0]
        found = get(request)
        if not found and match[1] in LISTEN_KEYS:
            raise BootRefused(f'"{text}" needs {match[0]}, and {not_served(match[1])}')
        if not found:
            raise BootRefused(f'"{text}" needs {match[0]}, which this client does not send')
        return found

    return _PLACEHOLDER.sub(value, text) if "{" in text else text


def not_served(scheme: str) -> str:
    """Return the reason for the operator when a client needs our own HTTP or HTTPS server, and there is none."""
    return f"no {scheme.upper()} is served where this client could reach it: set [http] {LISTEN_KEYS[scheme]}"


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders in *text*."""
    return [found[1] for found in _PLACEHOLDER.finditer(text) if found[1] in PLACEHOLDERS]


def check_placeholders(text: str) -> None:
    """Check that :func:`expand` knows all placeholders in *text*.

    :raise ConfigError: it does not.
    """
    for found in _PLACEHOLDER.finditer(text):
        if found[1] not in PLACEHOLDERS:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ConfigError(f"unknown placeholder {found[0]}; known: {known}; iPXE's own are written ${{...}}")
