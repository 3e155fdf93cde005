"""The wanted sockets of a service, and their states: each is bound as soon as its interface and address exist.

A socket for a specific address is opened at the start even where this host has no such address (IP_FREEBIND), so that
no other program can take its port meanwhile, and worker processes get every socket once. Its state is *bound* while the
address exists. A UDP socket for an interface that does not exist is open and has no port.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.tcp import Port
from twisted.logger import Logger

from bootfw.events import Event, ListenerBound, ListenerFailed, ReadinessChanged, SocketChanged
from bootfw.net.alarm import Alarm
from bootfw.net.bindingstates import BindingStates, Do, Input, State
from bootfw.net.linux.devices import bind_to
from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.netlink import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK, Changes
from bootfw.net.linux.portowner import who_holds
from bootfw.net.listening import UDP_SERVICES
from bootfw.net.udp.sockets import bind_socket
from bootfw.net.workers.sharedport import SharedPort
from bootfw.values import Address, SocketStatus, address_text

SocketKey = tuple[str, tuple[Any, ...], str]
"""(service, address as configured, interface or "")."""

_ANY = ("0.0.0.0", "::")


def overlap(one: SocketKey, other: SocketKey) -> bool:
    """Return whether both sockets can't be open at the same time."""
    if (one[0] in UDP_SERVICES) is not (other[0] in UDP_SERVICES) or one[1][1] != other[1][1] or not one[1][1]:
        return False
    (host, device), (other_host, other_device) = (one[1][0], one[2]), (other[1][0], other[2])
    if (":" in host) is not (":" in other_host) or (device and other_device and device != other_device):
        return False
    return host == other_host or host in _ANY or other_host in _ANY


def contains(one: SocketKey, other: SocketKey) -> bool:
    """Return whether all clients of *other* reach *one* too; they overlap."""
    return (one[1][0] == other[1][0] or one[1][0] in _ANY) and one[2] in ("", other[2])


def key_text(key: SocketKey) -> str:
    """Format a key for a message: "tftp on 10.0.0.1:69 of eth0"."""
    service, address, device = key
    return f"{service} on {address_text(address)}{f' of {device}' if device else ''}"


@define(eq=False)
class WantedSocket:
    """One socket, or with workers one for each of them, of a service, an address and perhaps an interface.

    :param open: opens the port. It raises CannotListenError.
    :param missing: returns what has to exist for the socket and does not; "": nothing is missing.
    :param changed: called when its state has changed.
    """

    service: str
    address: tuple[Any, ...]
    """As configured. Of a network that DHCP serves: the network and the port."""
    device: str
    """The interface that it is bound to; "": all of them."""
    optional: bool
    open: Callable[[], Any] | None
    """None: there is no socket, only an address to wait for."""
    may_be_held: bool
    """Whether the service starts although another program has the port, and retries."""
    missing: Callable[[], str]
    changed: Callable[["WantedSocket"], None]
    protocol: Any = None
    port: Any = field(default=None, init=False)
    """IListeningPort; None: it is not open."""
    states: BindingStates = field(factory=BindingStates, init=False)
    is_added: bool = field(default=False, init=False)
    """Whether add() has returned: an error in it fails the start, and a later one is retried."""
    since: float = field(default=0.0, init=False)
    """When it entered its state, in seconds of the clock."""
    index: int = field(default=0, init=False)
    """Index of the interface that it is bound to; 0: it has no port yet, or is on all interfaces."""
    _bound_address: Address | None = field(default=None, init=False)
    """The address of the open port. A port forgets it when it is closed, and the reactor may close it before we do."""

    @property
    def state(self) -> State:
        """The state."""
        return self.states.state

    @property
    def deadline(self) -> float | None:
        """See Watched."""
        return self.states.deadline

    @property
    def key(self) -> SocketKey:
        """What identifies it among the sockets of the service."""
        return self.service, self.address, self.device

    @property
    def interface(self) -> str:
        """The interface that it is bound to, by SO_BINDTODEVICE or as the zone of its address; "": all of them."""
        return self.device or str(self.address[0]).partition("%")[2]

    @property
    def is_anywhere(self) -> bool:
        """Whether it depends on no interface or address that can appear and disappear."""
        return self.address[0] in _ANY and not self.device

    @property
    def local_address(self) -> Address:
        """The address; with port 0, the port that the kernel chose."""
        if self._bound_address is not None:
            return self._bound_address
        if self.port is None:
            return self.address[0], self.address[1]
        bound = self.port.getHost()
        # Python's getsockname() leaves the zone out, without which a link-local address means nothing.
        zone = str(self.address[0]).partition("%")[2]
        host = f"{bound.host}%{zone}" if zone and "%" not in bound.host else bound.host
        if bound.port:  # else its interface does not exist yet
            self._bound_address = host, bound.port
        return host, bound.port

    def status(self) -> SocketStatus:
        """Return its state, as an operator sees it."""
        states = self.states
        return SocketStatus(
            self.service, self.local_address, self.device, states.state.value, states.reason, self.since, self.optional
        )

    def sockets(self) -> Sequence[socket.socket]:
        """Return the sockets of the port, which is open: with workers there is one for each."""
        port = self.port
        if isinstance(port, SharedPort):
            return port.sockets
        return [port.socket if isinstance(port, Port) else port.getHandle()]


