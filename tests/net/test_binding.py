"""Wanted sockets: each is bound as long as its interface and address exist and no other program has its port."""

import errno
import itertools
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observers import EventList
from turning import Alongside, TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from zope.interface import directlyProvides, implementer

from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings, WebSettings
from bootfw.dhcp.subnet import Subnet
from bootfw.errors import ConfigError
from bootfw.events import Event, ListenerBound, ListenerFailed, ReadinessChanged, SocketChanged
from bootfw.interfaces import IPerClientBackend
from bootfw.net.binding import Bindings, WantedSocket
from bootfw.net.bindingstates import State
from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.netlink import Changes
from bootfw.net.listening import OwnSockets, PortSpec
from bootfw.net.workers.sharedport import open_shared
from bootfw.readers import MemoryReader
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.values import TransferRequest
from bootfw.web.site import add_web

from .namespaces import Host

PORT = 4069


class Kernel:
    """The kernel of one wanted socket: whether its address is present, and whether another program holds its port."""

    def __init__(self) -> None:
        self.present = self.held = False

    def missing(self) -> str:
        return "" if self.present else "this host has no such address"

    def open(self) -> Any:
        if self.held:
            raise CannotListenError("10.0.0.1", 69, OSError(errno.EADDRINUSE, "in use by dnsmasq (pid 7)"))
        return FakePort()


class FakePort:
    """An IListeningPort on port 69."""

    def __init__(self, host: str = "10.0.0.1") -> None:
        self._host = host

    def getHost(self) -> Any:
        return type("Host", (), {"host": self._host, "port": 69})


STEPS = st.lists(st.sampled_from(["appear", "vanish", "hold", "release", "second", "report"]), max_size=40)


@given(STEPS)
def test_socket_is_bound_exactly_if_present_and_not_held(steps: list[str]) -> None:
    kernel, events = Kernel(), list[Event]()
    clock, bindings = following_bindings(events)
    kernel.held = True  # so that its port is opened late, and every retry can fail
    wanted = WantedSocket("web", ("10.0.0.1", 69), "", False, kernel.open, True, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    bindings.start()
    for step in steps:
        if step in ("appear", "vanish"):
            kernel.present = step == "appear"
            bindings.look()  # as the kernel reports it
        elif step in ("hold", "release"):
            kernel.held = step == "hold"
        elif step == "second":
            clock.advance(1.0)
        else:
            bindings.look()

        state = bindings.statuses()[0].state
        assert (state == "waiting") is (not kernel.present)
        if state == "held":
            assert wanted.port is None
            assert wanted.deadline is not None
        assert bindings.ready is (state == "bound")
    kernel.present, kernel.held = True, False
    bindings.look()
    clock.advance(1.0)
    assert bindings.ready
    readiness = [event.ready for event in events if isinstance(event, ReadinessChanged)]
    assert all(before is not after for before, after in itertools.pairwise(readiness)), "a change is reported once"
    assert readiness[-1]
    bindings.close()
    assert clock.getDelayedCalls() == []
    assert not bindings.ready


def test_a_held_port_is_reported_once() -> None:
    kernel, clock, events = Kernel(), Clock(), list[Event]()
    kernel.present = kernel.held = True
    bindings = Bindings(clock, events.append, follow=False)
    bindings.add(
        WantedSocket("web", ("10.0.0.1", 69), "", True, kernel.open, True, kernel.missing, lambda wanted: None)
    )
    bindings.start()
    clock.pump([1.0] * 10)
    (failed,) = (event for event in events if isinstance(event, ListenerFailed))
    assert failed.reason == "[Errno 98] in use by dnsmasq (pid 7)"
    assert bindings.ready, "it is optional"
    kernel.held = False
    clock.advance(1.0)
    assert bindings.statuses()[0].state == "bound"


def following_bindings(events: list[Event] | None = None) -> tuple[Clock, Bindings]:
    """A clock, and Bindings with a netlink subscription that receives nothing: the test calls look() instead."""
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, (events if events is not None else []).append, follow=True)
    bindings._changes = object.__new__(Changes)
    bindings._changes._socket = None
    return clock, bindings


def wanted_socket(
    kernel: Kernel, host: str = "10.0.0.1", *, may_be_held: bool = True, service: str = "web"
) -> WantedSocket:
    """A socket for port 69 of *host*, on all interfaces."""
    return WantedSocket(
        *(service, (host, 69), "", False, kernel.open, may_be_held), kernel.missing, lambda wanted: None
    )


