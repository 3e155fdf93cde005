"""The URLs at which clients reach our own HTTP and HTTPS listeners."""

import pytest

from bootfw.config.settings import ListenAddress
from bootfw.net.http.urls import WebURLs


def urls(*listeners: tuple[str, str, int], server: str = "10.77.0.1", names: tuple[str, ...] = ()) -> tuple[str, str]:
    """The HTTP and the HTTPS URL for the clients of *server*."""
    web_urls = WebURLs(names)
    for scheme, host, port in listeners:
        web_urls.listening(scheme, (host, port))
    return web_urls.of(server)


@pytest.mark.parametrize(
    ("host", "port", "server", "url"),
    [
        ("0.0.0.0", 8069, "10.77.0.1", "http://10.77.0.1:8069"),
        ("0.0.0.0", 80, "10.77.0.1", "http://10.77.0.1"),
        ("0.0.0.0", 443, "10.77.0.1", "http://10.77.0.1:443"),
        ("::", 8069, "fd77::1", "http://[fd77::1]:8069"),
        ("::", 80, "fd77::1", "http://[fd77::1]"),
        ("::", 80, "fe80::1%eth0", "http://[fe80::1]"),
        ("fe80::1%eth0", 80, "fe80::1%eth0", "http://[fe80::1]"),
        # Another address of ours, which a client can reach through its router.
        ("10.88.0.1", 8069, "10.77.0.1", "http://10.88.0.1:8069"),
        # An address that the client can't reach.
        ("127.0.0.1", 8069, "10.77.0.1", ""),
        ("::", 8069, "10.77.0.1", ""),
        ("0.0.0.0", 8069, "fd77::1", ""),
        ("127.0.0.1", 8069, "127.0.0.1", "http://127.0.0.1:8069"),
        ("0.0.0.0", 8069, "", ""),
    ],
)
def test_url_of_a_single_listener(host: str, port: int, server: str, url: str) -> None:
    assert urls(("http", host, port), server=server) == (url, "")


def test_nearest_of_several_listeners_is_used() -> None:
    far, any_, near = ("http", "10.88.0.1", 1), ("http", "0.0.0.0", 2), ("http", "10.77.0.1", 3)
    assert urls(far, any_, near)[0] == "http://10.77.0.1:3"
    assert urls(far, any_)[0] == "http://10.77.0.1:2"
    assert urls(("http", "127.0.0.1", 4), far)[0] == "http://10.88.0.1:1"


@pytest.mark.parametrize(
    ("names", "url"),
    [
        ((), "https://10.77.0.1:8443"),
        (("boot.example", "10.77.0.1"), "https://10.77.0.1:8443"),
        (("*.example", "10.88.0.1", "boot.example", "other.example"), "https://boot.example:8443"),
        (("*.example",), "https://10.77.0.1:8443"),
    ],
)
def test_https_is_reached_by_a_name_of_the_certificate(names: tuple[str, ...], url: str) -> None:
    assert urls(("http", "0.0.0.0", 80), ("https", "0.0.0.0", 8443), names=names) == ("http://10.77.0.1", url)


def test_standard_https_port_is_left_out_of_the_url() -> None:
    assert urls(("https", "::", 443), server="fd77::1") == ("", "https://[fd77::1]")


def test_a_new_certificate_is_loaded_before_its_name_is_used() -> None:
    web_urls = WebURLs()
    web_urls.renew = lambda: web_urls.certified(["renewed.example"])
    web_urls.listening("http", ("0.0.0.0", 80))
    assert web_urls.of("10.77.0.1")[0] == "http://10.77.0.1"
    assert web_urls.names == ()
    web_urls.listening("https", ("0.0.0.0", 443))
    assert web_urls.of("10.77.0.1")[1] == "https://renewed.example"


def test_changes_are_reported_at_once() -> None:
    web_urls = WebURLs()
    assert web_urls.of("10.77.0.1") == ("", "")
    web_urls.listening("https", ("0.0.0.0", 443))
    assert web_urls.of("10.77.0.1") == ("", "https://10.77.0.1")
    web_urls.certified(["boot.example"])
    assert web_urls.of("10.77.0.1") == ("", "https://boot.example")
    web_urls.lost("http", ("0.0.0.0", 80))
    web_urls.lost("https", ("10.77.0.2", 443))
    assert web_urls.of("10.77.0.1") == ("", "https://boot.example")
    web_urls.lost("https", ("0.0.0.0", 443))
    assert web_urls.of("10.77.0.1") == ("", "")
    web_urls.listening("http", ("0.0.0.0", 80))
    assert web_urls.of("10.77.0.1") == ("http://10.77.0.1", "")
    web_urls.clear()
    assert web_urls.of("10.77.0.1") == ("", "")


def test_a_socket_that_is_bound_is_shared() -> None:
    shared: list[tuple[str, ListenAddress, bool]] = []
    web_urls = WebURLs(share=lambda *message: shared.append(message))
    web_urls.update("http", ("10.77.0.1", 8069), True)
    assert web_urls.of("10.77.0.1")[0] == "http://10.77.0.1:8069"
    web_urls.update("http", ("10.77.0.1", 8069), False)
    assert web_urls.of("10.77.0.1")[0] == ""
    assert shared == [("http", ("10.77.0.1", 8069), True), ("http", ("10.77.0.1", 8069), False)]


def test_a_worker_names_no_address_that_its_host_does_not_have() -> None:
    web_urls, address = WebURLs(), ("10.77.0.1", 8069)
    web_urls.on_message("http", address, False)
    web_urls.update("http", address, True)
    assert web_urls.of("10.77.0.1")[0] == "", "the socket is open, and its address is not there"
    web_urls.on_message("http", address, True)
    assert web_urls.of("10.77.0.1")[0] == "http://10.77.0.1:8069"
    web_urls.on_message("http", address, False)
    assert web_urls.of("10.77.0.1")[0] == ""
    web_urls.on_message("http", address, True)
    web_urls.update("http", address, True)
    assert web_urls.of("10.77.0.1")[0] == "http://10.77.0.1:8069"