class Bindings:
    """The wanted sockets of a service.

    :param reactor: IReactorTime; where it is an IReactorFDSet too, the kernel reports interfaces and addresses.
    :param follow: whether to follow interfaces and addresses; false: another process does it, and every socket counts
        as bound.
    :param opens_later: whether a port can be opened when the service runs; false: worker processes have the sockets.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self, reactor: Any, publish: Callable[[Event], None], *, follow: bool, opens_later: bool = True
    ) -> None:
        self._reactor = reactor
        self._publish = publish
        self._opens_later = opens_later
        self._follow = follow and IReactorFDSet.providedBy(reactor)
        self._wanted_sockets: list[WantedSocket] = []
        self._alarm: Alarm[WantedSocket] = Alarm(reactor, self._tick)
        self._changes: Changes | None = None
        self._started = False
        self._was_ready: bool | None = None

    def __iter__(self) -> Iterator[WantedSocket]:
        """The wanted sockets, in the order in which they were added."""
        return iter(self._wanted_sockets)

    @property
    def ready(self) -> bool:
        """Whether the service has started, and every wanted socket that is not optional is bound."""
        return self._started and not any(
            each.state is not State.BOUND and not each.optional for each in self._wanted_sockets
        )

    def add(self, wanted: WantedSocket) -> None:
        """Open a socket, and look after it until close() or drop().

        :raise CannotListenError: it can't be opened and is not optional, or can't be waited for.
        """
        self._subscribe(wanted)
        self._wanted_sockets.append(wanted)
        self._enter(wanted)
        wanted.is_added = True

    def _enter(self, wanted: WantedSocket) -> None:
        missing = self._missing(wanted)
        if not missing:
            self._handle(wanted, Input.PRESENT)
            return
        if self._changes is None and not wanted.optional:
            raise self._failed(wanted, errno.EADDRNOTAVAIL, f"{missing}; without netlink bootfw can't wait for it")
        if wanted.open is not None and not (self._opens_later and _needs_interface_to_open(wanted)):
            try:
                self._open(wanted)
            except CannotListenError as error:
                # The port is taken on another address too, so there is no need to wait to see it.
                self._refused(wanted, error)
        wanted.states.handle(Input.ABSENT, missing, self._reactor.seconds())
        self._report(wanted, "")

    def drop(self, wanted: WantedSocket) -> None:
        """Stop looking after a socket. Its port, if there is one, stays open."""
        self._wanted_sockets.remove(wanted)
        self._alarm.forget(wanted)
        wanted.states.handle(Input.CLOSE)
        self.check_ready()

    def start(self) -> None:
        """Note that every socket of the start was added."""
        self._started = True
        self.check_ready()

    def close(self) -> list[WantedSocket]:
        """Stop looking after every socket.

        :return: the sockets that were wanted; their ports are open.
        """
        self._started, self._was_ready = False, None
        self._alarm.stop()
        if self._changes is not None:
            self._changes.close()
            self._changes = None
        wanted_sockets, self._wanted_sockets = self._wanted_sockets, []
        for each in wanted_sockets:
            each.states.handle(Input.CLOSE)
        return wanted_sockets

    def statuses(self) -> tuple[SocketStatus, ...]:
        """Return the state of every wanted socket, as an operator sees it."""
        return tuple(each.status() for each in self._wanted_sockets)

    # Interfaces and addresses that appear and disappear

    def _subscribe(self, wanted: WantedSocket) -> None:
        if not self._follow or wanted.is_anywhere or self._changes is not None:
            return
        # One subscription serves all sockets, and is opened for the first one that has an address or interface: a
        # server on 0.0.0.0 alone works without netlink.
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
        with suppress(OSError):  # netlink is forbidden, see add()
            self._changes = Changes(self._reactor, groups, lambda changes: self.look())

    def _missing(self, wanted: WantedSocket) -> str:
        return wanted.missing() if self._follow and not wanted.is_anywhere else ""

    def look(self) -> None:
        """Compare every wanted socket with the interfaces and addresses that exist now.

        The reported changes themselves are not used, since some may be lost.
        """
        for wanted in tuple(self._wanted_sockets):
            if wanted.is_anywhere or wanted.state is State.CLOSED:
                continue
            missing = wanted.missing()
            if missing:
                self._handle(wanted, Input.ABSENT, missing)
            # An interface that was deleted and created again has another index. SO_BINDTODEVICE binds to the index
            # (sk_bound_dev_if in the kernel), so the socket would receive nothing any more.
            elif wanted.interface and wanted.index not in (0, index_of(wanted.interface)):
                self._handle(wanted, Input.RECREATED)
            else:
                self._handle(wanted, Input.PRESENT)
        self.check_ready()

    def _tick(self, wanted: WantedSocket, now: float) -> None:
        self._handle(wanted, Input.TICK)
        self.check_ready()

    # Actions of the table

    def _handle(self, wanted: WantedSocket, event: Input, argument: Any = None) -> None:
        before = wanted.state
        wanted.states.run({Do.BIND: partial(self._bind, wanted)}, event, argument, self._reactor.seconds())
        if wanted.deadline is None:
            self._alarm.forget(wanted)
        else:
            self._alarm.watch(wanted)
        if wanted.state is not before:
            self._report(wanted, before.value if self._started else "")

    def _bind(self, wanted: WantedSocket) -> None:
        now = self._reactor.seconds()
        try:
            if wanted.port is None and wanted.open is not None:
                self._open(wanted)
            elif wanted.interface and wanted.port is not None and not self._bind_again(wanted):
                wanted.states.handle(Input.ABSENT, wanted.missing() or f"no interface {wanted.interface}", now)
                return
        except CannotListenError as error:
            self._refused(wanted, error)
            event, reason = _kind_of(getattr(error, "socketError", error))
            wanted.states.handle(event, reason, now)
        except OSError as error:
            event, reason = _kind_of(error)
            wanted.states.handle(event, reason, now)
        else:
            wanted.states.handle(Input.OPENED, None, now)

    def _open(self, wanted: WantedSocket) -> None:
        assert wanted.open is not None
        wanted.port = wanted.open()
        if wanted.interface:
            # A socket without a port waits for its interface; see open_socket().
            bound = all(sock.getsockname()[1] for sock in wanted.sockets()) if self._follow else True
            wanted.index = index_of(wanted.interface) if bound else 0

    def _bind_again(self, wanted: WantedSocket) -> bool:
        """Bind the sockets of a port to an interface that has appeared.

        :return: false: the interface is gone again.
        :raise OSError: another program has the port there, or the kernel refuses it.
        """
        index = index_of(wanted.interface)
        if not index:
            return False
        if index == wanted.index:
            return True
        # Sockets of a SO_REUSEPORT group lose it when they are bound to another interface, so all are opened again.
        if isinstance(wanted.port, SharedPort) and wanted.index:
            if not wanted.port.reopen():
                return False
            wanted.index = index_of(wanted.interface)
            return True
        sockets = wanted.sockets()
        _refuse_other_holders(sockets, wanted)
        for sock in sockets:
            if not bind_to(sock, wanted.interface):
                return False
            # It was opened before its interface existed: it has a device only now, and no port yet.
            if not sock.getsockname()[1]:
                bind_socket(sock, wanted.address[0], wanted.address[1], wanted.interface)
        wanted.index = index
        return True

    def _refused(self, wanted: WantedSocket, error: CannotListenError) -> None:
        """Raise the error in add(), unless another program may have the port. After add() the socket is tried again."""
        if wanted.is_added or wanted.may_be_held:
            return
        code = getattr(getattr(error, "socketError", None), "errno", None)
        raise self._failed(wanted, code or 0, str(getattr(error, "socketError", error))) from error

    def _failed(self, wanted: WantedSocket, code: int, reason: str) -> CannotListenError:
        """Publish that a socket can't be opened, and return the error to raise."""
        self._publish(ListenerFailed(self._reactor.seconds(), wanted.service, wanted.local_address, reason))
        return CannotListenError(
            wanted.address[0], wanted.address[1], OSError(code, reason.removeprefix(f"[Errno {code}] "))
        )

    def _report(self, wanted: WantedSocket, before: str) -> None:
        now = wanted.since = self._reactor.seconds()
        status = wanted.status()
        wanted.changed(wanted)
        if wanted.open is None:
            pass
        elif wanted.state is State.BOUND:
            note = f"on {wanted.device}" if wanted.device else ""
            self._publish(ListenerBound(now, wanted.service, wanted.local_address, note))
        elif wanted.state in (State.HELD, State.FAILED):
            self._publish(ListenerFailed(now, wanted.service, wanted.local_address, status.reason))
        if before or wanted.state is not State.BOUND:
            self._publish(SocketChanged(now, status, before))

    def check_ready(self) -> None:
        """Publish whether every wanted socket is bound, if that has changed."""
        ready = self.ready
        if self._started and ready is not self._was_ready:
            self._was_ready = ready
            self._publish(ReadinessChanged(self._reactor.seconds(), ready))


def _needs_interface_to_open(wanted: WantedSocket) -> bool:
    """Return whether the socket can't be opened before its interface exists: a TCP socket without a port can't
    listen."""
    return wanted.service not in UDP_SERVICES and bool(wanted.interface)


def _kind_of(error: Any) -> tuple[Input, str]:
    """Return (the input for an error of bind(2), the reason as an operator reads it)."""
    is_held = getattr(error, "errno", None) == errno.EADDRINUSE
    return (Input.HELD if is_held else Input.FAILED), str(error)


def _refuse_other_holders(sockets: Sequence[socket.socket], wanted: WantedSocket) -> None:
    """Refuse an interface on which another program has the port.

    The kernel checks for other sockets of a port in bind(2) only, and not when a bound socket gets another interface.

    :raise OSError: another program has the port on the interface.
    """
    protocol = "udp" if sockets[0].type == socket.SOCK_DGRAM else "tcp"
    own_inodes = {str(os.fstat(sock.fileno()).st_ino) for sock in sockets}
    holder = who_holds(wanted.address[1], sockets[0].family, protocol, wanted.interface, own_inodes)
    if holder:
        raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)} by {holder}")
