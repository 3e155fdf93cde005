"""HTTP boot on TCP: the same files as by TFTP, by twisted.web."""

import errno
import io
import os
import re
import resource
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from bootfw.boot.backends import with_client_lookup
from bootfw.boot.clients import Clients
from bootfw.boot.onceper import OncePer
from bootfw.events import Event, HandshakeFailed, InstallationReported, SystemUp, TransferRefused
from bootfw.interfaces import IBackend
from bootfw.lease import mac_text
from bootfw.net.admission import Admission
from bootfw.net.alarm import Alarm
from bootfw.net.http.arrival import arrived_by
from bootfw.net.http.channel import Channel
from bootfw.net.http.download import Download
from bootfw.net.http.downloadcontext import DownloadContext
from bootfw.net.http.downloadstates import STALLED_SECONDS
from bootfw.net.http.headers import refuse
from bootfw.net.http.plainrequest import PlainRequest, parse
from bootfw.net.http.smallfiles import SmallFiles
from bootfw.net.linux.interfaces import Interfaces, missing_interface
from bootfw.net.linux.portowner import who_holds
from bootfw.net.shares import Shares
from bootfw.net.udp.quietport import quiet_port
from bootfw.net.udp.sockets import IP_FREEBIND, IPV6_FREEBIND, with_option
from bootfw.tftp.path import LONGEST_NAME, relative
from bootfw.values import Address, TransferRequest
from bootfw.wire.http import encode_target

GRACE = 1.0
"""Seconds that a closing connection has to send what is left."""

BACKLOG = 512
"""Connections that may wait to be accepted: a rack that is powered on connects at once."""

MOST_CONNECTIONS = 8192
"""Connections at once, and no more than half as many as the process may have files open."""

SPARED = 5.0
"""Seconds without a request for which a connection is never closed to make room for another one."""

_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_REPORT_AGAIN = 60.0
"""Seconds until the same failure of the same client's TLS handshakes is reported again."""

PHONE_HOME = b"/bootfw/up"
"""The path that an installed system requests when it is up."""

INSTALLING, FAILED = b"/bootfw/installing", b"/bootfw/failed"
"""The paths that an installer requests, with the argument "what": how far it is, and why it has failed."""

_REPORTS = frozenset((PHONE_HOME, INSTALLING, FAILED))
_REPORT_TARGETS = frozenset(path.decode() for path in _REPORTS)

_ABSOLUTE = re.compile(rb"\Ahttps?://[^/]*", re.IGNORECASE)


