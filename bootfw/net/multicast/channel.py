"""The UDP port of one image: receives the requests of its receivers, and has a transmission for each network."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.boot.pluginresult import as_deferred, reported_error
from bootfw.config.settings import MulticastSettings
from bootfw.errors import FileMissing, TransferError, WireError
from bootfw.events import Event, TransferRefused
from bootfw.frisbee.pace import Pace
from bootfw.frisbee.session import Input, Session
from bootfw.interfaces import IBatchReceiver, ICacheableReader, IReader
from bootfw.net.admission import Admission
from bootfw.net.alarm import Alarm
from bootfw.net.dropcounter import DropCounter
from bootfw.net.linux.groups import Groups
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.multicast.transmission import Transmission
from bootfw.net.tftp.transferport import sender_of
from bootfw.tftp.path import relative
from bootfw.values import Address, TransferRequest, Via
from bootfw.wire import frisbee
from bootfw.wire.frisbee import Join, Leave, PartialRequest, Request
from bootfw.wire.frisbeemaster import Method

SERVICE = "multicast"
"""The name of the service, in events and in the status."""
PROTOCOL = "frisbee"
"""The protocol, in the requests that backends get."""

SEND_BUFFER = 128 * 1024
"""Bytes, which Linux doubles: packets wait there while the link is busy. When it is full, the link is slower than the
image is sent, and nothing is lost. The less waits, the sooner others are sent: their packets wait behind."""

_REFUSED_AGAIN = 60.0
"""Seconds until the refusal of an image is published again: receivers repeat a JOIN twice a second, for ever."""

_MOST_REFUSED = 256
"""Receivers and networks whose refusals are remembered. At more, all are forgotten."""

_PRIORITY_BULK = 2
"""TC_PRIO_BULK (linux/pkt_sched.h): with the usual queue of three bands, packets of other services leave first."""

_INPUTS: dict[type, Input] = {
    Join: Input.JOIN,
    Request: Input.REQUEST,
    PartialRequest: Input.REQUEST,
    Leave: Input.LEAVE,
}

Key = tuple[Method, str | int]
"""(method, index of the interface, broadcast address or address of the receiver)."""


@define(eq=False)
class Services:
    """What the channels of a server share."""

    reactor: Any
    publish: Callable[[Event], None]
    open_file: Callable[[str, TransferRequest], Any]
    """The open() of the backends."""
    interfaces: Interfaces
    admission: Admission
    settings: MulticastSettings
    has_room: Callable[[], bool]
    """Whether another transmission may begin."""
    changed: Callable[[], None]
    """Called when transmissions begin or end, or have something to send or nothing more."""
    alarm: "Alarm[Any]" = field(init=False)
    malformed: DropCounter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self.reactor, lambda owner, now: owner.ring(now))
        self.malformed = DropCounter(SERVICE, self.publish, self.reactor)


@implementer(IBatchReceiver)
class Channel(DatagramProtocol):
    """The port of an image. The file is opened by the first JOIN of each network.

    A receiver that was interrupted does not join again, so a request opens the file, too.

    :param group: what receivers that use multicast have joined.
    :param on_empty: called when its last transmission has ended, or none has begun for the idle time; None: it stays.
    :param on_close: called when it is closed.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        services: Services,
        image: str,
        group: str,
        port: int,
        on_empty: "Callable[[Channel], None] | None" = None,
        on_close: "Callable[[Channel], None]" = lambda channel: None,
    ) -> None:
        self.image = image
        self.group = group
        self.port = port
        self.transmissions: dict[Key, Transmission] = {}
        self.deadline: float | None = None
        """When it ends, as long as it has no transmission."""
        self._services = services
        self._on_empty = on_empty
        self._on_close = on_close
        self._opening: dict[Key, Deferred[Any]] = {}
        self._refused: dict[Key, float] = {}
        """Key -> when a refusal was published."""
        self._groups: Groups | None = None
        self._write: Any = None
        self._counters: Any = None

    def startProtocol(self) -> None:
        """Join the group, and set up the socket."""
        transport: Any = self.transport
        self._write = sender_of(transport)
        self._counters = getattr(transport, "counters", None)
        if hasattr(transport, "getHandle"):
            self._configure(transport.getHandle())
        self._start_idle_time()

    def _configure(self, sock: socket.socket) -> None:
        services = self._services
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, services.settings.ttl)
        # This host is in the group, too, and would read everything that it sends.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY_BULK)
        self._join(sock)

    def _join(self, sock: socket.socket) -> None:
        if self._groups is not None:
            self._groups.stop()
        services = self._services
        self._groups = Groups(services.reactor, sock, [self.group], services.interfaces, self.image)
        self._groups.start()

    def use(self, image: str, group: str) -> None:
        """Send another image, or to another group, from now on. What is being sent ends."""
        if (image, group) == (self.image, self.group):
            return
        self.end("the configuration has changed")
        self.image, moved, self.group = image, group != self.group, group
        transport: Any = self.transport
        if moved and hasattr(transport, "getHandle"):
            # The socket stays in the old group until it is closed; _dispatch() drops the packets of that.
            self._join(transport.getHandle())

    def stopProtocol(self) -> None:
        """End every transmission: the port is closed."""
        self.close()

    def close(self) -> None:
        """End every transmission, before the port is closed."""
        self._on_empty = None
        self.end("the server ends it")
        self._services.alarm.forget(self)
        self.deadline = None
        if self._groups is not None:
            self._groups.stop()
            self._groups = None
        self._on_close(self)

    def end(self, reason: str) -> None:
        """End every transmission."""
        opening, self._opening = self._opening, {}
        for pending in opening.values():
            # If a Deferred without a canceller is cancelled, Twisted drops its late result, an open file.
            if pending._canceller is not None:
                pending.cancel()
        for transmission in list(self.transmissions.values()):
            transmission.end(reason)

    def ring(self, now: float) -> None:
        """End the channel if no receiver has joined for the idle time."""
        self.deadline = None
        if self._on_empty is not None and not self.transmissions:
            self._on_empty(self)

    def _start_idle_time(self) -> None:
        if self._on_empty is not None:
            self.deadline = self._services.reactor.seconds() + self._services.settings.idle_seconds
            self._services.alarm.watch(self)

    # Receiving.

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol. Without packet info the datagram has come to the address of the port."""
        transport: Any = self.transport
        host = transport.getHost().host
        self.datagrams_received(((datagram, addr, Via(host, 0, host)),))

    def datagrams_received(self, batch: Sequence[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        services = self._services
        now = services.reactor.seconds()
        for data, peer, via in batch:
            try:
                if services.interfaces.serves(via) and services.admission.serves(SERVICE, peer, now):
                    self._take_packet(frisbee.parse(data), peer, via, now)
            except WireError as error:
                services.malformed.count(str(error), peer, now)
            except Exception:
                self._log.failure("Unexpected error for a datagram of {peer}.", peer=peer)

    def _take_packet(self, packet: frisbee.Packet, peer: Address, via: Via, now: float) -> None:
        event = _INPUTS.get(type(packet))
        if event is None:
            self._drop("another server sends to the group and port of this image", peer, now)
        elif packet.source != peer[0] or peer[1] != self.port:
            self._drop(
                f"the packet says that it is from {packet.source} port {self.port}: address translation is between",
                peer,
                now,
            )
        elif not via.local:
            self._drop("it is not known which address it has come to", peer, now)
        else:
            self._dispatch(event, packet, peer, via, now)

    def _dispatch(self, event: Input, packet: frisbee.Packet, peer: Address, via: Via, now: float) -> None:
        method, destination = self._route(peer, via)
        if method is Method.MULTICAST and via.destination != self.group:
            self._drop(f"it was sent to the group {via.destination}, and not to {self.group}", peer, now)
            return
        if method.name is None or method.name.lower() not in self._services.settings.methods:
            self._drop(f"{(method.name or '').lower()} is not one of [multicast] methods", peer, now)
            return
        key: Key = (method, via.interface if method is Method.MULTICAST else destination)
        transmission = self.transmissions.get(key)
        if transmission is not None:
            transmission.take(event, packet, peer, now)
        # While the file is being opened, packets are dropped: receivers repeat both JOINs and requests.
        elif event is not Input.LEAVE and key not in self._opening:
            self._open(key, method, (destination, self.port), event, packet, peer, via, now)

    def _route(self, peer: Address, via: Via) -> tuple[Method, str]:
        """Return the method and the address by which a receiver gets blocks: those by which its packet has come."""
        if via.destination in ("", via.local):
            return Method.UNICAST, peer[0]
        if ipaddress.IPv4Address(via.destination).is_multicast:
            return Method.MULTICAST, self.group
        return Method.BROADCAST, via.destination

    def _drop(self, reason: str, peer: Address, now: float) -> None:
        self._services.admission.drop(SERVICE, f"{self.image}: {reason}", peer, now)

    # Opening.

    def _open(
        self,
        key: Key,
        method: Method,
        destination: Address,
        event: Input,
        packet: frisbee.Packet,
        peer: Address,
        via: Via,
        now: float,
    ) -> None:
        services = self._services
        if not services.has_room():
            self._drop(f"{services.settings.sessions} images are sent already ([multicast] sessions)", peer, now)
            return
        request = request_for(self.image, peer, via.local)

        def opened(reader: Any) -> None:
            self._begin(key, method, destination, reader, request, via)
            found = self.transmissions.get(key)
            if found is not None:
                found.take(event, packet, peer, services.reactor.seconds())

        def opened_later(reader: Any) -> None:
            if self._opening.get(key) is not pending:
                # end() was called meanwhile.
                reader.close()
                return
            del self._opening[key]
            opened(reader)

        def failed(failure: Failure) -> None:
            if self._opening.get(key) is pending:
                del self._opening[key]
                self._not_opened(key, failure.value or FileMissing(), request)

        try:
            answer = services.open_file(request.path, request)
            pending = as_deferred(answer)
        except Exception as error:
            self._not_opened(key, error, request)
            return
        if pending is None:
            opened(answer)
        else:
            self._opening[key] = pending
            pending.addCallbacks(opened_later, failed)

    def _begin(
        self, key: Key, method: Method, destination: Address, reader: IReader, request: TransferRequest, via: Via
    ) -> None:
        services, settings = self._services, self._services.settings
        if reader.size is None or reader.size > frisbee.LARGEST_IMAGE:
            reader.close()
            self._not_opened(key, TransferError("The size of the file is not known"), request)
            return
        now = services.reactor.seconds()
        session = Session(reader.size, Pace(float(settings.rate)), settings.idle_seconds, now)
        self.transmissions[key] = Transmission(
            self.image,
            method,
            destination,
            session,
            now,
            via,
            reader,
            services.reactor,
            services.alarm,
            self._send,
            services.publish,
            lambda ended: self._ended(key),
            services.changed,
            lambda reason, peer, now: services.admission.drop(SERVICE, reason, peer, now),
        )
        self._refused.pop(key, None)
        self.deadline = None
        services.changed()

    def _ended(self, key: Key) -> None:
        del self.transmissions[key]
        self._services.changed()
        if self._on_empty is not None and not self.transmissions:
            self._on_empty(self)

    def _not_opened(self, key: Key, error: BaseException, request: TransferRequest) -> None:
        services = self._services
        now = services.reactor.seconds()
        reported = reported_error(error, services.publish, now, "the backend", f"open {request.path}")
        # The protocol has no reply that refuses an image, so the receiver repeats its JOIN.
        if now - self._refused.get(key, -_REFUSED_AGAIN) >= _REFUSED_AGAIN:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused.clear()
            self._refused[key] = now
            services.publish(TransferRefused(now, request, reported.tftp_code, reported.message, reported.detail))

    # Sending.

    def _send(self, data: Any, peer: Address, via: Via, segment: int) -> bool:
        # The port reports no error of a single datagram, but counts what the kernel had no room for.
        counters = self._counters
        before = counters.send_errors if counters is not None else 0
        self._write(data, peer, via, segment)
        return counters is None or counters.send_errors == before


def request_for(image: str, peer: Address, local: str) -> TransferRequest:
    """Return the request of a receiver for an image, as backends get it."""
    return TransferRequest(image, relative(image), peer, local, protocol=PROTOCOL)


def mtime_of(reader: IReader) -> int | None:
    """Return when an image was changed, as messages of the master server have it; None: it is not known."""
    modified = reader.modified if ICacheableReader.providedBy(reader) else None
    return int(modified) & 0xFFFFFFFF if modified is not None else None
