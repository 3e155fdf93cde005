"""Where clients reach our own HTTP and HTTPS: what ``{http}`` and ``{https}`` in the name of a boot file stand for."""

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from attrs import define, field

from bootfw.config.settings import ListenAddress

_STANDARD = {"http": 80, "https": 443}
_ANY = ("0.0.0.0", "::")


@define(eq=False)
class WebURLs:
    """Builds our URLs from the addresses that HTTP and HTTPS listen on now."""

    names: Sequence[str] = ()
    """Host names and addresses that the certificate is for. The URL of HTTPS has our address if that is one of them,
    and else the first host name, since a client refuses a certificate that is not for the host in the URL."""
    renew: Callable[[], None] = lambda: None
    """Called before the URL of HTTPS is used: where workers serve the files, only this loads a new certificate here."""
    share: Callable[[str, ListenAddress, bool], None] | None = None
    """Sends what update() notes to the workers, or to the other nodes; None: there are none."""
    _listening: dict[str, list[ListenAddress]] = field(factory=dict, init=False)
    """Scheme -> where it is served."""
    _urls: dict[str, tuple[str, str]] = field(factory=dict, init=False)
    """Our address -> what of() returns: each DHCP reply may need it, and it changes only with the attributes above."""
    _absent: set[tuple[str, ListenAddress]] = field(factory=set, init=False)
    """In a worker: sockets that are open here, but whose address this host does not have now."""

    def update(self, scheme: str, address: ListenAddress, bound: bool) -> None:
        """Note whether clients can reach our socket of *scheme* at *address*, and share that.

        :param bound: whether the socket is.
        """
        served = bound and (scheme, address) not in self._absent
        self._note(scheme, address, served)
        if self.share is not None:
            self.share(scheme, address, served)

    def on_message(self, scheme: str, address: ListenAddress, bound: bool) -> None:
        """Note what the main process has shared: whether this host has the address of a socket that is open here."""
        if bound:
            self._absent.discard((scheme, address))
        else:
            self._absent.add((scheme, address))
        self._note(scheme, address, bound)

    def _note(self, scheme: str, address: ListenAddress, served: bool) -> None:
        if served:
            self.listening(scheme, address)
        else:
            self.lost(scheme, address)

    def listening(self, scheme: str, address: ListenAddress) -> None:
        """Note that *scheme*, "http" or "https", is served at *address*."""
        addresses = self._listening.setdefault(scheme, [])
        if address not in addresses:
            addresses.append(address)
            self._urls.clear()

    def lost(self, scheme: str, address: ListenAddress) -> None:
        """Note that *scheme* is not served at *address*, for instance since this host does not have it now."""
        if address in self._listening.get(scheme, ()):
            self._listening[scheme].remove(address)
            self._urls.clear()

    def certified(self, names: Sequence[str]) -> None:
        """Note that the certificate is for *names* from now on."""
        self.names = names
        self._urls.clear()

    def clear(self) -> None:
        """Note that nothing is served any more."""
        self._listening.clear()
        self._urls.clear()

    def of(self, server: str) -> tuple[str, str]:
        """Return the beginning of our URLs for a client: (``http://10.77.0.1:8069``, the same with https).

        :param server: our address on the client's link.
        :return: "" for a scheme that is not served there.
        """
        if "https" in self._listening:
            self.renew()
        urls = self._urls.get(server)
        if urls is None:
            urls = self._urls[server] = self._url("http", server), self._url("https", server)
        return urls

    def _url(self, scheme: str, server: str) -> str:
        found = _reached(self._listening.get(scheme, ()), server) if server else None
        if found is None:
            return ""
        host, port = found
        if scheme == "https" and self.names and host not in self.names:
            host = next((name for name in self.names if _is_host_name(name)), host)
        url_host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{url_host}" if port == _STANDARD[scheme] else f"{scheme}://{url_host}:{port}"


def _reached(listening: Sequence[ListenAddress], server: str) -> ListenAddress | None:
    """Return host and port of the listener that a client on the link of *server* reaches; None: it reaches none."""
    server = server.partition("%")[0]
    server_address = ip_address(server)
    reachable = []
    for address, port in listening:
        host = address.partition("%")[0]
        if host == server:
            return host, port
        if ip_address(host).version == server_address.version:
            reachable.append((server if host in _ANY else host, port))
    # By a router a client comes to our other addresses too, but never to a loopback one.
    reachable.sort(key=lambda address: address[0] != server)
    return next((each for each in reachable if not ip_address(each[0]).is_loopback or server_address.is_loopback), None)


def _is_host_name(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return "*" not in name
    return False
