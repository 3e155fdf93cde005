"""The addresses and URLs at which clients reach the server of a configuration, for commands that do not start it."""

import socket

from bootfw.config import defaults
from bootfw.config.configuration import Configuration
from bootfw.net.http.urls import WebURLs


def own_address(client: str, family: int = 4) -> str:
    """Return the address of this host on the route to *client*. No packet is sent.

    :param client: "": the default route.
    :param family: 4 or 6, if *client* is "".
    """
    six = ":" in client or (not client and family == 6)
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as routed:
        try:
            routed.connect((client or ("2001:db8::1" if six else "192.0.2.1"), 9))
            address: str = routed.getsockname()[0]
        except OSError:
            return "::1" if six else "127.0.0.1"
        return address


def web_urls(configuration: Configuration) -> WebURLs:
    """Return the URLs of the HTTP and HTTPS servers of a configuration."""
    settings, urls = configuration.settings.http, WebURLs()
    for address in settings.listen or (() if configuration.source else defaults.HTTP_LISTEN):
        urls.listening("http", address)
    for address in settings.https_listen:
        urls.listening("https", address)
    return urls