def test_a_port_that_is_taken_fails_the_start_although_its_address_is_absent() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.held = True
    _, bindings = following_bindings(events)
    with pytest.raises(CannotListenError) as caught:
        bindings.add(wanted_socket(kernel, may_be_held=False))
    assert str(caught.value.socketError) == "[Errno 98] in use by dnsmasq (pid 7)"
    (failed,) = events
    assert isinstance(failed, ListenerFailed)


def test_an_address_that_cannot_be_waited_for_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "netlink")

    monkeypatch.setattr("bootfw.net.binding.Changes", forbidden)
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=True)
    with pytest.raises(CannotListenError, match="no such address; without netlink bootfw can't wait for it"):
        bindings.add(wanted_socket(Kernel()))


def test_a_socket_that_the_kernel_refuses_fails_and_is_retried() -> None:
    def refuse() -> Any:
        raise CannotListenError("10.0.0.1", 69, OSError(errno.ENOMEM, "Cannot allocate memory"))

    kernel = Kernel()
    kernel.present = True
    clock, bindings = following_bindings()
    wanted = wanted_socket(kernel)
    wanted.open = refuse
    clock.advance(5.0)
    bindings.add(wanted)
    (status,) = bindings.statuses()
    assert (status.state, status.reason, status.since) == ("failed", "[Errno 12] Cannot allocate memory", 5.0)
    wanted.open = kernel.open
    clock.advance(1.0)
    (status,) = bindings.statuses()
    assert (status.state, status.since) == ("bound", 6.0)


def test_closing_cancels_the_retry() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    clock, bindings = following_bindings()
    bindings.add(wanted_socket(kernel))
    assert len(clock.getDelayedCalls()) == 1
    bindings.close()
    assert clock.getDelayedCalls() == []


def test_dropped_socket_is_removed_and_its_port_stays_open() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    clock, bindings = following_bindings(events)
    stays, dropped = wanted_socket(kernel), wanted_socket(kernel, "10.0.0.2")
    bindings.add(stays)
    bindings.add(dropped)
    bindings.drop(dropped)
    assert list(bindings) == [stays]
    assert (dropped.state, dropped.port is None) == (State.CLOSED, False)
    kernel.present = False
    bindings.look()
    assert (stays.state, dropped.state) == (State.WAITING, State.CLOSED)
    assert clock.getDelayedCalls() == []


def test_dropping_an_unbound_socket_ends_its_retries_and_makes_the_service_ready() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = kernel.held = True
    clock, bindings = following_bindings(events)
    dropped = wanted_socket(kernel)
    bindings.add(dropped)
    bindings.start()
    bindings.drop(dropped)
    assert clock.getDelayedCalls() == []
    assert [event.ready for event in events if isinstance(event, ReadinessChanged)] == [False, True]


def test_socket_is_identified_by_service_address_and_interface() -> None:
    wanted = wanted_socket(Kernel())
    assert wanted.key == ("web", ("10.0.0.1", 69), "")


def test_link_local_address_has_its_zone_in_status_and_events() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    kernel.open = lambda: FakePort("fe80::1")  # type: ignore[method-assign]
    bindings = Bindings(Clock(), events.append, follow=False)
    wanted = wanted_socket(kernel, "fe80::1%s9")
    bindings.add(wanted)
    assert bindings.statuses()[0].address == wanted.local_address == ("fe80::1%s9", 69)
    assert [event.address for event in events if isinstance(event, ListenerBound)] == [("fe80::1%s9", 69)]


def test_tcp_of_an_absent_interface_is_opened_later() -> None:
    _, bindings = following_bindings()
    wanted = wanted_socket(Kernel(), "fe80::1%s9", service="http")
    bindings.add(wanted)
    assert wanted.port is None


def test_optional_names_are_those_of_the_configuration() -> None:
    Settings(interfaces=("s9",), tftp=TFTPSettings(listen=["10.0.0.1:69"]), optional=("s9", "10.0.0.1"))
    with pytest.raises(ConfigError, match=r'"s8" is not in the configuration; .* are: .*s9'):
        Settings(interfaces=("s9",), optional=("s8",))


# Addresses, states and events


def test_a_port_that_is_closed_keeps_its_address_in_the_status() -> None:
    kernel = Kernel()
    kernel.present = True
    _, bindings = following_bindings()
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    assert wanted.local_address == ("10.0.0.1", 69)

    def closed() -> Any:
        raise AttributeError("socket")

    wanted.port.getHost = closed
    assert wanted.local_address == ("10.0.0.1", 69)


