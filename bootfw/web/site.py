"""The web site of the pages: limits on connections and requests, and the host names that it accepts."""

import io
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site

from bootfw.config.settings import APIToken, WebSettings
from bootfw.net.clock import shift_of
from bootfw.net.http.channel import Channel, QuietRequest
from bootfw.service import BootService
from bootfw.web.access import Access
from bootfw.web.activity import Activity
from bootfw.web.api import (
    ActionPage,
    MachinesPage,
    RecordsPage,
    ValuePage,
    check_file,
    status_record,
    throughput_record,
)
from bootfw.web.assets import assets
from bootfw.web.health import Alive, Ready
from bootfw.web.replies import Page, as_json, refusal, set_headers
from bootfw.web.sockets import Sockets
from bootfw.web.streams import Streams
from bootfw.web.v1 import Version1

CONNECTIONS = 64
"""Most connections at a time; further ones are closed. A browser opens up to six, a probe one."""

LONGEST_BODY = 4096
"""Bytes in the body of a request."""

_IDLE = 30.0
"""Seconds until a connection without a complete request is closed."""


class Connection(Channel):
    """A connection of a browser or probe."""

    def connectionMade(self) -> None:
        """See IProtocol."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.joined(self)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        """See IProtocol."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory.left(self)


class WebRequest(QuietRequest):
    """A request with a short body, for a name of this host."""

    _length = 0

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: Twisted would write a long one to a temporary file."""
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep the body up to LONGEST_BODY bytes."""
        self._length += len(data)
        if self._length <= LONGEST_BODY:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """Refuse requests for unknown hosts or with a long body; find the resource of the others."""
        set_headers(self)
        names = self.requestHeaders.getRawHeaders(b"host", [])
        site: WebSite = self.channel.site  # type: ignore[attr-defined]
        if not all(site.serves(name) for name in names):
            self._refuse(421, "this site does not have that name; add it to [web] hosts")
        elif self._length > LONGEST_BODY:
            self._refuse(413, f"the body has more than {LONGEST_BODY} bytes")
        else:
            super().process()  # type: ignore[no-untyped-call]

    def _refuse(self, status: int, reason: str) -> None:
        self.write(refusal(self, status, reason))  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]


class _Folder(Resource):
    """A path with others below it."""

    def getChild(self, path: bytes, request: Any) -> Any:
        """See IResource."""
        return _Missing()

    def render(self, request: Any) -> bytes:
        """Respond that there is nothing at the path itself."""
        return as_json(request, {"paths": sorted(name.decode() for name in self.children)})


class _Missing(Page):
    def get(self, request: Any) -> bytes:
        """See Page."""
        return refusal(request, 404, "there is nothing at this path")