class BootResource(Resource):
    """Serves files by GET and HEAD (RFC 9110), with ranges; an application can put it anywhere in its own site.

    :param reactor: IReactorTime.
    :param publish: called with each event; must not raise.
    :param clients: finds the client at an address, for the backend; None: a client is its address.
    :param alarm: the Alarm of the site that this is a part of; None: it has its own.
    """

    isLeaf = True

    def __init__(
        self,
        reactor: Any,
        backend: IBackend,
        publish: Callable[[Event], None],
        clients: Clients | None = None,
        alarm: Alarm[Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._client_at = clients.lookup if clients is not None else None
        alarm = Alarm(reactor, _ring) if alarm is None else alarm
        self._context = DownloadContext(reactor, with_client_lookup(backend, self._client_at), publish, alarm)
        self._small_files = SmallFiles(self._context)

    def use(self, backend: IBackend) -> None:
        """Serve the requests that come from now on by *backend*. Downloads under way keep their files."""
        self._context.backend = with_client_lookup(backend, self._client_at)

    def under_way(self) -> set[Any]:
        """Return the downloads under way."""
        return set(self._context.downloads)

    def render(self, request: Any) -> Any:
        """See IResource."""
        request.setHeader(b"Server", b"bootfw")
        if request.path in _REPORTS:
            self._take_report(request)
            return NOT_DONE_YET
        transfer_request = _transfer_request(request)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            self._refuse(request, transfer_request, 405, "Only GET and HEAD are served")
        elif len(transfer_request.filename) > LONGEST_NAME:
            shortened_name = transfer_request.filename[:LONGEST_NAME]
            shortened = evolve(transfer_request, filename=shortened_name, path=relative(shortened_name))
            self._refuse(request, shortened, 414, f"A name has {LONGEST_NAME} characters at most")
        else:
            Download(transfer_request, request, self._context).open()
        return NOT_DONE_YET

    def _refuse(self, request: Any, transfer_request: TransferRequest, status: int, message: str) -> None:
        self._context.publish(TransferRefused(self._context.reactor.seconds(), transfer_request, status, message))
        refuse(request, status, message)

    def _take_report(self, request: Any) -> None:
        """Publish what a machine reports of its installation, by a GET or a POST."""
        try:
            mac = mac_text(request.args[b"mac"][-1].decode("ascii")) if b"mac" in request.args else ""
        except ValueError:
            refuse(request, 400, 'mac must be a MAC address, such as "52:54:00:12:34:56"')
            return
        protocol = "https" if request.isSecure() else "http"
        peer = _address(request.getClientAddress())
        now = self._context.reactor.seconds()
        if request.path == PHONE_HOME:
            self._context.publish(SystemUp(now, peer, mac, protocol))
        else:
            message = request.args.get(b"what", [b""])[-1].decode("utf-8", "replace")
            self._context.publish(InstallationReported(now, peer, mac, message, request.path == FAILED))
        request.setResponseCode(204)
        request.finish()

    def repeat(self, transport: Any, transfer: TransferRequest, closes: bool) -> bool:
        """See SmallFiles."""
        return self._small_files.repeat(transport, transfer, closes)

    def render_plain(self, request: PlainRequest, transfer: TransferRequest) -> None:
        """Answer a request of the fast path."""
        if not request.head.is_plain_get:
            Download(transfer, request, self._context).open()
            return
        try:
            answer = self._context.open(transfer)
        except Exception as error:
            Download(transfer, request, self._context).not_opened(error)
            return
        if not self._small_files.serve(request, transfer, answer):
            Download(transfer, request, self._context).opened(answer)

    def close(self) -> None:
        """End every download: the connections are cut."""
        for download in list(self._context.downloads):
            download.cancel("the server is stopping")


class Connection(Channel):
    """A client's connection."""

    deadline: float | None = None
    """When the alarm calls ring(). Until then the next request has to be complete or, if the connection is closing, the
    rest of the response has to be sent. None: a request is being answered, and its Download has a deadline."""

    delimiter = b"\n"  # RFC 9112 section 2.2: a recipient may take a single LF for the end of a line
    _next_is_request_line = True

    _plain: PlainRequest | None = None
    """The request of the fast path that is being answered; None: there is none."""
    _next_requests: bytes = b""
    """What has come while _plain is being answered."""

    def connectionMade(self) -> None:
        """See IProtocol."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        transport: Any = self.transport
        self.peer, self._local = _address(transport.getPeer()), _address(transport.getHost())[0]
        self._protocol = "https" if self.isSecure() else "http"  # type: ignore[no-untyped-call]
        self.factory.joined(self)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        """See IProtocol."""
        self.deadline = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.lost()
        self.factory.left(self, reason.value)

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        if self._plain is not None:
            # Responses go out in the order of the requests (RFC 9112 section 9.3.2). Beyond a limit the client has to
            # wait, as HTTPChannel does for its own requests.
            self._next_requests += data
            if len(self._next_requests) > self._optimisticEagerReadSize:
                self._networkProducer.pauseProducing()
            return
        # The fast path is only for a request that begins with *data*: HTTPChannel must have nothing of it, nor of
        # another.
        is_between = self._next_is_request_line and not self._handlingRequest and not self._buffer
        head = parse(data) if is_between and self.persistent else None
        if head is None or head.target in _REPORT_TARGETS:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
            return
        if not self._admitted():
            return
        transfer = TransferRequest(head.target, head.path, self.peer, self._local, protocol=self._protocol)
        factory: Any = self.factory
        if head.is_plain_get and factory.files.repeat(self.transport, transfer, head.closes):
            factory.idle(self)
            if head.closes:
                self.persistent = False
                self.loseConnection()  # type: ignore[no-untyped-call]
            return
        self._plain, self.deadline = PlainRequest(self, head, self._plain_done), None
        self.persistent = not head.closes
        factory.busy(self)
        factory.files.render_plain(self._plain, transfer)

    def _admitted(self) -> bool:
        """Return whether to answer the request that is complete. If not, it is refused here, and the connection
        closes."""
        if self.factory.admits(self):
            return True
        transport: Any = self.transport
        transport.write(_TOO_MANY)
        self.loseConnection()  # type: ignore[no-untyped-call]
        return False

    def _plain_done(self) -> None:
        """Go on with the next requests: the response to one of the fast path is complete."""
        self._plain = None
        self.factory.idle(self)
        data, self._next_requests = self._next_requests, b""
        if not self.persistent:
            self.loseConnection()  # type: ignore[no-untyped-call]
        elif data:
            if not self._waitingForTransport:
                self._networkProducer.resumeProducing()
            self.dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """See LineReceiver."""
        line = line.removesuffix(b"\r")
        if self._next_is_request_line and line:
            self._next_is_request_line = False
            line = encode_target(line)
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer with an error and close; LineReceiver would close without an answer."""
        status = b"414 URI Too Long" if self._next_is_request_line else b"400 Bad Request"
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\n\r\n" % status)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """See HTTPChannel: a request is complete."""
        if not self._admitted():
            return
        self.deadline = None
        self.factory.busy(self)
        self._next_is_request_line = True
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:
        """See HTTPChannel: a request is answered."""
        # First, since the next request may have arrived already, and super() handles it: that makes the connection
        # busy.
        self.factory.idle(self)
        super().requestDone(request)  # type: ignore[no-untyped-call]

    def ring(self, now: float) -> None:
        """See Alarm. No request came in time, or the client does not take the rest of the response."""
        transport: Any = self.transport
        if transport.disconnecting:
            transport.abortConnection()
        else:
            self.leave(now)

    def leave(self, now: float) -> None:
        """Close the connection; reset it if the rest of a response is not sent within GRACE seconds."""
        transport: Any = self.transport
        if not transport.disconnecting:
            self.loseConnection()  # type: ignore[no-untyped-call]
        self.factory.wait(self, now + GRACE)


class FileRequest(Request):
    """A request whose body, if any, is dropped."""

    def gotLength(self, length: int | None) -> None:
        """Do not store a body: Twisted would write it to a temporary file."""
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop a part of the body."""

    def process(self) -> None:
        """Reduce the target to a path: clients may send an absolute URL (RFC 9112 section 3.2.2), or leave out the
        slash at its beginning."""
        self.path = _ABSOLUTE.sub(b"", self.path)
        if self.path[:1] not in (b"/", b"*", b""):
            self.path = b"/" + self.path
        super().process()  # type: ignore[no-untyped-call]


class BootSite(Site):
    """A site with a BootResource as its root. Idle connections are closed; there is no access log.

    :param reactor: IReactorTime.
    :param publish: called with each event; must not raise.
    :param clients: see BootResource.
    :param admission: decides which requests are served; None: all of them.
    :param interfaces: connections that come by others are refused; None: they may come by all.
    :param service: the name of the service in events about refused requests: "http" or "https".
    """

    _log = Logger(namespace="bootfw")
    noisy = False
    protocol = Connection  # type: ignore[assignment]

    def __init__(
        self,
        reactor: Any,
        backend: IBackend,
        publish: Callable[[Event], None],
        clients: Clients | None = None,
        admission: Admission | None = None,
        interfaces: Interfaces | None = None,
        service: str = "http",
    ) -> None:
        self._alarm: Alarm[Any] = Alarm(reactor, _ring)
        self._admission, self._interfaces, self._service = admission, interfaces, service
        self.files = BootResource(reactor, backend, publish, clients, self._alarm)
        super().__init__(self.files, FileRequest, reactor=reactor, timeout=None)  # type: ignore[no-untyped-call]
        self._clock = reactor
        self._connections: set[Connection] = set()
        self._shares = Shares()
        self._idle: dict[Connection, None] = {}
        """The connections that wait for a request, the one that has waited longest first. A dictionary keeps the order,
        and removes any of them at once."""
        self._emptied: Deferred[None] | None = None
        self._publish = publish
        self._refusals = OncePer(_REPORT_AGAIN)
        self.explain: Callable[[BaseException, Any], str] = lambda reason, transport: ""
        """Returns why a TLS handshake failed, see refusal() of certificate.py; "": it did not. This module has to be
        loadable without pyOpenSSL."""

    def close(self) -> "Deferred[None]":
        """Reset connections with a download, close the others.

        :return: fires when there is no connection any more.
        """
        self.files.close()
        for connection in list(self._connections):
            connection.leave(self._clock.seconds())
        if not self._connections:
            return succeed(None)
        if self._emptied is None:
            self._emptied = Deferred()
        return self._emptied

    def joined(self, connection: "Connection") -> None:
        """Count a connection, or refuse it."""
        refused = not self._is_welcome(connection)
        most = _most_connections()
        if not refused and not self._shares.allows(connection.peer[0], most):
            self._drop(connection, "too many connections at once of one client")
            refused = True
        if refused or (len(self._connections) >= most and not self._make_room()):
            # It is lost in a later turn of the reactor, so it is counted like the others until left() is called for it.
            transport: Any = connection.transport
            transport.abortConnection()
        self._connections.add(connection)
        self._shares.take(connection.peer[0])
        self.idle(connection)

    def _is_welcome(self, connection: "Connection") -> bool:
        """Return whether the configured addresses and interfaces allow to serve the client."""
        interfaces, admission = self._interfaces, self._admission
        if admission is not None and not admission.serves(self._service, connection.peer, self._clock.seconds()):
            return False
        return interfaces is None or interfaces.all_served or interfaces.serves(arrived_by(connection.transport))

    def admits(self, connection: "Connection") -> bool:
        """Return whether to serve a request that has come on *connection*."""
        admission = self._admission
        return admission is None or admission.admits(self._service, connection.peer, self._clock.seconds())

    def _drop(self, connection: "Connection", reason: str) -> None:
        if self._admission is not None:
            self._admission.drop(self._service, reason, connection.peer, self._clock.seconds())

    def idle(self, connection: "Connection") -> None:
        """Start the wait for the next request."""
        self._idle.pop(connection, None)
        self._idle[connection] = None
        self.wait(connection, self._clock.seconds() + STALLED_SECONDS)

    def busy(self, connection: "Connection") -> None:
        """Note that a request is complete, and is going to be answered."""
        self._idle.pop(connection, None)

    def wait(self, connection: "Connection", until: float) -> None:
        """Have the alarm call ring() of the connection at *until*."""
        connection.deadline = until
        self._alarm.watch(connection)

    def left(self, connection: "Connection", reason: BaseException) -> None:
        """Forget a connection that is lost, and publish why its TLS handshake failed."""
        transport: Any = connection.transport
        explanation = self.explain(reason, transport)
        if explanation:
            peer, now = _address(transport.getPeer()), self._clock.seconds()
            if self._refusals.due((peer[0], explanation), now):
                self._publish(HandshakeFailed(now, peer, explanation))
        self._alarm.forget(connection)
        self._idle.pop(connection, None)
        if connection in self._connections:
            self._connections.remove(connection)
            self._shares.give_back(connection.peer[0])
        if self._emptied is not None and not self._connections:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request, if that is more than SPARED seconds.

        :return: whether one was closed.
        """
        now = self._clock.seconds()
        if self._refusals.due(("", "too many"), now):
            self._log.warn(
                "HTTP has {count} connections, the most that it keeps: "
                "new ones take the place of those without a request for {spared:.0f} s",
                count=len(self._connections),
                spared=SPARED,
            )
        oldest = next(iter(self._idle), None)
        # idle() has set the deadline to STALLED_SECONDS after the last response.
        if oldest is None or oldest.deadline is None or oldest.deadline > now + STALLED_SECONDS - SPARED:
            return False
        del self._idle[oldest]
        transport: Any = oldest.transport
        transport.abortConnection()
        return True

    # Twisted's access log and its timer are not used: events say more.

    def startFactory(self) -> None:
        """Open no access log."""

    def stopFactory(self) -> None:
        """Close none."""


def _most_connections() -> int:
    return min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _ring(owner: Any, now: float) -> None:
    """Call ring() of a Connection or a Download."""
    owner.ring(now)


def listen_http(reactor: Any, factory: Any, address: str, port: int, sock: socket.socket | None = None) -> Any:
    """Have *factory* listen on a TCP port.

    :param reactor: an IReactorSocket.
    :param sock: a listening socket of open_stream_socket(); it is closed, the port uses a duplicate.
    :return: an IListeningPort.
    :raise CannotListenError: ``socketError`` says why.
    """
    with sock or open_stream_socket(address, port) as opened:
        return quiet_port(reactor.adoptStreamPort, opened.fileno(), opened.family, factory)


def open_stream_socket(
    address: str, port: int, *, shared: bool = False, beside: Sequence[socket.socket] = ()
) -> socket.socket:
    """Open a listening, non-blocking TCP socket. "::" is IPv6 only, so that "0.0.0.0" can have the same port.

    The address may be one that this host does not have yet (IP_FREEBIND). One with a zone needs its interface.

    :param shared: other processes of ours listen on the same port (SO_REUSEPORT).
    :param beside: sockets of ours that have the port already, and that this one will replace.
    :raise CannotListenError: ``socketError`` says why.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    zone = address.partition("%")[2]
    absent = missing_interface(zone) if zone else ""
    if absent:
        raise CannotListenError(address, port, OSError(errno.ENODEV, absent))
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sockaddr = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]
        # The kernel lets a second socket have the port if both have the option at the time of bind(2) and listen(2).
        # They have it no longer than that: another program of the same user could share the port as well.
        with with_option(socket.SO_REUSEPORT, [sock, *beside] if beside else []):
            sock.bind(sockaddr)
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno or errno.EINVAL)
        if error.errno == errno.EADDRINUSE:
            reason += f" by {who_holds(port, family, 'tcp') or 'another program'}"
        elif error.errno == errno.EACCES:
            reason += ": this port needs root or CAP_NET_BIND_SERVICE"
        explained = OSError(error.errno, reason)
        raise CannotListenError(address, port, explained) from error
    sock.setblocking(False)
    return sock


def _transfer_request(request: Any) -> TransferRequest:
    filename = "/" + b"/".join(request.postpath).decode("utf-8", "surrogateescape")
    return TransferRequest(
        filename=filename,
        path=relative(filename),
        peer=_address(request.getClientAddress()),
        local=_address(request.getHost())[0],
        write=request.method in (b"PUT", b"POST"),
        protocol="https" if request.isSecure() else "http",
    )


def _address(address: Any) -> Address:
    if isinstance(address, IPv6Address):
        return address.host, address.port, address.flowInfo, int(address.scopeID)
    if isinstance(address, IPv4Address):
        return address.host, address.port
    return "", 0  # of a UNIX socket, in an application that has a site of its own