def test_unbound_socket_shows_the_configured_address() -> None:
    _, bindings = following_bindings()
    wanted = wanted_socket(Kernel(), "10.0.0.7%s9", service="http")
    bindings.add(wanted)
    assert wanted.local_address == ("10.0.0.7%s9", 69)


def test_port_number_is_shown_when_it_is_known() -> None:
    _, bindings = following_bindings()
    kernel, host = Kernel(), {"host": "10.0.0.1", "port": 0}
    kernel.open = lambda: FakePortWithSocket(host)  # type: ignore[method-assign]
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    assert wanted.local_address == ("10.0.0.1", 0)
    host["port"] = 4069
    assert wanted.local_address == ("10.0.0.1", 4069)
    host["port"] = 0
    assert wanted.local_address == ("10.0.0.1", 4069), "the number is remembered"


class FakePortWithSocket:
    """An IListeningPort with one socket, which is bound to port 69."""

    def __init__(self, host: dict[str, Any] | None = None) -> None:
        self._host = host or {"host": "10.0.0.1", "port": 69}

    def getHost(self) -> Any:
        return type("Host", (), self._host)

    def getHandle(self) -> Any:
        return self

    def getsockname(self) -> tuple[str, int]:
        return "10.0.0.1", 69


def test_sockets_of_the_main_process_count_as_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.binding.Changes", lambda *arguments: pytest.fail("no subscription is needed"))
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=False)
    kernel = Kernel()
    wanted = WantedSocket(
        "tftp", ("10.0.0.1", 69), "lo", False, kernel.open, False, kernel.missing, lambda wanted: None
    )
    bindings.add(wanted)
    bindings.start()
    assert bindings.ready
    assert wanted.index == index_of("lo")


@pytest.fixture
def subscriptions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each opening and closing of a subscription to the kernel's changes."""
    calls: list[str] = []

    class Subscription:
        def __init__(self, *arguments: Any) -> None:
            calls.append("opened")

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr("bootfw.net.binding.Changes", Subscription)
    return calls


def subscribing_bindings() -> Bindings:
    """Bindings that open a subscription when a socket needs it."""
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    return Bindings(clock, lambda event: None, follow=True)


def test_one_netlink_subscription_serves_all_sockets(subscriptions: list[str]) -> None:
    bindings = subscribing_bindings()
    bindings.add(wanted_socket(Kernel(), "0.0.0.0"))
    assert subscriptions == []
    for _ in range(2):
        bindings.add(wanted_socket(Kernel()))
        bindings.add(wanted_socket(Kernel(), "10.0.0.2"))
        assert subscriptions == ["opened"]
        bindings.close()
        assert subscriptions == ["opened", "closed"]
        subscriptions.clear()


def test_stop_closes_every_socket() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    _, bindings = following_bindings(events)
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    bindings.start()
    assert bindings.close() == [wanted]
    assert wanted.state is State.CLOSED
    assert list(bindings) == []
    assert bindings.statuses() == ()
    bindings.start()
    assert [event.ready for event in events if isinstance(event, ReadinessChanged)] == [True, True]


def test_without_netlink_an_optional_socket_is_still_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "netlink")

    monkeypatch.setattr("bootfw.net.binding.Changes", forbidden)
    bindings = subscribing_bindings()
    wanted = wanted_socket(Kernel())
    wanted.optional = True
    bindings.add(wanted)
    assert wanted.state is State.WAITING


def test_tcp_of_an_absent_interface_is_opened_at_once_for_worker_processes() -> None:
    """A worker gets every socket when it starts, and none later."""
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=True, opens_later=False)
    bindings._changes = object.__new__(Changes)
    kernel = Kernel()
    kernel.open = FakePortWithSocket  # type: ignore[method-assign]
    wanted = wanted_socket(kernel, "fe80::1%s9", service="http")
    bindings.add(wanted)
    assert wanted.port is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_wildcard_socket_waits_for_no_address(host: str) -> None:
    kernel = Kernel()
    _, bindings = following_bindings()
    wanted = wanted_socket(kernel, host)
    bindings.add(wanted)
    assert wanted.state is State.BOUND
    bindings.look()
    assert wanted.state is State.BOUND