class WebSite(Site):
    """The pages about one BootService. An embedder binds it by add_web(), or puts ``root`` into a site of its own.

    :param reactor: IReactorTime.
    :param hosts: names by which browsers may reach it, beside addresses, ``localhost`` and the name of this host.
    :param token: requests with it may change something; "": nothing can be changed.
    :param api_tokens: of the programs that may use ``/api/v1``; without any it is off.
    """

    noisy = False
    protocol = Connection  # type: ignore[assignment]

    def __init__(
        self,
        reactor: Any,
        boot: BootService,
        hosts: Iterable[str] = (),
        token: str = "",
        api_tokens: Sequence[APIToken] = (),
    ) -> None:
        self.root = _Folder()  # type: ignore[no-untyped-call]
        super().__init__(self.root, WebRequest, reactor=reactor, timeout=_IDLE)  # type: ignore[no-untyped-call]
        self._names = _names(hosts)
        self._connections: set[Connection] = set()
        self._emptied: Deferred[None] | None = None
        streams = Streams(reactor, lambda: [("status", status()), ("throughput", throughput())])
        self.activity = activity = Activity(Sockets(boot), streams.boot_changed, streams.status_changed)
        """The state of transfers and boots, from the events."""
        boot.add_observer(activity, "web")
        self._access = access = Access(reactor, token, api_tokens)
        began = reactor.seconds()
        wall = partial(_wall_clock, reactor)

        def status() -> dict[str, Any]:
            return status_record(boot, activity, access, began, wall())

        def throughput() -> dict[str, Any]:
            return throughput_record(activity, reactor.seconds())

        self.mount("healthz", Alive())
        self.mount("readyz", Ready(activity.sockets))
        for name, asset in assets().items():
            self.mount("" if name == "index.html" else name, asset)
        api = _Folder()  # type: ignore[no-untyped-call]
        self.mount("api", api)
        records_page, action_page = partial(RecordsPage, reactor, boot), partial(ActionPage, boot, access)
        for path, page in {
            "status": ValuePage(status),
            "throughput": ValuePage(throughput),
            "events": streams,
            "boots": records_page("boots", ["machine", "verdict", "since", "before"], limited=True),
            "machines": MachinesPage(
                records_page("machines", ["machine", "tag", "verdict"], limited=True),
                records_page("boot", path="machine", limited=True),
            ),
            "leases": records_page("leases", ["who", "state", "network"]),
            "orders": records_page("next"),
            "images": records_page("images"),
            "machine": action_page("set-machine", ["mac"], optional=["name", "tags", "image"]),
            "order": action_page("order", ["mac", "file"], partial(check_file, boot)),
            "v1": Version1(boot, access),
            "cancel": action_page("cancel", ["mac"]),
            "release": action_page("release", ["address"]),
        }.items():
            api.putChild(path.encode(), page)

    def use(self, settings: WebSettings) -> None:
        """Take the names and the tokens of other settings, from now on."""
        self._names = _names(settings.hosts)
        self._access.use(settings.token, settings.api_tokens)

    def mount(self, name: str, resource: IResource) -> None:
        """Serve *resource* as ``/name``, such as ``/metrics``."""
        self.root.putChild(name.encode(), resource)

    def serves(self, header: bytes) -> bool:
        """Return whether the Host header of a request may be *header*.

        A foreign page whose host name resolves to our address (DNS rebinding) sends that name, so only configured names
        are accepted. Addresses always are.
        """
        host = _without_port(header.decode("ascii", "replace").lower()).rstrip(".")
        return host in self._names or _is_address(host)

    def buildProtocol(self, addr: Any) -> Any:
        """See IProtocolFactory. None: there are too many connections."""
        if len(self._connections) >= CONNECTIONS:
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def joined(self, connection: Connection) -> None:
        """Count a connection that a client has opened."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """Remove a connection that is closed; after the last one, close() is complete."""
        self._connections.discard(connection)
        if self._emptied is not None and not self._connections:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def close(self) -> "Deferred[None]":
        """Reset every connection; no response has to be completed.

        :return: fires when all connections are closed.
        """
        for connection in list(self._connections):
            transport: Any = connection.transport
            transport.abortConnection()
        if not self._connections:
            return succeed(None)
        if self._emptied is None:
            self._emptied = Deferred()
        return self._emptied

    # Site opens an access log in startFactory(), and starts a timer that formats the date of its lines each second.
    # bootfw logs what changes something itself, so it needs neither.

    def startFactory(self) -> None:
        """Open no access log."""

    def stopFactory(self) -> None:
        """Close none."""


def add_web(reactor: Any, boot: BootService, settings: WebSettings, *, optional: bool = False) -> WebSite:
    """Add the pages to *boot*, which binds and closes them with its other ports.

    :param optional: an address that can't be bound is reported, and the service starts without it.
    """
    site = WebSite(reactor, boot, settings.hosts, settings.token, settings.api_tokens)
    boot.add_site("web", settings.listen, site, optional=optional)
    return site


def _names(hosts: Iterable[str]) -> set[str]:
    return {"localhost", socket.gethostname().lower(), *hosts}


def _wall_clock(reactor: Any) -> float:
    """Return the seconds since the epoch. The reactor's clock does not change when the wall clock is set."""
    now: float = reactor.seconds() + shift_of(reactor)()
    return now


def _without_port(host: str) -> str:
    """Return a Host header without its port, and an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