def test_held_socket_is_not_retried_on_network_changes() -> None:
    """Other interfaces change often, and the next retry is soon."""
    kernel = Kernel()
    kernel.present = kernel.held = True
    kernel.open, opens = counting_open(kernel)  # type: ignore[method-assign]
    clock, bindings = following_bindings()
    wanted = WantedSocket("web", ("10.0.0.1", 69), "lo", False, kernel.open, True, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    for _ in range(3):
        bindings.look()
    assert (wanted.state, len(opens)) == (State.HELD, 1)
    kernel.held = False
    clock.advance(1.0)
    assert (wanted.state, len(opens)) == (State.BOUND, 2)


def counting_open(kernel: Kernel) -> tuple[Callable[[], Any], list[str]]:
    """A function that opens a port unless the kernel's is held, and the list of its calls."""
    opens: list[str] = []

    def open_port() -> Any:
        opens.append("open")
        if kernel.held:
            raise CannotListenError("10.0.0.1", 69, OSError(errno.EADDRINUSE, "in use by dnsmasq (pid 7)"))
        return FakePortWithSocket()

    return open_port, opens


def test_held_socket_without_an_address_is_not_retried() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    clock, bindings = following_bindings()
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    kernel.present = False
    bindings.look()
    assert wanted.state is State.WAITING
    assert clock.getDelayedCalls() == []


def test_an_interface_without_a_socket_is_waited_for() -> None:
    kernel, events = Kernel(), list[Event]()
    _, bindings = following_bindings(events)
    wanted = WantedSocket("interface", ("0.0.0.0", 0), "lo", False, None, False, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    bindings.start()
    assert not bindings.ready
    kernel.present = True
    bindings.look()
    assert bindings.ready
    assert [event.socket.state for event in events if isinstance(event, SocketChanged)] == ["waiting", "bound"]
    assert not [event for event in events if isinstance(event, ListenerBound | ListenerFailed)]


def test_an_interface_that_is_gone_again_while_its_socket_is_bound_is_waited_for() -> None:
    kernel = Kernel()
    kernel.open = FakePortWithSocket  # type: ignore[method-assign]
    _, bindings = following_bindings()
    wanted = WantedSocket(
        *("tftp", ("10.0.0.1", 69), "nosuch0", False, kernel.open, True), kernel.missing, lambda wanted: None
    )
    bindings.add(wanted)
    kernel.present = True
    bindings.look()
    assert (wanted.state, wanted.states.reason) == (State.WAITING, "no interface nosuch0")


def test_failed_start_has_the_error_number_once() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    _, bindings = following_bindings()
    with pytest.raises(CannotListenError) as caught:
        bindings.add(wanted_socket(kernel, may_be_held=False))
    error = caught.value.socketError
    assert isinstance(error, OSError)
    assert (error.errno, str(error)) == (errno.EADDRINUSE, "[Errno 98] in use by dnsmasq (pid 7)")


def test_socket_state_changes_are_published() -> None:
    """First, that it is bound, with its device in a note; later, each change of its state."""
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    kernel.open = FakePortWithSocket  # type: ignore[method-assign]
    clock, bindings = following_bindings(events)
    changed: list[State] = []
    wanted = WantedSocket(
        *("tftp", ("10.0.0.1", 69), "lo", False, kernel.open, True),
        kernel.missing,
        lambda wanted: changed.append(wanted.state),
    )
    bindings.add(wanted)
    (bound,) = events
    assert isinstance(bound, ListenerBound)
    assert bound.note == "on lo"
    bindings.start()
    kernel.present = False
    clock.advance(3.0)
    bindings.look()
    bindings.look()
    assert [type(event) for event in events[1:]] == [ReadinessChanged, SocketChanged, ReadinessChanged]
    (change,) = (event for event in events if isinstance(event, SocketChanged))
    assert (change.was, change.socket.state, change.socket.since) == ("bound", "waiting", 3.0)
    assert changed == [State.BOUND, State.WAITING]


def test_tcp_on_an_address_is_opened_before_the_address_exists() -> None:
    """So that no other program can take its port meanwhile."""
    for service in ("http", "https", "web", "tftp"):
        _, bindings = following_bindings()
        wanted = wanted_socket(Kernel(), service=service)
        bindings.add(wanted)
        assert wanted.port is not None, service
    _, bindings = following_bindings()
    kernel = Kernel()
    kernel.open = FakePortWithSocket  # type: ignore[method-assign]
    wanted = wanted_socket(kernel, "fe80::1%s9", service="tftp")
    bindings.add(wanted)
    assert wanted.port is not None, "a UDP socket needs no port to be open"


# On a real kernel


class HostedService:
    """A service in the network namespace of a host, where the reactor turns too."""

    def __init__(self, host: Host, reactor: EPollReactor, turn_until: TurnUntil) -> None:
        self.host, self.reactor, self._turn_until = host, reactor, turn_until
        self.observer = EventList()
        self.service: Any = None

    def start(self, settings: Settings, backend: Any = None) -> BootService:
        with self.host.inside():
            backend = backend or MemoryBackend({"file": b"content"})
            self.service = BootService(self.reactor, settings=settings, backend=backend, observers=[self.observer])
            self.service.startService()
        return self.service  # type: ignore[no-any-return]

    def until(self, condition: Callable[[], object]) -> float:
        """Turn the reactor until *condition* holds, and return after how many seconds it does."""
        begun = monotonic()
        with self.host.inside():
            self._turn_until(condition)
        return monotonic() - begun

    def states(self) -> list[str]:
        return [status.state for status in self.service.sockets()]


@pytest.fixture
def hosted(hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[HostedService]:
    hosted = HostedService(hosts[0], private_reactor, turn_until)
    yield hosted
    with suppress(Exception):
        hosts[0].ip("link", "delete", "s9")
    if hosted.service is not None:
        stopped = hosted.service.stopService()
        hosted.until(lambda: stopped.called)
    assert not [reader for reader in private_reactor.getReaders() if isinstance(reader, Changes)]


def connect_hosts(hosts: tuple[Host, Host], *, address: bool = True) -> None:
    """Connect s9 of the server with c9 (10.9.9.2) of the client. If *address* is true, s9 has the address 10.9.9.1."""
    server, client = hosts
    server.ip("link", "add", "s9", "type", "veth", "peer", "name", "c9", "netns", client.name)
    server.ip("link", "set", "s9", "up")
    client.ip("link", "set", "c9", "up")
    client.ip("addr", "add", "10.9.9.2/24", "dev", "c9")
    if address:
        server.ip("addr", "add", "10.9.9.1/24", "dev", "s9")


def first_block(
    hosts: tuple[Host, Host], hosted: HostedService, address: tuple[str, int] = ("10.9.9.1", PORT)
) -> bytes:
    """The DATA packet with the first block of the file, which the client requests by TFTP."""
    with hosts[1].inside():
        client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.setblocking(False)
        received: list[bytes] = []

        def answered() -> bool:
            with suppress(BlockingIOError):
                received.append(client.recv(600))
            return bool(received)

        client.sendto(b"\0\1file\0octet\0", address)
        hosted.until(answered)
        with suppress(OSError):
            client.sendto(b"\0\4\0\1", address)
    return received[0]


WITHOUT_DHCP = partial(Settings, dhcp=DHCPSettings(mode="off"))


@pytest.mark.parametrize("configured_by", ["address", "interface"])
def test_a_late_address_is_served_and_makes_the_service_ready(
    hosts: tuple[Host, Host], hosted: HostedService, configured_by: str
) -> None:
    if configured_by == "address":
        tftp, http = TFTPSettings(listen=[f"10.9.9.1:{PORT}"]), HTTPSettings(listen=["10.9.9.1:8069"])
        service = hosted.start(WITHOUT_DHCP(tftp=tftp, http=http))
    else:
        service = hosted.start(WITHOUT_DHCP(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    assert not service.ready
    assert service.summary() == []
    assert set(hosted.states()) == {"waiting"}
    connect_hosts(hosts)
    assert hosted.until(lambda: service.ready) < 1
    assert set(hosted.states()) == {"bound"}
    assert first_block(hosts, hosted) == b"\0\3\0\1content"
    hosted.until(lambda: len(hosted.observer.of(ReadinessChanged)) > 1)
    assert [event.ready for event in hosted.observer.of(ReadinessChanged)] == [False, True]
    if configured_by == "address":
        with hosts[1].inside():
            client = socket.socket()
        with client:
            client.setblocking(False)
            client.connect_ex(("10.9.9.1", 8069))
            page = bytearray()

            def received() -> bool:
                with suppress(BlockingIOError):
                    page.extend(client.recv(1000))
                return page.endswith(b"content")

            def sent() -> bool:
                with suppress(OSError):
                    client.send(b"GET /file HTTP/1.0\r\n\r\n")
                    return True
                return False

            hosted.until(sent)
            hosted.until(received)


@pytest.mark.parametrize("late", [False, True], ids=["at the start", "later"])
def test_an_ipv6_address_is_bound_when_its_duplicate_detection_is_done(
    hosts: tuple[Host, Host], hosted: HostedService, late: bool
) -> None:
    def add() -> None:  # one probe of a second (RFC 4862 section 5.4), during which the address is tentative
        hosts[0].ip("addr", "add", "fd00:9:9::1/64", "dev", "s9")

    connect_hosts(hosts)
    hosts[1].ip("addr", "add", "fd00:9:9::2/64", "dev", "c9", "nodad")
    if not late:
        add()
    service = hosted.start(WITHOUT_DHCP(tftp=TFTPSettings(listen=[f"[fd00:9:9::1]:{PORT}"])))
    assert not service.ready
    if late:
        add()
    hosted.until(lambda: service.sockets()[0].reason == "this address is still tentative")
    assert hosted.states() == ["waiting"]
    hosted.until(lambda: service.ready)
    assert first_block(hosts, hosted, ("fd00:9:9::1", PORT)) == b"\0\3\0\1content"


def test_an_ipv6_address_of_another_host_is_waited_for(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    connect_hosts(hosts)
    hosts[1].ip("addr", "add", "fd00:9:9::1/64", "dev", "c9", "nodad")
    service = hosted.start(WITHOUT_DHCP(tftp=TFTPSettings(listen=[f"[fd00:9:9::1]:{PORT}"])))
    hosts[0].ip("addr", "add", "fd00:9:9::1/64", "dev", "s9")
    hosted.until(lambda: service.sockets()[0].reason == "another host has this address")
    assert not service.ready


def test_https_is_served_on_an_address_that_arrives_late(
    hosts: tuple[Host, Host], hosted: HostedService, alongside: Alongside, tmp_path: Path
) -> None:
    pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed: pip install bootfw[tls]")
    from certificates import Authority

    authority = Authority()
    certificate, key = authority.issue("10.9.9.1")
    (tmp_path / "served.pem").write_bytes(certificate + key)
    https = HTTPSettings(https_listen=["10.9.9.1:8443"], certificate=str(tmp_path / "served.pem"))
    service = hosted.start(WITHOUT_DHCP(tftp=TFTPSettings(listen=()), http=https))
    assert (service.ready, hosted.states()) == (False, ["waiting"])
    connect_hosts(hosts)
    hosted.until(lambda: service.ready)
    trust = ssl.create_default_context(cadata=authority.pem.decode())

    def fetch() -> bytes:
        with hosts[1].inside():
            connection = HTTPSConnection("10.9.9.1", 8443, timeout=10, context=trust)
            connection.request("GET", "/file")
        with closing(connection):
            return connection.getresponse().read()

    with hosted.host.inside():
        assert alongside(fetch) == b"content"


def test_an_address_that_moves_away_is_waited_for(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    connect_hosts(hosts)
    service = hosted.start(WITHOUT_DHCP(tftp=TFTPSettings(listen=[f"10.9.9.1:{PORT}"])))
    assert service.ready
    hosts[0].ip("addr", "del", "10.9.9.1/24", "dev", "s9")
    hosted.until(lambda: not service.ready)
    (status,) = service.sockets()
    assert status.reason.startswith("this host has no such address; it has: ")
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    assert hosted.until(lambda: service.ready) < 1
    assert first_block(hosts, hosted) == b"\0\3\0\1content"


@implementer(IPerClientBackend)
class URLBackend:
    """Has one file, with the URL by which the client of the request reaches our HTTP server."""

    def open(self, path: str, request: TransferRequest) -> MemoryReader:
        return MemoryReader(f"({request.http_url})".encode())


@pytest.mark.parametrize("present_first", [False, True], ids=["absent at the start", "present at the start"])
def test_a_url_is_offered_while_its_address_exists(
    hosts: tuple[Host, Host], hosted: HostedService, present_first: bool
) -> None:
    def offered_url() -> bytes:
        return first_block(hosts, hosted, ("10.9.0.1", PORT))[4:]

    connect_hosts(hosts, address=present_first)
    http = HTTPSettings(listen=["10.9.9.1:8069"])
    service = hosted.start(WITHOUT_DHCP(tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"]), http=http), URLBackend())
    for present in (present_first, not present_first, present_first):
        if service.ready is not present:
            hosts[0].ip("addr", "add" if present else "del", "10.9.9.1/24", "dev", "s9")
            hosted.until(lambda: service.ready is present)  # noqa: B023
        assert offered_url() == (b"(http://10.9.9.1:8069)" if present else b"()")


def test_worker_processes_get_the_reachable_urls(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    broadcasts: list[tuple[Any, ...]] = []
    connect_hosts(hosts, address=False)
    with hosts[0].inside():
        settings = WITHOUT_DHCP(
            tftp=TFTPSettings(listen=()), http=HTTPSettings(listen=["10.9.9.1:8069", "0.0.0.0:8070"])
        )
        service = hosted.service = BootService(
            hosted.reactor, settings=settings, broadcast=lambda *message: broadcasts.append(message)
        )
        service.startService()
    unreachable = ("url", "http", ("10.9.9.1", 8069), False)
    assert broadcasts == [unreachable, ("url", "http", ("0.0.0.0", 8070), True)]
    assert service._shared_state() == [("url", unreachable[1:])], "a new worker is sent what the others know"
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    hosted.until(lambda: service.ready)
    assert broadcasts[2:] == [("url", "http", ("10.9.9.1", 8069), True)]
    assert service._shared_state() == []


def test_the_web_page_is_served_on_an_address_that_arrives_late(
    hosts: tuple[Host, Host], hosted: HostedService
) -> None:
    connect_hosts(hosts, address=False)
    with hosts[0].inside():
        service = hosted.service = BootService(
            hosted.reactor, settings=WITHOUT_DHCP(tftp=TFTPSettings(listen=())), observers=[hosted.observer]
        )
        add_web(hosted.reactor, service, WebSettings(listen=["10.9.9.1:8067"]))
        service.startService()
    assert hosted.states() == ["waiting"]
    assert not service.ready
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    assert hosted.until(lambda: service.ready) < 1
    with hosts[1].inside():
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("10.9.9.1", 8067))
    with client:
        received: list[bytes] = []
        hosted.until(lambda: client.connect_ex(("10.9.9.1", 8067)) == errno.EISCONN)
        client.send(b"GET /healthz HTTP/1.1\r\nHost: 10.9.9.1:8067\r\n\r\n")

        def answered() -> bool:
            with suppress(BlockingIOError):
                received.append(client.recv(1000))
            return bool(received)

        hosted.until(answered)
    assert received[0].startswith(b"HTTP/1.1 200 ")
    hosts[0].ip("addr", "del", "10.9.9.1/24", "dev", "s9")
    hosted.until(lambda: hosted.states() == ["waiting"])


def test_an_interface_that_is_deleted_and_made_again_is_served(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    connect_hosts(hosts)
    service = hosted.start(WITHOUT_DHCP(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    assert first_block(hosts, hosted) == b"\0\3\0\1content"
    hosts[0].ip("link", "delete", "s9")
    hosted.until(lambda: not service.ready)
    connect_hosts(hosts)
    assert hosted.until(lambda: service.ready) < 1
    assert first_block(hosts, hosted) == b"\0\3\0\1content"


@pytest.mark.parametrize("existed_before", [False, True], ids=["at its first appearance", "when it is made again"])
def test_a_port_that_was_taken_meanwhile_is_retried(
    hosts: tuple[Host, Host], hosted: HostedService, existed_before: bool
) -> None:
    if existed_before:
        connect_hosts(hosts)
    service = hosted.start(WITHOUT_DHCP(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    if existed_before:
        hosts[0].ip("link", "delete", "s9")
        hosted.until(lambda: not service.ready)
    with hosts[0].inside():
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if existed_before:  # our socket still has the port on the deleted interface: hold it on the new one
            server, client = hosts
            server.ip("link", "add", "s9", "type", "veth", "peer", "name", "c9", "netns", client.name)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"s9\0")
        holder.bind(("0.0.0.0", PORT))
    if not existed_before:
        connect_hosts(hosts)
    hosted.until(lambda: hosted.states() == ["held"])
    (status,) = service.sockets()
    assert f"(pid {os.getpid()})" in status.reason
    holder.close()
    assert hosted.until(lambda: service.ready) < 1.5
    assert len(hosted.observer.of(ListenerFailed)) == 1


def test_a_network_of_dhcp_is_waited_for(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    subnet = Subnet(network="10.9.9.0/24", pool=["10.9.9.100-10.9.9.120"])
    dhcp = DHCPSettings(mode="server", subnets=[subnet], probe_seconds=0)
    with hosted.host.inside():
        service = hosted.service = BootService(
            hosted.reactor,
            settings=Settings(dhcp=dhcp, tftp=TFTPSettings(listen=())),
            observers=[hosted.observer],
            store=MemoryStore(),
        )
        service.startService()
    assert [(status.address[0], status.state) for status in service.sockets()] == [
        ("0.0.0.0", "bound"),
        ("10.9.9.0/24", "waiting"),
    ]
    connect_hosts(hosts)
    hosted.until(lambda: service.ready)
    hosted.until(lambda: len(hosted.observer.of(SocketChanged)) > 1)
    assert [event.socket.state for event in hosted.observer.of(SocketChanged)] == ["waiting", "bound"]


def test_the_sockets_of_several_processes_wait_together(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    events: list[Event] = []
    bindings = Bindings(hosted.reactor, events.append, follow=True, opens_later=False)
    open_port = partial(open_shared, "tftp", "0.0.0.0", PORT, 3, "s9")
    with hosts[0].inside():
        bindings.add(
            WantedSocket(
                *("tftp", ("0.0.0.0", PORT), "s9", False, open_port, False),
                lambda: "" if index_of("s9") else "no interface s9",
                lambda wanted: None,
            )
        )
        bindings.start()
    (wanted,) = bindings
    assert wanted.local_address == ("0.0.0.0", PORT)
    connect_hosts(hosts)
    hosted.until(lambda: bindings.ready)
    assert all(sock.getsockname()[1] == PORT for sock in wanted.sockets())
    hosts[0].ip("link", "delete", "s9")
    connect_hosts(hosts)
    with hosts[0].inside():
        bindings.look()  # it sees both changes at once
    assert all(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).startswith(b"s9\0") for sock in wanted.sockets()
    )
    assert all(shares_of(hosts, wanted)), "each socket gets some of the clients"
    bindings.close()
    wanted.port.stopListening()


def shares_of(hosts: tuple[Host, Host], wanted: WantedSocket) -> list[int]:
    """How many requests each socket receives, when 64 clients send one each."""
    with hosts[1].inside():
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    for client in clients:
        client.sendto(b"request", ("10.9.9.1", PORT))
        client.close()
    shares = [0 for _ in wanted.sockets()]
    deadline = monotonic() + 30
    while sum(shares) < len(clients) and monotonic() < deadline:  # the datagrams wait for ARP
        sleep(0.01)
        shares = [share + datagram_count(sock) for share, sock in zip(shares, wanted.sockets(), strict=True)]
    return shares


def datagram_count(sock: socket.socket) -> int:
    """How many datagrams are in the buffer of *sock*; it is empty then."""
    count = 0
    with suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count


def test_the_clients_are_spread_over_the_processes_again(hosts: tuple[Host, Host], hosted: HostedService) -> None:
    """A bound socket that is bound to another interface leaves its SO_REUSEPORT group."""
    connect_hosts(hosts)
    bindings = Bindings(hosted.reactor, lambda event: None, follow=True, opens_later=False)
    with hosts[0].inside():
        port = open_shared("tftp", "0.0.0.0", PORT, 2, "s9")
        bindings.add(
            WantedSocket(
                *("tftp", ("0.0.0.0", PORT), "s9", False, lambda: port, False),
                lambda: "" if index_of("s9") else "no interface s9",
                lambda wanted: None,
            )
        )
        bindings.start()
    (wanted,) = bindings
    descriptors = [sock.fileno() for sock in port.sockets]
    reopenings: list[str] = []
    port.on_reopened = lambda: reopenings.append("reopened")
    for times in (1, 2):
        hosts[0].ip("link", "delete", "s9")
        hosted.until(lambda: not bindings.ready)
        connect_hosts(hosts)
        hosted.until(lambda: bindings.ready)
        assert len(reopenings) == times
        shares = shares_of(hosts, wanted)
        assert sum(shares) == 64
        assert all(shares)
        assert [sock.fileno() for sock in port.sockets] == descriptors
    bindings.close()
    port.stopListening()


def test_a_port_that_another_program_holds_fails_the_start(private_reactor: EPollReactor) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        bindings = Bindings(private_reactor, lambda event: None, follow=True)
        source, address = OwnSockets(private_reactor), holder.getsockname()
        open_port = partial(source.listen, PortSpec("tftp", address, None))
        wanted = WantedSocket("tftp", address, "", False, open_port, False, lambda: "", lambda wanted: None)
        with pytest.raises(CannotListenError) as caught:
            bindings.add(wanted)
        assert f"(pid {os.getpid()})" in str(caught.value.socketError)
        bindings.close()
